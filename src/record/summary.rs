//! What is known of a stream without reading its log: folded while the answer is recorded, stored with its last record.
//!
//! The same fold, run over a stored log, gives the state of a stream that is still running. It holds counts and reasons,
//! never the answer's text, so it stays small whatever the answer's length.

use serde::{Deserialize, Serialize};

use super::{Head, Kind, Record};
use crate::{
    event::{Attempt, End, Event, Failure, Finish, Reason, Status, Usage},
    id::Cursor,
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The last record that was folded in.
    pub cursor: Cursor,
    /// How the stream ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Tokens counted so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The upstreams that took the prompt, in order.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// When the model first said something, in milliseconds since the stream began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u32>,
    /// When the last record was made, likewise; of an ended stream, how long it took.
    pub total_ms: u32,
}

impl Summary {
    /// Folds in an event that is being recorded under this header.
    pub fn take(&mut self, cursor: Cursor, head: &Head, event: &Event<'_>) {
        self.mark(cursor, head);
        match event {
            Event::Attempt(attempt) => self.attempts.push(attempt.clone()),
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            // Of several choices the first one's reason stands for the stream.
            Event::Finish(0, Finish { reason, .. }) => self.reason = *reason,
            Event::End(End { status, reason, error, .. }) => {
                self.status = Some(*status);
                self.reason = *reason;
                self.error.clone_from(error);
            }
            _ => {}
        }
    }

    /// Folds in a stored record; only the few kinds that matter are parsed.
    pub fn take_record(&mut self, cursor: Cursor, record: &Record<'_>) {
        match record.head.kind {
            Kind::Attempt | Kind::Usage | Kind::Finish | Kind::End => {
                if let Ok(event) = record.event() {
                    self.take(cursor, &record.head, &event);
                }
            }
            _ => self.mark(cursor, &record.head),
        }
    }

    fn mark(&mut self, cursor: Cursor, head: &Head) {
        self.cursor = cursor;
        self.total_ms = head.ms;
        if head.is_content() {
            self.first_token_ms.get_or_insert(head.ms);
        }
    }
}
