//! Answers that their client does not want kept. They are erased when nobody has read them for a while, so that a slow reader gets all
//! of its answer and one that was cut off can come back for the rest; and at last even so.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

use super::Gateway;
use crate::{
    generation::Live,
    id::{ById, StreamId},
    store::StoreError,
};

/// So long behind its end an answer goes whoever reads it: else a reader that never comes to its end would keep it for ever.
const AT_MOST: Duration = Duration::from_secs(3600);

/// An answer that is to be forgotten.
pub(super) struct Fading {
    /// Its readers.
    live: Arc<Live>,
    ended: Instant,
}

impl Gateway {
    /// How long the store keeps such an answer, should nothing here erase it before.
    pub(super) fn forget_at_most(&self) -> Duration {
        self.limits.forget_after.max(AT_MOST)
    }

    /// From now on this answer, which has ended, is erased when nobody reads it. Its readers are counted on.
    pub(super) fn fade(&self, live: Arc<Live>) {
        live.tail.let_go();
        self.fading().insert(live.id, Fading { live, ended: Instant::now() });
    }

    /// Erases what nobody has read for long enough. (What somebody reads for too long, the store erases.)
    pub(super) async fn forget(&self) {
        let after = self.limits.forget_after;
        let due = |fading: &Fading| {
            let since = fading.live.audience.alone_since();
            since.is_some_and(|since| since.max(fading.ended).elapsed() >= after)
        };
        let due: Vec<StreamId> = self.fading().iter().filter(|(_, fading)| due(fading)).map(|(id, _)| *id).collect();
        for id in due {
            match self.store.remove(id).await {
                Ok(()) | Err(StoreError::Unknown(_) | StoreError::Expired(_)) => _ = self.fading().remove(&id),
                Err(error) => warn!(%id, %error, "an answer that is not to be kept could not be erased, trying on"),
            }
        }
    }

    pub(super) fn fading(&self) -> MutexGuard<'_, ById<Fading>> {
        self.fading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The readers of one that is still there.
    pub(super) fn faded(&self, id: StreamId) -> Option<Arc<Live>> {
        self.fading().get(&id).map(|fading| fading.live.clone())
    }
}
