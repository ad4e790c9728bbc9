//! Chunks of a Chat Completions answer to events. Each chunk is parsed once, and a token costs one allocation: its text.

use std::{borrow::Cow, mem};

use serde_json::{Value, value::RawValue};

use super::{
    Call, Choice, Chunk, Citation, Content, ContentPart, Counts, Delta, Function, ReasoningDetail, template::Template,
};
use crate::{
    event::{self, Annotation, At, Event, Finish, Json, PartStart, PartState, PartStop, PartType, Reason, Tool, Usage},
    protocol::{Complaint, Decode, DecodeError},
};

type Events = Vec<Event<'static>>;

/// Decodes one answer; see the module above.
#[derive(Debug, Default)]
pub struct ChatDecode {
    choices: Vec<Answer>,
    /// What is the same on every chunk, as it was last told.
    extras: Extras,
    /// What stood around the last token, when there was nothing else in its chunk.
    template: Template,
    done: bool,
}

/// One choice of the answer.
#[derive(Debug, Default)]
struct Answer {
    index: u8,
    /// How many parts have begun.
    parts: u16,
    /// The part that a delta without an index goes on with.
    open: Option<At>,
    calls: Vec<OpenCall>,
    finished: bool,
}

/// A tool call that is not whole yet. It begins when its id and name, or its first arguments, are here.
#[derive(Debug)]
struct OpenCall {
    index: Option<u64>,
    at: Option<At>,
    tool: Tool,
    /// Some of its arguments were told.
    argued: bool,
}

impl OpenCall {
    /// Whether a piece of the same index, with this id and name, begins another call.
    fn has_another_behind(&self, id: &Option<String>, name: &Option<String>) -> bool {
        self.argued && name.is_some() && id.is_some() && self.tool.call_id != *id
    }
}

#[derive(Debug, Default)]
struct Extras {
    system_fingerprint: Option<String>,
    service_tier: Option<String>,
}

impl Decode for ChatDecode {
    fn frame(&mut self, name: &str, data: &str, events: &mut Events) -> Result<(), DecodeError> {
        let data = data.trim();
        if data.is_empty() || self.done {
            return Ok(());
        }
        if name == "message"
            && let Some((at, text)) = self.template.fits(data)
        {
            events.push(Event::Delta(at, event::Delta { text: Cow::Owned(text.to_owned()), logprobs: None }));
            return Ok(());
        }
        self.template.forget();
        if data == "[DONE]" {
            self.close(events);
            self.done = true;
            return Ok(());
        }
        if name == "error" {
            return Err(DecodeError::Upstream(Complaint::read(data)));
        }
        let chunk: Chunk<'_> = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            Err(_) if name != "message" => return Ok(()),
            Err(error) => return Err(malformed(&error)),
        };
        let nothing_known = chunk.choices.is_none() && chunk.usage.is_none();
        let before = events.len();
        let content = content(&chunk);
        self.extras.take(&chunk, events);
        let mut failed = false;
        for choice in chunk.choices.into_iter().flatten() {
            failed |= choice.finish_reason.as_deref() == Some("error");
            self.choice(choice, events);
        }
        if let Some(complaint) = complaint(chunk.error, failed) {
            return Err(DecodeError::Upstream(complaint));
        }
        if nothing_known && let Some(complaint) = serde_json::from_str(data).ok().as_ref().and_then(Complaint::of) {
            return Err(DecodeError::Upstream(complaint)); // without an envelope: older vLLM
        }
        if let Some(raw) = chunk.usage {
            events.extend(usage(raw).map(Event::Usage));
        }
        if let [Event::Delta(at, event::Delta { text, logprobs: None })] = &events[before..]
            && let Some(content) = content.filter(|content| content == text)
        {
            self.template.learn(*at, data, content);
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Events) -> Result<(), DecodeError> {
        let whole = !self.choices.is_empty() && self.choices.iter().all(|answer| answer.finished);
        if !self.done && !whole {
            return Err(DecodeError::Truncated);
        }
        self.close(events);
        self.done = true;
        Ok(())
    }

    fn done(&self) -> bool {
        self.done
    }
}

impl ChatDecode {
    fn choice(&mut self, choice: Choice<'_>, events: &mut Events) {
        let index = choice.index.unwrap_or(0);
        let at = self.choices.iter().position(|answer| answer.index == index).unwrap_or_else(|| {
            self.choices.push(Answer { index, ..Answer::default() });
            self.choices.len() - 1
        });
        let answer = &mut self.choices[at];
        answer.delta(choice.delta.unwrap_or_default(), choice.logprobs, events);
        let Some(raw) = choice.finish_reason.filter(|raw| !raw.is_empty() && raw != "error") else { return };
        if mem::replace(&mut answer.finished, true) {
            return;
        }
        answer.close(events);
        let finish = Finish {
            reason: reason(&raw),
            raw: Some(raw),
            stop_sequence: choice.stop_reason.and_then(|stop| stop.as_str().map(str::to_owned)),
            safety: choice.content_filter_results,
        };
        events.push(Event::Finish(index, finish));
    }

    fn close(&mut self, events: &mut Events) {
        for answer in &mut self.choices {
            answer.close(events);
        }
    }
}

impl Answer {
    fn delta(&mut self, delta: Delta<'_>, mut logprobs: Option<Json>, events: &mut Events) {
        let flat = [delta.reasoning_content, delta.reasoning].into_iter().flatten().find(|text| !text.is_empty());
        let told = flat.is_some();
        self.say(PartType::Reasoning, flat.unwrap_or_default(), None, events);
        for raw in delta.reasoning_details.into_iter().flatten() {
            self.reasoning_detail(raw, told, events);
        }
        match delta.content {
            Some(Content::Text(text)) if !text.is_empty() => {
                self.say(PartType::Text, text.into_owned(), logprobs.take(), events);
            }
            Some(Content::Text(_)) | None => {}
            Some(Content::Parts(parts)) => {
                parts.into_iter().for_each(|part| self.content_part(part, PartType::Text, events));
            }
        }
        self.say(PartType::Refusal, delta.refusal.unwrap_or_default(), logprobs, events);
        for raw in delta.annotations.into_iter().flatten() {
            let at = self.part(PartType::Text, events);
            events.push(Event::Annotation(at, annotation(raw)));
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call, events);
        }
        if let Some(function) = delta.function_call {
            let kind = Some("function_call".to_owned());
            let no_tools = u64::MAX; // an index that no tool call has
            self.call(Call { index: Some(no_tools), id: None, r#type: kind, function: Some(function) }, events);
        }
    }

    fn say(&mut self, of: PartType, text: String, logprobs: Option<Json>, events: &mut Events) {
        if !text.is_empty() {
            let at = self.part(of, events);
            events.push(Event::Delta(at, event::Delta { text: Cow::Owned(text), logprobs }));
        }
    }

    fn content_part(&mut self, part: ContentPart, of: PartType, events: &mut Events) {
        for thought in part.thinking.into_iter().flatten() {
            self.content_part(thought, PartType::Reasoning, events);
        }
        self.say(of, part.text.unwrap_or_default(), None, events);
    }

    /// `told`: its text was in this chunk already, in a flat member.
    fn reasoning_detail(&mut self, raw: Json, told: bool, events: &mut Events) {
        let Ok(detail) = serde_json::from_str::<ReasoningDetail>(raw.get()) else { return };
        if !told {
            self.say(PartType::Reasoning, detail.text.or(detail.summary).unwrap_or_default(), None, events);
        }
        if detail.data.is_some() || detail.signature.is_some() {
            let at = self.part(PartType::Reasoning, events);
            let kind = detail.r#type.unwrap_or_default();
            events.push(Event::State(at, PartState { origin: Cow::Borrowed("chat"), kind, value: raw }));
        }
    }

    fn call(&mut self, piece: Call, events: &mut Events) {
        let Function { name, arguments } = piece.function.unwrap_or_default();
        let (id, name) = (piece.id.filter(|id| !id.is_empty()), name.filter(|name| !name.is_empty()));
        let known = match (piece.index, &id) {
            (Some(_), _) => {
                let known = self.calls.iter().rposition(|call| call.index == piece.index);
                // Gemini gives every call the index 0.
                known.filter(|n| !self.calls[*n].has_another_behind(&id, &name))
            }
            (None, Some(_)) => self.calls.iter().position(|call| call.tool.call_id == id),
            (None, None) => self.calls.len().checked_sub(1),
        };
        let known = known.unwrap_or_else(|| {
            self.calls.push(OpenCall { index: piece.index, at: None, tool: Tool::default(), argued: false });
            self.calls.len() - 1
        });
        let call = &mut self.calls[known];
        let tool = &mut call.tool;
        tool.call_id = tool.call_id.take().or(id);
        tool.name = tool.name.take().or(name);
        tool.kind = tool.kind.take().or(piece.r#type);
        let text = arguments.unwrap_or_default();
        call.argued |= !text.is_empty();
        if (tool.call_id.is_some() && tool.name.is_some()) || !text.is_empty() {
            let at = self.begin_call(known, events);
            if !text.is_empty() {
                events.push(Event::Delta(at, event::Delta { text: Cow::Owned(text), logprobs: None }));
            }
        }
    }

    fn begin_call(&mut self, n: usize, events: &mut Events) -> At {
        if let Some(at) = self.calls[n].at {
            return at;
        }
        self.stop_open(events);
        let at = self.next(PartType::ToolCall);
        let call = &mut self.calls[n];
        call.at = Some(at);
        let start = PartStart { r#type: at.of, tool: Some(call.tool.clone()), ..PartStart::default() };
        events.push(Event::PartStart(at, start));
        at
    }

    /// The open part if it is of this type, else a new one in its place.
    fn part(&mut self, of: PartType, events: &mut Events) -> At {
        if let Some(at) = self.open.filter(|at| at.of == of) {
            return at;
        }
        self.stop_open(events);
        let at = self.next(of);
        events.push(Event::PartStart(at, PartStart { r#type: of, ..PartStart::default() }));
        *self.open.insert(at)
    }

    fn next(&mut self, of: PartType) -> At {
        let part = self.parts;
        self.parts = self.parts.saturating_add(1);
        At { choice: self.index, part, of }
    }

    fn stop_open(&mut self, events: &mut Events) {
        events.extend(self.open.take().map(|at| Event::PartStop(at, PartStop::default())));
    }

    /// Stops every part in the order they began; a call of which only the index was told begins here.
    fn close(&mut self, events: &mut Events) {
        for n in 0..self.calls.len() {
            self.begin_call(n, events);
        }
        let mut calls: Vec<At> = mem::take(&mut self.calls).into_iter().filter_map(|call| call.at).collect();
        calls.extend(self.open.take());
        calls.sort_by_key(|at| at.part);
        events.extend(calls.into_iter().map(|at| Event::PartStop(at, PartStop::default())));
    }
}

impl Extras {
    /// What every chunk repeats is recorded when it is first told, and when it changes: for readers of the same protocol.
    fn take(&mut self, chunk: &Chunk<'_>, events: &mut Events) {
        for (name, known, told) in [
            ("system_fingerprint", &mut self.system_fingerprint, chunk.system_fingerprint),
            ("service_tier", &mut self.service_tier, chunk.service_tier),
        ] {
            let told: Option<&RawValue> = told;
            if let Some(told) = told
                && known.as_deref() != Some(told.get())
            {
                *known = Some(told.get().to_owned());
                let json = Json::new(told.to_owned());
                events.push(Event::Opaque(event::Opaque {
                    protocol: Cow::Borrowed("chat"),
                    name: name.to_owned(),
                    json,
                }));
            }
        }
    }
}

/// The text of a chunk that has one choice, if it stands there without escapes.
fn content<'a>(chunk: &Chunk<'a>) -> Option<&'a str> {
    match chunk.choices.as_deref()? {
        [Choice { delta: Some(Delta { content: Some(Content::Text(Cow::Borrowed(text))), .. }), .. }] => Some(text),
        _ => None,
    }
}

/// What the member `error` of a chunk says, if it says anything; `failed` is a finish reason `error`, with or without it.
fn complaint(error: Option<Value>, failed: bool) -> Option<Complaint> {
    let error = error.filter(|error| match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    });
    let words = |message: String| Complaint { message, ..Complaint::default() };
    match error {
        Some(error) => Some(Complaint::of(&error).unwrap_or_else(|| words(error.to_string()))),
        None => failed.then(|| words("the model stopped with the finish reason `error`".to_owned())),
    }
}

/// Says where, and nothing of what: the chunk may hold the answer's words, and messages are logged.
fn malformed(error: &serde_json::Error) -> DecodeError {
    let what = if error.is_data() { "has a member of another type than Chat Completions has" } else { "is not JSON" };
    DecodeError::Malformed(format!("a chunk of the upstream's answer {what} (at byte {})", error.column()))
}

fn reason(raw: &str) -> Option<Reason> {
    match raw {
        "stop" => Some(Reason::Stop),
        "length" => Some(Reason::Length),
        "tool_calls" | "function_call" => Some(Reason::ToolCalls),
        "content_filter" => Some(Reason::ContentFilter),
        _ => None,
    }
}

fn usage(raw: Json) -> Option<Usage> {
    let counts: Counts = serde_json::from_str(raw.get()).ok()?;
    let prompt = counts.prompt_tokens_details.unwrap_or_default();
    let completion = counts.completion_tokens_details.unwrap_or_default();
    Some(Usage {
        input_tokens: counts.prompt_tokens,
        output_tokens: counts.completion_tokens,
        cache_read_tokens: prompt.cached_tokens.or(counts.prompt_cache_hit_tokens),
        cache_write_tokens: prompt.cache_write_tokens,
        reasoning_tokens: completion.reasoning_tokens,
        audio_tokens: completion.audio_tokens,
        raw: Some(raw),
    })
}

fn annotation(raw: Json) -> Annotation {
    let Ok(Citation { url_citation: cited }) = serde_json::from_str(raw.get()) else {
        return Annotation { raw: Some(raw), ..Annotation::default() };
    };
    Annotation { url: cited.url, title: cited.title, span: cited.start_index.zip(cited.end_index), raw: Some(raw) }
}

#[cfg(test)]
mod tests;
