//! What the messages of a request hold, block by block, as messages and parts in the shape of Chat Completions.
//!
//! A block for which that shape has no word is left as it is, so that a backend that does not know it can say so rather than answer
//! to half a question. The model's thinking is state of its origin, and goes nowhere else.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    event::Json,
    prompt::{Content, Message, Role},
    protocol::BadRequest,
};

#[derive(Deserialize)]
pub(super) struct Turn {
    role: Speaker,
    content: Option<Json>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    User,
    Assistant,
    System,
}

#[derive(Deserialize)]
struct Block {
    r#type: String,
    text: Option<String>,
    source: Option<Source>,
    title: Option<String>,
    context: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Json>,
    tool_use_id: Option<String>,
    content: Option<Json>,
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct Source {
    r#type: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
    content: Option<Json>,
}

/// Before the result of a tool that failed: elsewhere there are no words for it but words.
const FAILED: &str = "The tool failed:";

/// A call in the shape of Chat Completions.
#[derive(Serialize)]
struct Call {
    id: String,
    r#type: &'static str,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    arguments: String,
}

/// The messages in the common form. One with tool results becomes several.
///
/// # Errors
/// When a message or a block of a type that is known has not its form.
pub(super) fn common(turns: Vec<Turn>) -> Result<Vec<Message>, BadRequest> {
    let mut messages = Vec::new();
    for (n, turn) in turns.into_iter().enumerate() {
        let field = format!("messages[{n}].content");
        let blocks = blocks(turn.content.as_ref(), &field)?;
        match turn.role {
            Speaker::User => user(blocks, &field, &mut messages)?,
            Speaker::Assistant => messages.push(assistant(blocks, &field)?),
            Speaker::System => {
                let parts = parts(blocks, &field)?;
                messages.push(message(Role::System, said(parts)));
            }
        }
    }
    Ok(messages)
}

/// Text is one block.
fn blocks(content: Option<&Json>, field: &str) -> Result<Vec<Json>, BadRequest> {
    let json = content.map_or("null", Json::get);
    let read = match json.as_bytes().first() {
        Some(b'"') => Json::of(&json!({ "type": "text", "text": serde_json::from_str::<Value>(json).ok() }))
            .map(|block| vec![block]),
        Some(b'[') => serde_json::from_str(json).ok(),
        _ => None,
    };
    read.ok_or_else(|| {
        let detail = format!("`{field}` is neither text nor a list of blocks");
        BadRequest::of(field, detail, "give a text, or [{\"type\": \"text\", \"text\": \"…\"}]")
    })
}

fn read(json: &Json, field: &str, n: usize) -> Result<Block, BadRequest> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let bad = |what: String| {
        BadRequest::of(&format!("{field}[{n}]"), what, "see Anthropic's description of Messages for its form")
    };
    let typed: Result<Typed, _> = serde_json::from_str(json.get());
    let Typed { r#type } = typed.map_err(|_| bad(format!("`{field}[{n}]` is no object with a `type`")))?;
    let known = ["text", "image", "document", "tool_use", "tool_result"].contains(&&*r#type);
    if !known {
        let (text, source, title, id) = (None, None, None, None);
        return Ok(Block {
            r#type,
            text,
            source,
            title,
            context: None,
            id,
            name: None,
            input: None,
            tool_use_id: None,
            content: None,
            is_error: None,
        });
    }
    let block: Result<Block, _> = serde_json::from_str(json.get());
    let block = block.map_err(|_| bad(format!("`{field}[{n}]` has not the form of a `{type}` block")))?;
    let missing = match &*block.r#type {
        "text" if block.text.is_none() => "text",
        "image" | "document" if block.source.is_none() => "source",
        "tool_use" if block.id.is_none() => "id",
        "tool_use" if block.name.is_none() => "name",
        "tool_result" if block.tool_use_id.is_none() => "tool_use_id",
        _ => return Ok(block),
    };
    Err(bad(format!("`{field}[{n}]`, a `{type}` block, has no `{missing}`")))
}

/// The results of tools come first: nothing may stand between them and the calls that they answer.
fn user(blocks: Vec<Json>, field: &str, messages: &mut Vec<Message>) -> Result<(), BadRequest> {
    let (before, empty) = (messages.len(), blocks.is_empty());
    let mut said_too = Vec::new();
    for (n, json) in blocks.iter().enumerate() {
        let block = read(json, field, n)?;
        if block.r#type == "tool_result" {
            let field = format!("{field}[{n}].content");
            let mut result = match &block.content {
                Some(content) if content.get() != "null" => parts(self::blocks(Some(content), &field)?, &field)?,
                _ => Vec::new(),
            };
            if block.is_error == Some(true) {
                result.insert(0, json!({ "type": "text", "text": FAILED }));
            }
            let mut message = message(Role::Tool, joined(result, "\n"));
            message.tool_call_id = block.tool_use_id;
            messages.push(message);
        } else {
            said_too.extend(part(json, block, &format!("{field}[{n}]"))?);
        }
    }
    if !said_too.is_empty() || (empty && before == messages.len()) {
        messages.push(message(Role::User, said(said_too)));
    }
    Ok(())
}

fn assistant(blocks: Vec<Json>, field: &str) -> Result<Message, BadRequest> {
    let (mut said, mut calls) = (Vec::new(), Vec::new());
    for (n, json) in blocks.iter().enumerate() {
        let block = read(json, field, n)?;
        match &*block.r#type {
            "tool_use" => calls.push(Call {
                id: block.id.unwrap_or_default(),
                r#type: "function",
                function: Function {
                    name: block.name.unwrap_or_default(),
                    arguments: block.input.map_or("{}".to_owned(), |input| input.get().to_owned()),
                },
            }),
            _ => said.extend(part(json, block, &format!("{field}[{n}]"))?),
        }
    }
    // Its texts are the pieces of one answer.
    let content = (!said.is_empty() || calls.is_empty()).then(|| joined(said, ""));
    let tool_calls = (!calls.is_empty()).then(|| Json::of(&calls)).flatten();
    Ok(Message { role: Role::Assistant, content, name: None, tool_calls, tool_call_id: None })
}

fn message(role: Role, content: Content) -> Message {
    Message { role, content: Some(content), name: None, tool_calls: None, tool_call_id: None }
}

fn parts(blocks: Vec<Json>, field: &str) -> Result<Vec<Value>, BadRequest> {
    let mut all = Vec::new();
    for (n, json) in blocks.iter().enumerate() {
        all.extend(part(json, read(json, field, n)?, &format!("{field}[{n}]"))?);
    }
    Ok(all)
}

/// One block as parts.
fn part(json: &Json, block: Block, field: &str) -> Result<Vec<Value>, BadRequest> {
    let as_it_is = || {
        let kept = serde_json::from_str(json.get()).map(|part| vec![part]);
        kept.map_err(|_| {
            let detail = format!("`{field}` holds half a character, a number too large, or too many levels");
            BadRequest::of(field, detail, "send whole Unicode, numbers that a double can hold and at most 127 levels")
        })
    };
    let text = |text: String| vec![json!({ "type": "text", "text": text })];
    let about: Vec<_> = [block.title.as_deref(), block.context.as_deref()].into_iter().flatten().collect();
    Ok(match (&*block.r#type, block.source) {
        ("thinking" | "redacted_thinking", _) => Vec::new(),
        ("text", _) => text(block.text.unwrap_or_default()),
        ("image", Some(source)) => match url(&source) {
            Some(url) => vec![json!({ "type": "image_url", "image_url": { "url": url } })],
            None => as_it_is()?,
        },
        ("document", Some(source)) => match (&*source.r#type, &source.data, &source.content) {
            ("text", Some(data), _) => text([&about[..], &[data]].concat().join("\n\n")),
            ("base64", Some(_), _) => {
                let name = block.title.as_deref().unwrap_or("document.pdf");
                let file = json!({ "type": "file", "file": { "filename": name, "file_data": url(&source) } });
                block.context.clone().map(text).into_iter().flatten().chain([file]).collect()
            }
            ("content", _, Some(content)) => {
                let field = format!("{field}.source.content");
                let mut inner = parts(blocks(Some(content), &field)?, &field)?;
                if !about.is_empty() {
                    inner.insert(0, json!({ "type": "text", "text": about.join("\n\n") }));
                }
                inner
            }
            _ => as_it_is()?,
        },
        _ => as_it_is()?,
    })
}

/// Where an image or a document is; its bytes are a place too.
fn url(source: &Source) -> Option<String> {
    match (&*source.r#type, &source.media_type, &source.data, &source.url) {
        ("base64", Some(media_type), Some(data), _) => Some(format!("data:{media_type};base64,{data}")),
        ("url", _, _, Some(url)) => Some(url.clone()),
        _ => None,
    }
}

/// A single text is no list: some servers know none.
fn said(mut parts: Vec<Value>) -> Content {
    match &mut parts[..] {
        [] => Content::Text(String::new()),
        [one] if one["type"] == "text" => joined(parts, ""),
        _ => Content::Parts(parts),
    }
}

/// Where all is text, one text.
fn joined(parts: Vec<Value>, between: &str) -> Content {
    let texts: Option<Vec<_>> =
        parts.iter().map(|part| part["text"].as_str().filter(|_| part["type"] == "text")).collect();
    match texts {
        Some(texts) => Content::Text(texts.join(between)),
        None => Content::Parts(parts),
    }
}
