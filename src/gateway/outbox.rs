//! The answers whose ends somebody is to be told. The store knows which, also when this process is gone; who tells is not known here.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::Gateway;
use crate::{id::StreamId, store::StoreError};

/// Whether there is anybody to be told, and how who tells is woken.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    kept: AtomicBool,
    news: Notify,
}

impl Outbox {
    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// A log was closed.
    pub(super) fn news(&self) {
        self.news.notify_one();
    }
}

impl Gateway {
    /// Of the answers that are started from now on, somebody is to be told when they have ended.
    pub fn keep_outbox(&self) {
        self.outbox.kept.store(true, Ordering::Relaxed);
    }

    /// Waits until an answer has ended since the last call. One may wait. Cancel safe.
    pub async fn news(&self) {
        self.outbox.news.notified().await;
    }

    /// Ended answers that are still to be told, each with its place: at most `n` behind the place `after`.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn due(&self, after: u64, n: usize) -> Result<Vec<(u64, StreamId)>, StoreError> {
        self.store.due(after, n).await
    }

    /// This one was told, or never will be.
    ///
    /// # Errors
    /// When the store does not take it: it is still due then.
    pub async fn told(&self, id: StreamId) -> Result<(), StoreError> {
        self.store.told(id).await
    }
}
