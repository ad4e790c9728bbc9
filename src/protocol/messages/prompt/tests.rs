//! What is read of a request, and what is said of one that cannot be.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::prompt::{Message, Role};

fn asked(more: &str) -> Prompt {
    let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"Hi"}}]{more}}}"#);
    parse(body.as_bytes()).expect(&body).prompt
}

/// The messages in the common form, for these turns.
fn messages(turns: &str) -> Value {
    let prompt = parse(format!(r#"{{"max_tokens":9,"messages":{turns}}}"#).as_bytes()).expect(turns).prompt;
    serde_json::to_value(&prompt.messages).expect("plain data")
}

fn value(json: Option<&Json>) -> Value {
    json.map_or(Value::Null, |json| serde_json::from_str(json.get()).expect("JSON"))
}

#[test]
fn what_is_known_is_read_and_what_is_not_is_kept() {
    let body = r#" {"model": "m", "max_tokens": 7, "system": [{"type":"text","text":"Be","cache_control":{"type":"ephemeral"}},
        {"type":"text","text":"brief."}], "messages": [{"role":"user","content":"Hi"}], "stop_sequences": ["END"],
        "temperature": 0.70, "top_k": 5, "metadata": {"user_id":"u"}, "service_tier": null, "stream": true} "#;
    let Asked { prompt, stream } = parse(body.as_bytes()).expect("good");
    assert!(stream);
    assert_eq!((&*prompt.protocol, &*prompt.model, prompt.system.as_deref()), ("messages", "m", Some("Be\nbrief.")));
    assert_eq!(prompt.messages, [Message::text(Role::User, "Hi")]);
    let Params { max_tokens, temperature, stop, user, .. } = &prompt.params;
    assert_eq!((*max_tokens, *temperature, user.as_deref()), (Some(7), Some(0.7), Some("u")));
    assert_eq!(stop, &["END"]);
    assert_eq!(prompt.foreign, ["top_k"]);
    assert_eq!(prompt.on_disconnect, OnDisconnect::CancelAfter(Duration::from_secs(30)));
    assert_eq!(prompt.body.as_ref().map(Json::get), Some(body.trim().replace('\n', " ").as_str()));
}

#[test]
fn what_is_said_becomes_parts_of_the_common_form() {
    let image = |source: &str| format!(r#"{{"type":"image","source":{source}}}"#);
    let document =
        |source: &str| format!(r#"{{"type":"document","title":"T","source":{source},"citations":{{"enabled":true}}}}"#);
    for (block, part) in [
        (
            image(r#"{"type":"base64","media_type":"image/png","data":"AA=="}"#),
            json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } }),
        ),
        (
            image(r#"{"type":"url","url":"http://a/b"}"#),
            json!({ "type": "image_url", "image_url": { "url": "http://a/b" } }),
        ),
        (
            document(r#"{"type":"text","media_type":"text/plain","data":"words"}"#),
            json!({ "type": "text", "text": "T\n\nwords" }),
        ),
        (
            document(r#"{"type":"base64","media_type":"application/pdf","data":"AA=="}"#),
            json!({ "type": "file", "file": { "filename": "T", "file_data": "data:application/pdf;base64,AA==" } }),
        ),
        // For these there are no words: they stay as they are, and are found.
        (
            image(r#"{"type":"file","file_id":"f"}"#),
            json!({ "type": "image", "source": { "type": "file", "file_id": "f" } }),
        ),
        (r#"{"type":"search_result","source":"s"}"#.to_owned(), json!({ "type": "search_result", "source": "s" })),
    ] {
        let said = messages(&format!(r#"[{{"role":"user","content":[{{"type":"text","text":"See"}},{block}]}}]"#));
        assert_eq!(said, json!([{ "role": "user", "content": [{ "type": "text", "text": "See" }, part] }]), "{block}");
    }
    let nested = document(r#"{"type":"content","content":[{"type":"text","text":"a"}]}"#);
    let said = messages(&format!(r#"[{{"role":"user","content":[{nested}]}}]"#));
    let text = |text: &str| json!({ "type": "text", "text": text });
    assert_eq!(said[0]["content"], json!([text("T"), text("a")]));
}

#[test]
fn what_a_document_is_about_and_that_a_tool_failed_are_said_in_words() {
    let text = |text: &str| json!({ "type": "text", "text": text });
    let said = |block: &str| messages(&format!(r#"[{{"role":"user","content":[{block},{block}]}}]"#))[0].clone();
    let document = |source: &str| format!(r#"{{"type":"document","title":"T","context":"C","source":{source}}}"#);
    let words = said(&document(r#"{"type":"text","media_type":"text/plain","data":"words"}"#));
    assert_eq!(words["content"][0], text("T\n\nC\n\nwords"));
    let bytes = said(&document(r#"{"type":"base64","media_type":"application/pdf","data":"AA=="}"#));
    assert_eq!((&bytes["content"][0], &bytes["content"][1]["type"]), (&text("C"), &json!("file")));
    let nested = said(&document(r#"{"type":"content","content":[{"type":"text","text":"a"}]}"#));
    assert_eq!((&nested["content"][0], &nested["content"][1]), (&text("T\n\nC"), &text("a")));
    let failed = said(r#"{"type":"tool_result","tool_use_id":"a","content":"No such file","is_error":true}"#);
    assert_eq!(failed["content"], "The tool failed:\nNo such file");
    let fine = said(r#"{"type":"tool_result","tool_use_id":"a","content":"found","is_error":false}"#);
    assert_eq!(fine["content"], "found");
}

/// What has no words elsewhere must be kept to be named, and these cannot be.
#[test]
fn a_block_that_cannot_be_kept_is_refused() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for member in [r#""\ud800""#, "1e999", &deep] {
        let block = format!(r#"{{"type":"search_result","x":{member}}}"#);
        let turns = format!(r#"{{"max_tokens":1,"messages":[{{"role":"user","content":[{block}]}}]}}"#);
        let error = parse(turns.as_bytes()).expect_err("no value");
        assert_eq!(error.field.as_deref(), Some("messages[0].content[0]"), "{error}");
    }
}

#[test]
fn calls_and_their_results_become_messages_of_their_own() {
    let turns = r#"[{"role":"user","content":[{"type":"text","text":"Look"}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"x"},
            {"type":"text","text":"I "},{"type":"text","text":"look."},{"type":"tool_use","id":"a","name":"f","input":{"x":1.0}},
            {"type":"tool_use","id":"b","name":"g","input":{}}]},
        {"role":"user","content":[{"type":"text","text":"And?"},{"type":"tool_result","tool_use_id":"a","content":"found"},
            {"type":"tool_result","tool_use_id":"b","content":[{"type":"text","text":"1"},{"type":"text","text":"2"}]},
            {"type":"tool_result","tool_use_id":"c","is_error":true}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"}]},
        {"role":"system","content":"Be brief."}]"#;
    let call = |id, name, arguments| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
    let result = |id, content| json!({ "role": "tool", "content": content, "tool_call_id": id });
    let calls = [call("a", "f", r#"{"x":1.0}"#), call("b", "g", "{}")];
    assert_eq!(
        messages(turns),
        json!([
            { "role": "user", "content": "Look" },
            { "role": "assistant", "content": "I look.", "tool_calls": calls },
            result("a", "found"),
            result("b", "1\n2"),
            result("c", "The tool failed:"),
            { "role": "user", "content": "And?" },
            { "role": "assistant", "content": "" },
            { "role": "system", "content": "Be brief." },
        ])
    );
    let only_calls = r#"[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]}]"#;
    assert_eq!(messages(only_calls)[0].get("content"), None);
    // Who says nothing has said so.
    assert_eq!(messages(r#"[{"role":"user","content":[]}]"#), json!([{ "role": "user", "content": "" }]));
}

#[test]
fn tools_of_the_clients_own_are_functions_and_others_are_named() {
    let prompt = asked(
        r#","tools":[{"name":"f","description":"d","input_schema":{"type":"object","b":1.0,"a":2}},
            {"type":"web_search_20250305","name":"web_search"},{"type":"custom","name":"g","input_schema":{},"strict":true}],
            "tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true}"#,
    );
    let tools = r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","b":1.0,"a":2}}},"#;
    let tools = tools.to_owned() + r#"{"type":"function","function":{"name":"g","parameters":{},"strict":true}}]"#;
    assert_eq!(prompt.params.tools.as_ref().map(Json::get), Some(&*tools));
    let choice = json!({ "type": "function", "function": { "name": "f" } });
    assert_eq!(value(prompt.params.tool_choice.as_ref()), choice);
    assert_eq!(prompt.params.parallel_tool_calls, Some(false));
    assert_eq!(prompt.foreign, ["tools[1]"]);
    for (choice, common) in
        [("auto", json!("auto")), ("any", json!("required")), ("none", json!("none")), ("new", Value::Null)]
    {
        let more = format!(r#","tools":[{{"name":"f","input_schema":{{}}}}],"tool_choice":{{"type":"{choice}"}}"#);
        let prompt = asked(&more);
        assert_eq!(value(prompt.params.tool_choice.as_ref()), common, "{choice}");
        assert_eq!(prompt.foreign.is_empty(), !common.is_null());
        assert_eq!(prompt.params.parallel_tool_calls, None);
    }
    // A choice among no tools is none.
    let prompt = asked(r#","tools":[{"type":"bash_20250124","name":"bash"}],"tool_choice":{"type":"any"}"#);
    assert_eq!((prompt.params.tools, prompt.params.tool_choice), (None, None));
}

#[test]
fn how_much_to_think_and_in_what_form_to_answer_have_common_words() {
    for (more, effort, foreign) in [
        (r#","thinking":{"type":"enabled","budget_tokens":1024}"#, Some("low"), &[][..]),
        (r#","thinking":{"type":"enabled","budget_tokens":4096}"#, Some("medium"), &[]),
        (r#","thinking":{"type":"enabled","budget_tokens":16384}"#, Some("high"), &[]),
        (r#","thinking":{"type":"adaptive"}"#, None, &["thinking"]),
        (r#","thinking":{"type":"disabled"}"#, None, &["thinking"]),
        (r#","thinking":{"type":"adaptive"},"output_config":{"effort":"max"}"#, Some("max"), &["thinking"]),
        (r#","thinking":{"type":"enabled","budget_tokens":16384},"output_config":{"effort":"low"}"#, Some("low"), &[]),
        (r#","output_config":{"effort":"low","new":1}"#, Some("low"), &["output_config"]),
        (r#","output_config":{"format":{"type":"new"}}"#, None, &["output_config"]),
    ] {
        let prompt = asked(more);
        assert_eq!(
            (prompt.params.reasoning_effort.as_deref(), &prompt.foreign[..]),
            (effort, &foreign.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()[..]),
            "{more}"
        );
    }
    let format = r#"{"type":"json_schema","schema":{"b":1.0,"a":2}}"#;
    for more in [format!(r#","output_config":{{"format":{format}}}"#), format!(r#","output_format":{format}"#)] {
        let prompt = asked(&more);
        let common =
            r#"{"type":"json_schema","json_schema":{"name":"answer","schema":{"b":1.0,"a":2},"strict":false}}"#;
        assert_eq!(prompt.params.response_format.as_ref().map(Json::get), Some(common));
        assert_eq!(prompt.foreign, [""; 0]);
    }
    let object = |more: &str| format!(r#"{{"type":"object","properties":{{"a":{{}}}}{more}}}"#);
    let closed = object(r#","required":["a"],"additionalProperties":false"#);
    for (schema, strict) in [
        (closed.clone(), true),
        (closed.replace("{}", &closed), true),
        (closed.replace("{}", &object("")), false),
        (object(r#","required":[],"additionalProperties":false"#), false),
        (object(r#","required":["a"]"#), false),
        (r#"{"type":"string"}"#.to_owned(), false),
    ] {
        let prompt = asked(&format!(r#","output_config":{{"format":{{"type":"json_schema","schema":{schema}}}}}"#));
        assert_eq!(value(prompt.params.response_format.as_ref())["json_schema"]["strict"], strict, "{schema}");
    }
    assert_eq!(asked(r#","metadata":{"user_id":null,"x":1}"#).foreign, ["metadata"]);
}

#[test]
fn each_mistake_names_its_field_and_its_remedy() {
    let with = |content: &str| format!(r#"{{"max_tokens":1,"messages":[{{"role":"user","content":{content}}}]}}"#);
    let hi = r#""messages":[{"role":"user","content":"Hi"}]"#;
    for (body, field, words) in [
        ("hello".to_owned(), None, "send {"),
        ("{}".to_owned(), Some("messages"), "at least one"),
        (r#"{"messages":[],"max_tokens":1}"#.to_owned(), Some("messages"), "at least one"),
        (format!("{{{hi}}}"), Some("max_tokens"), "requires it"),
        (format!(r#"{{{hi},"max_tokens":"many"}}"#), Some("max_tokens"), "invalid type: string"),
        (
            r#"{"max_tokens":1,"messages":[{"role":"usr","content":""}]}"#.to_owned(),
            Some("messages[0].role"),
            "did you mean `user`?",
        ),
        (format!(r#"{{{hi},"max_tokens":1,"system":7}}"#), Some("system"), "neither text nor a list"),
        (format!(r#"{{{hi},"max_tokens":1,"stop_sequences":"x"}}"#), Some("stop_sequences"), "a sequence"),
        (format!(r#"{{{hi},"max_tokens":1,"tools":[{{"name":7}}]}}"#), Some("tools[0]"), "form of a tool"),
        (format!(r#"{{{hi},"max_tokens":1,"on_disconnect":"x"}}"#), Some("on_disconnect"), "continue"),
        (with("7"), Some("messages[0].content"), "neither text nor a list"),
        (with("null"), Some("messages[0].content"), "neither text nor a list"),
        (with("[7]"), Some("messages[0].content[0]"), "no object with a `type`"),
        (with(r#"[{"type":"text","text":7}]"#), Some("messages[0].content[0]"), "form of a `text` block"),
        (with(r#"[{"type":"text"}]"#), Some("messages[0].content[0]"), "has no `text`"),
        (with(r#"[{"type":"image"}]"#), Some("messages[0].content[0]"), "has no `source`"),
        (with(r#"[{"type":"tool_result","content":"x"}]"#), Some("messages[0].content[0]"), "has no `tool_use_id`"),
        (
            with(r#"[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text"}]}]"#),
            Some("messages[0].content[0].content[0]"),
            "has no `text`",
        ),
        (
            r#"{"max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a"}]}]}"#.to_owned(),
            Some("messages[0].content[0]"),
            "has no `name`",
        ),
    ] {
        let BadRequest { field: got, detail, remedy } = parse(body.as_bytes()).expect_err(&body);
        assert_eq!(got.as_deref(), field, "{body}: {detail}");
        assert!(format!("{detail}; {remedy}").contains(words), "{body}: {detail}; {remedy}");
        assert!(!detail.contains(" at line "), "{detail}");
    }
}
