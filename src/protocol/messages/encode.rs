//! Records to events. A token's event is three copies: what stands before its text, the text as it was recorded, what stands behind
//! it. No JSON is parsed for it.
//!
//! What a reader in the middle must know of the records before is whether the message has begun, which blocks are open under which
//! index, and what the last frames repeat. It learns that by encoding them without writing; all JSON it parses is that of rare records.

use std::{borrow::Cow, io::Write, mem};

use bytes::BytesMut;
use serde::Deserialize;

use super::{
    ErrorObject, NAME,
    message::Envelope,
    told::{self, Form},
};
use crate::{
    event::{At, End, Event, Finish, Json, Opaque, PartStart, PartType, Usage},
    id::{Cursor, StreamId},
    protocol::{Encode, Fault, body::Members},
    record::{Kind, Record},
    wire::sse::{EventId, digits, write_event},
};

/// What no opaque event may be called: these are written here, and an `error` would end the answer.
const OURS: [&str; 6] = ["message_start", "message_delta", "message_stop", "message", "error", "ping"];

/// Whether this is an event that goes through as it came.
fn is_passed(opaque: &Opaque) -> bool {
    let name = &*opaque.name;
    opaque.protocol == NAME && !OURS.contains(&name) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Encodes one answer; see the module above.
#[derive(Debug)]
pub struct MessagesEncode {
    envelope: Envelope,
    /// The upstream speaks this protocol: its blocks are told as they come.
    kin: bool,
    /// `message_start` is written.
    begun: bool,
    /// How many blocks have begun.
    blocks: u64,
    open: Vec<Block>,
    /// A tool of the client's was called.
    called: bool,
    /// The last records of these, which the last frames are made of.
    usage: Vec<u8>,
    finish: Vec<u8>,
    /// What an upstream of this protocol said beside its stop reason.
    beside: Members,
    /// The frame that is being written.
    data: Vec<u8>,
}

/// A block that is open, and under which index.
#[derive(Clone, Copy, Debug)]
struct Block {
    of: Owner,
    index: u64,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// This part of ours.
    Part(u16),
    /// The upstream's own, with its index there.
    Upstream(u64),
}

impl MessagesEncode {
    /// An encoder from the log's beginning, for an answer of the model of this name.
    #[must_use]
    pub fn new(stream: StreamId, model: &str) -> Self {
        Self {
            envelope: Envelope::new(stream, model),
            kin: false,
            begun: false,
            blocks: 0,
            open: Vec::new(),
            called: false,
            usage: Vec::new(),
            finish: Vec::new(),
            beside: Members::default(),
            data: Vec::new(),
        }
    }

    fn take(&mut self, record: &Record<'_>, frames: &mut Frames<'_>) -> Option<()> {
        let at = record.head.at;
        match record.head.kind {
            Kind::Attempt => {
                let Ok(Event::Attempt(attempt)) = record.event() else { return None };
                self.kin = attempt.protocol == NAME;
            }
            Kind::Usage => {
                record.payload.clone_into(&mut self.usage);
                self.begin_message(frames);
            }
            Kind::Finish if at.choice == 0 => {
                record.payload.clone_into(&mut self.finish);
                self.begin_message(frames);
            }
            Kind::Opaque => {
                let Ok(Event::Opaque(opaque)) = record.event() else { return None };
                if opaque.protocol == NAME {
                    self.opaque(opaque, frames);
                }
            }
            Kind::End => {
                match record.event() {
                    Ok(Event::End(end)) => self.end(&end, frames),
                    _ => fail(Fault::TORN, frames),
                };
            }
            _ if at.choice != 0 => {} // one answer is all that this protocol has room for
            Kind::PartStart => {
                let Ok(Event::PartStart(_, start)) = record.event() else { return None };
                let form = Form::of(at.of, Some(&start))?;
                self.begin_part(at, form, &start, frames);
            }
            Kind::Delta => {
                let block = self.block_of(at, frames)?;
                if frames.are_shown() {
                    delta(block, &text(record)?, frames);
                }
            }
            Kind::Annotation if at.of == PartType::Text => {
                let Ok(Event::Annotation(_, annotation)) = record.event() else { return None };
                let citation = told::citation(annotation)?;
                let block = self.block_of(at, frames)?;
                frames.delta(block.index);
                frames.put([r#"{"type":"citations_delta","citation":"#, citation.get(), "}}"]);
            }
            Kind::State => {
                let Ok(Event::State(_, state)) = record.event() else { return None };
                if state.origin == NAME {
                    self.state(at, &state.kind, &state.value, frames);
                }
            }
            Kind::PartStop => {
                let n = self.open.iter().rposition(|block| block.of == Owner::Part(at.part))?;
                let block = self.open.remove(n);
                stop(block, frames);
            }
            _ => {}
        }
        Some(())
    }

    /// Writes `message_start`, if that has not been done.
    fn begin_message(&mut self, frames: &mut Frames<'_>) {
        if mem::replace(&mut self.begun, true) || !frames.are_shown() {
            return;
        }
        let usage = told::usage(serde_json::from_slice(&self.usage).unwrap_or_default());
        let message = self.envelope.message(&[], None, None, &usage);
        frames.begin("message_start");
        frames.put([r#"{"type":"message_start","message":"#, &message, "}"]);
    }

    /// Begins a block behind all others. Of another protocol's parts several may be told in turn, and here a block is told when the one
    /// before it is whole. Anthropic's clients add up blocks by their index, in any order; but the events of the one for Node (`text`,
    /// `thinking`, `contentBlock`, 1.12) are about the newest block whatever the index is, and words of another one are in none of them.
    /// So blocks of words stop here, and more of their words are a new block. A call must be one block, and stays open.
    fn begin_block(&mut self, of: Owner, form: Form, frames: &mut Frames<'_>) -> Block {
        if !self.kin {
            self.open.extract_if(.., |block| block.form.is_of_words()).for_each(|block| stop(block, frames));
        }
        let block = Block { of, index: self.blocks, form };
        self.blocks += 1;
        self.open.push(block);
        block
    }

    fn begin_part(&mut self, at: At, form: Form, start: &PartStart, frames: &mut Frames<'_>) -> Block {
        self.begin_message(frames);
        self.called |= form.is_call();
        let block = self.begin_block(Owner::Part(at.part), form, frames);
        if frames.are_shown() {
            let json = form.block(start, &self.envelope.call(block.index));
            frames.start(block.index, json.get());
            if form == Form::Free {
                frames.delta(block.index);
                frames.put([r#"{"type":"input_json_delta","partial_json":"{\"input\":\""}}"#]);
            }
        }
        block
    }

    /// The open block of a part, or a new one.
    fn block_of(&mut self, at: At, frames: &mut Frames<'_>) -> Option<Block> {
        let known = self.open.iter().rfind(|block| block.of == Owner::Part(at.part));
        match known {
            Some(block) => Some(*block),
            None => Some(self.begin_part(at, Form::of(at.of, None)?, &PartStart::default(), frames)),
        }
    }

    fn state(&mut self, at: At, kind: &str, value: &Json, frames: &mut Frames<'_>) -> Option<()> {
        match (kind, at.of) {
            ("signature", PartType::Reasoning) => {
                let block = self.block_of(at, frames)?;
                frames.delta(block.index);
                frames.put([r#"{"type":"signature_delta","signature":"#, value.get(), "}}"]);
            }
            ("redacted_thinking", PartType::Redacted) => {
                if self.open.iter().any(|block| block.of == Owner::Part(at.part)) {
                    return None; // its part began with it
                }
                self.begin_message(frames);
                let block = self.begin_block(Owner::Part(at.part), Form::Whole, frames);
                frames.start(block.index, &format!(r#"{{"type":"redacted_thinking","data":{}}}"#, value.get()));
            }
            _ => {}
        }
        Some(())
    }

    /// What an upstream of this protocol said that is not understood.
    fn opaque(&mut self, opaque: Opaque, frames: &mut Frames<'_>) -> Option<()> {
        let passed = is_passed(&opaque);
        let Opaque { name, json, .. } = opaque;
        match &*name {
            "message" => self.envelope.take(&json),
            "message_delta" => self.beside = serde_json::from_str(json.get()).ok()?,
            "content_block_start" => {
                let there = index(&json)?;
                self.begin_message(frames);
                let block = self.begin_block(Owner::Upstream(there), Form::Whole, frames);
                frames.of_block(name, &json, there, block.index);
            }
            "content_block_delta" | "content_block_stop" => {
                let there = index(&json)?;
                let known = self.open.iter().rposition(|block| block.of == Owner::Upstream(there));
                // A delta of a new kind may belong to a part, and parts have the same index here as there.
                let known = known.or_else(|| self.open.iter().rposition(|block| block.index == there))?;
                let block = self.open[known];
                if name == "content_block_stop" {
                    self.open.remove(known);
                }
                frames.of_block(name, &json, there, block.index);
            }
            _ if !passed => {}
            _ => {
                self.begin_message(frames);
                frames.begin(name);
                frames.put([json.get()]);
            }
        }
        Some(())
    }

    fn end(&mut self, end: &End, frames: &mut Frames<'_>) {
        if let Some(fault) = Fault::of(end) {
            return fail(fault, frames);
        }
        self.begin_message(frames);
        for block in mem::take(&mut self.open) {
            stop(block, frames);
        }
        let usage: Usage = serde_json::from_slice(&self.usage).unwrap_or_default();
        let finish = serde_json::from_slice(&self.finish).unwrap_or(Finish { reason: end.reason, ..Finish::default() });
        let mut beside = mem::take(&mut self.beside);
        let mut delta = Members::default();
        delta.set("stop_reason", told::stop_reason(&finish, self.called));
        delta.set("stop_sequence", &finish.stop_sequence);
        let more = beside.remove("delta").and_then(|more| serde_json::from_str(more.get()).ok());
        delta.add(more.unwrap_or_default());
        let mut event = Members::default();
        event.set("type", "message_delta");
        event.set("delta", &delta);
        event.set("usage", &told::usage(usage));
        event.add(beside);
        frames.begin("message_delta");
        frames.put([Json::of(&event).unwrap_or_default().get()]);
        frames.begin("message_stop");
        frames.put([r#"{"type":"message_stop"}"#]);
    }
}

impl Encode for MessagesEncode {
    const FOLDS: bool = true;

    /// Also a block that only this protocol has, such as a call of a tool of the upstream's own.
    fn is_said(record: &Record<'_>) -> bool {
        record.head.is_content() || matches!(record.event(), Ok(Event::Opaque(opaque)) if is_passed(&opaque))
    }

    fn skip(&mut self, record: &Record<'_>) {
        self.take(record, &mut Frames { out: None, name: Cow::Borrowed(""), data: Vec::new() });
    }

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        let mut frames = Frames { out: Some(out), name: Cow::Borrowed(""), data: mem::take(&mut self.data) };
        self.take(record, &mut frames);
        frames.flush(Some(EventId { prefix: Some(&self.envelope.stream), n: cursor.0, within: 0 }));
        self.data = frames.data;
    }
}

/// The frames of one record. Each is held until it is known whether another follows, since only the last one has the id.
struct Frames<'a> {
    /// Nowhere, where the client has seen them.
    out: Option<&'a mut BytesMut>,
    name: Cow<'static, str>,
    data: Vec<u8>,
}

impl Frames<'_> {
    fn are_shown(&self) -> bool {
        self.out.is_some()
    }

    fn flush(&mut self, id: Option<EventId<'_>>) {
        if let Some(out) = &mut self.out
            && !self.data.is_empty()
        {
            write_event(out, Some(&self.name), &self.data, None, id);
            self.data.clear();
        }
    }

    fn begin(&mut self, name: impl Into<Cow<'static, str>>) {
        self.flush(None);
        self.name = name.into();
    }

    fn put<const N: usize>(&mut self, pieces: [&str; N]) {
        if self.are_shown() {
            pieces.iter().for_each(|piece| self.data.extend_from_slice(piece.as_bytes()));
        }
    }

    fn start(&mut self, index: u64, block: &str) {
        self.begin("content_block_start");
        if self.are_shown() {
            let _ = write!(self.data, r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#);
        }
    }

    /// Begins a delta of a block, up to what it is.
    fn delta(&mut self, index: u64) {
        self.begin("content_block_delta");
        if self.are_shown() {
            self.put([r#"{"type":"content_block_delta","index":"#]);
            self.data.extend_from_slice(digits(index, &mut [0; 20]));
            self.put([r#","delta":"#]);
        }
    }

    /// An event of a block of the upstream's own, under the index that the block has here.
    fn of_block(&mut self, name: String, json: &Json, there: u64, here: u64) {
        self.begin(name);
        if there == here {
            return self.put([json.get()]);
        }
        let mut event: Members = serde_json::from_str(json.get()).unwrap_or_default();
        event.set("index", &here);
        self.put([Json::of(&event).unwrap_or_default().get()]);
    }
}

/// Writes a piece of a block; `text` is the inside of a JSON string.
fn delta(block: Block, text: &str, frames: &mut Frames<'_>) {
    let kind = match block.form {
        Form::Text => r#"{"type":"text_delta","text":""#,
        Form::Thinking => r#"{"type":"thinking_delta","thinking":""#,
        Form::Tool | Form::Free => r#"{"type":"input_json_delta","partial_json":""#,
        Form::Whole => return,
    };
    frames.delta(block.index);
    match block.form {
        // The text becomes the inside of a string in the arguments, and the arguments are told as a string.
        Form::Free => frames.put([kind, &text.replace('\\', r"\\").replace('"', "\\\""), "\"}}"]),
        _ => frames.put([kind, text, "\"}}"]),
    }
}

fn stop(block: Block, frames: &mut Frames<'_>) {
    if block.form == Form::Free {
        frames.delta(block.index);
        frames.put([r#"{"type":"input_json_delta","partial_json":"\"}"}}"#]);
    }
    frames.begin("content_block_stop");
    if frames.are_shown() {
        let index = block.index;
        let _ = write!(frames.data, r#"{{"type":"content_block_stop","index":{index}}}"#);
    }
}

fn fail(fault: Fault<'_>, frames: &mut Frames<'_>) {
    frames.begin("error");
    frames.put([&serde_json::to_string(&ErrorObject::from(fault)).expect("plain data")]);
}

/// A delta's text as it was recorded: the inside of a JSON string.
fn text<'a>(record: &Record<'a>) -> Option<Cow<'a, str>> {
    let payload = std::str::from_utf8(record.payload).ok()?;
    if !record.head.more {
        return payload.strip_prefix(r#"{"text":""#)?.strip_suffix(r#""}"#).map(Cow::Borrowed);
    }
    let Ok(Event::Delta(_, delta)) = record.event() else { return None };
    let json = serde_json::to_string(&delta.text).ok()?;
    Some(Cow::Owned(json[1..json.len() - 1].to_owned()))
}

/// The index in an event of a block.
fn index(json: &Json) -> Option<u64> {
    #[derive(Deserialize)]
    struct Indexed {
        index: u64,
    }
    serde_json::from_str::<Indexed>(json.get()).ok().map(|event| event.index)
}

#[cfg(test)]
mod tests;
