//! What an answer may know of the connection that carries it, and how it gives up.
//!
//! The server puts a [`Connection`] into every request's extensions. An answer asks it one thing, when its body is
//! dropped: did the reader leave, or was it us? Nothing needs to be told to the server: it watches the bodies itself
//! (`server/answer.rs`). No sockets here, and nothing about streams or records.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// One client connection, as seen by one request on it. A handler takes it as an argument; cloning it is cheap.
///
/// A request that did not come through the server's accept loop (a test that calls the router) gets one without a
/// peer, that nobody ends.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    peer: Option<SocketAddr>,
    /// Over TLS of lastword's own.
    secure: bool,
    /// Why nothing is answered on it.
    refused: Option<Arc<str>>,
    whole: Arc<Known>,
    /// On HTTP/2, where one stream can be ended while its connection goes on.
    stream: Option<Arc<Known>>,
}

/// What is known of a connection, or of one stream of it.
#[derive(Debug, Default)]
struct Known {
    ended: AtomicBool,
    comes_back: AtomicBool,
}

impl Connection {
    pub(crate) fn accepted(peer: SocketAddr, secure: bool, refused: Option<Arc<str>>) -> Self {
        Self { peer: Some(peer), secure, refused, ..Self::default() }
    }

    /// Why nothing is answered on it, if its address has as much as it may.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// The same connection, for one new HTTP/2 stream on it.
    pub(crate) fn stream(&self) -> Self {
        Self { stream: Some(Arc::default()), ..self.clone() }
    }

    /// Notes that lastword ends the stream if this is one, else the connection. Call it before anything is dropped.
    pub(crate) fn end(&self) {
        self.known().ended.store(true, Ordering::Release);
    }

    fn known(&self) -> &Known {
        self.stream.as_ref().unwrap_or(&self.whole)
    }

    /// A new request is served on it.
    pub(crate) fn begin(&self) {
        self.known().comes_back.store(false, Ordering::Relaxed);
    }

    /// Notes that whoever reads the answer to this request comes back by itself when it is cut off, and loses nothing by that.
    pub(crate) fn will_come_back(&self) {
        self.known().comes_back.store(true, Ordering::Relaxed);
    }

    /// Whether it was noted of the last request on it.
    pub(crate) fn comes_back(&self) -> bool {
        self.known().comes_back.load(Ordering::Relaxed)
    }

    /// Whether lastword itself has ended this connection (the end of a drain) or cut this reader (the write
    /// deadline). A reader whose body is dropped then has not left.
    pub fn ended_by_us(&self) -> bool {
        let ended = |known: &Arc<Known>| known.ended.load(Ordering::Acquire);
        self.stream.as_ref().is_some_and(ended) || ended(&self.whole)
    }

    /// The other end of the socket: the client, or the proxy in front of us.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether lastword itself speaks TLS on it.
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// The error of a body that cannot be ended properly. The client sees a reset: RST on HTTP/1, RST_STREAM with CANCEL
/// on HTTP/2. A body that ends with `None` instead tells the client that the answer is whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer was given up in the middle")]
pub struct GaveUp(
    /// hyper takes the reason of the reset from the first `h2::Error` among an error's sources; without one it says
    /// INTERNAL_ERROR.
    #[source]
    h2::Error,
);

impl GaveUp {
    /// An answer that is not whole and will not be.
    pub fn new() -> Self {
        Self(h2::Reason::CANCEL.into())
    }
}

impl Default for GaveUp {
    fn default() -> Self {
        Self::new()
    }
}
