//! Events in the words of this protocol, where a frame and a whole response have the same: citations, log probabilities, the count
//! of tokens. What came from an upstream of this protocol is given back to the letter.

use serde::Deserialize;
use serde_json::{
    json,
    value::{RawValue, Value},
};

use crate::event::{Annotation, Json, Usage};

/// A citation; nothing if this protocol has no words for it. `kin`: it came from an upstream of this protocol.
pub(super) fn citation(annotation: Annotation, kin: bool) -> Option<Json> {
    let Annotation { url, title, span, raw } = annotation;
    if kin && raw.is_some() {
        return raw;
    }
    let (start, end) = span.unwrap_or_default();
    let title = title.unwrap_or_default();
    Json::of(&json!({ "type": "url_citation", "start_index": start, "end_index": end, "url": url?, "title": title }))
}

/// The entries of a list of log probabilities, without its brackets. Chat Completions has them in an object.
pub(super) fn logprobs(raw: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Chat<'a> {
        #[serde(borrow)]
        content: &'a RawValue,
    }
    let list = match raw.starts_with('{') {
        true => serde_json::from_str::<Chat<'_>>(raw).ok()?.content.get(),
        false => raw,
    };
    let entries = list.strip_prefix('[')?.strip_suffix(']')?.trim();
    (!entries.is_empty()).then(|| entries.to_owned())
}

/// The count of tokens.
pub(super) fn usage(usage: &Usage) -> Json {
    let counts = usage.raw.as_ref().and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let ours = |counts: &Value| counts["input_tokens"].is_u64() && counts["total_tokens"].is_u64();
    if let Some(raw) = &usage.raw
        && counts.as_ref().is_some_and(ours)
    {
        return raw.clone();
    }
    let (input, output) = (usage.input_tokens.unwrap_or_default(), usage.output_tokens.unwrap_or_default());
    // Each of them is a number in this protocol, never absent.
    let cached = usage.cache_read_tokens.unwrap_or_default();
    let written = usage.cache_write_tokens.unwrap_or_default();
    let told = json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": cached, "cache_write_tokens": written },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens.unwrap_or_default() },
        "total_tokens": input.saturating_add(output),
    });
    Json::of(&told).unwrap_or_default()
}
