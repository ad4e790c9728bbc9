//! A store that can be told to fail.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use lastword::{
    id::{Cursor, Epoch, NodeId, StreamId},
    store::{Batch, ClaimKey, Created, Last, Lease, Meta, NewStream, Page, Signal, Store, StoreError, memory::Memory},
};
use tokio::sync::Semaphore;

/// A store in memory. While `refusing`, it takes no append; while `slow` has no permit, an append that is done does not return.
pub(crate) struct Faulty {
    pub(crate) memory: Memory,
    pub(crate) refusing: Mutex<Option<StoreError>>,
    /// The next appends but so many are refused.
    pub(crate) good: AtomicUsize,
    /// What is refused is done all the same.
    pub(crate) lying: AtomicBool,
    /// No record can be read.
    pub(crate) damaged: AtomicBool,
    pub(crate) appended: Semaphore,
    pub(crate) slow: AtomicBool,
    pub(crate) orphans: Mutex<Vec<StreamId>>,
    pub(crate) renewed: AtomicUsize,
    /// The next answers to `create` that come too late: the key was taken, and is free again.
    pub(crate) late: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(Duration::MAX, u64::MAX),
            refusing: Mutex::new(None),
            good: AtomicUsize::new(0),
            lying: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            appended: Semaphore::new(0),
            slow: AtomicBool::new(false),
            orphans: Mutex::default(),
            renewed: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
        })
    }

    /// After so many more appends, each is refused with this error, until it is mended.
    pub(crate) fn refuse(&self, good: usize, error: StoreError) {
        self.good.store(good, SeqCst);
        *self.refusing.lock().expect("sound") = Some(error);
    }

    pub(crate) fn mend(&self) {
        *self.refusing.lock().expect("sound") = None;
    }
}

#[async_trait]
impl Store for Faulty {
    async fn create(&self, new: NewStream) -> Result<Created, StoreError> {
        match self.late.fetch_update(SeqCst, SeqCst, |late| late.checked_sub(1)) {
            Ok(_) => Ok(Created::Held(StreamId::new())),
            Err(_) => self.memory.create(new).await,
        }
    }

    async fn append(
        &self,
        id: StreamId,
        at: Cursor,
        epoch: Epoch,
        batch: Batch,
        last: Option<Last>,
    ) -> Result<(), StoreError> {
        let refusing = self.refusing.lock().expect("sound").clone();
        if let Some(error) = refusing
            && self.good.fetch_update(SeqCst, SeqCst, |good| good.checked_sub(1)).is_err()
        {
            if self.lying.load(SeqCst) {
                self.memory.append(id, at, epoch, batch, last).await?;
            }
            return Err(error);
        }
        self.memory.append(id, at, epoch, batch, last).await?;
        if self.slow.load(SeqCst) {
            self.appended.acquire().await.expect("never closed").forget();
        }
        Ok(())
    }

    async fn read(&self, id: StreamId, after: Cursor, max: usize, wait: Option<Duration>) -> Result<Page, StoreError> {
        match self.damaged.load(SeqCst) {
            true => Err(StoreError::Damaged(id)),
            false => self.memory.read(id, after, max, wait).await,
        }
    }

    async fn meta(&self, id: StreamId) -> Result<Meta, StoreError> {
        self.memory.meta(id).await
    }

    async fn prompt(&self, id: StreamId) -> Result<Bytes, StoreError> {
        self.memory.prompt(id).await
    }

    async fn list(&self, owner: &str, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError> {
        self.memory.list(owner, before, n).await
    }

    async fn holder(&self, claim: &ClaimKey) -> Result<Option<StreamId>, StoreError> {
        self.memory.holder(claim).await
    }

    async fn remove(&self, id: StreamId) -> Result<(), StoreError> {
        self.memory.remove(id).await
    }

    async fn expire(&self) -> Result<usize, StoreError> {
        self.memory.expire().await
    }

    async fn lease(&self, id: StreamId, node: NodeId) -> Result<Lease, StoreError> {
        self.memory.lease(id, node).await
    }

    async fn due(&self, after: u64, n: usize) -> Result<Vec<(u64, StreamId)>, StoreError> {
        self.memory.due(after, n).await
    }

    async fn told(&self, id: StreamId) -> Result<(), StoreError> {
        self.memory.told(id).await
    }

    async fn renew(&self, node: NodeId) -> Result<(), StoreError> {
        self.renewed.fetch_add(1, SeqCst);
        self.memory.renew(node).await
    }

    /// Those it was told of; it would be a quarter of a minute until memory knew by itself.
    async fn orphans(&self) -> Result<Vec<StreamId>, StoreError> {
        Ok(std::mem::take(&mut self.orphans.lock().expect("sound")))
    }

    async fn signal(&self, id: StreamId, signal: Signal) -> Result<(), StoreError> {
        self.memory.signal(id, signal).await
    }

    fn signals(&self) -> BoxStream<'static, (StreamId, Signal)> {
        self.memory.signals()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.memory.ready().await
    }

    fn bytes(&self) -> u64 {
        self.memory.bytes()
    }
}
