//! A client on one kept-alive HTTP/1.1 connection that does as little as can be: it finds the tokens (`@` and digits, see
//! `upstream`) and the end of the answer, and looks at nothing else.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What an answer in events is asked for with.
pub(crate) const EVENTS: &str = "accept: text/event-stream";

pub(crate) struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// Where a response's body begins, and how long it is where its head says so.
#[derive(Clone, Copy)]
struct Body {
    start: usize,
    length: Option<usize>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let socket = TcpStream::connect(to).await.expect("somebody listens");
        socket.set_nodelay(true).expect("an open socket");
        Self { socket, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// Asks (`what` is method and path, `headers` are lines), shows `each` token's time stamp as it comes, and gives the body back at its end.
    pub(crate) async fn ask(&mut self, what: &str, headers: &str, body: &str, mut each: impl FnMut(u64)) -> &[u8] {
        let length = body.len();
        let request = format!(
            "{what} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.socket.write_all(request.as_bytes()).await.expect("the server reads");
        self.buffer.clear();
        let (mut seen, mut head) = (0, None);
        loop {
            let read = self.socket.read_buf(&mut self.buffer).await.expect("the server writes");
            assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&self.buffer));
            while let Some((stamp, behind)) = token(&self.buffer[seen..]) {
                seen += behind;
                each(stamp);
            }
            head = head.or_else(|| read_head(&self.buffer));
            let Some(Body { start, length }) = head else { continue };
            let whole = match length {
                Some(length) => self.buffer.len() >= start + length,
                None => self.buffer.ends_with(b"\r\n0\r\n\r\n"),
            };
            if whole {
                return &self.buffer[start..];
            }
        }
    }
}

/// The next token's time stamp, and where it ends; nothing until what follows it is here too.
fn token(bytes: &[u8]) -> Option<(u64, usize)> {
    let start = bytes.iter().position(|&byte| byte == b'@')? + 1;
    let length = bytes[start..].iter().position(|byte| !byte.is_ascii_digit())?;
    let stamp = bytes[start..start + length].iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    Some((stamp, start + length))
}

fn read_head(response: &[u8]) -> Option<Body> {
    let start = response.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&response[..start]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 20"), "{}", String::from_utf8_lossy(response));
    let length = head.split_once("content-length: ").and_then(|(_, length)| length.lines().next()?.trim().parse().ok());
    Some(Body { start, length })
}
