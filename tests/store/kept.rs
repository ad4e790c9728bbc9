//! A disk store in a folder of its own, which goes with it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use lastword::{
    id::{Cursor, Epoch, NodeId, StreamId},
    store::{
        Batch, Checked, ClaimKey, Created, Durability, Ends, Last, Lease, Meta, NewStream, Page, Signal, Stats, Store,
        StoreError, disk::Disk,
    },
};
use tempfile::TempDir;

/// See the module. With `eager` there is a checkpoint after every change.
pub(crate) struct Kept {
    store: Disk,
    eager: bool,
    _folder: TempDir,
}

impl Kept {
    pub(crate) fn new(retain: Duration, max_bytes: u64, eager: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Disk::open(folder.path(), Durability::Os, retain, max_bytes).expect("opens");
        Self { store, eager, _folder: folder }
    }

    fn settle<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if self.eager && done.is_ok() {
            self.store.checkpoint().expect("checkpointed");
        }
        done
    }
}

#[async_trait]
impl Store for Kept {
    async fn create(&self, new: NewStream) -> Result<Created, StoreError> {
        self.settle(self.store.create(new).await)
    }

    async fn append(
        &self,
        id: StreamId,
        at: Cursor,
        epoch: Epoch,
        batch: Batch,
        last: Option<Last>,
    ) -> Result<(), StoreError> {
        self.settle(self.store.append(id, at, epoch, batch, last).await)
    }

    async fn read(&self, id: StreamId, after: Cursor, max: usize, wait: Option<Duration>) -> Result<Page, StoreError> {
        self.store.read(id, after, max, wait).await
    }

    async fn meta(&self, id: StreamId) -> Result<Meta, StoreError> {
        self.store.meta(id).await
    }

    async fn prompt(&self, id: StreamId) -> Result<Bytes, StoreError> {
        self.store.prompt(id).await
    }

    async fn list(&self, owner: &str, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError> {
        self.store.list(owner, before, n).await
    }

    async fn holder(&self, claim: &ClaimKey) -> Result<Option<StreamId>, StoreError> {
        self.store.holder(claim).await
    }

    async fn remove(&self, id: StreamId) -> Result<(), StoreError> {
        self.settle(self.store.remove(id).await)
    }

    async fn expire(&self) -> Result<usize, StoreError> {
        self.settle(self.store.expire().await)
    }

    async fn lease(&self, id: StreamId, node: NodeId) -> Result<Lease, StoreError> {
        self.store.lease(id, node).await
    }

    async fn due(&self, after: u64, n: usize) -> Result<Vec<(u64, StreamId)>, StoreError> {
        self.store.due(after, n).await
    }

    async fn told(&self, id: StreamId) -> Result<(), StoreError> {
        self.settle(self.store.told(id).await)
    }

    async fn renew(&self, node: NodeId) -> Result<(), StoreError> {
        self.store.renew(node).await
    }

    async fn orphans(&self) -> Result<Vec<StreamId>, StoreError> {
        self.store.orphans().await
    }

    async fn signal(&self, id: StreamId, signal: Signal) -> Result<(), StoreError> {
        self.store.signal(id, signal).await
    }

    fn signals(&self) -> BoxStream<'static, (StreamId, Signal)> {
        self.store.signals()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.store.ready().await
    }

    fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    async fn all(&self, open: bool, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError> {
        self.store.all(open, before, n).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.store.stats().await
    }

    async fn check(&self, ends: Ends) -> Result<Checked, StoreError> {
        self.store.check(ends).await
    }
}
