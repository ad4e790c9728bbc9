//! `GET /v1/streams/{id}/events`, and the rules of the event stream

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{events_of, reached, read_to, said, stalls, text_of, until, writes};
use crate::common::{Ending, Response, TestGateway, only, soon, sse, text};

const SAID: &str = "one two three four five";

/// A finished answer: its id and its events.
async fn finished(gateway: &TestGateway) -> (String, Vec<sse::Event>) {
    let id = gateway.say(SAID, json!({})).await;
    let events = gateway.whole(&id).await;
    assert_eq!(text(&events), SAID);
    (id, events)
}

async fn at(gateway: &TestGateway, id: &str, query: &str, headers: &[(&str, &str)]) -> Response {
    gateway.get(&format!("/v1/streams/{id}/events{query}"), headers).await
}

fn names(events: &[sse::Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_its_start_its_words_and_its_end() {
    let gateway = TestGateway::start().await;
    let (id, events) = finished(&gateway).await;
    assert_eq!(names(&events), ["start", "message", "message", "message", "message", "message", "end"]);
    let start = only(&events, "start");
    assert_eq!((&start["id"], &start["model"]), (&json!(id), &json!("mock/words")));
    assert_eq!(start["events_url"], format!("/v1/streams/{id}/events"));
    assert_eq!(start["created_at"], gateway.state(&id).await["created_at"]);
    assert_eq!(events[0].id, "0");
    let end = only(&events, "end");
    assert_eq!(
        end,
        json!({ "status": "completed", "reason": "stop", "usage": { "input_tokens": 2, "output_tokens": 5 } })
    );
    let ids: Vec<u64> = events.iter().map(|event| event.id.parse().expect("a bare number")).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_taken_in_every_form_and_place() {
    let gateway = TestGateway::start().await;
    let (id, events) = finished(&gateway).await;
    for (n, event) in events.iter().enumerate().take(events.len() - 1) {
        for cursor in [event.id.clone(), format!("{id}-{}", event.id)] {
            let header = [("last-event-id", cursor.as_str())];
            for (query, headers) in [
                (String::new(), &header[..]),
                (format!("?after={cursor}"), &[]),
                (format!("?last_event_id={cursor}"), &[]),
                (format!("?lastEventId={cursor}"), &[]),
                (format!("?after=&lastEventId={cursor}"), &[]),
                (format!("?after={cursor}"), &[("last-event-id", "")]),
                ("?after=1".to_owned(), &header[..]),
                ("?after=rubbish&lastEventId=999".to_owned(), &header[..]),
            ] {
                let rest = events_of(at(&gateway, &id, &query, headers).await).await;
                assert_eq!(rest, events[n + 1..], "{query} {headers:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cursor_is_none_and_zero_is_one() {
    let gateway = TestGateway::start().await;
    let (id, events) = finished(&gateway).await;
    for (query, headers) in [
        ("", &[][..]),
        ("", &[("last-event-id", "")]),
        ("?after=&last_event_id=&lastEventId=", &[("last-event-id", "")]),
    ] {
        assert_eq!(events_of(at(&gateway, &id, query, headers).await).await, events, "{query}");
    }
    for query in ["?after=0", &format!("?after={id}-0")] {
        let text = text_of(at(&gateway, &id, query, &[]).await).await;
        assert!(text.starts_with(":\n"), "{text}");
        assert_eq!(sse::read(text.as_bytes()).events, events[1..], "no second `start`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_cannot_be_served_is_reset_before_the_end() {
    let gateway = TestGateway::start().await;
    let (id, events) = finished(&gateway).await;
    let last: u64 = events.last().expect("an end").id.parse().expect("a number");
    let running = gateway.say("one two three", stalls()).await;
    let there = said(&gateway, &running, "one two").await["cursor"].as_u64().expect("a number");
    let foreign = format!("{}-2", "0".repeat(32));
    let other = format!("{running}-1");
    let ahead = [(last + 1).to_string(), u64::MAX.to_string(), format!("{id}-{}", u64::MAX), "4294967296".to_owned()];
    let unknown = [
        "rubbish",
        "-1",
        "1.",
        ".5",
        "+1",
        "0x1",
        "99999999999999999999999",
        "1,2",
        &foreign,
        &other,
        &format!("{id}-"),
        &format!("{id}-x"),
    ];
    let ahead = ahead.iter().map(|cursor| (cursor.as_str(), "ahead"));
    for (cursor, reason) in ahead.chain(unknown.iter().map(|cursor| (*cursor, "unknown"))) {
        let text = text_of(at(&gateway, &id, "", &[("last-event-id", cursor)]).await).await;
        let events_now = sse::read(text.as_bytes()).events;
        let after = if reason == "ahead" { last - 1 } else { 0 };
        assert!(text.starts_with("event: reset\n"), "first of all: {text}");
        assert_eq!(only(&events_now, "reset"), json!({ "reason": reason, "after": after }), "{cursor}");
        assert_eq!(events_now[0].id, "", "it has no id of its own");
        let behind: Vec<_> =
            events.iter().filter(|event| event.id.parse::<u64>().is_ok_and(|n| n > after)).cloned().collect();
        assert_eq!(events_now[1..], behind, "{cursor}: everything behind it");
        assert_eq!(events_now.last().map(|event| event.name.as_str()), Some("end"));
    }
    // Of a stream that runs: what is ahead is told where the log stands.
    let mut reader = at(&gateway, &running, "?after=999", &[]).await;
    let reset = read_to(&mut reader, "\n\n").await;
    assert!(
        reset.contains(&format!(r#"{{"after":{there},"reason":"ahead"}}"#))
            || reset.contains(&format!(r#"{{"reason":"ahead","after":{there}}}"#)),
        "{reset}"
    );
    gateway.send("POST", &format!("/v1/streams/{running}/cancel"), &[], "").await;
    assert_eq!(names(&events_of(reader).await), ["end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_the_end_is_stopped_for_good() {
    let gateway = TestGateway::start().await;
    let (id, events) = finished(&gateway).await;
    let last = &events.last().expect("an end").id;
    for cursor in [last.clone(), format!("{id}-{last}")] {
        let response = at(&gateway, &id, "", &[("last-event-id", &cursor)]).await;
        assert_eq!((response.status, response.header("x-stream-id")), (204, Some(&*id)));
        assert_eq!(soon(response.body.rest()).await, (vec![], Ending::Clean));
        assert_eq!(at(&gateway, &id, &format!("?after={cursor}"), &[]).await.status, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_and_the_first_bytes_come_before_the_first_token() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one", json!({ "first": "1h" })).await;
    let mut reader = gateway.events(&id, None).await;
    assert!(read_to(&mut reader, "\n\n").await.starts_with("event: start\n"));
    let mut resumed = gateway.events(&id, Some("0")).await;
    assert_eq!(read_to(&mut resumed, "\n").await, ":\n");
    let asked = json!({ "prompt": "x", "model": "mock/words", "backend_options": { "first": "1h" } }).to_string();
    let mut posted = gateway.send("POST", "/v1/streams", &[super::EVENTS], &asked).await;
    assert!(read_to(&mut posted, "\n\n").await.starts_with("event: start\n"));
    assert_eq!(gateway.state(&id).await["text"], "", "and nothing was said");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_lets_no_proxy_hold_anything_back() {
    let gateway = TestGateway::start().await;
    let (id, _) = finished(&gateway).await;
    let running = gateway.say("one two three", stalls()).await;
    for id in [&id, &running] {
        for (method, path) in [("GET", ""), ("HEAD", ""), ("GET", "?after=1")] {
            let headers = [("accept-encoding", "gzip, br, zstd"), ("accept", "text/event-stream")];
            let response = gateway.send(method, &format!("/v1/streams/{id}/events{path}"), &headers, "").await;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("content-type"), Some("text/event-stream"));
            assert_eq!(response.header("cache-control"), Some("no-store, no-transform"));
            assert_eq!(response.header("x-accel-buffering"), Some("no"));
            assert_eq!(
                (response.header("content-length"), response.header("content-encoding")),
                (None, None),
                "{method}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_is_broken_by_lone_comment_lines() {
    let gateway = TestGateway::with("[server]\nheartbeat = \"10ms\"\n").await;
    let id = gateway.say("one two three", stalls()).await;
    let mut reader = gateway.events(&id, None).await;
    let heard = read_to(&mut reader, ":\n:\n:\n").await;
    assert!(heard.contains("\n\n:\n:\n:\n"), "one line each and no blank line: {heard:?}");
    assert!(!heard.contains("heartbeat"));
    let events = sse::read(heard.as_bytes()).events;
    assert_eq!((names(&events), text(&events).as_str()), (vec!["start", "message", "message"], "one two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_asks_for_it_hears_a_named_heartbeat() {
    let gateway = TestGateway::with("[server]\nheartbeat = \"10ms\"\n").await;
    let id = gateway.say("one two three", stalls()).await;
    let mut reader = at(&gateway, &id, "?heartbeat=event", &[]).await;
    let beat = "event: heartbeat\ndata: {}\n\n";
    let heard = read_to(&mut reader, &beat.repeat(3)).await;
    let reading = sse::read(heard.as_bytes());
    assert_eq!(reading.cursor, reading.events[2].id, "it moves no cursor");
    assert!(!heard.contains("\n:\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_heartbeat_is_heard_while_there_are_words() {
    let gateway = TestGateway::with("[server]\nheartbeat = \"300ms\"\n").await;
    let id = gateway.say("word ", json!({ "repeat": 600, "delay": "2ms" })).await;
    let began = std::time::Instant::now();
    let heard = text_of(gateway.events(&id, None).await).await;
    let beats = heard.lines().filter(|line| *line == ":").count();
    let silences = began.elapsed().as_millis() / 300;
    assert!(silences >= 4, "{silences}");
    assert!(beats <= 1, "{beats} in the time of {silences}"); // one, where this machine itself fell silent
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_is_told_another_time_to_come_back_within_an_event() {
    let gateway = TestGateway::with("[server]\nretry_min = \"1s\"\nretry_max = \"9s\"\n").await;
    let (id, _) = finished(&gateway).await;
    for query in ["", "?after=1", "?after=999"] {
        let mut told = BTreeSet::new();
        for _ in 0..8 {
            let heard = text_of(at(&gateway, &id, query, &[]).await).await;
            let retry = sse::read(heard.as_bytes()).retry.expect("a time");
            assert!((1000..=9000).contains(&retry));
            let blocks: Vec<_> = heard.split("\n\n").filter(|block| block.contains("retry:")).collect();
            assert_eq!(blocks.len(), 1, "once: {heard}");
            assert!(blocks[0].contains("data: "), "{heard}");
            told.insert(retry);
        }
        assert!(told.len() > 4, "{query} {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_attaches_nobody() {
    let gateway = TestGateway::start().await;
    let body = json!({ "prompt": "x", "model": "mock/words", "on_disconnect": "cancel", "backend_options": { "delay": "0ms", "text": "one two three", "fault": stalls()["fault"] } });
    let id = gateway.create(&body).await;
    said(&gateway, &id, "one two").await;
    let kinds = [
        ("", "text/event-stream"),
        ("?format=chat", "text/event-stream"),
        ("?format=ndjson", "application/x-ndjson"),
        ("?format=text", "text/plain; charset=utf-8"),
        ("?format=json", "application/json"),
    ];
    for (format, kind) in kinds.into_iter().cycle().take(20) {
        let response = gateway.send("HEAD", &format!("/v1/streams/{id}/events{format}"), &[], "").await;
        assert_eq!((response.status, response.header("content-type")), (200, Some(kind)));
        assert_eq!(gateway.state(&id).await["status"], "running");
    }
    // A reader that leaves does stop it.
    let mut reader = gateway.events(&id, None).await;
    read_to(&mut reader, "two").await;
    drop(reader);
    reached(&gateway, &id, "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_arrives_as_it_was_and_breaks_no_frame() {
    let gateway = TestGateway::start().await;
    let texts = [
        "a\nb",
        "a\rb",
        "a\r\nb",
        "\n",
        "\n\n",
        "\r",
        "\0",
        "a\0b",
        "\u{2028}\u{2029}\u{85}\u{feff}",
        "👩‍👩‍👧 🇩🇪 é e\u{301}",
        "\"quoted\" \\n \\",
        "</script>",
        "data: x\n\nevent: end\nid: 999\nretry: 1\n\n",
        ":\n",
        " leading and trailing ",
        "\u{7f}\u{1b}[31m\u{8}\t",
        "id: 7\n\nevent: reset\ndata: {}\n\n",
        "{\"text\":\"x\"}",
    ];
    for said in texts.iter().map(|text| (*text).to_owned()).chain([texts.concat()]) {
        let options = json!({ "reasoning": said, "tool_call": { "name": said, "arguments": { said.clone(): said } } });
        let id = gateway.say(&said, options).await;
        let heard = text_of(gateway.events(&id, None).await).await;
        assert!(
            !heard.contains(['\r', '\0', '\u{feff}']) || said.contains('\u{feff}') && !heard.contains(['\r', '\0']),
            "{heard:?}"
        );
        for line in heard.split('\n') {
            let known = ["", "event: ", "data: {", "retry: ", "id: "].iter().any(|start| line.starts_with(start));
            assert!(known, "{line:?}");
        }
        let events = sse::read(heard.as_bytes()).events;
        assert_eq!(text(&events), said);
        let known = ["start", "message", "reasoning", "tool_call", "end"];
        assert!(events.iter().all(|event| known.contains(&event.name.as_str())), "{events:?}");
        assert_eq!(only(&events, "end")["status"], "completed");
        let state = gateway.state(&id).await;
        assert_eq!(
            (&state["text"], &state["reasoning"], &state["tool_calls"][0]["name"]),
            (&json!(said), &json!(said), &json!(said))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_is_the_last_field_and_an_event_is_one_write() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three four", json!({ "delay": "1ms", "reasoning": "hm hm" })).await;
    let path = format!("/v1/streams/{id}/events");
    for path in [path.clone(), path.clone(), format!("{path}?after=2"), format!("{path}?after=999")] {
        let writes = writes(&gateway, &path).await;
        for write in &writes {
            assert!(write.ends_with("\n\n") || write == ":\n", "half an event: {write:?}");
        }
        let all = writes.concat();
        for event in all.split_terminator("\n\n").map(|event| event.trim_start_matches(":\n")) {
            let lines: Vec<_> = event.lines().collect();
            let (last, before) = lines.split_last().expect("an event");
            let is_reset = lines[0] == "event: reset";
            assert_eq!(last.starts_with("id: "), !is_reset, "{event:?}");
            assert!(before.iter().all(|line| !line.starts_with("id: ")), "{event:?}");
            let data: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("data: ")).collect();
            assert_eq!(data.len(), 1, "one line of data: {event:?}");
            assert!(serde_json::from_str::<Value>(data[0]).is_ok_and(|data| data.is_object()), "{event:?}");
            assert_ne!(lines[0], "event: error", "EventSource has that name");
            if let Some(id) = last.strip_prefix("id: ") {
                assert!(
                    id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)),
                    "{id}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_the_same_to_the_byte() {
    let gateway = TestGateway::start().await;
    let id = gateway.say(SAID, json!({ "delay": "1ms", "reasoning": "hm", "tool_call": { "name": "look" } })).await;
    let without_start = |text: String| text.split_once("\n\n").expect("a start").1.to_owned();
    let live = without_start(text_of(gateway.events(&id, None).await).await);
    let later = without_start(text_of(gateway.events(&id, None).await).await);
    assert_eq!(live, later);
    let first_id = sse::read(live.as_bytes()).events[0].id.clone();
    let resumed = text_of(gateway.events(&id, Some(&first_id)).await).await;
    let retry =
        resumed.lines().find(|line| line.starts_with("retry: ")).expect("a time to come back").to_owned() + "\n";
    let resumed = resumed.strip_prefix(":\n").expect("a first byte").replacen(&retry, "", 1);
    assert!(live.ends_with(&resumed) && live.len() > resumed.len(), "{live}\n{resumed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_and_calls_have_events_of_their_own() {
    let gateway = TestGateway::start().await;
    let arguments = json!({ "city": "Bern and Basel", "days": 3 });
    let id = gateway
        .say(
            "one two",
            json!({ "reasoning": "let me think", "tool_call": { "name": "weather", "arguments": arguments } }),
        )
        .await;
    let events = gateway.whole(&id).await;
    let of = |name: &str| -> Vec<Value> {
        events
            .iter()
            .filter(|event| event.name == name)
            .map(|event| serde_json::from_str(&event.data).expect("JSON"))
            .collect()
    };
    let thought: String = of("reasoning").iter().map(|data| data["text"].as_str().expect("text").to_owned()).collect();
    assert_eq!((thought.as_str(), text(&events).as_str()), ("let me think", "one two"));
    let calls = of("tool_call");
    assert_eq!(calls[0], json!({ "index": 2, "id": "call_mock", "name": "weather" }));
    assert!(calls.len() > 2, "arguments come in pieces: {calls:?}");
    let pieces = calls[1..].iter().map(|call| {
        assert_eq!((call.get("id"), call.get("name"), &call["index"]), (None, None, &json!(2)), "once");
        call["arguments"].as_str().expect("a piece")
    });
    assert_eq!(serde_json::from_str::<Value>(&pieces.collect::<String>()).expect("JSON"), arguments);
    assert_eq!(only(&events, "end")["reason"], "tool_calls");
    // A reader that comes in the middle of the call is told its index all the same.
    let middle = events.iter().filter(|event| event.name == "tool_call").nth(1).expect("a piece").id.clone();
    let rest = events_of(gateway.events(&id, Some(&middle)).await).await;
    let whole: Vec<_> = events.iter().skip_while(|event| event.id != middle).skip(1).cloned().collect();
    assert_eq!(rest, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_does_not_stop_the_answer() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("one two three four five six", json!({ "delay": "5ms" })).await;
    for _ in 0..5 {
        let mut reader = gateway.events(&id, None).await;
        read_to(&mut reader, "one").await;
        drop(reader);
    }
    assert_eq!(reached(&gateway, &id, "completed").await["text"], "one two three four five six");
    until(async || gateway.get("/metrics", &[]).await.text().await.contains("\nlastword_readers 0\n")).await;
}
