//! `POST /v1/messages`: a client's request as a prompt.
//!
//! Read as Anthropic's own server reads it: what is not known here is no error, since the body goes on to an upstream of the same
//! protocol as it came, and that may know it. What is read is what any other backend can be asked, in the shape of Chat Completions;
//! what the messages hold is translated in `content`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{NAME, content};
use crate::{
    event::Json,
    prompt::{Content, OnDisconnect, Params, Prompt},
    protocol::{
        BadRequest,
        body::{self, Members},
    },
};

/// What any other backend can be asked too, beside what says how the client wants the answer.
const COMMON: [&str; 11] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "stop_sequences",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "metadata",
    "stream",
];
const EXAMPLE: &str = r#"{"model":"…","max_tokens":1024,"messages":[{"role":"user","content":"…"}]}"#;
const DESCRIBED: &str = "Anthropic's description of Messages";

/// A request: what to answer, and in what form.
#[derive(Debug)]
pub struct Asked {
    /// What to answer.
    pub prompt: Prompt,
    /// As events while it is said, or whole when it was.
    pub stream: bool,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<content::Turn>>,
    system: Option<Json>,
    max_tokens: Option<u64>,
    stop_sequences: Option<Vec<String>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    tools: Option<Vec<Json>>,
    tool_choice: Option<ToolChoice>,
    thinking: Option<Thinking>,
    output_config: Option<Members>,
    /// Where the format stood before there was `output_config`.
    output_format: Option<Json>,
    metadata: Option<Members>,
    stream: Option<bool>,
    /// What is said to lastword itself.
    backend_options: Option<Json>,
    on_disconnect: Option<OnDisconnect>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ToolChoice {
    r#type: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
struct Thinking {
    budget_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Tool {
    r#type: Option<String>,
    name: Option<String>,
    description: Option<String>,
    input_schema: Option<Json>,
    strict: Option<bool>,
}

/// A tool in the shape of Chat Completions.
#[derive(Serialize)]
struct Function {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    parameters: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// Reads a body.
///
/// # Errors
/// When it is no JSON object, has no messages or no `max_tokens`, or a member that is read here is of another type. The first mistake
/// is named.
pub fn parse(body: &[u8]) -> Result<Asked, BadRequest> {
    let whole = body::object(body, EXAMPLE)?;
    let body: Body = body::read(&whole, DESCRIBED)?;
    let members: Members = body::read(&whole, "")?;
    let messages = body.messages.filter(|messages| !messages.is_empty()).ok_or_else(|| {
        BadRequest::of("messages", "there are no `messages`", "give at least one, as {\"role\", \"content\"}")
    })?;
    let max_tokens = body.max_tokens.ok_or_else(|| {
        let remedy = "say how long the answer may be, such as 4096; this protocol requires it";
        BadRequest::of("max_tokens", "there is no `max_tokens`", remedy)
    })?;
    let mut foreign = members.beyond(&COMMON);
    let mut understood = |name: &str| foreign.retain(|known| known != name);
    let mut params = Params {
        max_tokens: Some(max_tokens),
        temperature: body.temperature,
        top_p: body.top_p,
        stop: body.stop_sequences.unwrap_or_default(),
        ..Params::default()
    };
    if let Some(budget) = body.thinking.and_then(|thinking| thinking.budget_tokens) {
        params.reasoning_effort = Some(effort(budget).to_owned());
        understood("thinking");
    }
    if let Some(format) = body.output_format.as_ref().and_then(response_format) {
        params.response_format = Some(format);
        understood("output_format");
    }
    if let Some(config) = body.output_config {
        let effort: Option<String> = config.get("effort").and_then(|effort| serde_json::from_str(effort.get()).ok());
        let format = config.get("format").and_then(response_format);
        if config.beyond(&["effort", "format"]).is_empty() && config.get("format").is_some() == format.is_some() {
            understood("output_config");
        }
        params.reasoning_effort = effort.or(params.reasoning_effort);
        params.response_format = format.or(params.response_format);
    }
    if let Some(metadata) = body.metadata {
        params.user = metadata.get("user_id").and_then(|user| serde_json::from_str(user.get()).ok());
        if !metadata.beyond(&["user_id"]).is_empty() {
            foreign.push("metadata".to_owned());
        }
    }
    tools(body.tools.unwrap_or_default(), body.tool_choice, &mut params, &mut foreign)?;
    Ok(Asked {
        prompt: Prompt {
            protocol: NAME.into(),
            model: body.model.unwrap_or_default(),
            system: body.system.map(|system| self::system(&system)).transpose()?.flatten(),
            messages: content::common(messages)?,
            params,
            backend_options: body.backend_options,
            on_disconnect: body.on_disconnect.unwrap_or(OnDisconnect::A_WHILE),
            foreign,
            strict: body.strict.unwrap_or_default(),
            body: Some(whole),
            ..Prompt::default()
        },
        stream: body.stream.unwrap_or_default(),
    })
}

/// The model that a body names, of a request that is only passed on.
///
/// # Errors
/// When the body is no JSON object.
pub fn model_of(body: &[u8]) -> Result<(Json, Option<String>), BadRequest> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
    }
    let whole = body::object(body, EXAMPLE)?;
    let Named { model } = body::read(&whole, DESCRIBED)?;
    Ok((whole, model))
}

fn system(system: &Json) -> Result<Option<String>, BadRequest> {
    let words: Option<Content> = serde_json::from_str(system.get()).ok();
    let words = words.ok_or_else(|| {
        BadRequest::of("system", "`system` is neither text nor a list of blocks", format!("see {DESCRIBED}"))
    })?;
    Ok(Some(words.words().into_owned()).filter(|words| !words.is_empty()))
}

fn effort(budget: u64) -> &'static str {
    match budget {
        0..2048 => "low",
        2048..=8192 => "medium",
        _ => "high",
    }
}

/// Nothing if the format is none that the common form has words for.
fn response_format(format: &Json) -> Option<Json> {
    #[derive(Deserialize)]
    struct Format {
        r#type: String,
        schema: Json,
    }
    #[derive(Serialize)]
    struct Schema {
        name: &'static str,
        schema: Json,
        strict: bool,
    }
    #[derive(Serialize)]
    struct Common {
        r#type: &'static str,
        json_schema: Schema,
    }
    let Format { r#type, schema } = serde_json::from_str(format.get()).ok()?;
    let strict =
        serde_json::from_str(schema.get()).is_ok_and(|schema: Value| schema["type"] == "object" && is_strict(&schema));
    let json_schema = Schema { name: "answer", schema, strict };
    (r#type == "json_schema").then(|| Json::of(&Common { r#type: "json_schema", json_schema })).flatten()
}

/// Whether a schema is one that OpenAI takes as strict: every object has all of its properties, and no others.
fn is_strict(schema: &Value) -> bool {
    let whole = |object: &serde_json::Map<String, Value>| {
        let properties = object.get("properties").and_then(Value::as_object);
        if properties.is_none() && object.get("type").is_none_or(|kind| kind != "object") {
            return true;
        }
        let required = object.get("required").and_then(Value::as_array);
        let is_required = |name: &String| required.is_some_and(|all| all.iter().any(|known| known == name));
        object.get("additionalProperties") == Some(&Value::Bool(false))
            && properties.is_none_or(|all| all.keys().all(is_required))
    };
    match schema {
        Value::Object(object) => whole(object) && object.values().all(is_strict),
        Value::Array(list) => list.iter().all(is_strict),
        _ => true,
    }
}

/// The client's own tools are functions. Those that Anthropic runs, or has taught its models, mean nothing elsewhere.
fn tools(
    tools: Vec<Json>,
    choice: Option<ToolChoice>,
    params: &mut Params,
    foreign: &mut Vec<String>,
) -> Result<(), BadRequest> {
    #[derive(Serialize)]
    struct Common {
        r#type: &'static str,
        function: Function,
    }
    let mut functions = Vec::new();
    for (n, json) in tools.iter().enumerate() {
        let field = format!("tools[{n}]");
        let tool: Tool = serde_json::from_str(json.get()).map_err(|_| {
            let detail = format!("`{field}` has not the form of a tool");
            BadRequest::of(&field, detail, "give {\"name\", \"description\", \"input_schema\"}")
        })?;
        match tool {
            Tool { r#type, name: Some(name), description, input_schema: Some(parameters), strict }
                if r#type.as_deref().is_none_or(|kind| kind == "custom") =>
            {
                let function = Function { name, description, parameters, strict };
                functions.push(Common { r#type: "function", function });
            }
            _ => foreign.push(field),
        }
    }
    if functions.is_empty() {
        return Ok(());
    }
    params.tools = Json::of(&functions);
    let Some(choice) = choice else { return Ok(()) };
    params.tool_choice = match (&*choice.r#type, choice.name) {
        ("auto", _) => Json::of(&"auto"),
        ("any", _) => Json::of(&"required"),
        ("none", _) => Json::of(&"none"),
        ("tool", Some(name)) => Json::of(&json!({ "type": "function", "function": { "name": name } })),
        _ => {
            foreign.push("tool_choice".to_owned());
            None
        }
    };
    params.parallel_tool_calls = choice.disable_parallel_tool_use.map(|disabled| !disabled);
    Ok(())
}

#[cfg(test)]
mod tests;
