//! What a client asks, whatever protocol it spoke.
//!
//! The common form is what any upstream can be asked; `body` is the client's own request as it came, for an upstream that
//! speaks the same protocol. A prompt is stored with its stream, so it can be written and read back. It never reaches a log line.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Chunking, Json};

/// See the module.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prompt {
    /// The protocol the client spoke: `native`, `chat`, …
    pub protocol: Cow<'static, str>,
    /// The model's name as it was asked for, or the default's.
    pub model: String,
    /// What the model is told before the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// How to answer.
    #[serde(default)]
    pub params: Params,
    /// Free JSON for the backend itself, such as the mock's faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_options: Option<Json>,
    /// The client's labels, given back in the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// What to do when the last reader leaves.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
    /// In what pieces readers of the native API are told the words, where they do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunking: Option<Chunking>,
    /// The client's body as it came, where it was JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Json>,
    /// The members of that body that only an upstream of the same protocol understands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<String>,
    /// What of an earlier answer not even an upstream of the same protocol can go on with, by name: it is no part of this prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Headers of the client's that go along to an upstream of the same protocol, by name in small letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Rather no answer than one to a prompt of which something had to be left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict: bool,
    /// What the client's protocol repeats of its request in the answer; recorded with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Json>,
    /// The answer is not kept when it has been read, and the prompt not at all.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forget: bool,
}

impl Prompt {
    /// The client's headers for an upstream of this protocol.
    #[must_use]
    pub fn headers_for(&self, protocol: &str) -> Vec<(String, String)> {
        if self.protocol == protocol { self.headers.clone() } else { Vec::new() }
    }

    /// What an upstream of this protocol is not told, by name: what only the client's own protocol understands, and those of the
    /// common parameters, `unknown`, that it has no words for. One that speaks the client's is told all but what was left out before.
    #[must_use]
    pub fn dropped_by(&self, protocol: &str, unknown: &[&str]) -> Vec<String> {
        if self.protocol == protocol {
            return self.left_out.clone();
        }
        let said = serde_json::to_value(&self.params).expect("plain data");
        let unsaid = unknown.iter().filter(|name| said.get(**name).is_some()).map(|name| (*name).to_owned());
        self.foreign.iter().cloned().chain(unsaid).collect()
    }
}

/// What the messages hold.
impl Prompt {
    /// The first part of a message that is of none of these types: where it is, in the client's body if it is there as it came, and
    /// its type.
    #[must_use]
    pub fn part_beyond(&self, known: &[&str]) -> Option<(String, String)> {
        let parts = self.messages.iter().enumerate().flat_map(|(n, message)| {
            let parts = match &message.content {
                Some(Content::Parts(parts)) => &parts[..],
                _ => &[],
            };
            parts.iter().enumerate().map(move |(m, part)| (format!("messages[{n}].content[{m}]"), part))
        });
        let kind = |part: &Value| part["type"].as_str().unwrap_or_default().to_owned();
        let (place, part) = parts.into_iter().find(|(_, part)| !known.contains(&&*kind(part)))?;
        let body = self.body.as_ref().and_then(|body| serde_json::from_str::<Value>(body.get()).ok());
        let as_it_came =
            body.and_then(|body| ["messages", "input"].iter().find_map(|name| place_of(part, &body[*name], name)));
        Some((as_it_came.unwrap_or(place), kind(part)))
    }
}

/// Where a value is in the lists, the `content`s and the `output`s below another.
fn place_of(part: &Value, below: &Value, path: &str) -> Option<String> {
    if part == below {
        return Some(path.to_owned());
    }
    match below {
        Value::Array(list) => {
            list.iter().enumerate().find_map(|(n, value)| place_of(part, value, &format!("{path}[{n}]")))
        }
        Value::Object(members) => {
            ["content", "output"].iter().find_map(|name| place_of(part, members.get(*name)?, &format!("{path}.{name}")))
        }
        _ => None,
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A prompt's `Debug` shows its shape and none of its words.
impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt")
            .field("protocol", &self.protocol)
            .field("model", &self.model)
            .field("messages", &self.messages.len())
            .field("on_disconnect", &self.on_disconnect)
            .finish_non_exhaustive()
    }
}

/// How to answer. An absent parameter is the upstream's own default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// At most this many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// 0 is the likeliest word each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Texts at which the model stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// For the same answer twice, where the upstream can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Tools the model may call, in the shape of Chat Completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Json>,
    /// Which of them it must or must not call, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<Json>,
    /// The form of the answer, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<Json>,
    /// How many answers; only an upstream of Chat Completions gives more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Whether several tools may be called at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// How much to think: `minimal`, `low`, `medium`, `high`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// The application's name for the person who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Stop texts as clients write them: one, or several.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "is neither text nor a list of texts")]
pub enum Stops {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl From<Stops> for Vec<String> {
    fn from(stops: Stops) -> Self {
        match stops {
            Stops::One(stop) => vec![stop],
            Stops::Many(stops) => stops,
        }
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; absent where there are only tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Who exactly, where several share a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The calls an assistant made, in the shape of Chat Completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub tool_calls: Option<Json>,
    /// Of a tool's result: which call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of text.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, content: Some(Content::Text(text.into())), name: None, tool_calls: None, tool_call_id: None }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The application.
    System,
    /// The application, in the newer word.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "is neither text nor a list of parts")]
pub enum Content {
    /// Words.
    Text(String),
    /// Words, images, sound, files: parts in the shape of Chat Completions.
    Parts(Vec<Value>),
}

impl Content {
    /// The words in it, one after the other.
    #[must_use]
    pub fn words(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Parts(parts) => {
                Cow::Owned(parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

/// What to do when the last reader leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// The answer goes on.
    #[default]
    Continue,
    /// The generation is cancelled. Armed when the first reader comes.
    Cancel,
    /// The generation is cancelled if nobody reads for this long. Armed from the beginning.
    CancelAfter(#[serde(with = "crate::duration")] Duration),
}

impl OnDisconnect {
    /// What a hang-up means in the protocols whose users expect it to stop the bill: they have this long to come back.
    pub const A_WHILE: Self = Self::CancelAfter(Duration::from_secs(30));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_disconnect_has_three_forms() {
        let read = |json| serde_json::from_str::<OnDisconnect>(json);
        assert_eq!(read(r#""continue""#).expect("form"), OnDisconnect::Continue);
        assert_eq!(read(r#""cancel""#).expect("form"), OnDisconnect::Cancel);
        let grace = OnDisconnect::CancelAfter(Duration::from_secs(30));
        assert_eq!(read(r#"{"cancel_after":"30s"}"#).expect("form"), grace);
        assert_eq!(serde_json::to_string(&grace).expect("json"), r#"{"cancel_after":"30s"}"#);
        let error = read(r#"{"cancel_after":"soon"}"#).expect_err("not a duration").to_string();
        assert!(error.contains("write \"30s\""), "{error}");
    }

    #[test]
    fn a_part_that_is_not_known_is_found_where_the_client_put_it() {
        let part = serde_json::json!({ "type": "new", "x": 1 });
        let said = |part: &Value| Message {
            content: Some(Content::Parts(vec![part.clone()])),
            ..Message::text(Role::User, "")
        };
        let known = serde_json::json!({ "type": "text", "text": "a" });
        let mut prompt = Prompt { messages: vec![said(&known), said(&part)], ..Prompt::default() };
        let found = |prompt: &Prompt, known: &[&str]| prompt.part_beyond(known);
        assert_eq!(found(&prompt, &["text", "new"]), None);
        assert_eq!(found(&prompt, &["text"]), Some(("messages[1].content[0]".to_owned(), "new".to_owned())));
        let body =
            serde_json::json!({ "messages": [{ "content": "b" }, { "content": [{ "content": [known, part] }] }] });
        prompt.body = Json::of(&body);
        let place = "messages[1].content[0].content[1]".to_owned();
        assert_eq!(found(&prompt, &["text"]), Some((place, "new".to_owned())));
        for (item, place) in [
            (serde_json::json!({ "output": [part] }), "input[1].output[0]"),
            (serde_json::json!({ "content": [known, part] }), "input[1].content[1]"),
            (part.clone(), "input[1]"),
        ] {
            prompt.body = Json::of(&serde_json::json!({ "input": ["a", item] }));
            assert_eq!(found(&prompt, &["text"]), Some((place.to_owned(), "new".to_owned())));
        }
    }

    #[test]
    fn debug_shows_none_of_the_words() {
        let prompt = Prompt { messages: vec![Message::text(Role::User, "secret words")], ..Prompt::default() };
        assert!(!format!("{prompt:?}").contains("secret"));
    }
}
