//! The whole response: what is retrieved, what is waited for, and what the frames at its ends repeat. The same log, folded with
//! all that was said in it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Envelope, envelope::Echo, outline::Outline, output::Item, told};
use crate::{
    event::{End, Finish, Json, Reason, Status, Usage},
    id::Cursor,
    protocol::{Fault, Retell, sink::Sink},
    record::Record,
    wire::Rope,
};

/// A response, as far as its log was read.
#[derive(Clone, Debug)]
pub struct ResponseObject {
    envelope: Envelope,
    outline: Outline,
}

/// What of an answer is kept where it is told whole.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    envelope: Envelope,
    pub(super) echo: Echo,
    /// Whether the upstream keeps the response too, in its own word.
    stored: Option<bool>,
    /// Items that are done, each with its place in the output.
    done: Vec<(u32, Rope)>,
    usage: Option<Usage>,
    /// The upstream's word for why it stopped.
    stopped: Option<String>,
    end: Option<Ended>,
}

#[derive(Clone, Debug)]
struct Ended {
    end: End,
    /// When, in milliseconds since the beginning.
    ms: u32,
    cut: Option<String>,
}

impl ResponseObject {
    /// Of a stream of whose log nothing was read.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        Self { outline: Outline::new(envelope.stream, Some(Kept::new(envelope.clone()))), envelope }
    }

    /// Folds in one record.
    pub fn fold(&mut self, record: &Record<'_>) {
        self.outline.take(record, &mut Sink::Nowhere);
    }

    /// The response as it stands, as JSON.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let mut rope = Rope::default();
        self.outline.response(&mut rope);
        rope.to_vec()
    }

    /// The response, once its log was read to the end.
    ///
    /// # Errors
    /// Its end, if it is not whole.
    pub fn finish(self) -> Result<Vec<u8>, Box<End>> {
        match self.outline.kept().and_then(|kept| kept.end.as_ref()) {
            Some(ended) if ended.end.status == Status::Completed => Ok(self.json()),
            Some(ended) => Err(Box::new(ended.end.clone())),
            None => Err(Box::new(End { status: Status::Interrupted, reason: None, usage: None, error: None })),
        }
    }

    /// Whether the upstream keeps the response too, and can be asked to go on with what it has of it, by id. Nothing if it did not say.
    #[must_use]
    pub fn stored(&self) -> Option<bool> {
        self.outline.kept()?.stored
    }

    /// The items of the output, in order.
    #[must_use]
    pub fn output(&self) -> Vec<Json> {
        let Some(kept) = self.outline.kept() else { return Vec::new() };
        let items = kept.items(self.outline.open()).into_iter();
        items.filter_map(|item| serde_json::from_slice(&item.to_vec()).ok()).collect()
    }
}

impl Retell for ResponseObject {
    fn take(&mut self, cursor: Cursor, record: &Record<'_>) -> Option<Vec<Rope>> {
        if !self.outline.repeats(record) {
            self.fold(record);
            return None;
        }
        let mut sink = Sink::Shared(Vec::new());
        self.outline.take(record, &mut sink);
        Some(sink.end(&self.envelope.stream.to_string(), cursor))
    }

    fn anew(&self) -> Box<dyn Retell> {
        Box::new(Self::new(self.envelope.clone()))
    }
}

impl Kept {
    pub(super) fn new(envelope: Envelope) -> Self {
        let echo = Echo::new(&envelope);
        Self { envelope, echo, stored: None, done: Vec::new(), usage: None, stopped: None, end: None }
    }

    /// Takes in what an upstream of this protocol says of its own response.
    pub(super) fn told(&mut self, json: &Json) {
        #[derive(Deserialize)]
        struct Response {
            store: Option<bool>,
        }
        self.echo.told(json);
        let told = serde_json::from_str::<Response>(json.get()).ok();
        self.stored = told.and_then(|response| response.store).or(self.stored);
    }

    pub(super) fn done(&mut self, index: u32, item: Rope) {
        self.done.push((index, item));
    }

    pub(super) fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    pub(super) fn stopped(&mut self, finish: Finish) {
        self.stopped = finish.raw;
    }

    /// Why an answer that ended well is not all that the model wanted to say. `kin`: the upstream has the words for it.
    pub(super) fn cut(&self, end: &End, kin: bool) -> Option<String> {
        let ours = match end.reason {
            _ if end.status != Status::Completed => return None,
            Some(Reason::Length) => Some("max_output_tokens"),
            Some(Reason::ContentFilter) => Some("content_filter"),
            _ => None,
        };
        let theirs = self.stopped.as_deref().filter(|raw| kin && *raw != "completed");
        theirs.or(ours).map(str::to_owned)
    }

    pub(super) fn end(&mut self, end: &End, ms: u32, cut: Option<String>) {
        self.usage = self.usage.take().or_else(|| end.usage.clone());
        self.end = Some(Ended { end: end.clone(), ms, cut });
    }

    /// The items that are done and those that are open, in their places.
    fn items(&self, open: &[Item]) -> Vec<Rope> {
        let open = open.iter().map(|item| {
            let mut rope = Rope::default();
            item.write("in_progress", &mut rope);
            (item.index, rope)
        });
        let mut items: Vec<_> = self.done.iter().cloned().chain(open).collect();
        items.sort_by_key(|(index, _)| *index);
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// Writes the response. `status` is that of one that has not ended.
    pub(super) fn write(&self, status: &str, open: &[Item], rope: &mut Rope) {
        let ended = self.ended();
        let status = ended.as_ref().map_or(status, |ended| ended.status);
        let told = |json: fn(&Told) -> &Value| ended.as_ref().map(json).unwrap_or(&Value::Null).to_string();
        rope.put(&format!(r#"{}"{status}","error":{}"#, self.envelope.open(), told(|ended| &ended.error)));
        rope.put(&format!(r#","incomplete_details":{}"#, told(|ended| &ended.incomplete)));
        rope.put(&format!(r#","model":{},"output":["#, self.envelope.model()));
        for (n, mut item) in self.items(open).into_iter().enumerate() {
            if n > 0 {
                rope.put(",");
            }
            rope.append(&mut item);
        }
        rope.put(&format!("],{}", self.echo.members()));
        let usage = self.usage.as_ref().filter(|_| ended.is_some()).map(told::usage);
        rope.put(&format!(r#","usage":{}"#, usage.as_ref().map_or("null", Json::get)));
        let completed_at = ended.as_ref().filter(|ended| ended.status == "completed");
        let completed_at = completed_at.map(|ended| self.envelope.at(ended.ms).to_string());
        rope.put(&format!(r#","completed_at":{}}}"#, completed_at.as_deref().unwrap_or("null")));
    }

    fn ended(&self) -> Option<Told> {
        let Ended { end, ms, cut } = self.end.as_ref()?;
        let (mut error, mut incomplete) = (Value::Null, Value::Null);
        let status = match (end.status, cut) {
            (Status::Completed, None) => "completed",
            (Status::Completed, Some(reason)) => {
                incomplete = json!({ "reason": reason });
                "incomplete"
            }
            (Status::Cancelled, _) => "cancelled",
            (Status::Failed | Status::Interrupted, _) => {
                let Fault { code, message, .. } = Fault::of(end).unwrap_or(Fault::TORN);
                error = json!({ "code": code, "message": message });
                "failed"
            }
        };
        Some(Told { status, error, incomplete, ms: *ms })
    }
}

/// How a response ended, in this protocol's words.
struct Told {
    status: &'static str,
    error: Value,
    incomplete: Value,
    ms: u32,
}
