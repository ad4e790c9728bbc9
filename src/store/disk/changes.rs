//! What a checkpoint moves from memory to the base.

use bytes::Bytes;

use super::{code::Row, entry, form::State};
use crate::{
    id::{Cursor, StreamId},
    store::{Chunk, ClaimKey, Condense},
};

/// What a checkpoint puts in.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub state: State,
    pub streams: Vec<Changed>,
    pub claims: Vec<(ClaimKey, Option<StreamId>)>,
    pub gone: Vec<(StreamId, bool)>,
    /// Those of the closed streams, in here or before, that were told of.
    pub told: Vec<StreamId>,
}

/// A stream that has changed.
#[derive(Debug)]
pub(super) struct Changed {
    pub id: StreamId,
    pub row: Row,
    /// Where it is not in here yet.
    pub prompt: Option<Bytes>,
    /// What comes before the blocks.
    pub behind: Cursor,
    pub blocks: Vec<Chunk>,
    /// Of the blocks, but for a last one that is not full or ends the log.
    pub condensed: Vec<Vec<u8>>,
}

impl Changes {
    /// Makes blocks of the chunks as they came, and what they are in short.
    pub(super) fn cut_blocks(&mut self, condense: Condense) {
        for stream in &mut self.streams {
            stream.blocks = entry::blocks(&stream.blocks);
            let last = stream.blocks.len().saturating_sub(1);
            let behind =
                |(n, block): &(usize, &Chunk)| *n < last || (entry::is_full(block) && stream.row.summary.is_none());
            let condensed = stream.blocks.iter().enumerate().filter(behind).map(|(_, block)| condense(block));
            stream.condensed = condensed.collect();
        }
    }
}
