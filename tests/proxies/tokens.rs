//! Each token comes through before the next one exists.

use serde_json::json;
use tokio::process::Command;

use crate::{
    common::{Ending, TestGateway, only, soon, sse, text},
    fake::{self, Fake, Step},
    proxy::{Compression, Setup},
    through::{each, rest, stalls, until},
};

/// The first is longer than what any of them takes for too short to be compressed.
fn tokens() -> Vec<String> {
    (0..12).map(|n| format!("<{n}>{} ", "x".repeat(if n == 0 { 3000 } else { 0 }))).collect()
}

fn chunk(token: &str) -> Vec<u8> {
    format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": token } }] })).into_bytes()
}

/// An upstream that says a token each time that it is told to, and a lastword in front of it.
pub(crate) async fn in_lockstep() -> (Fake, TestGateway) {
    let mut steps = vec![Step::Write(fake::sse(""))];
    for token in tokens() {
        steps.extend([Step::WaitForTest, Step::Write(chunk(&token))]);
    }
    let finish = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
    steps.extend([Step::WaitForTest, Step::Write(format!("data: {finish}\n\ndata: [DONE]\n\n").into_bytes())]);
    let fake = Fake::new(vec![steps]).await;
    let config = format!("[backends.fake]\nkind = \"openai\"\nbase_url = \"{}\"\n", fake.url());
    (fake, TestGateway::with(&config).await)
}

/// Through this proxy, each token before the next one; with the encodings that a browser takes, if it compresses.
pub(crate) async fn one_by_one(setup: Setup) {
    let (fake, gateway) = in_lockstep().await;
    let proxy = setup.before(gateway.address()).await;
    let id = gateway.create(&json!({ "prompt": "x", "model": "fake/m" })).await;
    let mut headers = vec![];
    if !matches!(setup.compression, Compression::Off) {
        headers.push(("accept-encoding", "gzip, deflate, br"));
    }
    let mut response = proxy.at().get(&format!("/v1/streams/{id}/events"), &headers).await;
    assert_eq!(response.header("content-type"), Some("text/event-stream"), "{}", setup.name());
    let zipped = response.header("content-encoding") == Some("gzip");
    let mut seen = soon(response.body.next()).await.expect("the start");
    for token in tokens() {
        fake.go_on();
        // What is compressed shows itself at the end; here that something came.
        seen.extend(match zipped {
            true => soon(response.body.next()).await.unwrap_or_else(|ending| panic!("{}: {ending:?}", setup.name())),
            false => until(&mut response.body, token.trim()).await,
        });
    }
    fake.go_on();
    let (more, ending) = rest(response.body).await;
    seen.extend(more);
    if zipped {
        seen = unzip(&seen).await;
    }
    let events = sse::read(&seen).events;
    assert_eq!((text(&events), ending), (tokens().concat(), Ending::Clean), "{}", setup.name());
    assert_eq!(only(&events, "end")["status"], "completed", "{}", setup.name());
}

async fn unzip(bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("a file");
    let input = std::fs::File::open(file.path()).expect("a file");
    let output = soon(Command::new("gzip").arg("-dc").stdin(input).output()).await.expect("gzip");
    assert!(output.status.success(), "not a whole gzip");
    output.stdout
}

#[tokio::test]
async fn each_token_passes_before_the_next_one_is_said() {
    each(one_by_one).await;
}

#[tokio::test]
async fn the_first_bytes_pass_before_the_first_token() {
    each(async |setup: Setup| {
        let gateway = TestGateway::start().await;
        let proxy = setup.before(gateway.address()).await;
        let id = proxy.say("never", json!({ "first": "1h" }), json!({})).await;
        until(&mut proxy.events(&id, None).await.body, "event: start").await;
        // And a reader who comes back to silence.
        let mut response = proxy.events(&id, Some("0")).await;
        assert!(soon(response.body.next()).await.is_ok(), "{}", setup.name());
    })
    .await;
}

#[tokio::test]
async fn a_whole_answer_ends_clean_and_is_not_asked_for_again() {
    each(async |setup: Setup| {
        let gateway = TestGateway::start().await;
        let proxy = setup.before(gateway.address()).await;
        let id = proxy.say("one two three", json!({ "delay": "2ms" }), json!({})).await;
        let (bytes, ending) = rest(proxy.events(&id, None).await.body).await;
        let events = sse::read(&bytes).events;
        assert_eq!((text(&events).as_str(), ending), ("one two three", Ending::Clean), "{}", setup.name());
        let end = &events.last().expect("an end").id;
        assert_eq!(proxy.events(&id, Some(end)).await.status, 204, "{}", setup.name());
    })
    .await;
}

#[tokio::test]
async fn a_running_answer_is_cancelled_and_one_that_is_left_is_left() {
    each(async |setup: Setup| {
        // The sooner lastword writes, the sooner a proxy that nobody reads from notices.
        let gateway = TestGateway::with("[server]\nheartbeat = \"50ms\"").await;
        let proxy = setup.before(gateway.address()).await;
        let id = proxy.say("one two three", stalls(), json!({})).await;
        let mut body = proxy.events(&id, None).await.body;
        let seen = until(&mut body, " two").await;
        assert_eq!(proxy.at().state(&id).await["status"], "running", "{}", setup.name());
        let cancelled = proxy.at().send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
        assert_eq!(cancelled.status, 200, "{}", setup.name());
        let (more, ending) = rest(body).await;
        let events = sse::read(&[seen, more].concat()).events;
        assert_eq!((text(&events).as_str(), ending), ("one two", Ending::Clean), "{}", setup.name());
        assert_eq!(only(&events, "end")["status"], "cancelled", "{}", setup.name());

        let id = proxy.say("one two three", stalls(), json!({ "on_disconnect": "cancel" })).await;
        let mut body = proxy.events(&id, None).await.body;
        until(&mut body, " two").await;
        drop(body);
        gateway.at().state_when(&id, |state| state["status"] == "cancelled").await;
    })
    .await;
}
