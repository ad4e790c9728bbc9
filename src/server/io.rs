//! The socket as hyper sees it: it gives back what was read to tell HTTP/1 from HTTP/2, ends a connection that takes
//! nothing, and decides whether a close is a FIN or an RST.
//!
//! It wraps the TCP socket itself, so TLS goes between it and hyper, and deadline and reset still work on what they
//! must: the raw socket. It knows nothing of HTTP beyond the 24 bytes of the preface.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::link::Link;

/// What a client that speaks HTTP/2 without TLS says first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection that we close waits for the client to close too. Closing a socket with unread bytes in it
/// (the rest of a refused upload) is an RST, which can destroy the answer before the client has read it.
const CLOSING: Duration = Duration::from_secs(2);

/// The kernel gives up on a peer that acknowledges nothing, or keeps its window shut. It does so this much later than
/// the write deadline, so that for a reader who is there but does not read it is the deadline that acts.
#[cfg(target_os = "linux")]
const AFTER_DEADLINE: Duration = Duration::from_secs(5);

/// The kernel takes no more while this much is unsent: what a slow reader has not got stays in the log, where it
/// costs nothing: 56 KB of socket buffer for a stalled reader instead of 3.8 MB, and fast readers read 2 to 3 times
/// faster over loopback.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.0, HTTP/1.1, or nothing we know: hyper's HTTP/1 side answers that with a 400.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A client's socket.
pub(super) struct Io {
    socket: TcpStream,
    link: Arc<Link>,
    start: Start,
    write_timeout: Duration,
    /// Running while a write makes no progress; armed at the first write the socket does not take.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Running since our FIN.
    closing: Option<Pin<Box<Sleep>>>,
    /// Whether closing the socket now is an RST.
    resets: bool,
}

impl Io {
    pub(super) fn new(socket: TcpStream, link: Arc<Link>, write_timeout: Duration) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        {
            let options = SockRef::from(&socket);
            options.set_tcp_user_timeout(Some(write_timeout + AFTER_DEADLINE))?;
            options.set_tcp_notsent_lowat(UNSENT)?;
        }
        Ok(Self { socket, link, start: Start::default(), write_timeout, stalled: None, closing: None, resets: false })
    }

    /// Reads until it is certain what the client speaks; the bytes are read again by whoever serves it.
    /// Not cancel safe: a connection whose preface was not waited for can only be closed.
    pub(super) async fn version(&mut self) -> io::Result<Version> {
        let start = &mut self.start;
        loop {
            let before = start.len;
            start.len += self.socket.read(&mut start.bytes[before..]).await?;
            if start.len == before || start.bytes[..start.len] != PREFACE[..start.len] {
                return Ok(Version::Http1);
            }
            if start.len == PREFACE.len() {
                return Ok(Version::Http2);
            }
        }
    }

    /// Makes a close an RST while an answer is in the middle, and a FIN otherwise. Called before every write and before
    /// the FIN, so that an answer's head is never out before the reset is armed, nor its last byte before it is
    /// disarmed. One atomic load, and a system call only when it changes.
    fn settle_close(&mut self) {
        let resets = self.link.has_unfinished();
        if resets != self.resets {
            self.resets = resets;
            // It fails only on a socket that the peer has already reset.
            let _ = SockRef::from(&self.socket).set_linger(resets.then_some(Duration::ZERO));
        }
    }

    /// Passes on what a write came to; one that has been pending for the write timeout is the connection's end.
    fn deadline(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        debug!("a reader took nothing for the write timeout: ending its connection");
        self.link.connection.end();
        // What the kernel still holds is for nobody.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let given_back = self.start.give_back(buf);
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        // In one read with what follows: hyper doubles its 8 KiB buffer for every head that comes in two.
        if given_back { Poll::Ready(Ok(())) } else { read }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.settle_close();
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.deadline(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.settle_close();
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.deadline(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Sends the FIN, then reads what still comes and throws it away until the client closes too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.settle_close();
        let Self { socket, closing, .. } = &mut *self;
        if closing.is_none() {
            ready!(Pin::new(&mut *socket).poll_shutdown(cx))?;
        }
        let closing = closing.get_or_insert_with(|| Box::pin(sleep(CLOSING)));
        let mut scrap = [0; 1024];
        loop {
            let mut scrap = ReadBuf::new(&mut scrap);
            match Pin::new(&mut *socket).poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return closing.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

/// The first bytes of a connection, read once to look at them and given back once.
#[derive(Default)]
struct Start {
    bytes: [u8; PREFACE.len()],
    len: usize,
    given_back: usize,
}

impl Start {
    /// Whether there was something to give back.
    fn give_back(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.bytes[self.given_back..self.len];
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        self.given_back += taken;
        taken > 0
    }
}
