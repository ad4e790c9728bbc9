//! OpenAI Responses. <https://platform.openai.com/docs/api-reference/responses>, as openai-python 3.54 and openai-node 6.49 read it;
//! the forms of llama.cpp, vLLM and Ollama, which leave members and events out, are read too.
//!
//! A conversation is a list of items: messages, calls of tools and what came of them, reasoning. [`parse`] reads what a client asks,
//! [`expand`] puts an earlier answer before it, [`input_items`] tells what was asked.
//!
//! Upstreams are asked by [`request`]. They tell their answer in events that each name their item, and end it with the whole response:
//! `response.completed`, `response.incomplete` or `response.failed`. [`ResponsesDecode`] reads them.
//!
//! Clients are told the same: items begin, have pieces, and end with all that was in them said once more. [`ResponsesEncode`] writes
//! the events for one reader, [`ResponseObject`] what repeats, and the whole response.

mod decode;
mod encode;
mod envelope;
mod items;
mod object;
mod outline;
mod output;
mod prompt;
mod request;
mod told;

pub use decode::ResponsesDecode;
pub use encode::ResponsesEncode;
pub use envelope::Envelope;
pub use items::{expand, id_of, input_items};
pub use object::ResponseObject;
pub use prompt::{Asked, parse};
pub use request::{RESERVED, request, unsaid};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::event::Json;

/// The protocol's name in prompts and records.
const NAME: &str = "responses";

/// Where a member of another type is described.
const DESCRIBED: &str = "OpenAI's description of Responses";

/// The events that are read, or told in other words. All others are kept as they came.
const KNOWN: [&str; 29] = [
    "error",
    "keepalive",
    "ping",
    "response.cancelled",
    "response.completed",
    "response.content_part.added",
    "response.content_part.done",
    "response.created",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.failed",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.in_progress",
    "response.incomplete",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.annotation.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.queued",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.refusal.delta",
    "response.refusal.done",
];

/// One event of an answer: what of it means something. `null` and absent are the same, everywhere. What has another type in events that
/// are not known is left as JSON.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    r#type: Option<&'a str>,
    #[serde(borrow)]
    item_id: Option<&'a str>,
    output_index: Option<u64>,
    content_index: Option<u64>,
    summary_index: Option<u64>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    part: Option<&'a RawValue>,
    annotation: Option<Json>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    error: Option<Value>,
}

/// What names an event, or an item.
#[derive(Default, Deserialize)]
struct Head {
    r#type: Option<String>,
    id: Option<String>,
}

/// An item of a type that is known.
#[derive(Default, Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    status: Option<&'a str>,
    call_id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    encrypted_content: Option<Json>,
}

/// A part of a message's content or of reasoning.
#[derive(Default, Deserialize)]
struct ContentPart<'a> {
    #[serde(borrow)]
    r#type: Option<&'a str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    annotations: Option<Vec<Json>>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

/// The response as its last event tells it.
#[derive(Default, Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    status: Option<&'a str>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    usage: Option<Json>,
    error: Option<Value>,
    #[serde(borrow)]
    incomplete_details: Option<Incomplete<'a>>,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow)]
    reason: Option<&'a str>,
}

#[derive(Default, Deserialize)]
struct UrlCitation {
    url: Option<String>,
    title: Option<String>,
    start_index: Option<u64>,
    end_index: Option<u64>,
}

#[derive(Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<InputCounts>,
    output_tokens_details: Option<OutputCounts>,
}

#[derive(Default, Deserialize)]
struct InputCounts {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct OutputCounts {
    reasoning_tokens: Option<u64>,
}
