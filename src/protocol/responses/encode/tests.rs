//! What a Responses client is told of a log: its frames, their order and numbers, and the answer whole.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    event::{
        Annotation, At, Attempt, Begin, Delta, End, Event, Finish, Json, Opaque, PartStart, PartState, PartStop,
        PartType, Reason, Status, Tool, Usage,
    },
    id::StreamId,
    record::write,
};

const STREAM: &str = "019a0000000070008000000000000001";

fn raw(json: Value) -> Json {
    Json::of(&json).expect("JSON")
}

fn at(part: u16, of: PartType) -> At {
    At { choice: 0, part, of }
}

fn begin(protocol: &'static str) -> Vec<Event<'static>> {
    let begin = Begin { model: "m".into(), protocol: "native".into(), ..Begin::default() };
    vec![Event::Begin(begin), Event::Attempt(Attempt { protocol: protocol.into(), ..Attempt::default() })]
}

fn start(part: u16, of: PartType) -> Event<'static> {
    Event::PartStart(at(part, of), PartStart { r#type: of, ..PartStart::default() })
}

fn start_id(part: u16, of: PartType, id: &str) -> Event<'static> {
    Event::PartStart(at(part, of), PartStart { r#type: of, id: Some(id.into()), ..PartStart::default() })
}

fn say(part: u16, of: PartType, text: &'static str) -> Event<'static> {
    Event::Delta(at(part, of), Delta { text: text.into(), logprobs: None })
}

fn stop(part: u16, of: PartType, status: Option<&str>) -> Event<'static> {
    Event::PartStop(at(part, of), PartStop { status: status.map(str::to_owned) })
}

fn opaque(name: &str, json: Value) -> Event<'static> {
    Event::Opaque(Opaque { protocol: "responses".into(), name: name.into(), json: raw(json) })
}

fn end(status: Status, reason: Option<Reason>) -> Event<'static> {
    Event::End(End { status, reason, usage: None, error: None })
}

fn tool(part: u16, id: Option<&str>, name: &str, kind: &str) -> Event<'static> {
    let tool = Tool { call_id: Some(format!("call_{name}")), name: Some(name.into()), kind: Some(kind.into()) };
    let start = PartStart { id: id.map(str::to_owned), tool: Some(tool), ..PartStart::default() };
    Event::PartStart(at(part, PartType::ToolCall), start)
}

fn finish(reason: Reason) -> Event<'static> {
    Event::Finish(0, Finish { reason: Some(reason), ..Finish::default() })
}

fn usage() -> Event<'static> {
    Event::Usage(Usage { input_tokens: Some(9), output_tokens: Some(2), ..Usage::default() })
}

/// An answer of an upstream of another protocol: thoughts, words with a citation, two calls in turn, and a second choice.
fn foreign() -> Vec<Event<'static>> {
    use PartType::{Reasoning, Text, ToolCall};
    let cited = Annotation { url: Some("http://a".into()), title: Some("A".into()), span: Some((0, 3)), raw: None };
    let logprobs = Some(raw(json!({ "content": [{ "token": "x", "logprob": -0.5 }], "refusal": null })));
    let mut events = begin("chat");
    events.extend([
        start(0, Reasoning),
        say(0, Reasoning, "h\"m"),
        stop(0, Reasoning, None),
        start(1, Text),
        say(1, Text, "The\n"),
        Event::Delta(at(1, Text), Delta { text: "river".into(), logprobs }),
        Event::Delta(At { choice: 1, ..at(1, Text) }, Delta { text: "other".into(), logprobs: None }),
        Event::Annotation(at(1, Text), cited),
        stop(1, Text, None),
        tool(2, None, "look", "function"),
        tool(3, None, "find", "custom"),
        say(3, ToolCall, "a b"),
        say(2, ToolCall, "{\"at\":1}"),
        stop(3, ToolCall, None),
        stop(2, ToolCall, None),
        usage(),
        finish(Reason::ToolCalls),
        end(Status::Completed, Some(Reason::ToolCalls)),
    ]);
    events
}

/// An answer of an upstream of this protocol: a thought of two summaries with its state, a search, a message of two parts.
fn kin() -> Vec<Event<'static>> {
    use PartType::{ReasoningSummary, Redacted, Refusal, Text};
    let state = |part, of| {
        let value = raw(json!("gAAA"));
        Event::State(at(part, of), PartState { origin: "responses".into(), kind: "encrypted_content".into(), value })
    };
    let mut events = vec![
        Event::Begin(Begin { model: "m".into(), protocol: "responses".into(), ..Begin::default() }),
        opaque("request", json!({ "instructions": "Be brief.", "temperature": 0.5, "background": true })),
        Event::Attempt(Attempt { protocol: "responses".into(), ..Attempt::default() }),
        opaque("response", json!({ "service_tier": "flex", "temperature": 0.5, "store": false })),
        start_id(0, ReasoningSummary, "rs_1"),
        say(0, ReasoningSummary, "one"),
        stop(0, ReasoningSummary, None),
        start_id(1, ReasoningSummary, "rs_1"),
        say(1, ReasoningSummary, "two"),
        state(1, ReasoningSummary),
        stop(1, ReasoningSummary, Some("completed")),
        start_id(2, Redacted, "rs_2"),
        state(2, Redacted),
        stop(2, Redacted, Some("completed")),
    ];
    let item = |status: &str| json!({ "id": "ws_1", "type": "web_search_call", "status": status });
    events.extend([
        opaque("response.output_item.added", json!({ "type": "response.output_item.added", "sequence_number": 70, "output_index": 2, "item": item("in_progress") })),
        opaque("response.web_search_call.searching", json!({ "type": "response.web_search_call.searching", "output_index": 2, "item_id": "ws_1" })),
        opaque("response.output_item.done", json!({ "type": "response.output_item.done", "output_index": 2, "item": item("completed") })),
        start_id(3, Text, "msg_1"),
        say(3, Text, "Yes"),
        Event::Annotation(at(3, Text), Annotation { raw: Some(raw(json!({ "type": "file_path", "file_id": "f", "index": 3 }))), ..Annotation::default() }),
        stop(3, Text, None),
        start_id(4, Refusal, "msg_1"),
        say(4, Refusal, "no"),
        stop(4, Refusal, Some("completed")),
        tool(5, Some("fc_1"), "look", "function"),
        say(5, PartType::ToolCall, "{}"),
        stop(5, PartType::ToolCall, Some("completed")),
        opaque("response", json!({ "service_tier": "default" })),
        Event::Usage(Usage { raw: Some(raw(json!({ "input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "new": 1.10 }))), ..Usage::default() }),
        Event::Finish(0, Finish { reason: Some(Reason::ToolCalls), raw: Some("completed".into()), ..Finish::default() }),
        end(Status::Completed, Some(Reason::ToolCalls)),
    ]);
    events
}

/// One that breaks off in the middle of this.
fn broken(status: Status) -> Vec<Event<'static>> {
    let mut events = begin("chat");
    let search = json!({ "output_index": 0, "item": { "id": "ws_1", "type": "web_search_call" } });
    events.extend([
        start(0, PartType::Text),
        say(0, PartType::Text, "Once"),
        opaque("response.output_item.added", search),
        end(status, None),
    ]);
    events
}

fn records(events: &[Event<'_>]) -> Vec<BytesMut> {
    let record = |(n, event): (usize, &Event<'_>)| {
        let mut out = BytesMut::new();
        write(&mut out, u32::try_from(n * 1000).expect("few"), event);
        out
    };
    events.iter().enumerate().map(record).collect()
}

fn envelope() -> Envelope {
    Envelope::new(STREAM.parse::<StreamId>().expect("an id"), 1_700_000_000_000, "m", None)
}

/// What a reader gets who has seen so many records, and the frames up to a number: as the relay does it.
fn read(log: &[BytesMut], after: usize, muted: u64) -> String {
    let mut encoder = ResponsesEncode::new(envelope());
    encoder.mute(muted);
    let mut retell = encoder.retell().expect("there is one");
    let mut out = BytesMut::new();
    for (n, bytes) in log.iter().enumerate() {
        let (cursor, record) = (Cursor(n as u64 + 1), Record::parse(bytes).expect("a record"));
        let shared = retell.take(cursor, &record);
        let seen = encoder.repeats(&record);
        assert_eq!(seen.is_some(), shared.is_some(), "both know which records repeat something");
        match (shared, seen) {
            _ if n < after => encoder.skip(&record),
            (Some(frames), Some(seen)) => {
                encoder.skip(&record);
                frames.into_iter().skip(seen).for_each(|frame| out.extend_from_slice(&frame.to_vec()));
            }
            _ => encoder.encode(cursor, &record, &mut out),
        }
    }
    String::from_utf8(out.to_vec()).expect("UTF-8")
}

/// The frames' names and data.
fn frames(sse: &str) -> Vec<(String, Value)> {
    let blocks = sse.split("\n\n").filter(|block| !block.is_empty());
    let frame = |block: &str| {
        let mut lines = block.lines();
        let name = lines.next().and_then(|line| line.strip_prefix("event: ")).expect("a name");
        let data = lines.next().and_then(|line| line.strip_prefix("data: ")).expect("data");
        let data: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("{data}"));
        assert_eq!(data["type"], name);
        assert!(data.get("error").is_none(), "the clients raise it");
        (name.to_owned(), data)
    };
    blocks.map(frame).collect()
}

fn object(log: &[BytesMut]) -> Value {
    let mut object = ResponseObject::new(envelope());
    log.iter().for_each(|bytes| object.fold(&Record::parse(bytes).expect("a record")));
    serde_json::from_slice(&object.json()).expect("JSON")
}

fn all() -> Vec<Vec<Event<'static>>> {
    use Status::{Cancelled, Completed, Failed, Interrupted};
    [Cancelled, Completed, Failed, Interrupted].map(broken).into_iter().chain([foreign(), kin()]).collect()
}

#[test]
fn an_answer_of_another_protocol_is_told_in_items_of_this() {
    insta::assert_snapshot!(read(&records(&foreign()), 0, 0));
}

#[test]
fn an_answer_of_this_protocol_is_told_as_its_upstream_told_it() {
    insta::assert_snapshot!(read(&records(&kin()), 0, 0));
}

#[test]
fn frames_are_numbered_without_gaps_and_ids_rise() {
    for events in all() {
        let sse = read(&records(&events), 0, 0);
        let frames = frames(&sse);
        let numbers: Vec<u64> = frames.iter().filter_map(|(_, data)| data["sequence_number"].as_u64()).collect();
        assert_eq!(numbers, (0..frames.len() as u64).collect::<Vec<_>>());
        let ids = sse.lines().filter_map(|line| line.strip_prefix("id: ")?.strip_prefix(STREAM)?.strip_prefix('-'));
        let ids: Vec<u64> = ids.map(|id| id.parse().expect("a cursor")).collect();
        assert!(ids.is_sorted_by(|a, b| a < b) && ids.last() == Some(&(events.len() as u64)), "{ids:?}");
    }
}

#[test]
fn a_replay_from_any_cursor_is_the_tail_of_the_whole() {
    for events in all() {
        let log = records(&events);
        let whole = read(&log, 0, 0);
        for after in 0..=log.len() {
            let rest = read(&log, after, 0);
            assert!(whole.ends_with(&rest), "after {after}: {rest}");
            let missing = &whole[..whole.len() - rest.len()];
            assert!(missing.is_empty() || missing.trim_end().ends_with(|c: char| c.is_ascii_digit()), "{missing}");
        }
    }
}

#[test]
fn behind_any_number_is_the_tail_of_the_whole_wherever_the_encoder_begins() {
    for events in all() {
        let log = records(&events);
        let whole = read(&log, 0, 0);
        let blocks: Vec<_> = whole.split_inclusive("\n\n").collect();
        for muted in 0..=blocks.len() as u64 {
            let missing: String = blocks[usize::try_from(muted).expect("few")..].concat();
            assert_eq!(read(&log, 0, muted), missing, "from the beginning, {muted} muted");
            // As far as all of a record was seen, it can be skipped.
            let mut encoder = ResponsesEncode::new(envelope());
            encoder.mute(muted);
            let seen =
                log.iter().take_while(|bytes| encoder.skip_seen(&Record::parse(bytes).expect("a record"))).count();
            assert_eq!(read(&log, seen, muted), missing, "behind record {seen}, {muted} muted");
            assert!(encoder.number() <= muted);
            let again = log[seen..].iter().all(|bytes| {
                encoder.skip(&Record::parse(bytes).expect("a record"));
                true
            });
            assert_eq!((again, encoder.number()), (true, blocks.len() as u64), "what was refused changed nothing");
        }
    }
}

#[test]
fn the_last_frame_has_the_response_that_is_retrieved() {
    for events in all() {
        let log = records(&events);
        let frames = frames(&read(&log, 0, 0));
        let (_, last) = frames.last().expect("frames");
        assert_eq!(last["response"], object(&log));
    }
}

/// As the SDKs do: the items and their pieces, added up from the small frames, are what the closing frames repeat.
#[test]
fn pieces_add_up_to_what_the_closing_frames_repeat() {
    for events in [foreign(), kin(), broken(Status::Completed)] {
        let frames = frames(&read(&records(&events), 0, 0));
        let mut said: std::collections::BTreeMap<String, String> = Default::default();
        let (mut items, mut dones) = (Vec::new(), 0);
        for (name, data) in &frames {
            let place =
                [&data["item_id"], &data["content_index"], &data["summary_index"]].map(Value::to_string).concat();
            if let Some(delta) = data["delta"].as_str() {
                *said.entry(place).or_default() += delta;
                continue;
            }
            let whole = ["text", "refusal", "arguments", "input"].iter().find_map(|name| data[name].as_str());
            if let Some(whole) = whole.filter(|_| name.ends_with(".done")) {
                assert_eq!(said[&place], whole, "{name}");
                dones += 1;
            }
            if name == "response.output_item.done" {
                items.push((data["output_index"].as_u64().expect("a place"), data["item"].clone()));
            }
        }
        assert!(dones > 0);
        items.sort_by_key(|(index, _)| *index);
        let output: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
        let (_, last) = frames.last().expect("frames");
        if !output.is_empty() && last["response"]["output"].as_array().map(Vec::len) == Some(output.len()) {
            assert_eq!(last["response"]["output"], json!(output));
        } else {
            assert!(last["response"]["output"].to_string().contains("ws_1"), "{last}");
        }
    }
}

#[test]
fn each_end_has_its_event_and_its_status() {
    use Status::{Cancelled, Completed, Failed, Interrupted};
    for (status, reason, name, told, details) in [
        (Completed, Some(Reason::Stop), "response.completed", "completed", Value::Null),
        (
            Completed,
            Some(Reason::Length),
            "response.incomplete",
            "incomplete",
            json!({ "reason": "max_output_tokens" }),
        ),
        (
            Completed,
            Some(Reason::ContentFilter),
            "response.incomplete",
            "incomplete",
            json!({ "reason": "content_filter" }),
        ),
        (Cancelled, None, "response.incomplete", "cancelled", Value::Null),
        (Failed, None, "response.failed", "failed", Value::Null),
        (Interrupted, None, "response.failed", "failed", Value::Null),
    ] {
        let mut events = broken(status);
        events.pop();
        events.extend([finish(Reason::Stop), end(status, reason)]);
        let log = records(&events);
        let frames = frames(&read(&log, 0, 0));
        let (last, data) = frames.last().expect("frames");
        let response = &data["response"];
        assert_eq!((last.as_str(), &response["status"]), (name, &json!(told)));
        assert_eq!(response["incomplete_details"], details);
        assert_eq!(response["error"].is_object(), name == "response.failed");
        assert_eq!(response["completed_at"].is_u64(), told == "completed");
        let item = if told == "completed" { "completed" } else { "incomplete" };
        assert_eq!(response["output"][0]["status"], item, "the half that was said");
        assert_eq!(response["output"][0]["content"][0]["text"], "Once");
        let closed = frames.iter().any(|(name, _)| name == "response.output_text.done");
        assert_eq!(closed, status == Completed, "nobody says that a half is done");
    }
}

#[test]
fn an_upstreams_own_word_for_why_it_stopped_is_kept() {
    let mut events = begin("responses");
    let finish = Finish { reason: None, raw: Some("max_messages".into()), ..Finish::default() };
    events.extend([Event::Finish(0, finish), end(Status::Completed, None)]);
    let response = object(&records(&events));
    assert_eq!(response["incomplete_details"], json!({ "reason": "max_messages" }));
    assert_eq!(response["status"], "incomplete");
}

#[test]
fn an_end_that_cannot_be_read_is_a_failure() {
    let mut log = records(&broken(Status::Completed));
    let cut = log.last_mut().expect("records");
    cut.truncate(cut.len() - 1);
    assert_eq!(object(&log)["status"], "failed");
}

#[test]
fn a_response_that_runs_shows_what_was_said_so_far() {
    let log = records(&kin());
    let status = |n: usize| object(&log[..n])["status"].as_str().map(str::to_owned);
    assert_eq!(status(2).as_deref(), Some("queued"), "in the background, and nothing came yet");
    assert_eq!(status(4).as_deref(), Some("in_progress"));
    let so_far = object(&log[..19]);
    assert_eq!(so_far["output"][3]["content"][0]["text"], "Yes");
    assert_eq!((&so_far["usage"], &so_far["output"][3]["status"]), (&Value::Null, &json!("in_progress")));
}

#[test]
fn what_was_asked_lies_over_the_defaults_and_what_an_upstream_says_over_that() {
    let response = object(&records(&kin()));
    assert_eq!((&response["instructions"], &response["service_tier"]), (&json!("Be brief."), &json!("default")));
    assert_eq!(
        (&response["temperature"], &response["top_p"], &response["tools"]),
        (&json!(0.5), &json!(1.0), &json!([]))
    );
    assert_eq!(response["store"], json!(true), "that is between lastword and its client");
    assert_eq!(response["usage"]["new"], json!(1.1), "to the letter");
}

#[test]
fn every_required_member_is_there_from_the_first_frame_on() {
    for events in all() {
        for (_, data) in frames(&read(&records(&events), 0, 0)) {
            let Some(response) = data.get("response") else { continue };
            for (name, is) in [
                ("id", Value::is_string as fn(&Value) -> bool),
                ("object", Value::is_string),
                ("created_at", Value::is_number),
                ("status", Value::is_string),
                ("model", Value::is_string),
                ("output", Value::is_array),
                ("parallel_tool_calls", Value::is_boolean),
                ("tool_choice", Value::is_string),
                ("tools", Value::is_array),
            ] {
                assert!(is(&response[name]), "{name}: {response}");
            }
            assert_eq!(response["id"], format!("resp_{STREAM}"));
        }
    }
}

/// An id of another protocol is no name for an item: who sends it back would be refused.
#[test]
fn only_this_protocols_ids_are_told() {
    for (protocol, id) in [("responses", "msg_1".to_owned()), ("messages", format!("msg_{STREAM}_0"))] {
        let mut events = begin(protocol);
        events.extend([start_id(0, PartType::Text, "msg_1"), end(Status::Completed, None)]);
        assert_eq!(object(&records(&events))["output"][0]["id"], id, "{protocol}");
    }
}

/// The items of an upstream are counted here: it may have told some that are not told again.
#[test]
fn what_is_handed_through_gets_the_place_and_the_number_it_has_here() {
    let search = |name: &str, more: Value| {
        let mut data = json!({ "type": name, "sequence_number": 70, "output_index": 7 });
        data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        opaque(name, data)
    };
    let item = json!({ "item": { "id": "ws_1", "type": "web_search_call" } });
    let mut events = begin("responses");
    events.extend([
        search("response.output_item.added", item.clone()),
        search("response.web_search_call.searching", json!({ "error": { "message": "slow" } })),
        search("response.output_item.done", item),
        search("response.of_nothing_known", json!({})),
        end(Status::Completed, None),
    ]);
    let frames = frames(&read(&records(&events), 0, 0));
    let places: Vec<_> = frames[2..6].iter().map(|(_, data)| data["output_index"].as_u64().expect("a place")).collect();
    assert_eq!(places, [0, 0, 0, 7]);
}

#[test]
fn a_piece_of_a_part_that_never_began_begins_it() {
    let mut events = begin("chat");
    events.extend([
        usage(),
        say(4, PartType::Text, "one"),
        say(4, PartType::Text, " two"),
        end(Status::Completed, None),
    ]);
    let log = records(&events);
    assert_eq!(object(&log)["output"][0]["content"][0]["text"], "one two");
    let whole = read(&log, 0, 0);
    let blocks: Vec<_> = whole.split_inclusive("\n\n").collect();
    for muted in 0..=blocks.len() {
        let mut encoder = ResponsesEncode::new(envelope());
        encoder.mute(muted as u64);
        let seen = log.iter().take_while(|bytes| encoder.skip_seen(&Record::parse(bytes).expect("a record"))).count();
        log[seen..].iter().for_each(|bytes| encoder.skip(&Record::parse(bytes).expect("a record")));
        assert_eq!(encoder.number(), blocks.len() as u64, "{muted} muted");
    }
}

#[test]
fn an_event_with_a_wild_name_is_not_told() {
    let mut events = begin("responses");
    events.extend([
        opaque("response.a\n\ndata: x", json!({})),
        opaque("response.list", json!([])),
        end(Status::Completed, None),
    ]);
    assert_eq!(frames(&read(&records(&events), 0, 0)).len(), 3);
}

#[test]
fn what_is_long_lies_in_memory_once() {
    let mut events = begin("chat");
    let long: &'static str = Box::leak("river ".repeat(20_000).into_boxed_str());
    events.extend([start(0, PartType::Text), say(0, PartType::Text, long)]);
    events.extend([stop(0, PartType::Text, None), end(Status::Completed, None)]);
    let mut retell = ResponsesEncode::new(envelope()).retell().expect("there is one");
    let mut pieces = Vec::new();
    for (n, bytes) in records(&events).iter().enumerate() {
        let frames = retell.take(Cursor(n as u64 + 1), &Record::parse(bytes).expect("a record"));
        pieces.extend(frames.into_iter().flatten().flat_map(|frame| frame.into_pieces()));
    }
    let told: usize = pieces.iter().map(|piece| piece.len()).sum();
    pieces.sort_by_key(|piece| piece.as_ptr());
    pieces.dedup_by_key(|piece| piece.as_ptr());
    let held: usize = pieces.iter().map(|piece| piece.len()).sum();
    assert!(told > 4 * long.len() && held < long.len() + 20_000, "{told} bytes told, {held} held");
}

proptest! {
    /// Whatever the records, in whatever order: nothing panics, and the laws hold.
    #[test]
    fn any_log_can_be_told(picks in prop::collection::vec((0_usize..60, any::<prop::sample::Index>()), 0..40)) {
        let pool: Vec<Event<'static>> = foreign().into_iter().chain(kin()).filter(|event| !matches!(event, Event::End(_))).collect();
        let mut events = begin("chat");
        events.extend(picks.iter().map(|(_, index)| pool[index.index(pool.len())].clone()));
        events.push(end(Status::Completed, None));
        let log = records(&events);
        let whole = read(&log, 0, 0);
        let said = frames(&whole);
        prop_assert!(said.iter().enumerate().all(|(n, (_, data))| data["sequence_number"] == n));
        let blocks: Vec<_> = whole.split_inclusive("\n\n").collect();
        for (n, index) in &picks {
            prop_assert!(whole.ends_with(&read(&log, *n, 0)));
            let muted = index.index(blocks.len() + 1);
            prop_assert_eq!(read(&log, 0, muted as u64), blocks[muted..].concat());
        }
        prop_assert_eq!(&said.last().expect("frames").1["response"], &object(&log));
    }
}
