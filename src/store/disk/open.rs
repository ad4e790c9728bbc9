//! Opening the store: the log of the last run is read again, and what it brought is put into the base. What may be lost of what was
//! shown is leapt over.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use tracing::{error, warn};

use super::{
    Disk, Folder, LEAP, Medium,
    base::Base,
    code::Op,
    entry::Entry,
    folder::unavailable,
    form::State,
    keeper::Keeper,
    log::{self, Log, Replayed},
    shared::{Clock, Inner, Shared, Synced},
    table::Table,
};
use crate::store::{Condense, Durability, StoreError};

impl Disk {
    /// Opens the store in this folder, which is made if it is not there.
    ///
    /// Blocks, longest after a crash: what was written in the last seconds before it is read again.
    ///
    /// # Errors
    /// When the folder cannot be used; says why and what to do.
    pub fn open(folder: &Path, durability: Durability, retain: Duration, max_bytes: u64) -> Result<Self, StoreError> {
        Self::open_condensing(folder, durability, retain, max_bytes, |_| Vec::new())
    }

    /// As [`Disk::open`]; beside a log of several blocks, these are kept condensed.
    ///
    /// # Errors
    /// As of [`Disk::open`].
    pub fn open_condensing(
        folder: &Path,
        durability: Durability,
        retain: Duration,
        max_bytes: u64,
        condense: Condense,
    ) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(Folder::open(folder)?), durability, retain, max_bytes, condense)
    }

    /// As [`Disk::open_condensing`], on this medium.
    ///
    /// # Errors
    /// As of [`Disk::open`].
    pub fn open_on(
        medium: Arc<dyn Medium>,
        durability: Durability,
        retain: Duration,
        max_bytes: u64,
        condense: Condense,
    ) -> Result<Self, StoreError> {
        let open = || Self::begin(&medium, durability, retain, max_bytes, condense);
        match open() {
            Err(_) if medium.release() => open(), // on a full disk that makes room for it
            opened => opened,
        }
    }

    fn begin(
        medium: &Arc<dyn Medium>,
        durability: Durability,
        retain: Duration,
        max_bytes: u64,
        condense: Condense,
    ) -> Result<Self, StoreError> {
        let failed = |error: io::Error| unavailable(medium.path(), "cannot be used", &error);
        let (base, mut table, mut state) = left(medium)?;
        (state.generation, state.boot, state.clean) = (state.generation + 1, medium.boot(), 0);
        state.lazy = (durability == Durability::Lazy).into();
        state.loose = (durability != Durability::Disk).into();
        state.used = table.used;
        let mut changes = table.changes();
        changes.state = state;
        changes.cut_blocks(condense);
        let log = Log::new(medium, state.generation, state.seq, durability == Durability::Lazy).map_err(failed)?;
        base.put(&changes)?;
        table.stored(&changes);
        log::prune(medium.as_ref(), state.generation, state.seq);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let inner = Inner { table, log, state, broken: None, faults: 0, low: false, unsynced: Vec::new() };
        let shared = Arc::new(Shared {
            medium: medium.clone(),
            durability,
            retain,
            max_bytes,
            condense,
            base,
            inner: Mutex::new(inner),
            synced: watch::Sender::new(Synced { good: state.seq, failed: 0 }),
            syncer: OnceLock::new(),
            signals: broadcast::channel(1024).0,
            clock: Clock { unix: since, began: Instant::now() },
            checkpoint: Mutex::default(),
        });
        let keeper = Keeper::start(&shared).map_err(failed)?;
        Ok(Self { shared, _keeper: keeper })
    }
}

/// What the last run left: the base, and what its log has beyond it.
fn left(medium: &Arc<dyn Medium>) -> Result<(Base, Table, State), StoreError> {
    let failed = |error: io::Error| unavailable(medium.path(), "cannot be used", &error);
    let (base, mut state) = Base::open(medium)?;
    if !log::begin_behind(medium.as_ref(), state.generation).map_err(failed)? {
        return Err(base.too_old(state.generation == 0));
    }
    let mut table = left_open(&base)?;
    table.used = state.used;
    let mut done = Ok(());
    let replayed = log::replay(medium.as_ref(), state.generation, state.seq, |seq, ops| {
        for op in ops {
            if done.is_ok() {
                done = table.apply(op, seq, &base);
            }
        }
    });
    let Replayed { last, whole } = replayed.map_err(failed)?;
    done?;
    state.seq = last;
    table.nobody_writes();
    if state.may_have_lost(medium.boot(), whole) {
        // What was shown may be lost. Nothing that comes now may be taken for it.
        warn!(
            whole,
            "the last moments of the store may be lost: answers that ran end, at cursors that were never shown"
        );
        state.seq += 1;
        for (id, last) in table.open() {
            table.apply(Op::Leap { id, next: last.plus(1 + LEAP) }, state.seq, &base)?;
        }
    }
    Ok((base, table, state))
}

/// The streams of the base that were left open, and which of the others somebody is to be told of. A damaged one is left out, or goes on behind what can be read of it.
fn left_open(base: &Base) -> Result<Table, StoreError> {
    let mut table = Table::default();
    for id in base.opened()? {
        let found = base.row(id).and_then(|row| match base.last_block(id) {
            Err(error @ StoreError::Damaged(_)) => {
                error!(%error, "the answer can be read as far as it is whole");
                Ok(row.map(|row| (row, None)))
            }
            block => Ok(row.zip(Some(block?))),
        });
        match found {
            Ok(found) => _ = found.map(|(row, block)| table.insert(id, Entry::left_open(row, block))),
            Err(error @ StoreError::Damaged(_)) => error!(%error, "the answer is left out"),
            Err(error) => return Err(error),
        }
    }
    base.due()?.into_iter().for_each(|id| table.due.insert(id));
    Ok(table)
}
