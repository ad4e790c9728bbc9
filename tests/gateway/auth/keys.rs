//! Keys: who shows one is its owner, who shows none gets nothing, and nobody sees what is another's.

use serde_json::json;

use super::{EVENTS, House, field, refused, whole};
use crate::common::soon;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_every_surface_in_either_header_and_nothing_else_does() {
    let house = House::new().await;
    let messages = json!([{ "role": "user", "content": "x" }]);
    let surfaces = [
        ("/v1/streams", json!({ "prompt": "x", "model": "mock/echo" }), "/code"),
        ("/v1/chat/completions", json!({ "messages": messages, "model": "mock/echo" }), "/error/type"),
        ("/v1/responses", json!({ "input": "x", "model": "mock/echo" }), "/error/type"),
        ("/v1/messages", json!({ "messages": messages, "model": "mock/echo", "max_tokens": 9 }), "/error/type"),
    ];
    let bare = house.ada.strip_prefix("Bearer ").expect("a bearer");
    let wrong = house.ada[..house.ada.len() - 1].to_owned();
    for (path, asked, word) in &surfaces {
        let asked = asked.to_string();
        for header in
            [("authorization", &*house.ada), ("authorization", &format!("bearer  {bare}")), ("x-api-key", bare)]
        {
            let response = house.gateway.send("POST", path, &[header], &asked).await;
            assert!(matches!(response.status, 200 | 201), "{path}: {}", response.status);
        }
        for headers in [
            vec![],
            vec![("authorization", "")],
            vec![("authorization", "Bearer")],
            vec![("authorization", bare)],
            vec![("authorization", "Basic YWRhOng=")],
            vec![("authorization", &*wrong)],
            vec![("x-api-key", "")],
            vec![("x-api-key", "ada")],
            // A good key beside a bad one: what is shown first counts, and nothing is tried behind it.
            vec![("authorization", &*wrong), ("x-api-key", bare)],
            vec![("cookie", "lastword_session=x")],
        ] {
            let response = house.gateway.send("POST", path, &headers, &asked).await;
            assert_eq!(response.status, 401, "{path} {headers:?}");
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            let error = response.json().await;
            assert!(error.pointer(word).is_some(), "in the surface's own words: {error}");
            assert!(!error.to_string().contains(&bare[3..20]), "what was shown is not said again: {error}");
        }
    }
    let list = house.send(&house.ada, "GET", "/v1/streams?limit=100", "").await.json().await;
    assert_eq!(list["streams"].as_array().map(Vec::len), Some(12), "nothing was started for who was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_what_says_that_we_live_need_no_key() {
    let house = House::new().await;
    for path in ["/", "/app.js", "/docs", "/openapi.json", "/healthz", "/readyz"] {
        assert_eq!(house.send("", "GET", path, "").await.status, 200, "{path}");
    }
    for path in ["/v1/streams", "/v1/models", "/v1/prompts", "/metrics", "/v1/none"] {
        assert_eq!(house.send("", "GET", path, "").await.status, 401, "{path}");
    }
    assert_eq!(house.send(&house.ada, "GET", "/metrics", "").await.status, 200);
    let open = House::with("[auth]\nopen_metrics = true").await;
    assert_eq!(open.send("", "GET", "/metrics", "").await.status, 200);
    assert_eq!(open.send("", "GET", "/v1/streams", "").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anothers_is_not_there() {
    let house = House::new().await;
    let state = house.said(true).await;
    let id = field(&state, "id");
    for (method, path) in [
        ("GET", ""),
        ("GET", "/events"),
        ("HEAD", "/events"),
        ("GET", "/events?after=1"),
        ("GET", "/events?format=text"),
        ("POST", "/cancel"),
        ("POST", "/tickets"),
        ("DELETE", ""),
    ] {
        let path = format!("/v1/streams/{id}{path}");
        let theirs = house.send(&house.bob, method, &path, "").await;
        let none = house.send(&house.bob, method, &path.replace(&id, "01990000000070008000000000000000"), "").await;
        assert_eq!((theirs.status, none.status), (404, 404), "{method} {path}");
        if method != "HEAD" {
            let say = |json: serde_json::Value| {
                json.to_string().replace(&id, "ID").replace("01990000000070008000000000000000", "ID")
            };
            assert_eq!(say(theirs.json().await), say(none.json().await), "nobody can tell that it is there");
        }
    }
    // A POST that attaches.
    let again = [("authorization", &*house.bob), ("last-event-id", &format!("{id}-1")), EVENTS];
    let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
    assert_eq!(house.gateway.send("POST", "/v1/streams", &again, &asked).await.status, 404);
    for path in ["/v1/responses/resp_", "/v1/chat/completions/chatcmpl-"] {
        assert_eq!(house.send(&house.bob, "GET", &format!("{path}{id}"), "").await.status, 404, "{path}");
    }
    let previous =
        json!({ "input": "x", "model": "mock/echo", "previous_response_id": format!("resp_{id}") }).to_string();
    assert_ne!(house.send(&house.bob, "POST", "/v1/responses", &previous).await.status, 200);
    let list = house.send(&house.bob, "GET", "/v1/streams", "").await.json().await;
    assert_eq!(list["streams"], json!([]));
    let mine = house.send(&house.ada, "GET", &format!("/v1/streams/{id}"), "").await.json().await;
    assert_eq!(mine["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_its_owners_alone() {
    let house = House::new().await;
    let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
    let mut ids = Vec::new();
    for bearer in [&house.ada, &house.bob, &house.ada] {
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k-1")];
        let response = house.gateway.send("POST", "/v1/streams", &headers, &asked).await;
        ids.push(field(&response.json().await, "id"));
    }
    assert!(ids[0] == ids[2] && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_configured_whatever_is_shown_is_ignored() {
    let gateway = crate::common::TestGateway::start().await;
    for headers in [[("authorization", "Bearer x")], [("x-api-key", "x")], [("cookie", "lastword_session=x")]] {
        assert_eq!(gateway.get("/v1/streams", &headers).await.status, 200);
    }
    let id = gateway.say("one", json!({})).await;
    let state = gateway.state(&id).await;
    assert_eq!(state["events_url"], format!("/v1/streams/{id}/events"));
    assert!(whole(gateway.get(&format!("/v1/streams/{id}/events?token=x"), &[EVENTS]).await).await.contains("one"));
    let ticket = gateway.send("POST", &format!("/v1/streams/{id}/tickets"), &[], "").await;
    assert_eq!(
        (ticket.status, ticket.json().await),
        (201, json!({ "events_url": format!("/v1/streams/{id}/events") }))
    );
    let session = gateway.send("POST", "/v1/session", &[], "").await;
    assert_eq!((session.status, session.header("set-cookie")), (204, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_but_the_open_ones_asks_for_a_key() {
    let house = House::new().await;
    let description = house.send("", "GET", "/openapi.json", "").await.json().await;
    let mut asked = 0;
    for (path, item) in description["paths"].as_object().expect("paths") {
        let item = item.as_object().expect("an item");
        for method in ["get", "head", "post", "delete"].iter().filter(|method| item.contains_key(**method)) {
            let url = path.replace("{id}", "01990000000070008000000000000000").replace("{response_id}", "resp_x");
            let response = soon(house.send("", &method.to_uppercase(), &url, "")).await;
            let open = matches!(&*url, "/healthz" | "/readyz" | "/openapi.json")
                || (*method, &*url) == ("delete", "/v1/session");
            assert_eq!(response.status == 401, !open, "{method} {url}: {}", response.status);
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_its_own_in_every_way() {
    let house = House::new().await;
    let state = house.said(false).await;
    let (id, url) = (field(&state, "id"), field(&state, "events_url"));
    let headers = [("authorization", &*house.ada), EVENTS];
    let events = whole(house.gateway.get(&format!("/v1/streams/{id}/events"), &headers).await).await;
    assert!(events.contains("three") && events.contains("event: end"), "{events}");
    // A key beside a ticket: the key counts.
    assert_eq!(house.gateway.get(&url, &[("authorization", &house.bob)]).await.status, 404);
    refused(house.gateway.get(&url, &[("authorization", "Bearer x")]).await, 401, "unauthenticated").await;
}
