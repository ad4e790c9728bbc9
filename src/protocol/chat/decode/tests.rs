//! The corners of the decoder, chunk by chunk.

use super::*;

/// The events of an answer, one word each, and how it ended.
fn decode(chunks: &[&str]) -> (Vec<String>, Result<(), DecodeError>) {
    let mut decode = ChatDecode::default();
    let mut events = Vec::new();
    let all = chunks.iter().try_for_each(|chunk| decode.frame("message", chunk, &mut events));
    let end = all.and_then(|()| decode.finish(&mut events));
    (events.iter().map(short).collect(), end)
}

fn short(event: &Event<'_>) -> String {
    let place = |at: &At| format!("{}.{}", at.choice, at.part);
    match event {
        Event::PartStart(at, PartStart { tool: Some(tool), .. }) => {
            let name = |s: &Option<String>| s.clone().unwrap_or("-".into());
            format!("{} call {} {} {}", place(at), name(&tool.call_id), name(&tool.name), name(&tool.kind))
        }
        Event::PartStart(at, _) => format!("{} {:?}", place(at), at.of).to_lowercase(),
        Event::Delta(at, delta) => format!("{} +{}", place(at), delta.text),
        Event::PartStop(at, _) => format!("{} stop", place(at)),
        Event::Finish(choice, finish) => format!("{choice} finish {}", finish.raw.as_deref().unwrap_or("-")),
        Event::State(at, state) => format!("{} state {}", place(at), state.kind),
        Event::Usage(usage) => format!("usage {:?}", usage.output_tokens),
        Event::Opaque(opaque) => format!("{}={}", opaque.name, opaque.json.get()),
        other => format!("{other:?}"),
    }
}

fn delta(json: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{json},"finish_reason":null}}],"usage":null}}"#
    )
}

const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

#[test]
fn text_is_one_part_and_a_chunk_without_words_is_no_event() {
    let (events, end) = decode(&[
        &delta(r#"{"role":"assistant","content":""}"#),
        &delta(r#"{"content":"The"}"#),
        "",
        &delta(r#"{"content":" river","obfuscation":"xyz"}"#),
        STOP,
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
        "[DONE]",
        &delta(r#"{"content":"too late"}"#),
    ]);
    assert_eq!(events, ["0.0 text", "0.0 +The", "0.0 + river", "0.0 stop", "0 finish stop", "usage Some(2)"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn reasoning_has_three_spellings_and_ends_where_text_begins() {
    for (thought, spelling, beside) in [
        (r#"{"reasoning_content":"hm"}"#, None, None),
        (r#"{"reasoning":"hm","content":""}"#, Some("reasoning"), None),
        (r#"{"reasoning":"hm","reasoning_content":"hm"}"#, Some("both"), None),
        (r#"{"reasoning_details":[{"type":"t","text":"hm"}]}"#, Some("reasoning_details"), Some(":alone 0")),
        (r#"{"reasoning":"hm","reasoning_details":[{"summary":"hm"}]}"#, Some("reasoning"), Some(":next 0")),
        (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}"#, None, None),
    ] {
        let (mut events, _) = decode(&[&delta(thought), &delta(r#"{"content":"So"}"#), STOP]);
        let spelled = spelling.map(|spelling| format!(":reasoning=\"{spelling}\""));
        assert_eq!(events.iter().find(|event| event.starts_with(":reasoning")), spelled.as_ref(), "{thought}");
        assert_eq!(
            events.iter().filter(|event| event.contains("reasoning_details\":[")).count(),
            beside.iter().count()
        );
        assert!(beside.is_none_or(|beside| events.iter().any(|event| event.starts_with(beside))), "{events:?}");
        events.retain(|event| !event.starts_with(':'));
        assert_eq!(
            events,
            ["0.0 reasoning", "0.0 +hm", "0.0 stop", "0.1 text", "0.1 +So", "0.1 stop", "0 finish stop"],
            "{thought}"
        );
    }
}

#[test]
fn what_must_go_back_on_the_next_turn_is_kept() {
    let sealed = r#"{"reasoning":"hm","reasoning_details":[{"type":"reasoning.encrypted","data":"x="}]}"#;
    let (events, _) = decode(&[&delta(sealed)]);
    assert_eq!(events[1..], ["0.0 reasoning", "0.0 +hm", "0.0 state reasoning.encrypted"]);
    let signed = r#"{"tool_calls":[{"index":3,"id":"a","function":{"name":"f"},"extra_content":{"s":"x"}}]}"#;
    assert_eq!(decode(&[&delta(signed)]).0, ["0.0 call a f -", "0.0 state tool_call"]);
}

#[test]
fn tool_calls_are_told_apart_by_their_index() {
    let (events, end) = decode(&[
        &delta(r#"{"content":"Let me see."}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"other","function":{"arguments":"{\"x\""}}]}"#),
        &delta(
            r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g"}},{"index":0,"function":{"arguments":":1}"}}]}"#,
        ),
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    ]);
    assert_eq!(
        events,
        [
            "0.0 text",
            "0.0 +Let me see.",
            "0.0 stop",
            "0.1 call a f function",
            r#"0.1 +{"x""#,
            "0.2 call b g function",
            "0.1 +:1}",
            "0.1 stop",
            "0.2 stop",
            "0 finish tool_calls"
        ]
    );
    assert_eq!(end, Ok(()));
}

#[test]
fn a_tool_call_begins_late_if_its_name_comes_late_or_never() {
    let (events, _) = decode(&[
        &delta(r#"{"tool_calls":[{"index":0,"id":"a","type":"function"}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"function":{"name":"f"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":7,"function":{"name":"g"}}]}"#),
        STOP,
    ]);
    assert_eq!(events, ["0.0 call a f function", "0.1 call - g -", "0.0 stop", "0.1 stop", "0 finish stop"]);
}

#[test]
fn parts_stop_in_the_order_they_began() {
    let (events, _) = decode(&[
        &delta(r#"{"tool_calls":[{"index":0,"id":"a"}]}"#),
        &delta(r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g"}}]}"#),
        &delta(r#"{"content":"So"}"#),
        STOP,
    ]);
    let (calls, stops) =
        (["0.0 call b g -", "0.1 text", "0.1 +So", "0.1 stop"], ["0.2 call a - -", "0.0 stop", "0.2 stop"]);
    assert_eq!(events, [&calls[..], &stops, &["0 finish stop"]].concat());
}

#[test]
fn calls_without_an_index_are_told_apart_by_their_id() {
    let (events, _) = decode(&[
        &delta(r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"1"}}]}"#),
        &delta(r#"{"tool_calls":[{"id":"b","function":{"name":"f","arguments":"2"}}]}"#),
        &delta(r#"{"tool_calls":[{"function":{"arguments":"3"}}]}"#),
    ]);
    assert_eq!(events, ["0.0 call a f -", "0.0 +1", "0.1 call b f -", "0.1 +2", "0.1 +3"]);
}

#[test]
fn calls_of_one_index_are_told_apart_by_id_and_name() {
    let (events, _) = decode(&[
        &delta(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"1"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"2"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"3"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"4"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"","arguments":"5"}}]}"#),
    ]);
    assert_eq!(events, ["0.0 call a f -", "0.0 +1", "0.1 call b f -", "0.1 +2", "0.1 +3", "0.1 +4", "0.1 +5"]);
}

#[test]
fn an_empty_id_goes_on_with_the_last_call() {
    let (events, _) = decode(&[
        &delta(r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"1"}}]}"#),
        &delta(r#"{"tool_calls":[{"id":"","function":{"name":"","arguments":"2"}}]}"#),
    ]);
    assert_eq!(events, ["0.0 call a f -", "0.0 +1", "0.0 +2"]);
}

#[test]
fn older_and_newer_forms_of_a_call_are_calls() {
    let (events, _) = decode(&[&delta(r#"{"function_call":{"name":"f","arguments":"1"}}"#)]);
    assert_eq!(events, ["0.0 call - f function_call", "0.0 +1"]);
    let custom = r#"{"tool_calls":[{"index":0,"id":"a","type":"custom","custom":{"name":"f","input":"1"}}]}"#;
    assert_eq!(decode(&[&delta(custom)]).0, ["0.0 call a f custom", "0.0 +1"]);
}

#[test]
fn choices_are_answers_of_their_own_and_all_must_finish() {
    let both = r#"{"choices":[{"index":1,"delta":{"content":"B"}},{"index":0,"delta":{"refusal":"No"}}]}"#;
    let (events, end) = decode(&[both, STOP]);
    assert_eq!(events, ["1.0 text", "1.0 +B", "0.0 refusal", "0.0 +No", "0.0 stop", "0 finish stop"]);
    assert_eq!(end, Err(DecodeError::Truncated));
    let other = r#"{"choices":[{"index":1,"delta":{},"finish_reason":"eos"}]}"#;
    assert_eq!(decode(&[both, STOP, other]).1, Ok(()));
}

#[test]
fn an_end_without_a_terminal_mark_is_an_error() {
    assert_eq!(decode(&[]).1, Err(DecodeError::Truncated));
    assert_eq!(decode(&[&delta(r#"{"content":"The"}"#)]).1, Err(DecodeError::Truncated));
    assert_eq!(decode(&[&delta(r#"{"content":"The"}"#), "[DONE]"]).1, Ok(()));
    assert_eq!(decode(&[STOP]).1, Ok(()));
}

#[test]
fn errors_in_mid_answer_come_in_many_shapes_and_after_what_was_said() {
    for (chunk, message, status) in [
        (r#"{"error":{"message":"m","type":"server_error","code":500}}"#, "m", Some(500)),
        (r#"{"error":"m"}"#, "m", None),
        (r#"{"error":{"what":1}}"#, r#"{"what":1}"#, None),
        (r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#, "m", Some(400)),
        (
            r#"{"error":{"code":502,"message":"m"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
            "m",
            Some(502),
        ),
    ] {
        let (events, end) = decode(&[&delta(r#"{"content":"The"}"#), chunk, "[DONE]"]);
        assert_eq!(events, ["0.0 text", "0.0 +The"], "{chunk}");
        let Err(DecodeError::Upstream(complaint)) = end else { panic!("{chunk}: {end:?}") };
        assert_eq!((&*complaint.message, complaint.status), (message, status), "{chunk}");
    }
    let bare = decode(&[r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#]).1;
    assert!(matches!(bare, Err(DecodeError::Upstream(_))), "{bare:?}");
    let mut decode = ChatDecode::default();
    let field = decode.frame("error", r#"{"code":500,"message":"m","type":"server_error"}"#, &mut Vec::new());
    assert!(matches!(field, Err(DecodeError::Upstream(Complaint { status: Some(500), .. }))), "{field:?}");
}

#[test]
fn an_empty_error_is_none_and_unknown_frames_are_ignored() {
    let (events, end) =
        decode(&[r#"{"error":null,"choices":[]}"#, r#"{"error":{},"choices":[]}"#, r#"{"type":"ping"}"#, STOP]);
    assert_eq!((events, end), (vec!["0 finish stop".to_owned()], Ok(())));
    assert_eq!(ChatDecode::default().frame("ping", "not JSON", &mut Vec::new()), Ok(()));
}

#[test]
fn a_chunk_that_is_none_is_named_without_its_words() {
    for chunk in [
        r#"{"choices":[{"delta":{"content":{"secret":1}}}]}"#,
        "secret",
        r#"{"choices":"secret"}"#,
        r#"{"choices":[{"index":300}]}"#,
    ] {
        let Err(DecodeError::Malformed(message)) = decode(&[chunk]).1 else { panic!("{chunk}") };
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn usage_is_read_in_full_and_log_probabilities_stay_with_their_words() {
    let chunk = r#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"logprob":-0.10}]}}],"usage":{"prompt_tokens":9,
        "completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#;
    let mut events = Vec::new();
    ChatDecode::default().frame("message", chunk, &mut events).expect("a chunk");
    let [Event::PartStart(..), Event::Delta(_, delta), Event::Usage(usage)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(delta.logprobs.as_ref().map(Json::get), Some(r#"{"content":[{"logprob":-0.10}]}"#));
    assert_eq!((usage.input_tokens, usage.cache_read_tokens, usage.reasoning_tokens), (Some(9), Some(4), Some(3)));
    assert_eq!((usage.cache_write_tokens, usage.audio_tokens), (None, None));
}

#[test]
fn what_every_chunk_repeats_is_told_once() {
    let chunk = r#"{"choices":[],"system_fingerprint":"fp_1","service_tier":null}"#;
    let last = r#"{"choices":[],"system_fingerprint":"fp_1","service_tier":"default"}"#;
    assert_eq!(decode(&[chunk, chunk, last]).0, [r#"system_fingerprint="fp_1""#, r#"service_tier="default""#]);
}

#[test]
fn citations_keep_their_place_and_their_raw_form() {
    let cited = r#"{"annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":1,"end_index":4}},{"type":"new"}]}"#;
    let mut events = Vec::new();
    ChatDecode::default().frame("message", &delta(cited), &mut events).expect("a chunk");
    let [_, Event::Annotation(_, known), Event::Annotation(_, unknown)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((known.url.as_deref(), known.span), (Some("u"), Some((1, 4))));
    assert_eq!(unknown.raw.as_ref().map(Json::get), Some(r#"{"type":"new"}"#));
}

#[test]
fn what_is_not_known_is_kept_and_padding_is_not() {
    let only = |chunk: &str| decode(&[chunk]).0;
    let chunk = |more: &str, choice: &str, delta: &str| {
        format!(r#"{{"choices":[{{"index":0,"delta":{{{delta}}}{choice}}}],"model":"m","obfuscation":"x"{more}}}"#)
    };
    for (chunk, events) in [
        (chunk("", "", r#""role":"assistant","obfuscation":"y""#), vec![]),
        (chunk(r#","n":null"#, r#","m":null"#, r#""k":null"#), vec![]),
        (chunk(r#","timings":{"n":1.10}"#, "", ""), vec![r#":alone 0={"chunk":{"timings":{"n":1.10}}}"#]),
        (
            chunk(r#","a":1"#, r#","b":2"#, r#""c":[3],"content":"x""#),
            vec!["0.0 text", r#":next 0={"chunk":{"a":1},"choice":{"b":2},"delta":{"c":[3]}}"#, "0.0 +x"],
        ),
        (
            chunk("", r#","finish_reason":"stop","stop_reason":7,"logprobs":{"content":[]}"#, ""),
            vec![r#":next 0={"choice":{"stop_reason":7},"logprobs":{"content":[]}}"#, "0 finish stop"],
        ),
        (chunk("", "", r#""role":"tool""#), vec![r#":role 0="tool""#]),
        (r#"{"choices":[],"timings":1}"#.to_owned(), vec![r#":last={"chunk":{"timings":1}}"#]),
        (r#"{"type":"ping","x":1}"#.to_owned(), vec![]),
    ] {
        assert_eq!(only(&chunk), events, "{chunk}");
    }
}

#[test]
fn what_stands_on_each_chunk_is_told_when_that_is_seen_and_when_it_ends() {
    let with = |more: &str| format!(r#"{{"choices":[{{"delta":{{"content":"x"}}}}]{more}}}"#);
    let (x, y) = (with(r#","x":1,"provider":"P""#), with(r#","x":2,"provider":"P""#));
    let (mut events, _) = decode(&[&x, &x, &x, &y, &y, &with(""), &with("")]);
    events.retain(|event| !event.starts_with("0.0"));
    let own = |n| format!(r#":next 0={{"chunk":{{"x":{n}}}}}"#);
    let expected = [r#"provider="P""#, &own(1), "x=1", "x=null", &own(2), "x=2", "x=null"];
    assert_eq!(events, expected);
    // The chunk of the counts says nothing of what the others have.
    let (mut events, _) = decode(&[&x, &x, r#"{"choices":[],"usage":{}}"#, &x]);
    events.retain(|event| event.starts_with('x'));
    assert_eq!(events, ["x=1"]);
}

#[test]
fn sound_is_media_and_its_words_are_this_protocols_own() {
    let mut events = Vec::new();
    let both = delta(r#"{"audio":{"id":"a","data":"AAEC","transcript":"Hi"}}"#);
    ChatDecode::default().frame("message", &both, &mut events).expect("a chunk");
    let [Event::Opaque(beside), Event::PartStart(..), Event::Media(at, media)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((&*beside.name, beside.json.get()), (":alone 0", r#"{"delta":{"audio":{"id":"a","transcript":"Hi"}}}"#));
    assert_eq!((at.of, media.base64.as_deref()), (PartType::Media, Some("AAEC")));
    let gone = delta(r#"{"audio":{"expires_at":1}}"#);
    assert_eq!(decode(&[&gone]).0, [r#":alone 0={"delta":{"audio":{"expires_at":1}}}"#]);
}
