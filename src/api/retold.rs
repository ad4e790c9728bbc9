//! Frames that repeat what was said, made once for all readers of a stream: a thousand readers of one long answer hold no copy of
//! it each. It goes with its last reader, and is made anew for the next.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use tokio::sync;

use crate::{
    gateway::{Gateway, StoreError},
    id::{Cursor, StreamId},
    protocol::{Encode, Retell},
    record::Record,
};

/// The frames of one record, each in pieces.
pub(super) type Frames = Arc<[Vec<Bytes>]>;

/// All that is being retold, by stream and by protocol.
#[derive(Default)]
pub(super) struct AllRetold(Mutex<HashMap<(StreamId, TypeId), Weak<Retold>>>);

impl AllRetold {
    /// What is retold of a stream in this encoder's protocol, if anything is.
    pub(super) fn of<E: Encode + 'static>(&self, id: StreamId, encoder: &E) -> Option<Arc<Retold>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (id, TypeId::of::<E>());
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return Some(known);
        }
        if all.len() == all.capacity() {
            all.retain(|_, retold| retold.strong_count() > 0); // before it grows: each time twice as many fit in
        }
        let retold = Arc::new(Retold { id, fold: sync::Mutex::new(Fold::new(encoder.retell()?)) });
        all.insert(key, Arc::downgrade(&retold));
        Some(retold)
    }
}

/// What is retold of one stream.
pub(super) struct Retold {
    id: StreamId,
    fold: sync::Mutex<Fold>,
}

struct Fold {
    retell: Box<dyn Retell>,
    read: Cursor,
    /// Of each record that repeats something, up to there.
    frames: BTreeMap<Cursor, Frames>,
}

impl Fold {
    fn new(retell: Box<dyn Retell>) -> Self {
        Self { retell, read: Cursor::START, frames: BTreeMap::new() }
    }

    fn take(&mut self, cursor: Cursor, record: &Record<'_>) {
        self.read = cursor;
        if let Some(frames) = self.retell.take(cursor, record) {
            self.frames.insert(cursor, frames.into_iter().map(|frame| frame.into_pieces()).collect());
        }
    }
}

impl Retold {
    /// The frames of a record that repeats something. What was said before it is read from the store, once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn frames(
        &self,
        gateway: &Gateway,
        cursor: Cursor,
        record: &Record<'_>,
    ) -> Result<Frames, StoreError> {
        let mut fold = self.fold.lock().await;
        if fold.read >= cursor && !fold.frames.contains_key(&cursor) {
            // It was shown an end that the store never had: the only record that is shown before it is stored.
            *fold = Fold::new(fold.retell.anew());
        }
        if fold.read < cursor {
            let after = fold.read;
            gateway.records(self.id, after, cursor.before(), |cursor, record| fold.take(cursor, record)).await?;
            fold.take(cursor, record);
        }
        Ok(fold.frames.get(&cursor).cloned().unwrap_or_default())
    }
}
