//! Server-sent events, both directions.
//!
//! The format is the [HTML standard's][spec]. The reader follows it to the letter, since upstreams
//! use every corner of it; the writer keeps to the narrow part that all clients, also the careless
//! ones, read alike.
//!
//! [spec]: https://html.spec.whatwg.org/multipage/server-sent-events.html

mod blocks;
mod read;
mod write;

pub use blocks::{BlockTooLong, Blocks};
pub use read::{Frame, Frames, Parser, TooLong};
pub use write::{EventId, HEARTBEAT, Sse, begin_event, digits, end_event, put_id, put_number, write_event};
