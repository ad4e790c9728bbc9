//! `POST /v1/streams`

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{EVENTS, events_of, list, problem, reached, read_to, stalls, text_of};
use crate::common::{TestGateway, http::raw, only, soon, sse, text};

const URL: &str = "/v1/streams";

async fn post(gateway: &TestGateway, headers: &[(&str, &str)], body: &Value) -> crate::common::Response {
    gateway.send("POST", URL, headers, &body.to_string()).await
}

fn words(text: &str, options: Value) -> Value {
    let mut options = options;
    options["text"] = text.into();
    options["delay"] = "0ms".into();
    json!({ "prompt": "say it", "model": "mock/words", "backend_options": options })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_messages_and_plain_text_are_understood_with_any_content_type_or_none() {
    let gateway = TestGateway::with("default_model = \"mock/echo\"").await;
    let prompt = json!({ "prompt": "the river", "backend_options": { "delay": "0ms" } }).to_string();
    let messages = json!({
        "messages": [{ "role": "user", "content": "no" }, { "role": "assistant", "content": "no" }, { "role": "user", "content": "the river" }],
        "system": "be brief"
    });
    let messages = messages.to_string();
    for (kind, body) in [
        (None, prompt.as_str()),
        (Some("application/json"), &prompt),
        (Some("application/json; charset=utf-8"), &prompt),
        (Some("application/x-www-form-urlencoded"), &prompt),
        (Some("rubbish"), &prompt),
        (None, &messages),
        (Some("text/plain"), "the river"),
        (Some("Text/Plain; charset=utf-8"), "the river"),
    ] {
        let headers: Vec<_> = kind.map(|kind| ("content-type", kind)).into_iter().collect();
        let response = gateway.send("POST", URL, &headers, body).await;
        assert_eq!(response.status, 201, "{kind:?} {body}");
        let id = response.json().await["id"].as_str().expect("an id").to_owned();
        assert_eq!(text(&gateway.whole(&id).await), "the river", "{kind:?} {body}");
    }
    // What browsers call text when nobody says otherwise.
    let response = gateway.send("POST", URL, &[("content-type", "text/plain;charset=UTF-8")], &prompt).await;
    assert_eq!(super::problem(response, 400, "bad_request").await["field"], "Content-Type");
    let braces = "{ is a brace, and so is }";
    let response = gateway.send("POST", URL, &[("content-type", "text/plain"), EVENTS], braces).await;
    assert_eq!(text(&events_of(response).await), braces);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up() {
    let gateway = TestGateway::with("[server]\nbody_timeout = \"20ms\"").await;
    let head = "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"prompt\":";
    let response = soon(raw(gateway.address(), head.as_bytes(), false)).await.expect("a response");
    problem(response, 408, "body_timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_small() {
    let gateway = TestGateway::start().await;
    let mut body = words("one", json!({}));
    body["metadata"] = json!({ "label": "x".repeat(17 * 1024) });
    let problem = problem(post(&gateway, &[], &body).await, 400, "bad_request").await;
    assert_eq!(problem["field"], "metadata");
    assert!(list(&gateway).await.is_empty());
}

/// What was paid for or stopped is not generated again.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_kept_by_what_was_cancelled_before_its_first_word() {
    let gateway = TestGateway::start().await;
    let (key, body) = (("idempotency-key", "k"), words("one", json!({ "fault": { "kind": "stall" } })));
    let first = post(&gateway, &[key], &body).await;
    let id = first.header("x-stream-id").expect("an id").to_owned();
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    let again = post(&gateway, &[key], &body).await;
    assert_eq!(again.header("x-stream-id"), Some(id.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_stream_says_where_it_is() {
    let gateway = TestGateway::start().await;
    let mut asked = words("one two three", stalls());
    asked["metadata"] = json!({ "chat": 7 });
    let response = post(&gateway, &[], &asked).await;
    assert_eq!((response.status, response.header("content-type")), (201, Some("application/json")));
    let (location, named) =
        (response.header("location").map(str::to_owned), response.header("x-stream-id").map(str::to_owned));
    let state = response.json().await;
    let id = state["id"].as_str().expect("an id");
    assert_eq!((location, named.as_deref()), (Some(format!("/v1/streams/{id}")), Some(id)));
    assert_eq!(state["events_url"], format!("/v1/streams/{id}/events"));
    assert_eq!(
        (&state["status"], &state["model"], &state["backend"]),
        (&json!("running"), &json!("mock/words"), &json!("mock"))
    );
    assert_eq!(state["metadata"], json!({ "chat": 7 }));
    assert!(state["created_at"].as_str().is_some_and(|at| at.ends_with('Z') && at.contains('T')), "{state}");
    assert!(state.get("ended_at").is_none() && state.get("error").is_none());
    assert_eq!(gateway.get(&format!("/v1/streams/{id}"), &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_events_gets_them_in_the_same_response_with_long_ids() {
    let gateway = TestGateway::start().await;
    for accept in ["text/event-stream", "application/json, text/event-stream;q=0.9", "TEXT/Event-Stream"] {
        let response = post(&gateway, &[("accept", accept)], &words("one two", json!({}))).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")), "{accept}");
        let id = response.header("x-stream-id").expect("an id").to_owned();
        assert_eq!(response.header("location"), Some(&*format!("/v1/streams/{id}")));
        let events = events_of(response).await;
        assert_eq!(text(&events), "one two");
        assert_eq!(only(&events, "start")["id"], id);
        assert_eq!(only(&events, "end")["status"], "completed");
        for event in &events {
            let (stream, n) = event.id.split_once('-').expect("a long id");
            assert_eq!((stream, n.parse::<u64>().is_ok()), (&*id, true));
        }
        // The same events as at the stream's own URL, but for the form of the ids.
        let short: Vec<_> = gateway
            .whole(&id)
            .await
            .into_iter()
            .map(|event| (event.name, event.data, format!("{id}-{}", event.id)))
            .collect();
        assert_eq!(events.into_iter().map(|event| (event.name, event.data, event.id)).collect::<Vec<_>>(), short);
    }
    for accept in ["*/*", "application/json", ""] {
        assert_eq!(post(&gateway, &[("accept", accept)], &words("x", json!({}))).await.status, 201, "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_post_with_a_long_id_goes_on_where_it_was() {
    let gateway = TestGateway::start().await;
    let body = words("one two three four five", json!({}));
    let whole = text_of(post(&gateway, &[EVENTS], &body).await).await;
    let id = sse::read(whole.as_bytes()).cursor.split_once('-').expect("long").0.to_owned();
    for end in whole.match_indices("\n\n").map(|(at, _)| at + 2) {
        let cursor = sse::read(&whole.as_bytes()[..end]).cursor;
        let response = post(&gateway, &[EVENTS, ("last-event-id", &cursor)], &body).await;
        assert_eq!(response.header("x-stream-id"), Some(&*id));
        assert_eq!(response.header("location"), Some(&*format!("/v1/streams/{id}")));
        if end == whole.len() {
            assert_eq!(response.status, 204, "it has seen the end");
            continue;
        }
        let rest = text_of(response).await;
        assert_eq!(sse::read(rest.as_bytes()).events, sse::read(&whole.as_bytes()[end..]).events, "{cursor}");
    }
    assert_eq!(list(&gateway).await, [&*id], "nothing was generated again");
    let unknown = format!("{}-3", "0".repeat(32));
    problem(post(&gateway, &[EVENTS, ("last-event-id", &unknown)], &body).await, 404, "stream_not_found").await;
    assert_eq!(list(&gateway).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_post_that_does_not_name_its_stream_is_never_a_second_answer() {
    let gateway = TestGateway::start().await;
    let body = words("one two three", json!({}));
    for cursor in ["2", "0", "rubbish", "é"] {
        for headers in [vec![EVENTS], vec![], vec![EVENTS, ("idempotency-key", "never used")]] {
            let headers: Vec<_> = headers.into_iter().chain([("last-event-id", cursor)]).collect();
            let problem = problem(post(&gateway, &headers, &body).await, 409, "which_stream").await;
            assert_eq!(problem["field"], "Last-Event-ID");
            assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("Idempotency-Key")));
        }
    }
    assert_eq!(list(&gateway).await, Vec::<String>::new());
    let whole = events_of(post(&gateway, &[EVENTS, ("idempotency-key", "k")], &body).await).await;
    let (key, at) = (("idempotency-key", "k"), whole[1].id.rsplit_once('-').expect("long").1);
    let rest = events_of(post(&gateway, &[EVENTS, key, ("last-event-id", at)], &body).await).await;
    assert_eq!(rest, whole[2..]);
    let response = post(&gateway, &[EVENTS, key, ("last-event-id", "999")], &body).await;
    assert_eq!(only(&events_of(response).await, "reset")["reason"], "ahead");
    assert_eq!(list(&gateway).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_last_event_id_is_none() {
    let gateway = TestGateway::start().await;
    let response = post(&gateway, &[EVENTS, ("last-event-id", "")], &words("one", json!({}))).await;
    assert_eq!(events_of(response).await[0].name, "start");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_is_the_same_stream() {
    let gateway = TestGateway::start().await;
    let (key, body) = (("idempotency-key", "6f1c"), words("one two", json!({})));
    let first = post(&gateway, &[key], &body).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
    let id = first.json().await["id"].as_str().expect("an id").to_owned();
    reached(&gateway, &id, "completed").await;
    let again = post(&gateway, &[key], &body).await;
    assert_eq!((again.header("x-stream-id"), again.header("idempotent-replayed")), (Some(&*id), Some("true")));
    assert_eq!(again.header("location"), Some(&*format!("/v1/streams/{id}")));
    assert_eq!(again.json().await["status"], "completed");
    let events = events_of(post(&gateway, &[key, EVENTS], &body).await).await;
    assert_eq!((events[0].name.as_str(), text(&events).as_str()), ("start", "one two"), "all of it");
    assert_eq!(list(&gateway).await, [&*id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_with_one_key_are_one_stream() {
    let gateway = TestGateway::start().await;
    let body = words("one two three", json!({}));
    let posts =
        (0..20).map(|_| async { events_of(post(&gateway, &[("idempotency-key", "k"), EVENTS], &body).await).await });
    let answers = join_all(posts).await;
    assert_eq!(list(&gateway).await.len(), 1);
    assert!(answers.iter().all(|events| *events == answers[0]), "{answers:?}");
    assert_eq!(text(&answers[0]), "one two three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused() {
    let gateway = TestGateway::start().await;
    let key = ("idempotency-key", "k");
    post(&gateway, &[key], &words("one", json!({}))).await;
    let other = post(&gateway, &[key], &words("two", json!({}))).await;
    let problem = problem(other, 422, "idempotency_key_reused").await;
    assert_eq!(problem["field"], "Idempotency-Key");
    // Plain text is another request.
    let bytes = words("one", json!({})).to_string();
    let text = gateway.send("POST", URL, &[key, ("content-type", "text/plain")], &format!("not {bytes}")).await;
    assert_eq!(text.status, 422);
    assert_eq!(list(&gateway).await.len(), 1);
    for bad in ["", &"k".repeat(256), "schlüssel"] {
        let problem = super::problem(
            post(&gateway, &[("idempotency-key", bad)], &words("x", json!({}))).await,
            400,
            "bad_request",
        )
        .await;
        assert_eq!(problem["field"], "Idempotency-Key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_given_back_by_what_failed_before_its_first_content_and_by_nothing_else() {
    let gateway = TestGateway::start().await;
    for (after, streams) in [(0, 2), (1, 1)] {
        let key = format!("after {after}");
        let body = words("one two", json!({ "fault": { "kind": "error", "after": after } }));
        let ids = [(); 2].map(|()| async {
            let response = post(&gateway, &[("idempotency-key", &key)], &body).await;
            let id = response.header("x-stream-id").expect("an id").to_owned();
            assert!(reached(&gateway, &id, "failed").await["error"]["code"].is_string());
            id
        });
        let mut seen = std::collections::BTreeSet::new();
        for id in ids {
            seen.insert(id.await);
        }
        assert_eq!(seen.len(), streams, "after {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_may_say_is_bounded_by_the_request() {
    let gateway = TestGateway::start().await;
    let mut body = words("one two three", json!({}));
    body["max_tokens"] = 2.into();
    let events = events_of(post(&gateway, &[EVENTS], &body).await).await;
    assert_eq!((text(&events).as_str(), &only(&events, "end")["reason"]), ("one two", &json!("length")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_the_request_is_taken() {
    let gateway = TestGateway::start().await;
    let body = json!({
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x" }] }], "system": "s", "model": "mock/echo",
        "max_tokens": 5, "temperature": 0.5, "top_p": 1, "stop": ["END"], "seed": 7, "tools": [], "tool_choice": "auto",
        "response_format": { "type": "text" }, "on_disconnect": { "cancel_after": "30s" }, "metadata": {},
    });
    assert_eq!(post(&gateway, &[], &body).await.status, 201);
    for on_disconnect in [json!("continue"), json!("cancel")] {
        let body = json!({ "prompt": "x", "model": "mock/echo", "on_disconnect": on_disconnect, "stop": "END" });
        assert_eq!(post(&gateway, &[], &body).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_the_answer_to_a_post_stops_it_where_that_was_asked_for() {
    let gateway = TestGateway::start().await;
    let mut body = words("one two three", stalls());
    for (policy, status) in [("cancel", "cancelled"), ("continue", "running")] {
        body["on_disconnect"] = policy.into();
        let mut response = post(&gateway, &[EVENTS], &body).await;
        let id = response.header("x-stream-id").expect("an id").to_owned();
        read_to(&mut response, "two").await;
        drop(response);
        super::until(async || gateway.get("/metrics", &[]).await.text().await.contains("lastword_readers 0\n")).await;
        assert_eq!(reached(&gateway, &id, status).await["text"], "one two");
    }
}
