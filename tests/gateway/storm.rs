//! All readers are cut off at once, as by a proxy that is restarted, and come back at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::{net::TcpStream, task::JoinSet};

use crate::common::{At, process::Process, soon, sse::Client};

/// A connection with many readers on it, so that there may be more of them than a process may have files.
struct Line {
    client: h2::client::SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
}

impl Line {
    async fn new(at: At) -> Self {
        let socket = soon(TcpStream::connect(at.0)).await.expect("a connection");
        let mut builder = h2::client::Builder::new();
        // Those who have heard enough leave the rest where it is, and h2 has a bound for that, which is larger with this.
        builder.initial_connection_window_size(1 << 30);
        let (client, connection) = soon(builder.handshake(socket)).await.expect("HTTP/2");
        Self { client, connection: tokio::spawn(async move { _ = connection.await }) }
    }

    async fn read(&mut self, id: &str, client: &Client) -> h2::RecvStream {
        let mut get = axum::http::Request::get(format!("http://localhost/v1/streams/{id}/events"));
        if let Some(cursor) = &client.cursor {
            get = get.header("last-event-id", cursor);
        }
        self.client = soon(self.client.clone().ready()).await.expect("room");
        let (response, _) = self.client.send_request(get.body(()).expect("a request"), true).expect("sent");
        let response = soon(response).await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.into_body()
    }
}

/// Reads to the end of the body, or until it is cut; says when the first words came.
async fn take(body: &mut h2::RecvStream, client: &mut Client, enough: impl Fn(&[u8]) -> bool) -> Instant {
    let (mut bytes, mut first) = (Vec::new(), None);
    while let Some(Ok(data)) = tokio::time::timeout(Duration::from_secs(120), body.data()).await.expect("more") {
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend(data);
        if bytes.windows(5).any(|five| five == b"data:") {
            first.get_or_insert_with(Instant::now);
        }
        if enough(&bytes) {
            break;
        }
    }
    client.take(&bytes);
    first.unwrap_or_else(Instant::now)
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_are_cut_all_at_once_are_back_within_ten_seconds_and_miss_nothing() {
    let full = std::env::var("LASTWORD_TEST").is_ok_and(|form| form == "full");
    let (lines, each, words, delay) = if full { (10, 1000, 60, "1s") } else { (4, 100, 40, "100ms") };
    let lastword = Process::start("127.0.0.1:0", &[]).await;
    let at = At(lastword.address());
    let id = at.say(json!({ "text": "word ", "repeat": words, "delay": delay }), json!({})).await;
    let (mut first, mut hearing) = (Vec::new(), JoinSet::new());
    for _ in 0..lines {
        let mut line = Line::new(at).await;
        for _ in 0..each {
            let mut body = line.read(&id, &Client::default()).await;
            // Until it has heard something.
            hearing.spawn(async move {
                let mut client = Client::default();
                let heard = |bytes: &[u8]| bytes.windows(6).any(|six| six == b"\"text\"") && bytes.ends_with(b"\n\n");
                take(&mut body, &mut client, heard).await;
                (body, client)
            });
        }
        first.push(line);
    }
    let (bodies, clients): (Vec<_>, Vec<_>) = hearing.join_all().await.into_iter().unzip();
    first.iter().for_each(|line: &Line| line.connection.abort());
    drop((first, bodies));

    let cut = Instant::now();
    let mut back = JoinSet::new();
    let mut clients = clients.into_iter();
    for _ in 0..lines {
        let mine: Vec<_> = clients.by_ref().take(each).collect();
        back.spawn(async move {
            let mut line = Line::new(at).await;
            let mut reading = JoinSet::new();
            for mut client in mine {
                let mut body = line.read(&id_of(&client), &client).await;
                reading.spawn(async move {
                    let heard = take(&mut body, &mut client, |_| false).await;
                    (heard, client)
                });
            }
            (line, reading.join_all().await)
        });
    }
    let mut slowest = Duration::ZERO;
    let whole = "word ".repeat(words);
    for (_line, readers) in back.join_all().await {
        for (heard, client) in readers {
            assert_eq!(client.check(&whole), Ok(()));
            slowest = slowest.max(heard - cut);
        }
    }
    eprintln!("{} readers were back after {slowest:?}", lines * each);
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

/// The stream that a client reads: its `start` says so.
fn id_of(client: &Client) -> String {
    let start = client.events.iter().find(|event| event.name == "start").expect("the start");
    let start: serde_json::Value = serde_json::from_str(&start.data).expect("JSON");
    start["id"].as_str().expect("an id").to_owned()
}
