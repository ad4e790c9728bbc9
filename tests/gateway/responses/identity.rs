//! The law that keeps the middle lossless: what a client adds up from lastword is what it adds up from the upstream itself.
//!
//! The upstreams are a recorded one, and such as OpenAI's documentation shows: from the items of an answer, all the events are made by
//! which OpenAI's own server tells them. The client adds up events as OpenAI's own SDKs do.

use std::{fs, path::Path};

use bytes::BytesMut;
use lastword::{
    event::{Attempt, End, Event, Status},
    id::{Cursor, StreamId},
    protocol::{
        Decode, Encode,
        responses::{Envelope, ResponseObject, ResponsesDecode, ResponsesEncode},
    },
    record::{Record, write},
    wire::sse::Parser,
};
use serde_json::{Value, json};

/// Answers by the items of their output.
fn shown() -> Vec<(&'static str, Value, Value)> {
    let completed = json!({ "status": "completed" });
    let message = |content: Value| json!({"id":"msg_1","type":"message","status":"completed","content":content,"role":"assistant"});
    let text = |text: &str| json!({"type":"output_text","annotations":[],"logprobs":[],"text":text});
    let call = |n: usize| json!({"id":format!("fc_{n}"),"type":"function_call","status":"completed","arguments":"{\"é\":\"\\n\"}","call_id":format!("call_{n}"),"name":"look"});
    vec![
        ("text", json!([message(json!([text("The river \"flows\"\n🦀")]))]), completed.clone()),
        (
            "several parts",
            json!([message(json!([text("a"), text("b"), {"type":"refusal","refusal":"No."}]))]),
            completed.clone(),
        ),
        (
            "a phase",
            json!([{"id":"msg_1","type":"message","status":"completed","content":[text("x")],"role":"assistant","phase":"commentary"}]),
            completed.clone(),
        ),
        ("calls", json!([message(json!([text("Let me see.")])), call(1), call(2)]), completed.clone()),
        (
            "a call of a custom tool",
            json!([{"id":"ctc_1","type":"custom_tool_call","status":"completed","input":"some words","call_id":"call_1","name":"free","namespace":"n"}]),
            completed.clone(),
        ),
        (
            "reasoning",
            json!([
                {"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Hm."},{"type":"summary_text","text":"So."}],"encrypted_content":"gAAA"},
                {"id":"rs_2","type":"reasoning","summary":[],"encrypted_content":"gBBB"},
                {"id":"rs_3","type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}],"content":[{"type":"reasoning_text","text":"Well, well."}]},
                message(json!([text("Yes.")])),
            ]),
            completed.clone(),
        ),
        (
            "citations",
            json!([message(json!([{"type":"output_text","annotations":[
                {"type":"url_citation","start_index":0,"end_index":3,"url":"https://a.example","title":"A"},
                {"type":"file_citation","index":3,"file_id":"file_1","filename":"r.pdf"}],"logprobs":[],"text":"The river"}]))]),
            completed.clone(),
        ),
        (
            "log probabilities",
            json!([message(json!([{"type":"output_text","annotations":[],"logprobs":[
                {"token":"Th","logprob":-0.1,"bytes":[84,104],"top_logprobs":[]},{"token":"e","logprob":-1e-3,"bytes":[101],"top_logprobs":[]}],"text":"The"}]))]),
            completed.clone(),
        ),
        (
            "a tool of the upstream's",
            json!([{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"rivers"}},
                message(json!([text("They flow.")])), {"id":"mcp_1","type":"mcp_call","name":"n","arguments":"{}","output":"x","server_label":"s"}]),
            completed,
        ),
        (
            "cut",
            json!([{"id":"msg_1","type":"message","status":"incomplete","content":[text("Once")],"role":"assistant"}]),
            json!({"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}),
        ),
        (
            "filtered",
            json!([{"id":"msg_1","type":"message","status":"incomplete","content":[text("Once")],"role":"assistant"}]),
            json!({"status":"incomplete","incomplete_details":{"reason":"content_filter"}}),
        ),
    ]
}

/// OpenAI's server, telling an answer.
struct Server {
    sse: String,
    sequence: u64,
}

impl Server {
    fn tells(output: &Value, how: &Value) -> String {
        let mut response = json!({
            "id": "resp_up", "object": "response", "created_at": 1_795_486_864, "status": "in_progress", "background": false,
            "error": null, "incomplete_details": null, "instructions": "Be brief.", "max_output_tokens": 9, "model": "up",
            "output": [], "parallel_tool_calls": false, "previous_response_id": null, "store": true, "temperature": 0.7,
            "text": {"format":{"type":"text"},"verbosity":"low"}, "tool_choice": "auto",
            "tools": [{"type":"function","name":"look","parameters":{},"strict":true}], "usage": null, "billing": {"payer":"x"},
        });
        let mut server = Self { sse: String::new(), sequence: 0 };
        server.event("response.created", json!({ "response": response }));
        server.event("response.in_progress", json!({ "response": response }));
        for (index, item) in output.as_array().expect("items").iter().enumerate() {
            server.item(index, item);
        }
        response["output"] = output.clone();
        response["service_tier"] = "default".into();
        response["usage"] = json!({"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":14});
        for (name, value) in how.as_object().expect("an object") {
            response[name] = value.clone();
        }
        let name = format!("response.{}", how["status"].as_str().expect("a status"));
        server.event(&name, json!({ "response": response }));
        server.sse
    }

    fn event(&mut self, kind: &str, mut data: Value) {
        data["type"] = kind.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        self.sse += &format!("event: {kind}\ndata: {data}\n\n");
    }

    /// An event of a part of an item.
    fn of(&mut self, place: &Value, kind: &str, more: Value) {
        let mut data = place.clone();
        for (name, value) in more.as_object().expect("an object") {
            data[name] = value.clone();
        }
        self.event(kind, data);
    }

    fn item(&mut self, index: usize, item: &Value) {
        let place = json!({ "item_id": item["id"], "output_index": index });
        let mut begun = item.clone();
        for (name, empty) in
            [("content", json!([])), ("summary", json!([])), ("arguments", json!("")), ("input", json!(""))]
        {
            if item.get(name).is_some() {
                begun[name] = empty;
            }
        }
        let kind = item["type"].as_str().expect("a type");
        let begun_members = begun.as_object_mut().expect("an object");
        begun_members.remove("encrypted_content");
        begun_members.remove("action");
        if kind == "reasoning" {
            begun_members.remove("content");
        }
        if begun.get("status").is_some() {
            begun["status"] = "in_progress".into();
        }
        self.event("response.output_item.added", json!({ "output_index": index, "item": begun }));
        match kind {
            "message" | "reasoning" => {
                for (n, part) in item["summary"].as_array().into_iter().flatten().enumerate() {
                    let mut place = place.clone();
                    place["summary_index"] = n.into();
                    self.part(
                        &place,
                        part,
                        "response.reasoning_summary_part",
                        "response.reasoning_summary_text",
                        "text",
                    );
                }
                for (n, part) in item["content"].as_array().into_iter().flatten().enumerate() {
                    let mut place = place.clone();
                    place["content_index"] = n.into();
                    let (name, member) = match part["type"].as_str() {
                        Some("refusal") => ("response.refusal", "refusal"),
                        Some("reasoning_text") => ("response.reasoning_text", "text"),
                        _ => ("response.output_text", "text"),
                    };
                    self.part(&place, part, "response.content_part", name, member);
                }
            }
            "function_call" => self.whole(&place, "response.function_call_arguments", "arguments", item),
            "custom_tool_call" => self.whole(&place, "response.custom_tool_call_input", "input", item),
            unknown => {
                self.of(&place, &format!("response.{unknown}.in_progress"), json!({}));
                self.of(&place, &format!("response.{unknown}.completed"), json!({ "new": [1] }));
            }
        }
        self.event("response.output_item.done", json!({ "output_index": index, "item": item }));
    }

    fn part(&mut self, place: &Value, part: &Value, around: &str, name: &str, member: &str) {
        let mut begun = part.clone();
        begun[member] = "".into();
        for list in ["annotations", "logprobs"].into_iter().filter(|list| part.get(*list).is_some()) {
            begun[list] = json!([]);
        }
        self.of(place, &format!("{around}.added"), json!({ "part": begun }));
        self.whole(place, name, member, part);
        self.of(place, &format!("{around}.done"), json!({ "part": part }));
    }

    /// A text in pieces and then whole; of a text with log probabilities each piece is a token.
    fn whole(&mut self, place: &Value, name: &str, member: &str, of: &Value) {
        let is_text = name == "response.output_text";
        let tokens = of["logprobs"].as_array().filter(|tokens| !tokens.is_empty());
        let text = of[member].as_str().expect("text");
        let pieces: Vec<(String, Value)> = match tokens {
            Some(tokens) => tokens
                .iter()
                .map(|token| (token["token"].as_str().expect("a token").to_owned(), json!([token])))
                .collect(),
            None => text.split_inclusive(' ').map(|piece| (piece.to_owned(), json!([]))).collect(),
        };
        for (piece, logprobs) in pieces {
            let mut delta = json!({ "delta": piece });
            if is_text {
                delta["logprobs"] = logprobs;
                delta["obfuscation"] = "xxx".into();
            }
            self.of(place, &format!("{name}.delta"), delta);
        }
        for (n, annotation) in of["annotations"].as_array().into_iter().flatten().enumerate() {
            let added = json!({ "annotation_index": n, "annotation": annotation });
            self.of(place, "response.output_text.annotation.added", added);
        }
        let mut done = json!({});
        done[member] = text.into();
        if is_text {
            done["logprobs"] = of["logprobs"].clone();
        }
        self.of(place, &format!("{name}.done"), done);
    }
}

/// The answers of upstreams as server-sent events, each with its name.
fn upstreams() -> Vec<(String, String)> {
    shown().into_iter().map(|(name, output, how)| (name.to_owned(), Server::tells(&output, &how))).collect()
}

/// Those that were recorded; they leave out members.
fn captured() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let paths = fs::read_dir(folder).expect("captures").map(|entry| entry.expect("an entry").path());
    let paths = paths.filter(|path| path.to_string_lossy().ends_with(".responses.sse"));
    paths.map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("text"))).collect()
}

/// The data of each event.
fn data(sse: &str) -> Vec<Value> {
    let frames = frames([sse.as_bytes()]).into_iter();
    let parsed = frames.map(|(name, data)| {
        let data: Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(data["type"], name);
        data
    });
    parsed.collect()
}

/// The events without what is each one's own: ids of the response, times, numbers, padding. The first event is told before the upstream
/// has said anything, and its response is lastword's.
fn comparable(sse: &str) -> Vec<Value> {
    let mut events = data(sse);
    for (n, event) in events.iter_mut().enumerate() {
        let members = event.as_object_mut().expect("an object");
        assert_eq!(members.remove("sequence_number"), Some(n.into()));
        members.remove("obfuscation");
        if n == 0 {
            members.remove("response");
        }
        if let Some(response) = members.get_mut("response") {
            let response = response.as_object_mut().expect("an object");
            for own in ["id", "created_at", "completed_at", "model"] {
                response.remove(own);
            }
        }
    }
    events
}

/// What a client has when it has added up all events: the items from their pieces, and the response that it is given in the end.
fn added_up(sse: &str) -> (Vec<Value>, Value) {
    let mut items: Vec<Value> = Vec::new();
    for event in data(sse) {
        // A server with one item may leave out its index.
        let n = event["output_index"].as_u64().unwrap_or(0) as usize;
        let index = |name: &str| event[name].as_u64().unwrap_or(0) as usize;
        let (content, summary) = (index("content_index"), index("summary_index"));
        let more = event["delta"].as_str().unwrap_or_default();
        let add = |text: &mut Value| *text = (text.as_str().unwrap_or_default().to_owned() + more).into();
        let push = |list: &mut Value, part: &Value| match list.as_array_mut() {
            Some(list) => list.push(part.clone()),
            None => *list = json!([part]),
        };
        match event["type"].as_str().expect("a type") {
            "response.output_item.added" => items.push(event["item"].clone()),
            "response.content_part.added" => push(&mut items[n]["content"], &event["part"]),
            "response.reasoning_summary_part.added" => push(&mut items[n]["summary"], &event["part"]),
            "response.output_text.delta" => {
                let part = &mut items[n]["content"][content];
                add(&mut part["text"]);
                event["logprobs"].as_array().into_iter().flatten().for_each(|token| push(&mut part["logprobs"], token));
            }
            "response.output_text.annotation.added" => {
                push(&mut items[n]["content"][content]["annotations"], &event["annotation"]);
            }
            "response.refusal.delta" => add(&mut items[n]["content"][content]["refusal"]),
            "response.reasoning_text.delta" => add(&mut items[n]["content"][content]["text"]),
            "response.reasoning_summary_text.delta" => add(&mut items[n]["summary"][summary]["text"]),
            "response.function_call_arguments.delta" => add(&mut items[n]["arguments"]),
            "response.custom_tool_call_input.delta" => add(&mut items[n]["input"]),
            "response.output_item.done" => {
                let told = |item: &Value| json!([item["content"], item["summary"], item["arguments"], item["input"]]);
                let known = matches!(
                    event["item"]["type"].as_str(),
                    Some("message" | "reasoning" | "function_call" | "custom_tool_call")
                );
                if known && event.get("output_index").is_some() {
                    assert_eq!(told(&items[n]), told(&event["item"]), "the pieces are the whole");
                }
                items[n] = event["item"].clone();
            }
            _ => {}
        }
    }
    let last = data(sse).pop().expect("an end")["response"].take();
    (items, last)
}

/// The frames of an upstream's bytes, as they come in these pieces: the name of each, and its data.
fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, String)> {
    let mut parser = Parser::new(1 << 20).error_field();
    let mut all = Vec::new();
    for piece in pieces {
        let mut frames = parser.feed(piece);
        while let Some(frame) = frames.next().expect("short lines") {
            all.push((frame.event.to_owned(), frame.data.to_owned()));
        }
    }
    all
}

/// The events that they mean.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event<'static>> {
    let (mut decode, mut events) = (ResponsesDecode::default(), Vec::new());
    for (name, data) in frames(pieces) {
        decode.frame(&name, &data, &mut events).expect("an event");
    }
    decode.finish(&mut events).expect("whole");
    events
}

/// What lastword tells of these events, in frames and whole.
fn told(events: &[Event<'_>]) -> (String, Value) {
    let envelope = Envelope::new(StreamId::new(), 0, "m", None);
    let mut encode = ResponsesEncode::new(envelope.clone());
    let mut retell = encode.retell().expect("a fold");
    let mut whole = ResponseObject::new(envelope);
    let attempt = Event::Attempt(Attempt { protocol: "responses".into(), ..Attempt::default() });
    let end = Event::End(End { status: Status::Completed, reason: reason(events), usage: None, error: None });
    let mut sse = BytesMut::new();
    for (cursor, event) in (1..).map(Cursor).zip([&attempt].into_iter().chain(events).chain([&end])) {
        let mut bytes = BytesMut::new();
        if write(&mut bytes, 0, event).is_none() {
            continue;
        }
        let record = Record::parse(&bytes).expect("a record");
        let shared = retell.take(cursor, &record);
        match encode.repeats(&record) {
            Some(_) => {
                encode.skip(&record);
                shared.expect("frames").iter().for_each(|frame| sse.extend_from_slice(&frame.to_vec()));
            }
            None => encode.encode(cursor, &record, &mut sse),
        }
        whole.fold(&record);
    }
    let whole = serde_json::from_slice(&whole.finish().expect("whole")).expect("JSON");
    (String::from_utf8(sse.to_vec()).expect("UTF-8"), whole)
}

/// As the supervisor takes it over from the model's.
fn reason(events: &[Event<'_>]) -> Option<lastword::event::Reason> {
    events.iter().find_map(|event| match event {
        Event::Finish(_, finish) => finish.reason,
        _ => None,
    })
}

/// The events but the signs of life, and the members of the response object apart, since there lastword fills in what is missing.
fn apart(events: Vec<Event<'static>>) -> (Vec<Event<'static>>, Value) {
    let mut members = json!({});
    let rest = events.into_iter().filter(|event| match event {
        Event::Alive => false,
        Event::Opaque(opaque) if opaque.name == "response" => {
            let told: Value = serde_json::from_str(opaque.json.get()).expect("JSON");
            told.as_object().expect("an object").iter().for_each(|(name, value)| members[name] = value.clone());
            false
        }
        _ => true,
    });
    (rest.collect(), members)
}

#[test]
fn each_event_is_the_upstreams_own() {
    for (name, upstream) in upstreams() {
        let (sse, whole) = told(&decoded([upstream.as_bytes()]));
        let (ours, mut theirs) = (comparable(&sse), comparable(&upstream));
        for (ours, theirs) in ours.iter().zip(&mut theirs) {
            // What lastword fills in is beside what the upstream says.
            for (name, value) in ours["response"].as_object().into_iter().flatten() {
                let known = theirs["response"].get(name).is_some();
                if !known {
                    theirs["response"][name] = value.clone();
                }
            }
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours.len(), theirs.len(), "{name}");
        assert_eq!(data(&sse).pop().expect("an end")["response"], whole, "{name}");
    }
}

#[test]
fn a_client_adds_up_what_the_upstream_said() {
    for (name, upstream) in upstreams().into_iter().chain(captured()) {
        let (items, response) = added_up(&upstream);
        let (sse, whole) = told(&decoded([upstream.as_bytes()]));
        let (our_items, our_response) = added_up(&sse);
        assert_eq!(our_items, items, "{name}");
        for member in ["output", "usage", "status"] {
            assert_eq!(our_response[member], response[member], "{name}");
        }
        assert_eq!(whole["output"], response["output"], "{name}");
    }
}

#[test]
fn what_was_told_is_understood_as_what_was_meant() {
    for (name, upstream) in upstreams().into_iter().chain(captured()) {
        let events = decoded([upstream.as_bytes()]);
        let again = decoded([told(&events).0.as_bytes()]);
        let ((events, members), (again, more)) = (apart(events), apart(again));
        assert_eq!(again, events, "{name}");
        for (member, value) in members.as_object().expect("an object") {
            assert_eq!(&more[member], value, "{name}: {member}");
        }
    }
}

/// Events are made of whole frames, so it is these that must not depend on how the bytes came.
#[test]
fn every_split_of_an_answer_gives_the_same_events() {
    for (name, upstream) in upstreams().into_iter().chain(captured()) {
        let bytes = upstream.as_bytes();
        let whole = frames([bytes]);
        for cut in 0..=bytes.len() {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(frames([left, right]), whole, "{name}, cut at byte {cut}");
        }
        let events = decoded([bytes]);
        assert!(
            events.len() > 6 && events.iter().any(|event| matches!(event, Event::Finish(..))),
            "{name}: {events:?}"
        );
        assert_eq!(decoded(bytes.chunks(1)), events, "{name}, byte by byte");
    }
}
