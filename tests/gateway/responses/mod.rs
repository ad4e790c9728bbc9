//! `/v1/responses`, as clients of OpenAI meet it: sentence by sentence, over sockets.

mod conversation;
mod identity;
mod resume;

use serde_json::{Value, json};

use crate::common::{At, Body, Ending, Response, TestGateway, soon, sse};

const URL: &str = "/v1/responses";

/// A request that lets the mock say this.
fn asked(mut options: Value, more: Value) -> Value {
    options["delay"] = options.get("delay").cloned().unwrap_or_else(|| "0ms".into());
    let mut body = json!({ "model": "mock/words", "input": "say it", "backend_options": options });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

fn stream() -> Value {
    json!({ "stream": true })
}

fn fault(kind: &str, after: u64) -> Value {
    json!({ "text": "one two three", "fault": { "kind": kind, "after": after } })
}

async fn post(at: At, body: &Value) -> Response {
    at.send("POST", URL, &[], &body.to_string()).await
}

/// A body to its proper end.
async fn rest(body: Body) -> String {
    let (bytes, ending) = soon(body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    String::from_utf8(bytes).expect("UTF-8")
}

/// The data of the events in a body.
fn events(body: &str) -> Vec<Value> {
    let events = sse::read(body.as_bytes()).events.into_iter().map(|event| {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| panic!("not JSON: {}", event.data));
        assert_eq!(data["type"], event.name);
        data
    });
    events.collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

/// The words of all pieces of text.
fn words(events: &[Value]) -> String {
    let pieces = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    pieces.map(|event| event["delta"].as_str().expect("a piece")).collect()
}

/// A whole response, as JSON.
async fn response(response: Response) -> Value {
    let (status, kind) = (response.status, response.header("content-type").map(str::to_owned));
    let json = response.json().await;
    assert_eq!(
        (status, kind.as_deref(), &json["object"]),
        (200, Some("application/json"), &json!("response")),
        "{json}"
    );
    json
}

fn id_of(response: &Value) -> String {
    response["id"].as_str().expect("an id").to_owned()
}

async fn retrieved(at: At, id: &str) -> Value {
    response(at.get(&format!("{URL}/{id}"), &[]).await).await
}

/// Waits until the response is such.
async fn retrieved_when(at: At, id: &str, such: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let response = retrieved(at, id).await;
            if such(&response) {
                break response;
            }
        }
    };
    soon(waiting).await
}

/// A response that must be an error in OpenAI's shape: its members.
async fn refused(response: Response, status: u16, code: &str) -> Value {
    let (got, kind) = (response.status, response.header("content-type").map(str::to_owned));
    let body = response.json().await;
    assert_eq!((got, kind.as_deref()), (status, Some("application/json")), "{body}");
    assert_eq!(body["error"]["code"], code, "{body}");
    body["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_in_numbered_events_with_rising_ids() {
    let gateway = TestGateway::start().await;
    let response = post(gateway.at(), &asked(json!({ "text": "one two three", "reasoning": "hm" }), stream())).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    let stream = response.header("x-stream-id").expect("an id").to_owned();
    let body = rest(response.body).await;
    let cursors: Vec<u64> = sse::read(body.as_bytes())
        .events
        .iter()
        .filter(|event| !event.id.is_empty())
        .map(|event| event.id.strip_prefix(&format!("{stream}-")).and_then(|n| n.parse().ok()).expect("a long id"))
        .collect();
    assert!(cursors.is_sorted() && cursors.len() > 10, "{cursors:?}");
    let events = events(&body);
    let numbers: Vec<_> = events.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let part = |text: &str| json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text });
    let message = |status: &str, content: Value| json!({ "id": format!("msg_{stream}_1"), "type": "message", "status": status, "content": content, "role": "assistant" });
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let of = |n: usize, name: &str| events[n][name].clone();
    assert_eq!((of(8, "item"), of(8, "output_index")), (message("in_progress", json!([])), json!(1)));
    assert_eq!(
        (of(9, "part"), of(9, "content_index"), of(9, "item_id")),
        (part(""), json!(0), json!(format!("msg_{stream}_1")))
    );
    assert_eq!((of(10, "delta"), of(10, "logprobs")), (json!("one"), json!([])));
    assert_eq!((of(13, "text"), of(14, "part")), (json!("one two three"), part("one two three")));
    assert_eq!(of(15, "item"), message("completed", json!([part("one two three")])));
    let whole = of(16, "response");
    assert_eq!((&whole["status"], &whole["output"][1]), (&json!("completed"), &of(15, "item")));
    assert_eq!((&whole["usage"]["output_tokens"], &whole["usage"]["total_tokens"]), (&json!(4), &json!(6)));
    assert_eq!(of(0, "response")["usage"], Value::Null);
    assert_eq!(retrieved(gateway.at(), &format!("resp_{stream}")).await, whole);
    assert_eq!(gateway.state(&stream).await["text"], "one two three", "the native API knows it too");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_stream_the_answer_comes_whole() {
    let gateway = TestGateway::start().await;
    let options = json!({ "text": "one two", "tool_call": { "name": "look", "arguments": { "at": "it" } } });
    let more = json!({ "instructions": "Be brief.", "metadata": { "chat": "7" }, "temperature": 0.5 });
    let whole = response(post(gateway.at(), &asked(options, more)).await).await;
    let [message, call] = whole["output"].as_array().expect("items").as_slice() else { panic!("{whole}") };
    assert_eq!(message["content"][0]["text"], "one two");
    assert_eq!(
        (&call["type"], &call["call_id"], &call["name"]),
        (&json!("function_call"), &json!("call_mock"), &json!("look"))
    );
    assert_eq!((&call["arguments"], &call["status"]), (&json!(r#"{"at":"it"}"#), &json!("completed")));
    assert_eq!(
        (&whole["status"], &whole["model"], &whole["error"]),
        (&json!("completed"), &json!("mock/words"), &Value::Null)
    );
    assert_eq!(
        (&whole["instructions"], &whole["metadata"], &whole["temperature"]),
        (&json!("Be brief."), &json!({ "chat": "7" }), &json!(0.5))
    );
    assert!(whole["completed_at"].as_u64() >= whole["created_at"].as_u64(), "{whole}");
    // Cut by its limit it is an answer all the same.
    let short = asked(json!({ "text": "one two", "finish": "length" }), json!({}));
    let short = response(post(gateway.at(), &short).await).await;
    assert_eq!(
        (&short["status"], &short["incomplete_details"]),
        (&json!("incomplete"), &json!({ "reason": "max_output_tokens" }))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_before_a_stream_exists() {
    let gateway = TestGateway::with("[server]\nmax_body = \"1KiB\"").await;
    for (body, status, code, param) in [
        (json!("hi"), 400, "bad_request", Value::Null),
        (json!({ "model": "mock/words" }), 400, "bad_request", json!("input")),
        (json!({ "input": "hi", "model": "nobody" }), 404, "model_not_found", json!("model")),
        (json!({ "input": "hi", "background": true, "store": false }), 400, "bad_request", json!("store")),
        (
            json!({ "input": "hi", "previous_response_id": "resp_1" }),
            400,
            "previous_response_not_found",
            json!("previous_response_id"),
        ),
        (
            json!({ "input": "hi", "previous_response_id": format!("resp_{}", "0".repeat(32)) }),
            400,
            "previous_response_not_found",
            json!("previous_response_id"),
        ),
        (json!({ "input": "x".repeat(2000) }), 413, "body_too_large", Value::Null),
    ] {
        let error = refused(post(gateway.at(), &body).await, status, code).await;
        assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &param), "{body}");
    }
    let listed = gateway.get("/v1/streams", &[]).await.json().await;
    assert_eq!(listed["streams"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_first_word_is_its_status() {
    let gateway = TestGateway::start().await;
    for (status, should_retry) in [(400, "false"), (429, "true"), (503, "true")] {
        for stream in [true, false] {
            let fault = json!({ "kind": "error", "status": status, "code": "their_word", "retry_after": "1500ms" });
            let response = post(gateway.at(), &asked(json!({ "fault": fault }), json!({ "stream": stream }))).await;
            assert_eq!(response.header("retry-after"), Some("2"));
            assert_eq!(response.header("x-should-retry"), Some(should_retry));
            assert!(response.header("x-stream-id").is_some());
            refused(response, status, "their_word").await;
        }
    }
    for (kind, status, code) in [("close", 502, "upstream_truncated"), ("panic", 500, "internal")] {
        refused(post(gateway.at(), &asked(fault(kind, 0), stream())).await, status, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_first_word_is_told_among_the_events() {
    let gateway = TestGateway::start().await;
    for (kind, status, code) in
        [("error", 502, "upstream_failed"), ("reset", 502, "upstream_truncated"), ("panic", 500, "internal")]
    {
        let response = post(gateway.at(), &asked(fault(kind, 2), stream())).await;
        assert_eq!(response.status, 200);
        let events = events(&rest(response.body).await);
        assert_eq!(words(&events), "one two");
        let last = events.last().expect("events");
        assert_eq!(last["type"], "response.failed");
        let failed = &last["response"];
        assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!(code)));
        assert_eq!(failed["output"][0]["content"][0]["text"], "one two", "what was said stands");
        assert_eq!(failed["output"][0]["status"], "incomplete");
        assert_eq!(retrieved(gateway.at(), failed["id"].as_str().expect("an id")).await, *failed);
        // Whoever waits for the whole gets none of it.
        refused(post(gateway.at(), &asked(fault(kind, 2), json!({}))).await, status, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_waits_for_the_first_word_and_not_longer_than_it_may() {
    let gateway = TestGateway::with("[server]\ncommit_after = \"20ms\"\nheartbeat = \"5ms\"").await;
    let late = json!({ "text": "one two", "first": "200ms", "fault": { "kind": "error", "after": 1 } });
    let response = post(gateway.at(), &asked(late, stream())).await;
    assert_eq!(response.status, 200, "too late for a status");
    assert_eq!(events(&rest(response.body).await).last().expect("events")["type"], "response.failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_the_response_is_there_at_once_and_goes_on_alone() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let options = json!({ "text": "one two", "first": "100ms" });
    let began = response(post(at, &asked(options.clone(), json!({ "background": true }))).await).await;
    assert!(["queued", "in_progress"].contains(&began["status"].as_str().expect("a status")), "{began}");
    assert_eq!((&began["background"], &began["output"]), (&json!(true), &json!([])));
    let done = retrieved_when(at, &id_of(&began), |response| response["status"] == "completed").await;
    assert_eq!(done["output"][0]["content"][0]["text"], "one two");
    // Streamed, its first events come before the first word, and it goes on when nobody listens.
    let response = post(at, &asked(options, json!({ "background": true, "stream": true }))).await;
    let stream = response.header("x-stream-id").expect("an id").to_owned();
    let (first, mut body) = first_event(response).await;
    assert_eq!((&first["type"], &first["response"]["status"]), (&json!("response.created"), &json!("queued")));
    while !String::from_utf8_lossy(&body.0).contains("response.queued") {
        body.0.extend(soon(body.1.next()).await.expect("more"));
    }
    drop(body);
    let done = retrieved_when(at, &stream, |response| response["status"] == "completed").await;
    let events = events(&rest(at.get(&format!("{URL}/resp_{stream}?stream=true"), &[]).await.body).await);
    assert_eq!(types(&events)[..3], ["response.created", "response.queued", "response.in_progress"]);
    assert_eq!(events.last().expect("events")["response"], done);
    // What fails there has no status to be told by.
    let fails = json!({ "fault": { "kind": "error", "status": 429, "code": "their_word" } });
    let began = response_of(post(at, &asked(fails, json!({ "background": true }))).await).await;
    let failed = retrieved_when(at, &id_of(&began), |response| response["status"] == "failed").await;
    assert_eq!(failed["error"]["code"], "their_word");
    let fails = json!({ "fault": { "kind": "error", "status": 429, "code": "their_word" } });
    let streamed = post(at, &asked(fails, json!({ "background": true, "stream": true }))).await;
    assert_eq!(streamed.status, 200);
    let last = events_of(streamed).await.pop().expect("events");
    assert_eq!((&last["type"], &last["response"]["error"]["code"]), (&json!("response.failed"), &json!("their_word")));
}

async fn events_of(response: Response) -> Vec<Value> {
    events(&rest(response.body).await)
}

async fn response_of(got: Response) -> Value {
    response(got).await
}

/// The first event of a body, and what has come of it with the rest.
async fn first_event(mut response: Response) -> (Value, (Vec<u8>, Body)) {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(soon(response.body.next()).await.expect("more"));
        if let Some(event) = sse::read(&bytes).events.first() {
            let data = serde_json::from_str(&event.data).expect("JSON");
            return (data, (bytes, response.body));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_answer_ends_incomplete_and_keeps_what_was_said() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let mut response = post(at, &asked(fault("stall", 2), stream())).await;
    let id = format!("resp_{}", response.header("x-stream-id").expect("an id"));
    let mut body = soon(response.body.next()).await.expect("events");
    let cancelled = response_of(at.send("POST", &format!("{URL}/{id}/cancel"), &[], "").await).await;
    body.extend(rest(response.body).await.bytes());
    let events = events(&String::from_utf8(body).expect("UTF-8"));
    let last = events.last().expect("events");
    assert_eq!((&last["type"], &last["response"]), (&json!("response.incomplete"), &cancelled));
    assert_eq!(
        (&cancelled["status"], &cancelled["id"], &cancelled["error"]),
        (&json!("cancelled"), &json!(id), &Value::Null)
    );
    assert_eq!(cancelled["output"][0]["content"][0]["text"], "one two");
    let again = response_of(at.send("POST", &format!("{URL}/{id}/cancel"), &[], "").await).await;
    assert_eq!(again, cancelled);
    // Who waits for the whole is not told that this is it.
    let key = ("idempotency-key", "k");
    let silent = asked(fault("stall", 2), json!({})).to_string();
    let waiting = tokio::spawn(async move { at.send("POST", URL, &[key], &silent).await });
    let newest = async || at.get("/v1/streams?limit=1", &[]).await.json().await["streams"][0].clone();
    let id = soon(async {
        loop {
            let newest = newest().await;
            if newest["status"] == "running" {
                break newest["id"].as_str().expect("an id").to_owned();
            }
        }
    })
    .await;
    response_of(at.send("POST", &format!("{URL}/{id}/cancel"), &[], "").await).await;
    refused(waiting.await.expect("ran"), 499, "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_has_a_grace_in_the_foreground() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let more = json!({ "on_disconnect": { "cancel_after": "30ms" }, "stream": true });
    let response = post(at, &asked(fault("stall", 2), more)).await;
    let stream = response.header("x-stream-id").expect("an id").to_owned();
    drop(response);
    retrieved_when(at, &stream, |response| response["status"] == "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_erased_and_is_then_unknown() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let whole = response(post(at, &asked(json!({ "text": "one" }), json!({}))).await).await;
    let id = id_of(&whole);
    let deleted = at.send("DELETE", &format!("{URL}/{id}"), &[], "").await;
    assert_eq!(
        (deleted.status, deleted.json().await),
        (200, json!({ "id": id, "object": "response", "deleted": true }))
    );
    for (method, path) in [
        ("GET", ""),
        ("GET", "?stream=true"),
        ("GET", "?stream=true&starting_after=1"),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ] {
        for id in [id.as_str(), "resp_nobody"] {
            refused(at.send(method, &format!("{URL}/{id}{path}"), &[], "").await, 404, "stream_not_found").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_stream_is_a_response() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let id = gateway.say("one two three", json!({ "reasoning": "hm" })).await;
    let done = retrieved_when(at, &id, |response| response["status"] == "completed").await;
    assert_eq!(
        (&done["id"], &done["output"][1]["content"][0]["text"]),
        (&json!(format!("resp_{id}")), &json!("one two three"))
    );
    let body = rest(at.get(&format!("/v1/streams/{id}/events?format=responses"), &[]).await.body).await;
    assert_eq!(events(&body).last().expect("events")["response"], done);
    assert_eq!(events(&rest(at.get(&format!("{URL}/{id}?stream=true"), &[]).await.body).await), events(&body));
    let items = at.get(&format!("{URL}/{id}/input_items"), &[]).await.json().await;
    assert_eq!(items["data"][0]["content"][0]["text"], "say it");
    let unclear = at.get(&format!("{URL}/{id}?stream=perhaps"), &[]).await;
    assert_eq!(refused(unclear, 400, "bad_request").await["param"], "stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_with_its_key_pays_once() {
    let gateway = TestGateway::start().await;
    let key = ("idempotency-key", "k");
    let body = asked(json!({ "text": "one two" }), json!({})).to_string();
    let send = async |body: &str| gateway.send("POST", URL, &[key], body).await;
    let first = response(send(&body).await).await;
    let again = send(&body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(response(again).await, first);
    let other = asked(json!({ "text": "three" }), json!({})).to_string();
    refused(send(&other).await, 422, "idempotency_key_reused").await;
}
