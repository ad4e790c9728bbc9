//! `POST /v1/chat/completions`, as clients of OpenAI meet it: sentence by sentence, over sockets.

mod identity;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use self::identity::{added_up, data, upstreams};
use crate::common::{Body, Ending, Response, TestGateway, soon, sse};

const URL: &str = "/v1/chat/completions";

/// A request that lets the mock say this.
fn asked(mut options: Value, more: Value) -> Value {
    options["delay"] = options.get("delay").cloned().unwrap_or_else(|| "0ms".into());
    let messages = json!([{ "role": "user", "content": "say it" }]);
    let mut body = json!({ "model": "mock/words", "stream": true, "messages": messages, "backend_options": options });
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

/// A response that must be an error in OpenAI's shape: its members.
async fn refused(response: Response, status: u16, code: &str) -> Value {
    let (got, kind) = (response.status, response.header("content-type").map(str::to_owned));
    let body = response.json().await;
    assert_eq!((got, kind.as_deref()), (status, Some("application/json")), "{body}");
    let error = body["error"].clone();
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    assert!(error["type"].is_string() && error.get("param").is_some(), "{error}");
    error
}

/// The words of an answer that was added up.
fn words(whole: &Value) -> &str {
    whole["choices"]["0"]["message"]["content"].as_str().expect("text")
}

/// The error object among the chunks, which must be the last but `[DONE]`.
fn error_in(body: &str) -> Value {
    let chunks = data(body);
    let [.., error, done] = &chunks[..] else { panic!("{body}") };
    assert_eq!(done, "[DONE]");
    let error: Value = serde_json::from_str(error).expect("JSON");
    error["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_in_chunks_with_one_envelope_and_rising_ids() {
    let gateway = TestGateway::start().await;
    let response = post(&gateway, &[], &asked(json!({ "text": "one two three" }), json!({}))).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    assert!(response.header("x-request-id").is_some());
    let id = id_of(&response);
    let body = rest(response.body).await;
    let events = sse::read(body.as_bytes()).events;
    let cursors: Vec<u64> = events
        .iter()
        .filter(|event| !event.id.is_empty())
        .map(|event| event.id.strip_prefix(&format!("{id}-")).and_then(|n| n.parse().ok()).expect("a long id"))
        .collect();
    assert!(cursors.is_sorted(), "{cursors:?}");
    let chunks: Vec<Value> = data(&body)
        .iter()
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    for chunk in &chunks {
        assert_eq!(chunk["id"], format!("chatcmpl-{id}"));
        assert_eq!((&chunk["object"], &chunk["model"]), (&json!("chat.completion.chunk"), &json!("mock/words")));
        assert_eq!(chunk["created"], chunks[0]["created"]);
        assert!(chunk.get("usage").is_none(), "nobody asked for it");
    }
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let whole = added_up(&body);
    assert_eq!((words(&whole), &whole["choices"]["0"]["finish_reason"]), ("one two three", &json!("stop")));
    assert_eq!(gateway.state(&id).await["text"], "one two three", "the native API knows it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_of_tokens_comes_last_when_it_is_asked_for() {
    let gateway = TestGateway::start().await;
    let more = json!({ "stream_options": { "include_usage": true } });
    let response = post(&gateway, &[], &asked(json!({ "text": "one two three" }), more)).await;
    let body = rest(response.body).await;
    let chunks = data(&body);
    let chunks: Vec<Value> =
        chunks[..chunks.len() - 1].iter().map(|data| serde_json::from_str(data).expect("JSON")).collect();
    let (last, before) = chunks.split_last().expect("chunks");
    assert!(before.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], json!({ "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_stream_the_answer_comes_whole() {
    let gateway = TestGateway::start().await;
    let options =
        json!({ "text": "one two", "reasoning": "hm", "tool_call": { "name": "look", "arguments": { "at": "it" } } });
    let response = post(&gateway, &[], &asked(options, json!({ "stream": false }))).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let id = id_of(&response);
    let answer = response.json().await;
    assert_eq!((&answer["id"], &answer["object"]), (&json!(format!("chatcmpl-{id}")), &json!("chat.completion")));
    let call =
        json!({ "id": "call_mock", "type": "function", "function": { "name": "look", "arguments": r#"{"at":"it"}"# } });
    let message = json!({
        "role": "assistant", "content": "one two", "refusal": null, "reasoning_content": "hm", "tool_calls": [call],
    });
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls" });
    assert_eq!(answer["choices"], json!([choice]));
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_before_a_stream_exists() {
    let gateway = TestGateway::with("[server]\nmax_body = \"1KiB\"").await;
    let hi = json!([{ "role": "user", "content": "hi" }]);
    for (body, status, code, param) in [
        (json!("hi"), 400, "bad_request", Value::Null),
        (json!({ "model": "mock/words" }), 400, "bad_request", json!("messages")),
        (json!({ "messages": hi, "model": "nobody" }), 404, "model_not_found", json!("model")),
        (json!({ "messages": hi, "model": "mock/word" }), 404, "model_not_found", json!("model")),
        (json!({ "messages": hi, "temperature": "hot" }), 400, "bad_request", json!("temperature")),
        (json!({ "messages": hi, "n": 2 }), 400, "unfit_prompt", json!("n")),
        (json!({ "messages": hi, "backend_options": { "dealy": 1 } }), 400, "unfit_prompt", json!("backend_options")),
        (json!({ "messages": hi, "user": "x".repeat(2000) }), 413, "body_too_large", Value::Null),
    ] {
        let error = refused(post(&gateway, &[], &body).await, status, code).await;
        assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &param), "{body}");
    }
    let again = post(&gateway, &[("last-event-id", "7")], &json!({ "messages": hi })).await;
    assert_eq!(refused(again, 409, "which_stream").await["param"], "Last-Event-ID");
    let listed = gateway.get("/v1/streams", &[]).await.json().await;
    assert_eq!(listed["streams"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_first_word_is_its_status() {
    let gateway = TestGateway::start().await;
    for (status, kind, should_retry) in [
        (400, "invalid_request_error", "false"),
        (401, "authentication_error", "false"),
        (403, "permission_error", "false"),
        (404, "invalid_request_error", "false"),
        (429, "rate_limit_error", "true"),
        (503, "server_error", "true"),
        (529, "server_error", "true"),
    ] {
        for stream in [true, false] {
            let fault = json!({ "kind": "error", "status": status, "code": "their_word", "retry_after": "1500ms" });
            let body = asked(json!({ "fault": fault }), json!({ "stream": stream }));
            let response = post(&gateway, &[], &body).await;
            let id = id_of(&response);
            assert_eq!(response.header("retry-after"), Some("2"));
            assert_eq!(response.header("x-should-retry"), Some(should_retry));
            assert!(response.header("x-request-id").is_some());
            let error = refused(response, status, "their_word").await;
            assert_eq!(error["type"], kind);
            assert_eq!(gateway.state(&id).await["error"]["upstream_status"], status);
        }
    }
    for (kind, status, code) in [("close", 502, "upstream_truncated"), ("panic", 500, "internal")] {
        refused(post(&gateway, &[], &asked(fault(kind, 0), json!({}))).await, status, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_first_word_is_told_among_the_chunks() {
    let gateway = TestGateway::start().await;
    for (kind, code) in [("error", "upstream_failed"), ("reset", "upstream_truncated"), ("panic", "internal")] {
        let response = post(&gateway, &[], &asked(fault(kind, 2), json!({}))).await;
        assert_eq!(response.status, 200);
        let body = rest(response.body).await;
        assert!(body.contains(r#""content":"one""#) && body.contains(r#""content":" two""#), "{body}");
        assert!(!body.contains("finish_reason\":\"stop"), "{body}");
        assert_eq!(error_in(&body)["code"], code);
        // Whoever waits for the whole gets none of it.
        let whole = post(&gateway, &[], &asked(fault(kind, 2), json!({ "stream": false }))).await;
        let status = if kind == "panic" { 500 } else { 502 };
        refused(whole, status, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_waits_for_the_first_word_and_not_longer_than_it_may() {
    let gateway = TestGateway::with("[server]\ncommit_after = \"20ms\"\nheartbeat = \"5ms\"").await;
    let late = |kind| json!({ "text": "one two", "first": "200ms", "fault": { "kind": kind, "after": 1 } });
    let mut response = post(&gateway, &[], &asked(late("error"), json!({}))).await;
    assert_eq!(response.status, 200, "too late for a status");
    assert_eq!(soon(response.body.next()).await.expect("a sign of life"), b":\n");
    assert_eq!(error_in(&rest(response.body).await)["code"], "upstream_failed");

    let patient = TestGateway::start().await;
    let options = json!({ "first": "50ms", "fault": { "kind": "close" } });
    refused(post(&patient, &[], &asked(options, json!({}))).await, 502, "upstream_truncated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_costs_nothing_whichever_way_the_client_comes_back() {
    let gateway = TestGateway::start().await;
    let options = json!({
        "text": "one two\nthree", "reasoning": "hm hm", "tool_call": { "name": "look", "arguments": { "the words": "a \" b" } },
    });
    let body = asked(options, json!({ "stream_options": { "include_usage": true } }));
    let response = post(&gateway, &[], &body).await;
    let id = id_of(&response);
    let whole = rest(response.body).await;
    // Each id with what stands behind it.
    let ids: Vec<_> =
        whole.match_indices("id: ").map(|(at, _)| whole[at + 4..].split_once("\n\n").expect("an event")).collect();
    assert!(ids.len() > 10, "{whole}");
    for (cursor, missing) in ids {
        let header = [("last-event-id", cursor)];
        let path = format!("/v1/streams/{id}/events?format=chat&include_usage=true");
        for response in [post(&gateway, &header, &body).await, gateway.get(&path, &header).await] {
            if missing.is_empty() {
                assert_eq!(response.status, 204, "it has seen the end");
                continue;
            }
            let rest = rest(response.body).await;
            let (opening, rest) = rest.split_at(rest.find("data: ").expect("an event"));
            assert!(opening.starts_with(":\nretry: "), "{opening}");
            assert_eq!(rest, missing, "behind {cursor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_answer_goes_on_where_it_was_cut() {
    let gateway = TestGateway::start().await;
    let body = asked(json!({ "text": "one two three ", "repeat": 30, "delay": "1ms" }), json!({}));
    let response = post(&gateway, &[], &body).await;
    let id = id_of(&response);
    let mut client = sse::Client::default();
    client.take(&soon(response.body.cut_after(2500)).await);
    assert_eq!(gateway.state(&id).await["status"], "running");
    let cursor = client.cursor.clone().expect("a cursor");
    let again = post(&gateway, &[("last-event-id", &cursor)], &body).await;
    assert_eq!(id_of(&again), id);
    client.take(rest(again.body).await.as_bytes());
    let all: String = client.events.iter().map(|event| format!("data: {}\n\n", event.data)).collect();
    assert_eq!(words(&added_up(&all)), "one two three ".repeat(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_cannot_be_served_is_answered_with_a_reset() {
    let gateway = TestGateway::start().await;
    let body = asked(json!({ "text": "one" }), json!({}));
    let response = post(&gateway, &[], &body).await;
    let id = id_of(&response);
    rest(response.body).await;
    let again = post(&gateway, &[("last-event-id", &format!("{id}-999"))], &body).await;
    let events = sse::read(rest(again.body).await.as_bytes()).events;
    assert_eq!((events[0].name.as_str(), events.last().map(|event| &*event.data)), ("reset", Some("[DONE]")));
    let unknown = post(&gateway, &[("last-event-id", &format!("{}-1", "0".repeat(32)))], &body).await;
    refused(unknown, 404, "stream_not_found").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_stream_can_be_read_in_this_protocol() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three", json!({})).await;
    let response = gateway.get(&format!("/v1/streams/{id}/events?format=chat"), &[]).await;
    assert_eq!(words(&added_up(&rest(response.body).await)), "one two three");
    let response = gateway.get(&format!("/v1/streams/{id}/events?format=morse"), &[]).await;
    assert_eq!((response.status, response.json().await["field"].clone()), (400, json!("format")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_answer_says_so() {
    let gateway = TestGateway::start().await;
    let mut response = post(&gateway, &[], &asked(fault("stall", 2), json!({}))).await;
    let id = id_of(&response);
    let mut body = soon(response.body.next()).await.expect("chunks");
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    body.extend(rest(response.body).await.bytes());
    assert_eq!(error_in(&String::from_utf8(body).expect("UTF-8"))["code"], "cancelled");
    // Before its first word it is no answer, and nothing to be tried again.
    let key = ("idempotency-key", "k");
    let silent = asked(fault("stall", 0), json!({}));
    let at = gateway.at();
    let waiting = tokio::spawn({
        let silent = silent.to_string();
        async move { at.send("POST", URL, &[key], &silent).await }
    });
    let id = soon(async {
        loop {
            let listed = gateway.get("/v1/streams?limit=1", &[]).await.json().await;
            let newest = &listed["streams"][0];
            if newest["status"] == "running" {
                break newest["id"].as_str().expect("an id").to_owned();
            }
        }
    })
    .await;
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    let response = waiting.await.expect("ran");
    assert_eq!(response.header("x-should-retry"), Some("false"));
    refused(response, 499, "cancelled").await;
}

/// Who hangs up has this long to come back; whether the answer streams, or is waited for, or has not begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_stops_the_answer_after_a_grace() {
    let gateway = TestGateway::start().await;
    for (after, stream) in [(2, true), (0, true), (2, false)] {
        let more = json!({ "on_disconnect": { "cancel_after": "30ms" }, "stream": stream });
        let body = asked(fault("stall", after), more).to_string();
        let at = gateway.at();
        let asking = tokio::spawn(async move { at.send("POST", URL, &[], &body).await });
        let newest = async || gateway.get("/v1/streams?limit=1", &[]).await.json().await["streams"][0].clone();
        let id = soon(async {
            loop {
                let stream = newest().await;
                if stream["status"] == "running" {
                    break stream["id"].as_str().expect("an id").to_owned();
                }
            }
        })
        .await;
        gateway.at().metric_is("lastword_readers", 1).await;
        asking.abort();
        drop(asking.await); // with the response, if there was one: the connection is closed
        gateway.at().state_when(&id, |state| state["status"] == "cancelled").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_with_its_key_pays_once() {
    let gateway = TestGateway::start().await;
    let key = ("idempotency-key", "k");
    let body = asked(json!({ "text": "one two" }), json!({}));
    let first = post(&gateway, &[key], &body).await;
    let (id, first) = (id_of(&first), rest(first.body).await);
    let again = post(&gateway, &[key], &body).await;
    assert_eq!((id_of(&again), again.header("idempotent-replayed")), (id, Some("true")));
    assert_eq!(data(&rest(again.body).await), data(&first));
    refused(post(&gateway, &[key], &asked(json!({ "text": "three" }), json!({}))).await, 422, "idempotency_key_reused")
        .await;
}

/// What an upstream says of its refusal, its users know by its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_the_name_that_the_upstream_gave_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config =
        format!("[backends.up]\nkind = \"openai\"\nbase_url = \"http://{}/v1\"", listener.local_addr().expect("bound"));
    let gateway = TestGateway::with(&config).await;
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let _ = socket.read(&mut [0; 4096]).await.expect("a request");
        let head = "HTTP/1.1 429 Slow\r\nx-request-id: req_7\r\nretry-after: 3\r\nx-should-retry: false\r\nconnection: close\r\n";
        let body = r#"{"error":{"message":"later","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
        let response = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(response.as_bytes()).await.expect("written");
    });
    let body = json!({ "model": "up/m", "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let response = post(&gateway, &[], &body).await;
    for (name, value) in [("x-request-id", "req_7"), ("retry-after", "3"), ("x-should-retry", "false")] {
        assert_eq!(response.header(name), Some(value));
    }
    refused(response, 429, "rate_limit_exceeded").await;
    serving.await.expect("ran");
}

/// The upstream gets the body as it came, and the client what the upstream said.
#[tokio::test(flavor = "multi_thread")]
async fn between_a_client_and_an_upstream_of_this_protocol_nothing_is_lost() {
    for (name, answer) in upstreams() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let said = answer.clone();
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 16 * 1024];
            let n = socket.read(&mut request).await.expect("a request");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            socket.write_all(format!("{head}{said}").as_bytes()).await.expect("written");
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let config = format!("[backends.up]\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"");
        let gateway = TestGateway::with(&config).await;
        let body = r#"{"stream":true,"model":"up/m","temperature":0.70,"n":2,"messages":[{"role":"user","content":"hi","x":1}],
            "on_disconnect":"continue","stream_options":{"include_usage":true},"logit_bias":{"7":1}}"#;
        let response = gateway.send("POST", URL, &[], body).await;
        assert_eq!(added_up(&rest(response.body).await), added_up(&answer), "{name}");
        let request = serving.await.expect("ran");
        let asked = r#"{"stream":true,"model":"m","temperature":0.70,"n":2,"messages":[{"role":"user","content":"hi","x":1}],"stream_options":{"include_usage":true},"logit_bias":{"7":1}}"#;
        assert!(request.ends_with(asked), "{request}");
    }
}
