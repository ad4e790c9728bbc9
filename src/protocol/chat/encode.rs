//! Records to chunks. A token's chunk is three copies: what every chunk begins with, the text as it was recorded, what every chunk
//! ends with. No JSON is parsed for it.
//!
//! What a reader in the middle must know of the records before is which choices have begun (their first chunk tells the role), the
//! tool calls (numbered without gaps), and what the last chunk and the envelope repeat. All of it comes from rare records.

use std::io::Write;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Envelope, ErrorObject,
    told::{self, Form, Function, ToolCall},
};
use crate::{
    event::{Event, PartType, Usage},
    id::Cursor,
    protocol::{Encode, Fault},
    record::{Kind, Record},
    wire::sse::{EventId, write_event},
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

/// A delta as it was recorded: both are JSON.
struct Piece<'a> {
    text: &'a str,
    logprobs: Option<&'a str>,
}

impl ChatEncode {
    /// An encoder from the log's beginning. `include_usage` as the client asked with `stream_options`.
    #[must_use]
    pub fn new(envelope: Envelope, include_usage: bool) -> Self {
        let opening = envelope.open("chat.completion.chunk");
        Self { envelope, opening, include_usage, choices: Vec::new(), usage: Vec::new(), chunk: Vec::new() }
    }

    /// Learns what later chunks need; true if a choice begins with this record.
    fn learn(&mut self, record: &Record<'_>) -> bool {
        let at = record.head.at;
        match record.head.kind {
            Kind::PartStart | Kind::Delta | Kind::Annotation | Kind::State | Kind::Finish => {}
            Kind::Usage => {
                self.usage.clear();
                self.usage.extend_from_slice(record.payload);
                return false;
            }
            Kind::Opaque => {
                if self.envelope.take(record) {
                    self.opening = self.envelope.open("chat.completion.chunk");
                }
                return false;
            }
            _ => return false,
        }
        let known = self.choices.iter().position(|begun| begun.choice == at.choice);
        let begun = known.unwrap_or_else(|| {
            self.choices.push(Begun { choice: at.choice, calls: Vec::new() });
            self.choices.len() - 1
        });
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
                let (before, behind) = match of {
                    PartType::Text => (r#"{"content":"#, "}"),
                    PartType::Reasoning | PartType::ReasoningSummary => (r#"{"reasoning_content":"#, "}"),
                    PartType::Refusal => (r#"{"refusal":"#, "}"),
                    PartType::ToolCall => return self.arguments(record, piece.text),
                    _ => return None,
                };
                self.begin(at.choice);
                self.put([before, piece.text, behind]);
                self.close(piece.logprobs, "null", "");
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
                self.begin(at.choice);
                self.put([r#"{"reasoning_details":["#, state.value.get(), "]}"]);
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
        let _ = write!(self.chunk, r#""choices":[{{"index":{choice},"delta":"#); // a buffer takes every write
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
        let logprobs = logprobs.unwrap_or("null");
        self.put([r#","logprobs":"#, logprobs, r#","finish_reason":"#, finish_reason, more, "}]", usage]);
    }

    fn write(&self, data: &[u8], cursor: Option<Cursor>, out: &mut BytesMut) {
        let id = cursor.map(|cursor| EventId { prefix: Some(&self.envelope.stream), n: cursor.0 });
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
        if self.include_usage
            && let Ok(usage) = serde_json::from_slice::<Usage>(&self.usage)
        {
            let usage = told::usage(usage);
            self.chunk.clear();
            self.chunk.extend_from_slice(self.opening.as_bytes());
            self.put([r#""choices":[],"usage":"#, usage.get(), "}"]);
            self.write(&self.chunk, None, out);
        }
        self.write(b"[DONE]", Some(cursor), out);
    }
}

impl Encode for ChatEncode {
    const FOLDS: bool = true;

    fn skip(&mut self, record: &Record<'_>) {
        self.learn(record);
    }

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        if record.head.is_end() {
            return self.end(cursor, record, out);
        }
        let at = record.head.at;
        let begins = self.learn(record);
        let has_chunk = self.fill(record).is_some();
        if begins {
            let chunk = std::mem::take(&mut self.chunk);
            // As OpenAI begins: no text yet, and where none is expected, none at all.
            let role = match at.of {
                PartType::Text => r#"{"role":"assistant","content":""}"#,
                _ => r#"{"role":"assistant","content":null}"#,
            };
            self.begin(at.choice);
            self.put([role]);
            self.close(None, "null", "");
            self.write(&self.chunk, (!has_chunk).then_some(cursor), out);
            self.chunk = chunk;
        }
        if has_chunk {
            self.write(&self.chunk, Some(cursor), out);
        }
    }
}

impl<'a> Piece<'a> {
    fn of(record: &Record<'a>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Payload<'a> {
            #[serde(borrow)]
            text: &'a RawValue,
            #[serde(borrow)]
            logprobs: Option<&'a RawValue>,
        }
        let payload = std::str::from_utf8(record.payload).ok()?;
        if !record.head.more {
            let text = payload.strip_prefix(r#"{"text":"#)?.strip_suffix('}')?;
            return Some(Self { text, logprobs: None });
        }
        let Payload { text, logprobs } = serde_json::from_str(payload).ok()?;
        // Other protocols have them in another form.
        let logprobs = logprobs.map(RawValue::get).filter(|logprobs| logprobs.starts_with('{'));
        Some(Self { text: text.get(), logprobs })
    }
}

#[cfg(test)]
mod tests;
