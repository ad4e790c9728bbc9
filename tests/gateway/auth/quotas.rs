//! What a key may have: at the limit it is told which, its value, and when there is more; another key is not touched.

use serde_json::{Value, json};

use super::{House, field, refused};
use crate::common::{Response, TestGateway, let_go, soon};

async fn post(house: &House, bearer: &str, options: Value) -> Response {
    let asked = json!({ "prompt": "one two three", "model": "mock/words", "backend_options": options });
    house.send(bearer, "POST", "/v1/streams", &asked.to_string()).await
}

fn stalls() -> Value {
    json!({ "text": "one two three", "delay": "0ms", "fault": { "kind": "stall", "after": 2 } })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_at_once() {
    let house = House::with("[limits.per_key]\nrunning = 2\n[limits.keys.bob]\nrunning = 3").await;
    let first = field(&post(&house, &house.ada, stalls()).await.json().await, "id");
    assert_eq!(post(&house, &house.ada, stalls()).await.status, 201);
    let response = post(&house, &house.ada, stalls()).await;
    assert_eq!(response.header("retry-after"), Some("5"));
    let problem = refused(response, 429, "running").await;
    assert!(problem["detail"].as_str().is_some_and(|why| why.starts_with("2 answers at once")), "{problem}");
    for _ in 0..3 {
        assert_eq!(post(&house, &house.bob, stalls()).await.status, 201, "another has its own, and its own limit");
    }
    refused(post(&house, &house.bob, stalls()).await, 429, "running").await;
    // In the words of each surface.
    let messages = json!([{ "role": "user", "content": "x" }]);
    for (path, kind) in [
        ("/v1/chat/completions", "rate_limit_error"),
        ("/v1/messages", "rate_limit_error"),
        ("/v1/responses", "rate_limit_error"),
    ] {
        let asked = json!({ "model": "mock/words", "messages": messages, "input": "x", "max_tokens": 9 }).to_string();
        let response = house.send(&house.ada, "POST", path, &asked).await;
        let (status, wait) = (response.status, response.header("retry-after").map(str::to_owned));
        let error = response.json().await;
        assert_eq!((status, wait.as_deref(), error["error"]["type"].as_str()), (429, Some("5"), Some(kind)), "{error}");
        assert!(error["error"]["message"].as_str().is_some_and(|why| why.contains("2 answers at once")), "{error}");
    }
    // One that ends makes room.
    assert_eq!(house.send(&house.ada, "POST", &format!("/v1/streams/{first}/cancel"), "").await.status, 200);
    soon(async { while post(&house, &house.ada, stalls()).await.status != 201 {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_a_minute() {
    let house = House::with("[limits.per_key]\nrequests_per_minute = 2").await;
    let quick = || json!({ "text": "one", "delay": "0ms" });
    for _ in 0..2 {
        assert_eq!(post(&house, &house.ada, quick()).await.status, 201);
    }
    let response = post(&house, &house.ada, quick()).await;
    let wait: u64 = response.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
    let problem = refused(response, 429, "requests_per_minute").await;
    assert!(problem["detail"].as_str().is_some_and(|why| why.starts_with("2 requests a minute")), "{problem}");
    assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("[limits.per_key]")), "{problem}");
    assert_eq!(post(&house, &house.bob, quick()).await.status, 201);
    assert_eq!(house.send(&house.ada, "GET", "/v1/streams", "").await.status, 200, "to look costs nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_a_day_also_those_of_before_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = [(); 2].map(|()| lastword::auth::new_key().expect("chance"));
    let config = format!(
        "[limits.per_key]\ntokens_per_day = 20\n{}{}",
        super::section("ada", &keys[0]),
        super::section("bob", &keys[1])
    );
    let open = async || {
        let gateway = TestGateway::on_disk_with(&config, folder.path()).await;
        House { gateway, ada: format!("Bearer {}", keys[0]), bob: format!("Bearer {}", keys[1]) }
    };
    let house = open().await;
    let says = |words: usize| json!({ "text": "word ".repeat(words).trim_end(), "delay": "0ms" });
    let whole = async |house: &House, bearer: &str, words| {
        let id = field(&post(house, bearer, says(words)).await.json().await, "id");
        let path = format!("/v1/streams/{id}");
        loop {
            let state = house.send(bearer, "GET", &path, "").await.json().await;
            if state["status"] != "running" {
                return state;
            }
        }
    };
    // Three of the prompt, nine of the answer.
    let state = whole(&house, &house.ada, 9).await;
    assert_eq!(
        (&state["status"], &state["usage"]),
        (&json!("completed"), &json!({ "input_tokens": 3, "output_tokens": 9 }))
    );
    // The next one is stopped in the middle.
    let state = whole(&house, &house.ada, 500).await;
    assert_eq!((&state["status"], &state["reason"]), (&json!("failed"), &json!("budget")));
    assert_eq!(state["error"]["code"], "tokens_per_day");
    let said = state["text"].as_str().expect("a text").split(' ').filter(|word| !word.is_empty()).count();
    assert!((1..=20).contains(&said), "{state}");
    for (bearer, status) in [(&house.ada, 429), (&house.bob, 201)] {
        assert_eq!(post(&house, bearer, says(1)).await.status, status);
    }
    house.gateway.drain().await;
    let_go(&folder.path().join("base.redb")).await;

    let house = open().await;
    // What the one that was stopped had used, its upstream did not say.
    let state = whole(&house, &house.ada, 500).await;
    assert_eq!(state["error"]["code"], "tokens_per_day");
    let response = post(&house, &house.ada, says(1)).await;
    let wait: u64 = response.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=24 * 3600).contains(&wait), "until midnight: {wait}");
    let problem = refused(response, 429, "tokens_per_day").await;
    assert!(problem["detail"].as_str().is_some_and(|why| why.contains("all 20 tokens")), "{problem}");
    let state = whole(&house, &house.bob, 3).await;
    assert_eq!(state["status"], "completed", "another has its own");
}
