//! Events in the words of this protocol, where the streamed and the whole answer have the same: blocks as they begin, citations, the
//! stop reason, the count of tokens. What came from an upstream of this protocol is given back to the letter.

use serde::Serialize;

use super::{Citation, Counts, ids};
use crate::{
    event::{Annotation, Finish, Json, PartStart, PartType, Reason, Usage},
    protocol::body::Members,
};

/// What a part is in this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `text`
    Text,
    /// `thinking`
    Thinking,
    /// `tool_use`; its arguments are JSON.
    Tool,
    /// `tool_use` of a tool whose input is free text: that is told as `{"input": "…"}`, since the input here is an object.
    Free,
    /// A block that has no content but what it begins with, or one of the upstream's own.
    Whole,
}

impl Form {
    /// Of a part that begins; nothing if it has no block here, or not yet.
    pub(super) fn of(of: PartType, start: Option<&PartStart>) -> Option<Self> {
        Some(match of {
            PartType::Text | PartType::Refusal => Self::Text,
            PartType::Reasoning | PartType::ReasoningSummary => Self::Thinking,
            PartType::ToolCall => {
                let kind = start.and_then(|start| start.tool.as_ref()?.kind.as_deref());
                if kind == Some("custom") { Self::Free } else { Self::Tool }
            }
            PartType::Redacted => {
                start.and_then(|start| own(start, "redacted_thinking"))?;
                Self::Whole
            }
            PartType::ToolResult | PartType::Media | PartType::Opaque => return None,
        })
    }

    pub(super) fn is_call(self) -> bool {
        matches!(self, Self::Tool | Self::Free)
    }

    /// Words, of which a part may have more than one block.
    pub(super) fn is_of_words(self) -> bool {
        matches!(self, Self::Text | Self::Thinking)
    }

    /// The part's block as it begins. `nameless` is the id of a call that has none.
    pub(super) fn block(self, start: &PartStart, nameless: &str) -> Json {
        #[derive(Serialize)]
        struct ToolUse<'a> {
            r#type: &'a str,
            id: &'a str,
            name: &'a str,
            input: Members,
        }
        let r#type = match self {
            Self::Text => "text",
            Self::Thinking => "thinking",
            Self::Tool | Self::Free => "tool_use",
            Self::Whole => "redacted_thinking",
        };
        if let Some(raw) = own(start, r#type) {
            return raw.clone();
        }
        let mut block = Members::default();
        block.set("type", r#type);
        match self {
            Self::Text => block.set("text", ""),
            Self::Thinking => {
                block.set("thinking", "");
                block.set("signature", "");
            }
            Self::Tool | Self::Free => {
                let tool = start.tool.as_ref();
                // Clients send it back, perhaps to who takes no other.
                let id = tool.and_then(|tool| tool.call_id.as_deref()).filter(|id| !id.is_empty()).unwrap_or(nameless);
                let id = &*ids::clean(id);
                let name = tool.and_then(|tool| tool.name.as_deref()).unwrap_or_default();
                return Json::of(&ToolUse { r#type, id, name, input: Members::default() }).unwrap_or_default();
            }
            Self::Whole => {}
        }
        Json::of(&block).unwrap_or_default()
    }
}

/// The block as an upstream of this protocol began it.
fn own<'a>(start: &'a PartStart, r#type: &str) -> Option<&'a Json> {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    let raw = start.raw.as_ref()?;
    let typed: Typed = serde_json::from_str(raw.get()).ok()?;
    (typed.r#type == r#type).then_some(raw)
}

/// The upstream's word if it is one of this protocol's or of nobody's, else this protocol's for the same. Agents wait for `tool_use`
/// where a tool was `called`, and not all upstreams say it.
pub(super) fn stop_reason(finish: &Finish, called: bool) -> &str {
    let raw = finish.raw.as_deref();
    match finish.reason {
        Some(Reason::Stop) => match raw {
            Some(raw @ ("end_turn" | "stop_sequence" | "pause_turn")) => raw,
            _ if finish.stop_sequence.is_some() => "stop_sequence",
            _ if called => "tool_use",
            _ => "end_turn",
        },
        Some(Reason::Length) if raw == Some("model_context_window_exceeded") => "model_context_window_exceeded",
        Some(Reason::Length | Reason::Budget | Reason::Deadline) => "max_tokens",
        Some(Reason::ToolCalls) => "tool_use",
        Some(Reason::ContentFilter) => "refusal",
        None => raw.unwrap_or(if called { "tool_use" } else { "end_turn" }),
    }
}

/// A citation; nothing if it can only be said in another protocol.
pub(super) fn citation(annotation: Annotation) -> Option<Json> {
    #[derive(Serialize)]
    struct WebSearchResult {
        r#type: &'static str,
        cited_text: &'static str,
        encrypted_index: &'static str,
        title: Option<String>,
        url: String,
    }
    let Annotation { url, title, raw, .. } = annotation;
    if let Some(raw) = raw
        && serde_json::from_str::<Citation>(raw.get()).is_ok_and(|cited| cited.r#type.ends_with("_location"))
    {
        return Some(raw);
    }
    let (cited_text, encrypted_index) = ("", "");
    Json::of(&WebSearchResult { r#type: "web_search_result_location", cited_text, encrypted_index, title, url: url? })
}

/// The count of tokens; what is unknown and must be there is 0.
pub(super) fn usage(usage: Usage) -> Members {
    let raw = usage.raw.as_ref().filter(|raw| {
        let counts: Option<Counts> = serde_json::from_str(raw.get()).ok();
        counts.is_some_and(|counts| {
            counts.total_tokens.is_none() && (counts.input_tokens.is_some() || counts.output_tokens.is_some())
        })
    });
    let mut told: Members = raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    if told.is_empty() {
        let (read, written) = (usage.cache_read_tokens, usage.cache_write_tokens);
        let cached = read.unwrap_or_default().saturating_add(written.unwrap_or_default());
        told.set("input_tokens", &usage.input_tokens.unwrap_or_default().saturating_sub(cached));
        told.set_some("cache_creation_input_tokens", written.as_ref());
        told.set_some("cache_read_input_tokens", read.as_ref());
        told.set("output_tokens", &usage.output_tokens.unwrap_or_default());
        if let Some(thought) = usage.reasoning_tokens {
            told.set("output_tokens_details", &serde_json::json!({ "thinking_tokens": thought }));
        }
    }
    for name in ["input_tokens", "output_tokens"] {
        if told.get(name).is_none_or(|count| count.get() == "null") {
            told.set(name, &0);
        }
    }
    told
}
