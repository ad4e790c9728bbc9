//! OpenAI Chat Completions, which half the world's model servers speak.
//!
//! <https://platform.openai.com/docs/api-reference/chat>, as openai-python 3.54 and openai-node 6.49 read it; the dialects of
//! vLLM, SGLang, llama.cpp, Ollama, Groq, OpenRouter, DeepSeek and Mistral are read too.
//!
//! An answer is a sequence of chunks, each with a `delta` per choice. A delta names no part, so parts are made from what changes:
//! reasoning, text and refusal follow each other, and only tool calls may be open side by side, because only they carry an
//! index. The answer is whole at `[DONE]`, or where every choice has its `finish_reason` and the body ends.
//!
//! Towards clients the same, written from the log: [`parse`] reads what they ask, [`ChatEncode`] writes chunks, [`Completion`] the
//! whole answer, [`ErrorObject`] what went wrong. Reasoning is told as `reasoning_content`, and every frame has its cursor as id.

mod completion;
mod crossing;
mod decode;
mod encode;
mod envelope;
mod error;
mod prompt;
mod request;
mod template;
mod told;

pub use completion::Completion;
pub use decode::ChatDecode;
pub use encode::ChatEncode;
pub use envelope::Envelope;
pub use error::ErrorObject;
pub use prompt::{Asked, parse};
pub use request::{Dialect, PARTS, RESERVED, request, unsaid};

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, value::RawValue};

use crate::event::Json;

/// One `chat.completion.chunk`: what of it means something. `null` and absent are the same, everywhere.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Json>,
    error: Option<Value>,
    #[serde(borrow)]
    system_fingerprint: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u8>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    finish_reason: Option<String>,
    logprobs: Option<Json>,
    /// vLLM: the stop sequence that was met (or a token's number).
    stop_reason: Option<Value>,
    /// Azure.
    content_filter_results: Option<Json>,
}

/// Most strings are owned at once, since they are moved into the event. The content is borrowed, so that its place in the chunk
/// is known: what stands around it is the next chunk's template.
#[derive(Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    /// DeepSeek, llama.cpp, SGLang, older vLLM.
    reasoning_content: Option<String>,
    /// OpenRouter, Ollama, Groq, newer vLLM (some servers write both spellings: it is the same text).
    reasoning: Option<String>,
    /// OpenRouter: the same text once more, and what must be sent back on the next turn.
    reasoning_details: Option<Vec<Json>>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Call>>,
    /// The form before tools.
    function_call: Option<Function>,
    annotations: Option<Vec<Json>>,
}

/// A piece of a tool call. Only `index` is certain, and some servers leave out even that.
#[derive(Deserialize)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    r#type: Option<String>,
    #[serde(alias = "custom")]
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    #[serde(alias = "input")]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningDetail {
    r#type: Option<String>,
    text: Option<String>,
    summary: Option<String>,
    data: Option<Value>,
    signature: Option<Value>,
}

#[derive(Deserialize)]
struct Citation {
    url_citation: UrlCitation,
}

#[derive(Deserialize)]
struct UrlCitation {
    url: Option<String>,
    title: Option<String>,
    start_index: Option<u64>,
    end_index: Option<u64>,
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptCounts>,
    completion_tokens_details: Option<CompletionCounts>,
    /// DeepSeek.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct PromptCounts {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct CompletionCounts {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

/// `delta.content`: a string; Mistral's reasoning models write a list of parts.
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<ContentPart>),
}

/// `{"type":"text","text":"…"}` or `{"type":"thinking","thinking":[{"type":"text","text":"…"}]}`.
#[derive(Deserialize)]
struct ContentPart {
    text: Option<String>,
    thinking: Option<Vec<ContentPart>>,
}

/// By hand, since an untagged enum would copy each token once more.
impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text or a list of parts")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, parts: A) -> Result<Content<'de>, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }
        d.deserialize_any(Visitor)
    }
}
