//! Records of all sorts as chunks: on the first connection, behind every cursor and behind every chunk.

use super::*;
use crate::{
    event::{
        Annotation, At, Begin, Custom, Delta, End, Event, Failure, Finish, Json, Media, Notice, Opaque, PartStart,
        PartStop, PartType, Reason, Status, Tool,
    },
    protocol::{
        Decode,
        ai_sdk::{AiSdkDecode, NAME},
    },
    record::write,
    wire::sse::Parser,
};

fn at(part: u16, of: PartType) -> At {
    At { choice: 0, part, of }
}

fn delta(part: u16, of: PartType, text: &'static str) -> Event<'static> {
    Event::Delta(at(part, of), Delta { text: text.into(), logprobs: None })
}

fn start(part: u16, of: PartType) -> Event<'static> {
    let tool = Tool { call_id: Some("c1".to_owned()), name: Some("look".to_owned()), kind: None };
    let tool = (of == PartType::ToolCall).then_some(tool);
    Event::PartStart(at(part, of), PartStart { r#type: of, tool, ..PartStart::default() })
}

fn stop(part: u16, of: PartType) -> Event<'static> {
    Event::PartStop(at(part, of), PartStop::default())
}

fn end(status: Status) -> Event<'static> {
    let error = Failure { message: "it broke".to_owned(), ..Failure::default() };
    Event::End(End { status, reason: None, usage: None, error: (status == Status::Failed).then_some(error) })
}

fn records(events: &[Event<'_>]) -> Vec<BytesMut> {
    let record = |event: &Event<'_>| {
        let mut out = BytesMut::new();
        write(&mut out, 0, event);
        out
    };
    events.iter().map(record).collect()
}

fn all_sorts() -> Vec<BytesMut> {
    use PartType::{Reasoning, Text, ToolCall};
    let begin = Event::Begin(Begin { protocol: NAME.into(), ..Begin::default() });
    let json = serde_json::from_str(r#"{"message_id":"m7"}"#).expect("JSON");
    let known = serde_json::from_str(r#"{"type":"message-metadata","messageMetadata":{"a":1.50}}"#).expect("JSON");
    let media =
        Media { url: Some("https://h/a.png".to_owned()), media_type: Some("image/png".to_owned()), ..Media::default() };
    let source = Annotation { url: Some("https://h".to_owned()), title: Some("H".to_owned()), ..Annotation::default() };
    records(&[
        begin,
        Event::Opaque(Opaque { protocol: NAME.into(), name: "request".to_owned(), json }),
        start(0, Reasoning),
        delta(0, Reasoning, "hm\n"),
        stop(0, Reasoning),
        start(1, Text),
        delta(1, Text, "The"),
        delta(1, Text, " \"river\""),
        Event::Annotation(at(1, Text), source),
        stop(1, Text),
        Event::Media(at(2, PartType::Media), media),
        start(3, ToolCall),
        delta(3, ToolCall, "{\"at\":"),
        delta(3, ToolCall, "\n1.50}"),
        stop(3, ToolCall),
        Event::Notice(Notice { kind: "retry".into(), message: None }),
        Event::Custom(Custom { name: "place".to_owned(), data: "{\"x\":1}".to_owned(), ..Custom::default() }),
        Event::Opaque(Opaque { protocol: NAME.into(), name: "message-metadata".to_owned(), json: known }),
        Event::Opaque(Opaque { protocol: "chat".into(), name: "other".to_owned(), json: Json::default() }),
        Event::Finish(0, Finish { reason: Some(Reason::ToolCalls), ..Finish::default() }),
        end(Status::Completed),
    ])
}

const STREAM: &str = "0199c2f9e96a73189eefcb6605ecdbc2";

fn encoder(version: Version) -> AiSdkEncode {
    AiSdkEncode::new(STREAM.parse().expect("an id"), version)
}

/// What a reader gets that has the records up to `after`, or so many chunks.
fn told(log: &[BytesMut], version: Version, after: usize, chunks: u64) -> String {
    let mut encoder = encoder(version);
    encoder.mute(chunks);
    let mut retell = encoder.retell().expect("what is told once");
    let mut out = BytesMut::new();
    for (n, bytes) in log.iter().enumerate() {
        let (cursor, record) = (Cursor(n as u64 + 1), Record::parse(bytes).expect("a record"));
        let shared = retell.take(cursor, &record);
        if n < after {
            encoder.skip(&record);
            continue;
        }
        match encoder.repeats(&record) {
            Some(seen) => {
                encoder.skip(&record);
                shared.expect("frames").into_iter().skip(seen).for_each(|rope| out.extend_from_slice(&rope.to_vec()));
            }
            None => encoder.encode(cursor, &record, &mut out),
        }
    }
    String::from_utf8(out.to_vec()).expect("UTF-8")
}

fn chunks(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

#[test]
fn an_answer_of_all_sorts_is_told_in_the_words_of_5_0_0() {
    let told = chunks(&told(&all_sorts(), Version::Five, 0, 0)).join("\n");
    insta::assert_snapshot!(told, @r#"
    {"messageId":"m7","type":"start"}
    {"type":"start-step"}
    {"id":"0","type":"reasoning-start"}
    {"type":"reasoning-delta","id":"0","delta":"hm\n"}
    {"id":"0","type":"reasoning-end"}
    {"id":"1","type":"text-start"}
    {"type":"text-delta","id":"1","delta":"The"}
    {"type":"text-delta","id":"1","delta":" \"river\""}
    {"sourceId":"source-0","title":"H","type":"source-url","url":"https://h"}
    {"id":"1","type":"text-end"}
    {"mediaType":"image/png","type":"file","url":"https://h/a.png"}
    {"toolCallId":"c1","toolName":"look","type":"tool-input-start"}
    {"type":"tool-input-delta","toolCallId":"c1","inputTextDelta":"{\"at\":"}
    {"type":"tool-input-delta","toolCallId":"c1","inputTextDelta":"\n1.50}"}
    {"type":"tool-input-available","toolCallId":"c1","toolName":"look","input":{"at": 1.50}}
    {"data":{"kind":"retry"},"transient":true,"type":"data-notice"}
    {"type":"data-place","data":{"x":1}}
    {"type":"message-metadata","messageMetadata":{"a":1.50}}
    {"type":"finish-step"}
    {"type":"finish"}
    [DONE]
    "#);
}

#[test]
fn newer_pages_are_told_why_it_is_over() {
    let told = told(&all_sorts(), Version::Six, 0, 0);
    assert!(told.contains(r#"{"finishReason":"tool-calls","type":"finish"}"#), "{told}");
}

#[test]
fn a_replay_from_any_cursor_and_behind_any_chunk_is_the_tail_of_the_whole() {
    let log = all_sorts();
    let whole = told(&log, Version::Five, 0, 0);
    for after in 0..=log.len() {
        assert!(whole.ends_with(&told(&log, Version::Five, after, 0)), "after {after}");
    }
    let all = chunks(&whole);
    for seen in 0..all.len() {
        assert_eq!(chunks(&told(&log, Version::Five, 0, seen as u64)), all[seen..], "{seen} chunks");
    }
}

#[test]
fn a_record_of_which_all_was_seen_is_skipped_and_no_other() {
    let log = all_sorts();
    let all = chunks(&told(&log, Version::Five, 0, 0)).len() as u64 - 1;
    for seen in 0..=all {
        let mut encoder = encoder(Version::Five);
        encoder.mute(seen);
        let mut records = log.iter().map(|bytes| Record::parse(bytes).expect("a record"));
        let first = records.position(|record| !encoder.skip_seen(&record));
        let first = first.expect("the end is never skipped: it has words behind its last chunk");
        assert!(encoder.number() <= seen);
        assert_eq!(chunks(&told(&log, Version::Five, first, seen)), chunks(&told(&log, Version::Five, 0, seen)));
    }
}

#[test]
fn runs_count_as_their_records_do() {
    let mut log = records(&[Event::Begin(Begin::default())]);
    log.extend((0..5).map(|_| records(&[delta(0, PartType::Text, "x")]).remove(0)));
    let [mut one, mut run] = [encoder(Version::Five), encoder(Version::Five)];
    log.iter().for_each(|bytes| one.skip(&Record::parse(bytes).expect("a record")));
    run.skip(&Record::parse(&log[0]).expect("a record"));
    run.skip_run(&Record::parse(&log[1]).expect("a record"), 5);
    assert_eq!((one.number(), run.number()), (2 + 1 + 5, 2 + 1 + 5));
}

#[test]
fn what_goes_wrong_is_told_and_ends_for_those_who_wait_for_a_finish() {
    let tail = |status, version| {
        let log = records(&[Event::Begin(Begin::default()), delta(0, PartType::Text, "x"), end(status)]);
        chunks(&told(&log, version, 2, 0)).join("\n")
    };
    insta::assert_snapshot!(tail(Status::Failed, Version::Five), @r#"
    {"errorText":"it broke","type":"error"}
    {"type":"finish"}
    [DONE]
    "#);
    insta::assert_snapshot!(tail(Status::Interrupted, Version::Six), @r#"
    {"errorText":"the answer is not whole","type":"error"}
    {"finishReason":"error","type":"finish"}
    [DONE]
    "#);
    insta::assert_snapshot!(tail(Status::Cancelled, Version::Five), @r#"
    {"type":"abort"}
    {"type":"finish"}
    [DONE]
    "#);
}

#[test]
fn an_input_that_was_cut_off_is_no_input() {
    let call = PartType::ToolCall;
    let log = records(&[Event::Begin(Begin::default()), start(0, call), delta(0, call, "{\"a"), stop(0, call)]);
    let last = |version| chunks(&told(&log, version, 3, 0)).remove(0);
    assert_eq!(
        last(Version::Five),
        r#"{"type":"tool-input-available","toolCallId":"c1","toolName":"look","input":"{\"a"}"#
    );
    assert!(last(Version::Six).contains(r#""type":"tool-input-error""#));
}

/// `decode ∘ encode` loses nothing that this protocol has a word for, and does it again to what it gave.
#[test]
fn what_is_written_is_read_again() {
    let decoded = |text: &str| {
        let (mut decode, mut events) = (AiSdkDecode::default(), Vec::new());
        let mut parser = Parser::new(1 << 20);
        let mut frames = parser.feed(text.as_bytes());
        while let Ok(Some(frame)) = frames.next() {
            decode.frame(frame.event, frame.data, &mut events).expect("a chunk");
        }
        assert!(decode.done());
        events
    };
    let events = decoded(&told(&all_sorts(), Version::Six, 0, 0));
    let texts: String = events
        .iter()
        .filter_map(|event| match event {
            Event::Delta(at, delta) if at.of == PartType::Text => Some(delta.text.as_ref()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, "The \"river\"");
    let mut log = records(&[Event::Begin(Begin::default())]);
    log.extend(records(&events));
    log.extend(records(&[end(Status::Completed)]));
    assert_eq!(decoded(&told(&log, Version::Six, 0, 0)), events);
}

#[test]
fn an_answer_without_its_finish_is_truncated() {
    let mut decode = AiSdkDecode::default();
    let mut events = Vec::new();
    decode.frame("message", r#"{"type":"text-delta","id":"0","delta":"x"}"#, &mut events).expect("a chunk");
    assert!(decode.finish(&mut events).is_err());
    decode.frame("message", r#"{"type":"finish"}"#, &mut events).expect("a chunk");
    assert!(decode.whole() && decode.finish(&mut events).is_ok());
    let error = AiSdkDecode::default().frame("message", r#"{"type":"error","errorText":"no"}"#, &mut Vec::new());
    assert_eq!(error.expect_err("an error").to_string(), "no");
}
