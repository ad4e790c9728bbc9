//! Where an answer stands, in this protocol: how many frames were told, which items are open, what was said in them if that is
//! kept. One fold for those who follow, those who come later, and what is told in the end; they differ in where the frames go.

use serde::Deserialize;
use serde_json::Value;

use super::{
    NAME,
    object::Kept,
    output::{Item, KeptItem, KeptPart, Kind, Part},
    told,
};
use crate::{
    event::{Annotation, At, End, Event, Opaque, PartStart, PartState, PartType, Status},
    id::StreamId,
    protocol::{body::Members, piece::Piece, sink::Sink},
    record::{self, Record},
    wire::{Rope, sse::put_number},
};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    stream: StreamId,
    /// The number of the next frame.
    pub(super) sequence: u64,
    created: bool,
    started: bool,
    background: bool,
    /// The upstream speaks this protocol: its ids are told, and its word for where an item ends counts.
    kin: bool,
    /// The open ones.
    items: Vec<Item>,
    /// How many there were in all.
    count: u32,
    kept: Option<Box<Kept>>,
}

impl Outline {
    /// Of a log of which nothing is known. What is said is kept where there is something to keep it.
    pub(super) fn new(stream: StreamId, kept: Option<Kept>) -> Self {
        Self {
            stream,
            sequence: 0,
            created: false,
            started: false,
            background: false,
            kin: false,
            items: Vec::new(),
            count: 0,
            kept: kept.map(Box::new),
        }
    }

    pub(super) fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }

    /// The items that are open.
    pub(super) fn open(&self) -> &[Item] {
        &self.items
    }

    /// Whether the frames of this record repeat what was said (or asked).
    pub(super) fn repeats(&self, record: &Record<'_>) -> bool {
        let repeats = !self.started || matches!(record.head.kind, record::Kind::PartStop | record::Kind::End);
        repeats && record.head.kind != record::Kind::Begin && record.head.at.choice == 0
    }

    /// Folds in one record.
    pub(super) fn take(&mut self, record: &Record<'_>, sink: &mut Sink<'_>) {
        if record.head.at.choice > 0 || record.head.kind == record::Kind::Begin {
            return; // this protocol has one choice
        }
        match record.head.kind {
            record::Kind::Delta if self.started => self.delta(record, sink),
            _ => self.rare(record, sink),
        }
    }

    fn rare(&mut self, record: &Record<'_>, sink: &mut Sink<'_>) {
        let event = record.event();
        if let Ok(Event::Opaque(Opaque { protocol, name, json })) = &event
            && protocol == NAME
        {
            match name.as_str() {
                "request" => {
                    self.background = is_background(json.get());
                    self.kept.iter_mut().for_each(|kept| kept.echo.asked(json));
                }
                "response" => self.kept.iter_mut().for_each(|kept| kept.told(json)),
                _ => {}
            }
        }
        if !std::mem::replace(&mut self.created, true) {
            self.lifecycle("response.created", sink);
            if self.background {
                self.lifecycle("response.queued", sink);
            }
        }
        let starts = match &event {
            Ok(Event::Attempt(_) | Event::Notice(_) | Event::Custom(_) | Event::Media(..)) => false,
            Ok(Event::Opaque(opaque)) => opaque.protocol == NAME && opaque.name != "request",
            _ => true,
        };
        if starts && !std::mem::replace(&mut self.started, true) {
            self.lifecycle("response.in_progress", sink);
        }
        match event {
            Ok(Event::Attempt(attempt)) => self.kin = attempt.protocol == NAME,
            Ok(Event::PartStart(at, start)) => _ = self.begin(at, start, sink),
            Ok(Event::Delta(..)) => self.delta(record, sink),
            Ok(Event::Annotation(at, annotation)) => self.annotation(at, annotation, sink),
            Ok(Event::State(at, state)) => self.state(at, state),
            Ok(Event::PartStop(at, stop)) => self.stop(at, stop.status, sink),
            Ok(Event::Usage(usage)) => self.kept.iter_mut().for_each(|kept| kept.usage(usage.clone())),
            Ok(Event::Finish(_, finish)) => self.kept.iter_mut().for_each(|kept| kept.stopped(finish.clone())),
            Ok(Event::Opaque(opaque)) if is_passed(&opaque) => self.pass(opaque, sink),
            Ok(Event::End(end)) => self.end(Some(end), record.head.ms, sink),
            Err(_) if record.head.is_end() => self.end(None, record.head.ms, sink),
            _ => {}
        }
    }

    /// A part begins, in a new item or in the one that its upstream names.
    fn begin(&mut self, at: At, start: PartStart, sink: &mut Sink<'_>) -> Option<()> {
        let kind = Kind::of(at.of, start.tool.as_ref(), self.kin)?;
        let theirs = start.id.as_ref().filter(|_| self.kin);
        // A call is one part, so two of one id are two, which a server that gives all of them the same has.
        let joined = theirs.filter(|_| matches!(kind, Kind::Message | Kind::Reasoning));
        let known = joined.and_then(|id| self.items.iter().position(|item| item.id == *id && item.kind == kind));
        let n = known.unwrap_or_else(|| {
            let index = self.count;
            self.count += 1;
            let id = theirs.cloned().unwrap_or_else(|| format!("{}_{}_{index}", kind.prefix(), self.stream));
            let kin = self.kin;
            let kept = self.kept.is_some().then(|| Box::new(KeptItem::new(&start, kin)));
            let item = Item { index, id, kind, contents: 0, summaries: 0, parts: Vec::new(), kept };
            self.frame("response.output_item.added", sink, |_, rope| {
                rope.put(&format!(r#","output_index":{index},"item":"#));
                item.write_new(&start, kin, rope);
            });
            self.items.push(item);
            self.items.len() - 1
        });
        self.part(n, at, sink);
        Some(())
    }

    fn part(&mut self, n: usize, at: At, sink: &mut Sink<'_>) {
        let kept = self.kept.is_some().then(Box::default);
        let item = &mut self.items[n];
        let mut place = format!(r#","item_id":{},"output_index":{}"#, Value::from(&*item.id), item.index);
        let (name, list, added) = match at.of {
            PartType::Text | PartType::Refusal | PartType::Reasoning => {
                ("content_index", &mut item.contents, Some("response.content_part.added"))
            }
            PartType::ReasoningSummary => {
                ("summary_index", &mut item.summaries, Some("response.reasoning_summary_part.added"))
            }
            _ => ("", &mut 0, None),
        };
        let index = *list;
        if added.is_some() {
            *list += 1;
            place += &format!(r#","{name}":{index}"#);
        }
        if let Some(name) = added {
            self.frame(name, sink, |_, rope| {
                rope.put(&place);
                rope.put(r#","part":"#);
                Part::write(at.of, &mut KeptPart::default(), rope);
            });
        }
        self.items[n].parts.push(Part { number: at.part, of: at.of, index, place, annotations: 0, kept });
    }

    /// Whether this part is open.
    pub(super) fn knows(&self, at: At) -> bool {
        self.find(at).is_some()
    }

    /// The item and the part in which this happens.
    fn find(&self, at: At) -> Option<(usize, usize)> {
        let mut items = self.items.iter().enumerate();
        items.find_map(|(n, item)| Some((n, item.parts.iter().position(|part| part.number == at.part)?)))
    }

    fn delta(&mut self, record: &Record<'_>, sink: &mut Sink<'_>) {
        let at = record.head.at;
        let Some(piece) = Piece::of(record) else { return };
        let (text, logprobs) = (piece.inside(), piece.logprobs);
        if self.find(at).is_none() {
            self.begin(at, PartStart { r#type: at.of, ..PartStart::default() }, sink); // nothing that was said is lost
        }
        let Some((n, m)) = self.find(at) else { return };
        let item = &mut self.items[n];
        let part = &mut item.parts[m];
        if part.of == PartType::Redacted {
            return;
        }
        let logprobs = logprobs.and_then(told::logprobs);
        if let Some(kept) = &mut part.kept {
            kept.text.put(text);
            if let Some(logprobs) = &logprobs {
                KeptPart::list(&mut kept.logprobs, logprobs);
            }
        }
        let number = self.sequence;
        self.sequence += 1;
        let [name, ..] = part.names(item.kind);
        sink.piece(number, Some(name), |out| {
            out.extend_from_slice(br#"{"type":""#);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(br#"","sequence_number":"#);
            put_number(out, number);
            out.extend_from_slice(part.place.as_bytes());
            out.extend_from_slice(br#","delta":""#);
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\"");
            if part.of == PartType::Text {
                out.extend_from_slice(br#","logprobs":["#);
                out.extend_from_slice(logprobs.as_deref().unwrap_or_default().as_bytes());
                out.extend_from_slice(b"]");
            }
            out.extend_from_slice(b"}");
        });
    }

    fn annotation(&mut self, at: At, annotation: Annotation, sink: &mut Sink<'_>) {
        let (Some((n, m)), Some(json)) = (self.find(at), told::citation(annotation, self.kin)) else { return };
        let part = &mut self.items[n].parts[m];
        if part.of != PartType::Text {
            return;
        }
        if let Some(kept) = &mut part.kept {
            KeptPart::list(&mut kept.annotations, json.get());
        }
        let place = format!(r#"{},"annotation_index":{}"#, part.place, part.annotations);
        part.annotations += 1;
        self.frame("response.output_text.annotation.added", sink, |_, rope| {
            rope.put(&place);
            rope.put(r#","annotation":"#);
            rope.put(json.get());
        });
    }

    fn state(&mut self, at: At, state: PartState) {
        let Some((n, _)) = self.find(at) else { return };
        if let Some(kept) = &mut self.items[n].kept
            && state.origin == NAME
            && state.kind == "encrypted_content"
        {
            kept.encrypted = Some(state.value);
        }
    }

    /// A part is whole, and its item too, unless its upstream says when that is.
    fn stop(&mut self, at: At, status: Option<String>, sink: &mut Sink<'_>) {
        let Some((n, m)) = self.find(at) else { return };
        self.close_part(n, m, sink);
        if status.is_some() || !self.kin {
            self.close_item(n, status.as_deref().unwrap_or("completed"), sink);
        }
    }

    fn close_part(&mut self, n: usize, m: usize, sink: &mut Sink<'_>) {
        let item = &mut self.items[n];
        let kind = item.kind;
        let mut part = item.parts.remove(m);
        if part.of == PartType::Redacted {
            return;
        }
        let mut said = part.kept.take().unwrap_or_default();
        let [_, name, member] = part.names(kind);
        self.frame(name, sink, |_, rope| {
            rope.put(&part.place);
            rope.put(&format!(r#","{member}":""#));
            rope.append(&mut said.text);
            rope.put("\"");
            if part.of == PartType::Text {
                rope.put(r#","logprobs":["#);
                rope.append(&mut said.logprobs);
                rope.put("]");
            }
        });
        if part.of != PartType::ToolCall {
            let summary = part.is_summary();
            let name = if summary { "response.reasoning_summary_part.done" } else { "response.content_part.done" };
            self.frame(name, sink, |_, rope| {
                rope.put(&part.place);
                rope.put(r#","part":"#);
                Part::write(part.of, &mut said, rope);
            });
        }
        part.kept = self.kept.is_some().then_some(said);
        self.items[n].keep(part);
    }

    fn close_item(&mut self, n: usize, status: &str, sink: &mut Sink<'_>) {
        while !self.items[n].parts.is_empty() {
            self.close_part(n, 0, sink);
        }
        let item = self.items.remove(n);
        let mut json = Rope::default();
        if self.kept.is_some() {
            item.write(status, &mut json);
        }
        self.frame("response.output_item.done", sink, |_, rope| {
            rope.put(&format!(r#","output_index":{},"item":"#, item.index));
            rope.append(&mut json);
        });
        if let Some(kept) = &mut self.kept {
            kept.done(item.index, json);
        }
    }

    /// Hands through what only this protocol has. Its items have their places among the others.
    fn pass(&mut self, opaque: Opaque, sink: &mut Sink<'_>) {
        let Opaque { name, json, .. } = opaque;
        let Ok(mut data) = serde_json::from_str::<Members>(json.get()) else { return };
        let theirs = data.get("output_index").and_then(|index| index.get().parse().ok());
        let known = self.items.iter().rposition(|item| item.kind == Kind::Passed(theirs));
        let done = name == "response.output_item.done";
        let n = match known {
            Some(n) if name != "response.output_item.added" => Some(n),
            _ if done || name == "response.output_item.added" => {
                let (index, id, kind) = (self.count, String::new(), Kind::Passed(theirs));
                self.count += 1;
                let kept = self.kept.is_some().then(Box::default);
                self.items.push(Item { index, id, kind, contents: 0, summaries: 0, parts: Vec::new(), kept });
                Some(self.items.len() - 1)
            }
            _ => None,
        };
        if let Some(n) = n {
            let item = &mut self.items[n];
            data.set("output_index", &item.index);
            if let (Some(kept), Some(whole)) = (&mut item.kept, data.get("item")) {
                kept.whole = Some(whole.clone());
            }
            if done {
                let item = self.items.remove(n);
                self.finished(&item, "completed");
            }
        }
        // The clients take a member of this name for the end of everything.
        data.remove("error");
        data.set("type", &name);
        data.set("sequence_number", &self.sequence);
        let number = self.sequence;
        self.sequence += 1;
        let json = serde_json::to_string(&data).expect("plain data");
        sink.frame(number, Some(&name), |rope| rope.put(&json));
    }

    fn finished(&mut self, item: &Item, status: &str) {
        if let Some(kept) = &mut self.kept {
            let mut json = Rope::default();
            item.write(status, &mut json);
            kept.done(item.index, json);
        }
    }

    /// What is open is closed, if the model said all it wanted to; the rest stands as it is, and is not whole.
    fn end(&mut self, end: Option<End>, ms: u32, sink: &mut Sink<'_>) {
        // One that cannot be read is never a silent success.
        let end = end.unwrap_or(End { status: Status::Failed, reason: None, usage: None, error: None });
        let whole = end.status == Status::Completed;
        let cut = self.kept.as_ref().and_then(|kept| kept.cut(&end, self.kin));
        let status = if whole && cut.is_none() { "completed" } else { "incomplete" };
        while let Some(item) = self.items.first() {
            if whole && !matches!(item.kind, Kind::Passed(_)) {
                self.close_item(0, status, sink);
            } else {
                let item = self.items.remove(0);
                self.finished(&item, status);
            }
        }
        let name = match end.status {
            Status::Completed if cut.is_none() => "response.completed",
            Status::Completed | Status::Cancelled => "response.incomplete",
            Status::Failed | Status::Interrupted => "response.failed",
        };
        self.kept.iter_mut().for_each(|kept| kept.end(&end, ms, cut.clone()));
        self.lifecycle(name, sink);
    }

    /// A frame with the whole response.
    fn lifecycle(&mut self, name: &str, sink: &mut Sink<'_>) {
        self.frame(name, sink, |this, rope| {
            rope.put(r#","response":"#);
            this.response(rope);
        });
    }

    /// A frame whose members but the first two `fill` writes.
    fn frame(&mut self, name: &str, sink: &mut Sink<'_>, fill: impl FnOnce(&Self, &mut Rope)) {
        let number = self.sequence;
        self.sequence += 1;
        sink.frame(number, Some(name), |rope| {
            rope.put(&format!(r#"{{"type":"{name}","sequence_number":{number}"#));
            fill(self, rope);
            rope.put("}");
        });
    }

    /// Writes the response as it stands.
    pub(super) fn response(&self, rope: &mut Rope) {
        let waits = self.background && !self.started;
        self.kept.iter().for_each(|kept| kept.write(if waits { "queued" } else { "in_progress" }, &self.items, rope));
    }
}

/// Whether this is an event that goes through as it came. What is told of the request and the response is none.
pub(super) fn is_passed(opaque: &Opaque) -> bool {
    let ours = matches!(opaque.name.as_str(), "request" | "response");
    opaque.protocol == NAME && !ours && opaque.name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_background(request: &str) -> bool {
    #[derive(Deserialize)]
    struct Request {
        background: Option<bool>,
    }
    serde_json::from_str::<Request>(request).is_ok_and(|request| request.background == Some(true))
}
