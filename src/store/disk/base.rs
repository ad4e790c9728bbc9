//! What is kept for long: redb, with a table for each way to look for a stream.
//!
//! Written only by checkpoints, each one transaction that is synced; read by anybody at any time. After an error of the file it ails,
//! until the keeper has opened it again.

mod check;
mod walk;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{
    LEAP,
    changes::{Changed, Changes},
    code::{self, Row},
    folder::remedy,
    form::{
        self, BLOCKS, Broken, CLAIMS, CONDENSED, DUE, FINISHED, GONE, OPEN, OWNERS, PROMPTS, STREAMS, State, VERSION,
        get,
    },
    medium::Medium,
};
use crate::{
    id::{Cursor, StreamId},
    store::{Chunk, ClaimKey, Page, StoreError},
};

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

impl Base {
    pub(super) fn open(medium: &Arc<dyn Medium>) -> Result<(Self, State), StoreError> {
        let base = Self { medium: medium.clone(), database: RwLock::default(), ails: Mutex::default() };
        base.reopen()?;
        let state = base.read(State::get)?;
        Ok((base, state))
    }

    /// Opens it (again). Who reads meanwhile is told that it is closed.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        close(open.take());
        let made = guarded(|| {
            let database = self.medium.base(redb::Builder::new().set_cache_size(CACHE))?;
            let version = form::prepare(&database)?;
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

    /// Copies what it holds into a new file, which takes the place of the old one. Nothing must be put in meanwhile.
    pub(super) fn replace(&self) -> Result<(), StoreError> {
        let failed =
            |error| StoreError::Unavailable(format!("{} could not be replaced: {error}", self.path().display()));
        let second = guarded(|| {
            let second = self.medium.second(redb::Builder::new().set_cache_size(CACHE))?;
            form::copy(&self.begin_read()?, &second)?;
            Ok(second)
        });
        let second = second.map_err(|error| {
            self.medium.discard();
            failed(error)
        })?;
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        match self.medium.adopt() {
            Ok(()) => {
                let old = open.replace(second);
                drop(open);
                close(old);
                Ok(())
            }
            // Whichever of the two it is now, it must be opened by its name before anything is put into it.
            Err(error) => {
                close(open.take());
                close(Some(second));
                Err(self.broken(error.into()))
            }
        }
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
        guarded(|| look(&self.begin_read()?)).map_err(|error| self.broken(error))
    }

    fn begin_read(&self) -> Broken<ReadTransaction> {
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(open.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_read()?)
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
        self.listed(OPEN)
    }

    /// The closed streams that somebody is still to be told of.
    pub(super) fn due(&self) -> Result<Vec<StreamId>, StoreError> {
        self.listed(DUE)
    }

    fn listed(&self, table: form::Table) -> Result<Vec<StreamId>, StoreError> {
        self.read(|read| {
            let listed = read.open_table(table)?;
            let ids = listed.iter()?.map(|entry| Ok(code::id_behind(entry?.0.value())));
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

    /// The blocks of a stream that end at `last` or before, in short, each with its last cursor: from the first one on, as far as
    /// they are there.
    pub(super) fn condensed(&self, id: StreamId, last: Cursor) -> Result<Vec<(Cursor, Bytes)>, StoreError> {
        let (low, high) = (code::key(id, 0), code::key(id, last.0));
        self.read(|read| {
            let (mut pieces, mut behind) = (Vec::new(), Cursor::START);
            for entry in read.open_table(CONDENSED)?.range(&low[..]..=&high[..])? {
                let (key, piece) = entry?;
                let first = key.value().last_chunk().map_or(0, |first| u64::from_be_bytes(*first));
                match code::unpack_condensed(id, Cursor(first), piece.value()) {
                    Some((before, end, piece)) if before == behind && end <= last => {
                        pieces.push((end, piece));
                        behind = end;
                    }
                    _ => break,
                }
            }
            Ok(pieces)
        })
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
            let (mut condensed, mut due) = (write.open_table(CONDENSED)?, write.open_table(DUE)?);
            for Changed { id, row, prompt, behind, blocks: chunks, condensed: short } in &changes.streams {
                let key = &id.to_bytes()[..];
                streams.insert(key, &row.write(*id)[..])?;
                if let Some(prompt) = prompt {
                    prompts.insert(key, &code::sealed(*id, prompt)[..])?;
                    owners.insert(&code::owner_key(&row.owner, *id)[..], &[][..])?;
                }
                for chunk in chunks {
                    blocks.insert(&code::key(*id, chunk.first.0)[..], &code::pack(*id, chunk)[..])?;
                }
                let mut behind = *behind;
                for (chunk, piece) in chunks.iter().zip(short) {
                    let packed = code::pack_condensed(*id, behind, chunk, piece);
                    condensed.insert(&code::key(*id, chunk.first.0)[..], &packed[..])?;
                    behind = chunk.last();
                }
                match row.summary {
                    None => _ = open.insert(key, &[][..])?,
                    Some(_) => {
                        open.remove(key)?;
                        finished.insert(&code::ended_key(row.ended_at, *id)[..], &[][..])?;
                        if row.due {
                            due.insert(key, &[][..])?;
                        }
                    }
                }
            }
            for id in &changes.told {
                due.remove(&id.to_bytes()[..])?;
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
                due.remove(key)?;
                let (low, high) = (code::key(*id, 0), code::key(*id, u64::MAX));
                blocks.retain_in(&low[..]..=&high[..], |_, _| false)?;
                condensed.retain_in(&low[..]..=&high[..], |_, _| false)?;
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
            changes.state.put(&write)?;
        }
        Ok(write.commit()?)
    }
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
