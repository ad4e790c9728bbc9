//! Each upstream protocol to each client protocol: what a reader is told of an answer, to the byte.
//!
//! `upstreams/` holds answers in the shapes in which real upstreams give them, one a file; its name's ending says the protocol. Each is
//! decoded, recorded and told in every protocol, streamed and whole, and compared with its snapshot. The laws that hold for all of them
//! are here too; those of one protocol are its own tests'.

use std::{collections::HashSet, fmt, fs, path::Path};

use bytes::BytesMut;
use lastword::{
    event::{Attempt, Begin, Event},
    generation::Stop,
    id::{Cursor, StreamId},
    protocol::{
        Decode, Encode,
        chat::{ChatDecode, ChatEncode, Completion, Envelope},
        messages::{Message, MessagesDecode, MessagesEncode},
        native::{Answer, Native},
        responses::{self, ResponseObject, ResponsesDecode, ResponsesEncode},
    },
    record::{
        Record,
        condensed::{condense, runs},
        summary::Summary,
        write,
    },
    wire::sse::Parser,
};
use serde::{Deserialize, Deserializer, de};

const ID: &str = "0199c0ffee007000800000000000abcd";
const CREATED: u64 = 1_795_486_864_123;

/// An upstream's answer.
struct Upstream {
    name: String,
    protocol: &'static str,
    bytes: Vec<u8>,
}

/// All there are, in the order of their names: those made here, and those recorded from real servers.
fn upstreams() -> Vec<Upstream> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folders = [tests.join("protocols/upstreams"), tests.join("captures")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let mut all: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
            let protocol = PROTOCOLS.iter().find(|protocol| name.ends_with(*protocol));
            let protocol = protocol.unwrap_or_else(|| panic!("{name} names no protocol"));
            Upstream { protocol, bytes: fs::read(&path).expect("readable"), name }
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

const PROTOCOLS: [&str; 3] = [".chat", ".messages", ".responses"];

impl Upstream {
    fn decoder(&self) -> Box<dyn Decode> {
        match self.protocol {
            ".chat" => Box::new(ChatDecode::default()),
            ".messages" => Box::new(MessagesDecode::default()),
            ".responses" => Box::new(ResponsesDecode::default()),
            other => panic!("no decoder for {other}"),
        }
    }

    /// What its bytes mean, when they come in these pieces.
    fn events<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event<'static>> {
        let (mut parser, mut decoder, mut events) = (Parser::new(1 << 20).error_field(), self.decoder(), Vec::new());
        for piece in pieces {
            let mut frames = parser.feed(piece);
            while let Some(frame) = frames.next().expect("no line is too long") {
                decoder
                    .frame(frame.event, frame.data, &mut events)
                    .unwrap_or_else(|error| panic!("{}: {error}", self.name));
            }
        }
        decoder.finish(&mut events).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        events.retain(|event| *event != Event::Alive);
        events
    }

    /// The log of its answer, as a generation writes it.
    fn log(&self) -> Vec<BytesMut> {
        let protocol = &self.protocol[1..];
        let begin = Begin { model: "up/m".into(), backend: "up".into(), protocol: protocol.into(), ..Begin::default() };
        let attempt =
            Attempt { n: 1, backend: "up".into(), protocol: protocol.into(), model: "m".into(), ..Attempt::default() };
        let opening = [Event::Begin(begin), Event::Attempt(attempt)];
        let mut summary = Summary::default();
        let mut log = Vec::new();
        let mut push = |event: &Event<'_>, summary: &mut Summary| {
            let mut bytes = BytesMut::new();
            let head = write(&mut bytes, 7, event).expect("recorded");
            log.push(bytes);
            summary.take(Cursor(log.len() as u64), &head, event);
        };
        for event in opening.iter().chain(&self.events([&self.bytes[..]])) {
            push(event, &mut summary);
        }
        let end = Event::End(Stop::Done.end(&summary));
        push(&end, &mut summary);
        log
    }
}

fn id() -> StreamId {
    ID.parse().expect("an id")
}

fn records(log: &[BytesMut]) -> impl Iterator<Item = (Cursor, Record<'_>)> {
    (1..).map(Cursor).zip(log.iter().map(|bytes| Record::parse(bytes).expect("a record")))
}

/// How much of a log a reader has seen, and of how many records each the stretches are that the store has condensed of that.
#[derive(Clone, Copy)]
struct Place {
    seen: usize,
    stretch: Option<usize>,
}

const START: Place = Place { seen: 0, stretch: None };

/// What a reader is told behind its place.
fn told<E: Encode>(mut encode: E, log: &[BytesMut], place: Place) -> String {
    let mut out = BytesMut::new();
    let mut skimmed = 0;
    for stretch in log[..place.seen].chunks_exact(place.stretch.unwrap_or(usize::MAX)) {
        let condensed = condense(stretch.iter().map(|record| &record[..]));
        runs(&condensed).expect("readable").iter().for_each(|(record, times)| encode.skip_run(record, *times));
        skimmed += stretch.len();
    }
    let mut retell = encode.retell();
    for (cursor, record) in records(log) {
        let retold = retell.as_mut().and_then(|retell| retell.take(cursor, &record));
        if cursor.0 <= skimmed as u64 {
            continue;
        }
        if cursor.0 <= place.seen as u64 {
            encode.skip(&record);
        } else if let Some(seen) = encode.repeats(&record) {
            let frames = retold.expect("what repeats is retold").into_iter().skip(seen);
            frames.flat_map(|frame| frame.into_pieces()).for_each(|piece| out.extend_from_slice(&piece));
            encode.skip(&record);
        } else {
            encode.encode(cursor, &record, &mut out);
        }
    }
    String::from_utf8(out.to_vec()).expect("UTF-8")
}

/// A client's protocol: its name, what a reader is told behind a cursor, and the answer whole.
type Reader = (&'static str, fn(&[BytesMut], Place) -> String, fn(&[BytesMut]) -> Vec<u8>);

const READERS: [Reader; 4] = [
    (
        "native",
        |log, place| told(Native::short(), log, place),
        |log| {
            let mut answer = Answer::default();
            records(log).for_each(|(_, record)| answer.take(&record));
            serde_json::to_vec(&answer).expect("JSON")
        },
    ),
    (
        "chat",
        |log, place| told(ChatEncode::new(Envelope::new(id(), CREATED, "up/m"), true), log, place),
        |log| {
            let mut completion = Completion::new(Envelope::new(id(), CREATED, "up/m"));
            records(log).for_each(|(_, record)| completion.take(&record));
            completion.finish().expect("whole")
        },
    ),
    (
        "messages",
        |log, place| told(MessagesEncode::new(id(), "up/m"), log, place),
        |log| {
            let mut message = Message::new(id(), "up/m");
            records(log).for_each(|(_, record)| message.take(&record));
            message.finish().expect("whole")
        },
    ),
    (
        "responses",
        |log, place| told(ResponsesEncode::new(response()), log, place),
        |log| {
            let mut object = ResponseObject::new(response());
            records(log).for_each(|(_, record)| object.fold(&record));
            object.finish().expect("whole")
        },
    ),
];

fn response() -> responses::Envelope {
    responses::Envelope::new(id(), CREATED, "up/m", None)
}

#[test]
fn each_answer_is_told_in_each_protocol_as_before() {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        for upstream in upstreams() {
            let log = upstream.log();
            for (protocol, streamed, whole) in READERS {
                let whole: serde_json::Value = serde_json::from_slice(&whole(&log)).expect("JSON");
                let whole = serde_json::to_string_pretty(&whole).expect("JSON");
                let told = format!("{}==== whole ====\n{whole}", streamed(&log, START));
                insta::assert_snapshot!(format!("{}-as-{protocol}", upstream.name), told);
            }
        }
    });
}

#[test]
fn told_in_two_pieces_it_is_the_same_wherever_it_is_cut() {
    for upstream in upstreams() {
        let log = upstream.log();
        for (protocol, streamed, _) in READERS {
            let all = streamed(&log, START);
            for after in 0..=log.len() {
                let at = |stretch| streamed(&log, Place { seen: after, stretch });
                let rest = at(None);
                assert!(all.ends_with(&rest), "{} as {protocol}, behind {after}:\n{rest}", upstream.name);
                for stretch in [2, 7, after.max(1)] {
                    let condensed = at(Some(stretch));
                    assert!(
                        condensed == rest,
                        "{} as {protocol}, behind {after}, {stretch}:\n{condensed}",
                        upstream.name
                    );
                }
                // What a reader behind it has seen ends with the id of the last frame up to there.
                let first = &all[..all.len() - rest.len()];
                let seen = first
                    .rsplit_once("\nid: ")
                    .map_or(0, |(_, id)| id.trim_end().rsplit('-').next().and_then(|n| n.parse().ok()).expect("an id"));
                assert!(seen <= after as u64, "{} as {protocol}, behind {after}: it has seen {seen}", upstream.name);
            }
        }
    }
}

#[test]
fn the_log_is_the_same_wherever_the_upstreams_bytes_are_split() {
    for upstream in upstreams() {
        let whole = upstream.events([&upstream.bytes[..]]);
        // Of a long one in the quick form a thousand places.
        let step = if std::env::var_os("LASTWORD_TEST").is_some() { 1 } else { upstream.bytes.len() / 1000 + 1 };
        for at in (0..=upstream.bytes.len()).step_by(step) {
            let (one, other) = upstream.bytes.split_at(at);
            assert!(upstream.events([one, other]) == whole, "{}, split at {at}", upstream.name);
        }
        assert!(upstream.events(upstream.bytes.chunks(1)) == whole, "{}, byte by byte", upstream.name);
    }
}

/// JSON in which no object has two members of one name.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Unique, A::Error> {
                while let Some(Unique) = list.next_element()? {}
                Ok(Unique)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
                let mut names = HashSet::new();
                while let Some((name, Unique)) = members.next_entry::<String, Unique>()? {
                    if names.contains(&name) {
                        return Err(de::Error::custom(format!("`{name}` stands twice")));
                    }
                    names.insert(name);
                }
                Ok(Unique)
            }
        }
        d.deserialize_any(Visitor)
    }
}

#[test]
fn no_object_that_is_told_has_two_members_of_one_name() {
    for upstream in upstreams() {
        let log = upstream.log();
        for (protocol, streamed, whole) in READERS {
            let (streamed, whole) = (streamed(&log, START), whole(&log));
            let frames = streamed.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::as_bytes);
            for json in frames.filter(|data| data.starts_with(b"{")).chain([&whole[..]]) {
                let unique: Result<Unique, _> = serde_json::from_slice(json);
                let told = String::from_utf8_lossy(json);
                assert!(unique.is_ok(), "{} as {protocol}: {:?}\n{told}", upstream.name, unique.err());
            }
        }
    }
}
