//! The words in other pieces than the model said them in: whole words, whole lines, few events

use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    events_of,
    forms::{Lines, poll},
    problem, reached, read_to, said, text_of,
};
use crate::common::{Ending, TestGateway, only, soon, sse, sse::Client, text};

/// A token of the mock's is a word with the white space before it; of a script without spaces, many words.
const SAID: &str = "水は急がない\u{1f469}\u{200d}\u{1f680}着く can't wait\nfor it, \u{1f1e9}\u{1f1ea}\u{1f1eb}\u{1f1f7} e\u{301}\r\nthe end\n\nof it";
const VIEWS: [&str; 3] = ["token", "word", "line"];

fn options(repeat: u32, delay: &str) -> Value {
    json!({ "text": SAID, "repeat": repeat, "delay": delay, "reasoning": "so 三四五\nthen", "tool_call": { "name": "look", "arguments": { "a b": "c d" } } })
}

fn path(id: &str, query: &str) -> String {
    format!("/v1/streams/{id}/events?{query}")
}

/// The texts of the default events.
fn pieces(events: &[sse::Event]) -> Vec<String> {
    let words = events.iter().filter(|event| event.name == "message");
    words.map(|event| text(std::slice::from_ref(event))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_a_request_and_a_model_say_how_the_words_are_cut() {
    let gateway = TestGateway::with("[models.plain]\nroute = [\"mock/words\"]\n[models.lines]\nroute = [\"mock/words\"]\nchunking = \"line\"\n[models.\"l-*\"]\nroute = [\"mock/words\"]\nchunking = \"line\"\n").await;
    let options = json!({ "text": "one\ntwo 三四", "delay": "0ms" });
    let (tokens, words, lines) =
        (vec!["one", "\ntwo", " 三四"], vec!["one", "\ntwo 三", "四"], vec!["one\n", "two 三四"]);
    for (model, request, reader, expected) in [
        ("plain", None, "", &tokens),
        ("plain", None, "chunking=word", &words),
        ("plain", Some("word"), "", &words),
        ("plain", Some("word"), "chunking=line", &lines),
        ("lines", None, "", &lines),
        ("l-x", None, "", &lines),
        ("lines", Some("word"), "", &words),
        ("lines", Some("token"), "", &tokens),
        ("lines", None, "chunking=token", &tokens),
        ("mock/words", None, "", &tokens),
    ] {
        let mut body = json!({ "prompt": "x", "model": model, "backend_options": options });
        if let Some(chunking) = request {
            body["chunking"] = chunking.into();
        }
        let id = gateway.create(&body).await;
        reached(&gateway, &id, "completed").await;
        let events = events_of(gateway.get(&path(&id, reader), &[]).await).await;
        assert_eq!(&pieces(&events), expected, "{model} {request:?} {reader}");
    }
    let body = json!({ "prompt": "x", "chunking": "words" });
    let refused = problem(gateway.send("POST", "/v1/streams", &[], &body.to_string()).await, 400, "bad_request").await;
    assert_eq!(refused["field"], "chunking");
    let id = gateway.say("x", json!({})).await;
    for (query, field) in
        [("chunking=words", "chunking"), ("pace=0", "pace"), ("pace=fast", "pace"), ("pace=NaN", "pace")]
    {
        let refused = problem(gateway.get(&path(&id, query), &[]).await, 400, "bad_request").await;
        assert_eq!(refused["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_any_byte_of_any_view_costs_nothing() {
    let gateway = TestGateway::with("[server]\nretry_min = \"1s\"\nretry_max = \"1s\"\n").await;
    let at = gateway.at();
    let id = at.say(options(2, "0ms"), json!({})).await;
    reached(&gateway, &id, "completed").await;
    for view in VIEWS {
        let query = format!("chunking={view}");
        let bytes = text_of(gateway.get(&path(&id, &query), &[]).await).await.into_bytes();
        let whole = sse::read(&bytes).events;
        assert_eq!(text(&whole), SAID.repeat(2));
        let within = whole.iter().filter(|event| event.id.contains('.')).count();
        assert_eq!(within > 0, view != "token", "{whole:?}");
        let mut tasks = JoinSet::new();
        for cut in 0..=bytes.len() {
            let (bytes, path, whole) = (bytes.clone(), path(&id, &query), whole.clone());
            tasks.spawn(async move {
                let mut client = Client::default();
                client.take(&bytes[..cut]);
                let cursor: Vec<_> = client.cursor.iter().map(|cursor| ("last-event-id", cursor.clone())).collect();
                let headers: Vec<_> = cursor.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let rest = at.get(&path, &headers).await;
                if rest.status == 200 {
                    client.take(&soon(rest.body.rest()).await.0);
                }
                assert_eq!(client.events, whole, "cut after {cut}");
            });
        }
        soon(tasks.join_all()).await;
    }
}

/// Each time in another form and another view, at another pace.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_cuts_by_chance_with_another_view_each_time_cost_nothing() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let mut tasks = JoinSet::new();
    for seed in 0..30 {
        tasks.spawn(async move {
            let mut chance = fastrand::Rng::with_seed(seed);
            let id = at.say(options(30, "1ms"), json!({})).await;
            let mut client = Lines::default();
            let go_on = |client: &Lines, view: &str| path(&id, &format!("format=ndjson&{view}{}", client.query()));
            for _ in 0..20 {
                let view = match chance.u8(..5) {
                    0 => "pace=200",
                    1 => "chunking=word&pace=300",
                    2 => "chunking=token",
                    3 => "chunking=line",
                    _ => "chunking=word",
                };
                if chance.bool() {
                    let response = at.get(&go_on(&client, view), &[]).await;
                    client.take(&soon(response.body.cut_after(chance.usize(..900))).await);
                } else {
                    for event in poll(at, &id, &format!("&wait=1&{view}{}", client.query())).await.0 {
                        client.see(event);
                    }
                }
            }
            client.take(&soon(at.get(&go_on(&client, "chunking=word"), &[]).await.body.rest()).await.0);
            assert_eq!(client.text(), SAID.repeat(30), "seed {seed}");
            assert_eq!(client.events.last().expect("events")["event"], "end");
        });
    }
    soon(tasks.join_all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_of_words_and_lines_tell_each_once() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    for view in ["word", "line"] {
        let id = at.say(options(10, "1ms"), json!({})).await;
        let (mut events, mut cursor) = (Lines::default(), String::new());
        loop {
            let (more, next, ended) = poll(at, &id, &format!("&chunking={view}&after={cursor}")).await;
            more.into_iter().for_each(|event| events.see(event));
            cursor = next.as_str().map_or_else(|| next.to_string(), str::to_owned);
            if ended {
                break;
            }
        }
        let mut lines = Lines::default();
        lines.take(text_of(at.get(&path(&id, &format!("format=ndjson&chunking={view}")), &[]).await).await.as_bytes());
        assert_eq!(events.events, lines.events, "{view}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_back_when_an_answer_is_stopped_or_fails() {
    let gateway = TestGateway::start().await;
    for (fault, status) in [("stall", "cancelled"), ("error", "failed"), ("close", "failed")] {
        for view in VIEWS {
            let id = gateway.say("one two thr", json!({ "repeat": 2, "fault": { "kind": fault, "after": 3 } })).await;
            let mut reader = gateway.get(&path(&id, &format!("chunking={view}")), &[]).await;
            let heard = if fault == "stall" {
                said(&gateway, &id, "one two thr").await;
                let heard = if view == "line" { String::new() } else { read_to(&mut reader, "two").await };
                gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
                heard
            } else {
                String::new()
            };
            let events = sse::read((heard + &text_of(reader).await).as_bytes()).events;
            assert_eq!(text(&events), "one two thr", "{fault} {view}");
            assert_eq!(only(&events, "end")["status"], status);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_within_a_record_is_served_where_it_can_be_and_else_told() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("三四五 six", json!({})).await;
    reached(&gateway, &id, "completed").await;
    let words = events_of(gateway.get(&path(&id, "chunking=word"), &[]).await).await;
    let place = words.iter().find(|event| event.name == "message").expect("words").id.clone();
    let (record, bytes) = place.split_once('.').expect("within a record");
    assert_eq!(bytes, "6", "two of its three characters are certain");
    for query in ["", "chunking=line", "pace=1000", "format=text"] {
        let rest = gateway.get(&path(&id, query), &[("last-event-id", &place)]).await;
        let rest = text_of(rest).await;
        let said = if query == "format=text" { rest } else { text(&sse::read(rest.as_bytes()).events) };
        assert_eq!(said, "五 six", "{query}");
    }
    let long = format!("{id}-{place}");
    let posted = gateway.send("POST", "/v1/streams", &[("last-event-id", &long)], "{}").await;
    assert_eq!(text(&events_of(posted).await), "五 six");
    // Other protocols tell records as they are.
    for format in ["chat", "responses", "messages"] {
        let rest = gateway.get(&path(&id, &format!("format={format}")), &[("last-event-id", &place)]).await;
        let rest = events_of(rest).await;
        let reset = json!({ "reason": "unknown", "after": record.parse::<u64>().expect("a number") });
        assert_eq!(only(&rest, "reset"), reset, "{format}");
        assert!(rest.iter().any(|event| event.data.contains("三四五")), "{format}: {rest:?}");
    }
    // And nobody skips what is not there.
    let end = gateway.state(&id).await["cursor"].as_u64().expect("a number");
    for (cursor, reason, after) in [
        (format!("{record}.7"), "unknown", record),
        (format!("{record}.9"), "unknown", record),
        ("1.1".to_owned(), "unknown", "1"),
        (format!("{}.1", end - 1), "unknown", &*(end - 1).to_string()),
        (format!("{end}.1"), "ahead", &*(end - 1).to_string()),
        (format!("{record}.0"), "unknown", "0"),
    ] {
        let rest = events_of(gateway.get(&path(&id, "chunking=word"), &[("last-event-id", &cursor)]).await).await;
        let reset = json!({ "reason": reason, "after": after.parse::<u64>().expect("a number") });
        assert_eq!(only(&rest, "reset"), reset, "{cursor}");
        assert_eq!(rest.last().map(|event| event.name.as_str()), Some("end"), "{cursor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pace_has_few_events_and_all_the_words() {
    let gateway = TestGateway::with("[server]\nheartbeat = \"10ms\"\n").await;
    let at = gateway.at();
    for (view, form) in [("token", "sse"), ("word", "ndjson"), ("line", "sse")] {
        let id = at.say(json!({ "text": SAID, "repeat": 20, "delay": "1ms" }), json!({})).await;
        let began = Instant::now();
        let heard = text_of(at.get(&path(&id, &format!("pace=20&chunking={view}&format={form}")), &[]).await).await;
        let most = began.elapsed().as_millis() / 50 + 1;
        let mut client = Lines::default();
        if form == "sse" {
            let events = sse::read(heard.as_bytes()).events;
            let all: Vec<_> = events.iter().map(super::forms::as_value).collect();
            all.into_iter().for_each(|event| client.see(event));
        } else {
            client.take(heard.as_bytes());
        }
        assert_eq!(client.text(), SAID.repeat(20), "{view}");
        // The start is not waited for.
        let events = client.events.len() as u128 - 1;
        assert!(events <= most && events < 60, "{events} events, and {most} would do");
        assert!(events >= 3, "{events}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_pace_too_an_answer_that_failed_is_broken_off_and_a_silence_has_heartbeats() {
    let gateway = TestGateway::with("[server]\nheartbeat = \"10ms\"\n").await;
    let id = gateway.say("one two three", json!({ "fault": { "kind": "error", "after": 2 } })).await;
    let response = gateway.get(&path(&id, "format=text&pace=100"), &[]).await;
    let (words, ending) = soon(response.body.rest()).await;
    assert_eq!(words, b"one two");
    assert_ne!(ending, Ending::Clean);
    let id = gateway.say("one two three", super::stalls()).await;
    let mut reader = gateway.get(&path(&id, "pace=100"), &[]).await;
    assert!(read_to(&mut reader, "two\"}\nid: 5\n\n:\n:\n:\n").await.contains("event: start"));
    let end = gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await.json().await["cursor"].clone();
    assert_eq!(gateway.get(&path(&id, &format!("pace=100&after={end}")), &[]).await.status, 204);
    let reset = events_of(gateway.get(&path(&id, "pace=100&after=999"), &[]).await).await;
    assert_eq!(reset[0].name, "reset");
}
