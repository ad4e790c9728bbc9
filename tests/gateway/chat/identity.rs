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
const SHOWN: [&str; 10] = [
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
    // OpenRouter: a constant, a reason in the model's own word, thoughts in two spellings with their signature.
    r#"{"provider":"P","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Hm","reasoning_details":[{"type":"reasoning.text","text":"Hm","index":0}]},"finish_reason":null,"native_finish_reason":null}]}
{"provider":"P","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":", so","reasoning_details":[{"type":"reasoning.text","text":", so","index":0}]},"finish_reason":null,"native_finish_reason":null}]}
{"provider":"P","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":null,"reasoning_details":[{"type":"reasoning.text","signature":"c2ln","index":0}]},"finish_reason":null,"native_finish_reason":null}]}
{"provider":"P","choices":[{"index":0,"delta":{"role":"assistant","content":"Yes"},"finish_reason":null,"native_finish_reason":null}]}
{"provider":"P","choices":[{"index":0,"delta":{"role":"assistant","content":".","images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},"finish_reason":null,"native_finish_reason":null}]}
{"provider":"P","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop","native_finish_reason":"end_turn"}]}
{"provider":"P","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"cost":0.1}}"#,
    // vLLM: the stop is a token's number; log probabilities of what is no text; both spellings.
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":[1,2]}
{"choices":[{"index":0,"delta":{"reasoning":"h","reasoning_content":"h"},"logprobs":{"content":[{"token":"h","logprob":-1.5}]},"finish_reason":null,"token_ids":[3]}]}
{"choices":[{"index":0,"delta":{"reasoning":"m","reasoning_content":"m"},"logprobs":{"content":[{"token":"m","logprob":-2.5}]},"finish_reason":null,"token_ids":[4]}]}
{"choices":[{"index":0,"delta":{"content":"So"},"logprobs":{"content":[{"token":"So","logprob":-0.5}]},"finish_reason":null,"token_ids":[5]}]}
{"choices":[{"index":0,"delta":{"content":""},"logprobs":{"content":[{"token":"<eot>","logprob":-0.25}]},"finish_reason":"stop","stop_reason":128009,"token_ids":[6]}]}"#,
    // Perplexity: the sources stand on each chunk, until they change; Azure: what its filters say of the prompt stands alone.
    r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}
{"citations":["http://a"],"choices":[{"index":0,"delta":{"role":"assistant","content":"The"},"finish_reason":null}]}
{"citations":["http://a"],"choices":[{"index":0,"delta":{"content":" river"},"finish_reason":null}]}
{"citations":["http://a"],"choices":[{"index":0,"delta":{"content":" is"},"finish_reason":null}]}
{"citations":["http://a","http://b"],"choices":[{"index":0,"delta":{"content":" long"},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"content":"."},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    // OpenAI: sound, its words, its id, and when it is gone; padding is left out below.
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"audio":{"id":"audio_1","transcript":"Hel"}},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"audio":{"data":"AAEC"}},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"audio":{"data":"AwQF","transcript":"lo"}},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"audio":{"expires_at":1790000000}},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    // Google: the signature of a thought beside a call; a role of another name; two answers that end in two ways.
    r#"{"choices":[{"index":0,"delta":{"role":"model","content":null,"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"c2ln"}}}]},"finish_reason":null}]}
{"choices":[{"index":1,"delta":{"role":"assistant","content":"a"},"finish_reason":null}],"x":{"y":1}}
{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":"length"},{"index":0,"delta":{},"finish_reason":"tool_calls","matched_stop":7}],"z":2}"#,
    // Only the details of its thoughts.
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_details":[{"type":"reasoning.text","text":"Hm","index":0}]},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.text","text":"!","index":0}]},"finish_reason":null}],"timings":{"n":1}}
{"choices":[{"index":0,"delta":{"content":"So"},"finish_reason":null}],"timings":{"n":2}}
{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null,"timings":{"n":3}}
{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12},"timings":{"n":4}}"#,
];

/// What each server calls its own, and lastword has its own of.
const ENVELOPE: [&str; 5] = ["id", "object", "created", "model", "obfuscation"];

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
            for (name, value) in choice.as_object().expect("an object") {
                match &**name {
                    "index" | "delta" => {}
                    "logprobs" if value.is_object() => {
                        add(sum.as_object_mut().expect("a choice"), &json!({ "logprobs": value }));
                    }
                    _ if value.is_null() => {}
                    _ => sum[name] = value.clone(),
                }
            }
        }
        for (name, value) in chunk.as_object_mut().expect("an object") {
            if !value.is_null() && !ENVELOPE.contains(&&**name) {
                whole[name] = value.take();
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
                *text += more;
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

/// The events that an upstream's bytes mean, in whatever pieces they come.
fn decoded_in<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event<'static>> {
    let (mut parser, mut decode, mut events) = (Parser::new(1 << 20).error_field(), ChatDecode::default(), Vec::new());
    for piece in pieces {
        let mut frames = parser.feed(piece);
        while let Some(frame) = frames.next().expect("short lines") {
            decode.frame(frame.event, frame.data, &mut events).expect("a chunk");
        }
    }
    decode.finish(&mut events).expect("whole");
    events
}

fn decoded(sse: &str) -> Vec<Event<'static>> {
    decoded_in([sse.as_bytes()])
}

#[test]
fn in_whatever_pieces_an_answer_comes_its_log_is_the_same() {
    for (name, upstream) in upstreams() {
        let log = decoded(&upstream);
        let with = |end: &str| upstream.replace('\n', end);
        for form in [
            upstream.clone(),
            with("\r\n"),
            with("\r"),
            format!("\u{feff}{upstream}"),
            format!("\u{feff}{}", with("\r\n")),
        ] {
            let bytes = form.as_bytes();
            assert_eq!(decoded_in(bytes.chunks(1)), log, "byte by byte: {name}");
            // Each single cut, of a long answer some of them: where a cut stands matters only to what is around it.
            for cut in (1..bytes.len()).step_by(1 + bytes.len() / 150) {
                let (before, behind) = bytes.split_at(cut);
                assert_eq!(decoded_in([before, behind]), log, "cut at {cut}: {name}");
            }
        }
    }
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
        let events = decoded(&upstream);
        let (sse, _) = told(&events);
        assert_eq!(added_up(&sse), added_up(&upstream), "{name}");
        // The counts come last, and what only this protocol knows may stand in a chunk of its own: they add up all the same.
        let again = decoded(&sse);
        assert_eq!(added_up(&told(&again).0), added_up(&upstream), "decoded, encoded and decoded again: {name}");
        let common = |events: Vec<Event<'static>>| -> Vec<_> {
            events.into_iter().filter(|event| !matches!(event, Event::Usage(_) | Event::Opaque(_))).collect()
        };
        assert_eq!(common(again), common(events), "{name}");
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
        let (whole, sum) = (whole.as_object_mut().expect("an object"), sum.as_object_mut().expect("an object"));
        for member in ENVELOPE.iter().chain(&["choices"]) {
            whole.remove(*member);
            sum.remove(*member);
        }
        assert_eq!(whole, sum, "{name}");
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
