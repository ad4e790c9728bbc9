//! What clients ask, and what is made of it.

use serde_json::Value;

use super::*;
use bytesize::ByteSize;

use crate::{
    id::StreamId,
    prompt::{Content, Message, Role},
    protocol::responses::{expand, input_items},
};

const ALL: ByteSize = ByteSize::mib(1);

fn good(body: &str) -> Asked {
    parse(body.as_bytes()).expect(body)
}

/// The messages of a conversation of these items, as Chat Completions would have them.
fn common(items: &str) -> Value {
    serde_json::to_value(good(&format!(r#"{{"input":{items}}}"#)).prompt.messages).expect("plain data")
}

fn value(json: Option<&Json>) -> Value {
    json.map_or(Value::Null, |json| serde_json::from_str(json.get()).expect("JSON"))
}

#[test]
fn what_is_known_is_read_and_what_is_not_is_kept() {
    let body = r#" {"model": "m", "input": "Hi", "instructions": "Be brief.", "max_output_tokens": 7, "temperature": 0.70,
        "top_p": 0.9, "parallel_tool_calls": false, "user": "u", "metadata": {"a": "b"}, "stream": true, "store": false,
        "previous_response_id": "resp_1", "truncation": "auto", "include": ["x"], "future": null} "#;
    let Asked { prompt, stream, background, previous, store } = good(body);
    assert!(stream && !background && !store && prompt.forget);
    assert_eq!(previous.as_deref(), Some("resp_1"));
    assert_eq!((&*prompt.protocol, &*prompt.model, prompt.system.as_deref()), ("responses", "m", Some("Be brief.")));
    assert_eq!(prompt.messages, [Message::text(Role::User, "Hi")]);
    let params = &prompt.params;
    assert_eq!((params.max_tokens, params.temperature, params.top_p), (Some(7), Some(0.7), Some(0.9)));
    assert_eq!((params.parallel_tool_calls, params.user.as_deref()), (Some(false), Some("u")));
    assert_eq!(prompt.metadata.as_ref().map(Json::get), Some(r#"{"a":"b"}"#));
    assert_eq!(prompt.foreign, ["truncation", "include"]);
    assert_eq!(prompt.body.as_ref().map(Json::get), Some(body.trim().replace('\n', " ").as_str()));
    assert_eq!(prompt.on_disconnect, OnDisconnect::A_WHILE);
}

#[test]
fn little_is_required() {
    let asked = good(r#"{"input":"","stream":null,"metadata":null,"text":null,"reasoning":{"effort":null}}"#);
    assert!(!asked.stream && asked.store && asked.previous.is_none() && asked.prompt.metadata.is_none());
    assert_eq!(good(r#"{"input":"","instructions":""}"#).prompt.system, None);
    assert_eq!(good(r#"{"input":"","safety_identifier":"u"}"#).prompt.params.user.as_deref(), Some("u"));
    assert!(good(r#"{"previous_response_id":"resp_1"}"#).prompt.messages.is_empty());
    assert_eq!(good(r#"{"prompt":{"id":"pmpt_1"}}"#).prompt.foreign, ["prompt"]);
}

#[test]
fn what_is_asked_for_anyway_is_not_lost_anywhere() {
    let usual = r#"{"input":"x","include":[ ],"truncation":"disabled","service_tier":"auto","top_logprobs":0,"text":{"format":{"type":"text"}}}"#;
    assert_eq!(good(usual).prompt.foreign, [""; 0]);
}

#[test]
fn an_answer_in_the_background_goes_on_without_its_client_unless_that_says_otherwise() {
    let asked = good(r#"{"input":"x","background":true}"#);
    assert!(asked.background);
    assert_eq!(asked.prompt.on_disconnect, OnDisconnect::Continue);
    let asked = good(r#"{"input":"x","background":true,"on_disconnect":"cancel"}"#);
    assert_eq!(asked.prompt.on_disconnect, OnDisconnect::Cancel);
}

#[test]
fn messages_come_in_three_forms() {
    let items = r#"[{"role":"developer","content":"Be brief."},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]},
        {"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Yes?","annotations":[]}]}]"#;
    assert_eq!(
        common(items),
        json!([{"role":"developer","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes?"}])
    );
}

#[test]
fn parts_are_put_into_common_words_and_those_without_one_stay_as_they_came() {
    let parts = json!([
        {"type":"input_text","text":"Look"},
        {"type":"input_image","image_url":"data:x","detail":"low"},
        {"type":"input_image","file_id":"file_1"},
        {"type":"input_file","file_data":"data:y","filename":"a.pdf"},
        {"type":"input_file","file_url":"http://a"},
        {"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}},
        {"type":"refusal","refusal":"No"},
        {"type":"new"},
    ]);
    assert_eq!(
        common(&json!([{ "role": "user", "content": parts }]).to_string())[0]["content"],
        json!([
            {"type":"text","text":"Look"},
            {"type":"image_url","image_url":{"url":"data:x","detail":"low"}},
            {"type":"input_image","file_id":"file_1"},
            {"type":"file","file":{"file_data":"data:y","filename":"a.pdf"}},
            {"type":"input_file","file_url":"http://a"},
            {"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}},
            {"type":"refusal","refusal":"No"},
            {"type":"new"},
        ])
    );
}

#[test]
fn the_calls_of_one_turn_are_one_message_and_reasoning_is_none() {
    let items = r#"[{"role":"user","content":"Look"},
        {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"},
        {"type":"message","role":"assistant","content":"Wait."},
        {"type":"reasoning","id":"rs_2","summary":[]},
        {"type":"function_call","call_id":"a","name":"f","arguments":"{}"},
        {"type":"custom_tool_call","call_id":"b","name":"g","input":"free"},
        {"type":"function_call_output","call_id":"a","output":"1"},
        {"type":"custom_tool_call_output","call_id":"b","output":[{"type":"input_text","text":"2"},{"type":"input_image","image_url":"u"}]},
        {"type":"function_call","call_id":"c","name":"f","arguments":"{}"}]"#;
    assert_eq!(
        common(items),
        json!([
            {"role":"user","content":"Look"},
            {"role":"assistant","content":"Wait.","tool_calls":[
                {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
                {"id":"b","type":"custom","custom":{"name":"g","input":"free"}}]},
            {"role":"tool","content":"1","tool_call_id":"a"},
            {"role":"tool","content":[{"type":"text","text":"2"},{"type":"image_url","image_url":{"url":"u"}}],"tool_call_id":"b"},
            {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
        ])
    );
}

#[test]
fn an_item_that_only_this_protocol_has_is_not_left_out() {
    for item in
        [r#"{"type":"item_reference","id":"msg_1"}"#, r#"{"id":"msg_1"}"#, r#"{"type":"web_search_call","output":7}"#]
    {
        let messages = good(&format!(r#"{{"input":[{item}]}}"#)).prompt.messages;
        let Some(Content::Parts(parts)) = &messages[0].content else { panic!("{messages:?}") };
        assert_eq!(parts[0].to_string(), serde_json::from_str::<Value>(item).expect("JSON").to_string());
    }
}

#[test]
fn tools_and_formats_are_put_into_common_words() {
    let body = json!({
        "input": "x",
        "tools": [
            {"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":true},
            {"type":"web_search"},
            {"type":"custom","name":"g","format":{"type":"grammar","syntax":"lark","definition":"x"}},
        ],
        "text": {"format":{"type":"json_schema","name":"s","schema":{},"strict":true},"verbosity":"low"},
        "reasoning": {"effort":"low","summary":"auto"},
    });
    let Prompt { params, foreign, .. } = good(&body.to_string()).prompt;
    assert_eq!(
        value(params.tools.as_ref()),
        json!([
            {"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}},
            {"type":"custom","custom":{"name":"g","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"x"}}}},
        ])
    );
    assert_eq!(
        value(params.response_format.as_ref()),
        json!({"type":"json_schema","json_schema":{"name":"s","schema":{},"strict":true}})
    );
    assert_eq!(params.reasoning_effort.as_deref(), Some("low"));
    assert_eq!(foreign, ["text.verbosity", "reasoning.summary", "tools[1]"]);
}

#[test]
fn the_choice_of_a_tool_is_put_into_common_words() {
    for (choice, common) in [
        (json!("required"), json!("required")),
        (json!({"type":"function","name":"f"}), json!({"type":"function","function":{"name":"f"}})),
        (json!({"type":"custom","name":"g"}), json!({"type":"custom","custom":{"name":"g"}})),
        (
            json!({"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}),
            json!({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}}),
        ),
        (json!({"type":"web_search_preview"}), Value::Null),
        (json!({"type":"allowed_tools","mode":"auto","tools":[{"type":"web_search"}]}), Value::Null),
    ] {
        let body = json!({"input":"x","tools":[{"type":"function","name":"f"}],"tool_choice":choice});
        let Prompt { params, foreign, .. } = good(&body.to_string()).prompt;
        assert_eq!(value(params.tool_choice.as_ref()), common, "{choice}");
        assert_eq!(foreign.contains(&"tool_choice".to_owned()), common.is_null(), "{choice}");
    }
}

#[test]
fn a_choice_among_tools_that_are_not_common_is_none() {
    let body = json!({"input":"x","tools":[{"type":"web_search"}],"tool_choice":"required"});
    let Prompt { params, foreign, .. } = good(&body.to_string()).prompt;
    assert_eq!((params.tools, params.tool_choice), (None, None));
    assert_eq!(foreign, ["tools[0]"]);
}

#[test]
fn each_mistake_names_its_field_and_its_remedy() {
    for (body, field, words) in [
        ("hello", None, "send {"),
        ("{}", Some("input"), "there is no `input`"),
        (r#"{"input":null}"#, Some("input"), "there is no `input`"),
        (r#"{"input":[]}"#, Some("input"), "there is no `input`"),
        (r#"{"input":7}"#, Some("input"), "text or a list of items"),
        (r#"{"input":"x","conversation":"conv_1"}"#, Some("conversation"), "previous_response_id"),
        (r#"{"input":["x"]}"#, Some("input[0]"), "invalid type: string"),
        (r#"{"input":[{"content":"x"}]}"#, Some("input[0].type"), "neither a `type` nor a `role`"),
        (r#"{"input":[{"role":"usr","content":"x"}]}"#, Some("input[0].role"), "did you mean `user`?"),
        (r#"{"input":[{"role":"user","content":7}]}"#, Some("input[0].content"), "neither text nor a list"),
        (r#"{"input":["",{"type":"function_call"}]}"#, Some("input[0]"), "invalid type"),
        (r#"{"input":[{"type":"function_call","name":"f"}]}"#, Some("input[0].call_id"), "has no `call_id`"),
        (r#"{"input":[{"type":"function_call","call_id":"f"}]}"#, Some("input[0].name"), "has no `name`"),
        (
            r#"{"input":[{"type":"function_call_output","call_id":"f","output":{}}]}"#,
            Some("input[0].output"),
            "neither text",
        ),
        (r#"{"input":"x","tools":[{"type":"function"}]}"#, Some("tools[0].name"), "give each tool a `name`"),
        (r#"{"input":"x","tools":["f"]}"#, Some("tools[0]"), "an object"),
        (r#"{"input":"x","text":{"format":"json"}}"#, Some("text.format"), "an object"),
        (r#"{"input":"x","reasoning":{"effort":7}}"#, Some("reasoning.effort"), "invalid type"),
        (r#"{"input":"x","metadata":[]}"#, Some("metadata"), "an object"),
        (r#"{"input":"x","stream":"yes"}"#, Some("stream"), "invalid type"),
        (r#"{"input":"x","on_disconnect":"x"}"#, Some("on_disconnect"), "continue"),
    ] {
        let BadRequest { field: got, detail, remedy } = parse(body.as_bytes()).expect_err(body);
        assert_eq!(got.as_deref(), field, "{body}: {detail}");
        assert!(format!("{detail}; {remedy}").contains(words), "{body}: {detail}; {remedy}");
        assert!(!detail.contains(" at line "), "{detail}");
    }
}

#[test]
fn the_echo_is_what_was_said_among_the_usual() {
    let asked = good(
        r#"{"input":"x","temperature":0.70,"text":{"verbosity":"low"},"reasoning":{"effort":"high"},"tools":[{"type":"web_search"}],
        "metadata":{"a":"b"},"background":null,"previous_response_id":"resp_1","prompt":{"id":"p"}}"#,
    );
    let echo = asked.prompt.echo.expect("an echo");
    assert!(echo.get().contains(r#""temperature":0.70,"#), "{}", echo.get());
    let echo = value(Some(&echo));
    for (name, said) in [
        ("background", json!(false)),
        ("instructions", Value::Null),
        ("metadata", json!({"a":"b"})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("prompt", json!({"id":"p"})),
        ("reasoning", json!({"effort":"high","summary":null})),
        ("store", json!(true)),
        ("text", json!({"verbosity":"low","format":{"type":"text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([{"type":"web_search"}])),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
    ] {
        assert_eq!(echo.get(name), Some(&said), "{name}");
    }
    assert!(echo.get("input").is_none() && echo.get("stream").is_none());
}

#[test]
fn a_conversation_goes_on_where_it_was_left() {
    let first = good(r#"{"input":"Hi","instructions":"Be brief."}"#);
    let item = |json: &str| serde_json::from_str::<Json>(json).expect("JSON");
    let output = vec![
        item(r#"{"type":"reasoning","id":"rs_up","summary":[]}"#),
        item(&format!(r#"{{"type":"reasoning","id":"rs_{}_0","summary":[]}}"#, StreamId::new())),
        item(r#"{"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":"x"}"#),
        item(
            r#"{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Yes?"}]}"#,
        ),
        item(r#"{"type":"function_call","id":"fc_1","call_id":"a","name":"f","arguments":"{}"}"#),
    ];
    let mut second = good(
        r#"{"previous_response_id":"resp_1","input":[{"type":"function_call_output","call_id":"a","output":"1"}]}"#,
    );
    expand(&first.prompt, output.clone(), None, ALL, &mut second).expect("a conversation");
    assert_eq!(second.prompt.system, None);
    assert_eq!(
        serde_json::to_value(&second.prompt.messages).expect("plain data"),
        json!([
            {"role":"user","content":"Hi"},
            {"role":"assistant","content":"Yes?","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","content":"1","tool_call_id":"a"},
        ])
    );
    let types = |prompt: &Prompt| {
        let body = value(prompt.body.as_ref());
        let items = body["input"].as_array().expect("items").clone();
        items
            .iter()
            .map(|item| item["id"].as_str().or(item["type"].as_str()).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(types(&second.prompt), ["message", "rs_up", "rs_2", "msg_1", "fc_1", "function_call_output"]);

    let mut third = good(r#"{"previous_response_id":"resp_2","input":"And?"}"#);
    expand(&second.prompt, vec![output[3].clone()], None, ALL, &mut third).expect("a conversation");
    assert_eq!(types(&third.prompt)[5..], ["function_call_output", "msg_1", "message"]);

    // Where the upstream has not kept it, what it has only the id of is no use to it.
    let chat = Prompt { protocol: "chat".into(), messages: first.prompt.messages.clone(), ..Prompt::default() };
    let named = vec!["previous_response_id.output[0]".to_owned()];
    for (previous, stored, left_out) in [
        (&first.prompt, Some(true), vec![]),
        (&first.prompt, Some(false), named.clone()),
        (&chat, Some(true), vec![]),
        (&chat, None, named),
    ] {
        let mut next = good(r#"{"previous_response_id":"resp_3","input":"And?"}"#);
        expand(previous, output.clone(), stored, ALL, &mut next).expect("a conversation");
        let kept = if left_out.is_empty() { vec!["rs_up", "rs_2"] } else { vec!["rs_2"] };
        assert_eq!(types(&next.prompt)[1..=kept.len()], kept);
        assert_eq!(next.prompt.dropped_by("responses", &[]), left_out);
        assert!(next.prompt.dropped_by("chat", &[]).is_empty(), "there all reasoning stays behind");
    }
}

#[test]
fn a_conversation_of_another_protocol_goes_on_too() {
    let calls = json!([{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"custom","custom":{"name":"g","input":"free"}}]);
    let tool = |id: &str| Message { tool_call_id: Some(id.to_owned()), ..Message::text(Role::Tool, "1") };
    let parts = Content::Parts(vec![
        json!({"type":"text","text":"Look"}),
        json!({"type":"image_url","image_url":{"url":"u"}}),
        json!({"type":"file","file":{"file_id":"file_1"}}),
        json!({"type":"new"}),
    ]);
    let chat = Prompt {
        protocol: "chat".into(),
        messages: vec![
            Message { content: Some(parts), ..Message::text(Role::User, "") },
            Message { tool_calls: Json::of(&calls), ..Message::text(Role::Assistant, "") },
            tool("a"),
            tool("b"),
        ],
        ..Prompt::default()
    };
    let mut next = good(r#"{"previous_response_id":"resp_1","input":"And?"}"#);
    expand(&chat, Vec::new(), None, ALL, &mut next).expect("a conversation");
    assert_eq!(
        value(next.prompt.body.as_ref())["input"],
        json!([
            {"type":"message","role":"user","content":[
                {"type":"input_text","text":"Look"},
                {"type":"input_image","image_url":"u","detail":"auto"},
                {"type":"input_file","file_id":"file_1"},
                {"type":"new"}]},
            {"type":"function_call","call_id":"a","name":"f","arguments":"{}"},
            {"type":"custom_tool_call","call_id":"b","name":"g","input":"free"},
            {"type":"function_call_output","call_id":"a","output":"1"},
            {"type":"custom_tool_call_output","call_id":"b","output":"1"},
            {"type":"message","role":"user","content":"And?"},
        ])
    );
    assert_eq!(next.prompt.messages.len(), 5);
}

#[test]
fn the_input_is_shown_in_its_long_form_with_ids() {
    let stream = StreamId::new();
    let asked = good(
        r#"{"input":[{"role":"user","content":"Hi"},{"type":"function_call_output","call_id":"a","output":"1"},{"id":"msg_9"}]}"#,
    );
    let items: Vec<Value> = input_items(&asked.prompt, stream).iter().map(|item| value(Some(item))).collect();
    assert_eq!(
        items,
        [
            json!({"type":"message","role":"user","status":"completed","content":[{"type":"input_text","text":"Hi"}],"id":format!("msg_{stream}_in0")}),
            json!({"type":"function_call_output","call_id":"a","output":"1","id":format!("fc_{stream}_in1")}),
            json!({"type":"item_reference","id":"msg_9"}),
        ]
    );
    let text = good(r#"{"input":"Hi"}"#);
    assert_eq!(value(Some(&input_items(&text.prompt, stream)[0])), items[0]);
}
