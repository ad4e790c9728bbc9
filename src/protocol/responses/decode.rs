//! Events of a Responses answer to events of ours.
//!
//! An item is a part here, or several: each part of a message's content, each summary of a piece of reasoning. They may be told in
//! turn. A part that is whole stops when another one of its item begins; with the item stop all others, and the stop of the last one
//! alone has a status, so that an encoder of this protocol knows where an item ends. What is told again at the end of a part or an item is taken where it was not told before.
//!
//! Servers leave out events, indices and ids. An item is found by its id, else by its index, else it is the last open one of its kind;
//! where none is open, it begins. Items that are not known here, and all that is said of them, are kept as they came.

mod open;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use self::open::{Begun, Kind, OpenItem, OpenPart, Place};
use super::{ContentPart, Counts, Frame, Head, Incomplete, Item, KNOWN, NAME, UrlCitation, Whole};
use crate::{
    event::{Annotation, Event, Finish, Json, Opaque, PartType, Reason, Usage},
    protocol::{Complaint, Decode, DecodeError, body::Members},
};

type Events = Vec<Event<'static>>;

/// Members of the response object that are this answer's own, or told by events of ours.
const OWN: [&str; 13] = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "model",
    "output",
    "output_text",
    "usage",
    "error",
    "incomplete_details",
    "background",
    "previous_response_id",
];

/// Decodes one answer; see the module.
#[derive(Debug, Default)]
pub struct ResponsesDecode {
    items: Vec<OpenItem>,
    begun: Begun,
    /// The members of the response object, as they were last told.
    response: Members,
    done: bool,
}

impl Decode for ResponsesDecode {
    fn frame(&mut self, name: &str, data: &str, events: &mut Events) -> Result<(), DecodeError> {
        let data = data.trim();
        if data.is_empty() || data == "[DONE]" || self.done {
            return Ok(());
        }
        let frame: Frame<'_> = match serde_json::from_str(data) {
            Ok(frame) => frame,
            Err(error) => return unreadable(name, data, &error, events),
        };
        let kind = frame.r#type.unwrap_or(name);
        if let Some(complaint) = complaint(kind, frame.error.as_ref(), data) {
            return Err(DecodeError::Upstream(complaint));
        }
        match kind {
            "response.created" | "response.queued" | "response.in_progress" => {
                self.response(frame.response, events);
                events.push(Event::Alive);
            }
            "keepalive" | "ping" => events.push(Event::Alive),
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                self.end(kind, frame.response, events)?;
            }
            "response.output_item.added" => self.item_added(&frame, data, events)?,
            "response.output_item.done" => self.item_done(frame.item, frame.output_index, Some(data), events)?,
            unknown if !KNOWN.contains(&unknown) => opaque(kind, data, events),
            _ if self.is_of_unknown_item(&frame) => opaque(kind, data, events),
            _ => self.of_part(kind, &frame, data, events)?,
        }
        self.begun.excess().map_or(Ok(()), |excess| Err(DecodeError::Malformed(excess.to_owned())))
    }

    fn finish(&mut self, _: &mut Events) -> Result<(), DecodeError> {
        if self.done { Ok(()) } else { Err(DecodeError::Truncated) }
    }

    fn done(&self) -> bool {
        self.done
    }
}

impl ResponsesDecode {
    /// An event that is known, and about a part.
    fn of_part(&mut self, kind: &str, frame: &Frame<'_>, data: &str, events: &mut Events) -> Result<(), DecodeError> {
        let (item_id, output_index, repeats) = (frame.item_id, frame.output_index, kind.ends_with(".done"));
        let place = |of, kind, index| Place { item_id, output_index, index, of, kind, repeats };
        let text = place(PartType::Text, Kind::Message, frame.content_index);
        let summary = place(PartType::ReasoningSummary, Kind::Reasoning, frame.summary_index);
        let (place, told) = match kind {
            "response.content_part.added" | "response.content_part.done" => {
                let part: ContentPart<'_> = read(frame.part)?.unwrap_or_default();
                let Some((of, kind_of_item)) = part.of() else {
                    opaque(kind, data, events);
                    return Ok(());
                };
                let place = place(of, kind_of_item, frame.content_index);
                if repeats {
                    return self.part_done(place, part, events);
                }
                (place, None)
            }
            "response.reasoning_summary_part.added" => (summary, None),
            "response.reasoning_summary_part.done" => {
                return self.part_done(summary, read(frame.part)?.unwrap_or_default(), events);
            }
            "response.output_text.annotation.added" => {
                if let (Some(raw), Some(part)) = (&frame.annotation, self.part(text, events)) {
                    annotate(part, raw.clone(), events);
                }
                return Ok(());
            }
            "response.output_text.delta" => (text, frame.delta),
            "response.output_text.done" => (text, frame.text),
            "response.refusal.delta" => (Place { of: PartType::Refusal, ..text }, frame.delta),
            "response.refusal.done" => (Place { of: PartType::Refusal, ..text }, frame.refusal),
            "response.reasoning_summary_text.delta" => (summary, frame.delta),
            "response.reasoning_summary_text.done" => (summary, frame.text),
            "response.reasoning_text.delta" | "response.reasoning_text.done" => {
                let told = if repeats { frame.text } else { frame.delta };
                (place(PartType::Reasoning, Kind::Reasoning, frame.content_index), told)
            }
            "response.function_call_arguments.delta" => (place(PartType::ToolCall, Kind::Function, None), frame.delta),
            "response.function_call_arguments.done" => {
                (place(PartType::ToolCall, Kind::Function, None), frame.arguments)
            }
            "response.custom_tool_call_input.delta" => (place(PartType::ToolCall, Kind::Custom, None), frame.delta),
            "response.custom_tool_call_input.done" => (place(PartType::ToolCall, Kind::Custom, None), frame.input),
            _ => return Ok(()),
        };
        let told: Option<String> = read(told)?;
        if let Some(part) = self.part(place, events) {
            let (words, logprobs) = (told.unwrap_or_default(), some(frame.logprobs));
            if repeats { part.complete(words, logprobs, events) } else { part.say(words, logprobs, events) }
        }
        Ok(())
    }

    /// Says what is missing of a part that is told as a whole.
    fn part_done(&mut self, place: Place<'_>, whole: ContentPart<'_>, events: &mut Events) -> Result<(), DecodeError> {
        let text: String = read(whole.text.or(whole.refusal))?.unwrap_or_default();
        if let Some(part) = self.part(place, events) {
            part.whole = true;
            part.complete(text, some(whole.logprobs), events);
            let known = part.annotations;
            whole.annotations.into_iter().flatten().skip(known).for_each(|raw| annotate(part, raw, events));
        }
        Ok(())
    }

    /// The part that an event is about, begun if it has to be. Nothing if it is over.
    fn part(&mut self, place: Place<'_>, events: &mut Events) -> Option<&mut OpenPart> {
        let n = self.item(place)?;
        self.items[n].part(place.of, place.index, place.repeats, &mut self.begun, events)
    }

    /// The open item that an event is about, or a new one. Nothing if it is whole, and nothing new is told of it.
    fn item(&mut self, place: Place<'_>) -> Option<usize> {
        let found = self.find(place.item_id, place.output_index).filter(|n| self.items[*n].kind == place.kind);
        let open = |n: &usize| !self.items[*n].closed && self.items[*n].kind == place.kind;
        let nameless = |n: &usize| place.item_id.is_none() || self.items[*n].id.is_none();
        let last = || (0..self.items.len()).rev().find(|n| open(n) && nameless(n));
        if let Some(n) = found.filter(open).or_else(last) {
            return Some(n);
        }
        let told = |n: usize| place.item_id.is_none() || self.items[n].id.as_deref() == place.item_id;
        if place.repeats && found.is_some_and(told) {
            return None;
        }
        Some(self.open(place.kind, place.item_id.map(str::to_owned), place.output_index))
    }

    /// The item of this id, else of this index.
    fn find(&self, id: Option<&str>, index: Option<u64>) -> Option<usize> {
        let by_id = id.and_then(|id| self.items.iter().rposition(|item| item.id.as_deref() == Some(id)));
        by_id.or_else(|| index.and_then(|index| self.items.iter().rposition(|item| item.index == Some(index))))
    }

    fn is_of_unknown_item(&self, frame: &Frame<'_>) -> bool {
        self.find(frame.item_id, frame.output_index).is_some_and(|n| self.items[n].kind == Kind::Unknown)
    }

    fn open(&mut self, kind: Kind, id: Option<String>, index: Option<u64>) -> usize {
        self.items.push(OpenItem::new(kind, id, index));
        self.items.len() - 1
    }

    fn item_added(&mut self, frame: &Frame<'_>, data: &str, events: &mut Events) -> Result<(), DecodeError> {
        let Some(raw) = frame.item else { return Ok(()) };
        let Head { r#type, id } = read(Some(raw))?.unwrap_or_default();
        let kind = Kind::of(r#type.as_deref());
        let n = self.open(kind, id, frame.output_index);
        if kind == Kind::Unknown {
            opaque("response.output_item.added", data, events);
            return Ok(());
        }
        let Item { call_id, name, .. } = read(Some(raw))?.unwrap_or_default();
        let item = &mut self.items[n];
        item.learn(None, call_id, name, raw);
        if kind.is_call() && item.is_named() {
            item.part(PartType::ToolCall, None, false, &mut self.begun, events);
        } else {
            item.is_silent(&mut self.begun);
        }
        Ok(())
    }

    /// `data` is the event's, of an item that was told by one.
    fn item_done(
        &mut self,
        raw: Option<&RawValue>,
        index: Option<u64>,
        data: Option<&str>,
        events: &mut Events,
    ) -> Result<(), DecodeError> {
        let Some(raw) = raw else { return Ok(()) };
        let Head { r#type, id } = read(Some(raw))?.unwrap_or_default();
        let kind = Kind::of(r#type.as_deref());
        if kind == Kind::Unknown {
            if let Some(data) = data {
                opaque("response.output_item.done", data, events);
            }
            return Ok(());
        }
        let of = if kind.is_call() { PartType::ToolCall } else { PartType::Text };
        let place = Place { item_id: id.as_deref(), output_index: index, index: None, of, kind, repeats: true };
        let Some(n) = self.item(place) else { return Ok(()) };
        let item: Item<'_> = read(Some(raw))?.unwrap_or_default();
        self.items[n].learn(id.clone(), item.call_id, item.name, raw);
        if kind.is_call() {
            let text = read(item.arguments.or(item.input))?.unwrap_or_default();
            if let Some(part) = self.part(place, events) {
                part.complete(text, None, events);
            }
        }
        let summaries: Vec<ContentPart<'_>> = read(item.summary)?.unwrap_or_default();
        for (index, part) in (0..).zip(summaries) {
            self.part_done(Place { index: Some(index), of: PartType::ReasoningSummary, ..place }, part, events)?;
        }
        let content: Vec<ContentPart<'_>> = read(item.content)?.unwrap_or_default();
        for (index, part) in (0..).zip(content) {
            if let Some((of, _)) = part.of().filter(|(_, of_kind)| *of_kind == kind) {
                self.part_done(Place { index: Some(index), of, ..place }, part, events)?;
            }
        }
        self.items[n].close(item.status.unwrap_or("completed"), item.encrypted_content, &mut self.begun, events);
        Ok(())
    }

    /// Tells the members of the response object that were not told before, or otherwise.
    fn response(&mut self, raw: Option<&RawValue>, events: &mut Events) {
        let Some(members) = raw.and_then(|raw| serde_json::from_str::<Members>(raw.get()).ok()) else { return };
        let mut changed = Members::default();
        for (name, value) in members.iter().filter(|(name, _)| !OWN.contains(name)) {
            if self.response.get(name) != Some(value) {
                self.response.set(name, value);
                changed.set(name, value);
            }
        }
        if !changed.is_empty() {
            events.extend(Json::of(&changed).map(|json| told("response", json)));
        }
    }

    fn end(&mut self, kind: &str, raw: Option<&RawValue>, events: &mut Events) -> Result<(), DecodeError> {
        let response: Whole<'_> = read(raw)?.unwrap_or_default();
        let status = ended(kind, response.status, response.error.as_ref());
        let whole = !matches!(status, "failed" | "cancelled");
        if whole {
            self.close(status, response.output, events)?;
        }
        self.response(raw, events);
        events.extend(response.usage.and_then(usage).map(Event::Usage));
        if !whole {
            return Err(DecodeError::Upstream(failure(status, response.error.as_ref())));
        }
        let why = response.incomplete_details.and_then(|Incomplete { reason }| reason);
        let (reason, raw) = match (status, why) {
            ("incomplete", Some("max_output_tokens")) => (Some(Reason::Length), "max_output_tokens"),
            ("incomplete", Some("content_filter")) => (Some(Reason::ContentFilter), "content_filter"),
            ("incomplete", why) => (None, why.unwrap_or(status)),
            _ if self.items.iter().any(|item| item.kind.is_call()) => (Some(Reason::ToolCalls), status),
            _ => (Some(Reason::Stop), status),
        };
        events.push(Event::Finish(0, Finish { reason, raw: Some(raw.to_owned()), ..Finish::default() }));
        self.done = true;
        Ok(())
    }

    /// Every item is whole. Those of a server that tells no more than the whole response are told now.
    fn close(&mut self, status: &str, output: Option<&RawValue>, events: &mut Events) -> Result<(), DecodeError> {
        if self.items.is_empty() {
            let output: Vec<&RawValue> = read(output)?.unwrap_or_default();
            for (index, item) in (0..).zip(output) {
                self.item_done(Some(item), Some(index), None, events)?;
            }
        }
        let status = if status == "incomplete" { status } else { "completed" };
        for item in self.items.iter_mut().filter(|item| !item.closed && item.kind != Kind::Unknown) {
            item.close(status, None, &mut self.begun, events);
        }
        Ok(())
    }
}

impl ContentPart<'_> {
    /// What it is, and in an item of which kind; nothing if it is not known.
    fn of(&self) -> Option<(PartType, Kind)> {
        match self.r#type {
            Some("output_text" | "text") => Some((PartType::Text, Kind::Message)),
            Some("refusal") => Some((PartType::Refusal, Kind::Message)),
            Some("reasoning_text") => Some((PartType::Reasoning, Kind::Reasoning)),
            _ => None,
        }
    }
}

/// `null` and absent are the same.
fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<Option<T>, DecodeError> {
    raw.map_or(Ok(None), |raw| serde_json::from_str(raw.get()).map_err(|error| malformed(&error)))
}

/// The log probabilities, if there are any.
fn some(logprobs: Option<&RawValue>) -> Option<Json> {
    logprobs.filter(|raw| raw.get().contains('{')).map(|raw| Json::new(raw.to_owned()))
}

fn annotate(part: &mut OpenPart, raw: Json, events: &mut Events) {
    part.annotations += 1;
    let cited = serde_json::from_str(raw.get()).unwrap_or_default();
    let UrlCitation { url, title, start_index, end_index } = cited;
    let annotation = Annotation { url, title, span: start_index.zip(end_index), raw: Some(raw) };
    events.push(Event::Annotation(part.at, annotation));
}

/// What is told of the request and the response is lastword's own, and no upstream has a word in it.
fn opaque(name: &str, data: &str, events: &mut Events) {
    if matches!(name, "request" | "response") {
        return;
    }
    events.extend(serde_json::from_str(data).ok().map(|json| told(name, json)));
}

fn told(name: &str, json: Json) -> Event<'static> {
    Event::Opaque(Opaque { protocol: Cow::Borrowed(NAME), name: name.to_owned(), json })
}

/// What cannot be read in an event that is not known matters to nobody here.
fn unreadable(name: &str, data: &str, error: &serde_json::Error, events: &mut Events) -> Result<(), DecodeError> {
    if name == "error" {
        return Err(DecodeError::Upstream(Complaint::read(data)));
    }
    let head: Option<Head> = serde_json::from_str(data).ok();
    match head.and_then(|head| head.r#type) {
        Some(kind) if !KNOWN.contains(&&*kind) => opaque(&kind, data, events),
        None if name != "message" && !KNOWN.contains(&name) => {}
        _ => return Err(malformed(error)),
    }
    Ok(())
}

/// The flat event `error`, or an event of any name with a member of that one.
fn complaint(kind: &str, error: Option<&Value>, data: &str) -> Option<Complaint> {
    if kind != "error" {
        return Complaint::of(error?);
    }
    let mut json: Value = serde_json::from_str(data).ok()?;
    if let Some(members) = json.as_object_mut() {
        members.remove("type"); // it says no more than that it is one
    }
    Complaint::of(&json).or_else(|| Some(Complaint::read(data)))
}

/// How the answer ended: as its last event says, or worse if the response in it says so. One with an error failed, whatever is said.
fn ended(kind: &str, status: Option<&str>, error: Option<&Value>) -> &'static str {
    let says = |status: &str| kind.strip_prefix("response.") == Some(status);
    let silent = |error: &Value| {
        error.as_str() == Some("") || error.as_object().is_some_and(|error| error.values().all(Value::is_null))
    };
    let failed = error.is_some_and(|error| !silent(error)) && status != Some("cancelled") && !says("cancelled");
    let worst_first = ["failed", "cancelled", "incomplete"].into_iter();
    let mut bad = worst_first.filter(|bad| says(bad) || status == Some(bad) || (failed && *bad == "failed"));
    bad.next().unwrap_or("completed")
}

/// Why the answer is not whole, by the response itself.
fn failure(status: &str, error: Option<&Value>) -> Complaint {
    let cancelled = status == "cancelled";
    let words = if cancelled { "the answer was cancelled there" } else { "the answer failed, with no word of why" };
    let silent = || Complaint { message: words.to_owned(), ..Complaint::default() };
    let complaint = error.and_then(Complaint::of).unwrap_or_else(silent);
    let code = complaint.code.or_else(|| cancelled.then(|| status.to_owned()));
    Complaint { code, ..complaint }
}

/// Says where, and nothing of what: the event may hold the answer's words, and messages are logged.
fn malformed(error: &serde_json::Error) -> DecodeError {
    let what = if error.is_data() { "has a member of another type than Responses has" } else { "is not JSON" };
    DecodeError::Malformed(format!("an event of the upstream's answer {what} (at byte {})", error.column()))
}

fn usage(raw: Json) -> Option<Usage> {
    let counts: Counts = serde_json::from_str(raw.get()).ok()?;
    let input = counts.input_tokens_details.unwrap_or_default();
    Some(Usage {
        input_tokens: counts.input_tokens,
        output_tokens: counts.output_tokens,
        cache_read_tokens: input.cached_tokens,
        cache_write_tokens: input.cache_write_tokens,
        reasoning_tokens: counts.output_tokens_details.unwrap_or_default().reasoning_tokens,
        audio_tokens: None,
        raw: Some(raw),
    })
}

#[cfg(test)]
mod tests;
