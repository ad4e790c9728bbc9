//! The recorded form of an event: nine bytes of header and a JSON payload. What a store keeps, a record is.
//!
//! ```text
//! byte 0     version (high four bits), kind (low four)
//! byte 1     bit 7: the payload of a delta holds more than `text`, that of a custom event is not just a message; low bits: the part's type
//! byte 2     choice
//! bytes 3–4  part, little-endian
//! bytes 5–8  milliseconds since the stream began, little-endian
//! then       the payload: JSON on one line; of a custom event of the type `opaque`, its data itself, which is one line too
//! ```
//!
//! The header is all a fold needs to know which record is what, so an encoder that catches up parses JSON of rare kinds only. The payloads of
//! `delta` and `end` are, to the byte, the data of the native protocol's events. A store adds length and cursor.

pub mod condensed;
pub mod summary;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use crate::event::{At, Custom, Delta, Event, PartType};

/// The version this build writes, and the only one it reads.
pub const VERSION: u8 = 1;
/// The header's size in bytes.
pub const HEAD: usize = 9;

const MORE: u8 = 0x80;

/// What a record is. The numbers are the stored form: never change one, only add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Event::Begin`]
    Begin = 0,
    /// [`Event::Attempt`]
    Attempt = 1,
    /// [`Event::PartStart`]
    PartStart = 2,
    /// [`Event::Delta`]
    Delta = 3,
    /// [`Event::Media`]
    Media = 4,
    /// [`Event::Annotation`]
    Annotation = 5,
    /// [`Event::State`]
    State = 6,
    /// [`Event::PartStop`]
    PartStop = 7,
    /// [`Event::Usage`]
    Usage = 8,
    /// [`Event::Finish`]
    Finish = 9,
    /// [`Event::Notice`]
    Notice = 10,
    /// [`Event::Opaque`]
    Opaque = 11,
    /// [`Event::Custom`]
    Custom = 12,
    /// [`Event::End`]: the terminal record
    End = 13,
}

impl Kind {
    /// Whether a record of this kind belongs to a choice and a part, and not to the stream.
    #[must_use]
    pub fn is_of_a_part(self) -> bool {
        use Kind::{Annotation, Delta, Finish, Media, PartStart, PartStop, State};
        matches!(self, PartStart | Delta | Media | Annotation | State | PartStop | Finish)
    }
}

const KINDS: [Kind; 14] = [
    Kind::Begin,
    Kind::Attempt,
    Kind::PartStart,
    Kind::Delta,
    Kind::Media,
    Kind::Annotation,
    Kind::State,
    Kind::PartStop,
    Kind::Usage,
    Kind::Finish,
    Kind::Notice,
    Kind::Opaque,
    Kind::Custom,
    Kind::End,
];

const TYPES: [PartType; 9] = [
    PartType::Text,
    PartType::Reasoning,
    PartType::ReasoningSummary,
    PartType::Redacted,
    PartType::Refusal,
    PartType::ToolCall,
    PartType::ToolResult,
    PartType::Media,
    PartType::Opaque,
];

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Which choice and part it belongs to; of stream-wide kinds the default.
    pub at: At,
    /// The payload is not just `{"text":…}`; of a custom event, not just one message.
    pub more: bool,
    /// Milliseconds since the stream began.
    pub ms: u32,
}

impl Head {
    /// Whether this is the stream's last record.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.kind == Kind::End
    }

    /// Whether this is something the model said: the commit point is the first of them.
    #[must_use]
    pub fn is_content(&self) -> bool {
        matches!(self.kind, Kind::PartStart | Kind::Delta | Kind::Media | Kind::Annotation | Kind::Custom)
    }
}

/// A record, borrowed from wherever it lies.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its header.
    pub head: Head,
    /// Its payload: JSON on one line.
    pub payload: &'a [u8],
}

/// Bytes that are not a record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Shorter than a header.
    #[error("a record is shorter than its header")]
    Short,
    /// Written by another version of lastword.
    #[error("a record has format version {0}, and this build reads version {VERSION}")]
    Version(u8),
    /// A kind or part type that does not exist.
    #[error("a record's header names an unknown kind or part type")]
    Unknown,
    /// The payload is not the JSON its kind calls for.
    #[error("a record's payload does not fit its kind")]
    Payload,
}

impl<'a> Record<'a> {
    /// Reads the header; the payload is looked at only by [`Record::event`].
    ///
    /// # Errors
    /// When the bytes are not a record that this build wrote.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        let (head, payload) = bytes.split_first_chunk::<HEAD>().ok_or(BadRecord::Short)?;
        let version = head[0] >> 4;
        if version != VERSION {
            return Err(BadRecord::Version(version));
        }
        let kind = *KINDS.get(usize::from(head[0] & 0x0f)).ok_or(BadRecord::Unknown)?;
        let of = *TYPES.get(usize::from(head[1] & !MORE)).ok_or(BadRecord::Unknown)?;
        let at = At { choice: head[2], part: u16::from_le_bytes([head[3], head[4]]), of };
        let ms = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Self { head: Head { kind, at, more: head[1] & MORE != 0, ms }, payload })
    }

    /// The event that was recorded; a delta's text is borrowed where it has no escapes.
    ///
    /// # Errors
    /// When the payload is not what the header says.
    pub fn event(&self) -> Result<Event<'a>, BadRecord> {
        let at = self.head.at;
        Ok(match self.head.kind {
            Kind::Begin => Event::Begin(self.payload()?),
            Kind::Attempt => Event::Attempt(self.payload()?),
            Kind::PartStart => Event::PartStart(at, self.payload()?),
            Kind::Delta => Event::Delta(at, self.payload()?),
            Kind::Media => Event::Media(at, self.payload()?),
            Kind::Annotation => Event::Annotation(at, self.payload()?),
            Kind::State => Event::State(at, self.payload()?),
            Kind::PartStop => Event::PartStop(at, self.payload()?),
            Kind::Usage => Event::Usage(self.payload()?),
            Kind::Finish => Event::Finish(at.choice, self.payload()?),
            Kind::Notice => Event::Notice(self.payload()?),
            Kind::Opaque => Event::Opaque(self.payload()?),
            Kind::Custom if at == BARE => {
                let data = std::str::from_utf8(self.payload).map_err(|_| BadRecord::Payload)?;
                Event::Custom(Custom { data: data.to_owned(), ..Custom::default() })
            }
            Kind::Custom => Event::Custom(self.payload()?),
            Kind::End => Event::End(self.payload()?),
        })
    }

    fn payload<T: serde::Deserialize<'a>>(&self) -> Result<T, BadRecord> {
        serde_json::from_slice(self.payload).map_err(|_| BadRecord::Payload)
    }
}

/// Appends `event` to `out` as a record; gives back its header, or nothing for [`Event::Alive`], which is not recorded.
pub fn write(out: &mut BytesMut, ms: u32, event: &Event<'_>) -> Option<Head> {
    let anywhere = At::default();
    let (kind, at) = match event {
        Event::Begin(_) => (Kind::Begin, anywhere),
        Event::Attempt(_) => (Kind::Attempt, anywhere),
        Event::PartStart(at, _) => (Kind::PartStart, *at),
        Event::Delta(at, _) => (Kind::Delta, *at),
        Event::Media(at, _) => (Kind::Media, *at),
        Event::Annotation(at, _) => (Kind::Annotation, *at),
        Event::State(at, _) => (Kind::State, *at),
        Event::PartStop(at, _) => (Kind::PartStop, *at),
        Event::Usage(_) => (Kind::Usage, anywhere),
        Event::Finish(choice, _) => (Kind::Finish, At { choice: *choice, ..anywhere }),
        Event::Notice(_) => (Kind::Notice, anywhere),
        Event::Opaque(_) => (Kind::Opaque, anywhere),
        Event::Custom(custom) if is_bare(custom) => (Kind::Custom, BARE),
        Event::Custom(_) => (Kind::Custom, anywhere),
        Event::End(_) => (Kind::End, anywhere),
        Event::Alive => return None,
    };
    let more = match event {
        Event::Delta(_, delta) => delta.logprobs.is_some(),
        Event::Custom(custom) => custom.raw.is_some() || !custom.is_one_message(),
        _ => false,
    };
    let head = Head { kind, at, more, ms };
    let ([part, part_high], [ms_0, ms_1, ms_2, ms_3]) = (at.part.to_le_bytes(), ms.to_le_bytes());
    let of = at.of as u8 | if more { MORE } else { 0 };
    let bytes = [VERSION << 4 | kind as u8, of, at.choice, part, part_high, ms_0, ms_1, ms_2, ms_3];
    out.extend_from_slice(&bytes);
    match event {
        Event::Begin(x) => json(out, x),
        Event::Attempt(x) => json(out, x),
        Event::PartStart(_, x) => json(out, x),
        Event::Delta(_, Delta { text, logprobs: None }) if is_plain(text) => {
            out.reserve(text.len() + 11);
            out.extend_from_slice(b"{\"text\":\"");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\"}");
        }
        Event::Delta(_, x) => json(out, x),
        Event::Media(_, x) => json(out, x),
        Event::Annotation(_, x) => json(out, x),
        Event::State(_, x) => json(out, x),
        Event::PartStop(_, x) => json(out, x),
        Event::Usage(x) => json(out, x),
        Event::Finish(_, x) => json(out, x),
        Event::Notice(x) => json(out, x),
        Event::Opaque(x) => json(out, x),
        Event::Custom(x) if at == BARE => out.extend_from_slice(x.data.as_bytes()),
        Event::Custom(x) => json(out, x),
        Event::End(x) => json(out, x),
        Event::Alive => {}
    }
    Some(head)
}

/// Where a custom event stands whose payload is its data itself.
const BARE: At = At { choice: 0, part: 0, of: PartType::Opaque };

/// Whether it is nothing but one line of data: of an application, nearly all are, and mostly JSON, which in JSON is twice as long.
fn is_bare(custom: &Custom) -> bool {
    let Custom { name, data, id, raw } = custom;
    name.is_empty()
        && id.is_none()
        && raw.is_none()
        && !data.is_empty()
        && memchr::memchr2(b'\n', b'\r', data.as_bytes()).is_none()
}

/// Whether the text stands in JSON as it is. Nearly all tokens do, and the serializer costs ten times what copying one does.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\'))
}

fn json<T: Serialize>(out: &mut BytesMut, value: &T) {
    serde_json::to_writer(out.writer(), value).expect("a payload is plain data, and a buffer takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{End, Json, Status, Usage};

    fn text(text: &str) -> Event<'static> {
        let at = At { choice: 3, part: 700, of: PartType::Reasoning };
        Event::Delta(at, Delta { text: text.to_owned().into(), logprobs: None })
    }

    fn back(event: &Event<'_>) -> (Head, Event<'static>) {
        let mut out = BytesMut::new();
        write(&mut out, 1234, event).expect("recorded");
        let bytes: &'static [u8] = Box::leak(out.freeze().to_vec().into_boxed_slice());
        let record = Record::parse(bytes).expect("parses");
        (record.head, record.event().expect("decodes"))
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        for words in ["word", "", "\n", "\r\n\u{0}\u{2028}\"\\", "🦀 e\u{301}", "a\u{fffd}b"] {
            let (head, event) = back(&text(words));
            assert_eq!(event, text(words));
            assert_eq!((head.ms, head.at.choice, head.at.part, head.more), (1234, 3, 700, false));
        }
    }

    #[test]
    fn text_is_written_as_the_serializer_writes_it() {
        for byte in 0..=0x7f_u8 {
            let words = format!("a{}é", char::from(byte));
            let mut out = BytesMut::new();
            write(&mut out, 0, &text(&words));
            let delta = Delta { text: words.into(), logprobs: None };
            assert_eq!(&out[HEAD..], serde_json::to_vec(&delta).expect("json"));
        }
    }

    #[test]
    fn a_payload_is_one_line_whatever_the_upstream_sent() {
        let pretty = serde_json::from_str("{\n  \"a\": 1.10,\r\n  \"b\": \"\\n\"\n}").expect("json");
        let event = Event::Usage(Usage { raw: Some(pretty), ..Usage::default() });
        let mut out = BytesMut::new();
        write(&mut out, 0, &event);
        assert!(!out[HEAD..].iter().any(|b| matches!(b, b'\n' | b'\r')));
        assert!(String::from_utf8_lossy(&out).contains("1.10"), "numbers are kept to the letter");
    }

    #[test]
    fn the_data_of_native_events_is_the_payload() {
        let mut out = BytesMut::new();
        write(&mut out, 0, &Event::Delta(At::default(), Delta { text: "The".into(), logprobs: None }));
        assert_eq!(&out[HEAD..], br#"{"text":"The"}"#);
        out.clear();
        write(&mut out, 0, &Event::End(End { status: Status::Completed, reason: None, usage: None, error: None }));
        assert_eq!(&out[HEAD..], br#"{"status":"completed"}"#);
    }

    #[test]
    fn more_than_text_is_marked_in_the_header() {
        let logprobs = Some(Json::default());
        let (head, _) = back(&Event::Delta(At::default(), Delta { text: "x".into(), logprobs }));
        assert!(head.more);
    }

    #[test]
    fn rubbish_is_refused_and_says_why() {
        assert_eq!(Record::parse(&[0x13; 8]).expect_err("short"), BadRecord::Short);
        assert_eq!(Record::parse(&[0x23; 9]).expect_err("version"), BadRecord::Version(2));
        assert_eq!(Record::parse(&[0x1f; 9]).expect_err("kind"), BadRecord::Unknown);
        let mut delta = BytesMut::new();
        write(&mut delta, 0, &text("x"));
        delta.truncate(delta.len() - 1);
        assert_eq!(Record::parse(&delta).expect("head").event().expect_err("cut"), BadRecord::Payload);
    }

    #[test]
    fn the_numbers_of_kinds_and_types_are_their_places() {
        assert!(KINDS.iter().enumerate().all(|(n, kind)| *kind as usize == n));
        assert!(TYPES.iter().enumerate().all(|(n, of)| *of as usize == n));
    }
}
