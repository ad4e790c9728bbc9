//! What the operator asks: of everybody's streams, whoever owns them.

use std::sync::Arc;

use super::{Gateway, Stream};
use crate::{
    id::{Cursor, StreamId},
    record::Record,
    store::{Checked, Meta, Page, Stats, StoreError},
};

/// How much of a log is shown at once.
const PAGE: usize = 256 * 1024;

impl Gateway {
    /// What the store holds, and how it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        self.store.stats().await
    }

    /// Streams, newest first: everybody's or an owner's, all or only those that run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all(
        &self,
        owner: Option<&str>,
        open: bool,
        before: Option<StreamId>,
        n: usize,
    ) -> Result<Vec<Stream>, StoreError> {
        let metas = match (owner, open) {
            (Some(owner), false) => self.store.list(owner, before, n).await?,
            (None, open) => self.store.all(open, before, n).await?,
            (Some(owner), true) => {
                let theirs = |meta: &Meta| meta.owner == owner;
                self.store.all(true, before, usize::MAX).await?.into_iter().filter(theirs).take(n).collect()
            }
        };
        metas.into_iter().map(Stream::read).collect()
    }

    /// What is known of a stream, whoever owns it.
    ///
    /// # Errors
    /// When there is no such stream, or no longer, or the store cannot be read.
    pub async fn known(&self, id: StreamId) -> Result<Stream, StoreError> {
        Stream::read(self.store.meta(id).await?)
    }

    /// The next records of a stream behind `after`; none at its end.
    ///
    /// # Errors
    /// As of [`Gateway::known`].
    pub async fn page(&self, id: StreamId, after: Cursor) -> Result<Page, StoreError> {
        self.store.read(id, after, PAGE, None).await
    }

    /// Erases a stream, whoever owns it; one that runs here is cancelled before.
    ///
    /// # Errors
    /// As of [`Gateway::known`].
    pub async fn erase(self: &Arc<Self>, id: StreamId) -> Result<(), StoreError> {
        match self.live(id) {
            Some(_) => self.remove(&self.known(id).await?.meta.owner, id).await,
            // Nobody would hear a cancel.
            None => self.store.remove(id).await,
        }
    }

    /// Walks through all that the store keeps.
    ///
    /// # Errors
    /// When the store cannot be read at all.
    pub async fn check(&self) -> Result<Checked, StoreError> {
        let ends = |record: &[u8]| match Record::parse(record) {
            Ok(record) => Ok(record.head.is_end()),
            Err(bad) => Err(bad.to_string()),
        };
        self.store.check(ends).await
    }
}
