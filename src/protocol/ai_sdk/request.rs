//! `POST /api/chat`: what `useChat` sends, as a prompt. The messages are those of the page, with all that it shows of them; what of
//! them a model is told is what `convertToModelMessages` of the SDK tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::outline::Echo;
use crate::{
    event::Json,
    prompt::{Content, Message, OnDisconnect, Params, Prompt, Role},
    protocol::{BadRequest, body},
};

/// A request.
#[derive(Debug)]
pub struct Asked {
    /// What to answer.
    pub prompt: Prompt,
    /// Which chat it belongs to. (`WorkflowChatTransport` does not say.)
    pub chat: Option<String>,
}

/// What is read of the body. A page may add what it likes (`body` of `useChat`); what is not named here is not for lastword.
#[derive(Deserialize)]
struct Body {
    id: Option<String>,
    #[serde(default)]
    messages: Vec<UiMessage>,
    model: Option<String>,
    system: Option<String>,
    temperature: Option<f64>,
    #[serde(alias = "maxOutputTokens")]
    max_tokens: Option<u64>,
    tools: Option<Json>,
    tool_choice: Option<Json>,
    reasoning_effort: Option<String>,
    metadata: Option<Json>,
    backend_options: Option<Json>,
    on_disconnect: Option<OnDisconnect>,
    strict: Option<bool>,
}

/// A tool as assistant-ui sends it, under its name.
#[derive(Deserialize, Serialize)]
struct Tool {
    #[serde(default)]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Json>,
}

#[derive(Deserialize)]
struct UiMessage {
    id: Option<String>,
    role: Speaker,
    #[serde(default)]
    parts: Vec<Part>,
    /// As before version 5.
    content: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    System,
    User,
    Assistant,
}

/// A part of a message; its type says which of the members there are.
#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
    url: Option<String>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    filename: Option<String>,
    #[serde(rename = "toolCallId")]
    call: Option<String>,
    #[serde(rename = "toolName")]
    name: Option<String>,
    state: Option<String>,
    input: Option<Json>,
    output: Option<Value>,
    #[serde(rename = "errorText")]
    error: Option<String>,
    #[serde(default, rename = "providerExecuted")]
    provider_executed: Option<bool>,
}

/// Reads a body.
///
/// # Errors
/// When it is no JSON object, has no messages, or a member that is read here is of another type. The first mistake is named.
pub fn parse(body: &[u8]) -> Result<Asked, BadRequest> {
    let whole = body::object(body, r#"{"id":"…","messages":[{"role":"user","parts":[{"type":"text","text":"…"}]}]}"#)?;
    let body: Body = body::read(&whole, "the AI SDK's description of UI messages")?;
    let mut messages = Vec::new();
    for (n, message) in body.messages.iter().enumerate() {
        if message.parts.is_empty() && message.content.is_none() {
            let place = format!("messages[{n}].parts");
            return Err(BadRequest::of(
                &place,
                "a message has no `parts`",
                "give at least one, as {\"type\", \"text\"}",
            ));
        }
        message.put(&mut messages);
    }
    if messages.is_empty() {
        let (detail, remedy) = ("there is nothing in `messages` that a model could be told", "give a message of text");
        return Err(BadRequest::of("messages", detail, remedy));
    }
    let goes_on = body.messages.last().filter(|last| last.role == Speaker::Assistant).and_then(|last| last.id.clone());
    let params = Params {
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        tools: body.tools.and_then(tools),
        tool_choice: body.tool_choice,
        reasoning_effort: body.reasoning_effort,
        ..Params::default()
    };
    let prompt = Prompt {
        protocol: super::NAME.into(),
        model: body.model.unwrap_or_default(),
        system: body.system,
        messages,
        params,
        backend_options: body.backend_options,
        metadata: body.metadata,
        on_disconnect: body.on_disconnect.unwrap_or_default(),
        strict: body.strict.unwrap_or_default(),
        echo: Json::of(&Echo { message_id: goes_on }),
        ..Prompt::default()
    };
    Ok(Asked { prompt, chat: body.id.filter(|id| !id.is_empty()) })
}

/// Tools in the shape of Chat Completions. Those of assistant-ui are one object, by their names; it is empty where a page has none.
fn tools(said: Json) -> Option<Json> {
    let Ok(named) = serde_json::from_str::<BTreeMap<String, Tool>>(said.get()) else { return Some(said) };
    let told = named.into_iter().map(|(name, tool)| json!({ "type": "function", "function": Tool { name, ..tool } }));
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| Json::of(&told)).flatten()
}

impl UiMessage {
    /// What a model is told of it.
    fn put(&self, messages: &mut Vec<Message>) {
        match self.role {
            Speaker::System => {
                let words: String = self.texts(&self.parts);
                messages.extend((!words.is_empty()).then(|| Message::text(Role::System, words)));
            }
            Speaker::User => messages.extend(self.said()),
            Speaker::Assistant => {
                if self.parts.is_empty() {
                    messages.push(Message::text(Role::Assistant, self.texts(&[])));
                }
                self.parts.split(|part| part.r#type == "step-start").for_each(|step| self.step(step, messages));
            }
        }
    }

    fn texts(&self, parts: &[Part]) -> String {
        let texts: String = parts.iter().filter_map(Part::words).collect();
        if self.parts.is_empty() { self.content.clone().unwrap_or_default() } else { texts }
    }

    /// The words and the files of a person.
    fn said(&self) -> Option<Message> {
        if !self.parts.iter().any(|part| part.r#type == "file") {
            let words = self.texts(&self.parts);
            return (!words.is_empty()).then(|| Message::text(Role::User, words));
        }
        let parts = self.parts.iter().filter_map(|part| match part.words() {
            Some(text) => Some(json!({ "type": "text", "text": text })),
            None => part.file(),
        });
        Some(Message { content: Some(Content::Parts(parts.collect())), ..Message::text(Role::User, "") })
    }

    /// One step of an assistant's: what it said and called, and what came of the calls. A call without a result is nothing that a model
    /// could go on from.
    fn step(&self, parts: &[Part], messages: &mut Vec<Message>) {
        let calls: Vec<_> = parts.iter().filter_map(Part::call).collect();
        let words = self.texts(parts);
        if words.is_empty() && calls.is_empty() {
            return;
        }
        let told: Vec<_> = calls.iter().map(|call| call.told()).collect();
        messages.push(Message {
            content: (!words.is_empty()).then_some(Content::Text(words)),
            tool_calls: (!told.is_empty()).then(|| Json::of(&told)).flatten(),
            ..Message::text(Role::Assistant, "")
        });
        messages.extend(
            calls.into_iter().map(|call| Message {
                tool_call_id: Some(call.id.to_owned()),
                ..Message::text(Role::Tool, call.result)
            }),
        );
    }
}

/// A call of a tool, and what came of it.
struct Call<'a> {
    id: &'a str,
    name: &'a str,
    input: &'a str,
    result: String,
}

impl Call<'_> {
    /// In the shape of Chat Completions.
    fn told(&self) -> Value {
        let function = json!({ "name": self.name, "arguments": self.input });
        json!({ "id": self.id, "type": "function", "function": function })
    }
}

impl Part {
    fn words(&self) -> Option<&str> {
        self.text.as_deref().filter(|_| self.r#type == "text")
    }

    /// A file in the shape of Chat Completions.
    fn file(&self) -> Option<Value> {
        let url = self.url.as_deref().filter(|_| self.r#type == "file")?;
        let kind = self.media_type.as_deref().unwrap_or_default();
        let base64 = url.split_once(";base64,").map(|(_, base64)| base64);
        Some(match (kind, base64) {
            (kind, _) if kind.starts_with("image/") => json!({ "type": "image_url", "image_url": { "url": url } }),
            ("audio/wav" | "audio/mpeg" | "audio/mp3", Some(base64)) => {
                let format = if kind == "audio/wav" { "wav" } else { "mp3" };
                json!({ "type": "input_audio", "input_audio": { "data": base64, "format": format } })
            }
            _ => {
                let name = self.filename.as_deref().unwrap_or("file");
                json!({ "type": "file", "file": { "filename": name, "file_data": url } })
            }
        })
    }

    /// A call of one of the page's tools that has come to something.
    fn call(&self) -> Option<Call<'_>> {
        let name = match self.r#type.strip_prefix("tool-") {
            Some(name) => name,
            None => self.name.as_deref().filter(|_| self.r#type == "dynamic-tool")?,
        };
        if self.provider_executed == Some(true) {
            return None;
        }
        let result = match self.state.as_deref() {
            Some("output-available") => match self.output.as_ref()? {
                Value::String(text) => text.clone(),
                output => output.to_string(),
            },
            Some("output-error") => self.error.clone().unwrap_or_else(|| "the tool failed".to_owned()),
            Some("output-denied") => "the person did not allow this".to_owned(),
            _ => return None,
        };
        Some(Call { id: self.call.as_deref()?, name, input: self.input.as_ref().map_or("{}", Json::get), result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_told_what_was_said_and_called_and_not_what_is_only_shown() {
        let body = json!({ "id": "chat", "trigger": "submit-message", "theme": "dark", "model": "m", "messages": [
            { "id": "1", "role": "system", "parts": [{ "type": "text", "text": "Be brief." }] },
            { "id": "2", "role": "user", "parts": [
                { "type": "text", "text": "See" },
                { "type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA==" },
                { "type": "file", "mediaType": "application/pdf", "filename": "a.pdf", "url": "data:application/pdf;base64,AA==" },
                { "type": "data-place", "data": 1 },
            ]},
            { "id": "3", "role": "assistant", "parts": [
                { "type": "step-start" },
                { "type": "reasoning", "text": "hm" },
                { "type": "text", "text": "Looking." },
                { "type": "tool-look", "toolCallId": "c1", "state": "output-available", "input": { "at": 1.50 }, "output": { "ok": true } },
                { "type": "dynamic-tool", "toolName": "find", "toolCallId": "c2", "state": "output-error", "errorText": "no" },
                { "type": "tool-ask", "toolCallId": "c3", "state": "input-available", "input": {} },
                { "type": "step-start" },
                { "type": "text", "text": "It is there." },
            ]},
        ]});
        let Asked { prompt, chat } = parse(body.to_string().as_bytes()).expect("a request");
        assert_eq!((chat.as_deref(), &*prompt.model), (Some("chat"), "m"));
        assert_eq!(prompt.echo.expect("an echo").get(), r#"{"message_id":"3"}"#);
        let told: Vec<_> =
            prompt.messages.iter().map(|message| serde_json::to_string(message).expect("plain data")).collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        {"role":"system","content":"Be brief."}
        {"role":"user","content":[{"text":"See","type":"text"},{"image_url":{"url":"data:image/png;base64,AA=="},"type":"image_url"},{"file":{"file_data":"data:application/pdf;base64,AA==","filename":"a.pdf"},"type":"file"}]}
        {"role":"assistant","content":"Looking.","tool_calls":[{"function":{"arguments":"{\"at\":1.5}","name":"look"},"id":"c1","type":"function"},{"function":{"arguments":"{}","name":"find"},"id":"c2","type":"function"}]}
        {"role":"tool","content":"{\"ok\":true}","tool_call_id":"c1"}
        {"role":"tool","content":"no","tool_call_id":"c2"}
        {"role":"assistant","content":"It is there."}
        "#);
    }

    #[test]
    fn tools_are_told_in_one_shape_however_the_page_says_them() {
        let told = |tools: Value| {
            let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "tools": tools });
            let tools = parse(body.to_string().as_bytes()).expect("a request").prompt.params.tools;
            tools.map(|tools| serde_json::from_str::<Value>(tools.get()).expect("JSON"))
        };
        let look = json!({ "type": "function", "function": { "name": "look", "description": "Looks.", "parameters": { "type": "object" } } });
        assert_eq!(told(json!([look])), Some(json!([look])));
        let named = json!({ "look": { "description": "Looks.", "parameters": { "type": "object" }, "providerOptions": {} }, "wait": {} });
        let wait = json!({ "type": "function", "function": { "name": "wait" } });
        assert_eq!(told(named), Some(json!([look, wait])));
        assert_eq!(told(json!({ "look": 1 })), Some(json!({ "look": 1 })));
        assert_eq!((told(json!({})), told(json!(null))), (None, None));
    }

    #[test]
    fn a_bad_request_names_the_field_and_the_remedy() {
        for (body, field) in [
            (json!([]), None),
            (json!({ "messages": [] }), Some("messages")),
            (json!({ "id": "x" }), Some("messages")),
            (json!({ "messages": [{ "role": "user" }] }), Some("messages[0].parts")),
            (json!({ "messages": [{ "role": "owl", "parts": [] }] }), Some("messages[0].role")),
            (json!({ "messages": [{ "role": "user", "parts": [{ "text": "x" }] }] }), Some("messages[0].parts[0]")),
            (json!({ "messages": [{ "role": "user", "parts": [{ "type": "data-x", "data": 1 }] }] }), Some("messages")),
            (json!({ "id": 7, "messages": [] }), Some("id")),
        ] {
            let error = parse(body.to_string().as_bytes()).expect_err("bad");
            assert_eq!(error.field.as_deref(), field, "{body}: {error}");
            assert!(!error.remedy.is_empty());
        }
    }
}
