//! The items of an answer as they are told: a message, a thought, a call; or one that only this protocol's own upstreams have.
//!
//! Every reader knows of the open ones where they are. What was said in them is kept only where somebody retells it.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    event::{Json, PartStart, PartType, Tool},
    protocol::body::Members,
    wire::Rope,
};

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Reasoning,
    Function,
    Custom,
    /// Handed through as its upstream tells it, which calls it by this index.
    Passed(Option<u64>),
}

impl Kind {
    /// That of the item in which such a part stands. `kin`: its upstream speaks this protocol.
    pub(super) fn of(part: PartType, tool: Option<&Tool>, kin: bool) -> Option<Self> {
        Some(match part {
            PartType::Text | PartType::Refusal => Self::Message,
            PartType::Reasoning | PartType::ReasoningSummary => Self::Reasoning,
            PartType::Redacted if kin => Self::Reasoning,
            PartType::ToolCall if tool.and_then(|tool| tool.kind.as_deref()) == Some("custom") => Self::Custom,
            PartType::ToolCall => Self::Function,
            _ => return None,
        })
    }

    /// The members that are written of such an item.
    fn members(self) -> &'static [&'static str] {
        match self {
            Self::Message => &["id", "type", "status", "content", "role"],
            Self::Reasoning => &["id", "type", "summary", "content", "encrypted_content"],
            Self::Function | Self::Passed(_) => &["id", "type", "status", "arguments", "call_id", "name"],
            Self::Custom => &["id", "type", "status", "input", "call_id", "name"],
        }
    }

    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Message | Self::Passed(_) => "msg",
            Self::Reasoning => "rs",
            Self::Function => "fc",
            Self::Custom => "ctc",
        }
    }
}

/// An item that is not done.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its place in the output.
    pub(super) index: u32,
    pub(super) id: String,
    pub(super) kind: Kind,
    /// How many pieces of content and of summary it has so far.
    pub(super) contents: u32,
    pub(super) summaries: u32,
    /// Those that are open.
    pub(super) parts: Vec<Part>,
    pub(super) kept: Option<Box<KeptItem>>,
}

/// What is known of an item where it is retold.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptItem {
    tool: Tool,
    raw: Option<Members>,
    /// Entries of `content` and of `summary`, each in its place; of a call its arguments. They need not be done in their order.
    content: Vec<Rope>,
    summary: Vec<Rope>,
    pub(super) encrypted: Option<Json>,
    /// Of an item that is handed through: all of it, as it was last told.
    pub(super) whole: Option<Json>,
}

/// A piece of an item's content that is not done.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// As records call it.
    pub(super) number: u16,
    pub(super) of: PartType,
    /// Its place in the list of its item that it is an entry of.
    pub(super) index: u32,
    /// Members that say which item and which piece of it this is; JSON without braces.
    pub(super) place: String,
    pub(super) annotations: u32,
    pub(super) kept: Option<Box<KeptPart>>,
}

/// What was said in a part: the inside of a JSON string, and of two lists.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptPart {
    pub(super) text: Rope,
    pub(super) logprobs: Rope,
    pub(super) annotations: Rope,
}

impl KeptItem {
    /// `kin`: its upstream speaks this protocol. What another one says beside of a part means nothing in an item of this.
    pub(super) fn new(start: &PartStart, kin: bool) -> Self {
        let raw = start.raw.as_ref().filter(|_| kin).and_then(|raw| serde_json::from_str(raw.get()).ok());
        Self { tool: start.tool.clone().unwrap_or_default(), raw, ..Self::default() }
    }
}

impl KeptPart {
    /// Adds an entry to a list.
    pub(super) fn list(list: &mut Rope, entry: &str) {
        if !list.is_empty() {
            list.put(",");
        }
        list.put(entry);
    }
}

impl Part {
    pub(super) fn is_summary(&self) -> bool {
        self.of == PartType::ReasoningSummary
    }

    /// What the frames of its pieces are called, the frame that has all of them, and the member with the text in that.
    pub(super) fn names(&self, kind: Kind) -> [&'static str; 3] {
        match (self.of, kind) {
            (PartType::Refusal, _) => ["response.refusal.delta", "response.refusal.done", "refusal"],
            (PartType::Reasoning, _) => ["response.reasoning_text.delta", "response.reasoning_text.done", "text"],
            (PartType::ReasoningSummary, _) => {
                ["response.reasoning_summary_text.delta", "response.reasoning_summary_text.done", "text"]
            }
            (PartType::ToolCall, Kind::Custom) => {
                ["response.custom_tool_call_input.delta", "response.custom_tool_call_input.done", "input"]
            }
            (PartType::ToolCall, _) => {
                ["response.function_call_arguments.delta", "response.function_call_arguments.done", "arguments"]
            }
            _ => ["response.output_text.delta", "response.output_text.done", "text"],
        }
    }

    /// Writes it as an entry of its item's content, with what was said in it so far.
    pub(super) fn write(of: PartType, kept: &mut KeptPart, out: &mut Rope) {
        let (before, member) = match of {
            PartType::Refusal => (r#"{"type":"refusal""#, "refusal"),
            PartType::Reasoning => (r#"{"type":"reasoning_text""#, "text"),
            PartType::ReasoningSummary => (r#"{"type":"summary_text""#, "text"),
            _ => {
                out.put(r#"{"type":"output_text","annotations":["#);
                out.append(&mut kept.annotations);
                out.put(r#"],"logprobs":["#);
                out.append(&mut kept.logprobs);
                ("]", "text")
            }
        };
        out.put(before);
        out.put(&format!(r#","{member}":""#));
        out.append(&mut kept.text);
        out.put("\"}");
    }
}

impl Item {
    /// Puts a part that is done where it belongs.
    pub(super) fn keep(&mut self, mut part: Part) {
        let (Some(kept), Some(mut said)) = (&mut self.kept, part.kept.take()) else { return };
        let list = if part.is_summary() { &mut kept.summary } else { &mut kept.content };
        let mut entry = Rope::default();
        match part.of {
            PartType::ToolCall => entry = said.text,
            PartType::Redacted => return,
            of => Part::write(of, &mut said, &mut entry),
        }
        let place = part.index as usize;
        list.resize_with(list.len().max(place + 1), Rope::default);
        list[place] = entry;
    }

    /// Writes the item as JSON, with what was said in it so far.
    pub(super) fn write(&self, status: &str, out: &mut Rope) {
        let mut item = self.clone();
        for part in std::mem::take(&mut item.parts) {
            item.keep(part);
        }
        let mut kept = item.kept.unwrap_or_default();
        if let Some(whole) = &kept.whole {
            return out.put(whole.get());
        }
        write_item(self.kind, &self.id, self.index, status, &mut kept, out);
    }

    /// Writes it as it begins, before anything was said in it.
    pub(super) fn write_new(&self, start: &PartStart, kin: bool, out: &mut Rope) {
        write_item(self.kind, &self.id, self.index, "in_progress", &mut KeptItem::new(start, kin), out);
    }
}

/// Writes the entries of a list. (One that was begun is there: whoever writes an item keeps all its parts first.)
fn join(list: &mut [Rope], out: &mut Rope) {
    for (n, entry) in list.iter_mut().enumerate() {
        if n > 0 {
            out.put(",");
        }
        out.append(entry);
    }
}

fn write_item(kind: Kind, id: &str, index: u32, status: &str, kept: &mut KeptItem, out: &mut Rope) {
    let words = |text: &str| Value::from(text).to_string();
    let id_json = words(id);
    match kind {
        Kind::Message => {
            out.put(&format!(r#"{{"id":{id_json},"type":"message","status":"{status}","content":["#));
            join(&mut kept.content, out);
            out.put(r#"],"role":"assistant""#);
        }
        // OpenAI's own have no status.
        Kind::Reasoning => {
            out.put(&format!(r#"{{"id":{id_json},"type":"reasoning","summary":["#));
            join(&mut kept.summary, out);
            out.put("]");
            if !kept.content.is_empty() {
                out.put(r#","content":["#);
                join(&mut kept.content, out);
                out.put("]");
            }
            if let Some(encrypted) = &kept.encrypted {
                out.put(r#","encrypted_content":"#);
                out.put(encrypted.get());
            }
        }
        Kind::Function | Kind::Custom | Kind::Passed(_) => {
            let (name, said) = match kind {
                Kind::Custom => ("custom_tool_call", "input"),
                _ => ("function_call", "arguments"),
            };
            // A result must name the call, so it has a name whatever the upstream forgot.
            let call = kept.tool.call_id.clone().unwrap_or_else(|| format!("call_{index}"));
            let mut json = format!(r#"{{"id":{id_json},"type":"{name}","status":"{status}","{said}":""#);
            out.put(&json);
            join(&mut kept.content, out);
            json.clear();
            let tool = words(kept.tool.name.as_deref().unwrap_or_default());
            let _ = write!(json, r#"","call_id":{},"name":{tool}"#, words(&call)); // a text takes every write
            out.put(&json);
        }
    }
    let written = kind.members();
    for (name, value) in kept.raw.iter().flat_map(Members::iter).filter(|(name, _)| !written.contains(name)) {
        out.put(&format!(",{}:{}", words(name), value.get()));
    }
    out.put("}");
}
