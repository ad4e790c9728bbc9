//! Bytes to frames and frames to bytes.
//!
//! Everything here is pure: no I/O, no clock, no tasks, and nothing else of the crate. A reader is
//! fed whatever the network delivered, cut anywhere; a writer appends to a buffer that the caller
//! lends. What a frame *means* is the business of `protocol`.

pub mod ndjson;
mod rope;
pub mod sse;

use bytes::BytesMut;
pub use rope::Rope;

use self::sse::EventId;

/// The form in which a client gets events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Server-sent events.
    Sse,
    /// One event a line, as JSON.
    Ndjson,
    /// The words alone.
    Text,
}

impl Form {
    /// What the response's head calls it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    /// A sign of life that no client takes for an event; of text there is none.
    #[must_use]
    pub const fn heartbeat(self) -> &'static [u8] {
        match self {
            Self::Sse => sse::HEARTBEAT,
            Self::Ndjson => ndjson::HEARTBEAT,
            Self::Text => b"",
        }
    }
}

/// Writes events in one form: appends them to a buffer that the caller lends.
pub trait Frame: Send + Unpin {
    /// Which one.
    const FORM: Form;

    /// Begins an event, whose data the caller appends: one line of JSON. [`Frame::end`] must follow.
    fn begin(&mut self, out: &mut BytesMut, name: Option<&str>, id: Option<EventId<'_>>);

    /// Ends an event that was begun so.
    fn end(&mut self, out: &mut BytesMut, id: Option<EventId<'_>>);

    /// Appends an event whose data is one line of JSON.
    fn event(&mut self, out: &mut BytesMut, name: Option<&str>, data: &[u8], id: Option<EventId<'_>>) {
        self.begin(out, name, id);
        out.extend_from_slice(data);
        self.end(out, id);
    }

    /// Appends an event that somebody else made: its data is any text.
    fn foreign(&mut self, out: &mut BytesMut, name: Option<&str>, data: &str, id: Option<EventId<'_>>) {
        self.event(out, name, data.as_bytes(), id);
    }

    /// Whether the answer ended in a way for which this form has no word, so that it can only be broken off.
    fn broken(&self) -> bool {
        false
    }
}
