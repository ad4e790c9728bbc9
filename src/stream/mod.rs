//! The log of one running or finished answer, as a reader meets it: a hot tail in memory, and the store behind it.
//!
//! Knows positions and wake-ups. Does not know what a record says, nor who reads it.

mod reader;
mod tail;

pub use reader::Reader;
pub use tail::{Head, Tail};
