//! What a disk store keeps of blocks in short: who comes back in a long log reads that, and one block.

use std::{path::Path, sync::Arc};

use lastword::{
    id::{Cursor, NodeId, StreamId},
    store::{Chunk, Durability, Store, disk::Disk},
};

use super::{HOUR, Log, with_claims};

/// Of each block it keeps which records are in it: enough to see that none is missing and none is there twice.
fn open(folder: &Path) -> (Arc<Disk>, Arc<dyn Store>) {
    let condense = |chunk: &Chunk| format!("{} to {}", chunk.first, chunk.last()).into_bytes();
    let disk = Disk::open_condensing(folder, Durability::Os, HOUR, u64::MAX, condense).expect("opens");
    let disk = Arc::new(disk);
    (disk.clone(), disk)
}

/// Up to where the stretches go that end at `last` or before; they adjoin from the first record on.
async fn short_of(store: &Arc<dyn Store>, id: StreamId, last: u64) -> u64 {
    let mut behind = 0;
    for (end, piece) in store.condensed(id, Cursor(last)).await.expect("readable") {
        assert_eq!(piece, format!("{} to {end}", behind + 1));
        behind = end.0;
    }
    assert!(behind <= last);
    behind
}

#[tokio::test]
async fn all_blocks_before_the_last_one_are_there_in_short_whatever_the_checkpoints_and_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, store) = open(folder.path());
    let (log, short) = (Log::new(&store).await, Log::of(&store, with_claims("", &[])).await);
    let (id, other) = (log.id, short.id);
    drop((disk, store, log, short));
    let mut said = 0;
    for _life in 0..3 {
        let (disk, store) = open(folder.path());
        let lease = store.lease(id, NodeId::new()).await.expect("leased");
        let mut log = Log { id, store: store.clone(), lease };
        for round in 0..20 {
            // Of such records a block of 64 KiB has 16; a checkpoint cuts somewhere else each time.
            log.say(&["x".repeat(4000), "y".repeat(4000), "z".repeat(4000)]).await;
            said += 3;
            if round % 2 == 0 {
                disk.checkpoint().expect("checkpointed");
            }
            // At most the newest three are in memory alone, and a block that is not full may be in the base.
            let end = short_of(&store, id, said).await;
            assert!(said - end <= 3 + 16, "of {said} only {end}");
        }
    }
    let (disk, store) = open(folder.path());
    let lease = store.lease(id, NodeId::new()).await.expect("leased");
    Log { id, store: store.clone(), lease }.end(&["end"]).await;
    disk.checkpoint().expect("checkpointed");
    for last in 0..=said + 1 {
        let end = short_of(&store, id, last).await;
        assert!(last - end <= 17, "up to {last} only {end}");
    }
    assert!(store.condensed(other, Cursor(9)).await.expect("readable").is_empty());
    store.remove(id).await.expect("removed");
    disk.checkpoint().expect("checkpointed");
    assert_eq!(store.condensed(id, Cursor(said)).await.unwrap_or_default(), Vec::new());
}
