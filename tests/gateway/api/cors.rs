//! Pages of other sites: which may ask, and which are refused

use serde_json::json;

use super::{EVENTS, list, problem, stalls};
use crate::common::{Response, TestGateway, http, soon};

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

/// The answer to a request under this name.
async fn under(gateway: &TestGateway, name: &str, method: &str, path: &str) -> Response {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {name}\r\ncontent-length: 2\r\n\r\n{{}}");
    soon(http::raw(gateway.address(), head.as_bytes(), false)).await.expect("an answer")
}

/// DNS rebinding: the page is then, for its browser, of our own site.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_points_its_own_name_here_gets_nothing() {
    let gateway = TestGateway::with("[server]\nhosts = [\"app.example.com\"]\n").await;
    let id = gateway.say("one two three", stalls()).await;
    let stream = format!("/v1/streams/{id}");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/v1/streams"),
        ("GET", &format!("{stream}/events")),
        ("POST", "/v1/streams"),
        ("DELETE", &stream),
    ] {
        let problem = problem(under(&gateway, "evil.example:8080", method, path).await, 403, "unknown_host").await;
        assert_eq!(problem["field"], "Host");
        assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("[server] hosts")), "{problem}");
    }
    for (path, kind) in
        [("/v1/chat/completions", "/error/type"), ("/v1/responses", "/error/type"), ("/v1/messages", "/error/type")]
    {
        let response = under(&gateway, "evil.example", "POST", path).await;
        assert_eq!(response.status, 403);
        let error = response.json().await;
        assert!(error.pointer(kind).is_some(), "in the surface's own words: {error}");
        assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("[server] hosts")), "{error}");
    }
    let (mut client, connection) = {
        let socket = tokio::net::TcpStream::connect(gateway.address()).await.expect("a connection");
        soon(h2::client::handshake(socket)).await.expect("HTTP/2")
    };
    tokio::spawn(connection);
    for (name, status) in [("evil.example", 403), ("localhost", 200), ("app.example.com:1", 200)] {
        let request = axum::http::Request::get(format!("http://{name}/v1/streams")).body(()).expect("a request");
        let (response, _) = client.send_request(request, true).expect("it is sent");
        assert_eq!(soon(response).await.expect("a response").status(), status, "{name}");
    }
    for name in ["app.example.com", "localhost:1", "me.localhost", "127.0.0.1"] {
        assert_eq!(under(&gateway, name, "GET", "/v1/streams").await.status, 200, "{name}");
    }
    let nameless = soon(http::raw(gateway.address(), b"GET /v1/streams HTTP/1.0\r\n\r\n", false)).await;
    assert_eq!(nameless.expect("an answer").status, 200);
    assert_eq!(gateway.state(&id).await["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_name_is_answered_to_where_that_is_said() {
    let any = TestGateway::with("[server]\nhosts = [\"*\"]\n").await;
    assert_eq!(under(&any, "evil.example", "GET", "/v1/streams").await.status, 200);
}
