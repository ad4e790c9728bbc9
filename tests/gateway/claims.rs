//! Keys that are given back: when, and in the very moment in which one is asked for (too short a moment to meet it from outside, so here
//! the store itself makes it last).

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use lastword::{
    backend::mock::{Config, Mock},
    event::Status,
    gateway::{Ask, Gateway, Limits},
    protocol::native,
    route::Router,
    telemetry::Metrics,
};
use serde_json::json;

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
        chat: None,
        owner: String::new(),
        prompt: native::on_text(b"one").expect("a prompt"),
        idempotency: Some(("k".to_owned(), "fingerprint".into())),
    };
    let started = gateway.start(ask()).await.expect("started");
    assert!(!started.again, "{started:?}");
    let again = gateway.start(ask()).await.expect("found");
    assert_eq!((again.id, again.again), (started.id, true));
}

/// The keys of answers that stop before they say anything, or behind that.
#[tokio::test(start_paused = true)]
async fn a_key_is_given_back_by_who_left_before_the_first_word_and_not_by_who_cancelled() {
    let mock = Mock::new("mock", Config::default()).expect("a mock");
    let router = Router::new([("mock".to_owned(), Arc::new(mock) as _)].into(), [].into(), None);
    let gateway = Gateway::new(Faulty::new(), router, Limits::default(), Arc::new(Metrics::new()));
    let ask = |key: &str, first: &str| {
        let options = json!({ "text": "one two", "first": first, "delay": "1h" });
        let body =
            json!({ "prompt": "x", "model": "mock/words", "on_disconnect": "cancel", "backend_options": options });
        let prompt = native::parse(body.to_string().as_bytes()).expect("a prompt").prompt;
        Ask { owner: String::new(), prompt, idempotency: Some((key.to_owned(), "fingerprint".into())), chat: None }
    };
    let second = Duration::from_secs(1);
    for (key, first, cancels, again) in
        [("left", "1h", false, false), ("left behind", "0s", false, true), ("cancelled", "1h", true, true)]
    {
        let began = gateway.start(ask(key, first)).await.expect("started");
        let reader = gateway.attach("", began.id, None).await.expect("attached");
        tokio::time::sleep(second).await;
        if cancels {
            gateway.cancel("", began.id).await.expect("cancelled");
        }
        drop(reader);
        tokio::time::sleep(second).await;
        let summary = gateway.stream("", began.id).await.expect("known").summary.expect("ended");
        assert_eq!(summary.status, Some(Status::Cancelled), "{key}");
        let repeated = gateway.start(ask(key, first)).await.expect("started");
        assert_eq!((repeated.again, repeated.id == began.id), (again, again), "{key}");
    }
}
