//! A folder that an older build left when it was killed: what it had is read by this one.

use std::{path::Path, process::Command, sync::Arc};

use lastword::{
    id::{Cursor, NodeId, StreamId},
    record::{Record, summary::Summary},
    store::{ClaimKey, ClaimKind, Durability, NewStream, Store, disk::Disk},
};

use super::{HOUR, Log, due, is_sound, to_be_told};

/// What the build said of it that wrote it: the stream, how many records, how many bytes of text, how the text begins. All have
/// ended but the one that ran, which has records in the base and in the log.
const FORM_1: [(&str, u64, usize, &str, bool); 7] = [
    ("01a216068cd6726985bdb7ea9f425fc8", 13, 31, "The first answer of the sample.", true),
    ("01a216068cdf754da1fd2cd484000d8c", 16_007, 70_000, "A long answer that has many words. ", true),
    ("01a216068cec77f09b8b11aa234b061a", 6, 9, "It fails.", true),
    ("01a216068cf574719a797dcc21ae0e35", 9, 1, "x", true),
    ("01a216068d02733aa1263469c827593e", 17, 46, "A river does not hurry", true),
    ("01a21606b82074bc83a1fd91698d4d40", 566, 2653, "Runs when the process is killed. ", false),
    ("01a21606e51774cc9e2f06e993aaf35b", 12, 17, "Only in the log. ", true),
];

/// As the first was, but for how it was kept: rows, prompts and the state have checksums, and nobody is to be told of an end.
const FORM_3: [(&str, u64, usize, &str, bool); 4] = [
    ("01a21998c801714da54cafb79fe33951", 13, 31, "The first answer of the sample.", true),
    ("01a21998c80e76bc86ce38adf1f1b45d", 16_007, 70_000, "A long answer that has many words. ", true),
    ("01a21998c81b766d9bb016de0662ddf8", 435, 2037, "Runs when the process is killed. ", false),
    ("01a21998faf773d698cb90d27fc98f14", 12, 17, "Only in the log. ", true),
];

fn unpacked(sample: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/samples").join(sample);
    let tar = Command::new("tar").arg("xzf").arg(sample).arg("-C").arg(folder.path()).status().expect("tar runs");
    assert!(tar.success());
    folder
}

async fn told(store: &Arc<dyn Store>, id: StreamId) -> (String, Cursor, bool) {
    let (mut summary, mut text, mut after) = (Summary::default(), String::new(), Cursor::START);
    loop {
        let page = store.read(id, after, 4096, None).await.expect("readable");
        for (cursor, bytes) in page.records() {
            let record = Record::parse(bytes).expect("a record");
            assert_eq!(cursor, after.plus(1));
            after = cursor;
            summary.take_record(cursor, &record);
            if let Ok(lastword::event::Event::Delta(_, delta)) = record.event() {
                text.push_str(&delta.text);
            }
        }
        if page.chunks.is_empty() {
            return (text, after, page.closed);
        }
    }
}

#[tokio::test]
async fn what_an_older_build_left_is_read_and_goes_on() {
    let folder = unpacked("form-1.tar.gz");
    for round in ["as it was left", "as this build left it"] {
        let store: Arc<dyn Store> = Arc::new(Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).expect("opens"));
        let listed = store.list("", None, 100).await.expect("a list");
        assert_eq!(listed.len(), FORM_1.len());
        for (id, records, length, begins, ended) in FORM_1 {
            let id: StreamId = id.parse().expect("an id");
            let (text, last, closed) = told(&store, id).await;
            assert_eq!((last, text.len(), closed), (Cursor(records), length, ended), "{id}, {round}");
            assert!(text.starts_with(begins), "{id}");
        }
        let open: StreamId = FORM_1[5].0.parse().expect("an id");
        assert_eq!(store.orphans().await, Ok(vec![open]));
        let next = store.lease(open, NodeId::new()).await.expect("leased").next;
        let hole = store.meta(open).await.expect("meta").hole;
        // It comes from another run of a machine (but on the one that made it), so what it last showed may be lost.
        assert!(hole.map_or(next == Cursor(567), |hole| hole == (Cursor(566), next)), "{next}, {hole:?}");
        let claim = |key: &str| ClaimKey { owner: String::new(), kind: ClaimKind::Idempotency, key: key.to_owned() };
        assert_eq!(store.holder(&claim("k6")).await, Ok(Some(open)));
        assert_eq!(store.holder(&claim("k1")).await, Ok(Some(FORM_1[1].0.parse().expect("an id"))));
        let prompt = store.prompt(open).await.expect("a prompt");
        assert!(prompt.windows(3).any(|found| found == b"six"), "{round}");
    }
}

#[tokio::test]
async fn what_the_build_before_left_is_read_and_tells_from_then_on() {
    let folder = unpacked("form-3.tar.gz");
    let open =
        || -> Arc<dyn Store> { Arc::new(Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).expect("opens")) };
    for round in 0..2 {
        let store = open();
        assert_eq!(store.list("", None, 100).await.expect("a list").len(), FORM_3.len() + round);
        for (id, records, length, begins, ended) in FORM_3 {
            let id: StreamId = id.parse().expect("an id");
            let (text, last, closed) = told(&store, id).await;
            assert_eq!((last, text.len(), closed), (Cursor(records), length, ended), "{id}, {round}");
            assert!(text.starts_with(begins), "{id}");
        }
        is_sound(&store).await;
        assert_eq!(due(&store, 0).await.len(), round, "of what that build began nobody is told");
        let mut log = Log::of(&store, to_be_told()).await;
        log.end(&["end"]).await;
        assert_eq!(due(&store, 0).await.last(), Some(&log.id));
        store.remove(log.id).await.expect("removed");
        let mut log = Log::of(&store, NewStream { owner: String::new(), ..to_be_told() }).await;
        log.end(&["end"]).await;
    }
}
