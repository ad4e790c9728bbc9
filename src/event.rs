//! What happens in an answer, whatever protocol it came in.
//!
//! This is the middle language: every upstream protocol decodes into it and every client protocol is written from it.
//! It keeps what a client of the same protocol would have got, in full; what we do not understand travels as [`Opaque`].
//! Counts are integers, and an absent one is unknown, not zero.

mod chunking;
mod json;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use chunking::{Chunking, NotAChunking};
pub use json::Json;

/// One thing that happened. Only a [`Delta`] borrows, since it is the one of which there are thousands.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The stream began: what was asked of whom.
    Begin(Begin),
    /// An upstream took the prompt (its response head is here).
    Attempt(Attempt),
    /// A part of the answer begins.
    PartStart(At, PartStart),
    /// A piece of text or of a tool call's arguments.
    Delta(At, Delta<'a>),
    /// A piece of an image, of sound, of a file.
    Media(At, Media),
    /// A citation.
    Annotation(At, Annotation),
    /// What must go back to the upstream on the next turn.
    State(At, PartState),
    /// A part is whole.
    PartStop(At, PartStop),
    /// Tokens counted so far.
    Usage(Usage),
    /// The model stopped, per choice.
    Finish(u8, Finish),
    /// What a front end may show: a retry, a continuation.
    Notice(Notice),
    /// Unknown to us; given back only to readers of the same protocol.
    Opaque(Opaque),
    /// An event of a relayed or pushed stream.
    Custom(Custom),
    /// The one terminal event of a stream. Only the supervisor of a generation writes it.
    End(End),
    /// The upstream is alive and has said nothing yet (a comment, a ping). Never recorded: it only stretches a clock.
    Alive,
}

/// Which choice and which part of the answer an event belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct At {
    /// The alternative answer (`n` > 1), from 0.
    pub choice: u8,
    /// The part, from 0, in the order in which parts began in this choice.
    pub part: u16,
    /// What the part is; repeated on each of its events so that nobody must look back.
    pub of: PartType,
}

/// What a part of an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartType {
    /// Words for the reader.
    #[default]
    Text = 0,
    /// The model's thinking.
    Reasoning = 1,
    /// A summary of its thinking.
    ReasoningSummary = 2,
    /// Thinking that the upstream keeps to itself.
    Redacted = 3,
    /// The model says it will not.
    Refusal = 4,
    /// A call of a tool of the client's.
    ToolCall = 5,
    /// What a tool of the upstream's own gave back.
    ToolResult = 6,
    /// An image, sound, a file.
    Media = 7,
    /// Something of the upstream's protocol that we do not know.
    Opaque = 8,
}

/// What was asked of whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// The model's name as the client asked for it (or the default's).
    pub model: String,
    /// The backend's name in the configuration.
    pub backend: String,
    /// The protocol the client spoke.
    pub protocol: Cow<'static, str>,
    /// The client's own labels, given back in the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// In what pieces readers of the native API are told the words, where they do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunking: Option<Chunking>,
    /// Of a relayed answer: what its readers are told in the head of the response, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub head: Vec<(String, String)>,
}

/// One upstream that took the prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attempt {
    /// Which try, from 1.
    pub n: u32,
    /// The backend's name in the configuration.
    pub backend: String,
    /// The protocol spoken with it.
    pub protocol: Cow<'static, str>,
    /// The model's name as the upstream was asked for it.
    pub model: String,
    /// Fresh, going on with half an answer, or taking up a running one.
    pub mode: Mode,
    /// The upstream's id of the answer, where its head told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<String>,
    /// The upstream's request id (`x-request-id`), for its operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What the upstream repeats on every chunk (`system_fingerprint`, `service_tier`), once.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Json>,
}

/// How an attempt relates to what was said before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// From the beginning.
    #[default]
    Fresh,
    /// Another upstream continues the text so far.
    Continue,
    /// The same upstream answer is taken up again.
    Reattach,
}

/// A part begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartStart {
    /// What it is; the same as the record's header says.
    pub r#type: PartType,
    /// The upstream's id of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Of media.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Of a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
    /// What else the upstream said of it, for readers of the same protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Json>,
}

/// Which tool is called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// The id that the tool's result must name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The tool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The upstream's kind of tool (`function`, `custom`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// A piece of text or of arguments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta<'a> {
    /// The piece.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// The upstream's log probabilities of this piece, as it sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Json>,
}

/// A piece of media: one of the three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// Its MIME type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Where it can be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The upstream's id of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// A piece of its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// A citation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Of what is cited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of what is cited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where in the part's text it stands: first character and the one after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<(u64, u64)>,
    /// As the upstream sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Json>,
}

/// A signature, an encrypted thought: sent back to the same origin, and to no other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartState {
    /// Whose it is (a protocol's name).
    pub origin: Cow<'static, str>,
    /// What it is there (`signature`, `encrypted_content`, …).
    pub kind: String,
    /// The value.
    pub value: Json,
}

/// A part is whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartStop {
    /// The upstream's word for how the part ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Tokens counted so far: cumulative, the last one stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, reasoning included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Of the prompt, read from the upstream's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Of the prompt, written to the upstream's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Of the answer, spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Of the answer, spent on sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_tokens: Option<u64>,
    /// As the upstream sent it.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Json>,
}

/// The model stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    /// Why, in our words; absent when the upstream's word has no counterpart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why, in the upstream's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// The stop sequence that was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_sequence: Option<String>,
    /// What the upstream says of its safety filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety: Option<Json>,
}

/// What a front end may show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// `retry`, `continued`, …
    pub kind: Cow<'static, str>,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Something of the upstream's protocol that we do not know. One whose name begins with [`Opaque::BESIDE`] belongs to the record that
/// follows it, and matters to nobody behind that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opaque {
    /// Whose it is.
    pub protocol: Cow<'static, str>,
    /// Its name there.
    pub name: String,
    /// As the upstream sent it.
    pub json: Json,
}

impl Opaque {
    /// See the type.
    pub const BESIDE: &str = ":next ";
}

/// An event of the user's own stream, unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Custom {
    /// The event's name; empty is the default event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its data.
    pub data: String,
    /// Its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// All that stood on the wire up to its end, but for ids: where that is not what would be written of the above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Raw>,
}

impl Custom {
    /// Whether it is one message to a client of whatever protocol it is in, and nothing else: no mark of an end, no mere comment.
    #[must_use]
    pub fn is_one_message(&self) -> bool {
        !self.data.is_empty() && self.data != "[DONE]"
    }
}

/// Bytes as they stood on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// They are UTF-8.
    Text(String),
    /// They are not.
    Base64(String),
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// How it ended.
    pub status: Status,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The last usage that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The model said all it wanted to, or as much as it was allowed.
    Completed,
    /// Something broke: `error` says what.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// lastword itself went away: a deploy, a crash.
    Interrupted,
}

impl Status {
    /// Its one spelling, on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The model was done.
    Stop,
    /// The token limit.
    Length,
    /// The model waits for tools.
    ToolCalls,
    /// A filter of the upstream's.
    ContentFilter,
    /// A bound of lastword's: bytes or records of a stream.
    Budget,
    /// A clock of lastword's: the total one.
    Deadline,
}

impl Reason {
    /// Its one spelling, on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
        }
    }
}

/// What went wrong, for programs (`code`) and for people (`message`). Never holds a credential.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    /// Stable, ours: `upstream_refused`, `upstream_truncated`, …
    pub code: Cow<'static, str>,
    /// The upstream's own code or type, as it sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// What failed, and what can be done.
    pub message: String,
    /// The upstream's HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// The upstream's name for the request that it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether the same prompt may well succeed later.
    pub retryable: bool,
    /// After how many milliseconds, where the upstream said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}
