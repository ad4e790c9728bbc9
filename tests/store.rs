//! The contract of a store, claim by claim, as the trait's own words have it. Each claim is a function that makes its stores with
//! an [`Open`], so that another engine is one more line of `hold_to_the_contract!`.

#[path = "store/condensed.rs"]
mod condensed;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/fleeting.rs"]
mod fleeting;
#[path = "store/kept.rs"]
mod kept;
#[path = "store/power.rs"]
mod power;
#[path = "store/reopened.rs"]
mod reopened;
#[path = "store/sample.rs"]
mod sample;
#[path = "store/shrunk.rs"]
mod shrunk;
#[path = "store/simulated.rs"]
mod simulated;

use std::{
    collections::BTreeSet,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use lastword::{
    id::{Cursor, Epoch, NodeId, StreamId},
    store::{
        Batch, Claim, ClaimKey, ClaimKind, Created, LEASE, Last, Lease, NewStream, Page, Signal, Store, StoreError,
        memory::Memory,
    },
};
use proptest::prelude::*;
use tokio::time::{Instant, advance, timeout};

/// Makes an empty store that keeps finished logs for this long, and at most so many bytes.
type Open = fn(Duration, u64) -> Arc<dyn Store>;

const ALL: usize = usize::MAX;
const HOUR: Duration = Duration::from_secs(3600);

macro_rules! claims {
    ($how:tt $open:expr; $($claim:ident)*) => {
        $(
            #[tokio::test $how]
            async fn $claim() {
                super::$claim($open).await;
            }
        )*
    };
}

/// The whole contract, for an engine and the way to open one.
macro_rules! hold_to_the_contract {
    ($engine:ident, $cases:expr, $open:expr) => {
        mod $engine {
            use super::*;

            claims! { (start_paused = true) $open;
                a_new_log_is_empty_and_open_and_keeps_what_it_was_given
                records_read_back_in_order_under_their_cursors
                any_pages_give_the_same_records_once
                a_log_is_closed_only_by_its_end
                an_append_takes_the_next_place_and_no_other
                an_append_needs_the_latest_epoch
                nothing_follows_the_end
                what_was_refused_has_changed_nothing
                a_lease_goes_on_behind_the_last_record
                a_closed_log_is_leased_to_nobody
                a_waiting_read_wakes_with_an_append
                a_waiting_read_wakes_with_the_end
                a_waiting_read_wakes_with_the_removal
                a_read_waits_no_longer_than_it_should_and_not_at_all_for_what_is_there
                the_first_holder_of_an_idempotency_key_wins
                an_idempotency_key_outlives_the_end_unless_it_is_given_back
                a_chat_belongs_to_the_newest_stream_and_is_free_at_its_end
                claims_of_two_owners_and_of_two_kinds_are_apart
                a_list_has_an_owners_streams_newest_first
                what_is_erased_is_unknown_and_frees_its_claims
                what_expires_is_told_from_what_never_was
                retention_counts_from_the_end_and_spares_what_runs
                what_is_kept_for_a_time_of_its_own_is_erased_then
                over_its_bytes_a_store_drops_the_oldest_finished
                a_full_store_refuses_and_spares_what_runs
                an_end_is_taken_by_a_full_store
                a_repeated_request_costs_a_full_store_nothing
                all_removed_is_no_bytes
                what_is_due_is_due_from_its_end_until_it_is_told
                what_is_gone_is_due_no_longer
                orphans_are_open_logs_whose_node_went_silent
                a_log_that_nobody_leased_is_an_orphan_after_a_while
                signals_reach_all_who_listen
                an_open_store_is_ready
                an_unknown_stream_is_unknown_to_every_call
            }

            claims! { (flavor = "multi_thread", worker_threads = 4) $open;
                of_many_creates_with_one_key_one_makes_a_log
                of_two_writers_at_one_place_exactly_one_wins
                who_sees_the_end_sees_the_claims_freed
                a_reader_beside_a_writer_sees_each_record_once
            }

            proptest! {
                #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases($cases) })]

                #[test]
                fn it_does_as_its_model(steps in proptest::collection::vec(step(), 1..120)) {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                    runtime.block_on(a_store_does_as_its_model($open, steps));
                }
            }
        }
    };
}

hold_to_the_contract!(memory, 256, |retain, max_bytes| Arc::new(Memory::new(retain, max_bytes)));
hold_to_the_contract!(disk, 64, |retain, max_bytes| Arc::new(kept::Kept::new(retain, max_bytes, false)));
// All of it where it stays in the end, not only in the log and in memory.
hold_to_the_contract!(disk_checkpointed, 16, |retain, max_bytes| Arc::new(kept::Kept::new(retain, max_bytes, true)));

// --- A log and its records

async fn a_new_log_is_empty_and_open_and_keeps_what_it_was_given(open: Open) {
    let store = plain(open);
    let new =
        NewStream { about: "about".into(), prompt: "prompt".into(), ..with_claims("ann", &[key("k"), chat("c")]) };
    assert_eq!(store.create(new.clone()).await, Ok(Created::New));
    let meta = store.meta(new.id).await.expect("meta");
    assert_eq!((meta.id, &*meta.owner, meta.created_at), (new.id, "ann", new.created_at));
    assert_eq!((meta.about.clone(), meta.claims.clone()), (new.about.clone(), new.claims.clone()));
    assert_eq!((meta.last, meta.hole, meta.closed(), meta.summary), (Cursor::START, None, false, None));
    assert_eq!(store.prompt(new.id).await, Ok(new.prompt));
    let page = store.read(new.id, Cursor::START, ALL, None).await.expect("readable");
    assert_eq!((page.chunks.len(), page.last(), page.closed), (0, None, false));
}

async fn records_read_back_in_order_under_their_cursors(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    let records = ["one", "", "three", "\0\r\n", "fünf"];
    log.say(&records[..2]).await;
    log.say(&records[2..3]).await;
    log.end(&records[3..]).await;
    let expected: Vec<_> = records.iter().zip(1..).map(|(record, n)| (n, record.as_bytes().to_vec())).collect();
    assert_eq!(log.all().await, expected);
    let meta = store.meta(log.id).await.expect("meta");
    assert_eq!((meta.last, meta.summary), (Cursor(5), Some("summary".into())));
}

async fn any_pages_give_the_same_records_once(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    let sizes = (0..300).map(|n: usize| if n.is_multiple_of(50) { 9000 } else { n % 40 });
    let records: Vec<_> = sizes.map(|size| "x".repeat(size)).collect();
    for (n, batch) in records.chunks(7).enumerate() {
        match n == 20 {
            true => log.say_each(batch).await,
            false => log.say(batch).await,
        }
    }
    let whole = log.all().await;
    assert_eq!(whole.len(), records.len());
    for (after, max) in [(0, 1), (0, 100), (0, 10_000), (0, ALL), (1, 1), (149, 333), (299, 1), (300, ALL), (301, 1)] {
        let mut read = Vec::new();
        let mut cursor = Cursor(after);
        loop {
            let page = store.read(log.id, cursor, max, None).await.expect("readable");
            assert!(!page.closed, "an open log is open whatever was read");
            let Some(last) = page.last() else { break };
            let several = page.records().count() > 1;
            let size: usize = page.records().map(|(_, record)| record.len()).sum();
            assert!(!several || size <= max, "{size} bytes, {max} were asked for");
            assert!(page.records().all(|(at, _)| at > cursor));
            read.extend(records_of(&page));
            cursor = last;
        }
        assert_eq!(read, whole[whole.len().min(after as usize)..], "after {after}, {max} at once");
    }
}

async fn a_log_is_closed_only_by_its_end(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    let closed = async |after: u64, max| store.read(log.id, Cursor(after), max, None).await.expect("a page").closed;
    assert!(!closed(0, ALL).await);
    log.say(&["one", "two"]).await;
    let closed = async |after: u64, max| store.read(log.id, Cursor(after), max, None).await.expect("a page").closed;
    assert!(!closed(0, ALL).await && !closed(2, ALL).await && !closed(9, ALL).await, "an empty page is not the end");
    assert!(!store.meta(log.id).await.expect("meta").closed());
    log.end(&["three"]).await;
    let closed = async |after: u64, max| store.read(log.id, Cursor(after), max, None).await.expect("a page").closed;
    assert!(!closed(0, 1).await && !closed(1, 1).await, "a page before the end is not the end");
    assert!(closed(2, 1).await && closed(0, ALL).await && closed(3, ALL).await);
    assert!(store.meta(log.id).await.expect("meta").closed());
}

async fn an_append_takes_the_next_place_and_no_other(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.say(&["one", "two"]).await;
    for at in [0, 1, 2, 4, u64::MAX] {
        let refused = store.append(log.id, Cursor(at), log.lease.epoch, batch(&["x"]), None).await;
        assert_eq!(refused, Err(StoreError::Position { at: Cursor(at), next: Cursor(3) }));
    }
    assert_eq!(log.all().await.len(), 2);
    log.say(&["three"]).await;
}

async fn an_append_needs_the_latest_epoch(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.say(&["one"]).await;
    let old = log.lease;
    log.lease = store.lease(log.id, NodeId::new()).await.expect("leased");
    assert!(log.lease.epoch > old.epoch);
    for epoch in [old.epoch, Epoch(0), Epoch(log.lease.epoch.0 + 1)] {
        for last in [None, Some(Last::default())] {
            let refused = store.append(log.id, Cursor(2), epoch, batch(&["x"]), last).await;
            assert_eq!(refused, Err(StoreError::Fenced), "{epoch:?}");
        }
    }
    assert_eq!(log.all().await.len(), 1);
    log.end(&["two"]).await;
}

async fn nothing_follows_the_end(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.end(&["end"]).await;
    for (at, last) in [(2, None), (2, Some(Last::default())), (1, Some(Last::default()))] {
        let refused = store.append(log.id, Cursor(at), log.lease.epoch, batch(&["x"]), last).await;
        assert_eq!(refused, Err(StoreError::Closed));
    }
    assert_eq!(log.all().await.len(), 1);
}

async fn what_was_refused_has_changed_nothing(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.say(&["one"]).await;
    let before = (store.bytes(), store.meta(log.id).await.expect("meta").last);
    let _ = store.append(log.id, Cursor(7), log.lease.epoch, batch(&["much"]), None).await;
    let _ = store.append(log.id, Cursor(2), Epoch(0), batch(&["much"]), Some(Last::default())).await;
    assert_eq!((store.bytes(), store.meta(log.id).await.expect("meta").last), before);
    log.say(&["two"]).await;
}

async fn a_lease_goes_on_behind_the_last_record(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    assert_eq!(log.lease.next, Cursor(1));
    log.say(&["one", "two"]).await;
    log.lease = store.lease(log.id, NodeId::new()).await.expect("leased");
    assert_eq!(log.lease.next, Cursor(3));
    log.say(&["three"]).await;
    assert_eq!(log.all().await.len(), 3);
}

async fn a_closed_log_is_leased_to_nobody(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.end(&["end"]).await;
    assert_eq!(store.lease(log.id, NodeId::new()).await, Err(StoreError::Closed));
}

// --- Waiting

async fn a_waiting_read_wakes_with_an_append(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    let mut reading = pin!(log.wait(0));
    assert!(is_waiting(&mut reading));
    log.say(&["one"]).await;
    let page = reading.await.expect("readable");
    assert_eq!((records_of(&page), page.closed), (vec![(1, b"one".to_vec())], false));
    // Behind what is there already: only the next one wakes it.
    let mut reading = pin!(log.wait(1));
    assert!(is_waiting(&mut reading));
    log.say(&["two"]).await;
    assert_eq!(records_of(&reading.await.expect("readable")), vec![(2, b"two".to_vec())]);
}

async fn a_waiting_read_wakes_with_the_end(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.say(&["one"]).await;
    let (mut reading, mut ahead) = (pin!(log.wait(1)), pin!(log.wait(2)));
    assert!(is_waiting(&mut reading) && is_waiting(&mut ahead));
    log.end(&["end"]).await;
    let page = reading.await.expect("readable");
    assert_eq!((records_of(&page), page.closed), (vec![(2, b"end".to_vec())], true));
    let page = ahead.await.expect("readable");
    assert_eq!((records_of(&page), page.closed), (vec![], true));
}

async fn a_waiting_read_wakes_with_the_removal(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.say(&["one"]).await;
    let mut reading = pin!(log.wait(1));
    assert!(is_waiting(&mut reading));
    store.remove(log.id).await.expect("removed");
    assert_eq!(reading.await.err(), Some(StoreError::Unknown(log.id)));
}

async fn a_read_waits_no_longer_than_it_should_and_not_at_all_for_what_is_there(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    log.say(&["one"]).await;
    let began = Instant::now();
    let minute = Duration::from_secs(60);
    let page = store.read(log.id, Cursor(1), ALL, Some(minute)).await.expect("readable");
    assert_eq!((page.records().count(), page.closed), (0, false));
    assert!((minute..minute * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(store.read(log.id, Cursor(0), ALL, Some(minute)).await.expect("readable").records().count(), 1);
    store.read(log.id, Cursor(1), ALL, None).await.expect("readable");
    log.end(&["end"]).await;
    store.read(log.id, Cursor(2), ALL, Some(minute)).await.expect("readable");
    assert!(began.elapsed() < minute);
}

// --- Claims

async fn the_first_holder_of_an_idempotency_key_wins(open: Open) {
    let store = plain(open);
    let first = with_claims("ann", &[key("k")]);
    assert_eq!(store.create(first.clone()).await, Ok(Created::New));
    let second = with_claims("ann", &[chat("c"), key("other"), key("k")]);
    assert_eq!(store.create(second.clone()).await, Ok(Created::Held(first.id)));
    assert_eq!(store.meta(second.id).await.err(), Some(StoreError::Unknown(second.id)), "nothing was created");
    assert_eq!(holder(&store, "ann", &key("k")).await, Some(first.id));
    assert_eq!(holder(&store, "ann", &key("other")).await, None, "nor claimed");
    assert_eq!(holder(&store, "ann", &chat("c")).await, None);
    assert_eq!(store.list("ann", None, 9).await.expect("a list").len(), 1);
}

async fn an_idempotency_key_outlives_the_end_unless_it_is_given_back(open: Open) {
    let store = plain(open);
    for (release, after) in [(false, true), (true, false)] {
        let claim = key(if release { "back" } else { "kept" });
        let mut log = Log::of(&store, with_claims("ann", std::slice::from_ref(&claim))).await;
        log.append(&["end"], Some(Last { release, ..Last::default() })).await;
        assert_eq!(holder(&store, "ann", &claim).await.is_some(), after);
        let again = store.create(with_claims("ann", &[claim])).await.expect("created");
        assert_eq!(again, if after { Created::Held(log.id) } else { Created::New });
        assert_eq!(store.meta(log.id).await.expect("meta").claims.len(), 1, "what it once claimed is still known");
    }
}

async fn a_chat_belongs_to_the_newest_stream_and_is_free_at_its_end(open: Open) {
    let store = plain(open);
    let mut old = Log::of(&store, with_claims("ann", &[chat("c")])).await;
    let mut new = Log::of(&store, with_claims("ann", &[chat("c")])).await;
    assert_eq!(holder(&store, "ann", &chat("c")).await, Some(new.id));
    old.end(&["end"]).await;
    assert_eq!(holder(&store, "ann", &chat("c")).await, Some(new.id), "not the old one's to free");
    new.end(&["end"]).await;
    assert_eq!(holder(&store, "ann", &chat("c")).await, None);
}

async fn claims_of_two_owners_and_of_two_kinds_are_apart(open: Open) {
    let store = plain(open);
    let streams = [with_claims("ann", &[key("k")]), with_claims("bob", &[key("k")]), with_claims("ann", &[chat("k")])];
    for stream in &streams {
        assert_eq!(store.create(stream.clone()).await, Ok(Created::New));
    }
    assert_eq!(holder(&store, "ann", &key("k")).await, Some(streams[0].id));
    assert_eq!(holder(&store, "bob", &key("k")).await, Some(streams[1].id));
    assert_eq!(holder(&store, "ann", &chat("k")).await, Some(streams[2].id));
    assert_eq!(holder(&store, "bob", &chat("k")).await, None);
}

async fn who_sees_the_end_sees_the_claims_freed(open: Open) {
    let store = plain(open);
    for _ in 0..2000 {
        let mut log = Log::of(&store, with_claims("ann", &[key("k"), chat("c")])).await;
        let looking = tokio::spawn({
            let (store, id) = (store.clone(), log.id);
            async move {
                while !store.meta(id).await.expect("meta").closed() {
                    tokio::task::yield_now().await;
                }
                (holder(&store, "ann", &key("k")).await, holder(&store, "ann", &chat("c")).await)
            }
        });
        tokio::task::yield_now().await;
        log.append(&["end"], Some(Last { release: true, ..Last::default() })).await;
        assert_eq!(looking.await.expect("ran"), (None, None));
    }
}

async fn of_many_creates_with_one_key_one_makes_a_log(open: Open) {
    for _ in 0..20 {
        let store = plain(open);
        let creates = (0..16).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let new = with_claims("ann", &[key("k")]);
                (new.id, store.create(new).await.expect("an answer"))
            })
        });
        let made = futures_util::future::join_all(creates).await.into_iter().map(|made| made.expect("ran"));
        let (new, held): (Vec<_>, Vec<_>) = made.partition(|(_, created)| *created == Created::New);
        assert_eq!(new.len(), 1);
        assert!(held.iter().all(|(_, created)| *created == Created::Held(new[0].0)));
        assert_eq!(store.list("ann", None, 99).await.expect("a list").len(), 1);
    }
}

// --- Listing, erasing, forgetting

async fn a_list_has_an_owners_streams_newest_first(open: Open) {
    let store = plain(open);
    let mut ids = Vec::new();
    for n in 0..10 {
        let owner = if n % 2 == 0 { "ann" } else { "bob" };
        ids.push(Log::of(&store, with_claims(owner, &[])).await.id);
    }
    let list = async |owner, before, n| {
        let list = store.list(owner, before, n).await.expect("a list");
        list.into_iter().map(|meta| meta.id).collect::<Vec<_>>()
    };
    let anns: Vec<_> = ids.iter().copied().step_by(2).rev().collect();
    assert_eq!(list("ann", None, 99).await, anns);
    assert_eq!(list("ann", None, 2).await, anns[..2]);
    assert_eq!(list("ann", Some(anns[1]), 2).await, anns[2..4]);
    assert_eq!(list("ann", Some(anns[4]), 2).await, vec![]);
    assert_eq!(list("ann", Some(ids[1]), 9).await, anns[4..], "before a stream of somebody else's");
    assert_eq!(list("ann", None, 0).await, vec![]);
    assert_eq!(list("", None, 9).await, vec![], "nobody is not everybody");
    store.remove(anns[0]).await.expect("removed");
    assert_eq!(list("ann", None, 99).await, anns[1..]);
}

async fn what_is_erased_is_unknown_and_frees_its_claims(open: Open) {
    let store = plain(open);
    for ended in [false, true] {
        let mut log = Log::of(&store, with_claims("ann", &[key("k"), chat("c")])).await;
        log.say(&["one"]).await;
        if ended {
            log.end(&["end"]).await;
        }
        store.remove(log.id).await.expect("removed");
        assert_gone(&store, &log, StoreError::Unknown(log.id)).await;
        assert_eq!(holder(&store, "ann", &key("k")).await, None);
        assert_eq!(holder(&store, "ann", &chat("c")).await, None);
        assert_eq!(store.orphans().await, Ok(vec![]));
    }
}

async fn what_expires_is_told_from_what_never_was(open: Open) {
    let store = open(HOUR, u64::MAX);
    let mut log = Log::of(&store, with_claims("ann", &[key("k")])).await;
    log.end(&["end"]).await;
    advance(HOUR).await;
    while store.expire().await.expect("expired") > 0 {}
    assert_gone(&store, &log, StoreError::Expired(log.id)).await;
    assert_eq!(holder(&store, "ann", &key("k")).await, None);
    assert_eq!(store.create(with_claims("ann", &[key("k")])).await, Ok(Created::New));
    let never = StreamId::new();
    assert_eq!(store.meta(never).await.err(), Some(StoreError::Unknown(never)));
}

async fn retention_counts_from_the_end_and_spares_what_runs(open: Open) {
    let store = open(HOUR, u64::MAX);
    let (mut early, mut late, running) = (Log::new(&store).await, Log::new(&store).await, Log::new(&store).await);
    advance(HOUR * 2).await;
    assert_eq!(store.expire().await, Ok(0), "all of them run");
    early.end(&["end"]).await;
    advance(HOUR / 2).await;
    late.end(&["end"]).await;
    advance(HOUR / 2 - Duration::from_secs(1)).await;
    assert_eq!(store.expire().await, Ok(0));
    advance(Duration::from_secs(1)).await;
    assert_eq!((store.expire().await, store.expire().await), (Ok(1), Ok(0)));
    assert_eq!(store.meta(early.id).await.err(), Some(StoreError::Expired(early.id)));
    assert!(store.meta(late.id).await.is_ok());
    advance(HOUR * 100).await;
    while store.expire().await.expect("expired") > 0 {}
    assert!(store.meta(running.id).await.is_ok());
    assert_eq!(store.list("", None, 9).await.expect("a list").len(), 1);
}

/// Room for some three of these.
const RECORD: usize = 100_000;
const ROOM: u64 = 350_000;

async fn what_is_kept_for_a_time_of_its_own_is_erased_then(open: Open) {
    let store = open(HOUR, ROOM);
    let minute = Duration::from_secs(60);
    let fleeting = || NewStream { keep: Some(minute), ..with_claims("ann", &[key("k")]) };
    let mut log = Log::of(&store, fleeting()).await;
    let (mut kept, mut sooner) = (Log::new(&store).await, Log::of(&store, with_claims("", &[])).await);
    advance(minute * 2).await;
    assert_eq!(store.expire().await, Ok(0), "it runs");
    log.end(&["end"]).await;
    kept.end(&["end"]).await;
    advance(minute - Duration::from_millis(1)).await;
    assert_eq!(store.expire().await, Ok(0));
    advance(Duration::from_millis(1)).await;
    assert_eq!((store.expire().await, store.expire().await), (Ok(1), Ok(0)));
    assert_eq!(store.meta(log.id).await.err(), Some(StoreError::Unknown(log.id)));
    assert_eq!(
        (holder(&store, "ann", &key("k")).await, store.list("ann", None, 9).await.map(|all| all.len())),
        (None, Ok(0))
    );
    assert!(store.meta(kept.id).await.is_ok());
    // Retention has no say in it.
    let long = NewStream { keep: Some(HOUR * 2), ..with_claims("", &[]) };
    sooner.end(&["end"]).await;
    let mut long = Log::of(&store, long).await;
    long.end(&["end"]).await;
    advance(HOUR).await;
    while store.expire().await.expect("expired") > 0 {}
    assert!(store.meta(long.id).await.is_ok());
    advance(HOUR).await;
    assert_eq!((store.expire().await, store.expire().await), (Ok(1), Ok(0)));
    assert_eq!(store.meta(long.id).await.err(), Some(StoreError::Unknown(long.id)));
    assert_eq!(store.bytes(), 0);
}

async fn over_its_bytes_a_store_drops_the_oldest_finished(open: Open) {
    let store = open(HOUR, ROOM);
    let record = "x".repeat(RECORD);
    let mut running = Log::new(&store).await;
    running.say(&[&record]).await;
    let mut finished = Vec::new();
    for _ in 0..5 {
        let mut log = Log::new(&store).await;
        log.end(&[&record]).await;
        assert!(store.bytes() <= ROOM + 2 * RECORD as u64, "{}", store.bytes());
        finished.push(log);
        // Room is made when it is needed: by the next append.
        let mut next = Log::new(&store).await;
        next.say(&["small"]).await;
        store.remove(next.id).await.expect("removed");
    }
    let there = async |log: &Log| store.meta(log.id).await.is_ok();
    assert!(there(&running).await, "what runs is spared");
    assert!(there(&finished[4]).await, "the newest is spared");
    assert_eq!(store.meta(finished[0].id).await.err(), Some(StoreError::Expired(finished[0].id)));
    let mut kept = Vec::new();
    for log in &finished {
        kept.push(there(log).await);
    }
    assert!(kept.is_sorted(), "the oldest go first: {kept:?}");
    assert!(store.bytes() <= ROOM, "{}", store.bytes());
}

async fn a_full_store_refuses_and_spares_what_runs(open: Open) {
    let store = open(HOUR, ROOM);
    let record = "x".repeat(RECORD);
    let mut log = Log::new(&store).await;
    log.say(&[&record, &record, &record]).await;
    let is_full = |done: Result<(), StoreError>| matches!(done, Err(StoreError::Full { .. }));
    let before = store.bytes();
    assert!(is_full(store.append(log.id, log.lease.next, log.lease.epoch, batch(&[&record]), None).await));
    let large = NewStream { prompt: record.clone().into(), ..with_claims("", &[key("k")]) };
    assert!(is_full(store.create(large.clone()).await.map(drop)));
    assert_eq!(store.meta(large.id).await.err(), Some(StoreError::Unknown(large.id)));
    assert_eq!(holder(&store, "", &key("k")).await, None);
    assert_eq!(store.bytes(), before);
    assert_eq!(log.all().await.len(), 3);
    log.say(&["small"]).await;
    store.remove(log.id).await.expect("removed");
    assert_eq!(store.create(large).await, Ok(Created::New), "there is room again");
}

async fn an_end_is_taken_by_a_full_store(open: Open) {
    let store = open(HOUR, ROOM);
    let mut log = Log::new(&store).await;
    while store.append(log.id, log.lease.next, log.lease.epoch, batch(&[&"x".repeat(500)]), None).await.is_ok() {
        log.lease.next = log.lease.next.plus(1);
    }
    log.append(&["x".repeat(300)], Some(Last { summary: "s".repeat(300).into(), release: false })).await;
    assert!(store.meta(log.id).await.expect("meta").closed());
}

async fn a_repeated_request_costs_a_full_store_nothing(open: Open) {
    let store = open(HOUR, ROOM);
    let mut log = Log::of(&store, with_claims("", &[key("k")])).await;
    log.end(&[&"x".repeat(RECORD)]).await;
    let again = NewStream { prompt: "x".repeat(3 * RECORD).into(), ..with_claims("", &[key("k")]) };
    assert_eq!(store.create(again).await, Ok(Created::Held(log.id)));
    assert_eq!(log.all().await.len(), 1);
}

async fn all_removed_is_no_bytes(open: Open) {
    let store = plain(open);
    assert_eq!(store.bytes(), 0);
    let mut logs = Vec::new();
    for n in 0..5 {
        let new = NewStream { prompt: "prompt".into(), ..with_claims("ann", &[key(&n.to_string())]) };
        let mut log = Log::of(&store, new).await;
        let before = store.bytes();
        log.say(&["x".repeat(1000)]).await;
        assert!(store.bytes() >= before + 1000, "records count");
        if n % 2 == 0 {
            log.end(&["end"]).await;
        }
        let _ = store.create(with_claims("ann", &[key("0")])).await;
        logs.push(log);
    }
    for log in logs {
        store.remove(log.id).await.expect("removed");
    }
    assert_eq!(store.bytes(), 0);
}

// --- Writers and nodes

async fn of_two_writers_at_one_place_exactly_one_wins(open: Open) {
    let store = plain(open);
    let log = Log::new(&store).await;
    for at in 1..200 {
        let writers = [b"a", b"b"].map(|said| {
            let (store, id, epoch) = (store.clone(), log.id, log.lease.epoch);
            let batch: Batch = [said].into_iter().collect();
            tokio::spawn(async move { store.append(id, Cursor(at), epoch, batch, None).await })
        });
        let [one, other] = writers;
        let done = [one.await.expect("ran"), other.await.expect("ran")];
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
        assert!(done.contains(&Err(StoreError::Position { at: Cursor(at), next: Cursor(at + 1) })), "{done:?}");
    }
    assert_eq!(log.all().await.len(), 199);
}

async fn a_reader_beside_a_writer_sees_each_record_once(open: Open) {
    let store = plain(open);
    let mut log = Log::new(&store).await;
    let readers = [1, 50, ALL].map(|max| {
        let (store, id) = (store.clone(), log.id);
        tokio::spawn(async move {
            let (mut read, mut after) = (Vec::new(), Cursor::START);
            loop {
                let page = store.read(id, after, max, Some(HOUR)).await.expect("readable");
                read.extend(records_of(&page));
                after = page.last().unwrap_or(after);
                if page.closed {
                    return read;
                }
            }
        })
    });
    for n in 0..500 {
        log.say(&[n.to_string()]).await;
    }
    log.end(&["500"]).await;
    let expected: Vec<_> = (0..=500_u64).map(|n| (n + 1, n.to_string().into_bytes())).collect();
    for reader in readers {
        assert_eq!(timeout(Duration::from_secs(20), reader).await.expect("it ends").expect("ran"), expected);
    }
}

/// The streams that are due behind this place.
async fn due(store: &Arc<dyn Store>, after: u64) -> Vec<StreamId> {
    let due = store.due(after, ALL).await.expect("a list");
    assert!(due.is_sorted_by_key(|(place, _)| *place) && due.iter().all(|(place, _)| *place > after));
    due.into_iter().map(|(_, id)| id).collect()
}

fn to_be_told() -> NewStream {
    NewStream { due: true, ..with_claims("ann", &[]) }
}

async fn what_is_due_is_due_from_its_end_until_it_is_told(open: Open) {
    let store = plain(open);
    let mut logs = Vec::new();
    for keep in [None, Some(HOUR), None] {
        logs.push(Log::of(&store, NewStream { keep, ..to_be_told() }).await);
    }
    let mut untold = Log::new(&store).await;
    untold.end(&["end"]).await;
    let [first, second, third] = &mut logs[..] else { unreachable!() };
    third.say(&["one"]).await;
    assert_eq!(due(&store, 0).await, [], "nothing has ended that is to be told");
    for log in [&mut *third, first, second] {
        log.end(&["end"]).await;
    }
    let ids = [third.id, first.id, second.id];
    assert_eq!(due(&store, 0).await, ids, "in the order of their ends");
    let page = store.due(0, 2).await.expect("a list");
    assert_eq!(page.iter().map(|(_, id)| *id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!(due(&store, page[1].0).await, ids[2..]);
    store.told(ids[0]).await.expect("told");
    assert_eq!(due(&store, 0).await, ids[1..]);
    for id in [ids[0], ids[2], untold.id, StreamId::new()] {
        store.told(id).await.expect("also what is not due");
    }
    assert_eq!(due(&store, 0).await, [ids[1]]);
    let mut late = Log::of(&store, to_be_told()).await;
    late.end(&["end"]).await;
    let last = store.due(0, ALL).await.expect("a list").last().map_or(0, |(place, _)| *place);
    assert!(last > page[1].0, "a place is not given twice");
    assert_eq!(due(&store, last - 1).await, [late.id]);
    for log in logs.iter().chain([&late]) {
        assert!(store.meta(log.id).await.expect("meta").closed(), "told or not, it is kept");
    }
}

async fn what_is_gone_is_due_no_longer(open: Open) {
    let store = open(HOUR, u64::MAX);
    let mut logs = Vec::new();
    for _ in 0..3 {
        let mut log = Log::of(&store, to_be_told()).await;
        log.end(&["end"]).await;
        logs.push(log.id);
    }
    let mut fleeting = Log::of(&store, NewStream { keep: Some(HOUR / 2), ..to_be_told() }).await;
    fleeting.end(&["end"]).await;
    store.remove(logs[1]).await.expect("removed");
    assert_eq!(due(&store, 0).await, [logs[0], logs[2], fleeting.id]);
    advance(HOUR / 2).await;
    assert_eq!(store.expire().await, Ok(1));
    assert_eq!(due(&store, 0).await, [logs[0], logs[2]]);
    advance(HOUR / 2).await;
    assert_eq!(store.expire().await, Ok(2));
    assert_eq!(due(&store, 0).await, []);
    is_sound(&store).await;
}

async fn orphans_are_open_logs_whose_node_went_silent(open: Open) {
    let store = plain(open);
    let (alive, silent) = (NodeId::new(), NodeId::new());
    let (kept, mut lost, mut ended) = (Log::new(&store).await, Log::new(&store).await, Log::new(&store).await);
    store.lease(kept.id, alive).await.expect("leased");
    lost.lease = store.lease(lost.id, silent).await.expect("leased");
    ended.lease = store.lease(ended.id, silent).await.expect("leased");
    ended.end(&["end"]).await;
    for _ in 0..3 {
        assert_eq!(store.orphans().await, Ok(vec![]));
        advance(LEASE / 3 - Duration::from_millis(1)).await;
        store.renew(alive).await.expect("renewed");
    }
    assert_eq!(store.orphans().await, Ok(vec![]), "a lease lasts as long as it should");
    advance(LEASE / 3).await;
    assert_eq!(store.orphans().await, Ok(vec![lost.id]));
    lost.lease = store.lease(lost.id, alive).await.expect("leased");
    assert_eq!(store.orphans().await, Ok(vec![]), "it has a writer again");
    lost.end(&["end"]).await;
    advance(LEASE * 2).await;
    assert_eq!(store.orphans().await, Ok(vec![kept.id]));
}

async fn a_log_that_nobody_leased_is_an_orphan_after_a_while(open: Open) {
    let store = plain(open);
    let new = with_claims("", &[]);
    store.create(new.clone()).await.expect("created");
    advance(LEASE - Duration::from_millis(1)).await;
    assert_eq!(store.orphans().await, Ok(vec![]));
    advance(Duration::from_millis(1)).await;
    assert_eq!(store.orphans().await, Ok(vec![new.id]));
}

async fn signals_reach_all_who_listen(open: Open) {
    let store = plain(open);
    let log = Log::new(&store).await;
    store.signal(log.id, Signal::Cancel).await.expect("nobody listens, and that is well");
    let (mut one, mut other) = (store.signals(), store.signals());
    store.signal(log.id, Signal::Cancel).await.expect("sent");
    assert_eq!(one.next().await, Some((log.id, Signal::Cancel)));
    assert_eq!(other.next().await, Some((log.id, Signal::Cancel)));
    assert_eq!(one.next().now_or_never(), None, "what was sent before is not heard");
}

async fn an_open_store_is_ready(open: Open) {
    assert_eq!(plain(open).ready().await, Ok(()));
}

async fn an_unknown_stream_is_unknown_to_every_call(open: Open) {
    let store = plain(open);
    let log = Log { id: StreamId::new(), store: store.clone(), lease: Lease { epoch: Epoch(1), next: Cursor(1) } };
    assert_gone(&store, &log, StoreError::Unknown(log.id)).await;
}

// --- Against a model

#[derive(Clone, Debug)]
enum Step {
    Create { owner: u8, key: Option<u8>, chat: Option<u8> },
    Lease(usize),
    Append { log: usize, sizes: Vec<u8>, ahead: u64, stale: bool, last: Option<bool> },
    Read { log: usize, after: u64, max: usize },
    List { owner: u8, before: Option<usize>, n: usize },
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let log = 0..8_usize;
    let few = || proptest::option::of(0..3_u8);
    let sizes = proptest::collection::vec(0..60_u8, 1..6);
    let ahead = prop_oneof![8 => Just(0), 1 => 1..3_u64];
    let last = prop_oneof![8 => Just(None), 1 => any::<bool>().prop_map(Some)];
    prop_oneof![
        2 => (0..2_u8, few(), few()).prop_map(|(owner, key, chat)| Step::Create { owner, key, chat }),
        1 => log.clone().prop_map(Step::Lease),
        8 => (log.clone(), sizes, ahead, prop::bool::weighted(0.1), last)
            .prop_map(|(log, sizes, ahead, stale, last)| Step::Append { log, sizes, ahead, stale, last }),
        4 => (log.clone(), 0..40_u64, 1..400_usize).prop_map(|(log, after, max)| Step::Read { log, after, max }),
        1 => (0..2_u8, proptest::option::of(log.clone()), 0..5_usize)
            .prop_map(|(owner, before, n)| Step::List { owner, before, n }),
        1 => log.prop_map(Step::Remove),
    ]
}

/// What a store should hold, in the plainest form.
#[derive(Default)]
struct Model {
    logs: Vec<ModelLog>,
}

struct ModelLog {
    id: StreamId,
    owner: String,
    claims: Vec<ClaimKey>,
    /// Those it holds.
    held: Vec<ClaimKey>,
    records: Vec<Vec<u8>>,
    epoch: u64,
    closed: bool,
    gone: bool,
}

impl Model {
    fn holder(&self, key: &ClaimKey) -> Option<StreamId> {
        self.logs.iter().find(|log| log.held.contains(key)).map(|log| log.id)
    }
}

async fn a_store_does_as_its_model(open: Open, steps: Vec<Step>) {
    let (store, mut model) = (plain(open), Model::default());
    for step in steps {
        match step {
            Step::Create { owner, key: k, chat: c } => {
                let claims = k.iter().map(|k| key(&k.to_string())).chain(c.iter().map(|c| chat(&c.to_string())));
                let owner = owner.to_string();
                let new = with_claims(&owner, &claims.collect::<Vec<_>>());
                let claims: Vec<_> = new.claims.iter().map(|claim| claim.key.clone()).collect();
                let exclusive = claims.iter().filter(|claim| claim.kind == ClaimKind::Idempotency);
                let held = exclusive.filter_map(|claim| model.holder(claim)).next();
                let (id, created) = (new.id, store.create(new).await);
                assert_eq!(created, Ok(held.map_or(Created::New, Created::Held)));
                if held.is_none() {
                    model.logs.iter_mut().for_each(|log| log.held.retain(|claim| !claims.contains(claim)));
                    let (records, held) = (Vec::new(), claims.clone());
                    model.logs.push(ModelLog {
                        id,
                        owner,
                        claims,
                        held,
                        records,
                        epoch: 0,
                        closed: false,
                        gone: false,
                    });
                }
            }
            Step::Lease(at) => {
                let Some(log) = model.logs.get_mut(at) else { continue };
                let leased = store.lease(log.id, NodeId::new()).await;
                match (log.gone, log.closed) {
                    (true, _) => assert_eq!(leased, Err(StoreError::Unknown(log.id))),
                    (_, true) => assert_eq!(leased, Err(StoreError::Closed)),
                    _ => {
                        let Lease { epoch, next } = leased.expect("leased");
                        assert!(epoch.0 > log.epoch);
                        assert_eq!(next.0, log.records.len() as u64 + 1);
                        log.epoch = epoch.0;
                    }
                }
            }
            Step::Append { log, sizes, ahead, stale, last } => {
                let Some(log) = model.logs.get_mut(log) else { continue };
                let next = Cursor(log.records.len() as u64 + 1);
                let (at, epoch) = (next.plus(ahead), Epoch(log.epoch - u64::from(stale && log.epoch > 0)));
                let said: Vec<_> = sizes.iter().map(|size| vec![*size; usize::from(*size)]).collect();
                let batch: Batch = said.iter().collect();
                let stored = last.map(|release| Last { release, summary: "s".into() });
                let done = store.append(log.id, at, epoch, batch, stored).await;
                let refused = match () {
                    () if log.gone => Some(StoreError::Unknown(log.id)),
                    () if epoch.0 != log.epoch => Some(StoreError::Fenced),
                    () if log.closed => Some(StoreError::Closed),
                    () if ahead > 0 => Some(StoreError::Position { at, next }),
                    () => None,
                };
                assert_eq!(done.err(), refused);
                if refused.is_none() {
                    log.records.extend(said);
                    log.closed = last.is_some();
                    if let Some(release) = last {
                        log.held.retain(|claim| claim.kind == ClaimKind::Idempotency && !release);
                    }
                }
            }
            Step::Read { log, after, max } => {
                let Some(log) = model.logs.get(log) else { continue };
                let read = store.read(log.id, Cursor(after), max, None).await;
                if log.gone {
                    assert_eq!(read.err(), Some(StoreError::Unknown(log.id)));
                    continue;
                }
                let page = read.expect("readable");
                let read = records_of(&page);
                let behind = log.records.iter().zip(1..).skip(after as usize).map(|(record, n)| (n, record.clone()));
                let behind: Vec<(u64, Vec<u8>)> = behind.collect();
                assert!(behind.starts_with(&read) && read.is_empty() == behind.is_empty());
                assert_eq!(page.closed, log.closed && read.len() == behind.len());
            }
            Step::List { owner, before, n } => {
                let before = before.and_then(|before| model.logs.get(before)).map(|log| log.id);
                let listed = store.list(&owner.to_string(), before, n).await.expect("a list");
                let logs = model.logs.iter().rev().filter(|log| !log.gone && log.owner == owner.to_string());
                let logs = logs.filter(|log| before.is_none_or(|before| log.id < before));
                let expected = logs.take(n).map(|log| (log.id, log.records.len() as u64, log.closed));
                let listed = listed.iter().map(|meta| (meta.id, meta.last.0, meta.closed()));
                assert_eq!(listed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                an_operator_sees_the_model(&store, &model, before, n).await;
            }
            Step::Remove(at) => {
                let Some(log) = model.logs.get_mut(at) else { continue };
                let removed = store.remove(log.id).await;
                assert_eq!(removed, if log.gone { Err(StoreError::Unknown(log.id)) } else { Ok(()) });
                log.gone = true;
                log.held.clear();
            }
        }
        for claim in model.logs.iter().flat_map(|log| &log.claims) {
            assert_eq!(store.holder(claim).await, Ok(model.holder(claim)), "{claim:?}");
        }
    }
    an_operator_sees_the_model(&store, &model, None, ALL).await;
    is_sound(&store).await;
    for log in model.logs.iter().filter(|log| !log.gone) {
        store.remove(log.id).await.expect("removed");
    }
    assert_eq!(store.bytes(), 0);
    is_sound(&store).await;
}

/// Where the engine can be looked into: everybody's streams, and how many there are.
async fn an_operator_sees_the_model(store: &Arc<dyn Store>, model: &Model, before: Option<StreamId>, n: usize) {
    let Ok(stats) = store.stats().await else { return };
    let there: Vec<_> = model.logs.iter().rev().filter(|log| !log.gone).collect();
    let running = there.iter().filter(|log| !log.closed).count();
    assert_eq!((stats.running, stats.finished), (running as u64, (there.len() - running) as u64));
    assert_eq!((stats.bytes, stats.oldest.is_some(), stats.refuses), (store.bytes(), !there.is_empty(), None));
    for open in [false, true] {
        let all = store.all(open, before, n).await.expect("a list");
        let logs = there.iter().filter(|log| !(open && log.closed) && before.is_none_or(|before| log.id < before));
        let expected = logs.take(n).map(|log| (log.id, log.records.len() as u64, log.closed));
        let listed = all.iter().map(|meta| (meta.id, meta.last.0, meta.closed()));
        assert_eq!(listed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
    let bytes = store.all(false, None, ALL).await.expect("a list").iter().map(|meta| meta.bytes).sum::<u64>();
    assert_eq!(bytes, stats.bytes);
}

/// Where the engine can be looked into: nothing is wrong with what it keeps. No record of these tests is known for an end.
async fn is_sound(store: &Arc<dyn Store>) {
    let Ok(mut checked) = store.check(|_| Ok(false)).await else { return };
    checked.faults.retain(|fault| fault.what != "it is closed, and its last record is no end");
    assert_eq!(checked.faults, []);
}

// --- What the claims share

/// A log that the test writes.
struct Log {
    id: StreamId,
    store: Arc<dyn Store>,
    lease: Lease,
}

impl Log {
    async fn new(store: &Arc<dyn Store>) -> Self {
        Self::of(store, with_claims("", &[])).await
    }

    async fn of(store: &Arc<dyn Store>, new: NewStream) -> Self {
        let id = new.id;
        assert_eq!(store.create(new).await, Ok(Created::New));
        let lease = store.lease(id, NodeId::new()).await.expect("leased");
        Self { id, store: store.clone(), lease }
    }

    async fn say(&mut self, records: &[impl AsRef<[u8]>]) {
        self.append(records, None).await;
    }

    async fn say_each(&mut self, records: &[impl AsRef<[u8]>]) {
        for record in records {
            self.append(&[record], None).await;
        }
    }

    async fn end(&mut self, records: &[impl AsRef<[u8]>]) {
        self.append(records, Some(Last { summary: "summary".into(), release: false })).await;
    }

    async fn append(&mut self, records: &[impl AsRef<[u8]>], last: Option<Last>) {
        let Lease { epoch, next } = self.lease;
        self.store.append(self.id, next, epoch, batch(records), last).await.expect("appended");
        self.lease.next = next.plus(records.len() as u64);
    }

    async fn all(&self) -> Vec<(u64, Vec<u8>)> {
        records_of(&self.store.read(self.id, Cursor::START, ALL, None).await.expect("readable"))
    }

    /// Reads what is behind `after`, and waits for it.
    fn wait(&self, after: u64) -> Pin<Box<dyn Future<Output = Result<Page, StoreError>>>> {
        let (store, id) = (self.store.clone(), self.id);
        Box::pin(async move {
            let began = Instant::now();
            let page = store.read(id, Cursor(after), ALL, Some(HOUR)).await;
            assert!(began.elapsed() < HOUR / 2, "it was woken, and did not wait in vain");
            page
        })
    }
}

fn plain(open: Open) -> Arc<dyn Store> {
    open(HOUR, u64::MAX)
}

fn batch(records: &[impl AsRef<[u8]>]) -> Batch {
    records.iter().collect()
}

fn records_of(page: &Page) -> Vec<(u64, Vec<u8>)> {
    page.records().map(|(cursor, record)| (cursor.0, record.to_vec())).collect()
}

fn key(name: &str) -> (ClaimKind, String) {
    (ClaimKind::Idempotency, name.to_owned())
}

fn chat(name: &str) -> (ClaimKind, String) {
    (ClaimKind::Chat, name.to_owned())
}

fn claim_key(owner: &str, (kind, key): &(ClaimKind, String)) -> ClaimKey {
    ClaimKey { owner: owner.to_owned(), kind: *kind, key: key.clone() }
}

fn with_claims(owner: &str, claims: &[(ClaimKind, String)]) -> NewStream {
    let claim = |name| Claim { key: claim_key(owner, name), fingerprint: "fingerprint".into() };
    NewStream {
        id: StreamId::new(),
        owner: owner.to_owned(),
        created_at: 1_700_000_000_000,
        about: Bytes::new(),
        prompt: Bytes::new(),
        claims: claims.iter().map(claim).collect(),
        keep: None,
        due: false,
    }
}

async fn holder(store: &Arc<dyn Store>, owner: &str, claim: &(ClaimKind, String)) -> Option<StreamId> {
    store.holder(&claim_key(owner, claim)).await.expect("an answer")
}

fn is_waiting<F: Future>(reading: &mut Pin<&mut F>) -> bool {
    matches!(reading.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

/// Every call that names the log says the same of it.
async fn assert_gone(store: &Arc<dyn Store>, log: &Log, error: StoreError) {
    let id = log.id;
    let said: BTreeSet<_> = [
        store.meta(id).await.err(),
        store.prompt(id).await.err(),
        store.read(id, Cursor::START, ALL, None).await.err(),
        store.read(id, Cursor::START, ALL, Some(HOUR)).await.err(),
        store.lease(id, NodeId::new()).await.err(),
        store.remove(id).await.err(),
        store.append(id, log.lease.next, log.lease.epoch, batch(&["x"]), None).await.err(),
        store.append(id, log.lease.next, log.lease.epoch, batch(&["x"]), Some(Last::default())).await.err(),
    ]
    .map(|said| format!("{said:?}"))
    .into();
    assert_eq!(said, BTreeSet::from([format!("{:?}", Some(error))]));
    assert!(store.list("ann", None, 99).await.expect("a list").iter().all(|meta| meta.id != id));
}
