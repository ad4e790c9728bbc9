//! What readers who take nothing cost the others: the delay of the others' tokens. (What they cost in memory, `tests/gateway/slow.rs` bounds.)
//!
//! A thousand readers of a long answer who never read, on connections of their own or as streams of a few HTTP/2 connections, beside a
//! thousand who read; with them and without them in turn. `cargo bench --bench stuck`
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[path = "common/chunk.rs"]
mod chunk;
#[path = "common/client.rs"]
mod client;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/load.rs"]
mod load;
#[expect(dead_code, reason = "a folder is looked at elsewhere, and what it takes")]
#[path = "common/process.rs"]
mod process;
#[expect(dead_code, reason = "only the native protocol is asked here")]
#[path = "common/upstream.rs"]
mod upstream;

use std::{net::SocketAddr, time::Duration};

use client::{Client, EVENTS};
use figures::Sample;
use process::Process;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};
use upstream::ask_native;

const STUCK: usize = 1000;
const CONNECTIONS: usize = 4;
/// The others: so many streams, a token of each every so often.
const READING: usize = 1000;
const EVERY: Duration = Duration::from_millis(100);

const KINDS: [&str; 3] = ["nobody", "1,000 on HTTP/1.1", "1,000 on 4 HTTP/2 connections"];

/// Readers who take nothing, as long as this is held.
#[derive(Default)]
struct Stuck {
    sockets: Vec<TcpStream>,
    bodies: Vec<h2::RecvStream>,
    connections: Vec<JoinHandle<()>>,
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.connections.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::main]
async fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let (stuck, reading, tokens, rounds) = if measure { (STUCK, READING, 60, 6) } else { (8, 2, 8, 1) };
    let upstream = upstream::start().await;
    let url = format!("http://{upstream}/v1");
    let server = Process::start(&[
        ("BACKENDS__UP__KIND", "openai"),
        ("BACKENDS__UP__BASE_URL", &url),
        ("BACKENDS__MOCK__KIND", "mock"),
        ("STORE__ENGINE", "memory"),
        ("SERVER__WRITE_TIMEOUT", "10m"),
    ]);
    let at = server.address();
    // Four megabytes.
    let long = serde_json::json!({
        "prompt": "x", "model": "mock/words",
        "backend_options": { "text": format!(" {}", "long".repeat(256)), "repeat": 4000, "delay": "0ms" },
    });
    let mut client = Client::connect(at).await;
    let state = client.ask("POST /v1/streams", "accept: application/json", &long.to_string(), |_| ()).await;
    let state: serde_json::Value = serde_json::from_slice(state).expect("a state");
    let path = state["events_url"].as_str().expect("where its events are").to_owned();
    let body = ask_native("up/", tokens, 1, EVERY);
    let mut p50 = KINDS.map(|_| Vec::new());
    let mut p99 = KINDS.map(|_| Vec::new());
    // The first costs what is only needed once.
    load::delays(at, "POST /v1/streams", &body, reading).await;
    for _ in 0..rounds {
        for kind in 0..KINDS.len() {
            let there = match kind {
                0 => Stuck::default(),
                1 => on_sockets(at, &path, stuck).await,
                _ => on_streams(at, &path, stuck).await,
            };
            let waits = load::delays(at, "POST /v1/streams", &body, reading).await;
            let waits = Sample::new(waits.iter().flat_map(|own| &own[own.len() / 5..]).map(|wait| *wait as f64 / 1e3));
            p50[kind].push(waits.median());
            p99[kind].push(waits.at(0.99));
            drop(there);
        }
    }
    println!(
        "{reading} streams, a token every {EVERY:?}; beside them, taking nothing   p50 ms   p99 ms   over nobody in the same round"
    );
    for (kind, name) in KINDS.iter().enumerate() {
        let over = |of: &[Vec<f64>; 3]| Sample::new(of[kind].iter().zip(&of[0]).map(|(it, nobody)| it - nobody));
        let (low, high) = over(&p99).interval();
        println!(
            "  {name:58} {:8.2} {:8.2}   {:+.2} {:+.2} ({low:+.2} to {high:+.2}; budget 2)",
            Sample::new(p50[kind].iter().copied()).median(),
            Sample::new(p99[kind].iter().copied()).median(),
            over(&p50).median(),
            over(&p99).median(),
        );
    }
}

async fn on_sockets(at: SocketAddr, path: &str, many: usize) -> Stuck {
    let mut there = Stuck::default();
    for _ in 0..many {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut socket = socket.connect(at).await.expect("a connection");
        socket
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: here\r\n{EVENTS}\r\n\r\n").as_bytes())
            .await
            .expect("sent");
        socket.peek(&mut [0]).await.expect("an answer");
        there.sockets.push(socket);
    }
    there
}

async fn on_streams(at: SocketAddr, path: &str, many: usize) -> Stuck {
    let mut there = Stuck::default();
    for _ in 0..CONNECTIONS {
        let socket = TcpStream::connect(at).await.expect("a connection");
        // Room for each to be told something, and none for all.
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_connection_window_size(16 << 20).handshake::<_, bytes::Bytes>(socket).await;
        let (mut client, connection) = handshake.expect("HTTP/2");
        there.connections.push(tokio::spawn(async move { _ = connection.await }));
        for _ in 0..many / CONNECTIONS {
            client = client.ready().await.expect("room");
            let get = axum::http::Request::get(format!("http://here{path}")).body(()).expect("a request");
            let (response, _) = client.send_request(get, true).expect("sent");
            there.bodies.push(response.await.expect("an answer").into_body());
        }
    }
    there
}
