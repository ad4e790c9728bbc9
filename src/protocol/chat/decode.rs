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
    envelope: Envelope,
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
}

#[derive(Debug, Default)]
struct Envelope {
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
        self.envelope.take(&chunk, events);
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
        let known = match (piece.index, &piece.id) {
            (Some(index), _) => self.calls.iter().position(|call| call.index == Some(index)),
            (None, Some(id)) => self.calls.iter().position(|call| call.tool.call_id.as_ref() == Some(id)),
            (None, None) => self.calls.len().checked_sub(1),
        };
        let known = known.unwrap_or_else(|| {
            self.calls.push(OpenCall { index: piece.index, at: None, tool: Tool::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[known];
        let tool = &mut call.tool;
        tool.call_id = tool.call_id.take().or(piece.id.filter(|id| !id.is_empty()));
        tool.name = tool.name.take().or(name.filter(|name| !name.is_empty()));
        tool.kind = tool.kind.take().or(piece.r#type);
        let text = arguments.unwrap_or_default();
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

impl Envelope {
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
mod tests {
    use super::*;

    /// The events of an answer, one word each, and how it ended.
    fn decode(chunks: &[&str]) -> (Vec<String>, Result<(), DecodeError>) {
        let mut decode = ChatDecode::default();
        let mut events = Vec::new();
        let all = chunks.iter().try_for_each(|chunk| decode.frame("message", chunk, &mut events));
        let end = all.and_then(|()| decode.finish(&mut events));
        (events.iter().map(short).collect(), end)
    }

    fn short(event: &Event<'_>) -> String {
        let place = |at: &At| format!("{}.{}", at.choice, at.part);
        match event {
            Event::PartStart(at, PartStart { tool: Some(tool), .. }) => {
                let name = |s: &Option<String>| s.clone().unwrap_or("-".into());
                format!("{} call {} {} {}", place(at), name(&tool.call_id), name(&tool.name), name(&tool.kind))
            }
            Event::PartStart(at, _) => format!("{} {:?}", place(at), at.of).to_lowercase(),
            Event::Delta(at, delta) => format!("{} +{}", place(at), delta.text),
            Event::PartStop(at, _) => format!("{} stop", place(at)),
            Event::Finish(choice, finish) => format!("{choice} finish {}", finish.raw.as_deref().unwrap_or("-")),
            Event::State(at, state) => format!("{} state {}", place(at), state.kind),
            Event::Usage(usage) => format!("usage {:?}", usage.output_tokens),
            Event::Opaque(opaque) => format!("{}={}", opaque.name, opaque.json.get()),
            other => format!("{other:?}"),
        }
    }

    fn delta(json: &str) -> String {
        format!(
            r#"{{"id":"c","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{json},"finish_reason":null}}],"usage":null}}"#
        )
    }

    const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

    #[test]
    fn text_is_one_part_and_a_chunk_without_words_is_no_event() {
        let (events, end) = decode(&[
            &delta(r#"{"role":"assistant","content":""}"#),
            &delta(r#"{"content":"The"}"#),
            "",
            &delta(r#"{"content":" river","obfuscation":"xyz"}"#),
            STOP,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
            "[DONE]",
            &delta(r#"{"content":"too late"}"#),
        ]);
        assert_eq!(events, ["0.0 text", "0.0 +The", "0.0 + river", "0.0 stop", "0 finish stop", "usage Some(2)"]);
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn reasoning_has_three_spellings_and_ends_where_text_begins() {
        for thought in [
            r#"{"reasoning_content":"hm"}"#,
            r#"{"reasoning":"hm","content":""}"#,
            r#"{"reasoning":"hm","reasoning_content":"hm"}"#,
            r#"{"reasoning_details":[{"type":"reasoning.text","text":"hm"}]}"#,
            r#"{"reasoning":"hm","reasoning_details":[{"type":"reasoning.summary","summary":"hm"}]}"#,
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}"#,
        ] {
            let (events, _) = decode(&[&delta(thought), &delta(r#"{"content":"So"}"#), STOP]);
            assert_eq!(
                events,
                ["0.0 reasoning", "0.0 +hm", "0.0 stop", "0.1 text", "0.1 +So", "0.1 stop", "0 finish stop"],
                "{thought}"
            );
        }
    }

    #[test]
    fn what_must_go_back_on_the_next_turn_is_kept() {
        let sealed = r#"{"reasoning":"hm","reasoning_details":[{"type":"reasoning.encrypted","data":"x="}]}"#;
        let (events, _) = decode(&[&delta(sealed)]);
        assert_eq!(events, ["0.0 reasoning", "0.0 +hm", "0.0 state reasoning.encrypted"]);
    }

    #[test]
    fn tool_calls_are_told_apart_by_their_index() {
        let (events, end) = decode(&[
            &delta(r#"{"content":"Let me see."}"#),
            &delta(r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#),
            &delta(r#"{"tool_calls":[{"index":0,"id":"other","function":{"arguments":"{\"x\""}}]}"#),
            &delta(
                r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g"}},{"index":0,"function":{"arguments":":1}"}}]}"#,
            ),
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        ]);
        assert_eq!(
            events,
            [
                "0.0 text",
                "0.0 +Let me see.",
                "0.0 stop",
                "0.1 call a f function",
                r#"0.1 +{"x""#,
                "0.2 call b g function",
                "0.1 +:1}",
                "0.1 stop",
                "0.2 stop",
                "0 finish tool_calls"
            ]
        );
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn a_tool_call_begins_late_if_its_name_comes_late_or_never() {
        let (events, _) = decode(&[
            &delta(r#"{"tool_calls":[{"index":0,"id":"a","type":"function"}]}"#),
            &delta(r#"{"tool_calls":[{"index":0,"function":{"name":"f"}}]}"#),
            &delta(r#"{"tool_calls":[{"index":7,"function":{"name":"g"}}]}"#),
            STOP,
        ]);
        assert_eq!(events, ["0.0 call a f function", "0.1 call - g -", "0.0 stop", "0.1 stop", "0 finish stop"]);
    }

    #[test]
    fn calls_without_an_index_are_told_apart_by_their_id() {
        let (events, _) = decode(&[
            &delta(r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"1"}}]}"#),
            &delta(r#"{"tool_calls":[{"id":"b","function":{"name":"f","arguments":"2"}}]}"#),
            &delta(r#"{"tool_calls":[{"function":{"arguments":"3"}}]}"#),
        ]);
        assert_eq!(events, ["0.0 call a f -", "0.0 +1", "0.1 call b f -", "0.1 +2", "0.1 +3"]);
    }

    #[test]
    fn older_and_newer_forms_of_a_call_are_calls() {
        let (events, _) = decode(&[&delta(r#"{"function_call":{"name":"f","arguments":"1"}}"#)]);
        assert_eq!(events, ["0.0 call - f function_call", "0.0 +1"]);
        let custom = r#"{"tool_calls":[{"index":0,"id":"a","type":"custom","custom":{"name":"f","input":"1"}}]}"#;
        assert_eq!(decode(&[&delta(custom)]).0, ["0.0 call a f custom", "0.0 +1"]);
    }

    #[test]
    fn choices_are_answers_of_their_own_and_all_must_finish() {
        let both = r#"{"choices":[{"index":1,"delta":{"content":"B"}},{"index":0,"delta":{"refusal":"No"}}]}"#;
        let (events, end) = decode(&[both, STOP]);
        assert_eq!(events, ["1.0 text", "1.0 +B", "0.0 refusal", "0.0 +No", "0.0 stop", "0 finish stop"]);
        assert_eq!(end, Err(DecodeError::Truncated));
        let other = r#"{"choices":[{"index":1,"delta":{},"finish_reason":"eos"}]}"#;
        assert_eq!(decode(&[both, STOP, other]).1, Ok(()));
    }

    #[test]
    fn an_end_without_a_terminal_mark_is_an_error() {
        assert_eq!(decode(&[]).1, Err(DecodeError::Truncated));
        assert_eq!(decode(&[&delta(r#"{"content":"The"}"#)]).1, Err(DecodeError::Truncated));
        assert_eq!(decode(&[&delta(r#"{"content":"The"}"#), "[DONE]"]).1, Ok(()));
        assert_eq!(decode(&[STOP]).1, Ok(()));
    }

    #[test]
    fn errors_in_mid_answer_come_in_many_shapes_and_after_what_was_said() {
        for (chunk, message, status) in [
            (r#"{"error":{"message":"m","type":"server_error","code":500}}"#, "m", Some(500)),
            (r#"{"error":"m"}"#, "m", None),
            (r#"{"error":{"what":1}}"#, r#"{"what":1}"#, None),
            (r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#, "m", Some(400)),
            (
                r#"{"error":{"code":502,"message":"m"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
                "m",
                Some(502),
            ),
        ] {
            let (events, end) = decode(&[&delta(r#"{"content":"The"}"#), chunk, "[DONE]"]);
            assert_eq!(events, ["0.0 text", "0.0 +The"], "{chunk}");
            let Err(DecodeError::Upstream(complaint)) = end else { panic!("{chunk}: {end:?}") };
            assert_eq!((&*complaint.message, complaint.status), (message, status), "{chunk}");
        }
        let bare = decode(&[r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#]).1;
        assert!(matches!(bare, Err(DecodeError::Upstream(_))), "{bare:?}");
        let mut decode = ChatDecode::default();
        let field = decode.frame("error", r#"{"code":500,"message":"m","type":"server_error"}"#, &mut Vec::new());
        assert!(matches!(field, Err(DecodeError::Upstream(Complaint { status: Some(500), .. }))), "{field:?}");
    }

    #[test]
    fn an_empty_error_is_none_and_unknown_frames_are_ignored() {
        let (events, end) =
            decode(&[r#"{"error":null,"choices":[]}"#, r#"{"error":{},"choices":[]}"#, r#"{"type":"ping"}"#, STOP]);
        assert_eq!((events, end), (vec!["0 finish stop".to_owned()], Ok(())));
        assert_eq!(ChatDecode::default().frame("ping", "not JSON", &mut Vec::new()), Ok(()));
    }

    #[test]
    fn a_chunk_that_is_none_is_named_without_its_words() {
        for chunk in [
            r#"{"choices":[{"delta":{"content":{"secret":1}}}]}"#,
            "secret",
            r#"{"choices":"secret"}"#,
            r#"{"choices":[{"index":300}]}"#,
        ] {
            let Err(DecodeError::Malformed(message)) = decode(&[chunk]).1 else { panic!("{chunk}") };
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn usage_is_read_in_full_and_log_probabilities_stay_with_their_words() {
        let chunk = r#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"logprob":-0.10}]}}],"usage":{"prompt_tokens":9,
            "completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#;
        let mut events = Vec::new();
        ChatDecode::default().frame("message", chunk, &mut events).expect("a chunk");
        let [Event::PartStart(..), Event::Delta(_, delta), Event::Usage(usage)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(delta.logprobs.as_ref().map(Json::get), Some(r#"{"content":[{"logprob":-0.10}]}"#));
        assert_eq!((usage.input_tokens, usage.cache_read_tokens, usage.reasoning_tokens), (Some(9), Some(4), Some(3)));
        assert_eq!((usage.cache_write_tokens, usage.audio_tokens), (None, None));
    }

    #[test]
    fn what_every_chunk_repeats_is_told_once() {
        let chunk = r#"{"choices":[],"system_fingerprint":"fp_1","service_tier":null}"#;
        let last = r#"{"choices":[],"system_fingerprint":"fp_1","service_tier":"default"}"#;
        assert_eq!(decode(&[chunk, chunk, last]).0, [r#"system_fingerprint="fp_1""#, r#"service_tier="default""#]);
    }

    #[test]
    fn citations_keep_their_place_and_their_raw_form() {
        let cited = r#"{"annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":1,"end_index":4}},{"type":"new"}]}"#;
        let mut events = Vec::new();
        ChatDecode::default().frame("message", &delta(cited), &mut events).expect("a chunk");
        let [_, Event::Annotation(_, known), Event::Annotation(_, unknown)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((known.url.as_deref(), known.span), (Some("u"), Some((1, 4))));
        assert_eq!(unknown.raw.as_ref().map(Json::get), Some(r#"{"type":"new"}"#));
    }
}
