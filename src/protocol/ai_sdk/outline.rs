//! Where an answer stands in this protocol: how many chunks were told, and which parts are open. One fold for those who follow, those
//! who come back, and what is told once for all of them (a tool's whole input); they differ in where the chunks go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{DONE, NAME, Version};
use crate::{
    event::{At, Custom, End, Event, Finish, Json, Media, Opaque, PartType, Reason, Status, Tool},
    id::StreamId,
    protocol::{Fault, piece::Piece, sink::Sink},
    record::{Kind, Record},
    wire::sse::put_number,
};

/// The types of chunk that are written here, and by which nobody else begins, goes on or ends an answer.
const OURS: [&str; 6] = ["start", "start-step", "finish-step", "finish", "abort", "error"];

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    stream: StreamId,
    version: Version,
    /// How many chunks there were.
    pub(super) count: u64,
    begun: bool,
    /// The client's protocol is this one: what it asked follows the beginning.
    asked: bool,
    open: Vec<Open>,
    sources: u64,
    reason: Option<Reason>,
    /// What was said of the input of each open call, where that is told here.
    inputs: Option<BTreeMap<u16, String>>,
}

/// A part that has begun and has not ended.
#[derive(Clone, Debug)]
struct Open {
    part: u16,
    of: PartType,
    /// Of a call.
    call: String,
    name: String,
}

/// What is recorded of a request: the rest of it makes no difference to the answer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Echo {
    /// The message that the answer goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
}

impl Outline {
    /// Of a log's beginning. `tells`: the inputs of calls are kept, to be told.
    pub(super) fn new(stream: StreamId, version: Version, tells: bool) -> Self {
        Self {
            stream,
            version,
            count: 0,
            begun: false,
            asked: false,
            open: Vec::new(),
            sources: 0,
            reason: None,
            inputs: tells.then(BTreeMap::new),
        }
    }

    /// Another one of the same stream, from the log's beginning, that keeps the inputs.
    pub(super) fn telling(&self) -> Self {
        Self::new(self.stream, self.version, true)
    }

    /// Whether this record's chunk repeats what was said.
    pub(super) fn repeats(&self, record: &Record<'_>) -> bool {
        let at = record.head.at;
        record.head.kind == Kind::PartStop && at.choice == 0 && at.of == PartType::ToolCall && self.knows(at)
    }

    /// Whether this part is open.
    pub(super) fn knows(&self, at: At) -> bool {
        at.choice == 0 && self.open.iter().any(|open| open.part == at.part)
    }

    /// Takes in a record, and writes its chunks.
    pub(super) fn take(&mut self, record: &Record<'_>, sink: &mut Sink<'_>) {
        let at = record.head.at;
        if at.choice > 0 {
            return; // a message has one
        }
        match (record.head.kind, at.of) {
            (Kind::Delta, of) => self.delta(record, of, sink),
            (Kind::Begin, _) => match record.event() {
                Ok(Event::Begin(begin)) if begin.protocol == NAME => self.asked = true,
                _ => self.begin(None, sink),
            },
            (Kind::PartStart, PartType::ToolCall) => {
                if let Ok(Event::PartStart(_, start)) = record.event() {
                    self.call(at, start.tool.unwrap_or_default(), sink);
                }
            }
            (Kind::PartStart, of) => self.part(at.part, of, sink),
            (Kind::PartStop, _) => self.stop(at.part, sink),
            (Kind::Media, _) => {
                if let Ok(Event::Media(_, media)) = record.event() {
                    self.file(&media, sink);
                }
            }
            (Kind::Annotation, _) => {
                if let Ok(Event::Annotation(_, source)) = record.event()
                    && let Some(url) = source.url
                {
                    let mut chunk =
                        json!({ "type": "source-url", "sourceId": format!("source-{}", self.sources), "url": url });
                    self.sources += 1;
                    if let Some(title) = source.title {
                        chunk["title"] = title.into();
                    }
                    self.chunk(&chunk, sink);
                }
            }
            (Kind::Finish, _) => {
                if let Ok(Event::Finish(_, Finish { reason, .. })) = record.event() {
                    self.reason = reason;
                }
            }
            (Kind::Notice, _) => {
                if let Ok(Event::Notice(notice)) = record.event() {
                    self.chunk(&json!({ "type": "data-notice", "data": notice, "transient": true }), sink);
                }
            }
            (Kind::Opaque, _) => {
                if let Ok(Event::Opaque(opaque)) = record.event() {
                    self.opaque(&opaque, sink);
                }
            }
            (Kind::Custom, _) => {
                if let Ok(Event::Custom(custom)) = record.event() {
                    self.custom(&custom, sink);
                }
            }
            (Kind::End, _) => match record.event() {
                Ok(Event::End(end)) => self.end(&end, sink),
                _ => {
                    self.chunk(&error(Fault::TORN), sink);
                    self.finish("error", sink);
                }
            },
            _ => {}
        }
    }

    /// The first chunks. A message that goes on with an earlier one keeps its id; else it is the stream's, on each replay.
    fn begin(&mut self, message: Option<&str>, sink: &mut Sink<'_>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let made = self.stream.to_string();
        self.chunk(&json!({ "type": "start", "messageId": message.unwrap_or(&made) }), sink);
        self.chunk(&json!({ "type": "start-step" }), sink);
    }

    /// A piece of a part, of which there are thousands: its text is written as it was recorded.
    fn delta(&mut self, record: &Record<'_>, of: PartType, sink: &mut Sink<'_>) {
        let part = record.head.at.part;
        if !self.open.iter().any(|open| open.part == part) {
            match of {
                PartType::ToolCall => self.call(record.head.at, Tool::default(), sink),
                of => self.part(part, of, sink),
            }
        }
        let Some(open) = self.open.iter().find(|open| open.part == part) else { return };
        let Some(piece) = Piece::of(record) else { return };
        if let Some(inputs) = &mut self.inputs
            && of == PartType::ToolCall
            && let Ok(text) = serde_json::from_str::<String>(piece.text)
        {
            inputs.entry(part).or_default().push_str(&text);
        }
        let number = self.count;
        self.count += 1;
        sink.piece(number, None, |out| {
            match kind(of) {
                Some(kind) => {
                    out.extend_from_slice(br#"{"type":""#);
                    out.extend_from_slice(kind.as_bytes());
                    out.extend_from_slice(br#"-delta","id":""#);
                    put_number(out, part.into());
                    out.extend_from_slice(br#"","delta":"#);
                }
                None => {
                    let call = serde_json::to_string(&open.call).expect("text");
                    out.extend_from_slice(br#"{"type":"tool-input-delta","toolCallId":"#);
                    out.extend_from_slice(call.as_bytes());
                    out.extend_from_slice(br#","inputTextDelta":"#);
                }
            }
            out.extend_from_slice(piece.text.as_bytes());
            out.extend_from_slice(b"}");
        });
    }

    fn part(&mut self, part: u16, of: PartType, sink: &mut Sink<'_>) {
        let Some(kind) = kind(of) else { return };
        self.open.push(Open { part, of, call: String::new(), name: String::new() });
        self.chunk(&json!({ "type": format!("{kind}-start"), "id": part.to_string() }), sink);
    }

    fn call(&mut self, at: At, tool: Tool, sink: &mut Sink<'_>) {
        let call = tool.call_id.unwrap_or_else(|| format!("call-{}", at.part));
        let name = tool.name.unwrap_or_else(|| "tool".to_owned());
        self.chunk(&json!({ "type": "tool-input-start", "toolCallId": call, "toolName": name }), sink);
        self.open.push(Open { part: at.part, of: PartType::ToolCall, call, name });
    }

    fn stop(&mut self, part: u16, sink: &mut Sink<'_>) {
        let Some(n) = self.open.iter().position(|open| open.part == part) else { return };
        let open = self.open.remove(n);
        match kind(open.of) {
            Some(kind) => self.chunk(&json!({ "type": format!("{kind}-end"), "id": part.to_string() }), sink),
            None => {
                let input = self.inputs.as_mut().and_then(|inputs| inputs.remove(&part)).unwrap_or_default();
                self.raw(&self.input(&open, &input), sink);
            }
        }
    }

    /// A call whose input is whole, to the letter. It may have been cut off by the model's limit, and 5.0.0 has no word for that.
    fn input(&self, open: &Open, input: &str) -> String {
        let text = |text: &str| serde_json::to_string(text).expect("text");
        let (call, name) = (text(&open.call), text(&open.name));
        let whole = serde_json::from_str::<Json>(if input.trim().is_empty() { "{}" } else { input });
        let (kind, error) = match whole.is_err() && self.version > Version::Five {
            true => ("error", r#","errorText":"the input is no JSON""#),
            false => ("available", ""),
        };
        let input = whole.map_or_else(|_| text(input), |json| json.get().to_owned());
        format!(r#"{{"type":"tool-input-{kind}","toolCallId":{call},"toolName":{name},"input":{input}{error}}}"#)
    }

    /// A file that is whole. Sound comes in pieces, which this protocol has no chunk for.
    fn file(&mut self, media: &Media, sink: &mut Sink<'_>) {
        let kind = media.media_type.as_deref().unwrap_or("image/png");
        let url = match (&media.url, &media.base64) {
            (Some(url), _) => url.clone(),
            (None, Some(base64)) if !kind.starts_with("audio/") => format!("data:{kind};base64,{base64}"),
            _ => return,
        };
        self.chunk(&json!({ "type": "file", "url": url, "mediaType": kind }), sink);
    }

    fn opaque(&mut self, opaque: &Opaque, sink: &mut Sink<'_>) {
        if opaque.protocol != NAME {
            return;
        }
        match &*opaque.name {
            "request" if self.asked => {
                let Echo { message_id } = serde_json::from_str(opaque.json.get()).unwrap_or_default();
                self.begin(message_id.as_deref(), sink);
            }
            name if !OURS.contains(&name) => self.raw(opaque.json.get(), sink),
            _ => {}
        }
    }

    /// An event of the user's own code is data of the message, as its name says.
    fn custom(&mut self, custom: &Custom, sink: &mut Sink<'_>) {
        if custom.data.is_empty() {
            return;
        }
        let name = if custom.name.is_empty() { "message" } else { &custom.name };
        let data = match serde_json::from_str::<Json>(&custom.data) {
            Ok(json) => json,
            Err(_) => Json::of(&custom.data).expect("text"),
        };
        let name = serde_json::to_string(&format!("data-{name}")).expect("text");
        self.raw(&format!(r#"{{"type":{name},"data":{}}}"#, data.get()), sink);
    }

    fn end(&mut self, end: &End, sink: &mut Sink<'_>) {
        self.begin(None, sink);
        if let Some(why) = why(end) {
            self.chunk(&why, sink);
            return self.finish(if end.status == Status::Cancelled { "other" } else { "error" }, sink);
        }
        while let Some(part) = self.open.iter().find(|open| open.of != PartType::ToolCall).map(|open| open.part) {
            self.stop(part, sink);
        }
        self.chunk(&json!({ "type": "finish-step" }), sink);
        self.finish(reason(end.reason.or(self.reason)), sink);
    }

    fn finish(&mut self, reason: &str, sink: &mut Sink<'_>) {
        let mut chunk = json!({ "type": "finish" });
        if self.version > Version::Five {
            chunk["finishReason"] = reason.into();
        }
        self.chunk(&chunk, sink);
        sink.frame(u64::MAX, None, |rope| rope.put(DONE)); // no chunk: it is not counted
    }

    fn chunk(&mut self, chunk: &Value, sink: &mut Sink<'_>) {
        self.raw(&chunk.to_string(), sink);
    }

    fn raw(&mut self, chunk: &str, sink: &mut Sink<'_>) {
        let number = self.count;
        self.count += 1;
        sink.frame(number, None, |rope| rope.put(chunk));
    }
}

/// The chunk that says why an answer is not whole; nothing if it is.
pub(super) fn why(end: &End) -> Option<Value> {
    match end.status {
        Status::Cancelled => Some(json!({ "type": "abort" })),
        _ => Fault::of(end).map(error),
    }
}

fn error(fault: Fault<'_>) -> Value {
    json!({ "type": "error", "errorText": fault.message })
}

/// What parts of words are called; nothing of a call.
fn kind(of: PartType) -> Option<&'static str> {
    match of {
        PartType::Text | PartType::Refusal => Some("text"),
        PartType::Reasoning | PartType::ReasoningSummary => Some("reasoning"),
        _ => None,
    }
}

fn reason(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::Stop) => "stop",
        Some(Reason::Length) => "length",
        Some(Reason::ToolCalls) => "tool-calls",
        Some(Reason::ContentFilter) => "content-filter",
        Some(Reason::Budget | Reason::Deadline) | None => "other",
    }
}
