//! The body of a reader that takes all as it comes: what runs for each token and reader. One wake-up becomes one buffer and one write,
//! whatever number of records is ready.
//!
//! Written as a state that is polled, since this is the hottest place of all: what a lone token runs through is short, and what happens
//! seldom is elsewhere.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, future::BoxFuture};
use tokio::time::Instant;
use tracing::warn;

use super::{Heartbeat, KEEP, LAST_WORDS, PAGE, Presence, jittered, read};
use crate::{
    api::{
        Api,
        connection::GaveUp,
        retold::{Frames, Retold},
        snapshot::Snapshot,
    },
    gateway::StoreError,
    id::{Cursor, StreamId},
    protocol::Encode,
    seldom::Alarm,
    stream::Reader,
};

/// What a reader's body is made of.
pub(super) struct Parts<E> {
    pub(super) api: Arc<Api>,
    pub(super) id: StreamId,
    /// What is sent before the first record.
    pub(super) before: Vec<Bytes>,
    pub(super) reader: Reader,
    pub(super) encoder: E,
    /// What it shares with the stream's other readers.
    pub(super) retold: Option<Arc<Retold>>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) retry: Option<u32>,
    pub(super) presence: Presence,
}

/// The body. It ends only behind the terminal record; where that cannot be, it gives up, which resets the connection.
pub(super) struct Relay<E> {
    api: Arc<Api>,
    id: StreamId,
    reader: Reader,
    encoder: E,
    retold: Option<Arc<Retold>>,
    retry: Option<u32>,
    /// What is sent before anything else is done.
    pieces: VecDeque<Bytes>,
    /// The frames of the page so far.
    out: BytesMut,
    /// How far the page has been told, and whether it has shown anything yet.
    told: Cursor,
    shown: bool,
    next: Next,
    beat: &'static [u8],
    every: Duration,
    written: Instant,
    /// Set once a silence, not once a token: when it rings, it is looked how long nothing was written.
    silence: Alarm,
    _here: (Presence, Option<Arc<Snapshot>>),
}

/// What it does next.
enum Next {
    /// Waits for records.
    Read,
    /// Waits for the frames of a record that repeats what was said, of which so many have been seen.
    Retell(BoxFuture<'static, Result<Frames, StoreError>>, usize),
    /// Lets its last words go their way, until the alarm.
    Linger,
    GiveUp,
    Nothing,
}

impl<E: Encode> Relay<E> {
    pub(super) fn new(parts: Parts<E>, heartbeat: Heartbeat) -> Self {
        let Parts { api, id, before, reader, encoder, retold, snapshot, retry, presence } = parts;
        let (every, written) = (api.settings.heartbeat, Instant::now());
        Self {
            api,
            id,
            reader,
            encoder,
            retold,
            retry,
            pieces: before.into_iter().filter(|piece| !piece.is_empty()).collect(),
            out: BytesMut::new(),
            told: Cursor::START,
            shown: false,
            next: Next::Read,
            beat: heartbeat.bytes(E::FORM),
            every,
            written,
            silence: Alarm::at(written + jittered(every)),
            _here: (presence, snapshot),
        }
    }

    /// Lets the encoder tell what is left of the page; gives the frames when all of it is told, unless it shows nothing.
    fn tell(&mut self) -> Option<Bytes> {
        let Self { id, reader, encoder, retold, out, told, next, .. } = self;
        let before = out.len();
        for (cursor, bytes) in reader.page().records() {
            if cursor <= *told {
                continue; // before a record that repeats something
            }
            *told = cursor;
            let record = match read(*id, cursor, bytes) {
                Ok(record) => record,
                Err(error) => {
                    *next = given_up(*id, &error);
                    return None;
                }
            };
            if let (Some(seen), Some(retold)) = (encoder.repeats(&record), &*retold) {
                encoder.skip(&record);
                let (retold, api, id, bytes) = (retold.clone(), self.api.clone(), *id, bytes.to_vec());
                let frames = async move { retold.frames(&api.gateway, cursor, &read(id, cursor, &bytes)?).await };
                self.shown |= out.len() > before;
                *next = Next::Retell(frames.boxed(), seen);
                return None;
            }
            encoder.encode(cursor, &record, out);
        }
        self.shown |= self.out.len() > before;
        if self.encoder.broken() {
            // The timer of the silence, which is over: another one would cost each reader its room.
            self.silence.set(Instant::now() + LAST_WORDS);
            self.next = Next::Linger;
        }
        if !self.shown {
            self.out.clear(); // nothing in it that this protocol shows
            return None;
        }
        (self.retry, self.written) = (None, Instant::now());
        let frames = self.out.split().freeze();
        if frames.len() > KEEP {
            self.out = BytesMut::new();
        }
        (!frames.is_empty()).then_some(frames)
    }

    /// A page is here.
    fn begin(&mut self) -> Option<Bytes> {
        self.shown = false;
        if let Some(retry) = self.retry {
            self.out.extend_from_slice(format!("retry: {retry}\n").as_bytes());
        }
        self.tell()
    }

    /// Tells what is retold, but for what has been seen of it, and then the rest of the page.
    #[cold]
    fn retell(&mut self, frames: Result<Frames, StoreError>, seen: usize) -> Option<Bytes> {
        self.next = Next::Read;
        let frames = match frames {
            Ok(frames) => frames,
            Err(error) => {
                self.next = given_up(self.id, &error);
                return None;
            }
        };
        for piece in frames.iter().skip(seen).flatten() {
            self.shown = true;
            if piece.len() <= KEEP {
                self.out.extend_from_slice(piece);
                continue;
            }
            if !self.out.is_empty() {
                self.pieces.push_back(self.out.split().freeze());
            }
            self.pieces.push_back(piece.clone());
        }
        // In its turn, behind what is sent by itself.
        let rest = self.tell()?;
        if self.pieces.is_empty() {
            return Some(rest);
        }
        self.pieces.push_back(rest);
        None
    }

    /// Nothing came for a while.
    #[cold]
    fn rings(&mut self) {
        if self.written.elapsed() >= self.every.mul_f32(0.8) {
            if !self.beat.is_empty() {
                self.pieces.push_back(Bytes::from_static(self.beat));
            }
            self.written = Instant::now();
        }
        self.silence.set(self.written + jittered(self.every));
    }
}

#[cold]
fn given_up(id: StreamId, error: &StoreError) -> Next {
    warn!(%id, %error, "a reader was given up");
    Next::GiveUp
}

impl<E: Encode> Stream for Relay<E> {
    type Item = Result<Bytes, GaveUp>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.pieces.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            let frames = match &mut this.next {
                Next::Read => match this.reader.poll(cx, PAGE) {
                    Poll::Ready(Ok(true)) => this.begin(),
                    Poll::Ready(Ok(false)) => return Poll::Ready(None),
                    Poll::Ready(Err(error)) => {
                        this.next = given_up(this.id, &error);
                        None
                    }
                    Poll::Pending => {
                        ready!(this.silence.poll(cx));
                        this.rings();
                        None
                    }
                },
                Next::Retell(frames, seen) => {
                    let (frames, seen) = (ready!(frames.as_mut().poll(cx)), *seen);
                    this.retell(frames, seen)
                }
                Next::Linger => {
                    ready!(this.silence.poll(cx));
                    this.next = Next::GiveUp;
                    None
                }
                Next::GiveUp => {
                    this.next = Next::Nothing;
                    return Poll::Ready(Some(Err(GaveUp::new())));
                }
                Next::Nothing => return Poll::Ready(None),
            };
            if let Some(frames) = frames {
                return Poll::Ready(Some(Ok(frames)));
            }
        }
    }
}
