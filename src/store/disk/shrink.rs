//! Gives the disk back what the base does not need any longer. redb fills what was freed again, but its file stays as large as it
//! ever was; where that is much too large, what it holds is copied into a new one, which takes its place.
//!
//! Nobody waits for it but the next checkpoint: who reads goes on reading the old file until the new one is there.

use std::sync::PoisonError;

use tracing::{info, warn};

use super::{Disk, medium::Room, shared::Shared};
use crate::store::StoreError;

/// A base below this size is left as it is.
const SMALL: u64 = 64 << 20;

impl Disk {
    /// Makes the base small again where it is larger than this and takes more than twice what it holds: else it is done from time
    /// to time. Blocks.
    ///
    /// # Errors
    /// When it could not be; nothing is lost then.
    pub fn shrink(&self, larger_than: u64) -> Result<bool, StoreError> {
        shrink(&self.shared, larger_than)
    }
}

/// When it is worth trying, for who tries again and again.
#[derive(Debug, Default)]
pub(super) struct Shrinking {
    /// A try that did not help, or failed, is not made again before the base is twice as large.
    tried: u64,
}

impl Shrinking {
    pub(super) fn due(&mut self, shared: &Shared) {
        match shrink(shared, SMALL.max(self.tried.saturating_mul(2))) {
            Ok(false) => {}
            Ok(true) => self.tried = shared.medium.room().map_or(0, |room| room.base),
            Err(error) => {
                warn!(%error, "the store's base could not be made smaller");
                self.tried = shared.medium.room().map_or(u64::MAX, |room| room.base);
            }
        }
    }
}

fn shrink(shared: &Shared, larger_than: u64) -> Result<bool, StoreError> {
    let Room { base, free } = shared.medium.room().map_err(|error| shared.unwritable(&error))?;
    let used = shared.inner().table.used;
    // The disk must not be full because of it: it would refuse what is being said.
    if base <= larger_than || base / 2 <= used || free / 2 <= used {
        return Ok(false);
    }
    // Nothing is put into the old one meanwhile.
    let _alone = shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
    shared.base.replace()?;
    let now = shared.medium.room().map_or(0, |room| room.base);
    info!("the store's base takes {} MiB now, it was {} MiB", now >> 20, base >> 20);
    Ok(true)
}
