//! The store as its operator sees it: what there is, how much it is, whether it is whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{Disk, code::Row, entry::Entry, keeper};
use crate::{
    id::StreamId,
    store::{Checked, Ends, Engine, Fault, Files, Meta, Stats, Store, StoreError},
};

/// Whether there is a store in this folder.
#[must_use]
pub fn is_there(folder: &Path) -> bool {
    folder.join("base.redb").exists()
}

/// Whether a process has the store in this folder open.
#[must_use]
pub fn is_held(folder: &Path) -> bool {
    File::open(folder.join("lock")).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

impl Disk {
    /// An owner's streams, or everybody's, newest first.
    pub(super) async fn listed(
        &self,
        owner: Option<&str>,
        before: Option<StreamId>,
        n: usize,
    ) -> Result<Vec<Meta>, StoreError> {
        // First what is here, then the base: what moves from here to there meanwhile is seen twice, not never.
        let (mut found, seq) = {
            let inner = self.shared.inner();
            let here: Box<dyn Iterator<Item = (StreamId, &Entry)>> = match owner {
                Some(owner) => Box::new(inner.table.list(owner, before)),
                None => Box::new(inner.table.all(before)),
            };
            let (mut found, mut seq) = (BTreeMap::new(), 0);
            for (id, entry) in here.take(n) {
                seq = seq.max(entry.seq);
                found.insert(id, entry.row.meta(id));
            }
            (found, seq)
        };
        self.settled(seq).await?;
        let (owner, shared) = (owner.map(str::to_owned), self.shared.clone());
        let kept = self.look(move |base| {
            let mut kept = Vec::new();
            let take = |id, row: Row| {
                if !shared.inner().table.is_gone(id) {
                    kept.push((id, row.meta(id)));
                }
                kept.len() < n
            };
            match owner {
                _ if n == 0 => {}
                Some(owner) => base.list(&owner, before, take)?,
                None => base.all(before, take)?,
            }
            Ok(kept)
        });
        for (id, meta) in kept.await? {
            found.entry(id).or_insert(meta);
        }
        Ok(found.into_values().rev().take(n).collect())
    }

    /// Everybody's streams that are not closed, newest first: all of them are in the table.
    pub(super) async fn running(&self, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError> {
        let (found, seq) = {
            let inner = self.shared.inner();
            let open = inner.table.all(before).filter(|(_, entry)| entry.row.summary.is_none()).take(n);
            let found: Vec<_> = open.map(|(id, entry)| (entry.seq, entry.row.meta(id))).collect();
            let seq = found.iter().map(|(seq, _)| *seq).max().unwrap_or_default();
            (found, seq)
        };
        self.settled(seq).await?;
        Ok(found.into_iter().map(|(_, meta)| meta).collect())
    }

    /// What it holds. The table and the base are seen at one moment.
    pub(super) async fn counted(&self) -> Result<Stats, StoreError> {
        let refuses = self.ready().await.err().map(|error| error.to_string());
        let shared = self.shared.clone();
        self.look(move |base| {
            let inner = shared.inner();
            let (running, bytes) = (inner.table.open().len() as u64, inner.table.used);
            let totals = base.totals(inner)?;
            Ok(Stats {
                engine: Engine::Disk,
                folder: shared.medium.path().display().to_string(),
                durability: shared.durability,
                running,
                finished: totals.streams.saturating_sub(running),
                bytes,
                files: files(shared.medium.path()),
                oldest: totals.oldest,
                refuses,
            })
        })
        .await
    }

    /// Walks through all that is kept: what the log has brought is put into the base before.
    pub(super) async fn checked(&self, ends: Ends) -> Result<Checked, StoreError> {
        let shared = self.shared.clone();
        self.look(move |base| {
            let put = keeper::checkpoint(&shared, false);
            let mut checked = base.check(ends)?;
            checked.faults.extend(put.err().map(|error| Fault {
                stream: None,
                what: format!("what was written last was not looked at: {error}"),
                remedy: "check again when the store takes writes".to_owned(),
            }));
            Ok(checked)
        })
        .await
    }
}

/// What is taken on the disk; what cannot be read, because it has just gone, takes nothing.
fn files(folder: &Path) -> Files {
    let taken = |about: io::Result<fs::Metadata>| about.map_or(0, |about| about.blocks() * 512);
    let log = fs::read_dir(folder.join("log")).into_iter().flatten().flatten();
    Files {
        base: taken(fs::metadata(folder.join("base.redb"))),
        log: log.map(|file| taken(file.metadata())).sum(),
        reserve: taken(fs::metadata(folder.join("reserve"))),
    }
}
