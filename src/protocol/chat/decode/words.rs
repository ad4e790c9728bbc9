//! What an upstream of this protocol calls a reason, a count, a citation, in our words.

use super::super::{Citation, Counts};
use crate::event::{Annotation, Json, Reason, Usage};

pub(super) fn reason(raw: &str) -> Option<Reason> {
    match raw {
        "stop" => Some(Reason::Stop),
        "length" => Some(Reason::Length),
        "tool_calls" | "function_call" => Some(Reason::ToolCalls),
        "content_filter" => Some(Reason::ContentFilter),
        _ => None,
    }
}

pub(super) fn usage(raw: Json) -> Option<Usage> {
    let counts: Counts = serde_json::from_str(raw.get()).ok()?;
    let prompt = counts.prompt_tokens_details.unwrap_or_default();
    let completion = counts.completion_tokens_details.unwrap_or_default();
    Some(Usage {
        input_tokens: counts.prompt_tokens,
        output_tokens: counts.completion_tokens,
        cache_read_tokens: prompt.cached_tokens.or(counts.prompt_cache_hit_tokens),
        cache_write_tokens: prompt.cache_write_tokens,
        reasoning_tokens: completion.reasoning_tokens,
        audio_tokens: completion.audio_tokens,
        raw: Some(raw),
    })
}

pub(super) fn annotation(raw: Json) -> Annotation {
    let Ok(Citation { url_citation: cited }) = serde_json::from_str(raw.get()) else {
        return Annotation { raw: Some(raw), ..Annotation::default() };
    };
    Annotation { url: cited.url, title: cited.title, span: cited.start_index.zip(cited.end_index), raw: Some(raw) }
}
