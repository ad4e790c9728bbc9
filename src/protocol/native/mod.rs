//! The native API's language: lastword's own, described in `docs/api.md`.
//!
//! Requests become prompts here, records become events and states. Text is the default event, so that `onmessage` is all a
//! simple client needs; everything else has a name.

mod chunk;
mod encode;
mod pushed;
mod request;
mod state;
mod text;

pub use chunk::Chunks;
pub use encode::{Native, Start};
pub use pushed::{PushDecode, Pushed, Wrong};
pub use request::{Asked, Create, nothing_asked, on_text, parse};
pub use state::{Answer, Fold, State, events_url, rfc3339};
pub use text::Text;
