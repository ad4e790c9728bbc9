//! The law that keeps the middle lossless: what a client adds up from lastword is what it adds up from the upstream itself.
//!
//! The upstreams are recorded ones, and such as the documentation shows; the client adds up chunks as OpenAI's own SDKs do.

use std::{fs, path::Path};

use bytes::BytesMut;
use lastword::{
    event::{End, Event, Status},
    id::{Cursor, StreamId},
    protocol::{
        Decode, Encode,
        chat::{ChatDecode, ChatEncode, Completion, Envelope},
    },
    record::{Record, write},
    wire::sse::Parser,
};
use serde_json::{Map, Value, json};

/// Parallel calls, in turn; log probabilities; a citation; two answers; a refusal; the form before tools; counts on each chunk.
const SHOWN: [&str; 4] = [
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null},"logprobs":null,"finish_reason":null}],"system_fingerprint":"fp_1","usage":null}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}],"system_fingerprint":"fp_1","usage":null}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]},"finish_reason":null}],"system_fingerprint":"fp_1","usage":null}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"g","arguments":""}}]},"finish_reason":null}],"system_fingerprint":"fp_1","usage":null}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{}"}},{"index":0,"function":{"arguments":"\"é\"}"}}]},"finish_reason":null}],"system_fingerprint":"fp_1","usage":null}
{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"system_fingerprint":"fp_1","usage":null}
{"choices":[],"system_fingerprint":"fp_1","usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"completion_tokens_details":{"accepted_prediction_tokens":0}}}"#,
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"service_tier":"default"}
{"choices":[{"index":0,"delta":{"content":"The"},"logprobs":{"content":[{"token":"The","logprob":-0.10}],"refusal":null},"finish_reason":null}],"service_tier":"default"}
{"choices":[{"index":0,"delta":{"content":" \n\"river\""},"logprobs":{"content":[{"token":" river","logprob":-1e-3}],"refusal":null},"finish_reason":null}],"service_tier":"default"}
{"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":"http://a","title":"A","start_index":0,"end_index":3}}]},"finish_reason":null}],"service_tier":"default"}
{"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"service_tier":"default"}"#,
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}
{"choices":[{"index":1,"delta":{"role":"assistant","content":null},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null},{"index":1,"delta":{"refusal":"No"},"finish_reason":null}]}
{"choices":[{"index":1,"delta":{"refusal":"."},"finish_reason":null}]}
{"choices":[{"index":1,"delta":{},"finish_reason":"content_filter","content_filter_results":{"hate":{"filtered":true}}}]}
{"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"END"}]}"#,
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"h"},"finish_reason":null}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}
{"choices":[{"index":0,"delta":{"reasoning_content":"m"},"finish_reason":null}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}
{"choices":[{"index":0,"delta":{"function_call":{"name":"f","arguments":""}},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"function_call":{"arguments":"{}"}},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"finish_reason":"function_call"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#,
];

/// The answers of upstreams as server-sent events, each with its name.
pub(super) fn upstreams() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let captured = fs::read_dir(folder).expect("captures").map(|entry| entry.expect("an entry").path());
    let captured = captured.filter(|path| path.to_string_lossy().ends_with(".chat.sse"));
    let captured = captured.map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("text")));
    let shown = SHOWN.iter().map(|lines| {
        let frames: String = lines.lines().map(|line| format!("data: {line}\n\n")).collect();
        (lines.chars().take(120).collect(), frames + "data: [DONE]\n\n")
    });
    captured.chain(shown).collect()
}

/// The data of each event.
pub(super) fn data(sse: &str) -> Vec<String> {
    let mut parser = Parser::new(1 << 20);
    let mut frames = parser.feed(sse.as_bytes());
    let mut all = Vec::new();
    while let Some(frame) = frames.next().expect("short lines") {
        all.push(frame.data.to_owned());
    }
    all
}

/// What a client has when it has added up all chunks.
pub(super) fn added_up(sse: &str) -> Value {
    let chunks = data(sse);
    assert_eq!(chunks.last().map(String::as_str), Some("[DONE]"), "{sse}");
    let mut whole = json!({ "choices": {} });
    for chunk in &chunks[..chunks.len() - 1] {
        let mut chunk: Value = serde_json::from_str(chunk).expect("a chunk");
        for choice in chunk["choices"].take().as_array().expect("choices") {
            let sum = &mut whole["choices"][choice["index"].to_string()];
            if sum.is_null() {
                *sum = json!({ "message": {} });
            }
            add(sum["message"].as_object_mut().expect("a message"), &choice["delta"]);
            for name in ["finish_reason", "stop_reason", "content_filter_results"] {
                if !choice[name].is_null() {
                    sum[name] = choice[name].clone();
                }
            }
            if choice["logprobs"].is_object() {
                let sum = sum.as_object_mut().expect("a choice");
                add(sum, &json!({ "logprobs": choice["logprobs"] }));
            }
        }
        for name in ["usage", "system_fingerprint", "service_tier"] {
            if !chunk[name].is_null() {
                whole[name] = chunk[name].take();
            }
        }
    }
    whole
}

/// Adds a delta as the SDKs do: texts grow, entries with an index find theirs, other entries are appended.
fn add(sum: &mut Map<String, Value>, delta: &Value) {
    for (name, more) in delta.as_object().expect("an object") {
        match (sum.get_mut(name), more) {
            (_, Value::Null) => _ = sum.entry(name).or_insert(Value::Null),
            (Some(Value::String(text)), Value::String(more)) if !["id", "type", "role"].contains(&&**name) => {
                *text += more
            }
            (Some(Value::Object(known)), Value::Object(_)) => add(known, more),
            (Some(Value::Array(list)), Value::Array(more)) => {
                for entry in more {
                    let known =
                        list.iter_mut().find(|known| !entry["index"].is_null() && known["index"] == entry["index"]);
                    match known {
                        Some(known) => add(known.as_object_mut().expect("an object"), entry),
                        None => list.push(entry.clone()),
                    }
                }
            }
            _ => _ = sum.insert(name.clone(), more.clone()),
        }
    }
}

/// The events that an upstream's bytes mean.
fn decoded(sse: &str) -> Vec<Event<'static>> {
    let (mut decode, mut events) = (ChatDecode::default(), Vec::new());
    for data in data(sse) {
        decode.frame("message", &data, &mut events).expect("a chunk");
    }
    decode.finish(&mut events).expect("whole");
    events
}

/// What lastword tells of these events, in chunks and whole.
fn told(events: &[Event<'_>]) -> (String, Value) {
    let envelope = Envelope::new(StreamId::new(), 0, "m");
    let (mut encode, mut completion) = (ChatEncode::new(envelope.clone(), true), Completion::new(envelope));
    let end = Event::End(End { status: Status::Completed, reason: None, usage: None, error: None });
    let mut sse = BytesMut::new();
    for (cursor, event) in (1..).map(Cursor).zip(events.iter().chain([&end])) {
        let mut bytes = BytesMut::new();
        write(&mut bytes, 0, event).expect("recorded");
        let record = Record::parse(&bytes).expect("a record");
        encode.encode(cursor, &record, &mut sse);
        completion.take(&record);
    }
    let whole = serde_json::from_slice(&completion.finish().expect("whole")).expect("JSON");
    (String::from_utf8(sse.to_vec()).expect("UTF-8"), whole)
}

#[test]
fn a_client_adds_up_what_the_upstream_said() {
    for (name, upstream) in upstreams() {
        let mut events = decoded(&upstream);
        let (sse, _) = told(&events);
        assert_eq!(added_up(&sse), added_up(&upstream), "{name}");
        // Of the counts, which add up by themselves, the last is told, at the end.
        let counts = events.iter().filter(|event| matches!(event, Event::Usage(_))).count();
        let mut count = 0;
        events.retain(|event| {
            count += usize::from(matches!(event, Event::Usage(_)));
            count == counts || !matches!(event, Event::Usage(_))
        });
        assert_eq!(decoded(&sse), events, "decoded, encoded and decoded again: {name}");
    }
}

/// A whole answer is the chunks added up, but for the indices that only chunks need.
#[test]
fn the_whole_answer_is_its_chunks_added_up() {
    for (name, upstream) in upstreams() {
        let (sse, mut whole) = told(&decoded(&upstream));
        let mut sum = added_up(&sse);
        for choice in whole["choices"].as_array_mut().expect("choices") {
            let mut known = sum["choices"]
                [choice.as_object_mut().expect("a choice").remove("index").expect("index").to_string()]
            .take();
            for call in known["message"]["tool_calls"].as_array_mut().into_iter().flatten() {
                call.as_object_mut().expect("a call").remove("index");
            }
            without_nulls(&mut known);
            without_nulls(choice);
            assert_eq!(*choice, known, "{name}");
        }
        for member in ["usage", "system_fingerprint", "service_tier"] {
            assert_eq!(whole[member], sum[member], "{name}");
        }
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
