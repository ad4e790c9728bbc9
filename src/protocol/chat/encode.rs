//! Records to chunks. A token's chunk is three copies: what every chunk begins with, the text as it was recorded, what every chunk
//! ends with. No JSON is parsed for it.
//!
//! What a reader in the middle must know of the records before is which choices have begun (their first chunk tells the role), the
//! tool calls (numbered without gaps), and what the last chunk and the envelope repeat. All of it comes from rare records.

use std::io::Write;

use bytes::BytesMut;
use serde::Serialize;

use super::{
    Envelope, ErrorObject,
    rest::{self, Recorded, Spelling},
    told::{self, Form, Function, ToolCall},
};
use crate::{
    event::{Event, Json, Opaque, PartType, Usage},
    id::Cursor,
    protocol::{Encode, Fault, body::Members, piece::Piece},
    record::{Kind, Record},
    wire::sse::{EventId, digits, write_event},
};

/// Encodes one answer; see the module above.
#[derive(Debug)]
pub struct ChatEncode {
    envelope: Envelope,
    /// A chunk up to its choices.
    opening: String,
    /// The client asked for the count of tokens: `null` on each chunk, and told behind the last one.
    include_usage: bool,
    choices: Vec<Begun>,
    /// The last record of usage.
    usage: Vec<u8>,
    /// Roles other than the assistant's, for choices that have not begun.
    roles: Vec<(u8, Json)>,
    spelling: Spelling,
    /// The record of what the next record's chunk has beside it; empty if nothing.
    next: Vec<u8>,
    /// What the chunk that is being written has beside its record.
    beside: Option<Recorded>,
    /// What belongs to no choice, for the end.
    last: Members,
    /// The chunk that is being written.
    chunk: Vec<u8>,
}

/// A choice that has begun.
#[derive(Debug)]
struct Begun {
    choice: u8,
    calls: Vec<Call>,
}

/// A tool call: which part it is, and how it is told.
#[derive(Clone, Copy, Debug)]
struct Call {
    part: u16,
    form: Form,
}

impl ChatEncode {
    /// An encoder from the log's beginning. `include_usage` as the client asked with `stream_options`.
    #[must_use]
    pub fn new(envelope: Envelope, include_usage: bool) -> Self {
        let opening = envelope.open("chat.completion.chunk");
        Self {
            envelope,
            opening,
            include_usage,
            choices: Vec::new(),
            usage: Vec::new(),
            roles: Vec::new(),
            spelling: Spelling::default(),
            next: Vec::new(),
            beside: None,
            last: Members::default(),
            chunk: Vec::new(),
        }
    }

    /// Learns what later chunks need; true if a choice begins with this record.
    fn learn(&mut self, record: &Record<'_>) -> bool {
        let at = record.head.at;
        match record.head.kind {
            Kind::PartStart | Kind::Delta | Kind::Annotation | Kind::State | Kind::Media | Kind::Finish => {}
            Kind::Usage => {
                self.usage.clear();
                self.usage.extend_from_slice(record.payload);
                return false;
            }
            Kind::Opaque => return self.learn_opaque(record),
            _ => return false,
        }
        let known = self.choices.iter().position(|begun| begun.choice == at.choice);
        let begun = known.unwrap_or_else(|| self.begins(at.choice));
        if record.head.kind == Kind::PartStart
            && at.of == PartType::ToolCall
            && let Ok(Event::PartStart(_, start)) = record.event()
        {
            let calls = &mut self.choices[begun].calls;
            let before = calls.iter().filter(|call| call.form != Form::Legacy).count();
            calls.push(Call { part: at.part, form: Form::of(start.tool.as_ref(), before) });
        }
        known.is_none()
    }

    fn begins(&mut self, choice: u8) -> usize {
        self.choices.push(Begun { choice, calls: Vec::new() });
        self.choices.len() - 1
    }

    /// As [`ChatEncode::learn`]. Where there is such a record for each token, it is one whose name alone must be known.
    fn learn_opaque(&mut self, record: &Record<'_>) -> bool {
        let Some(name) = opaque_name(record) else { return false };
        if name.starts_with(rest::NEXT) {
            self.next.clear();
            self.next.extend_from_slice(record.payload);
            return false;
        }
        if let Some(choice) = name.strip_prefix(rest::ALONE) {
            let Ok(choice) = choice.parse() else { return false };
            let begins = !self.choices.iter().any(|begun| begun.choice == choice);
            if begins {
                self.begins(choice);
            }
            return begins;
        }
        let Ok(Event::Opaque(Opaque { name, json, .. })) = record.event() else { return false };
        match &*name {
            rest::LAST => self.last.join(rest::members(Recorded::read(&json).chunk.as_ref())),
            rest::SPELLING => self.spelling = Spelling::read(&json),
            _ => match name.strip_prefix(rest::ROLE) {
                Some(choice) => self.roles.extend(choice.parse().ok().map(|choice| (choice, json))),
                None => {
                    self.envelope.take(name, json);
                    self.opening = self.envelope.open("chat.completion.chunk");
                }
            },
        }
        false
    }

    fn form(&self, record: &Record<'_>) -> Option<Form> {
        let at = record.head.at;
        let begun = self.choices.iter().find(|begun| begun.choice == at.choice)?;
        begun.calls.iter().rfind(|call| call.part == at.part).map(|call| call.form)
    }

    /// Writes the chunk of a record that is something of a choice's, if it has one.
    fn fill(&mut self, record: &Record<'_>) -> Option<()> {
        let at = record.head.at;
        match (record.head.kind, at.of) {
            (Kind::Delta, of) => {
                let piece = Piece::of(record)?;
                let before = match (of, self.spelling) {
                    (PartType::Text, _) => r#"{"content":"#,
                    (PartType::Reasoning | PartType::ReasoningSummary, spelling) => match spelling {
                        Spelling::Content | Spelling::Both => r#"{"reasoning_content":"#,
                        Spelling::Short => r#"{"reasoning":"#,
                        Spelling::Details => return None,
                    },
                    (PartType::Refusal, _) => r#"{"refusal":"#,
                    (PartType::ToolCall, _) => return self.arguments(record, piece.text),
                    _ => return None,
                };
                self.begin(at.choice);
                self.put([before, piece.text]);
                if self.spelling == Spelling::Both && at.of != PartType::Text && at.of != PartType::Refusal {
                    self.put([r#","reasoning":"#, piece.text]);
                }
                self.put(["}"]);
                // Other protocols have them in another form.
                self.close(piece.logprobs.filter(|logprobs| logprobs.starts_with('{')), "null", "");
            }
            (Kind::PartStart, PartType::ToolCall) => {
                let Ok(Event::PartStart(_, start)) = record.event() else { return None };
                let tool = start.tool.unwrap_or_default();
                let form = self.form(record)?;
                self.begin(at.choice);
                match form {
                    Form::Function(index) | Form::Custom(index) => {
                        self.put([r#"{"tool_calls":["#]);
                        self.put_json(&ToolCall::new(form, &tool, "").at(index));
                        self.put(["]}"]);
                    }
                    Form::Legacy => {
                        self.put([r#"{"function_call":"#]);
                        self.put_json(&Function::new(&tool, ""));
                        self.put(["}"]);
                    }
                }
                self.close(None, "null", "");
            }
            (Kind::Annotation, _) => {
                let Ok(Event::Annotation(_, annotation)) = record.event() else { return None };
                self.begin(at.choice);
                self.put([r#"{"annotations":["#, told::citation(annotation).get(), "]}"]);
                self.close(None, "null", "");
            }
            (Kind::State, _) => {
                let Ok(Event::State(_, state)) = record.event() else { return None };
                if state.origin != "chat" {
                    return None; // nobody but its origin understands it
                }
                match at.of {
                    PartType::ToolCall => {
                        let (Form::Function(index) | Form::Custom(index)) = self.form(record)? else { return None };
                        self.begin(at.choice);
                        let _ = write!(self.chunk, r#"{{"tool_calls":[{{"index":{index},"#);
                        self.put([rest::inside(Some(&state.value)), "}]}"]);
                    }
                    _ => {
                        self.begin(at.choice);
                        self.put([r#"{"reasoning_details":["#, state.value.get(), "]}"]);
                    }
                }
                self.close(None, "null", "");
            }
            (Kind::Media, _) => {
                let Ok(Event::Media(_, media)) = record.event() else { return None };
                let told = told::media(&media)?;
                self.begin(at.choice);
                self.put([told.get()]);
                self.close(None, "null", "");
            }
            (Kind::Finish, _) => return self.finish(record),
            _ => return None,
        }
        Some(())
    }

    /// Writes the chunk that says why a choice is over.
    fn finish(&mut self, record: &Record<'_>) -> Option<()> {
        let Ok(Event::Finish(choice, finish)) = record.event() else { return None };
        let reason = serde_json::to_string(told::finish_reason(&finish)).ok()?;
        let mut more = String::new();
        if let Some(stop) = finish.stop_sequence.and_then(|stop| serde_json::to_string(&stop).ok()) {
            more += &format!(r#","stop_reason":{stop}"#);
        }
        if let Some(safety) = finish.safety {
            more += &format!(r#","content_filter_results":{}"#, safety.get());
        }
        self.begin(choice);
        self.put(["{}"]);
        self.close(None, &reason, &more);
        Some(())
    }

    /// Writes the chunk of a piece of a call's arguments.
    fn arguments(&mut self, record: &Record<'_>, text: &str) -> Option<()> {
        let form = self.form(record)?;
        self.begin(record.head.at.choice);
        match form {
            Form::Function(index) => {
                let _ = write!(self.chunk, r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":"#);
                self.put([text, "}}]}"]);
            }
            Form::Custom(index) => {
                let _ = write!(self.chunk, r#"{{"tool_calls":[{{"index":{index},"custom":{{"input":"#);
                self.put([text, "}}]}"]);
            }
            Form::Legacy => self.put([r#"{"function_call":{"arguments":"#, text, "}}"]),
        }
        self.close(None, "null", "");
        Some(())
    }

    /// Begins a chunk, up to its delta.
    fn begin(&mut self, choice: u8) {
        self.chunk.clear();
        self.chunk.extend_from_slice(self.opening.as_bytes());
        if let Some(beside) = &self.beside {
            append(&mut self.chunk, "", rest::inside(beside.chunk.as_ref()), ",");
        }
        self.put([r#""choices":[{"index":"#]);
        self.chunk.extend_from_slice(digits(choice.into(), &mut [0; 20]));
        self.put([r#","delta":"#]);
    }

    fn put<const N: usize>(&mut self, pieces: [&str; N]) {
        pieces.iter().for_each(|piece| self.chunk.extend_from_slice(piece.as_bytes()));
    }

    fn put_json<T: Serialize>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.chunk, value).expect("plain data, and a buffer takes every write");
    }

    /// Ends a chunk, from behind its delta on. `finish_reason` and `more` are JSON.
    fn close(&mut self, logprobs: Option<&str>, finish_reason: &str, more: &str) {
        let usage = if self.include_usage { r#","usage":null}"# } else { "}" };
        let beside = self.beside.take().unwrap_or_default();
        let delta = rest::inside(beside.delta.as_ref());
        if !delta.is_empty() {
            let comma = if self.chunk.ends_with(b"{}") { "" } else { "," };
            self.chunk.pop(); // the delta's own end
            self.put([comma, delta, "}"]);
        }
        let logprobs = logprobs.or(beside.logprobs.as_ref().map(Json::get)).unwrap_or("null");
        self.put([r#","logprobs":"#, logprobs, r#","finish_reason":"#, finish_reason, more]);
        append(&mut self.chunk, ",", rest::inside(beside.choice.as_ref()), "");
        self.put(["}]", usage]);
    }

    /// Writes the chunk of what stands alone. `begins`: its choice begins with it.
    fn alone(&mut self, record: &Record<'_>, begins: bool) -> Option<()> {
        let Ok(Event::Opaque(Opaque { name, json, .. })) = record.event() else { return None };
        let choice = name.strip_prefix(rest::ALONE)?.parse().ok()?;
        self.beside = Some(Recorded::read(&json));
        match begins {
            true => self.role(choice, "null"),
            false => {
                self.begin(choice);
                self.put(["{}"]);
                self.close(None, "null", "");
            }
        }
        Some(())
    }

    /// Writes the chunk with which a choice begins.
    fn role(&mut self, choice: u8, content: &str) {
        self.begin(choice);
        let role = self.roles.iter().rfind(|(of, _)| *of == choice).map_or(r#""assistant""#, |(_, role)| role.get());
        // As `put`, which cannot be called while the role is borrowed.
        [r#"{"role":"#, role, r#","content":"#, content, "}"].iter().for_each(|piece| self.chunk.extend(piece.bytes()));
        self.close(None, "null", "");
    }

    fn write(&self, data: &[u8], cursor: Option<Cursor>, out: &mut BytesMut) {
        let id = cursor.map(|cursor| EventId { prefix: Some(&self.envelope.stream), n: cursor.0, within: 0 });
        write_event(out, None, data, None, id);
    }

    fn fail(&self, fault: Fault<'_>, cursor: Cursor, out: &mut BytesMut) {
        self.write(&serde_json::to_vec(&ErrorObject::from(fault)).expect("plain data"), None, out);
        self.write(b"[DONE]", Some(cursor), out);
    }

    fn end(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        let Ok(Event::End(end)) = record.event() else { return self.fail(Fault::TORN, cursor, out) };
        if let Some(fault) = Fault::of(&end) {
            return self.fail(fault, cursor, out);
        }
        let last = Json::of(&self.last);
        let usage = serde_json::from_slice::<Usage>(&self.usage).ok().filter(|_| self.include_usage);
        match usage {
            Some(usage) => {
                let usage = told::usage(usage);
                self.chunk.clear();
                self.chunk.extend_from_slice(self.opening.as_bytes());
                append(&mut self.chunk, "", rest::inside(last.as_ref()), ",");
                self.put([r#""choices":[],"usage":"#, usage.get(), "}"]);
                self.write(&self.chunk, None, out);
            }
            // Many clients take it that a chunk has a choice, if they did not ask for the count of tokens.
            None if !rest::inside(last.as_ref()).is_empty() => {
                self.beside = Some(Recorded { chunk: last, ..Recorded::default() });
                self.begin(self.choices.first().map_or(0, |begun| begun.choice));
                self.put(["{}"]);
                self.close(None, "null", "");
                self.write(&self.chunk, None, out);
            }
            None => {}
        }
        self.write(b"[DONE]", Some(cursor), out);
    }
}

impl Encode for ChatEncode {
    const FOLDS: bool = true;

    /// Also a delta in which nothing is understood. (A chunk that says no more than whose turn it is, is none.)
    fn is_said(record: &Record<'_>) -> bool {
        let alone = || match record.event() {
            Ok(Event::Opaque(Opaque { protocol, name, json })) if protocol == "chat" => {
                name.starts_with(rest::ALONE) && Recorded::read(&json).delta.is_some()
            }
            _ => false,
        };
        record.head.is_content() || alone()
    }

    /// Nearly all are more of a choice that is known: of those nothing is to be learned, and only the header is looked at.
    #[inline]
    fn skip(&mut self, record: &Record<'_>) {
        self.next.clear();
        let more = record.head.kind == Kind::Delta;
        if !more || self.choices.first().is_none_or(|begun| begun.choice != record.head.at.choice) {
            self.learn(record);
        }
    }

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        if record.head.is_end() {
            return self.end(cursor, record, out);
        }
        if !self.next.is_empty() {
            let next = serde_json::from_slice::<Opaque>(&self.next).ok().filter(|_| record.head.kind != Kind::Opaque);
            self.beside = next.map(|opaque| Recorded::read(&opaque.json));
            self.next.clear();
        }
        let begins = self.learn(record);
        if record.head.kind == Kind::Opaque {
            if opaque_name(record).is_some_and(|name| name.starts_with(rest::ALONE))
                && self.alone(record, begins).is_some()
            {
                self.write(&self.chunk, Some(cursor), out);
            }
            return;
        }
        let has_chunk = self.fill(record).is_some();
        self.beside = None;
        if begins {
            let at = record.head.at;
            let chunk = std::mem::take(&mut self.chunk);
            // As OpenAI begins: no text yet, and where none is expected, none at all.
            self.role(at.choice, if at.of == PartType::Text { r#""""# } else { "null" });
            self.write(&self.chunk, (!has_chunk).then_some(cursor), out);
            self.chunk = chunk;
        }
        if has_chunk {
            self.write(&self.chunk, Some(cursor), out);
        }
    }
}

/// Pieces around some members, if there are any.
fn append(chunk: &mut Vec<u8>, before: &str, members: &str, behind: &str) {
    if !members.is_empty() {
        [before, members, behind].iter().for_each(|piece| chunk.extend_from_slice(piece.as_bytes()));
    }
}

/// The name of what only this protocol understands, its JSON unread; nothing of another protocol's.
fn opaque_name<'a>(record: &Record<'a>) -> Option<&'a str> {
    let name = record.payload.strip_prefix(br#"{"protocol":"chat","name":""#)?;
    let end = name.iter().position(|&byte| byte == b'"')?;
    std::str::from_utf8(&name[..end]).ok()
}

#[cfg(test)]
mod tests;
