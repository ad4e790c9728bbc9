//! The items and parts of an answer that are being told.

use std::{borrow::Cow, mem};

use serde_json::value::RawValue;

use super::{Events, NAME};
use crate::{
    event::{At, Delta, Event, Json, PartStart, PartState, PartStop, PartType, Tool},
    protocol::body::Members,
};

/// What an event is about: a part of an item. `null` and absent are the same.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) item_id: Option<&'a str>,
    pub(super) output_index: Option<u64>,
    /// The part's index in the item.
    pub(super) index: Option<u64>,
    pub(super) of: PartType,
    pub(super) kind: Kind,
    /// It tells once more what was told, and so nothing of an item that is whole.
    pub(super) repeats: bool,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Reasoning,
    Function,
    Custom,
    Unknown,
}

/// How many bytes the items may take together of which no part has begun: of these there is no record, and so no limit of a stream
/// knows of them. Real ones are a few hundred bytes, and few at once.
const MAX_SILENT: usize = 1 << 20;

/// How many parts an answer may have: far more than any has, and few enough to look for one among all.
const MAX_PARTS: u16 = 16_384;

/// What has begun so far.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Parts in all.
    parts: u16,
    /// What the items take of which no part has begun.
    silent: usize,
}

impl Begun {
    /// Why it is more than any answer has, if it is.
    pub(super) fn excess(&self) -> Option<&'static str> {
        if self.parts > MAX_PARTS {
            return Some("the upstream's answer has more than 16,384 parts");
        }
        (self.silent > MAX_SILENT).then_some("the upstream's answer begins item after item, and tells nothing of them")
    }
}

#[derive(Debug)]
pub(super) struct OpenItem {
    pub(super) kind: Kind,
    pub(super) id: Option<String>,
    pub(super) index: Option<u64>,
    pub(super) closed: bool,
    tool: Tool,
    /// Its members that have no place in an event; told with its first part.
    raw: Option<Json>,
    /// The newest one last.
    parts: Vec<OpenPart>,
    /// How many parts of its content, and how many summaries, have begun.
    begun: [u64; 2],
    /// What was counted as silent of it.
    silent: usize,
}

#[derive(Debug)]
pub(super) struct OpenPart {
    pub(super) at: At,
    /// How many citations were told.
    pub(super) annotations: usize,
    /// Its upstream has said that it is whole. It stops when it is known whether it is its item's last.
    pub(super) whole: bool,
    index: Option<u64>,
    /// How many bytes of its text were told.
    said: usize,
}

impl Kind {
    /// Of the item of this type. (One without a type is what a server that leaves things out has most of.)
    pub(super) fn of(r#type: Option<&str>) -> Self {
        match r#type {
            Some("message") | None => Self::Message,
            Some("reasoning") => Self::Reasoning,
            Some("function_call") => Self::Function,
            Some("custom_tool_call") => Self::Custom,
            Some(_) => Self::Unknown,
        }
    }

    pub(super) fn is_call(self) -> bool {
        matches!(self, Self::Function | Self::Custom)
    }

    /// The members of such an item that no event has a place for.
    fn beyond(self, item: &RawValue) -> Option<Json> {
        let known: &[&str] = match self {
            Self::Message => &["id", "type", "role", "status", "content"],
            Self::Reasoning => &["id", "type", "status", "summary", "content", "encrypted_content"],
            Self::Function | Self::Custom => &["id", "type", "status", "call_id", "name", "arguments", "input"],
            Self::Unknown => return None,
        };
        let members: Members = serde_json::from_str(item.get()).ok()?;
        let mut rest = Members::default();
        for (name, value) in members.iter().filter(|(name, value)| !known.contains(name) && value.get() != "null") {
            rest.set(name, value);
        }
        (!rest.is_empty()).then(|| Json::of(&rest)).flatten()
    }
}

impl OpenItem {
    pub(super) fn new(kind: Kind, id: Option<String>, index: Option<u64>) -> Self {
        let tool = Tool::default();
        Self { kind, id, index, closed: false, tool, raw: None, parts: Vec::new(), begun: [0; 2], silent: 0 }
    }

    /// Takes in what an event tells of the item itself, as far as it was not told before.
    pub(super) fn learn(&mut self, id: Option<String>, call_id: Option<String>, name: Option<String>, item: &RawValue) {
        self.id = self.id.take().or(id);
        self.tool.call_id = self.tool.call_id.take().or(call_id);
        self.tool.name = self.tool.name.take().or(name);
        self.raw = self.raw.take().or_else(|| self.kind.beyond(item));
    }

    /// Counts it, until a part of it begins.
    pub(super) fn is_silent(&mut self, begun: &mut Begun) {
        let texts = [&self.id, &self.tool.call_id, &self.tool.name].into_iter().flatten().map(String::len);
        self.silent = size_of::<Self>() + texts.sum::<usize>() + self.raw.as_ref().map_or(0, |raw| raw.get().len());
        begun.silent += self.silent;
    }

    /// Of a call: whether it is known what is called.
    pub(super) fn is_named(&self) -> bool {
        self.tool.call_id.is_some() && self.tool.name.is_some()
    }

    /// The open part of this index, else a new one in its place; without an index the newest one, if it is such a part. Nothing if it
    /// is over, and no more is told than once more what was told. Several are open where an upstream tells them in turn.
    pub(super) fn part(
        &mut self,
        of: PartType,
        index: Option<u64>,
        repeats: bool,
        all: &mut Begun,
        events: &mut Events,
    ) -> Option<&mut OpenPart> {
        let list = |of| usize::from(of == PartType::ReasoningSummary);
        let same_list = |part: &OpenPart| list(part.at.of) == list(of);
        let newest = self.parts.iter().rposition(same_list);
        let known = match index {
            Some(index) => self.parts.iter().rposition(|part| same_list(part) && part.index.is_none_or(|n| n == index)),
            None => newest,
        };
        if let Some(known) = known.filter(|n| self.parts[*n].at.of == of) {
            return self.parts.get_mut(known);
        }
        let begun = &mut self.begun[list(of)];
        if known.is_none() && repeats && index.is_some_and(|index| index < *begun) {
            return None;
        }
        *begun = (*begun).max(index.unwrap_or(*begun).saturating_add(1));
        for part in self.parts.extract_if(.., |part| part.whole) {
            events.push(part.stop(None));
        }
        let at = At { choice: 0, part: all.parts, of };
        all.parts = all.parts.saturating_add(1);
        all.silent -= mem::take(&mut self.silent);
        events.push(Event::PartStart(at, self.start(of)));
        self.parts.push(OpenPart { at, annotations: 0, whole: false, index, said: 0 });
        self.parts.last_mut()
    }

    fn start(&mut self, of: PartType) -> PartStart {
        let kind = match self.kind {
            Kind::Function => Some("function"),
            Kind::Custom => Some("custom"),
            _ => None,
        };
        let tool = kind.map(|kind| Tool { kind: Some(kind.to_owned()), ..mem::take(&mut self.tool) });
        PartStart { r#type: of, id: self.id.clone(), tool, raw: self.raw.take(), ..PartStart::default() }
    }

    /// The item is whole; one of which no part was told is told now.
    pub(super) fn close(&mut self, status: &str, state: Option<Json>, all: &mut Begun, events: &mut Events) {
        self.closed = true;
        if self.parts.is_empty() {
            let of = match self.kind {
                Kind::Reasoning => PartType::Redacted,
                Kind::Function | Kind::Custom => PartType::ToolCall,
                Kind::Message | Kind::Unknown => PartType::Text,
            };
            self.part(of, None, false, all, events);
        }
        let last = self.parts.pop();
        events.extend(self.parts.drain(..).map(|part| part.stop(None)));
        let Some(last) = last else { return };
        if let Some(value) = state {
            let state = PartState { origin: Cow::Borrowed(NAME), kind: "encrypted_content".to_owned(), value };
            events.push(Event::State(last.at, state));
        }
        events.push(last.stop(Some(status)));
    }
}

impl OpenPart {
    fn stop(self, status: Option<&str>) -> Event<'static> {
        Event::PartStop(self.at, PartStop { status: status.map(str::to_owned) })
    }

    pub(super) fn say(&mut self, text: String, logprobs: Option<Json>, events: &mut Events) {
        if !text.is_empty() {
            self.said += text.len();
            events.push(Event::Delta(self.at, Delta { text: Cow::Owned(text), logprobs }));
        }
    }

    /// Says what is missing of a text that is told as a whole; the log probabilities are the whole text's.
    pub(super) fn complete(&mut self, mut text: String, logprobs: Option<Json>, events: &mut Events) {
        if self.said == 0 {
            self.say(text, logprobs, events);
        } else if text.len() > self.said && text.is_char_boundary(self.said) {
            self.say(text.split_off(self.said), None, events);
        }
    }
}
