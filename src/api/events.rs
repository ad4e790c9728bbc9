//! A reader's response body: the records behind its cursor, then those that come, then the end.
//!
//! What belongs to a connection is added here (the opening bytes, `retry`, heartbeats); what belongs to the log is the
//! encoder's. One wake-up becomes one buffer and one write, whatever number of records is ready.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::{
    select,
    time::{Instant, sleep_until, timeout},
};
use tracing::warn;

use super::{
    Api, X_STREAM_ID,
    auth::NOBODY,
    connection::{Connection, GaveUp},
    retold::Retold,
};
use crate::{
    event::{End, Event},
    gateway::{Attached, Attachment, Place, Reset, StoreError, Stream as Known},
    id::{Cursor, Seen, StreamId},
    protocol::Encode,
    record::Record,
    stream::Reader,
    telemetry::Metrics,
    wire::sse::{HEARTBEAT, write_event},
};

/// How many bytes of records are taken at once. A reader that is stuck holds one such page as frames, and no more.
const PAGE: usize = 16 * 1024;
/// A frame buffer that had to grow beyond this is given back, so that a reader who waits holds little.
const KEEP: usize = 2 * 1024;

/// How a reader likes its heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// A comment line: keeps proxies content, and no client sees it.
    #[default]
    Comment,
    /// A named event, for a page that watches for silence itself.
    Event,
    /// As Anthropic does it.
    Ping,
}

impl Heartbeat {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Comment => HEARTBEAT,
            Self::Event => b"event: heartbeat\ndata: {}\n\n",
            Self::Ping => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        }
    }
}

/// A reader that has come, and whose response has not begun. It counts as one: dropping it is leaving.
pub(super) struct Seat {
    /// What is known of the stream.
    pub(super) stream: Known,
    /// Where it begins to read.
    pub(super) from: Place,
    reader: Reader,
    presence: Presence,
}

impl Seat {
    /// Attaches a reader behind what it has seen.
    ///
    /// # Errors
    /// When there is no such stream, or it cannot be read.
    pub(super) async fn take(
        api: &Arc<Api>,
        id: StreamId,
        seen: Option<Seen>,
        connection: Connection,
    ) -> Result<Self, StoreError> {
        let Attachment { stream, from, reader, attached } = api.gateway.attach(NOBODY, id, seen).await?;
        let presence = Presence::new(attached, connection, api.gateway.metrics().clone());
        Ok(Self { stream, from, reader, presence })
    }

    /// Waits for the first that is said in the encoder's protocol, but not longer than this. Gives back the answer's end if nothing was.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn first_word<E: Encode>(&self, at_most: Duration) -> Result<Option<End>, StoreError> {
        // Another reader of the same log: this one keeps its place.
        let mut scout = self.reader.clone();
        let looking = async {
            let mut end = None;
            while let Some(page) = scout.next(PAGE).await? {
                for (cursor, bytes) in page.records() {
                    let record = read(self.stream.meta.id, cursor, bytes)?;
                    if E::is_said(&record) {
                        return Ok(None);
                    }
                    if record.head.is_end()
                        && let Ok(Event::End(it)) = record.event()
                    {
                        end = Some(it);
                    }
                }
            }
            Ok(end)
        };
        timeout(at_most, looking).await.unwrap_or(Ok(None))
    }

    /// Waits for the log's first record.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn first_record(&self) -> Result<(), StoreError> {
        self.reader.clone().next(1).await.map(|_| ())
    }

    /// Shows `each` the records to the last, as they come.
    ///
    /// # Errors
    /// When the log cannot be read, or was erased meanwhile.
    pub(super) async fn read(mut self, mut each: impl FnMut(&Record<'_>) + Send) -> Result<(), StoreError> {
        while let Some(page) = self.reader.next(PAGE).await? {
            for (cursor, bytes) in page.records() {
                each(&read(self.stream.meta.id, cursor, bytes)?);
            }
        }
        Ok(())
    }

    /// The response to this reader: the records as server-sent events of the encoder's protocol.
    ///
    /// `start` is what the protocol says before the first record, with the time after which a reader may come back.
    ///
    /// # Errors
    /// When what precedes the reader's cursor cannot be read.
    pub(super) async fn relay<E: Encode + 'static>(
        self,
        api: &Arc<Api>,
        mut encoder: E,
        start: impl FnOnce(&Known, u32) -> Option<Bytes>,
        heartbeat: Heartbeat,
    ) -> Result<Response, StoreError> {
        let id = self.stream.meta.id;
        let retry = api.retry();
        if self.stream.meta.closed() && self.from != Place::Ended {
            // What cannot be read is said before the head: behind it a client would come back at once, and again.
            self.reader.clone().next(1).await?;
        }
        let (after, opening) = match self.from {
            Place::Ended => return Ok(head(StatusCode::NO_CONTENT, id, Body::empty())),
            Place::Start => (Cursor::START, start(&self.stream, retry)),
            Place::Cursor(after) => (after, None),
            Place::Reset(reset) => (reset.after, Some(told(reset, retry))),
        };
        if E::FOLDS && after > Cursor::START {
            let skim = |runs: &[(Record<'_>, u32)]| {
                runs.iter().for_each(|(record, times)| encoder.skip_run(record, *times));
                true
            };
            let from = api.gateway.skim(id, after, skim).await?;
            api.gateway.records(id, from, after, |_, record| encoder.skip(record)).await?;
        }
        let retry = opening.is_none().then_some(retry);
        Ok(self.go_on(api, encoder, opening, retry, heartbeat))
    }

    /// The response to this reader, whose encoder knows all that comes before its place.
    pub(super) fn go_on<E: Encode + 'static>(
        self,
        api: &Arc<Api>,
        encoder: E,
        opening: Option<Bytes>,
        retry: Option<u32>,
        heartbeat: Heartbeat,
    ) -> Response {
        let Self { stream, reader, presence, .. } = self;
        let id = stream.meta.id;
        let retold = api.retold.of(id, &encoder);
        let opening = opening.unwrap_or(Bytes::from_static(HEARTBEAT));
        let relay = Relay { api: api.clone(), id, opening, reader, encoder, retold, retry, presence };
        head(StatusCode::OK, id, Body::from_stream(relay.run(heartbeat)))
    }
}

fn read(id: StreamId, cursor: Cursor, bytes: &[u8]) -> Result<Record<'_>, StoreError> {
    Record::parse(bytes).map_err(|bad| StoreError::Unavailable(format!("stream {id}, record {cursor}: {bad}")))
}

/// The event that tells a reader that its cursor cannot be served: lastword's own, in every protocol. It has no id.
fn told(reset: Reset, retry: u32) -> Bytes {
    let mut out = BytesMut::new();
    let data = serde_json::to_vec(&reset).expect("plain data");
    write_event(&mut out, Some("reset"), &data, Some(retry), None);
    out.freeze()
}

/// The head of an answer in events. `no-transform` and `X-Accel-Buffering` keep proxies from holding tokens back.
pub(super) fn head(status: StatusCode, id: StreamId, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::OK {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(X_STREAM_ID, HeaderValue::from_str(&id.to_string()).expect("hex digits"));
    response
}

struct Relay<E> {
    api: Arc<Api>,
    id: StreamId,
    opening: Bytes,
    reader: Reader,
    encoder: E,
    /// What it shares with the stream's other readers.
    retold: Option<Arc<Retold>>,
    retry: Option<u32>,
    presence: Presence,
}

impl<E: Encode> Relay<E> {
    /// The body. It ends only behind the terminal record; where that cannot be, it gives up, which resets the connection.
    fn run(self, heartbeat: Heartbeat) -> impl Stream<Item = Result<Bytes, GaveUp>> {
        let Self { api, id, opening, mut reader, mut encoder, retold, mut retry, presence } = self;
        let every = api.settings.heartbeat;
        async_stream::stream! {
            let _presence = presence;
            yield Ok(opening);
            let mut out = BytesMut::new();
            let mut written = Instant::now();
            let silence = sleep_until(written + jittered(every));
            tokio::pin!(silence);
            loop {
                let page = select! {
                    biased;
                    page = reader.next(PAGE) => page,
                    // Set once a silence, not once a token: when it rings, it is looked how long nothing was written.
                    () = &mut silence => {
                        if written.elapsed() >= every.mul_f32(0.8) {
                            yield Ok(Bytes::from_static(heartbeat.bytes()));
                            written = Instant::now();
                        }
                        silence.as_mut().reset(written + jittered(every));
                        continue;
                    }
                };
                match page {
                    Ok(Some(page)) => {
                        if let Some(retry) = retry {
                            out.extend_from_slice(format!("retry: {retry}\n").as_bytes());
                        }
                        let before = out.len();
                        let mut wrote = false;
                        for (cursor, bytes) in page.records() {
                            let shared = match read(id, cursor, bytes) {
                                Ok(record) => match (encoder.repeats(&record), &retold) {
                                    (Some(seen), Some(retold)) => {
                                        encoder.skip(&record);
                                        let frames = retold.frames(&api.gateway, cursor, &record).await;
                                        frames.map(|frames| Some((frames, seen)))
                                    }
                                    _ => {
                                        encoder.encode(cursor, &record, &mut out);
                                        Ok(None)
                                    }
                                },
                                Err(error) => Err(error),
                            };
                            let (frames, seen) = match shared {
                                Ok(Some(shared)) => shared,
                                Ok(None) => continue,
                                Err(error) => {
                                    warn!(%id, %error, "a reader was given up");
                                    yield Err(GaveUp::new());
                                    return;
                                }
                            };
                            for piece in frames.iter().skip(seen).flatten() {
                                if piece.len() <= KEEP {
                                    out.extend_from_slice(piece);
                                    continue;
                                }
                                if !out.is_empty() {
                                    yield Ok(out.split().freeze());
                                }
                                wrote = true;
                                written = Instant::now();
                                yield Ok(piece.clone());
                            }
                        }
                        if out.len() == before && !wrote {
                            out.clear(); // nothing in it that this protocol shows
                            continue;
                        }
                        retry = None;
                        written = Instant::now();
                        let frames = out.split().freeze();
                        if frames.len() > KEEP {
                            out = BytesMut::new();
                        }
                        if !frames.is_empty() {
                            yield Ok(frames);
                        }
                    }
                    Ok(None) => return,
                    Err(error) => {
                        warn!(%id, %error, "a reader was given up");
                        yield Err(GaveUp::new());
                        return;
                    }
                }
            }
        }
    }
}

/// A reader's presence: while this lives, it counts.
struct Presence {
    attached: Option<Attached>,
    connection: Connection,
    metrics: Arc<Metrics>,
}

impl Presence {
    fn new(attached: Option<Attached>, connection: Connection, metrics: Arc<Metrics>) -> Self {
        metrics.readers.inc();
        Self { attached, connection, metrics }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.metrics.readers.dec();
        if let Some(attached) = self.attached.as_mut().filter(|_| self.connection.ended_by_us()) {
            attached.ended_by_us();
        }
    }
}

/// Somewhere within a fifth of it, so that readers who came together do not all beat together.
fn jittered(every: Duration) -> Duration {
    every.mul_f32(0.8 + 0.4 * fastrand::f32())
}
