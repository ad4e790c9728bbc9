//! An upstream that answers at once, over raw HTTP/1.1, one event a token: in Chat Completions, Responses or Messages, by the path.
//!
//! How it answers is said by the model's name, so it can be asked through anything: `200x1-20000` is 200 tokens, one a write,
//! a write every 20,000 µs. A token's text is `@` and the time it was written, in microseconds since [`now`] began.

use std::{
    io::Write,
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

#[path = "answer.rs"]
mod answer;

use answer::Answer;
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

/// The name of the model that answers so.
pub(crate) fn model(tokens: usize, together: usize, every: Duration) -> String {
    format!("{tokens}x{together}-{}", every.as_micros())
}

/// The body of a request for this answer; `prefix` is the name of the backend and `/`, or nothing.
pub(crate) fn ask(prefix: &str, tokens: usize, together: usize, every: Duration) -> String {
    let model = model(tokens, together, every);
    format!(r#"{{"model":"{prefix}{model}","messages":[{{"role":"user","content":"hi"}}],"stream":true}}"#)
}

/// The same in lastword's native protocol.
pub(crate) fn ask_native(prefix: &str, tokens: usize, together: usize, every: Duration) -> String {
    format!(r#"{{"prompt":"hi","model":"{prefix}{}"}}"#, model(tokens, together, every))
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
        let (path, body) = loop {
            if let Some(whole) = whole(&request) {
                break whole;
            }
            if socket.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        };
        let (pace, answer) = (Pace::of(body)?, Answer::at(path));
        request.clear();
        say(&mut socket, answer, pace).await.ok()?;
    }
}

/// The path and the body, when all of it is here.
fn whole(request: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let path = head.split(' ').nth(1)?;
    let head = head.to_ascii_lowercase();
    let length: usize = head.split_once("content-length: ")?.1.lines().next()?.trim().parse().ok()?;
    (body.len() == length).then_some((path, body))
}

/// So many tokens, so many of them in one write, a write every so often.
struct Pace {
    tokens: usize,
    together: usize,
    every: Duration,
}

impl Pace {
    fn of(body: &str) -> Option<Self> {
        let (model, _) = body.split_once(r#""model":""#)?.1.split_once('"')?;
        let (tokens, rest) = model.split_once('x')?;
        let (together, micros) = rest.split_once('-')?;
        let every = Duration::from_micros(micros.parse().ok()?);
        Some(Self { tokens: tokens.parse().ok()?, together: together.parse().ok()?, every })
    }
}

async fn say(socket: &mut TcpStream, answer: Answer, pace: Pace) -> std::io::Result<()> {
    let Pace { tokens, together, every } = pace;
    let mut out = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    answer.before().iter().for_each(|data| put(&mut out, &answer.event(data)));
    socket.write_all(&out).await?;
    out.clear();
    let mut said = String::new();
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
        let text = format!("@{}", now());
        put(&mut out, &answer.event(&answer.token(token, &text)));
        said += &text;
    }
    answer.behind(tokens, &said).iter().for_each(|data| put(&mut out, &answer.event(data)));
    out.extend_from_slice(b"0\r\n\r\n");
    socket.write_all(&out).await
}

fn put(out: &mut Vec<u8>, event: &str) {
    write!(out, "{:x}\r\n{event}\r\n", event.len()).expect("memory takes all");
}
