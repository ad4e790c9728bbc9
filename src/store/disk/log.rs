//! The write-ahead log: frames in files, each with a checksum and a number one higher than the last.
//!
//! A file belongs to one opening of the store, whose number is in its name; what an earlier opening left is read once, and is then
//! in the base. A frame that is not whole ends the log: nothing behind it counts, for nothing behind it was certain. A frame that
//! could not be written leaves its number to the next one, which is in another file: a file's name says which frame it follows, and
//! nothing behind that one counts in the file before, however whole it looks.

use std::{io, sync::Arc};

use super::{
    code::Op,
    medium::{LogFile, Medium},
};

/// What each file begins with; the last byte is the version of its frames.
const MAGIC: [u8; 8] = *b"lastwal\x01";
/// Before the payload: its length, a checksum of the rest, the frame's number.
const HEAD: usize = 16;

/// The end of the log, where frames are written.
#[derive(Debug)]
pub(super) struct Log {
    medium: Arc<dyn Medium>,
    generation: u64,
    file: Arc<dyn LogFile>,
    /// Where the next frame goes.
    end: u64,
    /// The last frame's number.
    seq: u64,
    /// What is handed over later, and the last frame before it.
    waiting: Vec<u8>,
    handed: u64,
    buffered: bool,
    frame: Vec<u8>,
}

impl Log {
    /// A log whose first frame has the number behind `seq`. `buffered`: frames are kept until [`Log::hand_over`].
    pub(super) fn new(medium: &Arc<dyn Medium>, generation: u64, seq: u64, buffered: bool) -> io::Result<Self> {
        let file = begin(medium.as_ref(), generation, seq)?;
        let end = MAGIC.len() as u64;
        let (medium, waiting, frame) = (medium.clone(), Vec::new(), Vec::new());
        Ok(Self { medium, generation, file, end, seq, waiting, handed: seq, buffered, frame })
    }

    /// Writes one frame; what `fill` adds is its payload. Gives back the frame's number.
    pub(super) fn write(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<u64> {
        self.frame.clear();
        self.frame.resize(HEAD, 0);
        fill(&mut self.frame);
        let seq = self.seq + 1;
        let len = u32::try_from(self.frame.len() - HEAD).map_err(io::Error::other)?;
        self.frame[8..HEAD].copy_from_slice(&seq.to_le_bytes());
        let sum = crc32fast::hash(&self.frame[8..]);
        self.frame[..4].copy_from_slice(&len.to_le_bytes());
        self.frame[4..8].copy_from_slice(&sum.to_le_bytes());
        match self.buffered {
            true => self.waiting.extend_from_slice(&self.frame),
            false => {
                self.file.write_at(&self.frame, self.end)?;
                self.end += self.frame.len() as u64;
                self.handed = seq;
            }
        }
        self.frame.shrink_to(64 * 1024);
        self.seq = seq;
        Ok(seq)
    }

    /// Writes what was only kept.
    pub(super) fn hand_over(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.file.write_at(&self.waiting, self.end)?;
            self.end += self.waiting.len() as u64;
            self.waiting.clear();
            self.handed = self.seq;
        }
        Ok(())
    }

    /// The last frame's number.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// How long its newest file is.
    pub(super) fn len(&self) -> u64 {
        self.end + self.waiting.len() as u64
    }

    /// The file that is written now, to sync it beside the writing.
    pub(super) fn file(&self) -> Arc<dyn LogFile> {
        self.file.clone()
    }

    /// Goes on in a new file; what was only kept goes there too.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.file = begin(self.medium.as_ref(), self.generation, self.handed)?;
        self.end = MAGIC.len() as u64;
        Ok(())
    }
}

fn begin(medium: &dyn Medium, generation: u64, seq: u64) -> io::Result<Arc<dyn LogFile>> {
    let file = medium.create(&format!("{generation:016x}-{seq:016x}.log"))?;
    file.write_at(&MAGIC, 0)?;
    medium.sync_names()?; // a file that is synced and has no name is lost all the same
    Ok(file)
}

/// What came of a [`replay`].
pub(super) struct Replayed {
    /// The last frame's number.
    pub last: u64,
    /// Nothing was found that cannot be read: what is missing, if anything is, was never written.
    pub whole: bool,
}

/// Shows `each` the operations of every whole frame of this generation behind `seq`, in order, up to the first that is missing.
pub(super) fn replay(
    medium: &dyn Medium,
    generation: u64,
    seq: u64,
    mut each: impl FnMut(u64, Vec<Op>),
) -> io::Result<Replayed> {
    let files: Vec<_> = files(medium)?.into_iter().filter(|file| file.generation == generation).collect();
    let mut last = seq;
    for (n, file) in files.iter().enumerate() {
        let up_to = files.get(n + 1).map_or(u64::MAX, |next| next.seq);
        if up_to <= seq {
            continue; // all of it is in the base
        }
        if file.seq > last {
            return Ok(Replayed { last, whole: false });
        }
        let bytes = medium.read(&file.name)?;
        let mut rest = bytes.strip_prefix(&MAGIC);
        while let Some((at, payload, behind)) = rest.and_then(frame).filter(|(at, ..)| *at <= up_to.min(last + 1)) {
            if at == last + 1 {
                let Some(ops) = Op::read_all(payload) else { return Ok(Replayed { last, whole: false }) };
                each(at, ops);
                last = at;
            }
            rest = Some(behind);
        }
        // Behind the last frame that counts may be the rest of one that could not be written.
        if last < up_to && rest.is_none_or(|rest| !rest.is_empty()) {
            return Ok(Replayed { last, whole: false });
        }
    }
    Ok(Replayed { last, whole: !files.is_empty() })
}

/// The first frame, if it is whole, and what follows it.
fn frame(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (len, sum) = (&head[..4], &head[4..8]);
    let (payload, behind) = rest.split_at_checked(u32::from_le_bytes(len.try_into().ok()?) as usize)?;
    let checked = &bytes[8..HEAD + payload.len()];
    (crc32fast::hash(checked) == u32::from_le_bytes(sum.try_into().ok()?)).then_some(())?;
    Some((u64::from_le_bytes(head[8..].try_into().ok()?), payload, behind))
}

struct Found {
    name: String,
    generation: u64,
    seq: u64,
}

/// The log's files, in order.
fn files(medium: &dyn Medium) -> io::Result<Vec<Found>> {
    let found = medium.logs()?.into_iter().filter_map(|name| {
        let (generation, seq) = name.strip_suffix(".log")?.split_once('-')?;
        let (generation, seq) = (u64::from_str_radix(generation, 16).ok()?, u64::from_str_radix(seq, 16).ok()?);
        Some(Found { name, generation, seq })
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|file| (file.generation, file.seq));
    Ok(found)
}

/// Removes the files of later generations than this: those of openings that did not come to their end. False if one of them has
/// frames, so that it is the base that is too old.
pub(super) fn begin_behind(medium: &dyn Medium, generation: u64) -> io::Result<bool> {
    for file in files(medium)?.iter().filter(|file| file.generation > generation) {
        if medium.read(&file.name)?.len() > MAGIC.len() {
            return Ok(false);
        }
        medium.remove(&file.name)?;
    }
    Ok(true)
}

/// Removes the files that hold nothing behind `seq` of this generation. One that stays does no harm.
pub(super) fn prune(medium: &dyn Medium, generation: u64, seq: u64) {
    let pruned = files(medium).and_then(|files| {
        let needless = |(at, file): &(usize, &Found)| {
            let next = files.get(at + 1).filter(|next| next.generation == generation);
            file.generation != generation || next.is_some_and(|next| next.seq <= seq)
        };
        files.iter().enumerate().filter(needless).try_for_each(|(_, file)| medium.remove(&file.name))
    });
    if let Err(error) = pruned {
        let path = medium.path().display();
        tracing::warn!(%error, "files of the log in {path} that are no longer needed could not be removed");
    }
}
