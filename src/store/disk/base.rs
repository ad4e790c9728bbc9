//! What is kept for long: redb, with a table for each way to look for a stream.
//!
//! Written only by checkpoints, each one transaction that is synced; read by anybody at any time. An error of the file closes it, and
//! the next checkpoint opens it again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{
    code::{self, Row},
    entry,
};
use crate::{
    id::{Cursor, StreamId},
    store::{Chunk, ClaimKey, Condense, Page, StoreError},
};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A stream's row.
const STREAMS: Table = Table::new("streams");
const PROMPTS: Table = Table::new("prompts");
/// Records, under the stream and the first one's cursor.
const BLOCKS: Table = Table::new("blocks");
/// What a block is in short, under the same key: so that who comes back in the middle need not read those before.
const CONDENSED: Table = Table::new("condensed");
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

/// The form of these tables. The first had no [`CONDENSED`].
const VERSION: u64 = 2;
/// How many expired ids are remembered.
const REMEMBERED: u64 = 100_000;
/// What redb may keep in memory.
const CACHE: usize = 32 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    database: RwLock<Option<Arc<Database>>>,
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
    /// What comes before the blocks.
    pub behind: Cursor,
    pub blocks: Vec<Chunk>,
    /// Of the blocks, but for a last one that is not full or ends the log.
    pub condensed: Vec<Vec<u8>>,
}

impl Changes {
    /// Makes blocks of the chunks as they came, and what they are in short.
    pub(super) fn cut_blocks(&mut self, condense: Condense) {
        for stream in &mut self.streams {
            stream.blocks = entry::blocks(&stream.blocks);
            let last = stream.blocks.len().saturating_sub(1);
            let behind =
                |(n, block): &(usize, &Chunk)| *n < last || (entry::is_full(block) && stream.row.summary.is_none());
            let condensed = stream.blocks.iter().enumerate().filter(behind).map(|(_, block)| condense(block));
            stream.condensed = condensed.collect();
        }
    }
}

type Broken<T> = Result<T, redb::Error>;

impl Base {
    pub(super) fn open(folder: &Path) -> Result<(Self, State), StoreError> {
        let base = Self { path: folder.join("base.redb"), database: RwLock::default() };
        base.reopen()?;
        let state = base.read(Self::state)?;
        Ok((base, state))
    }

    /// Opens it (again).
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *open = None;
        let made = redb::Builder::new().set_cache_size(CACHE).create(&self.path).map_err(redb::Error::from);
        let made = made.and_then(|database| {
            let version = prepare(&database)?;
            Ok((database, version))
        });
        let (database, version) = made.map_err(|error| self.broken(error))?;
        if version != VERSION {
            return Err(StoreError::Unavailable(format!(
                "{} has form {version}, and this version of lastword reads form {VERSION}; use the version that wrote it, or \
                 name another [store] path",
                self.path.display()
            )));
        }
        *open = Some(Arc::new(database));
        Ok(())
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| StoreError::Unavailable(format!("{} is closed after an error", self.path.display())))
    }

    fn broken(&self, error: redb::Error) -> StoreError {
        let path = self.path.display();
        StoreError::Unavailable(match error {
            redb::Error::DatabaseAlreadyOpen => {
                format!("{path} is open in another process; stop that one, or name another [store] path")
            }
            error => format!("{path}: {error}; see to the disk, its room and the rights of [store] path"),
        })
    }

    fn torn(&self, id: StreamId) -> StoreError {
        let path = self.path.display();
        StoreError::Unavailable(format!(
            "{path}: what it has of stream {id} is damaged; remove the stream, or restore the file"
        ))
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Broken<T>) -> Result<T, StoreError> {
        let database = self.database()?;
        let looked = database.begin_read().map_err(redb::Error::from).and_then(|read| look(&read));
        looked.map_err(|error| self.broken(error))
    }

    fn state(read: &ReadTransaction) -> Broken<State> {
        let table = read.open_table(STATE)?;
        let get = |name| Broken::Ok(table.get(name)?.map_or(0, |value| value.value()));
        Ok(State {
            generation: get("generation")?,
            seq: get("seq")?,
            used: get("used")?,
            boot: get("boot")?,
            lazy: get("lazy")?,
            loose: get("loose")?,
            clean: get("clean")?,
        })
    }

    /// A stream's row.
    pub(super) fn row(&self, id: StreamId) -> Result<Option<Row>, StoreError> {
        let bytes = self.read(|read| get(read, STREAMS, &id.to_bytes()))?;
        bytes.map(|bytes| Row::read(&bytes).ok_or_else(|| self.torn(id))).transpose()
    }

    pub(super) fn prompt(&self, id: StreamId) -> Result<Option<Bytes>, StoreError> {
        self.read(|read| get(read, PROMPTS, &id.to_bytes()))
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

    /// An owner's streams that are older than `before`, newest first, as long as `more` wants them.
    pub(super) fn list(
        &self,
        owner: &str,
        before: Option<StreamId>,
        mut more: impl FnMut(StreamId, Row) -> bool,
    ) -> Result<(), StoreError> {
        let low = code::owner_key(owner, StreamId::from_bytes([0; 16]));
        let high = code::owner_key(owner, before.unwrap_or(StreamId::from_bytes([u8::MAX; 16])));
        let torn = self.read(|read| {
            let streams = read.open_table(STREAMS)?;
            for entry in read.open_table(OWNERS)?.range(&low[..]..&high[..])?.rev() {
                let Some(id) = code::id_behind(entry?.0.value()) else { continue };
                let Some(row) = streams.get(&id.to_bytes()[..])? else { continue };
                let Some(row) = Row::read(row.value()) else { return Ok(Some(id)) };
                if !more(id, row) {
                    break;
                }
            }
            Ok(None)
        })?;
        torn.map_or(Ok(()), |id| Err(self.torn(id)))
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
            Ok(Some(Row::read(&row).map(|row| (row, chunks))))
        })?;
        let Some(found) = found else { return Ok(None) };
        let (row, chunks) = found.ok_or_else(|| self.torn(id))?;
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
        found.map(|chunk| chunk.ok_or_else(|| self.torn(id))).transpose()
    }

    /// Puts a checkpoint's changes in, all or none, and syncs them.
    pub(super) fn put(&self, changes: &Changes) -> Result<(), StoreError> {
        self.write(changes).map_err(|error| self.broken(error))
    }

    fn write(&self, changes: &Changes) -> Broken<()> {
        let Ok(database) = self.database() else { return Err(redb::Error::PreviousIo) };
        let mut write = database.begin_write()?;
        // Otherwise opening after a crash would walk through all of it.
        write.set_quick_repair(true);
        {
            let (mut streams, mut prompts) = (write.open_table(STREAMS)?, write.open_table(PROMPTS)?);
            let (mut blocks, mut owners) = (write.open_table(BLOCKS)?, write.open_table(OWNERS)?);
            let (mut finished, mut open) = (write.open_table(FINISHED)?, write.open_table(OPEN)?);
            let (mut claims, mut gone) = (write.open_table(CLAIMS)?, write.open_table(GONE)?);
            let mut condensed = write.open_table(CONDENSED)?;
            for Changed { id, row, prompt, behind, blocks: chunks, condensed: short } in &changes.streams {
                let key = &id.to_bytes()[..];
                streams.insert(key, &row.write()[..])?;
                if let Some(prompt) = prompt {
                    prompts.insert(key, &prompt[..])?;
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
                    }
                }
            }
            for (id, expired) in &changes.gone {
                let key = &id.to_bytes()[..];
                let row = streams.remove(key)?.and_then(|row| Row::read(row.value()));
                if let Some(row) = row {
                    owners.remove(&code::owner_key(&row.owner, *id)[..])?;
                    finished.remove(&code::ended_key(row.ended_at, *id)[..])?;
                }
                prompts.remove(key)?;
                open.remove(key)?;
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
            let State { generation, seq, used, boot, lazy, loose, clean } = changes.state;
            let mut state = write.open_table(STATE)?;
            let fields = [("generation", generation), ("seq", seq), ("used", used), ("boot", boot)];
            for (name, value) in fields.into_iter().chain([("lazy", lazy), ("loose", loose), ("clean", clean)]) {
                state.insert(name, value)?;
            }
        }
        Ok(write.commit()?)
    }
}

fn get(read: &ReadTransaction, table: Table, key: &[u8]) -> Broken<Option<Bytes>> {
    Ok(read.open_table(table)?.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
}

/// Makes the tables, so that a read finds them. Gives back the form of what is there.
fn prepare(database: &Database) -> Broken<u64> {
    if let Ok(state) = database.begin_read()?.open_table(STATE) {
        let version = state.get("version")?.map_or(0, |version| version.value());
        if version != 1 {
            return Ok(version);
        }
    }
    let write = database.begin_write()?;
    for table in [STREAMS, PROMPTS, BLOCKS, CONDENSED, OWNERS, CLAIMS, FINISHED, OPEN, GONE] {
        write.open_table(table)?;
    }
    write.open_table(STATE)?.insert("version", VERSION)?;
    write.commit()?;
    Ok(VERSION)
}
