//! Everybody's streams, and how many there are.

use std::sync::MutexGuard;

use redb::{ReadableTable, ReadableTableMetadata};

use super::{super::shared::Inner, Base, Row, STREAMS, StoreError, StreamId, code};

/// Of all streams, those that have not come into the base included, and those that are gone left out.
pub(in super::super) struct Totals {
    pub(in super::super) streams: u64,
    /// When the oldest was created.
    pub(in super::super) oldest: Option<u64>,
}

impl Base {
    /// Everybody's streams that are older than `before`, newest first, as long as `more` wants them; but for damaged ones.
    pub(in super::super) fn all(
        &self,
        before: Option<StreamId>,
        mut more: impl FnMut(StreamId, Row) -> bool,
    ) -> Result<(), StoreError> {
        let high = before.unwrap_or(StreamId::from_bytes([u8::MAX; 16])).to_bytes();
        self.read(|read| {
            for entry in read.open_table(STREAMS)?.range(..&high[..])?.rev() {
                let (key, row) = entry?;
                let Some(id) = code::id_behind(key.value()) else { continue };
                if !Row::read(id, row.value()).is_none_or(|row| more(id, row)) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Counts. `here` is held until the base's picture is taken: what moves from there to here is counted once.
    pub(in super::super) fn totals(&self, here: MutexGuard<'_, Inner>) -> Result<Totals, StoreError> {
        self.read(|read| {
            let fresh = here.table.all(None).filter(|(_, entry)| entry.prompt.is_some());
            let fresh: Vec<_> = fresh.map(|(id, entry)| (id, entry.row.created_at)).collect();
            let gone = here.table.gone();
            drop(here);
            let streams = read.open_table(STREAMS)?;
            let mut n = streams.len()?;
            for (id, _) in &fresh {
                n += u64::from(streams.get(&id.to_bytes()[..])?.is_none());
            }
            for id in &gone {
                n -= u64::from(streams.get(&id.to_bytes()[..])?.is_some());
            }
            let mut oldest = fresh.last().copied();
            for entry in streams.iter()? {
                let (key, row) = entry?;
                let Some(id) = code::id_behind(key.value()).filter(|id| !gone.contains(id)) else { continue };
                if oldest.is_none_or(|(oldest, _)| id < oldest) {
                    oldest = Row::read(id, row.value()).map(|row| (id, row.created_at)).or(oldest);
                }
                break;
            }
            Ok(Totals { streams: n, oldest: oldest.map(|(_, created_at)| created_at) })
        })
    }
}
