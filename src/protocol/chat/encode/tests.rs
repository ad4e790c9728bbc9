//! What clients of this protocol get for a log, to the byte; and that a log told in two pieces is the log.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{
        Annotation, At, Delta, End, Failure, Finish, Json, Media, Opaque, PartStart, PartState, Reason, Status, Tool,
        Usage,
    },
    id::StreamId,
    protocol::chat::Completion,
    record::write,
};

const ID: &str = "0199c0ffee007000800000000000abcd";

fn at(part: u16, of: PartType) -> At {
    At { choice: 0, part, of }
}

fn delta(part: u16, of: PartType, text: &'static str) -> Event<'static> {
    Event::Delta(at(part, of), Delta { text: text.into(), logprobs: None })
}

fn start(part: u16, of: PartType) -> Event<'static> {
    Event::PartStart(at(part, of), PartStart { r#type: of, ..PartStart::default() })
}

fn call(part: u16, id: &str, name: &str, kind: Option<&str>) -> Event<'static> {
    let of = PartType::ToolCall;
    let tool = Tool { call_id: Some(id.to_owned()), name: Some(name.to_owned()), kind: kind.map(str::to_owned) };
    Event::PartStart(at(part, of), PartStart { r#type: of, tool: Some(tool), ..PartStart::default() })
}

fn finish(reason: Reason) -> Event<'static> {
    Event::Finish(0, Finish { reason: Some(reason), raw: Some(reason.as_str().to_owned()), ..Finish::default() })
}

fn counted() -> Event<'static> {
    Event::Usage(Usage { input_tokens: Some(9), output_tokens: Some(2), reasoning_tokens: Some(1), ..Usage::default() })
}

fn end(status: Status, error: Option<Failure>) -> Event<'static> {
    Event::End(End { status, reason: None, usage: None, error })
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).expect("JSON")
}

fn fingerprint() -> Event<'static> {
    let (name, json) = ("system_fingerprint".to_owned(), json(r#""fp_1""#));
    Event::Opaque(Opaque { protocol: "chat".into(), name, json })
}

fn log(events: &[Event<'_>]) -> Vec<BytesMut> {
    let record = |event| {
        let mut out = BytesMut::new();
        write(&mut out, 0, event);
        out
    };
    events.iter().map(record).collect()
}

fn envelope() -> Envelope {
    Envelope::new(ID.parse::<StreamId>().expect("an id"), 1_795_344_526_789, "fast")
}

fn encode(log: &[BytesMut], after: usize, include_usage: bool) -> String {
    let (mut encoder, mut out) = (ChatEncode::new(envelope(), include_usage), BytesMut::new());
    for (n, bytes) in log.iter().enumerate() {
        let record = Record::parse(bytes).expect("a record");
        match n < after {
            true => encoder.skip(&record),
            false => encoder.encode(Cursor(n as u64 + 1), &record, &mut out),
        }
    }
    String::from_utf8(out.to_vec()).expect("UTF-8")
}

/// The frames without what every chunk has.
fn short(events: &[Event<'_>], include_usage: bool) -> String {
    let opening =
        format!(r#"{{"id":"chatcmpl-{ID}","object":"chat.completion.chunk","created":1795344526,"model":"fast","#);
    encode(&log(events), 0, include_usage).replace(&opening, "{… ").replace(ID, "ID")
}

fn completion(events: &[Event<'_>]) -> Result<String, Box<End>> {
    let mut completion = Completion::new(envelope());
    log(events).iter().for_each(|bytes| completion.take(&Record::parse(bytes).expect("a record")));
    completion.finish().map(|json| String::from_utf8(json).expect("UTF-8"))
}

#[test]
fn text_begins_with_a_role_and_ends_with_done() {
    let events = [
        start(0, PartType::Text),
        delta(0, PartType::Text, "The\n"),
        delta(0, PartType::Text, " \"river\""),
        finish(Reason::Stop),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(encode(&log(&events), 0, false), @r#"
    data: {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion.chunk","created":1795344526,"model":"fast","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    id: 0199c0ffee007000800000000000abcd-1

    data: {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion.chunk","created":1795344526,"model":"fast","choices":[{"index":0,"delta":{"content":"The\n"},"logprobs":null,"finish_reason":null}]}
    id: 0199c0ffee007000800000000000abcd-2

    data: {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion.chunk","created":1795344526,"model":"fast","choices":[{"index":0,"delta":{"content":" \"river\""},"logprobs":null,"finish_reason":null}]}
    id: 0199c0ffee007000800000000000abcd-3

    data: {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion.chunk","created":1795344526,"model":"fast","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
    id: 0199c0ffee007000800000000000abcd-4

    data: [DONE]
    id: 0199c0ffee007000800000000000abcd-5
    "#);
    insta::assert_snapshot!(completion(&events).expect("whole"), @r#"
    {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion","created":1795344526,"model":"fast","choices":[{"index":0,"message":{"role":"assistant","content":"The\n \"river\"","refusal":null},"logprobs":null,"finish_reason":"stop"}]}
    "#);
}

#[test]
fn reasoning_two_calls_side_by_side_and_the_count_of_tokens() {
    let events = [
        fingerprint(),
        start(0, PartType::Reasoning),
        delta(0, PartType::Reasoning, "hm"),
        call(1, "call_a", "look", Some("function")),
        call(2, "call_b", "find", None),
        delta(2, PartType::ToolCall, "{\"y\""),
        delta(1, PartType::ToolCall, "{}"),
        delta(2, PartType::ToolCall, ":1}"),
        counted(),
        finish(Reason::ToolCalls),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events, true), @r#"
    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":null},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-2

    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"reasoning_content":"hm"},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-3

    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"look","arguments":""}}]},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-4

    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"find","arguments":""}}]},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-5

    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\"y\""}}]},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-6

    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-7

    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":":1}"}}]},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-8

    data: {… "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}],"usage":null}
    id: ID-10

    data: {… "system_fingerprint":"fp_1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"completion_tokens_details":{"reasoning_tokens":1}}}

    data: [DONE]
    id: ID-11
    "#);
    insta::assert_snapshot!(completion(&events).expect("whole"), @r#"
    {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion","created":1795344526,"model":"fast","system_fingerprint":"fp_1","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"reasoning_content":"hm","tool_calls":[{"id":"call_a","type":"function","function":{"name":"look","arguments":"{}"}},{"id":"call_b","type":"function","function":{"name":"find","arguments":"{\"y\":1}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"completion_tokens_details":{"reasoning_tokens":1}}}
    "#);
}

#[test]
fn what_only_this_protocol_has_is_given_back_to_the_letter() {
    let logprobs =
        |token: &str| Some(json(&format!(r#"{{"content":[{{"token":"{token}","logprob":-0.10}}],"refusal":null}}"#)));
    let with =
        |text: &'static str| Event::Delta(at(0, PartType::Text), Delta { text: text.into(), logprobs: logprobs(text) });
    let cited = json(r#"{"type":"url_citation","url_citation":{"url":"http://a","title":"A"}}"#);
    let sealed = json(r#"{"type":"reasoning.encrypted","data":"x="}"#);
    let counted = json(r#"{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"cost":0.10}"#);
    let state =
        |origin: &'static str| PartState { origin: origin.into(), kind: "sealed".to_owned(), value: sealed.clone() };
    let events = [
        with("a"),
        with("b"),
        Event::Annotation(
            at(0, PartType::Text),
            Annotation { url: Some("http://a".into()), raw: Some(cited), ..Annotation::default() },
        ),
        Event::State(at(0, PartType::Text), state("chat")),
        Event::State(at(0, PartType::Text), state("messages")),
        Event::Usage(Usage { raw: Some(counted), ..Usage::default() }),
        Event::Finish(0, Finish { reason: Some(Reason::Stop), stop_sequence: Some("END".into()), ..Finish::default() }),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events, true), @r#"
    data: {… "choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}

    data: {… "choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.10}],"refusal":null},"finish_reason":null}],"usage":null}
    id: ID-1

    data: {… "choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"content":[{"token":"b","logprob":-0.10}],"refusal":null},"finish_reason":null}],"usage":null}
    id: ID-2

    data: {… "choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":"http://a","title":"A"}}]},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-3

    data: {… "choices":[{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.encrypted","data":"x="}]},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-4

    data: {… "choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":"END"}],"usage":null}
    id: ID-7

    data: {… "choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"cost":0.10}}

    data: [DONE]
    id: ID-8
    "#);
    insta::assert_snapshot!(completion(&events).expect("whole"), @r#"
    {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion","created":1795344526,"model":"fast","choices":[{"index":0,"message":{"role":"assistant","content":"ab","refusal":null,"reasoning_details":[{"type":"reasoning.encrypted","data":"x="}],"annotations":[{"type":"url_citation","url_citation":{"url":"http://a","title":"A"}}]},"logprobs":{"content":[{"token":"a","logprob":-0.10},{"token":"b","logprob":-0.10}],"refusal":null},"finish_reason":"stop","stop_reason":"END"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"cost":0.10}}
    "#);
}

fn opaque(name: &str, text: &str) -> Event<'static> {
    Event::Opaque(Opaque { protocol: "chat".into(), name: name.to_owned(), json: json(text) })
}

#[test]
fn what_is_understood_by_nobody_stands_where_it_stood() {
    let events = [
        opaque("provider", "\"P\""),
        opaque(":role 0", "\"model\""),
        opaque(":alone 0", r#"{"chunk":{"progress":1},"delta":{"audio":{"id":"a"}}}"#),
        opaque(":reasoning", "\"both\""),
        start(0, PartType::Reasoning),
        delta(0, PartType::Reasoning, "hm"),
        start(1, PartType::Text),
        opaque(
            ":next 0",
            r#"{"chunk":{"timings":{"n":1.10}},"choice":{"ids":[7]},"delta":{"k":"v"},"logprobs":{"content":[]}}"#,
        ),
        delta(1, PartType::Text, "x"),
        opaque("provider", "null"),
        Event::Media(
            at(2, PartType::Media),
            Media { media_type: Some("audio/pcm".into()), base64: Some("AAEC".into()), ..Media::default() },
        ),
        Event::Media(
            at(2, PartType::Media),
            Media { media_type: Some("image/png".into()), base64: Some("AA==".into()), ..Media::default() },
        ),
        Event::Media(
            at(2, PartType::Media),
            Media { media_type: Some("text/x".into()), base64: Some("AA==".into()), ..Media::default() },
        ),
        call(3, "call_a", "f", Some("function")),
        Event::State(
            at(3, PartType::ToolCall),
            PartState { origin: "chat".into(), kind: String::new(), value: json(r#"{"sig":"x="}"#) },
        ),
        opaque(":next 0", r#"{"choice":{"stop_reason":7}}"#),
        finish(Reason::Stop),
        opaque(":last", r#"{"chunk":{"timings":{"n":2}}}"#),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events, false), @r#"
    data: {… "provider":"P","progress":1,"choices":[{"index":0,"delta":{"role":"model","content":null,"audio":{"id":"a"}},"logprobs":null,"finish_reason":null}]}
    id: ID-3

    data: {… "provider":"P","choices":[{"index":0,"delta":{"reasoning_content":"hm","reasoning":"hm"},"logprobs":null,"finish_reason":null}]}
    id: ID-6

    data: {… "provider":"P","timings":{"n":1.10},"choices":[{"index":0,"delta":{"content":"x","k":"v"},"logprobs":{"content":[]},"finish_reason":null,"ids":[7]}]}
    id: ID-9

    data: {… "choices":[{"index":0,"delta":{"audio":{"data":"AAEC"}},"logprobs":null,"finish_reason":null}]}
    id: ID-11

    data: {… "choices":[{"index":0,"delta":{"images":[{"image_url":{"url":"data:image/png;base64,AA=="},"type":"image_url"}]},"logprobs":null,"finish_reason":null}]}
    id: ID-12

    data: {… "choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":""}}]},"logprobs":null,"finish_reason":null}]}
    id: ID-14

    data: {… "choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"sig":"x="}]},"logprobs":null,"finish_reason":null}]}
    id: ID-15

    data: {… "choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":7}]}
    id: ID-17

    data: {… "timings":{"n":2},"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}]}

    data: [DONE]
    id: ID-19
    "#);
    insta::assert_snapshot!(short(&[events[17].clone(), counted(), end(Status::Completed, None)], true), @r#"
    data: {… "timings":{"n":2},"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"completion_tokens_details":{"reasoning_tokens":1}}}

    data: [DONE]
    id: ID-3
    "#);
    insta::assert_snapshot!(completion(&events).expect("whole"), @r#"
    {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion","created":1795344526,"model":"fast","provider":"P","progress":1,"timings":{"n":2},"choices":[{"index":0,"message":{"role":"model","content":"x","refusal":null,"reasoning_content":"hm","reasoning":"hm","tool_calls":[{"id":"call_a","type":"function","function":{"name":"f","arguments":""},"sig":"x="}],"audio":{"data":"AAEC","id":"a"},"images":[{"image_url":{"url":"data:image/png;base64,AA=="},"type":"image_url"}],"k":"v"},"logprobs":{"content":[],"refusal":null},"finish_reason":"stop","ids":[7],"stop_reason":7}]}
    "#);
}

#[test]
fn a_refusal_an_old_call_and_a_free_one() {
    let events = [
        delta(0, PartType::Refusal, "No."),
        call(1, "call_c", "draw", Some("custom")),
        delta(1, PartType::ToolCall, "a cat"),
        call(2, "call_d", "old", Some("function_call")),
        delta(2, PartType::ToolCall, "{}"),
        Event::Finish(
            0,
            Finish { reason: Some(Reason::ToolCalls), raw: Some("function_call".into()), ..Finish::default() },
        ),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events, false), @r#"
    data: {… "choices":[{"index":0,"delta":{"role":"assistant","content":null},"logprobs":null,"finish_reason":null}]}

    data: {… "choices":[{"index":0,"delta":{"refusal":"No."},"logprobs":null,"finish_reason":null}]}
    id: ID-1

    data: {… "choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_c","type":"custom","custom":{"name":"draw","input":""}}]},"logprobs":null,"finish_reason":null}]}
    id: ID-2

    data: {… "choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"custom":{"input":"a cat"}}]},"logprobs":null,"finish_reason":null}]}
    id: ID-3

    data: {… "choices":[{"index":0,"delta":{"function_call":{"name":"old","arguments":""}},"logprobs":null,"finish_reason":null}]}
    id: ID-4

    data: {… "choices":[{"index":0,"delta":{"function_call":{"arguments":"{}"}},"logprobs":null,"finish_reason":null}]}
    id: ID-5

    data: {… "choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"function_call"}]}
    id: ID-6

    data: [DONE]
    id: ID-7
    "#);
    insta::assert_snapshot!(completion(&events).expect("whole"), @r#"
    {"id":"chatcmpl-0199c0ffee007000800000000000abcd","object":"chat.completion","created":1795344526,"model":"fast","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"No.","tool_calls":[{"id":"call_c","type":"custom","custom":{"name":"draw","input":"a cat"}}],"function_call":{"name":"old","arguments":"{}"}},"logprobs":null,"finish_reason":"function_call"}]}
    "#);
}

#[test]
fn an_answer_that_is_not_whole_ends_with_its_error() {
    let refused = Failure {
        code: "upstream_refused".into(),
        r#type: Some("overloaded".into()),
        message: "`up` answered 429: later".into(),
        upstream_status: Some(429),
        ..Failure::default()
    };
    let events = |status, error| [delta(0, PartType::Text, "a"), counted(), end(status, error)];
    insta::assert_snapshot!(short(&events(Status::Failed, Some(refused)), true), @r#"
    data: {… "choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}

    data: {… "choices":[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null}
    id: ID-1

    data: {"error":{"message":"`up` answered 429: later","type":"rate_limit_error","param":null,"code":"overloaded"}}

    data: [DONE]
    id: ID-3
    "#);
    let cancelled = short(&[end(Status::Cancelled, None)], false);
    insta::assert_snapshot!(cancelled, @r#"
    data: {"error":{"message":"the answer was cancelled","type":"invalid_request_error","param":null,"code":"cancelled"}}

    data: [DONE]
    id: ID-1
    "#);
    let told = completion(&events(Status::Cancelled, None)).expect_err("no answer").status;
    assert_eq!(told, Status::Cancelled);
}

#[test]
fn log_probabilities_of_another_protocol_are_not_told_in_its_form() {
    let said = |logprobs: &str| {
        let delta = Delta { text: "The".into(), logprobs: Some(json(logprobs)) };
        short(&[start(0, PartType::Text), Event::Delta(at(0, PartType::Text), delta)], false)
    };
    assert!(said(r#"[{"token":"The"}]"#).contains(r#"{"content":"The"},"logprobs":null"#));
    assert!(said(r#"{"content":[]}"#).contains(r#""logprobs":{"content":[]}"#));
}

#[test]
fn counts_that_no_number_holds_do_no_harm() {
    let usage = Usage { input_tokens: Some(u64::MAX), output_tokens: Some(2), ..Usage::default() };
    let told = short(&[Event::Usage(usage), end(Status::Completed, None)], true);
    assert!(told.contains(&format!("\"total_tokens\":{}", u64::MAX)), "{told}");
}

fn part_type() -> impl Strategy<Value = PartType> + Clone {
    prop::sample::select(vec![
        PartType::Text,
        PartType::Reasoning,
        PartType::Refusal,
        PartType::ToolCall,
        PartType::Media,
    ])
}

/// Also such as no upstream gives.
fn any_event() -> impl Strategy<Value = Event<'static>> {
    let place = (0..3_u8, 0..4_u16, part_type()).prop_map(|(choice, part, of)| At { choice, part, of });
    prop_oneof![
        6 => (place.clone(), "\\PC{0,3}", any::<bool>()).prop_map(|(at, text, more)| {
            Event::Delta(at, Delta { text: text.into(), logprobs: more.then(|| json(r#"{"content":[]}"#)) })
        }),
        3 => (place.clone(), prop::option::of("function|custom|function_call")).prop_map(|(at, kind)| {
            let tool = Tool { call_id: Some("c".to_owned()), name: None, kind };
            Event::PartStart(at, PartStart { r#type: at.of, tool: Some(tool), ..PartStart::default() })
        }),
        1 => place.clone().prop_map(|at| Event::Annotation(at, Annotation::default())),
        1 => (0..3_u8).prop_map(|choice| Event::Finish(choice, Finish::default())),
        1 => (0..9_u64).prop_map(|n| Event::Usage(Usage { output_tokens: Some(n), ..Usage::default() })),
        2 => (place.clone(), "next|alone", 0..8_u8).prop_map(|(at, name, what)| {
            let parts = [r#""chunk":{"x":1}"#, r#""choice":{"y":[2]}"#, r#""delta":{"z":{}}"#];
            let parts: Vec<_> = parts.into_iter().enumerate().filter(|(n, _)| what >> n & 1 == 1).map(|(_, it)| it).collect();
            let json = json(&format!("{{{}}}", parts.join(",")));
            Event::Opaque(Opaque { protocol: "chat".into(), name: format!(":{name} {}", at.choice), json })
        }),
        1 => Just(Event::Opaque(Opaque { protocol: "chat".into(), name: ":last".into(), json: json(r#"{"chunk":{"l":1}}"#) })),
        1 => prop::sample::select(vec!["reasoning", "both", "reasoning_details"]).prop_map(|word| {
            Event::Opaque(Opaque { protocol: "chat".into(), name: ":reasoning".into(), json: json(&format!("\"{word}\"")) })
        }),
        1 => place.clone().prop_map(|at| {
            Event::Opaque(Opaque { protocol: "chat".into(), name: format!(":role {}", at.choice), json: json("\"tool\"") })
        }),
        1 => place.clone().prop_map(|at| {
            let value = json(r#"{"s":1}"#);
            Event::State(at, PartState { origin: "chat".into(), kind: String::new(), value })
        }),
        1 => "[a-z]{1,2}".prop_map(|word| {
            let json = json(&format!("\"{word}\""));
            Event::Opaque(Opaque { protocol: "chat".into(), name: "service_tier".to_owned(), json })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_from_any_cursor_is_the_tail_of_the_whole(mut events in prop::collection::vec(any_event(), 0..12), well: bool) {
        events.push(end(if well { Status::Completed } else { Status::Cancelled }, None));
        let log = log(&events);
        let whole = encode(&log, 0, true);
        for frame in whole.split_terminator("\n\n") {
            let data = frame.lines().next().and_then(|line| line.strip_prefix("data: ")).expect("data first");
            prop_assert!(data == "[DONE]" || serde_json::from_str::<serde_json::Value>(data).is_ok(), "{data}");
        }
        for after in 0..=log.len() {
            let rest = encode(&log, after, true);
            prop_assert!(whole.ends_with(&rest), "after {after}");
            let seen = &whole[..whole.len() - rest.len()];
            let last = seen.rsplit("id: ").next().filter(|_| after > 0 && !seen.is_empty());
            let told = last.and_then(|id| id.trim_end().strip_prefix(ID)?.strip_prefix('-')?.parse::<usize>().ok());
            prop_assert!(last.is_none() || told.is_some_and(|n| n <= after), "the id before the rest is {last:?}");
        }
    }
}
