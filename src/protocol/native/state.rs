//! The state of a stream as JSON: what is known of it, and what the model said so far.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    event::{Attempt, Begin, Event, Failure, Json, PartType, Reason, Status, Usage},
    id::{Cursor, StreamId},
    protocol::understood::Understood,
    record::{Kind, Record, summary::Summary},
};

/// `GET /v1/streams/{id}`; in a list without what was said. Times are RFC 3339, durations milliseconds; absent is unknown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Stream)]
pub struct State {
    /// The stream.
    #[schema(value_type = String)]
    pub id: StreamId,
    /// `running`, or how it ended.
    pub status: &'static str,
    /// The model's name as it was asked for.
    pub model: String,
    /// The backend's name in the configuration.
    pub backend: String,
    /// When it was created.
    pub created_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The last record's cursor.
    #[schema(value_type = u64)]
    pub cursor: Cursor,
    /// Where its events are.
    pub events_url: String,
    /// What was said.
    #[serde(flatten)]
    pub answer: Option<Answer>,
    /// Tokens counted so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The upstreams that took the prompt.
    pub attempts: Vec<Attempt>,
    /// The client's labels.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// How long it took.
    pub timings: Timings,
}

/// Milliseconds since the stream began.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Timings {
    /// Until the model first said something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u32>,
    /// Until the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u32>,
}

impl State {
    /// The state of a stream of which this is known.
    #[must_use]
    pub fn new(id: StreamId, created_at: u64, begin: Begin, known: Summary, answer: Option<Answer>) -> Self {
        let ended = known.status.is_some();
        Self {
            id,
            status: known.status.map_or("running", Status::as_str),
            model: begin.model,
            backend: begin.backend,
            created_at: rfc3339(created_at),
            ended_at: ended.then(|| rfc3339(created_at + u64::from(known.total_ms))),
            cursor: known.cursor,
            events_url: events_url(id),
            answer,
            usage: known.usage.map(|usage| Usage { raw: None, ..usage }),
            error: known.error,
            reason: known.reason.filter(|_| ended),
            attempts: known.attempts,
            metadata: begin.metadata,
            timings: Timings { first_token_ms: known.first_token_ms, total_ms: ended.then_some(known.total_ms) },
        }
    }
}

/// What the model said: the first choice's parts, folded from the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Answer {
    /// The words.
    pub text: String,
    /// The thinking.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// The calls, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Call>,
}

/// One call of a tool.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Call {
    /// Which part of the answer it is: the `index` of its events.
    index: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

impl Answer {
    /// Folds in one record.
    pub fn take(&mut self, record: &Record<'_>) {
        if record.head.at.choice == 0
            && matches!(record.head.kind, Kind::Delta | Kind::PartStart)
            && let Ok(event) = record.event()
        {
            self.hear(&event);
        }
    }

    /// Folds in one event of the first choice.
    pub fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Delta(at, delta) if at.choice == 0 => match at.of {
                PartType::Text | PartType::Refusal => self.text.push_str(&delta.text),
                PartType::Reasoning | PartType::ReasoningSummary => self.reasoning.push_str(&delta.text),
                PartType::ToolCall => {
                    if let Some(call) = self.tool_calls.iter_mut().find(|call| call.index == at.part) {
                        call.arguments.push_str(&delta.text);
                    }
                }
                _ => {}
            },
            Event::PartStart(at, start) if at.of == PartType::ToolCall && at.choice == 0 => {
                let tool = start.tool.clone().unwrap_or_default();
                let call = Call { index: at.part, id: tool.call_id, name: tool.name, arguments: String::new() };
                self.tool_calls.push(call);
            }
            _ => {}
        }
    }
}

/// The state of a stream, folded from its log.
#[derive(Default)]
pub struct Fold {
    known: Summary,
    answer: Answer,
    understood: Understood,
}

impl Fold {
    /// Folds in the next record.
    pub fn take(&mut self, cursor: Cursor, record: &Record<'_>) {
        let Self { answer, understood, .. } = self;
        answer.take(record);
        understood.take(record, |event| answer.hear(event));
        self.known.take_record(cursor, record);
    }

    /// The state, with what was said.
    #[must_use]
    pub fn state(self, id: StreamId, created_at: u64, begin: Begin) -> State {
        State::new(id, created_at, begin, self.known, Some(self.answer))
    }
}

/// The path of a stream's events.
#[must_use]
pub fn events_url(id: StreamId) -> String {
    format!("/v1/streams/{id}/events")
}

/// Unix milliseconds as RFC 3339 in UTC.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    // humantime writes years up to 9999 and panics behind them.
    let at = Duration::from_millis(unix_ms.min(253_402_300_799_999));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + at).to_string()
}
