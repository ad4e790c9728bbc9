//! A key that is given back in the very moment in which it is asked for: too short a moment to meet it from outside, so here the
//! store itself makes it last.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use lastword::{
    backend::mock::{Config, Mock},
    gateway::{Ask, Gateway, Limits},
    protocol::native,
    route::Router,
    telemetry::Metrics,
};

use crate::common::faulty::Faulty;

#[tokio::test]
async fn a_key_that_is_given_back_meanwhile_is_taken() {
    let store = Faulty::new();
    store.late.store(3, SeqCst);
    let mock = Mock::new("mock", Config::default()).expect("a mock");
    let router =
        Router::new([("mock".to_owned(), Arc::new(mock) as _)].into(), [].into(), Some("mock/echo".to_owned()));
    let gateway = Gateway::new(store, router, Limits::default(), Arc::new(Metrics::new()));
    let ask = || Ask {
        owner: String::new(),
        prompt: native::on_text(b"one").expect("a prompt"),
        idempotency: Some(("k".to_owned(), "fingerprint".into())),
    };
    let started = gateway.start(ask()).await.expect("started");
    assert!(!started.again, "{started:?}");
    let again = gateway.start(ask()).await.expect("found");
    assert_eq!((again.id, again.again), (started.id, true));
}
