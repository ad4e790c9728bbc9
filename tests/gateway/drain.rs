//! What a signal does to a running lastword, and what its clients see of it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
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
async fn a_drain_lets_answers_finish_sends_readers_away_before_its_end_and_exits_with_0() {
    let (lastword, at) = start().await;
    let short = at.say(json!({ "text": "word ", "repeat": 50, "delay": "8ms" }), json!({})).await;
    let endless = json!({ "text": "word ", "repeat": 100_000, "delay": "10ms" });
    let id = at.say(endless.clone(), json!({})).await;
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    for (id, readers) in [(&short, &mut whole), (&id, &mut cut)] {
        for version in ["1.0", "1.1"] {
            let mut client = Client::default();
            let body = reader(at, id, version, &mut client).await;
            readers.push((client, body));
        }
    }
    // A client of this protocol does not come back by itself: it is told how its answer ended.
    let asked = json!({
        "model": "mock/words", "stream": true, "messages": [{ "role": "user", "content": "x" }], "backend_options": endless,
    });
    let chat = soon(request(at.0, "POST", "/v1/chat/completions", &[], &asked.to_string())).await.expect("an answer");
    let told = Instant::now();
    lastword.terminate().await;
    closed(at).await;
    assert!(told.elapsed() < DRAIN, "it listens no more as soon as it drains");
    assert!(request(at.0, "POST", "/v1/streams", &[], "{\"prompt\":\"hi\"}").await.is_err());
    for (mut client, body) in whole {
        let (bytes, ending) = soon(body.rest()).await;
        client.take(&bytes);
        assert_eq!((ending, &only(&client.events, "end")["status"]), (Ending::Clean, &json!("completed")));
        assert_eq!(client.check(&"word ".repeat(50)), Ok(()));
    }
    for (mut client, body) in cut {
        let (bytes, ending) = soon(body.rest()).await;
        client.take(&bytes);
        assert_eq!(ending, Ending::Reset, "and not as if it were whole");
        assert!(told.elapsed() >= DRAIN * 4 / 5, "not before the last part: {:?}", told.elapsed());
        assert!(client.events.iter().all(|event| event.name != "end"));
    }
    let (bytes, ending) = soon(chat.body.rest()).await;
    let said = String::from_utf8(bytes).expect("UTF-8");
    assert!(told.elapsed() >= DRAIN, "not before its time");
    assert_eq!(ending, Ending::Clean);
    assert!(said.contains("\"code\":\"interrupted\"") && said.contains("data: [DONE]\n"), "{said}");
    assert_eq!(lastword.exit().await, Some(0));
    let took = told.elapsed();
    assert!(took < DRAIN + Duration::from_secs(3), "{took:?}");
}

/// Each of them at a time of its own, also where they share one connection. How even that is is a unit test's to say.
#[tokio::test(flavor = "multi_thread")]
async fn readers_are_not_sent_away_all_at_once() {
    for shared in [false, true] {
        let (lastword, at) = start().await;
        let id = at.say(json!({ "text": "word ", "repeat": 100_000, "delay": "20ms" }), json!({})).await;
        let told = Instant::now();
        let mut readers = JoinSet::new();
        if shared {
            let socket = TcpStream::connect(at.0).await.expect("a connection");
            let (mut client, connection) = soon(h2::client::handshake(socket)).await.expect("HTTP/2");
            tokio::spawn(connection);
            for _ in 0..30 {
                client = soon(client.ready()).await.expect("room");
                let get = axum::http::Request::get(format!("http://localhost/v1/streams/{id}/events"));
                let (response, _) = client.send_request(get.body(()).expect("a request"), true).expect("sent");
                let mut body = soon(response).await.expect("an answer").into_body();
                readers.spawn(async move {
                    loop {
                        match soon(body.data()).await {
                            Some(Ok(data)) => body.flow_control().release_capacity(data.len()).expect("room"),
                            Some(Err(error)) => {
                                break assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error:?}");
                            }
                            None => panic!("as if it were whole"),
                        }
                    }
                    told.elapsed()
                });
            }
        } else {
            for _ in 0..30 {
                let body = reader(at, &id, "1.1", &mut Client::default()).await;
                readers.spawn(async move {
                    assert_eq!(soon(body.rest()).await.1, Ending::Reset);
                    told.elapsed()
                });
            }
        }
        lastword.terminate().await;
        let mut times = readers.join_all().await;
        times.sort();
        assert!(times[0] >= DRAIN * 4 / 5, "{times:?}");
        assert!(times[29] - times[0] >= DRAIN / 10, "of the last part at least half: {times:?}");
        assert_eq!(lastword.exit().await, Some(0));
    }
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
