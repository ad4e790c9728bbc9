//! A body of few events: at most so many a second, with the words that came in between in one. For clients to which each is dear.
//!
//! Words are cut where they are without that, only less often; so a reader that comes back at another pace, or at none, goes on where
//! it was.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{body::Body, http::StatusCode, response::Response};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

use super::{Heartbeat, Known, LAST_WORDS, PAGE, Presence, Seat, Snapshot, head, jittered, read};
use crate::{
    api::{Api, connection::GaveUp},
    gateway::StoreError,
    id::{Cursor, StreamId},
    protocol::{Encode, native::Chunks},
    stream::Reader,
    wire::Frame,
};

impl Seat {
    /// The response to a reader that takes at most `pace` events a second.
    pub(in crate::api) fn relay_paced<F: Frame + 'static>(
        self,
        api: &Arc<Api>,
        mut chunks: Chunks<F>,
        start: impl FnOnce(&Known, u32) -> Option<Bytes>,
        heartbeat: Heartbeat,
        pace: f32,
    ) -> Response {
        let Some((_, opening, retry)) = self.begin(api, &mut chunks, start) else {
            return self.nothing_more(F::FORM);
        };
        let Self { stream, reader, presence, before, snapshot, .. } = self;
        let id = stream.meta.id;
        let opening = opening.unwrap_or(Bytes::from_static(F::FORM.heartbeat()));
        let paced = Paced {
            id,
            opening: [opening].into_iter().chain(before).filter(|piece| !piece.is_empty()).collect(),
            reader,
            waiting: Waiting { chunks, events: VecDeque::new(), bytes: 0 },
            retry,
            _here: (presence, snapshot),
        };
        let beat = heartbeat.bytes(F::FORM);
        head(StatusCode::OK, id, F::FORM, Body::from_stream(paced.run(pace, api.settings.heartbeat, beat)))
    }
}

struct Paced<F> {
    id: StreamId,
    opening: Vec<Bytes>,
    reader: Reader,
    waiting: Waiting<F>,
    retry: Option<u32>,
    _here: (Presence, Option<Arc<Snapshot>>),
}

/// What was read and not told yet.
struct Waiting<F> {
    chunks: Chunks<F>,
    /// Events that no words can be added to.
    events: VecDeque<BytesMut>,
    bytes: usize,
}

impl<F: Frame> Waiting<F> {
    fn take<'r>(&mut self, id: StreamId, records: impl Iterator<Item = (Cursor, &'r [u8])>) -> Result<(), StoreError> {
        for (cursor, bytes) in records {
            let record = read(id, cursor, bytes)?;
            let (mut before, mut event) = (BytesMut::new(), BytesMut::new());
            self.chunks.before(&record, &mut before);
            self.chunks.take(cursor, &record, &mut event);
            for event in [before, event].into_iter().filter(|event| !event.is_empty()) {
                self.bytes += event.len();
                self.events.push_back(event);
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.chunks.is_ready()
    }

    /// There is room for more. What waits is bounded as a page is.
    fn has_room(&self) -> bool {
        self.bytes + self.chunks.held() < PAGE
    }

    /// Appends the next event.
    fn next(&mut self, out: &mut BytesMut) {
        match self.events.pop_front() {
            Some(event) => {
                self.bytes -= event.len();
                out.extend_from_slice(&event);
            }
            None => self.chunks.show(out),
        }
    }
}

impl<F: Frame> Paced<F> {
    fn run(self, pace: f32, every: Duration, beat: &'static [u8]) -> impl Stream<Item = Result<Bytes, GaveUp>> {
        let Self { id, opening, mut reader, mut waiting, mut retry, _here } = self;
        let apart = Duration::from_secs_f32(1.0 / pace);
        async_stream::stream! {
            let _here = _here;
            for piece in opening {
                yield Ok(piece);
            }
            let (mut ended, mut written) = (false, Instant::now());
            let mut next = written;
            let silence = sleep_until(written + jittered(every));
            tokio::pin!(silence);
            while !(ended && waiting.is_empty()) {
                let page = select! {
                    biased;
                    // A timer only where there is something to tell.
                    () = sleep_until(next), if !waiting.is_empty() => {
                        let mut out = BytesMut::new();
                        if let Some(retry) = retry.take() {
                            out.extend_from_slice(format!("retry: {retry}\n").as_bytes());
                        }
                        waiting.next(&mut out);
                        written = Instant::now();
                        next = written + apart;
                        yield Ok(out.freeze());
                        continue;
                    }
                    page = reader.next(PAGE), if !ended && waiting.has_room() => page,
                    () = &mut silence => {
                        if written.elapsed() >= every.mul_f32(0.8) {
                            if !beat.is_empty() {
                                yield Ok(Bytes::from_static(beat));
                            }
                            written = Instant::now();
                        }
                        silence.as_mut().reset(written + jittered(every));
                        continue;
                    }
                };
                let taken = match page {
                    Ok(Some(page)) => waiting.take(id, page.records()),
                    Ok(None) => {
                        ended = true;
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = taken {
                    warn!(%id, %error, "a reader was given up");
                    yield Err(GaveUp::new());
                    return;
                }
            }
            if waiting.chunks.broken() {
                sleep(LAST_WORDS).await;
                yield Err(GaveUp::new());
            }
        }
    }
}
