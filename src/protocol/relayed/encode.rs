//! Records to the bytes that the application sent, with lastword's ids.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use serde::Deserialize;

use crate::{
    event::{End, Event, PartType, Raw, Status},
    id::{Cursor, StreamId},
    protocol::{Dialect, Encode, Numbered, understood::Note},
    record::{Kind, Record},
    wire::sse::{EventId, put_id, write_event},
};

/// Encodes one answer; see the module above.
#[derive(Clone, Debug)]
pub struct Relayed {
    stream: String,
    dialect: Dialect,
    /// The application has ended its answer itself.
    ended: bool,
    /// It has said that this is the end, and not only why.
    finished: bool,
    /// How many messages there were.
    count: u64,
    /// Messages before this number were seen.
    muted: u64,
    broken: bool,
}

/// A recorded event, as far as it is written here.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
    raw: Option<Raw>,
}

impl Relayed {
    /// An encoder from the log's beginning.
    #[must_use]
    pub fn new(id: StreamId) -> Self {
        Self {
            stream: id.to_string(),
            dialect: Dialect::Plain,
            ended: false,
            finished: false,
            count: 0,
            muted: 0,
            broken: false,
        }
    }

    fn learn(&mut self, record: &Record<'_>) {
        match record.head.kind {
            Kind::Custom if !record.head.more => self.count += 1,
            Kind::Custom => {
                if let Ok(Event::Custom(custom)) = record.event() {
                    self.count += u64::from(custom.is_one_message());
                }
            }
            Kind::Opaque => match Note::read(record) {
                Some(Note::Speaks(dialect)) => self.dialect = dialect,
                Some(Note::Ended) => self.ended = true,
                None => {}
            },
            Kind::Finish => self.finished = true,
            _ => {}
        }
    }

    fn id(&self, cursor: Cursor) -> EventId<'_> {
        EventId { prefix: Some(&self.stream), n: cursor.0, within: 0 }
    }

    fn end(&mut self, end: &End, cursor: Cursor, out: &mut BytesMut) {
        if self.ended || end.status == Status::Completed {
            if self.muted > 0 && !self.finished {
                // Who counts comes back until there is such an end, and an application that has failed may say none.
                if let Some(data) = self.dialect.finish() {
                    write_event(out, None, data.as_bytes(), None, Some(self.id(cursor)));
                }
            }
            return;
        }
        let last = self.dialect.ending(end, self.count);
        self.broken = last.is_empty();
        for (n, (name, data)) in last.iter().enumerate() {
            let id = (n + 1 == last.len()).then(|| self.id(cursor));
            write_event(out, *name, data.as_bytes(), None, id);
        }
    }
}

impl Encode for Relayed {
    /// What it speaks stands before the first event.
    const FOLDS: bool = true;

    fn skip(&mut self, record: &Record<'_>) {
        self.learn(record);
    }

    fn skip_run(&mut self, record: &Record<'_>, times: u32) {
        match record.head.kind {
            Kind::Custom if !record.head.more => self.count += u64::from(times),
            _ => self.learn(record),
        }
    }

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        let before = self.count;
        self.learn(record);
        match record.head.kind {
            Kind::Custom if self.count > before && before < self.muted => {}
            Kind::Custom if record.head.at.of == PartType::Opaque => {
                write_event(out, None, record.payload, None, Some(self.id(cursor)));
            }
            Kind::Custom => {
                let Ok(said) = serde_json::from_slice::<Said<'_>>(record.payload) else { return };
                let bytes = match said.raw {
                    None => {
                        let name = (!said.name.is_empty()).then_some(&*said.name);
                        return write_event(out, name, said.data.as_bytes(), None, Some(self.id(cursor)));
                    }
                    Some(Raw::Text(text)) => text.into_bytes(),
                    Some(Raw::Base64(text)) => STANDARD.decode(text).unwrap_or_default(),
                };
                put_raw(&bytes, self.id(cursor), out);
            }
            Kind::End => match record.event() {
                Ok(Event::End(end)) => self.end(&end, cursor, out),
                _ => self.broken = true,
            },
            _ => {}
        }
    }

    fn broken(&self) -> bool {
        self.broken
    }
}

impl Numbered for Relayed {
    fn number(&self) -> u64 {
        self.count
    }

    fn mute(&mut self, before: u64) {
        self.muted = before;
    }

    fn skip_seen(&mut self, record: &Record<'_>) -> bool {
        let before = self.clone();
        self.learn(record);
        // What is no message, such as the mark of the end, is told behind the message that it follows.
        let message = self.count > before.count;
        let nothing = self.count == 0 && record.head.kind != Kind::Custom;
        let seen = self.count < self.muted || (self.count == self.muted && message) || nothing && !record.head.is_end();
        if !seen {
            *self = before;
        }
        seen
    }
}

/// Appends bytes as they stood on the wire, with an id before the blank line. Where there is none, at the end of a body, there is no id.
fn put_raw(bytes: &[u8], id: EventId<'_>, out: &mut BytesMut) {
    let blank = if bytes.ends_with(b"\r\n") { 2 } else { 1 };
    let (lines, blank) = bytes.split_at(bytes.len().saturating_sub(blank));
    out.extend_from_slice(lines);
    if matches!(blank, [b'\n' | b'\r', ..]) && matches!(lines, [.., b'\n' | b'\r']) {
        put_id(out, Some(id));
    }
    out.extend_from_slice(blank);
}

#[cfg(test)]
mod tests;
