//! Answers that are not to be kept go when nobody reads them, and not before. Without sockets, the clock paused.

use std::{sync::Arc, time::Duration};

use lastword::{
    backend::mock::{Config, Mock},
    gateway::{Ask, AttachError, Attachment, Gateway, Limits, StoreError},
    id::{Cursor, Seen, StreamId},
    protocol::responses,
    route::Router,
    store::memory::Memory,
    telemetry::Metrics,
};
use serde_json::json;
use tokio::time::sleep;

const AFTER: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// A gateway that tends its streams, and an answer of more batches than a tail holds, which is not to be kept.
async fn answered() -> (Arc<Gateway>, Attachment) {
    let mock = Mock::new("mock", Config::default()).expect("a mock");
    let router = Router::new([("mock".to_owned(), Arc::new(mock) as _)].into(), [].into(), None);
    let store = Arc::new(Memory::new(Duration::MAX, u64::MAX));
    let gateway =
        Gateway::new(store, router, Limits { forget_after: AFTER, ..Limits::default() }, Arc::new(Metrics::new()));
    tokio::spawn(gateway.clone().tend());
    let options = json!({ "text": "one two three four", "repeat": 100, "delay": "1ms" });
    let body = json!({ "model": "mock/words", "input": "say it", "store": false, "backend_options": options });
    let prompt = responses::parse(body.to_string().as_bytes()).expect("a prompt").prompt;
    let started =
        gateway.start(Ask { owner: String::new(), prompt, idempotency: None, chat: None }).await.expect("started");
    let mut reading = gateway.attach("", started.id, None).await.expect("attached");
    reading.reader.next(1).await.expect("readable").expect("a record");
    while gateway.metrics().streams_running.get() > 0 {
        sleep(SECOND).await;
    }
    (gateway, reading)
}

async fn is_there(gateway: &Gateway, id: StreamId) -> bool {
    match gateway.stream("", id).await {
        Ok(_) => true,
        Err(StoreError::Unknown(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Reads to the end; gives back the last cursor.
async fn rest(reading: &mut Attachment) -> Option<Cursor> {
    let mut last = None;
    while let Some(page) = reading.reader.next(1000).await.expect("readable") {
        last = page.last();
    }
    last
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_gets_its_answer_to_the_end() {
    let (gateway, mut reading) = answered().await;
    let id = reading.stream.meta.id;
    sleep(10 * AFTER).await;
    let end = gateway.stream("", id).await.expect("still there").meta.last;
    assert!(end.0 > 400);
    assert_eq!(rest(&mut reading).await, Some(end), "also from the store");
    drop(reading);
    sleep(AFTER - 2 * SECOND).await;
    assert!(is_there(&gateway, id).await, "it may have been cut off");
    sleep(4 * SECOND).await;
    assert!(!is_there(&gateway, id).await);
    assert!(matches!(gateway.attach("", id, None).await, Err(AttachError::Store(StoreError::Unknown(_)))));
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_has_its_time_to_come_back_each_time() {
    let (gateway, first) = answered().await;
    let id = first.stream.meta.id;
    drop(first);
    for cursor in [0, 1, 7] {
        sleep(AFTER - 2 * SECOND).await;
        let mut again = gateway.attach("", id, Some(Seen::Short(Cursor(cursor)))).await.expect("still there");
        sleep(2 * AFTER).await;
        assert!(rest(&mut again).await > Some(Cursor(400)));
    }
    sleep(AFTER + 2 * SECOND).await;
    assert!(!is_there(&gateway, id).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_it_for_ever() {
    let (gateway, reading) = answered().await;
    sleep(HOUR - 10 * SECOND).await;
    assert!(is_there(&gateway, reading.stream.meta.id).await);
    sleep(20 * SECOND).await;
    assert!(!is_there(&gateway, reading.stream.meta.id).await);
}

#[tokio::test(start_paused = true)]
async fn it_can_be_erased_at_once() {
    let (gateway, reading) = answered().await;
    let id = reading.stream.meta.id;
    gateway.remove("", id).await.expect("erased");
    assert!(!is_there(&gateway, id).await);
    drop(reading);
    sleep(2 * AFTER).await;
    assert!(!is_there(&gateway, id).await);
}
