//! Tickets: one stream, for who has a link and nothing else.

use serde_json::{Value, json};

use super::{EVENTS, House, field, refused, whole};
use crate::common::{Response, TestGateway, let_go, soon};

fn token(url: &str) -> &str {
    url.split_once("?token=").expect("a ticket").1
}

/// A ticket for this.
async fn given(house: &House, id: &str, wanted: Value) -> Value {
    let response = house.send(&house.ada, "POST", &format!("/v1/streams/{id}/tickets"), &wanted.to_string()).await;
    assert_eq!(response.status, 201);
    response.json().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_needs_nothing_but_the_url_and_resumes_by_it() {
    let house = House::new().await;
    let state = house.said(false).await;
    let (id, url) = (field(&state, "id"), field(&state, "events_url"));
    let all = whole(house.gateway.get(&url, &[EVENTS]).await).await;
    assert!(all.contains("one") && all.contains("event: end"), "{all}");
    let start: Value =
        serde_json::from_str(all.lines().find_map(|line| line.strip_prefix("data: ")).expect("data")).expect("JSON");
    assert_eq!(start["events_url"], url, "who has a ticket is given no other");
    let last = all.lines().filter_map(|line| line.strip_prefix("id: ")).rev().nth(1).expect("an id").to_owned();
    let rest = whole(house.gateway.get(&url, &[EVENTS, ("last-event-id", &last)]).await).await;
    assert!(rest.contains("event: end") && !rest.contains("text"), "{rest}");
    let end = all.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().expect("an id");
    assert_eq!(house.gateway.get(&url, &[EVENTS, ("last-event-id", end)]).await.status, 204);
    // And the state, which has the same URL in it.
    let state = house.gateway.get(&format!("/v1/streams/{id}?token={}", token(&url)), &[]).await.json().await;
    assert_eq!((&state["status"], &state["events_url"]), (&json!("completed"), &json!(url)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_good_for_its_stream_and_its_scope_alone() {
    let house = House::new().await;
    let (state, other) = (house.said(true).await, house.said(true).await);
    let (id, other) = (field(&state, "id"), field(&other, "id"));
    let reading = field(&given(&house, &id, json!({})).await, "token");
    let created = token(&field(&state, "events_url")).to_owned();
    for (token, may_cancel) in [(reading, false), (created, true)] {
        let at = |path: &str| format!("{path}{}token={token}", if path.contains('?') { '&' } else { '?' });
        for (method, path) in [
            ("GET", "/v1/streams".to_owned()),
            ("POST", "/v1/streams".to_owned()),
            ("GET", "/v1/models".to_owned()),
            ("GET", "/metrics".to_owned()),
            ("POST", "/v1/session".to_owned()),
            ("GET", format!("/v1/streams/{other}")),
            ("GET", format!("/v1/streams/{other}/events")),
            ("POST", format!("/v1/streams/{other}/cancel")),
            ("DELETE", format!("/v1/streams/{id}")),
            ("POST", format!("/v1/streams/{id}/tickets")),
            ("POST", format!("/v1/streams/{id}/events")),
            ("GET", format!("/v1/streams/{id}/events/more")),
            ("GET", format!("/v1/streams/{id}/../{other}/events")),
            ("GET", format!("/v1/responses/resp_{id}")),
        ] {
            refused(house.gateway.send(method, &at(&path), &[], "").await, 403, "ticket_scope").await;
        }
        let events = house.gateway.get(&at(&format!("/v1/streams/{id}/events?after=1")), &[EVENTS]).await;
        assert_eq!(events.status, 200);
        let cancelled = house.gateway.send("POST", &at(&format!("/v1/streams/{id}/cancel")), &[], "").await;
        assert_eq!(cancelled.status, if may_cancel { 200 } else { 403 });
        let after = house.send(&house.ada, "GET", &format!("/v1/streams/{id}"), "").await.json().await;
        assert_eq!(after["status"], if may_cancel { "cancelled" } else { "running" });
    }
    // Not in a header, not as a cookie: it is no key.
    let token = field(&given(&house, &id, json!({})).await, "token");
    for headers in [("authorization", format!("Bearer {token}")), ("x-api-key", token.clone())] {
        let response = house.gateway.get(&format!("/v1/streams/{id}"), &[(headers.0, &headers.1)]).await;
        refused(response, 401, "unauthenticated").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_expires_cuts_nothing_and_at_the_next_connection_is_denied() {
    let house = House::new().await;
    let id = field(&house.said(true).await, "id");
    let given = given(&house, &id, json!({ "scope": "cancel", "ttl": "1s" })).await;
    assert!(given["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{given}");
    let url = field(&given, "events_url");
    let mut running = house.gateway.get(&url, &[EVENTS]).await;
    assert_eq!(running.status, 200);
    let denied = soon(async {
        loop {
            let body = reads_until_its_end_or_word(house.gateway.get(&url, &[EVENTS]).await).await;
            if body.contains("event: denied") {
                return body;
            }
        }
    })
    .await;
    assert!(denied.contains("retry: 2147483647\n") && denied.contains("\"code\":\"ticket_expired\""), "{denied}");
    assert!(!denied.contains("one") && !denied.contains("id:"), "{denied}");
    // Who can see a status is told by one.
    for (path, headers) in [
        (url.clone(), vec![]),
        (format!("{url}&format=json"), vec![]),
        (format!("/v1/streams/{id}?token={}", token(&url)), vec![EVENTS]),
    ] {
        refused(house.gateway.get(&path, &headers).await, 401, "unauthenticated").await;
    }
    // Expired, and for another stream: nothing is said of it.
    let other = field(&house.said(false).await, "id");
    let elsewhere = format!("/v1/streams/{other}/events?token={}", token(&url));
    refused(house.gateway.get(&elsewhere, &[EVENTS]).await, 403, "ticket_scope").await;
    // The connection that stood then still stands, and gets the end.
    assert_eq!(house.send(&house.ada, "POST", &format!("/v1/streams/{id}/cancel"), "").await.status, 200);
    let mut said = String::new();
    soon(async {
        while let Ok(bytes) = running.body.next().await {
            said += &String::from_utf8_lossy(&bytes);
        }
    })
    .await;
    assert!(said.contains("event: end") && said.contains("cancelled"), "{said}");
}

/// A stalled answer has no end to wait for.
async fn reads_until_its_end_or_word(mut response: Response) -> String {
    let mut said = String::new();
    while let Ok(bytes) = soon(response.body.next()).await {
        said += &String::from_utf8_lossy(&bytes);
        if said.contains("two") {
            break;
        }
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_meant_is_named() {
    let house = House::new().await;
    let path = format!("/v1/streams/{}/tickets", field(&house.said(false).await, "id"));
    for (body, field) in [
        (r#"{"scope":"all"}"#, "scope"),
        (r#"{"ttl":"soon"}"#, "ttl"),
        (r#"{"ttl":"0s"}"#, "ttl"),
        (r#"{"ttl":"10h"}"#, "ttl"),
        (r#"{"ttl":7}"#, "ttl"),
        (r#"{"for":"me"}"#, "for"),
        ("[]", "body"),
        ("{}{}", "body"),
    ] {
        let problem = refused(house.send(&house.ada, "POST", &path, body).await, 400, "bad_request").await;
        assert_eq!(problem["field"], field, "{body}");
    }
}

/// A link that was given out still works after a deploy.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_outlives_the_process_and_not_its_owners_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, other) = (lastword::auth::new_key().expect("chance"), lastword::auth::new_key().expect("chance"));
    let of_ada = super::section("ada", &key);
    let bearer = format!("Bearer {key}");
    let url = {
        let gateway = TestGateway::on_disk_with(&of_ada, folder.path()).await;
        let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
        let state = gateway.send("POST", "/v1/streams", &[("authorization", &bearer)], &asked).await.json().await;
        let url = field(&state, "events_url");
        whole(gateway.get(&url, &[EVENTS]).await).await;
        gateway.drain().await;
        let_go(&folder.path().join("base.redb")).await;
        url
    };
    {
        let gateway = TestGateway::on_disk_with(&of_ada, folder.path()).await;
        assert!(whole(gateway.get(&url, &[EVENTS]).await).await.contains("event: end"));
        gateway.drain().await;
        let_go(&folder.path().join("base.redb")).await;
    }
    let gateway = TestGateway::on_disk_with(&super::section("bob", &other), folder.path()).await;
    refused(gateway.get(&url, &[EVENTS]).await, 401, "unauthenticated").await;
}
