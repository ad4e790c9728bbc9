//! A key that is given back in the very moment in which it is asked for: too short a moment to meet it from outside, so here the
//! store itself makes it last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use lastword::{
    backend::mock::{Config, Mock},
    gateway::{Ask, Gateway, Limits, Started},
    id::{Cursor, Epoch, NodeId, StreamId},
    protocol::native,
    route::Router,
    store::{Batch, ClaimKey, Created, Last, Lease, Meta, NewStream, Page, Signal, Store, StoreError, memory::Memory},
    telemetry::Metrics,
};

/// A store whose first answers to `create` come too late: the key was taken, and is free again.
struct Late {
    store: Memory,
    left: AtomicU32,
}

#[async_trait]
impl Store for Late {
    async fn create(&self, new: NewStream) -> Result<Created, StoreError> {
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Ok(Created::Held(StreamId::new())),
            Err(_) => self.store.create(new).await,
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
        self.store.append(id, at, epoch, batch, last).await
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
        self.store.remove(id).await
    }
    async fn expire(&self) -> Result<usize, StoreError> {
        self.store.expire().await
    }
    async fn lease(&self, id: StreamId, node: NodeId) -> Result<Lease, StoreError> {
        self.store.lease(id, node).await
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
}

#[tokio::test]
async fn a_key_that_is_given_back_meanwhile_is_taken() {
    let store = Late { store: Memory::new(Duration::MAX, u64::MAX), left: AtomicU32::new(3) };
    let mock = Mock::new("mock", Config::default()).expect("a mock");
    let router =
        Router::new([("mock".to_owned(), Arc::new(mock) as _)].into(), [].into(), Some("mock/echo".to_owned()));
    let gateway = Gateway::new(Arc::new(store), router, Limits::default(), Arc::new(Metrics::new()));
    let ask = || Ask {
        owner: String::new(),
        prompt: native::on_text(b"one").expect("a prompt"),
        idempotency: Some(("k".to_owned(), "fingerprint".into())),
    };
    let started = gateway.start(ask()).await.expect("started");
    assert!(matches!(started, Started::New(_)), "{started:?}");
    assert_eq!(gateway.start(ask()).await.expect("found"), Started::Again(started.id()));
}
