//! Chunks to events. What an application of the user's own streams in this protocol is understood by it: what was said, which tools
//! were called, whether it is whole.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DONE, NAME};
use crate::{
    event::{Annotation, At, Delta, Event, Finish, Json, Media, Opaque, PartStart, PartStop, PartType, Reason, Tool},
    protocol::{Complaint, Decode, DecodeError},
};

type Events = Vec<Event<'static>>;

/// Decodes one answer; see the module above.
#[derive(Debug, Default)]
pub struct AiSdkDecode {
    parts: u16,
    open: Vec<Open>,
    /// Why it is over, if that was said with its end.
    finished: bool,
    done: bool,
}

/// A part that has begun: the chunk's id, or the call's.
#[derive(Debug)]
struct Open {
    id: String,
    at: At,
    said: bool,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    delta: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "toolCallId")]
    tool_call_id: Option<Cow<'a, str>>,
    #[serde(rename = "toolName")]
    tool_name: Option<String>,
    #[serde(rename = "inputTextDelta")]
    input: Option<String>,
    #[serde(borrow, rename = "input")]
    whole: Option<&'a RawValue>,
    url: Option<String>,
    title: Option<String>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "finishReason")]
    finish_reason: Option<String>,
    #[serde(rename = "errorText")]
    error: Option<String>,
}

impl Decode for AiSdkDecode {
    fn frame(&mut self, _: &str, data: &str, events: &mut Events) -> Result<(), DecodeError> {
        let data = data.trim();
        if data.is_empty() || self.done {
            return Ok(());
        }
        if data == DONE {
            self.done = true;
            return Ok(());
        }
        // The data of a `data-…` chunk may use these names for anything.
        let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(data) else {
            events.extend(opaque(data));
            return Ok(());
        };
        let id = || chunk.id.as_deref().unwrap_or_default();
        let call = || chunk.tool_call_id.as_deref().unwrap_or_default();
        match &*chunk.r#type {
            "text-start" => _ = self.begin(id(), PartType::Text, None, events),
            "reasoning-start" => _ = self.begin(id(), PartType::Reasoning, None, events),
            "text-delta" => self.say(id(), PartType::Text, chunk.delta.as_deref(), events),
            "reasoning-delta" => self.say(id(), PartType::Reasoning, chunk.delta.as_deref(), events),
            "text-end" | "reasoning-end" => self.stop(id(), events),
            "tool-input-start" => {
                let tool = tool(call(), chunk.tool_name.clone());
                self.begin(call(), PartType::ToolCall, Some(tool), events);
            }
            "tool-input-delta" => self.say(call(), PartType::ToolCall, chunk.input.as_deref(), events),
            "tool-input-available" => {
                let tool = tool(call(), chunk.tool_name.clone());
                let n = self.find(call()).unwrap_or_else(|| self.begin(call(), PartType::ToolCall, Some(tool), events));
                if !self.open[n].said {
                    self.say(call(), PartType::ToolCall, chunk.whole.map(RawValue::get), events);
                }
                self.stop(call(), events);
            }
            "file" => {
                let media = Media { media_type: chunk.media_type, url: chunk.url, ..Media::default() };
                events.push(Event::Media(At { part: self.part(), of: PartType::Media, choice: 0 }, media));
            }
            "source-url" => {
                let source = Annotation { url: chunk.url, title: chunk.title, ..Annotation::default() };
                let at = self.open.last().map_or_else(At::default, |open| open.at);
                events.push(Event::Annotation(at, source));
            }
            "error" => {
                let message = chunk.error.unwrap_or_default();
                return Err(DecodeError::Upstream(Complaint { message, code: None, status: None }));
            }
            "finish" => {
                while let Some(open) = self.open.pop() {
                    events.push(Event::PartStop(open.at, PartStop::default()));
                }
                self.finished = true;
                let reason = chunk.finish_reason.as_deref().and_then(reason);
                events.push(Event::Finish(0, Finish { reason, raw: chunk.finish_reason, ..Finish::default() }));
            }
            "abort" => {
                let message = "the application called the answer off".to_owned();
                return Err(DecodeError::Upstream(Complaint { message, code: Some("abort".into()), status: None }));
            }
            "start" | "start-step" | "finish-step" => {}
            _ => events.extend(opaque(data)),
        }
        Ok(())
    }

    /// As the AI SDK writes it.
    fn is_only_words(&self, _: &str, data: &str) -> bool {
        data.starts_with(r#"{"type":"text-delta","#) || data.starts_with(r#"{"type":"reasoning-delta","#)
    }

    fn finish(&mut self, _: &mut Events) -> Result<(), DecodeError> {
        self.done |= self.finished;
        if self.done { Ok(()) } else { Err(DecodeError::Truncated) }
    }

    fn done(&self) -> bool {
        self.done
    }

    fn whole(&self) -> bool {
        self.finished
    }
}

impl AiSdkDecode {
    fn part(&mut self) -> u16 {
        let part = self.parts;
        self.parts = self.parts.saturating_add(1);
        part
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.open.iter().rposition(|open| open.id == id)
    }

    fn begin(&mut self, id: &str, of: PartType, tool: Option<Tool>, events: &mut Events) -> usize {
        let at = At { choice: 0, part: self.part(), of };
        events.push(Event::PartStart(at, PartStart { r#type: of, tool, ..PartStart::default() }));
        self.open.push(Open { id: id.to_owned(), at, said: false });
        self.open.len() - 1
    }

    fn say(&mut self, id: &str, of: PartType, text: Option<&str>, events: &mut Events) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        let n = self.find(id).unwrap_or_else(|| self.begin(id, of, None, events));
        let open = &mut self.open[n];
        open.said = true;
        events.push(Event::Delta(open.at, Delta { text: Cow::Owned(text.to_owned()), logprobs: None }));
    }

    fn stop(&mut self, id: &str, events: &mut Events) {
        if let Some(n) = self.find(id) {
            events.push(Event::PartStop(self.open.remove(n).at, PartStop::default()));
        }
    }
}

fn tool(call: &str, name: Option<String>) -> Tool {
    Tool { call_id: Some(call.to_owned()), name, kind: Some("function".to_owned()) }
}

/// A chunk that says nothing here, for readers of this protocol.
fn opaque(data: &str) -> Option<Event<'static>> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let Typed { r#type: name } = serde_json::from_str(data).ok()?;
    let json: Json = serde_json::from_str(data).ok()?;
    Some(Event::Opaque(Opaque { protocol: Cow::Borrowed(NAME), name, json }))
}

fn reason(word: &str) -> Option<Reason> {
    match word {
        "stop" => Some(Reason::Stop),
        "length" => Some(Reason::Length),
        "tool-calls" => Some(Reason::ToolCalls),
        "content-filter" => Some(Reason::ContentFilter),
        _ => None,
    }
}
