//! What an upstream of this protocol is asked, and what it cannot be asked.

use super::*;
use crate::prompt::Params;

fn body(prompt: &Prompt) -> String {
    String::from_utf8(request(prompt, "m", &[]).expect("a body")).expect("text")
}

fn value(prompt: &Prompt) -> Value {
    serde_json::from_str(&body(prompt)).expect("JSON")
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).expect("JSON")
}

fn chat(messages: &str, params: Params) -> Prompt {
    Prompt {
        protocol: "chat".into(),
        messages: serde_json::from_str(messages).expect(messages),
        params,
        ..Prompt::default()
    }
}

fn hi(params: Params) -> Prompt {
    chat(r#"[{"role":"user","content":"Hi"}]"#, params)
}

#[test]
fn the_common_form_becomes_a_body() {
    let mut prompt =
        hi(Params { stop: vec!["END".into()], user: Some("u".into()), top_p: Some(0.5), ..Params::default() });
    prompt.system = Some("Be brief.".into());
    assert_eq!(
        body(&prompt),
        r#"{"model":"m","max_tokens":4096,"system":"Be brief.","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],"#
            .to_owned()
            + r#""top_p":0.5,"stop_sequences":["END"],"metadata":{"user_id":"u"},"stream":true}"#
    );
    prompt.params.max_tokens = Some(5);
    assert_eq!(value(&prompt)["max_tokens"], 5);
}

#[test]
fn roles_alternate_and_results_are_the_users() {
    let prompt = chat(
        r#"[{"role":"system","content":"A."},{"role":"user","content":"Look"},{"role":"user","content":[{"type":"text","text":"there"}]},
            {"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1.0}"}},
                {"id":"b","type":"function","function":{"name":"g","arguments":""}},{"id":"c","type":"custom","custom":{"name":"h","input":"free"}}]},
            {"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":[{"type":"text","text":"2"}]},
            {"role":"developer","content":"B."},{"role":"user","content":"And?"},{"role":"assistant","content":[{"type":"refusal","refusal":"No."}]}]"#,
        Params::default(),
    );
    let text = |text: &str| json!({ "type": "text", "text": text });
    let call =
        |id: &str, name: &str, input: Value| json!({ "type": "tool_use", "id": id, "name": name, "input": input });
    let result = |id: &str, content: Value| json!({ "type": "tool_result", "tool_use_id": id, "content": content });
    let calls =
        [call("a", "f", json!({ "x": 1.0 })), call("b", "g", json!({})), call("c", "h", json!({ "input": "free" }))];
    let results = [result("a", json!("1")), result("b", json!([text("2")])), text("And?")];
    let body = value(&prompt);
    assert_eq!(body["system"], "A.\n\nB.");
    assert_eq!(
        body["messages"],
        json!([
            { "role": "user", "content": [text("Look"), text("there")] },
            { "role": "assistant", "content": calls },
            { "role": "user", "content": results },
            { "role": "assistant", "content": [text("No.")] },
        ])
    );
    assert!(self::body(&prompt).contains(r#""input":{"x":1.0}"#), "arguments stay to the letter");
    assert_eq!(unsaid(&prompt, "m").expect("fit"), ["messages[3].tool_calls[2].custom"]);
}

/// The API takes no empty text, and no message without content.
#[test]
fn who_says_nothing_has_no_turn() {
    let turns = r#"[{"role":"system","content":" "},{"role":"user","content":"a"},{"role":"assistant","content":""},
        {"role":"assistant","content":"\n"},{"role":"user","content":[{"type":"text","text":" \n"},{"type":"text","text":"b"}]}]"#;
    let body = value(&chat(turns, Params::default()));
    let said = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
    assert_eq!(body["messages"], json!([{ "role": "user", "content": said }]));
    assert_eq!(body["system"], Value::Null);
}

#[test]
fn images_and_files_have_their_blocks() {
    for (part, block) in [
        (
            r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}"#,
            json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AA==" } }),
        ),
        (
            r#"{"type":"image_url","image_url":{"url":"https://a/b"}}"#,
            json!({ "type": "image", "source": { "type": "url", "url": "https://a/b" } }),
        ),
        (
            r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AA=="}}"#,
            json!({ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "AA==" }, "title": "a.pdf" }),
        ),
        (
            r#"{"type":"file","file":{"filename":"a.md","file_data":"data:text/markdown;charset=utf-8;base64,SGnDqQ=="}}"#,
            json!({ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "Hié" }, "title": "a.md" }),
        ),
    ] {
        let prompt = chat(&format!(r#"[{{"role":"user","content":[{part}]}}]"#), Params::default());
        assert_eq!(value(&prompt)["messages"][0]["content"], json!([block]));
    }
}

#[test]
fn what_cannot_be_said_is_refused_by_its_place() {
    let user = |part: &str| format!(r#"[{{"role":"user","content":[{{"type":"text","text":"a"}},{part}]}}]"#);
    let call =
        |function: &str| format!(r#"[{{"role":"assistant","tool_calls":[{{"id":"a","function":{function}}}]}}]"#);
    for (messages, words) in [
        (
            user(r#"{"type":"input_audio","input_audio":{}}"#),
            "messages[0].content[1], a part of the type `input_audio`",
        ),
        (user(r#"{"type":"file","file":{"file_id":"f"}}"#), "messages[0].content[1]"),
        (
            user(r#"{"type":"file","file":{"file_data":"data:application/zip;base64,AA=="}}"#),
            "messages[0].content[1], a part of the type `file`, cannot be said to an upstream of Messages; as data",
        ),
        (user(r#"{"type":"file","file":{"file_data":"data:text/plain;base64,/w=="}}"#), "messages[0].content[1]"),
        (user(r#"{"type":"image_url","image_url":{"url":"gs://a"}}"#), "messages[0].content[1]"),
        (user("7"), "messages[0].content[1]"),
        (
            call(r#"{"name":"f","arguments":"[1]"}"#),
            "messages[0].tool_calls[0].function.arguments are not a JSON object",
        ),
        (call(r#"{"name":"f","arguments":"{"}"#), "messages[0].tool_calls[0]"),
        (r#"[{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]"#.to_owned(), "has no `id`"),
        (r#"[{"role":"assistant","tool_calls":7}]"#.to_owned(), "not those of Chat Completions"),
        (r#"[{"role":"tool","content":"1"}]"#.to_owned(), "no `tool_call_id`"),
        (r#"[{"role":"system","content":"a"}]"#.to_owned(), "needs a message"),
    ] {
        let error = request(&chat(&messages, Params::default()), "m", &[]).expect_err(&messages);
        assert!(error.contains(words), "{messages}: {error}");
    }
    let two = request(&hi(Params { n: Some(2), ..Params::default() }), "m", &[]).expect_err("two answers");
    assert!(two.contains("`n`"), "{two}");
}

#[test]
fn tools_and_the_form_of_the_answer_cross_and_what_does_not_is_named() {
    let prompt = hi(Params {
        tools: Some(json(
            r#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"b":1.0,"a":2},"strict":true}},
                {"type":"custom","custom":{"name":"h"}},{"type":"function","function":{"name":"g"}}]"#,
        )),
        tool_choice: Some(json("\"required\"")),
        parallel_tool_calls: Some(false),
        response_format: Some(json(r#"{"type":"json_schema","json_schema":{"name":"x","schema":{"b":1.0,"a":2}}}"#)),
        temperature: Some(1.5),
        seed: Some(1),
        ..Params::default()
    });
    let body = body(&prompt);
    for part in [
        r#""tools":[{"name":"f","description":"d","input_schema":{"b":1.0,"a":2,"type":"object"},"strict":true},{"name":"g","input_schema":{"properties":{},"type":"object"}}]"#,
        r#""tool_choice":{"disable_parallel_tool_use":true,"type":"any"}"#,
        r#""output_config":{"format":{"type":"json_schema","schema":{"b":1.0,"a":2}}}"#,
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(!body.contains("temperature") && !body.contains("seed"), "{body}");
    assert_eq!(unsaid(&prompt, "m").expect("fit"), ["temperature", "tools[1]", "seed"]);
    let told = |choice: &str, parallel| {
        let tools = Some(json(r#"[{"type":"function","function":{"name":"f"}}]"#));
        let params =
            Params { tools, tool_choice: Some(json(choice)), parallel_tool_calls: parallel, ..Params::default() };
        (value(&hi(params.clone()))["tool_choice"].clone(), unsaid(&hi(params), "m").expect("fit"))
    };
    assert_eq!(told("null", None).0, Value::Null);
    assert_eq!(told("null", Some(false)).0, json!({ "type": "auto", "disable_parallel_tool_use": true }));
    assert_eq!(told("\"auto\"", Some(true)).0, json!({ "type": "auto" }));
    assert_eq!(told("\"none\"", Some(false)).0, json!({ "type": "none" }));
    assert_eq!(told(r#"{"type":"function","function":{"name":"f"}}"#, None).0, json!({ "type": "tool", "name": "f" }));
    assert_eq!(told(r#"{"type":"allowed_tools"}"#, None), (Value::Null, vec!["tool_choice".to_owned()]));
    for (format, unsaid) in [(r#"{"type":"text"}"#, &[][..]), (r#"{"type":"json_object"}"#, &["response_format"])] {
        let prompt = hi(Params { response_format: Some(json(format)), ..Params::default() });
        assert_eq!(super::unsaid(&prompt, "m").expect("fit"), unsaid);
        assert!(!self::body(&prompt).contains("output_config"));
    }
}

#[test]
fn thinking_is_asked_for_where_it_fits() {
    let effort = |effort: &str| Params { reasoning_effort: Some(effort.to_owned()), ..Params::default() };
    for (word, budget) in [("minimal", 1024), ("low", 1024), ("medium", 4096), ("high", 16384), ("xhigh", 32768)] {
        let body = value(&hi(effort(word)));
        assert_eq!(body["thinking"], json!({ "type": "enabled", "budget_tokens": budget }), "{word}");
        assert_eq!(body["max_tokens"], 4096 + budget, "there is room for an answer behind it");
        assert_eq!(unsaid(&hi(effort(word)), "m").expect("fit"), [""; 0]);
    }
    assert_eq!(value(&hi(effort("none")))["thinking"], json!({ "type": "disabled" }));
    let tools = Some(json(r#"[{"type":"function","function":{"name":"f"}}]"#));
    for params in [
        effort("wild"),
        Params { max_tokens: Some(4096), ..effort("medium") },
        Params { temperature: Some(0.0), ..effort("low") },
        Params { top_p: Some(0.5), ..effort("low") },
        Params { tools, tool_choice: Some(json("\"required\"")), ..effort("low") },
    ] {
        assert_eq!(value(&hi(params.clone()))["thinking"], Value::Null, "{params:?}");
        assert_eq!(unsaid(&hi(params), "m").expect("fit"), ["reasoning_effort"]);
    }
    let turns = r#"[{"role":"user","content":"a"},{"role":"tool","tool_call_id":"a","content":"1"}]"#;
    assert_eq!(unsaid(&chat(turns, effort("low")), "m").expect("fit"), ["reasoning_effort"]);
    for turns in [
        r#"[{"role":"user","content":"a"},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"user","content":"b"}]"#,
        r#"[{"role":"user","content":"a"},{"role":"assistant","content":"It"}]"#,
    ] {
        assert_eq!(unsaid(&chat(turns, effort("low")), "m").expect("fit"), ["reasoning_effort"], "{turns}");
    }
    let over = r#"[{"role":"tool","tool_call_id":"a","content":"1"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]"#;
    assert_eq!(unsaid(&chat(over, effort("low")), "m").expect("fit"), [""; 0]);
    let fits = hi(Params { max_tokens: Some(4097), ..effort("medium") });
    assert_eq!(value(&fits)["thinking"]["budget_tokens"], 4096);
}

#[test]
fn the_newer_models_are_told_an_effort() {
    let format = Some(json(r#"{"type":"json_schema","json_schema":{"name":"x","schema":{}}}"#));
    let asked = |model: &str, effort: &str, turns: &str| {
        let params = Params {
            reasoning_effort: Some(effort.to_owned()),
            response_format: format.clone(),
            max_tokens: Some(5),
            ..Params::default()
        };
        let prompt = chat(turns, params);
        let body: Value = serde_json::from_slice(&request(&prompt, model, &[]).expect("a body")).expect("JSON");
        let said = unsaid(&prompt, model).expect("fit").is_empty();
        (body["thinking"]["type"].clone(), body["output_config"]["effort"].clone(), said)
    };
    let turn = r#"[{"role":"user","content":"a"}]"#;
    let result = r#"[{"role":"tool","tool_call_id":"a","content":"1"}]"#;
    assert_eq!(asked("claude-opus-4-7", "minimal", turn), (json!("adaptive"), json!("low"), true));
    assert_eq!(asked("claude-opus-4-7", "xhigh", result), (json!("adaptive"), json!("xhigh"), true));
    assert_eq!(asked("claude-sonnet-4-6", "max", turn), (json!("adaptive"), json!("high"), true));
    assert_eq!(asked("claude-opus-4-7", "none", turn), (json!("disabled"), Value::Null, true));
    assert_eq!(asked("claude-opus-5", "none", turn), (Value::Null, Value::Null, false));
    assert_eq!(asked("claude-opus-4-7", "wild", turn), (Value::Null, Value::Null, false));
    let prompt = hi(Params { reasoning_effort: Some("high".into()), response_format: format, ..Params::default() });
    let body = String::from_utf8(request(&prompt, "claude-opus-5", &[]).expect("a body")).expect("text");
    let config = r#""output_config":{"effort":"high","format":{"type":"json_schema","schema":{}}}"#;
    assert!(body.contains(config) && body.contains(r#""max_tokens":20480"#), "{body}");
}

#[test]
fn results_come_first_and_their_ids_are_clean() {
    let turns = r#"[{"role":"assistant","tool_calls":[{"id":"call:0","function":{"name":"f"}},{"id":"b","function":{"name":"f"}}]},
        {"role":"user","name":"Ann","content":"Wait"},{"role":"tool","tool_call_id":"call:0","content":"1"},{"role":"tool","tool_call_id":"b"}]"#;
    let prompt = chat(turns, Params::default());
    let messages = value(&prompt)["messages"].clone();
    let (calls, answers) = (&messages[0]["content"], &messages[1]["content"]);
    assert_eq!(calls[0]["id"], *ids::clean("call:0"));
    assert_eq!((&answers[0]["tool_use_id"], &answers[0]["content"]), (&calls[0]["id"], &json!("1")));
    assert_eq!((&answers[1]["tool_use_id"], &calls[1]["id"]), (&json!("b"), &json!("b")));
    assert_eq!(answers[2]["text"], "Wait");
    assert_eq!(unsaid(&prompt, "m").expect("fit"), ["messages[1].name"]);
}

#[test]
fn one_word_on_sampling_and_stops_that_are_seen() {
    let stop = vec!["\n".to_owned(), "END".to_owned()];
    let prompt = hi(Params { temperature: Some(0.5), top_p: Some(0.5), stop, ..Params::default() });
    let body = value(&prompt);
    assert_eq!((&body["temperature"], &body["top_p"]), (&json!(0.5), &Value::Null));
    assert_eq!(body["stop_sequences"], json!(["END"]));
    assert_eq!(unsaid(&prompt, "m").expect("fit"), ["top_p", "stop"]);
    let blank = hi(Params { stop: vec![" ".into()], temperature: Some(2.0), top_p: Some(0.5), ..Params::default() });
    assert_eq!((&value(&blank)["stop_sequences"], &value(&blank)["top_p"]), (&Value::Null, &json!(0.5)));
}

#[test]
fn the_newer_models_are_told_nothing_of_sampling() {
    let asked = |model: &str, temperature, top_p| {
        let effort = Some("low".to_owned());
        let prompt = hi(Params { temperature, top_p, reasoning_effort: effort, ..Params::default() });
        let body: Value = serde_json::from_slice(&request(&prompt, model, &[]).expect("a body")).expect("JSON");
        let thinks = body["thinking"]["type"] == "adaptive";
        (body["temperature"].clone(), body["top_p"].clone(), thinks, unsaid(&prompt, model).expect("fit").join(" "))
    };
    for model in ["claude-opus-4-7", "us.anthropic.claude-opus-4-8-v1:0", "claude-sonnet-5", "claude-mythos-preview"] {
        let nothing = |unsaid: &str| (Value::Null, Value::Null, true, unsaid.to_owned());
        assert_eq!(asked(model, Some(0.0), Some(0.5)), nothing("temperature top_p"), "{model}");
        assert_eq!(asked(model, Some(1.0), Some(1.0)), nothing(""), "{model}: the default is no word");
    }
    let told = (json!(1.0), Value::Null, false, "reasoning_effort top_p".to_owned());
    assert_eq!(asked("claude-sonnet-4-6", Some(1.0), Some(1.0)), told);
}

#[test]
fn arguments_are_an_object() {
    for (parameters, told) in [
        ("{}", r#"{"type":"object"}"#),
        (r#"{"type":null,"x":1.0}"#, r#"{"type":"object","x":1.0}"#),
        (r#"{"type":"object","x":1.0}"#, r#"{"type":"object","x":1.0}"#),
    ] {
        let tool = format!(r#"[{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}]"#);
        let body = body(&hi(Params { tools: Some(json(&tool)), ..Params::default() }));
        assert!(body.contains(&format!(r#""input_schema":{told}"#)), "{body}");
    }
}

#[test]
fn thinking_that_nobody_has_signed_stays_here() {
    let thought = |signature: &str| format!(r#"{{"type":"thinking","thinking":"hm"{signature}}}"#);
    let own = format!(
        r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","x":1.0,"content":[{},{},{{"type":"text","text":"b"}}]}},{{"role":"assistant","content":[{}]}}],"model":"m"}}"#,
        thought(r#","signature":"""#),
        thought(r#","signature":"s""#),
        thought(""),
    );
    let told = format!(
        r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","x":1.0,"content":[{},{{"type":"text","text":"b"}}]}}],"model":"m"}}"#,
        thought(r#","signature":"s""#),
    );
    let counted = counting(&json(&own), "m").expect("a body");
    assert_eq!(String::from_utf8(counted).expect("text"), told);
    let prompt = Prompt { protocol: "messages".into(), body: Some(json(&own)), ..Prompt::default() };
    assert_eq!(body(&prompt), told.replace(r#""model":"m""#, r#""model":"m","stream":true"#));
}

#[test]
fn a_body_of_the_same_protocol_is_kept_to_the_letter() {
    let text = r#"{"temperature":1.10,"messages":[{"role":"user","x":1e2}],"model":"alias","stream":false,"on_disconnect":"cancel","z":{"b":1,"a":2}}"#;
    let prompt = Prompt {
        protocol: "messages".into(),
        body: Some(json(text)),
        ..hi(Params { n: Some(2), ..Params::default() })
    };
    let kept =
        r#"{"temperature":1.10,"messages":[{"role":"user","x":1e2}],"model":"m","stream":true,"z":{"b":1,"a":2}}"#;
    assert_eq!(body(&prompt), kept);
    assert_eq!(unsaid(&prompt, "m").expect("fit"), [""; 0]);
    let counting = counting(&json(text), "m").expect("a body");
    assert_eq!(String::from_utf8(counting).expect("text"), kept.replace(r#""stream":true"#, r#""stream":false"#));
    let none = Prompt { body: Some(json("[1]")), ..prompt };
    assert!(request(&none, "m", &[]).is_err());
}

#[test]
fn extras_are_merged_in_last_and_cannot_stop_the_stream() {
    let map = |json: &str| serde_json::from_str::<Map<String, Value>>(json).expect("an object");
    let (first, second) = (map(r#"{"max_tokens":2,"top_k":1}"#), map(r#"{"top_k":40,"stream":false}"#));
    let body = request(&hi(Params::default()), "m", &[&first, &second]).expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&body["max_tokens"], &body["top_k"], &body["stream"]), (&json!(2), &json!(40), &json!(true)));
}
