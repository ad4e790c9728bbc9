//! What an operator may want to know of a store as a whole.

use serde::{Deserialize, Serialize};

use super::{Durability, Engine, StoreError};
use crate::id::StreamId;

/// What a store holds, and how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Which engine keeps it.
    pub engine: Engine,
    /// Where.
    pub folder: String,
    /// What takes a record back.
    pub durability: Durability,
    /// Streams that are not closed.
    pub running: u64,
    /// Streams that are.
    pub finished: u64,
    /// Bytes kept: what [`Store::bytes`](super::Store::bytes) counts.
    pub bytes: u64,
    /// Bytes taken on the disk.
    pub files: Files,
    /// When the oldest stream was created, as Unix time in milliseconds.
    pub oldest: Option<u64>,
    /// Why no record is taken now; nothing if it would be.
    pub refuses: Option<String>,
}

/// Bytes that a store takes on the disk, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// What is kept for long.
    pub base: u64,
    /// What is not there yet.
    pub log: u64,
    /// What is kept free for the ends of answers, when the disk is full.
    pub reserve: u64,
}

/// Whether a record is the last of a log. An error: it is none that can be read.
pub type Ends = fn(&[u8]) -> Result<bool, String>;

/// What came of a walk through a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Streams that were looked at.
    pub streams: u64,
    /// Records that were read.
    pub records: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Something that is wrong in a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// With which stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// What it is.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// What an engine says that has nothing to look into.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("this engine of the store cannot be looked into".to_owned())
}
