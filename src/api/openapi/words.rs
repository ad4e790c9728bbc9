//! What several operations share: parameters, responses, and the requests of other protocols, of which lastword reads a part and hands
//! on the rest. These types only describe.
#![expect(dead_code, reason = "nobody makes one: they are shapes")]

use std::collections::HashMap;

use serde_json::Value;
use utoipa::{IntoParams, IntoResponses, ToSchema};

use crate::api::error::Details;

/// What stands above it all.
pub(in crate::api) const ABOUT: &str = "An AI token-streaming gateway: every answer is recorded while the model says it, and can be resumed in mid-word, \
    over any number of connections, in any of these protocols.\n\nText is the default event of an answer in events; others are named \
    (`start`, `reasoning`, `tool_call`, `notice`, `snapshot`, `reset`, `end`). Each has an id; a client that was cut off sends the last one as \
    `Last-Event-ID`. Behind `end` comes nothing, and who comes back with its id gets `204`.";

/// A stream's id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct Id {
    /// A stream, as the answer to a POST named it (also in `x-stream-id`).
    #[param(pattern = "^[0-9a-f]{32}$", example = "01a202f9e96a73189eefcb6605ecdbc2")]
    id: String,
}

/// A response's id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct ResponseId {
    /// A response: `resp_` and the id of its stream.
    #[param(pattern = "^resp_[0-9a-f]{32}$", example = "resp_01a202f9e96a73189eefcb6605ecdbc2")]
    id: String,
}

/// What a POST says of itself.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::api) struct Post {
    /// A repeated POST with the same key and the same body attaches to the answer that it started before; with another body it is 422.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
}

/// From where.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::api) struct Seen {
    /// The last event that was seen; what follows it is told. Beats `after`.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<String>,
}

/// From where, in the URL.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct After {
    /// The last event that was seen, where a header cannot be sent. Also `last_event_id`, `lastEventId`.
    #[param(example = "4")]
    after: Option<String>,
}

/// In which form.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Form {
    /// The form of the events; else `Accept` says it: server-sent events, lines of JSON, the words alone, a long poll; or the events of another protocol.
    #[param(inline)]
    format: Option<Format>,
    /// All that was said so far as one `snapshot` event. A cursor counts before it.
    snapshot: Option<bool>,
    /// The sign of life on a connection on which nothing happens.
    #[param(inline)]
    heartbeat: Option<Heartbeat>,
    /// In what pieces the words are told.
    #[param(inline)]
    chunking: Option<crate::event::Chunking>,
    /// At most so many events a second: what came meanwhile is told together.
    #[param(minimum = 0.1, maximum = 1000)]
    pace: Option<f32>,
    /// Of a long poll: how many seconds it may wait.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<f64>,
    /// Of `format=chat`: the count of tokens at the end.
    include_usage: Option<bool>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Format {
    Sse,
    Ndjson,
    Text,
    Json,
    Chat,
    Responses,
    Messages,
    #[schema(rename = "ai_sdk")]
    AiSdk,
    Relay,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Heartbeat {
    Comment,
    Event,
}

/// A page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Slice {
    /// How many.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// Those older than this stream: the last of the page before.
    #[param(example = "01a202f9e96a73189eefcb6605ecdbc2", pattern = "^[0-9a-f]{32}$")]
    before: Option<String>,
}

/// How a response is retrieved.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Retrieve {
    /// Its events in place of its state.
    stream: Option<bool>,
    /// Those behind the event with this `sequence_number`.
    #[param(minimum = 0)]
    starting_after: Option<u64>,
}

/// Where a producer's events belong.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Where {
    /// The place of this request's first event, counted from 0 over all of the stream's: those that are there already are left out.
    at: Option<u64>,
    /// A name of the producer's own: nobody who does not give it appends to the stream.
    producer: Option<String>,
}

/// A chat of the AI SDK's.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::api) struct Chat {
    /// The chat's id, as the page has it; or the id of an answer (`x-workflow-run-id`).
    chat: String,
}

/// How many chunks were seen.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct StartIndex {
    /// How many chunks the client has: those behind them are told. `-n` is the last n.
    #[param(rename = "startIndex", example = "0")]
    start_index: Option<i64>,
}

/// What `useChat` sends.
#[derive(ToSchema)]
pub(in crate::api) struct UiMessages {
    /// The chat.
    id: Option<String>,
    /// As the page shows them: `{id, role, parts}`.
    #[schema(min_items = 1)]
    messages: Vec<Value>,
    /// A name of the configuration, or `backend/model`; else the default. A page says it in `body`, as all that follows.
    model: Option<String>,
    /// What the model is told before.
    system: Option<String>,
    /// When the last reader leaves: `"continue"` (default), `"cancel"`, or `{"cancel_after": "30s"}`.
    on_disconnect: Option<Value>,
}

/// A page of items.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ItemsSlice {
    /// How many.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// The first asked first, or last.
    #[param(inline)]
    order: Option<Order>,
    /// Those behind this item.
    after: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

/// One event of an answer in events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
#[derive(ToSchema)]
#[schema(as = Event)]
pub(in crate::api) struct Told {
    /// Its name; without one it is the next words.
    event: Option<String>,
    /// JSON, but for the `[DONE]` of Chat Completions.
    data: String,
    /// To be sent as `Last-Event-ID`.
    id: Option<String>,
    /// How many milliseconds to wait before coming back.
    retry: Option<u32>,
}

/// Whatever is refused, in the native API: problem details with a stable `code`.
#[derive(IntoResponses)]
pub(in crate::api) enum Refused {
    /// What is wrong, which member or header is at fault, and what to do: `400` what cannot be meant, `404` no such stream or model, `409` a
    /// cursor that is no stream's, `410` an expired stream, `413` too large, `422` a key of another request, `429` and `503` with `Retry-After`: too much at once, no room, going down.
    #[response(status = "default", content_type = "application/problem+json")]
    Any(#[to_schema] Details),
}

/// Whatever is refused, for OpenAI's clients.
#[derive(IntoResponses)]
pub(in crate::api) enum RefusedOpenAi {
    /// What is wrong, in the shape that OpenAI's clients make their exceptions of. Before the first word an upstream's own status stands.
    #[response(status = "default", content_type = "application/json")]
    Any(#[to_schema] OpenAiError),
}

/// Whatever is refused, for Anthropic's clients.
#[derive(IntoResponses)]
pub(in crate::api) enum RefusedAnthropic {
    /// What is wrong, in the shape that Anthropic's clients make their exceptions of. Before the first word an upstream's own status stands.
    #[response(status = "default", content_type = "application/json")]
    Any(#[to_schema] AnthropicError),
}

/// An error as OpenAI's API has it.
#[derive(ToSchema)]
pub(in crate::api) struct OpenAiError {
    error: OpenAiFault,
}

#[derive(ToSchema)]
struct OpenAiFault {
    message: String,
    r#type: String,
    #[schema(required = true)]
    param: Option<String>,
    #[schema(required = true)]
    code: Option<String>,
}

/// An error as Anthropic's API has it.
#[derive(ToSchema)]
pub(in crate::api) struct AnthropicError {
    /// `error`
    r#type: String,
    error: AnthropicFault,
}

#[derive(ToSchema)]
struct AnthropicFault {
    r#type: String,
    message: String,
}

/// A request of Chat Completions: what lastword itself reads. All other members are the upstream's.
#[derive(ToSchema)]
pub(in crate::api) struct ChatRequest {
    /// A name of the configuration, or `backend/model`.
    model: Option<String>,
    /// `[{"role": "user", "content": "…"}]`.
    #[schema(min_items = 1)]
    messages: Vec<Turn>,
    /// In chunks, as they are said.
    stream: Option<bool>,
    #[serde(flatten)]
    more: HashMap<String, Value>,
}

#[derive(ToSchema)]
struct Turn {
    #[schema(inline)]
    role: crate::prompt::Role,
    /// Text, or parts.
    content: String,
}

/// A request of Responses: what lastword itself reads. All other members are the upstream's.
#[derive(ToSchema)]
pub(in crate::api) struct ResponsesRequest {
    /// A name of the configuration, or `backend/model`.
    model: Option<String>,
    /// A text, or a list of items.
    input: String,
    /// In events, as they happen.
    stream: Option<bool>,
    /// The response is there at once, and the answer goes on whoever reads it.
    background: Option<bool>,
    /// Whether it is kept when it has been read.
    store: Option<bool>,
    /// The response that this one continues.
    previous_response_id: Option<String>,
    #[serde(flatten)]
    more: HashMap<String, Value>,
}

/// A request of Messages: what lastword itself reads. All other members are the upstream's.
#[derive(ToSchema)]
pub(in crate::api) struct MessagesRequest {
    /// A name of the configuration, or `backend/model`.
    model: Option<String>,
    /// How long the answer may be.
    #[schema(minimum = 1)]
    max_tokens: u64,
    /// `[{"role": "user", "content": "…"}]`.
    #[schema(min_items = 1)]
    messages: Vec<Said>,
    /// In events, as they happen.
    stream: Option<bool>,
    #[serde(flatten)]
    more: HashMap<String, Value>,
}

#[derive(ToSchema)]
struct Said {
    #[schema(inline)]
    role: Who,
    /// Text, or blocks.
    content: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Who {
    User,
    Assistant,
}
