//! From where a reader reads: its cursor is served, or answered with a reset, or it has seen the end.

use std::time::Duration;

use serde::Serialize;

use super::{Gateway, Limited, Stream};
use crate::{
    event::{Delta, Event},
    generation::Attached,
    id::{Cursor, Seen, StreamId},
    record::Record,
    store::StoreError,
    stream::{Head, Reader},
};

/// A reader, and from where it reads.
pub struct Attachment {
    /// What is known of the stream.
    pub stream: Stream,
    /// Where it begins.
    pub from: Place,
    /// The records from there on.
    pub reader: Reader,
    /// Its presence, if the stream runs here: dropping it is leaving.
    pub attached: Option<Attached>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the first record: it named no cursor.
    Start,
    /// Behind this record, as it asked.
    Cursor(Cursor),
    /// Likewise, but so many bytes of the next one's text further on.
    Within(Cursor, usize),
    /// Elsewhere than it asked, which it must be told.
    Reset(Reset),
    /// It has seen the end.
    Ended,
}

/// The cursor that a reader gave cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reset {
    /// Why.
    pub reason: ResetReason,
    /// The last record before it that is certain: the reader drops what it has beyond.
    pub after: Cursor,
}

/// Why a cursor cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// It cannot be read, belongs to another stream, or to a part of the log that was lost.
    Unknown,
    /// It is past the last record.
    Ahead,
}

impl ResetReason {
    /// As the wire and the metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ahead => "ahead",
        }
    }
}

impl Gateway {
    /// Attaches a reader behind what it has seen.
    ///
    /// # Errors
    /// When there is no such stream of this owner, or no longer, or the store cannot be read; or it has as many readers as may be.
    pub async fn attach(&self, owner: &str, id: StreamId, seen: Option<Seen>) -> Result<Attachment, AttachError> {
        let (stream, live) = self.look(owner, id).await?;
        let Head { last, closed, .. } = stream.head;
        let mut from = place(id, seen, last, closed, stream.meta.hole);
        if let Place::Within(after, within) = from
            && !self.has_text(id, after.plus(1), within).await?
        {
            from = Place::Reset(Reset { reason: ResetReason::Unknown, after });
        }
        let after = match from {
            Place::Start => Cursor::START,
            Place::Cursor(after) | Place::Within(after, _) | Place::Reset(Reset { after, .. }) => after,
            Place::Ended => last,
        };
        match from {
            Place::Reset(reset) => self.metrics.reset(reset.reason.as_str()),
            Place::Cursor(after) | Place::Within(after, _) => {
                self.metrics.resumes.inc();
                self.metrics.replayed_records.inc_by(last.0 - after.0);
            }
            Place::Start | Place::Ended => {}
        }
        let most = self.limits.stream_readers;
        let attached = match live.clone().filter(|_| from != Place::Ended) {
            None => None,
            Some(live) => Some(Attached::new(live, most).ok_or_else(|| crowded(most))?),
        };
        let reader = Reader::new(id, self.store.clone(), live.map(|live| live.tail.clone()), after);
        Ok(Attachment { stream, from, reader, attached })
    }

    /// Whether this record is a piece of text with a place so many bytes within it.
    async fn has_text(&self, id: StreamId, at: Cursor, within: usize) -> Result<bool, StoreError> {
        let mut has = false;
        let look = |cursor, record: &Record<'_>| {
            if let Ok(Event::Delta(_, Delta { text, .. })) = record.event() {
                has = cursor == at && within < text.len() && text.is_char_boundary(within);
            }
        };
        self.records(id, at.before(), at, look).await?;
        Ok(has)
    }
}

/// Why a reader is not let in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AttachError {
    /// The store does not have it, or cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others are there already.
    #[error(transparent)]
    Crowded(#[from] Limited),
}

fn crowded(most: usize) -> Limited {
    Limited {
        limit: "stream_readers",
        what: format!("{most} read this answer, as many as [limits] stream_readers allows at once"),
        retry_after: Duration::from_secs(5),
    }
}

/// Where a reader that has seen `seen` begins in a log that stands at `last`.
fn place(id: StreamId, seen: Option<Seen>, last: Cursor, closed: bool, hole: Option<(Cursor, Cursor)>) -> Place {
    // A reset lies before the end, so that the end is sent again.
    let newest = if closed { last.before() } else { last };
    let reset = |reason, after: Cursor| Place::Reset(Reset { reason, after: after.min(newest) });
    let (cursor, within) = match seen {
        None => return Place::Start,
        Some(seen) if seen.stream().is_some_and(|of| of != id) => return reset(ResetReason::Unknown, Cursor::START),
        Some(Seen::Unreadable) => return reset(ResetReason::Unknown, Cursor::START),
        Some(Seen::Short(cursor) | Seen::Long(_, cursor)) => (cursor, 0),
        Some(Seen::Within(_, cursor, within)) => (cursor, within),
    };
    // Of the record that it lies within, too, it says that it is there.
    let named = if within > 0 { cursor.0.saturating_add(1) } else { cursor.0 };
    match hole {
        Some((before, behind)) if named > before.0 && cursor < behind => reset(ResetReason::Unknown, before),
        _ if named > last.0 => reset(ResetReason::Ahead, last),
        _ if within > 0 => Place::Within(cursor, within),
        _ if closed && cursor == last => Place::Ended,
        _ => Place::Cursor(cursor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_served_or_answered_with_a_reset_before_the_end() {
        let id = StreamId::new();
        let at = |seen, closed| place(id, seen, Cursor(9), closed, Some((Cursor(3), Cursor(6))));
        let reset = |reason, after| Place::Reset(Reset { reason, after: Cursor(after) });
        use ResetReason::{Ahead, Unknown};
        assert_eq!(at(None, false), Place::Start);
        assert_eq!(at(Some(Seen::Short(Cursor(0))), false), Place::Cursor(Cursor(0)));
        assert_eq!(at(Some(Seen::Long(id, Cursor(7))), false), Place::Cursor(Cursor(7)));
        assert_eq!(at(Some(Seen::Short(Cursor(9))), false), Place::Cursor(Cursor(9)));
        assert_eq!(at(Some(Seen::Short(Cursor(9))), true), Place::Ended);
        assert_eq!(at(Some(Seen::Short(Cursor(10))), false), reset(Ahead, 9));
        assert_eq!(at(Some(Seen::Short(Cursor(10))), true), reset(Ahead, 8));
        assert_eq!(at(Some(Seen::Unreadable), true), reset(Unknown, 0));
        assert_eq!(at(Some(Seen::Long(StreamId::new(), Cursor(2))), true), reset(Unknown, 0));
        assert_eq!(at(Some(Seen::Short(Cursor(4))), true), reset(Unknown, 3));
        assert_eq!(at(Some(Seen::Short(Cursor(6))), true), Place::Cursor(Cursor(6)));
        let within = |cursor| at(Some(Seen::Within(Some(id), Cursor(cursor), 2)), true);
        assert_eq!(within(8), Place::Within(Cursor(8), 2));
        assert_eq!(within(9), reset(Ahead, 8));
        assert_eq!(within(u64::MAX), reset(Ahead, 8));
        assert_eq!(within(3), reset(Unknown, 3), "within what was lost");
        assert_eq!(within(6), Place::Within(Cursor(6), 2));
        assert_eq!(at(Some(Seen::Within(Some(StreamId::new()), Cursor(7), 2)), true), reset(Unknown, 0));
    }
}
