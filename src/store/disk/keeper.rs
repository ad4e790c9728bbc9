//! What the disk store does beside its callers: checkpoints, syncs, and mending what broke.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::{
    folder::unavailable,
    log,
    shared::{Inner, Shared},
};
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
        reserve(shared)?;
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
    while !stop.load(Ordering::Relaxed) {
        thread::park_timeout(TICK);
        let (due, mend) = {
            let mut inner = shared.inner();
            if shared.durability == Durability::Lazy
                && inner.broken.is_none()
                && let Err(error) = inner.log.hand_over()
            {
                shared.broke(&mut inner, &error);
            }
            let due = inner.table.is_dirty() && (inner.log.len() > LONG || done.elapsed() >= INTERVAL);
            (due, inner.broken.is_some())
        };
        if (due && !mend) || (mend && tried.elapsed() >= RETRY) {
            tried = Instant::now();
            let checked = if mend { self::mend(shared) } else { checkpoint(shared, false) };
            match checked {
                Ok(()) => done = Instant::now(),
                Err(error) => error!(%error, "what was written could not be put in its place, trying on"),
            }
        }
    }
}

/// Puts all that has changed into the base, and begins a new file of the log.
pub(super) fn checkpoint(shared: &Shared, clean: bool) -> Result<(), StoreError> {
    let (mut changes, rotated) = {
        let mut inner = shared.inner();
        let left = inner.log.file();
        let rotated = inner.log.rotate().and(left).map(|left| {
            if shared.durability == Durability::Disk {
                inner.unsynced.push(left);
            }
        });
        let mut changes = inner.table.changes();
        changes.state = inner.state;
        (changes.state.seq, changes.state.used) = (inner.log.seq(), inner.table.used);
        changes.state.clean = clean.into();
        (changes, rotated)
    };
    changes.cut_blocks(shared.condense);
    if let Err(error) = shared.base.put(&changes) {
        shared.inner().table.not_stored(&changes);
        shared.base.reopen()?;
        return Err(error);
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
    let folder = shared.folder.join("log");
    rotated
        .and_then(|()| log::prune(&folder, changes.state.generation, seq))
        .map_err(|error| unavailable(&shared.folder, "cannot be written", &error))
}

/// Once all that is in memory is in the base, it does not matter what became of the log: it goes on in a new file.
///
/// On a full disk the reserve makes room for that, and for the ends of what runs; nothing else is taken until it is whole again.
fn mend(shared: &Shared) -> Result<(), StoreError> {
    let _ = fs::remove_file(shared.folder.join("reserve"));
    checkpoint(shared, false)?;
    match reserve(shared) {
        Ok(()) => {
            let mut inner = shared.inner();
            (inner.broken, inner.low) = (None, false);
            info!("the store takes writes again");
            Ok(())
        }
        Err(error) => {
            let Inner { broken, low, .. } = &mut *shared.inner();
            let why = unavailable(&shared.folder, "cannot be written", &error);
            (*broken, *low) = (Some(why.to_string()), true);
            Err(why)
        }
    }
}

/// Makes the reserve, of bytes that are really there.
fn reserve(shared: &Shared) -> io::Result<()> {
    let path = shared.folder.join("reserve");
    if fs::metadata(&path).is_ok_and(|file| file.len() == RESERVE as u64) {
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let made = made.and_then(|mut file| {
        let piece = [0x5a; 64 * 1024];
        (0..RESERVE / piece.len()).try_for_each(|_| file.write_all(&piece))?;
        file.sync_all()
    });
    made.inspect_err(|_| _ = fs::remove_file(&path))
}

/// Syncs the log for all who wait.
fn sync(shared: &Shared, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let (seq, files) = {
            let mut inner = shared.inner();
            let mut files = std::mem::take(&mut inner.unsynced);
            let file = inner.log.file();
            files.extend(file);
            (inner.log.seq(), files)
        };
        if seq <= shared.synced.borrow().good {
            thread::park_timeout(TICK);
            continue;
        }
        match files.iter().try_for_each(std::fs::File::sync_data) {
            Ok(()) => shared.synced.send_modify(|synced| synced.good = synced.good.max(seq)),
            Err(error) => {
                let mut inner = shared.inner();
                shared.broke(&mut inner, &error);
                shared.synced.send_modify(|synced| synced.failed = inner.log.seq());
            }
        }
    }
}
