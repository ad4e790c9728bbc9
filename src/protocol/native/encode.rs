//! Records to events. Most records have at most one; some (what only an upstream's own protocol understands) have none, so ids
//! rise but are not dense.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::json;

use crate::{
    event::{At, Event, PartType},
    id::{Cursor, StreamId},
    protocol::Encode,
    record::{Kind, Record},
    wire::{
        Form, Frame,
        sse::{EventId, Sse, write_event},
    },
};

/// The first event of a connection without a cursor. It is made from what is known of the stream, and its id is 0.
#[derive(Clone, Debug, Serialize)]
pub struct Start<'a> {
    /// The stream.
    pub id: StreamId,
    /// The model's name as it was asked for.
    pub model: &'a str,
    /// RFC 3339.
    pub created_at: String,
    /// Where the events can be had again.
    pub events_url: String,
}

/// The encoder, in one of the forms; server-sent events where nothing else is said.
#[derive(Clone, Debug, Default)]
pub struct Native<F = Sse> {
    /// On answers to a POST: the stream's id, which goes before each cursor.
    prefix: Option<String>,
    frame: F,
}

impl Native {
    /// For a URL that names the stream: ids are bare cursors.
    #[must_use]
    pub fn short() -> Self {
        Self::default()
    }

    /// For the answer to a POST, whose URL names no stream.
    #[must_use]
    pub fn long(id: StreamId) -> Self {
        Self { prefix: Some(id.to_string()), frame: Sse }
    }
}

/// A place in a stream: behind a record, and so many bytes of the next one's text further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) cursor: Cursor,
    pub(super) within: usize,
}

/// The event of a piece of a part: its name and its data.
pub(super) fn said(at: At, text: &str) -> (Option<&'static str>, Vec<u8>) {
    let (name, data) = match at.of {
        PartType::ToolCall => (Some("tool_call"), json!({ "index": at.part, "arguments": text })),
        PartType::Reasoning | PartType::ReasoningSummary => (Some("reasoning"), json!({ "text": text })),
        _ => (None, json!({ "text": text })),
    };
    (name, data.to_string().into_bytes())
}

impl<F: Frame> Native<F> {
    /// In another form.
    #[must_use]
    pub fn written<G>(self, frame: G) -> Native<G> {
        Native { prefix: self.prefix, frame }
    }

    /// Appends the first event; `retry` tells the client how many milliseconds to wait before it comes back.
    pub fn start(&mut self, start: &Start<'_>, retry: u32, out: &mut BytesMut) {
        let data = serde_json::to_vec(start).expect("plain data");
        match F::FORM {
            Form::Sse => write_event(out, Some("start"), &data, Some(retry), Some(self.id(Cursor::START))),
            _ => self.event(Some("start"), &data, Cursor::START, out),
        }
    }

    /// The event that stands for all up to this record, without its data: what goes before that, and what behind.
    pub fn snapshot(&mut self, upto: Cursor) -> (BytesMut, BytesMut) {
        let (mut before, mut behind) = (BytesMut::new(), BytesMut::new());
        let Self { prefix, frame } = self;
        let id = Some(EventId { prefix: prefix.as_deref(), n: upto.0, within: 0 });
        frame.begin(&mut before, Some("snapshot"), id);
        frame.end(&mut behind, id);
        (before, behind)
    }

    fn id(&self, cursor: Cursor) -> EventId<'_> {
        EventId { prefix: self.prefix.as_deref(), n: cursor.0, within: 0 }
    }

    fn event(&mut self, name: Option<&str>, data: &[u8], cursor: Cursor, out: &mut BytesMut) {
        self.told(name, data, Spot { cursor, within: 0 }, out);
    }

    /// Appends an event after which a client is at this spot.
    pub(super) fn told(&mut self, name: Option<&str>, data: &[u8], spot: Spot, out: &mut BytesMut) {
        let Self { prefix, frame } = self;
        let id = EventId { prefix: prefix.as_deref(), n: spot.cursor.0, within: spot.within };
        frame.event(out, name, data, Some(id));
    }

    /// The rest: events whose data is not the record's payload to the letter.
    fn rare(&mut self, event: &Event<'_>, cursor: Cursor, out: &mut BytesMut) {
        let (name, data) = match event {
            Event::Delta(at, delta) => said(*at, &delta.text),
            Event::PartStart(at, start) => {
                let tool = start.tool.as_ref();
                let mut call = json!({ "index": at.part });
                if let Some(id) = tool.and_then(|tool| tool.call_id.as_deref()) {
                    call["id"] = id.into();
                }
                if let Some(name) = tool.and_then(|tool| tool.name.as_deref()) {
                    call["name"] = name.into();
                }
                (Some("tool_call"), call.to_string().into_bytes())
            }
            Event::Custom(custom) if !custom.data.is_empty() => {
                let name = (!custom.name.is_empty()).then_some(custom.name.as_str());
                let Self { prefix, frame } = self;
                let id = EventId { prefix: prefix.as_deref(), n: cursor.0, within: 0 };
                return frame.foreign(out, name, &custom.data, Some(id));
            }
            _ => return,
        };
        self.event(name, &data, cursor, out);
    }
}

impl<F: Frame> Encode for Native<F> {
    const FORM: Form = F::FORM;

    /// Each record says all that its event needs.
    const FOLDS: bool = false;

    fn skip(&mut self, _: &Record<'_>) {}

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        let Record { head, payload } = record;
        if head.at.choice > 0 {
            return; // the native protocol has one choice
        }
        match (head.kind, head.at.of) {
            (Kind::Delta, PartType::Text | PartType::Refusal) if !head.more => self.event(None, payload, cursor, out),
            (Kind::Delta, PartType::Reasoning | PartType::ReasoningSummary) if !head.more => {
                self.event(Some("reasoning"), payload, cursor, out);
            }
            (Kind::End, _) => self.event(Some("end"), payload, cursor, out),
            (Kind::Notice, _) => self.event(Some("notice"), payload, cursor, out),
            (Kind::Media, _) => self.event(Some("file"), payload, cursor, out),
            (Kind::Delta, PartType::Text | PartType::Refusal | PartType::ToolCall)
            | (Kind::Delta, PartType::Reasoning | PartType::ReasoningSummary)
            | (Kind::PartStart, PartType::ToolCall)
            | (Kind::Custom, _) => {
                if let Ok(event) = record.event() {
                    self.rare(&event, cursor, out);
                }
            }
            _ => {}
        }
    }

    fn broken(&self) -> bool {
        self.frame.broken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Delta, End, Finish, Json, PartStart, Reason, Status, Tool, Usage},
        record::write,
    };

    fn log() -> Vec<BytesMut> {
        let at = |part, of| At { choice: 0, part, of };
        let delta =
            |part, of, text: &'static str| Event::Delta(at(part, of), Delta { text: text.into(), logprobs: None });
        let tool = |part, name: &str| {
            let tool = Tool { call_id: Some(format!("call_{name}")), name: Some(name.to_owned()), kind: None };
            Event::PartStart(at(part, PartType::ToolCall), PartStart { tool: Some(tool), ..PartStart::default() })
        };
        let events = [
            delta(0, PartType::Reasoning, "hm"),
            delta(1, PartType::Text, "The\n"),
            Event::Delta(at(1, PartType::Text), Delta { text: "river".into(), logprobs: Some(Json::default()) }),
            Event::Delta(At { choice: 1, ..at(1, PartType::Text) }, Delta { text: "other".into(), logprobs: None }),
            tool(2, "look"),
            tool(3, "find"),
            delta(3, PartType::ToolCall, "{}"),
            Event::Usage(Usage::default()),
            Event::Finish(0, Finish::default()),
            Event::End(End { status: Status::Completed, reason: Some(Reason::Stop), usage: None, error: None }),
        ];
        let record = |event: &Event<'_>| {
            let mut out = BytesMut::new();
            write(&mut out, 0, event);
            out
        };
        events.iter().map(record).collect()
    }

    fn encode(encoder: &mut Native, log: &[BytesMut], after: usize) -> String {
        let mut out = BytesMut::new();
        for (n, bytes) in log.iter().enumerate() {
            let record = Record::parse(bytes).expect("a record");
            match n < after {
                true => encoder.skip(&record),
                false => encoder.encode(Cursor(n as u64 + 1), &record, &mut out),
            }
        }
        String::from_utf8(out.to_vec()).expect("utf-8")
    }

    #[test]
    fn each_record_has_its_event_with_the_id_last() {
        insta::assert_snapshot!(encode(&mut Native::short(), &log(), 0), @r#"
        event: reasoning
        data: {"text":"hm"}
        id: 1

        data: {"text":"The\n"}
        id: 2

        data: {"text":"river"}
        id: 3

        event: tool_call
        data: {"id":"call_look","index":2,"name":"look"}
        id: 5

        event: tool_call
        data: {"id":"call_find","index":3,"name":"find"}
        id: 6

        event: tool_call
        data: {"arguments":"{}","index":3}
        id: 7

        event: end
        data: {"status":"completed","reason":"stop"}
        id: 10
        "#);
    }

    #[test]
    fn a_replay_from_any_cursor_is_the_tail_of_the_whole() {
        let log = log();
        let whole = encode(&mut Native::short(), &log, 0);
        for after in 0..=log.len() {
            assert!(whole.ends_with(&encode(&mut Native::short(), &log, after)), "after {after}");
        }
    }

    #[test]
    fn an_answer_to_a_post_names_the_stream_in_its_ids() {
        let id = StreamId::new();
        let text = encode(&mut Native::long(id), &log(), 1);
        assert!(text.starts_with(&format!("data: {{\"text\":\"The\\n\"}}\nid: {id}-2\n\n")), "{text}");
    }
}
