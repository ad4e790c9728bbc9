//! The corners of the decoder, event by event.

use super::*;

/// The events of an answer, one word each, and how it ended.
fn decode(frames: &[&str]) -> (Vec<String>, Result<(), DecodeError>) {
    let (events, end) = events(frames);
    (events.iter().map(short).collect(), end)
}

/// Each frame is the event's name, its `type`, and the rest of its data.
fn events(frames: &[&str]) -> (Vec<Event<'static>>, Result<(), DecodeError>) {
    let (mut decode, mut events) = (MessagesDecode::default(), Vec::new());
    let all = frames.iter().try_for_each(|frame| {
        let (name, rest) = frame.split_once(' ').unwrap_or((frame, ""));
        let comma = if rest.is_empty() { "" } else { "," };
        decode.frame(name, &format!(r#"{{"type":"{name}"{comma}{rest}}}"#), &mut events)
    });
    let end = all.and_then(|()| decode.finish(&mut events));
    (events, end)
}

fn short(event: &Event<'_>) -> String {
    match event {
        Event::PartStart(at, PartStart { tool: Some(tool), .. }) => {
            let name = |s: &Option<String>| s.clone().unwrap_or("-".into());
            format!("{} call {} {} {}", at.part, name(&tool.call_id), name(&tool.name), name(&tool.kind))
        }
        Event::PartStart(at, _) => format!("{} {:?}", at.part, at.of).to_lowercase(),
        Event::Delta(at, delta) => format!("{} +{}", at.part, delta.text),
        Event::PartStop(at, _) => format!("{} stop", at.part),
        Event::State(at, state) => format!("{} {}={}", at.part, state.kind, state.value.get()),
        Event::Finish(choice, finish) => format!("{choice} finish {}", finish.raw.as_deref().unwrap_or("-")),
        Event::Usage(usage) => format!("usage {:?}", usage.output_tokens),
        Event::Opaque(opaque) => format!("{}: {}", opaque.name, opaque.json.get()),
        other => format!("{other:?}"),
    }
}

const TEXT: &str = r#"content_block_start "index":0,"content_block":{"type":"text","text":""}"#;
const HI: &str = r#"content_block_delta "index":0,"delta":{"type":"text_delta","text":"Hi"}"#;
const TEXT_STOP: &str = r#"content_block_stop "index":0"#;
const END: &str =
    r#"message_delta "delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}"#;

#[test]
fn text_is_one_part_and_the_answer_is_whole_at_message_stop() {
    let start = r#"message_start "message":{"id":"m","type":"message","role":"assistant","model":"c","content":[],
        "stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}"#;
    let (events, end) = decode(&[start, TEXT, "ping", HI, TEXT_STOP, END, "message_stop", HI]);
    assert_eq!(events, ["usage Some(1)", "0 text", "Alive", "0 +Hi", "0 stop", "usage Some(2)", "0 finish end_turn"]);
    assert_eq!(end, Ok(()));
    for cut in [&[start][..], &[start, TEXT, HI], &[start, TEXT, HI, TEXT_STOP, END]] {
        assert_eq!(decode(cut).1, Err(DecodeError::Truncated), "{cut:?}");
    }
}

#[test]
fn every_stop_reason_has_our_word() {
    for (raw, ours) in [
        ("end_turn", Some(Reason::Stop)),
        ("stop_sequence", Some(Reason::Stop)),
        ("pause_turn", Some(Reason::Stop)),
        ("max_tokens", Some(Reason::Length)),
        ("model_context_window_exceeded", Some(Reason::Length)),
        ("tool_use", Some(Reason::ToolCalls)),
        ("refusal", Some(Reason::ContentFilter)),
        ("new", None),
    ] {
        let delta = format!(r#"message_delta "delta":{{"stop_reason":"{raw}","stop_sequence":"END"}}"#);
        let (events, _) = events(&[&delta, &delta]);
        let [Event::Finish(0, finish)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((finish.reason, finish.raw.as_deref()), (ours, Some(raw)));
        assert_eq!(finish.stop_sequence.as_deref(), Some("END"));
    }
}

#[test]
fn thinking_keeps_its_signature_and_what_is_redacted_its_data() {
    let (events, _) = decode(&[
        r#"content_block_start "index":0,"content_block":{"type":"thinking","thinking":"","signature":""}"#,
        r#"content_block_delta "index":0,"delta":{"type":"thinking_delta","thinking":"hm"}"#,
        r#"content_block_delta "index":0,"delta":{"type":"signature_delta","signature":"Eq=="}"#,
        r#"content_block_stop "index":0"#,
        r#"content_block_start "index":1,"content_block":{"type":"redacted_thinking","data":"xy"}"#,
        r#"content_block_stop "index":1"#,
    ]);
    let thought = ["0 reasoning", "0 +hm", "0 signature=\"Eq==\"", "0 stop"];
    assert_eq!(events, [&thought[..], &["1 redacted", "1 redacted_thinking=\"xy\"", "1 stop"]].concat());
}

#[test]
fn calls_are_told_apart_by_their_index_and_one_without_arguments_has_none() {
    let (events, _) = decode(&[
        r#"content_block_start "index":1,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}"#,
        r#"content_block_delta "index":1,"delta":{"type":"input_json_delta","partial_json":""}"#,
        r#"content_block_start "index":2,"content_block":{"type":"tool_use","id":"b","name":"g","input":{ }}"#,
        r#"content_block_delta "index":1,"delta":{"type":"input_json_delta","partial_json":"{\"x\":1}"}"#,
        r#"content_block_stop "index":2"#,
        r#"content_block_stop "index":1"#,
    ]);
    let calls = ["0 call a f function", "1 call b g function", r#"0 +{"x":1}"#, "1 +{}", "1 stop", "0 stop"];
    assert_eq!(events, calls);
}

#[test]
fn a_block_that_begins_with_content_has_said_it() {
    for (block, said) in [
        (r#"{"type":"text","text":"Hi"}"#, "0 +Hi"),
        (r#"{"type":"thinking","thinking":"Hi"}"#, "0 +Hi"),
        (r#"{"type":"tool_use","id":"a","name":"f","input":{"x":1.0}}"#, r#"0 +{"x":1.0}"#),
        (r#"{"type":"thinking","thinking":"","signature":"s"}"#, r#"0 signature="s""#),
    ] {
        let (events, _) = decode(&[&format!(r#"content_block_start "index":0,"content_block":{block}"#)]);
        assert_eq!(&events[1..], [said], "{block}");
    }
}

#[test]
fn what_a_block_has_that_is_not_understood_is_kept_without_its_content() {
    let raw = |block: &str| {
        let (events, _) = events(&[&format!(r#"content_block_start "index":0,"content_block":{block}"#)]);
        let Event::PartStart(_, start) = &events[0] else { panic!("{events:?}") };
        start.raw.as_ref().map(|raw| raw.get().to_owned())
    };
    assert_eq!(raw(r#"{"type":"text","text":"Hi","citations":null}"#), None);
    let called = r#"{"type":"tool_use","id":"a","name":"f","input":{},"caller":{"type":"direct"}}"#;
    assert_eq!(raw(&called.replace("{}", r#"{"x":1}"#)).as_deref(), Some(called));
    let cited = r#"{"type":"text","text":"","citations":[]}"#;
    assert_eq!(raw(&cited.replace("\"\"", "\"Hi\"")).as_deref(), Some(cited));
}

#[test]
fn blocks_of_the_upstreams_own_and_unknown_events_go_through_as_they_came() {
    let frames = [
        r#"content_block_start "index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#,
        r#"content_block_delta "index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}"#,
        r#"content_block_stop "index":0"#,
        r#"new_event "x":[1.10],"delta":"text","index":"seven""#,
    ];
    let (events, _) = decode(&frames);
    let as_they_came = frames.map(|frame| {
        let (name, rest) = frame.split_once(' ').expect("a name");
        format!(r#"{name}: {{"type":"{name}",{rest}}}"#)
    });
    assert_eq!(events, as_they_came);
    // A delta of a new kind belongs to its block.
    let new = r#"content_block_delta "index":0,"delta":{"type":"new_delta","x":1}"#;
    let kept = r#"content_block_delta: {"type":"content_block_delta","index":0,"delta":{"type":"new_delta","x":1}}"#;
    assert_eq!(decode(&[TEXT, new, TEXT_STOP]).0, ["0 text", kept, "0 stop"]);
}

#[test]
fn what_is_no_event_is_not_kept() {
    let mut events = Vec::new();
    for (name, data) in [
        ("comment", "not JSON"),
        ("comment", "[1]"),
        ("message", r#"{"type":"message","id":"m"}"#),
        ("message", "{}"),
        ("x", r#"{"type":"a\nb"}"#),
        ("x", r#"{"type":""}"#),
        ("message", "  "),
    ] {
        assert_eq!(MessagesDecode::default().frame(name, data, &mut events), Ok(()), "{name} {data}");
    }
    assert_eq!(events, []);
}

#[test]
fn counts_are_cumulative_and_what_was_cached_is_input_too() {
    let start = r#"message_start "message":{"usage":{"input_tokens":3,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,
        "output_tokens":1,"service_tier":"standard"}}"#;
    let end = r#"message_delta "delta":{},"usage":{"output_tokens":15,"cache_read_input_tokens":null,"output_tokens_details":{"thinking_tokens":4}}"#;
    let (events, _) = events(&[start, end]);
    let [Event::Usage(first), Event::Usage(last)] = &events[..] else { panic!("{events:?}") };
    let raw = first.raw.as_ref().expect("raw").get();
    assert!(raw.starts_with(r#"{"input_tokens":3,"cache"#) && raw.ends_with(r#","service_tier":"standard"}"#), "{raw}");
    assert_eq!((first.input_tokens, first.output_tokens), (Some(15), Some(1)));
    assert_eq!((first.cache_read_tokens, first.cache_write_tokens, first.reasoning_tokens), (Some(7), Some(5), None));
    assert_eq!((last.input_tokens, last.output_tokens, last.reasoning_tokens), (Some(15), Some(15), Some(4)));
    let raw = last.raw.as_ref().expect("raw").get();
    assert!(raw.contains(r#""cache_read_input_tokens":7"#) && raw.contains(r#""output_tokens":15"#), "{raw}");
    assert!(raw.contains(r#""service_tier":"standard""#), "{raw}");
}

#[test]
fn what_else_a_message_and_its_end_have_is_kept_for_readers_of_this_protocol() {
    let (events, _) = decode(&[
        r#"message_start "message":{"id":"m","container":null,"diagnostics":{"x":1.0},"usage":{"output_tokens":1}}"#,
        r#"message_delta "delta":{"stop_reason":"refusal","stop_details":{"type":"refusal"}},"usage":{},"context_management":{"y":2}"#,
        r#"message_delta "delta":{"stop_reason":"refusal","stop_sequence":null},"usage":{}"#,
    ]);
    assert_eq!(
        events,
        [
            r#"message: {"container":null,"diagnostics":{"x":1.0}}"#,
            "usage Some(1)",
            "usage Some(1)",
            r#"message_delta: {"context_management":{"y":2},"delta":{"stop_details":{"type":"refusal"}}}"#,
            "0 finish refusal",
            "usage Some(1)",
        ]
    );
}

#[test]
fn citations_keep_their_raw_form() {
    let cited = |citation: &str| {
        let delta =
            format!(r#"content_block_delta "index":0,"delta":{{"type":"citations_delta","citation":{citation}}}"#);
        let Some(Event::Annotation(_, cited)) = events(&[TEXT, &delta]).0.pop() else { panic!("{delta}") };
        assert_eq!(cited.raw.as_ref().map(Json::get), Some(citation));
        (cited.url, cited.title)
    };
    let web =
        r#"{"type":"web_search_result_location","cited_text":"c","encrypted_index":"e","title":"T","url":"http://a"}"#;
    assert_eq!(cited(web), (Some("http://a".into()), Some("T".into())));
    let page = r#"{"type":"page_location","document_title":"D","document_index":0}"#;
    assert_eq!(cited(page), (None, Some("D".into())));
    assert_eq!(cited(r#"{"new":1}"#), (None, None));
}

#[test]
fn a_server_that_leaves_things_out_is_understood() {
    let (events, end) = decode(&[
        r#"content_block_start "content_block":{"type":"text"}"#,
        r#"content_block_delta "delta":{"type":"text_delta","text":"a"}"#,
        r#"content_block_start "content_block":{"type":"tool_use","name":"f"}"#,
        r#"content_block_delta "delta":{"type":"input_json_delta","partial_json":"{}"}"#,
        r#"message_delta "delta":{"stop_reason":"tool_use"}"#,
        "message_stop",
    ]);
    let said = ["0 text", "0 +a", "1 call - f function", "1 +{}", "0 stop", "1 stop", "0 finish tool_use"];
    assert_eq!((events, end), (said.map(str::to_owned).to_vec(), Ok(())));
    // Blocks that were never begun.
    let (events, _) = decode(&[
        HI,
        r#"content_block_delta "index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}"#,
        r#"content_block_stop "index":7"#,
        "message_stop",
    ]);
    assert_eq!(events, ["0 text", "0 +Hi", "1 toolcall", "1 +{}", "0 stop", "1 stop"]);
}

#[test]
fn an_event_may_be_named_by_its_data_or_by_its_name_alone() {
    let (mut decode, mut events) = (MessagesDecode::default(), Vec::new());
    for (name, data) in [
        ("message", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
        ("content_block_delta", r#"{"index":0,"delta":{"type":"text_delta","text":"Hi"}}"#),
        ("message", r#"{"type":"ping"}"#),
        ("message_stop", "{}"),
    ] {
        decode.frame(name, data, &mut events).expect(data);
    }
    assert_eq!(events.iter().map(short).collect::<Vec<_>>(), ["0 text", "0 +Hi", "Alive", "0 stop"]);
    assert!(decode.done());
}

#[test]
fn an_error_in_mid_answer_stands_for_a_status() {
    for (kind, status) in
        [("overloaded_error", 529), ("api_error", 500), ("rate_limit_error", 429), ("timeout_error", 504)]
    {
        let data = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"m"}},"request_id":"r"}}"#);
        for name in ["error", "message"] {
            let error = MessagesDecode::default().frame(name, &data, &mut Vec::new());
            let Err(DecodeError::Upstream(complaint)) = error else { panic!("{error:?}") };
            assert_eq!((&*complaint.message, complaint.status), ("m", Some(status)));
        }
    }
    let bare = MessagesDecode::default().frame("message", r#"{"error":{"message":"m"}}"#, &mut Vec::new());
    assert!(matches!(bare, Err(DecodeError::Upstream(_))), "{bare:?}");
}

#[test]
fn an_event_that_is_none_is_named_without_its_words() {
    for (name, data) in [
        ("message", "secret"),
        ("content_block_delta", r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":{"secret":1}}}"#),
        ("content_block_delta", r#"{"delta":"secret"}"#),
        ("message_stop", r#"{"type":"message_stop","index":-1"#),
    ] {
        let error = MessagesDecode::default().frame(name, data, &mut Vec::new());
        let Err(DecodeError::Malformed(message)) = error else { panic!("{data}: {error:?}") };
        assert!(!message.contains("secret"), "{message}");
    }
}
