//! Any bytes, cut anywhere: the parser does not panic, agrees with the reference and with itself,
//! stays within its limit, and reads back what the writer makes of each event.
//!
//! `wire` knows nothing of the rest of the crate, so it is compiled alone: the build takes seconds,
//! and coverage guides the fuzzer through these files only.

#![no_main]

#[path = "../../../src/wire/mod.rs"]
#[allow(dead_code, reason = "not everything in `wire` is fuzzed here")]
mod wire;

#[path = "../../reference/sse.rs"]
mod reference;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use reference::Reading;
use wire::sse::{Parser, TooLong, write_event};

fuzz_target!(|input: &[u8]| {
    // The first bytes say how to cut the rest, and how much of it to allow.
    let Some((&[limit, ref sizes @ ..], bytes)) = input.split_first_chunk::<5>() else {
        return;
    };

    let whole = read(Parser::new(usize::MAX), [bytes]);
    assert_eq!(whole, (reference::read(bytes), Ok(())));
    assert_eq!(whole, read(Parser::new(usize::MAX), cut(bytes, sizes)));

    let small = || Parser::new(limit.into()).error_field();
    assert_eq!(read(small(), [bytes]), read(small(), cut(bytes, sizes)));

    for (event, data, _) in &whole.0.events {
        let mut out = BytesMut::new();
        if data.is_empty() || event.contains('\0') {
            continue;
        }
        write_event(&mut out, Some(event), data.as_bytes(), None, None);
        let again = read(Parser::new(usize::MAX), [&out[..]]).0;
        assert_eq!(again.events, [(event.clone(), data.clone(), String::new())]);
    }
});

/// Pieces of the given sizes in turn, each at least a byte.
fn cut<'a>(mut bytes: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = usize::from(*sizes.next()?).max(1);
        let (head, tail) = bytes.split_at_checked(size).unwrap_or((bytes, &[]));
        bytes = tail;
        (!head.is_empty()).then_some(head)
    })
}

fn read<'a>(
    mut parser: Parser,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Reading, Result<(), TooLong>) {
    let mut reading = Reading::default();
    let mut outcome = Ok(());
    for chunk in chunks {
        let mut frames = parser.feed(chunk);
        outcome = loop {
            match frames.next() {
                Ok(Some(frame)) => reading.events.push((
                    frame.event.to_owned(),
                    frame.data.to_owned(),
                    frame.last_event_id.to_owned(),
                )),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
    }
    parser
        .last_event_id()
        .clone_into(&mut reading.last_event_id);
    reading.retry = parser.retry();
    (reading, outcome)
}
