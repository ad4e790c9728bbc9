//! What the user's own code appends to an answer: one event a line, in the shape in which readers of the native API get them.
//!
//! `{"text":"The"}` is a piece of text; all else has a name: `{"event":"reasoning","data":{"text":"…"}}`, `tool_call`, `file`, `usage`,
//! `source`, and `end`. An event of any other name goes to the readers as it is. An empty line says that the producer lives.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    event::{
        Annotation, At, Custom, Delta, Event, Finish, Json, Media, PartStart, PartStop, PartType, Reason, Status, Tool,
        Usage,
    },
    protocol::BadRequest,
};

/// What one line is.
#[derive(Debug, PartialEq)]
pub enum Pushed {
    /// A sign of life.
    Nothing,
    /// Something of the answer.
    Events(Vec<Event<'static>>),
    /// Its end: how, and what went wrong.
    End(Vec<Event<'static>>, Status, Option<Wrong>),
}

/// What went wrong, as the producer says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrong {
    /// For people.
    #[serde(default)]
    pub message: String,
    /// For programs.
    pub code: Option<String>,
}

/// Reads lines; knows which parts have begun.
#[derive(Debug, Default)]
pub struct PushDecode {
    parts: u16,
    /// The part that more words of its kind go on with.
    open: Option<At>,
    calls: Vec<(u64, At)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// `{"text":"…"}`, the short form.
    text: Option<String>,
    /// As lines that were read have it; it says nothing here.
    #[serde(rename = "id")]
    _id: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    #[serde(default)]
    index: u64,
    id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    url: String,
    title: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    status: Status,
    reason: Option<Reason>,
    usage: Option<Usage>,
    error: Option<Wrong>,
}

impl PushDecode {
    /// Takes one line.
    ///
    /// # Errors
    /// When it is not an event. The state is then as it was.
    pub fn line(&mut self, line: &[u8]) -> Result<Pushed, BadRequest> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(Pushed::Nothing);
        }
        let remedy = r#"write one JSON object a line: {"text":"…"}, or {"event":"NAME","data":{…}}"#;
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| BadRequest {
            field: None,
            detail: explain(&error),
            remedy: remedy.to_owned(),
        })?;
        let name = line.event.as_deref().unwrap_or("message");
        if let Some(text) = line.text {
            if line.event.is_some() || line.data.is_some() {
                return Err(BadRequest::of("text", "`text` stands beside `event` or `data`", "put it into `data`"));
            }
            return Ok(Pushed::Events(self.words(PartType::Text, text)));
        }
        let Some(data) = line.data else {
            return Err(BadRequest::of("data", format!("the event `{name}` has no `data`"), remedy));
        };
        Ok(Pushed::Events(match name {
            "message" => self.words(PartType::Text, read::<Text>(data)?.text),
            "reasoning" => self.words(PartType::Reasoning, read::<Text>(data)?.text),
            "tool_call" => self.call(read(data)?),
            "file" => {
                let media: Media = read(data)?;
                let at = At { choice: 0, part: self.part(), of: PartType::Media };
                self.events_of(None, vec![Event::Media(at, media)])
            }
            "source" => {
                let Source { url, title } = read(data)?;
                let at = self.open.unwrap_or_default();
                vec![Event::Annotation(at, Annotation { url: Some(url), title, ..Annotation::default() })]
            }
            "usage" => vec![Event::Usage(read(data)?)],
            "end" => {
                let ended: Ended = read(data)?;
                return self.end(ended);
            }
            "start" | "snapshot" | "reset" | "denied" | "heartbeat" | "error" | "notice" => {
                let detail = format!("an event named `{name}` is lastword's own, or the client's");
                return Err(BadRequest::of("event", detail, "give it another name"));
            }
            name if name.is_empty() || name.contains(['\r', '\n', '\0']) => {
                return Err(BadRequest::of("event", "the name is empty, or has a line break in it", remedy));
            }
            name => {
                let data = Json::new(data.to_owned());
                let data = match serde_json::from_str::<String>(data.get()) {
                    Ok(text) if !text.is_empty() => text,
                    _ => data.get().to_owned(),
                };
                vec![Event::Custom(Custom { name: name.to_owned(), data, ..Custom::default() })]
            }
        }))
    }

    fn part(&mut self) -> u16 {
        let part = self.parts;
        self.parts = self.parts.saturating_add(1);
        part
    }

    /// Closes what is open unless it goes on.
    fn events_of(&mut self, next: Option<At>, mut events: Vec<Event<'static>>) -> Vec<Event<'static>> {
        if self.open != next
            && let Some(before) = std::mem::replace(&mut self.open, next)
        {
            events.insert(0, Event::PartStop(before, PartStop::default()));
        }
        events
    }

    fn words(&mut self, of: PartType, text: String) -> Vec<Event<'static>> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut events = Vec::new();
        let at = match self.open.filter(|open| open.of == of) {
            Some(at) => at,
            None => {
                let at = At { choice: 0, part: self.part(), of };
                events.push(Event::PartStart(at, PartStart { r#type: of, ..PartStart::default() }));
                at
            }
        };
        events.push(Event::Delta(at, Delta { text: Cow::Owned(text), logprobs: None }));
        self.events_of(Some(at), events)
    }

    /// A call's part is open until the end: its pieces may come in turns with another's.
    fn call(&mut self, call: Call) -> Vec<Event<'static>> {
        let mut events = Vec::new();
        let known = self.calls.iter().find(|(index, _)| *index == call.index).map(|(_, at)| *at);
        let at = known.unwrap_or_else(|| {
            let at = At { choice: 0, part: self.part(), of: PartType::ToolCall };
            self.calls.push((call.index, at));
            let tool = Tool { call_id: call.id, name: call.name, kind: Some("function".to_owned()) };
            events.push(Event::PartStart(at, PartStart { r#type: at.of, tool: Some(tool), ..PartStart::default() }));
            at
        });
        let arguments = call.arguments.filter(|arguments| !arguments.is_empty());
        events.extend(arguments.map(|text| Event::Delta(at, Delta { text: Cow::Owned(text), logprobs: None })));
        self.events_of(None, events)
    }

    fn end(&mut self, ended: Ended) -> Result<Pushed, BadRequest> {
        let Ended { status, reason, usage, error } = ended;
        if error.is_some() && status != Status::Failed {
            return Err(BadRequest::of(
                "data.error",
                "there is an `error`, and the status is not `failed`",
                "leave out one",
            ));
        }
        let mut events = self.events_of(None, Vec::new());
        let calls = std::mem::take(&mut self.calls);
        let reason = reason.or((!calls.is_empty()).then_some(Reason::ToolCalls)).or(Some(Reason::Stop));
        events.extend(calls.into_iter().map(|(_, at)| Event::PartStop(at, PartStop::default())));
        events.extend(usage.map(Event::Usage));
        if status == Status::Completed {
            events.push(Event::Finish(0, Finish { reason, ..Finish::default() }));
        }
        Ok(Pushed::End(events, status, error))
    }
}

fn read<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, BadRequest> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(data.get())).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "data".to_owned() } else { format!("data.{path}") };
        BadRequest::of(&field, explain(error.inner()), "see the documentation of pushed events")
    })
}

fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or(&message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::native::Answer;

    fn told(lines: &[&str]) -> (Vec<Event<'static>>, Option<Status>) {
        let (mut decode, mut events, mut end) = (PushDecode::default(), Vec::new(), None);
        for line in lines {
            match decode.line(line.as_bytes()).expect(line) {
                Pushed::Nothing => {}
                Pushed::Events(more) => events.extend(more),
                Pushed::End(more, status, _) => {
                    events.extend(more);
                    end = Some(status);
                }
            }
        }
        (events, end)
    }

    #[test]
    fn lines_of_all_sorts_come_to_an_answer() {
        let (events, end) = told(&[
            r#"{"event":"reasoning","data":{"text":"hm"}}"#,
            r#"{"text":"The"}"#,
            "",
            r#"{"id":7,"event":"message","data":{"text":" river"}}"#,
            r#"{"event":"source","data":{"url":"https://h"}}"#,
            r#"{"event":"tool_call","data":{"index":0,"id":"c1","name":"look"}}"#,
            r#"{"event":"tool_call","data":{"index":0,"arguments":"{}"}}"#,
            r#"{"event":"place","data":{"x":1.50}}"#,
            r#"{"event":"end","data":{"status":"completed","usage":{"output_tokens":2}}}"#,
        ]);
        assert_eq!(end, Some(Status::Completed));
        let mut answer = Answer::default();
        events.iter().for_each(|event| answer.hear(event));
        let json = serde_json::to_string(&answer).expect("plain data");
        assert_eq!(
            json,
            r#"{"text":"The river","reasoning":"hm","tool_calls":[{"index":2,"id":"c1","name":"look","arguments":"{}"}]}"#
        );
        let starts = events.iter().filter(|event| matches!(event, Event::PartStart(..))).count();
        let stops = events.iter().filter(|event| matches!(event, Event::PartStop(..))).count();
        assert_eq!((starts, stops), (3, 3));
        assert!(events.iter().any(|event| matches!(event, Event::Custom(custom) if custom.data == r#"{"x":1.50}"#)));
        assert!(events.contains(&Event::Finish(0, Finish { reason: Some(Reason::ToolCalls), ..Finish::default() })));
    }

    #[test]
    fn what_is_no_event_names_the_field_and_changes_nothing() {
        for (line, field) in [
            ("hello", None),
            ("[]", None),
            (r#"{"txt":"x"}"#, None),
            (r#"{"event":"message"}"#, Some("data")),
            (r#"{"text":"x","event":"message"}"#, Some("text")),
            (r#"{"event":"message","data":{"text":7}}"#, Some("data.text")),
            (r#"{"event":"start","data":{}}"#, Some("event")),
            (r#"{"event":"a\nb","data":{}}"#, Some("event")),
            (r#"{"event":"end","data":{"status":"great"}}"#, Some("data.status")),
            (r#"{"event":"end","data":{"status":"completed","error":{"message":"x"}}}"#, Some("data.error")),
        ] {
            let error = PushDecode::default().line(line.as_bytes()).expect_err(line);
            assert_eq!(error.field.as_deref(), field, "{line}: {error}");
            assert!(!error.remedy.is_empty() && !error.detail.contains(" at line "), "{line}: {error}");
        }
    }
}
