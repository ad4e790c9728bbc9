//! What is kept for long: redb, with a table for each way to look for a stream.
//!
//! Written only by checkpoints, each one transaction that is synced; read by anybody at any time. After an error of the file it ails,
//! until the keeper has opened it again.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{
    LEAP,
    code::{self, Row},
    entry,
    folder::remedy,
    medium::Medium,
};
use crate::{
    id::{Cursor, StreamId},
    store::{Chunk, ClaimKey, Page, StoreError},
};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A stream's row.
const STREAMS: Table = Table::new("streams");
const PROMPTS: Table = Table::new("prompts");
/// Records, under the stream and the first one's cursor.
const BLOCKS: Table = Table::new("blocks");
/// The streams of an owner.
const OWNERS: Table = Table::new("owners");
/// Who holds a claim.
const CLAIMS: Table = Table::new("claims");
/// Finished streams in the order in which they ended.
const FINISHED: Table = Table::new("finished");
/// Streams that are not closed.
const OPEN: Table = Table::new("open");
/// Streams that have expired.
const GONE: Table = Table::new("gone");
const STATE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("state");

/// The form of these tables.
const VERSION: u64 = 2;
/// How many expired ids are remembered.
const REMEMBERED: u64 = 100_000;
/// What redb may keep in memory.
const CACHE: usize = 32 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Base {
    medium: Arc<dyn Medium>,
    database: RwLock<Option<Database>>,
    /// The error after which it must be opened again.
    ails: Mutex<Option<StoreError>>,
}

/// What is known of the store as a whole, at a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Which opening of the store this is.
    pub generation: u64,
    /// The last frame of the log that is in here.
    pub seq: u64,
    /// What all streams count.
    pub used: u64,
    /// A digest of the machine's boot id at the last opening.
    pub boot: u64,
    /// What a crash of the process can take back: 0 nothing, 1 what was written since the last checkpoint.
    pub lazy: u64,
    /// What a crash of the machine can take back.
    pub loose: u64,
    /// It was closed in order: nothing was lost.
    pub clean: u64,
}

/// What a checkpoint puts in.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub state: State,
    pub streams: Vec<Changed>,
    pub claims: Vec<(ClaimKey, Option<StreamId>)>,
    pub gone: Vec<(StreamId, bool)>,
}

/// A stream that has changed.
#[derive(Debug)]
pub(super) struct Changed {
    pub id: StreamId,
    pub row: Row,
    /// Where it is not in here yet.
    pub prompt: Option<Bytes>,
    pub blocks: Vec<Chunk>,
}

impl State {
    fn fields(&self) -> [(&'static str, u64); 7] {
        let Self { generation, seq, used, boot, lazy, loose, clean } = *self;
        [
            ("generation", generation),
            ("seq", seq),
            ("used", used),
            ("boot", boot),
            ("lazy", lazy),
            ("loose", loose),
            ("clean", clean),
        ]
    }

    /// A checksum: what is wrong here would be wrong everywhere.
    fn sum(&self) -> u64 {
        let mut hasher = crc32fast::Hasher::new();
        self.fields().iter().for_each(|(_, value)| hasher.update(&value.to_le_bytes()));
        hasher.finalize().into()
    }

    /// Whether something may be lost that was shown, when the store is opened in this run of the machine; `whole` if all of the log
    /// could be read that was found.
    pub(super) fn may_have_lost(&self, boot: u64, whole: bool) -> bool {
        let other_boot = boot == 0 || boot != self.boot;
        self.generation > 0 && self.clean == 0 && (self.lazy == 1 || self.loose == 1 && other_boot || !whole)
    }
}

impl Changes {
    /// Makes blocks of the chunks as they came.
    pub(super) fn cut_blocks(&mut self) {
        for stream in &mut self.streams {
            stream.blocks = entry::blocks(&stream.blocks);
        }
    }
}

type Broken<T> = Result<T, redb::Error>;

impl Base {
    pub(super) fn open(medium: &Arc<dyn Medium>) -> Result<(Self, State), StoreError> {
        let base = Self { medium: medium.clone(), database: RwLock::default(), ails: Mutex::default() };
        base.reopen()?;
        let state = base.read(Self::state)?;
        Ok((base, state))
    }

    /// Opens it (again). Who reads meanwhile is told that it is closed.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        close(open.take());
        let made = guarded(|| {
            let database = self.medium.base(redb::Builder::new().set_cache_size(CACHE))?;
            let version = prepare(&database)?;
            Ok((database, version))
        });
        let (database, version) = made.map_err(|error| self.broken(error))?;
        if version != VERSION {
            return Err(StoreError::Unavailable(format!(
                "{} has form {version}, and this version of lastword reads form {VERSION}; use the version that wrote it, or \
                 name another [store] path",
                self.path().display()
            )));
        }
        *open = Some(database);
        *self.ails.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Why it must be opened again, if it must.
    pub(super) fn ails(&self) -> Option<StoreError> {
        self.ails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn path(&self) -> PathBuf {
        self.medium.path().join("base.redb")
    }

    fn broken(&self, error: redb::Error) -> StoreError {
        use redb::Error;
        let path = self.path();
        let path = path.display();
        // What is damaged in one place is read in others: to open it again would not help, and cost those who read there.
        let ails = matches!(
            error,
            Error::Io(_) | Error::Backend(_) | Error::PreviousIo | Error::DatabaseClosed | Error::LockPoisoned(_)
        );
        let damage = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
        let why = StoreError::Unavailable(match error {
            Error::DatabaseAlreadyOpen => {
                format!("{path} is open in another process; stop that one, or name another [store] path")
            }
            Error::Io(error) if !damage.contains(&error.kind()) => format!("{path}: {error}; {}", remedy(&error)),
            Error::Backend(_) | Error::PreviousIo | Error::DatabaseClosed | Error::LockPoisoned(_) => {
                format!(
                    "{path} is closed after an error, and will be opened again; see to the disk if that is often so"
                )
            }
            damage => format!(
                "{path} is damaged: {damage}; put a copy of the whole folder in its place, or move it away to begin anew"
            ),
        });
        let mut known = self.ails.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            tracing::error!(error = %why, "the base could not be used");
        }
        if ails {
            known.get_or_insert_with(|| why.clone());
        }
        why
    }

    /// There is a log of later than what is in here.
    pub(super) fn too_old(&self, empty: bool) -> StoreError {
        let (path, folder) = (self.path(), self.medium.path().display());
        let is = if empty { "is new or was emptied" } else { "is older than the log beside it" };
        StoreError::Unavailable(format!(
            "{} {is}; put a copy of all of {folder} in its place, or move {folder}/log away to go on without what that has",
            path.display()
        ))
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Broken<T>) -> Result<T, StoreError> {
        let looked = guarded(|| {
            let read = {
                let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
                open.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_read()?
            };
            look(&read)
        });
        looked.map_err(|error| self.broken(error))
    }

    fn state(read: &ReadTransaction) -> Broken<State> {
        let table = read.open_table(STATE)?;
        let get = |name| Broken::Ok(table.get(name)?.map_or(0, |value| value.value()));
        let state = State {
            generation: get("generation")?,
            seq: get("seq")?,
            used: get("used")?,
            boot: get("boot")?,
            lazy: get("lazy")?,
            loose: get("loose")?,
            clean: get("clean")?,
        };
        match state == State::default() || get("sum")? == state.sum() {
            true => Ok(state),
            false => Err(redb::Error::Corrupted("its state does not add up".to_owned())),
        }
    }

    /// A stream's row.
    pub(super) fn row(&self, id: StreamId) -> Result<Option<Row>, StoreError> {
        let bytes = self.read(|read| get(read, STREAMS, &id.to_bytes()))?;
        bytes.map(|bytes| Row::read(id, &bytes).ok_or(StoreError::Damaged(id))).transpose()
    }

    pub(super) fn prompt(&self, id: StreamId) -> Result<Option<Bytes>, StoreError> {
        let sealed = self.read(|read| get(read, PROMPTS, &id.to_bytes()))?;
        let unsealed = |sealed: Bytes| code::unsealed(id, &sealed).map(|prompt| sealed.slice_ref(prompt));
        sealed.map(|sealed| unsealed(sealed).ok_or(StoreError::Damaged(id))).transpose()
    }

    /// Whether a stream was here and has expired.
    pub(super) fn remembers(&self, id: StreamId) -> Result<bool, StoreError> {
        Ok(self.read(|read| get(read, GONE, &id.to_bytes()))?.is_some())
    }

    pub(super) fn holder(&self, claim: &ClaimKey) -> Result<Option<StreamId>, StoreError> {
        let found = self.read(|read| get(read, CLAIMS, &code::claim_key(claim)))?;
        Ok(found.and_then(|id| code::id_behind(&id)))
    }

    /// The streams that are not closed.
    pub(super) fn opened(&self) -> Result<Vec<StreamId>, StoreError> {
        self.read(|read| {
            let open = read.open_table(OPEN)?;
            let ids = open.iter()?.map(|entry| Ok(code::id_behind(entry?.0.value())));
            ids.filter_map(Result::transpose).collect()
        })
    }

    /// An owner's streams that are older than `before`, newest first, as long as `more` wants them; but for damaged ones.
    pub(super) fn list(
        &self,
        owner: &str,
        before: Option<StreamId>,
        mut more: impl FnMut(StreamId, Row) -> bool,
    ) -> Result<(), StoreError> {
        let low = code::owner_key(owner, StreamId::from_bytes([0; 16]));
        let high = code::owner_key(owner, before.unwrap_or(StreamId::from_bytes([u8::MAX; 16])));
        self.read(|read| {
            let streams = read.open_table(STREAMS)?;
            for entry in read.open_table(OWNERS)?.range(&low[..]..&high[..])?.rev() {
                let Some(id) = code::id_behind(entry?.0.value()) else { continue };
                let Some(row) = streams.get(&id.to_bytes()[..])? else { continue };
                let row = Row::read(id, row.value()).filter(|row| row.owner == owner);
                if !row.is_none_or(|row| more(id, row)) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The finished streams that ended first, from this key on, as long as `more` wants them.
    pub(super) fn finished(
        &self,
        from: [u8; 24],
        mut more: impl FnMut([u8; 24], u64, StreamId) -> bool,
    ) -> Result<(), StoreError> {
        self.read(|read| {
            for entry in read.open_table(FINISHED)?.range(&from[..]..)? {
                let entry = entry?;
                let Ok(key) = <[u8; 24]>::try_from(entry.0.value()) else { continue };
                let (Some(at), Some(id)) = (key.first_chunk(), code::id_behind(&key)) else { continue };
                if !more(key, u64::from_be_bytes(*at), id) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// A page of the blocks of a stream; closed if it goes to the end of a closed log. Nothing where there is no such stream.
    pub(super) fn page(&self, id: StreamId, after: Cursor, max: usize) -> Result<Option<Page>, StoreError> {
        let found = self.read(|read| {
            let Some(row) = get(read, STREAMS, &id.to_bytes())? else { return Ok(None) };
            let blocks = read.open_table(BLOCKS)?;
            let (low, next, high) =
                (code::key(id, 0), code::key(id, after.0.saturating_add(1)), code::key(id, u64::MAX));
            // The block with the next record in it may begin before it.
            let first = blocks.range(&low[..]..=&next[..])?.next_back().transpose()?;
            let from = first.map_or(low.to_vec(), |(key, _)| key.value().to_vec());
            let (mut chunks, mut size) = (Vec::new(), 0_usize);
            for entry in blocks.range(&from[..]..=&high[..])? {
                let (key, block) = entry?;
                let first = key.value().last_chunk().map_or(0, |first| u64::from_be_bytes(*first));
                let Some(chunk) = code::unpack(id, Cursor(first), block.value()) else { return Ok(Some(None)) };
                if chunk.last() > after {
                    size = size.saturating_add(chunk.slice(after, usize::MAX).map_or(0, |part| part.size()));
                    chunks.push(chunk);
                }
                if size >= max {
                    break;
                }
            }
            Ok(Some(Row::read(id, &row).map(|row| (row, chunks))))
        })?;
        let Some(found) = found else { return Ok(None) };
        let (row, chunks) = found.filter(|(row, chunks)| adjoin(row, chunks, after)).ok_or(StoreError::Damaged(id))?;
        let mut page = Page::default();
        page.fill(&chunks, after, max);
        page.closed = row.summary.is_some() && page.last().unwrap_or(after) >= row.last;
        Ok(Some(page))
    }

    /// The last block of a stream.
    pub(super) fn last_block(&self, id: StreamId) -> Result<Option<Chunk>, StoreError> {
        let (low, high) = (code::key(id, 0), code::key(id, u64::MAX));
        let found = self.read(|read| {
            let blocks = read.open_table(BLOCKS)?;
            let Some((key, block)) = blocks.range(&low[..]..=&high[..])?.next_back().transpose()? else {
                return Ok(None);
            };
            let first = key.value().last_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            Ok(Some(code::unpack(id, Cursor(first), block.value())))
        })?;
        found.map(|chunk| chunk.ok_or(StoreError::Damaged(id))).transpose()
    }

    /// Puts a checkpoint's changes in, all or none, and syncs them.
    pub(super) fn put(&self, changes: &Changes) -> Result<(), StoreError> {
        guarded(|| self.write(changes)).map_err(|error| self.broken(error))
    }

    fn write(&self, changes: &Changes) -> Broken<()> {
        let mut write = {
            let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
            open.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_write()?
        };
        // Otherwise opening after a crash would walk through all of it.
        write.set_quick_repair(true);
        {
            let (mut streams, mut prompts) = (write.open_table(STREAMS)?, write.open_table(PROMPTS)?);
            let (mut blocks, mut owners) = (write.open_table(BLOCKS)?, write.open_table(OWNERS)?);
            let (mut finished, mut open) = (write.open_table(FINISHED)?, write.open_table(OPEN)?);
            let (mut claims, mut gone) = (write.open_table(CLAIMS)?, write.open_table(GONE)?);
            for Changed { id, row, prompt, blocks: chunks } in &changes.streams {
                let key = &id.to_bytes()[..];
                streams.insert(key, &row.write(*id)[..])?;
                if let Some(prompt) = prompt {
                    prompts.insert(key, &code::sealed(*id, prompt)[..])?;
                    owners.insert(&code::owner_key(&row.owner, *id)[..], &[][..])?;
                }
                for chunk in chunks {
                    blocks.insert(&code::key(*id, chunk.first.0)[..], &code::pack(*id, chunk)[..])?;
                }
                match row.summary {
                    None => _ = open.insert(key, &[][..])?,
                    Some(_) => {
                        open.remove(key)?;
                        finished.insert(&code::ended_key(row.ended_at, *id)[..], &[][..])?;
                    }
                }
            }
            for (id, expired) in &changes.gone {
                let key = &id.to_bytes()[..];
                match streams.remove(key)?.map(|row| Row::read(*id, row.value())) {
                    None => {}
                    Some(Some(row)) => {
                        owners.remove(&code::owner_key(&row.owner, *id)[..])?;
                        finished.remove(&code::ended_key(row.ended_at, *id)[..])?;
                    }
                    // It is damaged: what belongs to it must be searched for.
                    Some(None) => {
                        let others = |key: &[u8]| code::id_behind(key) != Some(*id);
                        owners.retain(|key, _| others(key))?;
                        finished.retain(|key, _| others(key))?;
                        claims.retain(|_, holder| others(holder))?;
                    }
                }
                prompts.remove(key)?;
                open.remove(key)?;
                blocks.retain_in(&code::key(*id, 0)[..]..=&code::key(*id, u64::MAX)[..], |_, _| false)?;
                if *expired {
                    gone.insert(key, &[][..])?;
                }
            }
            while gone.len()? > REMEMBERED {
                gone.pop_first()?;
            }
            for (claim, holder) in &changes.claims {
                let key = &code::claim_key(claim)[..];
                match holder {
                    Some(id) => _ = claims.insert(key, &id.to_bytes()[..])?,
                    None => _ = claims.remove(key)?,
                }
            }
            let mut state = write.open_table(STATE)?;
            for (name, value) in changes.state.fields().into_iter().chain([("sum", changes.state.sum())]) {
                state.insert(name, value)?;
            }
        }
        Ok(write.commit()?)
    }
}

fn get(read: &ReadTransaction, table: Table, key: &[u8]) -> Broken<Option<Bytes>> {
    Ok(read.open_table(table)?.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
}

impl Drop for Base {
    fn drop(&mut self) {
        close(self.database.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What cannot be closed in order is opened as after a crash.
fn close(database: Option<Database>) {
    let _ = guarded(|| {
        drop(database);
        Ok(())
    });
}

/// Whether these are the blocks behind `after`, with none missing. Only a leap leaves a gap.
fn adjoin(row: &Row, chunks: &[Chunk], after: Cursor) -> bool {
    let mut last = after;
    let in_order = chunks.iter().all(|chunk| {
        let gap = chunk.first.0.saturating_sub(last.0 + 1);
        last = chunk.last();
        gap == 0 || gap >= LEAP
    });
    in_order && (!chunks.is_empty() || row.last <= after)
}

/// redb panics where what it reads cannot be: an error of the file like any other, and no reason to fall with it.
fn guarded<T>(look: impl FnOnce() -> Broken<T>) -> Broken<T> {
    let damaged = |_| Err(redb::Error::Corrupted("it holds what cannot be".to_owned()));
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(damaged)
}

/// Makes the tables, so that a read finds them. Gives back the form of what is there.
fn prepare(database: &Database) -> Broken<u64> {
    if let Ok(state) = database.begin_read()?.open_table(STATE) {
        return Ok(state.get("version")?.map_or(0, |version| version.value()));
    }
    let write = database.begin_write()?;
    for table in [STREAMS, PROMPTS, BLOCKS, OWNERS, CLAIMS, FINISHED, OPEN, GONE] {
        write.open_table(table)?;
    }
    write.open_table(STATE)?.insert("version", VERSION)?;
    write.commit()?;
    Ok(VERSION)
}
