//! The long poll: what is behind the reader's cursor in one whole response, for clients and proxies that cannot stream.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream::iter;
use tokio::time::{Instant, timeout_at};

use super::{Known, Seat, read};
use crate::{
    api::{Api, post::named},
    gateway::{Place, Reset, StoreError},
    protocol::Encode,
    wire::{
        Frame,
        ndjson::{Ndjson, put_id},
        sse::EventId,
    },
};

/// How many bytes of records are told at once, about; the rest is told at the next poll.
const MOST: usize = 64 * 1024;
/// Between two polls their reader is there all the same, for this long.
const APART: Duration = Duration::from_secs(30);

impl Seat {
    /// The response to a reader that polls: `{events, cursor, ended}`. It waits until there is something to tell, but not longer
    /// than `wait`. What nobody is shown is behind its next cursor too.
    ///
    /// # Errors
    /// When the log cannot be read, or was erased meanwhile.
    pub(in crate::api) async fn poll<E: Encode>(
        mut self,
        api: &Api,
        mut encoder: E,
        start: impl FnOnce(&Known) -> Bytes,
        wait: Duration,
    ) -> Result<Response, StoreError> {
        let until = Instant::now() + wait;
        self.presence.polls(APART);
        let id = self.stream.meta.id;
        let last = self.stream.meta.last;
        let from = self.place(api, &mut encoder);
        let (mut at, opening) = match from {
            Place::Start => (self.reader.place(), start(&self.stream)),
            Place::Cursor(after) | Place::Within(after, _) => (after, Bytes::new()),
            Place::Reset(reset) => (reset.after, told(reset)),
            Place::Ended => (last, Bytes::new()),
        };
        let before = std::mem::take(&mut self.before);
        let mut out = BytesMut::new();
        let mut ended = from == Place::Ended;
        while !ended && out.len() < MOST {
            // What is there is read without a look at the clock, however long that takes.
            let told = !(opening.is_empty() && before.is_empty() && out.is_empty());
            let page = match (at < last, told) {
                (true, _) => self.reader.next(MOST).await,
                (false, true) => break,
                (false, false) => match timeout_at(until, self.reader.next(MOST)).await {
                    Ok(page) => page,
                    Err(_) => break,
                },
            };
            let Some(page) = page? else {
                ended = true;
                break;
            };
            for (cursor, bytes) in page.records() {
                let record = read(id, cursor, bytes)?;
                encoder.encode(cursor, &record, &mut out);
                at = cursor;
                ended |= record.head.is_end();
            }
        }
        let pieces = [opening].into_iter().chain(before).chain([out.freeze()]).collect();
        // What is held is told at the next poll.
        let (seen, within) = encoder.place(at);
        Ok(named(id, whole(pieces, EventId { prefix: None, n: seen.0, within }, ended)))
    }
}

fn told(reset: Reset) -> Bytes {
    let mut out = BytesMut::new();
    let data = serde_json::to_vec(&reset).expect("plain data");
    Ndjson::list().event(&mut out, Some("reset"), &data, None);
    out.freeze()
}

/// The events, each with a comma behind it, as a list, with where they lead.
fn whole(mut pieces: Vec<Bytes>, at: EventId<'_>, ended: bool) -> Response {
    pieces.retain(|piece| !piece.is_empty());
    if let Some(last) = pieces.last_mut() {
        last.truncate(last.len() - 1);
    }
    let mut foot = BytesMut::from(&b"],\"cursor\":"[..]);
    put_id(&mut foot, at);
    foot.extend_from_slice(if ended { b",\"ended\":true}\n" } else { b",\"ended\":false}\n" });
    pieces.insert(0, Bytes::from_static(b"{\"events\":["));
    pieces.push(foot.freeze());
    let length = pieces.iter().map(Bytes::len).sum::<usize>().to_string();
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (CONTENT_LENGTH, length.as_str())];
    // In pieces, since a snapshot is not copied for it.
    let body = Body::from_stream(iter(pieces.into_iter().map(Ok::<_, Infallible>)));
    (headers, body).into_response()
}
