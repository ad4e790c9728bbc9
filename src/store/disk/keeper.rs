//! What the disk store does beside its callers: checkpoints, syncs, and mending what broke.

use std::{
    io,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::{log, shared::Shared, shrink::Shrinking};
use crate::store::{Durability, StoreError};

/// How long a change stays in the log and in memory only.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the log's newest file may be.
const LONG: u64 = 16 << 20;
/// How often it looks.
const TICK: Duration = Duration::from_millis(100);
/// How often it tries to mend what broke.
const RETRY: Duration = Duration::from_millis(500);
/// Kept so that on a full disk the ends can still be written.
const RESERVE: usize = 4 << 20;

/// The threads. Dropping it stops them, and closes the store in order.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut keeper = Self { shared: shared.clone(), stop, threads: Vec::new() };
        if let Err(error) = shared.medium.reserve(RESERVE) {
            // What is there can be read, and what ran can end.
            let mut inner = shared.inner();
            shared.broke(&mut inner, shared.unwritable(&error));
            inner.low = true;
        }
        keeper.spawn("store-keeper", |shared, stop| keep(&shared, &stop))?;
        match shared.durability {
            Durability::Disk => {
                keeper.spawn("store-sync", |shared, stop| sync(&shared, &stop))?;
                let syncer = keeper.threads.last().map(|thread| thread.thread().clone());
                syncer.map(|syncer| shared.syncer.set(syncer));
            }
            Durability::Lazy | Durability::Os => {}
        }
        Ok(keeper)
    }

    fn spawn(&mut self, name: &str, run: fn(Arc<Shared>, Arc<AtomicBool>)) -> io::Result<()> {
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(move || run(shared, stop))?);
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
        if let Err(error) = checkpoint(&self.shared, true) {
            error!(%error, "the store could not be closed in order");
        }
    }
}

fn keep(shared: &Shared, stop: &AtomicBool) {
    let (mut done, mut tried) = (Instant::now(), Instant::now());
    let mut shrinking = Shrinking::default();
    while !stop.load(Ordering::Relaxed) {
        thread::park_timeout(TICK);
        let (due, broken) = {
            let mut inner = shared.inner();
            if shared.durability == Durability::Lazy
                && inner.broken.is_none()
                && let Err(error) = inner.log.hand_over()
            {
                shared.broke(&mut inner, shared.unwritable(&error));
            }
            let due = inner.table.is_dirty() && (inner.log.len() > LONG || done.elapsed() >= INTERVAL);
            (due, inner.broken.is_some())
        };
        let ails = broken || shared.base.ails().is_some();
        if ails && tried.elapsed() >= RETRY {
            let _ = if broken { mend(shared) } else { shared.base.reopen() }; // what is wrong was logged when it broke
            (done, tried) = (Instant::now(), Instant::now());
        } else if due && !ails {
            if checkpoint(shared, false).is_ok() {
                // here too
                shrinking.due(shared);
            }
            done = Instant::now();
        }
    }
}

/// Puts all that has changed into the base, and begins a new file of the log. Where that fails, nothing is taken until it is mended.
pub(super) fn checkpoint(shared: &Shared, clean: bool) -> Result<(), StoreError> {
    let _alone = shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut changes, rotated) = {
        let mut inner = shared.inner();
        let left = inner.log.file();
        // At once: what came behind the new file's name would not be looked for in the old one.
        let rotated = inner.log.rotate().map_err(|error| shared.broke(&mut inner, shared.unwritable(&error)));
        if rotated.is_ok() && shared.durability == Durability::Disk {
            inner.unsynced.push(left);
        }
        let mut changes = inner.table.changes();
        changes.state = inner.state;
        (changes.state.seq, changes.state.used) = (inner.log.seq(), inner.table.used);
        changes.state.clean = clean.into();
        (changes, rotated)
    };
    changes.cut_blocks(shared.condense);
    if let Err(error) = shared.base.put(&changes) {
        let mut inner = shared.inner();
        inner.table.not_stored(&changes);
        return Err(shared.broke(&mut inner, error));
    }
    let seq = changes.state.seq;
    {
        let mut inner = shared.inner();
        inner.table.stored(&changes);
        shared.synced.send_if_modified(|synced| {
            let news = seq > synced.good;
            synced.good = synced.good.max(seq);
            news
        });
    }
    rotated?;
    log::prune(shared.medium.as_ref(), changes.state.generation, seq);
    Ok(())
}

/// Once all that is in memory is in the base, it does not matter what became of the log: it goes on in a new file.
///
/// On a full disk the reserve makes room for that, and for the ends of what runs; nothing else is taken until it is whole again.
fn mend(shared: &Shared) -> Result<(), StoreError> {
    let before = shared.inner().faults;
    shared.medium.release();
    if shared.base.ails().is_some() {
        shared.base.reopen()?;
    }
    checkpoint(shared, false)?;
    let reserved = shared.medium.reserve(RESERVE).map_err(|error| shared.unwritable(&error));
    let mut inner = shared.inner();
    if inner.faults == before {
        inner.low = reserved.is_err();
        inner.broken = reserved.clone().err();
        if inner.broken.is_none() {
            info!("the store takes writes again");
        }
    }
    reserved
}

/// Syncs the log for all who wait.
fn sync(shared: &Shared, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let (seq, files) = {
            let mut inner = shared.inner();
            let mut files = std::mem::take(&mut inner.unsynced);
            files.push(inner.log.file());
            (inner.log.seq(), files)
        };
        let known = *shared.synced.borrow();
        // A sync that failed is not tried again: the system may have forgotten what it could not write. A checkpoint writes it anew.
        if seq <= known.good || known.failed > known.good {
            thread::park_timeout(TICK);
            continue;
        }
        match files.iter().try_for_each(|file| file.sync()) {
            Ok(()) => shared.synced.send_modify(|synced| synced.good = synced.good.max(seq)),
            Err(error) => {
                let mut inner = shared.inner();
                shared.broke(&mut inner, shared.unwritable(&error));
                shared.synced.send_modify(|synced| synced.failed = inner.log.seq());
            }
        }
    }
}
