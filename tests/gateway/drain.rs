//! What a signal does to a running lastword, and what its clients see of it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::{
    At, Body, Ending, TestGateway,
    http::{raw, request},
    only,
    process::Process,
    soon,
    sse::Client,
};

/// Ten times what an answer takes that shall finish, since a busy machine takes its time.
const DRAIN: Duration = Duration::from_secs(4);

async fn start() -> (Process, At) {
    let lastword = Process::start("127.0.0.1:0", &[("LASTWORD_SERVER__DRAIN", "4s")]).await;
    let at = At(lastword.address());
    (lastword, at)
}

/// A reader in the middle of an answer, in this version of HTTP.
async fn reader(at: At, id: &str, version: &str, client: &mut Client) -> Body {
    let head = format!("GET /v1/streams/{id}/events HTTP/{version}\r\nhost: localhost\r\n\r\n");
    let mut body = soon(raw(at.0, head.as_bytes(), false)).await.expect("an answer").body;
    let mut bytes = Vec::new();
    while !bytes.windows(8).any(|eight| eight == b"\"text\":\"") || !bytes.ends_with(b"\n\n") {
        bytes.extend(soon(body.next()).await.expect("no end yet"));
    }
    client.take(&bytes);
    body
}

/// Waits until nobody listens there any more.
async fn closed(at: At) {
    soon(async { while TcpStream::connect(at.0).await.is_ok() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_answers_finish_interrupts_the_rest_and_exits_with_0() {
    let (lastword, at) = start().await;
    let short = json!({ "text": "word ", "repeat": 50, "delay": "8ms" });
    let short = at.say(short, json!({})).await;
    let endless = at.say(json!({ "text": "word ", "repeat": 100_000, "delay": "10ms" }), json!({})).await;
    let mut readers = Vec::new();
    for (id, status) in [(&short, "completed"), (&endless, "interrupted")] {
        for version in ["1.0", "1.1"] {
            let mut client = Client::default();
            let body = reader(at, id, version, &mut client).await;
            readers.push((client, body, status));
        }
    }
    let told = Instant::now();
    lastword.terminate().await;
    closed(at).await;
    assert!(told.elapsed() < DRAIN, "it listens no more as soon as it drains");
    assert!(request(at.0, "POST", "/v1/streams", &[], "{\"prompt\":\"hi\"}").await.is_err());
    for (mut client, body, status) in readers {
        let (bytes, ending) = soon(body.rest()).await;
        client.take(&bytes);
        assert_eq!(ending, Ending::Clean, "{status}");
        let end = only(&client.events, "end");
        assert_eq!(end["status"], status);
        match status {
            "completed" => assert_eq!(client.check(&"word ".repeat(50)), Ok(())),
            _ => {
                assert!(told.elapsed() >= DRAIN, "not before its time");
                assert_eq!(end["error"]["code"], "interrupted");
                assert_eq!(client.check(&crate::common::text(&client.events)), Ok(()));
            }
        }
    }
    assert_eq!(lastword.exit().await, Some(0));
    let took = told.elapsed();
    assert!(took < DRAIN + Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_to_wait_for_a_drain_is_short() {
    let (lastword, at) = start().await;
    let id = at.say(json!({ "text": "word", "delay": "0ms" }), json!({})).await;
    // An idle connection is no reason to wait.
    let mut idle = TcpStream::connect(at.0).await.expect("a connection");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let idle = tokio::spawn(async move { idle.read_to_end(&mut Vec::new()).await });
    at.state_when(&id, |state| state["status"] == "completed").await;
    let told = Instant::now();
    lastword.terminate().await;
    assert_eq!(lastword.exit().await, Some(0));
    assert!(told.elapsed() < DRAIN, "{:?}", told.elapsed());
    soon(idle).await.expect("it ran").expect("closed, not reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once_and_a_cut_answer_looks_cut() {
    let lastword = Process::start("127.0.0.1:0", &[("LASTWORD_SERVER__DRAIN", "10m")]).await;
    let at = At(lastword.address());
    let endless = at.say(json!({ "text": "word ", "repeat": 100_000, "delay": "10ms" }), json!({})).await;
    let mut client = Client::default();
    let (old, new) =
        (reader(at, &endless, "1.0", &mut Client::default()).await, reader(at, &endless, "1.1", &mut client).await);
    lastword.terminate().await;
    closed(at).await;
    let told = Instant::now();
    lastword.terminate().await;
    lastword.exit().await;
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
    for body in [old, new] {
        assert_eq!(soon(body.rest()).await.1, Ending::Reset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_resets_its_answers() {
    let (lastword, at) = start().await;
    let endless = at.say(json!({ "text": "word ", "repeat": 100_000, "delay": "10ms" }), json!({})).await;
    let mut readers = Vec::new();
    for version in ["1.0", "1.1", "1.0", "1.1"] {
        readers.push((version, reader(at, &endless, version, &mut Client::default()).await));
    }
    lastword.kill().await;
    for (version, body) in readers {
        assert_eq!(soon(body.rest()).await.1, Ending::Reset, "HTTP/{version}");
    }
}

/// The listener is open here still: it is what a request sees that came in just before it closed.
#[tokio::test]
async fn a_draining_gateway_starts_nothing_and_is_not_ready_but_serves_its_readers() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let text = json!({ "text": "word ", "repeat": 20, "delay": "5ms" });
    let id = at.say(text, json!({})).await;
    assert_eq!(at.get("/readyz", &[]).await.status, 200);
    gateway.server().gateway().refuse_new();
    let refused = at.send("POST", "/v1/streams", &[], "{\"prompt\":\"hi\"}").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json().await["code"], "draining");
    assert_eq!(at.get("/readyz", &[]).await.status, 503);
    assert_eq!(at.get("/healthz", &[]).await.status, 200, "alive all the same");
    let mut client = Client::default();
    let (bytes, ending) = soon(at.events(&id, &client).await.body.rest()).await;
    client.take(&bytes);
    assert_eq!((client.check(&"word ".repeat(20)), ending), (Ok(()), Ending::Clean));
    soon(gateway.drain()).await;
    assert!(TcpStream::connect(at.0).await.is_err());
}
