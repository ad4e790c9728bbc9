//! What an attacker would try, against a running lastword in which Ada has an answer that runs: each is refused, tells nothing, and leaves
//! it serving. The log, in which everything is, holds no credential.

#[expect(dead_code, unused_imports, reason = "shared with other tests, which need more of it")]
#[path = "gateway/common/mod.rs"]
mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use lastword::{
    auth::{Hash, Scope, Session, Signer, Ticket, new_key},
    id::StreamId,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::common::{Response, http, process::Process, request, soon, sse};

/// What Ada's answer says, and nobody else may hear.
const SECRET: &str = "otter";
const TOKEN_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// How long a head or a body may take.
const PATIENCE: &str = "300ms";

struct House {
    process: Process,
    ada: String,
    bob: String,
    /// Ada's answer, which runs.
    id: String,
    ticket: String,
    cookie: String,
    /// What must not be in the log.
    secrets: Vec<String>,
}

impl House {
    async fn new() -> Self {
        let (ada, bob) = (new_key().expect("chance"), new_key().expect("chance"));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lastword.toml");
        let section = |name: &str, key: &str| format!("[auth.keys.{name}]\nhash = \"{}\"\n", Hash::of(key));
        let config = format!(
            "[server]\nheader_timeout = \"{PATIENCE}\"\nbody_timeout = \"{PATIENCE}\"\ncors = [\"*\"]\n\
             [log]\nfilter = \"trace\"\n[backends.mock]\nkind = \"mock\"\ndelay = \"0ms\"\n\
             [auth.jwt]\nsecret = \"${{TOKEN_SECRET}}\"\n{}{}",
            section("ada", &ada),
            section("bob", &bob)
        );
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" --config \"$FILE\"", env!("CARGO_BIN_EXE_lastword")]);
        command.env("FILE", &file).env("TOKEN_SECRET", TOKEN_SECRET);
        let process = Process::start_by(command, "127.0.0.1:0", &[]).await;
        let mut house = Self {
            process,
            secrets: vec![ada.clone(), bob.clone(), TOKEN_SECRET.to_owned()],
            ada: format!("Bearer {ada}"),
            bob: format!("Bearer {bob}"),
            id: String::new(),
            ticket: String::new(),
            cookie: String::new(),
        };
        let options = json!({ "text": format!("{SECRET} two three"), "fault": { "kind": "stall", "after": 2 } });
        let asked = json!({ "prompt": "x", "model": "mock/words", "backend_options": options }).to_string();
        let state = house.send("POST", "/v1/streams", &[("authorization", &house.ada)], &asked).await.json().await;
        house.id = state["id"].as_str().expect("an id").to_owned();
        house.ticket =
            state["events_url"].as_str().and_then(|url| url.split_once("token=")).expect("a ticket").1.to_owned();
        let signed_in = house.send("POST", "/v1/session", &[("authorization", &house.ada)], "").await;
        let cookie = signed_in.header("set-cookie").and_then(|set| set.split(';').next()).expect("a cookie");
        house.cookie = cookie.to_owned();
        house.secrets.extend([house.ticket.clone(), cookie.split_once('=').expect("a pair").1.to_owned()]);
        house
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        soon(request(self.process.address(), method, path, headers, body)).await.expect("a response")
    }

    /// What comes back for these bytes, until the other side closes; or what has come when it waits for more.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.process.address()).await.expect("a connection");
        let _ = stream.write_all(bytes).await; // it may have hung up by now
        let mut all = Vec::new();
        let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut all)).await;
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Refused: with one of these, and without a word of the answer.
    async fn refuses(&self, what: &str, response: Response, statuses: &[u16]) {
        let status = response.status;
        let (body, _) = soon(response.body.rest()).await;
        let body = String::from_utf8_lossy(&body);
        assert!(statuses.contains(&status), "{what}: {status} {body}");
        assert!(!body.contains(SECRET), "{what}: {body}");
    }

    /// Ada's answer runs on as it was, others are answered, and the log holds no secret and no panic.
    async fn stays_well(self) {
        let state = self.send("GET", &format!("/v1/streams/{}", self.id), &[("authorization", &self.ada)], "").await;
        let state = state.json().await;
        assert_eq!((&state["status"], &state["text"]), (&json!("running"), &json!(format!("{SECRET} two"))), "{state}");
        let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
        let headers = [("authorization", &*self.bob), ("accept", "text/event-stream")];
        let (events, ending) = soon(self.send("POST", "/v1/streams", &headers, &asked).await.body.rest()).await;
        assert_eq!(ending, common::Ending::Clean);
        assert!(String::from_utf8_lossy(&events).contains("event: end"));
        let log = self.process.kill().await;
        assert!(log.contains("DEBUG request{"), "everything is logged: {log}");
        for secret in self.secrets.iter().map(String::as_str).chain([SECRET, "panicked"]) {
            assert_eq!(log.lines().find(|line| line.contains(secret)), None);
        }
    }
}

fn token(header: &Value, claims: &Value, secret: Option<&[u8]>) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    let mac = secret.map(|secret| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()))
    });
    format!("{message}.{}", mac.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_stream() {
    let house = House::new().await;
    let events = [("authorization", &*house.bob), ("accept", "text/event-stream")];
    for (method, path) in [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/events?format=text"),
        ("GET", "/events?format=json&wait=1"),
        ("GET", "/events?snapshot=true&after=1"),
        ("POST", "/cancel"),
        ("POST", "/tickets"),
        ("DELETE", ""),
    ] {
        let path = format!("/v1/streams/{}{path}", house.id);
        house.refuses(&path, house.send(method, &path, &events, "").await, &[404]).await;
        house.refuses(&path, house.send(method, &path, &[], "").await, &[401]).await;
    }
    for surface in ["/v1/streams", "/v1/chat/completions", "/v1/messages", "/v1/responses"] {
        let attaching = [events[0], events[1], ("last-event-id", &format!("{}-1", house.id))];
        let asked = json!({ "prompt": "x", "input": "x", "messages": [], "max_tokens": 1, "stream": true }).to_string();
        house.refuses(surface, house.send("POST", surface, &attaching, &asked).await, &[400, 404]).await;
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_forged_replayed_expired_and_scoped_anew() {
    let house = House::new().await;
    let id: StreamId = house.id.parse().expect("an id");
    let mine = Ticket { stream: id, scope: Scope::Cancel, expires: u64::MAX, owner: "ada".to_owned() };
    let (signed, mac) = house.ticket.split_once('.').expect("two parts");
    let bytes = URL_SAFE_NO_PAD.decode(signed).expect("base64");
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        format!("{}.{mac}", URL_SAFE_NO_PAD.encode(bytes))
    };
    let forged = [
        Signer::new(b"").ticket(&mine),
        Signer::new(&[0; 32]).ticket(&mine),
        Signer::new(TOKEN_SECRET.as_bytes()).ticket(&mine),
        Signer::new(b"x").session(&Session { expires: u64::MAX, owner: "ada".to_owned() }),
        // Good for something else, for longer, of somebody else.
        with(0, 2),
        with(1, 0),
        with(2, 0x7f),
        with(bytes.len() - 1, b'b'),
        format!("{signed}."),
        signed.to_owned(),
        format!("{signed}.{signed}"),
        format!("{}.{mac}", URL_SAFE_NO_PAD.encode([&bytes[..], b"x"].concat())),
        house.cookie.split_once('=').expect("a pair").1.to_owned(),
        String::from(".") + mac,
        "A".repeat(9000),
    ];
    for ticket in &forged {
        for path in ["", "/events", "/cancel"] {
            let method = if path == "/cancel" { "POST" } else { "GET" };
            let path = format!("/v1/streams/{}{path}?token={ticket}", house.id);
            // Where it is longer than a head may be, it is not even read.
            house.refuses(&path, house.send(method, &path, &[("accept", "text/event-stream")], "").await, &[401]).await;
        }
    }
    // To read, and to cancel all the same.
    let tickets = format!("/v1/streams/{}/tickets", house.id);
    let reading = house.send("POST", &tickets, &[("authorization", &house.ada)], "").await.json().await;
    let reading = reading["token"].as_str().expect("a ticket");
    let (signed, mac) = reading.split_once('.').expect("two parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(signed).expect("base64");
    bytes[1] = Scope::Cancel as u8;
    for (ticket, status) in [(reading, 403), (&*format!("{}.{mac}", URL_SAFE_NO_PAD.encode(bytes)), 401)] {
        let path = format!("/v1/streams/{}/cancel?token={ticket}", house.id);
        house.refuses("to read alone", house.send("POST", &path, &[], "").await, &[status]).await;
    }
    // Of another stream: also of Bob's own.
    let asked = json!({ "prompt": "x", "model": "mock/echo" }).to_string();
    let bobs = house.send("POST", "/v1/streams", &[("authorization", &house.bob)], &asked).await.json().await;
    let (_, bobs) = bobs["events_url"].as_str().and_then(|url| url.split_once("token=")).expect("a ticket");
    for path in ["", "/events"] {
        let path = format!("/v1/streams/{}{path}?token={bobs}", house.id);
        house.refuses(&path, house.send("GET", &path, &[], "").await, &[403]).await;
    }
    // A second one in the same URL, in capitals, in a header, in the cookie.
    let path = format!("/v1/streams/{}/events", house.id);
    for query in [
        format!("?token={bobs}&token={}", house.ticket),
        format!("?Token={}", house.ticket),
        format!("?x=&token%3D{}", house.ticket),
    ] {
        house.refuses(&query, house.send("GET", &format!("{path}{query}"), &[], "").await, &[401, 403]).await;
    }
    for header in [
        ("authorization", format!("Bearer {}", house.ticket)),
        ("cookie", format!("lastword_session={}", house.ticket)),
    ] {
        house.refuses(header.0, house.send("GET", &path, &[(header.0, &header.1)], "").await, &[401]).await;
    }
    // Expired.
    let wanted = json!({ "scope": "cancel", "ttl": "1s" }).to_string();
    let short = house
        .send("POST", &format!("/v1/streams/{}/tickets", house.id), &[("authorization", &house.ada)], &wanted)
        .await;
    let short = short.json().await["token"].as_str().expect("a ticket").to_owned();
    let state = format!("/v1/streams/{}?token={short}", house.id);
    soon(async { while house.send("GET", &state, &[], "").await.status != 401 {} }).await;
    for (method, path) in [("GET", ""), ("GET", "/events"), ("POST", "/cancel")] {
        let path = format!("/v1/streams/{}{path}?token={short}", house.id);
        house.refuses(&path, house.send(method, &path, &[], "").await, &[401]).await;
    }
    let denied = house.send("GET", &format!("{path}?token={short}"), &[("accept", "text/event-stream")], "").await;
    house.refuses("an expired one, as an EventSource", denied, &[200]).await;
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_no_algorithm_and_of_another_ones_key() {
    let house = House::new().await;
    let claims = json!({ "sub": "ada", "exp": 4_000_000_000_u64 });
    let path = "/v1/streams";
    let good = token(&json!({ "alg": "HS256" }), &claims, Some(TOKEN_SECRET.as_bytes()));
    let bearer = |token: &str| format!("Bearer {token}");
    let list = house.send("GET", path, &[("authorization", &bearer(&good))], "").await;
    assert_eq!(list.status, 200);
    assert_eq!(list.json().await["streams"], json!([]), "a token's `ada` is not the key's `ada`");
    for sub in ["jwt:ada", "ada\u{0}", ""] {
        let theirs = token(
            &json!({ "alg": "HS256" }),
            &json!({ "sub": sub, "exp": 4_000_000_000_u64 }),
            Some(TOKEN_SECRET.as_bytes()),
        );
        let state =
            house.send("GET", &format!("/v1/streams/{}", house.id), &[("authorization", &bearer(&theirs))], "").await;
        house.refuses(sub, state, &[401, 404]).await;
    }
    for alg in [
        json!("none"),
        json!("None"),
        json!("NONE"),
        json!("nOnE"),
        json!(""),
        json!(null),
        json!(["HS256"]),
        json!("RS256"),
    ] {
        for secret in [None, Some(&b""[..]), Some(b"none"), Some(TOKEN_SECRET.as_bytes())] {
            let forged = token(&json!({ "alg": alg, "typ": "JWT" }), &claims, secret);
            house
                .refuses(&forged, house.send("GET", path, &[("authorization", &bearer(&forged))], "").await, &[401])
                .await;
        }
    }
    // Keys that the token itself brings, or says where to find.
    for (name, value) in [
        ("jwk", json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(b"mine") })),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/keys")),
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("' or 1=1 --")),
    ] {
        for secret in [&b"mine"[..], b""] {
            let mut header = json!({ "alg": "HS256" });
            header[name] = value.clone();
            let forged = token(&header, &claims, Some(secret));
            house
                .refuses(&forged, house.send("GET", path, &[("authorization", &bearer(&forged))], "").await, &[401])
                .await;
        }
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site() {
    let house = House::new().await;
    let cookie = ("cookie", &*house.cookie);
    let stream = format!("/v1/streams/{}", house.id);
    let calls = [
        ("POST", "/v1/streams"),
        ("POST", &*format!("{stream}/cancel")),
        ("DELETE", &stream),
        ("POST", &format!("{stream}/tickets")),
    ];
    for (method, path) in calls {
        for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""] {
            // As browsers say it; as old ones do; and as one that says nothing.
            for more in [
                vec![("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
                vec![("origin", "null")],
                vec![],
            ] {
                let headers = [&[cookie, ("content-type", kind)], &more[..]].concat();
                let body = r#"{"prompt":"x","model":"mock/echo"}"#;
                house.refuses(path, house.send(method, path, &headers, body).await, &[403]).await;
            }
        }
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn line_breaks_in_every_field() {
    let house = House::new().await;
    let evil = "a\r\n\r\nevent: evil\ndata: evil\nid: 99\r\nset-cookie: evil=1\u{2028}\u{0}\u{85}b";
    let options = json!({
        "text": format!("{evil} {evil}"), "reasoning": evil, "delay": "0ms",
        "tool_call": { "name": "look", "arguments": { evil: evil } },
    });
    let asked = json!({
        "prompt": evil, "system": evil, "model": "mock/words", "stop": ["\r\n\r\nnever"], "metadata": { evil: evil },
        "backend_options": options,
    });
    let headers = [("authorization", &*house.ada), ("accept", "text/event-stream")];
    let (mut said, mut all) = (String::new(), Vec::new());
    let response = house.send("POST", "/v1/streams", &headers, &asked.to_string()).await;
    assert_eq!((response.status, response.header("set-cookie")), (200, None));
    all.extend(soon(response.body.rest()).await.0);
    for event in sse::read(&all).events {
        assert!(["start", "message", "reasoning", "tool_call", "end"].contains(&&*event.name), "{event:?}");
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        if event.name == "message" {
            said += data["text"].as_str().expect("a text");
        }
    }
    assert_eq!(said, format!("{evil} {evil}"));
    // In what comes back in a header, or in an error.
    for (field, value) in [
        ("model", json!({ "prompt": "x", "model": evil })),
        ("template", json!({ "template": evil, "variables": {} })),
        (evil, json!({ "prompt": "x", evil: 1 })),
        ("on_disconnect", json!({ "prompt": "x", "on_disconnect": evil })),
        ("chunking", json!({ "prompt": "x", "chunking": evil })),
    ] {
        let refused = house.send("POST", "/v1/streams", &headers, &value.to_string()).await;
        assert!(refused.headers.iter().all(|(name, value)| name != "set-cookie" && !value.contains("evil")), "{field}");
        house.refuses(field, refused, &[400, 404]).await;
    }
    // Encoded, in the URL.
    let (broken, stream) = ("%0d%0aset-cookie:%20evil=1%0d%0a%0d%0aevil", format!("/v1/streams/{}", house.id));
    for path in [
        format!("/{broken}"),
        format!("/v1/streams/{broken}"),
        format!("{stream}/events?after={broken}"),
        format!("{stream}/events?format={broken}"),
        format!("{stream}/events?token={broken}"),
        format!("/v1/streams?before={broken}"),
        format!("/v1/models/{broken}"),
    ] {
        let refused = house.send("GET", &path, &headers[..1], "").await;
        assert!(refused.headers.iter().all(|(name, value)| name != "set-cookie" && !value.contains("evil")), "{path}");
        // An unreadable cursor is answered in band.
        if refused.status != 200 {
            house.refuses(&path, refused, &[400, 404]).await;
        }
    }
    // In a header's value no line can break; hyper refuses what tries.
    for name in
        ["last-event-id", "idempotency-key", "x-request-id", "origin", "authorization", "x-api-key", "cookie", "host"]
    {
        for value in ["a\rb: evil", "a\u{0}b", "a\n\tb"] {
            let head =
                format!("GET /v1/streams HTTP/1.1\r\nhost: localhost\r\n{name}: {value}\r\nconnection: close\r\n\r\n");
            let said = house.raw(head.as_bytes()).await;
            assert!(said.starts_with("HTTP/1.1 4") || said.is_empty(), "{name} {value:?}: {said}");
            assert!(!said.contains("evil") && !said.contains(SECRET), "{said}");
        }
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_mean_another() {
    let house = House::new().await;
    let id = &house.id;
    for path in [
        "//v1/streams".to_owned(),
        "/v1//streams".to_owned(),
        "/V1/streams".to_owned(),
        "/%76%31/streams".to_owned(),
        "/v1%2fstreams".to_owned(),
        "/./v1/streams".to_owned(),
        "/healthz/../v1/streams".to_owned(),
        "/healthz/%2e%2e/v1/streams".to_owned(),
        "/app.js/../../v1/streams".to_owned(),
        "/v1/streams/".to_owned(),
        "/v1/streams;x".to_owned(),
        "/v1/streams%00".to_owned(),
        "/v1/streams%3fx".to_owned(),
        "/;/v1/streams".to_owned(),
        "/\\v1\\streams".to_owned(),
        format!("//v1/streams/{id}/events"),
        format!("/%2fv1/streams/{id}"),
        format!("/v1/session/../streams/{id}"),
        format!("/v1/streams/{id}%2fevents"),
        format!("/v1/streams/{id}/events/"),
        format!("/v1/./streams/{id}/events"),
        format!("http://evil.example/v1/streams/{id}/events"),
        format!("http://localhost/v1/streams/{id}/events"),
        "/../../../../etc/passwd".to_owned(),
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "/..%2f..%2f..%2fetc%2fpasswd".to_owned(),
        "/....//....//etc/passwd".to_owned(),
        "/lastword.toml".to_owned(),
        "/data/ticket.key".to_owned(),
        "/.git/config".to_owned(),
    ] {
        let said =
            house.raw(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 4"), "{path}: {said}");
        assert!(!said.contains(SECRET) && !said.contains(id.as_str()) || path.contains(id.as_str()), "{path}: {said}");
        assert!(!said.contains("root:") && !said.contains("hash"), "{path}: {said}");
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hides_another() {
    let house = House::new().await;
    let hidden =
        format!("GET /v1/streams/{} HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\r\n", house.id, house.ada);
    // Whoever sends it may ask; so its body is read to what it says is its end.
    let bob = &house.bob;
    let post = |headers: &str, body: &str| {
        format!("POST /v1/streams HTTP/1.1\r\nhost: localhost\r\nauthorization: {bob}\r\n{headers}\r\n{body}")
    };
    let heard = house.raw(post("content-length: 2\r\n", &format!("{{}}{hidden}")).as_bytes()).await;
    assert!(heard.contains(SECRET), "one behind another is heard, where it is not hidden: {heard}");
    for (what, bytes) in [
        (
            "a length and chunks",
            post("content-length: 4\r\ntransfer-encoding: chunked\r\n", &format!("0\r\n\r\n{hidden}")),
        ),
        (
            "chunks and a length",
            post(
                &format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", 5 + hidden.len()),
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        ("two lengths", post(&format!("content-length: 0\r\ncontent-length: {}\r\n", hidden.len()), &hidden)),
        ("two lengths in one", post(&format!("content-length: 0, {}\r\n", hidden.len()), &hidden)),
        ("a length with a sign", post("content-length: +0\r\n", &hidden)),
        ("a length in hexadecimal", post("content-length: 0x0\r\n", &hidden)),
        ("a length that is none", post("content-length: -1\r\n", &hidden)),
        ("a length too large", post("content-length: 18446744073709551616\r\n", &hidden)),
        ("a space before the colon", post("transfer-encoding : chunked\r\n", &format!("0\r\n\r\n{hidden}"))),
        ("a folded header", post("transfer-encoding:\r\n chunked\r\n", &format!("0\r\n\r\n{hidden}"))),
        ("another coding last", post("transfer-encoding: chunked, identity\r\n", &format!("0\r\n\r\n{hidden}"))),
        ("a coding that is not known", post("transfer-encoding: xchunked\r\n", &format!("0\r\n\r\n{hidden}"))),
        (
            "twice chunked",
            post("transfer-encoding: chunked\r\ntransfer-encoding: cow\r\n", &format!("0\r\n\r\n{hidden}")),
        ),
        (
            "a chunk of a size that wraps",
            post("transfer-encoding: chunked\r\n", &format!("ffffffffffffffff0\r\n{hidden}")),
        ),
        ("a chunk of no size", post("transfer-encoding: chunked\r\n", &format!("x\r\n{hidden}"))),
        (
            "a chunk whose end is not there",
            post("transfer-encoding: chunked\r\n", &format!("1\r\naa\r\n0\r\n\r\n{hidden}")),
        ),
    ] {
        let said = house.raw(bytes.as_bytes()).await;
        assert!(!said.contains(SECRET), "{what}: the hidden one was heard: {said}");
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{what}: {said}");
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_too_large_and_too_deep() {
    let house = House::new().await;
    let line = |n: usize| format!("x-{n}: {}\r\n", "x".repeat(50));
    for (what, headers) in [
        ("one large header", format!("x: {}\r\n", "x".repeat(200_000))),
        ("a large cookie", format!("cookie: {}\r\n", "a=b; ".repeat(50_000))),
        ("a large key", format!("authorization: Bearer {}\r\n", "x".repeat(100_000))),
        ("many headers", (0..5000).map(line).collect()),
    ] {
        let said = house.raw(format!("GET /v1/streams HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").as_bytes()).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{what}: {said}");
    }
    let said = house.raw(format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(100_000)).as_bytes()).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    let ada = [("authorization", &*house.ada)];
    for surface in ["/v1/streams", "/v1/chat/completions", "/v1/messages", "/v1/responses"] {
        for deep in
            [format!("{{\"metadata\":{}", "[".repeat(100_000)), format!("{{\"messages\":{}", "{\"a\":".repeat(100_000))]
        {
            house.refuses("deep", house.send("POST", surface, &ada, &deep).await, &[400]).await;
        }
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_slow_bodies() {
    let house = House::new().await;
    let address = house.process.address();
    let drip = |head: String| async move {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return String::new();
        }
        let (mut read, mut write) = stream.into_split();
        // A byte now and then, for as long as it is taken.
        let dripping = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut said = Vec::new();
        let _ = soon(read.read_to_end(&mut said)).await;
        dripping.abort();
        String::from_utf8_lossy(&said).into_owned()
    };
    let body = format!(
        "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\ncontent-length: 90000\r\n\r\n",
        house.ada
    );
    let nobodys = "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90000\r\n\r\n".to_owned();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..90 {
        all.spawn(drip(match n % 3 {
            0 => "GET /v1/streams HTTP/1.1\r\nhost: localhost\r\nx-slow: ".to_owned(),
            1 => body.clone(),
            _ => nobodys.clone(),
        }));
    }
    while let Some(said) = soon(all.join_next()).await {
        let said = said.expect("dripped");
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_as_fast_as_they_are_opened() {
    let house = House::new().await;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // GET / of http://localhost (RFC 7541, appendix A), its end, and CANCEL.
    let head = [&[0x82, 0x84, 0x86, 0x41, 9][..], b"localhost"].concat();
    let pair = move |n: u32| [frame(1, 0x5, n, &head), frame(3, 0, n, &8_u32.to_be_bytes())].concat();
    let mut socket = TcpStream::connect(house.process.address()).await.expect("a connection");
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("taken");
    socket.write_all(&frame(4, 0, 0, &[])).await.expect("taken");
    let (mut read, mut write) = socket.into_split();
    let opening = tokio::spawn(async move {
        for n in 0..50_000 {
            if write.write_all(&pair(2 * n + 1)).await.is_err() {
                break;
            }
        }
        write // and does not hang up
    });
    // It is the server that does.
    let mut said = Vec::new();
    let _ = soon(read.read_to_end(&mut said)).await;
    drop(soon(opening).await.expect("no panic"));
    house.stays_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_can_be_read_where_it_was_asked() {
    let house = House::new().await;
    let refused =
        http::exchange(house.process.address(), b"POST /v1/messages HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}").await;
    let refused = String::from_utf8(refused.expect("an answer")).expect("UTF-8");
    assert!(
        refused.contains(" 401 ")
            && refused.contains("authentication_error")
            && refused.to_ascii_lowercase().contains("www-authenticate: bearer")
    );
    house.stays_well().await;
}
