//! A base that is much larger than what it holds is made small again, and nobody notices.

use std::{io::ErrorKind, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use lastword::{
    id::StreamId,
    store::{Durability, Store, disk::Disk},
};

use super::{
    HOUR, Log, holder, key, records_of,
    simulated::{Call, Simulated},
    with_claims,
};

fn taken(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("base.redb")).expect("there").blocks() * 512
}

/// What does not pack well.
fn noise(seed: u64) -> Vec<u8> {
    let mut chance = fastrand::Rng::with_seed(seed);
    (0..40_000).map(|_| chance.u8(..)).collect()
}

async fn said(store: &Arc<dyn Store>, id: StreamId) -> Vec<(u64, Vec<u8>)> {
    records_of(&store.read(id, lastword::id::Cursor::START, super::ALL, None).await.expect("readable"))
}

/// A store with many streams, of which then a few are left.
async fn few_of_many(disk: &Arc<Disk>) -> Vec<(u64, StreamId)> {
    let store: Arc<dyn Store> = disk.clone();
    let mut left = Vec::new();
    let mut gone = Vec::new();
    for n in 0..100 {
        let mut log = Log::of(&store, with_claims("ann", &[key(&n.to_string())])).await;
        log.end(&[noise(n)]).await;
        if n % 20 == 19 { left.push((n, log.id)) } else { gone.push(log.id) }
    }
    disk.checkpoint().expect("checkpointed");
    for id in gone {
        store.remove(id).await.expect("removed");
    }
    disk.checkpoint().expect("checkpointed");
    left
}

async fn all_is_there(store: &Arc<dyn Store>, left: &[(u64, StreamId)]) {
    for (n, id) in left {
        assert_eq!(said(store, *id).await, [(1, noise(*n))]);
        assert_eq!(holder(store, "ann", &key(&n.to_string())).await, Some(*id));
    }
    assert_eq!(store.list("ann", None, 100).await.expect("a list").len(), left.len());
    assert_eq!(holder(store, "ann", &key("0")).await, None);
    assert_eq!(store.check(|record| Ok(record.len() == 40_000)).await.expect("checked").faults, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_is_given_back_to_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Arc::new(Disk::open(folder.path(), Durability::Os, HOUR, u64::MAX).expect("opens"));
    let disk = open();
    let store: Arc<dyn Store> = disk.clone();
    let left = few_of_many(&disk).await;
    let mut running = Log::new(&store).await;
    running.say(&["before"]).await;
    let before = taken(folder.path());
    assert!(before > 3 << 20, "{before}");
    let reading = {
        let (store, left) = (store.clone(), left.clone());
        tokio::spawn(async move { all_is_there(&store, &left).await })
    };
    assert_eq!(disk.shrink(0), Ok(true));
    reading.await.expect("whoever reads meanwhile reads on");
    let after = taken(folder.path());
    assert!(after < before / 4, "{before} before, {after} after");
    all_is_there(&store, &left).await;
    running.say(&["behind"]).await;
    disk.checkpoint().expect("checkpointed");
    assert_eq!(disk.shrink(after * 2), Ok(false), "it is small");
    drop((disk, store, running.store));
    let store: Arc<dyn Store> = open();
    all_is_there(&store, &left).await;
    assert_eq!(said(&store, running.id).await.len(), 2);
}

#[tokio::test]
async fn where_it_cannot_be_made_small_it_stays_as_it_is() {
    let simulated = Simulated::new();
    let open = |on: &Arc<Simulated>| {
        Arc::new(Disk::open_on(on.clone(), Durability::Os, HOUR, u64::MAX, |_| Vec::new()).expect("opens"))
    };
    let disk = open(&simulated);
    let store: Arc<dyn Store> = disk.clone();
    let left = few_of_many(&disk).await;
    simulated.fill_up(300_000);
    assert_eq!(disk.shrink(0), Ok(false), "there is not room enough for both");
    simulated.heal();
    simulated.refuse(Call::WriteBase, ErrorKind::Other);
    let refused = disk.shrink(0).expect_err("refused").to_string();
    assert!(refused.contains("base.redb could not be replaced"), "{refused}");
    simulated.heal();
    all_is_there(&store, &left).await;
    let mut log = Log::new(&store).await;
    log.say(&["on"]).await;
    disk.checkpoint().expect("checkpointed");
    assert_eq!(disk.shrink(0), Ok(true));
    all_is_there(&store, &left).await;
    drop((disk, store, log));
    all_is_there(&(open(&simulated) as Arc<dyn Store>), &left).await;
}
