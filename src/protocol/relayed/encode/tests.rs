//! Bytes of applications, recorded and told again: to the byte, behind every cursor, and when they break off.

use super::*;
use crate::{
    event::{Begin, Failure},
    protocol::{DecodeError, relayed::RelayDecode, understood::Understood},
    record::write,
};

const STREAM: &str = "0199c2f9e96a73189eefcb6605ecdbc2";

/// The log of an answer of which the bytes came in these pieces, and how it ended.
fn log(pieces: &[&[u8]], speaks: Option<Dialect>) -> (Vec<BytesMut>, Result<(), DecodeError>) {
    let mut decode = RelayDecode::new(1 << 20, speaks);
    let mut events = vec![Event::Begin(Begin::default())];
    pieces.iter().for_each(|piece| decode.feed(piece, &mut events).expect("short"));
    let outcome = decode.finish(&mut events);
    let error = |message: String| Failure { message, ..Failure::default() };
    let status = if outcome.is_ok() { Status::Completed } else { Status::Failed };
    let error = outcome.as_ref().err().map(|why| error(why.to_string()));
    events.push(Event::End(End { status, reason: None, usage: None, error }));
    let record = |event: &Event<'_>| {
        let mut out = BytesMut::new();
        write(&mut out, 0, event);
        out
    };
    (events.iter().map(record).collect(), outcome)
}

/// What a reader gets that has the records up to `after`, or so many messages.
fn told(log: &[BytesMut], after: usize, seen: u64) -> (Vec<u8>, bool) {
    let mut encoder = Relayed::new(STREAM.parse().expect("an id"));
    encoder.mute(seen);
    let mut out = BytesMut::new();
    for (n, bytes) in log.iter().enumerate() {
        let record = Record::parse(bytes).expect("a record");
        match n < after {
            true => encoder.skip(&record),
            false => encoder.encode(Cursor(n as u64 + 1), &record, &mut out),
        }
    }
    (out.to_vec(), encoder.broken())
}

/// Without lastword's ids.
fn without_ours(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let marks = format!("id: {STREAM}-");
    let mut rest = bytes;
    while let Some(at) = rest.windows(marks.len()).position(|window| window == marks.as_bytes()) {
        out.extend_from_slice(&rest[..at]);
        let line = rest[at..].iter().position(|byte| *byte == b'\n').expect("a line");
        rest = &rest[at + line + 1..];
    }
    out.extend_from_slice(rest);
    out
}

const AI_SDK: &str = "data: {\"type\":\"start\"}\n\ndata: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"The \\\"river\\\"\"}\n\ndata: {\"type\":\"finish\"}\n\ndata: [DONE]\n\n";
const CHAT: &str = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"The\"}}]}\n\ndata: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n";

/// The application's bytes, and what it speaks.
fn answers() -> Vec<(&'static str, Vec<u8>, Option<Dialect>)> {
    let text = |name, text: &str, speaks| (name, text.as_bytes().to_vec(), speaks);
    let mut rubbish = b"data: ".to_vec();
    rubbish.extend((0..=255).filter(|byte| !b"\r\n".contains(byte)));
    rubbish.extend_from_slice(b"\n\nev\xff: \x00\n\n\xf0\x9f\ndata: b\n\nevent: a\0b\ndata: c\n\n");
    vec![
        text("ai sdk", AI_SDK, Some(Dialect::AiSdk)),
        text("chat", CHAT, None),
        text("plain", "data: a\n\ndata:b\n\ndata: c\n\n", None),
        text("named", "event: token\ndata: a\n\nevent: message\ndata: b\n\ndata: c\nevent: late\n\n", None),
        text("comments", ": hi\n\n: there\ndata: a\n\n: in between\n\ndata: b\n: within\n\n: behind\n\n", None),
        text("retry", "retry: 100\n\ndata: a\nretry: 5\n\n", None),
        text("CRLF", "data: a\r\n\r\nevent: x\r\ndata: b\r\n\r\n", None),
        text("CR", "data: a\r\rdata: b\r\r", None),
        text("several lines", "data: a\ndata: b\ndata\ndata:\n\ndata\n\ndata: c\n\n", None),
        text("BOM", "\u{feff}data: a\n\ndata: b\n\n", None),
        text("half an event", "data: a\n\ndata: b\n", None),
        ("rubbish", rubbish, None),
    ]
}

#[test]
fn the_bytes_are_the_applications_wherever_they_came_apart() {
    for (name, bytes, speaks) in answers() {
        for cut in 0..=bytes.len() {
            let (log, outcome) = log(&[&bytes[..cut], &bytes[cut..]], speaks);
            assert_eq!(outcome, Ok(()), "{name}");
            let (told, broken) = told(&log, 0, 0);
            let ours = without_ours(&told);
            assert!(
                ours == bytes && !broken,
                "{name}, cut at {cut}:\n{:?}\n{:?}",
                ours.escape_ascii().to_string(),
                bytes.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn what_never_ends_is_an_error_and_not_kept_for_ever() {
    for endless in ["data: x\n", ": x\n\n", "retry: 1\n\n"] {
        let mut decode = RelayDecode::new(100, None);
        let fed = (0..100).map(|_| decode.feed(endless.as_bytes(), &mut Vec::new())).find(Result::is_err);
        assert!(matches!(fed, Some(Err(DecodeError::Malformed(why))) if why.contains("max_line")), "{endless}");
    }
}

#[test]
fn its_ids_are_ours_and_recorded_beside() {
    let (log, _) = log(&[b"id: 7\ndata: a\n\ndata: b\nid\nid:x\n\nidle: c\ndata: d\n\n"], None);
    let (bytes, _) = told(&log, 0, 0);
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert_eq!(
        text,
        format!("data: a\nid: {STREAM}-3\n\ndata: b\nid: {STREAM}-4\n\nidle: c\ndata: d\nid: {STREAM}-5\n\n")
    );
    let ids = log.iter().filter_map(|bytes| match Record::parse(bytes).expect("a record").event().expect("an event") {
        Event::Custom(custom) => Some(custom.id.unwrap_or_default()),
        _ => None,
    });
    assert_eq!(ids.collect::<Vec<_>>(), ["7", "x", ""]);
}

#[test]
fn a_replay_from_any_cursor_and_behind_any_message_is_the_tail_of_the_whole() {
    for (name, bytes, speaks) in answers() {
        let (log, _) = log(&[&bytes], speaks);
        let (whole, _) = told(&log, 0, 0);
        for after in 0..=log.len() {
            assert!(whole.ends_with(&told(&log, after, 0).0), "{name}, after {after}");
        }
        let mut encoder = Relayed::new(STREAM.parse().expect("an id"));
        log.iter().for_each(|bytes| encoder.skip(&Record::parse(bytes).expect("a record")));
        for seen in 0..=encoder.number() {
            let mut encoder = Relayed::new(STREAM.parse().expect("an id"));
            encoder.mute(seen);
            let mut records = log.iter().map(|bytes| Record::parse(bytes).expect("a record"));
            let first = records.position(|record| !encoder.skip_seen(&record)).expect("the end");
            assert!(whole.ends_with(&told(&log, first, seen).0), "{name}, behind {seen}");
            assert_eq!(encoder.number(), seen, "{name}");
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_ended_in_the_applications_own_words() {
    let tail = |bytes: &str, speaks| {
        let (log, outcome) = log(&[bytes.as_bytes()], speaks);
        assert!(outcome.is_err(), "{bytes}");
        let (told, broken) = told(&log, 0, 0);
        (String::from_utf8(without_ours(&told)).expect("UTF-8"), broken)
    };
    for cut in 1..AI_SDK.find("data: {\"type\":\"finish\"").expect("a finish") {
        let (told, broken) = tail(&AI_SDK[..cut], Some(Dialect::AiSdk));
        assert!(told.ends_with("data: {\"type\":\"finish\"}\n\ndata: [DONE]\n\n") && !broken, "{told}");
        assert!(
            told.contains(
                "data: {\"errorText\":\"the upstream's answer ended without its terminal mark\",\"type\":\"error\"}\n\n"
            ),
            "{told}"
        );
    }
    let (told, _) = tail(&CHAT[..CHAT.find("\n\n").expect("a frame") + 9], None);
    assert!(told.contains("data: {\"error\":{\"message\":") && told.ends_with("data: [DONE]\n\n"), "{told}");
    let (told, _) = tail("event: message_start\ndata: {\"type\":\"message_start\"}\n\n", None);
    assert!(told.contains("event: error\ndata: {\"type\":\"error\""), "{told}");
    let (told, _) = tail("event: response.created\ndata: {\"type\":\"response.created\"}\n\n", None);
    assert!(told.contains("event: response.failed\ndata: ") && told.contains("\"sequence_number\":1"), "{told}");
}

#[test]
fn an_application_that_says_itself_that_it_failed_is_not_contradicted() {
    let bytes = "data: {\"type\":\"start\"}\n\ndata: {\"type\":\"error\",\"errorText\":\"no tea\"}\n\ndata: [DONE]\n\n";
    let (log, outcome) = log(&[bytes.as_bytes()], Some(Dialect::AiSdk));
    assert_eq!(outcome.expect_err("a fault").to_string(), "no tea");
    let (told, broken) = told(&log, 0, 0);
    assert_eq!((String::from_utf8(without_ours(&told)).expect("UTF-8"), broken), (bytes.to_owned(), false));
}

#[test]
fn who_counts_until_there_is_a_finish_is_told_one() {
    let rest = |bytes: &str, speaks, seen| {
        let (told, broken) = told(&log(&[bytes.as_bytes()], speaks).0, 0, seen);
        assert!(!broken);
        String::from_utf8(without_ours(&told)).expect("UTF-8")
    };
    let (done, finish) = ("data: [DONE]\n\n", "data: {\"type\":\"finish\"}\n\n");
    let failed =
        format!("data: {{\"type\":\"start\"}}\n\ndata: {{\"type\":\"error\",\"errorText\":\"no tea\"}}\n\n{done}");
    assert_eq!(rest(&failed, Some(Dialect::AiSdk), 2), format!("{done}{finish}"));
    let silent = format!("data: {{\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"The\"}}\n\n{done}");
    assert_eq!(rest(&silent, Some(Dialect::AiSdk), 1), format!("{done}{finish}"));
    assert_eq!(rest(AI_SDK, Some(Dialect::AiSdk), 2), format!("{finish}{done}"), "one is enough");
    assert_eq!(rest(CHAT, None, 2), done);
}

#[test]
fn what_is_not_understood_can_only_be_broken_off() {
    let (mut log, _) = log(&[b"data: a\n\n"], None);
    let mut end = BytesMut::new();
    write(&mut end, 0, &Event::End(End { status: Status::Interrupted, reason: None, usage: None, error: None }));
    *log.last_mut().expect("an end") = end;
    assert!(told(&log, 0, 0).1);
}

#[test]
fn what_it_said_is_understood() {
    for (bytes, speaks, expected) in [(AI_SDK, Some(Dialect::AiSdk), "The \"river\""), (CHAT, None, "The")] {
        let (log, _) = log(&[bytes.as_bytes()], speaks);
        let (mut understood, mut text) = (Understood::default(), String::new());
        for bytes in &log {
            understood.take(&Record::parse(bytes).expect("a record"), |event| {
                if let Event::Delta(_, delta) = event {
                    text.push_str(&delta.text);
                }
            });
        }
        assert_eq!(text, expected);
        let kinds: Vec<_> = log.iter().map(|bytes| Record::parse(bytes).expect("a record").head.kind).collect();
        assert!(kinds.contains(&Kind::Finish), "{kinds:?}");
    }
}
