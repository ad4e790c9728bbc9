//! Anthropic's Messages. <https://docs.anthropic.com/en/api/messages>, version 2023-06-01, as anthropic-python 2.12 and
//! @anthropic-ai/sdk 1.12 read it; llama.cpp's and vLLM's forms of it are read too.
//!
//! An answer is one message of content blocks, each told as start, deltas and stop under its index. Text, thinking and calls of the
//! client's tools are parts here. A block of any other type (the upstream's own tools and what they gave back) is kept as it came, for
//! readers of this protocol alone. The answer is whole at `message_stop`, and nowhere else.
//!
//! Towards clients the same, written from the log: [`parse`] reads what they ask, [`MessagesEncode`] writes events, [`Message`] the
//! whole answer, [`ErrorObject`] what went wrong. Every record's last frame has its cursor as id.

mod content;
mod decode;
mod encode;
mod error;
mod ids;
mod message;
mod prompt;
mod request;
mod told;

pub use decode::MessagesDecode;
pub use encode::MessagesEncode;
pub use error::ErrorObject;
pub use message::Message;
pub use prompt::{Asked, model_of, parse};
pub use request::{RESERVED, VERSION, counting, request, unsaid};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Json;

/// The protocol's name in prompts and records.
const NAME: &str = "messages";

/// One event of an answer: what of it means something. `null` and absent are the same, everywhere.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    r#type: Option<&'a str>,
    index: Option<u64>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// That of a block, or of the message at its end.
#[derive(Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    r#type: Option<&'a str>,
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    signature: Option<Json>,
    citation: Option<Json>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

/// A block as it begins.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    r#type: Option<&'a str>,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<Json>,
    data: Option<Json>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// The members of a block that are understood, by its type; nothing if the type is not.
fn understood(r#type: &str) -> Option<&'static [&'static str]> {
    Some(match r#type {
        "text" => &["type", "text"],
        "thinking" => &["type", "thinking", "signature"],
        "redacted_thinking" => &["type", "data"],
        "tool_use" => &["type", "id", "name", "input"],
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Citation {
    r#type: String,
    url: Option<String>,
    title: Option<String>,
    document_title: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens_details: Option<OutputCounts>,
    /// What OpenAI's protocols have and this one has not.
    total_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct OutputCounts {
    thinking_tokens: Option<u64>,
}
