//! The two kinds of clients: those that follow the standard, and those that move their cursor at the id line already.

#[path = "../../reference/sse.rs"]
mod reference;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
    /// The last event id when it was dispatched.
    pub(crate) id: String,
}

/// What a client has of a body that was cut off somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) events: Vec<Event>,
    /// What it would send as `Last-Event-ID`.
    pub(crate) cursor: String,
    pub(crate) retry: Option<u64>,
}

/// A client that follows the standard.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let reference::Reading { events, last_event_id, retry } = reference::read(bytes);
    let event = |(name, data, id)| Event { name, data, id };
    Reading { events: events.into_iter().map(event).collect(), cursor: last_event_id, retry }
}

/// A client whose cursor is that of the last whole id line, though the event's blank line has not come (fetch-event-source,
/// httpx-sse).
pub(crate) fn read_eagerly(bytes: &[u8]) -> Reading {
    let reading = read(bytes);
    let whole_lines = bytes.iter().rposition(|b| *b == b'\n').map_or(&bytes[..0], |end| &bytes[..end]);
    let mut ids = whole_lines.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"id: "));
    let cursor = ids.next_back().map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default();
    Reading { cursor, ..reading }
}
