//! What the store's callers and its keeper share: the log's end and the table behind one lock, and the one way to change both.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::Thread,
    time::Duration,
};

use bytesize::ByteSize;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

use super::{
    base::Base,
    code::Op,
    folder::unavailable,
    form::State,
    log::Log,
    medium::{LogFile, Medium},
    table::Table,
};
use crate::{
    id::StreamId,
    store::{Condense, Durability, RAISE, Signal, StoreError},
};

/// How much the streams that are in memory alone may take.
const HELD: u64 = 1 << 30;

/// What the callers and the keeper share.
pub(super) struct Shared {
    pub(super) medium: Arc<dyn Medium>,
    pub(super) durability: Durability,
    pub(super) retain: Duration,
    pub(super) max_bytes: u64,
    pub(super) condense: Condense,
    pub(super) base: Base,
    pub(super) inner: Mutex<Inner>,
    /// Held over a checkpoint: of two at once, the one with the older state could be the last to be put.
    pub(super) checkpoint: Mutex<()>,
    pub(super) synced: watch::Sender<Synced>,
    /// Who syncs, to be woken when somebody waits for it.
    pub(super) syncer: OnceLock<Thread>,
    pub(super) signals: broadcast::Sender<(StreamId, Signal)>,
    pub(super) clock: Clock,
}

pub(super) struct Inner {
    pub(super) table: Table,
    pub(super) log: Log,
    pub(super) state: State,
    /// Why nothing can be written now.
    pub(super) broken: Option<StoreError>,
    /// How often something broke, so that what is mended is not taken for what broke meanwhile.
    pub(super) faults: u64,
    /// The reserve was used up: only what ends or frees something is taken.
    pub(super) low: bool,
    /// Files of the log that have been left for a newer one, and not been synced.
    pub(super) unsynced: Vec<Arc<dyn LogFile>>,
}

/// Up to which frame the log has come through a power cut, and up to which it is not known whether it would.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Synced {
    pub(super) good: u64,
    pub(super) failed: u64,
}

/// Unix time that never goes back while the process runs.
pub(super) struct Clock {
    pub(super) unix: Duration,
    pub(super) began: Instant,
}

impl Clock {
    pub(super) fn now(&self) -> u64 {
        u64::try_from((self.unix + self.began.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Shared {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner) // whole between any two frames
    }

    /// Writes operations as one frame, and does them. Gives back the number of the frame, 0 where none was needed.
    pub(super) fn change(&self, inner: &mut Inner, ops: Vec<Op>) -> Result<u64, StoreError> {
        let Inner { table, log, broken, low, .. } = &mut *inner;
        let frees = |op: &Op| matches!(op, Op::Append { end: Some(_), .. } | Op::Drop { .. });
        table.look_up(&ops, &self.base)?;
        let told = || ops.iter().filter(|op| table.is_told(op));
        let written = match (told().next(), broken) {
            (None, _) => Ok(0),
            (_, Some(why)) if !*low || !told().all(frees) => return Err(why.clone()),
            _ => log.write(|out| told().for_each(|op| op.write(out))),
        };
        let seq = written.map_err(|error| self.broke(inner, self.unwritable(&error)))?;
        let known = inner.log.seq();
        for op in ops {
            let id = match &op {
                Op::Append { id, .. } => Some(*id),
                _ => None,
            };
            inner.table.apply(op, known, &self.base)?;
            if let Some(entry) = id.and_then(|id| inner.table.entry_mut(id)) {
                entry.wake();
            }
        }
        Ok(seq)
    }

    /// What is said of a log that cannot be written.
    pub(super) fn unwritable(&self, error: &io::Error) -> StoreError {
        unavailable(self.medium.path(), "cannot be written", error)
    }

    /// From now on nothing is taken, until the keeper has seen to it.
    pub(super) fn broke(&self, inner: &mut Inner, why: StoreError) -> StoreError {
        if inner.broken.as_ref() != Some(&why) {
            tracing::error!(error = %why, "the store refuses to write until this is mended");
        }
        inner.broken = Some(why.clone());
        inner.low = false;
        inner.faults += 1;
        why
    }

    /// What must be dropped so that there is room for `more`; `fleeting`, of a stream that is in memory alone.
    pub(super) fn room(&self, inner: &mut Inner, more: u64, fleeting: bool) -> Result<Vec<Op>, StoreError> {
        if fleeting {
            let (max, used) = (self.max_bytes.min(HELD), ByteSize(inner.table.held));
            let remedy = "those that are not stored live in memory: ask again when some have ended";
            let gone = inner.table.make_room(more, max).ok_or(StoreError::Full { used, max: ByteSize(max), remedy })?;
            return Ok(gone.into_iter().map(|id| Op::Drop { id, expired: false }).collect());
        }
        let used = inner.table.used;
        let over = (used + more).saturating_sub(self.max_bytes);
        if over == 0 {
            return Ok(Vec::new());
        }
        let full = StoreError::Full { used: ByteSize(used), max: ByteSize(self.max_bytes), remedy: RAISE };
        if more > self.max_bytes {
            return Err(full); // nothing that could be dropped would help
        }
        let mut freed = 0;
        let oldest = inner.table.oldest(&self.base, |_, bytes| {
            let wanted = freed < over;
            freed += if wanted { bytes } else { 0 };
            wanted
        })?;
        match freed >= over {
            true => Ok(oldest.into_iter().map(|id| Op::Drop { id, expired: true }).collect()),
            false => Err(full),
        }
    }
}
