//! A prompt as the body of a Responses request, always streaming.
//!
//! A client that spoke this protocol itself is passed on to the letter: numbers, order and members unknown to us are kept, and only
//! `model` and `stream` are ours. What it said to lastword alone stays here; so do `background` and `previous_response_id`, since it is
//! here that the answer goes on without its client, and that the one before it lies, and reasoning that nobody can go on with. Any other
//! prompt is said in the words of this protocol, and nothing of it is to stay with the upstream.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{NAME, items};
use crate::{
    event::Json,
    prompt::{Content, Prompt},
    protocol::{body::Members, openai},
};

/// The members that lastword itself decides on: nobody's extras may hold them.
pub const RESERVED: [&str; 4] = ["model", "stream", "background", "previous_response_id"];

/// OpenAI refuses a request for fewer.
const LEAST_TOKENS: u64 = 16;

/// The body that asks `model` for an answer. The members of each of `extras` replace those of the same name, in this order.
///
/// # Errors
/// What cannot be said here, in words for the client.
pub fn request(prompt: &Prompt, model: &str, extras: &[&Map<String, Value>]) -> Result<Vec<u8>, String> {
    let mut body = match own_body(prompt) {
        Some(body) => {
            let object = serde_json::from_str(body.get());
            let mut body: Members = object.map_err(|_| "the request's body must be a JSON object".to_owned())?;
            body.remove("background");
            body.remove("previous_response_id");
            let input: Option<Vec<Json>> = body.get("input").and_then(|input| serde_json::from_str(input.get()).ok());
            let mut items = input.unwrap_or_default();
            let of_use = |item: &Json| items::bare_reasoning(item) != Some(items::Bare::MadeHere);
            if !items.iter().all(of_use) {
                items.retain(of_use);
                body.set("input", &items);
            }
            body.without_ours()
        }
        None => Crossing::of(prompt)?.body,
    };
    body.set("model", model);
    for (name, value) in extras.iter().flat_map(|extra| extra.iter()) {
        body.set(name, value);
    }
    body.set("stream", &true);
    serde_json::to_vec(&body).map_err(|error| error.to_string())
}

/// What of a prompt of another protocol is not said here, by name, beside the common parameters that this protocol does not have.
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

/// A prompt of another protocol in the words of this one.
#[derive(Default)]
struct Crossing {
    body: Members,
    unsaid: Vec<String>,
}

/// `{"type": kind, kind: inside}`.
#[derive(Deserialize)]
struct Wrapped {
    r#type: String,
    function: Option<Members>,
    custom: Option<Members>,
    allowed_tools: Option<Allowed>,
    json_schema: Option<Members>,
}

#[derive(Deserialize)]
struct Allowed {
    mode: Option<Json>,
    tools: Vec<Wrapped>,
}

impl Crossing {
    fn of(prompt: &Prompt) -> Result<Self, String> {
        let params = &prompt.params;
        if params.n.is_some_and(|n| n > 1) {
            return Err("an upstream of Responses gives one answer at a time; leave out `n`".to_owned());
        }
        let mut crossing = Self::default();
        for (n, message) in prompt.messages.iter().enumerate() {
            let parts = match &message.content {
                Some(Content::Parts(parts)) => &parts[..],
                _ => &[],
            };
            if let Some(m) = parts.iter().position(|part| items::own_part(part, message.role).is_none()) {
                let kind = parts[m]["type"].as_str().unwrap_or_default();
                let place = format!("messages[{n}].content[{m}]");
                return Err(format!(
                    "{place}, a part of the type `{kind}`, cannot be said to an upstream of Responses"
                ));
            }
            if message.name.is_some() {
                crossing.unsaid.push(format!("messages[{n}].name"));
            }
        }
        let body = &mut crossing.body;
        body.set("model", "");
        body.set_some("instructions", prompt.system.as_ref());
        body.set("input", &items::from_messages(&prompt.messages));
        body.set_some("max_output_tokens", params.max_tokens.map(|most| most.max(LEAST_TOKENS)).as_ref());
        body.set_some("temperature", params.temperature.as_ref());
        body.set_some("top_p", params.top_p.as_ref());
        body.set_some("reasoning", openai::effort(params).map(|effort| json!({ "effort": effort })).as_ref());
        body.set_some("user", openai::user(params).as_ref());
        if params.max_tokens.is_some_and(|most| most < LEAST_TOKENS) {
            crossing.unsaid.push("max_tokens".to_owned());
        }
        crossing.tools(prompt);
        crossing.format(prompt);
        crossing.body.set("store", &false);
        Ok(crossing)
    }

    fn tools(&mut self, prompt: &Prompt) {
        let params = &prompt.params;
        let listed: Vec<Json> =
            params.tools.as_ref().and_then(|tools| serde_json::from_str(tools.get()).ok()).unwrap_or_default();
        let mut tools = Vec::new();
        for (n, json) in listed.iter().enumerate() {
            match serde_json::from_str(json.get()).ok().and_then(tool) {
                Some(tool) => tools.push(tool),
                None => self.unsaid.push(format!("tools[{n}]")),
            }
        }
        if tools.is_empty() {
            return;
        }
        self.body.set("tools", &tools);
        self.body.set_some("parallel_tool_calls", params.parallel_tool_calls.as_ref());
        let Some(choice) = &params.tool_choice else { return };
        if choice.get().starts_with('"') {
            self.body.set("tool_choice", choice);
            return;
        }
        match serde_json::from_str(choice.get()).ok().and_then(chosen) {
            Some(choice) => self.body.set("tool_choice", &choice),
            None => self.unsaid.push("tool_choice".to_owned()),
        }
    }

    fn format(&mut self, prompt: &Prompt) {
        let Some(format) = &prompt.params.response_format else { return };
        let told: Option<Wrapped> = serde_json::from_str(format.get()).ok();
        let told = match told {
            Some(Wrapped { r#type, .. }) if r#type == "text" => return,
            Some(Wrapped { r#type, .. }) if r#type == "json_object" => Json::of(&json!({ "type": r#type })),
            Some(Wrapped { r#type, json_schema: Some(inside), .. }) => Json::of(&flat(&r#type, inside)),
            _ => None,
        };
        match told {
            Some(format) => {
                let mut text = Members::default();
                text.set("format", &format);
                self.body.set("text", &text);
            }
            None => self.unsaid.push("response_format".to_owned()),
        }
    }
}

/// `{"type": kind, …inside}`: what Chat Completions has in a box, Responses has flat.
fn flat(kind: &str, inside: Members) -> Members {
    let mut members = Members::default();
    members.set("type", kind);
    inside.iter().for_each(|(name, value)| members.set(name, value));
    members
}

fn tool(tool: Wrapped) -> Option<Members> {
    let kind = tool.r#type;
    match &*kind {
        "function" => {
            let mut function = flat(&kind, tool.function?);
            // Both must be there, and here a function is strict unless it says that it is not.
            for (name, usual) in
                [("parameters", json!({ "type": "object", "properties": {} })), ("strict", json!(false))]
            {
                if function.get(name).is_none_or(|value| value.get() == "null") {
                    function.set(name, &usual);
                }
            }
            Some(function)
        }
        "custom" => {
            let mut custom = flat(&kind, tool.custom?);
            let format: Option<Value> = custom.get("format").and_then(|format| serde_json::from_str(format.get()).ok());
            if let Some(Value::Object(mut grammar)) = format.map(|mut format| format["grammar"].take()) {
                grammar.insert("type".to_owned(), "grammar".into());
                custom.set("format", &grammar);
            }
            Some(custom)
        }
        _ => None,
    }
}

fn chosen(choice: Wrapped) -> Option<Members> {
    match choice {
        Wrapped { r#type, function: Some(inside), .. } | Wrapped { r#type, custom: Some(inside), .. } => {
            Some(flat(&r#type, inside))
        }
        Wrapped { r#type, allowed_tools: Some(Allowed { mode, tools }), .. } => {
            let mut allowed = Members::default();
            allowed.set("type", &r#type);
            allowed.set_some("mode", mode.as_ref());
            allowed.set("tools", &tools.into_iter().map(chosen).collect::<Option<Vec<_>>>()?);
            Some(allowed)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Message, Params, Role};

    fn body(prompt: &Prompt, extras: &[&Map<String, Value>]) -> String {
        String::from_utf8(request(prompt, "m", extras).expect("a body")).expect("text")
    }

    fn json(json: Value) -> Option<Json> {
        Json::of(&json)
    }

    #[test]
    fn the_common_form_becomes_a_body() {
        let prompt = Prompt {
            system: Some("Be brief.".into()),
            messages: vec![Message::text(Role::User, "Hi")],
            params: Params {
                max_tokens: Some(50),
                reasoning_effort: Some("low".into()),
                user: Some("u".into()),
                ..Params::default()
            },
            ..Prompt::default()
        };
        assert_eq!(
            body(&prompt, &[]),
            r#"{"model":"m","instructions":"Be brief.","input":[{"type":"message","role":"user","content":"Hi"}],"#
                .to_owned()
                + r#""max_output_tokens":50,"reasoning":{"effort":"low"},"user":"u","store":false,"stream":true}"#
        );
    }

    #[test]
    fn a_body_of_the_same_protocol_is_kept_to_the_letter() {
        let own =
            r#"{"temperature":1.10,"input":[{"type":"x","y":1e2}],"model":"alias","store":true,"background":true,"#
                .to_owned()
                + r#""previous_response_id":"resp_1","strict":true,"z":{"b":1,"a":2},"stream":false}"#;
        let prompt = Prompt { protocol: NAME.into(), body: serde_json::from_str(&own).ok(), ..Prompt::default() };
        assert_eq!(
            body(&prompt, &[]),
            r#"{"temperature":1.10,"input":[{"type":"x","y":1e2}],"model":"m","store":true,"z":{"b":1,"a":2},"stream":true}"#
        );
        assert_eq!(unsaid(&prompt), Ok(Vec::new()));
        let foreign = Prompt { protocol: "chat".into(), ..prompt };
        assert!(!body(&foreign, &[]).contains("alias"));
        let none = Prompt { protocol: NAME.into(), body: json(json!([1])), ..Prompt::default() };
        assert!(request(&none, "m", &[]).is_err());
    }

    #[test]
    fn reasoning_that_nobody_can_go_on_with_stays_here() {
        let made = r#"{"type":"reasoning","id":"rs_0199c0ffee007000800000000000abcd_0","summary":[]}"#;
        let theirs = r#"{"type":"reasoning","id":"rs_68ab","summary":[]}"#;
        let sealed = r#"{"type":"reasoning","summary":[],"encrypted_content":"x","y":1.0}"#;
        let own = |items: &[&str]| format!(r#"{{"input":[{}],"model":"m"}}"#, items.join(","));
        let told = |own: String| {
            let prompt = Prompt { protocol: NAME.into(), body: serde_json::from_str(&own).ok(), ..Prompt::default() };
            body(&prompt, &[])
        };
        assert_eq!(
            told(own(&[made, theirs, sealed])),
            own(&[theirs, sealed]).replace("\"m\"", "\"m\",\"stream\":true")
        );
        assert!(told(r#"{"input":"Hi"}"#.to_owned()).contains(r#""input":"Hi""#));
    }

    #[test]
    fn tools_are_flat_here_and_not_strict_unless_they_say_so() {
        let params = Params {
            tools: json(json!([
                {"type":"function","function":{"name":"f","description":"d"}},
                {"type":"function","function":{"name":"g","parameters":{"type":"object"},"strict":true}},
                {"type":"custom","custom":{"name":"h","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"x"}}}},
                {"type":"web_search"},
            ])),
            tool_choice: json(
                json!({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}),
            ),
            ..Params::default()
        };
        let prompt = Prompt { params, ..Prompt::default() };
        let told: Value = serde_json::from_str(&body(&prompt, &[])).expect("JSON");
        assert_eq!(
            told["tools"],
            json!([
                {"type":"function","name":"f","description":"d","parameters":{"type":"object","properties":{}},"strict":false},
                {"type":"function","name":"g","parameters":{"type":"object"},"strict":true},
                {"type":"custom","name":"h","format":{"type":"grammar","syntax":"lark","definition":"x"}},
            ])
        );
        assert_eq!(
            told["tool_choice"],
            json!({"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]})
        );
        assert_eq!(unsaid(&prompt), Ok(vec!["tools[3]".to_owned()]));
    }

    #[test]
    fn a_choice_and_a_format_are_flat_too() {
        for (choice, flat) in [
            (json!("required"), json!("required")),
            (json!({"type":"function","function":{"name":"f"}}), json!({"type":"function","name":"f"})),
            (json!({"type":"custom","custom":{"name":"f"}}), json!({"type":"custom","name":"f"})),
            (json!({"type":"new"}), Value::Null),
        ] {
            let tools = json(json!([{"type":"function","function":{"name":"f"}}]));
            let params = Params { tools, tool_choice: json(choice.clone()), ..Params::default() };
            let prompt = Prompt { params, ..Prompt::default() };
            let told: Value = serde_json::from_str(&body(&prompt, &[])).expect("JSON");
            assert_eq!(told["tool_choice"], flat, "{choice}");
            assert_eq!(unsaid(&prompt).expect("said").is_empty(), !flat.is_null());
        }
        for (format, flat) in [
            (json!({"type":"text"}), Value::Null),
            (json!({"type":"json_object"}), json!({"format":{"type":"json_object"}})),
            (
                json!({"type":"json_schema","json_schema":{"name":"s","schema":{}}}),
                json!({"format":{"type":"json_schema","name":"s","schema":{}}}),
            ),
        ] {
            let params = Params { response_format: json(format.clone()), ..Params::default() };
            let prompt = Prompt { params, ..Prompt::default() };
            let told: Value = serde_json::from_str(&body(&prompt, &[])).expect("JSON");
            assert_eq!(told["text"], flat, "{format}");
            assert_eq!(unsaid(&prompt), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        let mut prompt = Prompt { params: Params { n: Some(2), ..Params::default() }, ..Prompt::default() };
        assert!(request(&prompt, "m", &[]).expect_err("two").contains("`n`"));
        prompt.params.n = Some(1);
        let parts = vec![json!({"type":"text","text":"x"}), json!({"type":"video_url"})];
        prompt.messages = vec![Message {
            content: Some(Content::Parts(parts)),
            name: Some("x".into()),
            ..Message::text(Role::User, "")
        }];
        let error = request(&prompt, "m", &[]).expect_err("a video");
        assert!(error.contains("messages[0].content[1]") && error.contains("`video_url`"), "{error}");
        prompt.messages[0].content = None;
        assert_eq!(unsaid(&prompt), Ok(vec!["messages[0].name".to_owned()]));
    }

    #[test]
    fn what_openai_refuses_is_not_asked() {
        let params = Params {
            max_tokens: Some(5),
            user: Some("u".repeat(140)),
            reasoning_effort: Some("max".into()),
            parallel_tool_calls: Some(false),
            tools: json(json!([])),
            ..Params::default()
        };
        let mut prompt = Prompt { params, ..Prompt::default() };
        let told: Value = serde_json::from_str(&body(&prompt, &[])).expect("JSON");
        assert_eq!((&told["max_output_tokens"], &told["reasoning"]), (&json!(16), &json!({ "effort": "xhigh" })));
        assert_eq!(told["user"].as_str().map(str::len), Some(64));
        assert_eq!(told.get("parallel_tool_calls"), None);
        assert_eq!(unsaid(&prompt), Ok(vec!["max_tokens".to_owned()]));
        prompt.params.tools = json(json!([{"type":"function","function":{"name":"f"}}]));
        assert!(body(&prompt, &[]).contains(r#""parallel_tool_calls":false"#));
    }

    #[test]
    fn extras_are_merged_in_last_and_cannot_stop_the_stream() {
        let extra = |text: &str| serde_json::from_str::<Map<_, _>>(text).expect("an object");
        let (first, second) = (extra(r#"{"store":true,"top_k":1}"#), extra(r#"{"top_k":40,"stream":false}"#));
        let body = body(&Prompt::default(), &[&first, &second]);
        assert!(body.ends_with(r#""store":true,"top_k":40,"stream":true}"#), "{body}");
    }
}
