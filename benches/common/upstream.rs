//! An upstream that answers at once: Chat Completions over raw HTTP/1.1, one chunk a token.
//!
//! How it answers is said by the model's name, so it can be asked through anything: `200x1-20000` is 200 tokens, one a write,
//! a write every 20,000 µs. A token's text is `@` and the time it was written, in microseconds since [`now`] began.

use std::{
    io::Write,
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::chunk::chunk;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep_until,
};

/// Microseconds since this was first called in this process.
pub(crate) fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_micros().try_into().unwrap_or(u64::MAX)
}

/// The body of a request for this answer; `prefix` is the name of the backend and `/`, or nothing.
pub(crate) fn ask(prefix: &str, tokens: usize, together: usize, every: Duration) -> String {
    let micros = every.as_micros();
    format!(
        r#"{{"model":"{prefix}{tokens}x{together}-{micros}","messages":[{{"role":"user","content":"hi"}}],"stream":true}}"#
    )
}

/// The same in lastword's native protocol.
pub(crate) fn ask_native(tokens: usize, together: usize, every: Duration) -> String {
    let micros = every.as_micros();
    format!(r#"{{"prompt":"hi","model":"up/{tokens}x{together}-{micros}"}}"#)
}

/// Listens on a free port, for as long as the runtime lives.
pub(crate) async fn start() -> SocketAddr {
    now();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

async fn serve(mut socket: TcpStream) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut request = Vec::new();
    loop {
        let body = loop {
            if let Some(body) = whole(&request) {
                break body;
            }
            if socket.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        };
        let (tokens, together, every) = pace(body)?;
        request.clear();
        answer(&mut socket, tokens, together, every).await.ok()?;
    }
}

/// The body, when all of it is here.
fn whole(request: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let length: usize = head.split_once("content-length: ")?.1.lines().next()?.trim().parse().ok()?;
    (body.len() == length).then_some(body)
}

fn pace(body: &str) -> Option<(usize, usize, Duration)> {
    let (model, _) = body.split_once(r#""model":""#)?.1.split_once('"')?;
    let (tokens, rest) = model.split_once('x')?;
    let (together, micros) = rest.split_once('-')?;
    Some((tokens.parse().ok()?, together.parse().ok()?, Duration::from_micros(micros.parse().ok()?)))
}

async fn answer(socket: &mut TcpStream, tokens: usize, together: usize, every: Duration) -> std::io::Result<()> {
    let mut out = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    socket.write_all(&out).await?;
    out.clear();
    // Each answer has a phase of its own, so that many of them do not write at the same moment.
    let mut next = tokio::time::Instant::now() + every.mul_f32(fastrand::f32());
    for token in 0..tokens {
        if token % together == 0 {
            socket.write_all(&out).await?;
            out.clear();
            if !every.is_zero() {
                sleep_until(next).await;
                next += every;
            }
        }
        put(&mut out, &chunk(&format!("@{}", now())));
    }
    put(
        &mut out,
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    );
    put(&mut out, "[DONE]");
    out.extend_from_slice(b"0\r\n\r\n");
    socket.write_all(&out).await
}

fn put(out: &mut Vec<u8>, data: &str) {
    write!(out, "{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8).expect("memory takes all");
}
