//! What clients of this protocol get for a log, to the byte; and that a log told in two pieces is the log.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{Annotation, Attempt, Delta, Failure, PartState, PartStop, Reason, Status, Tool},
    protocol::messages::Message,
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

fn stop(part: u16, of: PartType) -> Event<'static> {
    Event::PartStop(at(part, of), PartStop::default())
}

fn call(part: u16, id: Option<&str>, name: &str, kind: Option<&str>) -> Event<'static> {
    let of = PartType::ToolCall;
    let tool = Tool { call_id: id.map(str::to_owned), name: Some(name.to_owned()), kind: kind.map(str::to_owned) };
    Event::PartStart(at(part, of), PartStart { r#type: of, tool: Some(tool), ..PartStart::default() })
}

fn attempt(protocol: &'static str) -> Event<'static> {
    Event::Attempt(Attempt { protocol: protocol.into(), ..Attempt::default() })
}

fn finish(reason: Reason) -> Event<'static> {
    Event::Finish(0, Finish { reason: Some(reason), raw: Some(reason.as_str().to_owned()), ..Finish::default() })
}

fn counted() -> Event<'static> {
    Event::Usage(Usage {
        input_tokens: Some(9),
        output_tokens: Some(2),
        cache_read_tokens: Some(4),
        reasoning_tokens: Some(1),
        ..Usage::default()
    })
}

fn end(status: Status, error: Option<Failure>) -> Event<'static> {
    Event::End(End { status, reason: None, usage: None, error })
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).expect("JSON")
}

fn opaque(name: &str, text: &str) -> Event<'static> {
    Event::Opaque(Opaque { protocol: NAME.into(), name: name.to_owned(), json: json(text) })
}

fn state(part: u16, of: PartType, origin: &'static str, kind: &str, value: &str) -> Event<'static> {
    Event::State(at(part, of), PartState { origin: origin.into(), kind: kind.to_owned(), value: json(value) })
}

fn log(events: &[Event<'_>]) -> Vec<BytesMut> {
    let record = |event| {
        let mut out = BytesMut::new();
        write(&mut out, 0, event);
        out
    };
    events.iter().map(record).collect()
}

fn encode(log: &[BytesMut], after: usize) -> String {
    let stream = ID.parse().expect("an id");
    let (mut encoder, mut out) = (MessagesEncode::new(stream, "fast"), BytesMut::new());
    for (n, bytes) in log.iter().enumerate() {
        let record = Record::parse(bytes).expect("a record");
        match n < after {
            true => encoder.skip(&record),
            false => encoder.encode(Cursor(n as u64 + 1), &record, &mut out),
        }
    }
    String::from_utf8(out.to_vec()).expect("UTF-8")
}

/// The frames without the names of the events, which are the types of their data, and with short ids.
fn short(events: &[Event<'_>]) -> String {
    let frames = encode(&log(events), 0);
    let mut lines = String::new();
    for frame in frames.split_terminator("\n\n") {
        let (name, rest) = frame.strip_prefix("event: ").and_then(|rest| rest.split_once('\n')).expect("a name");
        let typed = format!(r#"data: {{"type":"{name}""#);
        let rest = rest.strip_prefix(&typed).expect("the type is the name").replace("\nid: ", "  #");
        lines += &format!("{name}{}\n", rest.replace(ID, "ID"));
    }
    lines
}

fn message(events: &[Event<'_>]) -> Result<String, Box<End>> {
    let mut message = Message::new(ID.parse().expect("an id"), "fast");
    log(events).iter().for_each(|bytes| message.take(&Record::parse(bytes).expect("a record")));
    message.finish().map(|json| String::from_utf8(json).expect("UTF-8").replace(ID, "ID"))
}

#[test]
fn text_is_a_message_of_one_block() {
    let events = [
        start(0, PartType::Text),
        delta(0, PartType::Text, "The\n"),
        delta(0, PartType::Text, " \"river\""),
        stop(0, PartType::Text),
        finish(Reason::Stop),
        counted(),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(encode(&log(&events), 0), @r#"
    event: message_start
    data: {"type":"message_start","message":{"id":"msg_0199c0ffee007000800000000000abcd","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

    event: content_block_start
    data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
    id: 0199c0ffee007000800000000000abcd-1

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"The\n"}}
    id: 0199c0ffee007000800000000000abcd-2

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" \"river\""}}
    id: 0199c0ffee007000800000000000abcd-3

    event: content_block_stop
    data: {"type":"content_block_stop","index":0}
    id: 0199c0ffee007000800000000000abcd-4

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":5,"cache_read_input_tokens":4,"output_tokens":2,"output_tokens_details":{"thinking_tokens":1}}}

    event: message_stop
    data: {"type":"message_stop"}
    id: 0199c0ffee007000800000000000abcd-7
    "#);
    insta::assert_snapshot!(message(&events).expect("whole"), @r#"
    {"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[{"type":"text","text":"The\n \"river\""}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"cache_read_input_tokens":4,"output_tokens":2,"output_tokens_details":{"thinking_tokens":1}}}
    "#);
}

#[test]
fn thinking_and_calls_side_by_side() {
    let events = [
        start(0, PartType::Reasoning),
        delta(0, PartType::Reasoning, "hm"),
        state(0, PartType::Reasoning, "messages", "signature", "\"Eq==\""),
        state(0, PartType::Reasoning, "responses", "encrypted_content", "\"x\""),
        stop(0, PartType::Reasoning),
        call(1, Some("toolu_a"), "look", Some("function")),
        call(2, None, "find", None),
        delta(2, PartType::ToolCall, "{\"y\""),
        delta(1, PartType::ToolCall, "{\"x\":1.0}"),
        delta(2, PartType::ToolCall, ":1}"),
        stop(1, PartType::ToolCall),
        stop(2, PartType::ToolCall),
        call(3, Some("toolu_c"), "now", None),
        finish(Reason::ToolCalls),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events), @r#"
    message_start,"message":{"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}
    content_block_start,"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}  #ID-1
    content_block_delta,"index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}  #ID-2
    content_block_delta,"index":0,"delta":{"type":"signature_delta","signature":"Eq=="}}  #ID-3
    content_block_stop,"index":0}  #ID-5
    content_block_start,"index":1,"content_block":{"type":"tool_use","id":"toolu_a","name":"look","input":{}}}  #ID-6
    content_block_start,"index":2,"content_block":{"type":"tool_use","id":"toolu_ID_2","name":"find","input":{}}}  #ID-7
    content_block_delta,"index":2,"delta":{"type":"input_json_delta","partial_json":"{\"y\""}}  #ID-8
    content_block_delta,"index":1,"delta":{"type":"input_json_delta","partial_json":"{\"x\":1.0}"}}  #ID-9
    content_block_delta,"index":2,"delta":{"type":"input_json_delta","partial_json":":1}"}}  #ID-10
    content_block_stop,"index":1}  #ID-11
    content_block_stop,"index":2}  #ID-12
    content_block_start,"index":3,"content_block":{"type":"tool_use","id":"toolu_c","name":"now","input":{}}}  #ID-13
    content_block_stop,"index":3}
    message_delta,"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":0,"output_tokens":0}}
    message_stop}  #ID-15
    "#);
    insta::assert_snapshot!(message(&events).expect("whole"), @r#"
    {"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[{"type":"thinking","thinking":"hm","signature":"Eq=="},{"type":"tool_use","id":"toolu_a","name":"look","input":{"x":1.0}},{"type":"tool_use","id":"toolu_ID_2","name":"find","input":{"y":1}},{"type":"tool_use","id":"toolu_c","name":"now","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}
    "#);
}

#[test]
fn arguments_that_are_no_object_and_free_text_are_put_into_one() {
    let events = [
        call(0, Some("a"), "draw", Some("custom")),
        delta(0, PartType::ToolCall, "a \"cat\"\n\\"),
        stop(0, PartType::ToolCall),
        call(1, Some("b"), "cut", None),
        delta(1, PartType::ToolCall, "{\"x\":"),
        finish(Reason::Length),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events), @r#"
    message_start,"message":{"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}
    content_block_start,"index":0,"content_block":{"type":"tool_use","id":"a","name":"draw","input":{}}}
    content_block_delta,"index":0,"delta":{"type":"input_json_delta","partial_json":"{\"input\":\""}}  #ID-1
    content_block_delta,"index":0,"delta":{"type":"input_json_delta","partial_json":"a \\\"cat\\\"\\n\\\\"}}  #ID-2
    content_block_delta,"index":0,"delta":{"type":"input_json_delta","partial_json":"\"}"}}
    content_block_stop,"index":0}  #ID-3
    content_block_start,"index":1,"content_block":{"type":"tool_use","id":"b","name":"cut","input":{}}}  #ID-4
    content_block_delta,"index":1,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}  #ID-5
    content_block_stop,"index":1}
    message_delta,"delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"input_tokens":0,"output_tokens":0}}
    message_stop}  #ID-7
    "#);
    insta::assert_snapshot!(message(&events).expect("whole"), @r#"
    {"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[{"type":"tool_use","id":"a","name":"draw","input":{"input":"a \"cat\"\n\\"}},{"type":"tool_use","id":"b","name":"cut","input":{"input":"{\"x\":"}}],"stop_reason":"max_tokens","stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}
    "#);
}

#[test]
fn what_only_this_protocol_has_is_given_back_to_the_letter() {
    let counted = |raw: &str| Event::Usage(Usage { raw: Some(json(raw)), ..Usage::default() });
    let cited = json(r#"{"type":"char_location","cited_text":"c","document_index":0,"document_title":"D"}"#);
    let raw = r#"{"type":"tool_use","id":"a","name":"f","input":{},"caller":{"type":"direct"}}"#;
    let of = PartType::ToolCall;
    let events = [
        opaque("message", r#"{"container":null,"id":"not this one"}"#),
        counted(r#"{"input_tokens":9,"output_tokens":1,"service_tier":"standard"}"#),
        Event::PartStart(
            at(0, PartType::Text),
            PartStart { raw: Some(json(r#"{"type":"text","text":"","citations":[]}"#)), ..PartStart::default() },
        ),
        delta(0, PartType::Text, "a"),
        Event::Annotation(at(0, PartType::Text), Annotation { raw: Some(cited), ..Annotation::default() }),
        stop(0, PartType::Text),
        start(1, PartType::Redacted),
        state(1, PartType::Redacted, "messages", "redacted_thinking", "\"xy\""),
        stop(1, PartType::Redacted),
        Event::PartStart(at(2, of), PartStart { r#type: of, raw: Some(json(raw)), ..PartStart::default() }),
        stop(2, of),
        opaque("message_delta", r#"{"context_management":{"x":1},"delta":{"stop_details":{"type":"refusal"}}}"#),
        counted(r#"{"input_tokens":9,"output_tokens":7,"service_tier":"standard"}"#),
        Event::Finish(
            0,
            Finish { reason: Some(Reason::Stop), raw: Some("pause_turn".to_owned()), ..Finish::default() },
        ),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events), @r#"
    message_start,"message":{"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1,"service_tier":"standard"},"container":null}}  #ID-2
    content_block_start,"index":0,"content_block":{"type":"text","text":"","citations":[]}}  #ID-3
    content_block_delta,"index":0,"delta":{"type":"text_delta","text":"a"}}  #ID-4
    content_block_delta,"index":0,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"c","document_index":0,"document_title":"D"}}}  #ID-5
    content_block_stop,"index":0}  #ID-6
    content_block_start,"index":1,"content_block":{"type":"redacted_thinking","data":"xy"}}  #ID-8
    content_block_stop,"index":1}  #ID-9
    content_block_start,"index":2,"content_block":{"type":"tool_use","id":"a","name":"f","input":{},"caller":{"type":"direct"}}}  #ID-10
    content_block_stop,"index":2}  #ID-11
    message_delta,"delta":{"stop_reason":"pause_turn","stop_sequence":null,"stop_details":{"type":"refusal"}},"usage":{"input_tokens":9,"output_tokens":7,"service_tier":"standard"},"context_management":{"x":1}}
    message_stop}  #ID-15
    "#);
    insta::assert_snapshot!(message(&events).expect("whole"), @r#"
    {"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[{"type":"text","text":"a","citations":[{"type":"char_location","cited_text":"c","document_index":0,"document_title":"D"}]},{"type":"redacted_thinking","data":"xy"},{"type":"tool_use","id":"a","name":"f","input":{},"caller":{"type":"direct"}}],"stop_reason":"pause_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":7,"service_tier":"standard"},"container":null,"stop_details":{"type":"refusal"}}
    "#);
}

#[test]
fn blocks_of_the_upstreams_own_are_numbered_among_the_others() {
    let at_5 = |kind: &str, more: &str| opaque(kind, &format!(r#"{{"type":"{kind}","index":5{more}}}"#));
    let block = r#","content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#;
    let events = [
        start(0, PartType::Text),
        delta(0, PartType::Text, "a"),
        stop(0, PartType::Text),
        at_5("content_block_start", block),
        at_5("content_block_delta", r#","delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}"#),
        at_5("content_block_stop", ""),
        opaque("content_block_stop", r#"{"type":"content_block_stop","index":9}"#),
        opaque("new_event", r#"{"type":"new_event","x":1.0}"#),
        opaque("error", r#"{"type":"error"}"#),
        Event::Opaque(Opaque { protocol: "chat".into(), name: "x".to_owned(), json: json("1") }),
        start(1, PartType::Text),
        opaque("content_block_delta", r#"{"type":"content_block_delta","index":2,"delta":{"type":"new_delta"}}"#),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events), @r#"
    message_start,"message":{"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}
    content_block_start,"index":0,"content_block":{"type":"text","text":""}}  #ID-1
    content_block_delta,"index":0,"delta":{"type":"text_delta","text":"a"}}  #ID-2
    content_block_stop,"index":0}  #ID-3
    content_block_start,"index":1,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}  #ID-4
    content_block_delta,"index":1,"delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}}  #ID-5
    content_block_stop,"index":1}  #ID-6
    new_event,"x":1.0}  #ID-8
    content_block_start,"index":2,"content_block":{"type":"text","text":""}}  #ID-11
    content_block_delta,"index":2,"delta":{"type":"new_delta"}}  #ID-12
    content_block_stop,"index":2}
    message_delta,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":0,"output_tokens":0}}
    message_stop}  #ID-13
    "#);
    insta::assert_snapshot!(message(&events).expect("whole"), @r#"
    {"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[{"type":"text","text":"a"},{"type":"server_tool_use","id":"s","name":"web_search","input":{"q":1}},{"type":"text","text":""}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}
    "#);
}

#[test]
fn what_other_protocols_have_is_said_where_it_can_be() {
    let cited = Annotation { url: Some("http://a".into()), title: Some("A".into()), ..Annotation::default() };
    let unknown = Annotation { raw: Some(json(r#"{"type":"file_citation"}"#)), ..Annotation::default() };
    let events = [
        start(0, PartType::ReasoningSummary),
        delta(0, PartType::ReasoningSummary, "hm"),
        stop(0, PartType::ReasoningSummary),
        start(1, PartType::Media),
        stop(1, PartType::Media),
        start(2, PartType::Redacted),
        state(2, PartType::Redacted, "responses", "encrypted_content", "\"x\""),
        stop(2, PartType::Redacted),
        start(3, PartType::Refusal),
        Event::Delta(at(3, PartType::Refusal), Delta { text: "No\n".into(), logprobs: Some(json("{}")) }),
        Event::Annotation(at(3, PartType::Text), cited),
        Event::Annotation(at(3, PartType::Text), unknown),
        Event::Delta(At { choice: 1, ..at(3, PartType::Text) }, Delta { text: "other".into(), logprobs: None }),
        Event::Finish(0, Finish { reason: Some(Reason::Stop), stop_sequence: Some("END".into()), ..Finish::default() }),
        Event::Finish(1, Finish { reason: Some(Reason::Length), ..Finish::default() }),
        end(Status::Completed, None),
    ];
    insta::assert_snapshot!(short(&events), @r#"
    message_start,"message":{"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}
    content_block_start,"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}  #ID-1
    content_block_delta,"index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}  #ID-2
    content_block_stop,"index":0}  #ID-3
    content_block_start,"index":1,"content_block":{"type":"text","text":""}}  #ID-9
    content_block_delta,"index":1,"delta":{"type":"text_delta","text":"No\n"}}  #ID-10
    content_block_delta,"index":1,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","cited_text":"","encrypted_index":"","title":"A","url":"http://a"}}}  #ID-11
    content_block_stop,"index":1}
    message_delta,"delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"input_tokens":0,"output_tokens":0}}
    message_stop}  #ID-16
    "#);
    insta::assert_snapshot!(message(&events).expect("whole"), @r#"
    {"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"No\n","citations":[{"type":"web_search_result_location","cited_text":"","encrypted_index":"","title":"A","url":"http://a"}]}],"stop_reason":"stop_sequence","stop_sequence":"END","usage":{"input_tokens":0,"output_tokens":0}}
    "#);
}

#[test]
fn an_answer_in_which_nothing_was_said_is_a_message_all_the_same() {
    let events = [end(Status::Completed, None)];
    insta::assert_snapshot!(short(&events), @r#"
    message_start,"message":{"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}
    message_delta,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":0,"output_tokens":0}}
    message_stop}  #ID-1
    "#);
    insta::assert_snapshot!(message(&events).expect("whole"), @r#"
    {"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}
    "#);
}

#[test]
fn an_answer_that_is_not_whole_ends_with_its_error() {
    let refused = Failure {
        code: "upstream_refused".into(),
        message: "`up` answered 529: later".into(),
        upstream_status: Some(529),
        ..Failure::default()
    };
    let events = |status, error| [delta(0, PartType::Text, "a"), end(status, error)];
    insta::assert_snapshot!(short(&events(Status::Failed, Some(refused))), @r#"
    message_start,"message":{"id":"msg_ID","type":"message","role":"assistant","model":"fast","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}
    content_block_start,"index":0,"content_block":{"type":"text","text":""}}
    content_block_delta,"index":0,"delta":{"type":"text_delta","text":"a"}}  #ID-1
    error,"error":{"type":"overloaded_error","message":"`up` answered 529: later"}}  #ID-2
    "#);
    insta::assert_snapshot!(short(&[end(Status::Cancelled, None)]), @r#"
    error,"error":{"type":"invalid_request_error","message":"the answer was cancelled"}}  #ID-1
    "#);
    let told = message(&events(Status::Cancelled, None)).expect_err("no answer").status;
    assert_eq!(told, Status::Cancelled);
}

/// Some servers say `stop` where they call, and agents wait for `tool_use`.
#[test]
fn who_called_a_tool_stopped_for_it() {
    let of = PartType::ToolCall;
    for (raw, told) in [(Some("stop"), "tool_use"), (None, "tool_use"), (Some("pause_turn"), "pause_turn")] {
        let finish = Finish { reason: Some(Reason::Stop), raw: raw.map(str::to_owned), ..Finish::default() };
        assert_eq!(told::stop_reason(&finish, true), told);
    }
    assert_eq!(told::stop_reason(&Finish::default(), true), "tool_use");
    let events = [
        call(0, Some("call:0"), "f", None),
        stop(0, of),
        call(1, Some(""), "f", None),
        stop(1, of),
        finish(Reason::Stop),
        end(Status::Completed, None),
    ];
    let whole: serde_json::Value = serde_json::from_str(&message(&events).expect("an answer")).expect("JSON");
    assert_eq!(whole["stop_reason"], "tool_use");
    let ids = [0, 1].map(|n| whole["content"][n]["id"].as_str().unwrap_or_default().to_owned());
    assert_eq!(
        ids,
        [crate::protocol::messages::ids::clean("call:0").into_owned(), "toolu_ID_1".to_owned()],
        "ids that may be sent back"
    );
    assert!(short(&events).contains(r#""stop_reason":"tool_use""#));
}

#[test]
fn a_reason_is_told_in_the_words_of_this_protocol() {
    for (reason, raw, told) in [
        (Some(Reason::Stop), Some("stop"), "end_turn"),
        (Some(Reason::Stop), Some("stop_sequence"), "stop_sequence"),
        (Some(Reason::Stop), Some("pause_turn"), "pause_turn"),
        (Some(Reason::Length), Some("length"), "max_tokens"),
        (Some(Reason::Length), Some("model_context_window_exceeded"), "model_context_window_exceeded"),
        (Some(Reason::Budget), None, "max_tokens"),
        (Some(Reason::ToolCalls), Some("function_call"), "tool_use"),
        (Some(Reason::ContentFilter), Some("content_filter"), "refusal"),
        (None, Some("new"), "new"),
        (None, None, "end_turn"),
    ] {
        let finish = Finish { reason, raw: raw.map(str::to_owned), ..Finish::default() };
        assert_eq!(told::stop_reason(&finish, false), told);
    }
    // llama.cpp says so where it met a stop sequence; other protocols have no word for that.
    let met = |raw: &str| {
        let stop_sequence = Some("END".to_owned());
        let finish = Finish { reason: Some(Reason::Stop), raw: Some(raw.to_owned()), stop_sequence, safety: None };
        told::stop_reason(&finish, false).to_owned()
    };
    assert_eq!((met("end_turn"), met("stop")), ("end_turn".to_owned(), "stop_sequence".to_owned()));
}

#[test]
fn the_count_of_another_protocol_is_told_in_the_words_of_this_one() {
    let raw = r#"{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":2,"total_tokens":11}"#;
    let usage = |raw| Usage {
        input_tokens: Some(9),
        cache_read_tokens: Some(4),
        output_tokens: Some(2),
        raw: Some(json(raw)),
        ..Usage::default()
    };
    let told = |raw| serde_json::to_string(&told::usage(usage(raw))).expect("plain data");
    let translated = r#"{"input_tokens":5,"cache_read_input_tokens":4,"output_tokens":2}"#;
    assert_eq!(told(raw), translated);
    assert_eq!(told(r#"{"prompt_tokens":9,"completion_tokens":2}"#), translated);
    assert_eq!(told(r#"{"output_tokens":2,"x":1.0}"#), r#"{"output_tokens":2,"x":1.0,"input_tokens":0}"#);
}

#[test]
fn words_told_in_turn_are_blocks_one_after_the_other_unless_the_upstream_itself_has_them_so() {
    let told = |protocol| {
        let (text, call_of) = (PartType::Text, PartType::ToolCall);
        let events = [
            attempt(protocol),
            start(0, text),
            delta(0, text, "a"),
            call(1, Some("c"), "look", None),
            delta(1, call_of, "{"),
            delta(0, text, "b"),
            delta(1, call_of, "}"),
            stop(0, text),
            stop(1, call_of),
            end(Status::Completed, None),
        ];
        let frames: Vec<_> = short(&events).lines().skip(1).map(str::to_owned).collect();
        let index = |frame: &String| frame.split_once("\"index\":").and_then(|(_, rest)| rest.chars().next());
        let places: String = frames.iter().filter_map(index).collect();
        let whole: serde_json::Value = serde_json::from_str(&message(&events).expect("whole")).expect("JSON");
        (places, whole["content"].as_array().expect("blocks").iter().map(|block| block["text"].clone()).collect())
    };
    let texts = |texts: &[Option<&str>]| texts.iter().map(|text| serde_json::json!(text)).collect::<Vec<_>>();
    assert_eq!(told("responses"), ("0001122121".to_owned(), texts(&[Some("a"), None, Some("b")])));
    assert_eq!(told(NAME), ("00110101".to_owned(), texts(&[Some("ab"), None])));
}

fn part_type() -> impl Strategy<Value = PartType> + Clone {
    prop::sample::select(vec![
        PartType::Text,
        PartType::Reasoning,
        PartType::Redacted,
        PartType::ToolCall,
        PartType::Media,
    ])
}

/// Also such as no upstream gives.
fn any_event() -> impl Strategy<Value = Event<'static>> {
    let place = (0..2_u8, 0..4_u16, part_type()).prop_map(|(choice, part, of)| At { choice, part, of });
    let kinds =
        ["message", "message_delta", "content_block_start", "content_block_delta", "content_block_stop", "x y", "z"];
    prop_oneof![
        6 => (place.clone(), "\\PC{0,3}", any::<bool>()).prop_map(|(at, text, more)| {
            Event::Delta(at, Delta { text: text.into(), logprobs: more.then(|| json(r#"{"content":[]}"#)) })
        }),
        3 => (place.clone(), prop::option::of("function|custom")).prop_map(|(at, kind)| {
            let tool = Tool { call_id: Some("c".to_owned()), name: None, kind };
            Event::PartStart(at, PartStart { r#type: at.of, tool: Some(tool), ..PartStart::default() })
        }),
        2 => place.clone().prop_map(|at| Event::PartStop(at, PartStop::default())),
        1 => place.clone().prop_map(|at| {
            Event::Annotation(at, Annotation { url: Some("u".to_owned()), ..Annotation::default() })
        }),
        2 => (place.clone(), "signature|redacted_thinking").prop_map(|(at, kind)| {
            Event::State(at, PartState { origin: NAME.into(), kind, value: json("\"s\"") })
        }),
        1 => any::<bool>().prop_map(|kin| attempt(if kin { NAME } else { "responses" })),
        1 => (0..2_u8).prop_map(|choice| Event::Finish(choice, Finish::default())),
        1 => (0..9_u64).prop_map(|n| Event::Usage(Usage { output_tokens: Some(n), ..Usage::default() })),
        3 => (prop::sample::select(kinds.to_vec()), 0..3_u64).prop_map(|(name, index)| {
            opaque(name, &format!(r#"{{"type":"{name}","index":{index},"delta":{{"n":1}}}}"#))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_from_any_cursor_is_the_tail_of_the_whole(mut events in prop::collection::vec(any_event(), 0..12), well: bool) {
        events.push(end(if well { Status::Completed } else { Status::Cancelled }, None));
        let log = log(&events);
        let whole = encode(&log, 0);
        for after in 0..=log.len() {
            let rest = encode(&log, after);
            prop_assert!(whole.ends_with(&rest), "after {after}");
            let seen = &whole[..whole.len() - rest.len()];
            let last = seen.rsplit("id: ").next().filter(|_| after > 0 && !seen.is_empty());
            let told = last.and_then(|id| id.trim_end().strip_prefix(ID)?.strip_prefix('-')?.parse::<usize>().ok());
            prop_assert!(last.is_none() || told.is_some_and(|n| n <= after), "the id before the rest is {last:?}");
        }
    }

    /// A client holds a list of blocks: each begins at its end, is spoken of while it is open, and is stopped once.
    #[test]
    fn whatever_the_log_the_blocks_are_in_order(mut events in prop::collection::vec(any_event(), 0..16)) {
        events.push(end(Status::Completed, None));
        let (mut open, mut begun, mut last) = (Vec::new(), 0, String::new());
        for frame in encode(&log(&events), 0).split_terminator("\n\n") {
            let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
            let event: serde_json::Value = serde_json::from_str(data).expect(data);
            prop_assert!(begun > 0 || last.is_empty() || last != "message_stop");
            let index = event["index"].as_u64();
            match event["type"].as_str().expect("a type") {
                "message_start" => prop_assert_eq!(&last, ""),
                "content_block_start" => {
                    prop_assert_eq!(index, Some(begun));
                    open.push(index);
                    begun += 1;
                }
                "content_block_delta" => prop_assert!(open.contains(&index), "{}", frame),
                "content_block_stop" => {
                    prop_assert!(open.contains(&index), "{}", frame);
                    open.retain(|known| *known != index);
                }
                _ => prop_assert_ne!(&last, ""),
            }
            last = event["type"].as_str().expect("a type").to_owned();
        }
        prop_assert_eq!(open, []);
        prop_assert_eq!(last, "message_stop");
    }
}
