//! Records on their way into and out of a store: many in one piece of memory, each with its length before it.
//!
//! A [`Batch`] has no place yet; a [`Chunk`] is one with its first cursor; a [`Page`] is what a read gives back. All share the
//! bytes they were made of, so handing a chunk to a thousand readers copies nothing.

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::Cursor;

/// Bytes before each record: its length, little-endian.
const LENGTH: usize = 4;

/// Records to be appended together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    len: u32,
}

impl Batch {
    /// How many records.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from(self.len)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its size in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Its records as they lie in memory, each behind its length.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch whose [`bytes`](Self::bytes) these are.
    pub(super) fn of(bytes: Bytes, len: u32) -> Self {
        Self { bytes, len }
    }

    /// The same records in their place.
    #[must_use]
    pub fn at(self, first: Cursor) -> Chunk {
        Chunk { first, len: self.len, bytes: self.bytes }
    }
}

impl<B: AsRef<[u8]>> FromIterator<B> for Batch {
    fn from_iter<I: IntoIterator<Item = B>>(records: I) -> Self {
        let mut packer = Packer::default();
        for record in records {
            packer.push(|out| {
                out.extend_from_slice(record.as_ref());
                Some(())
            });
        }
        packer.take()
    }
}

/// Writes records one behind the other into a slab and cuts it into batches, without one allocation per record.
#[derive(Debug, Default)]
pub struct Packer {
    slab: BytesMut,
    len: u32,
}

impl Packer {
    /// A slab holds the batches of a while: 4 KiB are some sixty tokens.
    const SLAB: usize = 4096;

    /// Lets `write` append one record; if it gives nothing back, there is none.
    pub fn push<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> Option<T>) -> Option<T> {
        if self.slab.is_empty() && self.slab.capacity() < 256 {
            self.slab.reserve(Self::SLAB);
        }
        let start = self.slab.len();
        self.slab.put_u32_le(0);
        let Some(written) = write(&mut self.slab) else {
            self.slab.truncate(start);
            return None;
        };
        let length = u32::try_from(self.slab.len() - start - LENGTH).expect("a record is smaller than 4 GiB");
        self.slab[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
        self.len += 1;
        Some(written)
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from(self.len)
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The size of those that wait.
    #[must_use]
    pub fn size(&self) -> usize {
        self.slab.len()
    }

    /// What was pushed since the last take.
    pub fn take(&mut self) -> Batch {
        Batch { bytes: self.slab.split().freeze(), len: std::mem::take(&mut self.len) }
    }
}

/// Records in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The first record's cursor.
    pub first: Cursor,
    len: u32,
    bytes: Bytes,
}

impl Chunk {
    /// The last record's cursor.
    #[must_use]
    pub fn last(&self) -> Cursor {
        Cursor(self.first.0 + u64::from(self.len)).before()
    }

    /// Its size in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The same records without their place.
    pub(super) fn batch(&self) -> Batch {
        Batch { bytes: self.bytes.clone(), len: self.len }
    }

    /// The records with their cursors.
    pub fn records(&self) -> impl Iterator<Item = (Cursor, &[u8])> {
        let mut rest = &self.bytes[..];
        (self.first.0..).map_while(move |n| {
            let (record, after) = split(rest)?;
            rest = after;
            Some((Cursor(n), record))
        })
    }

    /// The part of it behind `after`, at most about `max` bytes but at least one record; nothing if all of it is before.
    #[must_use]
    pub fn slice(&self, after: Cursor, max: usize) -> Option<Self> {
        if after >= self.last() {
            return None;
        }
        if after < self.first && self.size() <= max {
            return Some(self.clone());
        }
        let (mut n, mut start, mut rest) = (self.first.0, 0, &self.bytes[..]);
        while n <= after.0 {
            let (record, behind) = split(rest)?;
            (n, start, rest) = (n + 1, start + LENGTH + record.len(), behind);
        }
        let (mut len, mut end) = (0, start);
        while let Some((record, behind)) = split(rest) {
            let size = LENGTH + record.len();
            if len > 0 && end + size - start > max {
                break;
            }
            (len, end, rest) = (len + 1, end + size, behind);
        }
        Some(Self { first: Cursor(n), len, bytes: self.bytes.slice(start..end) })
    }

    /// Adjoining chunks as one that owns its memory.
    #[must_use]
    pub fn join(chunks: &[Self]) -> Option<Self> {
        let first = chunks.first()?;
        debug_assert!(chunks.is_sorted_by(|a, b| a.last().plus(1) == b.first), "chunks adjoin");
        let mut bytes = Vec::with_capacity(chunks.iter().map(Self::size).sum());
        chunks.iter().for_each(|chunk| bytes.extend_from_slice(&chunk.bytes));
        Some(Self { first: first.first, len: chunks.iter().map(|chunk| chunk.len).sum(), bytes: bytes.into() })
    }
}

/// The first record and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// What a read gives back.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The records, in order; adjoining but for a [hole](super::Meta::hole).
    pub chunks: Vec<Chunk>,
    /// The log is closed, and this page goes to its end.
    pub closed: bool,
}

impl Page {
    /// The records with their cursors.
    pub fn records(&self) -> impl Iterator<Item = (Cursor, &[u8])> {
        self.chunks.iter().flat_map(Chunk::records)
    }

    /// The last record's cursor.
    #[must_use]
    pub fn last(&self) -> Option<Cursor> {
        self.chunks.last().map(Chunk::last)
    }

    /// Adds of `chunks`, which are in order, what is behind `after`, until the page has about `max` bytes.
    pub fn fill<'a>(&mut self, chunks: impl IntoIterator<Item = &'a Chunk>, after: Cursor, max: usize) {
        let mut left = max;
        for chunk in chunks {
            if !self.chunks.is_empty() && chunk.size() > left {
                break;
            }
            let Some(part) = chunk.slice(after, left) else { continue };
            let whole = part.last() == chunk.last();
            left = left.saturating_sub(part.size());
            self.chunks.push(part);
            if !whole {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(from: u64, to: u64) -> Chunk {
        (from..=to).map(|n| n.to_string()).collect::<Batch>().at(Cursor(from))
    }

    fn read(page: &Page) -> Vec<u64> {
        page.records()
            .map(|(cursor, record)| {
                assert_eq!(record, cursor.to_string().as_bytes());
                cursor.0
            })
            .collect()
    }

    #[test]
    fn a_page_is_what_is_behind_the_cursor_whatever_the_chunks() {
        let chunks = [numbers(1, 1), numbers(2, 9), numbers(10, 10), numbers(11, 30)];
        for after in 0..=31 {
            for max in [1, 7, 40, 1000] {
                let mut seen = Vec::new();
                let mut cursor = Cursor(after);
                loop {
                    let mut page = Page::default();
                    page.fill(&chunks, cursor, max);
                    let Some(last) = page.last() else { break };
                    assert!(page.chunks.len() == 1 || page.chunks.iter().map(Chunk::size).sum::<usize>() <= max);
                    seen.extend(read(&page));
                    cursor = last;
                }
                assert_eq!(seen, (after + 1..=30).collect::<Vec<_>>(), "after {after}, max {max}");
            }
        }
    }

    #[test]
    fn joined_chunks_read_the_same() {
        let parts = [numbers(3, 5), numbers(6, 6), numbers(7, 20)];
        assert_eq!(Chunk::join(&parts), Some(numbers(3, 20)));
    }

    #[test]
    fn a_packer_cuts_its_slab_into_batches_and_forgets_what_was_not_written() {
        let mut packer = Packer::default();
        let write = |packer: &mut Packer, record: &[u8]| {
            packer.push(|out| {
                out.extend_from_slice(record);
                Some(())
            })
        };
        write(&mut packer, b"1");
        assert_eq!(
            packer.push(|out| -> Option<()> {
                out.extend_from_slice(b"half");
                None
            }),
            None
        );
        assert_eq!(packer.take().at(Cursor(1)), numbers(1, 1));
        write(&mut packer, b"2");
        assert_eq!(packer.take().at(Cursor(2)), numbers(2, 2));
        assert!(packer.is_empty() && packer.take().is_empty());
    }
}
