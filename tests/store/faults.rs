//! Faults of the disk while the store runs, and of what it finds when it opens: each is told with its place and what to do, nothing
//! that was answered is lost, nothing is read as what it is not, and what was mended works again without a restart.

use std::{
    fs,
    io::ErrorKind,
    panic,
    path::Path,
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use lastword::{
    id::{Cursor, NodeId, StreamId},
    store::{
        Created, Durability, Last, Store, StoreError,
        disk::{Disk, Medium},
    },
};

use redb::ReadableTable;

use super::{
    ALL, HOUR, Log, batch, holder, key, records_of,
    simulated::{Call, Simulated},
    with_claims,
};

const LONG: Duration = Duration::from_secs(20);

fn open(disk: &Arc<Simulated>, durability: Durability) -> Result<Arc<Disk>, StoreError> {
    Disk::open_on(disk.clone(), durability, HOUR, u64::MAX, |_| Vec::new()).map(Arc::new)
}

/// A disk with a store on it that takes writes.
fn fresh(durability: Durability) -> (Arc<Simulated>, Arc<Disk>, Arc<dyn Store>) {
    let disk = Simulated::new();
    let store = open(&disk, durability).expect("opens");
    (disk, store.clone(), store)
}

fn last() -> Option<Last> {
    Some(Last { summary: "s".into(), release: false })
}

/// Waits until it is as it should be.
async fn until(such: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !such().await {
        assert!(began.elapsed() < LONG, "this should have happened long ago");
        tokio::task::yield_now().await;
    }
}

async fn texts(store: &dyn Store, id: StreamId) -> Result<Vec<String>, StoreError> {
    let (mut read, mut after) = (Vec::new(), Cursor::START);
    loop {
        let page = store.read(id, after, ALL, None).await?;
        read.extend(page.records().map(|(_, record)| String::from_utf8_lossy(record).into_owned()));
        match page.last() {
            Some(last) => after = last,
            None => return Ok(read),
        }
    }
}

fn says(error: &StoreError, words: &[&str]) {
    let said = error.to_string();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

/// The calls that a running store makes, and when each would be noticed.
const CALLS: [(Call, Durability, bool); 9] = [
    (Call::WriteLog, Durability::Os, false),
    (Call::WriteLog, Durability::Disk, false),
    (Call::WriteLogAfterAll, Durability::Os, false),
    (Call::WriteLogAfterAll, Durability::Disk, false),
    (Call::SyncLog, Durability::Disk, false),
    (Call::CreateLog, Durability::Os, true),
    (Call::WriteBase, Durability::Os, true),
    (Call::SyncBase, Durability::Disk, true),
    (Call::SyncBase, Durability::Lazy, true),
];

#[tokio::test]
async fn whatever_the_disk_refuses_is_told_with_a_remedy_and_when_it_is_mended_the_store_goes_on_and_nothing_is_lost() {
    for (call, durability, at_checkpoint) in CALLS {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
            let context = format!("{call:?} {durability:?} {kind:?}");
            let (disk, store, shared) = fresh(durability);
            let mut log = Log::of(&shared, with_claims("ann", &[key("k")])).await;
            log.say(&["one", "two"]).await;
            disk.refuse(call, kind);
            let refused = match at_checkpoint {
                true => store.checkpoint(),
                false => store.append(log.id, log.lease.next, log.lease.epoch, batch(&["lost"]), None).await,
            };
            let remedy = match kind {
                ErrorKind::StorageFull => "make room",
                ErrorKind::ReadOnlyFilesystem => "can be written",
                _ => "see to the disk",
            };
            says(&refused.expect_err(&context), &["/simulated", remedy]);
            says(&store.ready().await.expect_err(&context), &["/simulated", remedy]);
            store.create(with_claims("ann", &[])).await.expect_err(&context);
            let seen = texts(&*shared, log.id).await;
            assert!(seen.is_err() || seen.as_deref() == Ok(&["one".into(), "two".into()]), "{context}: {seen:?}");
            disk.heal();
            until(async || store.ready().await.is_ok()).await;
            // A sync that failed has told the writer no, and the record is there all the same: it finds its place anew.
            let lease = store.lease(log.id, NodeId::new()).await.expect("leased");
            let more = if lease.next == Cursor(4) { vec!["one", "two", "lost"] } else { vec!["one", "two"] };
            log.lease = lease;
            log.say(&["three"]).await;
            log.end(&["end"]).await;
            let expected: Vec<_> = more.into_iter().chain(["three", "end"]).map(str::to_owned).collect();
            assert_eq!(texts(&*shared, log.id).await, Ok(expected.clone()), "{context}");
            assert!(disk.is_reserved(), "{context}");
            for seed in 0..40 {
                let chance = &mut fastrand::Rng::with_seed(seed);
                let again = match durability {
                    Durability::Disk => disk.power_cut(chance),
                    _ => disk.kill(chance),
                };
                let reopened = open(&again, durability).expect("opens");
                if durability != Durability::Lazy {
                    assert_eq!(texts(&*reopened, log.id).await, Ok(expected.clone()), "{context}, seed {seed}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_takes_the_ends_of_what_runs_and_nothing_new_until_there_is_room() {
    let (disk, store, shared) = fresh(Durability::Os);
    let mut logs = Vec::new();
    for _ in 0..20 {
        let mut log = Log::of(&shared, with_claims("ann", &[])).await;
        log.say(&["one"]).await;
        logs.push(log);
    }
    disk.fill_up(1000);
    let long = "x".repeat(2000);
    let first = &logs[0];
    let full = store.append(first.id, first.lease.next, first.lease.epoch, batch(&[&long]), None).await;
    says(&full.expect_err("full"), &["/simulated", "make room"]);
    for log in &logs {
        // It is tried until it is taken, as a writer does.
        let (next, epoch) = (log.lease.next, log.lease.epoch);
        until(async || store.append(log.id, next, epoch, batch(&["end"]), last()).await.is_ok()).await;
    }
    says(&store.ready().await.expect_err("there is no room"), &["make room"]);
    says(&store.create(with_claims("ann", &[])).await.expect_err("there is no room"), &["make room"]);
    let killed = disk.kill_when_full();
    disk.heal();
    until(async || store.ready().await.is_ok()).await;
    assert!(disk.is_reserved());
    Log::of(&shared, with_claims("ann", &[])).await.end(&["end"]).await;
    // Who is started on a full disk tells what it has, and takes no more.
    let reopened = open(&killed, Durability::Os).expect("opens");
    says(&reopened.ready().await.expect_err("there is no room"), &["make room"]);
    for log in &logs {
        for store in [&*shared, &*reopened as &dyn Store] {
            assert_eq!(texts(store, log.id).await, Ok(vec!["one".into(), "end".into()]));
            assert!(store.meta(log.id).await.expect("meta").closed());
        }
    }
    killed.heal();
    until(async || reopened.ready().await.is_ok()).await;
}

#[tokio::test]
async fn on_a_full_disk_a_store_is_opened_in_the_room_it_kept_and_takes_the_ends_of_what_ran() {
    let (disk, store, shared) = fresh(Durability::Os);
    let mut log = Log::of(&shared, with_claims("ann", &[])).await;
    log.say(&["one"]).await;
    disk.fill_up(0);
    let killed = disk.kill_when_full();
    drop((shared, store));
    let store = open(&killed, Durability::Os).expect("opens");
    assert!(!killed.is_reserved());
    says(&store.ready().await.expect_err("there is no room"), &["make room"]);
    let lease = store.lease(log.id, NodeId::new()).await.expect("leased");
    store.append(log.id, lease.next, lease.epoch, batch(&["end"]), last()).await.expect("an end is taken at once");
    assert_eq!(texts(&*store, log.id).await, Ok(vec!["one".into(), "end".into()]));
}

#[test]
fn a_disk_that_refuses_while_the_store_is_opened_is_told_with_a_remedy_and_opens_when_it_is_mended() {
    for call in [Call::OpenBase, Call::WriteBase, Call::SyncBase, Call::ReadBase, Call::CreateLog, Call::WriteLog] {
        let (disk, store, _) = fresh(Durability::Os);
        drop(store);
        for (kind, remedy) in
            [(ErrorKind::PermissionDenied, "right to write"), (ErrorKind::ReadOnlyFilesystem, "can be written")]
        {
            disk.refuse(call, kind);
            let refused = open(&disk, Durability::Os).map(|_| ()).expect_err("refused");
            says(&refused, &["/simulated", remedy, "[store] path"]);
            disk.heal();
        }
        open(&disk, Durability::Os).expect("opens");
    }
}

#[tokio::test]
async fn a_record_whose_sync_failed_is_never_answered_on_the_word_of_a_later_sync() {
    let (disk, store, shared) = fresh(Durability::Disk);
    let mut log = Log::of(&shared, with_claims("ann", &[])).await;
    log.say(&["one"]).await;
    disk.refuse(Call::SyncLog, ErrorKind::Other);
    // The base neither: the store cannot mend itself.
    disk.refuse(Call::SyncBase, ErrorKind::Other);
    let two = store.append(log.id, log.lease.next, log.lease.epoch, batch(&["two"]), None).await;
    says(&two.expect_err("not synced"), &["/simulated"]);
    disk.forget();
    disk.heal();
    let mut cuts = 0;
    until(async || {
        // Each look is answered with what a power cut cannot take back.
        if let Ok(seen) = texts(&*shared, log.id).await {
            let again = disk.power_cut(&mut fastrand::Rng::with_seed(cuts));
            let reopened = open(&again, Durability::Disk).expect("opens");
            assert_eq!(texts(&*reopened, log.id).await, Ok(seen));
        }
        store.ready().await.is_ok()
    })
    .await;
    cuts += 1;
    log.lease = store.lease(log.id, NodeId::new()).await.expect("leased");
    log.end(&["end"]).await;
    let again = disk.power_cut(&mut fastrand::Rng::with_seed(cuts));
    let reopened = open(&again, Durability::Disk).expect("opens");
    assert_eq!(texts(&*reopened, log.id).await, Ok(vec!["one".into(), "two".into(), "end".into()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_into_a_file_that_was_left_is_synced_before_it_is_answered() {
    let (disk, store, shared) = fresh(Durability::Disk);
    let mut log = Log::of(&shared, with_claims("ann", &[])).await;
    log.say(&["one"]).await;
    let append = |at, text: &'static str| {
        let (shared, id, epoch) = (shared.clone(), log.id, log.lease.epoch);
        tokio::spawn(async move { shared.append(id, Cursor(at), epoch, batch(&[text]), None).await })
    };
    let held = disk.hold_syncs();
    let two = append(2, "two");
    held.has_one();
    let before = disk.changes();
    let three = append(3, "three");
    until(async || disk.changes() > before).await;
    // The log goes on in another file, and what it brought is not in the base.
    disk.refuse(Call::SyncBase, ErrorKind::Other);
    store.checkpoint().expect_err("refused");
    drop(held);
    two.await.expect("ran").expect("synced");
    if three.await.expect("ran").is_ok() {
        let again = disk.power_cut(&mut fastrand::Rng::with_seed(0)); // with nothing kept that was not synced
        let reopened = open(&again, Durability::Disk).expect("opens");
        assert_eq!(texts(&*reopened, log.id).await, Ok(vec!["one".into(), "two".into(), "three".into()]));
    }
}

#[tokio::test]
async fn a_base_that_cannot_be_read_is_told_and_read_again_when_it_can() {
    let (disk, store, shared) = fresh(Durability::Os);
    let mut log = Log::of(&shared, with_claims("ann", &[])).await;
    let mut chance = fastrand::Rng::with_seed(1);
    let long: Vec<String> = (0..100).map(|_| (0..9000).map(|_| chance.alphanumeric()).collect()).collect();
    log.end(&long).await;
    let id = log.id;
    drop((log, shared, store));
    disk.read_each_time();
    let store = open(&disk, Durability::Os).expect("opens");
    disk.refuse(Call::ReadBase, ErrorKind::Other);
    says(&texts(&*store, id).await.expect_err("refused"), &["/simulated/base.redb", "see to the disk"]);
    says(&store.ready().await.expect_err("refused"), &["/simulated/base.redb", "see to the disk"]);
    disk.heal();
    until(async || store.ready().await.is_ok()).await;
    assert!(texts(&*store, id).await == Ok(long));
}

/// What four streams say: one ended and in the base, one open and in the base, one ended and one open in the log.
struct Four {
    ids: Vec<StreamId>,
    said: Vec<Vec<String>>,
    disk: Arc<Simulated>,
}

impl Four {
    async fn new() -> Self {
        let (disk, store, shared) = fresh(Durability::Os);
        let (mut ids, mut said) = (Vec::new(), Vec::new());
        for of in 0..4 {
            let mut log = Log::of(&shared, with_claims("ann", &[key(&of.to_string())])).await;
            let mut texts: Vec<_> = (0..60).map(|n| format!("{of}.{n} {}", "x".repeat(n * 37))).collect();
            log.say(&texts).await;
            if of % 2 == 0 {
                texts.push(format!("{of} end"));
                log.end(&texts[60..]).await;
            }
            ids.push(log.id);
            said.push(texts);
            if of == 1 {
                store.checkpoint().expect("checkpointed");
            }
        }
        let disk = disk.kill(&mut fastrand::Rng::with_seed(1));
        Self { ids, said, disk }
    }

    /// Opens what was spoiled. Whatever it has of a stream is the stream's; whatever it cannot have is told. Gives back how many
    /// streams are there whole, or what was said.
    async fn look(&self, disk: &Arc<Simulated>, context: &str) -> Result<usize, StoreError> {
        let store = open(disk, Durability::Os)?;
        let listed = store.list("ann", None, 9).await;
        assert!(listed.is_err() || listed.is_ok_and(|listed| listed.len() <= 4), "{context}");
        let mut whole = 0;
        for (id, said) in self.ids.iter().zip(&self.said) {
            let read = texts(&*store, *id).await;
            if let Ok(read) = &read {
                assert!(said.starts_with(read), "{context}: {read:?}");
                let meta = store.meta(*id).await.expect("meta");
                assert!(!meta.closed() || read == said, "{context}");
                whole += usize::from(read == said);
            }
            if let Ok(lease) = store.lease(*id, NodeId::new()).await {
                assert!(
                    lease.next.0 > said.len() as u64,
                    "{context}: {} would be taken for one that was shown",
                    lease.next
                );
            }
            if let Ok(meta) = store.meta(*id).await {
                assert_eq!(meta.owner, "ann", "{context}");
            }
        }
        Ok(whole)
    }
}

#[tokio::test]
async fn a_byte_that_has_changed_in_the_log_ends_it_there_and_what_follows_is_not_taken_for_what_was_lost() {
    let four = Four::new().await;
    let mut length = 0;
    four.disk.spoiled(false, |bytes| length = bytes.len());
    let mut chance = fastrand::Rng::with_seed(1);
    let some = (0..80).map(|_| chance.usize(0..length));
    for at in (0..40).chain(some).chain(length - 40..length).collect::<Vec<_>>() {
        let spoiled = four.disk.spoiled(false, |bytes| bytes[at] ^= 1 << (at % 8));
        let whole = four.look(&spoiled, &format!("byte {at} of {length}")).await.expect("opens");
        assert!((2..4).contains(&whole), "byte {at}: what is in the base is whole, and not all of the log is");
    }
    for length in [0, 1, 7, 8, 9, 24, length / 2, length - 1] {
        let spoiled = four.disk.spoiled(false, |bytes| bytes.truncate(length));
        four.look(&spoiled, &format!("cut to {length}")).await.expect("opens");
    }
}

#[tokio::test]
async fn a_byte_that_has_changed_in_the_base_is_never_read_as_anything_else() {
    let four = Four::new().await;
    let mut length = 0;
    four.disk.spoiled(true, |bytes| length = bytes.len());
    let full = std::env::var("LASTWORD_TEST").is_ok_and(|test| test == "full");
    let (mut chance, step) = (fastrand::Rng::with_seed(1), if full { 64 } else { 4096 });
    let (mut refused, mut part, mut whole) = (0, 0, 0);
    quiet();
    for from in (0..length).step_by(step) {
        let (at, bit) = (from + chance.usize(0..step.min(length - from)), chance.u8(0..8));
        let spoiled = four.disk.spoiled(true, |bytes| bytes[at] ^= 1 << bit);
        match four.look(&spoiled, &format!("byte {at} of {length}")).await {
            Ok(4) => whole += 1,
            Ok(_) => part += 1,
            Err(error) => {
                let remedy = if error.to_string().contains("has form") { "the version that" } else { "copy of" };
                says(&error, &["/simulated/base.redb", remedy]);
                refused += 1;
            }
        }
    }
    eprintln!("of {length} bytes: {refused} refused, {part} in part, {whole} whole");
    assert!(whole > 0 && refused + part > 0);
}

#[tokio::test]
async fn a_base_that_was_cut_short_or_emptied_or_is_older_than_its_log_is_refused_with_a_remedy() {
    let four = Four::new().await;
    let mut length = 0;
    four.disk.spoiled(true, |bytes| length = bytes.len());
    quiet();
    for cut in [0, 1, 100, 4096, length / 4, length / 2, length - 1] {
        let spoiled = four.disk.spoiled(true, |bytes| bytes.truncate(cut));
        if let Err(error) = four.look(&spoiled, &format!("cut to {cut}")).await {
            says(&error, &["/simulated/base.redb", "copy of"]);
        } else {
            assert!(cut > 4096, "a base of {cut} bytes was opened");
        }
    }
    let mut old = Vec::new();
    four.disk.spoiled(true, |bytes| old.clone_from(bytes));
    let store = open(&four.disk, Durability::Os).expect("opens");
    let shared: Arc<dyn Store> = store.clone();
    let mut log = Log::of(&shared, with_claims("ann", &[])).await;
    log.say(&["one"]).await;
    let killed = four.disk.kill(&mut fastrand::Rng::with_seed(1));
    let error = four.look(&killed.spoiled(true, |bytes| *bytes = old), "an old base").await.expect_err("too old");
    says(&error, &["/simulated/base.redb", "older", "copy of all", "/simulated/log away"]);
}

/// redb panics where what it reads cannot be, and each time would say so.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let all = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|place| place.file().contains("redb-")) {
                all(panic);
            }
        }));
    });
}

#[tokio::test]
async fn a_base_whose_state_has_changed_is_refused() {
    let four = Four::new().await;
    for name in ["version", "generation", "seq", "used", "boot", "lazy", "loose", "clean", "sum"] {
        let disk = four.disk.spoiled(true, |_| {});
        change(&disk, |write| {
            let mut table = write.open_table(redb::TableDefinition::<&str, u64>::new("state")).expect("a table");
            let value = table.get(name).expect("readable").map_or(0, |value| value.value());
            table.insert(name, value ^ 2).expect("put");
        });
        let remedy = if name == "version" { "the version that" } else { "copy of" };
        says(&four.look(&disk, name).await.expect_err(name), &["/simulated/base.redb", remedy]);
    }
}

/// Changes the base as this store never would.
fn change(disk: &Arc<Simulated>, how: impl FnOnce(&redb::WriteTransaction)) {
    let base = disk.base(&redb::Builder::new()).expect("opens");
    let write = base.begin_write().expect("begun");
    how(&write);
    write.commit().expect("committed");
}

/// Damages the first block of a stream.
fn damage(disk: &Arc<Simulated>, what: &'static str, id: StreamId) -> Arc<Simulated> {
    let disk = disk.spoiled(true, |_| {});
    change(&disk, |write| {
        let table = redb::TableDefinition::<&[u8], &[u8]>::new(what);
        let mut table = write.open_table(table).expect("a table");
        let from = &id.to_bytes()[..];
        let found = table.range(from..).expect("a range").next().expect("an entry").expect("readable");
        let (key, mut value) = (found.0.value().to_vec(), found.1.value().to_vec());
        drop(found);
        assert!(key.starts_with(from));
        let at = value.len() / 2;
        value[at] ^= 1;
        table.insert(&key[..], &value[..]).expect("put");
    });
    disk
}

#[tokio::test]
async fn a_stream_that_is_damaged_is_told_and_can_be_removed_and_the_others_are_as_they_were() {
    let four = Four::new().await;
    for what in ["blocks", "streams", "prompts"] {
        for (of, id) in four.ids.iter().enumerate().take(2) {
            let store = open(&damage(&four.disk, what, *id), Durability::Os).expect("opens");
            let store: Arc<dyn Store> = store;
            let damaged = Err(StoreError::Damaged(*id));
            match what {
                "prompts" => assert_eq!(store.prompt(*id).await, Err(StoreError::Damaged(*id))),
                _ => assert_eq!(texts(&*store, *id).await, damaged, "{what} of {of}"),
            }
            says(&StoreError::Damaged(*id), &[&id.to_string(), "remove the stream", "copy of"]);
            for (other, said) in four.ids.iter().zip(&four.said).filter(|(other, _)| *other != id) {
                assert_eq!(texts(&*store, *other).await.as_ref(), Ok(said), "{what} of {of}");
            }
            let listed = store.list("ann", None, 9).await.expect("a list").len();
            assert_eq!(listed, if what == "streams" { 3 } else { 4 });
            if of == 1 && what != "streams" {
                let lease = store.lease(*id, NodeId::new()).await.expect("leased");
                assert_eq!(lease.next, Cursor(61), "it is not lost how far it had come");
                store.append(*id, lease.next, lease.epoch, batch(&["end"]), last()).await.expect("it can be ended");
            }
            assert_eq!(store.remove(*id).await, Ok(()), "{what} of {of}");
            assert_eq!(texts(&*store, *id).await, Err(StoreError::Unknown(*id)));
        }
    }
}

#[tokio::test]
async fn a_block_that_is_missing_is_never_read_over() {
    let four = Four::new().await;
    for id in &four.ids[..2] {
        for n in 0..2 {
            let disk = four.disk.spoiled(true, |_| {});
            change(&disk, |write| {
                let table = redb::TableDefinition::<&[u8], &[u8]>::new("blocks");
                let mut table = write.open_table(table).expect("a table");
                let from = &id.to_bytes()[..];
                let found = table.range(from..).expect("a range").nth(n).expect("two blocks").expect("readable");
                let key = found.0.value().to_vec();
                drop(found);
                assert!(key.starts_with(from));
                table.remove(&key[..]).expect("removed").expect("it was there");
            });
            let store = open(&disk, Durability::Os).expect("opens");
            assert_eq!(texts(&*store, *id).await, Err(StoreError::Damaged(*id)), "block {n}");
        }
    }
}

#[tokio::test]
async fn retention_drops_a_damaged_stream_like_any_other() {
    let four = Four::new().await;
    for what in ["blocks", "streams"] {
        let disk = damage(&four.disk, what, four.ids[0]);
        let store: Arc<dyn Store> = Arc::new(
            Disk::open_on(disk.clone(), Durability::Os, Duration::ZERO, u64::MAX, |_| Vec::new()).expect("opens"),
        );
        assert_eq!(store.expire().await, Ok(2), "{what}");
        assert_eq!(store.expire().await, Ok(0), "{what}");
        drop(store);
        let store: Arc<dyn Store> =
            Arc::new(Disk::open_on(disk, Durability::Os, Duration::ZERO, u64::MAX, |_| Vec::new()).expect("opens"));
        assert_eq!(store.expire().await, Ok(0), "{what}");
        assert_eq!(store.meta(four.ids[0]).await.err(), Some(StoreError::Expired(four.ids[0])));
        assert_eq!(holder(&store, "ann", &key("0")).await, None, "{what}: its claim is free");
        let again = with_claims("ann", &[key("0")]);
        assert_eq!(store.create(again).await, Ok(Created::New));
    }
}

#[tokio::test]
async fn what_else_lies_in_the_folder_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).map(Arc::new);
    let store: Arc<dyn Store> = open().expect("opens");
    let mut log = Log::of(&store, with_claims("ann", &[])).await;
    log.say(&["one"]).await;
    let id = log.id;
    drop((log, store));
    let logs = folder.path().join("log");
    for name in ["notes.txt", "zz-zz.log", "0000000000000001.log", ".log", "x"] {
        fs::write(logs.join(name), "garbage").expect("written");
    }
    fs::write(folder.path().join("lost+found"), "").expect("written");
    fs::create_dir(logs.join("a folder")).expect("made");
    fs::write(folder.path().join("reserve"), "short").expect("written");
    let store: Arc<dyn Store> = open().expect("opens");
    let page = store.read(id, Cursor::START, ALL, None).await.expect("readable");
    assert_eq!(records_of(&page), vec![(1, b"one".to_vec())]);
    assert_eq!(fs::read(logs.join("notes.txt")).expect("there"), b"garbage");
    assert!(fs::metadata(folder.path().join("reserve")).expect("there").len() > 1 << 20);
}

#[test]
fn a_folder_that_cannot_be_a_store_is_refused_with_its_path_and_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |path: &Path| match Disk::open(path, Durability::Os, HOUR, u64::MAX) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    };
    let file = folder.path().join("data");
    fs::write(&file, "").expect("written");
    says(&refused(&file), &[&*file.to_string_lossy(), "a file is in its way", "[store] path"]);
    let other = folder.path().join("other");
    fs::create_dir_all(&other).expect("made");
    fs::write(other.join("base.redb"), "this is no database, but it is there").expect("written");
    says(&refused(&other), &["other/base.redb", "damaged", "move it away"]);
    fs::remove_file(other.join("base.redb")).expect("removed");
    fs::create_dir(other.join("base.redb")).expect("made");
    says(&refused(&other), &["other/base.redb", "[store] path"]);
}
