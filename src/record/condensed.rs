//! A stretch of a log for those who must know what was in it, but not what was said: each run of a part's pieces is its first one and
//! a count, and what was said beside one of them is left out. An encoder that catches up reads this instead of the stretch, which is
//! some thousand times longer.
//!
//! ```text
//! byte 0     version
//! then       of each run: how often, and the record's length, as u32 little-endian; the record
//! ```

use std::borrow::Cow;

use serde::Deserialize;

use super::{Head, Kind, Record};
use crate::event::Opaque;

const VERSION: u8 = 1;

/// The condensed form of these records. What is no record ends it, so that whoever reads it looks at the rest itself.
#[must_use]
pub fn condense<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = vec![VERSION];
    let mut run: Option<(u32, Head, &[u8])> = None;
    let mut beside = None;
    for bytes in records {
        let Ok(record) = Record::parse(bytes) else { return Vec::new() };
        match &mut run {
            _ if is_beside(&record) => {
                // What was beside the record before this one is no longer wanted.
                beside = Some((1, record.head, bytes));
                continue;
            }
            Some((times, of, _)) if is_alike(*of, record.head) && *times < u32::MAX => *times += 1,
            _ => put(&mut out, run.replace((1, record.head, bytes))),
        }
        beside = None;
    }
    put(&mut out, run);
    put(&mut out, beside);
    out
}

/// The runs of a condensed stretch: a record, and how often it stood there. Nothing if this build cannot read it.
#[must_use]
pub fn runs(condensed: &[u8]) -> Option<Vec<(Record<'_>, u32)>> {
    let (version, mut rest) = condensed.split_first()?;
    let mut runs = Vec::new();
    while !rest.is_empty() {
        let (times, after) = rest.split_first_chunk()?;
        let (len, after) = after.split_first_chunk()?;
        let (record, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        runs.push((Record::parse(record).ok()?, u32::from_le_bytes(*times)));
        rest = after;
    }
    (*version == VERSION).then_some(runs)
}

/// Two pieces of one part, or two messages of an application's, whose words alone are not the same (and the time, which no encoder
/// looks at).
fn is_alike(one: Head, other: Head) -> bool {
    let told = one.kind == Kind::Delta || (one.kind == Kind::Custom && !one.more);
    told && Head { ms: 0, ..one } == Head { ms: 0, ..other }
}

fn is_beside(record: &Record<'_>) -> bool {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    record.head.kind == Kind::Opaque
        && serde_json::from_slice(record.payload).is_ok_and(|Named { name }| name.starts_with(Opaque::BESIDE))
}

fn put(out: &mut Vec<u8>, run: Option<(u32, Head, &[u8])>) {
    let Some((times, _, record)) = run else { return };
    out.extend(times.to_le_bytes());
    out.extend(u32::try_from(record.len()).expect("a record is smaller than 4 GiB").to_le_bytes());
    out.extend_from_slice(record);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::{
        event::{At, Delta, Event, Finish, Json, PartStart, PartType},
        record,
    };

    fn log(events: &[Event<'_>]) -> Vec<BytesMut> {
        let write = |(n, event)| {
            let mut out = BytesMut::new();
            record::write(&mut out, n, event).expect("recorded");
            out
        };
        (0..).zip(events).map(write).collect()
    }

    fn text(part: u16, words: &str) -> Event<'static> {
        let at = At { choice: 0, part, of: PartType::Text };
        Event::Delta(at, Delta { text: words.to_owned().into(), logprobs: None })
    }

    #[test]
    fn runs_of_pieces_are_counted_and_all_else_is_kept() {
        let start = Event::PartStart(At::default(), PartStart::default());
        let finish = || Event::Finish(0, Finish::default());
        let events = [start, text(0, "a"), text(0, "b"), text(0, "c"), text(1, "d"), text(0, "e"), finish(), finish()];
        let log = log(&events);
        let condensed = condense(log.iter().map(|record| &record[..]));
        let runs: Vec<_> = runs(&condensed).expect("readable").iter().map(|(it, n)| (it.head.kind, *n)).collect();
        let expected = [
            (Kind::PartStart, 1),
            (Kind::Delta, 3),
            (Kind::Delta, 1),
            (Kind::Delta, 1),
            (Kind::Finish, 1),
            (Kind::Finish, 1),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn what_was_said_beside_a_piece_is_left_out_but_for_one_that_is_still_to_come() {
        let opaque = |name: &str| {
            Event::Opaque(Opaque { protocol: "chat".into(), name: name.to_owned(), json: Json::default() })
        };
        let events =
            [opaque(":next 0"), text(0, "a"), opaque(":next 0"), text(0, "b"), opaque("else"), opaque(":next 0")];
        let log = log(&events);
        let condensed = condense(log.iter().map(|record| &record[..]));
        let runs: Vec<_> = runs(&condensed).expect("readable").iter().map(|(it, n)| (it.head.kind, *n)).collect();
        assert_eq!(runs, [(Kind::Delta, 2), (Kind::Opaque, 1), (Kind::Opaque, 1)]);
    }

    #[test]
    fn what_cannot_be_read_is_no_condensed_stretch() {
        let log = log(&[text(0, "a"), text(1, "b")]);
        let condensed = condense(log.iter().map(|record| &record[..]));
        assert!((2..condensed.len()).all(|n| runs(&condensed[..n]).is_none_or(|runs| runs.len() == 1)));
        assert!(runs(&[]).is_none());
        assert!(runs(&[&[VERSION + 1], &condensed[1..]].concat()).is_none());
        assert!(runs(&condense([&log[0][..], b"x"])).is_none());
    }
}
