//! A body's bytes to events: what every backend does that reads an answer as it comes.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Upstream;
use crate::{
    backend::BackendError,
    client::{self, Body},
    event::{Attempt, Event},
};

/// How long the terminal mark of a whole answer, and what may come before it, is waited for: some servers forget it, and leave the
/// connection open. The count of tokens follows at once where it follows at all.
const AFTER_THE_WHOLE: Duration = Duration::from_secs(5);

/// Makes events of a body's bytes. An error stands after the events before it.
pub(in crate::backend) trait Read: Unpin {
    /// Whether all that follows the whole answer has its time in all, and not each event anew.
    const IN_ALL: bool = false;

    /// Takes the next bytes, cut anywhere.
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event<'static>>) -> Result<(), BackendError>;

    /// The body has ended.
    fn finish(&mut self, events: &mut Vec<Event<'static>>) -> Result<(), BackendError>;

    /// The body broke off.
    fn broken(&mut self, why: client::Error, _: &mut Vec<Event<'static>>) -> Result<(), BackendError> {
        Err(why.into())
    }

    /// Nothing that follows matters.
    fn done(&self) -> bool;

    /// The answer is whole, though more may follow.
    fn whole(&self) -> bool;
}

/// The events of a body. Those that arrived in one piece are given back to back; a piece without any is a sign of life.
pub(in crate::backend) struct Told<R> {
    upstream: Arc<Upstream>,
    body: Option<Body>,
    read: R,
    /// What is still to be given, the last first.
    events: Vec<Event<'static>>,
    /// What is to be said behind them, once that is known.
    outcome: Option<Result<(), BackendError>>,
    /// Running while the answer is whole. Boxed: few answers need it.
    rest: Option<Pin<Box<Sleep>>>,
}

impl<R: Read> Told<R> {
    /// Of this body; the attempt is told first.
    pub(in crate::backend) fn new(upstream: Arc<Upstream>, attempt: Attempt, body: Body, read: R) -> Self {
        let events = vec![Event::Attempt(attempt)];
        Self { upstream, body: Some(body), read, events, outcome: None, rest: None }
    }

    /// The next piece of the body; nothing at its end, or when what may follow a whole answer did not come.
    fn piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, client::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_next(cx) {
            Poll::Pending => match &mut self.rest {
                Some(rest) => rest.as_mut().poll(cx).map(|()| None),
                None => Poll::Pending,
            },
            piece => piece,
        }
    }

    /// Sets the clock for what may follow a whole answer.
    fn wait(&mut self) {
        match self.read.whole() {
            false => self.rest = None,
            // A sign of life is nothing to wait longer for.
            true if self.rest.is_some() && (R::IN_ALL || self.events.is_empty()) => {}
            true => {
                let until = Instant::now() + AFTER_THE_WHOLE.min(self.upstream.clocks.silence / 2);
                self.rest = Some(Box::pin(sleep_until(until)));
            }
        }
    }
}

impl<R: Read> Stream for Told<R> {
    type Item = Result<Event<'static>, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.events.pop() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(outcome) = &mut this.outcome {
                let failed = mem::replace(outcome, Ok(())).err();
                return Poll::Ready(failed.map(|error| Err(this.upstream.presentable(error))));
            }
            let Poll::Ready(piece) = this.piece(cx) else { return Poll::Pending };
            let goes_on = matches!(piece, Some(Ok(_)));
            let outcome = match piece {
                Some(Ok(bytes)) => this.read.feed(&bytes, &mut this.events),
                Some(Err(error)) => this.read.broken(error, &mut this.events),
                None => this.read.finish(&mut this.events),
            };
            if goes_on && outcome.is_ok() && !this.read.done() {
                this.wait();
                if this.events.is_empty() {
                    return Poll::Ready(Some(Ok(Event::Alive)));
                }
            } else {
                let body = this.body.take();
                if outcome.is_ok() {
                    body.into_iter().for_each(Body::release);
                }
                this.outcome = Some(outcome);
            }
            this.events.reverse();
        }
    }
}
