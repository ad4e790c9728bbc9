//! The events of an application of the user's own, which go through as they came: name, data and id are recorded, and the bytes as they
//! stood on the wire where those are not what lastword would write.
//!
//! What the application speaks is recognised, so that the count of tokens is known, an answer that breaks off is not taken for whole, and
//! its readers are told so in words they know. They get ids of lastword's in place of the application's.

mod decode;
mod encode;

pub use decode::RelayDecode;
pub use encode::Relayed;

/// What this is called in a record.
pub const NAME: &str = super::understood::NAME;
