//! Sessions: a browser has shown a key, and has a cookie.

use serde_json::json;

use super::{EVENTS, House, field, refused, whole};
use crate::common::Response;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Signs in with Ada's key, as a page of this origin; gives back the answer and what the browser would send.
async fn sign_in(house: &House, headers: &[(&str, &str)]) -> (Response, String) {
    let headers = [&[("authorization", &*house.ada)], headers].concat();
    let response = house.gateway.send("POST", "/v1/session", &headers, "").await;
    assert_eq!(response.status, 204);
    let cookie = response.header("set-cookie").expect("a cookie").split(';').next().expect("a pair").to_owned();
    (response, cookie)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_stands_for_the_key_it_was_given_for() {
    let house = House::new().await;
    let (response, cookie) = sign_in(&house, &[]).await;
    let set = response.header("set-cookie").expect("a cookie").to_owned();
    for word in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=604800"] {
        assert!(set.contains(word), "{set}");
    }
    assert!(!set.contains("Secure"), "a browser would not keep it, from http");
    for secure in [("origin", "https://chat.example"), ("x-forwarded-proto", "https")] {
        let (response, _) = sign_in(&House::with("[server]\ncors = [\"https://chat.example\"]").await, &[secure]).await;
        assert!(response.header("set-cookie").is_some_and(|set| set.ends_with("; Secure")));
    }

    let shown = [("cookie", &*format!("theme=dark; {cookie}; x=y"))];
    let asked = json!({ "prompt": "one two", "model": "mock/echo" }).to_string();
    let response = house.gateway.send("POST", "/v1/streams", &[shown[0], JSON], &asked).await;
    assert_eq!(response.status, 201);
    let id = field(&response.json().await, "id");
    let events = whole(house.gateway.get(&format!("/v1/streams/{id}/events"), &[shown[0], EVENTS]).await).await;
    assert!(events.contains("two"), "{events}");
    assert_eq!(house.send(&house.ada, "GET", &format!("/v1/streams/{id}"), "").await.status, 200, "it is Ada's");
    assert_eq!(house.send(&house.bob, "GET", &format!("/v1/streams/{id}"), "").await.status, 404);

    let out = house.gateway.send("DELETE", "/v1/session", &shown, "").await;
    assert!(
        out.header("set-cookie").is_some_and(|set| set.starts_with("lastword_session=;") && set.contains("Max-Age=0"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_not_enough_to_change_something_from_elsewhere() {
    let house = House::with("[server]\ncors = [\"*\"]").await;
    let (_, cookie) = sign_in(&house, &[]).await;
    let shown = ("cookie", &*cookie);
    let id = field(&house.said(true).await, "id");
    let stream = format!("/v1/streams/{id}");
    let asked = r#"{"prompt":"x","model":"mock/echo"}"#;
    let calls =
        [("POST", "/v1/streams".to_owned(), asked), ("POST", format!("{stream}/cancel"), ""), ("DELETE", stream, "")];
    for (method, path, body) in &calls {
        // What a form can send, from our own site even.
        for kind in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data; boundary=x"),
        ] {
            let headers: Vec<_> =
                [Some(shown), kind.map(|kind| ("content-type", kind))].into_iter().flatten().collect();
            refused(house.gateway.send(method, path, &headers, body).await, 403, "json_only").await;
        }
        // What a script of another site could send, where CORS lets every site ask: never with a visitor's cookie.
        for foreign in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("origin", "null")] {
            refused(house.gateway.send(method, path, &[shown, JSON, foreign], body).await, 403, "cross_site").await;
        }
    }
    let state = house.send(&house.ada, "GET", &format!("/v1/streams/{id}"), "").await.json().await;
    assert_eq!(state["status"], "running");
    for (method, path, body) in &calls {
        let status = house.gateway.send(method, path, &[shown, JSON], body).await.status;
        assert!((200..300).contains(&status), "{method} {path}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_and_is_not_prolonged_by_itself() {
    let house = House::with("[auth]\nsession_ttl = \"1s\"").await;
    let (_, cookie) = sign_in(&house, &[]).await;
    let shown = [("cookie", &*cookie)];
    assert_eq!(house.gateway.get("/v1/streams", &shown).await.status, 200);
    refused(house.gateway.send("POST", "/v1/session", &shown, "").await, 401, "unauthenticated").await;
    crate::common::soon(async { while house.gateway.get("/v1/streams", &shown).await.status != 401 {} }).await;
    let key = [("authorization", &*house.ada), shown[0]];
    assert_eq!(house.gateway.get("/v1/streams", &key).await.status, 200, "a key beside it counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_site_may_ask_with_its_visitors_cookie_and_any_site_only_without() {
    const APP: &str = "https://app.example.com";
    for (cors, credentials) in [(APP, Some("true")), ("*", None)] {
        let house = House::with(&format!("[server]\ncors = [\"{cors}\"]")).await;
        let (_, cookie) = sign_in(&house, &[]).await;
        let response = house.gateway.get("/v1/streams", &[("cookie", &*cookie), ("origin", APP)]).await;
        assert_eq!(response.header("access-control-allow-origin"), Some(cors));
        assert_eq!(response.header("access-control-allow-credentials"), credentials);
        // A browser asks first, and without any credential.
        let headers = [
            ("origin", APP),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "last-event-id,authorization"),
        ];
        let preflight = house.gateway.send("OPTIONS", "/v1/streams", &headers, "").await;
        assert!((200..300).contains(&preflight.status), "{}", preflight.status);
        assert_eq!(preflight.header("access-control-allow-credentials"), credentials);
        let evil = house.gateway.get("/v1/streams", &[("cookie", &*cookie), ("origin", "https://evil.example")]).await;
        assert_eq!(evil.header("access-control-allow-origin").filter(|origin| *origin != "*"), None);
        // What is refused can be read by the page, or it could not sign in.
        let refused = house.gateway.get("/v1/streams", &[("origin", APP)]).await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some(cors)));
    }
}
