//! What a disk store still knows when it is opened again: after an orderly end, after a process that was killed, after a power cut.

use std::{fs, path::Path, sync::Arc, time::Duration};

use lastword::{
    id::{Cursor, NodeId, StreamId},
    store::{Created, Durability, NewStream, Store, StoreError, disk::Disk},
};
use tempfile::TempDir;

use super::{HOUR, Log, chat, due, holder, is_sound, key, records_of, to_be_told, with_claims};

fn open(folder: &Path) -> Arc<dyn Store> {
    open_as(folder, Durability::Os)
}

fn open_as(folder: &Path, durability: Durability) -> Arc<dyn Store> {
    Arc::new(Disk::open(folder, durability, HOUR, u64::MAX).expect("opens"))
}

/// The folder as a killed process leaves it: what it has written, and nothing more.
fn killed(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    copy_all(folder, copy.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => {
                fs::create_dir_all(&target).expect("made");
                copy_all(&path, &target);
            }
            false => _ = fs::copy(&path, &target).expect("copied"),
        }
    }
}

/// All records of a stream, page by page, each as its cursor, its length and its first byte.
async fn whole(store: &Arc<dyn Store>, id: StreamId) -> Vec<(u64, usize, Option<u8>)> {
    let (mut read, mut after) = (Vec::new(), Cursor::START);
    loop {
        let page = store.read(id, after, super::ALL, None).await.expect("readable");
        read.extend(page.records().map(|(cursor, record)| (cursor.0, record.len(), record.first().copied())));
        match page.last() {
            Some(last) => after = last,
            None => return read,
        }
    }
}

/// The newest file of the log.
fn newest_log(folder: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(folder.join("log")).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.max().expect("a file")
}

#[tokio::test]
async fn all_is_there_again_after_an_orderly_end_and_after_a_kill() {
    for in_order in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).expect("opens"));
        let shared: Arc<dyn Store> = store.clone();
        let mut ended = Log::of(&shared, with_claims("ann", &[key("k")])).await;
        ended.say(&["one", "two"]).await;
        ended.end(&["three"]).await;
        let mut running = Log::of(&shared, with_claims("ann", &[key("r"), chat("c")])).await;
        running.say(&["x".repeat(100_000), "y".repeat(70_000)]).await;
        store.checkpoint().expect("checkpointed");
        running.say(&["two"]).await;
        let mut late = Log::of(&shared, with_claims("bob", &[])).await;
        late.end(&["end"]).await;
        let gone = Log::of(&shared, with_claims("bob", &[key("g")])).await;
        shared.remove(gone.id).await.expect("removed");
        let (before, bytes) = (whole(&shared, running.id).await, shared.bytes());
        drop((ended.store, running.store, late.store, gone.store));
        let kept = (!in_order).then(|| killed(folder.path()));
        drop((shared, store));
        let store = open(kept.as_ref().map_or(folder.path(), TempDir::path));
        assert_eq!(store.bytes(), bytes);
        assert_eq!(whole(&store, ended.id).await, vec![(1, 3, Some(b'o')), (2, 3, Some(b't')), (3, 5, Some(b't'))]);
        assert_eq!(whole(&store, late.id).await, vec![(1, 3, Some(b'e'))]);
        assert_eq!(whole(&store, running.id).await, before);
        assert_eq!(before, vec![(1, 100_000, Some(b'x')), (2, 70_000, Some(b'y')), (3, 3, Some(b't'))]);
        assert_eq!(store.meta(gone.id).await.err(), Some(StoreError::Unknown(gone.id)));
        let meta = store.meta(ended.id).await.expect("meta");
        assert_eq!((meta.last, meta.summary, meta.hole), (Cursor(3), Some("summary".into()), None));
        assert_eq!(holder(&store, "ann", &key("k")).await, Some(ended.id));
        assert_eq!(holder(&store, "ann", &chat("c")).await, Some(running.id));
        assert_eq!(holder(&store, "bob", &key("g")).await, None);
        let listed = store.list("ann", None, 9).await.expect("a list");
        assert_eq!(listed.iter().map(|meta| meta.id).collect::<Vec<_>>(), vec![running.id, ended.id]);
        assert_eq!(store.orphans().await, Ok(vec![running.id]), "its writer is gone, and that is known at once");
        let lease = store.lease(running.id, NodeId::new()).await.expect("leased");
        assert_eq!(lease.next, Cursor(4), "a kill leaps nothing");
        let mut running = Log { id: running.id, store: store.clone(), lease };
        running.end(&["end"]).await;
        assert_eq!(holder(&store, "ann", &chat("c")).await, None);
        let again = with_claims("ann", &[key("k")]);
        assert_eq!(store.create(again).await, Ok(Created::Held(ended.id)));
    }
}

#[tokio::test]
async fn what_is_to_be_told_is_due_again_after_an_orderly_end_and_after_a_kill_and_what_was_told_is_not() {
    for in_order in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Arc::new(Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).expect("opens"));
        let store: Arc<dyn Store> = disk.clone();
        // Told and not told, with and without a checkpoint before the end, and before it was told.
        let mut logs = Vec::new();
        for _ in 0..7 {
            logs.push(Log::of(&store, to_be_told()).await);
        }
        let [told, untold, late_told, late_untold, removed, running, never] = &mut logs[..] else { unreachable!() };
        told.end(&["end"]).await;
        untold.end(&["end"]).await;
        store.told(told.id).await.expect("told");
        removed.end(&["end"]).await;
        disk.checkpoint().expect("checkpointed");
        late_told.end(&["end"]).await;
        disk.checkpoint().expect("checkpointed");
        store.told(late_told.id).await.expect("told");
        store.remove(removed.id).await.expect("removed");
        late_untold.end(&["end"]).await;
        running.say(&["one"]).await;
        never.end(&["end"]).await;
        store.told(never.id).await.expect("told");
        let (expected, running) = ([untold.id, late_untold.id], running.id);
        assert_eq!(due(&store, 0).await, expected);
        drop(logs);
        let kept = (!in_order).then(|| killed(folder.path()));
        drop((store, disk));
        let folder = kept.as_ref().unwrap_or(&folder);
        let store = open(folder.path());
        assert_eq!(due(&store, 0).await, expected);
        let lease = store.lease(running, NodeId::new()).await.expect("leased");
        Log { id: running, store: store.clone(), lease }.end(&["end"]).await;
        assert_eq!(due(&store, 0).await, [expected[0], expected[1], running], "whoever ends it");
        store.told(expected[0]).await.expect("told");
        is_sound(&store).await;
        drop(store);
        let store = open(folder.path());
        assert_eq!(due(&store, 0).await.len(), 2);
        assert!(!due(&store, 0).await.contains(&expected[0]));
        is_sound(&store).await;
    }
}

#[tokio::test]
async fn what_is_there_is_counted_once_wherever_it_lies() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).expect("opens"));
    let shared: Arc<dyn Store> = store.clone();
    let mut logs = Vec::new();
    for created_at in 1..=6 {
        let mut log = Log::of(&shared, NewStream { created_at, ..with_claims("ann", &[]) }).await;
        log.say(&["one"]).await;
        logs.push(log);
    }
    let [first, second, third, fourth, fifth, sixth] = &mut logs[..] else { unreachable!() };
    for log in [&mut *first, second, fifth] {
        log.end(&["two"]).await;
    }
    store.checkpoint().expect("checkpointed");
    fourth.end(&["two"]).await; // runs, in the base
    sixth.end(&["two"]).await;
    for log in [&first, &fifth] {
        shared.remove(log.id).await.expect("removed"); // still in the base
    }
    let late = Log::of(&shared, with_claims("bob", &[])).await; // nowhere but in the table
    for _ in 0..2 {
        let stats = shared.stats().await.expect("stats");
        assert_eq!((stats.running, stats.finished, stats.oldest), (2, 3, Some(2)));
        let all = shared.all(false, None, 9).await.expect("a list");
        let expected = [late.id, sixth.id, fourth.id, third.id, second.id];
        assert_eq!(all.iter().map(|meta| meta.id).collect::<Vec<_>>(), expected);
        let open = shared.all(true, Some(late.id), 9).await.expect("a list");
        assert_eq!(open.iter().map(|meta| meta.id).collect::<Vec<_>>(), [third.id]);
        store.checkpoint().expect("checkpointed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_checkpoints_at_once_the_older_is_not_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).expect("opens"));
    let shared: Arc<dyn Store> = store.clone();
    let writing = Arc::new(());
    let checkpointing: Vec<_> = (0..16)
        .map(|_| {
            let (store, writing) = (store.clone(), Arc::downgrade(&writing));
            std::thread::spawn(move || {
                while writing.strong_count() > 0 {
                    store.checkpoint().expect("checkpointed");
                }
            })
        })
        .collect();
    let mut ids = Vec::new();
    for _ in 0..2000 {
        let mut log = Log::new(&shared).await;
        log.say(&["one"]).await;
        log.say(&["two"]).await;
        log.end(&["three"]).await;
        ids.push(log.id);
    }
    drop(writing);
    checkpointing.into_iter().for_each(|thread| thread.join().expect("checkpointed"));
    super::is_sound(&shared).await;
    let left = killed(folder.path());
    let reopened = open(left.path());
    super::is_sound(&reopened).await;
    for id in ids {
        let meta = reopened.meta(id).await.expect("meta");
        assert_eq!((meta.last, meta.closed()), (Cursor(3), true));
    }
}

#[tokio::test]
async fn what_was_being_written_when_the_process_died_is_dropped_and_all_before_it_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let mut log = Log::new(&store).await;
    let mut sizes = Vec::new();
    for n in 0..20 {
        log.say(&[format!("record {n}")]).await;
        sizes.push(fs::metadata(newest_log(folder.path())).expect("there").len());
    }
    let left = killed(folder.path());
    let whole = fs::read(newest_log(left.path())).expect("readable");
    for cut in (8..=whole.len()).step_by(31) {
        for tear in [false, true] {
            let copy = killed(left.path());
            let mut bytes = whole[..cut].to_vec();
            if tear {
                // The rest of the last page came, this byte did not.
                bytes = whole.clone();
                bytes[cut.min(whole.len() - 1)] ^= 0x40;
            }
            fs::write(newest_log(copy.path()), &bytes).expect("written");
            let store = open(copy.path());
            let expected = sizes.iter().filter(|size| **size <= cut as u64).count();
            let read = match store.read(log.id, Cursor(0), super::ALL, None).await {
                Ok(page) => records_of(&page).len(),
                Err(error) => {
                    assert_eq!((error, expected), (StoreError::Unknown(log.id), 0));
                    0
                }
            };
            assert_eq!(read, expected, "cut at {cut}, torn: {tear}");
        }
    }
}

#[tokio::test]
async fn what_has_expired_is_told_from_what_never_was_after_a_restart_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> =
        Arc::new(Disk::open(folder.path(), Durability::Os, Duration::ZERO, u64::MAX).expect("opens"));
    let mut log = Log::new(&store).await;
    let id = log.id;
    log.end(&["end"]).await;
    assert_eq!(store.expire().await, Ok(1));
    drop((log, store));
    let store = open(folder.path());
    assert_eq!(store.meta(id).await.err(), Some(StoreError::Expired(id)));
    let never = StreamId::new();
    assert_eq!(store.meta(never).await.err(), Some(StoreError::Unknown(never)));
}

#[tokio::test]
async fn a_folder_that_is_in_use_and_one_that_cannot_be_made_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let _store = open(folder.path());
    let refused = |path: &Path| match Disk::open(path, Durability::Os, HOUR, u64::MAX) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    };
    let said = refused(folder.path());
    assert!(said.contains("another process") && said.contains("[store] path"), "{said}");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let said = refused(&file.join("data"));
    assert!(said.contains("file/data") && said.contains("[store] path"), "{said}");
}

#[tokio::test]
async fn the_folder_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep").join("data");
    let _store = open(&path);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&newest_log(&path)), 0o600);
}

#[tokio::test]
async fn a_synced_record_is_in_the_log_before_it_is_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_as(folder.path(), Durability::Disk);
    let mut log = Log::new(&store).await;
    for n in 0..50 {
        log.say(&[n.to_string()]).await;
    }
    log.end(&["end"]).await;
    let reopened = open_as(killed(folder.path()).path(), Durability::Disk);
    let page = reopened.read(log.id, Cursor(0), super::ALL, None).await.expect("readable");
    assert_eq!((page.records().count(), page.closed), (51, true));
}
