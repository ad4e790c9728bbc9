//! The native API, sentence by sentence. The files mirror the URLs.

mod chunking;
mod cors;
mod create;
mod errors;
mod events;
mod forms;
mod operations;
mod page;
mod privacy;
mod prompts;
mod streams;

use std::{future::Future, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::common::{Ending, Response, TestGateway, http, soon, sse};

/// A client that takes events.
const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// The options of a mock that says two words and then nothing more, for ever.
fn stalls() -> Value {
    json!({ "fault": { "kind": "stall", "after": 2 } })
}

/// Waits until it is so: looks again and again.
async fn until<F: Future<Output = bool>>(mut it_is_so: impl FnMut() -> F) {
    soon(async {
        while !it_is_so().await {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Waits until a stream has this status; gives back its state.
async fn reached(gateway: &TestGateway, id: &str, status: &str) -> Value {
    until(async || gateway.state(id).await["status"] == status).await;
    gateway.state(id).await
}

/// Waits until this much was said.
async fn said(gateway: &TestGateway, id: &str, text: &str) -> Value {
    until(async || gateway.state(id).await["text"] == text).await;
    gateway.state(id).await
}

/// A response that must be a problem: its members.
async fn problem(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{}", response.status);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let got = response.status;
    let problem = response.json().await;
    assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{problem}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], "about:blank");
    for words in ["title", "detail"] {
        assert!(problem[words].as_str().is_some_and(|words| !words.is_empty()), "{words}: {problem}");
    }
    problem
}

/// The ids of all streams, newest first.
async fn list(gateway: &TestGateway) -> Vec<String> {
    let list = gateway.get("/v1/streams?limit=100", &[]).await.json().await;
    let streams = list["streams"].as_array().expect("a list").iter();
    streams.map(|stream| stream["id"].as_str().expect("an id").to_owned()).collect()
}

/// Reads until it has seen this; the body goes on.
async fn read_to(response: &mut Response, needle: &str) -> String {
    let mut bytes = Vec::new();
    soon(async {
        while !bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            match response.body.next().await {
                Ok(more) => bytes.extend(more),
                Err(ending) => panic!("{ending:?} before {needle:?}: {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
    })
    .await;
    String::from_utf8(bytes).expect("UTF-8")
}

/// A body of events to its proper end.
async fn events_of(response: Response) -> Vec<sse::Event> {
    sse::read(text_of(response).await.as_bytes()).events
}

async fn text_of(response: Response) -> String {
    let status = response.status;
    let (bytes, ending) = soon(response.body.rest()).await;
    assert_eq!((status, ending), (200, Ending::Clean));
    String::from_utf8(bytes).expect("UTF-8")
}

/// The pieces in which the server wrote the body of a GET: the chunks of HTTP/1.1.
async fn writes(gateway: &TestGateway, path: &str) -> Vec<String> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let bytes = soon(http::exchange(gateway.address(), head.as_bytes())).await.expect("an answer");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (_, mut body) = text.split_once("\r\n\r\n").expect("a head");
    let mut writes = Vec::new();
    loop {
        let (size, rest) = body.split_once("\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).expect("a number");
        if size == 0 {
            return writes;
        }
        writes.push(rest[..size].to_owned());
        body = &rest[size + 2..];
    }
}
