//! `POST /v1/messages`, as clients of Anthropic meet it: sentence by sentence, over sockets.

mod identity;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use self::identity::{added_up, frames, upstreams};
use crate::common::{Body, Ending, Response, TestGateway, soon, sse};

const URL: &str = "/v1/messages";

/// A request that lets the mock say this.
fn asked(mut options: Value, more: Value) -> Value {
    options["delay"] = options.get("delay").cloned().unwrap_or_else(|| "0ms".into());
    let messages = json!([{ "role": "user", "content": "say it" }]);
    let mut body = json!({
        "model": "mock/words", "max_tokens": 1000, "stream": true, "messages": messages, "backend_options": options,
    });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

fn fault(kind: &str, after: u64) -> Value {
    json!({ "text": "one two three", "fault": { "kind": kind, "after": after } })
}

async fn post(gateway: &TestGateway, headers: &[(&str, &str)], body: &Value) -> Response {
    gateway.send("POST", URL, headers, &body.to_string()).await
}

fn id_of(response: &Response) -> String {
    let id = response.header("x-stream-id").expect("a stream's id").to_owned();
    assert_eq!(response.header("location"), Some(format!("/v1/streams/{id}").as_str()));
    id
}

/// A body to its proper end.
async fn rest(body: Body) -> String {
    let (bytes, ending) = soon(body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    String::from_utf8(bytes).expect("UTF-8")
}

/// A response that must be an error in Anthropic's shape: its message.
async fn refused(response: Response, status: u16, kind: &str) -> String {
    let (got, content) = (response.status, response.header("content-type").map(str::to_owned));
    assert!(response.header("request-id").is_some());
    let body = response.json().await;
    assert_eq!((got, content.as_deref()), (status, Some("application/json")), "{body}");
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{body}");
    body["error"]["message"].as_str().expect("a message").to_owned()
}

/// The words of the text of an answer that was added up.
fn words(whole: &Value) -> String {
    let texts = whole["content"].as_array().expect("content").iter();
    texts.filter(|block| block["type"] == "text").map(|block| block["text"].as_str().expect("text")).collect()
}

/// The error at the end of an answer that broke off.
fn error_in(body: &str) -> Value {
    let (name, data) = frames(body).pop().expect("an event");
    let error: Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!((&*name, &error["type"]), ("error", &json!("error")), "{body}");
    error["error"].clone()
}

/// An upstream that answers one request with this, and then says what it was asked.
async fn upstream(kind: &str, answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = vec![0; 64 * 1024];
        let mut n = 0;
        while !is_whole(&request[..n]) {
            n += socket.read(&mut request[n..]).await.expect("a request");
        }
        socket.write_all(answer.as_bytes()).await.expect("written");
        String::from_utf8_lossy(&request[..n]).into_owned()
    });
    (format!("[backends.up]\nkind = \"{kind}\"\nbase_url = \"{url}\"\napi_key = \"sk-ant-hush\""), serving)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn events(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_in_named_events_with_rising_ids() {
    let gateway = TestGateway::start().await;
    let response = post(&gateway, &[], &asked(json!({ "text": "one two three" }), json!({}))).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    assert!(response.header("request-id").is_some(), "as Anthropic calls it");
    let id = id_of(&response);
    let body = rest(response.body).await;
    let events = sse::read(body.as_bytes()).events;
    let cursors: Vec<u64> = events
        .iter()
        .filter(|event| !event.id.is_empty())
        .map(|event| event.id.strip_prefix(&format!("{id}-")).and_then(|n| n.parse().ok()).expect("a long id"))
        .collect();
    assert!(cursors.is_sorted(), "{cursors:?}");
    let mut names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    names.dedup();
    let in_order = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, in_order);
    let start: Value = serde_json::from_str(&events[0].data).expect("JSON");
    assert_eq!(
        (&start["message"]["id"], &start["message"]["model"]),
        (&json!(format!("msg_{id}")), &json!("mock/words"))
    );
    let whole = added_up(&body);
    assert_eq!((words(&whole).as_str(), &whole["stop_reason"]), ("one two three", &json!("end_turn")));
    assert!(whole["usage"]["output_tokens"].as_u64().is_some_and(|n| n > 0), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_streamed_is_one_message() {
    let gateway = TestGateway::start().await;
    let options = json!({
        "text": "one two", "reasoning": "hm hm", "tool_call": { "name": "look", "arguments": { "the words": "a \" b" } },
    });
    let whole = post(&gateway, &[], &asked(options.clone(), json!({ "stream": false }))).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/json")));
    id_of(&whole);
    let mut whole = whole.json().await;
    assert_eq!(whole["stop_reason"], "tool_use");
    assert_eq!(whole["content"][2]["input"], json!({ "the words": "a \" b" }));
    let mut sum = added_up(&rest(post(&gateway, &[], &asked(options, json!({}))).await.body).await);
    // Of a call that was given no id each stream makes its own.
    for answer in [&mut whole, &mut sum] {
        answer["content"][2]["id"].take();
    }
    for name in ["content", "stop_reason", "usage", "role", "type"] {
        assert_eq!(whole[name], sum[name], "{name}");
    }
    let limited = asked(json!({ "text": "one two three" }), json!({ "stream": false, "max_tokens": 2 }));
    let limited = post(&gateway, &[], &limited).await.json().await;
    assert_eq!((words(&limited).as_str(), &limited["stop_reason"]), ("one two", &json!("max_tokens")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_refused_is_refused_in_this_protocols_shape_before_a_stream_exists() {
    let gateway = TestGateway::with("[server]\nmax_body = \"1KiB\"").await;
    let hi = json!([{ "role": "user", "content": "hi" }]);
    for (body, status, kind, words) in [
        (json!("hi"), 400, "invalid_request_error", "send {"),
        (json!({ "model": "mock/words", "messages": hi }), 400, "invalid_request_error", "`max_tokens`"),
        (
            json!({ "messages": hi, "max_tokens": 1, "model": "mock/word" }),
            404,
            "not_found_error",
            "did you mean `words`",
        ),
        (
            json!({ "messages": hi, "max_tokens": 1, "backend_options": { "dealy": 1 } }),
            400,
            "invalid_request_error",
            "dealy",
        ),
        (json!({ "messages": hi, "max_tokens": 1, "system": "x".repeat(2000) }), 413, "request_too_large", "1.0 KiB"),
    ] {
        let message = refused(post(&gateway, &[], &body).await, status, kind).await;
        assert!(message.contains(words), "{message}");
    }
    let again = json!({ "messages": hi, "max_tokens": 1 });
    refused(post(&gateway, &[("last-event-id", "7")], &again).await, 409, "invalid_request_error").await;
    refused(gateway.get(URL, &[]).await, 405, "invalid_request_error").await;
    let listed = gateway.get("/v1/streams", &[]).await.json().await;
    assert_eq!(listed["streams"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_first_word_is_its_status() {
    let gateway = TestGateway::start().await;
    for (status, kind, should_retry) in [
        (400, "invalid_request_error", "false"),
        (401, "authentication_error", "false"),
        (429, "rate_limit_error", "true"),
        (500, "api_error", "true"),
        (529, "overloaded_error", "true"),
    ] {
        for stream in [true, false] {
            let fault = json!({ "kind": "error", "status": status, "code": "their_word", "retry_after": "1500ms" });
            let response = post(&gateway, &[], &asked(json!({ "fault": fault }), json!({ "stream": stream }))).await;
            id_of(&response);
            assert_eq!(response.header("retry-after"), Some("2"));
            assert_eq!(response.header("x-should-retry"), Some(should_retry));
            refused(response, status, kind).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_first_word_is_an_error_event() {
    let gateway = TestGateway::start().await;
    for kind in ["error", "reset", "panic"] {
        let body = rest(post(&gateway, &[], &asked(fault(kind, 2), json!({}))).await.body).await;
        assert!(body.contains(r#""text":"one""#) && !body.contains("message_stop"), "{body}");
        assert_eq!(error_in(&body)["type"], "api_error");
        // Whoever waits for the whole gets none of it.
        let whole = post(&gateway, &[], &asked(fault(kind, 2), json!({ "stream": false }))).await;
        refused(whole, if kind == "panic" { 500 } else { 502 }, "api_error").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_life_is_a_ping_and_the_head_waits_no_longer_than_it_may() {
    let gateway = TestGateway::with("[server]\ncommit_after = \"20ms\"\nheartbeat = \"5ms\"").await;
    let late = json!({ "text": "one two", "first": "200ms", "fault": { "kind": "error", "after": 1 } });
    let response = post(&gateway, &[], &asked(late, json!({}))).await;
    assert_eq!(response.status, 200, "too late for a status");
    let id = id_of(&response);
    let body = rest(response.body).await;
    assert!(body.starts_with(":\nevent: ping\ndata: {\"type\": \"ping\"}\n\n"), "{body}");
    assert_eq!(error_in(&body)["type"], "api_error");
    let again = gateway.get(&format!("/v1/streams/{id}/events?format=messages"), &[]).await;
    assert_eq!(error_in(&rest(again.body).await)["type"], "api_error");

    let silent = post(&gateway, &[], &asked(fault("stall", 1), json!({}))).await;
    let path = format!("/v1/streams/{}/events?format=messages", id_of(&silent));
    for (path, sign) in [(path.clone(), "event: ping\n"), (path + "&heartbeat=event", "event: heartbeat\n")] {
        let (mut reader, mut seen) = (gateway.get(&path, &[]).await.body, String::new());
        while !seen.contains(sign) {
            seen += &String::from_utf8(soon(reader.next()).await.expect("more")).expect("UTF-8");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_costs_nothing_whichever_way_the_client_comes_back() {
    let gateway = TestGateway::start().await;
    let options = json!({
        "text": "one two\nthree", "reasoning": "hm hm", "tool_call": { "name": "look", "arguments": { "the words": "a \" b" } },
    });
    let body = asked(options, json!({}));
    let response = post(&gateway, &[], &body).await;
    let id = id_of(&response);
    let whole = rest(response.body).await;
    // Each id with what stands behind it.
    let ids: Vec<_> =
        whole.match_indices("id: ").map(|(at, _)| whole[at + 4..].split_once("\n\n").expect("an event")).collect();
    assert!(ids.len() > 10, "{whole}");
    for (cursor, missing) in ids {
        let header = [("last-event-id", cursor)];
        let path = format!("/v1/streams/{id}/events?format=messages");
        for response in [post(&gateway, &header, &body).await, gateway.get(&path, &header).await] {
            if missing.is_empty() {
                assert_eq!(response.status, 204, "it has seen the end");
                continue;
            }
            let rest = rest(response.body).await;
            let (opening, rest) = rest.split_at(rest.find("event: ").expect("an event"));
            assert!(opening.starts_with(":\nretry: "), "{opening}");
            assert_eq!(rest, missing, "behind {cursor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_stream_can_be_read_in_this_protocol_and_one_of_it_in_any() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three", json!({})).await;
    let response = gateway.get(&format!("/v1/streams/{id}/events?format=messages"), &[]).await;
    assert_eq!(words(&added_up(&rest(response.body).await)), "one two three");
    let response = post(&gateway, &[], &asked(json!({ "text": "one two" }), json!({}))).await;
    let id = id_of(&response);
    drop(rest(response.body).await);
    assert_eq!(gateway.state(&id).await["text"], "one two");
    let chunks = gateway.get(&format!("/v1/streams/{id}/events?format=chat"), &[]).await;
    assert!(rest(chunks.body).await.contains(r#""finish_reason":"stop""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_with_its_key_pays_once_and_a_hang_up_has_a_grace() {
    let gateway = TestGateway::start().await;
    let key = ("idempotency-key", "k");
    let body = asked(json!({ "text": "one two" }), json!({}));
    let first = post(&gateway, &[key], &body).await;
    let (id, first) = (id_of(&first), rest(first.body).await);
    let again = post(&gateway, &[key], &body).await;
    assert_eq!((id_of(&again), again.header("idempotent-replayed")), (id, Some("true")));
    assert_eq!(frames(&rest(again.body).await), frames(&first));
    // The same body on another surface is another request.
    let chat = gateway.send("POST", "/v1/chat/completions", &[key], &body.to_string()).await;
    assert_eq!(chat.status, 422);

    let more = json!({ "on_disconnect": { "cancel_after": "30ms" } });
    let response = post(&gateway, &[], &asked(fault("stall", 2), more)).await;
    let id = id_of(&response);
    drop(response);
    gateway.at().state_when(&id, |state| state["status"] == "cancelled").await;
}

/// The upstream gets the body as it came and the headers that choose features, and the client what the upstream said.
#[tokio::test(flavor = "multi_thread")]
async fn between_a_client_and_an_upstream_of_this_protocol_nothing_is_lost() {
    for (name, answer) in upstreams() {
        let (config, serving) = upstream("anthropic", events(&answer)).await;
        let gateway = TestGateway::with(&config).await;
        let body = r#"{"stream":true,"model":"up/m","max_tokens":9,"temperature":0.70,"top_k":5,"messages":[{"role":"user","content":"hi","x":1}],
            "on_disconnect":"continue","tools":[{"type":"web_search_20250305","name":"web_search"}]}"#;
        let headers = [("anthropic-beta", "b-1"), ("anthropic-version", "2024-01-01"), ("x-api-key", "theirs")];
        let response = gateway.send("POST", URL, &headers, body).await;
        assert_eq!(response.header("x-lastword-dropped"), None);
        assert_eq!(added_up(&rest(response.body).await), added_up(&answer), "{name}");
        let request = serving.await.expect("ran");
        let asked = r#"{"stream":true,"model":"m","max_tokens":9,"temperature":0.70,"top_k":5,"messages":[{"role":"user","content":"hi","x":1}],"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#;
        assert!(request.ends_with(asked), "{request}");
        assert!(request.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{request}");
        for header in ["x-api-key: sk-ant-hush", "anthropic-beta: b-1", "anthropic-version: 2024-01-01"] {
            assert!(request.contains(&format!("\r\n{header}\r\n")), "{header} in {request}");
        }
        assert_eq!(request.matches("anthropic-version").count(), 1, "{request}");
        assert!(!request.contains("theirs") && !request.contains("authorization"), "{request}");
    }
}

/// What an upstream says of its refusal, its users know by its name; and a key that it echoes is nobody's to see.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_what_the_upstream_said_of_it() {
    let error =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"sk-ant-hush is busy"},"request_id":"req_7"}"#;
    let (config, serving) =
        upstream("anthropic", response("529 Busy", "request-id: req_7\r\nretry-after: 3\r\n", error)).await;
    let gateway = TestGateway::with(&config).await;
    let response = post(&gateway, &[], &asked(json!({}), json!({ "model": "up/m", "backend_options": null }))).await;
    assert_eq!((response.header("request-id"), response.header("retry-after")), (Some("req_7"), Some("3")));
    let message = refused(response, 529, "overloaded_error").await;
    assert!(message.contains("*** is busy"), "{message}");
    serving.await.expect("ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_upstreams_mid_answer_reaches_the_client_as_one() {
    let (_, answer) = upstreams().pop().expect("one");
    let (begun, _) = answer.split_once("event: message_delta").expect("its end");
    let text = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}"#;
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"later"}}"#;
    for (last, kind) in [(identity::frame(error), "overloaded_error"), (String::new(), "api_error")] {
        let (config, serving) =
            upstream("anthropic", events(&(begun.to_owned() + &identity::frame(text) + &last))).await;
        let gateway = TestGateway::with(&config).await;
        let response =
            post(&gateway, &[], &asked(json!({}), json!({ "model": "up/m", "backend_options": null }))).await;
        let body = rest(response.body).await;
        assert!(body.contains(r#""text":"Hi""#), "{body}");
        assert_eq!(error_in(&body)["type"], kind, "{body}");
        serving.await.expect("ran");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_this_protocol_can_ask_an_upstream_of_another() {
    let chunk = r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;
    let (config, serving) = upstream("openai", events(&format!("data: {chunk}\n\ndata: [DONE]\n\n"))).await;
    let gateway = TestGateway::with(&config).await;
    let body = r#"{"model":"up/m","max_tokens":9,"system":"Be brief.","top_k":5,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],
        "tools":[{"type":"web_search_20250305","name":"web_search"},{"name":"f","input_schema":{"type":"object"}}],"metadata":{"user_id":"u"}}"#;
    let response = gateway.send("POST", URL, &[("anthropic-version", "2023-06-01")], body).await;
    assert_eq!(response.header("x-lastword-dropped"), Some("top_k, tools[0]"));
    let whole = added_up(&rest(response.body).await);
    assert_eq!((words(&whole).as_str(), &whole["usage"]), ("Hi", &json!({ "input_tokens": 9, "output_tokens": 2 })));
    let request = serving.await.expect("ran");
    let asked = r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}],"max_tokens":9,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"user":"u","stream":true"#;
    assert!(request.contains(asked), "{request}");
    assert!(!request.contains("anthropic"), "{request}");

    let strict = body.replacen('{', r#"{"strict":true,"#, 1);
    let message = refused(gateway.send("POST", URL, &[], &strict).await, 400, "invalid_request_error").await;
    assert!(message.contains("top_k"), "{message}");
    let block = r#"{"type":"tool_result","tool_use_id":"a","content":"1"},{"type":"container_upload","file_id":"f"}"#;
    let unfit = body.replace(r#"{"type":"text","text":"hi"}"#, block);
    let message = refused(gateway.send("POST", URL, &[], &unfit).await, 400, "invalid_request_error").await;
    assert!(message.contains("messages[0].content[1], a part of the type `container_upload`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_protocol_can_ask_an_upstream_of_this_one() {
    let (_, answer) = upstreams().into_iter().find(|(_, answer)| answer.contains("toolu_b")).expect("with calls");
    let (config, serving) = upstream("anthropic", events(&answer)).await;
    let gateway = TestGateway::with(&config).await;
    let body = json!({
        "model": "up/m", "temperature": 1.5, "logit_bias": { "7": 1 },
        "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hi" }],
    });
    let response = gateway.send("POST", "/v1/chat/completions", &[("openai-beta", "x")], &body.to_string()).await;
    assert_eq!(response.header("x-lastword-dropped"), Some("logit_bias, temperature"));
    let whole = response.json().await;
    let message = &whole["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &whole["choices"][0]["finish_reason"]),
        (&json!("Let me see."), &json!("tool_calls"))
    );
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"x\": \"é\\n\"}");
    assert_eq!(whole["usage"]["prompt_tokens"], 12);
    let request = serving.await.expect("ran");
    let asked = r#"{"model":"m","max_tokens":4096,"system":"Be brief.","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true}"#;
    assert!(request.ends_with(asked), "{request}");
    assert!(request.contains("\r\nanthropic-version: 2023-06-01\r\n") && !request.contains("openai"), "{request}");

    let audio = json!({ "model": "up/m", "messages": [{ "role": "user", "content": [{ "type": "input_audio" }] }] });
    let response = gateway.send("POST", "/v1/chat/completions", &[], &audio.to_string()).await;
    let (status, error) = (response.status, response.json().await["error"].clone());
    assert_eq!((status, &error["code"]), (400, &json!("unfit_prompt")));
    assert!(error["message"].as_str().is_some_and(|message| message.contains("messages[0].content[0]")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_where_the_upstream_counts_them() {
    let (config, serving) = upstream("anthropic", response("200 OK", "", r#"{"input_tokens":14,"x":1.0}"#)).await;
    let gateway = TestGateway::with(&format!("{config}\n[backends.mock]\nkind = \"mock\"")).await;
    let body = r#"{"model":"up/m","messages":[{"role":"user","content":"hi"}],"strict":true,"z":1.0}"#;
    let url = "/v1/messages/count_tokens";
    let counted = gateway.send("POST", url, &[("anthropic-beta", "b-1")], body).await;
    assert_eq!((counted.status, counted.text().await.as_str()), (200, r#"{"input_tokens":14,"x":1.0}"#));
    let request = serving.await.expect("ran");
    assert!(request.starts_with("POST /v1/messages/count_tokens HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"z":1.0}"#), "{request}");
    for header in ["x-api-key: sk-ant-hush", "anthropic-beta: b-1", "anthropic-version: 2023-06-01"] {
        assert!(request.contains(&format!("\r\n{header}\r\n")), "{header} in {request}");
    }
    let elsewhere = gateway.send("POST", url, &[], r#"{"model":"mock/words"}"#).await;
    assert!(refused(elsewhere, 404, "not_found_error").await.contains("kind `anthropic`"));
    refused(gateway.send("POST", url, &[], r#"{"model":"nobody"}"#).await, 404, "not_found_error").await;
    refused(gateway.send("POST", url, &[], "hello").await, 400, "invalid_request_error").await;
    // The upstream takes nobody any more.
    refused(gateway.send("POST", url, &[], body).await, 502, "api_error").await;
    let listed = gateway.get("/v1/streams", &[]).await.json().await;
    assert_eq!(listed["streams"], json!([]), "nothing is recorded");

    let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no messages"}}"#;
    let (config, _serving) = upstream("anthropic", response("400 Bad Request", "", error)).await;
    let gateway = TestGateway::with(&config).await;
    let message = refused(gateway.send("POST", url, &[], body).await, 400, "invalid_request_error").await;
    assert!(message.contains("no messages"), "{message}");
}
