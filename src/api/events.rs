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
    time::{Instant, sleep_until},
};
use tracing::warn;

use super::{
    Api, X_STREAM_ID,
    connection::{Connection, GaveUp},
    error::Problem,
};
use crate::{
    gateway::{Attached, Attachment, Place},
    id::{Cursor, StreamId},
    protocol::{
        Encode,
        native::{Native, Start, events_url, rfc3339},
    },
    record::Record,
    stream::Reader,
    telemetry::Metrics,
    wire::sse::HEARTBEAT,
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
}

impl Heartbeat {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Comment => HEARTBEAT,
            Self::Event => b"event: heartbeat\ndata: {}\n\n",
        }
    }
}

/// The response to a reader: its events as server-sent events in the native protocol.
///
/// # Errors
/// When what precedes the reader's cursor cannot be read.
pub(super) async fn respond(
    api: &Arc<Api>,
    attachment: Attachment,
    mut encoder: Native,
    heartbeat: Heartbeat,
    connection: Connection,
) -> Result<Response, Problem> {
    let Attachment { stream, from, reader, attached } = attachment;
    let id = stream.meta.id;
    let mut opening = BytesMut::new();
    let mut retry = Some(api.retry());
    let after = match from {
        Place::Ended => return Ok(head(StatusCode::NO_CONTENT, id, Body::empty())),
        Place::Start => {
            let created_at = rfc3339(stream.meta.created_at);
            let start = Start { id, model: &stream.begin.model, created_at, events_url: events_url(id) };
            encoder.start(&start, retry.take(), &mut opening);
            Cursor::START
        }
        Place::Cursor(after) => {
            opening.extend_from_slice(HEARTBEAT);
            after
        }
        Place::Reset(reset) => {
            Native::reset(reset.reason.as_str(), reset.after, retry.take(), &mut opening);
            reset.after
        }
    };
    if Native::FOLDS && after > Cursor::START {
        api.gateway.records(id, after, |_, record| encoder.skip(&record.head)).await?;
    }
    let presence = Presence::new(attached, connection, api.gateway.metrics().clone());
    let relay = Relay { id, opening: opening.freeze(), reader, encoder, retry, presence };
    let body = Body::from_stream(relay.run(api.settings.heartbeat, heartbeat));
    Ok(head(StatusCode::OK, id, body))
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
    id: StreamId,
    opening: Bytes,
    reader: Reader,
    encoder: E,
    retry: Option<u32>,
    presence: Presence,
}

impl<E: Encode> Relay<E> {
    /// The body. It ends only behind the terminal record; where that cannot be, it gives up, which resets the connection.
    fn run(self, every: Duration, heartbeat: Heartbeat) -> impl Stream<Item = Result<Bytes, GaveUp>> {
        let Self { id, opening, mut reader, mut encoder, mut retry, presence } = self;
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
                        for (cursor, bytes) in page.records() {
                            match Record::parse(bytes) {
                                Ok(record) => encoder.encode(cursor, &record, &mut out),
                                Err(bad) => {
                                    warn!(%id, %cursor, %bad, "a stored record cannot be read");
                                    yield Err(GaveUp::new());
                                    return;
                                }
                            }
                        }
                        if out.len() == before {
                            out.clear(); // nothing in it that this protocol shows
                            continue;
                        }
                        retry = None;
                        written = Instant::now();
                        let frames = out.split().freeze();
                        if frames.len() > KEEP {
                            out = BytesMut::new();
                        }
                        yield Ok(frames);
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
