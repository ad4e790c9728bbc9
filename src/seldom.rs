//! What seldom happens to a task that is often woken for something else: it is not asked about each time.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Whether a future knows whom to wake: then it need not be polled by the same task until it has news.
#[derive(Debug, Default)]
pub struct Known(Option<Waker>);

impl Known {
    /// Whether this task was the last that was noted here; notes it.
    pub fn note(&mut self, cx: &Context<'_>) -> bool {
        let known = self.0.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            self.0 = Some(cx.waker().clone());
        }
        known
    }

    /// The future must be polled again in any case.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// A timer that rings far more seldom than its task is woken.
#[derive(Debug)]
pub struct Alarm {
    // Boxed, so that it can be moved with who waits for it.
    sleep: Pin<Box<Sleep>>,
    known: Known,
}

impl Alarm {
    /// Rings at this time.
    #[must_use]
    pub fn at(time: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(time)), known: Known::default() }
    }

    /// Rings at this time instead, also if it has rung.
    pub fn set(&mut self, time: Instant) {
        self.sleep.as_mut().reset(time);
        self.known.forget();
    }

    /// When it rings.
    #[must_use]
    pub fn time(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Whether it rings; else the task is woken when it does.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.known.note(cx) && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        let rings = self.sleep.as_mut().poll(cx);
        if rings.is_ready() {
            self.known.forget();
        }
        rings
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use futures_util::{StreamExt, stream::FuturesUnordered};
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_its_time_however_often_it_is_asked() {
        let began = Instant::now();
        let mut alarm = Alarm::at(began + SECOND);
        let mut times = 0;
        poll_fn(|cx| {
            times += 1;
            if times < 5 {
                cx.waker().wake_by_ref(); // by something else
            }
            alarm.poll(cx)
        })
        .await;
        assert_eq!((began.elapsed(), times), (SECOND, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_is_set_again_rings_again_and_goes_with_its_owner() {
        let began = Instant::now();
        let mut alarm = Alarm::at(began + SECOND);
        poll_fn(|cx| alarm.poll(cx)).await;
        alarm.set(began + 3 * SECOND);
        // Asked once by this task, and then by another one.
        let once = poll_fn(|cx| Poll::Ready(alarm.poll(cx)));
        assert!(once.await.is_pending());
        let elsewhere = tokio::spawn(async move {
            poll_fn(|cx| alarm.poll(cx)).await;
            alarm
        });
        let mut alarm = elsewhere.await.expect("it ran");
        assert_eq!(began.elapsed(), 3 * SECOND);
        alarm.set(Instant::now() + 5 * SECOND);
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx))).await.is_pending());
        alarm.set(Instant::now() + SECOND);
        poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(began.elapsed(), 4 * SECOND, "sooner than it was to");
    }

    #[tokio::test(start_paused = true)]
    async fn another_future_of_the_same_task_that_wraps_the_waker_is_another() {
        let began = Instant::now();
        let mut alarm = Alarm::at(began + SECOND);
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx))).await.is_pending());
        let mut several = FuturesUnordered::new();
        several.push(poll_fn(|cx| alarm.poll(cx)));
        let rang = timeout(9 * SECOND, several.next()).await;
        assert_eq!((rang, began.elapsed()), (Ok(Some(())), SECOND), "it was asked by a waker that it did not know");
    }
}
