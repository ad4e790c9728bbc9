//! `/v1/models`, `/healthz`, `/readyz`, `/metrics`

use serde_json::json;

use super::{problem, reached, read_to, stalls};
use crate::common::{Ending, TestGateway, soon};

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_what_can_be_asked_for_and_the_default() {
    let gateway = TestGateway::with(
        "default_model = \"fast\"\n[backends.mock]\nkind = \"mock\"\n[models.fast]\nroute = [\"mock/words\"]\n",
    )
    .await;
    let list = gateway.get("/v1/models", &[]).await.json().await;
    assert_eq!((&list["object"], &list["default"]), (&json!("list"), &json!("fast")));
    let models: Vec<_> = list["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(models, ["fast", "mock/words", "mock/echo"]);
    for model in &models {
        let asked = json!({ "prompt": "x", "model": model });
        assert_eq!(gateway.send("POST", "/v1/streams", &[], &asked.to_string()).await.status, 201, "{model}");
    }
    let id = gateway.create(&json!({ "prompt": "x" })).await;
    assert_eq!(gateway.state(&id).await["model"], "fast");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lives_and_is_ready_until_it_drains() {
    let gateway = TestGateway::start().await;
    assert_eq!((gateway.get("/healthz", &[]).await.status, gateway.get("/readyz", &[]).await.status), (200, 200));
    let id = gateway.say("one two three", stalls()).await;
    gateway.server().gateway().refuse_new();
    assert_eq!(gateway.get("/healthz", &[]).await.status, 200);
    let response = gateway.get("/readyz", &[]).await;
    assert!(response.header("retry-after").is_some());
    problem(response, 503, "not_ready").await;
    let response = gateway.send("POST", "/v1/streams", &[], r#"{"prompt":"x","model":"mock/echo"}"#).await;
    assert!(response.header("retry-after").is_some());
    problem(response, 503, "draining").await;
    assert_eq!(gateway.state(&id).await["status"], "running", "what runs is still served");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_answers_run_than_may() {
    let gateway = TestGateway::with("[limits]\nrunning_streams = 1\n").await;
    let first = json!({ "prompt": "x", "model": "mock/words", "backend_options": stalls() }).to_string();
    let key = [("idempotency-key", "k")];
    let id =
        gateway.send("POST", "/v1/streams", &key, &first).await.json().await["id"].as_str().expect("an id").to_owned();
    let response = gateway.send("POST", "/v1/streams", &[], &first).await;
    assert!(response.header("retry-after").is_some());
    problem(response, 503, "too_many_streams").await;
    assert_eq!(gateway.send("POST", "/v1/streams", &key, &first).await.status, 201, "a repeated request needs no room");
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    super::until(async || gateway.send("POST", "/v1/streams", &[], &first).await.status == 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted_under_the_names_of_the_contract() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two", json!({})).await;
    reached(&gateway, &id, "completed").await;
    gateway.whole(&id).await;
    super::events_of(gateway.events(&id, Some("2")).await).await;
    super::events_of(gateway.events(&id, Some("999")).await).await;
    super::events_of(gateway.events(&id, Some("x")).await).await;
    let running = gateway.say("one two three", stalls()).await;
    let mut reader = gateway.events(&running, None).await;
    super::read_to(&mut reader, "two").await;
    let response = gateway.get("/metrics", &[]).await;
    assert_eq!(response.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let metrics = response.text().await;
    for line in [
        "lastword_streams_running 1\n",
        "lastword_streams_ended_total{status=\"completed\",reason=\"stop\",protocol=\"native\",backend=\"mock\"} 1\n",
        "lastword_readers 1\n",
        "lastword_resumes_total 1\n",
        "lastword_resets_total{reason=\"ahead\"} 1\n",
        "lastword_resets_total{reason=\"unknown\"} 1\n",
        "lastword_upstream_truncated_total 0\n",
        "# EOF\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    for name in [
        "lastword_replayed_records_total ",
        "lastword_records_total ",
        "lastword_log_bytes ",
        "lastword_overhead_seconds_count ",
        "lastword_store_commit_seconds_count ",
        "gen_ai_server_time_to_first_token_seconds_count ",
        "gen_ai_server_time_per_output_token_seconds_count ",
        "gen_ai_client_token_usage_count{token_type=\"output\"} ",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name}");
    }
    drop(reader);
    super::until(async || gateway.get("/metrics", &[]).await.text().await.contains("\nlastword_readers 0\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboards_events_are_the_metrics_each_second_and_are_reset_by_a_drain() {
    let gateway = TestGateway::start().await;
    let mut response = gateway.get("/dashboard/events", &[("accept", "text/event-stream")]).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    let first = read_to(&mut response, "\n\n").await;
    let data = first.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!((&data["lastword_readers"], &data["lastword_records_total"]), (&json!(0.0), &json!(0.0)));
    assert!(first.contains("\nretry: "), "{first}");
    read_to(&mut response, "\n\n").await; // another
    let draining = tokio::spawn(gateway.drain());
    let ending = soon(async {
        loop {
            if let Err(ending) = response.body.next().await {
                break ending;
            }
        }
    })
    .await;
    assert_eq!(ending, Ending::Reset, "there is more, elsewhere");
    soon(draining).await.expect("drained");
}
