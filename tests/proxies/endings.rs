//! Half an answer never looks whole: whatever breaks it off, a reader behind a proxy is told, or sees that there was no `end`.

use serde_json::json;

use crate::{
    common::{Body, Ending, TestGateway, only, process::Process, soon, sse, text},
    proxy::{Proxy, Setup},
    through::{each, is_half, rest, stalls, until},
};

/// Two readers in mid-answer: of HTTP/1.1 and of HTTP/1.0.
async fn readers(proxy: &Proxy) -> (String, Body, Body) {
    let id = proxy.say("one two three", stalls(), json!({})).await;
    let mut new = proxy.events(&id, None).await.body;
    let mut old = proxy.events_by_http10(&id).await.body;
    until(&mut new, " two").await;
    until(&mut old, " two").await;
    (id, new, old)
}

/// How it ends for them. HTTP/1.0 has no other end than a closed connection, so only what was said tells.
async fn are_not_fooled(setup: &Setup, new: Body, old: Body) {
    let (more, ending) = rest(new).await;
    assert!(is_half(&more), "{}", setup.name());
    assert_eq!(ending == Ending::Clean, setup.kind.ends_everything_clean(), "{}: {ending:?}", setup.name());
    let (more, ending) = rest(old).await;
    assert!(is_half(&more), "{}", setup.name());
    assert_eq!(ending, Ending::Clean, "{}: better than docs/proxies.md says", setup.name());
}

#[tokio::test]
async fn an_answer_that_is_given_up_never_looks_whole() {
    each(async |setup: Setup| {
        let gateway = TestGateway::start().await;
        let proxy = setup.before(gateway.address()).await;
        let (_, new, old) = readers(&proxy).await;
        drop(gateway);
        are_not_fooled(&setup, new, old).await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_a_killed_process_never_looks_whole_and_is_resumed_from_the_next_one() {
    each(async |setup: Setup| {
        let store = tempfile::tempdir().expect("a folder");
        let path = store.path().to_string_lossy();
        let variables = [("LASTWORD_STORE__ENGINE", "disk"), ("LASTWORD_STORE__PATH", &*path)];
        let first = Process::start("127.0.0.1:0", &variables).await;
        let address = first.address();
        let proxy = setup.before(address).await;
        let (id, new, old) = readers(&proxy).await;
        first.kill().await;
        are_not_fooled(&setup, new, old).await;

        // While there is nobody, the proxy says so; and it asks again soon, not in a minute (Varnish after a quarter of a second).
        let status = proxy.events(&id, Some("0")).await.status;
        assert!([502, 503, 504].contains(&status), "{}: {status}", setup.name());
        let _next = Process::start(&address.to_string(), &variables).await;
        let found = async {
            loop {
                let response = proxy.events(&id, Some("0")).await;
                if response.status == 200 {
                    break response;
                }
            }
        };
        let response = soon(found).await;
        let (bytes, ending) = rest(response.body).await;
        let events = sse::read(&bytes).events;
        assert_eq!((text(&events).as_str(), ending), ("one two", Ending::Clean), "{}", setup.name());
        assert_eq!(only(&events, "end")["status"], "interrupted", "{}", setup.name());
    })
    .await;
}

#[tokio::test]
async fn readers_that_a_drain_sends_away_are_not_fooled() {
    each(async |setup: Setup| {
        let gateway = TestGateway::with("[server]\ndrain = \"500ms\"").await;
        let proxy = setup.before(gateway.address()).await;
        let (_, new, old) = readers(&proxy).await;
        soon(gateway.drain()).await;
        are_not_fooled(&setup, new, old).await;
    })
    .await;
}

#[tokio::test]
async fn a_process_told_to_stop_finishes_its_answer() {
    each(async |setup: Setup| {
        let process = Process::start("127.0.0.1:0", &[]).await;
        let proxy = setup.before(process.address()).await;
        let long = "word ".repeat(30);
        let id = proxy.say(&long, json!({ "delay": "10ms" }), json!({})).await;
        let mut body = proxy.events(&id, None).await.body;
        let seen = until(&mut body, "word").await;
        process.terminate().await;
        let (more, ending) = rest(body).await;
        let events = sse::read(&[seen, more].concat()).events;
        assert_eq!((text(&events), ending), (long, Ending::Clean), "{}", setup.name());
        assert_eq!(only(&events, "end")["status"], "completed", "{}", setup.name());
        assert_eq!(process.exit().await, Some(0), "{}", setup.name());
    })
    .await;
}
