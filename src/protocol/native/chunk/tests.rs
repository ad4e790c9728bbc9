//! The law of the view, over logs and cuts by chance: what it tells is the log, cut between words; and who comes back behind any of
//! its events, in any view, is told the rest and nothing twice.

use proptest::prelude::*;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

use super::*;
use crate::{
    event::{Delta, End, Finish, Json, Notice, Opaque, PartStart, PartStop, Reason, Status, Tool, Usage},
    id::{Seen, StreamId},
    record::write,
    wire::ndjson::Ndjson,
};

/// All that is hard to cut: emoji that are several, flags, marks, scripts without spaces, from right to left, code, numbers.
const CORPUS: [&str; 24] = [
    "The river bends, and can't be held; it's 3.14 or 1,000.5 km long. ",
    "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466} \u{1f44d}\u{1f3fd}\u{2764}\u{fe0f}\u{200d}\u{1f525}",
    "\u{1f1e9}\u{1f1ea}\u{1f1eb}\u{1f1f7}\u{1f1ef}\u{1f1f5} 1\u{fe0f}\u{20e3}",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
    "e\u{301}a\u{308}\u{323}o\u{302}\u{303} z\u{335}\u{321}\u{328}a\u{489}lgo",
    "水は急がない。着く、カタカナと漢字。",
    "\u{e19}\u{e49}\u{e33}\u{e44}\u{e2b}\u{e25}\u{e0a}\u{e49}\u{e32}",
    "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} \u{915}\u{94d}\u{937}\u{924}\u{94d}\u{930}\u{93f}\u{92f}",
    "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af} 한국어",
    "مرحبا بالعالم\u{60c} ١٢٣\u{66b}٤ \u{600}\u{661}",
    "שלום צה\"ל ג'ירפה\u{5f4}",
    "fn main() { let x_y = foo::bar(a.b, c->d); } // 0xff_u8\n",
    "a\r\nb\rc\n\n\n  indented\r\n\r\n\ttab",
    "https://example.com/a/b?c=d&e=f#g",
    "«quoted», “curly” — dash… l’eau d'or",
    "\u{200b}zero\u{200d}width\u{2060}joined\u{feff}",
    " ",
    "\n",
    "'",
    ".",
    "\u{301}",
    "\u{200d}",
    "x",
    "\u{1f1e9}",
];

/// What happens in an answer: words of a part, cut into these many pieces, and what comes between.
#[derive(Clone, Debug)]
enum Step {
    Say(At, String),
    /// Nothing that is shown, and that ends nothing.
    Beside(u8),
    /// Something that ends what is held, or is shown itself.
    Between(u8),
}

fn at() -> impl Strategy<Value = At> {
    use PartType::{Reasoning, Redacted, Refusal, Text, ToolCall};
    let of = prop_oneof![6 => Just(Text), 2 => Just(Reasoning), 1 => Just(Refusal), 1 => Just(ToolCall), 1 => Just(Redacted)];
    (prop_oneof![9 => Just(0_u8), 1 => Just(1)], 0..2_u16, of).prop_map(|(choice, part, of)| At { choice, part, of })
}

/// A text and how long its pieces are, in characters.
fn said() -> impl Strategy<Value = Vec<String>> {
    let text = prop::collection::vec(prop::sample::select(&CORPUS[..]), 1..6).prop_map(|texts| texts.concat());
    let sizes = prop_oneof![Just(vec![1]), Just(vec![200]), prop::collection::vec(0..12_usize, 1..20)];
    (text, sizes).prop_map(|(text, sizes)| {
        let (mut pieces, mut left) = (Vec::new(), text.chars().peekable());
        for size in sizes.into_iter().cycle() {
            if left.peek().is_none() || pieces.len() > 400 {
                break;
            }
            pieces.push(left.by_ref().take(size).collect());
        }
        pieces.push(left.collect());
        pieces
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let words = (at(), said(), prop::option::of(0..4_u8)).prop_map(|(at, pieces, beside)| {
        let say = |text| [Some(Step::Say(at, text)), beside.map(Step::Beside)];
        pieces.into_iter().flat_map(say).flatten().collect()
    });
    let between = (0..6_u8).prop_map(|n| vec![Step::Between(n)]);
    prop::collection::vec(prop_oneof![4 => words, 1 => between], 0..5).prop_map(|steps| steps.concat())
}

fn log(steps: &[Step]) -> Vec<BytesMut> {
    let here = At::default();
    let tool = Tool { call_id: Some("call".into()), name: Some("look".into()), kind: None };
    let event = |step: &Step| match step {
        Step::Say(at, text) => Event::Delta(*at, Delta { text: text.clone().into(), logprobs: None }),
        Step::Beside(0) => Event::Usage(Usage::default()),
        Step::Beside(1) => Event::Delta(At { choice: 1, ..here }, Delta { text: "another".into(), logprobs: None }),
        Step::Beside(2) => Event::Finish(1, Finish::default()),
        Step::Beside(_) => {
            Event::Opaque(Opaque { protocol: "chat".into(), name: ":next 0".into(), json: Json::default() })
        }
        Step::Between(0) => Event::PartStop(here, PartStop::default()),
        Step::Between(1) => Event::PartStart(At { part: 1, ..here }, PartStart::default()),
        Step::Between(2) => Event::Notice(Notice { kind: "retry".into(), message: None }),
        Step::Between(3) => Event::Finish(0, Finish::default()),
        Step::Between(_) => {
            let call = At { part: 7, of: PartType::ToolCall, ..here };
            Event::PartStart(call, PartStart { tool: Some(tool.clone()), ..PartStart::default() })
        }
    };
    let end = Event::End(End { status: Status::Cancelled, reason: Some(Reason::Stop), usage: None, error: None });
    let record = |event: Event<'_>| {
        let mut out = BytesMut::new();
        write(&mut out, 0, &event);
        out
    };
    steps.iter().map(event).chain([end]).map(record).collect()
}

/// What a reader of this view is told behind a place.
fn told(log: &[BytesMut], how: Chunking, (after, within): (u64, usize)) -> Vec<Value> {
    let mut chunks = Chunks::new(Native::short().written(Ndjson::default()), how);
    assert!(within == 0 || chunks.begin_within(within));
    let mut out = BytesMut::new();
    for (n, bytes) in (1..).zip(log).skip(usize::try_from(after).expect("a place in the log")) {
        chunks.encode(Cursor(n), &Record::parse(bytes).expect("a record"), &mut out);
    }
    assert_eq!(chunks.held(), 0, "nothing is held at the end");
    let lines = std::str::from_utf8(&out).expect("UTF-8").lines();
    lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The place that an id names.
fn place(event: &Value) -> (u64, usize) {
    let id = event["id"].as_str().map_or_else(|| event["id"].to_string(), str::to_owned);
    match Seen::parse(&id) {
        Seen::Short(cursor) => (cursor.0, 0),
        Seen::Within(None, cursor, within) => (cursor.0, within),
        other => panic!("{id} is {other:?}"),
    }
}

/// The events with what adjoins of one kind in one, and without ids: what a client has in the end, however it was cut.
fn joined(events: &[Value]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for event in events {
        let name = format!("{} {}", event["event"], event["data"]["index"]);
        let text = event["data"]["text"].as_str().or(event["data"]["arguments"].as_str());
        match (text, all.last_mut()) {
            (Some(text), Some((last, before))) if *last == name => before.push_str(text),
            (Some(text), _) => all.push((name, text.to_owned())),
            (None, _) => all.push((event["event"].to_string(), event["data"].to_string())),
        }
    }
    all
}

const VIEWS: [Chunking; 3] = [Chunking::Token, Chunking::Word, Chunking::Line];

proptest! {
    #![proptest_config(ProptestConfig { cases: if std::env::var_os("LASTWORD_TEST").is_some() { 2048 } else { 48 }, ..ProptestConfig::default() })]

    #[test]
    fn who_comes_back_behind_any_event_is_told_the_rest_in_any_view(steps in steps()) {
        let log = log(&steps);
        for how in VIEWS {
            let whole = told(&log, how, (0, 0));
            prop_assert_eq!(joined(&whole), joined(&told(&log, Chunking::Token, (0, 0))));
            prop_assert!(whole.is_sorted_by(|a, b| place(a) < place(b)), "ids rise");
            for (n, event) in whole.iter().enumerate() {
                let rest = told(&log, how, place(event));
                prop_assert_eq!(&rest[..], &whole[n + 1..], "the same events, behind {} in {:?}", &event["id"], how);
                for other in VIEWS {
                    prop_assert_eq!(joined(&told(&log, other, place(event))), joined(&rest));
                }
            }
            // And behind any record, whatever was shown of it in another view.
            for after in 0..=log.len() as u64 {
                let rest = joined(&told(&log, how, (after, 0)));
                prop_assert_eq!(rest, joined(&told(&log, Chunking::Token, (after, 0))));
            }
        }
    }

    #[test]
    fn a_word_ends_where_unicode_says_and_a_line_at_its_end(pieces in said()) {
        let here = At::default();
        let log = log(&pieces.iter().map(|piece| Step::Say(here, piece.clone())).collect::<Vec<_>>());
        let text = pieces.concat();
        let characters: Vec<_> = text.grapheme_indices(true).map(|(at, _)| at).collect();
        let words: Vec<_> = text.split_word_bound_indices().map(|(at, _)| at).collect();
        for how in [Chunking::Word, Chunking::Line] {
            let mut at = 0;
            let whole = told(&log, how, (0, 0));
            for event in whole.iter().filter(|event| event["event"] == "message") {
                let said = event["data"]["text"].as_str().expect("a text");
                at += said.len();
                if at < text.len() {
                    prop_assert!(characters.binary_search(&at).is_ok(), "{:?} ends within a character", said);
                    match how {
                        Chunking::Line => prop_assert!(said.ends_with('\n'), "{:?} is no line", said),
                        _ => prop_assert!(words.binary_search(&at).is_ok(), "{:?} ends within a word", said),
                    }
                }
            }
            prop_assert_eq!(at, text.len());
        }
    }

    /// However late the words are asked for, as at a slow pace.
    #[test]
    fn words_that_wait_are_cut_where_they_are_else(steps in steps(), now in prop::collection::vec(any::<bool>(), 1..9)) {
        let log = log(&steps);
        for how in VIEWS {
            let mut chunks = Chunks::new(Native::short().written(Ndjson::default()), how);
            let (mut out, mut now) = (BytesMut::new(), now.iter().cycle());
            for (n, bytes) in (1..).zip(&log) {
                let record = Record::parse(bytes).expect("a record");
                chunks.before(&record, &mut out);
                chunks.take(Cursor(n), &record, &mut out);
                if now.next() == Some(&true) {
                    chunks.show(&mut out);
                }
            }
            let lines = std::str::from_utf8(&out).expect("UTF-8").lines();
            let slow: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let whole = told(&log, how, (0, 0));
            prop_assert_eq!(joined(&slow), joined(&whole));
            let places: Vec<_> = whole.iter().map(place).collect();
            prop_assert!(slow.iter().all(|event| places.contains(&place(event))), "no other places");
        }
    }
}

#[test]
fn tokens_that_begin_with_their_space_keep_bare_ids() {
    let log = log(&["The", " ri", "ver", ", and", " on"].map(|text| Step::Say(At::default(), text.to_owned())));
    let words = told(&log, Chunking::Word, (0, 0));
    let of = |event: &Value| (event["id"].clone(), event["data"]["text"].as_str().map(str::to_owned));
    let words: Vec<_> = words.iter().map(of).collect();
    let said = |id: Value, text: &str| (id, Some(text.to_owned()));
    let expected = [
        said(1.into(), "The"),
        said("3.1".into(), " river,"),
        said(4.into(), " and"),
        said(5.into(), " on"),
        (6.into(), None),
    ];
    assert_eq!(words, expected);
}

#[test]
fn what_is_held_is_not_seen() {
    let log = log(&["one t", "wo"].map(|text| Step::Say(At::default(), text.to_owned())));
    let mut chunks = Chunks::new(Native::long(StreamId::new()), Chunking::Word);
    let mut out = BytesMut::new();
    for (n, place) in [(0, (Cursor(0), 3)), (1, (Cursor(0), 3)), (2, (Cursor(3), 0))] {
        chunks.encode(Cursor(n as u64 + 1), &Record::parse(&log[n]).expect("a record"), &mut out);
        assert_eq!(chunks.place(Cursor(n as u64 + 1)), place);
    }
}

#[test]
fn what_ends_a_part_lets_its_last_word_go_at_once_and_what_is_beside_it_does_not() {
    let part = |part| At { part, ..At::default() };
    let thought = At { of: PartType::Reasoning, ..part(0) };
    for (step, goes) in [
        (Step::Between(0), true),
        (Step::Between(1), true),
        (Step::Between(2), true),
        (Step::Between(3), true),
        (Step::Between(4), true),
        (Step::Say(part(1), "x".to_owned()), true),
        (Step::Say(thought, "x".to_owned()), true),
        (Step::Say(part(0), "x".to_owned()), false),
        (Step::Beside(0), false),
        (Step::Beside(1), false),
        (Step::Beside(2), false),
        (Step::Beside(3), false),
    ] {
        let log = log(&[Step::Say(part(0), "wor".to_owned()), step.clone()]);
        for how in [Chunking::Word, Chunking::Line] {
            let mut chunks = Chunks::new(Native::short().written(Ndjson::default()), how);
            let mut out = BytesMut::new();
            for (n, bytes) in (1..).zip(&log).take(2) {
                chunks.encode(Cursor(n), &Record::parse(bytes).expect("a record"), &mut out);
            }
            let heard = std::str::from_utf8(&out).expect("UTF-8").lines().next().unwrap_or_default();
            let word = r#"{"id":1,"event":"message","data":{"text":"wor"}}"#;
            assert_eq!(heard == word, goes, "{step:?}: {heard}");
        }
    }
}
