//! A reader's response: the records behind its cursor, then those that come, then the end.
//!
//! What belongs to a connection is added here (the opening bytes, `retry`, heartbeats); what belongs to the log is the
//! encoder's.

pub(super) mod numbered;
mod paced;
mod poll;
mod relay;
#[cfg(test)]
mod tests;

use std::{iter, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::time::timeout;

use self::relay::{Parts, Relay};
use super::{
    Api, X_STREAM_ID,
    auth::Caller,
    connection::{Connection, GaveUp},
    snapshot::{Made, Snapshot},
};
use crate::{
    event::{End, Event, Status},
    gateway::{AttachError, Attached, Attachment, Place, Reset, ResetReason, StoreError, Stream as Known},
    id::{Cursor, Seen, StreamId},
    protocol::Encode,
    record::Record,
    stream::Reader,
    telemetry::Metrics,
    wire::{Form, Frame, ndjson::Ndjson, sse::write_event},
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
    fn bytes(self, form: Form) -> &'static [u8] {
        match (self, form) {
            (Self::Event, Form::Sse) => b"event: heartbeat\ndata: {}\n\n",
            (Self::Event, Form::Ndjson) => b"{\"event\":\"heartbeat\",\"data\":{}}\n",
            (Self::Ping, Form::Sse) => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
            (_, form) => form.heartbeat(),
        }
    }
}

/// How long the last words of a body that is about to be broken off have for their way: a reset overtakes what is not sent yet.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

/// A reader that has come, and whose response has not begun. It counts as one: dropping it is leaving.
pub(super) struct Seat {
    /// What is known of the stream.
    pub(super) stream: Known,
    /// Where it begins to read.
    pub(super) from: Place,
    reader: Reader,
    presence: Presence,
    /// What it is told before the first record, beside the start.
    before: Vec<Bytes>,
    /// Whose words those are, so that others who come now get the same.
    snapshot: Option<Arc<Snapshot>>,
}

impl Seat {
    /// Attaches a reader behind what it has seen.
    ///
    /// # Errors
    /// When there is no such stream, or it cannot be read, or too many do.
    pub(super) async fn take(
        api: &Arc<Api>,
        caller: &Caller,
        id: StreamId,
        seen: Option<Seen>,
        connection: Connection,
    ) -> Result<Self, AttachError> {
        let Attachment { stream, from, reader, attached } = api.gateway.attach(caller.owner(), id, seen).await?;
        let presence = Presence::new(attached, connection, api.gateway.metrics().clone());
        Ok(Self { stream, from, reader, presence, before: Vec::new(), snapshot: None })
    }

    /// Notes that this reader comes back by itself when it is cut off, behind what it has seen.
    pub(super) fn comes_back(&self) {
        self.presence.connection.will_come_back();
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

    /// Tells this reader what was said so far in one piece, and goes on behind it. `frame` gives what stands around the words. Only
    /// of a reader without a cursor.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn tell_so_far(
        &mut self,
        api: &Arc<Api>,
        frame: impl FnOnce(Cursor) -> (BytesMut, BytesMut),
    ) -> Result<(), StoreError> {
        let meta = &self.stream.meta;
        // The end is told by itself.
        let last = if meta.closed() { meta.last.before() } else { meta.last };
        let snapshot = api.snapshots.of(meta.id);
        let Made { upto, data } = snapshot.upto(&api.gateway, last).await?;
        let (mut head, tail) = frame(upto);
        self.before = match data.len() <= KEEP {
            true => {
                head.extend_from_slice(&data);
                head.extend_from_slice(&tail);
                vec![head.freeze()]
            }
            false => vec![head.freeze(), data, tail.freeze()],
        };
        self.reader.go_on_behind(upto);
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// The response to this reader: the records as events of the encoder's protocol, in its form.
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
        if self.stream.meta.closed() && self.from != Place::Ended {
            // What cannot be read is said before the head: behind it a client would come back at once, and again.
            self.reader.clone().next(1).await?;
        }
        let Some((after, opening, retry)) = self.begin(api, &mut encoder, start) else {
            return Ok(self.nothing_more(E::FORM));
        };
        if E::FOLDS && after > Cursor::START {
            let skim = |runs: &[(Record<'_>, u32)]| {
                runs.iter().for_each(|(record, times)| encoder.skip_run(record, *times));
                true
            };
            let from = api.gateway.skim(id, after, skim).await?;
            api.gateway.records(id, from, after, |_, record| encoder.skip(record)).await?;
        }
        Ok(self.go_on(api, encoder, opening, retry, heartbeat))
    }

    /// Where it reads on, what it is told there, and, if not in that, when it may come back. Nothing if there is nothing more.
    fn begin<E: Encode>(
        &self,
        api: &Api,
        encoder: &mut E,
        start: impl FnOnce(&Known, u32) -> Option<Bytes>,
    ) -> Option<(Cursor, Option<Bytes>, Option<u32>)> {
        let retry = api.retry();
        let (after, opening) = match self.place(api, encoder) {
            Place::Ended => return None,
            Place::Start => (Cursor::START, start(&self.stream, retry)),
            Place::Cursor(after) | Place::Within(after, _) => (after, None),
            Place::Reset(reset) => (reset.after, Some(told(reset, E::FORM, retry))),
        };
        let retry = (opening.is_none() && E::FORM == Form::Sse).then_some(retry);
        Some((after, opening, retry))
    }

    /// Where it reads on: not within a record where the encoder cannot leave a part of one out.
    fn place<E: Encode>(&self, api: &Api, encoder: &mut E) -> Place {
        match self.from {
            Place::Within(after, bytes) if !encoder.begin_within(bytes) => {
                let reason = ResetReason::Unknown;
                api.gateway.metrics().reset(reason.as_str());
                Place::Reset(Reset { reason, after })
            }
            place => place,
        }
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
        let Self { stream, reader, presence, before, snapshot, .. } = self;
        let id = stream.meta.id;
        let retold = api.retold.of(id, &encoder);
        let opening = opening.unwrap_or(Bytes::from_static(E::FORM.heartbeat()));
        let before = iter::once(opening).chain(before).collect();
        let parts = Parts { api: api.clone(), id, before, reader, encoder, retold, snapshot, retry, presence };
        head(StatusCode::OK, id, E::FORM, Body::from_stream(Relay::new(parts, heartbeat)))
    }

    /// The response to a reader that has seen the end. The one way to stop an `EventSource` for good is 204.
    fn nothing_more(self, form: Form) -> Response {
        let id = self.stream.meta.id;
        let completed = self.stream.summary.is_some_and(|known| known.status == Some(Status::Completed));
        let body = match form {
            Form::Text if !completed => Body::from_stream(stream::iter([Err::<Bytes, _>(GaveUp::new())])),
            _ => Body::empty(),
        };
        let status = if form == Form::Sse { StatusCode::NO_CONTENT } else { StatusCode::OK };
        head(status, id, form, body)
    }
}

fn read(id: StreamId, cursor: Cursor, bytes: &[u8]) -> Result<Record<'_>, StoreError> {
    Record::parse(bytes).map_err(|bad| StoreError::Unavailable(format!("stream {id}, record {cursor}: {bad}")))
}

/// The event that tells a reader that its cursor cannot be served: lastword's own, in every protocol. It has no id.
fn told(reset: Reset, form: Form, retry: u32) -> Bytes {
    let mut out = BytesMut::new();
    let data = serde_json::to_vec(&reset).expect("plain data");
    match form {
        Form::Sse => write_event(&mut out, Some("reset"), &data, Some(retry), None),
        Form::Ndjson => Ndjson::default().event(&mut out, Some("reset"), &data, None),
        Form::Text => {} // whose readers are refused instead: see `native`
    }
    out.freeze()
}

/// The head of an answer in events. `no-transform` and `X-Accel-Buffering` keep proxies from holding tokens back.
pub(super) fn head(status: StatusCode, id: StreamId, form: Form, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::OK {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    }
    if form == Form::Text {
        // Browsers hold the first kilobyte back else, to guess what it is.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(X_STREAM_ID, HeaderValue::from_str(&id.to_string()).expect("hex digits"));
    response
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

impl Presence {
    /// This reader will be there again: it has left only when it has not come back for so long.
    fn polls(&mut self, apart: Duration) {
        if let Some(attached) = &mut self.attached {
            attached.polls(apart);
        }
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
