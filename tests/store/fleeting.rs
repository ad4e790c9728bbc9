//! Streams that nobody wants kept, on a disk store: they are in memory alone, and no file of the folder ever has a word of them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use lastword::{
    id::{Cursor, StreamId},
    store::{Created, Durability, NewStream, Store, StoreError, disk::Disk},
};

use super::{HOUR, Log, chat, holder, key, with_claims};

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

fn open(folder: &Path, max_bytes: u64) -> (Arc<Disk>, Arc<dyn Store>) {
    let store = Arc::new(Disk::open(folder, Durability::Os, HOUR, max_bytes).expect("opens"));
    (store.clone(), store)
}

/// Whether any file of the folder has these bytes.
fn anywhere(folder: &Path, words: &[u8]) -> bool {
    fs::read_dir(folder).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => anywhere(&path, words),
            false => fs::read(path).expect("readable").windows(words.len()).any(|found| found == words),
        }
    })
}

#[tokio::test]
async fn what_is_not_to_be_kept_leaves_nothing_in_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, store) = open(folder.path(), u64::MAX);
    let new = NewStream {
        about: "an unkept about".into(),
        prompt: "an unkept prompt".into(),
        keep: MINUTE,
        ..with_claims("unkept-owner", &[key("unkept-key"), chat("unkept-chat")])
    };
    let mut log = Log::of(&store, new.clone()).await;
    let mut beside = Log::of(&store, with_claims("ann", &[])).await;
    log.say(&["an unkept record"]).await;
    beside.say(&["a kept record"]).await;
    disk.checkpoint().expect("checkpointed");
    log.end(&["an unkept end"]).await;
    disk.checkpoint().expect("checkpointed");
    assert_eq!(log.all().await.len(), 2, "it can still be read");
    assert_eq!(holder(&store, "unkept-owner", &key("unkept-key")).await, Some(log.id));
    assert!(anywhere(folder.path(), b"ann") && !anywhere(folder.path(), b"unkept"));
    assert!(!anywhere(folder.path(), &log.id.to_bytes()));
    let (id, other) = (log.id, beside.id);
    drop((disk, store, log, beside));
    assert!(!anywhere(folder.path(), b"unkept"));
    let (_, store) = open(folder.path(), u64::MAX);
    assert_eq!(store.meta(id).await.err(), Some(StoreError::Unknown(id)));
    assert_eq!(store.create(NewStream { id: StreamId::new(), ..new }).await, Ok(Created::New), "its key is free");
    store.remove(other).await.expect("removed");
}

#[tokio::test]
async fn a_key_is_held_by_one_stream_whether_that_is_kept_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, store) = open(folder.path(), u64::MAX);
    let new = |keep| NewStream { keep, ..with_claims("ann", &[key("k"), chat("c")]) };
    let kept = Log::of(&store, new(None)).await;
    disk.checkpoint().expect("checkpointed");
    assert_eq!(store.create(new(MINUTE)).await, Ok(Created::Held(kept.id)));
    store.remove(kept.id).await.expect("removed");
    let unkept = Log::of(&store, new(MINUTE)).await;
    assert_eq!(store.create(new(None)).await, Ok(Created::Held(unkept.id)));
    disk.checkpoint().expect("checkpointed");
    assert_eq!(store.create(new(MINUTE)).await, Ok(Created::Held(unkept.id)));
}

#[tokio::test]
async fn a_chat_that_an_unkept_stream_took_over_does_not_go_back_to_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, store) = open(folder.path(), u64::MAX);
    let new = |keep| NewStream { keep, ..with_claims("ann", &[chat("c")]) };
    let mut kept = Log::of(&store, new(None)).await;
    disk.checkpoint().expect("checkpointed");
    let mut unkept = Log::of(&store, new(MINUTE)).await;
    assert_eq!(holder(&store, "ann", &chat("c")).await, Some(unkept.id));
    kept.end(&["end"]).await;
    disk.checkpoint().expect("checkpointed");
    assert_eq!(holder(&store, "ann", &chat("c")).await, Some(unkept.id));
    unkept.end(&["end"]).await;
    assert_eq!(holder(&store, "ann", &chat("c")).await, None);
    let unkept = Log::of(&store, new(MINUTE)).await;
    let kept = Log::of(&store, new(None)).await;
    assert_eq!(holder(&store, "ann", &chat("c")).await, Some(kept.id));
    store.remove(unkept.id).await.expect("removed");
    assert_eq!(holder(&store, "ann", &chat("c")).await, Some(kept.id));
}

#[tokio::test]
async fn what_is_kept_and_what_is_not_never_make_room_for_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, store) = open(folder.path(), 10_000);
    let new = |keep| NewStream { keep, ..with_claims("ann", &[]) };
    let mut kept = Log::of(&store, new(None)).await;
    kept.end(&["k".repeat(6000)]).await;
    let mut first = Log::of(&store, new(MINUTE)).await;
    first.end(&["f".repeat(6000)]).await;
    let mut second = Log::of(&store, new(MINUTE)).await;
    second.say(&["s".repeat(6000)]).await;
    assert_eq!(store.meta(first.id).await.err(), Some(StoreError::Unknown(first.id)), "the first has made room");
    assert_eq!(kept.all().await.len(), 1);
    let refused = store.append(second.id, Cursor(2), second.lease.epoch, super::batch(&["s".repeat(6000)]), None).await;
    let refused = refused.expect_err("too much").to_string();
    assert!(refused.contains("full") && refused.contains("memory"), "{refused}");
    second.end(&["end"]).await;
    store.remove(second.id).await.expect("removed");
    store.remove(kept.id).await.expect("removed");
    assert_eq!(store.bytes(), 0);
}
