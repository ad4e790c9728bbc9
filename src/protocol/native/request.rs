//! `POST /v1/streams`: what a client may ask, and how it is told what it may not.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    event::{Chunking, Json},
    near::Unknown,
    prompt::{Message, OnDisconnect, Params, Prompt, Role, Stops},
    protocol::BadRequest,
};

/// How much a client may have kept beside each of its answers: it is read with every listing.
const METADATA: usize = 16 * 1024;

/// What a client asks: a prompt, or one that a template still has to be rendered for.
#[derive(Debug)]
pub struct Asked {
    /// The prompt; without messages where there is a template.
    pub prompt: Prompt,
    /// The template's name and what is filled in.
    pub template: Option<(String, Map<String, Value>)>,
}

/// The body. Exactly one of `prompt`, `messages` and `template` must be there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// A text.
    #[schema(min_length = 1)]
    prompt: Option<String>,
    /// In the shape of Chat Completions, parts and tool calls too.
    #[schema(min_items = 1)]
    messages: Option<Vec<Message>>,
    /// The name of a prompt of the server's.
    template: Option<String>,
    /// What is filled into the template.
    #[schema(value_type = Option<Object>)]
    variables: Option<Map<String, Value>>,
    /// What the model is told before.
    system: Option<String>,
    /// A name of the configuration, or `backend/model`; else the default.
    model: Option<String>,
    /// How long the answer may be.
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
    /// As the upstream understands it; likewise `top_p`, `stop`, `seed`.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    stop: Option<Stops>,
    seed: Option<i64>,
    /// In the shape of Chat Completions; likewise `tool_choice` and `response_format`.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Json>,
    #[schema(value_type = Option<Value>)]
    tool_choice: Option<Json>,
    #[schema(value_type = Option<Object>)]
    response_format: Option<Json>,
    /// When the last reader leaves: `"continue"` (default), `"cancel"`, or `{"cancel_after": "30s"}`.
    #[schema(value_type = Option<Value>)]
    on_disconnect: Option<OnDisconnect>,
    /// In what pieces its readers are told the words.
    chunking: Option<Chunking>,
    /// Labels of yours, given back in the state to the letter.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Json>,
    /// More members for an upstream's request, or what the mock shall say and how it shall fail.
    #[schema(value_type = Option<Object>)]
    backend_options: Option<Json>,
    /// Refuse what the upstream has no words for, in place of naming it.
    strict: Option<bool>,
}

/// A body of plain text: it is the prompt.
///
/// # Errors
/// When it is empty or not UTF-8.
pub fn on_text(body: &[u8]) -> Result<Prompt, BadRequest> {
    let text = std::str::from_utf8(body)
        .map_err(|_| BadRequest::of("prompt", "the body is not UTF-8", "send text as UTF-8, or JSON"))?;
    said(text)?;
    if text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        // Browsers call any string text; nobody means to ask a model this.
        let (detail, remedy) =
            ("the body is called plain text, and is a JSON object", "say `content-type: application/json`");
        return Err(BadRequest::of("Content-Type", detail, remedy));
    }
    Ok(Prompt { protocol: "native".into(), messages: vec![Message::text(Role::User, text)], ..Prompt::default() })
}

/// A body of JSON.
///
/// # Errors
/// When it is not JSON, has members that do not exist, or values that make no sense. The first mistake is named.
pub fn parse(body: &[u8]) -> Result<Asked, BadRequest> {
    // serde would take a list for the members in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(syntax("it is a list, not an object"));
    }
    let json = &mut serde_json::Deserializer::from_slice(body);
    let create: Create = serde_path_to_error::deserialize(&mut *json).map_err(explain)?;
    json.end().map_err(|_| syntax("there is something behind the JSON object"))?;
    let template = create.template.map(|name| (name, create.variables.clone().unwrap_or_default()));
    if create.variables.is_some() && template.is_none() {
        let remedy = "name the `template` that they belong to, or leave them out";
        return Err(BadRequest::of("variables", "there are `variables` and no `template`", remedy));
    }
    let messages = match (create.prompt, create.messages, &template) {
        (Some(prompt), None, None) => {
            said(&prompt)?;
            vec![Message::text(Role::User, prompt)]
        }
        (None, Some(messages), None) if !messages.is_empty() => messages,
        (None, Some(_), None) => {
            return Err(BadRequest::of("messages", "`messages` is empty", "give at least one message"));
        }
        (None, None, Some(_)) => Vec::new(),
        // Where the user's own code is the generator there may be nothing to ask; whether it is, the model says.
        (None, None, None) if create.model.is_some() => Vec::new(),
        (None, None, None) => return Err(nothing_asked()),
        (prompt, messages, _) => {
            let names =
                [("prompt", prompt.is_some()), ("messages", messages.is_some()), ("template", template.is_some())];
            let given: Vec<_> = names.iter().filter(|(_, given)| *given).map(|(name, _)| format!("`{name}`")).collect();
            return Err(BadRequest::of("prompt", format!("{} are given", given.join(" and ")), "give one of them"));
        }
    };
    if let Some(empty) = messages.iter().position(|m| m.content.is_none() && m.tool_calls.is_none()) {
        let field = format!("messages[{empty}].content");
        return Err(BadRequest::of(&field, "the message says nothing", "give it a `content`"));
    }
    let within = |field, value: Option<f64>, max: f64| match value {
        Some(value) if !(0.0..=max).contains(&value) => {
            Err(BadRequest::of(field, format!("`{field}` is {value}"), format!("give a number from 0 to {max}")))
        }
        other => Ok(other),
    };
    let is_object = |field: &str, value: &Option<Json>| match value {
        Some(json) if !json.get().starts_with('{') => {
            Err(BadRequest::of(field, format!("`{field}` is not an object"), "give a JSON object"))
        }
        _ => Ok(()),
    };
    is_object("metadata", &create.metadata)?;
    if create.metadata.as_ref().is_some_and(|metadata| metadata.get().len() > METADATA) {
        let remedy = "labels are for finding an answer again; keep what is large yourself";
        return Err(BadRequest::of("metadata", "`metadata` is larger than 16 KiB", remedy));
    }
    is_object("backend_options", &create.backend_options)?;
    if create.max_tokens == Some(0) {
        return Err(BadRequest::of("max_tokens", "`max_tokens` is 0", "give at least 1, or leave it out"));
    }
    let prompt = Prompt {
        protocol: "native".into(),
        model: create.model.unwrap_or_default(),
        system: create.system,
        messages,
        params: Params {
            max_tokens: create.max_tokens,
            temperature: within("temperature", create.temperature, 2.0)?,
            top_p: within("top_p", create.top_p, 1.0)?,
            stop: create.stop.map(Vec::from).unwrap_or_default(),
            seed: create.seed,
            tools: create.tools,
            tool_choice: create.tool_choice,
            response_format: create.response_format,
            ..Params::default()
        },
        backend_options: create.backend_options,
        metadata: create.metadata,
        on_disconnect: create.on_disconnect.unwrap_or_default(),
        chunking: create.chunking,
        strict: create.strict.unwrap_or_default(),
        body: serde_json::from_slice(body).ok(),
        ..Prompt::default()
    };
    Ok(Asked { prompt, template })
}

/// Of a body that asks nothing.
#[must_use]
pub fn nothing_asked() -> BadRequest {
    let remedy = "give `prompt`, a text, or `messages`, a list of {\"role\", \"content\"}, or a `template`";
    BadRequest::of("prompt", "there is neither `prompt` nor `messages` nor `template`", remedy)
}

fn said(prompt: &str) -> Result<(), BadRequest> {
    match prompt.trim().is_empty() {
        true => Err(BadRequest::of("prompt", "the prompt is empty", "say something")),
        false => Ok(()),
    }
}

fn syntax(what: &str) -> BadRequest {
    let remedy = r#"send {"prompt":"…"}, or plain text with `content-type: text/plain`"#.to_owned();
    BadRequest { field: None, detail: format!("the body is not a JSON object: {what}"), remedy }
}

/// Says a parser's error in terms of the request.
fn explain(error: serde_path_to_error::Error<serde_json::Error>) -> BadRequest {
    let path = error.path().to_string();
    let error = error.into_inner();
    let message = error.to_string();
    if error.is_syntax() || error.is_eof() {
        return syntax(&message);
    }
    // The place in the bytes means little to who sent an object.
    let message = message.split(" at line ").next().unwrap_or(&message);
    match Unknown::in_message(message) {
        Some(unknown) if message.starts_with("unknown field") => {
            let inside = path.strip_suffix(unknown.key).map(|path| path.trim_end_matches('.')).unwrap_or(&path);
            let inside = if inside.is_empty() || inside == "." { String::new() } else { format!("{inside}.") };
            BadRequest::of(
                &format!("{inside}{}", unknown.key),
                format!("there is no `{}`", unknown.key),
                unknown.remedy(),
            )
        }
        Some(unknown) => {
            BadRequest::of(&path, format!("`{}` is none of the values of `{path}`", unknown.key), unknown.remedy())
        }
        None if path == "." => syntax(message),
        None => BadRequest::of(&path, format!("`{path}`: {message}"), "see the API's description for its type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (String, String, String) {
        let BadRequest { field, detail, remedy } = parse(body.as_bytes()).expect_err(body);
        (field.unwrap_or_default(), detail, remedy)
    }

    #[test]
    fn each_mistake_names_its_field_and_its_remedy() {
        for (body, field, remedy) in [
            (r#"{"promt":"x"}"#, "promt", "did you mean `prompt`?"),
            (r#"{"prompt":"  "}"#, "prompt", "say something"),
            (r#"{}"#, "prompt", "give `prompt`"),
            (r#"{"prompt":"x","messages":[]}"#, "prompt", "one of them"),
            (r#"{"prompt":"x","template":"t"}"#, "prompt", "one of them"),
            (r#"{"prompt":"x","variables":{}}"#, "variables", "`template`"),
            (r#"{"template":"t","variables":[]}"#, "variables", ""),
            (r#"{"messages":[]}"#, "messages", "at least one"),
            (r#"{"messages":[{"role":"usr","content":"x"}]}"#, "messages[0].role", "did you mean `user`?"),
            (r#"{"messages":[{"role":"user"}]}"#, "messages[0].content", "give it a `content`"),
            (r#"{"messages":[{"role":"user","content":"x","nam":"y"}]}"#, "messages[0].nam", "did you mean `name`?"),
            (r#"{"prompt":"x","temperature":3}"#, "temperature", "from 0 to 2"),
            (r#"{"prompt":"x","max_tokens":0}"#, "max_tokens", "at least 1"),
            (r#"{"prompt":"x","max_tokens":-1}"#, "max_tokens", ""),
            (r#"{"prompt":"x","metadata":[1]}"#, "metadata", "object"),
            (r#"{"prompt":"x","on_disconnect":{"cancel_after":"soon"}}"#, "on_disconnect", ""),
            (r#"{"prompt":"x","chunking":"words"}"#, "chunking", "did you mean `word`?"),
            (r#"{"prompt":7}"#, "prompt", ""),
            ("hello", "", "text/plain"),
            (r#"{"prompt":"x""#, "", "text/plain"),
            (r#"{"prompt":"x"} y"#, "", "text/plain"),
            ("[]", "", "text/plain"),
        ] {
            let (got, detail, said) = refused(body);
            assert!(got.starts_with(field) && (got.is_empty() == field.is_empty()), "{body}: field {got:?}");
            assert!(said.contains(remedy), "{body}: remedy {said:?}");
            assert!(!detail.contains(" at line ") || field.is_empty(), "{body}: {detail}");
        }
    }

    #[test]
    fn the_body_is_kept_to_the_letter() {
        let body = r#"{"prompt": "x", "temperature": 0.70, "stop": "END", "metadata": {"b": 1, "a": 1.0}}"#;
        let prompt = parse(body.as_bytes()).expect("good").prompt;
        assert_eq!(prompt.body.as_ref().map(Json::get), Some(body));
        assert_eq!(prompt.metadata.as_ref().map(Json::get), Some(r#"{"b": 1, "a": 1.0}"#));
        assert_eq!(prompt.params.stop, ["END"]);
    }
}
