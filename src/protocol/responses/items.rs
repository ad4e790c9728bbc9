//! The items of a conversation, and its messages in the common form: each can be made from the other.
//!
//! What the common form has no word for stays in it as it came, as a part of a message: an upstream of another protocol is asked
//! only what it can be asked, so such a part is refused there and not left out. Reasoning is left out: it is state of its origin.

use std::collections::HashSet;

use bytesize::ByteSize;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, DESCRIBED, NAME, prompt::Input};
use crate::{
    event::Json,
    id::StreamId,
    prompt::{Content, Message, Prompt, Role},
    protocol::{
        BadRequest,
        body::{self, Members},
    },
};

/// What is read of any item. (Members of other names mean different things in items of different types.)
#[derive(Deserialize)]
struct Item {
    r#type: Option<String>,
    role: Option<Value>,
    id: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    role: Speaker,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    System,
    Developer,
    User,
    Assistant,
}

#[derive(Deserialize)]
struct Call {
    call_id: Option<String>,
    name: Option<String>,
    #[serde(alias = "input")]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    call_id: Option<String>,
    output: Option<Content>,
}

/// A call in the shape of Chat Completions.
#[derive(Deserialize)]
struct CommonCall {
    id: Option<String>,
    r#type: Option<String>,
    #[serde(alias = "custom")]
    function: Option<CommonFunction>,
}

#[derive(Deserialize)]
struct CommonFunction {
    name: Option<String>,
    #[serde(alias = "input")]
    arguments: Option<String>,
}

/// The messages that these items are.
///
/// # Errors
/// When an item is of no type, or has not the form of its type.
pub(super) fn common(input: &Input) -> Result<Vec<Message>, BadRequest> {
    match input {
        Input::Text(text) => Ok(vec![Message::text(Role::User, text)]),
        Input::Items(items) => messages(items),
    }
}

fn messages(items: &[Json]) -> Result<Vec<Message>, BadRequest> {
    let mut turns = Turns::default();
    for (n, item) in items.iter().enumerate() {
        turns.take(&format!("input[{n}]"), item)?;
    }
    Ok(turns.done())
}

/// Messages in the making: the calls of one turn stand together in one of them.
#[derive(Default)]
struct Turns {
    messages: Vec<Message>,
    /// Of the last message.
    calls: Vec<Members>,
}

impl Turns {
    fn take(&mut self, place: &str, json: &Json) -> Result<(), BadRequest> {
        let item: Item = body::read_at(place, json, DESCRIBED)?;
        let kind = match (item.r#type.as_deref(), &item.role, &item.id) {
            (Some(kind), ..) => kind,
            (None, Some(_), _) => "message",
            (None, None, Some(_)) => "item_reference",
            (None, None, None) => {
                let detail = format!("`{place}` has neither a `type` nor a `role`");
                let remedy = "give a message as {\"role\", \"content\"}, any other item with its `type`";
                return Err(BadRequest::of(&format!("{place}.type"), detail, remedy));
            }
        };
        let required = |value: Option<String>, name: &str| {
            value.ok_or_else(|| {
                let detail = format!("`{place}` has no `{name}`");
                BadRequest::of(&format!("{place}.{name}"), detail, format!("give each `{kind}` its `{name}`"))
            })
        };
        match kind {
            "message" => {
                let Said { role, content } = body::read_at(place, json, DESCRIBED)?;
                let role = match role {
                    Speaker::System => Role::System,
                    Speaker::Developer => Role::Developer,
                    Speaker::User => Role::User,
                    Speaker::Assistant => Role::Assistant,
                };
                self.push(Message { content: content.map(common_content), ..Message::text(role, "") });
            }
            "function_call" | "custom_tool_call" => {
                let Call { call_id, name, arguments } = body::read_at(place, json, DESCRIBED)?;
                let (id, name) = (required(call_id, "call_id")?, required(name, "name")?);
                self.call(kind == "custom_tool_call", &id, &name, &arguments.unwrap_or_default());
            }
            "function_call_output" | "custom_tool_call_output" => {
                let Output { call_id, output } = body::read_at(place, json, DESCRIBED)?;
                let (call_id, content) = (required(call_id, "call_id")?, output.map(common_content));
                self.push(Message { content, tool_call_id: Some(call_id), ..Message::text(Role::Tool, "") });
            }
            "reasoning" => {}
            _ => {
                let as_it_came = serde_json::from_str(json.get()).unwrap_or_default();
                let content = Some(Content::Parts(vec![as_it_came]));
                self.push(Message { content, ..Message::text(Role::Assistant, "") });
            }
        }
        Ok(())
    }

    fn push(&mut self, message: Message) {
        self.close();
        self.messages.push(message);
    }

    /// A call belongs to the turn of the words or calls before it.
    fn call(&mut self, custom: bool, id: &str, name: &str, arguments: &str) {
        if self.messages.last().is_none_or(|last| last.role != Role::Assistant) {
            self.push(Message { content: None, ..Message::text(Role::Assistant, "") });
        }
        let kind = if custom { "custom" } else { "function" };
        let mut inside = Members::default();
        inside.set("name", name);
        inside.set(if custom { "input" } else { "arguments" }, arguments);
        let mut call = Members::default();
        call.set("id", id);
        call.set("type", kind);
        call.set(kind, &inside);
        self.calls.push(call);
    }

    fn close(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        if let Some(last) = self.messages.last_mut().filter(|_| !calls.is_empty()) {
            last.tool_calls = Json::of(&calls);
        }
    }

    fn done(mut self) -> Vec<Message> {
        self.close();
        self.messages
    }
}

fn common_content(content: Content) -> Content {
    let Content::Parts(parts) = content else { return content };
    let mut parts: Vec<Value> = parts.into_iter().map(|part| common_part(&part).unwrap_or(part)).collect();
    // Servers that read nothing but text are many, and a single part of text is no more than that.
    match &mut parts[..] {
        [part] if part["type"] == "text" => Content::Text(part["text"].as_str().unwrap_or_default().to_owned()),
        _ => Content::Parts(parts),
    }
}

/// The part in the shape of Chat Completions; nothing if that has no word for it.
fn common_part(part: &Value) -> Option<Value> {
    let text = |name: &str| part[name].as_str();
    Some(match text("type")? {
        "input_text" | "output_text" | "text" => json!({ "type": "text", "text": text("text")? }),
        "refusal" => json!({ "type": "refusal", "refusal": text("refusal")? }),
        "input_image" => {
            let mut image = json!({ "url": text("image_url")? });
            if let Some(detail) = text("detail") {
                image["detail"] = detail.into();
            }
            json!({ "type": "image_url", "image_url": image })
        }
        "input_file" => {
            let known = ["file_data", "file_id", "filename"].into_iter();
            let file: serde_json::Map<_, _> =
                known.filter_map(|name| Some((name.to_owned(), text(name)?.into()))).collect();
            (file.contains_key("file_data") || file.contains_key("file_id"))
                .then(|| json!({ "type": "file", "file": file }))?
        }
        "input_audio" => json!({ "type": "input_audio", "input_audio": part["input_audio"].as_object()? }),
        _ => return None,
    })
}

/// The items that these messages are. A part that has no word here stays as it is.
pub(super) fn from_messages(messages: &[Message]) -> Vec<Members> {
    let mut items = Vec::new();
    let mut custom: HashSet<String> = HashSet::new();
    for message in messages {
        if message.role == Role::Tool {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let kind = if custom.contains(id) { "custom_tool_call" } else { "function_call" };
            let mut item = of_type(&format!("{kind}_output"));
            item.set("call_id", id);
            item.set("output", &content(message).unwrap_or(Value::from("")));
            items.push(item);
            continue;
        }
        let calls: Vec<CommonCall> =
            message.tool_calls.as_ref().and_then(|calls| serde_json::from_str(calls.get()).ok()).unwrap_or_default();
        if let Some(content) = content(message).filter(|content| calls.is_empty() || *content != "") {
            let mut item = of_type("message");
            item.set("role", &message.role);
            item.set("content", &content);
            items.push(item);
        }
        for CommonCall { id, r#type, function } in calls {
            let free = r#type.as_deref() == Some("custom");
            let CommonFunction { name, arguments } = function.unwrap_or(CommonFunction { name: None, arguments: None });
            let mut item = of_type(if free { "custom_tool_call" } else { "function_call" });
            item.set("call_id", id.as_deref().unwrap_or_default());
            item.set("name", name.as_deref().unwrap_or_default());
            item.set(if free { "input" } else { "arguments" }, arguments.as_deref().unwrap_or_default());
            items.push(item);
            custom.extend(id.filter(|_| free));
        }
    }
    items
}

fn of_type(kind: &str) -> Members {
    let mut item = Members::default();
    item.set("type", kind);
    item
}

/// Words alone stay a string, which every server reads.
fn content(message: &Message) -> Option<Value> {
    Some(match message.content.as_ref()? {
        Content::Text(text) => Value::from(text.as_str()),
        Content::Parts(parts) => {
            let own = |part: &Value| own_part(part, message.role).unwrap_or_else(|| part.clone());
            parts.iter().map(own).collect()
        }
    })
}

/// A part of a message in the words of this protocol; nothing if that has none for it.
pub(super) fn own_part(part: &Value, role: Role) -> Option<Value> {
    Some(match part["type"].as_str()? {
        "text" => {
            let kind = if role == Role::Assistant { "output_text" } else { "input_text" };
            json!({ "type": kind, "text": part["text"].as_str()? })
        }
        "image_url" => {
            let image = &part["image_url"];
            let url = image.as_str().or(image["url"].as_str())?;
            json!({ "type": "input_image", "image_url": url, "detail": image["detail"].as_str().unwrap_or("auto") })
        }
        "file" => {
            let mut file = part["file"].as_object()?.clone();
            file.insert("type".to_owned(), "input_file".into());
            Value::Object(file)
        }
        "refusal" | "input_audio" => part.clone(),
        _ => return None,
    })
}

/// What a prompt asks, as items to the letter; of a prompt of another protocol, as items made from its messages.
fn items_of(prompt: &Prompt) -> Vec<Json> {
    #[derive(Deserialize)]
    struct Body {
        input: Option<Input>,
    }
    let body = prompt.body.as_ref().filter(|_| prompt.protocol == NAME);
    match body.and_then(|body| serde_json::from_str(body.get()).ok()) {
        Some(Body { input: Some(Input::Items(items)) }) => items,
        Some(Body { input: Some(Input::Text(text)) }) => {
            Json::of(&json!({ "type": "message", "role": "user", "content": text })).into_iter().collect()
        }
        _ => from_messages(&prompt.messages).iter().filter_map(Json::of).collect(),
    }
}

/// Puts a conversation before what is asked: what the previous prompt asked, and what was answered. Its instructions stay behind.
///
/// OpenAI's server looks up reasoning that has no `encrypted_content` by its id, and refuses the whole request (`Item with id 'rs_…' not
/// found`) where it did not keep the response. So of such a response that reasoning is left out, and named. `stored` is whether the
/// upstream has kept it, in its own word; one that said nothing was asked to unless the prompt was another protocol's.
///
/// The whole may have `at_most` so many bytes, as if the client had sent it. No chain is followed: a prompt that continues another is
/// stored with all that went before.
///
/// # Errors
/// When what was asked or answered before cannot be read, or is too much.
pub fn expand(
    previous: &Prompt,
    output: Vec<Json>,
    stored: Option<bool>,
    at_most: ByteSize,
    asked: &mut Asked,
) -> Result<(), BadRequest> {
    let nowhere = !stored.unwrap_or(previous.protocol == NAME);
    let mut items = items_of(previous);
    for (n, item) in output.into_iter().enumerate() {
        match bare_reasoning(&item) {
            Some(Bare::MadeHere) => {}
            Some(Bare::Upstream) if nowhere => {
                asked.prompt.left_out.push(format!("previous_response_id.output[{n}]"));
            }
            _ => items.push(item),
        }
    }
    items.extend(items_of(&asked.prompt));
    if items.iter().map(|item| item.get().len() as u64).sum::<u64>() > at_most.as_u64() {
        let detail = format!("the conversation that this continues is larger than {at_most} with what is asked now");
        let remedy = "give the part of it that matters as `input`, or raise [server] max_body";
        return Err(BadRequest::of("previous_response_id", detail, remedy));
    }
    asked.prompt.messages = messages(&items)?;
    if let Some(body) = &asked.prompt.body {
        let mut body: Members = body::read(body, DESCRIBED)?;
        body.set("input", &items);
        asked.prompt.body = Json::of(&body);
    }
    Ok(())
}

/// Reasoning that holds nothing of itself but a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// Its id is lastword's: no upstream can go on with it.
    MadeHere,
    /// An upstream may have kept the rest under its id.
    Upstream,
}

pub(super) fn bare_reasoning(item: &Json) -> Option<Bare> {
    #[derive(Deserialize)]
    struct Reasoning {
        r#type: Option<String>,
        id: Option<String>,
        encrypted_content: Option<String>,
    }
    let Reasoning { r#type, id, encrypted_content } = serde_json::from_str(item.get()).ok()?;
    if r#type.as_deref() != Some("reasoning") || encrypted_content.is_some() {
        return None;
    }
    let made_here = id.is_none_or(|id| id.split('_').any(|piece| piece.parse::<StreamId>().is_ok()));
    Some(if made_here { Bare::MadeHere } else { Bare::Upstream })
}

/// What a response was asked, as the list of its input shows it: each item in its long form, and with an id that no other one has,
/// since it is by their ids that clients go from page to page. `stream` is the response's.
#[must_use]
pub fn input_items(prompt: &Prompt, stream: StreamId) -> Vec<Json> {
    let mut ids = HashSet::new();
    let shown = |(n, item): (usize, Json)| {
        let Ok(mut members) = serde_json::from_str::<Members>(item.get()) else { return item };
        let kind = members.get("type").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
        let kind = match kind {
            Some(kind) => kind,
            None if members.get("role").is_some() => "message".to_owned(),
            None => "item_reference".to_owned(),
        };
        members.set("type", &kind);
        if kind == "message" {
            lengthen(&mut members);
        }
        let id = members.get("id").and_then(|id| serde_json::from_str::<String>(id.get()).ok());
        if !id.is_some_and(|id| ids.insert(id)) {
            members.set("id", &format!("{}_{stream}_in{n}", prefix(&kind)));
        }
        Json::of(&members).unwrap_or(item)
    };
    items_of(prompt).into_iter().enumerate().map(shown).collect()
}

/// The id of an item.
#[must_use]
pub fn id_of(item: &Json) -> Option<String> {
    serde_json::from_str::<Item>(item.get()).ok()?.id
}

/// A message in its long form: its content is a list.
fn lengthen(message: &mut Members) {
    if message.get("status").is_none() {
        message.set("status", "completed");
    }
    let text = message.get("content").and_then(|content| serde_json::from_str::<String>(content.get()).ok());
    if let Some(text) = text {
        let part = match message.get("role").map(Json::get) {
            Some(r#""assistant""#) => json!({ "type": "output_text", "text": text, "annotations": [] }),
            _ => json!({ "type": "input_text", "text": text }),
        };
        message.set("content", &[part]);
    }
}

fn prefix(kind: &str) -> &'static str {
    match kind {
        "message" => "msg",
        "reasoning" => "rs",
        "function_call" | "function_call_output" => "fc",
        "custom_tool_call" => "ctc",
        "custom_tool_call_output" => "ctco",
        _ => "item",
    }
}
