//! `GET /v1/streams`, `GET` and `DELETE /v1/streams/{id}`, `POST /v1/streams/{id}/cancel`

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{events_of, list, problem, reached, read_to, said, stalls, until};
use crate::common::{Response, TestGateway, only, text};

async fn cancel(gateway: &TestGateway, id: &str) -> Response {
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await
}

fn is_rfc3339(value: &Value) -> bool {
    let shape = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    value.as_str().is_some_and(|text| shape(text) == "0000-00-00T00:00:00.000Z")
}

/// The members of the state, in alphabetical order.
fn members(state: &Value) -> Vec<&str> {
    state.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_running_stream_is_what_is_known_so_far() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three", stalls()).await;
    let state = said(&gateway, &id, "one two").await;
    let known =
        ["attempts", "backend", "created_at", "cursor", "events_url", "id", "model", "status", "text", "timings"];
    assert_eq!(members(&state), known, "absent is unknown, not empty");
    assert_eq!((&state["id"], &state["status"]), (&json!(id), &json!("running")));
    assert!(is_rfc3339(&state["created_at"]), "{state}");
    assert_eq!(members(&state["timings"]), ["first_token_ms"]);
    let seen = gateway.state(&id).await["cursor"].as_u64().expect("a number").to_string();
    let mut rest = gateway.events(&id, Some(&seen)).await;
    cancel(&gateway, &id).await;
    let rest = read_to(&mut rest, "\n\n").await;
    assert!(rest.starts_with(":\n") && rest.contains("event: end"), "its cursor is where the events go on: {rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_completed_stream_has_all_of_it() {
    let gateway = TestGateway::start().await;
    let options = json!({ "reasoning": "hm hm", "tool_call": { "name": "look", "arguments": { "where": "there" } } });
    let id = gateway.say("one two", options).await;
    let state = reached(&gateway, &id, "completed").await;
    assert_eq!(
        (&state["text"], &state["reasoning"], &state["reason"]),
        (&json!("one two"), &json!("hm hm"), &json!("tool_calls"))
    );
    let call = &state["tool_calls"][0];
    assert_eq!((&call["id"], &call["name"]), (&json!("call_mock"), &json!("look")));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(arguments, json!({ "where": "there" }));
    assert_eq!(state["usage"]["input_tokens"], 2);
    assert!(state["usage"]["output_tokens"].is_u64() && state["usage"]["reasoning_tokens"] == 2, "{state}");
    assert!(is_rfc3339(&state["created_at"]) && is_rfc3339(&state["ended_at"]), "{state}");
    assert!(state["ended_at"].as_str() >= state["created_at"].as_str());
    assert!(state["timings"]["first_token_ms"].is_u64() && state["timings"]["total_ms"].is_u64(), "{state}");
    let attempt = &state["attempts"][0];
    assert_eq!((&attempt["n"], &attempt["backend"], &attempt["model"]), (&json!(1), &json!("mock"), &json!("words")));
    assert!(state.get("error").is_none(), "{state}");
    let last = gateway.whole(&id).await.last().expect("an end").id.clone();
    assert_eq!(state["cursor"].to_string(), last);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_and_the_end_of_a_failed_stream_say_what_went_wrong() {
    let gateway = TestGateway::start().await;
    let refusal =
        json!({ "kind": "error", "status": 429, "code": "slow_down", "message": "not so fast", "retry_after": "7s" });
    for (fault, text_so_far, code, retryable) in [
        (refusal, "", "upstream_refused", true),
        (json!({ "kind": "error", "status": 400 }), "", "upstream_refused", false),
        (json!({ "kind": "error", "after": 1 }), "one", "upstream_failed", true),
        (json!({ "kind": "close", "after": 2 }), "one two", "upstream_truncated", true),
        (json!({ "kind": "reset", "after": 2 }), "one two", "upstream_truncated", true),
    ] {
        let id = gateway.say("one two three", json!({ "fault": fault })).await;
        let state = reached(&gateway, &id, "failed").await;
        assert_eq!(state["text"], text_so_far);
        let error = &state["error"];
        assert_eq!((&error["code"], &error["retryable"]), (&json!(code), &json!(retryable)), "{fault}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(state["ended_at"].is_string() && state.get("reason").is_none(), "{state}");
        if fault["code"].is_string() {
            assert_eq!((&error["type"], &error["upstream_status"]), (&json!("slow_down"), &json!(429)));
            assert_eq!(error["retry_after"], 7000);
            assert!(error["message"].as_str().is_some_and(|message| message.contains("not so fast")));
        }
        let events = gateway.whole(&id).await;
        assert_eq!((text(&events).as_str(), &only(&events, "end")["error"]), (text_so_far, error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_at_once_keeps_what_was_said_and_can_be_repeated() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three", stalls()).await;
    let mut reader = gateway.events(&id, None).await;
    read_to(&mut reader, "two").await;
    let began = Instant::now();
    let response = cancel(&gateway, &id).await;
    assert_eq!((response.status, response.header("x-stream-id")), (200, Some(&*id)));
    let state = response.json().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((&state["status"], &state["text"]), (&json!("cancelled"), &json!("one two")));
    assert!(state["ended_at"].is_string() && state.get("error").is_none(), "{state}");
    let rest = events_of(reader).await;
    assert_eq!(rest.last().map(|event| event.name.as_str()), Some("end"));
    assert_eq!(only(&rest, "end"), json!({ "status": "cancelled" }));
    for _ in 0..2 {
        assert_eq!(cancel(&gateway, &id).await.json().await, state, "again");
    }
    assert_eq!(gateway.state(&id).await, state);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_changes_nothing_of_what_has_ended() {
    let gateway = TestGateway::start().await;
    for (options, status) in [(json!({}), "completed"), (json!({ "fault": { "kind": "close" } }), "failed")] {
        let id = gateway.say("one two", options).await;
        let state = reached(&gateway, &id, status).await;
        assert_eq!(cancel(&gateway, &id).await.json().await, state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_before_the_first_word_is_an_end_too() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one", json!({ "first": "1h" })).await;
    let reader = gateway.events(&id, None).await;
    cancel(&gateway, &id).await;
    let events = events_of(reader).await;
    assert_eq!((text(&events).as_str(), &only(&events, "end")["status"]), ("", &json!("cancelled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_gone_and_its_readers_are_told() {
    let gateway = TestGateway::start().await;
    let running = gateway.say("one two three", stalls()).await;
    let mut reader = gateway.events(&running, None).await;
    read_to(&mut reader, "two").await;
    let finished = gateway.say("one", json!({})).await;
    reached(&gateway, &finished, "completed").await;
    for id in [&running, &finished] {
        let path = format!("/v1/streams/{id}");
        let response = gateway.send("DELETE", &path, &[], "").await;
        assert_eq!((response.status, response.header("x-stream-id")), (204, Some(&**id)));
        for (method, path) in [
            ("GET", path.clone()),
            ("GET", format!("{path}/events")),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/cancel")),
        ] {
            problem(gateway.send(method, &path, &[], "").await, 404, "stream_not_found").await;
        }
    }
    assert_eq!(only(&events_of(reader).await, "end")["status"], "cancelled");
    assert!(list(&gateway).await.is_empty());
    until(async || gateway.get("/metrics", &[]).await.text().await.contains("\nlastword_streams_running 0\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_frees_the_idempotency_key() {
    let gateway = TestGateway::start().await;
    let body = json!({ "prompt": "one", "model": "mock/echo", "backend_options": { "delay": "0ms" } }).to_string();
    let post = async || gateway.send("POST", "/v1/streams", &[("idempotency-key", "k")], &body).await;
    let id = post().await.header("x-stream-id").expect("an id").to_owned();
    gateway.send("DELETE", &format!("/v1/streams/{id}"), &[], "").await;
    let again = post().await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, None));
    assert_ne!(again.header("x-stream-id"), Some(&*id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_stream_is_gone_and_that_is_said() {
    let gateway = TestGateway::with("[store]\nretain = \"1ms\"\n").await;
    let id = gateway.say("one", json!({})).await;
    let path = format!("/v1/streams/{id}");
    until(async || gateway.get(&path, &[]).await.status == 410).await;
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", format!("{path}/events")),
        ("GET", format!("{path}/events?after=1")),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/cancel")),
    ] {
        let problem = problem(gateway.send(method, &path, &[], "").await, 410, "stream_expired").await;
        assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("retain")), "{problem}");
    }
    assert_eq!(gateway.send("HEAD", &format!("{path}/events"), &[], "").await.status, 410);
    let running = gateway.say("one two three", stalls()).await;
    let later = gateway.say("one", json!({})).await;
    until(async || gateway.get(&format!("/v1/streams/{later}"), &[]).await.status == 410).await;
    assert_eq!(gateway.state(&running).await["status"], "running", "what runs does not expire");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_the_newest_first_and_goes_on_with_next() {
    let gateway = TestGateway::start().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(gateway.say(&n.to_string(), json!({})).await);
    }
    ids.reverse();
    let (mut seen, mut pages) = (Vec::new(), Vec::new());
    let mut next = "/v1/streams?limit=3".to_owned();
    loop {
        let page = gateway.get(&next, &[]).await.json().await;
        let streams = page["streams"].as_array().expect("a list");
        pages.push(streams.len());
        seen.extend(streams.iter().map(|stream| stream["id"].as_str().expect("an id").to_owned()));
        match page["next"].as_str() {
            Some(path) => next = path.to_owned(),
            None => break,
        }
    }
    assert_eq!((seen, pages), (ids.clone(), vec![3, 3, 1]));
    let before = gateway.get(&format!("/v1/streams?before={}", ids[4]), &[]).await.json().await;
    assert_eq!(before["streams"].as_array().map(Vec::len), Some(2));
    let exact = gateway.get("/v1/streams?limit=7", &[]).await.json().await;
    assert_eq!((exact["streams"].as_array().map(Vec::len), &exact["next"]), (Some(7), &Value::Null));
    for _ in 0..20 {
        gateway.say("x", json!({})).await;
    }
    let unasked = gateway.get("/v1/streams", &[]).await.json().await;
    assert_eq!(unasked["streams"].as_array().map(Vec::len), Some(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_tells_how_each_stands_and_not_what_it_said() {
    let gateway = TestGateway::start().await;
    let running = gateway.say("kestrel kestrel kestrel", stalls()).await;
    let failed = gateway.say("kestrel", json!({ "fault": { "kind": "close", "after": 1 } })).await;
    reached(&gateway, &failed, "failed").await;
    said(&gateway, &running, "kestrel kestrel").await;
    let list = gateway.get("/v1/streams", &[]).await.text().await;
    assert!(!list.contains("kestrel"), "{list}");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let [first, second] = list["streams"].as_array().expect("a list").as_slice() else { panic!("two: {list}") };
    assert_eq!((&first["id"], &first["status"]), (&json!(failed), &json!("failed")));
    assert_eq!(first["error"]["code"], "upstream_truncated");
    assert_eq!((&second["id"], &second["status"]), (&json!(running), &json!("running")));
    assert_eq!(second["cursor"], gateway.state(&running).await["cursor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_comes_back_to_the_letter() {
    let gateway = TestGateway::start().await;
    let metadata =
        r#"{"b": 1,  "a": 1.0, "big": 12345678901234567890123, "e": 1E+2, "u": "\u00e9\/é", "n": null, "b": 2}"#;
    let body = format!(r#"{{"prompt":"x","model":"mock/echo","metadata":{metadata}}}"#);
    let response = gateway.send("POST", "/v1/streams", &[], &body).await;
    let path = response.header("location").expect("a place").to_owned();
    for text in [
        response.text().await,
        gateway.get(&path, &[]).await.text().await,
        gateway.get("/v1/streams", &[]).await.text().await,
    ] {
        assert!(text.contains(metadata), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_about_a_stream_names_it() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one", json!({})).await;
    reached(&gateway, &id, "completed").await;
    let path = format!("/v1/streams/{id}");
    let last = gateway.whole(&id).await.last().expect("an end").id.clone();
    for (method, path) in [
        ("GET", path.clone()),
        ("HEAD", path.clone()),
        ("GET", format!("{path}/events")),
        ("GET", format!("{path}/events?after={last}")),
        ("HEAD", format!("{path}/events")),
        ("POST", format!("{path}/cancel")),
        ("DELETE", path.clone()),
    ] {
        let response = gateway.send(method, &path, &[], "").await;
        assert_eq!(response.header("x-stream-id"), Some(&*id), "{method} {path}");
    }
}
