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

/// A client over all its connections: what it was told, and from where it would go on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) events: Vec<Event>,
    pub(crate) cursor: Option<String>,
}

impl Client {
    /// Takes what came over one connection before it was cut.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.join(read(bytes));
    }

    /// As [`Client::take`], of a client that moves its cursor at the id line.
    pub(crate) fn take_eagerly(&mut self, bytes: &[u8]) {
        self.join(read_eagerly(bytes));
    }

    fn join(&mut self, reading: Reading) {
        self.events.extend(reading.events);
        if !reading.cursor.is_empty() {
            self.cursor = Some(reading.cursor);
        }
    }

    /// Says what is wrong, unless this is one whole answer, told once: `start`, these words, one `end`, rising ids.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        let names: Vec<_> = self.events.iter().map(|event| event.name.as_str()).collect();
        let ids = self.events.iter().map(|event| event.id.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()));
        let ids: Option<Vec<_>> = ids.collect();
        let said = super::text(&self.events);
        let wrong = match (&names[..], ids) {
            _ if said != text => format!("it says {said:?}"),
            (["start", words @ .., "end"], Some(ids)) => match () {
                () if words.iter().any(|name| *name != "message") => "there is another event in it".to_owned(),
                () if !ids.is_sorted_by(|a, b| a < b) => format!("its ids do not rise: {ids:?}"),
                () => return Ok(()),
            },
            _ => format!("its events are {names:?}"),
        };
        Err(format!("{wrong}; the cursor is {:?}", self.cursor))
    }
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
