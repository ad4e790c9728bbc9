//! The event stream parser and writer from outside: the cases collected from the standard and its
//! test suite, the independence of how bytes are cut, a second parser, and the way there and back.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "reference/sse.rs"]
mod reference;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use lastword::wire::sse::{EventId, HEARTBEAT, Parser, TooLong, write_event};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reference::Reading;

const LIMIT: usize = 2 << 20;

/// What the parser makes of the chunks, up to the error if there is one.
fn read<'a>(mut parser: Parser, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Reading, Result<(), TooLong>) {
    let mut reading = Reading::default();
    let mut outcome = Ok(());
    for chunk in chunks {
        let mut frames = parser.feed(chunk);
        outcome = loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    reading.events.push((frame.event.to_owned(), frame.data.to_owned(), frame.last_event_id.to_owned()))
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
    }
    parser.last_event_id().clone_into(&mut reading.last_event_id);
    reading.retry = parser.retry();
    (reading, outcome)
}

/// The reading of a stream that stays within the limit.
fn read_all<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let (reading, outcome) = read(Parser::new(LIMIT), chunks);
    outcome.unwrap();
    reading
}

#[derive(serde::Deserialize)]
struct Case {
    id: String,
    note: String,
    bytes_base64: String,
    events: Vec<CaseEvent>,
    cursor: String,
    retry_ms: Option<u64>,
}

#[derive(serde::Deserialize)]
struct CaseEvent {
    r#type: String,
    data: String,
    last_event_id: String,
}

#[test]
fn every_case_reads_the_same_whole_cut_anywhere_and_byte_by_byte() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("sse-cases.json")).unwrap();
    assert_eq!(cases.len(), 45);
    for case in cases {
        let name = format!("{}: {}", case.id, case.note);
        let bytes = STANDARD.decode(&case.bytes_base64).unwrap();
        let events = case.events.into_iter();
        let expected = Reading {
            events: events.map(|event| (event.r#type, event.data, event.last_event_id)).collect(),
            last_event_id: case.cursor,
            retry: case.retry_ms,
        };
        assert_eq!(reference::read(&bytes), expected, "{name}, the reference");
        assert_eq!(read_all([&bytes[..]]), expected, "{name}, whole");
        assert_eq!(read_all(bytes.chunks(1)), expected, "{name}, byte by byte");
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(read_all([head, tail]), expected, "{name}, cut at {at}");
        }
    }
}

/// Bytes that look like an event stream, in no sensible order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    #[rustfmt::skip]
    const SCRAPS: &[&[u8]] = &[
        b"data", b"data:", b"data: ", b"event:", b"event: x", b"id", b"id:", b"id: 7", b"id: \0",
        b"retry:", b"retry: 10", b"error: ", b"error:{}", b"unknown: 1", b":", b" ", b"\t", b"\0",
        b"\n", b"\n", b"\n\n", b"\n\n", b"\r", b"\r\r", b"\r\n", b"\r\n\r\n", b"a", b"1",
        // A BOM, two characters, what is left of them when cut, and bytes that are never UTF-8.
        b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xbf", b"\xe2\x82\xac", b"\xe2\x82",
        b"\xf0\x9f\x98\x80", b"\xf0\x9f\x98", b"\xff", b"\xc0\xaf",
    ];
    vec(select(SCRAPS), 0..60).prop_map(|scraps| scraps.concat())
}

/// A stream and the sizes into which to cut it, used again and again.
fn cut() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    (prop_oneof![soup(), vec(any::<u8>(), 0..200)], vec(0..12_usize, 1..8))
}

fn chunks<'a>(mut bytes: &'a [u8], sizes: &'a [usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle().take(16 * bytes.len()) {
        let (head, tail) = bytes.split_at(bytes.len().min(*size));
        chunks.push(head);
        bytes = tail;
    }
    chunks.push(bytes);
    chunks
}

/// Text of several lines, with every line end and a leading space likely.
fn text() -> impl Strategy<Value = String> {
    let scraps = select(&["\n", "\r", "\r\n", " ", ":", "data: x", "é", "\u{feff}", "\0", "a"][..]);
    prop_oneof![vec(scraps, 0..12).prop_map(|scraps| scraps.concat()), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn how_the_bytes_are_cut_makes_no_difference((bytes, sizes) in cut()) {
        prop_assert_eq!(read_all(chunks(&bytes, &sizes)), read_all([&bytes[..]]));
    }

    #[test]
    fn nor_does_it_with_a_small_limit_and_the_error_field(
        (bytes, sizes) in cut(),
        limit in 0..40_usize,
    ) {
        let parser = || Parser::new(limit).error_field();
        prop_assert_eq!(read(parser(), chunks(&bytes, &sizes)), read(parser(), [&bytes[..]]));
    }

    #[test]
    fn the_reference_agrees(bytes in prop_oneof![soup(), vec(any::<u8>(), 0..200)]) {
        prop_assert_eq!(read_all([&bytes[..]]), reference::read(&bytes));
    }

    #[test]
    fn what_was_written_is_read_back(
        name in proptest::option::of("[^\r\n\0]{1,12}"),
        data in text().prop_filter("events have data", |data| !data.is_empty()),
        retry in any::<Option<u32>>(),
        prefix in proptest::option::of("[0-9A-Za-z._~-]{0,40}"),
        n in any::<Option<u64>>(),
    ) {
        let id = n.map(|n| EventId { prefix: prefix.as_deref(), n, within: 0 });
        let mut out = BytesMut::from(HEARTBEAT);
        write_event(&mut out, name.as_deref(), data.as_bytes(), retry, id);
        out.extend_from_slice(HEARTBEAT);

        let last_event_id = match (prefix, n) {
            (_, None) => String::new(),
            (None, Some(n)) => n.to_string(),
            (Some(prefix), Some(n)) => format!("{prefix}-{n}"),
        };
        let data = data.replace("\r\n", "\n").replace('\r', "\n");
        let expected = Reading {
            events: vec![(name.unwrap_or("message".into()), data, last_event_id.clone())],
            last_event_id,
            retry: retry.map(u64::from),
        };
        prop_assert_eq!(read_all([&out[..]]), expected.clone());
        prop_assert_eq!(read_all(out.chunks(1)), expected);
    }
}

/// The events of a stream in one chunk, as (event, data).
fn events(parser: Parser, bytes: &[u8]) -> Vec<(String, String)> {
    let (reading, outcome) = read(parser, [bytes]);
    outcome.unwrap();
    reading.events.into_iter().map(|(event, data, _)| (event, data)).collect()
}

fn event(name: &str, data: &str) -> (String, String) {
    (name.to_owned(), data.to_owned())
}

#[test]
fn a_bom_is_skipped_at_the_start_and_nowhere_else() {
    let stream = "\u{feff}data: a\n\n\u{feff}data: b\n\n\u{feff}\ndata: c\n\n";
    let expected = [event("message", "a"), event("message", "c")];
    assert_eq!(events(Parser::new(LIMIT), stream.as_bytes()), expected);
}

#[test]
fn an_error_field_is_an_event_only_when_asked_for() {
    let bytes = b"error: {\"code\":500}\n\ndata: x\n\n";
    assert_eq!(events(Parser::new(LIMIT), bytes), [event("message", "x")]);
    assert_eq!(
        events(Parser::new(LIMIT).error_field(), bytes),
        [event("error", "{\"code\":500}"), event("message", "x")]
    );
}

#[test]
fn an_error_field_takes_the_place_of_the_data_before_it() {
    let bytes = b"event: token\ndata: half\nerror: {}\n\n";
    assert_eq!(events(Parser::new(LIMIT).error_field(), bytes), [event("error", "{}")]);
}

#[test]
fn an_id_moves_the_cursor_at_the_blank_line_also_without_data() {
    assert_eq!(read_all([&b"id: 5\n"[..]]).last_event_id, "");
    assert_eq!(read_all([&b"id: 5\n\n"[..]]).last_event_id, "5");
}

#[test]
fn a_retry_that_is_no_number_leaves_the_one_before() {
    for bad in ["+1", "", "1s", " 1", "\u{661}", "99999999999999999999"] {
        let stream = format!("retry: 10\nretry: {bad}\n");
        assert_eq!(read_all([stream.as_bytes()]).retry, Some(10), "{bad:?}");
    }
}

/// Whether a stream stays within a limit.
fn within(limit: usize, bytes: &[u8]) -> bool {
    let (_, outcome) = read(Parser::new(limit), [bytes]);
    assert!(outcome.is_ok() || outcome == Err(TooLong { limit }));
    outcome.is_ok()
}

#[test]
fn a_line_may_have_as_many_bytes_as_the_limit() {
    for line in ["data: 4444", ":comment 0", "unknown: 0", "no colon 0"] {
        let ended = format!("{line}\n");
        assert!(within(10, line.as_bytes()) && within(10, ended.as_bytes()), "{line}");
        assert!(!within(9, line.as_bytes()) && !within(9, ended.as_bytes()), "{line}");
    }
}

#[test]
fn the_data_of_an_event_may_have_as_many_bytes_as_the_limit() {
    assert!(within(11, b"data:12345\ndata:12345\n"));
    assert!(!within(10, b"data:12345\ndata:12345\n"));
    assert!(within(10, b"data:12345\n\ndata:12345\n"));
    // Each bad byte becomes the three of U+FFFD, and what is held counts.
    assert!(within(9, b"data:\xff\xff\xff\n"));
    assert!(!within(9, b"data:\xff\xff\xff\xff\n"));
}

#[test]
fn an_endless_line_is_an_error_at_the_limit() {
    let endless = std::iter::repeat_n(&[b'x'; 4096][..], LIMIT / 4096 + 1);
    assert_eq!(read(Parser::new(LIMIT), endless.clone().skip(1)).1, Ok(()));
    assert_eq!(read(Parser::new(LIMIT), endless).1, Err(TooLong { limit: LIMIT }));
}

#[test]
fn an_endless_event_is_an_error_at_the_limit() {
    let lines = std::iter::repeat_n(&b"data: four\n"[..], LIMIT / 5 + 1);
    assert_eq!(read(Parser::new(LIMIT), lines.clone().skip(1)).1, Ok(()));
    assert_eq!(read(Parser::new(LIMIT), lines).1, Err(TooLong { limit: LIMIT }));
}
