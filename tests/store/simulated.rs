//! A disk in memory that forgets, fills up and fails as disks do.
//!
//! Each file remembers what was synced and what was written since. [`Simulated::power_cut`] gives the disk as the next run of the
//! machine finds it: of what was not synced any part is left, torn at any byte, names of files included. [`Simulated::kill`] gives it
//! as the next process finds it: as it was written, synced or not.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use lastword::store::disk::{LogFile, Medium, Room};
use redb::{BackendError, StorageBackend};

/// What is asked of a disk, to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    WriteLog,
    /// It is written, and then it is said that it could not be.
    WriteLogAfterAll,
    SyncLog,
    CreateLog,
    WriteBase,
    SyncBase,
    ReadBase,
    OpenBase,
    Reserve,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Simulated {
    path: PathBuf,
    boot: u64,
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
}

/// Where a sync of the log waits when it is done, before it says so.
#[derive(Debug, Default)]
struct Gate {
    /// Whether it is shut, and how many wait.
    shut: Mutex<(bool, usize)>,
    moved: Condvar,
}

pub(crate) struct Held(Arc<Gate>);

impl Held {
    /// Waits until there is one.
    pub(crate) fn has_one(&self) {
        let shut = self.0.shut.lock().expect("sound");
        drop(self.0.moved.wait_while(shut, |(_, waiting)| *waiting == 0).expect("sound"));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.shut.lock().expect("sound").0 = false;
        self.0.moved.notify_all();
    }
}

impl Gate {
    fn pass(&self) {
        let mut shut = self.shut.lock().expect("sound");
        shut.1 += 1;
        self.moved.notify_all();
        let mut shut = self.moved.wait_while(shut, |(shut, _)| *shut).expect("sound");
        shut.1 -= 1;
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<Inode>,
    /// The log's files, as they are and as they are synced; and what was done to them since.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    renamed: Vec<(String, Option<usize>)>,
    base: Option<usize>,
    /// One that is to take its place, and the one whose place was taken, as long as that is not synced.
    second: Option<usize>,
    replaced: Option<usize>,
    reserved: usize,
    /// How many changes were made, and at which one the disk goes away.
    changes: u64,
    until: Option<u64>,
    off: bool,
    /// The write that was being done then.
    torn: Option<(usize, usize, Vec<u8>)>,
    refused: Vec<(Call, ErrorKind)>,
    room: Option<usize>,
    /// Whoever reads the base reads it here, each time.
    uncached: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Change>,
    /// Some of it will never be synced, whatever a sync says.
    forgotten: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(at, written) => {
                let end = at + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(written);
            }
        }
    }

    /// What is left of it.
    fn survive(&self, chance: &mut fastrand::Rng, odds: f64) -> Vec<Self> {
        match self {
            _ if chance.f64() < odds => vec![self.clone()],
            Self::Write(at, bytes) if chance.bool() && !bytes.is_empty() => {
                let (from, to) = (chance.usize(0..bytes.len()), chance.usize(0..=bytes.len()));
                match (chance.u8(0..3), from <= to) {
                    (0, _) => vec![Self::Write(*at, bytes[..from].to_vec())],
                    (1, _) => vec![Self::Write(at + from, bytes[from..].to_vec())],
                    (_, true) => vec![Self::Write(at + from, bytes[from..to].to_vec())],
                    // All but a piece in the middle.
                    (_, false) => {
                        vec![Self::Write(*at, bytes[..to].to_vec()), Self::Write(at + from, bytes[from..].to_vec())]
                    }
                }
            }
            _ => vec![],
        }
    }
}

impl State {
    fn refuses(&self, call: Call) -> io::Result<()> {
        if self.off {
            return Err(io::Error::other("the disk is gone"));
        }
        match self.refused.iter().find(|(refused, _)| *refused == call) {
            Some((_, kind)) => Err((*kind).into()),
            None => Ok(()),
        }
    }

    /// Counts a change; at the last one the disk is gone.
    fn change(&mut self) -> io::Result<()> {
        self.changes += 1;
        self.off |= self.until.is_some_and(|until| self.changes >= until);
        if self.off { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }

    fn used(&self) -> usize {
        let logs = self.names.values().map(|file| self.files[*file].now.len()).sum::<usize>();
        let bases = self.base.into_iter().chain(self.second).map(|base| self.files[base].now.len()).sum::<usize>();
        logs + bases + self.reserved
    }

    fn grow(&self, file: usize, end: usize) -> usize {
        let more = end.saturating_sub(self.files[file].now.len());
        self.room.map_or(0, |room| (self.used() + more).saturating_sub(room))
    }

    fn write(&mut self, call: Call, file: usize, bytes: &[u8], at: u64) -> io::Result<()> {
        self.refuses(call)?;
        let at = at as usize;
        let over = self.grow(file, at + bytes.len()).min(bytes.len());
        let bytes = &bytes[..bytes.len() - over];
        if let Err(gone) = self.change() {
            self.torn = Some((file, at, bytes.to_vec()));
            return Err(gone);
        }
        let change = Change::Write(at, bytes.to_vec());
        change.make(&mut self.files[file].now);
        self.files[file].since.push(change);
        if call == Call::WriteLog {
            self.refuses(Call::WriteLogAfterAll)?;
        }
        if over > 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, call: Call, file: usize) -> io::Result<()> {
        self.refuses(call)?;
        self.change()?;
        let Inode { now, synced, since, forgotten } = &mut self.files[file];
        match forgotten {
            true => since.drain(..).for_each(|change| change.make(synced)),
            false => synced.clone_from(now),
        }
        since.clear();
        Ok(())
    }

    fn add(&mut self) -> usize {
        self.files.push(Inode::default());
        self.files.len() - 1
    }
}

impl Simulated {
    pub(crate) fn new() -> Arc<Self> {
        Self::of(State::default(), 1)
    }

    fn of(state: State, boot: u64) -> Arc<Self> {
        let (state, gate) = (Arc::new(Mutex::new(state)), Arc::default());
        Arc::new(Self { path: "/simulated".into(), boot, state, gate })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("sound")
    }

    fn file(&self, file: usize) -> File {
        File { state: self.state.clone(), gate: self.gate.clone(), file }
    }

    /// How many changes were made.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Goes away in the middle of the so-manieth change from now on.
    pub(crate) fn go_at(&self, change: u64) {
        let mut state = self.state();
        state.until = Some(state.changes + change);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.state().off
    }

    /// The disk as it is, and as full.
    pub(crate) fn kill_when_full(&self) -> Arc<Self> {
        let killed = self.kill(&mut fastrand::Rng::with_seed(0));
        killed.state().room = self.state().room;
        killed
    }

    /// Refuses these calls from now on.
    pub(crate) fn refuse(&self, call: Call, kind: ErrorKind) {
        self.state().refused.push((call, kind));
    }

    /// Forgets what was not synced, as a system does after a sync that failed: a later one finds nothing to do and says that all is
    /// well.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        let logs: Vec<_> = state.names.values().copied().collect();
        for file in logs {
            state.files[file].forgotten = true;
            state.files[file].since.clear();
        }
    }

    /// Has so many bytes of room behind what is in use.
    pub(crate) fn fill_up(&self, left: usize) {
        let mut state = self.state();
        state.room = Some(state.used() + left);
    }

    /// A sync of the log is done and does not return, as long as this is kept.
    pub(crate) fn hold_syncs(&self) -> Held {
        self.gate.shut.lock().expect("sound").0 = true;
        Held(self.gate.clone())
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.refused.clear();
        state.room = None;
    }

    /// From its next opening on, nothing of the base is kept in memory.
    pub(crate) fn read_each_time(&self) {
        self.state().uncached = true;
    }

    pub(crate) fn is_reserved(&self) -> bool {
        self.state().reserved > 0
    }

    /// The disk as the next process finds it, when this one is killed.
    pub(crate) fn kill(&self, chance: &mut fastrand::Rng) -> Arc<Self> {
        let mut state = self.state().clone();
        if let Some((file, at, bytes)) = state.torn.take() {
            let change = Change::Write(at, bytes[..chance.usize(0..=bytes.len())].to_vec());
            change.make(&mut state.files[file].now);
            state.files[file].since.push(change);
        }
        (state.off, state.until, state.refused, state.room) = (false, None, Vec::new(), None);
        Self::of(state, self.boot)
    }

    /// The disk after an orderly restart of the machine, which loses nothing.
    pub(crate) fn restart(&self) -> Arc<Self> {
        let state = self.kill(&mut fastrand::Rng::with_seed(0)).state().clone();
        Self::of(state, self.boot + 1)
    }

    /// The disk as the next run of the machine finds it.
    pub(crate) fn power_cut(&self, chance: &mut fastrand::Rng) -> Arc<Self> {
        let mut state = self.state().clone();
        if let Some((file, at, bytes)) = state.torn.take() {
            state.files[file].since.push(Change::Write(at, bytes));
        }
        let (odds, in_order) = ([0.0, 0.3, 0.9, 1.0][chance.usize(0..4)], chance.u8(0..3) == 0);
        for Inode { now, synced, since, forgotten } in &mut state.files {
            *forgotten = false;
            // Some disks write in order, and no further than they have come.
            let n = if in_order { chance.usize(0..=since.len()) } else { 0 };
            for (at, change) in std::mem::take(since).into_iter().enumerate() {
                let odds = if !in_order { odds } else { f64::from(at < n) };
                if !in_order || at < n {
                    change.survive(chance, odds).iter().for_each(|change| change.make(synced));
                }
            }
            now.clone_from(synced);
        }
        for (name, file) in std::mem::take(&mut state.renamed) {
            if chance.f64() < odds.max(0.5) {
                match file {
                    Some(file) => _ = state.synced_names.insert(name, file),
                    None => _ = state.synced_names.remove(&name),
                }
            }
        }
        if state.replaced.is_some() && chance.bool() {
            state.base = state.replaced;
        }
        (state.second, state.replaced) = (None, None);
        state.names = state.synced_names.clone();
        (state.off, state.until, state.refused, state.room) = (false, None, Vec::new(), None);
        Self::of(state, self.boot + 1)
    }

    /// The same disk again, with other bytes in the base or in the log's newest file; all of it synced.
    pub(crate) fn spoiled(&self, base: bool, how: impl FnOnce(&mut Vec<u8>)) -> Arc<Self> {
        let mut state = self.state().clone();
        let newest = state.names.last_key_value().map(|(_, file)| *file);
        let file = if base { state.base } else { newest }.expect("it is there");
        how(&mut state.files[file].now);
        state.files.iter_mut().for_each(|file| (file.synced, file.since) = (file.now.clone(), Vec::new()));
        (state.synced_names, state.renamed) = (state.names.clone(), Vec::new());
        Self::of(state, self.boot)
    }
}

impl Medium for Simulated {
    fn path(&self) -> &Path {
        &self.path
    }

    fn boot(&self) -> u64 {
        self.boot
    }

    fn base(&self, builder: &redb::Builder) -> Result<redb::Database, redb::Error> {
        let (file, uncached) = {
            let mut state = self.state();
            state.refuses(Call::OpenBase)?;
            let file = state.base.unwrap_or_else(|| state.add());
            state.base = Some(file);
            (file, state.uncached)
        };
        match uncached {
            true => Ok(redb::Builder::new().set_cache_size(0).create_with_backend(self.file(file))?),
            false => Ok(builder.create_with_backend(self.file(file))?),
        }
    }

    fn second(&self, builder: &redb::Builder) -> Result<redb::Database, redb::Error> {
        let second = {
            let mut state = self.state();
            state.refuses(Call::OpenBase)?;
            state.change()?;
            let second = state.add();
            state.second = Some(second);
            second
        };
        Ok(builder.create_with_backend(self.file(second))?)
    }

    fn adopt(&self) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.replaced = state.base;
        state.base = state.second.take();
        state.change()?;
        state.replaced = None;
        Ok(())
    }

    fn discard(&self) {
        self.state().second = None;
    }

    fn room(&self) -> io::Result<Room> {
        let state = self.state();
        let base = state.base.map_or(0, |base| state.files[base].now.len()) as u64;
        Ok(Room { base, free: state.room.map_or(u64::MAX, |room| room.saturating_sub(state.used()) as u64) })
    }

    fn logs(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.state();
        state.refuses(Call::CreateLog)?;
        state.change()?;
        let file = match state.names.get(name) {
            Some(file) => *file,
            None => {
                let file = state.add();
                state.names.insert(name.to_owned(), file);
                state.renamed.push((name.to_owned(), Some(file)));
                file
            }
        };
        state.files[file].now.clear();
        state.files[file].since.push(Change::Length(0));
        Ok(Arc::new(self.file(file)))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        let file = state.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(state.files[*file].now.clone())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.names.remove(name).ok_or(ErrorKind::NotFound)?;
        state.renamed.push((name.to_owned(), None));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.synced_names = state.names.clone();
        state.renamed.clear();
        Ok(())
    }

    fn reserve(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state();
        state.refuses(Call::Reserve)?;
        if state.reserved < bytes {
            if state.room.is_some_and(|room| state.used() + bytes > room) {
                return Err(ErrorKind::StorageFull.into());
            }
            state.reserved = bytes;
        }
        Ok(())
    }

    fn release(&self) -> bool {
        std::mem::take(&mut self.state().reserved) > 0
    }
}

/// An open file.
#[derive(Debug)]
struct File {
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
    file: usize,
}

impl File {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("sound")
    }
}

impl LogFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.state().write(Call::WriteLog, self.file, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.state().sync(Call::SyncLog, self.file);
        self.gate.pass();
        synced
    }
}

impl StorageBackend for File {
    fn len(&self) -> Result<u64, io::Error> {
        let state = self.state();
        state.refuses(Call::ReadBase)?;
        Ok(state.files[self.file].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        state.refuses(Call::ReadBase)?;
        let (file, from) = (&state.files[self.file].now, offset as usize);
        out.copy_from_slice(file.get(from..from + out.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let mut state = self.state();
        state.refuses(Call::WriteBase)?;
        state.change()?;
        let length = length as usize;
        if state.grow(self.file, length) > 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        let change = Change::Length(length);
        change.make(&mut state.files[self.file].now);
        state.files[self.file].since.push(change);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.state().sync(Call::SyncBase, self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.state().write(Call::WriteBase, self.file, data, offset)
    }

    // Nobody else has it.
    fn try_lock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<bool, BackendError> {
        Err(BackendError::Unsupported)
    }
}
