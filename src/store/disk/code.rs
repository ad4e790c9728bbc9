//! What the log and the base keep of a stream, as bytes: operations, rows, keys. Numbers are little-endian, but for those in keys,
//! which are big-endian so that they sort.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    id::{Cursor, Epoch, StreamId},
    store::{Batch, Chunk, Claim, ClaimKey, ClaimKind, Meta, NewStream},
};

/// What changes a store. A log is a list of these, and replaying them is doing them again.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    /// A stream begins.
    Create(Box<NewStream>),
    /// Records, and with `end` the last ones.
    Append { id: StreamId, at: Cursor, batch: Batch, end: Option<End> },
    /// The next record goes to `next`: what was between is lost.
    Leap { id: StreamId, next: Cursor },
    /// A stream goes, and with `expired` is remembered.
    Drop { id: StreamId, expired: bool },
    /// A closed stream was told of.
    Told { id: StreamId },
}

/// How a log was closed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    pub summary: Bytes,
    pub release: bool,
    /// Unix time in milliseconds.
    pub at: u64,
}

impl Op {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create(new) => {
                out.push(if new.due { 5 } else { 1 });
                out.extend(new.id.to_bytes());
                put_bytes(out, new.owner.as_bytes());
                out.extend(new.created_at.to_le_bytes());
                put_bytes(out, &new.about);
                put_bytes(out, &new.prompt);
                put_claims(out, &new.claims);
                put_option(out, new.keep, |out, keep| {
                    out.extend(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
                });
            }
            Self::Append { id, at, batch, end } => {
                out.push(2);
                out.extend(id.to_bytes());
                out.extend(at.0.to_le_bytes());
                put_batch(out, batch);
                put_option(out, end.as_ref(), |out, end| {
                    put_bytes(out, &end.summary);
                    out.push(end.release.into());
                    out.extend(end.at.to_le_bytes());
                });
            }
            Self::Leap { id, next } => {
                out.push(3);
                out.extend(id.to_bytes());
                out.extend(next.0.to_le_bytes());
            }
            Self::Drop { id, expired } => {
                out.push(4);
                out.extend(id.to_bytes());
                out.push((*expired).into());
            }
            Self::Told { id } => {
                out.push(6);
                out.extend(id.to_bytes());
            }
        }
    }

    /// All of them; nothing if one cannot be read.
    pub(super) fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (mut take, mut ops) = (Take(bytes), Vec::new());
        while !take.0.is_empty() {
            ops.push(Self::read(&mut take)?);
        }
        Some(ops)
    }

    fn read(take: &mut Take<'_>) -> Option<Self> {
        let (kind, id) = (take.byte()?, take.id()?);
        Some(match kind {
            1 | 5 => {
                let (owner, created_at) = (take.text()?, take.number()?);
                let (about, prompt, claims) = (take.bytes()?, take.bytes()?, take.claims()?);
                let keep = take.option(|take| take.number().map(Duration::from_millis))?;
                let due = kind == 5;
                Self::Create(Box::new(NewStream { id, owner, created_at, about, prompt, claims, keep, due }))
            }
            2 => {
                let (at, batch) = (Cursor(take.number()?), take.batch()?);
                let end = take
                    .option(|take| Some(End { summary: take.bytes()?, release: take.flag()?, at: take.number()? }))?;
                Self::Append { id, at, batch, end }
            }
            3 => Self::Leap { id, next: Cursor(take.number()?) },
            4 => Self::Drop { id, expired: take.flag()? },
            6 => Self::Told { id },
            _ => return None,
        })
    }
}

/// What is known of a stream beside its prompt and its records.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub owner: String,
    pub created_at: u64,
    pub about: Bytes,
    pub claims: Vec<Claim>,
    pub last: Cursor,
    pub hole: Option<(Cursor, Cursor)>,
    /// The next record's place, where it is not behind the last one.
    pub leap: Option<Cursor>,
    pub summary: Option<Bytes>,
    /// Of a closed log: when, as Unix time in milliseconds.
    pub ended_at: u64,
    /// What it counts.
    pub bytes: u64,
    /// Its writer's. A later process has none of the writers of an earlier one, so this is here for closed logs alone.
    pub epoch: Epoch,
    /// Somebody is to be told of its end. Of a closed stream, that somebody was to be: [`super::form::DUE`] knows whether.
    pub due: bool,
}

impl Row {
    pub(super) fn meta(&self, id: StreamId) -> Meta {
        Meta {
            id,
            owner: self.owner.clone(),
            created_at: self.created_at,
            about: self.about.clone(),
            claims: self.claims.clone(),
            last: self.last,
            hole: self.hole,
            summary: self.summary.clone(),
            bytes: self.bytes,
        }
    }

    pub(super) fn next(&self) -> Cursor {
        self.leap.unwrap_or(self.last.plus(1))
    }

    /// As the row of this stream.
    pub(super) fn write(&self, id: StreamId) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        put_bytes(&mut out, self.owner.as_bytes());
        put_bytes(&mut out, &self.about);
        put_claims(&mut out, &self.claims);
        put_option(&mut out, self.hole, |out, (before, behind)| {
            out.extend(before.0.to_le_bytes());
            out.extend(behind.0.to_le_bytes());
        });
        put_option(&mut out, self.leap, |out, next| out.extend(next.0.to_le_bytes()));
        put_option(&mut out, self.summary.as_ref(), |out, summary| put_bytes(out, summary));
        for number in [self.created_at, self.last.0, self.ended_at, self.bytes, self.epoch.0] {
            out.extend(number.to_le_bytes());
        }
        // Rows of earlier forms end before it.
        if self.due {
            out.push(1);
        }
        sealed(id, &out)
    }

    /// The row of this stream; nothing if it is not the one that was written for it.
    pub(super) fn read(id: StreamId, bytes: &[u8]) -> Option<Self> {
        let mut take = Take(unsealed(id, bytes)?);
        Some(Self {
            owner: take.text()?,
            about: take.bytes()?,
            claims: take.claims()?,
            hole: take.option(|take| Some((Cursor(take.number()?), Cursor(take.number()?))))?,
            leap: take.option(|take| take.number().map(Cursor))?,
            summary: take.option(Take::bytes)?,
            created_at: take.number()?,
            last: Cursor(take.number()?),
            ended_at: take.number()?,
            bytes: take.number()?,
            epoch: Epoch(take.number()?),
            due: take.byte().is_some_and(|due| due == 1),
        })
    }
}

/// These bytes under a checksum that says whose they are.
pub(super) fn sealed(id: StreamId, bytes: &[u8]) -> Vec<u8> {
    let mut out = check(id, Cursor::START, bytes).to_le_bytes().to_vec();
    out.extend(bytes);
    out
}

/// What was sealed for this stream.
pub(super) fn unsealed(id: StreamId, sealed: &[u8]) -> Option<&[u8]> {
    let (sum, bytes) = sealed.split_first_chunk::<4>()?;
    (check(id, Cursor::START, bytes) == u32::from_le_bytes(*sum)).then_some(bytes)
}

/// Adjoining records, packed. Says whose they are and where they belong, and that under a checksum: a block that is found in
/// another's place, or that has changed, is not read.
pub(super) fn pack(id: StreamId, chunk: &Chunk) -> Vec<u8> {
    let mut out = vec![0; 4];
    let batch = chunk.batch();
    out.extend((batch.len() as u32).to_le_bytes());
    out.extend(lz4_flex::compress_prepend_size(batch.bytes()));
    let sum = check(id, chunk.first, &out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The records of a block; nothing if it is not the one that was packed for this place.
pub(super) fn unpack(id: StreamId, first: Cursor, block: &[u8]) -> Option<Chunk> {
    let (sum, rest) = block.split_first_chunk::<4>()?;
    if check(id, first, rest) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (len, packed) = rest.split_first_chunk::<4>()?;
    let bytes = lz4_flex::decompress_size_prepended(packed).ok()?;
    Some(Batch::of(bytes.into(), u32::from_le_bytes(*len)).at(first))
}

/// What a block is in short, with where it ends and where the one before it does.
pub(super) fn pack_condensed(id: StreamId, behind: Cursor, chunk: &Chunk, piece: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(behind.0.to_le_bytes());
    out.extend(chunk.last().0.to_le_bytes());
    out.extend_from_slice(piece);
    let sum = check(id, chunk.first, &out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The same again; nothing if it is not the one that was packed for this place.
pub(super) fn unpack_condensed(id: StreamId, first: Cursor, bytes: &[u8]) -> Option<(Cursor, Cursor, Bytes)> {
    let (sum, rest) = bytes.split_first_chunk::<4>()?;
    if check(id, first, rest) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut take = Take(rest);
    Some((Cursor(take.number()?), Cursor(take.number()?), Bytes::copy_from_slice(take.0)))
}

fn check(id: StreamId, first: Cursor, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_bytes());
    hasher.update(&first.0.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// The key of a thing that belongs to a stream and has a number there.
pub(super) fn key(id: StreamId, number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&id.to_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The key of a stream among the finished: the oldest first.
pub(super) fn ended_key(at: u64, id: StreamId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&at.to_be_bytes());
    key[8..].copy_from_slice(&id.to_bytes());
    key
}

/// The key of a stream among its owner's.
pub(super) fn owner_key(owner: &str, id: StreamId) -> Vec<u8> {
    let mut key = Vec::with_capacity(20 + owner.len());
    put_bytes(&mut key, owner.as_bytes());
    key.extend(id.to_bytes());
    key
}

/// A claim's key.
pub(super) fn claim_key(claim: &ClaimKey) -> Vec<u8> {
    let mut key = vec![kind_byte(claim.kind)];
    put_bytes(&mut key, claim.owner.as_bytes());
    key.extend(claim.key.as_bytes());
    key
}

/// The id at the end of a key.
pub(super) fn id_behind(key: &[u8]) -> Option<StreamId> {
    key.last_chunk::<16>().map(|id| StreamId::from_bytes(*id))
}

fn kind_byte(kind: ClaimKind) -> u8 {
    match kind {
        ClaimKind::Idempotency => 0,
        ClaimKind::Chat => 1,
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("what is stored is smaller than 4 GiB");
    out.extend(len.to_le_bytes());
    out.extend(bytes);
}

fn put_batch(out: &mut Vec<u8>, batch: &Batch) {
    out.extend((batch.len() as u32).to_le_bytes());
    put_bytes(out, batch.bytes());
}

fn put_claims(out: &mut Vec<u8>, claims: &[Claim]) {
    out.extend((claims.len() as u32).to_le_bytes());
    for Claim { key, fingerprint } in claims {
        out.push(kind_byte(key.kind));
        put_bytes(out, key.owner.as_bytes());
        put_bytes(out, key.key.as_bytes());
        put_bytes(out, fingerprint);
    }
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(value.is_some().into());
    if let Some(value) = value {
        put(out, value);
    }
}

/// Reads from the front; nothing where there is too little.
struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let (slice, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(slice)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<StreamId> {
        self.array().map(StreamId::from_bytes)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        self.slice().map(Bytes::copy_from_slice)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.slice()?.to_vec()).ok()
    }

    fn batch(&mut self) -> Option<Batch> {
        let len = u32::from_le_bytes(self.array()?);
        Some(Batch::of(self.bytes()?, len))
    }

    fn claims(&mut self) -> Option<Vec<Claim>> {
        let n = u32::from_le_bytes(self.array()?);
        (0..n).map(|_| self.claim()).collect()
    }

    fn claim(&mut self) -> Option<Claim> {
        let kind = match self.byte()? {
            0 => ClaimKind::Idempotency,
            1 => ClaimKind::Chat,
            _ => return None,
        };
        let key = ClaimKey { kind, owner: self.text()?, key: self.text()? };
        Some(Claim { key, fingerprint: self.bytes()? })
    }

    fn option<T>(&mut self, take: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.flag()? {
            true => take(self).map(Some),
            false => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Vec<Claim> {
        let key = ClaimKey { owner: "ann".into(), kind: ClaimKind::Chat, key: "k".into() };
        vec![Claim { key, fingerprint: "f".into() }]
    }

    #[test]
    fn what_is_written_reads_back_and_nothing_shorter_does() {
        let id = StreamId::new();
        let new = NewStream {
            id,
            owner: "ann".into(),
            created_at: 7,
            about: "about".into(),
            prompt: "prompt".into(),
            claims: claims(),
            keep: Some(Duration::from_millis(7)),
            due: false,
        };
        let end = Some(End { summary: "s".into(), release: true, at: 8 });
        let batch: Batch = ["one", ""].into_iter().collect();
        let ops = [
            Op::Create(Box::new(NewStream { due: true, ..new.clone() })),
            Op::Create(Box::new(new)),
            Op::Append { id, at: Cursor(3), batch: batch.clone(), end },
            Op::Append { id, at: Cursor(3), batch, end: None },
            Op::Leap { id, next: Cursor(9) },
            Op::Drop { id, expired: true },
            Op::Told { id },
        ];
        for op in &ops {
            let mut bytes = Vec::new();
            op.write(&mut bytes);
            assert_eq!(Op::read_all(&bytes).as_deref(), Some(std::slice::from_ref(op)));
            assert!((1..bytes.len()).all(|n| Op::read_all(&bytes[..n]).is_none()), "{op:?}");
        }
        let row = Row {
            owner: "ann".into(),
            created_at: 1,
            about: "a".into(),
            claims: claims(),
            last: Cursor(4),
            hole: Some((Cursor(1), Cursor(3))),
            leap: None,
            summary: Some("s".into()),
            ended_at: 5,
            bytes: 6,
            epoch: Epoch(7),
            due: true,
        };
        let plain = Row { due: false, ..row.clone() };
        assert_eq!(Row::read(id, &plain.write(id)), Some(plain));
        let written = row.write(id);
        assert_eq!(Row::read(id, &written), Some(row));
        assert_eq!(Row::read(StreamId::new(), &written), None);
        for at in 0..written.len() {
            let mut flipped = written.clone();
            flipped[at] ^= 1;
            assert_eq!(Row::read(id, &flipped), None, "byte {at}");
        }
    }

    #[test]
    fn a_block_is_read_only_where_and_as_it_was_packed() {
        let id = StreamId::new();
        let chunk = ["one", "", "three"].into_iter().collect::<Batch>().at(Cursor(5));
        let short = pack_condensed(id, Cursor(2), &chunk, b"short");
        assert_eq!(unpack_condensed(id, Cursor(5), &short), Some((Cursor(2), Cursor(7), "short".into())));
        assert_eq!(unpack_condensed(id, Cursor(6), &short), None);
        let block = pack(id, &chunk);
        assert_eq!(unpack(id, Cursor(5), &block), Some(chunk));
        assert_eq!(unpack(id, Cursor(6), &block), None);
        assert_eq!(unpack(StreamId::new(), Cursor(5), &block), None);
        for at in 0..block.len() {
            let mut flipped = block.clone();
            flipped[at] ^= 1;
            assert_eq!(unpack(id, Cursor(5), &flipped), None, "byte {at}");
        }
    }
}
