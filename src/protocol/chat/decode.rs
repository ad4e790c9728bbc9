//! Chunks of a Chat Completions answer to events. Each chunk is parsed once, and a token costs one allocation: its text.

mod words;

use std::{borrow::Cow, mem};

use serde_json::{Value, value::RawValue};

use self::words::{annotation, reason, usage};
use super::{
    Content, ContentPart, Function, ReasoningDetail,
    chunk::{Call, Choice, Chunk, Delta},
    rest::{self, Own, Repeated, Spelling},
    template::Template,
};
use crate::{
    event::{self, At, Event, Finish, Json, Media, PartStart, PartState, PartStop, PartType, Tool},
    protocol::{Complaint, Decode, DecodeError},
};

type Events = Vec<Event<'static>>;

/// Decodes one answer; see the module above.
#[derive(Debug, Default)]
pub struct ChatDecode {
    choices: Vec<Answer>,
    /// How many were asked for, where it was said.
    asked: u64,
    /// What is the same on every chunk, as it was last told.
    repeated: Repeated,
    spelling: Spelling,
    /// What stood around the last token, when there was nothing else in its chunk.
    template: Template,
    done: bool,
}

/// One choice of the answer.
#[derive(Debug, Default)]
struct Answer {
    index: u8,
    /// If it is not the assistant's.
    role: Option<String>,
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

impl Decode for ChatDecode {
    fn frame(&mut self, name: &str, data: &str, events: &mut Events) -> Result<(), DecodeError> {
        let data = data.trim_ascii();
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
        let mut chunk: Chunk<'_> = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            Err(_) if name != "message" => return Ok(()),
            Err(error) => return Err(malformed(&error)),
        };
        let nothing_known = chunk.choices.is_none() && chunk.usage.is_none();
        let before = events.len();
        let content = content(&chunk);
        let choices = chunk.choices.take().unwrap_or_default();
        let mut own = Own::default();
        if !nothing_known {
            own.chunk = self.repeated.take(chunk.rest, choices.is_empty(), events);
        }
        if choices.is_empty() && !own.is_empty() {
            events.push(own.record(rest::LAST));
        }
        let mut failed = false;
        for choice in choices {
            failed |= choice.finish_reason.as_deref() == Some("error");
            self.choice(choice, mem::take(&mut own), events);
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

    fn is_only_words(&self, name: &str, data: &str) -> bool {
        name == "message" && self.template.fits(data).is_some()
    }

    fn finish(&mut self, events: &mut Events) -> Result<(), DecodeError> {
        if !self.done && !self.finished() {
            return Err(DecodeError::Truncated);
        }
        self.close(events);
        self.done = true;
        Ok(())
    }

    fn done(&self) -> bool {
        self.done
    }

    fn whole(&self) -> bool {
        self.choices.len() as u64 >= self.asked && self.finished()
    }
}

impl ChatDecode {
    /// For an answer of so many choices.
    #[must_use]
    pub fn of(choices: Option<u64>) -> Self {
        Self { asked: choices.unwrap_or_default(), ..Self::default() }
    }

    /// Every choice that began has said why it is over.
    fn finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|answer| answer.finished)
    }

    /// `own`: what the chunk says beside its choices, if this is its first one.
    fn choice<'a>(&mut self, mut choice: Choice<'a>, mut own: Own<'a>, events: &mut Events) {
        let index = choice.index.unwrap_or(0);
        let at = self.choices.iter().position(|answer| answer.index == index).unwrap_or_else(|| {
            self.choices.push(Answer { index, ..Answer::default() });
            self.choices.len() - 1
        });
        let answer = &mut self.choices[at];
        let mut delta = choice.delta.take().unwrap_or_default();
        answer.takes_role(delta.role.take(), events);
        own.choice = mem::take(&mut choice.rest);
        own.delta = mem::take(&mut delta.rest);
        let before = events.len();
        answer.delta(delta, &mut choice.logprobs, &mut self.spelling, &mut own, events);
        own.logprobs = choice.logprobs;
        let mut stop_sequence = None;
        if let Some(stop) = choice.stop_reason {
            match serde_json::from_str(stop.get()) {
                Ok(text) => stop_sequence = Some(text),
                Err(_) => own.choice.push(("stop_reason".into(), stop)), // a token's number
            }
        }
        let finish = choice.finish_reason.filter(|raw| !raw.is_empty() && raw != "error");
        if let Some(raw) = finish
            && !mem::replace(&mut answer.finished, true)
        {
            answer.close(events);
            let safety = choice.content_filter_results.take();
            events.push(Event::Finish(index, Finish { reason: reason(&raw), raw: Some(raw), stop_sequence, safety }));
        }
        if own.is_empty() {
            return;
        }
        // With the last of what has a chunk of its own: why a choice is over may well stand beside more of the same.
        let has_chunk = |event: &Event<'_>| match event {
            Event::Delta(at, _) => at.of != PartType::Reasoning || self.spelling != Spelling::Details,
            Event::PartStart(at, _) => at.of == PartType::ToolCall,
            Event::Annotation(..) | Event::State(..) | Event::Media(..) | Event::Finish(..) => true,
            _ => false,
        };
        match events[before..].iter().rposition(has_chunk) {
            Some(last) => events.insert(before + last, own.record(format!("{}{index}", rest::NEXT))),
            None => events.push(own.record(format!("{}{index}", rest::ALONE))),
        }
    }

    fn close(&mut self, events: &mut Events) {
        for answer in &mut self.choices {
            answer.close(events);
        }
    }
}

impl Answer {
    fn takes_role(&mut self, role: Option<Cow<'_, str>>, events: &mut Events) {
        let Some(role) = role.filter(|role| !role.is_empty()) else { return };
        if role != self.role.as_deref().unwrap_or("assistant") {
            events.push(rest::told(format!("{}{}", rest::ROLE, self.index), Json::of(&role).unwrap_or_default()));
            self.role = Some(role.into_owned());
        }
    }

    /// Leaves in `logprobs` those that belong to no text, and in `own` what only readers of this protocol understand.
    fn delta<'a>(
        &mut self,
        delta: Delta<'a>,
        logprobs: &mut Option<Json>,
        spelling: &mut Spelling,
        own: &mut Own<'a>,
        events: &mut Events,
    ) {
        let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let now = match (said(&delta.reasoning_content), said(&delta.reasoning)) {
            (true, true) => Some(Spelling::Both),
            (true, false) => Some(Spelling::Content),
            (false, true) => Some(Spelling::Short),
            (false, false) => None,
        };
        let flat = [delta.reasoning_content, delta.reasoning].into_iter().flatten().find(|text| !text.is_empty());
        self.think(now.unwrap_or_default(), flat.unwrap_or_default(), spelling, events);
        for raw in delta.reasoning_details.into_iter().flatten() {
            self.reasoning_detail(raw, now.is_some(), spelling, own, events);
        }
        match delta.content {
            Some(Content::Text(text)) if !text.is_empty() => {
                self.say(PartType::Text, text.into_owned(), logprobs.take(), events);
            }
            Some(Content::Text(_)) | None => {}
            Some(Content::Parts(parts)) => {
                parts.into_iter().for_each(|part| self.content_part(part, PartType::Text, spelling, events));
            }
        }
        if let Some(refusal) = delta.refusal.filter(|refusal| !refusal.is_empty()) {
            self.say(PartType::Refusal, refusal, logprobs.take(), events);
        }
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
            self.call(Call { index: Some(no_tools), kind, function: Some(function), ..Call::default() }, events);
        }
        if let Some(audio) = delta.audio {
            self.audio(audio, own, events);
        }
    }

    /// A piece of sound is media to everybody; its words, its id and its time are this protocol's alone.
    fn audio<'a>(&mut self, audio: &'a RawValue, own: &mut Own<'a>, events: &mut Events) {
        let Some((base64, beside)) = rest::sound(audio) else {
            own.delta.push(("audio".into(), audio));
            return;
        };
        events.extend(beside.map(|json| rest::told(format!("{}{}", rest::ALONE, self.index), json)));
        let at = self.part(PartType::Media, events);
        // Streamed sound is raw samples: what has a head cannot be cut into pieces.
        let media_type = Some("audio/pcm".to_owned());
        events.push(Event::Media(at, Media { media_type, base64: Some(base64), ..Media::default() }));
    }

    fn think(&mut self, now: Spelling, text: String, spelling: &mut Spelling, events: &mut Events) {
        if !text.is_empty() && mem::replace(spelling, now) != now {
            events.push(now.record());
        }
        self.say(PartType::Reasoning, text, None, events);
    }

    fn say(&mut self, of: PartType, text: String, logprobs: Option<Json>, events: &mut Events) {
        if !text.is_empty() {
            let at = self.part(of, events);
            events.push(Event::Delta(at, event::Delta { text: Cow::Owned(text), logprobs }));
        }
    }

    fn content_part(&mut self, part: ContentPart, of: PartType, spelling: &mut Spelling, events: &mut Events) {
        for thought in part.thinking.into_iter().flatten() {
            self.content_part(thought, PartType::Reasoning, spelling, events);
        }
        let text = part.text.unwrap_or_default();
        match of {
            PartType::Reasoning => self.think(Spelling::default(), text, spelling, events),
            of => self.say(of, text, None, events),
        }
    }

    /// `told`: its text was in this chunk already, in a flat member.
    fn reasoning_detail(
        &mut self,
        raw: Json,
        told: bool,
        spelling: &mut Spelling,
        own: &mut Own<'_>,
        events: &mut Events,
    ) {
        let detail = serde_json::from_str::<ReasoningDetail>(raw.get()).unwrap_or_default();
        let text = detail.text.or(detail.summary).unwrap_or_default();
        if !told {
            self.think(Spelling::Details, text, spelling, events);
        }
        match detail.data.is_some() || detail.signature.is_some() {
            true => {
                let at = self.part(PartType::Reasoning, events);
                let kind = detail.r#type.unwrap_or_default();
                events.push(Event::State(at, PartState { origin: Cow::Borrowed("chat"), kind, value: raw }));
            }
            false => own.details.push(raw),
        }
    }

    fn call(&mut self, piece: Call<'_>, events: &mut Events) {
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
        tool.kind = tool.kind.take().or(piece.kind);
        let text = arguments.unwrap_or_default();
        call.argued |= !text.is_empty();
        if (tool.call_id.is_some() && tool.name.is_some()) || !text.is_empty() {
            let at = self.begin_call(known, events);
            if !text.is_empty() {
                events.push(Event::Delta(at, event::Delta { text: Cow::Owned(text), logprobs: None }));
            }
        }
        // Google's signature of a thought stands here, and must go back with the call.
        if !piece.rest.is_empty() {
            let at = self.begin_call(known, events);
            let value = rest::object(&piece.rest);
            let kind = "tool_call".to_owned();
            events.push(Event::State(at, PartState { origin: Cow::Borrowed("chat"), kind, value }));
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

#[cfg(test)]
mod tests;
