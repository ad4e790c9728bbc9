//! The write-ahead log: frames in files, each with a checksum and a number one higher than the last.
//!
//! A file belongs to one opening of the store, whose number is in its name; what an earlier opening left is read once, and is then
//! in the base. A frame that is not whole ends the log: nothing behind it counts, for nothing behind it was certain. A frame that
//! could not be written leaves its place to the next one.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::code::Op;

/// What each file begins with; the last byte is the version of its frames.
const MAGIC: [u8; 8] = *b"lastwal\x01";
/// Before the payload: its length, a checksum of the rest, the frame's number.
const HEAD: usize = 16;

/// The end of the log, where frames are written.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    generation: u64,
    file: File,
    /// Where the next frame goes.
    end: u64,
    /// The last frame's number.
    seq: u64,
    /// What is handed over later.
    waiting: Vec<u8>,
    buffered: bool,
    frame: Vec<u8>,
}

impl Log {
    /// A log whose first frame has the number behind `seq`. `buffered`: frames are kept until [`Log::hand_over`].
    pub(super) fn new(folder: &Path, generation: u64, seq: u64, buffered: bool) -> io::Result<Self> {
        let file = begin(folder, generation, seq)?;
        let end = MAGIC.len() as u64;
        let (folder, waiting, frame) = (folder.to_owned(), Vec::new(), Vec::new());
        Ok(Self { folder, generation, file, end, seq, waiting, buffered, frame })
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
                self.file.write_all_at(&self.frame, self.end)?;
                self.end += self.frame.len() as u64;
            }
        }
        self.frame.shrink_to(64 * 1024);
        self.seq = seq;
        Ok(seq)
    }

    /// Writes what was only kept.
    pub(super) fn hand_over(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.waiting, self.end)?;
        self.end += self.waiting.len() as u64;
        self.waiting.clear();
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
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Goes on in a new file.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.hand_over()?;
        let file = begin(&self.folder, self.generation, self.seq)?;
        (self.file, self.end) = (file, MAGIC.len() as u64);
        Ok(())
    }
}

fn begin(folder: &Path, generation: u64, seq: u64) -> io::Result<File> {
    let path = folder.join(format!("{generation:016x}-{seq:016x}.log"));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all_at(&MAGIC, 0)?;
    File::open(folder)?.sync_all()?; // a file that is synced and has no name is lost all the same
    Ok(file)
}

/// Shows `each` the operations of every whole frame of this generation behind `seq`, in order, up to the first that is missing.
/// Gives back the last one's number.
pub(super) fn replay(folder: &Path, generation: u64, seq: u64, mut each: impl FnMut(u64, Vec<Op>)) -> io::Result<u64> {
    let mut last = seq;
    for file in files(folder)?.into_iter().filter(|file| file.generation == generation) {
        // The rest of a frame that could not be written may end a file: the next one begins with that frame's number, or, after a
        // loss, with a later one.
        if file.seq > last {
            break;
        }
        let bytes = fs::read(&file.path)?;
        let Some(mut rest) = bytes.strip_prefix(&MAGIC) else { break };
        while let Some((at, payload, behind)) = frame(rest).filter(|(at, ..)| *at <= last + 1) {
            if at == last + 1 {
                let Some(ops) = Op::read_all(payload) else { return Ok(last) };
                each(at, ops);
                last = at;
            }
            rest = behind;
        }
    }
    Ok(last)
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
    path: PathBuf,
    generation: u64,
    seq: u64,
}

/// The log's files, in order.
fn files(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        let Some((generation, seq)) = name.and_then(|name| name.split_once('-')) else { continue };
        if let (Ok(generation), Ok(seq)) = (u64::from_str_radix(generation, 16), u64::from_str_radix(seq, 16)) {
            found.push(Found { path, generation, seq });
        }
    }
    found.sort_by_key(|file| (file.generation, file.seq));
    Ok(found)
}

/// Removes the files that hold nothing behind `seq` of this generation.
pub(super) fn prune(folder: &Path, generation: u64, seq: u64) -> io::Result<()> {
    let files = files(folder)?;
    for (at, file) in files.iter().enumerate() {
        let next = files.get(at + 1).filter(|next| next.generation == generation);
        if file.generation != generation || next.is_some_and(|next| next.seq <= seq) {
            fs::remove_file(&file.path)?;
        }
    }
    Ok(())
}
