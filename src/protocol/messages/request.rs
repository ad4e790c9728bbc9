//! A prompt as the body of a Messages request, always streaming.
//!
//! A client that spoke this protocol itself is passed on to the letter: numbers, order and members unknown to us are kept, and only
//! `model` and `stream` are ours. What it said to lastword alone stays here. Any other prompt is said in the words of this protocol:
//! roles alternate, the results of tools are the user's, and how long an answer may be must be said.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::NAME;
use crate::{
    event::Json,
    prompt::{Content, Message, Prompt, Role},
    protocol::body::Members,
};

/// The members that lastword itself decides on: nobody's extras may hold them.
pub const RESERVED: [&str; 2] = ["model", "stream"];
/// The version of the protocol that is spoken, for the header `anthropic-version`.
pub const VERSION: &str = "2023-06-01";

/// How long an answer may be, where the client did not say: this protocol has no default, and every model can do this.
const MAX_TOKENS: u64 = 4096;

/// The body that asks `model` for an answer. The members of each of `extras` replace those of the same name, in this order.
///
/// # Errors
/// What cannot be said here, in words for the client.
pub fn request(prompt: &Prompt, model: &str, extras: &[&Map<String, Value>]) -> Result<Vec<u8>, String> {
    let mut body = match own_body(prompt) {
        Some(body) => object(body)?.without_ours(),
        None => Crossing::of(prompt)?.body,
    };
    body.set("model", model);
    for (name, value) in extras.iter().flat_map(|extra| extra.iter()) {
        body.set(name, value);
    }
    body.set("stream", &true);
    serde_json::to_vec(&body).map_err(|error| error.to_string())
}

/// The body that asks how many tokens a request has, for the upstream's name of the model.
///
/// # Errors
/// As [`request`].
pub fn counting(body: &Json, model: &str) -> Result<Vec<u8>, String> {
    let mut body = object(body)?.without_ours();
    body.set("model", model);
    serde_json::to_vec(&body).map_err(|error| error.to_string())
}

/// The common parameters of a prompt of another protocol that are not said here, by name.
///
/// # Errors
/// As [`request`].
pub fn unsaid(prompt: &Prompt) -> Result<Vec<String>, String> {
    match own_body(prompt) {
        Some(_) => Ok(Vec::new()),
        None => Ok(Crossing::of(prompt)?.unsaid),
    }
}

fn own_body(prompt: &Prompt) -> Option<&Json> {
    prompt.body.as_ref().filter(|_| prompt.protocol == NAME)
}

fn object(body: &Json) -> Result<Members, String> {
    serde_json::from_str(body.get()).map_err(|_| "the request's body must be a JSON object".to_owned())
}

/// A prompt of another protocol in the words of this one.
#[derive(Default)]
struct Crossing {
    body: Members,
    unsaid: Vec<String>,
    system: Vec<String>,
    turns: Vec<(&'static str, Vec<Members>)>,
}

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

#[derive(Deserialize)]
struct Tool {
    r#type: String,
    function: Option<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    description: Option<String>,
    parameters: Option<Json>,
    strict: Option<bool>,
}

impl Crossing {
    fn of(prompt: &Prompt) -> Result<Self, String> {
        if prompt.params.n.is_some_and(|n| n > 1) {
            return Err("an upstream of Messages gives one answer at a time; leave out `n`".to_owned());
        }
        let mut crossing = Self::default();
        crossing.system.extend(prompt.system.clone());
        for (n, message) in prompt.messages.iter().enumerate() {
            crossing.message(n, message)?;
        }
        if crossing.turns.is_empty() {
            return Err(
                "an upstream of Messages needs a message that is not the system's; add one to `messages`".into()
            );
        }
        crossing.write(prompt);
        Ok(crossing)
    }

    fn message(&mut self, n: usize, message: &Message) -> Result<(), String> {
        let place = format!("messages[{n}]");
        match message.role {
            Role::System | Role::Developer => {
                let words = message.content.as_ref().map(Content::words).unwrap_or_default();
                self.system.push(words.into_owned());
            }
            Role::User => {
                let blocks = blocks(message, &place)?;
                self.turn("user", blocks);
            }
            Role::Assistant => {
                let mut blocks = blocks(message, &place)?;
                blocks.extend(calls(message, &place)?);
                self.turn("assistant", blocks);
            }
            Role::Tool => {
                let id = message.tool_call_id.as_ref().ok_or_else(|| {
                    format!("{place} is a tool's result and has no `tool_call_id`, so it answers no call")
                })?;
                let mut result = Members::default();
                result.set("type", "tool_result");
                result.set("tool_use_id", id);
                match &message.content {
                    Some(Content::Text(text)) => result.set("content", text),
                    Some(Content::Parts(_)) => result.set("content", &blocks(message, &place)?),
                    None => {}
                }
                self.turn("user", vec![result]);
            }
        }
        Ok(())
    }

    /// Roles alternate, so what one says twice in a row is one turn.
    fn turn(&mut self, role: &'static str, blocks: Vec<Members>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some((last, said)) if *last == role => said.extend(blocks),
            _ => self.turns.push((role, blocks)),
        }
    }

    fn write(&mut self, prompt: &Prompt) {
        let params = &prompt.params;
        let thinking = self.thinking(prompt);
        let body = &mut self.body;
        body.set("model", "");
        let room = MAX_TOKENS.saturating_add(thinking.unwrap_or_default());
        body.set("max_tokens", &params.max_tokens.unwrap_or(room));
        self.system.retain(|words| !words.trim().is_empty());
        body.set_some("system", (!self.system.is_empty()).then(|| self.system.join("\n\n")).as_ref());
        let turns = self.turns.drain(..).map(|(role, blocks)| {
            let mut turn = Members::default();
            turn.set("role", role);
            turn.set("content", &blocks);
            turn
        });
        body.set("messages", &turns.collect::<Vec<_>>());
        match params.temperature {
            Some(temperature) if !(0.0..=1.0).contains(&temperature) => self.unsaid.push("temperature".to_owned()),
            temperature => body.set_some("temperature", temperature.as_ref()),
        }
        body.set_some("top_p", params.top_p.as_ref());
        body.set_some("stop_sequences", (!params.stop.is_empty()).then_some(&params.stop));
        if let Some(budget) = thinking {
            body.set("thinking", &json!({ "type": "enabled", "budget_tokens": budget }));
        } else if params.reasoning_effort.as_deref() == Some("none") {
            body.set("thinking", &json!({ "type": "disabled" }));
        }
        body.set_some("metadata", params.user.as_ref().map(|user| json!({ "user_id": user })).as_ref());
        self.tools(prompt);
        if let Some(format) = &params.response_format {
            self.format(format);
        }
        if params.seed.is_some() {
            self.unsaid.push("seed".to_owned());
        }
    }

    /// How many tokens of thinking, where the API would take them: less than the answer may have in all, with no word on sampling, no
    /// tool that must be called, and not between a call and its answer, where it asks for the thinking before the call.
    fn thinking(&mut self, prompt: &Prompt) -> Option<u64> {
        let params = &prompt.params;
        let budget = match params.reasoning_effort.as_deref()? {
            "minimal" | "low" => 1024,
            "medium" => 4096,
            "high" => 16384,
            "xhigh" | "max" => 32768,
            "none" => return None,
            _ => 0,
        };
        let fits = params.max_tokens.is_none_or(|max| budget < max);
        let sampled = params.temperature.is_some_and(|temperature| temperature <= 1.0) || params.top_p.is_some();
        let choice = params.tool_choice.as_ref().map_or("null", Json::get);
        let free = ["null", "\"auto\"", "\"none\""].contains(&choice);
        let in_a_loop = prompt.messages.last().is_some_and(|last| last.role == Role::Tool);
        if budget == 0 || !fits || sampled || !free || in_a_loop {
            self.unsaid.push("reasoning_effort".to_owned());
            return None;
        }
        Some(budget)
    }

    fn tools(&mut self, prompt: &Prompt) {
        let params = &prompt.params;
        let listed: Vec<Json> =
            params.tools.as_ref().and_then(|tools| serde_json::from_str(tools.get()).ok()).unwrap_or_default();
        let mut tools = Vec::new();
        for (n, json) in listed.iter().enumerate() {
            match serde_json::from_str(json.get()) {
                Ok(Tool { r#type, function: Some(function) }) if r#type == "function" => tools.push(tool(function)),
                _ => self.unsaid.push(format!("tools[{n}]")),
            }
        }
        if tools.is_empty() {
            return;
        }
        self.body.set("tools", &tools);
        let choice = params.tool_choice.as_ref().and_then(|choice| serde_json::from_str(choice.get()).ok());
        let mut told = match choice.as_ref().unwrap_or(&Value::Null) {
            Value::Null => None,
            Value::String(word) if matches!(&**word, "auto" | "none") => Some(json!({ "type": word })),
            Value::String(word) if word == "required" => Some(json!({ "type": "any" })),
            choice => match choice["function"]["name"].as_str() {
                Some(name) => Some(json!({ "type": "tool", "name": name })),
                None => {
                    self.unsaid.push("tool_choice".to_owned());
                    None
                }
            },
        };
        if params.parallel_tool_calls == Some(false) {
            let choice = told.get_or_insert_with(|| json!({ "type": "auto" }));
            if choice["type"] != "none" {
                choice["disable_parallel_tool_use"] = true.into();
            }
        }
        self.body.set_some("tool_choice", told.as_ref());
    }

    fn format(&mut self, format: &Json) {
        #[derive(Deserialize)]
        struct Format {
            r#type: String,
            json_schema: Option<Schema>,
        }
        #[derive(Deserialize)]
        struct Schema {
            schema: Json,
        }
        match serde_json::from_str(format.get()) {
            Ok(Format { r#type, json_schema: Some(Schema { schema }) }) if r#type == "json_schema" => {
                let mut format = Members::default();
                format.set("type", "json_schema");
                format.set("schema", &schema);
                let mut config = Members::default();
                config.set("format", &format);
                self.body.set("output_config", &config);
            }
            Ok(Format { r#type, .. }) if r#type == "text" => {}
            _ => self.unsaid.push("response_format".to_owned()),
        }
    }
}

fn tool(function: Described) -> Members {
    let mut tool = Members::default();
    tool.set("name", &function.name);
    tool.set_some("description", function.description.as_ref());
    match &function.parameters {
        Some(parameters) => tool.set("input_schema", parameters),
        None => tool.set("input_schema", &json!({ "type": "object", "properties": {} })),
    }
    tool.set_some("strict", function.strict.as_ref());
    tool
}

fn text(words: &str) -> Option<Members> {
    // The API takes no block of text that is empty.
    (!words.is_empty()).then(|| {
        let mut block = Members::default();
        block.set("type", "text");
        block.set("text", words);
        block
    })
}

fn blocks(message: &Message, place: &str) -> Result<Vec<Members>, String> {
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
            "image_url" => part["image_url"]["url"].as_str().and_then(|url| sourced("image", url, None)).map(Some),
            "file" => {
                let (data, name) = (part["file"]["file_data"].as_str(), part["file"]["filename"].as_str());
                data.and_then(|data| sourced("document", data, name)).map(Some)
            }
            _ => None,
        };
        let block = block.ok_or_else(|| {
            format!("{place}.content[{n}], a part of the type `{kind}`, cannot be said to an upstream of Messages")
        })?;
        blocks.extend(block);
    }
    Ok(blocks)
}

/// A block of what lies at a URL, or in it.
fn sourced(kind: &str, url: &str, title: Option<&str>) -> Option<Members> {
    let source = match url.strip_prefix("data:") {
        Some(data) => {
            let (media_type, data) = data.split_once(";base64,")?;
            json!({ "type": "base64", "media_type": media_type, "data": data })
        }
        None if url.starts_with("http://") || url.starts_with("https://") => json!({ "type": "url", "url": url }),
        None => return None,
    };
    let mut block = Members::default();
    block.set("type", kind);
    block.set("source", &source);
    block.set_some("title", title.as_ref());
    Some(block)
}

fn calls(message: &Message, place: &str) -> Result<Vec<Members>, String> {
    let Some(calls) = &message.tool_calls else { return Ok(Vec::new()) };
    let calls: Option<Vec<Call>> = serde_json::from_str(calls.get()).ok();
    let calls = calls.ok_or_else(|| format!("{place}.tool_calls are not those of Chat Completions"))?;
    let block = |(n, call): (usize, Call)| {
        let Call { id, function: Function { name, arguments, input } } = call;
        let arguments = arguments.unwrap_or_default();
        let arguments = if arguments.trim().is_empty() { "{}" } else { &*arguments };
        let object = match input {
            Some(input) => Json::of(&json!({ "input": input })),
            None => serde_json::from_str(arguments).ok().filter(|json: &Json| json.get().starts_with('{')),
        };
        let place = format!("{place}.tool_calls[{n}]");
        let mut block = Members::default();
        block.set("type", "tool_use");
        block.set("id", &id.ok_or_else(|| format!("{place} has no `id`, which its result must name"))?);
        block.set("name", &name);
        block.set("input", &object.ok_or_else(|| format!("{place}.function.arguments are not a JSON object"))?);
        Ok(block)
    };
    calls.into_iter().enumerate().map(block).collect()
}

#[cfg(test)]
mod tests;
