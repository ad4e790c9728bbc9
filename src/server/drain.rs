//! How connections are told to end, and when a drain has readers come back: not all at once, but evenly over its last part, so that
//! the next process is not asked by all of them in the same moment.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The part of a drain in which readers whose answers still run are sent away: its last fifth.
const LAST_PART: u32 = 5;

/// How connections are told to end. Clones tell the same ones.
#[derive(Clone, Debug)]
pub struct Stop {
    graceful: CancellationToken,
    abort: CancellationToken,
    /// Set before either is cancelled. To look at it costs a connection nothing, where a token has a lock.
    told: Arc<AtomicBool>,
    cuts: Arc<Cuts>,
}

impl Default for Stop {
    fn default() -> Self {
        let abort = CancellationToken::new();
        // A child, so that an abort without a drain before it is seen by those who wait for a drain.
        Self { graceful: abort.child_token(), abort, told: Arc::default(), cuts: Arc::default() }
    }
}

impl Stop {
    /// Nothing more is accepted, idle connections are closed, running answers go on to their end; readers who come back by
    /// themselves are reset before this much time is over.
    pub fn drain(&self, within: Duration) {
        self.cuts.begin(within);
        self.told.store(true, Release);
        self.graceful.cancel();
    }

    /// Whatever is left is dropped now; clients in the middle of an answer see a reset.
    pub fn abort(&self) {
        self.told.store(true, Release);
        self.abort.cancel();
    }

    /// Cancelled when the drain begins.
    pub fn draining(&self) -> &CancellationToken {
        &self.graceful
    }

    /// Whether a drain or an abort has begun.
    pub(super) fn told(&self) -> bool {
        self.told.load(Acquire)
    }

    /// Cancelled when whatever is left is dropped.
    pub(super) fn aborted(&self) -> &CancellationToken {
        &self.abort
    }

    pub(super) fn cuts(&self) -> &Arc<Cuts> {
        &self.cuts
    }
}

/// The times at which readers are cut.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// When the last part begins, and how long it is.
    window: OnceLock<(Instant, Duration)>,
    given: AtomicU64,
}

impl Cuts {
    fn begin(&self, within: Duration) {
        let last = within / LAST_PART;
        // A drain happens once.
        let _ = self.window.set((Instant::now() + (within - last), last));
    }

    /// Whoever asks next: at a time of its own. However many ask, no part of the window has many more than another: the steps are of
    /// the golden ratio.
    pub(super) fn next(&self) -> Option<Instant> {
        let (start, length) = *self.window.get()?;
        let share = self.given.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper half is fine enough: of an hour, a millionth of a second.
        Some(start + length.mul_f64(f64::from(u32::try_from(share >> 32).unwrap_or(u32::MAX)) / 2_f64.powi(32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cuts_are_even_over_the_last_part_however_many_there_are() {
        for readers in [1_usize, 2, 7, 50, 1000, 10_007] {
            let (cuts, began) = (Cuts::default(), Instant::now());
            assert_eq!(cuts.next(), None, "before a drain nobody is cut");
            cuts.begin(Duration::from_secs(50));
            let mut seconds = [0; 10];
            for _ in 0..readers {
                let at = cuts.next().expect("it drains") - began;
                assert!((40..50).contains(&at.as_secs()), "{at:?}");
                seconds[usize::try_from(at.as_secs()).expect("small") - 40] += 1;
            }
            let fullest = *seconds.iter().max().expect("ten");
            assert!(fullest <= 2 * readers.div_ceil(10), "{readers}: {seconds:?}");
        }
    }
}
