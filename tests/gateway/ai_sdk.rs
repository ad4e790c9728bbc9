//! `/api/chat`, as pages with the AI SDK meet it: sentence by sentence, over sockets.

use serde_json::{Value, json};

use crate::common::{Body, Ending, Response, TestGateway, soon, sse};

/// What `useChat` sends, with what the mock shall do.
fn asked(chat: &str, options: Value) -> Value {
    let mut options = options;
    options["delay"] = options.get("delay").cloned().unwrap_or_else(|| "0ms".into());
    let message = json!({ "id": "m1", "role": "user", "parts": [{ "type": "text", "text": "say it" }] });
    json!({
        "id": chat, "messages": [message], "trigger": "submit-message",
        "model": "mock/words", "backend_options": options,
    })
}

async fn post(gateway: &TestGateway, body: &Value) -> Response {
    gateway.send("POST", "/api/chat", &[("content-type", "application/json")], &body.to_string()).await
}

async fn resume(gateway: &TestGateway, chat: &str, query: &str) -> Response {
    gateway.get(&format!("/api/chat/{chat}/stream{query}"), &[]).await
}

/// A body to its proper end.
async fn rest(body: Body) -> String {
    let (bytes, ending) = soon(body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    String::from_utf8(bytes).expect("UTF-8")
}

/// The chunks in a body, which `[DONE]` must end.
fn chunks(body: &str) -> Vec<Value> {
    let mut data: Vec<_> = sse::read(body.as_bytes()).events.into_iter().map(|event| event.data).collect();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"), "{body}");
    data.iter().map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn text(chunks: &[Value]) -> String {
    chunks
        .iter()
        .filter(|chunk| chunk["type"] == "text-delta")
        .map(|chunk| chunk["delta"].as_str().expect("text"))
        .collect()
}

fn run_of(response: &Response) -> String {
    let id = response.header("x-stream-id").expect("a stream's id").to_owned();
    for name in ["x-workflow-run-id", "x-resumable-stream-id"] {
        assert_eq!(response.header(name), Some(&*id), "{name}");
    }
    assert_eq!(response.header("x-vercel-ai-ui-message-stream"), Some("v1"));
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    id
}

/// Waits until so much of a body has come.
async fn until(body: &mut Body, words: &str) -> String {
    let mut got = String::new();
    while !got.contains(words) {
        got += &String::from_utf8(soon(body.next()).await.expect("more")).expect("UTF-8");
    }
    got
}

#[tokio::test]
async fn an_answer_is_told_in_chunks_and_is_the_streams() {
    let gateway = TestGateway::start().await;
    let options = json!({ "text": "The river runs.", "reasoning": "hm", "tool_call": { "name": "look", "arguments": { "at": 1 } } });
    let response = post(&gateway, &asked("c", options)).await;
    let id = run_of(&response);
    let chunks = chunks(&rest(response.body).await);
    let types: Vec<_> = chunks.iter().map(|chunk| chunk["type"].as_str().expect("a type")).collect();
    assert_eq!(types[..3], ["start", "start-step", "reasoning-start"]);
    assert_eq!(types[types.len() - 3..], ["tool-input-available", "finish-step", "finish"]);
    assert_eq!(chunks[0], json!({ "type": "start", "messageId": id }));
    assert_eq!(text(&chunks), "The river runs.");
    assert_eq!(chunks[chunks.len() - 3]["input"], json!({ "at": 1 }));
    assert_eq!(gateway.state(&id).await["text"], "The river runs.");
}

#[tokio::test]
async fn after_a_reload_the_running_answer_is_told_from_its_start_and_then_there_is_none() {
    let gateway = TestGateway::start().await;
    assert_eq!(resume(&gateway, "tab", "").await.status, 204, "nothing was asked yet");
    let asked = asked("tab", json!({ "text": "one two three four", "delay": "20ms" }));
    let mut first = post(&gateway, &asked).await;
    let run = run_of(&first);
    let seen = until(&mut first.body, "two").await;
    let again = resume(&gateway, "tab", "").await;
    assert_eq!(run_of(&again), run);
    drop(first);
    let whole = rest(again.body).await;
    assert!(whole.contains(seen.split("\n\n").next().expect("a frame").lines().next().expect("a line")), "{whole}");
    assert_eq!(
        (text(&chunks(&whole)), &chunks(&whole)[0]["messageId"]),
        ("one two three four".to_owned(), &json!(run))
    );
    assert_eq!(resume(&gateway, "tab", "").await.status, 204);
    assert_eq!(resume(&gateway, "other", "").await.status, 204);
}

#[tokio::test]
async fn behind_any_number_of_chunks_the_rest_is_told() {
    let gateway = TestGateway::start().await;
    let options = json!({ "text": "one two three", "reasoning": "hm hm", "tool_call": { "name": "look", "arguments": { "at": 1 } } });
    let response = post(&gateway, &asked("", options)).await;
    let run = run_of(&response);
    let all = chunks(&rest(response.body).await);
    for seen in 0..=all.len() {
        let body = rest(resume(&gateway, &run, &format!("?startIndex={seen}")).await.body).await;
        assert_eq!(chunks(&body), all[seen..], "behind {seen}");
    }
    for last in [1, 3, all.len() + 5] {
        let response = resume(&gateway, &run, &format!("?startIndex=-{last}")).await;
        let tail = (all.len() - 1).to_string();
        assert_eq!(response.header("x-workflow-stream-tail-index"), Some(&*tail));
        assert_eq!(chunks(&rest(response.body).await), all[all.len().saturating_sub(last)..], "the last {last}");
    }
    for (wrong, words) in [(&*format!("{}", all.len() + 1), "so far"), ("x", "whole number")] {
        let response = resume(&gateway, &run, &format!("?startIndex={wrong}")).await;
        assert_eq!(response.status, 400);
        let problem = response.json().await;
        assert_eq!(problem["field"], "startIndex");
        assert!(problem["detail"].as_str().expect("a detail").contains(words), "{problem}");
    }
}

#[tokio::test]
async fn a_cut_anywhere_is_mended_by_the_number_of_chunks() {
    let gateway = TestGateway::start().await;
    let response = post(&gateway, &asked("", json!({ "text": "The \"river\"\nruns 🦀.", "reasoning": "é" }))).await;
    let run = run_of(&response);
    let whole = rest(response.body).await;
    let all = chunks(&whole);
    for cut in 0..whole.len() {
        // What a parser has of it: the events that are whole.
        let seen = sse::read(&whole.as_bytes()[..cut]).events.len().min(all.len());
        let body = rest(resume(&gateway, &run, &format!("?startIndex={seen}")).await.body).await;
        assert_eq!(chunks(&body), all[seen..], "cut at {cut}");
    }
}

#[tokio::test]
async fn stop_stops_it_and_nothing_is_left_to_resume() {
    let gateway = TestGateway::start().await;
    for (chat, method, path) in
        [("a", "POST", "/api/chat/a/stop"), ("b", "DELETE", "/api/chat/b/stream"), ("c", "POST", "/api/chat/c/cancel")]
    {
        let mut response =
            post(&gateway, &asked(chat, json!({ "text": "on and on", "repeat": 9999, "delay": "5ms" }))).await;
        let id = run_of(&response);
        let begun = until(&mut response.body, "and").await;
        assert_eq!(gateway.send(method, path, &[], "").await.status, 204);
        let told = begun + &rest(response.body).await;
        let last: Vec<_> = chunks(&told).iter().rev().take(2).map(|chunk| chunk["type"].clone()).collect();
        assert_eq!(last, ["finish", "abort"]);
        assert_eq!(gateway.state(&id).await["status"], "cancelled");
        assert_eq!(resume(&gateway, chat, "").await.status, 204);
        assert_eq!(gateway.send(method, path, &[], "").await.status, 204, "again");
    }
}

#[tokio::test]
async fn hanging_up_is_not_stopping_unless_the_page_says_so() {
    let gateway = TestGateway::start().await;
    let mut asked = asked("quiet", json!({ "text": "one two three four", "delay": "10ms" }));
    let mut response = post(&gateway, &asked).await;
    let id = run_of(&response);
    until(&mut response.body, "one").await;
    drop(response);
    gateway.whole(&id).await;
    assert_eq!(gateway.state(&id).await["status"], "completed");
    asked["on_disconnect"] = "cancel".into();
    asked["backend_options"]["repeat"] = 999.into();
    let mut response = post(&gateway, &asked).await;
    let id = run_of(&response);
    until(&mut response.body, "one").await;
    drop(response);
    soon(async {
        while gateway.state(&id).await["status"] == "running" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gateway.state(&id).await["status"], "cancelled");
}

#[tokio::test]
async fn the_newest_answer_of_a_chat_is_the_one_that_is_resumed() {
    let gateway = TestGateway::start().await;
    let slow = json!({ "text": "on and on", "repeat": 9999, "delay": "5ms" });
    let first = run_of(&post(&gateway, &asked("c", slow.clone())).await);
    let second = run_of(&post(&gateway, &asked("c", slow)).await);
    assert_eq!(run_of(&resume(&gateway, "c", "").await), second);
    assert_eq!(run_of(&resume(&gateway, &first, "").await), first, "by its own id the other one is found too");
}

#[tokio::test]
async fn a_failure_is_told_in_the_stream_and_a_bad_request_before_it() {
    let gateway = TestGateway::start().await;
    let fault = json!({ "text": "one two", "fault": { "kind": "error", "after": 1, "message": "out of tea" } });
    let told = chunks(&rest(post(&gateway, &asked("", fault)).await.body).await);
    let [error, finish] = &told[told.len() - 2..] else { panic!("two chunks") };
    assert!(error["errorText"].as_str().expect("words").contains("out of tea"), "{error}");
    assert_eq!((&error["type"], finish), (&json!("error"), &json!({ "type": "finish" })));
    let response = post(&gateway, &json!({ "id": "c", "messages": [{ "role": "user" }] })).await;
    assert_eq!(response.status, 400);
    assert_eq!(response.json().await["field"], "messages[0].parts");
}

#[tokio::test]
async fn an_answer_to_a_tools_result_goes_on_with_the_same_message() {
    let gateway = TestGateway::with("[server]\nai_sdk = 6\n").await;
    let tool =
        json!({ "type": "tool-look", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 7 });
    let mut asked = asked("c", json!({ "text": "Seven." }));
    asked["messages"].as_array_mut().expect("a list").push(json!({ "id": "m2", "role": "assistant", "parts": [tool] }));
    let told = chunks(&rest(post(&gateway, &asked).await.body).await);
    assert_eq!(told[0]["messageId"], "m2");
    assert_eq!(told[told.len() - 1]["finishReason"], "stop");
}

#[tokio::test]
async fn the_grace_of_a_chat_outlives_a_reload_of_its_page() {
    let gateway = TestGateway::start().await;
    let mut asked = asked("c", json!({ "text": "on and on", "repeat": 9999, "delay": "5ms" }));
    asked["on_disconnect"] = json!({ "cancel_after": "400ms" });
    let mut page = post(&gateway, &asked).await;
    let id = run_of(&page);
    for _ in 0..3 {
        until(&mut page.body, "and").await;
        drop(page);
        page = resume(&gateway, "c", "").await; // reloaded: it is back before the grace is over
        assert_eq!((page.status, run_of(&page)), (200, id.clone()));
    }
    until(&mut page.body, "and").await;
    drop(page);
    soon(async {
        while gateway.state(&id).await["status"] == "running" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gateway.state(&id).await["status"], "cancelled");
    assert_eq!(resume(&gateway, "c", "").await.status, 204);
}
