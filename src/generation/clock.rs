//! The clocks of one generation: which runs now, and whether it has run out. (The connect clock is the HTTP client's own.)
//!
//! It is asked once a silence, not once a token: [`Clock::heard`] only notes the time.

use std::{
    mem::{discriminant, take},
    time::{Duration, Instant},
};

use super::Stop;
use crate::{
    backend::{BackendError, Clocks, ErrorKind},
    event::Event,
};

/// By how much heartbeats of an upstream stretch its silence.
const STRETCH: u32 = 5;
/// A longer clock is no clock, and would not fit into an `Instant`.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// See the module.
pub(super) struct Clock {
    clocks: Clocks,
    began: Instant,
    phase: Phase,
    /// Another phase has begun since this was asked.
    another: bool,
}

enum Phase {
    /// Nothing came yet.
    Head,
    /// The upstream took the prompt at this time.
    First(Instant),
    /// Its last content, and its last sign of life.
    Content { last: Instant, alive: Instant },
}

impl Clock {
    pub(super) fn new(clocks: &Clocks) -> Self {
        let at_most = |clock: Duration| clock.min(LONGEST);
        let clocks = Clocks {
            connect: clocks.connect,
            head: at_most(clocks.head),
            first: at_most(clocks.first),
            silence: at_most(clocks.silence),
            total: at_most(clocks.total),
        };
        Self { clocks, began: now(), phase: Phase::Head, another: false }
    }

    /// Notes what came.
    pub(super) fn heard(&mut self, event: &Event<'_>) {
        let now = now();
        let phase = match (&self.phase, event) {
            (Phase::Content { last, .. }, Event::Alive) => Phase::Content { last: *last, alive: now },
            // What an upstream says of its answer before there is one is no content.
            (Phase::First(since), Event::Alive | Event::Attempt(_) | Event::Usage(_) | Event::Opaque(_)) => {
                Phase::First(*since)
            }
            (Phase::Head, Event::Alive | Event::Attempt(_) | Event::Usage(_) | Event::Opaque(_)) => Phase::First(now),
            _ => Phase::Content { last: now, alive: now },
        };
        self.another |= discriminant(&phase) != discriminant(&self.phase);
        self.phase = phase;
    }

    /// Whether another clock runs than when this was asked last: it may be a shorter one.
    pub(super) fn is_another(&mut self) -> bool {
        take(&mut self.another)
    }

    /// When it is worth looking again.
    pub(super) fn next(&self) -> Instant {
        self.current().0.min(self.began + self.clocks.total)
    }

    /// The stop that a clock asks for, if one has run out.
    pub(super) fn ran_out(&self) -> Option<Stop> {
        let now = now();
        if now >= self.began + self.clocks.total {
            return Some(Stop::Deadline(self.clocks.total));
        }
        let (at, name, waited, what) = self.current();
        (now >= at).then(|| {
            let waited = humantime::format_duration(waited);
            let message = format!("the upstream {what} within {waited}, the backend's `{name}` clock");
            Stop::Backend(BackendError::new(ErrorKind::Timeout, message))
        })
    }

    fn current(&self) -> (Instant, &'static str, Duration, &'static str) {
        let Clocks { head, first, silence, .. } = self.clocks;
        match self.phase {
            Phase::Head => (self.began + head, "head", head, "did not begin to respond"),
            Phase::First(since) => (since + first, "first", first, "said nothing"),
            Phase::Content { last, alive } => {
                let at = (alive + silence).min(last + silence * STRETCH);
                (at, "silence", silence, "fell silent in mid-answer: nothing came")
            }
        }
    }
}

/// Tokio's clock, so that tests can wind it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{At, Attempt, Delta, Usage};

    fn clocks() -> Clocks {
        let s = Duration::from_secs;
        Clocks { connect: s(1), head: s(10), first: s(20), silence: s(5), total: s(100) }
    }

    async fn after(seconds: u64, clock: &Clock) -> Option<String> {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        match clock.ran_out() {
            Some(Stop::Backend(error)) => Some(error.message),
            Some(Stop::Deadline(_)) => Some("deadline".to_owned()),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_clock_runs_in_its_phase_and_names_itself() {
        let word = Event::Delta(At::default(), Delta::default());
        let mut clock = Clock::new(&clocks());
        assert_eq!(after(9, &clock).await, None);
        assert!(after(1, &clock).await.is_some_and(|m| m.contains("`head`")));
        clock.heard(&Event::Attempt(Attempt::default()));
        assert_eq!(after(19, &clock).await, None);
        assert!(after(1, &clock).await.is_some_and(|m| m.contains("`first`")));
        clock.heard(&word);
        assert_eq!(after(4, &clock).await, None);
        assert!(after(1, &clock).await.is_some_and(|m| m.contains("`silence`")));
        for _ in 0..13 {
            clock.heard(&word);
            assert_eq!(after(4, &clock).await, None);
        }
        clock.heard(&word);
        assert_eq!(after(13, &clock).await, Some("deadline".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_of_an_answer_is_not_its_first_content() {
        let mut clock = Clock::new(&clocks());
        clock.heard(&Event::Attempt(Attempt::default()));
        clock.heard(&Event::Usage(Usage::default()));
        assert_eq!(after(19, &clock).await, None);
        assert!(after(1, &clock).await.is_some_and(|m| m.contains("`first`")));
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_stretch_a_silence_fivefold_and_no_further() {
        let mut clock = Clock::new(&clocks());
        clock.heard(&Event::Delta(At::default(), Delta::default()));
        for _ in 0..6 {
            assert_eq!(after(4, &clock).await, None);
            clock.heard(&Event::Alive);
        }
        assert!(after(1, &clock).await.is_some());
    }
}
