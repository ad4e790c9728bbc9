//! Bytes to frames and frames to bytes.
//!
//! Everything here is pure: no I/O, no clock, no tasks, and nothing else of the crate. A reader is
//! fed whatever the network delivered, cut anywhere; a writer appends to a buffer that the caller
//! lends. What a frame *means* is the business of `protocol`.

mod rope;
pub mod sse;

pub use rope::Rope;
