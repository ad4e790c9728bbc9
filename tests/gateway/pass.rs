//! What is handed on to an upstream as it is: where to, what of it, and how it ends.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use crate::common::{Ending, Response, TestGateway, http, soon};

const PASS: &str = r#"pass_through = ["embeddings", "moderations", "audio/*", "files/*"]"#;
/// More than all buffers on the way can hold.
const LOTS: usize = 64 << 20;

/// An upstream that shows what it was asked, and answers with these bytes. Each connection takes one request.
struct Up {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Up {
    async fn says(answer: impl Into<Vec<u8>>) -> Self {
        let (listener, answer) = (listen().await, answer.into());
        let (address, asked) = (listener.local_addr().expect("bound"), Arc::default());
        let all: Arc<Mutex<Vec<Vec<u8>>>> = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let request = read_request(&mut socket).await;
                all.lock().expect("whole").push(request);
                let _ = socket.write_all(&answer).await;
            }
        });
        Self { address, asked, task }
    }

    /// The head and the body of the last request.
    fn asked(&self) -> (String, Vec<u8>) {
        let asked = self.asked.lock().expect("whole");
        let last = asked.last().expect("it was asked");
        let end = last.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        (String::from_utf8_lossy(&last[..end]).into_owned(), last[end..].to_vec())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

/// A head, and a body of an announced length or in chunks (those as they stand on the wire).
async fn read_request(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let length =
                text.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse::<usize>().ok());
            let whole = match length {
                Some(length) => bytes.len() >= end + 4 + length,
                None => !text.contains("transfer-encoding: chunked") || bytes.ends_with(b"0\r\n\r\n"),
            };
            if whole {
                return bytes;
            }
        }
        if socket.read_buf(&mut bytes).await.expect("a request") == 0 {
            return bytes;
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

fn backend(name: &str, address: SocketAddr, more: &str) -> String {
    format!("[backends.{name}]\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"\n{more}\n")
}

async fn gateway(up: SocketAddr) -> TestGateway {
    TestGateway::with(&backend("up", up, &format!("api_key = \"sk-operator\"\n{PASS}"))).await
}

async fn error(response: Response, status: u16, code: &str) -> Value {
    let got = response.status;
    let body = response.json().await;
    assert_eq!((got, &body["error"]["code"]), (status, &json!(code)), "{body}");
    body["error"].clone()
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_called_by_its_name_there_and_all_else_is_kept_to_the_letter() {
    let up = Up::says(answer(
        "201 Made",
        "content-type: application/json\r\nx-request-id: req_9\r\nx-ratelimit-limit-tokens: 7\r\nretry-after: 3\r\n",
        "{\"a\":1.0}",
    ))
    .await;
    let gateway = gateway(up.address).await;
    let body = r#"{ "input":[1.10,"é"],"model" : "up/vendor/e","z":null}"#;
    let response = gateway.send("POST", "/v1/embeddings?x=1&y=%20", &[JSON], body).await;
    assert_eq!(response.status, 201);
    for (name, value) in [
        ("x-request-id", "req_9"),
        ("x-ratelimit-limit-tokens", "7"),
        ("retry-after", "3"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    assert_eq!(response.header("x-stream-id"), None);
    assert_eq!(response.text().await, "{\"a\":1.0}");
    let (head, sent) = up.asked();
    assert!(head.starts_with("POST /v1/embeddings?x=1&y=%20 HTTP/1.1\r\n"), "{head}");
    assert_eq!(String::from_utf8_lossy(&sent), r#"{ "input":[1.10,"é"],"model" : "vendor/e","z":null}"#);
    assert_eq!(gateway.get("/v1/streams", &[]).await.json().await["streams"], json!([]), "nothing is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_credentials_go_along_and_the_clients_do_not() {
    let up =
        Up::says(answer("200 OK", "set-cookie: session=1\r\nopenai-organization: org-secret\r\nalt-svc: h3\r\n", "ok"))
            .await;
    let gateway = gateway(up.address).await;
    let headers = [
        ("authorization", "Bearer theirs"),
        ("x-api-key", "theirs"),
        ("api-key", "theirs"),
        ("cookie", "a=theirs"),
        ("openai-organization", "theirs"),
        ("openai-project", "theirs"),
        ("x-forwarded-for", "theirs"),
        ("x-lastword-backend", "up"),
        ("openai-beta", "assistants=v2"),
        ("x-stainless-lang", "js"),
    ];
    let response = gateway.get("/v1/files/file-1/content", &headers).await;
    for name in ["set-cookie", "openai-organization", "alt-svc"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.text().await, "ok");
    let (head, body) = up.asked();
    assert!(!head.contains("theirs") && !head.contains("x-lastword"), "{head}");
    assert!(head.contains("authorization: Bearer sk-operator\r\n"), "{head}");
    assert!(head.contains("openai-beta: assistants=v2\r\n") && head.contains("x-stainless-lang: js\r\n"), "{head}");
    assert!(body.is_empty() && !head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_not_there_and_says_how_to_allow_it() {
    let up = Up::says(answer("200 OK", "", "never")).await;
    let config = backend("up", up.address, PASS) + &backend("bare", up.address, "");
    let gateway = TestGateway::with(&config).await;
    let told = error(gateway.get("/v1/batches/b-1", &[]).await, 404, "not_found").await;
    assert!(told["message"].as_str().is_some_and(|words| words.contains("pass_through = [\"batches/*\"]")), "{told}");
    let body = r#"{"model":"bare/m","input":"x"}"#;
    let told = error(gateway.send("POST", "/v1/embeddings", &[JSON], body).await, 404, "not_found").await;
    assert!(told["message"].as_str().is_some_and(|words| words.contains("[backends.bare]")), "{told}");
    let told = error(gateway.get("/v1/files", &[("x-lastword-backend", "bare")]).await, 404, "not_found").await;
    assert!(told["message"].as_str().is_some_and(|words| words.contains("`bare`")), "{told}");
    for path in
        ["files/../embeddings", "files/%2e%2e/x", "files/..%2fx", "files/%252e%252e/x", "/embeddings", "embeddings/x"]
    {
        assert_eq!(gateway.get(&format!("/v1/{path}"), &[]).await.status, 404, "{path}");
    }
    let anthropic = [("anthropic-version", "2023-06-01")];
    let response = gateway.get("/v1/batches", &anthropic).await;
    assert_eq!((response.status, response.json().await["error"]["type"].clone()), (404, json!("not_found_error")));
    assert_eq!(gateway.get("/v1/streams/a/b", &[]).await.json().await["code"], "not_found", "never the native API's");
    assert!(up.asked.lock().expect("whole").is_empty(), "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_backends_the_request_names_one() {
    let (one, other) = (Up::says(answer("200 OK", "", "one")).await, Up::says(answer("200 OK", "", "other")).await);
    let config = backend("one", one.address, PASS)
        + &backend("other", other.address, PASS)
        + "[models.both]\nroute = [\"one/a\", \"other/b\"]\n[models.\"e-*\"]\nroute = [\"other/v/*\"]\n";
    let gateway = TestGateway::with(&config).await;
    let told = error(gateway.get("/v1/files", &[]).await, 400, "which_backend").await;
    assert_eq!(told["param"], "x-lastword-backend");
    assert!(told["message"].as_str().is_some_and(|words| words.contains("`one`, `other`")), "{told}");
    let named = ("x-lastword-backend", "other");
    assert_eq!(gateway.get("/v1/files", &[named]).await.text().await, "other");
    error(gateway.get("/v1/files", &[("x-lastword-backend", "othr")]).await, 400, "unknown_backend").await;
    for (model, headers, who, there) in [
        ("both", &[JSON][..], "one", "a"),
        ("both", &[JSON, named], "other", "b"),
        ("e-5", &[JSON], "other", "v/e-5"),
        ("other/x/y", &[JSON], "other", "x/y"),
        ("its-own", &[JSON, named], "other", "its-own"),
        ("both", &[("content-type", "application/vnd.x+json; charset=utf-8")], "one", "a"),
        ("both", &[], "one", "a"),
    ] {
        let body = json!({ "model": model }).to_string();
        assert_eq!(gateway.send("POST", "/v1/embeddings", headers, &body).await.text().await, who, "{model}");
        let (_, sent) = if who == "one" { one.asked() } else { other.asked() };
        assert_eq!(serde_json::from_slice::<Value>(&sent).expect("JSON")["model"], there);
    }
    let unknown = gateway.send("POST", "/v1/embeddings", &[JSON], r#"{"model":"nobody"}"#).await;
    error(unknown, 404, "model_not_found").await;
    for body in ["{\"input\":1}", "not JSON", r#"{"model":7}"#] {
        error(gateway.send("POST", "/v1/moderations", &[JSON], body).await, 400, "which_backend").await;
        gateway.send("POST", "/v1/moderations", &[JSON, named], body).await.text().await;
        assert_eq!(other.asked().1, body.as_bytes(), "to the letter");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_goes_through_to_the_byte() {
    let up = Up::says(answer("200 OK", "", "taken")).await;
    let gateway = gateway(up.address).await;
    let form = b"--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nup/w\r\n--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\0\xff\r\n--x--\r\n";
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    let response =
        soon(http::raw(gateway.address(), &[head.as_bytes(), form].concat(), false)).await.expect("a response");
    assert_eq!(response.text().await, "taken");
    let (head, body) = up.asked();
    assert_eq!(body, form);
    assert!(head.contains("content-type: multipart/form-data; boundary=x\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", form.len())), "{head}");
    let chunked = "DELETE /v1/files/f%20x HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let response = soon(http::raw(gateway.address(), chunked.as_bytes(), false)).await.expect("a response");
    assert_eq!(response.text().await, "taken");
    let (head, body) = up.asked();
    assert!(head.starts_with("DELETE /v1/files/f%20x HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, b"3\r\nabc\r\n0\r\n\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_one_by_one_and_an_error_as_the_upstream_says_it() {
    let listener = listen().await;
    let gateway = gateway(listener.local_addr().expect("bound")).await;
    let next = Arc::new(Notify::new());
    let told = next.clone();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        read_request(&mut socket).await;
        let head = "HTTP/1.1 429 Slow\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).await.expect("written");
        for n in 0..3 {
            socket.write_all(format!("data: {n}\n\n").as_bytes()).await.expect("written");
            told.notified().await;
        }
    });
    let mut response = gateway.get("/v1/audio/speech", &[]).await;
    assert_eq!((response.status, response.header("content-type")), (429, Some("text/event-stream")));
    for n in 0..3 {
        assert_eq!(soon(response.body.next()).await.expect("an event"), format!("data: {n}\n\n").as_bytes());
        next.notify_one();
    }
    assert_eq!(soon(response.body.next()).await, Err(Ending::Clean));
    serving.await.expect("ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_never_a_clean_end() {
    for head in ["transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "content-length: 9\r\n\r\nhello"] {
        let up = Up::says(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        let gateway = gateway(up.address).await;
        let response = gateway.get("/v1/files/x", &[]).await;
        assert_eq!(response.status, 200);
        let (_, ending) = soon(response.body.rest()).await;
        assert_eq!(ending, Ending::Reset, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_be_asked_is_a_502_and_one_that_is_silent_a_504() {
    let gone = listen().await.local_addr().expect("bound");
    let silent = listen().await;
    let config = backend("gone", gone, PASS)
        + &backend("silent", silent.local_addr().expect("bound"), &format!("{PASS}\ntimeouts = {{ head = \"50ms\" }}"));
    let gateway = TestGateway::with(&config).await;
    let to = |name| [("x-lastword-backend", name)];
    let told = error(gateway.get("/v1/files", &to("gone")).await, 502, "upstream_unreachable").await;
    assert!(!told.to_string().contains(&gone.to_string()), "{told}");
    let told = error(gateway.get("/v1/files", &to("silent")).await, 504, "upstream_timeout").await;
    assert!(told["message"].as_str().is_some_and(|words| words.contains("`head`")), "{told}");
    let closes = Up::says("").await;
    let gateway = self::gateway(closes.address).await;
    error(gateway.get("/v1/files", &[]).await, 502, "upstream_truncated").await;
    gateway.server().gateway().refuse_new();
    error(gateway.get("/v1/files", &[]).await, 503, "draining").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_is_not_waited_for_by_the_upstream() {
    let listener = listen().await;
    let gateway = gateway(listener.local_addr().expect("bound")).await;
    for begun in [false, true] {
        let at = gateway.at();
        let asking = tokio::spawn(async move {
            let _response = at.get("/v1/files", &[]).await;
            pending::<()>().await;
        });
        let (mut socket, _) = soon(listener.accept()).await.expect("a connection");
        soon(read_request(&mut socket)).await;
        if begun {
            socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello").await.expect("written");
        }
        asking.abort();
        let _ = asking.await;
        let left = soon(socket.read(&mut [0; 64])).await;
        assert!(matches!(left, Ok(0) | Err(_)), "{left:?}");
    }
}

/// How much could be written before the other side was taken no more, in a socket that nobody reads at its other end.
async fn fills(socket: &mut TcpStream) -> usize {
    let (piece, mut written) = (vec![b'x'; 64 * 1024], 0);
    while written < LOTS
        && let Ok(n) = timeout(Duration::from_millis(500), socket.write(&piece)).await
    {
        written += n.expect("an open socket");
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_never_held_whole() {
    let listener = listen().await;
    let gateway = gateway(listener.local_addr().expect("bound")).await;
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\ncontent-length: {LOTS}\r\n\r\n"
    );
    let mut client = TcpStream::connect(gateway.address()).await.expect("it listens");
    client.write_all(head.as_bytes()).await.expect("written");
    let (mut up, _) = soon(listener.accept()).await.expect("a connection");
    let up_there = fills(&mut client).await;
    assert!(up_there < LOTS / 2, "an upstream that reads nothing was sent {up_there} bytes");
    // It reads all the same, when it does; and what it answers waits for who takes it.
    let reading = tokio::spawn(async move {
        let (mut read, mut buffer) = (0, vec![0; 256 * 1024]);
        while read < LOTS {
            read += up.read(&mut buffer).await.expect("bytes");
        }
        up
    });
    client.write_all(&vec![b'x'; LOTS - up_there]).await.expect("written");
    let mut up = soon(reading).await.expect("ran");
    up.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\n").await.expect("written");
    let down_here = fills(&mut up).await;
    assert!(down_here < LOTS / 2, "a client that reads nothing was sent {down_here} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_bound_is_refused_whichever_way_it_comes() {
    let up = Up::says(answer("200 OK", "", "taken")).await;
    let limits = "[server]\nmax_body = \"1KiB\"\nmax_upload = \"2KiB\"\nbody_timeout = \"100ms\"\n";
    let gateway = TestGateway::with(&(limits.to_owned() + &backend("up", up.address, PASS))).await;
    let json = json!({ "model": "up/m", "input": "x".repeat(1100) }).to_string();
    let told = error(gateway.send("POST", "/v1/embeddings", &[JSON], &json).await, 413, "body_too_large").await;
    assert!(told["message"].as_str().is_some_and(|words| words.contains("max_body")), "{told}");
    let bytes = ("content-type", "application/octet-stream");
    assert_eq!(gateway.send("POST", "/v1/files", &[bytes], &"x".repeat(2000)).await.text().await, "taken");
    let told = error(gateway.send("POST", "/v1/files", &[bytes], &"x".repeat(2100)).await, 413, "body_too_large").await;
    assert!(told["message"].as_str().is_some_and(|words| words.contains("max_upload")), "{told}");
    let start = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: x/y\r\ntransfer-encoding: chunked\r\n\r\n";
    let long = format!("{start}{:x}\r\n{}\r\n0\r\n\r\n", 2100, "x".repeat(2100));
    error(soon(http::raw(gateway.address(), long.as_bytes(), false)).await.expect("a response"), 413, "body_too_large")
        .await;
    let stalled = format!("{start}3\r\nabc\r\n");
    let response = soon(http::raw(gateway.address(), stalled.as_bytes(), false)).await.expect("a response");
    error(response, 408, "body_timeout").await;
}

/// The `head` clock is for the upstream: a body that is still coming does not use it up.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_does_not_use_up_the_upstreams_time() {
    let up = Up::says(answer("200 OK", "", "taken")).await;
    let config = backend("up", up.address, &format!("{PASS}\ntimeouts = {{ head = \"400ms\" }}"));
    let gateway = TestGateway::with(&config).await;
    let mut client = TcpStream::connect(gateway.address()).await.expect("it listens");
    let head = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: x/y\r\nconnection: close\r\ncontent-length: 8\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("written");
    let count = AtomicUsize::new(0);
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    while count.fetch_add(1, Ordering::Relaxed) < 8 {
        beat.tick().await;
        client.write_all(b"x").await.expect("written");
    }
    let mut all = String::new();
    soon(client.read_to_string(&mut all)).await.expect("text");
    assert!(all.ends_with("taken"), "{all}");
}
