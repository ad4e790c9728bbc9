//! Pages of other sites: which may ask, and which are refused

use serde_json::json;

use super::{EVENTS, list, problem, stalls};
use crate::common::{Response, TestGateway};

const APP: &str = "https://app.example.com";

/// What a page sends to resume and to sign in, and a header of those that OpenAI's SDK adds.
const SENT: &str = "last-event-id,authorization,cache-control,content-type,idempotency-key,x-stainless-lang";

fn names(response: &Response, header: &str) -> Vec<String> {
    let names = response.header(header).unwrap_or_default();
    names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

async fn preflight(gateway: &TestGateway, origin: &str, path: &str) -> Response {
    let headers =
        [("origin", origin), ("access-control-request-method", "GET"), ("access-control-request-headers", SENT)];
    gateway.send("OPTIONS", path, &headers, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_page_may_resume_and_read_the_streams_id() {
    for (cors, allowed) in [(APP, APP), ("*", "*")] {
        let gateway = TestGateway::with(&format!("[server]\ncors = [\"{cors}\"]\n")).await;
        let id = gateway.say("one two three", stalls()).await;
        for path in ["/v1/streams".to_owned(), format!("/v1/streams/{id}/events")] {
            let response = preflight(&gateway, APP, &path).await;
            assert!((200..300).contains(&response.status), "{}", response.status);
            assert_eq!(response.header("access-control-allow-origin"), Some(allowed));
            let sent = names(&response, "access-control-allow-headers");
            for name in SENT.split(',') {
                assert!(sent.iter().any(|sent| sent == name), "{name}: {sent:?}");
            }
            let methods = names(&response, "access-control-allow-methods");
            assert!(["get", "post", "delete"].iter().all(|method| methods.iter().any(|m| m == method)), "{methods:?}");
        }
        let response = gateway.get(&format!("/v1/streams/{id}/events"), &[("origin", APP)]).await;
        assert_eq!(response.header("access-control-allow-origin"), Some(allowed));
        assert!(names(&response, "access-control-expose-headers").contains(&"x-stream-id".to_owned()));
        let response = gateway.get("/v1/streams/none", &[("origin", APP)]).await;
        assert_eq!(response.header("access-control-allow-origin"), Some(allowed), "refusals can be read too");
        let headers = [("origin", APP), ("sec-fetch-site", "cross-site"), EVENTS];
        let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
        assert_eq!(gateway.send("POST", "/v1/streams", &headers, &asked).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_page_is_not_let_in() {
    let gateway = TestGateway::with(&format!("[server]\ncors = [\"{APP}\"]\n")).await;
    for origin in ["https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"] {
        let response = preflight(&gateway, origin, "/v1/streams").await;
        assert_ne!(response.header("access-control-allow-origin"), Some(origin), "{origin}");
        assert_ne!(response.header("access-control-allow-origin"), Some("*"), "{origin}");
        let headers = [("origin", origin), ("sec-fetch-site", "cross-site")];
        let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
        problem(gateway.send("POST", "/v1/streams", &headers, &asked).await, 403, "cross_site").await;
    }
    assert!(list(&gateway).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_configured_nothing_is_allowed() {
    let gateway = TestGateway::start().await;
    let response = preflight(&gateway, APP, "/v1/streams").await;
    assert_eq!(response.status, 204);
    assert!(response.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{:?}", response.headers);
    let response = gateway.get("/v1/streams", &[("origin", APP)]).await;
    assert_eq!((response.status, response.header("access-control-allow-origin")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_foreign_site_starts_stops_and_erases_nothing() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three", stalls()).await;
    let stream = format!("/v1/streams/{id}");
    let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
    for foreign in [("origin", APP), ("sec-fetch-site", "cross-site"), ("origin", "null")] {
        for (method, path, body) in
            [("POST", "/v1/streams", &*asked), ("POST", &format!("{stream}/cancel"), ""), ("DELETE", &stream, "")]
        {
            let problem = problem(gateway.send(method, path, &[foreign], body).await, 403, "cross_site").await;
            assert_eq!(problem["field"], "Origin");
            assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("cors")));
        }
    }
    assert_eq!(list(&gateway).await, [&*id]);
    assert_eq!(gateway.state(&id).await["status"], "running");
    // Our own page, a program, and a bookmark.
    let own = format!("http://{}", gateway.address());
    for headers in [
        vec![("origin", own.as_str())],
        vec![],
        vec![("sec-fetch-site", "same-origin")],
        vec![("sec-fetch-site", "none")],
    ] {
        assert_eq!(gateway.send("POST", "/v1/streams", &headers, &asked).await.status, 201, "{headers:?}");
    }
    assert_eq!(gateway.send("DELETE", &stream, &[("authorization", "Bearer whatever")], "").await.status, 204);
}
