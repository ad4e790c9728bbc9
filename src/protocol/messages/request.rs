//! A prompt as the body of a Messages request, always streaming.
//!
//! A client that spoke this protocol itself is passed on to the letter: numbers, order and members unknown to us are kept, and only
//! `model` and `stream` are ours. What it said to lastword alone stays here. Any other prompt is said in the words of this protocol:
//! roles alternate, the results of tools are the user's, and how long an answer may be must be said.

mod blocks;
mod thinking;
mod tools;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::blocks::{blocks, calls};
use super::{NAME, ids};
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
        Some(body) => own(body)?,
        None => Crossing::of(prompt, model)?.body,
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
    let mut body = own(body)?;
    body.set("model", model);
    serde_json::to_vec(&body).map_err(|error| error.to_string())
}

/// What of a prompt of another protocol is not said to `model` here, by name.
///
/// # Errors
/// As [`request`].
pub fn unsaid(prompt: &Prompt, model: &str) -> Result<Vec<String>, String> {
    match own_body(prompt) {
        Some(_) => Ok(Vec::new()),
        None => Ok(Crossing::of(prompt, model)?.unsaid),
    }
}

fn own_body(prompt: &Prompt) -> Option<&Json> {
    prompt.body.as_ref().filter(|_| prompt.protocol == NAME)
}

/// The client's own body, without what was said to lastword alone, and without thinking that nobody has signed: that of any other
/// upstream is told so, and the API refuses it.
fn own(body: &Json) -> Result<Members, String> {
    let body: Result<Members, _> = serde_json::from_str(body.get());
    let mut body = body.map_err(|_| "the request's body must be a JSON object".to_owned())?.without_ours();
    let turns: Option<Vec<Json>> = body.get("messages").and_then(|turns| serde_json::from_str(turns.get()).ok());
    let turns = turns.unwrap_or_default();
    let signed: Vec<_> = turns.iter().filter_map(signed).collect();
    if signed != turns {
        body.set("messages", &signed);
    }
    Ok(body)
}

/// A message without unsigned thinking; nothing if it holds nothing else.
fn signed(turn: &Json) -> Option<Json> {
    #[derive(Deserialize)]
    struct Block {
        r#type: Option<String>,
        signature: Option<String>,
    }
    let unsigned = |block: &Json| {
        let block = serde_json::from_str(block.get()).ok();
        block.is_some_and(|Block { r#type, signature }| {
            r#type.as_deref() == Some("thinking") && signature.is_none_or(|signature| signature.is_empty())
        })
    };
    let Ok(mut members) = serde_json::from_str::<Members>(turn.get()) else { return Some(turn.clone()) };
    let blocks: Option<Vec<Json>> = members.get("content").and_then(|content| serde_json::from_str(content.get()).ok());
    let Some(mut blocks) = blocks.filter(|blocks| blocks.iter().any(unsigned)) else { return Some(turn.clone()) };
    blocks.retain(|block| !unsigned(block));
    members.set("content", &blocks);
    (!blocks.is_empty()).then(|| Json::of(&members).unwrap_or_default())
}

/// A prompt of another protocol in the words of this one.
#[derive(Default)]
struct Crossing {
    body: Members,
    unsaid: Vec<String>,
    system: Vec<String>,
    turns: Vec<(&'static str, Vec<Members>)>,
}

impl Crossing {
    fn of(prompt: &Prompt, model: &str) -> Result<Self, String> {
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
        crossing.write(prompt, model);
        Ok(crossing)
    }

    fn message(&mut self, n: usize, message: &Message) -> Result<(), String> {
        let place = format!("messages[{n}]");
        if message.name.is_some() {
            self.unsaid.push(format!("{place}.name"));
        }
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
                blocks.extend(calls(message, &place, &mut self.unsaid)?);
                self.turn("assistant", blocks);
            }
            Role::Tool => {
                let id = message.tool_call_id.as_ref().ok_or_else(|| {
                    format!("{place} is a tool's result and has no `tool_call_id`, so it answers no call")
                })?;
                let mut result = Members::default();
                result.set("type", "tool_result");
                result.set("tool_use_id", &ids::clean(id));
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

    fn write(&mut self, prompt: &Prompt, model: &str) {
        let params = &prompt.params;
        let thinking = self.thinking(prompt, model);
        let body = &mut self.body;
        body.set("model", "");
        let room = MAX_TOKENS.saturating_add(thinking.as_ref().map_or(0, |thinking| thinking.room));
        body.set("max_tokens", &params.max_tokens.unwrap_or(room));
        self.system.retain(|words| !words.trim().is_empty());
        body.set_some("system", (!self.system.is_empty()).then(|| self.system.join("\n\n")).as_ref());
        let turns = self.turns.drain(..).map(|(role, mut blocks)| {
            // Nothing may stand between the calls of tools and their results.
            blocks.sort_by_key(|block| block.get("type").is_none_or(|kind| kind.get() != "\"tool_result\""));
            let mut turn = Members::default();
            turn.set("role", role);
            turn.set("content", &blocks);
            turn
        });
        body.set("messages", &turns.collect::<Vec<_>>());
        self.sampling(params, model);
        let body = &mut self.body;
        // The API takes no stop that is blank.
        let stops: Vec<_> = params.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
        if stops.len() < params.stop.len() {
            self.unsaid.push("stop".to_owned());
        }
        body.set_some("stop_sequences", (!stops.is_empty()).then_some(&stops));
        if let Some(thinking) = &thinking {
            body.set("thinking", &thinking.told);
        }
        body.set_some("metadata", params.user.as_ref().map(|user| json!({ "user_id": user })).as_ref());
        self.tools(prompt);
        let mut config = Members::default();
        config.set_some("effort", thinking.and_then(|thinking| thinking.effort).as_ref());
        if let Some(format) = &params.response_format {
            config.set_some("format", self.format(format).as_ref());
        }
        if !config.is_empty() {
            self.body.set("output_config", &config);
        }
        if params.seed.is_some() {
            self.unsaid.push("seed".to_owned());
        }
    }

    /// The form of the answer in the words of this protocol.
    fn format(&mut self, format: &Json) -> Option<Members> {
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
                Some(format)
            }
            Ok(Format { r#type, .. }) if r#type == "text" => None,
            _ => {
                self.unsaid.push("response_format".to_owned());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
