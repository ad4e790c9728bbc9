//! Records to one `message`: what a client gets that does not stream. The same log, folded; a failed answer is none.

use serde::Deserialize;
use serde_json::Value;

use super::{
    NAME,
    told::{self, Form},
};
use crate::{
    event::{Annotation, At, End, Event, Finish, Json, Opaque, PartStart, PartState, PartType, Status, Usage},
    id::StreamId,
    protocol::body::Members,
    record::Record,
};

/// What a message has beside its content: its id, its model, and what the upstream itself added.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) stream: String,
    model: String,
    more: Members,
}

impl Envelope {
    pub(super) fn new(stream: StreamId, model: &str) -> Self {
        Self { stream: stream.to_string(), model: model.to_owned(), more: Members::default() }
    }

    /// Takes in what an upstream of this protocol said of its message.
    pub(super) fn take(&mut self, more: &Json) {
        self.more = serde_json::from_str(more.get()).unwrap_or_default();
    }

    /// The id of a call that was given none.
    pub(super) fn call(&self, index: u64) -> String {
        format!("toolu_{}_{index}", self.stream)
    }

    /// The message as JSON; without a stop reason while it is being said.
    pub(super) fn message(
        &self,
        content: &[Json],
        stop_reason: Option<&str>,
        stop_sequence: Option<&str>,
        usage: &Members,
    ) -> String {
        let mut message = Members::default();
        message.set("id", &format!("msg_{}", self.stream));
        message.set("type", "message");
        message.set("role", "assistant");
        message.set("model", &self.model);
        message.set("content", content);
        message.set("stop_reason", &stop_reason);
        message.set("stop_sequence", &stop_sequence);
        message.set("usage", usage);
        message.add(self.more.clone());
        serde_json::to_string(&message).expect("plain data")
    }
}

/// See the module.
#[derive(Debug)]
pub struct Message {
    envelope: Envelope,
    /// The upstream speaks this protocol.
    kin: bool,
    blocks: Vec<Block>,
    usage: Usage,
    finish: Option<Finish>,
    /// What an upstream of this protocol said beside its stop reason.
    beside: Members,
    end: Option<End>,
}

#[derive(Debug)]
struct Block {
    /// Which part of ours it is, or under which index the upstream has it.
    of: Result<u16, u64>,
    form: Form,
    /// As it began.
    members: Members,
    text: String,
    citations: Vec<Json>,
    signature: Option<Json>,
}

impl Message {
    /// The answer of this stream by the model of this name, of which nothing is known yet.
    #[must_use]
    pub fn new(stream: StreamId, model: &str) -> Self {
        Self {
            envelope: Envelope::new(stream, model),
            kin: false,
            blocks: Vec::new(),
            usage: Usage::default(),
            finish: None,
            beside: Members::default(),
            end: None,
        }
    }

    /// Folds in one record.
    pub fn take(&mut self, record: &Record<'_>) {
        match record.event() {
            Ok(Event::Attempt(attempt)) => self.kin = attempt.protocol == NAME,
            Ok(Event::Usage(usage)) => self.usage = usage,
            Ok(Event::Finish(0, finish)) => self.finish = Some(finish),
            Ok(Event::End(end)) => self.end = Some(end),
            Ok(Event::Opaque(opaque)) if opaque.protocol == NAME => self.opaque(opaque),
            Ok(Event::PartStart(at, start)) if at.choice == 0 => {
                if let Some(form) = Form::of(at.of, Some(&start)) {
                    self.begin(at, form, &start);
                }
            }
            Ok(Event::Delta(at, delta)) if at.choice == 0 => {
                if let Some(block) = self.block(at) {
                    block.text.push_str(&delta.text);
                }
            }
            Ok(Event::Annotation(at, annotation)) if at.choice == 0 && at.of == PartType::Text => {
                self.cite(at, annotation);
            }
            Ok(Event::State(at, state)) if at.choice == 0 && state.origin == NAME => self.state(at, state),
            _ => {}
        }
    }

    /// The answer as JSON, once its log was read to the end.
    ///
    /// # Errors
    /// Its end, if it is not whole.
    pub fn finish(self) -> Result<Vec<u8>, Box<End>> {
        let endless = End { status: Status::Interrupted, reason: None, usage: None, error: None };
        let end = self.end.unwrap_or(endless);
        if end.status != Status::Completed {
            return Err(Box::new(end));
        }
        let mut envelope = self.envelope;
        let mut beside = self.beside;
        let more: Option<Members> = beside.remove("delta").and_then(|more| serde_json::from_str(more.get()).ok());
        envelope.more.join(more.unwrap_or_default());
        let called = self.blocks.iter().any(|block| block.of.is_ok() && block.form.is_call());
        let content: Vec<Json> = self.blocks.into_iter().map(Block::close).collect();
        let finish = self.finish.unwrap_or(Finish { reason: end.reason, ..Finish::default() });
        let (reason, stop) = (told::stop_reason(&finish, called), finish.stop_sequence.as_deref());
        Ok(envelope.message(&content, Some(reason), stop, &told::usage(self.usage)).into_bytes())
    }

    fn opaque(&mut self, opaque: Opaque) {
        #[derive(Deserialize)]
        struct OfABlock {
            index: u64,
            content_block: Option<Members>,
            delta: Option<InputDelta>,
        }
        #[derive(Deserialize)]
        struct InputDelta {
            partial_json: Option<String>,
        }
        match &*opaque.name {
            "message" => self.envelope.take(&opaque.json),
            "message_delta" => self.beside = serde_json::from_str(opaque.json.get()).unwrap_or_default(),
            "content_block_start" | "content_block_delta" => {
                let Ok(event) = serde_json::from_str::<OfABlock>(opaque.json.get()) else { return };
                if let Some(members) = event.content_block {
                    self.push(Err(event.index), Form::Whole, members);
                } else if let Some(piece) = event.delta.and_then(|delta| delta.partial_json)
                    && let Some(block) = self.blocks.iter_mut().rfind(|block| block.of == Err(event.index))
                {
                    block.form = Form::Tool;
                    block.text += &piece;
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, of: Result<u16, u64>, form: Form, members: Members) {
        let (text, citations) = (String::new(), Vec::new());
        self.blocks.push(Block { of, form, members, text, citations, signature: None });
    }

    fn begin(&mut self, at: At, form: Form, start: &PartStart) {
        let json = form.block(start, &self.envelope.call(self.blocks.len() as u64));
        self.push(Ok(at.part), form, serde_json::from_str(json.get()).unwrap_or_default());
    }

    /// The block of a part, or a new one: as in a stream, words behind another block are one.
    fn block(&mut self, at: At) -> Option<&mut Block> {
        let known = self.blocks.iter().rposition(|block| block.of == Ok(at.part));
        let last = self.blocks.len().wrapping_sub(1);
        if known.is_none_or(|n| n != last && !self.kin && self.blocks[n].form.is_of_words()) {
            self.begin(at, Form::of(at.of, None)?, &PartStart::default());
        }
        self.blocks.iter_mut().rfind(|block| block.of == Ok(at.part))
    }

    fn cite(&mut self, at: At, annotation: Annotation) {
        if let Some(citation) = told::citation(annotation)
            && let Some(block) = self.block(at)
        {
            block.citations.push(citation);
        }
    }

    fn state(&mut self, at: At, state: PartState) {
        match (&*state.kind, at.of) {
            ("signature", PartType::Reasoning) => {
                if let Some(block) = self.block(at) {
                    block.signature = Some(state.value);
                }
            }
            ("redacted_thinking", PartType::Redacted) if !self.blocks.iter().any(|block| block.of == Ok(at.part)) => {
                let mut members = Members::default();
                members.set("type", "redacted_thinking");
                members.set("data", &state.value);
                self.push(Ok(at.part), Form::Whole, members);
            }
            _ => {}
        }
    }
}

impl Block {
    fn close(self) -> Json {
        let Self { form, mut members, text, citations, signature, .. } = self;
        match form {
            Form::Text => {
                members.set("text", &text);
                if !citations.is_empty() {
                    members.set("citations", &citations);
                }
            }
            Form::Thinking => {
                members.set("thinking", &text);
                members.set_some("signature", signature.as_ref());
            }
            Form::Tool => members.set("input", &input(&text)),
            Form::Free => members.set("input", &serde_json::json!({ "input": text })),
            Form::Whole => {}
        }
        Json::of(&members).unwrap_or_default()
    }
}

/// The arguments of a call, which are an object here. None at all are an empty one; what is none (the answer was cut off in the
/// middle of them, or the model writes what it likes) is told as free text is.
fn input(arguments: &str) -> Json {
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    let object: Option<Json> = serde_json::from_str(arguments).ok();
    let object = object.filter(|json| json.get().starts_with('{'));
    object.or_else(|| Json::of(&Value::from_iter([("input", arguments)]))).unwrap_or_default()
}
