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
//! whole answer, [`ErrorObject`] what went wrong. Reasoning is told in the spelling of an upstream of this protocol, else as
//! `reasoning_content`; what such an upstream says beside all that is known here is given back too. Every frame has its cursor as id.

mod chunk;
mod completion;
mod crossing;
mod decode;
mod encode;
mod envelope;
mod error;
mod prompt;
mod request;
mod rest;
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
use serde_json::Value;

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    #[serde(alias = "input")]
    arguments: Option<String>,
}

#[derive(Default, Deserialize)]
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
