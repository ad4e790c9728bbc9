//! What an upstream of this protocol says that is not understood here: recorded as it came, and given back to readers of this
//! protocol, where it stood.
//!
//! A member of the chunk that is the same on each (`system_fingerprint`, `provider`) is recorded once, under its own name, and stands on
//! every chunk from there on; `null` takes it away again. What one chunk alone has is one record before it: [`NEXT`] if what follows
//! has a chunk, [`ALONE`] if nothing does, [`LAST`] if the chunk belonged to no choice (`timings` beside the count of tokens).

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::chunk::{Anything, Unknown};
use crate::{
    event::{Event, Json, Opaque},
    protocol::body::Members,
};

/// The names under which it is recorded. No member that is recorded under its own name begins like this. Behind `NEXT`, `ALONE`
/// and `ROLE` stands the choice.
pub(super) const NEXT: &str = Opaque::BESIDE;
pub(super) const ALONE: &str = ":alone ";
pub(super) const LAST: &str = ":last";
/// How reasoning is spelled from here on.
pub(super) const SPELLING: &str = ":reasoning";
/// The role of a choice that is not the assistant's.
pub(super) const ROLE: &str = ":role ";

/// Members that stand on each chunk, or on none, as far as is known of any server.
const CONSTANT: [&str; 3] = ["provider", "service_tier", "system_fingerprint"];
/// How many others may be found to be so, and how large each may be.
const MOST: usize = 64;
const LARGEST: usize = 16 * 1024;

/// An event that only readers of this protocol are told.
pub(super) fn told(name: impl Into<String>, json: Json) -> Event<'static> {
    Event::Opaque(Opaque { protocol: Cow::Borrowed("chat"), name: name.into(), json })
}

/// How reasoning is spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `reasoning_content`
    #[default]
    Content,
    /// `reasoning`
    Short,
    Both,
    /// In `reasoning_details` alone.
    Details,
}

const SPELLINGS: [(Spelling, &str); 4] = [
    (Spelling::Content, "reasoning_content"),
    (Spelling::Short, "reasoning"),
    (Spelling::Both, "both"),
    (Spelling::Details, "reasoning_details"),
];

impl Spelling {
    pub(super) fn record(self) -> Event<'static> {
        let word = SPELLINGS.iter().find(|(spelling, _)| *spelling == self).map_or("", |(_, word)| word);
        told(SPELLING, Json::of(&word).unwrap_or_default())
    }

    pub(super) fn read(json: &Json) -> Self {
        let word = json.get().trim_matches('"');
        SPELLINGS.iter().find(|(_, known)| *known == word).map(|(spelling, _)| *spelling).unwrap_or_default()
    }
}

/// Of a decoder: what the chunks before had.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    known: BTreeMap<String, Known>,
    chunks: u64,
}

#[derive(Debug)]
struct Known {
    value: String,
    /// The last chunk that had it.
    chunk: u64,
    constant: bool,
}

impl Repeated {
    /// Takes a chunk's members. What stands on every chunk is recorded when it is seen to, and when that changes; the others are
    /// given back. `counts`: the chunk is about no choice, so that what it lacks says nothing.
    pub(super) fn take<'a>(
        &mut self,
        members: Unknown<'a>,
        counts: bool,
        events: &mut Vec<Event<'static>>,
    ) -> Unknown<'a> {
        self.chunks += 1;
        let mut own = Unknown::new();
        for (name, value) in members {
            if !self.repeats(&name, value, events) {
                own.push((name, value));
            }
        }
        let gone = |(name, known): &(&String, &mut Known)| {
            known.constant && known.chunk != self.chunks && !counts && !CONSTANT.contains(&name.as_str())
        };
        for (name, known) in self.known.iter_mut().filter(gone) {
            known.constant = false;
            events.push(told(name, Json::default()));
        }
        own
    }

    /// Whether it need not be told with this chunk.
    fn repeats(&mut self, name: &str, value: &RawValue, events: &mut Vec<Event<'static>>) -> bool {
        let constant = CONSTANT.contains(&name);
        let text = value.get();
        let chunk = self.chunks;
        let Some(known) = self.known.get_mut(name) else {
            let room = self.known.len() < MOST && text.len() <= LARGEST && !name.starts_with(':');
            if constant || room {
                self.known.insert(name.to_owned(), Known { value: text.to_owned(), chunk, constant });
            }
            if constant {
                events.push(told(name, Json::new(value.to_owned())));
            }
            return constant;
        };
        let before = std::mem::replace(&mut known.chunk, chunk);
        match (known.value == text, known.constant) {
            (true, true) => return true,
            // Twice the same in two chunks: the next one is expected to have it too.
            (true, false) if before + 1 == chunk => {
                known.constant = true;
                events.push(told(name, Json::new(value.to_owned())));
                return true;
            }
            (true, false) => return false,
            (false, true) if !constant => {
                known.constant = false;
                events.push(told(name, Json::default()));
            }
            (false, _) => {}
        }
        match text.len() <= LARGEST {
            true => text.clone_into(&mut known.value),
            false => known.value.clear(),
        }
        if constant {
            events.push(told(name, Json::new(value.to_owned())));
        }
        constant
    }
}

/// What one chunk alone says of one choice.
#[derive(Debug, Default)]
pub(super) struct Own<'a> {
    pub(super) chunk: Unknown<'a>,
    pub(super) choice: Unknown<'a>,
    pub(super) delta: Unknown<'a>,
    /// That belong to no text.
    pub(super) logprobs: Option<Json>,
    /// Thoughts that were told in another spelling too.
    pub(super) details: Vec<Json>,
}

impl Own<'_> {
    pub(super) fn is_empty(&self) -> bool {
        let Self { chunk, choice, delta, logprobs, details } = self;
        chunk.is_empty() && choice.is_empty() && delta.is_empty() && logprobs.is_none() && details.is_empty()
    }

    pub(super) fn record(&self, name: impl Into<String>) -> Event<'static> {
        let mut delta: Vec<_> =
            self.delta.iter().map(|(name, value)| format!("{}:{}", Value::from(&**name), value.get())).collect();
        if !self.details.is_empty() {
            let details: Vec<_> = self.details.iter().map(Json::get).collect();
            delta.push(format!(r#""reasoning_details":[{}]"#, details.join(",")));
        }
        let all = |members: &Unknown<'_>| -> Vec<_> {
            members.iter().map(|(name, value)| format!("{}:{}", Value::from(&**name), value.get())).collect()
        };
        let mut parts: Vec<_> = [("chunk", all(&self.chunk)), ("choice", all(&self.choice)), ("delta", delta)]
            .into_iter()
            .filter(|(_, members)| !members.is_empty())
            .map(|(name, members)| format!(r#""{name}":{{{}}}"#, members.join(",")))
            .collect();
        parts.extend(self.logprobs.as_ref().map(|logprobs| format!(r#""logprobs":{}"#, logprobs.get())));
        told(name, json(format!("{{{}}}", parts.join(","))))
    }
}

/// The members of an object, as an object.
pub(super) fn object(members: &Unknown<'_>) -> Json {
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("{}:{}", Value::from(&**name), value.get())).collect();
    json(format!("{{{}}}", members.join(",")))
}

/// Of `delta.audio` the piece of sound, and what stands beside it, as a record of its own has it. Nothing if there is no sound.
pub(super) fn sound(audio: &RawValue) -> Option<(String, Option<Json>)> {
    let Anything(mut members) = serde_json::from_str(audio.get()).ok()?;
    let at = members.iter().position(|(name, _)| name == "data")?;
    let data: String = serde_json::from_str(members.remove(at).1.get()).ok()?;
    let beside = || json(format!(r#"{{"delta":{{"audio":{}}}}}"#, object(&members).get()));
    (!data.is_empty()).then(|| (data, (!members.is_empty()).then(beside)))
}

fn json(text: String) -> Json {
    Json::new(RawValue::from_string(text).expect("it is made of JSON"))
}

/// [`Own`], as it is read from a record: objects.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Recorded {
    pub(super) chunk: Option<Json>,
    pub(super) choice: Option<Json>,
    pub(super) delta: Option<Json>,
    pub(super) logprobs: Option<Json>,
}

impl Recorded {
    pub(super) fn read(json: &Json) -> Self {
        serde_json::from_str(json.get()).unwrap_or_default()
    }
}

/// The inside of an object: its members, to be written among others.
pub(super) fn inside(object: Option<&Json>) -> &str {
    object.and_then(|object| object.get().strip_prefix('{')?.strip_suffix('}')).unwrap_or_default().trim()
}

/// Members of an object, read.
pub(super) fn members(object: Option<&Json>) -> Members {
    object.and_then(|object| serde_json::from_str(object.get()).ok()).unwrap_or_default()
}

/// Adds up what deltas say as clients do: texts grow, entries with an index find theirs, other entries are appended; of all else the
/// last counts.
pub(super) fn add(sum: &mut Map<String, Value>, delta: Map<String, Value>) {
    for (name, more) in delta {
        match (sum.get_mut(&name), more) {
            (_, Value::Null) => {}
            (Some(Value::String(text)), Value::String(more)) if !["id", "type", "role", "format"].contains(&&*name) => {
                text.push_str(&more);
            }
            (Some(Value::Object(known)), Value::Object(more)) => add(known, more),
            (Some(Value::Array(list)), Value::Array(more)) => more.into_iter().for_each(|entry| append(list, entry)),
            (_, more) => _ = sum.insert(name, more),
        }
    }
}

fn append(list: &mut Vec<Value>, entry: Value) {
    let index = entry.get("index").filter(|index| index.is_u64()).cloned();
    let known = index.and_then(|index| list.iter_mut().find(|known| known.get("index") == Some(&index)));
    match (known, entry) {
        (Some(Value::Object(known)), Value::Object(more)) => add(known, more),
        (_, entry) => list.push(entry),
    }
}
