//! Who reads a running stream, and what happens when the last of them leaves.
//!
//! `cancel` is a grace of nothing that is armed when the first reader comes; `cancel_after` is a grace that is armed from the
//! beginning. A reader whose connection lastword itself ended has not left: it disarms the grace until somebody comes again. One that
//! polls has not left between two polls.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

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
    /// Who polls is there until then, though nobody is to be seen.
    until: Option<Instant>,
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
        let state = State { readers: 0, armed, visits: 0, left: Instant::now(), until: None };
        Self { grace, state: watch::Sender::new(state) }
    }

    /// Since when nobody has been reading; nothing while somebody does, or may poll again.
    #[must_use]
    pub fn alone_since(&self) -> Option<Instant> {
        let state = *self.state.borrow();
        let since = state.until.map_or(state.left, |until| until.max(state.left));
        (state.readers == 0 && since <= Instant::now()).then_some(since)
    }

    /// Waits until nobody has read for as long as the stream's policy says; for ever if leaving is not stopping.
    pub async fn abandoned(&self) {
        let Some(grace) = self.grace else { return pending().await };
        let mut state = self.state.subscribe();
        let empty = |state: &State| state.armed && state.readers == 0;
        loop {
            let State { visits, until, .. } = *state.wait_for(empty).await.expect("the sender is part of self");
            let there = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = sleep(there.saturating_add(grace)) => return,
                _ = state.wait_for(|state| !empty(state) || state.visits != visits) => {}
            }
        }
    }
}

/// One reader's presence: dropping it is leaving.
pub struct Attached {
    live: Arc<Live>,
    leaves: bool,
    /// How long it is there after it has gone.
    polls: Duration,
}

impl Attached {
    /// A reader comes, if there are not so many yet.
    #[must_use]
    pub fn new(live: Arc<Live>, most: usize) -> Option<Self> {
        let came = live.audience.state.send_if_modified(|state| {
            let room = state.readers < most;
            if room {
                state.readers += 1;
                state.visits += 1;
                state.armed = true;
            }
            room
        });
        came.then(|| Self { live, leaves: true, polls: Duration::ZERO })
    }

    /// This reader will come again within this time, and has left only if it does not.
    pub fn polls(&mut self, apart: Duration) {
        self.polls = apart;
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
            if self.polls > Duration::ZERO {
                state.until = state.until.max(Some(Instant::now() + self.polls));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn attached(live: &Arc<Live>) -> Attached {
        Attached::new(live.clone(), usize::MAX).expect("room")
    }
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
        drop(attached(&live));
        assert!(stays(&live).await);
    }

    #[tokio::test(start_paused = true)]
    async fn cancel_is_armed_by_the_first_reader_and_fires_with_the_last() {
        let live = live(OnDisconnect::Cancel);
        assert!(stays(&live).await, "nobody came yet");
        let (one, two) = (attached(&live), attached(&live));
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
        let back = attached(&live);
        tokio::time::sleep(LONG).await;
        assert!(!waiting.is_finished(), "somebody reads");
        drop(back);
        waiting.await.expect("ran");
        assert_eq!(began.elapsed(), grace - Duration::from_secs(1) + LONG + grace);
    }

    #[tokio::test(start_paused = true)]
    async fn who_polls_has_left_only_when_the_next_poll_does_not_come() {
        let apart = Duration::from_secs(30);
        for (on_disconnect, grace) in [
            (OnDisconnect::Cancel, Duration::ZERO),
            (OnDisconnect::CancelAfter(Duration::from_secs(10)), Duration::from_secs(10)),
        ] {
            let live = live(on_disconnect);
            let waiting = tokio::spawn({
                let live = live.clone();
                async move { live.audience.abandoned().await }
            });
            for _ in 0..5 {
                let mut poll = attached(&live);
                poll.polls(apart);
                tokio::time::sleep(LONG).await;
                drop(poll);
                tokio::time::sleep(apart - Duration::from_secs(1)).await;
                assert!(!waiting.is_finished(), "{on_disconnect:?}: it comes again");
            }
            let mut last = attached(&live);
            last.polls(apart);
            let went = Instant::now();
            drop(last);
            // Another reader's visit takes nothing from that.
            drop(attached(&live));
            waiting.await.expect("ran");
            assert_eq!(went.elapsed(), apart + grace, "{on_disconnect:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whom_we_cut_off_has_not_left() {
        for on_disconnect in [OnDisconnect::Cancel, OnDisconnect::CancelAfter(Duration::from_secs(1))] {
            let live = live(on_disconnect);
            let mut cut = attached(&live);
            cut.ended_by_us();
            drop(cut);
            assert!(stays(&live).await, "{on_disconnect:?}");
            drop(attached(&live));
            assert!(!stays(&live).await, "{on_disconnect:?}: but who comes back can leave");
        }
    }
}
