//! What the parts of one connection share: its socket, its requests and its driver each hold the same [`Link`].
//!
//! It counts the answers that a close would truncate. It knows no socket and no protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::api::connection::Connection;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    unfinished: AtomicUsize,
    heard: AtomicBool,
}

impl Link {
    pub(super) fn new(peer: SocketAddr, secure: bool, refused: Option<Arc<str>>) -> Arc<Self> {
        Arc::new(Self {
            connection: Connection::accepted(peer, secure, refused),
            unfinished: AtomicUsize::new(0),
            heard: AtomicBool::new(false),
        })
    }

    /// A whole request head has come in.
    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether the client has ever said something sensible.
    pub(super) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// An answer begins whose length the client does not know.
    pub(super) fn begin(self: &Arc<Self>) -> Unfinished {
        self.unfinished.fetch_add(1, Ordering::Release);
        Unfinished(Arc::clone(self))
    }

    /// Whether a clean close now could pass for the end of an answer that is not whole.
    pub(super) fn has_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) > 0
    }
}

/// An answer in the middle, until it is dropped.
#[derive(Debug)]
pub(super) struct Unfinished(Arc<Link>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::Release);
    }
}
