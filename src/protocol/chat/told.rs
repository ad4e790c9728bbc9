//! Events in the words of this protocol, where a chunk and a whole answer have the same: tool calls, citations, the finish reason,
//! the count of tokens. What came from an upstream of this protocol is given back to the letter.

use serde::Serialize;
use serde_json::json;

use super::{Citation, Counts};
use crate::event::{Annotation, Finish, Json, Media, Reason, Tool, Usage};

/// The three ways in which this protocol tells a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In `tool_calls`, at this index; its arguments are JSON.
    Function(usize),
    /// In `tool_calls`, at this index; its input is free text.
    Custom(usize),
    /// In `function_call`, the form before tools.
    Legacy,
}

impl Form {
    /// That of a call behind `before` others in `tool_calls`.
    pub(super) fn of(tool: Option<&Tool>, before: usize) -> Self {
        match tool.and_then(|tool| tool.kind.as_deref()) {
            Some("function_call") => Self::Legacy,
            Some("custom") => Self::Custom(before),
            _ => Self::Function(before),
        }
    }
}

/// An entry of `tool_calls`; `index` only in a chunk.
#[derive(Serialize)]
pub(super) struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
}

#[derive(Serialize)]
pub(super) struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Custom<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    input: &'a str,
}

impl<'a> ToolCall<'a> {
    pub(super) fn new(form: Form, tool: &'a Tool, arguments: &'a str) -> Self {
        let (function, custom) = match form {
            Form::Custom(_) => (None, Some(Custom { name: tool.name.as_deref(), input: arguments })),
            _ => (Some(Function::new(tool, arguments)), None),
        };
        let kind = tool.kind.as_deref().unwrap_or("function");
        Self { index: None, id: tool.call_id.as_deref(), r#type: kind, function, custom }
    }

    /// As a chunk has it.
    pub(super) fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }
}

impl<'a> Function<'a> {
    pub(super) fn new(tool: &'a Tool, arguments: &'a str) -> Self {
        Self { name: tool.name.as_deref(), arguments }
    }
}

/// The upstream's word if it is one of this protocol's or of nobody's, else this protocol's for the same.
pub(super) fn finish_reason(finish: &Finish) -> &str {
    match (finish.reason, finish.raw.as_deref()) {
        (Some(Reason::ToolCalls), Some("function_call")) => "function_call",
        (Some(Reason::Length | Reason::Budget | Reason::Deadline), _) => "length",
        (Some(reason), _) => reason.as_str(),
        (None, raw) => raw.unwrap_or("stop"),
    }
}

/// A citation.
pub(super) fn citation(annotation: Annotation) -> Json {
    let Annotation { url, title, span, raw } = annotation;
    if let Some(raw) = raw
        && (url.is_none() || serde_json::from_str::<Citation>(raw.get()).is_ok())
    {
        return raw;
    }
    let (start, end) = span.unzip();
    let cited = json!({ "url": url, "title": title, "start_index": start, "end_index": end });
    Json::of(&json!({ "type": "url_citation", "url_citation": cited })).unwrap_or_default()
}

/// A piece of sound or an image, as a delta. (No server of this protocol sends anything else.)
pub(super) fn media(media: &Media) -> Option<Json> {
    let kind = media.media_type.as_deref().unwrap_or_default();
    match (&media.base64, &media.url) {
        (Some(data), _) if kind.starts_with("audio/") => Json::of(&json!({ "audio": { "data": data } })),
        (Some(data), _) if kind.starts_with("image/") => image(&format!("data:{kind};base64,{data}")),
        (None, Some(url)) if kind.is_empty() || kind.starts_with("image/") => image(url),
        _ => None,
    }
}

fn image(url: &str) -> Option<Json> {
    Json::of(&json!({ "images": [{ "type": "image_url", "image_url": { "url": url } }] }))
}

/// The count of tokens.
pub(super) fn usage(usage: Usage) -> Json {
    #[derive(Serialize)]
    struct Told {
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_tokens: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        completion_tokens: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        total_tokens: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_tokens_details: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        completion_tokens_details: Option<serde_json::Value>,
    }
    let counts = |raw: &Json| serde_json::from_str::<Counts>(raw.get()).ok();
    if let Some(raw) = &usage.raw
        && counts(raw).is_some_and(|counts| counts.prompt_tokens.or(counts.completion_tokens).is_some())
    {
        return raw.clone();
    }
    let (prompt, completion) = (usage.input_tokens, usage.output_tokens);
    let told = Told {
        prompt_tokens: prompt,
        completion_tokens: completion,
        total_tokens: prompt.zip(completion).map(|(prompt, completion)| prompt.saturating_add(completion)),
        prompt_tokens_details: usage.cache_read_tokens.map(|cached| json!({ "cached_tokens": cached })),
        completion_tokens_details: usage.reasoning_tokens.map(|thought| json!({ "reasoning_tokens": thought })),
    };
    Json::of(&told).unwrap_or_default()
}
