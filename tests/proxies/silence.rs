//! An answer that says nothing for longer than the proxy waits.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    common::{Ending, TestGateway, only, soon, sse, text},
    full,
    kinds::KINDS,
    proxy::Setup,
    through::{each, is_half, rest, until},
};

/// Squid counts whole seconds, so one of them could be none.
const SHORT: Option<u64> = Some(2);

/// Reads heartbeats for so long, then lets the answer end, which must be whole.
async fn outlasts(gateway: TestGateway, setup: Setup, silence: Duration) {
    let proxy = setup.before(gateway.address()).await;
    let id = proxy.say("never", json!({ "first": "1h" }), json!({})).await;
    let mut body = proxy.events(&id, None).await.body;
    let since = Instant::now();
    let mut seen = until(&mut body, "event: start").await;
    while since.elapsed() < silence {
        let more = soon(body.next()).await;
        seen.extend(more.unwrap_or_else(|ending| panic!("{}: {ending:?} after {:?}", setup.name(), since.elapsed())));
    }
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    let (more, ending) = rest(body).await;
    seen.extend(more);
    let events = sse::read(&seen).events;
    assert_eq!((events.len(), ending), (2, Ending::Clean), "{}: {events:?}", setup.name());
    assert_eq!(only(&events, "end")["status"], "cancelled", "{}", setup.name());
}

#[tokio::test]
async fn heartbeats_keep_a_silent_answer_open() {
    each(async |setup: Setup| {
        let gateway = TestGateway::with("[server]\nheartbeat = \"100ms\"").await;
        outlasts(gateway, Setup { silence: SHORT, ..setup }, Duration::from_millis(4500)).await;
    })
    .await;
}

/// As installed, with the heartbeat as it is by default. Squid's 15 minutes and Caddy's eternity are not waited for.
#[tokio::test]
async fn the_default_heartbeat_is_enough_for_the_default_timeouts() {
    if full() {
        each(async |setup: Setup| outlasts(TestGateway::start().await, setup, Duration::from_secs(70)).await).await;
    }
}

/// The other half of the test above: its timeouts are in force. And who was cut off there resumes.
#[tokio::test]
async fn what_is_cut_off_for_silence_is_resumed() {
    each(async |setup: Setup| {
        let gateway = TestGateway::start().await;
        let proxy = Setup { silence: SHORT, ..setup.clone() }.before(gateway.address()).await;
        let id = proxy.say("one two", json!({ "first": "5s" }), json!({})).await;
        let (bytes, ending) = rest(proxy.events(&id, None).await.body).await;
        assert!(is_half(&bytes), "{}", setup.name());
        assert_eq!(ending == Ending::Clean, setup.kind.ends_everything_clean(), "{}: {ending:?}", setup.name());
        // By one whose heartbeat is in time.
        gateway.at().state_when(&id, |state| state["status"] == "completed").await;
        let cursor = sse::read(&bytes).cursor;
        let (bytes, ending) = rest(proxy.events(&id, Some(&cursor)).await.body).await;
        assert_eq!((text(&sse::read(&bytes).events).as_str(), ending), ("one two", Ending::Clean), "{}", setup.name());
    })
    .await;
}

/// Varnish bounds the whole answer too: docs/proxies.md says with which parameter.
#[tokio::test]
async fn varnish_cuts_off_after_its_send_timeout_and_is_resumed() {
    let kind = KINDS.into_iter().find(|kind| kind.name == "Varnish").expect("one of them");
    let gateway = TestGateway::with("[server]\nheartbeat = \"100ms\"").await;
    let setup = Setup { arguments: &["-p", "send_timeout=1"], ..Setup::new(kind) };
    let proxy = setup.before(gateway.address()).await;
    let text_of = "word ".repeat(60);
    let id = proxy.say(&text_of, json!({ "delay": "30ms" }), json!({})).await;
    let mut client = sse::Client::default();
    let mut endings = vec![];
    while endings.last() != Some(&Ending::Clean) {
        let (bytes, ending) = rest(proxy.events(&id, client.cursor.as_deref()).await.body).await;
        client.take(&bytes);
        endings.push(ending);
    }
    assert!(endings.len() > 1, "send_timeout bounds nothing any more: docs/proxies.md can do without it");
    client.check(&text_of).expect("one whole answer");
}
