//! `POST /v1/chat/completions`: a client's request as a prompt.
//!
//! Read as OpenAI's own server reads it: what is not known here is no error, since the body goes on to an upstream of the same
//! protocol as it came, and that may know it. What is read is what any other backend can be asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Number, json};

use crate::{
    event::Json,
    prompt::{Content, Message, OnDisconnect, Params, Prompt, Role, Stops},
    protocol::{
        BadRequest,
        body::{self, Members},
    },
};

/// What any other backend can be asked too, beside what says how the client wants the answer.
const COMMON: [&str; 18] = [
    "model",
    "messages",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
    "n",
    "parallel_tool_calls",
    "reasoning_effort",
    "user",
    "stream",
    "stream_options",
    "store",
];

/// A request: what to answer, and in what form.
#[derive(Debug)]
pub struct Asked {
    /// What to answer.
    pub prompt: Prompt,
    /// As chunks while it is said, or whole when it was.
    pub stream: bool,
    /// With the count of tokens behind the last chunk.
    pub include_usage: bool,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<Turn>>,
    #[serde(default, deserialize_with = "count")]
    max_completion_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Option<Stops>,
    #[serde(default, deserialize_with = "whole")]
    seed: Option<i64>,
    tools: Option<Json>,
    tool_choice: Option<Json>,
    response_format: Option<Json>,
    #[serde(default, deserialize_with = "count")]
    n: Option<u64>,
    parallel_tool_calls: Option<bool>,
    reasoning_effort: Option<String>,
    user: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// What is said to lastword itself.
    backend_options: Option<Json>,
    on_disconnect: Option<OnDisconnect>,
    strict: Option<bool>,
}

/// One message. Its other members (`audio`, …) mean something to the upstream only.
#[derive(Deserialize)]
struct Turn {
    role: Speaker,
    content: Option<Content>,
    refusal: Option<String>,
    name: Option<String>,
    tool_calls: Option<Json>,
    tool_call_id: Option<String>,
    /// The form before tools.
    function_call: Option<Json>,
}

/// What of a message is asked of any backend, and what of it an answer has for show or for its origin: all this may be left behind.
const OF_TURNS: [&str; 11] = [
    "role",
    "content",
    "refusal",
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "annotations",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
];

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    /// The word before tools.
    Function,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Reads a body.
///
/// # Errors
/// When it is no JSON object, has no messages, or a member that is read here is of another type. The first mistake is named.
pub fn parse(body: &[u8]) -> Result<Asked, BadRequest> {
    let whole = body::object(body, r#"{"messages":[{"role":"user","content":"…"}]}"#)?;
    let body: Body = body::read(&whole, "OpenAI's description of Chat Completions")?;
    let members: Members = body::read(&whole, "")?;
    let messages = body.messages.filter(|messages| !messages.is_empty());
    let messages = messages.ok_or_else(|| {
        BadRequest::of("messages", "there are no `messages`", "give at least one, as {\"role\", \"content\"}")
    })?;
    let mut foreign = members.beyond(&COMMON);
    foreign.extend(beyond_turns(&whole)?);
    Ok(Asked {
        prompt: Prompt {
            protocol: "chat".into(),
            model: body.model.unwrap_or_default(),
            messages: common(messages),
            params: Params {
                max_tokens: body.max_completion_tokens.or(body.max_tokens),
                temperature: body.temperature,
                top_p: body.top_p,
                stop: body.stop.map(Vec::from).unwrap_or_default(),
                seed: body.seed,
                tools: body.tools,
                tool_choice: body.tool_choice,
                response_format: body.response_format,
                n: body.n,
                parallel_tool_calls: body.parallel_tool_calls,
                reasoning_effort: body.reasoning_effort,
                user: body.user,
            },
            backend_options: body.backend_options,
            on_disconnect: body.on_disconnect.unwrap_or(OnDisconnect::A_WHILE),
            foreign,
            strict: body.strict.unwrap_or_default(),
            body: Some(whole),
            ..Prompt::default()
        },
        stream: body.stream.unwrap_or_default(),
        include_usage: body.stream_options.and_then(|options| options.include_usage).unwrap_or_default(),
    })
}

/// A number that counts. What is none (`-1` for no limit, as servers on a desk have it) is for an upstream of this protocol to
/// understand, and says nothing to others.
fn count<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<Number>::deserialize(d)?;
    Ok(number.and_then(|number| number.as_u64()))
}

/// As [`count`], below zero too.
fn whole<'de, D: Deserializer<'de>>(d: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<Number>::deserialize(d)?;
    Ok(number.and_then(|number| number.as_i64()))
}

/// The members of messages that only an upstream of this protocol understands, by their paths.
fn beyond_turns(whole: &Json) -> Result<Vec<String>, BadRequest> {
    #[derive(Deserialize)]
    struct Named {
        messages: Vec<BTreeMap<String, Option<IgnoredAny>>>,
    }
    let Named { messages } = body::read(whole, "")?;
    let beyond = messages.iter().enumerate().flat_map(|(n, members)| {
        let unknown = members.iter().filter(|(name, value)| value.is_some() && !OF_TURNS.contains(&&***name));
        unknown.map(move |(name, _)| format!("messages[{n}].{name}"))
    });
    Ok(beyond.collect())
}

/// The messages, with what has an older form in its newer one.
fn common(turns: Vec<Turn>) -> Vec<Message> {
    let mut called: Option<String> = None;
    let messages = turns.into_iter().enumerate().map(|(n, turn)| {
        let role = match turn.role {
            Speaker::System => Role::System,
            Speaker::Developer => Role::Developer,
            Speaker::User => Role::User,
            Speaker::Assistant => Role::Assistant,
            Speaker::Tool | Speaker::Function => Role::Tool,
        };
        let Turn { mut content, mut name, mut tool_calls, mut tool_call_id, .. } = turn;
        if let Some(refusal) = turn.refusal.filter(|refusal| !refusal.is_empty()) {
            content = Some(refused(content, &refusal));
        }
        // A function had no id: its result was the next message.
        if let (None, Some(function)) = (&tool_calls, turn.function_call) {
            let id = called.insert(format!("call_{n}"));
            tool_calls = Json::of(&[json!({ "id": id, "type": "function", "function": function })]);
        }
        if matches!(turn.role, Speaker::Function) {
            name = None;
            tool_call_id = tool_call_id.or(called.take());
        }
        Message { role, content, name, tool_calls, tool_call_id }
    });
    messages.collect()
}

/// What was said, and a refusal behind it.
fn refused(said: Option<Content>, refusal: &str) -> Content {
    let mut parts = match said {
        Some(Content::Parts(parts)) => parts,
        Some(Content::Text(text)) if !text.is_empty() => vec![json!({ "type": "text", "text": text })],
        Some(Content::Text(_)) | None => Vec::new(),
    };
    parts.push(json!({ "type": "refusal", "refusal": refusal }));
    Content::Parts(parts)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_known_is_read_and_what_is_not_is_kept() {
        let body = r#" {"model": "m", "messages": [
            {"role":"developer","content":"Be brief."}, {"role":"user","content":[{"type":"text","text":"Hi"}],"audio":1}],
            "max_completion_tokens": 7, "stop": "END", "temperature": 0.70, "n": 2, "stream": true,
            "stream_options": {"include_usage": true, "include_obfuscation": false}, "store": true, "logit_bias": null} "#;
        let Asked { prompt, stream, include_usage } = parse(body.as_bytes()).expect("good");
        assert!(stream && include_usage);
        assert_eq!((&*prompt.protocol, &*prompt.model), ("chat", "m"));
        assert_eq!(prompt.messages.iter().map(|turn| turn.role).collect::<Vec<_>>(), [Role::Developer, Role::User]);
        assert_eq!(prompt.messages[1].content.as_ref().map(Content::words).as_deref(), Some("Hi"));
        assert_eq!((prompt.params.max_tokens, prompt.params.n), (Some(7), Some(2)));
        assert_eq!(prompt.params.stop, ["END"]);
        assert_eq!(prompt.on_disconnect, OnDisconnect::CancelAfter(Duration::from_secs(30)));
        assert_eq!(prompt.body.as_ref().map(Json::get), Some(body.trim().replace('\n', " ").as_str()));
    }

    #[test]
    fn refusals_and_functions_have_newer_forms() {
        let body = r#"{"messages":[{"role":"assistant","content":null,"refusal":"No."},
            {"role":"assistant","content":null,"refusal":null,"function_call":{"name":"f","arguments":"{}"}},
            {"role":"function","name":"f","content":"7"}]}"#;
        let messages =
            serde_json::to_value(&parse(body.as_bytes()).expect("good").prompt.messages).expect("plain data");
        let call = json!({"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}});
        assert_eq!(
            messages,
            json!([
                {"role":"assistant","content":[{"type":"refusal","refusal":"No."}]},
                {"role":"assistant","tool_calls":[call]},
                {"role":"tool","content":"7","tool_call_id":"call_1"},
            ])
        );
    }

    #[test]
    fn what_a_message_has_for_this_protocol_alone_is_named() {
        let body = r#"{"messages":[{"role":"user","content":"Hi","x":null},
            {"role":"assistant","audio":{"id":"a"},"annotations":[],"reasoning_content":"hm"}],"logit_bias":{}}"#;
        assert_eq!(parse(body.as_bytes()).expect("good").prompt.foreign, ["logit_bias", "messages[1].audio"]);
    }

    #[test]
    fn little_is_required() {
        let asked = parse(br#"{"messages":[{"role":"user","content":null}],"stream":null,"stop":null}"#).expect("good");
        assert!(!asked.stream && !asked.include_usage && asked.prompt.model.is_empty());
    }

    #[test]
    fn a_number_of_some_servers_own_meaning_is_no_mistake() {
        let asked = |numbers: &str| parse(format!(r#"{{"messages":[{{"role":"user"}}],{numbers}}}"#).as_bytes());
        let params = |numbers: &str| asked(numbers).expect(numbers).prompt.params;
        let all = params(r#""max_tokens":-1,"n":-1,"seed":18446744073709551615"#);
        assert_eq!((all.max_tokens, all.n, all.seed), (None, None, None));
        assert_eq!((params(r#""max_tokens":7"#).max_tokens, params(r#""seed":-7"#).seed), (Some(7), Some(-7)));
        assert_eq!(params(r#""max_completion_tokens":null,"max_tokens":5"#).max_tokens, Some(5));
        let error = asked(r#""max_tokens":"many""#).expect_err("no number");
        assert_eq!(error.field.as_deref(), Some("max_tokens"));
    }

    #[test]
    fn each_mistake_names_its_field_and_its_remedy() {
        for (body, field, words) in [
            ("hello", None, "send {"),
            ("[]", None, "send {"),
            (r#"{"messages":[{"role":"user"}]"#, None, "send {"),
            (r#"{"messages":[{"role":"user"}]} x"#, None, "send {"),
            ("{}", Some("messages"), "at least one"),
            (r#"{"messages":[]}"#, Some("messages"), "at least one"),
            (r#"{"messages":"hi"}"#, Some("messages"), "invalid type: string"),
            (r#"{"messages":[{"role":"usr"}]}"#, Some("messages[0].role"), "did you mean `user`?"),
            (r#"{"messages":[{"role":"user","content":7}]}"#, Some("messages[0].content"), "neither text nor a list"),
            (r#"{"messages":[{"role":"user"}],"stream":"yes"}"#, Some("stream"), "invalid type"),
            (r#"{"messages":[{"role":"user"}],"stop":7}"#, Some("stop"), "neither text nor a list"),
            (r#"{"messages":[{"role":"user"}],"on_disconnect":"x"}"#, Some("on_disconnect"), "continue"),
        ] {
            let BadRequest { field: got, detail, remedy } = parse(body.as_bytes()).expect_err(body);
            assert_eq!(got.as_deref(), field, "{body}: {detail}");
            assert!(format!("{detail}; {remedy}").contains(words), "{body}: {detail}; {remedy}");
            assert!(!detail.contains(" at line "), "{detail}");
        }
    }
}
