//! A prompt of another protocol in the words of Chat Completions. The common form is in its shape already; what is mended here is
//! what its servers refuse all the same.

use std::{borrow::Cow, collections::HashMap, mem};

use serde::Deserialize;
use serde_json::{Value, json};

use super::request::Dialect;
use crate::{
    event::Json,
    prompt::{Content, Message, Prompt, Role},
    protocol::{body::Members, openai},
};

/// See the module.
#[derive(Default)]
pub(super) struct Crossing {
    pub(super) body: Members,
    /// What is not said, by name.
    pub(super) unsaid: Vec<String>,
}

impl Crossing {
    pub(super) fn of(prompt: &Prompt, dialect: Dialect) -> Self {
        let mut crossing = Self::default();
        let (params, body) = (&prompt.params, &mut crossing.body);
        body.set("model", "");
        body.set("messages", &messages(prompt, dialect));
        let max_tokens = match dialect {
            Dialect::Common => "max_tokens",
            Dialect::OpenAi => "max_completion_tokens",
        };
        body.set_some(max_tokens, params.max_tokens.as_ref());
        body.set_some("temperature", params.temperature.as_ref());
        body.set_some("top_p", params.top_p.as_ref());
        body.set_some("stop", (!params.stop.is_empty()).then_some(&params.stop));
        body.set_some("seed", params.seed.as_ref());
        crossing.tools(prompt, dialect);
        let body = &mut crossing.body;
        body.set_some("response_format", params.response_format.as_ref());
        if body.get("tools").is_some() {
            body.set_some("parallel_tool_calls", params.parallel_tool_calls.as_ref());
        }
        body.set_some("reasoning_effort", openai::effort(params).as_ref());
        body.set_some("user", openai::user(params).as_ref());
        if dialect == Dialect::Common {
            let calls = prompt.messages.iter().enumerate().flat_map(|(n, message)| {
                calls(message).into_iter().enumerate().filter(|(_, call)| is_custom(call)).map(move |(m, _)| (n, m))
            });
            crossing.unsaid.extend(calls.map(|(n, m)| format!("messages[{n}].tool_calls[{m}].custom")));
        }
        crossing
    }

    /// Tools of free text are OpenAI's own; other servers refuse the whole request for one.
    fn tools(&mut self, prompt: &Prompt, dialect: Dialect) {
        let params = &prompt.params;
        let Some(tools) = params.tools.as_ref().filter(|_| openai::has_tools(params)) else { return };
        let listed: Vec<Value> = match dialect {
            Dialect::Common => serde_json::from_str(tools.get()).unwrap_or_default(),
            Dialect::OpenAi => Vec::new(),
        };
        let left_out: Vec<usize> = (0..listed.len()).filter(|n| is_custom(&listed[*n])).collect();
        if left_out.is_empty() {
            self.body.set("tools", tools);
            self.body.set_some("tool_choice", params.tool_choice.as_ref());
            return;
        }
        self.unsaid.extend(left_out.iter().map(|n| format!("tools[{n}]")));
        let as_they_came: Vec<Json> = serde_json::from_str(tools.get()).unwrap_or_default();
        let kept: Vec<&Json> =
            as_they_came.iter().enumerate().filter(|(n, _)| !left_out.contains(n)).map(|(_, tool)| tool).collect();
        if kept.is_empty() {
            return;
        }
        self.body.set("tools", &kept);
        match &params.tool_choice {
            Some(choice) if is_of_free_text(choice) => self.unsaid.push("tool_choice".to_owned()),
            choice => self.body.set_some("tool_choice", choice.as_ref()),
        }
    }
}

fn is_of_free_text(choice: &Json) -> bool {
    let choice: Value = serde_json::from_str(choice.get()).unwrap_or_default();
    let allowed = choice["allowed_tools"]["tools"].as_array();
    is_custom(&choice) || allowed.is_some_and(|tools| tools.iter().any(is_custom))
}

/// Whether a tool, or a call of one, is of free text.
fn is_custom(tool: &Value) -> bool {
    tool["type"] == "custom"
}

fn calls(message: &Message) -> Vec<Value> {
    message.tool_calls.as_ref().and_then(|calls| serde_json::from_str(calls.get()).ok()).unwrap_or_default()
}

/// A call with free text is told as one of a function whose one argument is that text, as an upstream of Messages is told it too: the
/// model sees what it did, and what came of it still answers a call.
fn of_functions(message: &mut Cow<'_, Message>) {
    let mut calls = calls(message);
    if !calls.iter().any(is_custom) {
        return;
    }
    for call in calls.iter_mut().filter(|call| is_custom(call)) {
        let arguments = json!({ "input": call["custom"]["input"] }).to_string();
        let function = json!({ "name": call["custom"]["name"], "arguments": arguments });
        *call = json!({ "id": call["id"], "type": "function", "function": function });
    }
    message.to_mut().tool_calls = Json::of(&calls);
}

fn messages(prompt: &Prompt, dialect: Dialect) -> Vec<Cow<'_, Message>> {
    let system = prompt.system.as_ref().map(|text| Cow::Owned(Message::text(Role::System, text)));
    let mut all: Vec<_> = system.into_iter().chain(in_order(&prompt.messages).into_iter().map(Cow::Borrowed)).collect();
    if dialect == Dialect::Common {
        all = of_one_system(all);
        all.iter_mut().for_each(of_functions);
    }
    seen_beside_results(all)
}

/// Results stand right behind the calls that they answer.
fn in_order(messages: &[Message]) -> Vec<&Message> {
    #[derive(Deserialize)]
    struct Call {
        id: Option<String>,
    }
    let mut asked: HashMap<String, usize> = HashMap::new();
    let mut placed: Vec<(usize, &Message)> = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        let calls: Option<Vec<Call>> =
            message.tool_calls.as_ref().and_then(|calls| serde_json::from_str(calls.get()).ok());
        asked.extend(calls.into_iter().flatten().filter_map(|call| Some((call.id?, n))));
        let answered = message.tool_call_id.as_ref().filter(|_| message.role == Role::Tool);
        placed.push((answered.and_then(|id| asked.get(id)).copied().unwrap_or(n), message));
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, message)| message).collect()
}

/// The role `developer` and a second system message are in few models' templates: what stands before the conversation becomes one text.
fn of_one_system(mut messages: Vec<Cow<'_, Message>>) -> Vec<Cow<'_, Message>> {
    for message in messages.iter_mut().filter(|message| message.role == Role::Developer) {
        message.to_mut().role = Role::System;
    }
    let is_text = |part: &Value| part["type"] == "text";
    let of_words = |message: &Message| match &message.content {
        Some(Content::Parts(parts)) => parts.iter().all(is_text),
        Some(Content::Text(_)) | None => true,
    };
    let plain =
        |message: &Cow<'_, Message>| message.role == Role::System && message.name.is_none() && of_words(message);
    let leading = messages.iter().take_while(|message| plain(message)).count();
    if leading > 1 {
        let texts =
            messages.drain(..leading).filter_map(|message| Some(message.content.as_ref()?.words().into_owned()));
        let text = texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n");
        messages.insert(0, Cow::Owned(Message::text(Role::System, text)));
    }
    messages
}

/// A tool's result is words. What it shows is shown by the user, behind all the results of that turn.
fn seen_beside_results(messages: Vec<Cow<'_, Message>>) -> Vec<Cow<'_, Message>> {
    let mut told = Vec::with_capacity(messages.len());
    let mut shown: Vec<Value> = Vec::new();
    let show = |shown: &mut Vec<Value>, told: &mut Vec<_>| {
        if !shown.is_empty() {
            let content = Some(Content::Parts(mem::take(shown)));
            told.push(Cow::Owned(Message { content, ..Message::text(Role::User, "") }));
        }
    };
    for mut message in messages {
        if message.role != Role::Tool {
            show(&mut shown, &mut told);
            told.push(message);
            continue;
        }
        let is_text = |part: &Value| part["type"] == "text";
        let words = match &message.content {
            None => Some(String::new()),
            Some(Content::Parts(parts)) if !parts.iter().all(is_text) => {
                shown.extend(parts.iter().filter(|part| !is_text(part)).cloned());
                message.content.as_ref().map(|content| content.words().into_owned())
            }
            Some(_) => None,
        };
        if let Some(words) = words {
            let message = message.to_mut();
            message.content = Some(Content::Text(words));
        }
        told.push(message);
    }
    show(&mut shown, &mut told);
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prompt::Params;

    fn told(prompt: &Prompt, dialect: Dialect) -> (Value, Vec<String>) {
        let Crossing { body, unsaid } = Crossing::of(prompt, dialect);
        (serde_json::to_value(&body).expect("plain data"), unsaid)
    }

    fn conversation(messages: &Value) -> Prompt {
        Prompt { messages: serde_json::from_value(messages.clone()).expect("messages"), ..Prompt::default() }
    }

    fn with_tools(tools: &Value, choice: &Value) -> Prompt {
        let (tools, tool_choice) = (Json::of(tools), Json::of(choice));
        let params = Params { tools, tool_choice, parallel_tool_calls: Some(false), ..Params::default() };
        Prompt { params, ..Prompt::default() }
    }

    #[test]
    fn the_user_and_the_effort_are_such_as_openai_takes() {
        let params = Params { user: Some("u".repeat(140)), reasoning_effort: Some("max".into()), ..Params::default() };
        let (body, _) = told(&Prompt { params, ..Prompt::default() }, Dialect::OpenAi);
        assert_eq!(body["user"].as_str().map(str::len), Some(64));
        assert_eq!(body["reasoning_effort"], "xhigh");
    }

    #[test]
    fn only_openai_knows_developers_and_several_systems() {
        let messages = json!([
            {"role":"developer","content":"b"}, {"role":"system","content":[{"type":"text","text":"c"}]},
            {"role":"user","content":"Hi"}, {"role":"developer","content":"d"},
        ]);
        let prompt = Prompt { system: Some("a".into()), ..conversation(&messages) };
        assert_eq!(
            told(&prompt, Dialect::Common).0["messages"],
            json!([
                {"role":"system","content":"a\n\nb\n\nc"}, {"role":"user","content":"Hi"},
                {"role":"system","content":"d"},
            ])
        );
        let all = told(&prompt, Dialect::OpenAi).0["messages"].take();
        assert_eq!(all[0], json!({"role":"system","content":"a"}));
        assert_eq!(all.as_array().map(|all| &all[1..]), messages.as_array().map(|all| &all[..]));
    }

    #[test]
    fn results_stand_behind_their_calls() {
        let call = |id: &str| json!({"role":"assistant","tool_calls":[{"id":id}]});
        let result = |id: &str, text: &str| json!({"role":"tool","content":text,"tool_call_id":id});
        let user = json!({"role":"user","content":"Go on"});
        let prompt = conversation(&json!([
            call("a"),
            user,
            call("b"),
            result("b", "1"),
            result("a", "2"),
            call("a"),
            result("z", "3"),
            result("a", "4"),
        ]));
        assert_eq!(
            told(&prompt, Dialect::OpenAi).0["messages"],
            json!([
                call("a"),
                result("a", "2"),
                user,
                call("b"),
                result("b", "1"),
                call("a"),
                result("a", "4"),
                result("z", "3"),
            ])
        );
    }

    #[test]
    fn what_a_result_shows_is_shown_by_the_user() {
        let image = json!({"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}});
        let text = |text: &str| json!({"type":"text","text":text});
        let tool = |content: Value| json!({"role":"tool","content":content,"tool_call_id":"a"});
        let prompt = conversation(&json!([
            tool(json!([text("x"), image, text("y")])), tool(json!([image])), tool(json!([text("z")])),
            {"role":"user","content":"Hi"}, {"role":"tool","tool_call_id":"a"},
        ]));
        assert_eq!(
            told(&prompt, Dialect::Common).0["messages"],
            json!([
                tool(json!("x\ny")), tool(json!("")), tool(json!([text("z")])),
                {"role":"user","content":[image, image]}, {"role":"user","content":"Hi"}, tool(json!("")),
            ])
        );
    }

    #[test]
    fn without_tools_nothing_is_said_of_calling_them() {
        for tools in [json!([]), json!([{"type":"custom","custom":{"name":"f"}}])] {
            let (body, _) = told(&with_tools(&tools, &json!("auto")), Dialect::Common);
            assert!(
                ["tools", "tool_choice", "parallel_tool_calls"].iter().all(|name| body.get(name).is_none()),
                "{body}"
            );
        }
        let (body, _) = told(&with_tools(&json!([{"type":"function"}]), &json!("auto")), Dialect::Common);
        assert_eq!((&body["tool_choice"], &body["parallel_tool_calls"]), (&json!("auto"), &json!(false)));
    }

    #[test]
    fn a_call_with_free_text_is_one_of_a_function_but_for_openai() {
        let custom = json!({"id":"a","type":"custom","custom":{"name":"run","input":"say \"hi\"\n"}});
        let function = json!({"id":"b","type":"function","function":{"name":"f","arguments":"{ }"}});
        let rest = |calls: Value| json!([{"role":"user","content":"Go"}, {"role":"assistant","tool_calls":calls}]);
        let prompt = conversation(&rest(json!([function, custom])));
        let (body, unsaid) = told(&prompt, Dialect::Common);
        let arguments = r#"{"input":"say \"hi\"\n"}"#;
        let told_so = json!({"id":"a","type":"function","function":{"name":"run","arguments":arguments}});
        assert_eq!(body["messages"], rest(json!([function, told_so])));
        assert_eq!(unsaid, ["messages[1].tool_calls[1].custom"]);
        let (body, unsaid) = told(&prompt, Dialect::OpenAi);
        assert_eq!((&body["messages"], unsaid.len()), (&rest(json!([function, custom])), 0));
    }

    #[test]
    fn tools_of_free_text_are_for_openai_alone() {
        let (f, g) =
            (json!({"type":"function","function":{"name":"f"}}), json!({"type":"custom","custom":{"name":"g"}}));
        let prompt = with_tools(&json!([g, f]), &g);
        let (body, unsaid) = told(&prompt, Dialect::Common);
        assert_eq!((&body["tools"], body.get("tool_choice")), (&json!([f]), None));
        assert_eq!(unsaid, ["tools[0]", "tool_choice"]);
        let (body, unsaid) = told(&prompt, Dialect::OpenAi);
        assert_eq!((&body["tools"], &body["tool_choice"], unsaid.len()), (&json!([g, f]), &g, 0));
    }
}
