//! Applications of the user's own behind lastword: their requests go on as they came, and their answers can be resumed.

mod app;

use lastword::auth::{Hash, new_key};
use serde_json::{Value, json};

use self::app::App;
use crate::common::{Body, Ending, Response, TestGateway, soon};

const AI_SDK: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-vercel-ai-ui-message-stream: v1\r\nset-cookie: a=b";

/// What the application shall answer, in the chat `c`.
fn tells(parts: Value) -> Value {
    json!({ "id": "c", "parts": parts })
}

async fn post(gateway: &TestGateway, body: &Value) -> Response {
    gateway.send("POST", "/api/chat", &[("content-type", "application/json")], &body.to_string()).await
}

async fn rest(body: Body) -> Vec<u8> {
    let (bytes, ending) = soon(body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    bytes
}

/// What came, without the ids and what belongs to a connection (the first comment, when to come back).
fn theirs(bytes: &[u8], id: &str) -> Vec<u8> {
    let bytes = bytes.strip_prefix(b":\n").unwrap_or(bytes);
    let mut out = Vec::new();
    let (retry, ours) = (b"retry: ".as_slice(), format!("id: {id}-"));
    let mut first = true;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // Ours is written before anything of the application's.
        let is_retry = std::mem::take(&mut first) && line.starts_with(retry);
        if !is_retry && !line.starts_with(ours.as_bytes()) {
            out.extend_from_slice(line);
        }
    }
    out
}

fn id_of(response: &Response) -> String {
    let id = response.header("x-stream-id").expect("a stream's id").to_owned();
    assert_eq!(response.header("x-workflow-run-id"), Some(&*id));
    assert_eq!(response.header("location"), Some(&*format!("/api/chat/{id}/stream")));
    id
}

async fn until(body: &mut Body, words: &str) -> Vec<u8> {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(words) {
        got.extend(soon(body.next()).await.expect("more"));
    }
    got
}

/// Waits until a stream has ended; its state.
async fn ended(gateway: &TestGateway, id: &str) -> Value {
    soon(gateway.events(id, None).await.body.rest()).await;
    gateway.state(id).await
}

#[tokio::test]
async fn an_answer_in_events_is_the_applications_to_the_byte_and_can_be_read_again() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    for parts in [
        json!(["data: a\n\ndata: b\n\n"]),
        json!([": hello\n\nevent: x\nid: 7\n", "data: a\r\ndata: b\r\n\r\n", "data: {\"a\":", "1}\n\ndata: half"]),
        json!(["data: \u{ff}\u{00}\u{f0}\u{9f}\n\n", "retry: 5\n\n", "data\n\ndata:c\n\n: end\n\n"]),
    ] {
        let body = tells(parts.clone());
        let response = post(&gateway, &body).await;
        let id = id_of(&response);
        assert_eq!(response.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let whole = rest(response.body).await;
        let told: String = parts.as_array().expect("a list").iter().map(|part| part.as_str().expect("text")).collect();
        let told: Vec<u8> =
            told.replace("id: 7\n", "").chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect();
        assert_eq!(theirs(&whole, &id).escape_ascii().to_string(), told.escape_ascii().to_string());
        let again = gateway.get(&format!("/api/chat/{id}/stream"), &[]).await;
        assert_eq!(again.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(theirs(&rest(again.body).await, &id), theirs(&whole, &id));
        assert_eq!(gateway.state(&id).await["status"], "completed");
    }
}

#[tokio::test]
async fn a_page_that_reloads_finds_its_chats_answer_and_one_that_comes_back_goes_on() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    assert_eq!(gateway.get("/api/chat/c/stream", &[]).await.status, 204);
    let parts = json!([
        "data: {\"type\":\"start\"}\n\n",
        "data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"one\"}\n\n",
        null,
        "data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\" two\"}\n\ndata: {\"type\":\"finish\",\"finishReason\":\"stop\"}\n\ndata: [DONE]\n\n"
    ]);
    let mut response = post(&gateway, &json!({ "id": "c", "head": AI_SDK, "parts": parts })).await;
    let id = id_of(&response);
    assert_eq!(response.header("set-cookie"), Some("a=b"), "the first is told all that the application said");
    until(&mut response.body, "one").await;
    drop(response);
    let reloaded = gateway.get("/api/chat/c/stream", &[]).await;
    assert_eq!(reloaded.header("x-vercel-ai-ui-message-stream"), Some("v1"));
    assert_eq!(reloaded.header("set-cookie"), None);
    let behind = gateway.get(&format!("/api/chat/{id}/stream?startIndex=2"), &[]).await;
    app.go_on();
    let whole = rest(reloaded.body).await;
    let text = String::from_utf8(theirs(&whole, &id)).expect("UTF-8");
    assert!(text.starts_with("data: {\"type\":\"start\"}\n\n") && text.ends_with("data: [DONE]\n\n"), "{text}");
    let rest_of_it = String::from_utf8(theirs(&rest(behind.body).await, &id)).expect("UTF-8");
    assert!(
        rest_of_it.starts_with("data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\" two\"}")
            && text.ends_with(&rest_of_it),
        "{rest_of_it}"
    );
    assert_eq!(gateway.get("/api/chat/c/stream", &[]).await.status, 204);
    let state = gateway.state(&id).await;
    assert_eq!((&state["text"], &state["reason"]), (&json!("one two"), &json!("stop")));
    // An EventSource, or LangGraph's client, comes back with the last id that it saw; and a POST may be repeated so, too.
    let cursor =
        String::from_utf8(whole).expect("UTF-8").lines().find_map(|line| line.strip_prefix("id: ").map(str::to_owned));
    for (method, path) in
        [("GET", format!("/api/chat/{id}/stream")), ("POST", "/api/chat".to_owned()), ("GET", "/api/chat".to_owned())]
    {
        let response = gateway.send(method, &path, &[("last-event-id", cursor.as_deref().expect("an id"))], "").await;
        let told = String::from_utf8(theirs(&rest(response.body).await, &id)).expect("UTF-8");
        assert!(text.ends_with(&told) && !told.contains("start"), "{method} {path}: {told}");
    }
    assert_eq!(app.asked().len(), 1);
}

#[tokio::test]
async fn a_cut_at_any_byte_loses_nothing() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    let chunks: String =
        (0..6).map(|n| format!("data: {{\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"é{n}\"}}\n\n")).collect();
    let told = format!("data: {{\"type\":\"start\"}}\n\n{chunks}data: {{\"type\":\"finish\"}}\n\ndata: [DONE]\n\n");
    let bytes: String = told.bytes().map(char::from).collect();
    let response = post(&gateway, &json!({ "id": "c", "head": AI_SDK, "parts": [bytes] })).await;
    let id = id_of(&response);
    let whole = rest(response.body).await;
    let all = crate::common::sse::read(&whole).events;
    for cut in 0..=whole.len() {
        let had = crate::common::sse::read(&whole[..cut]);
        let (seen, cursor) = (had.events.len(), had.cursor);
        if seen < all.len() {
            let body = rest(gateway.get(&format!("/api/chat/{id}/stream?startIndex={seen}"), &[]).await.body).await;
            let data: Vec<_> = crate::common::sse::read(&body).events.into_iter().map(|event| event.data).collect();
            assert_eq!(data, all[seen..].iter().map(|event| event.data.clone()).collect::<Vec<_>>(), "cut at {cut}");
        }
        if !cursor.is_empty() && seen < all.len() {
            let response = gateway.get(&format!("/api/chat/{id}/stream"), &[("last-event-id", &cursor)]).await;
            let events = crate::common::sse::read(&rest(response.body).await).events;
            assert_eq!(events.len(), all.len() - seen, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_goes_through_and_is_not_kept() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    let head = "HTTP/1.1 402 Payment Required\r\ncontent-type: application/json\r\nx-why: money\r\nset-cookie: s=1";
    let response = post(&gateway, &json!({ "id": "c", "head": head, "parts": ["{\"pay\":", "1}"] })).await;
    assert_eq!(
        (response.status, response.header("x-why"), response.header("set-cookie")),
        (402, Some("money"), Some("s=1"))
    );
    assert_eq!(response.header("x-stream-id"), None);
    assert_eq!(rest(response.body).await, b"{\"pay\":1}");
    let page = json!({ "head": "HTTP/1.1 200 OK\r\ncontent-type: text/html", "parts": ["<p>"], "end": "reset" });
    let response = gateway.send("PUT", "/api/chat", &[("content-type", "application/json")], &page.to_string()).await;
    assert_eq!((response.status, response.header("allow")), (200, None), "what lastword has at this path is not said");
    let broken = post(&gateway, &page).await;
    let (bytes, ending) = soon(broken.body.rest()).await;
    assert_eq!((&*bytes, ending), (&b"<p>"[..], Ending::Reset));
    assert_eq!(gateway.get("/v1/streams", &[]).await.json().await["streams"], json!([]));
}

#[tokio::test]
async fn the_request_goes_on_as_it_came_with_what_is_listed() {
    let app = App::start().await;
    let all = TestGateway::with(&app.relay("headers = { \"x-from\" = \"lastword\" }")).await;
    let some =
        TestGateway::with(&app.relay("forward = [\"cookie\", \"content-type\", \"x-app-*\"]\ncookies = [\"session\"]"))
            .await;
    let headers = [
        ("content-type", "application/json"),
        ("cookie", "session=1; tracking=2"),
        ("authorization", "Bearer app"),
        ("x-app-tenant", "t"),
        ("x-from", "client"),
        ("x-forwarded-for", "203.0.113.7"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("accept-encoding", "gzip"),
    ];
    let body = tells(json!(["data: a\n\n"])).to_string();
    for gateway in [&all, &some] {
        rest(gateway.send("POST", "/api/chat?a=1&b=%20", &headers, &body).await.body).await;
    }
    let [all, some] = &app.asked()[..] else { panic!("two requests") };
    for request in [all, some] {
        assert!(request.starts_with("POST /api/chat?a=1&b=%20 HTTP/1.1\r\n") && request.ends_with(&body), "{request}");
        assert!(!request.contains("x-hop:") && !request.contains("gzip"), "{request}");
    }
    for line in [
        "cookie: session=1; tracking=2",
        "authorization: Bearer app",
        "x-app-tenant: t",
        "x-from: lastword",
        "x-forwarded-host: ",
        "x-forwarded-for: 203.0.113.7, 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
    ] {
        assert!(all.contains(line), "{line} in {all}");
    }
    assert!(some.contains("cookie: session=1\r\n") && some.contains("x-app-tenant: t"), "{some}");
    assert!(!some.contains("authorization") && !some.contains("x-from"), "{some}");
    assert!(some.contains("x-forwarded-for: 127.0.0.1\r\n"), "what the client says of it was not asked for: {some}");
}

#[tokio::test]
async fn an_application_that_dies_is_told_in_its_own_words_or_by_a_reset() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    let chat =
        "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
    for end in ["reset", "clean"] {
        let start = "data: {\"type\":\"start\"}\n\n";
        let response = post(&gateway, &json!({ "head": AI_SDK, "parts": [start], "end": end })).await;
        let id = id_of(&response);
        let text = String::from_utf8(rest(response.body).await).expect("UTF-8");
        assert!(
            text.contains("\"type\":\"error\"") && text.contains("{\"type\":\"finish\"}") && text.contains("[DONE]"),
            "{text}"
        );
        assert_eq!(gateway.state(&id).await["error"]["code"], "upstream_truncated");
        let response = post(&gateway, &json!({ "parts": [chat], "end": end })).await;
        let text = String::from_utf8(rest(response.body).await).expect("UTF-8");
        assert!(text.contains("data: {\"error\":{") && text.contains("data: [DONE]\n"), "{text}");
    }
    let response = post(&gateway, &json!({ "parts": ["data: one\n\n"], "end": "reset" })).await;
    let id = id_of(&response);
    let (bytes, ending) = soon(response.body.rest()).await;
    assert_eq!(ending, Ending::Reset, "what it speaks is not known: there is no word for it");
    assert_eq!(theirs(&bytes, &id), b"data: one\n\n");
    assert_eq!(gateway.state(&id).await["status"], "failed");
}

#[tokio::test]
async fn an_application_that_talks_on_behind_its_whole_answer_has_its_time_in_all() {
    let mut app = App::start().await;
    let gateway = TestGateway::with(&app.relay("timeouts = { silence = \"400ms\" }")).await;
    let whole = "data: {\"type\":\"start\"}\n\ndata: {\"type\":\"finish\"}\n\ndata: [DONE]\n\n";
    let ping = [Value::Null, json!("data: {\"type\":\"data-ping\"}\n\n")];
    let parts: Vec<_> = std::iter::once(json!(whole)).chain((0..60_000).flat_map(|_| ping.clone())).collect();
    let response = post(&gateway, &json!({ "head": AI_SDK, "parts": parts })).await;
    let id = id_of(&response);
    let mut body = response.body;
    let mut pings = 0;
    // Each ping that is here asks for the next: there is never a silence.
    while soon(body.next()).await.is_ok() {
        pings += 1;
        app.go_on();
    }
    assert_eq!(gateway.state(&id).await["status"], "completed");
    assert!((1..60_000).contains(&pings), "{pings}");
    soon(app.hung_up()).await;
}

#[tokio::test]
async fn stop_reaches_the_application() {
    let mut app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    for (method, path) in
        [("POST", "/api/chat/c/stop"), ("DELETE", "/api/chat/c/stream"), ("POST", "/api/chat/c/cancel")]
    {
        let mut response =
            post(&gateway, &json!({ "id": "c", "head": AI_SDK, "parts": ["data: {\"type\":\"start\"}\n\n", null] }))
                .await;
        let id = id_of(&response);
        until(&mut response.body, "start").await;
        assert_eq!(gateway.send(method, path, &[], "").await.status, 204);
        soon(app.hung_up()).await;
        let text = String::from_utf8(rest(response.body).await).expect("UTF-8");
        assert!(text.contains("{\"type\":\"abort\"}"), "{text}");
        assert_eq!(gateway.state(&id).await["status"], "cancelled");
        assert_eq!(gateway.get("/api/chat/c/stream", &[]).await.status, 204);
    }
    assert_eq!(app.asked().len(), 3, "none of it was for the application to hear");
}

#[tokio::test]
async fn hanging_up_stops_it_where_the_operator_says_so_and_not_else() {
    let mut app = App::start().await;
    let stays = TestGateway::with(&app.relay("")).await;
    let leaves = TestGateway::with(&app.relay("on_disconnect = \"cancel\"")).await;
    let body = tells(json!(["data: a\n\n", null, "data: b\n\n"]));
    let mut response = post(&stays, &body).await;
    let id = id_of(&response);
    until(&mut response.body, "a").await;
    drop(response);
    app.go_on();
    assert_eq!(ended(&stays, &id).await["status"], "completed");
    let mut response = post(&leaves, &body).await;
    until(&mut response.body, "a").await;
    drop(response);
    soon(app.hung_up()).await;
}

#[tokio::test]
async fn a_page_that_reloads_before_the_application_has_answered_waits_for_it() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    let body = json!({ "id": "c", "late": true, "parts": ["data: a\n\n"] });
    let at = gateway.at();
    let asking = tokio::spawn({
        let body = body.to_string();
        async move { at.send("POST", "/api/chat", &[], &body).await.status }
    });
    soon(async {
        while app.asked().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    asking.abort(); // the page is gone
    let at = gateway.at();
    let coming_back = tokio::spawn(async move { at.send("GET", "/api/chat/c/stream", &[], "").await });
    app.go_on();
    let response = soon(coming_back).await.expect("it ran");
    assert_eq!(response.status, 200);
    let id = id_of(&response);
    assert_eq!(theirs(&rest(response.body).await, &id), b"data: a\n\n");
}

#[tokio::test]
async fn a_repeated_request_is_asked_once() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("")).await;
    let body = tells(json!(["data: a\n\n"])).to_string();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = gateway.send("POST", "/api/chat", &[("idempotency-key", "k")], &body).await;
        ids.push(id_of(&response));
        rest(response.body).await;
    }
    assert_eq!((ids[0] == ids[1], app.asked().len()), (true, 1));
    let other = gateway.send("POST", "/api/chat", &[("idempotency-key", "k")], "{}").await;
    assert_eq!(other.status, 422);
}

#[tokio::test]
async fn one_person_does_not_find_anothers_answer_where_they_are_told_apart() {
    let app = App::start().await;
    let gateway = TestGateway::with(&app.relay("identify = [\"cookie:session\"]")).await;
    let ann = [("cookie", "x=1; session=ann"), ("content-type", "application/json")];
    let body = tells(json!(["data: a\n\n", null, "data: b\n\n"])).to_string();
    let mut response = gateway.send("POST", "/api/chat", &ann, &body).await;
    let id = id_of(&response);
    let seen = until(&mut response.body, "\n\n").await;
    let cursor = String::from_utf8(seen).expect("UTF-8");
    let cursor = cursor.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    for bob in [&[("cookie", "session=bob")][..], &[]] {
        assert_eq!(gateway.get("/api/chat/c/stream", bob).await.status, 204);
        assert_eq!(gateway.get(&format!("/api/chat/{id}/stream"), bob).await.status, 204);
        assert_eq!(gateway.send("POST", "/api/chat/c/stop", bob, "").await.status, 204);
        let mut headers = bob.to_vec();
        headers.push(("last-event-id", &cursor));
        assert_eq!(gateway.send("POST", "/api/chat", &headers, "{}").await.status, 404);
    }
    assert_eq!(gateway.get("/api/chat/c/stream", &[("cookie", "session=ann; x=2")]).await.status, 200);
    app.go_on();
    rest(response.body).await;
}

#[tokio::test]
async fn a_path_has_no_way_out_of_what_is_relayed_and_a_chat_may_have_any_name() {
    let app = App::start().await;
    let toml = format!("[backends.app]\nkind = \"relay\"\nurl = \"{}/inner\"\npaths = [\"/app/*\"]\n", app.origin());
    let gateway = TestGateway::with(&toml).await;
    for path in ["/app/../secret", "/app/%2e%2e/secret", "/app/..%2fsecret", "/app/a/..;/..;/secret"] {
        assert_eq!(gateway.get(path, &[]).await.status, 404, "{path}");
    }
    assert!(app.asked().is_empty());
    let gateway = TestGateway::with(&app.relay("")).await;
    let body = json!({ "id": "ann: 1/2 é", "parts": ["data: a\n\n", null] });
    let mut response = post(&gateway, &body).await;
    let id = id_of(&response);
    until(&mut response.body, "a").await;
    assert_eq!(id_of(&gateway.get("/api/chat/ann%3A%201%2F2%20%C3%A9/stream", &[]).await), id);
}

#[tokio::test]
async fn an_answer_of_a_model_is_not_told_as_an_applications() {
    let app = App::start().await;
    let gateway = TestGateway::with(&format!("{}[backends.mock]\nkind = \"mock\"\n", app.relay(""))).await;
    let id = gateway.say("one two", json!({})).await;
    assert_eq!(gateway.get(&format!("/api/chat/{id}/stream"), &[]).await.status, 204);
    let cursor = format!("{id}-2");
    let again = gateway.send("POST", "/api/chat", &[("last-event-id", &cursor)], "{}").await;
    assert_eq!((again.status, app.asked().len()), (404, 0));
}

#[tokio::test]
async fn all_below_a_path_goes_to_the_application_but_for_answers_that_are_here() {
    let app = App::start().await;
    let toml = format!("[backends.app]\nkind = \"relay\"\nurl = \"{}/inner\"\npaths = [\"/app/*\"]\n", app.origin());
    let gateway = TestGateway::with(&toml).await;
    let body = tells(json!(["data: a\n\n", null])).to_string();
    let mut response = gateway.send("POST", "/app/threads/1/runs/stream", &[], &body).await;
    let id = response.header("x-stream-id").expect("an id").to_owned();
    assert_eq!(response.header("location"), Some(&*format!("/app/threads/1/runs/stream/{id}/stream")));
    until(&mut response.body, "a").await;
    let html = json!({ "head": "HTTP/1.1 200 OK\r\ncontent-type: text/html", "parts": ["<p>"] }).to_string();
    assert_eq!(rest(gateway.send("POST", "/app/page", &[], &html).await.body).await, b"<p>");
    rest(gateway.get("/app/x/stream", &[]).await.body).await;
    assert_eq!(gateway.get("/app/threads/1/runs/stream/c/stream", &[]).await.status, 200, "it is here");
    let paths: Vec<_> = app.asked().iter().map(|asked| asked.lines().next().expect("a line").to_owned()).collect();
    assert_eq!(
        paths,
        ["POST /inner/threads/1/runs/stream HTTP/1.1", "POST /inner/page HTTP/1.1", "GET /inner/x/stream HTTP/1.1",]
    );
    assert_eq!(gateway.get("/healthz", &[]).await.status, 200, "what is lastword's own stays here");
    assert_eq!(gateway.get("/v1/models/app%2Fx", &[]).await.status, 404, "an application is no model");
}

#[tokio::test]
async fn an_application_that_is_not_there_is_told_by_a_status() {
    let app = App::start().await;
    let toml = app.relay("timeouts = { head = \"50ms\" }");
    let gateway = TestGateway::with(&toml).await;
    let response = post(&gateway, &json!({ "late": true })).await;
    assert_eq!(response.status, 504);
    drop(app);
    let response = post(&gateway, &json!({})).await;
    assert_eq!(response.status, 502);
    let problem = response.json().await;
    assert!(problem["detail"].as_str().expect("a detail").contains("`app`"), "{problem}");
}

#[tokio::test]
async fn with_a_key_lastword_looks_and_without_one_the_application_does() {
    let app = App::start().await;
    let shown = new_key().expect("chance");
    let section = format!("[auth.keys.ann]\nhash = \"{}\"\n", Hash::of(&shown));
    let open = TestGateway::with(&format!("{}{section}", app.relay(""))).await;
    let closed = TestGateway::with(&format!("{}{section}", app.relay("access = \"key\""))).await;
    let body = tells(json!(["data: a\n\n"])).to_string();
    assert_eq!(open.send("POST", "/api/chat", &[("authorization", "Bearer the apps own")], &body).await.status, 200);
    assert_eq!(closed.send("POST", "/api/chat", &[("authorization", "Bearer the apps own")], &body).await.status, 401);
    assert_eq!(closed.send("GET", "/api/chat/c/stream", &[], "").await.status, 401);
    let bearer = format!("Bearer {shown}");
    assert_eq!(closed.send("POST", "/api/chat", &[("authorization", &bearer)], &body).await.status, 200);
}
