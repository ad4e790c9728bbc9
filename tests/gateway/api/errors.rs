//! Refusals: each a problem with its status, a stable code, and where they help the field and the remedy

use serde_json::json;

use super::{list, problem};
use crate::common::{TestGateway, http, soon};

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_request_names_its_field_and_its_remedy() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one", json!({})).await;
    let events = |query: &str| format!("/v1/streams/{id}/events?{query}");
    let get = |path: String, field| ("GET", path, String::new(), 400, "bad_request", field, "");
    let post = |body: &str, status, code, field, remedy| {
        ("POST", "/v1/streams".to_owned(), body.to_owned(), status, code, field, remedy)
    };
    let bad = |body: &str, field, remedy| post(body, 400, "bad_request", field, remedy);
    let unfit = |options: serde_json::Value, field| {
        let body = json!({ "prompt": "x", "model": "mock/words", "backend_options": options });
        post(&body.to_string(), 400, "unfit_prompt", field, "")
    };
    for (method, path, body, status, code, field, remedy) in [
        bad("rubbish", "", "text/plain"),
        bad("", "", "text/plain"),
        bad("[1]", "", "text/plain"),
        bad(r#"{"prompt":"x"} trailing"#, "", "text/plain"),
        bad(&"[".repeat(100_000), "", ""),
        bad("{}", "prompt", "messages"),
        bad(r#"{"promt":"x"}"#, "promt", "did you mean `prompt`?"),
        bad(r#"{"prompt":"x","on_disconnect":"stop"}"#, "on_disconnect", ""),
        bad(r#"{"prompt":"x","temperature":-1}"#, "temperature", "0 to 2"),
        bad(r#"{"prompt":"x","metadata":"text"}"#, "metadata", "object"),
        bad(r#"{"messages":[{"role":"usr","content":"x"}]}"#, "messages[0].role", "did you mean `user`?"),
        post(r#"{"prompt":"x","model":"mock/wrds"}"#, 400, "unknown_model", "model", "did you mean `words`?"),
        post(r#"{"prompt":"x","model":"mokc/words"}"#, 400, "unknown_model", "model", "did you mean `mock/words`?"),
        post(r#"{"prompt":"x","model":"nothing of the kind"}"#, 400, "unknown_model", "model", "mock/words"),
        post(
            r#"{"messages":[{"role":"system","content":"x"}],"model":"mock/echo"}"#,
            400,
            "unfit_prompt",
            "messages",
            "",
        ),
        unfit(json!({ "dealy": "1s" }), "backend_options"),
        unfit(json!({ "delay": 5 }), "backend_options"),
        unfit(json!({ "fault": { "kind": "error", "status": 200 } }), "backend_options"),
        get(events("format=yaml"), "format"),
        get(events("heartbeat=loud"), "heartbeat"),
        get("/v1/streams?limit=0".into(), "limit"),
        get("/v1/streams?limit=101".into(), "limit"),
        get("/v1/streams?limit=many".into(), "limit"),
        get("/v1/streams?limit=1&limit=2".into(), "query"),
        get("/v1/streams?before=yesterday".into(), "before"),
    ] {
        let shown: String = body.chars().take(80).collect();
        let problem = problem(gateway.send(method, &path, &[], &body).await, status, code).await;
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{method} {path} {shown}");
        let said = problem["remedy"].as_str().unwrap_or_else(|| panic!("no remedy: {method} {path} {shown}"));
        assert!(said.contains(remedy), "{shown}: {said}");
    }
    assert_eq!(list(&gateway).await, [id], "nothing was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_prompt_is_refused() {
    let gateway = TestGateway::with("default_model = \"mock/echo\"").await;
    for body in ["", " \n"] {
        let response = gateway.send("POST", "/v1/streams", &[("content-type", "text/plain")], body).await;
        assert_eq!(problem(response, 400, "bad_request").await["field"], "prompt");
    }
    let head = b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n\xff\xfe";
    let response = soon(http::raw(gateway.address(), head, false)).await.expect("a response");
    assert_eq!(problem(response, 400, "bad_request").await["field"], "prompt");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_default_a_request_must_name_its_model() {
    let gateway = TestGateway::with("[backends.one]\nkind = \"mock\"\n[backends.other]\nkind = \"mock\"\n").await;
    let response = gateway.send("POST", "/v1/streams", &[], r#"{"prompt":"x"}"#).await;
    let problem = problem(response, 400, "no_default_model").await;
    assert_eq!(problem["field"], "model");
    assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("one/words")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let gateway = TestGateway::with("[server]\nmax_body = \"1KiB\"\n").await;
    let body = |n: usize| json!({ "prompt": "x".repeat(n), "model": "mock/echo" }).to_string();
    assert_eq!(gateway.send("POST", "/v1/streams", &[], &body(900)).await.status, 201);
    let problem = problem(gateway.send("POST", "/v1/streams", &[], &body(1100)).await, 413, "body_too_large").await;
    assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("max_body")), "{problem}");
}

/// What no handler has seen is told to other protocols' clients in their shapes too.
#[tokio::test(flavor = "multi_thread")]
async fn each_protocol_reads_errors_in_its_own_shape() {
    let gateway = TestGateway::start().await;
    let foreign = ("sec-fetch-site", "cross-site");
    let anthropic = ("anthropic-version", "2023-06-01");
    for (method, path, headers, status, word) in [
        ("GET", "/v1/chat/completions", &[][..], 405, "method_not_allowed"),
        ("POST", "/v1/models", &[], 405, "method_not_allowed"),
        ("GET", "/v1/nothing", &[], 404, "not_found"),
        ("POST", "/v1/chat/completions", &[foreign], 403, "cross_site"),
        ("GET", "/v1/nothing", &[anthropic], 404, "not_found_error"),
        ("POST", "/v1/messages", &[foreign], 403, "permission_error"),
    ] {
        let response = gateway.send(method, path, headers, "{}").await;
        assert_eq!((response.status, response.header("content-type")), (status, Some("application/json")), "{path}");
        let told = response.json().await;
        let known = if word.ends_with("_error") { &told["error"]["type"] } else { &told["error"]["code"] };
        assert_eq!(*known, word, "{method} {path}: {told}");
        assert!(told["error"]["message"].as_str().is_some_and(|words| words.len() > 10), "{told}");
        assert_eq!(told["type"] == "error", word.ends_with("_error"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_wrong_methods_are_problems_too() {
    let gateway = TestGateway::start().await;
    for path in ["/v1", "/v1/", "/v1/streams/", "/v1/streams/a/b/c", "/v2/streams", "/%ff", "/%00", "/a/../b"] {
        let problem = problem(gateway.get(path, &[]).await, 404, "not_found").await;
        assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("/v1/streams")), "{path}");
    }
    let id = "0".repeat(32);
    for (method, path) in [
        ("PUT", "/v1/streams".to_owned()),
        ("DELETE", "/v1/streams".to_owned()),
        ("PATCH", format!("/v1/streams/{id}")),
        ("POST", format!("/v1/streams/{id}")),
        ("PUT", format!("/v1/streams/{id}/events")),
        ("GET", format!("/v1/streams/{id}/cancel")),
        ("POST", "/healthz".to_owned()),
        ("POST", "/".to_owned()),
        ("BREW", "/v1/streams".to_owned()),
    ] {
        let response = gateway.send(method, &path, &[], "").await;
        assert!(response.header("allow").is_some(), "{method} {path}");
        problem(response, 405, "method_not_allowed").await;
    }
    for path in ["/v1/streams".to_owned(), format!("/v1/streams/{id}/events"), "/healthz".to_owned()] {
        let response = gateway.send("OPTIONS", &path, &[], "").await;
        assert_eq!((response.status, response.header("allow").is_some()), (204, true), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_names_no_stream_is_not_found() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one", json!({})).await;
    let unknown = "0".repeat(32);
    let long = "9".repeat(2000);
    for id in [
        &*unknown,
        "1",
        "x",
        &id.to_uppercase(),
        &format!("{id}0"),
        &id[1..],
        "%ff",
        "%00",
        "%0d%0aset-cookie:x",
        &long,
    ] {
        for (method, path) in [("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")] {
            let response = gateway.send(method, &format!("/v1/streams/{id}{path}"), &[], "").await;
            assert!(response.header("set-cookie").is_none());
            let problem = problem(response, 404, "stream_not_found").await;
            assert!(
                problem["remedy"].is_string() && problem["detail"].as_str().is_some_and(|detail| detail.len() < 200)
            );
        }
        assert_eq!(gateway.send("HEAD", &format!("/v1/streams/{id}/events"), &[], "").await.status, 404);
    }
}

/// Statuses below 500, or no answer but a closed connection; and whoever comes next is served.
#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_never_the_servers_mistake() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two", json!({})).await;
    let mut chance = fastrand::Rng::with_seed(7);
    let long = "a".repeat(100_000);
    let mut heads: Vec<Vec<u8>> = vec![
        format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n").into(),
        format!("GET /v1/streams/{id}/events?after={long} HTTP/1.1\r\nhost: localhost\r\n\r\n").into(),
        format!("GET /v1/streams/{id}/events HTTP/1.1\r\nhost: localhost\r\nlast-event-id: {long}\r\n\r\n").into(),
        format!("GET /v1/streams HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x-many: y\r\n".repeat(5000)).into(),
        format!("GET /v1/streams/{id}/events?{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "after=x&".repeat(500)).into(),
        format!("CONNECT /v1/streams/{id} HTTP/1.1\r\nhost: localhost\r\n\r\n").into(),
        b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"GET http://elsewhere.example/v1/streams HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"GET /v1/streams HTTP/1.0\r\n\r\n".to_vec(),
        b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_vec(),
        b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"GET /v1/streams?before=%ff%fe&limit=%00 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"GET /v1/streams HTTP/1.1\r\nhost: \xff\xfe\r\norigin: \xff\r\n\r\n".to_vec(),
        b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\norigin: \xff\r\ncontent-length: 0\r\n\r\n".to_vec(),
    ];
    for name in [
        "last-event-id",
        "idempotency-key",
        "accept",
        "content-type",
        "origin",
        "sec-fetch-site",
        "cookie",
        "x-request-id",
    ] {
        for method in ["GET", "POST"] {
            let value: Vec<u8> = (0..200).map(|_| chance.u8(0x80..)).collect();
            let head = format!(
                "{method} /v1/streams/{id}/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n{name}: "
            );
            heads.push([head.as_bytes(), &value, b"\r\n\r\n"].concat());
        }
    }
    for _ in 0..100 {
        heads.push((0..chance.usize(1..300)).map(|_| chance.u8(..)).collect());
        let noise: String = (0..40).map(|_| chance.char('!'..'\u{7f}')).collect();
        heads.push(
            format!(
                "GET /v1/streams/{noise}/events?after={noise} HTTP/1.1\r\nhost: localhost\r\nlast-event-id: {noise}\r\n\r\n"
            )
            .into(),
        );
    }
    for head in heads {
        let shown: String = String::from_utf8_lossy(&head).chars().take(200).collect();
        // Our side says that no more comes, so that half a head is not waited for.
        if let Some(status) = soon(http::status_of(gateway.address(), &head)).await {
            assert!(status < 500, "{status}: {shown}");
        }
    }
    assert_eq!(gateway.state(&id).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bug_of_ours_fails_its_own_answer_and_nothing_else() {
    let gateway = TestGateway::start().await;
    let other = gateway.say("one two three", super::stalls()).await;
    for after in [0, 2] {
        let id = gateway.say("one two three", json!({ "fault": { "kind": "panic", "after": after } })).await;
        let events = gateway.whole(&id).await;
        let end = crate::common::only(&events, "end");
        assert_eq!((&end["status"], &end["error"]["code"]), (&json!("failed"), &json!("internal")));
        assert!(!end.to_string().contains("told to panic"), "{end}");
        assert_eq!(crate::common::text(&events), if after == 0 { "" } else { "one two" });
        assert_eq!(gateway.state(&id).await["status"], "failed");
    }
    assert_eq!(gateway.state(&other).await["status"], "running");
    let next = gateway.say("still here", json!({})).await;
    assert_eq!(crate::common::text(&gateway.whole(&next).await), "still here");
}
