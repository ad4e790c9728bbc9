//! The `openai` backend against upstreams that fail in every way an upstream can; of the kinds that share its driver, what is theirs.
//!
//! The upstream is a socket that writes the bytes it is given, so each test says to the byte what came. Nothing sleeps: where
//! an order matters the two sides wait for each other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod fake;

use std::{pin::pin, time::Duration};

use fake::{Fake, Step, ask, sse};
use futures_util::{FutureExt, StreamExt};
use lastword::{
    backend::{Backend, BackendError, ErrorKind, Events, http::Config, openai::OpenAi, responses::Responses},
    client::Secret,
    event::{Event, Json},
    prompt::{Message, Params, Prompt, Role},
    protocol::{Decode, chat::ChatDecode},
    wire::sse::Parser,
};

const KEY: &str = "sk-0123456789abcdef";

const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const REST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\", you\"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const SAID_HELLO: [&str; 3] = ["attempt", "0.0 Text", "0.0 +Hello"];

/// What an upstream that writes these bytes and closes makes of an answer.
async fn answer(bytes: impl AsRef<[u8]>) -> (Vec<String>, Option<BackendError>) {
    let fake = Fake::new(vec![vec![Step::Write(bytes.as_ref().to_vec())]]).await;
    ask(&fake.backend()).await
}

/// The error of an upstream that refuses.
async fn refused(bytes: impl AsRef<[u8]>) -> BackendError {
    let (events, error) = answer(bytes).await;
    assert_eq!(events, [""; 0], "nobody took the prompt");
    error.expect("refused")
}

fn status(line: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {line}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_whole_answer_is_its_events() {
    let fake = Fake::new(vec![vec![Step::Write(sse(&format!("{HELLO}: ping\n\n{REST}")))]]).await;
    let (events, error) = ask(&fake.backend()).await;
    assert_eq!(events, [&SAID_HELLO[..], &["0.0 +, you", "0.0 stop", "finish stop"]].concat());
    assert_eq!(error, None);
    let request = fake.requests().await.remove(0);
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    for part in [
        &format!("authorization: Bearer {KEY}\r\n"),
        "accept: text/event-stream\r\n",
        r#""model":"m""#,
        r#""stream":true"#,
    ] {
        assert!(request.contains(part), "{part} in {request}");
    }
}

#[tokio::test]
async fn the_end_of_the_body_after_a_finish_reason_is_an_end() {
    let (events, error) = answer(sse(&REST.replace("data: [DONE]\n\n", ""))).await;
    assert_eq!((events.last().map(String::as_str), error), (Some("finish stop"), None));
}

/// Reads to the finish reason; then the clock stands still but for the test.
async fn finished(fake: &Fake, silence: Option<Duration>, n: Option<u64>) -> Events {
    let mut config = Config::new(&fake.url());
    config.timeouts.silence = silence.unwrap_or(config.timeouts.silence);
    let params = Params { n, ..Params::default() };
    let mut events = OpenAi::new("fake", config).unwrap().generate(&Prompt { params, ..Prompt::default() }, "m");
    while !matches!(events.next().await, Some(Ok(Event::Finish(..)))) {}
    tokio::time::pause();
    events
}

/// How long it takes until the answer ends well, in milliseconds.
async fn ends_within(events: Events) -> u128 {
    let began = tokio::time::Instant::now();
    let rest = tokio::time::timeout(Duration::from_secs(3600), events.collect::<Vec<_>>()).await;
    assert_eq!(rest.expect("it ends"), [], "nothing follows");
    let waited = began.elapsed().as_millis();
    tokio::time::resume();
    waited
}

#[tokio::test]
async fn what_follows_a_finish_reason_is_waited_for_a_short_while() {
    let whole = || Step::Write(sse(&REST.replace("data: [DONE]\n\n", "")));
    for (silence, waits) in [(None, 5000), (Some(Duration::from_secs(1)), 500)] {
        let fake = Fake::new(vec![vec![whole(), Step::WaitForClose]]).await;
        let waited = ends_within(finished(&fake, silence, None).await).await;
        assert!((waits..waits + 10).contains(&waited), "before the silence clock rings: {waited}");
    }
    // The count of tokens is waited for, and what is behind it; a comment is none of it.
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    let told = [Step::Write(usage.into()), Step::WaitForTest, Step::Write(b": ping\n\n".to_vec()), Step::WaitForClose];
    let fake = Fake::new(vec![[whole(), Step::WaitForTest].into_iter().chain(told).collect()]).await;
    let mut events = finished(&fake, None, None).await;
    assert!(matches!(after(4000, &fake, &mut events).await, Event::Usage(_)));
    assert_eq!(after(4000, &fake, &mut events).await, Event::Alive);
    let waited = ends_within(events).await;
    assert!(waited <= 1010, "{waited}");
}

/// The next event, which the upstream writes after so many milliseconds.
async fn after(ms: u64, fake: &Fake, events: &mut Events) -> Event<'static> {
    assert!(events.next().now_or_never().is_none(), "it waits");
    tokio::time::advance(Duration::from_millis(ms)).await;
    tokio::time::resume();
    fake.go_on();
    let event = events.next().await.unwrap().unwrap();
    tokio::time::pause();
    event
}

/// One choice may be over before another begins.
#[tokio::test]
async fn an_answer_is_whole_when_each_choice_that_was_asked_for_is_over() {
    let second = REST.replace("\"index\":0", "\"index\":1");
    let first = sse(&REST.replace("data: [DONE]\n\n", ""));
    let steps = vec![Step::Write(first), Step::WaitForTest, Step::Write(second.into()), Step::WaitForClose];
    let fake = Fake::new(vec![steps]).await;
    let mut events = finished(&fake, None, Some(2)).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert!(events.next().now_or_never().is_none(), "it waits");
    fake.go_on();
    let rest: Vec<_> = events.map(Result::unwrap).collect().await;
    assert!(rest.iter().any(|event| matches!(event, Event::Finish(1, _))), "{rest:?}");
}

#[tokio::test]
async fn a_comment_is_a_sign_of_life() {
    let fake = Fake::new(vec![vec![Step::Write(sse(": OPENROUTER PROCESSING\n\n")), Step::Stall]]).await;
    let mut events = fake.backend().generate(&Prompt::default(), "m");
    assert!(matches!(events.next().await, Some(Ok(Event::Attempt(_)))));
    let alive = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("a sign of life");
    assert!(matches!(alive, Some(Ok(Event::Alive))));
}

#[tokio::test]
async fn tokens_that_arrive_together_are_given_back_to_back() {
    let fake = Fake::new(vec![vec![Step::Write(sse(&format!("{}{REST}", HELLO.repeat(32))))]]).await;
    let mut events = fake.backend().generate(&Prompt::default(), "m");
    while !matches!(events.next().await, Some(Ok(Event::Delta(..)))) {}
    for _ in 1..32 {
        assert!(matches!(events.next().now_or_never(), Some(Some(Ok(Event::Delta(..))))), "ready without a wait");
    }
}

#[tokio::test]
async fn no_connection_is_unreachable() {
    let fake = Fake::new(vec![]).await;
    let backend = fake.backend();
    drop(fake);
    let (events, error) = ask(&backend).await;
    let error = error.unwrap();
    assert_eq!((events.len(), error.kind, error.retryable()), (0, ErrorKind::Unreachable, true));
    assert!(error.message.contains("cannot connect to `fake`: "), "{error}");
}

#[tokio::test]
async fn a_connection_that_does_not_stand_in_time_is_a_timeout() {
    let fake = Fake::new(vec![vec![Step::Stall]]).await; // takes the connection, and says nothing of TLS
    let mut config = Config::new(&fake.url().replace("http://", "https://"));
    config.timeouts.connect = Duration::from_millis(20);
    let (_, error) = ask(&OpenAi::new("fake", config).unwrap()).await;
    assert_eq!(error.unwrap().kind, ErrorKind::Timeout);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_head_says_so() {
    for bytes in [&b""[..], b"HTTP/1.1 200 O", b"garbage\r\n\r\n"] {
        let error = refused(bytes).await;
        assert_eq!(error.kind, ErrorKind::Truncated);
        assert!(error.message.contains("gave no answer"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_truncated_after_what_came() {
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let first = format!("{:x}\r\n{HELLO}\r\n", HELLO.len());
    for (what, bytes) in [
        ("clean end", sse(HELLO)),
        ("in mid-event", sse(&format!("{HELLO}data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"con"))),
        ("before the blank line", sse(&format!("{HELLO}{}", REST.trim_end()))[..sse(HELLO).len() + 40].to_vec()),
        ("in mid-character", [&sse(HELLO)[..], b"data: {\"choices\":[{\"delta\":{\"content\":\"\xf0\x9f"].concat()),
        (
            "content-length not reached",
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n{HELLO}").into(),
        ),
        ("no last chunk", format!("{chunked}{first}").into()),
        ("a broken chunk size", format!("{chunked}{first}zz\r\nrubbish").into()),
        ("in mid-chunk", format!("{chunked}{first}ff\r\ndata: {{").into()),
    ] {
        let (events, error) = answer(&bytes).await;
        assert_eq!(events, SAID_HELLO, "{what}");
        assert_eq!(error.unwrap().kind, ErrorKind::Truncated, "{what}");
    }
}

#[tokio::test]
async fn a_reset_is_told_apart_from_an_end() {
    let fake = Fake::new(vec![vec![Step::Write(sse(HELLO)), Step::WaitForTest, Step::Reset]]).await;
    let mut events = fake.backend().generate(&Prompt::default(), "m");
    while !matches!(events.next().await, Some(Ok(Event::Delta(..)))) {}
    fake.go_on();
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Truncated);
    assert!(error.message.contains("broke in the middle of the answer"), "{error}");
    assert!(events.next().await.is_none(), "nothing after an error");
}

#[tokio::test]
async fn dropping_the_events_closes_the_connection() {
    let fake = Fake::new(vec![vec![Step::Write(sse(HELLO)), Step::WaitForClose]]).await;
    let mut events = fake.backend().generate(&Prompt::default(), "m");
    while !matches!(events.next().await, Some(Ok(Event::Delta(..)))) {}
    assert!(pin!(events.next()).now_or_never().is_none(), "the upstream is silent");
    drop(events);
    fake.requests().await; // ends when the upstream has seen the connection close
}

#[tokio::test]
async fn a_connection_serves_again_though_the_body_ends_late() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = format!("{head}{:x}\r\n{REST}\r\n", REST.len()).into_bytes();
    let fake = Fake::new(vec![vec![
        Step::Write(body.clone()),
        Step::WaitForTest,
        Step::Write(b"0\r\n\r\n".to_vec()),
        Step::Request,
        Step::Write([&body[..], b"0\r\n\r\n"].concat()),
    ]])
    .await;
    let backend = fake.backend();
    assert_eq!(ask(&backend).await.1, None, "the end is not waited for");
    fake.go_on();
    // Until the late end has arrived a second request opens a connection of its own, which this upstream never takes up.
    let again = async || {
        tokio::time::timeout(Duration::from_millis(20), ask(&backend)).await.is_ok_and(|(_, error)| error.is_none())
    };
    let mut tries = 0;
    while !again().await {
        tries += 1;
        assert!(tries < 100, "the connection is never used again");
    }
    assert_eq!(fake.requests().await.len(), 2, "both on one connection");
}

#[tokio::test]
async fn a_refusal_keeps_the_upstreams_words_code_and_hints() {
    let body = r#"{"error":{"message":"Bad temperature","type":"invalid_request_error","code":null}}"#;
    let error = refused(status("400 Bad Request", "", body)).await;
    assert_eq!((error.kind, error.status, error.retryable()), (ErrorKind::Refused, Some(400), false));
    assert_eq!(
        (&*error.message, error.r#type.as_deref()),
        ("`fake` answered 400: Bad temperature", Some("invalid_request_error"))
    );

    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let error = refused(status("503 Service Unavailable", "", loading)).await;
    assert_eq!(
        (error.status, error.retryable(), &*error.message),
        (Some(503), true, "`fake` answered 503: Loading model")
    );

    let error = refused(status("500 Internal Server Error", "", "")).await;
    assert_eq!((error.status, &*error.message), (Some(500), "`fake` answered 500: with no word of why"));

    let page = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>nginx</body></html>";
    assert_eq!(refused(status("502 Bad Gateway", "", page)).await.message, "`fake` answered 502: 502 Bad Gateway");
}

#[tokio::test]
async fn hints_when_to_try_again_are_heard() {
    for (headers, wait, retryable) in [
        ("retry-after: 7\r\n", Some(7000), true),
        ("retry-after-ms: 250.5\r\nretry-after: 7\r\n", Some(250), true),
        ("date: Wed, 21 Oct 2015 07:28:00 GMT\r\nretry-after: Wed, 21 Oct 2015 07:28:30 GMT\r\n", Some(30_000), true),
        ("retry-after: soon\r\n", None, true),
        ("retry-after: -1\r\n", None, true),
        ("retry-after: 1e300\r\n", None, true),
        ("x-should-retry: false\r\n", None, false),
    ] {
        let error = refused(status("429 Too Many Requests", headers, r#"{"error":"slow down"}"#)).await;
        assert_eq!(error.retry_after.map(|wait| wait.as_millis()), wait, "{headers}");
        assert_eq!(error.retryable(), retryable, "{headers}");
    }
    let error = refused(status("400 Bad Request", "x-should-retry: true\r\n", "{}")).await;
    assert!(error.retryable());
}

#[tokio::test]
async fn a_404_without_a_version_in_the_url_says_what_may_be_missing() {
    let not_found = status("404 Not Found", "", r#"{"detail":"Not Found"}"#);
    let error = refused(&not_found).await;
    assert_eq!(error.message, "`fake` answered 404: Not Found");
    let fake = Fake::new(vec![vec![Step::Write(not_found.into())]]).await;
    let origin = fake.url().replace("/v1", "");
    let (_, error) = ask(&OpenAi::new("fake", Config::new(&format!("{origin}/"))).unwrap()).await;
    assert!(error.unwrap().message.ends_with("should it end with /v1?)"));
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let other = Fake::new(vec![]).await;
    let location = format!("location: {}/chat?token=abcd\r\n", other.url().replace("http://", "http://me:pass@"));
    let error = refused(status("307 Temporary Redirect", &location, "")).await;
    assert_eq!((error.kind, error.status, error.retryable()), (ErrorKind::Refused, Some(307), false));
    assert!(error.message.contains(&format!("to {}/chat,", other.url())), "{error}");
}

#[tokio::test]
async fn a_success_that_is_no_stream_of_events_says_what_it_is() {
    let json = "content-type: application/json\r\n";
    let error = refused(status("200 OK", json, r#"{"error":{"message":"No credits","code":402}}"#)).await;
    assert_eq!((error.kind, error.status), (ErrorKind::Refused, Some(402)));
    assert!(error.message.ends_with("No credits"), "{error}");

    let error = refused(status("200 OK", json, r#"{"object":"chat.completion","choices":[]}"#)).await;
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.message.contains("application/json") && error.message.contains("stream: true"), "{error}");

    let error =
        refused(status("200 OK", "content-type: text/html; charset=utf-8\r\nx-request-id: r7\r\n", "<html>")).await;
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.message.contains("text/html") && error.message.contains("r7"), "{error}");
}

#[tokio::test]
async fn an_error_in_the_middle_comes_after_what_was_said() {
    for frame in [
        r#"data: {"error":{"message":"Out of memory","type":"server_error","code":500}}"#,
        r#"error: {"code":500,"message":"Out of memory","type":"server_error"}"#,
        "event: error\ndata: {\"code\":500,\"message\":\"Out of memory\",\"type\":\"server_error\"}",
    ] {
        let (events, error) = answer(sse(&format!("{HELLO}{frame}\n\n{REST}"))).await;
        assert_eq!(events, SAID_HELLO, "{frame}");
        let error = error.unwrap();
        assert_eq!(
            (error.kind, error.status, error.r#type.as_deref()),
            (ErrorKind::Failed, Some(500), Some("server_error"))
        );
        assert!(error.message.ends_with("Out of memory"), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_the_protocol_is_malformed_after_what_was_said() {
    let long = format!("data: {}", "x".repeat(10 << 20));
    for (frame, why) in [("data: rubbish\n\n", "not JSON"), (&*long, "limit of 2097152 bytes")] {
        let (events, error) = answer(sse(&format!("{HELLO}{frame}"))).await;
        assert_eq!(events, SAID_HELLO, "{why}");
        let error = error.unwrap();
        assert_eq!(error.kind, ErrorKind::Malformed);
        assert!(error.message.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_broken_byte_does_not_break_the_answer() {
    let broken =
        [&sse("")[..], b"data: {\"choices\":[{\"delta\":{\"content\":\"a\xffb\"}}]}\n\n", REST.as_bytes()].concat();
    let (events, error) = answer(broken).await;
    assert_eq!((events[2].as_str(), error), ("0.0 +a\u{fffd}b", None));
}

#[tokio::test]
async fn an_echoed_key_reaches_nobody() {
    let echo = format!(r#"{{"error":{{"message":"Incorrect API key: {KEY}","code":"{KEY}"}}}}"#);
    let sse_echo = sse(&format!("data: {echo}\n\n"));
    for bytes in [
        status("401 Unauthorized", "", &echo).into_bytes(),
        status("401 Unauthorized", "", &format!("no such key {KEY}")).into_bytes(),
        status("307 Temporary Redirect", &format!("location: /{KEY}\r\n"), "").into_bytes(),
        status("200 OK", "content-type: application/json\r\n", &echo).into_bytes(),
        status("200 OK", &format!("content-type: {KEY}\r\n"), "").into_bytes(),
        String::from_utf8(sse_echo)
            .unwrap()
            .replace("\r\n\r\n", &format!("\r\nx-request-id: {KEY}\r\n\r\n"))
            .into_bytes(),
    ] {
        let fake = Fake::new(vec![vec![Step::Write(bytes)]]).await;
        let backend = fake.backend();
        assert!(!format!("{backend:?}").contains(KEY));
        let items: Vec<_> = backend.generate(&Prompt::default(), "m").collect().await;
        let told = format!("{items:?}");
        assert!(!told.contains(KEY) && told.contains("***") && items.last().unwrap().is_err(), "{told}");
    }
}

#[tokio::test]
async fn the_clients_own_words_are_asked_to_the_letter() {
    let fake = Fake::new(vec![vec![Step::Write(sse(REST))]]).await;
    let json = r#"{"messages":[{"role":"user","content":"é"}],"temperature":0.10,"model":"alias","future":[1]}"#;
    let prompt = Prompt { protocol: "chat".into(), body: serde_json::from_str::<Json>(json).ok(), ..Prompt::default() };
    let mut config = Config::new(&fake.url());
    config.auth_header = Some("api-key".into());
    config.api_key = Some(Secret::new(KEY));
    config.query.insert("api-version".into(), Secret::new("2"));
    config.extra_body = serde_json::from_str(r#"{"top_k":40}"#).unwrap();
    let events: Vec<_> = OpenAi::new("fake", config).unwrap().generate(&prompt, "theirs").collect().await;
    assert!(events.iter().all(Result::is_ok));
    let request = fake.requests().await.remove(0);
    assert!(request.starts_with("POST /v1/chat/completions?api-version=2 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\napi-key: {KEY}\r\n")) && !request.contains("authorization"), "{request}");
    let body = request.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(
        body,
        r#"{"messages":[{"role":"user","content":"é"}],"temperature":0.10,"model":"theirs","future":[1],"#.to_owned()
            + r#""top_k":40,"stream":true,"stream_options":{"include_usage":true}}"#
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_before_anybody_is() {
    let backend = OpenAi::new("fake", Config::new("http://127.0.0.1:1/v1")).unwrap();
    let prompt = Prompt {
        messages: vec![Message::text(Role::User, "Hi")],
        backend_options: serde_json::from_str(r#"{"stream":false}"#).ok(),
        ..Prompt::default()
    };
    assert_eq!(backend.check(&prompt, "m").unwrap_err().kind, ErrorKind::Unfit);
    let items: Vec<_> = backend.generate(&prompt, "m").collect().await;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].as_ref().unwrap_err().kind, ErrorKind::Unfit);
}

#[tokio::test]
async fn an_upstreams_models_are_listed() {
    let list =
        status("200 OK", "content-type: application/json\r\n", r#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#);
    let fake = Fake::new(vec![vec![Step::Write(list.into())]]).await;
    assert_eq!(fake.backend().list_models().await.unwrap(), ["a", "b"]);
    assert!(fake.requests().await[0].starts_with("GET /v1/models HTTP/1.1\r\n"));

    let fake = Fake::new(vec![vec![Step::Write(status("401 Unauthorized", "", KEY).into())]]).await;
    let error = fake.backend().list_models().await.unwrap_err();
    assert_eq!((error.kind, &*error.message), (ErrorKind::Refused, "`fake` answered 401: ***"));
}

#[tokio::test]
async fn a_server_of_responses_is_asked_at_its_own_path_in_its_own_words() {
    let answer = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n";
    let list = status("200 OK", "content-type: application/json\r\n", r#"{"data":[{"id":"a"}]}"#);
    let own = r#"{"input":"é","temperature":0.10,"model":"alias","background":true,"strict":true,"future":[1]}"#;
    let common = Prompt { messages: vec![Message::text(Role::User, "Hi")], ..Prompt::default() };
    let prompt = Prompt { protocol: "responses".into(), body: serde_json::from_str(own).ok(), ..common.clone() };
    let fake =
        Fake::new(vec![vec![Step::Write(sse(answer))], vec![Step::Write(sse(answer))], vec![Step::Write(list.into())]])
            .await;
    let mut config = Config::new(&fake.url());
    config.api_key = Some(Secret::new(KEY));
    let backend = Responses::new("fake", config).unwrap();
    for prompt in [&prompt, &common] {
        let events: Vec<_> = backend.generate(prompt, "theirs").map(Result::unwrap).collect().await;
        let Event::Attempt(attempt) = &events[0] else { panic!("{events:?}") };
        assert_eq!((&*attempt.protocol, &*attempt.model), ("responses", "theirs"));
        assert!(matches!(events.last(), Some(Event::Finish(..))), "{events:?}");
    }
    assert_eq!(backend.list_models().await.unwrap(), ["a"]);
    let requests = fake.requests().await;
    for request in &requests[..2] {
        assert!(request.starts_with("POST /v1/responses HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("authorization: Bearer {KEY}\r\n")), "{request}");
    }
    let body = |n: usize| requests[n].split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(body(0), r#"{"input":"é","temperature":0.10,"model":"theirs","future":[1],"stream":true}"#);
    let crossed =
        r#"{"model":"theirs","input":[{"type":"message","role":"user","content":"Hi"}],"store":false,"stream":true}"#;
    assert_eq!(body(1), crossed);
    assert!(requests[2].starts_with("GET /v1/models HTTP/1.1\r\n"));
}

#[test]
fn a_server_of_responses_says_what_it_has_no_words_for() {
    let backend = Responses::new("fake", Config::new("http://127.0.0.1:1/v1")).unwrap();
    let said = r#"{"stop":["x"],"seed":1,"n":1,"tools":[{"type":"new"}]}"#;
    let mut prompt = Prompt { params: serde_json::from_str(said).unwrap(), ..Prompt::default() };
    prompt.foreign = vec!["logit_bias".to_owned()];
    assert_eq!(backend.check(&prompt, "m").unwrap(), ["logit_bias", "stop", "seed", "tools[0]"]);
    prompt.params.n = Some(2);
    assert_eq!(backend.check(&prompt, "m").unwrap_err().kind, ErrorKind::Unfit);
    let own = Prompt { protocol: "responses".into(), body: serde_json::from_str("{}").ok(), ..prompt };
    assert_eq!(backend.check(&own, "m").unwrap(), [""; 0]);
    let reserved = Prompt { backend_options: serde_json::from_str(r#"{"background":true}"#).ok(), ..own };
    assert_eq!(backend.check(&reserved, "m").unwrap_err().kind, ErrorKind::Unfit);
}

#[test]
fn every_split_of_a_captured_answer_gives_the_same_events() {
    let captured = include_bytes!("captures/llama-cpp.chat.sse");
    let made = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm 🦀\"}}]}\r\n\r\n: ping\r\n\r\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"日本\\n\"}}]}\r\rdata: {\"choices\":[\ndata: {\"delta\":{\"tool_calls\":[\
        {\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"é\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";
    for bytes in [&captured[..], made.as_bytes()] {
        let whole = decode([bytes]);
        assert!(whole.len() > 8 && whole.iter().any(|event| matches!(event, Event::Finish(..))), "{whole:?}");
        for cut in 0..=bytes.len() {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(decode([left, right]), whole, "cut at byte {cut}");
        }
        assert_eq!(decode(bytes.chunks(1)), whole, "byte by byte");
    }
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event<'static>> {
    let (mut parser, mut decode, mut events) = (Parser::new(1 << 20).error_field(), ChatDecode::default(), Vec::new());
    for piece in pieces {
        let mut frames = parser.feed(piece);
        while let Some(frame) = frames.next().unwrap() {
            decode.frame(frame.event, frame.data, &mut events).unwrap();
        }
    }
    decode.finish(&mut events).unwrap();
    events
}
