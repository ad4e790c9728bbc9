//! Events of a Messages answer to ours. Each is parsed once, and a token costs one allocation: its text.

use std::{borrow::Cow, mem};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Block, Citation, Counts, Delta, Frame, NAME, understood};
use crate::{
    event::{
        self, Annotation, At, Event, Finish, Json, Opaque, PartStart, PartState, PartStop, PartType, Reason, Tool,
        Usage,
    },
    protocol::{Complaint, Decode, DecodeError, body::Members},
};

type Events = Vec<Event<'static>>;

/// What a message is always made of, and what of it is told in other ways.
const OF_A_MESSAGE: [&str; 8] = ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"];
/// The events that mean something. What else comes under one of these types is no event of the protocol.
const KNOWN: [&str; 7] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "message",
];

/// Decodes one answer; see the module above.
#[derive(Debug, Default)]
pub struct MessagesDecode {
    /// How many parts have begun.
    parts: u16,
    open: Vec<Open>,
    /// All that was said of the count of tokens, the last word of each member.
    usage: Members,
    finished: bool,
    done: bool,
}

/// A block that is not whole yet: a part of ours, or one that goes through as it came.
#[derive(Debug)]
struct Open {
    index: u64,
    at: Option<At>,
    /// Of a call: its arguments were told.
    said: bool,
}

impl Decode for MessagesDecode {
    fn frame(&mut self, name: &str, data: &str, events: &mut Events) -> Result<(), DecodeError> {
        let data = data.trim();
        if data.is_empty() || self.done {
            return Ok(());
        }
        match name {
            "ping" => {
                events.push(Event::Alive);
                return Ok(());
            }
            "error" => return Err(DecodeError::Upstream(Complaint::read(data))),
            _ => {}
        }
        let frame: Frame<'_> = match serde_json::from_str(data) {
            Ok(frame) => frame,
            Err(error) => return stranger(name, data, &error, events),
        };
        match frame.r#type.unwrap_or(name) {
            "message_start" => self.message_start(frame.message, events),
            "content_block_start" => self.block_start(frame.index, frame.content_block, data, events),
            "content_block_delta" => self.block_delta(frame.index, frame.delta.unwrap_or_default(), data, events),
            "content_block_stop" => self.block_stop(frame.index, data, events),
            "message_delta" => self.message_delta(frame.delta.unwrap_or_default(), frame.usage, data, events),
            "message_stop" => {
                self.close(events);
                self.done = true;
            }
            "ping" => events.push(Event::Alive),
            "error" => return Err(DecodeError::Upstream(Complaint::read(data))),
            _ if frame.r#type.is_none() => {
                let complaint = serde_json::from_str(data).ok().as_ref().and_then(Complaint::of);
                return complaint.map_or(Ok(()), |complaint| Err(DecodeError::Upstream(complaint)));
            }
            unknown => events.extend(opaque(unknown, data)),
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Events) -> Result<(), DecodeError> {
        if self.done { Ok(()) } else { Err(DecodeError::Truncated) }
    }

    fn done(&self) -> bool {
        self.done
    }
}

impl MessagesDecode {
    fn message_start(&mut self, message: Option<&RawValue>, events: &mut Events) {
        let Some(mut more) = members(message) else { return };
        let usage = more.remove("usage").filter(|usage| usage.get() != "null");
        OF_A_MESSAGE.iter().for_each(|name| drop(more.remove(name)));
        // Before the count, which begins the message on the other side.
        events.extend(kept("message", &more));
        if let Some(usage) = usage {
            self.usage = serde_json::from_str(usage.get()).unwrap_or_default();
            events.extend(counted(usage).map(Event::Usage));
        }
    }

    fn message_delta(&mut self, delta: Delta<'_>, usage: Option<&RawValue>, data: &str, events: &mut Events) {
        if let Some(more) = members(usage) {
            self.usage.join(more);
            events.extend(Json::of(&self.usage).and_then(counted).map(Event::Usage));
        }
        let mut more: Members = serde_json::from_str(data).unwrap_or_default();
        let mut within: Members =
            more.get("delta").and_then(|delta| serde_json::from_str(delta.get()).ok()).unwrap_or_default();
        ["type", "usage", "delta"].iter().for_each(|name| drop(more.remove(name)));
        ["stop_reason", "stop_sequence"].iter().for_each(|name| drop(within.remove(name)));
        if !within.is_empty() {
            more.set("delta", &within);
        }
        events.extend(kept("message_delta", &more));
        if let Some(raw) = delta.stop_reason
            && !mem::replace(&mut self.finished, true)
        {
            self.close(events);
            let finish = Finish {
                reason: reason(&raw),
                raw: Some(raw),
                stop_sequence: delta.stop_sequence,
                ..Finish::default()
            };
            events.push(Event::Finish(0, finish));
        }
    }

    fn block_start(&mut self, index: Option<u64>, block: Option<&RawValue>, data: &str, events: &mut Events) {
        let index = index.unwrap_or_else(|| self.open.last().map_or(0, |open| open.index.saturating_add(1)));
        let known = block.and_then(|raw| serde_json::from_str::<Block<'_>>(raw.get()).ok());
        let of = match known.as_ref().and_then(|block| block.r#type) {
            Some("text") => PartType::Text,
            Some("thinking") => PartType::Reasoning,
            Some("redacted_thinking") => PartType::Redacted,
            Some("tool_use") => PartType::ToolCall,
            _ => {
                self.open.push(Open { index, at: None, said: false });
                events.extend(opaque("content_block_start", data));
                return;
            }
        };
        let (Some(known), Some(raw)) = (known, block) else { return };
        let mut start = PartStart { r#type: of, raw: more_than_known(raw), ..PartStart::default() };
        if of == PartType::ToolCall {
            start.tool = Some(Tool { call_id: known.id, name: known.name, kind: Some("function".to_owned()) });
        }
        let at = self.begin(index, start, events);
        // A block may begin with some of its content.
        let input = known.input.map(RawValue::get).filter(|input| !is_empty_object(input)).map(str::to_owned);
        let said = match of {
            PartType::Text => known.text,
            PartType::Reasoning => known.thinking,
            PartType::ToolCall => input,
            _ => None,
        };
        if let Some(open) = self.open.last_mut() {
            open.said = said.is_some();
        }
        say(at, said, events);
        let sealed = known.signature.filter(|signature| signature.get() != "\"\"");
        events.extend(sealed.map(|value| state(at, "signature", value)));
        events.extend(known.data.map(|value| state(at, "redacted_thinking", value)));
    }

    fn block_delta(&mut self, index: Option<u64>, delta: Delta<'_>, data: &str, events: &mut Events) {
        let known = self.find(index).map(|n| self.open[n].at);
        let kind = delta.r#type.unwrap_or_default();
        let of = match (known, kind) {
            (Some(None), _) => return events.extend(opaque("content_block_delta", data)),
            (Some(Some(at)), _) => at.of,
            // Of a block that was never begun: its deltas tell what it is.
            (None, "text_delta" | "citations_delta") => PartType::Text,
            (None, "thinking_delta" | "signature_delta") => PartType::Reasoning,
            (None, "input_json_delta") => PartType::ToolCall,
            (None, _) => return,
        };
        let at = known.flatten().unwrap_or_else(|| {
            self.begin(index.unwrap_or_default(), PartStart { r#type: of, ..PartStart::default() }, events)
        });
        match kind {
            "text_delta" => say(at, delta.text, events),
            "thinking_delta" => say(at, delta.thinking, events),
            "input_json_delta" => {
                if let Some(open) = self.open.iter_mut().rfind(|open| open.at == Some(at)) {
                    open.said |= delta.partial_json.as_deref().is_some_and(|piece| !piece.is_empty());
                }
                say(at, delta.partial_json, events);
            }
            "signature_delta" => events.extend(delta.signature.map(|value| state(at, "signature", value))),
            "citations_delta" => events.extend(delta.citation.map(|raw| Event::Annotation(at, annotation(raw)))),
            _ => events.extend(opaque("content_block_delta", data)),
        }
    }

    fn block_stop(&mut self, index: Option<u64>, data: &str, events: &mut Events) {
        let Some(n) = self.find(index) else { return };
        match self.open.remove(n) {
            Open { at: Some(at), said, .. } => stop(at, said, events),
            Open { at: None, .. } => events.extend(opaque("content_block_stop", data)),
        }
    }

    /// The open block of this index; without one, that which began last.
    fn find(&self, index: Option<u64>) -> Option<usize> {
        match index {
            Some(index) => self.open.iter().rposition(|open| open.index == index),
            None => self.open.len().checked_sub(1),
        }
    }

    fn begin(&mut self, index: u64, start: PartStart, events: &mut Events) -> At {
        let at = At { choice: 0, part: self.parts, of: start.r#type };
        self.parts = self.parts.saturating_add(1);
        self.open.push(Open { index, at: Some(at), said: false });
        events.push(Event::PartStart(at, start));
        at
    }

    /// Stops what the upstream has not stopped.
    fn close(&mut self, events: &mut Events) {
        for Open { at, said, .. } in mem::take(&mut self.open) {
            if let Some(at) = at {
                stop(at, said, events);
            }
        }
    }
}

/// Ends a part. A call of which no arguments were told has none, which other protocols write as an empty object.
fn stop(at: At, said: bool, events: &mut Events) {
    if at.of == PartType::ToolCall && !said {
        say(at, Some("{}".to_owned()), events);
    }
    events.push(Event::PartStop(at, PartStop::default()));
}

fn say(at: At, text: Option<String>, events: &mut Events) {
    let text = text.filter(|text| !text.is_empty());
    events.extend(text.map(|text| Event::Delta(at, event::Delta { text: Cow::Owned(text), logprobs: None })));
}

fn state(at: At, kind: &str, value: Json) -> Event<'static> {
    Event::State(at, PartState { origin: Cow::Borrowed(NAME), kind: kind.to_owned(), value })
}

fn members(json: Option<&RawValue>) -> Option<Members> {
    serde_json::from_str(json?.get()).ok()
}

/// Members that are only of use to a reader of this protocol, if there are any.
fn kept(name: &str, members: &Members) -> Option<Event<'static>> {
    let json = (!members.is_empty()).then(|| Json::of(members)).flatten()?;
    Some(Event::Opaque(Opaque { protocol: Cow::Borrowed(NAME), name: name.to_owned(), json }))
}

/// An event that goes through as it came.
fn opaque(name: &str, data: &str) -> Option<Event<'static>> {
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let json: Json = serde_json::from_str(data).ok().filter(|_| plain && name != "message")?;
    let json = json.get().starts_with('{').then_some(json)?;
    Some(Event::Opaque(Opaque { protocol: Cow::Borrowed(NAME), name: name.to_owned(), json }))
}

/// What has not the shape of an event: of another type it may have any, of a known one it is not the protocol.
fn stranger(name: &str, data: &str, error: &serde_json::Error, events: &mut Events) -> Result<(), DecodeError> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: Option<String>,
    }
    let typed: Option<Typed> = serde_json::from_str(data).ok();
    let kind = typed.as_ref().and_then(|typed| typed.r#type.as_deref()).unwrap_or(name);
    if KNOWN.contains(&kind) {
        // Says where, and nothing of what: it may hold the answer's words, and messages are logged.
        let what = if error.is_data() { "has a member of another type than Messages has" } else { "is not JSON" };
        let place = error.column();
        return Err(DecodeError::Malformed(format!("an event of the upstream's answer {what} (at byte {place})")));
    }
    if kind == "error" {
        return Err(DecodeError::Upstream(Complaint::read(data)));
    }
    if typed.is_some() {
        events.extend(opaque(kind, data));
    }
    Ok(())
}

/// The block without its content, if it has members that are not understood.
fn more_than_known(raw: &RawValue) -> Option<Json> {
    let mut block = members(Some(raw))?;
    let r#type: String = serde_json::from_str(block.get("type")?.get()).ok()?;
    if block.beyond(understood(&r#type)?).is_empty() {
        return None;
    }
    for (name, nothing) in [("text", "\"\""), ("thinking", "\"\""), ("signature", "\"\""), ("input", "{}")] {
        if block.get(name).is_some() {
            block.set(name, &serde_json::from_str::<Json>(nothing).unwrap_or_default());
        }
    }
    Json::of(&block)
}

fn is_empty_object(json: &str) -> bool {
    let inside = json.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    json == "null" || inside.is_some_and(|inside| inside.trim().is_empty())
}

fn reason(raw: &str) -> Option<Reason> {
    match raw {
        "end_turn" | "stop_sequence" | "pause_turn" => Some(Reason::Stop),
        "max_tokens" | "model_context_window_exceeded" => Some(Reason::Length),
        "tool_use" => Some(Reason::ToolCalls),
        "refusal" => Some(Reason::ContentFilter),
        _ => None,
    }
}

/// Anthropic counts what was read from and written to its cache beside `input_tokens`, not among them.
fn counted(raw: Json) -> Option<Usage> {
    let counts: Counts = serde_json::from_str(raw.get()).ok()?;
    let input = [counts.input_tokens, counts.cache_read_input_tokens, counts.cache_creation_input_tokens];
    let known = input.iter().any(Option::is_some);
    Some(Usage {
        input_tokens: known.then(|| input.into_iter().flatten().fold(0, u64::saturating_add)),
        output_tokens: counts.output_tokens,
        cache_read_tokens: counts.cache_read_input_tokens,
        cache_write_tokens: counts.cache_creation_input_tokens,
        reasoning_tokens: counts.output_tokens_details.unwrap_or_default().thinking_tokens,
        audio_tokens: None,
        raw: Some(raw),
    })
}

/// Where in the answer it stands is said by where it comes; the places it names are in what is cited.
fn annotation(raw: Json) -> Annotation {
    let Ok(cited) = serde_json::from_str::<Citation>(raw.get()) else {
        return Annotation { raw: Some(raw), ..Annotation::default() };
    };
    Annotation { url: cited.url, title: cited.title.or(cited.document_title), span: None, raw: Some(raw) }
}

#[cfg(test)]
mod tests;
