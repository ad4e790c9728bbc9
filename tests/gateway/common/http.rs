//! A small HTTP/1.1 client that hides nothing: the body comes as it was sent, and its end says whether it was proper.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As the protocol says that a whole body ends.
    Clean,
    /// The connection was closed in the middle.
    Truncated,
    /// The connection was reset.
    Reset,
}

/// A response, its body unread.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// A body on its connection. Dropping it closes the connection.
pub(crate) struct Body {
    stream: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// This many bytes are missing.
    Length(u64),
    /// This many bytes of a chunk are missing; 0 before a chunk's head.
    Chunked(u64),
    /// Until the connection closes.
    Close,
    Done,
}

/// Sends a request, and reads the head of its response.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    head += "\r\n";
    head += body;
    raw(address, head.as_bytes(), method == "HEAD").await
}

/// Sends these bytes, and reads the head of a response.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8], head_only: bool) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(bytes).await?;
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.lines();
    let status_line = lines.next().expect("a status line");
    let status = status_line.split(' ').nth(1).expect("a status").parse().expect("a number");
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let framing = match (header("content-length"), header("transfer-encoding")) {
        _ if head_only || status == 204 || status == 304 => Framing::Done,
        (Some(length), _) => Framing::Length(length.parse().expect("a length")),
        (None, Some(_)) => Framing::Chunked(0),
        (None, None) => Framing::Close,
    };
    Ok(Response { status, headers, body: Body { stream, buffer, framing } })
}

/// Sends these bytes, and reads all that comes until the other side closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(all)
}

/// Sends these bytes and nothing more: the status of the answer, or nothing if the connection was closed without one.
pub(crate) async fn status_of(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut head = Vec::new();
    while head.len() < 12 && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
    String::from_utf8_lossy(&head).split(' ').nth(1)?.get(..3)?.parse().ok()
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The whole body as JSON.
    pub(crate) async fn json(self) -> serde_json::Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }

    /// The whole body as text.
    pub(crate) async fn text(self) -> String {
        let (bytes, ending) = super::soon(self.body.rest()).await;
        assert_eq!(ending, Ending::Clean);
        String::from_utf8(bytes).expect("UTF-8")
    }
}

impl Body {
    /// The next bytes of the body: whatever has come, at least one; or how it ended.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, Ending> {
        loop {
            match self.framing {
                Framing::Done | Framing::Length(0) => return Err(Ending::Clean),
                Framing::Chunked(0) => {
                    if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                        let size = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                        let size = u64::from_str_radix(size.trim(), 16).expect("a chunk's size");
                        self.buffer.drain(..end + 2);
                        // With the line end behind it; behind the last one there are no trailers, but a line end too.
                        self.framing = Framing::Chunked(size + 2);
                        if size == 0 {
                            while self.buffer.len() < 2 {
                                self.more().await?;
                            }
                            self.framing = Framing::Done;
                        }
                        continue;
                    }
                    self.more().await?;
                }
                Framing::Chunked(left) if !self.buffer.is_empty() => {
                    let taken = self.take(left);
                    let left = left - taken.len() as u64;
                    self.framing = Framing::Chunked(left);
                    // The last two bytes of `left` are the chunk's line end.
                    let words = taken.len().saturating_sub(2_usize.saturating_sub(left as usize));
                    if words > 0 {
                        return Ok(taken[..words].to_vec());
                    }
                }
                Framing::Length(left) if !self.buffer.is_empty() => {
                    let taken = self.take(left);
                    self.framing = Framing::Length(left - taken.len() as u64);
                    return Ok(taken);
                }
                Framing::Close if !self.buffer.is_empty() => return Ok(self.take(u64::MAX)),
                _ => self.more().await?,
            }
        }
    }

    /// All that is left, and how it ended.
    pub(crate) async fn rest(mut self) -> (Vec<u8>, Ending) {
        let mut bytes = Vec::new();
        loop {
            match self.next().await {
                Ok(more) => bytes.extend(more),
                Err(ending) => return (bytes, ending),
            }
        }
    }

    /// Exactly this many bytes; then the connection is cut.
    pub(crate) async fn cut_after(mut self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < n {
            match self.next().await {
                Ok(more) => bytes.extend(more),
                Err(_) => break,
            }
        }
        bytes.truncate(n);
        bytes
    }

    fn take(&mut self, most: u64) -> Vec<u8> {
        let n = self.buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.buffer.drain(..n).collect()
    }

    async fn more(&mut self) -> Result<(), Ending> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) if self.framing == Framing::Close => Err(Ending::Clean),
            Ok(0) => Err(Ending::Truncated),
            Ok(_) => Ok(()),
            Err(_) => Err(Ending::Reset),
        }
    }
}
