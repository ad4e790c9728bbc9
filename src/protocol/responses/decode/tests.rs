//! The corners of the decoder, event by event.

use serde_json::json;

use super::*;
use crate::event::{At, PartStart};

/// The events of an answer, one word each, and how it ended. Each frame is an event's type and its other members.
fn decode(frames: &[(&str, Value)]) -> (Vec<String>, Result<(), DecodeError>) {
    let mut decode = ResponsesDecode::default();
    let mut events = Vec::new();
    let all = frames.iter().try_for_each(|(kind, members)| {
        let mut data = members.clone();
        data["type"] = (*kind).into();
        decode.frame(kind, &data.to_string(), &mut events)
    });
    let end = all.and_then(|()| decode.finish(&mut events));
    (events.iter().filter(|event| **event != Event::Alive).map(short).collect(), end)
}

fn short(event: &Event<'_>) -> String {
    let word = |s: &Option<String>| s.clone().unwrap_or("-".into());
    let raw = |s: &Option<Json>| s.as_ref().map(|raw| format!(" {}", raw.get())).unwrap_or_default();
    let n = |at: &At| at.part;
    match event {
        Event::PartStart(at, PartStart { tool: Some(tool), id, raw: more, .. }) => {
            let (call, name, kind) = (word(&tool.call_id), word(&tool.name), word(&tool.kind));
            format!("{} {} {kind} {call} {name}{}", n(at), word(id), raw(more))
        }
        Event::PartStart(at, start) => format!("{} {} {:?}{}", n(at), word(&start.id), at.of, raw(&start.raw)),
        Event::Delta(at, delta) => format!("{} +{}{}", n(at), delta.text, raw(&delta.logprobs)),
        Event::Annotation(at, note) => format!("{} note {} {:?}", n(at), word(&note.url), note.span),
        Event::State(at, state) => format!("{} {} {}{}", n(at), state.origin, state.kind, state.value.get()),
        Event::PartStop(at, stop) => format!("{} stop {}", n(at), word(&stop.status)),
        Event::Finish(_, finish) => format!("{:?} {}", finish.reason, word(&finish.raw)),
        Event::Usage(usage) => format!("usage {:?} {:?}", usage.input_tokens, usage.output_tokens),
        Event::Opaque(opaque) => format!("{}={}", opaque.name, opaque.json.get()),
        other => format!("{other:?}"),
    }
}

fn completed() -> (&'static str, Value) {
    ("response.completed", json!({ "response": { "status": "completed" } }))
}

const STOP: &str = "Some(Stop) completed";

#[test]
fn a_message_is_a_part_for_each_of_its_content_and_only_its_last_stop_has_its_status() {
    let (events, end) = decode(&[
        (
            "response.output_item.added",
            json!({"output_index":0,"item":{"id":"m","type":"message","phase":"final","content":[]}}),
        ),
        (
            "response.content_part.added",
            json!({"item_id":"m","content_index":0,"part":{"type":"output_text","text":""}}),
        ),
        ("response.output_text.delta", json!({"item_id":"m","content_index":0,"delta":"a","logprobs":[]})),
        (
            "response.output_text.delta",
            json!({"item_id":"m","content_index":0,"delta":"b","logprobs":[{"token":"b"}],"obfuscation":"x"}),
        ),
        ("response.output_text.done", json!({"item_id":"m","content_index":0,"text":"ab"})),
        (
            "response.content_part.done",
            json!({"item_id":"m","content_index":0,"part":{"type":"output_text","text":"ab"}}),
        ),
        (
            "response.content_part.added",
            json!({"item_id":"m","content_index":1,"part":{"type":"refusal","refusal":""}}),
        ),
        ("response.refusal.delta", json!({"item_id":"m","content_index":1,"delta":"No"})),
        ("response.refusal.done", json!({"item_id":"m","content_index":1,"refusal":"No"})),
        // Of a part that is over, nothing is told again.
        ("response.output_text.done", json!({"item_id":"m","content_index":0,"text":"abc"})),
        (
            "response.output_item.done",
            json!({"output_index":0,"item":{"id":"m","type":"message","status":"incomplete","content":[
            {"type":"output_text","text":"ab"},{"type":"refusal","refusal":"No"}]}}),
        ),
        completed(),
        ("response.output_text.delta", json!({"item_id":"m","delta":"too late"})),
    ]);
    assert_eq!(
        events,
        [
            "0 m Text {\"phase\":\"final\"}",
            "0 +a",
            "0 +b [{\"token\":\"b\"}]",
            "0 stop -",
            "1 m Refusal",
            "1 +No",
            "1 stop incomplete",
            STOP
        ]
    );
    assert_eq!(end, Ok(()));
}

#[test]
fn reasoning_is_summaries_and_words_and_a_state_before_its_last_stop() {
    let (events, _) = decode(&[
        (
            "response.output_item.added",
            json!({"output_index":0,"item":{"id":"r","type":"reasoning","summary":[],"encrypted_content":"begun"}}),
        ),
        (
            "response.reasoning_summary_part.added",
            json!({"item_id":"r","summary_index":0,"part":{"type":"summary_text","text":""}}),
        ),
        ("response.reasoning_summary_text.delta", json!({"item_id":"r","summary_index":0,"delta":"a"})),
        ("response.reasoning_summary_text.done", json!({"item_id":"r","summary_index":0,"text":"a"})),
        (
            "response.reasoning_summary_part.done",
            json!({"item_id":"r","summary_index":0,"part":{"type":"summary_text","text":"a"}}),
        ),
        (
            "response.reasoning_summary_part.added",
            json!({"item_id":"r","summary_index":1,"part":{"type":"summary_text","text":""}}),
        ),
        ("response.reasoning_text.delta", json!({"item_id":"r","content_index":0,"delta":"b"})),
        (
            "response.output_item.done",
            json!({"output_index":0,"item":{"id":"r","type":"reasoning","encrypted_content":"all",
            "summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":""}],"content":[{"type":"reasoning_text","text":"b"}]}}),
        ),
        completed(),
    ]);
    assert_eq!(
        events,
        [
            "0 r ReasoningSummary",
            "0 +a",
            "0 stop -",
            "1 r ReasoningSummary",
            "2 r Reasoning",
            "2 +b",
            "1 stop -",
            "2 responses encrypted_content\"all\"",
            "2 stop completed",
            STOP,
        ]
    );
}

#[test]
fn an_item_with_nothing_in_it_is_a_part_all_the_same() {
    let (events, _) = decode(&[
        ("response.output_item.added", json!({"item":{"id":"r","type":"reasoning","summary":[]}})),
        (
            "response.output_item.done",
            json!({"item":{"id":"r","type":"reasoning","summary":[],"encrypted_content":"x"}}),
        ),
        ("response.output_item.added", json!({"item":{"id":"m","type":"message"}})),
        ("response.output_item.done", json!({"item":{"id":"m","type":"message","status":"completed","content":[]}})),
        (
            "response.output_item.done",
            json!({"item":{"id":"f","type":"function_call","call_id":"c","name":"n","arguments":""}}),
        ),
        completed(),
    ]);
    assert_eq!(
        events,
        [
            "0 r Redacted",
            "0 responses encrypted_content\"x\"",
            "0 stop completed",
            "1 m Text",
            "1 stop completed",
            "2 f function c n",
            "2 stop completed",
            "Some(ToolCalls) completed",
        ]
    );
}

#[test]
fn calls_that_are_told_in_turn_are_told_apart() {
    let (events, _) = decode(&[
        (
            "response.output_item.added",
            json!({"output_index":0,"item":{"id":"f","type":"function_call","call_id":"a","name":"x","arguments":"","namespace":"n"}}),
        ),
        (
            "response.output_item.added",
            json!({"output_index":1,"item":{"id":"g","type":"custom_tool_call","call_id":"b","name":"y","input":""}}),
        ),
        ("response.function_call_arguments.delta", json!({"item_id":"f","output_index":0,"delta":"{"})),
        ("response.custom_tool_call_input.delta", json!({"item_id":"g","output_index":1,"delta":"fr"})),
        ("response.function_call_arguments.delta", json!({"output_index":0,"delta":"}"})),
        ("response.custom_tool_call_input.done", json!({"item_id":"g","output_index":1,"input":"free"})),
        ("response.function_call_arguments.done", json!({"item_id":"f","output_index":0,"arguments":"{}"})),
        (
            "response.output_item.done",
            json!({"output_index":0,"item":{"id":"f","type":"function_call","call_id":"a","name":"x","arguments":"{}","status":"completed"}}),
        ),
        (
            "response.output_item.done",
            json!({"output_index":1,"item":{"id":"g","type":"custom_tool_call","call_id":"b","name":"y","input":"free"}}),
        ),
        completed(),
    ]);
    assert_eq!(
        events,
        [
            "0 f function a x {\"namespace\":\"n\"}",
            "1 g custom b y",
            "0 +{",
            "1 +fr",
            "0 +}",
            "1 +ee",
            "0 stop completed",
            "1 stop completed",
            "Some(ToolCalls) completed",
        ]
    );
}

#[test]
fn what_was_not_told_in_pieces_is_told_at_the_end_once() {
    let text = json!({"item_id":"m","text":"añb","logprobs":[{"token":"x"}]});
    let part = json!({"item_id":"m","part":{"type":"output_text","text":"añb","annotations":[{"type":"url_citation","url":"u","start_index":0,"end_index":3},{"type":"new"}]}});
    let item = json!({"item":{"id":"m","type":"message","content":[part["part"]]}});
    let whole =
        ["0 m Text", "0 +añb [{\"token\":\"x\"}]", "0 note u Some((0, 3))", "0 note - None", "0 stop completed", STOP];
    let plain = ["0 m Text", "0 +añb", "0 note u Some((0, 3))", "0 note - None", "0 stop completed", STOP];
    let [text, part, item] = [
        ("response.output_text.done", text),
        ("response.content_part.done", part),
        ("response.output_item.done", item),
    ];
    assert_eq!(decode(&[text.clone(), part.clone(), item.clone(), completed()]).0, whole);
    assert_eq!(decode(&[part.clone(), item.clone(), completed()]).0, plain);
    assert_eq!(decode(&[item.clone(), completed()]).0, plain);
    assert_eq!(decode(&[item.clone(), item.clone(), part.clone(), text.clone(), completed()]).0, plain);
    let response = json!({"response":{"status":"completed","output":[item.1["item"]]}});
    assert_eq!(decode(&[("response.completed", response.clone())]).0, plain);
    assert_eq!(decode(&[item, ("response.completed", response)]).0, plain);
    // A piece was told, and the rest of it was not.
    let piece = ("response.output_text.delta", json!({"item_id":"m","delta":"añ"}));
    let noted = (
        "response.output_text.annotation.added",
        json!({"item_id":"m","annotation":{"type":"url_citation","url":"u"}}),
    );
    assert_eq!(
        decode(&[piece, noted, text, part, completed()]).0,
        ["0 m Text", "0 +añ", "0 note u None", "0 +b", "0 note - None", "0 stop completed", STOP]
    );
}

#[test]
fn a_server_may_leave_out_ids_indices_and_the_events_around_the_words() {
    let (events, end) = decode(&[
        ("response.reasoning_text.delta", json!({"delta":"hm"})),
        ("response.output_text.delta", json!({"delta":"a"})),
        ("response.output_text.delta", json!({"delta":"b"})),
        ("response.function_call_arguments.delta", json!({"delta":"{}"})),
        ("response.output_text.done", json!({"text":"ab"})),
        ("response.incomplete", json!({"response":{}})),
    ]);
    assert_eq!(
        events,
        [
            "0 - Reasoning",
            "0 +hm",
            "1 - Text",
            "1 +a",
            "1 +b",
            "2 - function - -",
            "2 +{}",
            "0 stop incomplete",
            "1 stop incomplete",
            "2 stop incomplete",
            "None incomplete",
        ]
    );
    assert_eq!(end, Ok(()));
}

#[test]
fn an_item_is_known_by_its_index_where_its_id_changes() {
    let (events, _) = decode(&[
        ("response.output_item.added", json!({"output_index":0,"item":{"id":"m1","type":"message"}})),
        ("response.output_text.delta", json!({"output_index":0,"item_id":"other","content_index":0,"delta":"a"})),
        (
            "response.output_item.done",
            json!({"output_index":0,"item":{"id":"third","type":"message","content":[{"type":"output_text","text":"a"}]}}),
        ),
        completed(),
    ]);
    assert_eq!(events, ["0 m1 Text", "0 +a", "0 stop completed", STOP]);
}

#[test]
fn an_index_that_is_always_0_does_not_mix_items_that_have_ids() {
    let call = |id: &str| json!({"output_index":0,"item":{"id":id,"type":"function_call","call_id":id,"name":"x","arguments":"{}"}});
    let (events, _) = decode(&[
        ("response.output_item.done", json!({"output_index":0,"item":{"id":"w","type":"web_search_call"}})),
        ("response.output_item.added", call("f")),
        ("response.output_item.done", call("f")),
        ("response.output_item.added", call("g")),
        ("response.function_call_arguments.delta", json!({"output_index":0,"item_id":"g","delta":"{}"})),
        ("response.output_item.done", call("g")),
        completed(),
    ]);
    assert_eq!(
        events[1..],
        [
            "0 f function f x",
            "0 +{}",
            "0 stop completed",
            "1 g function g x",
            "1 +{}",
            "1 stop completed",
            "Some(ToolCalls) completed"
        ]
    );
}

#[test]
fn an_index_that_is_always_0_does_not_hide_items_that_are_told_only_as_a_whole() {
    let call = |id: Value| {
        let item = json!({"id":id,"type":"function_call","call_id":"c","name":"x","arguments":"{}"});
        ("response.output_item.done", json!({ "output_index": 0, "item": item }))
    };
    let text = json!({"type":"message","content":[{"type":"output_text","text":"a"}]});
    let text = ("response.output_item.done", json!({ "output_index": 0, "item": text }));
    let whole = |events: Vec<String>| events.into_iter().filter(|event| event.contains(" +")).collect::<Vec<_>>();
    assert_eq!(whole(decode(&[call("f".into()), call("g".into()), completed()]).0), ["0 +{}", "1 +{}"]);
    assert_eq!(whole(decode(&[call(Value::Null), text, completed()]).0), ["0 +{}", "1 +a"]);
}

#[test]
fn an_id_that_was_not_told_before_is_another_item() {
    let (events, _) = decode(&[
        ("response.output_item.added", json!({"item":{"id":"m","type":"message"}})),
        ("response.output_text.delta", json!({"item_id":"m","delta":"a"})),
        ("response.output_text.delta", json!({"item_id":"n","delta":"b"})),
        ("response.output_text.delta", json!({"item_id":"m","delta":"c"})),
        completed(),
    ]);
    let words = ["0 m Text", "0 +a", "1 n Text", "1 +b", "0 +c", "0 stop completed", "1 stop completed", STOP];
    assert_eq!(events, words);
}

#[test]
fn an_item_may_be_named_at_its_end() {
    let part = json!({"type":"output_text","text":"a"});
    let (events, _) = decode(&[
        ("response.output_item.added", json!({"item":{"type":"message"}})),
        ("response.output_item.done", json!({"item":{"id":"m","type":"message","phase":null,"content":[part]}})),
        completed(),
    ]);
    assert_eq!(events, ["0 m Text", "0 +a", "0 stop completed", STOP]);
}

#[test]
fn a_call_of_which_nothing_but_its_beginning_is_told_is_a_call() {
    let call = json!({"id":"f","type":"function_call","call_id":"c","name":"x"});
    let (events, _) = decode(&[("response.output_item.added", json!({ "item": call })), completed()]);
    assert_eq!(events, ["0 f function c x", "0 stop completed", "Some(ToolCalls) completed"]);
}

#[test]
fn an_index_counts_only_where_both_sides_tell_it() {
    let (events, _) = decode(&[
        ("response.output_text.delta", json!({"delta":"a"})),
        ("response.output_text.delta", json!({"content_index":0,"delta":"b"})),
        ("response.output_text.delta", json!({"content_index":1,"delta":"c"})),
        ("response.output_text.delta", json!({"delta":"d"})),
        completed(),
    ]);
    // The first part's index is unknown, so nothing says that the third piece is of another one.
    assert_eq!(events, ["0 - Text", "0 +a", "0 +b", "0 +c", "0 +d", "0 stop completed", STOP]);
    let (events, _) = decode(&[
        ("response.content_part.added", json!({"content_index":0,"part":{"type":"output_text"}})),
        ("response.output_text.delta", json!({"delta":"a"})),
        ("response.output_text.delta", json!({"content_index":1,"delta":"b"})),
        completed(),
    ]);
    assert_eq!(events, ["0 - Text", "0 +a", "1 - Text", "1 +b", "0 stop -", "1 stop completed", STOP]);
}

#[test]
fn what_is_whole_is_not_told_again_by_the_response_whatever_has_an_id() {
    let item = json!({"type":"message","content":[{"type":"output_text","text":"a"}]});
    let (events, _) = decode(&[
        ("response.output_text.delta", json!({"delta":"a"})),
        ("response.output_item.done", json!({ "item": item })),
        ("response.completed", json!({"response":{"status":"completed","output":[item]}})),
    ]);
    assert_eq!(events, ["0 - Text", "0 +a", "0 stop completed", STOP]);
}

#[test]
fn a_whole_that_is_not_what_its_pieces_were_breaks_nothing() {
    let (events, end) = decode(&[
        ("response.output_text.delta", json!({"delta":"a"})),
        ("response.output_text.done", json!({"text":"ñb"})),
        completed(),
    ]);
    assert_eq!(events, ["0 - Text", "0 +a", "0 stop completed", STOP]);
    assert_eq!(end, Ok(()));
}

#[test]
fn a_part_is_of_the_kind_of_its_item() {
    let content = json!([{"type":"output_text","text":"a"},{"type":"reasoning_text","text":"b"}]);
    let item = json!({"id":"m","type":"message","content":content});
    let (events, _) = decode(&[("response.output_item.done", json!({ "item": item })), completed()]);
    assert_eq!(events, ["0 m Text", "0 +a", "0 stop completed", STOP]);
}

#[test]
fn what_is_not_known_is_kept_as_it_came() {
    let (events, end) = decode(&[
        ("response.output_item.added", json!({"output_index":0,"item":{"id":"w","type":"web_search_call","name":7}})),
        ("response.web_search_call.searching", json!({"output_index":0,"item_id":"w","delta":{"x":1}})),
        ("response.function_call_arguments.delta", json!({"output_index":0,"item_id":"w","delta":"{}"})),
        ("response.output_item.done", json!({"output_index":0,"item":{"id":"w","type":"web_search_call","content":7}})),
        ("response.output_item.added", json!({"output_index":1,"item":{"id":"m","type":"message"}})),
        ("response.content_part.added", json!({"item_id":"m","part":{"type":"output_audio"}})),
        ("response.new", json!({"item_id":7,"text":[]})),
        completed(),
    ]);
    assert_eq!(
        events,
        [
            r#"response.output_item.added={"item":{"id":"w","name":7,"type":"web_search_call"},"output_index":0,"type":"response.output_item.added"}"#,
            r#"response.web_search_call.searching={"delta":{"x":1},"item_id":"w","output_index":0,"type":"response.web_search_call.searching"}"#,
            r#"response.function_call_arguments.delta={"delta":"{}","item_id":"w","output_index":0,"type":"response.function_call_arguments.delta"}"#,
            r#"response.output_item.done={"item":{"content":7,"id":"w","type":"web_search_call"},"output_index":0,"type":"response.output_item.done"}"#,
            r#"response.content_part.added={"item_id":"m","part":{"type":"output_audio"},"type":"response.content_part.added"}"#,
            r#"response.new={"item_id":7,"text":[],"type":"response.new"}"#,
            "0 m Text",
            "0 stop completed",
            STOP,
        ]
    );
    assert_eq!(end, Ok(()));
}

#[test]
fn the_response_is_told_once_and_then_what_changed_of_it() {
    let begun = json!({"response":{"id":"r","status":"queued","model":"m","output":[],"store":true,"temperature":1.10,"tools":[]}});
    let end = json!({"response":{"id":"r","status":"completed","output":[],"usage":{"input_tokens":9,"output_tokens":2},"temperature":1.10,"tools":[],"service_tier":"default"}});
    let (events, _) = decode(&[
        ("response.created", begun.clone()),
        ("response.queued", begun.clone()),
        ("response.in_progress", begun),
        ("response.completed", end),
    ]);
    assert_eq!(
        events,
        [
            r#"response={"store":true,"temperature":1.1,"tools":[]}"#,
            r#"response={"service_tier":"default"}"#,
            "usage Some(9) Some(2)",
            STOP
        ]
    );
}

#[test]
fn all_that_comes_before_words_is_a_sign_of_life() {
    for kind in ["response.created", "response.queued", "response.in_progress", "keepalive"] {
        let mut events = Vec::new();
        ResponsesDecode::default().frame(kind, "{}", &mut events).expect(kind);
        assert_eq!(events, [Event::Alive], "{kind}");
    }
}

#[test]
fn why_it_stopped_is_kept_in_both_words() {
    for (response, reason, raw) in [
        (json!({"status":"completed"}), Some(Reason::Stop), "completed"),
        (
            json!({"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}),
            Some(Reason::Length),
            "max_output_tokens",
        ),
        (
            json!({"status":"incomplete","incomplete_details":{"reason":"content_filter"}}),
            Some(Reason::ContentFilter),
            "content_filter",
        ),
        (json!({"status":"incomplete","incomplete_details":{"reason":"new"}}), None, "new"),
        (json!({"status":"incomplete","incomplete_details":null}), None, "incomplete"),
    ] {
        let (events, end) = decode(&[("response.completed", json!({ "response": response }))]);
        assert_eq!(events, [format!("{reason:?} {raw}")]);
        assert_eq!(end, Ok(()));
    }
}

#[test]
fn counts_are_kept_and_what_is_not_counted_is_unknown() {
    let usage = json!({"input_tokens":9,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"new":1});
    let mut events = Vec::new();
    let data = json!({"response":{"usage":usage}}).to_string();
    ResponsesDecode::default().frame("response.completed", &data, &mut events).expect("an end");
    let [Event::Usage(counted), _] = &events[..] else { panic!("{events:?}") };
    assert_eq!((counted.input_tokens, counted.output_tokens, counted.reasoning_tokens), (Some(9), Some(5), Some(3)));
    assert_eq!((counted.cache_read_tokens, counted.cache_write_tokens, counted.audio_tokens), (Some(4), Some(1), None));
    assert_eq!(counted.raw.as_ref().map(Json::get), Some(&*usage.to_string()));
}

#[test]
fn an_upstreams_complaint_is_an_error_with_its_code() {
    for (kind, data, message, code) in [
        (
            "error",
            json!({"code":"server_error","message":"m","param":null,"sequence_number":3}),
            "m",
            Some("server_error"),
        ),
        ("error", json!({"code":null,"message":"m"}), "m", None),
        ("error", json!({"error":{"message":"m","type":"t","code":null}}), "m", Some("t")),
        ("message", json!({"error":{"message":"m","type":"t"}}), "m", Some("t")),
        (
            "response.failed",
            json!({"response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"m"}}}),
            "m",
            Some("rate_limit_exceeded"),
        ),
        (
            "response.failed",
            json!({"response":{"status":"failed","error":null}}),
            "the answer failed, with no word of why",
            None,
        ),
        ("response.failed", json!({}), "the answer failed, with no word of why", None),
        (
            "response.incomplete",
            json!({"response":{"status":"cancelled"}}),
            "the answer was cancelled there",
            Some("cancelled"),
        ),
        ("response.cancelled", json!({"response":{}}), "the answer was cancelled there", Some("cancelled")),
    ] {
        let said = ("response.output_text.delta", json!({"delta":"a"}));
        let mut frame = data.clone();
        if kind != "message" {
            frame["type"] = kind.into();
        }
        let mut decode = ResponsesDecode::default();
        let mut events = Vec::new();
        decode.frame(said.0, &said.1.to_string(), &mut events).expect("words");
        let error = decode.frame(kind, &frame.to_string(), &mut events).expect_err(kind);
        let DecodeError::Upstream(complaint) = error else { panic!("{error}") };
        assert_eq!((&*complaint.message, complaint.code.as_deref()), (message, code), "{data}");
        assert_eq!(events.len(), 2, "what was said stands, and is not closed: {data}");
    }
    let mut decode = ResponsesDecode::default();
    let error = decode.frame("error", "Out of memory", &mut Vec::new()).expect_err("a complaint");
    assert_eq!(error.to_string(), "Out of memory");
}

#[test]
fn an_end_without_a_terminal_event_is_a_truncation() {
    let said = ("response.output_text.delta", json!({"delta":"a"}));
    let item = ("response.output_item.done", json!({"item":{"id":"m","type":"message"}}));
    assert_eq!(decode(&[said, item]).1, Err(DecodeError::Truncated));
    assert_eq!(decode(&[]).1, Err(DecodeError::Truncated));
}

#[test]
fn rubbish_is_malformed_and_says_nothing_of_the_answer() {
    for (name, data) in [
        ("response.output_text.delta", r#"{"delta":"secret"#),
        ("response.output_text.delta", r#"{"delta":["secret"]}"#),
        ("response.output_text.delta", r#"{"type":"response.output_text.delta","output_index":"secret"}"#),
        ("response.output_item.done", r#"{"item":{"type":"message","content":"secret"}}"#),
        ("message", "secret"),
    ] {
        let error = ResponsesDecode::default().frame(name, data, &mut Vec::new()).expect_err(data);
        let DecodeError::Malformed(why) = error else { panic!("{error}") };
        assert!(!why.contains("secret"), "{why}");
    }
    for (name, data) in
        [("new", "rubbish"), ("message", "[DONE]"), ("message", ""), ("response.created", r#"{"response":7}"#)]
    {
        ResponsesDecode::default().frame(name, data, &mut Vec::new()).expect(data);
    }
}

#[test]
fn an_end_is_what_its_event_says_or_worse() {
    let error = serde_json::json!({ "code": "server_error", "message": "no" });
    for (kind, status, error, how) in [
        ("response.completed", Some("completed"), None, "completed"),
        ("response.completed", Some("incomplete"), None, "incomplete"),
        ("response.incomplete", Some("completed"), None, "incomplete"),
        ("response.failed", Some("in_progress"), None, "failed"),
        ("response.failed", Some("completed"), Some(&error), "failed"),
        ("response.completed", Some("completed"), Some(&error), "failed"),
        ("response.incomplete", Some("cancelled"), None, "cancelled"),
        ("response.completed", None, None, "completed"),
    ] {
        assert_eq!(ended(kind, status, error), how, "{kind}, {status:?}");
    }
}

/// Two lists, and the parts of one list, may be told in turn: each word lands in its own part.
#[test]
fn parts_that_are_told_in_turn_are_each_told_in_full() {
    let summary = |n: u64, delta: &str| {
        ("response.reasoning_summary_text.delta", json!({ "item_id": "r", "summary_index": n, "delta": delta }))
    };
    let words =
        |delta: &str| ("response.reasoning_text.delta", json!({ "item_id": "r", "content_index": 0, "delta": delta }));
    let whole = json!({ "item_id": "r", "summary_index": 1, "part": { "type": "summary_text", "text": "xyz" } });
    let item = json!({ "id": "r", "type": "reasoning", "encrypted_content": "e", "content": [{ "type": "reasoning_text", "text": "123" }],
        "summary": [{ "type": "summary_text", "text": "ab" }, { "type": "summary_text", "text": "xyz" }, { "type": "summary_text", "text": "new" }] });
    let (events, end) = decode(&[
        ("response.output_item.added", json!({ "item": { "id": "r", "type": "reasoning" } })),
        words("1"),
        summary(0, "a"),
        summary(1, "x"),
        words("2"),
        summary(1, "y"),
        ("response.reasoning_summary_part.done", whole),
        summary(0, "b"),
        words("3"),
        ("response.output_item.done", json!({ "item": item })),
        completed(),
    ]);
    assert_eq!(
        events,
        [
            "0 r Reasoning",
            "0 +1",
            "1 r ReasoningSummary",
            "1 +a",
            "2 r ReasoningSummary",
            "2 +x",
            "0 +2",
            "2 +y",
            "2 +z",
            "1 +b",
            "0 +3",
            "1 stop -",
            "2 stop -",
            "3 r ReasoningSummary",
            "3 +new",
            "0 stop -",
            "3 responses encrypted_content\"e\"",
            "3 stop completed",
            STOP,
        ]
    );
    assert_eq!(end, Ok(()));
}

/// There is no record of an item before its first part, so no limit of a stream would see them.
#[test]
fn items_of_which_nothing_is_told_are_not_collected_without_end() {
    let fails = |item: &dyn Fn(usize) -> Value, most: usize| {
        let frames = |n| [("response.output_item.added", json!({ "item": item(n) }))];
        let (mut decode, mut events) = (ResponsesDecode::default(), Vec::new());
        let failed = (0..=most).find_map(|n| {
            frames(n).iter().find_map(|(kind, data)| decode.frame(kind, &data.to_string(), &mut events).err())
        });
        assert_eq!(events, []);
        match failed {
            Some(DecodeError::Malformed(message)) => assert!(message.contains("item after item"), "{message}"),
            other => panic!("{other:?}"),
        }
    };
    fails(&|n| json!({ "id": n.to_string(), "type": "message" }), 1 << 13);
    fails(&|n| json!({ "id": n.to_string(), "type": "function_call", "name": "x".repeat(1 << 16) }), 16);
    fails(&|n| json!({ "id": n.to_string(), "type": "reasoning", "new": "x".repeat(1 << 16) }), 16);
    // Those of which something is told are as many as a stream may have parts.
    let (mut decode, mut events) = (ResponsesDecode::default(), Vec::new());
    let mut tell = |n: usize| {
        let item = json!({ "item": { "id": n.to_string(), "type": "message", "new": "x".repeat(100) } });
        decode.frame("response.output_item.added", &item.to_string(), &mut events)?;
        let done = json!({ "item": { "id": n.to_string(), "type": "message", "content": [] } });
        decode.frame("response.output_item.done", &done.to_string(), &mut events)
    };
    for n in 0..10_000 {
        tell(n).expect("an item");
    }
}

#[test]
fn an_answer_of_more_parts_than_any_has_fails() {
    let (mut decode, mut events) = (ResponsesDecode::default(), Vec::new());
    let mut delta = |n: u64| {
        let data = json!({ "item_id": "m", "content_index": n, "delta": "a" });
        decode.frame("response.output_text.delta", &data.to_string(), &mut events)
    };
    (0..16_384).for_each(|n| delta(n).expect("a part"));
    assert!(matches!(delta(16_384), Err(DecodeError::Malformed(_))));
}
