//! The body of a reader that takes all as it comes: what runs for each token and reader. One wake-up becomes one buffer and one write,
//! whatever number of records is ready.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Instant;
use tracing::warn;

use super::{Heartbeat, KEEP, LAST_WORDS, PAGE, Presence, jittered, read};
use crate::{
    api::{Api, connection::GaveUp, retold::Retold, snapshot::Snapshot},
    id::StreamId,
    protocol::Encode,
    seldom::Alarm,
    stream::Reader,
};

/// See the module.
pub(super) struct Relay<E> {
    pub(super) api: Arc<Api>,
    pub(super) id: StreamId,
    pub(super) opening: Bytes,
    pub(super) before: Vec<Bytes>,
    pub(super) reader: Reader,
    pub(super) encoder: E,
    /// What it shares with the stream's other readers.
    pub(super) retold: Option<Arc<Retold>>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) retry: Option<u32>,
    pub(super) presence: Presence,
}

impl<E: Encode> Relay<E> {
    /// The body. It ends only behind the terminal record; where that cannot be, it gives up, which resets the connection.
    pub(super) fn run(self, heartbeat: Heartbeat) -> impl Stream<Item = Result<Bytes, GaveUp>> {
        let Self { api, id, opening, before, mut reader, mut encoder, retold, snapshot, mut retry, presence } = self;
        let every = api.settings.heartbeat;
        let beat = heartbeat.bytes(E::FORM);
        async_stream::stream! {
            let _here = (presence, snapshot);
            if !opening.is_empty() {
                yield Ok(opening);
            }
            for piece in before {
                yield Ok(piece);
            }
            let mut out = BytesMut::new();
            let mut written = Instant::now();
            let mut silence = Alarm::at(written + jittered(every));
            loop {
                let page = {
                    let mut page = pin!(reader.next(PAGE));
                    poll_fn(|cx| match page.as_mut().poll(cx) {
                        Poll::Ready(page) => Poll::Ready(Some(page)),
                        Poll::Pending => silence.poll(cx).map(|()| None),
                    })
                    .await
                };
                // Set once a silence, not once a token: when it rings, it is looked how long nothing was written.
                let Some(page) = page else {
                    if written.elapsed() >= every.mul_f32(0.8) {
                        if !beat.is_empty() {
                            yield Ok(Bytes::from_static(beat));
                        }
                        written = Instant::now();
                    }
                    silence.set(written + jittered(every));
                    continue;
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
                        } else {
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
                        if encoder.broken() {
                            // The timer of the silence, which is over: another one would cost each reader its room.
                            silence.set(Instant::now() + LAST_WORDS);
                            poll_fn(|cx| silence.poll(cx)).await;
                            yield Err(GaveUp::new());
                            return;
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
