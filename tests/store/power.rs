//! Power cuts and kills, on a simulated disk: at any change that is made to the disk, also while the store is being opened after the
//! last one.
//!
//! However it goes, the store opens, and what it has under a cursor is what was ever shown or tried there, nothing else. What may be
//! lost is lost from the end, and the numbering leaps over it; what may not be lost is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use lastword::{
    id::{Cursor, NodeId, StreamId},
    store::{Batch, Durability, Last, Lease, NewStream, Store, StoreError, disk::Disk},
};

use super::{ALL, HOUR, Log, batch, claim_key, key, simulated::Simulated, with_claims};

/// A stream as those know it who wrote and read it.
#[derive(Debug, Default)]
struct Told {
    lease: Option<Lease>,
    created: bool,
    /// Somebody was told that it was removed; or it may be.
    removed: bool,
    maybe_removed: bool,
    ended: bool,
    maybe_ended: bool,
    /// Its end is due no longer; or it may be.
    settled: bool,
    maybe_settled: bool,
    /// What was shown under a cursor, and what was only tried there.
    shown: BTreeMap<u64, String>,
    tried: HashMap<u64, Vec<String>>,
    /// What was shown and is lost.
    lost: BTreeSet<u64>,
    /// Where a writer began.
    begun: BTreeSet<u64>,
}

struct World {
    chance: fastrand::Rng,
    seed: u64,
    disk: Arc<Simulated>,
    streams: BTreeMap<StreamId, Told>,
    said: u64,
}

fn seeds() -> u64 {
    match std::env::var("LASTWORD_CUTS") {
        Ok(seeds) => seeds.parse().expect("a number"),
        Err(_) if std::env::var("LASTWORD_TEST").is_ok_and(|test| test == "full") => 1200,
        Err(_) => 150,
    }
}

#[test]
fn whatever_a_power_cut_leaves_the_store_opens_and_each_log_is_what_was_shown_as_far_as_it_goes() {
    let began = std::env::var("LASTWORD_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let (next, end) = (AtomicU64::new(began), began + seeds());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= end {
                        return;
                    }
                    let chance = fastrand::Rng::with_seed(seed);
                    let mut world = World { chance, seed, disk: Simulated::new(), streams: BTreeMap::new(), said: 0 };
                    runtime.block_on(world.live());
                }
            });
        }
    });
}

#[tokio::test]
async fn after_a_power_cut_the_numbering_leaps_and_after_a_kill_it_does_not() {
    for (durability, boots, leaps) in [
        (Durability::Os, false, false),
        (Durability::Os, true, true),
        (Durability::Lazy, false, true),
        (Durability::Disk, true, false),
    ] {
        let disk = Simulated::new();
        let open = |disk: &Arc<Simulated>| -> Arc<dyn Store> {
            Arc::new(Disk::open_on(disk.clone(), durability, HOUR, u64::MAX, |_| Vec::new()).expect("opens"))
        };
        let store = open(&disk);
        let before = disk.changes();
        let mut log = Log::new(&store).await;
        log.say(&["one", "two"]).await;
        if durability == Durability::Lazy {
            // It is written soon: nobody waits for it, but this test does.
            while disk.changes() == before {
                tokio::task::yield_now().await;
            }
        }
        let chance = &mut fastrand::Rng::with_seed(1);
        let left = if boots { disk.restart() } else { disk.kill(chance) };
        let reopened = open(&left);
        let Lease { epoch, next } = reopened.lease(log.id, NodeId::new()).await.expect("leased");
        assert_eq!(next > Cursor(3), leaps, "{durability:?}, another boot: {boots}");
        let hole = reopened.meta(log.id).await.expect("meta").hole;
        assert_eq!(hole, leaps.then_some((Cursor(2), next)));
        let last = Last { summary: "s".into(), release: false };
        reopened.append(log.id, next, epoch, batch(&["end"]), Some(last)).await.expect("appended");
        drop(reopened);
        let reopened = open(&left);
        assert_eq!(reopened.meta(log.id).await.expect("meta").hole, hole, "the hole stays known");
        let page = reopened.read(log.id, Cursor(0), ALL, None).await.expect("readable");
        let cursors: Vec<_> = page.records().map(|(cursor, _)| cursor).collect();
        assert_eq!((cursors, page.closed), (vec![Cursor(1), Cursor(2), next], true));
        let page = reopened.read(log.id, Cursor(2), ALL, None).await.expect("readable");
        assert_eq!((page.records().count(), page.closed), (1, true));
    }
}

/// An opening that did not come to its end has begun a file of the log, and another one begins elsewhere because more was lost.
#[tokio::test]
async fn what_an_opening_left_that_was_cut_short_is_not_in_the_way_of_the_next_one() {
    for seed in 0..120 {
        let chance = &mut fastrand::Rng::with_seed(seed);
        let open = |disk: &Arc<Simulated>| Disk::open_on(disk.clone(), Durability::Os, HOUR, u64::MAX, |_| Vec::new());
        let disk = Simulated::new();
        let disk_store = Arc::new(open(&disk).expect("opens"));
        let store: Arc<dyn Store> = disk_store.clone();
        let mut log = Log::new(&store).await;
        disk_store.checkpoint().expect("checkpointed");
        for n in 0..10 {
            log.say(&[n.to_string()]).await;
        }
        let killed = disk.kill(chance);
        killed.go_at(1 + seed / 4);
        drop(open(&killed));
        let cut = killed.power_cut(chance);
        let store: Arc<dyn Store> = Arc::new(open(&cut).expect("opens"));
        let Ok(lease) = store.lease(log.id, NodeId::new()).await else { continue };
        let mut log = Log { id: log.id, store: store.clone(), lease };
        for n in 0..20 {
            log.say(&[format!("again {n}")]).await;
        }
        let reopened = open(&cut.kill(chance)).expect("opens");
        assert_eq!(reopened.meta(log.id).await.expect("meta").last, log.lease.next.before(), "seed {seed}");
    }
}

impl World {
    /// Opens the store, works with it and loses it, over and over.
    async fn live(&mut self) {
        let mut durability = self.any_durability();
        let mut store = self.open(durability);
        for _ in 0..4 {
            let (by_plan, soon) = (self.chance.u8(0..4) > 0, self.chance.u32(0..11));
            if by_plan {
                self.disk.go_at(1 + self.chance.u64(0..=1 << soon));
            }
            self.work(&store, durability).await;
            let in_order = self.chance.bool() && !self.disk.is_gone();
            let open = (!in_order).then_some(store); // else it is closed, and the power may be cut in the middle of that
            let kept = durability == Durability::Disk || in_order && !self.disk.is_gone();
            let certain = self.lose(kept, durability == Durability::Lazy);
            drop(open); // it has another disk by now
            durability = self.any_durability();
            store = self.open(durability);
            self.look(&store, certain).await;
        }
    }

    fn any_durability(&mut self) -> Durability {
        [Durability::Os, Durability::Disk, Durability::Lazy][self.chance.usize(0..3)]
    }

    fn open(&self, durability: Durability) -> Arc<Disk> {
        match Disk::open_on(self.disk.clone(), durability, HOUR, u64::MAX, |_| Vec::new()) {
            Ok(store) => Arc::new(store),
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    async fn work(&mut self, store: &Disk, durability: Durability) {
        let open: Vec<_> = self.streams.iter().filter(|(_, told)| !told.ended).map(|(id, _)| *id).collect();
        for id in open {
            self.take_over(store, id).await;
        }
        for _ in 0..self.chance.usize(1..60) {
            if self.disk.is_gone() {
                return;
            }
            let ids: Vec<_> = self.streams.keys().copied().collect();
            let any = (!ids.is_empty()).then(|| ids[self.chance.usize(0..ids.len())]);
            match (self.chance.u8(0..30), any) {
                (0..3, _) | (_, None) => self.create(store).await,
                (3..26, Some(id)) => self.append(store, id).await,
                (26, Some(id)) => {
                    let told = self.streams.get_mut(&id).expect("there");
                    told.maybe_settled |= told.maybe_ended;
                    let settled = store.told(id).await.is_ok() && !self.disk.is_gone();
                    told.settled |= told.ended && settled;
                }
                (27, Some(id)) => {
                    let told = self.streams.get_mut(&id).expect("there");
                    told.maybe_removed = true;
                    told.removed |= store.remove(id).await.is_ok();
                }
                (28, _) if durability == Durability::Lazy && self.chance.u8(0..4) == 0 => {
                    let before = self.disk.changes();
                    let began = std::time::Instant::now();
                    // It is handed over by itself, if there is anything.
                    while self.disk.changes() == before && began.elapsed().as_millis() < 150 {
                        std::thread::yield_now();
                    }
                }
                _ if self.chance.u8(0..3) == 0 => _ = store.shrink(0),
                _ => _ = store.checkpoint(),
            }
        }
    }

    async fn create(&mut self, store: &Disk) {
        let id = StreamId::new();
        let new = NewStream { id, due: true, ..with_claims("ann", &[key(&id.to_string())]) };
        let created = store.create(new).await.is_ok();
        let told = self.streams.entry(id).or_default();
        told.created = created && !self.disk.is_gone();
        if created {
            self.take_over(store, id).await;
        }
    }

    async fn take_over(&mut self, store: &Disk, id: StreamId) {
        let lease = store.lease(id, NodeId::new()).await.expect("leased");
        let told = self.streams.get_mut(&id).expect("there");
        let shown = told.shown.last_key_value().map_or(0, |(last, _)| *last);
        assert!(
            lease.next.0 > shown,
            "seed {}: {} would be taken for one of {shown} that were shown",
            self.seed,
            lease.next
        );
        told.begun.insert(lease.next.0);
        told.lease = Some(lease);
    }

    async fn append(&mut self, store: &Disk, id: StreamId) {
        let last = self.chance.u8(0..12) == 0;
        let n = self.chance.u64(1..5);
        let size = [0, 40, 40, 400, 30_000][self.chance.usize(0..5)];
        let told = self.streams.get_mut(&id).expect("there");
        let Some(lease) = told.lease.as_mut().filter(|_| !told.ended && !told.removed) else { return };
        let texts: Vec<_> = (0..n)
            .map(|_| {
                self.said += 1;
                format!("{} {}", self.said, "x".repeat(size))
            })
            .collect();
        for (at, text) in (lease.next.0..).zip(&texts) {
            told.tried.entry(at).or_default().push(text.clone());
        }
        told.maybe_ended |= last;
        let end = last.then(|| Last { summary: "s".into(), release: false });
        let batch: Batch = texts.iter().collect();
        let appended = store.append(id, lease.next, lease.epoch, batch, end).await;
        // In memory all goes on a while when the machine is gone.
        if appended.is_ok() && !self.disk.is_gone() {
            told.ended |= last;
            told.shown.extend((lease.next.0..).zip(texts));
            lease.next = lease.next.plus(n);
        }
    }

    /// The process or the machine goes, and again while the store is being opened, or not. `kept`: a power cut takes nothing back
    /// that was told; `lazy`: a kill does too. Says whether all that was told is there.
    fn lose(&mut self, mut kept: bool, lazy: bool) -> bool {
        let mut certain = true;
        for n in 0..4 {
            let kills = self.chance.u8(0..3) == 0;
            certain &= kept || kills && !lazy;
            self.disk = match kills {
                true => self.disk.kill(&mut self.chance),
                false => self.disk.power_cut(&mut self.chance),
            };
            if n == 3 || self.chance.bool() {
                break;
            }
            self.disk.go_at(self.chance.u64(1..60));
            let durability = self.any_durability();
            let opened = Disk::open_on(self.disk.clone(), durability, HOUR, u64::MAX, |_| Vec::new());
            let gone = self.disk.is_gone();
            kept |= opened.is_ok(); // all is where it stays
            drop(opened.map_err(|error| assert!(gone, "seed {}: {error}", self.seed)));
        }
        certain
    }

    async fn look(&mut self, store: &Arc<Disk>, certain: bool) {
        let seed = self.seed;
        if self.chance.u8(0..4) == 0 {
            let store: Arc<dyn Store> = store.clone();
            super::is_sound(&store).await;
        }
        let due: Vec<_> = store.due(0, ALL).await.expect("a list").into_iter().map(|(_, id)| id).collect();
        assert!(due.iter().all(|id| self.streams.contains_key(id)), "seed {seed}: nobody knows one that is due");
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            let told = self.streams.get_mut(&id).expect("there");
            let meta = match store.meta(id).await {
                Ok(meta) => meta,
                Err(error) => {
                    assert_eq!(error, StoreError::Unknown(id), "seed {seed}");
                    assert!(!certain || told.maybe_removed || !told.created, "seed {seed}: stream {id} is lost");
                    self.streams.remove(&id);
                    continue;
                }
            };
            assert!(!certain || !told.removed, "seed {seed}: stream {id} is there again");
            let (mut read, mut after, mut closed) = (BTreeMap::new(), Cursor::START, false);
            while !closed {
                let page = store.read(id, after, self.chance.usize(1..50_000), None).await.expect("readable");
                for (cursor, record) in page.records() {
                    let in_order = cursor == after.plus(1) || cursor > after && told.begun.contains(&cursor.0);
                    assert!(in_order, "seed {seed}: {cursor} after {after} of stream {id}");
                    let text = String::from_utf8_lossy(record).into_owned();
                    match told.shown.get(&cursor.0) {
                        Some(shown) => assert_eq!(text, *shown, "seed {seed}: {cursor} of {id}, which was shown"),
                        None => {
                            assert!(told.tried[&cursor.0].contains(&text), "seed {seed}: {text} at {cursor} of {id}")
                        }
                    }
                    read.insert(cursor.0, text);
                    after = cursor;
                }
                closed = page.closed;
                if page.last().is_none() {
                    break;
                }
            }
            assert_eq!((after, closed), (meta.last, meta.closed()), "seed {seed}: stream {id}");
            assert!(!closed || told.maybe_ended, "seed {seed}: stream {id} has an end that nobody wrote");
            let due = due.contains(&id);
            assert!(!due || closed, "seed {seed}: stream {id} is due, and has not ended");
            assert!(due || !closed || told.maybe_settled, "seed {seed}: the end of stream {id} is due no longer");
            assert!(!due || !told.settled || !certain, "seed {seed}: the end of stream {id} is due again");
            if certain {
                let missing =
                    told.shown.keys().find(|cursor| !read.contains_key(cursor) && !told.lost.contains(cursor));
                assert_eq!(missing, None, "seed {seed}: stream {id}, which has up to {after}");
                assert!(closed || !told.ended, "seed {seed}: the end of stream {id} is lost");
                if !told.maybe_removed {
                    let claim = claim_key("ann", &key(&id.to_string()));
                    assert_eq!(store.holder(&claim).await, Ok(Some(id)), "seed {seed}");
                }
            }
            // Who reads now has seen all this, and knows of what was lost.
            (told.created, told.removed, told.ended) = (true, false, closed);
            (told.maybe_removed, told.maybe_ended, told.lease) = (false, closed, None);
            (told.settled, told.maybe_settled) = (closed && !due, closed && !due);
            told.lost = told.shown.keys().filter(|cursor| !read.contains_key(cursor)).copied().collect();
            told.shown.extend(read);
            if !closed {
                self.take_over(store, id).await;
            }
        }
    }
}
