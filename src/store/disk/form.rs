//! The form of the base: its tables, what it says of the store as a whole, and how what an older build left is brought into this form.

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::code;

/// The form of these tables. The first had no [`CONDENSED`], the second no checksums over rows, prompts and the state, the third no [`DUE`].
pub(super) const VERSION: u64 = 4;
/// The first form with checksums.
const SUMMED: u64 = 3;

pub(super) type Broken<T> = Result<T, redb::Error>;
pub(super) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A stream's row.
pub(super) const STREAMS: Table = Table::new("streams");
pub(super) const PROMPTS: Table = Table::new("prompts");
/// Records, under the stream and the first one's cursor.
pub(super) const BLOCKS: Table = Table::new("blocks");
/// What a block is in short, under the same key: so that who comes back in the middle need not read those before.
pub(super) const CONDENSED: Table = Table::new("condensed");
/// The streams of an owner.
pub(super) const OWNERS: Table = Table::new("owners");
/// Who holds a claim.
pub(super) const CLAIMS: Table = Table::new("claims");
/// Finished streams in the order in which they ended.
pub(super) const FINISHED: Table = Table::new("finished");
/// Streams that are not closed.
pub(super) const OPEN: Table = Table::new("open");
/// Streams that have expired.
pub(super) const GONE: Table = Table::new("gone");
/// Closed streams that somebody is still to be told of.
pub(super) const DUE: Table = Table::new("due");
const TABLES: [Table; 10] = [STREAMS, PROMPTS, BLOCKS, CONDENSED, OWNERS, CLAIMS, FINISHED, OPEN, GONE, DUE];
pub(super) const STATE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("state");

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

impl State {
    /// As it was at the last checkpoint.
    pub(super) fn get(read: &ReadTransaction) -> Broken<Self> {
        let table = read.open_table(STATE)?;
        let state = Self::read(&table)?;
        match state == Self::default() || number(&table, "sum")? == state.sum() {
            true => Ok(state),
            false => Err(redb::Error::Corrupted("its state does not add up".to_owned())),
        }
    }

    fn read(table: &impl ReadableTable<&'static str, u64>) -> Broken<Self> {
        Ok(Self {
            generation: number(table, "generation")?,
            seq: number(table, "seq")?,
            used: number(table, "used")?,
            boot: number(table, "boot")?,
            lazy: number(table, "lazy")?,
            loose: number(table, "loose")?,
            clean: number(table, "clean")?,
        })
    }

    pub(super) fn put(&self, write: &WriteTransaction) -> Broken<()> {
        let mut table = write.open_table(STATE)?;
        for (name, value) in self.fields().into_iter().chain([("sum", self.sum())]) {
            table.insert(name, value)?;
        }
        Ok(())
    }

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

pub(super) fn get(read: &ReadTransaction, table: Table, key: &[u8]) -> Broken<Option<Bytes>> {
    Ok(read.open_table(table)?.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
}

fn number(table: &impl ReadableTable<&'static str, u64>, name: &str) -> Broken<u64> {
    Ok(table.get(name)?.map_or(0, |value| value.value()))
}

/// Makes the tables, so that a read finds them, in this form. Gives back the form of what is there.
pub(super) fn prepare(database: &Database) -> Broken<u64> {
    let there = match database.begin_read()?.open_table(STATE) {
        Ok(state) => {
            let version = number(&state, "version")?;
            // It would be brought into this form twice.
            if version < SUMMED && state.get("sum")?.is_some() {
                return Err(redb::Error::Corrupted("what it says of its form has changed".to_owned()));
            }
            Some(version)
        }
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if there.is_some_and(|version| version == 0 || version >= VERSION) {
        return Ok(there.unwrap_or_default());
    }
    let write = database.begin_write()?;
    for table in TABLES {
        write.open_table(table)?;
    }
    if there.is_some_and(|version| version < SUMMED) {
        seal(&write, STREAMS)?;
        seal(&write, PROMPTS)?;
        let state = State::read(&write.open_table(STATE)?)?;
        state.put(&write)?;
    }
    write.open_table(STATE)?.insert("version", VERSION)?;
    write.commit()?;
    Ok(VERSION)
}

/// How much is copied in one transaction.
const PIECE: usize = 16 << 20;

/// Puts all that there is into an empty database, as it is.
pub(super) fn copy(from: &ReadTransaction, to: &Database) -> Broken<()> {
    for definition in TABLES {
        let table = from.open_table(definition)?;
        let mut entries = table.iter()?.peekable();
        while entries.peek().is_some() {
            let mut write = to.begin_write()?;
            write.set_quick_repair(true);
            {
                let (mut table, mut size) = (write.open_table(definition)?, 0);
                while size < PIECE
                    && let Some(entry) = entries.next()
                {
                    let (key, value) = entry?;
                    table.insert(key.value(), value.value())?;
                    size += key.value().len() + value.value().len();
                }
            }
            write.commit()?;
        }
    }
    let mut write = to.begin_write()?;
    write.set_quick_repair(true);
    TABLES.into_iter().try_for_each(|table| write.open_table(table).map(drop))?;
    {
        let mut state = write.open_table(STATE)?;
        for entry in from.open_table(STATE)?.iter()? {
            let (name, number) = entry?;
            state.insert(name.value(), number.value())?;
        }
    }
    Ok(write.commit()?)
}

/// Puts the values of a table under checksums.
fn seal(write: &WriteTransaction, table: Table) -> Broken<()> {
    let mut table = write.open_table(table)?;
    let ids: Vec<_> = table.iter()?.map(|entry| Ok(code::id_behind(entry?.0.value()))).collect::<Broken<_>>()?;
    for id in ids.into_iter().flatten() {
        let key = &id.to_bytes()[..];
        let sealed = table.get(key)?.map(|value| code::sealed(id, value.value()));
        if let Some(sealed) = sealed {
            table.insert(key, &sealed[..])?;
        }
    }
    Ok(())
}
