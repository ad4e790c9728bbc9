//! `POST /v1/responses`: a client's request as a prompt.
//!
//! Read as OpenAI's own server reads it: what is not known here is no error, since the body goes on to an upstream of the same
//! protocol as it came, and that may know it. What is read is what any other backend can be asked, in the shape of Chat Completions;
//! what the input holds is translated in `items`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;

use super::{DESCRIBED, NAME, items};
use crate::{
    event::Json,
    prompt::{OnDisconnect, Params, Prompt},
    protocol::{
        BadRequest,
        body::{self, Members},
    },
};

/// What any other backend can be asked too, beside what says how the client wants the answer.
const COMMON: [&str; 18] = [
    "model",
    "input",
    "instructions",
    "max_output_tokens",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "parallel_tool_calls",
    "user",
    "safety_identifier",
    "metadata",
    "stream",
    "background",
    "store",
    "previous_response_id",
];

/// Values that ask for what is done anyway: nothing is lost where they are left out.
const USUAL: [(&str, &str); 5] = [
    ("include", "[]"),
    ("service_tier", r#""auto""#),
    ("stream_options", "{}"),
    ("top_logprobs", "0"),
    ("truncation", r#""disabled""#),
];

/// A request: what to answer, and in what form.
#[derive(Debug)]
pub struct Asked {
    /// What to answer.
    pub prompt: Prompt,
    /// As events while it is said, or whole when it was.
    pub stream: bool,
    /// Whether the answer goes on without its client.
    pub background: bool,
    /// The response that this one continues.
    pub previous: Option<String>,
    /// Whether the answer is kept.
    pub store: bool,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<Input>,
    instructions: Option<String>,
    max_output_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    tools: Option<Vec<Json>>,
    tool_choice: Option<Json>,
    text: Option<Text>,
    reasoning: Option<Members>,
    parallel_tool_calls: Option<bool>,
    user: Option<String>,
    safety_identifier: Option<String>,
    metadata: Option<Members>,
    stream: Option<bool>,
    background: Option<bool>,
    store: Option<bool>,
    previous_response_id: Option<String>,
    conversation: Option<Json>,
    prompt: Option<Json>,
    /// What is said to lastword itself.
    backend_options: Option<Json>,
    on_disconnect: Option<OnDisconnect>,
    strict: Option<bool>,
}

/// What is asked: words, or items to the letter.
pub(super) enum Input {
    Text(String),
    Items(Vec<Json>),
}

#[derive(Deserialize)]
struct Text {
    format: Option<Json>,
    verbosity: Option<Json>,
}

/// A tool, or the choice of one. `name` is certain for those that the client runs.
#[derive(Deserialize)]
struct Tool {
    r#type: Option<String>,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Json>,
    strict: Option<bool>,
    format: Option<Members>,
    /// Of a choice among several.
    mode: Option<String>,
    tools: Option<Vec<Tool>>,
}

/// Reads a body.
///
/// # Errors
/// When it is no JSON object, asks nothing, or a member that is read here is of another type. The first mistake is named.
pub fn parse(body: &[u8]) -> Result<Asked, BadRequest> {
    let whole = body::object(body, r#"{"input":"…"}"#)?;
    let body: Body = body::read(&whole, DESCRIBED)?;
    let members: Members = body::read(&whole, "")?;
    if body.conversation.is_some() {
        let detail = "`conversation` names a conversation that OpenAI keeps, and lastword keeps none";
        let remedy = "remove it; give `previous_response_id`, or the conversation itself as `input`";
        return Err(BadRequest::of("conversation", detail, remedy));
    }
    let continues = body.previous_response_id.is_some() || body.prompt.is_some();
    let input = match body.input {
        Some(Input::Items(items)) if items.is_empty() && !continues => None,
        None if continues => Some(Input::Items(Vec::new())),
        input => input,
    };
    let input = input.ok_or_else(|| {
        BadRequest::of("input", "there is no `input`", "give text, or a list of items such as {\"role\", \"content\"}")
    })?;
    let echo = echo(&members);
    let mut foreign = members.beyond(&COMMON);
    foreign.retain(|name| {
        let said = members.get(name).map(Json::get);
        !USUAL.iter().any(|(usual, value)| usual == name && said.is_some_and(|said| same(said, value)))
    });
    let mut params = Params {
        max_tokens: body.max_output_tokens,
        temperature: body.temperature,
        top_p: body.top_p,
        parallel_tool_calls: body.parallel_tool_calls,
        user: body.user.or(body.safety_identifier),
        ..Params::default()
    };
    if let Some(text) = body.text {
        if let Some(format) = text.format {
            params.response_format = response_format(&format)?;
        }
        if text.verbosity.is_some() {
            foreign.push("text.verbosity".to_owned());
        }
    }
    if let Some(reasoning) = body.reasoning {
        if let Some(effort) = reasoning.get("effort") {
            params.reasoning_effort = body::read_at("reasoning.effort", effort, DESCRIBED)?;
        }
        foreign.extend(reasoning.beyond(&["effort"]).into_iter().map(|name| format!("reasoning.{name}")));
    }
    tools(&body.tools.unwrap_or_default(), body.tool_choice.as_ref(), &mut params, &mut foreign)?;
    let background = body.background.unwrap_or_default();
    let usual = if background { OnDisconnect::Continue } else { OnDisconnect::A_WHILE };
    let store = body.store.unwrap_or(true);
    Ok(Asked {
        prompt: Prompt {
            protocol: NAME.into(),
            model: body.model.unwrap_or_default(),
            system: body.instructions.filter(|words| !words.is_empty()),
            messages: items::common(&input)?,
            params,
            backend_options: body.backend_options,
            metadata: body.metadata.filter(|labels| !labels.is_empty()).as_ref().and_then(Json::of),
            on_disconnect: body.on_disconnect.unwrap_or(usual),
            foreign,
            strict: body.strict.unwrap_or_default(),
            echo: Json::of(&echo),
            forget: !store,
            body: Some(whole),
            ..Prompt::default()
        },
        stream: body.stream.unwrap_or_default(),
        background,
        previous: body.previous_response_id,
        store,
    })
}

/// Whether two pieces of JSON mean the same.
fn same(a: &str, b: &str) -> bool {
    let value = |json| serde_json::from_str::<serde_json::Value>(json).ok();
    value(a) == value(b)
}

/// What the response object repeats of a request, with OpenAI's own values where the client said nothing.
fn echo(members: &Members) -> Members {
    let mut echo = Members::default();
    let usual = json!({
        "background": false,
        "instructions": null,
        "max_output_tokens": null,
        "max_tool_calls": null,
        "metadata": {},
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "prompt_cache_key": null,
        "reasoning": { "effort": null, "summary": null },
        "safety_identifier": null,
        "service_tier": "auto",
        "store": true,
        "temperature": 1.0,
        "text": { "format": { "type": "text" } },
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": null,
    });
    for (name, usual) in usual.as_object().into_iter().flatten() {
        let said = members.get(name).filter(|said| said.get() != "null");
        match (said, usual.as_object()) {
            (None, _) => echo.set(name, usual),
            (Some(said), None) => echo.set(name, said),
            // An object is filled up: who says one member of it has the usual others.
            (Some(said), Some(usual)) => {
                let mut said: Members = serde_json::from_str(said.get()).unwrap_or_default();
                usual
                    .iter()
                    .filter(|(name, _)| said.get(name).is_none())
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|(name, value)| said.set(name, value));
                echo.set(name, &said);
            }
        }
    }
    for name in ["prompt", "prompt_cache_retention"] {
        echo.set_some(name, members.get(name).filter(|said| said.get() != "null"));
    }
    echo
}

fn response_format(format: &Json) -> Result<Option<Json>, BadRequest> {
    #[derive(Serialize)]
    struct Common {
        r#type: &'static str,
        json_schema: Members,
    }
    let mut schema: Members = body::read_at("text.format", format, DESCRIBED)?;
    let kind: Option<String> = schema.remove("type").and_then(|kind| serde_json::from_str(kind.get()).ok());
    Ok(match kind.as_deref() {
        Some("text") | None => None,
        Some("json_schema") => Json::of(&Common { r#type: "json_schema", json_schema: schema }),
        _ => Some(format.clone()),
    })
}

/// The client's own tools are functions, or take free text. Those that OpenAI runs mean nothing elsewhere.
fn tools(
    tools: &[Json],
    choice: Option<&Json>,
    params: &mut Params,
    foreign: &mut Vec<String>,
) -> Result<(), BadRequest> {
    let mut common = Vec::new();
    for (n, json) in tools.iter().enumerate() {
        let place = format!("tools[{n}]");
        // Of a tool that is not the client's own, members of these names may be anything.
        let named: Members = body::read_at(&place, json, DESCRIBED)?;
        let kind: Option<String> = named.get("type").and_then(|kind| serde_json::from_str(kind.get()).ok());
        match kind.as_deref() {
            Some(kind @ ("function" | "custom")) => {
                let tool: Tool = body::read_at(&place, json, DESCRIBED)?;
                let inside = tool.inside().ok_or_else(|| {
                    let detail = format!("`{place}` has no name");
                    BadRequest::of(&format!("{place}.name"), detail, "give each tool a `name`")
                })?;
                common.push(wrapped(kind, &inside));
            }
            _ => foreign.push(place),
        }
    }
    if !common.is_empty() {
        params.tools = Json::of(&common);
    }
    let Some(choice) = choice else { return Ok(()) };
    params.tool_choice = if choice.get().starts_with('"') { Some(choice.clone()) } else { chosen(choice) };
    if params.tool_choice.is_none() {
        foreign.push("tool_choice".to_owned());
    }
    if common.is_empty() {
        params.tool_choice = None; // servers refuse a choice among no tools
    }
    Ok(())
}

/// `{"type": kind, kind: inside}`: what Responses has flat, Chat Completions has in a box.
fn wrapped<T: Serialize>(kind: &str, inside: &T) -> Members {
    let mut members = Members::default();
    members.set("type", kind);
    members.set(kind, inside);
    members
}

fn chosen(choice: &Json) -> Option<Json> {
    let tool: Tool = serde_json::from_str(choice.get()).ok()?;
    let named = |tool: &Tool| match tool.r#type.as_deref() {
        Some(kind @ ("function" | "custom")) => Some(wrapped(kind, &tool.inside()?)),
        _ => None,
    };
    let Some("allowed_tools") = tool.r#type.as_deref() else { return named(&tool).as_ref().and_then(Json::of) };
    let mut allowed = Members::default();
    allowed.set_some("mode", tool.mode.as_ref());
    allowed.set("tools", &tool.tools?.iter().map(named).collect::<Option<Vec<_>>>()?);
    Json::of(&wrapped("allowed_tools", &allowed))
}

impl Tool {
    fn inside(&self) -> Option<Members> {
        let mut members = Members::default();
        members.set("name", self.name.as_deref()?);
        members.set_some("description", self.description.as_ref());
        members.set_some("parameters", self.parameters.as_ref());
        members.set_some("strict", self.strict.as_ref());
        if let Some(format) = &self.format {
            let grammar = format.get("type").is_some_and(|kind| kind.get() == r#""grammar""#);
            let mut rest = format.clone();
            rest.remove("type");
            members.set("format", &if grammar { wrapped("grammar", &rest) } else { format.clone() });
        }
        Some(members)
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list of items")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<Input, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(items)).map(Input::Items)
            }
        }
        d.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests;
