//! Too many: readers of one answer, connections of one address. Who asks is told which limit it is and when to come back; and an
//! EventSource, which would never come back behind a status, is told so in its own way.

use futures_util::future::join_all;
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::common::{Ending, Response, TestGateway, http, request, soon};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// A refusal as programs read it.
async fn refused(response: Response, code: &str, words: &str) {
    assert_eq!((response.status, response.header("retry-after")), (429, Some("5")));
    let problem = response.json().await;
    assert_eq!(problem["code"], code, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|why| why.contains(words)), "{problem}");
}

/// A refusal as an EventSource reads it: it comes back by itself.
async fn sent_away(response: Response, words: &str) {
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    let (bytes, ending) = soon(response.body.rest()).await;
    let said = String::from_utf8(bytes).expect("UTF-8");
    assert!(said.starts_with(": 429 ") && said.contains(words) && said.ends_with("\nretry: 5000\n\n"), "{said}");
    assert_eq!(ending, Ending::Reset, "and nobody takes it for an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_answer() {
    let gateway = TestGateway::with("[limits]\nstream_readers = 2").await;
    let options = || json!({ "fault": { "kind": "stall", "after": 2 } });
    let id = gateway.say("one two three", options()).await;
    let path = format!("/v1/streams/{id}/events");
    let mut readers = vec![gateway.get(&path, &[EVENTS]).await, gateway.get(&path, &[]).await];
    for _ in 0..3 {
        refused(gateway.get(&path, &[]).await, "stream_readers", "2 read this answer").await;
        refused(gateway.get(&format!("{path}?format=json&wait=1"), &[]).await, "stream_readers", "2 read").await;
        sent_away(gateway.get(&path, &[EVENTS]).await, "stream_readers: 2 read this answer").await;
    }
    let other = gateway.say("one two three", options()).await;
    assert_eq!(gateway.get(&format!("/v1/streams/{other}/events"), &[]).await.status, 200, "another has its own");
    assert_eq!(gateway.state(&id).await["status"], "running", "to look is not to read");
    drop(readers.pop());
    soon(async { while gateway.get(&path, &[]).await.status != 200 {} }).await;
}

/// Of those that were told before some may still be there, and then the next one is not even listened to: it asks again.
async fn asked(gateway: &TestGateway, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    soon(async {
        loop {
            if let Ok(response) = request(gateway.address(), method, path, headers, body).await {
                break response;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address() {
    let gateway = TestGateway::with("[server]\naddress_connections = 3").await;
    let id = gateway.say("one two three", json!({ "fault": { "kind": "stall", "after": 2 } })).await;
    let path = format!("/v1/streams/{id}/events");
    let mut readers = Vec::new();
    // What was asked before has closed its connection by and by.
    soon(async {
        while readers.len() < 3 {
            let response = asked(&gateway, "GET", &path, &[], "").await;
            if response.status == 200 {
                readers.push(response);
            }
        }
    })
    .await;
    refused(asked(&gateway, "GET", "/v1/streams", &[], "").await, "address_connections", "3 connections").await;
    sent_away(
        asked(&gateway, "GET", &path, &[EVENTS], "").await,
        "address_connections: your address has 3 connections",
    )
    .await;
    let body = json!({ "model": "mock/echo", "messages": [{ "role": "user", "content": "x" }] }).to_string();
    let response = asked(&gateway, "POST", "/v1/chat/completions", &[], &body).await;
    assert_eq!((response.status, response.header("connection")), (429, Some("close")));
    let error = response.json().await;
    assert_eq!(error["error"]["type"], "rate_limit_error", "{error}");
    // Those that are told so have an end too.
    let mut hanging = Vec::new();
    for _ in 0..12 {
        hanging.push(TcpStream::connect(gateway.address()).await.expect("a connection"));
    }
    let mut closed = 0;
    for socket in &mut hanging {
        let read = tokio::time::timeout(std::time::Duration::from_millis(200), socket.read(&mut [0])).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!(closed >= 6, "{closed} of 12 were not even listened to");
    drop((hanging, readers));
    soon(async { while asked(&gateway, "GET", "/v1/streams", &[], "").await.status != 200 {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_of_one_address() {
    let gateway = TestGateway::with("[server]\naddress_connections_per_second = 5").await;
    // All at once: they are accepted one behind the other, in far less than a second.
    let head = b"GET /v1/streams HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let all = join_all((0..40).map(|_| http::exchange(gateway.address(), head)));
    let answers = soon(all).await.into_iter().map(|said| String::from_utf8(said.expect("an answer")).expect("UTF-8"));
    let (let_in, told): (Vec<_>, Vec<_>) = answers.partition(|said| said.starts_with("HTTP/1.1 200"));
    assert!(let_in.len() >= 5 && told.len() >= 5, "{} and {}", let_in.len(), told.len());
    for said in told {
        assert!(said.starts_with("HTTP/1.1 429") && said.contains("5 connections a second"), "{said}");
    }
    soon(async { while gateway.get("/healthz", &[]).await.status != 200 {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_is_told_by_a_status_what_does_not_pass() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two", json!({})).await;
    let path = format!("/v1/streams/{id}/events");
    for (path, status) in
        [(path.replace(&id, "01990000000070008000000000000000"), 404), (format!("{path}?format=none"), 400)]
    {
        assert_eq!(gateway.get(&path, &[EVENTS]).await.status, status);
    }
    assert_eq!(gateway.get(&path, &[EVENTS]).await.status, 200);
}
