//! A stream that runs, or has ended since the last checkpoint: its row, and its records that are not sealed in the base.

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use super::code::Row;
use crate::{
    id::{Cursor, Epoch, NodeId},
    store::{Batch, Chunk, Lease, StoreError},
};

/// How much is packed together: a read unpacks all of it to find its place.
const BLOCK: usize = 64 * 1024;
/// From here on a block is left as it is, and the next one begun.
const FULL: usize = BLOCK * 3 / 4;
/// Batches that may lie about before they are joined into one piece.
const LOOSE: usize = 64;
/// See the module.
pub(super) struct Entry {
    pub row: Row,
    /// It is here and nowhere else, and is erased so many milliseconds after its end.
    pub keep: Option<u64>,
    /// Until it is in the base.
    pub prompt: Option<Bytes>,
    pub created: Instant,
    pub node: Option<NodeId>,
    /// The last frame that was about it; 0 if none ever is.
    pub seq: u64,
    /// The last cursor, and whether it is the end. Sent after the records are there.
    pub head: watch::Sender<(Cursor, bool)>,
    /// Up to here all is in the base, in blocks that stay as they are; what follows is in `chunks`.
    pub sealed: Cursor,
    pub chunks: Vec<Chunk>,
    /// How many chunks at the end are batches as they came, and their bytes.
    loose: usize,
    loose_bytes: usize,
}

impl Entry {
    pub(super) fn new(row: Row, prompt: Option<Bytes>, seq: u64) -> Self {
        Self {
            head: watch::Sender::new((row.last, row.summary.is_some())),
            row,
            keep: None,
            prompt,
            created: Instant::now(),
            node: None,
            seq,
            sealed: Cursor::START,
            chunks: Vec::new(),
            loose: 0,
            loose_bytes: 0,
        }
    }

    /// A stream of the base that is not closed, whose writer is gone: all up to its last block's beginning is sealed.
    pub(super) fn left_open(row: Row, last_block: Option<Chunk>) -> Self {
        let mut entry = Self::new(row, None, 0);
        match last_block {
            Some(block) if !is_full(&block) => {
                entry.sealed = block.first.before();
                entry.chunks.push(block);
            }
            _ => entry.sealed = entry.row.last,
        }
        entry
    }

    pub(super) fn refuses(&self, at: Cursor, epoch: Epoch) -> Option<StoreError> {
        let next = self.row.next();
        match () {
            () if self.row.epoch != epoch => Some(StoreError::Fenced),
            () if self.row.summary.is_some() => Some(StoreError::Closed),
            () if at != next => Some(StoreError::Position { at, next }),
            () => None,
        }
    }

    /// Makes `node` the one writer.
    pub(super) fn lease(&mut self, node: NodeId) -> Result<Lease, StoreError> {
        if self.row.summary.is_some() {
            return Err(StoreError::Closed);
        }
        self.row.epoch = Epoch(self.row.epoch.0 + 1);
        self.node = Some(node);
        Ok(Lease { epoch: self.row.epoch, next: self.row.next() })
    }

    pub(super) fn push(&mut self, batch: Batch, at: Cursor) {
        if batch.is_empty() {
            return;
        }
        (self.row.last, self.row.leap) = (at.plus(batch.len()).before(), None);
        // Pieces adjoin: what follows a hole is another piece.
        if self.chunks.last().is_some_and(|chunk| chunk.last().plus(1) != at) {
            self.join();
        }
        self.loose += 1;
        self.loose_bytes += batch.size();
        self.chunks.push(batch.at(at));
        if self.loose >= LOOSE || self.loose_bytes >= BLOCK {
            self.join();
        }
    }

    pub(super) fn join(&mut self) {
        let loose = self.chunks.split_off(self.chunks.len() - self.loose);
        self.chunks.extend(Chunk::join(&loose));
        self.chunks.shrink_to_fit();
        (self.loose, self.loose_bytes) = (0, 0);
    }

    /// Wakes those who wait for more.
    pub(super) fn wake(&self) {
        let (last, ended) = (self.row.last, self.row.summary.is_some());
        self.head.send_if_modified(|head| {
            *head = (last, head.1 || ended);
            self.head.receiver_count() > 0
        });
    }

    /// Lets go of what is in the base, but for a last block that is not full.
    pub(super) fn seal(&mut self, blocks: &[Chunk]) {
        let Some(last) = blocks.last() else { return };
        let sealed = if is_full(last) { last.last() } else { last.first.before() };
        if sealed <= self.sealed {
            return;
        }
        self.join();
        self.sealed = sealed;
        let kept = self.chunks.iter().filter_map(|chunk| chunk.slice(sealed, usize::MAX));
        // Copied, so that what is let go of is not held by what is left.
        self.chunks = kept.filter_map(|chunk| Chunk::join(&[chunk])).collect();
    }
}

/// Whether a block stays as it is, and what follows it is in another.
pub(super) fn is_full(block: &Chunk) -> bool {
    block.size() >= FULL
}

/// Chunks as pieces that are as large as blocks may be, and adjoin within.
pub(super) fn blocks(chunks: &[Chunk]) -> Vec<Chunk> {
    let (mut blocks, mut parts, mut size) = (Vec::new(), Vec::new(), 0_usize);
    for chunk in chunks {
        let mut after = chunk.first.before();
        if parts.last().is_some_and(|last: &Chunk| last.last().plus(1) != chunk.first) {
            blocks.extend(Chunk::join(&std::mem::take(&mut parts)));
            size = 0;
        }
        while let Some(part) = chunk.slice(after, BLOCK.saturating_sub(size).max(1)) {
            if size > 0 && size + part.size() > BLOCK {
                blocks.extend(Chunk::join(&std::mem::take(&mut parts)));
                size = 0;
                continue;
            }
            (after, size) = (part.last(), size + part.size());
            parts.push(part);
        }
    }
    blocks.extend(Chunk::join(&parts));
    blocks
}
