//! The law that keeps the middle lossless: what a client adds up from lastword is what it adds up from the upstream itself.
//!
//! The upstreams are recorded ones, and such as the documentation shows; the client adds up events as Anthropic's own SDKs do.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::BytesMut;
use lastword::{
    event::{End, Event, Status},
    id::{Cursor, StreamId},
    protocol::{
        Decode, Encode,
        messages::{Message, MessagesDecode, MessagesEncode},
    },
    record::{Record, write},
    wire::sse::Parser,
};
use serde_json::{Value, json};

/// Text; calls, one of them without arguments; thinking; what is redacted, and a refusal; citations; the upstream's own tools; a pause.
const SHOWN: [&str; 7] = [
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":1,"service_tier":"standard"}}}
{"type":"ping"}
{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"The"}}
{"type":"ping"}
{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" \n\"riv\\er\" é🦀"}}
{"type":"content_block_stop","index":0}
{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"output_tokens":15}}"#,
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}
{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me see."}}
{"type":"content_block_stop","index":0}
{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_a","name":"f","input":{},"caller":{"type":"direct"}}}
{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}
{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}
{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" \"é\\n\"}"}}
{"type":"content_block_stop","index":1}
{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_b","name":"g","input":{}}}
{"type":"content_block_stop","index":2}
{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":12,"output_tokens":40}}"#,
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"container":null,"usage":{"input_tokens":9,"output_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":0}}}}
{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}
{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" \"hm\""}}
{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB\/=="}}
{"type":"content_block_stop","index":0}
{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"So"}}
{"type":"content_block_stop","index":1}
{"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}}"#,
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}
{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"EmwK=="}}
{"type":"content_block_stop","index":0}
{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"I"}}
{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":" will not."}}
{"type":"content_block_stop","index":1}
{"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence":null,"stop_details":{"type":"refusal","category":"bio","explanation":null}},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}
{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","citations":[]}}
{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"The grass","document_index":0,"document_title":"D","start_char_index":0,"end_char_index":9}}}
{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"green"}}
{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","cited_text":"c","encrypted_index":"e","title":"T","url":"http://a"}}}
{"type":"content_block_stop","index":0}
{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}
{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}
{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":"}}
{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":" \"x\"}"}}
{"type":"content_block_stop","index":0}
{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","url":"http://a","page_age":null}]}}
{"type":"content_block_stop","index":1}
{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}
{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Found."}}
{"type":"content_block_stop","index":2}
{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"container":{"id":"c"}},"usage":{"output_tokens":5,"server_tool_use":{"web_search_requests":1}},"context_management":{"applied_edits":[]}}"#,
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}
{"type":"message_delta","delta":{"stop_reason":"pause_turn","stop_sequence":null},"usage":{"output_tokens":1}}"#,
];

/// The answers of upstreams as server-sent events, each with its name.
pub(super) fn upstreams() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let captured = fs::read_dir(folder).expect("captures").map(|entry| entry.expect("an entry").path());
    let captured = captured.filter(|path| path.to_string_lossy().ends_with(".messages.sse"));
    let captured = captured.map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("text")));
    let shown = SHOWN.iter().enumerate().map(|(n, lines)| {
        let lines = lines.lines().chain([r#"{"type":"message_stop"}"#]);
        (format!("shown {n}"), lines.map(frame).collect())
    });
    captured.chain(shown).collect()
}

/// An event that is named by the type of its data.
pub(super) fn frame(data: &str) -> String {
    let event: Value = serde_json::from_str(data).expect(data);
    format!("event: {}\ndata: {data}\n\n", event["type"].as_str().expect("a type"))
}

/// The name and the data of each event.
pub(super) fn frames(sse: &str) -> Vec<(String, String)> {
    let mut parser = Parser::new(1 << 20);
    let mut frames = parser.feed(sse.as_bytes());
    let mut all = Vec::new();
    while let Some(frame) = frames.next().expect("short lines") {
        all.push((frame.event.to_owned(), frame.data.to_owned()));
    }
    all
}

/// What a client has when it has added up all events, but for what lastword names itself: the id and the model.
pub(super) fn added_up(sse: &str) -> Value {
    let (mut message, mut inputs, mut ended) = (Value::Null, BTreeMap::<usize, String>::new(), false);
    for (name, data) in frames(sse) {
        // As the SDKs do: what has no name is no event of theirs.
        if name == "ping" || name == "message" {
            continue;
        }
        let mut event: Value = serde_json::from_str(&data).expect("an event");
        assert_eq!(event["type"], name, "{data}");
        let index = event["index"].as_u64().unwrap_or_default() as usize;
        match &*name {
            "message_start" => {
                assert!(message.is_null(), "one message: {sse}");
                message = event["message"].take();
            }
            "content_block_start" => {
                let content = message["content"].as_array_mut().expect("content");
                assert_eq!(content.len(), index, "{data}");
                content.push(event["content_block"].take());
            }
            "content_block_delta" => {
                add(&mut message["content"][index], event["delta"].take(), inputs.entry(index).or_default())
            }
            "content_block_stop" => assert!(message["content"][index].is_object(), "{data}"),
            "message_delta" => {
                for name in ["stop_reason", "stop_sequence", "stop_details", "container"] {
                    if !event["delta"][name].is_null() {
                        message[name] = event["delta"][name].take();
                    }
                }
                let counts =
                    ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
                for name in counts.into_iter().chain(["server_tool_use", "output_tokens_details"]) {
                    if !event["usage"][name].is_null() {
                        message["usage"][name] = event["usage"][name].take();
                    }
                }
            }
            "message_stop" => ended = true,
            other => panic!("an event {other}: {data}"),
        }
    }
    assert!(ended, "{sse}");
    for (index, input) in inputs.into_iter().filter(|(_, input)| !input.is_empty()) {
        message["content"][index]["input"] = serde_json::from_str(&input).expect("arguments");
    }
    strip(&mut message);
    message
}

fn add(block: &mut Value, mut delta: Value, input: &mut String) {
    let kind = delta["type"].as_str().expect("a type").to_owned();
    let grow = |block: &mut Value, name: &str| {
        block[name] = (block[name].as_str().expect(name).to_owned() + delta[name].as_str().expect(name)).into();
    };
    match &*kind {
        "text_delta" => grow(block, "text"),
        "thinking_delta" => grow(block, "thinking"),
        "input_json_delta" => *input += delta["partial_json"].as_str().expect("a piece"),
        "signature_delta" => block["signature"] = delta["signature"].take(),
        "citations_delta" => match block["citations"].as_array_mut() {
            Some(citations) => citations.push(delta["citation"].take()),
            None => block["citations"] = json!([delta["citation"].take()]),
        },
        other => panic!("a delta {other}"),
    }
}

/// Without what says nothing, and without the names that lastword gives.
fn strip(message: &mut Value) {
    message
        .as_object_mut()
        .expect("a message")
        .retain(|name, value| !value.is_null() && name != "id" && name != "model");
}

/// The events that an upstream's bytes mean, which come in these pieces.
fn decoded(pieces: &[&[u8]]) -> Vec<Event<'static>> {
    let (mut parser, mut decode, mut events) = (Parser::new(1 << 20), MessagesDecode::default(), Vec::new());
    for piece in pieces {
        let mut frames = parser.feed(piece);
        while let Some(frame) = frames.next().expect("short lines") {
            decode.frame(frame.event, frame.data, &mut events).expect("an event");
        }
    }
    decode.finish(&mut events).expect("whole");
    events.retain(|event| *event != Event::Alive);
    events
}

/// What lastword tells of these events, as events and whole.
fn told(events: &[Event<'_>]) -> (String, Value) {
    let stream = StreamId::new();
    let (mut encode, mut message) = (MessagesEncode::new(stream, "m"), Message::new(stream, "m"));
    let end = Event::End(End { status: Status::Completed, reason: None, usage: None, error: None });
    let mut sse = BytesMut::new();
    for (cursor, event) in (1..).map(Cursor).zip(events.iter().chain([&end])) {
        let mut bytes = BytesMut::new();
        write(&mut bytes, 0, event).expect("recorded");
        let record = Record::parse(&bytes).expect("a record");
        encode.encode(cursor, &record, &mut sse);
        message.take(&record);
    }
    let whole = serde_json::from_slice(&message.finish().expect("whole")).expect("JSON");
    (String::from_utf8(sse.to_vec()).expect("UTF-8"), whole)
}

#[test]
fn a_client_adds_up_what_the_upstream_said() {
    for (name, upstream) in upstreams() {
        let events = decoded(&[upstream.as_bytes()]);
        let (sse, _) = told(&events);
        assert_eq!(added_up(&sse), added_up(&upstream), "{name}");
        assert_eq!(decoded(&[sse.as_bytes()]), events, "decoded, encoded and decoded again: {name}");
    }
}

#[test]
fn what_is_not_understood_is_told_to_the_letter() {
    for (_, upstream) in upstreams() {
        let (sse, _) = told(&decoded(&[upstream.as_bytes()]));
        for (_, data) in frames(&upstream) {
            let own = ["server_tool_use", "web_search_tool_result", "redacted_thinking", "caller", "citation"];
            if own.iter().any(|word| data.contains(word)) && !data.contains("message_delta") {
                assert!(sse.contains(&format!("data: {data}\n")), "{data} in {sse}");
            }
        }
    }
}

#[test]
fn the_whole_answer_is_its_events_added_up() {
    for (name, upstream) in upstreams() {
        let (sse, mut whole) = told(&decoded(&[upstream.as_bytes()]));
        let mut sum = added_up(&sse);
        strip(&mut whole);
        // Counts beyond those that clients add up are whole from the beginning.
        assert_eq!(whole["usage"].take(), sum["usage"].take(), "{name}");
        assert_eq!(whole, sum, "{name}");
    }
}

#[test]
fn however_the_bytes_are_split_the_events_are_the_same() {
    for (name, upstream) in upstreams() {
        let events = decoded(&[upstream.as_bytes()]);
        let crlf = upstream.replace('\n', "\r\n");
        for sse in [&upstream, &crlf, &upstream.replace('\n', "\r"), &format!("\u{feff}{upstream}")] {
            assert_eq!(decoded(&sse.as_bytes().chunks(1).collect::<Vec<_>>()), events, "{name}");
        }
        for at in 0..upstream.len() {
            let (before, behind) = upstream.as_bytes().split_at(at);
            assert_eq!(decoded(&[before, behind]), events, "{name}, split at {at}");
        }
        // Lines that end in two bytes can be split between them.
        for at in crlf.match_indices('\n').map(|(at, _)| at) {
            let (before, behind) = crlf.as_bytes().split_at(at);
            assert_eq!(decoded(&[before, behind]), events, "{name}, split before the line feed at {at}");
        }
    }
}
