//! The other forms of the events: lines of JSON, the words alone, the long poll, the answer so far in one piece

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, task::JoinSet};

use super::{problem, reached, read_to, said, stalls, text_of, until};
use crate::common::{At, Ending, TestGateway, only, soon, sse, text};

const SAID: &str = "One zwei\n三 \u{1f30a}four \"five\" s\\ix\r\n sieben \u{2028}eight nine ten.\u{301}";

/// Reasoning, words and a call.
fn of_many_parts() -> Value {
    json!({
        "reasoning": "Hm, let me\nsee \u{1f30a}",
        "text": SAID,
        "tool_call": { "name": "look_up", "arguments": { "the words": "one two \" three" } },
        "delay": "0ms",
    })
}

/// An event as every form has it: its id, its name, its data.
pub(super) fn as_value(event: &sse::Event) -> Value {
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    let id = event.id.parse::<u64>().map_or_else(|_| json!(event.id), |n| json!(n));
    json!({ "id": id, "event": event.name, "data": data })
}

/// A client of lines: it takes whole ones, and its cursor is the last id it saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    pub(super) events: Vec<Value>,
    cursor: Option<String>,
}

impl Lines {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(&bytes[..0], |end| &bytes[..end]);
        for line in whole.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            self.see(serde_json::from_slice(line).expect("JSON"));
        }
    }

    pub(super) fn see(&mut self, event: Value) {
        match &event["id"] {
            Value::Null => {}
            Value::String(id) => self.cursor = Some(id.clone()),
            id => self.cursor = Some(id.to_string()),
        }
        self.events.push(event);
    }

    pub(super) fn query(&self) -> String {
        self.cursor.iter().map(|cursor| format!("&after={cursor}")).collect()
    }

    pub(super) fn text(&self) -> String {
        self.events
            .iter()
            .filter(|event| event["event"] == "message")
            .map(|event| event["data"]["text"].as_str().expect("a text"))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_tell_the_same_events_and_a_cut_after_any_byte_costs_nothing() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let id = at.say(of_many_parts(), json!({})).await;
    let expected: Vec<_> = gateway.whole(&id).await.iter().map(as_value).collect();
    let path = format!("/v1/streams/{id}/events?format=ndjson");
    let response = gateway.get(&path, &[]).await;
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(response.header("x-stream-id"), Some(&*id));
    let bytes = text_of(response).await.into_bytes();
    let mut whole = Lines::default();
    whole.take(&bytes);
    assert_eq!(whole.events, expected);
    let by_header = gateway.get(&format!("/v1/streams/{id}/events"), &[("accept", "application/x-ndjson")]).await;
    assert_eq!(text_of(by_header).await.as_bytes(), bytes);
    let mut tasks = JoinSet::new();
    for cut in 0..=bytes.len() {
        let (bytes, path, expected) = (bytes.clone(), path.clone(), expected.clone());
        tasks.spawn(async move {
            let mut client = Lines::default();
            client.take(&bytes[..cut]);
            let rest = at.get(&format!("{path}{}", client.query()), &[]).await;
            let status = rest.status;
            let (rest, ending) = soon(rest.body.rest()).await;
            client.take(&rest);
            assert_eq!((status, ending), (200, Ending::Clean), "cut after {cut}");
            assert_eq!(client.events, expected, "cut after {cut}");
        });
    }
    soon(tasks.join_all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_cuts_by_chance_in_a_running_answer_of_lines_cost_nothing() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let mut tasks = JoinSet::new();
    for seed in 0..20 {
        tasks.spawn(async move {
            let mut chance = fastrand::Rng::with_seed(seed);
            let id = at.say(json!({ "text": SAID, "repeat": 20, "delay": "1ms" }), json!({})).await;
            let path = format!("/v1/streams/{id}/events?format=ndjson");
            let mut client = Lines::default();
            for _ in 0..20 {
                let response = at.get(&format!("{path}{}", client.query()), &[]).await;
                client.take(&soon(response.body.cut_after(chance.usize(..900))).await);
            }
            let rest = at.get(&format!("{path}{}", client.query()), &[]).await;
            client.take(&soon(rest.body.rest()).await.0);
            assert_eq!(client.text(), SAID.repeat(20), "seed {seed}");
            assert_eq!(client.events.last().expect("events")["event"], "end");
        });
    }
    soon(tasks.join_all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jq_reads_the_lines_with_the_heartbeats_between_them() {
    let gateway = TestGateway::with("[server]\nheartbeat = \"10ms\"\n").await;
    for (heartbeat, others) in [("comment", 0), ("event", 1)] {
        let id = gateway.say("one two three", json!({ "first": "60ms", "delay": "30ms" })).await;
        let path = format!("/v1/streams/{id}/events?format=ndjson&heartbeat={heartbeat}");
        let lines = text_of(gateway.get(&path, &[]).await).await;
        let beats = lines.lines().filter(|line| line.is_empty() || line.contains(r#"{"event":"heartbeat","data":{}}"#));
        assert!(beats.count() > 2, "{lines}");
        assert_eq!(lines.contains("heartbeat"), others == 1);
        let asked = r#"select(.event == "message") | .data.text"#;
        let mut jq = Command::new("jq");
        let mut jq = jq.args(["-j", asked]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("jq");
        jq.stdin.take().expect("piped").write_all(lines.as_bytes()).await.expect("taken");
        let done = soon(jq.wait_with_output()).await.expect("it ran");
        assert!(done.status.success());
        assert_eq!(String::from_utf8_lossy(&done.stdout), "one two three");
    }
}

/// What `curl -N` prints, and its exit code.
async fn curl(gateway: &TestGateway, path: &str, more: &[&str]) -> (String, i32) {
    let url = format!("http://{}{path}", gateway.address());
    let done = soon(Command::new("curl").args(["-sN", &url]).args(more).output()).await.expect("curl");
    (String::from_utf8(done.stdout).expect("UTF-8"), done.status.code().expect("a code"))
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_prints_the_words_alone_and_fails_where_the_answer_did() {
    let gateway = TestGateway::start().await;
    let id = gateway.say(SAID, of_many_parts()).await;
    let path = format!("/v1/streams/{id}/events?format=text");
    assert_eq!(curl(&gateway, &path, &[]).await, (SAID.to_owned(), 0));
    assert_eq!(curl(&gateway, &format!("{path}&snapshot=true"), &[]).await, (SAID.to_owned(), 0));
    let end = gateway.state(&id).await["cursor"].clone();
    assert_eq!(curl(&gateway, &format!("{path}&after={end}"), &[]).await, (String::new(), 0), "nothing more");
    let failed = gateway.say("one two three", json!({ "fault": { "kind": "error", "after": 2 } })).await;
    reached(&gateway, &failed, "failed").await;
    let stopped = gateway.say("one two three", stalls()).await;
    said(&gateway, &stopped, "one two").await;
    gateway.send("POST", &format!("/v1/streams/{stopped}/cancel"), &[], "").await;
    for id in [failed, stopped] {
        let (words, code) = curl(&gateway, &format!("/v1/streams/{id}/events?format=text"), &[]).await;
        assert_eq!(words, "one two");
        assert_ne!(code, 0);
        let end = gateway.state(&id).await["cursor"].clone();
        let (nothing, code) = curl(&gateway, &format!("/v1/streams/{id}/events?format=text&after={end}"), &[]).await;
        assert_eq!(nothing, "");
        assert_ne!(code, 0, "also who has seen all of it");
    }
    // One that fails while it is read, and one that says nothing at all.
    let body = json!({ "prompt": "x", "model": "mock/words", "backend_options": { "text": "one two three", "delay": "5ms", "fault": { "kind": "close", "after": 2 } } });
    let (words, code) = curl(&gateway, "/v1/streams?format=text", &["-d", &body.to_string()]).await;
    assert_eq!(words, "one two");
    assert_ne!(code, 0);
    let body = json!({ "prompt": "x", "model": "mock/words", "backend_options": { "fault": { "kind": "error", "after": 0 } } });
    let (words, code) = curl(&gateway, "/v1/streams?format=text", &["-d", &body.to_string()]).await;
    assert_eq!(words, "");
    assert_ne!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_as_it_is_said_and_goes_on_behind_any_cursor() {
    let gateway = TestGateway::with("[server]\nheartbeat = \"10ms\"\n").await;
    let id = gateway.say("one two three", stalls()).await;
    let mut reader = gateway.get(&format!("/v1/streams/{id}/events?format=text"), &[]).await;
    assert_eq!(reader.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(read_to(&mut reader, "two").await, "one two");
    let finished = gateway.say(SAID, of_many_parts()).await;
    let events = gateway.whole(&finished).await;
    for (n, event) in events.iter().enumerate() {
        let rest = gateway
            .get(&format!("/v1/streams/{finished}/events"), &[("accept", "text/plain"), ("last-event-id", &event.id)])
            .await;
        assert_eq!(text_of(rest).await, text(&events[n + 1..]), "behind {}", event.id);
    }
    // There is no place in it for a `reset`.
    for cursor in ["999", "rubbish"] {
        let refused = gateway.get(&format!("/v1/streams/{finished}/events?format=text&after={cursor}"), &[]).await;
        problem(refused, 409, "cursor_not_served").await;
    }
    // And none for a sign of life.
    until(async || gateway.state(&id).await["text"] == "one two").await;
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    let (rest, ending) = soon(reader.body.rest()).await;
    assert_eq!(rest, b"");
    assert_ne!(ending, Ending::Clean);
}

/// One poll: the response's members.
pub(super) async fn poll(at: At, id: &str, query: &str) -> (Vec<Value>, Value, bool) {
    let response = at.get(&format!("/v1/streams/{id}/events?format=json{query}"), &[]).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!(response.header("x-stream-id"), Some(id));
    assert!(response.header("content-length").is_some());
    let mut json = response.json().await;
    let Value::Array(events) = json["events"].take() else { panic!("no events: {json}") };
    assert_eq!(json.as_object().expect("an object").len(), 3);
    (events, json["cursor"].take(), json["ended"].as_bool().expect("a word"))
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_tell_all_events_once_and_then_that_it_has_ended() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let finished = at.say(of_many_parts(), json!({})).await;
    let expected: Vec<_> = gateway.whole(&finished).await.iter().map(as_value).collect();
    let last = gateway.state(&finished).await["cursor"].clone();
    assert_eq!(poll(at, &finished, "").await, (expected.clone(), last.clone(), true), "of an ended one, all at once");
    let ended = (vec![], last.clone(), true);
    assert_eq!(poll(at, &finished, &format!("&after={last}&wait=60")).await, ended, "and never 204");
    for event in &expected[..expected.len() - 1] {
        let behind: Vec<_> =
            expected.iter().filter(|other| other["id"].as_u64() > event["id"].as_u64()).cloned().collect();
        assert_eq!(poll(at, &finished, &format!("&after={}", event["id"])).await.0, behind);
    }
    let (events, ..) = poll(at, &finished, "&after=999").await;
    assert_eq!(
        events[0],
        json!({ "event": "reset", "data": { "reason": "ahead", "after": last.as_u64().expect("a number") - 1 } })
    );
    assert_eq!(events[1..], expected[expected.len() - 1..]);
    // Of one that runs.
    let id = at.say(json!({ "text": SAID, "repeat": 10, "delay": "1ms" }), json!({})).await;
    let (mut events, mut cursor, mut polls) = (vec![], String::new(), 0);
    loop {
        let (more, at_last, ended) = poll(at, &id, &format!("&after={cursor}")).await;
        assert!(!more.is_empty() || ended, "it waits");
        assert!(cursor.is_empty() || at_last.as_u64() >= cursor.parse().ok());
        events.extend(more);
        cursor = at_last.to_string();
        polls += 1;
        if ended {
            break;
        }
    }
    assert_eq!(events, gateway.whole(&id).await.iter().map(as_value).collect::<Vec<_>>());
    assert!(polls > 3, "{polls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_waits_for_what_can_be_seen_and_no_longer_than_it_was_told() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let id = gateway.say("one two three", json!({ "first": "1h" })).await;
    let (first, cursor, _) = poll(at, &id, "&wait=0").await;
    assert_eq!((first.len(), &first[0]["event"]), (1, &json!("start")));
    // What came since is nothing that anybody is shown; it is behind the cursor all the same.
    until(async || gateway.state(&id).await["cursor"].as_u64() >= Some(1)).await;
    let began = Instant::now();
    let (nothing, moved, ended) = poll(at, &id, &format!("&after={cursor}&wait=0.2")).await;
    assert_eq!((nothing, ended), (vec![], false));
    assert!((Duration::from_millis(200)..Duration::from_secs(20)).contains(&began.elapsed()));
    assert_eq!(moved, gateway.state(&id).await["cursor"]);
    let waiting = tokio::spawn({
        let id = id.clone();
        async move { poll(at, &id, &format!("&after={moved}&wait=60")).await }
    });
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    let (end, _, ended) = soon(waiting).await.expect("ran");
    assert_eq!((end.len(), &end[0]["data"]["status"], ended), (1, &json!("cancelled"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_polls_has_not_left_between_two_polls() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let more = json!({ "on_disconnect": "cancel" });
    let stalled = json!({ "delay": "0ms", "text": "one two three", "fault": stalls()["fault"] });
    let polled = at.say(stalled.clone(), more.clone()).await;
    let read = at.say(stalled, more).await;
    said(&gateway, &polled, "one two").await;
    poll(at, &polled, "&wait=0").await;
    let mut reader = gateway.events(&read, None).await;
    read_to(&mut reader, "two").await;
    drop(reader);
    reached(&gateway, &read, "cancelled").await;
    // A poller that goes away in the middle of a poll is no other.
    let head = format!("/v1/streams/{polled}/events?format=json&after=999999&wait=60");
    drop(gateway.get(&head, &[]).await);
    assert_eq!(gateway.state(&polled).await["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_the_answer_so_far_and_events_follow_it() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three", stalls()).await;
    let state = said(&gateway, &id, "one two").await;
    let mut reader = gateway.get(&format!("/v1/streams/{id}/events?snapshot=true"), &[]).await;
    let heard = read_to(&mut reader, "event: snapshot\n").await + &read_to(&mut reader, "\n\n").await;
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    let events = sse::read((heard + &text_of(reader).await).as_bytes()).events;
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["start", "snapshot", "end"]);
    assert_eq!(only(&events, "snapshot"), json!({ "text": "one two" }));
    assert_eq!(events[1].id, state["cursor"].to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_comes_in_every_form_and_a_cursor_beats_it() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    for repeat in [1, 200] {
        let mut options = of_many_parts();
        options["repeat"] = repeat.into();
        let id = at.say(options, json!({})).await;
        let plain: Vec<_> = gateway.whole(&id).await.iter().map(as_value).collect();
        let state = gateway.state(&id).await;
        let so_far =
            json!({ "text": state["text"], "reasoning": state["reasoning"], "tool_calls": state["tool_calls"] });
        assert_eq!(so_far["text"], SAID.repeat(repeat));
        let before_the_end = state["cursor"].as_u64().expect("a number") - 1;
        let snapshot = json!({ "id": before_the_end, "event": "snapshot", "data": so_far });
        let expected = vec![plain[0].clone(), snapshot, plain[plain.len() - 1].clone()];
        let path = format!("/v1/streams/{id}/events?snapshot=true");
        let sse = sse::read(text_of(gateway.get(&path, &[]).await).await.as_bytes()).events;
        assert_eq!(sse.iter().map(as_value).collect::<Vec<_>>(), expected);
        let mut lines = Lines::default();
        lines.take(text_of(gateway.get(&format!("{path}&format=ndjson"), &[]).await).await.as_bytes());
        assert_eq!(lines.events, expected);
        assert_eq!(poll(at, &id, "&snapshot=true").await.0, expected);
        for event in plain[..plain.len() - 1].iter().step_by(repeat) {
            let rest = text_of(gateway.get(&path, &[("last-event-id", &event["id"].to_string())]).await).await;
            let rest: Vec<_> = sse::read(rest.as_bytes()).events.iter().map(as_value).collect();
            let behind = plain.iter().filter(|other| other["id"].as_u64() > event["id"].as_u64());
            assert_eq!(rest, behind.cloned().collect::<Vec<_>>(), "behind {}", event["id"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_a_snapshot_of_a_running_answer_miss_nothing() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let id = at.say(json!({ "text": SAID, "repeat": 100, "delay": "1ms" }), json!({})).await;
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        until(async || gateway.state(&id).await["cursor"].as_u64() >= Some(n * 40)).await;
        let id = id.clone();
        tasks.spawn(async move {
            let response = at.get(&format!("/v1/streams/{id}/events?snapshot=true&format=ndjson"), &[]).await;
            let mut lines = Lines::default();
            lines.take(&soon(response.body.rest()).await.0);
            let so_far = lines.events[1]["data"]["text"].as_str().expect("a text").to_owned();
            assert_eq!(so_far.clone() + &lines.text(), SAID.repeat(100));
            so_far.len()
        });
    }
    let lengths: BTreeSet<_> = soon(tasks.join_all()).await.into_iter().collect();
    assert!(lengths.len() > 3, "they came at different moments: {lengths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_answered_in_the_form_that_it_accepts() {
    let gateway = TestGateway::start().await;
    let body =
        json!({ "prompt": "x", "model": "mock/words", "backend_options": { "text": "one two", "delay": "0ms" } })
            .to_string();
    let post = async |query: &str, accept: &str| {
        gateway.send("POST", &format!("/v1/streams{query}"), &[("accept", accept)], &body).await
    };
    for (query, accept) in [("", "application/x-ndjson"), ("?format=ndjson", "application/json")] {
        let response = post(query, accept).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/x-ndjson")));
        let id = response.header("x-stream-id").expect("an id").to_owned();
        let mut lines = Lines::default();
        lines.take(text_of(response).await.as_bytes());
        assert_eq!(lines.text(), "one two");
        assert_eq!(lines.events[0]["id"], format!("{id}-0"), "which names the stream");
        // Repeated, it goes on.
        let cursor = lines.events[1]["id"].as_str().expect("a long id").to_owned();
        let again = gateway.send("POST", "/v1/streams", &[("accept", accept), ("last-event-id", &cursor)], &body).await;
        assert_eq!(again.header("x-stream-id"), Some(&*id));
    }
    for (query, accept) in [("", "text/plain"), ("?format=text", "*/*")] {
        assert_eq!(text_of(post(query, accept).await).await, "one two");
    }
    for (query, accept) in
        [("", "application/json, text/plain, */*"), ("?format=json", "text/event-stream"), ("", "*/*")]
    {
        let response = post(query, accept).await;
        assert_eq!(response.status, 201, "{query} {accept}");
        assert!(response.json().await["events_url"].is_string());
    }
    let there = super::list(&gateway).await.len();
    let path = |query: &str| format!("/v1/streams{query}");
    for (query, field) in [
        ("?format=xml", "format"),
        ("?snapshot=yes", "snapshot"),
        ("?wait=61", "wait"),
        ("?wait=-1", "wait"),
        ("?wait=NaN", "wait"),
    ] {
        let refused = problem(gateway.send("POST", &path(query), &[], &body).await, 400, "bad_request").await;
        assert_eq!(refused["field"], field);
    }
    assert_eq!(super::list(&gateway).await.len(), there, "nothing was started for them");
}
