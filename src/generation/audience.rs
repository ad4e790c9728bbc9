//! Who reads a running stream, and what happens when the last of them leaves.
//!
//! `cancel` is a grace of nothing that is armed when the first reader comes; `cancel_after` is a grace that is armed from the
//! beginning. A reader whose connection lastword itself ended has not left: it disarms the grace until somebody comes again.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::Live;
use crate::prompt::OnDisconnect;

/// See the module.
pub struct Audience {
    grace: Option<Duration>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    readers: usize,
    armed: bool,
    /// How many came so far: a visit too short to be seen is seen in this.
    visits: u64,
    /// When the last of them left; before any came, when all began.
    left: Instant,
}

impl Audience {
    /// Nobody reads yet.
    #[must_use]
    pub fn new(on_disconnect: OnDisconnect) -> Self {
        let (grace, armed) = match on_disconnect {
            OnDisconnect::Continue => (None, false),
            OnDisconnect::Cancel => (Some(Duration::ZERO), false),
            OnDisconnect::CancelAfter(grace) => (Some(grace), true),
        };
        Self { grace, state: watch::Sender::new(State { readers: 0, armed, visits: 0, left: Instant::now() }) }
    }

    /// Since when nobody has been reading; nothing while somebody does.
    #[must_use]
    pub fn alone_since(&self) -> Option<Instant> {
        let state = *self.state.borrow();
        (state.readers == 0).then_some(state.left)
    }

    /// Waits until nobody has read for as long as the stream's policy says; for ever if leaving is not stopping.
    pub async fn abandoned(&self) {
        let Some(grace) = self.grace else { return pending().await };
        let mut state = self.state.subscribe();
        let empty = |state: &State| state.armed && state.readers == 0;
        loop {
            let visits = state.wait_for(empty).await.expect("the sender is part of self").visits;
            tokio::select! {
                () = tokio::time::sleep(grace) => return,
                _ = state.wait_for(|state| !empty(state) || state.visits != visits) => {}
            }
        }
    }
}

/// One reader's presence: dropping it is leaving.
pub struct Attached {
    live: Arc<Live>,
    leaves: bool,
}

impl Attached {
    /// A reader comes.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Self {
        live.audience.state.send_modify(|state| {
            state.readers += 1;
            state.visits += 1;
            state.armed = true;
        });
        Self { live, leaves: true }
    }

    /// The connection is being ended by lastword itself: this reader will go, and has not left.
    pub fn ended_by_us(&mut self) {
        self.leaves = false;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.live.audience.state.send_modify(|state| {
            state.readers -= 1;
            state.left = Instant::now();
            state.armed &= self.leaves;
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::id::StreamId;

    const LONG: Duration = Duration::from_secs(3600);

    fn live(on_disconnect: OnDisconnect) -> Arc<Live> {
        Arc::new(Live::new(StreamId::new(), on_disconnect))
    }

    async fn stays(live: &Live) -> bool {
        timeout(LONG, live.audience.abandoned()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn continue_waits_for_nobody() {
        let live = live(OnDisconnect::Continue);
        drop(Attached::new(live.clone()));
        assert!(stays(&live).await);
    }

    #[tokio::test(start_paused = true)]
    async fn cancel_is_armed_by_the_first_reader_and_fires_with_the_last() {
        let live = live(OnDisconnect::Cancel);
        assert!(stays(&live).await, "nobody came yet");
        let (one, two) = (Attached::new(live.clone()), Attached::new(live.clone()));
        drop(one);
        assert!(stays(&live).await, "one is left");
        drop(two);
        assert!(!stays(&live).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_runs_from_the_beginning_and_anew_after_each_return() {
        let grace = Duration::from_secs(30);
        let live = live(OnDisconnect::CancelAfter(grace));
        let began = Instant::now();
        let waiting = tokio::spawn({
            let live = live.clone();
            async move { live.audience.abandoned().await }
        });
        tokio::time::sleep(grace - Duration::from_secs(1)).await;
        let back = Attached::new(live.clone());
        tokio::time::sleep(LONG).await;
        assert!(!waiting.is_finished(), "somebody reads");
        drop(back);
        waiting.await.expect("ran");
        assert_eq!(began.elapsed(), grace - Duration::from_secs(1) + LONG + grace);
    }

    #[tokio::test(start_paused = true)]
    async fn whom_we_cut_off_has_not_left() {
        for on_disconnect in [OnDisconnect::Cancel, OnDisconnect::CancelAfter(Duration::from_secs(1))] {
            let live = live(on_disconnect);
            let mut cut = Attached::new(live.clone());
            cut.ended_by_us();
            drop(cut);
            assert!(stays(&live).await, "{on_disconnect:?}");
            drop(Attached::new(live.clone()));
            assert!(!stays(&live).await, "{on_disconnect:?}: but who comes back can leave");
        }
    }
}
