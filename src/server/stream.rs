//! One HTTP/2 stream: the task that answers it, cut when its reader stalls.
//!
//! The write deadline of the socket (`io.rs`) never fires for one stalled stream, since the connection's other streams
//! and its pings go on. So each stream is watched: hyper asks a body for a frame only after the last one was handed to
//! h2, which waits for window; a frame that stays in hyper's hands for the write timeout means a reader who takes
//! nothing. A body that has nothing to say is never cut.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Sleep, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::drain::Cuts;
use super::link::Link;
use crate::api::connection::Connection;

tokio::task_local! {
    /// Set while a stream's task is polled: how the service finds the stream its request came on.
    static STREAM: Stream;
}

/// Where the last frame of the body is. Only the stream's own task touches it, so its ordering does not matter.
mod frame {
    /// With h2, or there was none: the body has been asked for the next one.
    pub(super) const SENT: u8 = 0;
    /// With hyper, since the watch last looked.
    pub(super) const NEW: u8 = 1;
    /// Still with hyper.
    pub(super) const HELD: u8 = 2;
}

/// What the body of a stream tells the watch of the same stream.
#[derive(Clone)]
pub(super) struct Stream {
    connection: Connection,
    frame: Arc<AtomicU8>,
}

impl Stream {
    /// The stream whose task this is. `None` on HTTP/1.
    pub(super) fn current() -> Option<Self> {
        STREAM.try_with(Self::clone).ok()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The body was asked for a frame, and had one or not.
    pub(super) fn record(&self, had_one: bool) {
        self.frame.store(if had_one { frame::NEW } else { frame::SENT }, Ordering::Relaxed);
    }
}

/// Spawns the streams of one connection; hyper's executor.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) link: Arc<Link>,
    pub(super) tasks: TaskTracker,
    pub(super) write_timeout: Duration,
    pub(super) drain: CancellationToken,
    pub(super) cuts: Arc<Cuts>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, task: F) {
        let stream = Stream { connection: self.link.connection.stream(), frame: Arc::default() };
        let cut = Cut::Drain(Box::pin(self.drain.clone().cancelled_owned()), Arc::clone(&self.cuts));
        let watched = Watched {
            task: Box::pin(task),
            stream: stream.clone(),
            deadline: None,
            write_timeout: self.write_timeout,
            cut,
        };
        self.tasks.spawn(STREAM.scope(stream, watched));
    }
}

/// When a drain has this stream's reader come back. Small as long as there is no drain: every stream has one.
enum Cut {
    /// When it drains, one of these times.
    Drain(Pin<Box<WaitForCancellationFutureOwned>>, Arc<Cuts>),
    At(Pin<Box<Sleep>>),
    Never,
}

impl Cut {
    fn poll(&mut self, comes_back: impl Fn() -> bool, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Drain(drain, cuts) = self {
            ready!(drain.as_mut().poll(cx));
            let at = comes_back().then(|| cuts.next()).flatten();
            *self = at.map_or(Self::Never, |at| Self::At(Box::pin(sleep_until(at))));
        }
        match self {
            Self::At(sleep) => sleep.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

struct Watched<F> {
    task: Pin<Box<F>>,
    stream: Stream,
    /// Armed while a frame is held, for that frame.
    deadline: Option<Pin<Box<Sleep>>>,
    write_timeout: Duration,
    cut: Cut,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Self { stream, cut, .. } = &mut *self;
        if cut.poll(|| stream.connection.comes_back(), cx).is_ready() {
            stream.connection.end();
            return Poll::Ready(());
        }
        match self.stream.frame.load(Ordering::Relaxed) {
            frame::SENT => self.deadline = None,
            frame::NEW => {
                self.deadline = Some(Box::pin(sleep(self.write_timeout)));
                self.stream.frame.store(frame::HELD, Ordering::Relaxed);
            }
            _ => {}
        }
        let Some(deadline) = &mut self.deadline else {
            return Poll::Pending;
        };
        deadline.as_mut().poll(cx).map(|()| {
            debug!("a stream's reader took nothing for the write timeout: resetting the stream");
            // The task is dropped as soon as this returns, and h2 resets a stream that is dropped in the middle.
            self.stream.connection.end();
        })
    }
}
