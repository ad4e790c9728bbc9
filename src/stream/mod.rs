//! The log of one running or finished answer, as a reader meets it: a hot tail in memory, and the store behind it.
//!
//! Knows positions and wake-ups. Does not know what a record says, nor who reads it.

mod reader;
mod tail;

pub use reader::Reader;
pub use tail::{Follower, Found, Head, Tail};

use crate::{
    id::{Cursor, StreamId},
    record::{Record, condensed},
    store::{Chunk, Store, StoreError},
};

/// How much of a log is read at once by who reads all of it.
const STEP: usize = 64 * 1024;

/// A stretch of a log in condensed form, as a store keeps it.
#[must_use]
pub fn condense(chunk: &Chunk) -> Vec<u8> {
    condensed::condense(chunk.records().map(|(_, record)| record))
}

/// Shows `each` the stretches from a log's beginning that a store has condensed, none of which goes beyond `last`, as runs of
/// records and the last cursor, as long as it says yes. Gives back the last cursor of those that it took.
///
/// # Errors
/// When the store cannot be read.
pub async fn skim(
    store: &dyn Store,
    id: StreamId,
    last: Cursor,
    mut each: impl FnMut(&[(Record<'_>, u32)]) -> bool + Send,
) -> Result<Cursor, StoreError> {
    let mut taken = Cursor::START;
    for (last, piece) in store.condensed(id, last).await? {
        match condensed::runs(&piece) {
            Some(runs) if each(&runs) => taken = last,
            _ => break,
        }
    }
    Ok(taken)
}

/// Shows `each` the records of a log in order, from behind `after` to at least `last`, without waiting for more. What the store does not
/// have of them (an end that it refuses) is in the tail.
///
/// # Errors
/// When the store cannot be read, or a record is not one that this build can read.
pub async fn fold(
    store: &dyn Store,
    tail: Option<&Tail>,
    id: StreamId,
    mut after: Cursor,
    last: Cursor,
    mut each: impl FnMut(Cursor, &Record<'_>) + Send,
) -> Result<(), StoreError> {
    while after < last {
        let mut page = store.read(id, after, STEP, None).await?;
        if let Some(tail) = tail.filter(|_| page.chunks.is_empty()) {
            tail.read(after, STEP, &mut page);
        }
        for (cursor, bytes) in page.records() {
            let record = Record::parse(bytes);
            let record =
                record.map_err(|bad| StoreError::Unavailable(format!("stream {id}, record {cursor}: {bad}")))?;
            each(cursor, &record);
        }
        match page.last() {
            Some(cursor) => after = cursor,
            None => break,
        }
        // A store in memory never waits, and a long log must not keep the thread from everybody else.
        tokio::task::yield_now().await;
    }
    Ok(())
}
