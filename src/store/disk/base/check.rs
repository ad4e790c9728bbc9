//! Whether what is kept is whole: each block, each log, and whether the tables say the same of each stream.
//!
//! One picture of all tables is walked through twice: from the streams to what belongs to them, and from there back.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::{
    super::{LEAP, code},
    BLOCKS, Base, Broken, CLAIMS, CONDENSED, Cursor, DUE, FINISHED, GONE, OPEN, OWNERS, PROMPTS, Row, STREAMS, State,
    StoreError, StreamId,
};
use crate::store::{Checked, ClaimKind, Ends, Fault};

type Open = ReadOnlyTable<&'static [u8], &'static [u8]>;

impl Base {
    /// Walks through everything.
    pub(in super::super) fn check(&self, ends: Ends) -> Result<Checked, StoreError> {
        self.read(|read| {
            let (tables, mut found) = (Tables::open(read)?, Found::default());
            tables.streams(ends, &mut found)?;
            tables.indexes(&mut found)?;
            tables.leftovers(&mut found)?;
            tables.claims(&mut found)?;
            let (used, counted) = (State::get(read)?.used, found.counted);
            if found.whole && counted != used {
                let what = format!(
                    "the store counts {used} bytes, and its streams have {counted}: max_bytes is kept by the first"
                );
                found.add(None, &what, RESTORE);
            }
            Ok(found.checked)
        })
    }
}

const RESTORE: &str = "restore the folder from a copy";

struct Found {
    checked: Checked,
    /// What the streams count.
    counted: u64,
    /// Every row could be read.
    whole: bool,
}

impl Default for Found {
    fn default() -> Self {
        Self { checked: Checked::default(), counted: 0, whole: true }
    }
}

impl Found {
    fn add(&mut self, stream: Option<StreamId>, what: &str, remedy: &str) {
        self.checked.faults.push(Fault { stream, what: what.to_owned(), remedy: remedy.to_owned() });
    }

    /// Of a stream that can be erased.
    fn fault(&mut self, id: StreamId, what: &str) {
        self.add(Some(id), what, &format!("{RESTORE}, or give the answer up: lastword store rm {id}"));
    }

    /// Of a stream that cannot, since it is not there.
    fn stray(&mut self, id: StreamId, what: &str) {
        self.add(Some(id), what, RESTORE);
    }
}

struct Tables {
    streams: Open,
    prompts: Open,
    blocks: Open,
    condensed: Open,
    owners: Open,
    finished: Open,
    open: Open,
    claims: Open,
    gone: Open,
    due: Open,
}

/// What a stream's row says, where there is one.
enum Known {
    Nothing,
    Torn,
    Row(Box<Row>),
}

impl Tables {
    fn open(read: &ReadTransaction) -> Broken<Self> {
        Ok(Self {
            streams: read.open_table(STREAMS)?,
            prompts: read.open_table(PROMPTS)?,
            blocks: read.open_table(BLOCKS)?,
            condensed: read.open_table(CONDENSED)?,
            owners: read.open_table(OWNERS)?,
            finished: read.open_table(FINISHED)?,
            open: read.open_table(OPEN)?,
            claims: read.open_table(CLAIMS)?,
            gone: read.open_table(GONE)?,
            due: read.open_table(DUE)?,
        })
    }

    fn known(&self, id: StreamId) -> Broken<Known> {
        let row = self.streams.get(&id.to_bytes()[..])?;
        Ok(row
            .map_or(Known::Nothing, |row| Row::read(id, row.value()).map_or(Known::Torn, |row| Known::Row(row.into()))))
    }

    fn is_there(&self, id: StreamId) -> Broken<bool> {
        Ok(self.streams.get(&id.to_bytes()[..])?.is_some())
    }

    fn streams(&self, ends: Ends, found: &mut Found) -> Broken<()> {
        for entry in self.streams.iter()? {
            let (key, row) = entry?;
            let Some(id) = code::id_behind(key.value()) else { continue };
            found.checked.streams += 1;
            let Some(row) = Row::read(id, row.value()) else {
                found.whole = false;
                found.stray(id, "what is known of it cannot be read");
                continue;
            };
            found.counted += row.bytes;
            if let Some(what) = self.log(id, &row, ends, &mut found.checked.records)? {
                found.fault(id, &what);
            }
            self.missing(id, &row)?.into_iter().for_each(|what| found.fault(id, what));
        }
        Ok(())
    }

    /// What is wrong with a stream's log: the first of it.
    fn log(&self, id: StreamId, row: &Row, ends: Ends, records: &mut u64) -> Broken<Option<String>> {
        let (mut last, mut ended) = (Cursor::START, false);
        for entry in self.blocks.range(&code::key(id, 0)[..]..=&code::key(id, u64::MAX)[..])? {
            let (key, block) = entry?;
            let first = Cursor(key.value().last_chunk().map_or(0, |first| u64::from_be_bytes(*first)));
            let Some(chunk) = code::unpack(id, first, block.value()) else {
                return Ok(Some(format!("the block of records from {first} on is damaged")));
            };
            if first <= last {
                return Ok(Some(format!("the records from {first} on are there twice")));
            }
            // What is missing after a loss is a leap, and every leap is that wide.
            if (1..LEAP).contains(&(first.0 - last.0 - 1)) {
                return Ok(Some(format!("the records between {last} and {first} are missing")));
            }
            for (cursor, record) in chunk.records() {
                if ended {
                    return Ok(Some(format!("record {cursor} follows its end")));
                }
                match ends(record) {
                    Ok(end) => ended = end,
                    Err(why) => return Ok(Some(format!("record {cursor} cannot be read: {why}"))),
                }
                (last, *records) = (cursor, *records + 1);
            }
            if last != chunk.last() {
                return Ok(Some(format!("the block of records from {first} on has fewer than it says")));
            }
            if let Some(short) = self.condensed.get(key.value())?
                && code::unpack_condensed(id, first, short.value()).is_none_or(|(_, end, _)| end != last)
            {
                return Ok(Some(format!(
                    "the records from {first} on are whole, and what they are in short is damaged"
                )));
            }
        }
        Ok(match (row.summary.is_some(), ended) {
            _ if last != row.last => Some(format!("its log goes to record {last}, and should go to {}", row.last)),
            (true, false) => Some("it is closed, and its last record is no end".to_owned()),
            (false, true) => Some("its last record is an end, and it is not closed".to_owned()),
            _ => None,
        })
    }

    /// What should be in the other tables and is not.
    fn missing(&self, id: StreamId, row: &Row) -> Broken<Vec<&'static str>> {
        let key = &id.to_bytes()[..];
        let ended = row.summary.is_some();
        let mut missing = Vec::new();
        match self.prompts.get(key)? {
            None => missing.push("its prompt is missing"),
            Some(prompt) if code::unsealed(id, prompt.value()).is_none() => missing.push("its prompt is damaged"),
            Some(_) => {}
        }
        if self.owners.get(&code::owner_key(&row.owner, id)[..])?.is_none() {
            missing.push("its owner's list does not name it");
        }
        if ended && self.finished.get(&code::ended_key(row.ended_at, id)[..])?.is_none() {
            missing.push("the list of finished streams does not name it, so retention will never take it");
        }
        if !ended && self.open.get(key)?.is_none() {
            missing.push("the list of running streams does not name it, so it will never end");
        }
        for claim in row.claims.iter().filter(|claim| !ended && claim.key.kind == ClaimKind::Idempotency) {
            let holder = self.claims.get(&code::claim_key(&claim.key)[..])?;
            if holder.is_none_or(|holder| code::id_behind(holder.value()) != Some(id)) {
                missing.push("it runs, and does not hold the idempotency key that it was created with");
            }
        }
        Ok(missing)
    }

    /// Whether what lists streams lists those that belong there.
    fn indexes(&self, found: &mut Found) -> Broken<()> {
        type Agrees = fn(&[u8], StreamId, &Row) -> bool;
        let lists: [(&Open, &str, Agrees); 4] = [
            (&self.owners, "an owner's list names it wrongly", |key, id, row| key == code::owner_key(&row.owner, id)),
            (&self.finished, "the list of finished streams names it wrongly", |key, id, row| {
                row.summary.is_some() && key == code::ended_key(row.ended_at, id)
            }),
            (&self.open, "the list of running streams names it wrongly", |_, _, row| row.summary.is_none()),
            (&self.due, "the list of those to be told of names it wrongly", |_, _, row| {
                row.summary.is_some() && row.due
            }),
        ];
        for (list, what, agrees) in lists {
            for entry in list.iter()? {
                let key = entry?.0;
                let Some(id) = code::id_behind(key.value()) else { continue };
                match self.known(id)? {
                    Known::Row(row) if agrees(key.value(), id, &row) => {}
                    Known::Torn => {}
                    Known::Row(_) | Known::Nothing => found.stray(id, what),
                }
            }
        }
        Ok(())
    }

    /// What is left of streams that are not there, and what is there of those that should not be.
    fn leftovers(&self, found: &mut Found) -> Broken<()> {
        for entry in self.prompts.iter()? {
            let Some(id) = code::id_behind(entry?.0.value()) else { continue };
            if !self.is_there(id)? {
                found.stray(id, "there is a prompt of it, and no stream");
            }
        }
        for (table, what) in [
            (&self.blocks, "there are records of it, and no stream"),
            (&self.condensed, "there are records of it in short, and no stream"),
        ] {
            let mut before = None;
            for entry in table.iter()? {
                let Some(id) = entry?.0.value().first_chunk().map(|id| StreamId::from_bytes(*id)) else { continue };
                if before.replace(id) != Some(id) && !self.is_there(id)? {
                    found.stray(id, what);
                }
            }
        }
        for entry in self.gone.iter()? {
            let Some(id) = code::id_behind(entry?.0.value()) else { continue };
            if self.is_there(id)? {
                found.stray(id, "it is remembered as expired, and is there");
            }
        }
        Ok(())
    }

    /// Whether who holds a claim has claimed it, and may still hold it.
    fn claims(&self, found: &mut Found) -> Broken<()> {
        for entry in self.claims.iter()? {
            let (key, holder) = entry?;
            let Some(id) = code::id_behind(holder.value()) else { continue };
            let row = match self.known(id)? {
                Known::Nothing => {
                    found.stray(id, "it holds an idempotency key or a chat, and is no stream");
                    continue;
                }
                Known::Torn => continue,
                Known::Row(row) => row,
            };
            match row.claims.iter().find(|claim| code::claim_key(&claim.key) == key.value()) {
                None => found.stray(id, "it holds an idempotency key or a chat that it never claimed"),
                Some(claim) if claim.key.kind == ClaimKind::Chat && row.summary.is_some() => {
                    found.fault(id, "it has ended, and still holds its chat");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
