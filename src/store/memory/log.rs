//! One log in memory. Its records lie in a few large pieces; small batches are joined once they are many.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::super::{Batch, Chunk, Meta, NewStream, StoreError};
use crate::id::{Cursor, Epoch, NodeId};

/// Batches that may lie about before they are joined into one piece.
const LOOSE: usize = 64;
/// How large a piece that comes of joining may be: a read walks through half of it to find its place.
const PIECE: usize = 64 * 1024;
/// The epoch of a log that was erased: nobody holds it.
pub(super) const ERASED: Epoch = Epoch(u64::MAX);

/// See the module.
pub(super) struct Log {
    pub(super) new: NewStream,
    pub(super) created: Instant,
    body: Mutex<Body>,
    /// Told behind each change of the body.
    pub(super) news: Notify,
}

#[derive(Default)]
pub(super) struct Body {
    pub(super) chunks: Vec<Chunk>,
    /// How many chunks at the end are batches as they came, and their bytes.
    loose: usize,
    loose_bytes: usize,
    pub(super) last: Cursor,
    pub(super) epoch: Epoch,
    pub(super) node: Option<NodeId>,
    pub(super) summary: Option<Bytes>,
    pub(super) ended: Option<Instant>,
    /// What the log counts in all.
    pub(super) bytes: u64,
}

impl Log {
    /// An empty one, which counts so many bytes.
    pub(super) fn new(new: NewStream, bytes: u64) -> Self {
        let body = Mutex::new(Body { bytes, ..Body::default() });
        Self { new, created: Instant::now(), body, news: Notify::new() }
    }

    /// A panic while it is held leaves it as it was before or after one step of ours, both of which are sound.
    pub(super) fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a record behind this one, or the end.
    pub(super) async fn reaches(&self, after: Cursor) {
        loop {
            let mut news = pin!(self.news.notified());
            // From now on, so that what comes while this looks is not missed.
            news.as_mut().enable();
            if self.body().reaches(after) {
                return;
            }
            news.await;
        }
    }

    pub(super) fn meta(&self) -> Meta {
        let body = self.body();
        Meta {
            id: self.new.id,
            owner: self.new.owner.clone(),
            created_at: self.new.created_at,
            about: self.new.about.clone(),
            claims: self.new.claims.clone(),
            last: body.last,
            hole: None,
            summary: body.summary.clone(),
            bytes: body.bytes,
        }
    }
}

impl Body {
    /// Whether there is a record behind this one, or none will come.
    fn reaches(&self, after: Cursor) -> bool {
        self.last > after || self.summary.is_some() || self.epoch == ERASED
    }

    pub(super) fn refuses(&self, at: Cursor, epoch: Epoch) -> Option<StoreError> {
        let next = self.last.plus(1);
        match () {
            () if self.epoch != epoch => Some(StoreError::Fenced),
            () if self.summary.is_some() => Some(StoreError::Closed),
            () if at != next => Some(StoreError::Position { at, next }),
            () => None,
        }
    }

    pub(super) fn push(&mut self, batch: Batch, at: Cursor, size: u64, summary: Option<Bytes>) {
        self.bytes += size;
        if !batch.is_empty() {
            self.last = at.plus(batch.len()).before();
            self.loose += 1;
            self.loose_bytes += batch.size();
            self.chunks.push(batch.at(at));
        }
        if self.loose >= LOOSE || self.loose_bytes >= PIECE || summary.is_some() {
            self.join();
        }
        self.summary = summary;
    }

    fn join(&mut self) {
        let loose = self.chunks.split_off(self.chunks.len() - self.loose);
        self.chunks.extend(Chunk::join(&loose));
        self.chunks.shrink_to_fit();
        (self.loose, self.loose_bytes) = (0, 0);
    }
}
