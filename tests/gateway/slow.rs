//! One reader never costs another: what somebody does not read lies in the log, and nowhere else.

use std::{env, fs, net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};

use crate::common::{At, Ending, TestGateway, process::Process, soon, sse, sse::Client};

/// A token of a kilobyte.
fn word() -> String {
    format!(" {}", "long".repeat(256))
}

/// Somebody who asks for the events and then reads nothing.
struct Stuck(TcpStream);

impl Stuck {
    async fn new(address: SocketAddr, id: &str) -> Self {
        Self::at(address, &format!("/v1/streams/{id}/events")).await
    }

    async fn at(address: SocketAddr, path: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut socket = soon(socket.connect(address)).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let stuck = Self(socket);
        // Its answer has begun.
        soon(stuck.0.peek(&mut [0])).await.expect("an answer");
        stuck
    }

    /// Waits until the other side has reset the connection, without reading anything.
    async fn is_reset(&self) {
        // An error is an event of its own: nothing needs to be read to see it.
        soon(self.0.ready(tokio::io::Interest::ERROR)).await.expect("a reset");
    }

    /// What the kernel still had for it, and how that ended.
    async fn rest(mut self) -> (Vec<u8>, Ending) {
        let mut bytes = Vec::new();
        let ending = match soon(self.0.read_to_end(&mut bytes)).await {
            Ok(_) => Ending::Clean,
            Err(_) => Ending::Reset,
        };
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |head| head + 4);
        (bytes.split_off(head), ending)
    }
}

async fn read_all(at: At, id: &str) -> Client {
    let mut client = Client::default();
    let (bytes, ending) = soon(at.events(id, &client).await.body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    client.take(&bytes);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reader_holds_up_nobody_is_cut_by_the_write_deadline_and_resumes() {
    let gateway = TestGateway::with("[server]\nwrite_timeout = \"300ms\"\n").await;
    let (at, words) = (gateway.at(), word().repeat(4000));
    let id = at.say(json!({ "text": word(), "repeat": 4000, "first": "50ms", "delay": "0ms" }), json!({})).await;
    let stuck = Stuck::new(at.0, &id).await;
    assert_eq!(read_all(at, &id).await.check(&words), Ok(()));
    stuck.is_reset().await;
    let (bytes, ending) = stuck.rest().await;
    assert_eq!(ending, Ending::Reset);
    assert!(bytes.len() < words.len() / 2, "it had a small part: {}", bytes.len());
    let mut client = Client::default();
    client.take(&bytes);
    assert!(client.cursor.is_some(), "it had something");
    let (rest, ending) = soon(at.events(&id, &client).await.body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    client.take(&rest);
    assert_eq!(client.check(&words), Ok(()));
    at.metric_is("lastword_readers", 0).await;
}

/// Reads until all of `words` has come; gives back the connection.
async fn read_words(at: At, id: &str, client: &mut Client, words: usize) -> crate::common::Body {
    let mut body = at.events(id, client).await.body;
    let (mut bytes, have) = (Vec::new(), client.events.len());
    let last = format!("\nid: {}\n\n", words + 3); // behind begin, attempt and the start of the part
    while !bytes.ends_with(last.as_bytes()) {
        bytes.extend(soon(body.next()).await.expect("no end yet"));
    }
    client.take(&bytes);
    assert!(client.events.len() > have);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_write_deadline_cuts_off_has_not_left() {
    let gateway = TestGateway::with("[server]\nwrite_timeout = \"200ms\"\n").await;
    let at = gateway.at();
    // All is said at once, then the upstream stalls: the stream runs on until somebody stops it.
    let options =
        json!({ "text": word(), "repeat": 4000, "delay": "0ms", "fault": { "kind": "stall", "after": 4000 } });
    let id = at.say(options, json!({ "on_disconnect": "cancel" })).await;
    let stuck = Stuck::new(at.0, &id).await;
    stuck.is_reset().await;
    at.metric_is("lastword_readers", 0).await;
    let mut client = Client::default();
    client.take(&stuck.rest().await.0);
    let reading = read_words(at, &id, &mut client, 4000).await;
    assert_eq!(at.state(&id).await["status"], "running", "nobody has left");
    // But who came back can leave.
    drop(reading);
    let state = at.state_when(&id, |state| state["status"] != "running").await;
    assert_eq!(state["status"], "cancelled");
    let (rest, ending) = soon(at.events(&id, &client).await.body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    client.take(&rest);
    assert_eq!(client.check(&word().repeat(4000)), Ok(()));
}

/// Memory of a process that belongs to it alone, in bytes.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a kernel that says it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Waits until it does not grow any more.
async fn settled(at: At, process: u32) -> u64 {
    let settling = async {
        let (mut most, mut same) = (0, 0);
        while same < 50 {
            // The answer to a question is the time between two looks.
            at.metric("lastword_readers").await;
            let now = memory(process);
            same = if now > most { 0 } else { same + 1 };
            most = most.max(now);
        }
        most
    };
    soon(settling).await
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reader_costs_at_most_64_kb() {
    const STUCK: u64 = 300;
    let full = env::var("LASTWORD_TEST").is_ok_and(|test| test == "full");
    let lastword = Process::start("127.0.0.1:0", &[("LASTWORD_SERVER__WRITE_TIMEOUT", "5m")]).await;
    let (at, process) = (At(lastword.address()), lastword.id());
    let words = word().repeat(4000);
    let id = at.say(json!({ "text": word(), "repeat": 4000, "delay": "0ms" }), json!({})).await;
    // Once before, so that what is only needed once is there.
    assert_eq!(read_all(at, &id).await.check(&words), Ok(()));
    let before = settled(at, process).await;

    let began = Instant::now();
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        stuck.push(Stuck::new(at.0, &id).await);
    }
    at.metric_is("lastword_readers", STUCK).await;
    // Another one reads on beside them.
    assert_eq!(read_all(at, &id).await.check(&words), Ok(()));
    if full {
        tokio::time::sleep_until(began + Duration::from_secs(60)).await;
    }
    let each = settled(at, process).await.saturating_sub(before) / STUCK;
    eprintln!("a stuck reader costs {each} bytes");
    assert!(each <= 64 * 1024, "{each} bytes");
    assert_eq!(at.metric("lastword_readers").await, STUCK, "they are all there still");
    let (bytes, _) = soon(async {
        let mut first = stuck.remove(0);
        let mut bytes = vec![0; 20_000];
        first.0.read_exact(&mut bytes).await.expect("as much as it likes");
        (bytes, first)
    })
    .await;
    assert!(sse::read(&bytes).events.len() > 10);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn readers_who_are_stuck_at_what_is_told_in_one_piece_hold_no_copy_of_it() {
    const STUCK: u64 = 20;
    let lastword = Process::start("127.0.0.1:0", &[("LASTWORD_SERVER__WRITE_TIMEOUT", "5m")]).await;
    let (at, process) = (At(lastword.address()), lastword.id());
    let id = at.say(json!({ "text": word(), "repeat": 4000, "delay": "0ms" }), json!({})).await;
    read_all(at, &id).await;
    let path = format!("/v1/streams/{id}/events?snapshot=true");
    // The first has it made, for all.
    let mut stuck = vec![Stuck::at(at.0, &path).await];
    let before = settled(at, process).await;
    while stuck.len() <= STUCK as usize {
        stuck.push(Stuck::at(at.0, &path).await);
    }
    at.metric_is("lastword_readers", STUCK + 1).await;
    let each = settled(at, process).await.saturating_sub(before) / STUCK;
    eprintln!("a reader who is stuck within 4 MB costs {each} bytes");
    assert!(each <= 128 * 1024, "{each} bytes");
}

/// Streams of a few HTTP/2 connections whose readers give no room, as long as this is held.
struct StuckStreams {
    bodies: Vec<h2::RecvStream>,
    connections: JoinSet<()>,
}

impl StuckStreams {
    async fn new(address: SocketAddr, id: &str, connections: usize, each: usize) -> Self {
        let mut stuck = Self { bodies: Vec::new(), connections: JoinSet::new() };
        for _ in 0..connections {
            let socket = soon(TcpStream::connect(address)).await.expect("a connection");
            let mut builder = h2::client::Builder::new();
            // So much that it is each stream's own window that is full.
            builder.initial_connection_window_size(1 << 30);
            let (mut client, connection) = soon(builder.handshake::<_, bytes::Bytes>(socket)).await.expect("HTTP/2");
            stuck.connections.spawn(async move { _ = connection.await });
            for _ in 0..each {
                client = soon(client.ready()).await.expect("room");
                let get = axum::http::Request::get(format!("http://localhost/v1/streams/{id}/events"));
                let (response, _) = client.send_request(get.body(()).expect("a request"), true).expect("sent");
                stuck.bodies.push(soon(response).await.expect("an answer").into_body());
            }
        }
        stuck
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_stream_costs_at_most_64_kb() {
    let (connections, each) =
        if env::var("LASTWORD_TEST").is_ok_and(|test| test == "full") { (4, 250) } else { (2, 100) };
    let lastword = Process::start("127.0.0.1:0", &[("LASTWORD_SERVER__WRITE_TIMEOUT", "5m")]).await;
    let (at, process) = (At(lastword.address()), lastword.id());
    let words = word().repeat(4000);
    let id = at.say(json!({ "text": word(), "repeat": 4000, "delay": "0ms" }), json!({})).await;
    assert_eq!(read_all(at, &id).await.check(&words), Ok(()));
    let before = settled(at, process).await;
    let stuck = StuckStreams::new(at.0, &id, connections, each).await;
    let count = stuck.bodies.len() as u64;
    at.metric_is("lastword_readers", count).await;
    assert_eq!(read_all(at, &id).await.check(&words), Ok(()), "another one reads on beside them");
    let each = settled(at, process).await.saturating_sub(before) / count;
    eprintln!("a stuck stream costs {each} bytes");
    assert!(each <= 64 * 1024, "{each} bytes");
    assert_eq!(at.metric("lastword_readers").await, count, "they are all there still");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_nothing_is_gone_at_the_deadline() {
    let full = env::var("LASTWORD_TEST").is_ok_and(|test| test == "full");
    let (sockets, connections, each) = if full { (1000, 4, 250) } else { (100, 2, 50) };
    let gateway = TestGateway::with("[server]\nwrite_timeout = \"500ms\"").await;
    let at = gateway.at();
    let id = at.say(json!({ "text": word(), "repeat": 4000, "delay": "0ms" }), json!({})).await;
    let mut stuck = Vec::new();
    for _ in 0..sockets {
        stuck.push(Stuck::new(at.0, &id).await);
    }
    let mut streams = StuckStreams::new(at.0, &id, connections, each).await;
    let since = Instant::now();
    at.metric_is("lastword_readers", 0).await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    for reader in stuck.iter().take(20) {
        reader.is_reset().await;
    }
    for body in streams.bodies.iter_mut().take(20) {
        let ended = soon(async {
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    other => break other,
                }
            }
        })
        .await;
        assert!(matches!(ended, Some(Err(_))), "reset, and not as if it were whole");
    }
    assert_eq!(read_all(at, &id).await.check(&word().repeat(4000)), Ok(()));
}
