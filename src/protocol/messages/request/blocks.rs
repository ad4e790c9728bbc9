//! What one message says, as blocks: texts, images, documents, the calls of tools.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    event::Json,
    prompt::{Content, Message},
    protocol::{body::Members, messages::ids},
};

#[derive(Deserialize)]
struct Call {
    id: Option<String>,
    #[serde(alias = "custom")]
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: Option<String>,
    /// Of a tool that takes free text.
    input: Option<String>,
}

fn text(words: &str) -> Option<Members> {
    // The API takes no block of text that is blank.
    (!words.trim().is_empty()).then(|| {
        let mut block = Members::default();
        block.set("type", "text");
        block.set("text", words);
        block
    })
}

/// What a message says. `place` is the path to it.
pub(super) fn blocks(message: &Message, place: &str) -> Result<Vec<Members>, String> {
    let parts = match &message.content {
        None => return Ok(Vec::new()),
        Some(Content::Text(words)) => return Ok(text(words).into_iter().collect()),
        Some(Content::Parts(parts)) => parts,
    };
    let mut blocks = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let kind = part["type"].as_str().unwrap_or_default();
        let words = |name: &str| Some(text(part[name].as_str().unwrap_or_default()));
        let block = match kind {
            "text" | "refusal" => words(kind),
            "image_url" => part["image_url"]["url"].as_str().and_then(image).map(Some),
            "file" => {
                let (data, name) = (part["file"]["file_data"].as_str(), part["file"]["filename"].as_str());
                data.and_then(|data| document(data, name)).map(Some)
            }
            _ => None,
        };
        let block = block.ok_or_else(|| {
            let only = if kind == "file" { "; as data of a file it takes PDF and text" } else { "" };
            format!(
                "{place}.content[{n}], a part of the type `{kind}`, cannot be said to an upstream of Messages{only}"
            )
        })?;
        blocks.extend(block);
    }
    Ok(blocks)
}

fn image(url: &str) -> Option<Members> {
    let source = match data(url) {
        Some((media_type, data)) => json!({ "type": "base64", "media_type": media_type, "data": data }),
        None => linked(url)?,
    };
    Some(sourced("image", &source, None))
}

/// The API takes bytes of PDF alone; text is text.
fn document(url: &str, title: Option<&str>) -> Option<Members> {
    let source = match data(url) {
        Some((media_type, data)) => match media_type.split(';').next()? {
            pdf @ "application/pdf" => json!({ "type": "base64", "media_type": pdf, "data": data }),
            kind if kind.starts_with("text/") => {
                let words = String::from_utf8(STANDARD.decode(data).ok()?).ok()?;
                json!({ "type": "text", "media_type": "text/plain", "data": words })
            }
            _ => return None,
        },
        None => linked(url)?,
    };
    Some(sourced("document", &source, title))
}

/// What lies in a URL itself: its type, and the bytes in base64.
fn data(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

fn linked(url: &str) -> Option<Value> {
    let there = url.starts_with("http://") || url.starts_with("https://");
    there.then(|| json!({ "type": "url", "url": url }))
}

fn sourced(kind: &str, source: &Value, title: Option<&str>) -> Members {
    let mut block = Members::default();
    block.set("type", kind);
    block.set("source", source);
    block.set_some("title", title.as_ref());
    block
}

/// The calls an assistant made. One with free text is told as one whose one argument is that text, and named so.
pub(super) fn calls(message: &Message, place: &str, unsaid: &mut Vec<String>) -> Result<Vec<Members>, String> {
    let Some(calls) = &message.tool_calls else { return Ok(Vec::new()) };
    let calls: Option<Vec<Call>> = serde_json::from_str(calls.get()).ok();
    let calls = calls.ok_or_else(|| format!("{place}.tool_calls are not those of Chat Completions"))?;
    let block = |(n, call): (usize, Call)| {
        let Call { id, function: Function { name, arguments, input } } = call;
        let arguments = arguments.unwrap_or_default();
        let arguments = if arguments.trim().is_empty() { "{}" } else { &*arguments };
        let place = format!("{place}.tool_calls[{n}]");
        let object = match input {
            Some(input) => {
                unsaid.push(format!("{place}.custom"));
                Json::of(&json!({ "input": input }))
            }
            None => serde_json::from_str(arguments).ok().filter(|json: &Json| json.get().starts_with('{')),
        };
        let mut block = Members::default();
        block.set("type", "tool_use");
        let id = id.ok_or_else(|| format!("{place} has no `id`, which its result must name"))?;
        block.set("id", &ids::clean(&id));
        block.set("name", &name);
        block.set("input", &object.ok_or_else(|| format!("{place}.function.arguments are not a JSON object"))?);
        Ok(block)
    };
    calls.into_iter().enumerate().map(block).collect()
}
