//! And a log that grows as a test says, with the gateway before it, for the tests of what is shared.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{
    event::{Begin, Event},
    gateway::{Gateway, Limits},
    id::{NodeId, StreamId},
    record::write,
    route::Router,
    store::{Batch, Last, Lease, NewStream, Store, memory::Memory},
    telemetry::Metrics,
};

/// The log.
pub(in crate::api) struct Log {
    pub(in crate::api) id: StreamId,
    store: Arc<Memory>,
    pub(in crate::api) gateway: Arc<Gateway>,
    lease: Lease,
}

impl Log {
    pub(in crate::api) async fn new() -> Self {
        let (id, store) = (StreamId::new(), Arc::new(Memory::new(Duration::MAX, u64::MAX)));
        let new = NewStream {
            id,
            owner: String::new(),
            created_at: 0,
            about: serde_json::to_vec(&Begin::default()).expect("plain data").into(),
            prompt: Bytes::new(),
            claims: vec![],
            due: false,
            keep: None,
        };
        store.create(new).await.expect("created");
        let lease = store.lease(id, NodeId::new()).await.expect("leased");
        let router = Router::new(BTreeMap::new(), BTreeMap::new(), None);
        let gateway = Gateway::new(store.clone(), router, Limits::default(), Arc::new(Metrics::new()));
        Self { id, store, gateway, lease }
    }

    pub(in crate::api) async fn append(&mut self, events: &[Event<'_>]) {
        let batch: Batch = events.iter().map(record).collect();
        let (at, len) = (self.lease.next, batch.len());
        let last = matches!(events.last(), Some(Event::End(_))).then(Last::default);
        self.store.append(self.id, at, self.lease.epoch, batch, last).await.expect("appended");
        self.lease.next = at.plus(len);
    }
}

/// As it is stored.
pub(in crate::api) fn record(event: &Event<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out, 0, event);
    out
}

#[test]
fn what_somebody_has_is_shared_and_what_is_gone_makes_room() {
    let all = Shared::default();
    let one = all.of(1, || Some("one")).expect("made");
    assert!(Arc::ptr_eq(&one, &all.of(1, || Some("other")).expect("known")));
    assert!(all.of(2, || None).is_none());
    drop(one);
    assert_eq!(*all.of(1, || Some("anew")).expect("made"), "anew");
    for n in 0..1000 {
        all.of(n, || Some("gone at once"));
    }
    assert!(all.0.lock().expect("sound").len() < 10);
}
