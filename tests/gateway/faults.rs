//! What becomes of an answer when its upstream fails: each way in which one can, in each protocol that upstreams speak, beside what the
//! documentation says of it. `docs/faults.md` is written by this test, with REWRITE_DOCS=1 in the environment.

use std::{env, fmt::Write, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

use crate::common::{At, TestGateway, soon};

/// A protocol that upstreams speak: the kind of its backends, the events that say "Hello" and go on, and its error in mid-answer.
struct Spoken {
    protocol: &'static str,
    kind: &'static str,
    hello: &'static [&'static str],
    error: &'static str,
}

const SPOKEN: [Spoken; 2] = [
    Spoken {
        protocol: "chat",
        kind: "openai",
        hello: &[r#"{"choices":[{"index":0,"delta":{"content":"Hello"}}]}"#],
        error: r#"{"error":{"message":"Overloaded","type":"server_error","code":null}}"#,
    },
    Spoken {
        protocol: "responses",
        kind: "responses",
        hello: &[
            r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"msg_1","type":"message","content":[]}}"#,
            r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hello"}"#,
        ],
        error: r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"Overloaded"}}}"#,
    },
];

/// What an upstream does on each connection, once it was asked.
enum Fault {
    /// Nobody listens.
    NoConnection,
    /// It writes this and closes.
    Says(Vec<u8>),
    /// It writes this, and when that was heard it resets the connection.
    Resets(Vec<u8>),
    /// It writes this and nothing more.
    Stalls(Vec<u8>),
}

/// Each with its name in the documentation.
fn faults(spoken: &Spoken) -> Vec<(&'static str, Fault)> {
    use Fault::{NoConnection, Resets, Says, Stalls};
    let status = |line: &str, headers: &str, body: &str| {
        let length = body.len();
        Says(format!("HTTP/1.1 {line}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}").into())
    };
    let error = r#"{"error":{"message":"No.","type":"some_error","code":null}}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let hello: String = spoken.hello.iter().map(|data| event(data)).collect();
    let said = format!("{head}{hello}");
    let behind = |more: &str| format!("{said}{more}").into_bytes();
    let half = &hello.trim_end()[..hello.trim_end().len() - 4];
    vec![
        ("nobody listens", NoConnection),
        ("the connection is closed before an answer", Says(Vec::new())),
        ("silence before an answer", Stalls(Vec::new())),
        ("400", status("400 Bad Request", "", error)),
        ("401", status("401 Unauthorized", "", error)),
        ("429 with `retry-after: 7`", status("429 Too Many Requests", "retry-after: 7\r\n", error)),
        ("500", status("500 Internal Server Error", "", error)),
        ("a redirect", status("307 Temporary Redirect", "location: /elsewhere\r\n", "")),
        ("an answer of JSON", status("200 OK", "content-type: application/json\r\n", r#"{"object":"x"}"#)),
        ("a clean end before the first word", Says(head.into())),
        ("a clean end in mid-answer", Says(behind(""))),
        ("the end in mid-event", Says(behind(half))),
        ("a reset in mid-answer", Resets(behind(""))),
        ("silence in mid-answer", Stalls(behind(""))),
        ("an error in mid-answer", Says(behind(&event(spoken.error)))),
        ("rubbish in mid-answer", Says(behind("data: rubbish\n\n"))),
        ("a line of 10 MiB in mid-answer", Says(behind(&format!("data: {}", "x".repeat(10 << 20))))),
    ]
}

/// An event as its server sends it.
fn event(data: &str) -> String {
    let json: Value = serde_json::from_str(data).expect("JSON");
    let name = json["type"].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
    format!("{name}data: {data}\n\n")
}

/// An upstream with one fault.
struct Upstream {
    address: SocketAddr,
    heard: Arc<Notify>,
    serving: Option<JoinHandle<()>>,
    /// Nobody else is to have the port at which nobody listens.
    _reserved: Option<TcpSocket>,
}

impl Upstream {
    async fn with(fault: Fault) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = socket.local_addr().expect("an address");
        let heard = Arc::new(Notify::new());
        let (bytes, resets, stalls) = match fault {
            Fault::NoConnection => return Self { address, heard, serving: None, _reserved: Some(socket) },
            Fault::Says(bytes) => (bytes, false, false),
            Fault::Resets(bytes) => (bytes, true, false),
            Fault::Stalls(bytes) => (bytes, false, true),
        };
        let listener = socket.listen(16).expect("a listener");
        let waits = heard.clone();
        let serving = tokio::spawn(async move {
            let mut stalled = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                read_request(&mut socket).await;
                let _ = socket.write_all(&bytes).await; // who has heard enough closes
                if resets {
                    waits.notified().await;
                    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a socket");
                }
                if stalls {
                    stalled.push(socket);
                }
            }
        });
        Self { address, heard, serving: Some(serving), _reserved: None }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

async fn read_request(socket: &mut TcpStream) {
    let mut request = Vec::new();
    loop {
        socket.read_buf(&mut request).await.expect("a request");
        let text = String::from_utf8_lossy(&request);
        let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
        if serde_json::from_str::<Value>(body).is_ok() {
            return;
        }
    }
}

/// What comes of it: the cells of a row of the table.
async fn outcome(spoken: &Spoken, fault: Fault) -> [String; 7] {
    let resets = matches!(fault, Fault::Resets(_));
    // Only who falls silent is waited for no longer than need be: all else takes as long as the machine is busy.
    let clocks = match &fault {
        Fault::Stalls(said) if said.is_empty() => r#"{ head = "100ms" }"#,
        Fault::Stalls(_) => r#"{ silence = "100ms" }"#,
        _ => "{}",
    };
    let upstream = Upstream::with(fault).await;
    let (kind, url) = (spoken.kind, format!("http://{}/v1", upstream.address));
    let config = format!("[backends.up]\nkind = \"{kind}\"\nbase_url = \"{url}\"\ntimeouts = {clocks}");
    let gateway = TestGateway::with(&config).await;
    let at = gateway.at();
    let heard = async || {
        if resets {
            hello_of_the_newest(at).await;
            upstream.heard.notify_one();
        }
    };
    let id = gateway.create(&json!({ "prompt": "Hi", "model": "up/m" })).await;
    heard().await;
    let state = at.state_when(&id, |state| state["status"] != "running").await;

    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "model": "up/m" }).to_string();
    let whole = tokio::spawn(async move { at.send("POST", "/v1/chat/completions", &[], &body).await.status });
    if resets {
        soon(async { while newest(at).await == id {} }).await;
    }
    heard().await;
    let whole = soon(whole).await.expect("a status");

    let error = &state["error"];
    let word = |value: &Value| match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    };
    let retryable = if error["retryable"] == true { "yes" } else { "no" };
    let after = error["retry_after"].as_u64().map_or("–".to_owned(), |ms| format!("{} s", ms / 1000));
    let kept = if state["text"] == "Hello" { "yes" } else { "–" };
    assert!(kept == "yes" || state["text"] == "", "{state}");
    let status = state["status"].as_str().expect("a status").to_owned();
    [
        status,
        word(&error["code"]),
        word(&error["upstream_status"]),
        retryable.to_owned(),
        after,
        kept.to_owned(),
        whole.to_string(),
    ]
}

async fn newest(at: At) -> Value {
    let list = at.get("/v1/streams?limit=1", &[]).await.json().await;
    list["streams"][0]["id"].clone()
}

/// Waits until the newest answer has its word.
async fn hello_of_the_newest(at: At) {
    let id = newest(at).await;
    at.state_when(id.as_str().expect("an id"), |state| state["text"] == "Hello").await;
}

/// Protocols in which the same comes of a fault share a row.
async fn table() -> String {
    let names: Vec<_> = faults(&SPOKEN[0]).into_iter().map(|(name, _)| name).collect();
    let mut table = INTRODUCTION.to_owned();
    for (n, name) in names.into_iter().enumerate() {
        let mut rows: Vec<([String; 7], Vec<&str>)> = Vec::new();
        for spoken in &SPOKEN {
            let (_, fault) = faults(spoken).swap_remove(n);
            let cells = outcome(spoken, fault).await;
            match rows.iter_mut().find(|(known, _)| *known == cells) {
                Some((_, protocols)) => protocols.push(spoken.protocol),
                None => rows.push((cells, vec![spoken.protocol])),
            }
        }
        for (cells, protocols) in rows {
            let protocols = if protocols.len() == SPOKEN.len() { "any".to_owned() } else { protocols.join(", ") };
            writeln!(table, "| {name} | {protocols} | {} |", cells.join(" | ")).expect("a text");
        }
    }
    table
}

const INTRODUCTION: &str = "\
# What becomes of an upstream's faults

Whatever an upstream does, the answer ends once, says why, and keeps what was said before. This table is written by the test
that tries each of these faults with each protocol an upstream may speak (`tests/gateway/faults.rs`).

- *status*, *code*, *upstream*, *again*, *after*: the `status` of the stream, and of its `error` the `code`, the `upstream_status`,
  whether it is `retryable`, and `retry_after`
- *kept*: the words that came before the fault are in the log, and every reader has them
- *HTTP*: what a client of Chat Completions gets that waits for the whole answer. One that streams gets the same where nothing was
  said yet; else 200, and the error among the chunks

| fault | upstream speaks | status | code | upstream | again | after | kept | HTTP |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_an_upstream_ends_as_the_documentation_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let seen = table().await;
    if env::var_os("REWRITE_DOCS").is_some() {
        fs::write(&path, &seen).expect("written");
    }
    let told = fs::read_to_string(&path).unwrap_or_default();
    let mut difference = String::new();
    for line in told.lines().filter(|line| !seen.lines().any(|seen| seen == *line)) {
        writeln!(difference, "- {line}").expect("a text");
    }
    for line in seen.lines().filter(|line| !told.lines().any(|told| told == *line)) {
        writeln!(difference, "+ {line}").expect("a text");
    }
    assert!(seen == told, "docs/faults.md says otherwise (REWRITE_DOCS=1 rewrites it):\n{difference}");
}
