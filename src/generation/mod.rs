//! One task a stream: it reads the backend, writes the log, and closes it with exactly one terminal record.
//!
//! The supervisor owns the log's writer. The backend is its child: polled under a net that catches panics, dropped to abort it,
//! and never allowed near the writer. Whatever happens to the child, it is the supervisor that appends `end`.
//!
//! ```text
//! wait for the next event | a stop | the readers' leaving | a clock
//!   -> take all events that are ready -> append them as one batch -> publish -> wait again
//! ```
//!
//! An append is never raced against anything: a stop that comes meanwhile waits for it.

mod audience;
mod clock;
mod meter;
mod writer;

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

pub use audience::{Attached, Audience};
use futures_util::{StreamExt, poll, task::AtomicWaker};
pub use meter::{Meter, Spent};
use tracing::{error, info};
pub use writer::{Budget, Over, Writer};

use crate::{
    backend::{Backend, BackendError, ErrorKind, Events},
    event::{Begin, End, Event, Failure, Opaque, Reason, Status, Usage},
    id::StreamId,
    prompt::{OnDisconnect, Prompt},
    record::summary::Summary,
    seldom::Alarm,
    store::StoreError,
    stream::{Follower, Tail},
    telemetry::{Ended, Metrics},
};

/// How many events at most become one batch: enough to keep up with any upstream, few enough to keep the first one fresh.
const BATCH: u64 = 256;

/// A stream that runs in this process, as everybody else sees it.
pub struct Live {
    /// Its id.
    pub id: StreamId,
    /// What its readers follow.
    pub tail: Arc<Tail>,
    /// Who reads.
    pub audience: Audience,
    why: OnceLock<Stop>,
    /// The task that generates, which is woken when there is a `why`.
    task: AtomicWaker,
}

impl Live {
    /// A stream about to run.
    #[must_use]
    pub fn new(id: StreamId, on_disconnect: OnDisconnect) -> Self {
        Self {
            id,
            tail: Arc::new(Tail::new(crate::id::Cursor::START)),
            audience: Audience::new(on_disconnect),
            why: OnceLock::new(),
            task: AtomicWaker::new(),
        }
    }

    /// Stops the generation: what was said so far stands, and the log is closed. The first reason given is the one that counts.
    pub fn stop(&self, why: Stop) {
        let _ = self.why.set(why);
        self.task.wake();
    }

    /// Waits until the log is closed (or no longer written here).
    pub async fn ended(&self) {
        Follower::new(self.tail.clone()).ended().await;
    }
}

/// Why a generation is over.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The backend gave all it had.
    Done,
    /// Somebody asked for it.
    Cancelled,
    /// The readers left, and the stream says that this stops it.
    Abandoned,
    /// This process goes away.
    Interrupted,
    /// The backend gave an error, or one of the clocks ran out.
    Backend(BackendError),
    /// The clock for the whole answer ran out.
    Deadline(Duration),
    /// The answer is larger than a stream may be.
    Budget(Over),
    /// The backend panicked.
    Panicked,
    /// The store refused a batch.
    Store(StoreError),
}

impl Stop {
    /// Whether the same request, made again, may have another answer if this one says nothing. Not if the model had its say, nor if
    /// somebody decided that it shall have none.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        !matches!(self, Self::Done | Self::Cancelled)
    }

    /// The terminal record of a stream that stops so, after what was said.
    #[must_use]
    pub fn end(&self, said: &Summary) -> End {
        let failed = |code: &'static str, message: String, retryable| Failure {
            code: code.into(),
            message,
            retryable,
            ..Failure::default()
        };
        let (status, reason, error) = match self {
            Self::Done => (Status::Completed, said.reason, None),
            Self::Cancelled | Self::Abandoned => (Status::Cancelled, None, None),
            Self::Interrupted => {
                let message = "lastword was shut down before the answer was whole; ask again".to_owned();
                (Status::Interrupted, None, Some(failed("interrupted", message, true)))
            }
            Self::Backend(error) if error.kind == ErrorKind::CalledOff => (Status::Cancelled, None, None),
            Self::Backend(error) if error.kind == ErrorKind::Gone => {
                (Status::Interrupted, None, Some(error.clone().into()))
            }
            Self::Backend(error) => (Status::Failed, None, Some(error.clone().into())),
            Self::Deadline(total) => {
                let total = humantime::format_duration(*total);
                let message = format!("the answer took longer than {total}, the backend's `total` clock");
                (Status::Failed, Some(Reason::Deadline), Some(failed("deadline", message, false)))
            }
            Self::Budget(Over { code, message }) => {
                (Status::Failed, Some(Reason::Budget), Some(failed(code, message.clone(), false)))
            }
            Self::Panicked => {
                let message = "the backend failed in a way it should not; the server's log says more".to_owned();
                (Status::Failed, None, Some(failed("internal", message, true)))
            }
            Self::Store(error) => (Status::Failed, None, Some(failed("store_refused", error.to_string(), true))),
        };
        let usage = said.usage.clone().map(|usage| Usage { raw: None, ..usage });
        End { status, reason, usage, error }
    }
}

/// What a generation needs.
pub struct Generation {
    /// The stream as others see it.
    pub live: Arc<Live>,
    /// Its log.
    pub writer: Writer,
    /// Who generates.
    pub backend: Arc<dyn Backend>,
    /// The backend's own name of the model.
    pub upstream_model: String,
    /// What was asked.
    pub prompt: Prompt,
    /// The log's first record.
    pub begin: Begin,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl Generation {
    /// Runs until the log is closed.
    pub async fn run(mut self) {
        let begin = Event::Begin(self.begin.clone());
        self.writer.push(&begin);
        if let Some(json) = self.prompt.echo.take() {
            let (protocol, name) = (self.prompt.protocol.clone(), "request".to_owned());
            self.writer.push(&Event::Opaque(Opaque { protocol, name, json }));
        }
        let stop = match self.writer.flush().await {
            Ok(()) => self.generate().await,
            Err(error) => Stop::Store(error),
        };
        self.close(stop).await;
    }

    /// Reads the backend to its end or to a stop. What it gave is in the log when this returns, except after a store error.
    async fn generate(&mut self) -> Stop {
        let live = self.live.clone();
        let mut abandoned = pin!(live.audience.abandoned());
        let mut clock = clock::Clock::new(self.backend.clocks());
        let mut alarm = Alarm::at(clock.next().into());
        let mut child = Child(match catch(|| self.backend.generate(&self.prompt, &self.upstream_model)) {
            Ok(events) => events,
            Err(stop) => return stop,
        });
        // A long conversation is not kept for as long as its answer takes.
        self.prompt = Prompt::default();
        // The child had nothing more when it was asked last, and this is still the same poll of this task: it knows whom to wake.
        let mut asked = false;
        loop {
            let measured = self.writer.is_measured();
            let mut came = None;
            let stop = poll_fn(|cx| {
                live.task.register(cx.waker());
                if let Some(why) = live.why.get() {
                    return Poll::Ready(Some(why.clone()));
                }
                if abandoned.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Stop::Abandoned));
                }
                while !asked && self.writer.waiting() < BATCH {
                    let Poll::Ready(event) = child.poll(cx) else {
                        asked = true;
                        break;
                    };
                    if measured && came.is_none() {
                        came = Some(Instant::now());
                    }
                    if let Some(stop) = self.take(event, &mut clock) {
                        return Poll::Ready(Some(stop));
                    }
                }
                if self.writer.waiting() > 0 {
                    return Poll::Ready(None);
                }
                (asked, came) = (false, None);
                if clock.is_another() && clock.next() < alarm.time().into_std() {
                    alarm.set(clock.next().into());
                }
                while alarm.poll(cx).is_ready() {
                    if let Some(stop) = clock.ran_out() {
                        return Poll::Ready(Some(stop));
                    }
                    // Something was said since it was set: it rings once a silence, not once a token.
                    alarm.set(clock.next().into());
                }
                Poll::Pending
            })
            .await;
            if self.writer.waiting() > 0 {
                let mut flush = pin!(self.writer.flush());
                let flushed = match poll!(&mut flush) {
                    Poll::Ready(flushed) => flushed,
                    Poll::Pending => {
                        asked = false;
                        flush.await
                    }
                };
                if let Err(error) = flushed {
                    return Stop::Store(error);
                }
                if let Some(came) = came {
                    self.metrics.overhead.observe(came.elapsed().as_secs_f64());
                }
            }
            if let Some(stop) = stop {
                return stop;
            }
            if !asked {
                // A backend that is always ready must not keep the thread to itself.
                tokio::task::consume_budget().await;
            }
        }
    }

    /// Puts one event into the batch; says if it was the last.
    fn take(&mut self, next: Next, clock: &mut clock::Clock) -> Option<Stop> {
        let event = match next {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Some(Stop::Backend(error)),
            Ok(None) => return Some(Stop::Done),
            Err(stop) => return Some(stop),
        };
        if matches!(event, Event::Begin(_) | Event::End(_)) {
            let message = "the backend gave a record that only lastword itself writes";
            return Some(Stop::Backend(BackendError::new(ErrorKind::Malformed, message)));
        }
        clock.heard(&event);
        let first = self.writer.push(&event);
        if first {
            self.metrics.time_to_first_token.observe(self.writer.elapsed().as_secs_f64());
        }
        self.writer.over_budget().map(Stop::Budget)
    }

    /// Writes the terminal record.
    async fn close(mut self, stop: Stop) {
        if let Stop::Backend(BackendError { kind: ErrorKind::Truncated, .. }) = &stop {
            self.metrics.upstream_truncated.inc();
        }
        let end = stop.end(self.writer.summary());
        let (id, status, code) = (self.live.id, end.status, end.error.as_ref().map(|e| e.code.clone()));
        let written = self.writer.end(end, stop.may_be_repeated()).await;
        let summary = self.writer.summary();
        match written {
            Ok(()) => {
                info!(%id, ?status, code = code.as_deref(), "stream ended");
                let backend = summary.attempts.last().map_or(&self.begin.backend, |attempt| &attempt.backend);
                let (protocol, backend) = (self.begin.protocol.clone(), backend.clone());
                self.metrics.ended(&Ended { status, reason: summary.reason, protocol, backend });
            }
            // Somebody else writes this log, or it was erased: its end is not ours to write, nor to count.
            Err(error) => error!(%id, %error, "stream given up"),
        }
        if let Some(usage) = &summary.usage {
            self.metrics.used(usage);
            let spoken = summary.first_token_ms.map(|first| summary.total_ms.saturating_sub(first));
            if let (Some(ms), Some(tokens @ 2..)) = (spoken, usage.output_tokens) {
                let between = u32::try_from(tokens - 1).unwrap_or(u32::MAX);
                self.metrics.time_per_output_token.observe(f64::from(ms) / 1000.0 / f64::from(between));
            }
        }
    }
}

/// What a poll of the backend gives: the stream's own item, or the stop that a panic is.
type Next = Result<Option<Result<Event<'static>, BackendError>>, Stop>;

/// The backend's stream, under a net.
struct Child(Events);

impl Child {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        match catch(|| self.0.poll_next_unpin(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(stop) => Poll::Ready(Err(stop)),
        }
    }
}

fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Stop> {
    std::panic::catch_unwind(AssertUnwindSafe(f)).map_err(|_| Stop::Panicked)
}
