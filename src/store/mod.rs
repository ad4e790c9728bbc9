//! Where logs live. A store keeps opaque records in order, under a cursor, for one writer at a time; it knows nothing of answers.
//!
//! The contract is the trait [`Store`]; `tests/store.rs` holds every engine to it. A batch that was appended is what a reader
//! is shown, never the other way round.

pub mod batch;
pub mod disk;
mod due;
mod inspect;
pub mod memory;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
pub use batch::{Batch, Chunk, Page};
use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::stream::BoxStream;
pub use inspect::{Checked, Ends, Fault, Files, Stats};
use serde::{Deserialize, Serialize};

use crate::id::{Cursor, Epoch, NodeId, StreamId};

/// The section `[store]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(from = "Section")]
pub struct Config {
    /// Which engine.
    pub engine: Engine,
    /// The folder of an engine that writes files; relative to the config file.
    pub path: PathBuf,
    /// How far a record of the disk engine must have come before it is shown.
    pub durability: Durability,
    /// How long a finished answer is kept.
    #[serde(with = "crate::duration")]
    pub retain: Duration,
    /// How much is kept in all; over it the oldest finished answers go first.
    pub max_bytes: ByteSize,
}

/// The section as it is written: what is left out depends on the engine.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    engine: Option<Engine>,
    path: Option<PathBuf>,
    durability: Option<Durability>,
    #[serde(with = "crate::duration::option")]
    retain: Option<Duration>,
    max_bytes: Option<ByteSize>,
}

impl From<Section> for Config {
    fn from(section: Section) -> Self {
        let engine = section.engine.unwrap_or(Engine::Disk);
        let (hours, gib) = match engine {
            Engine::Memory => (1, 1),
            Engine::Disk => (24, 10),
        };
        Self {
            engine,
            path: section.path.unwrap_or_else(|| "data".into()),
            durability: section.durability.unwrap_or(Durability::Os),
            retain: section.retain.unwrap_or(Duration::from_secs(hours * 60 * 60)),
            max_bytes: section.max_bytes.unwrap_or(ByteSize::gib(gib)),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Section::default().into()
    }
}

/// Which engine keeps the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// In this process: gone when it is.
    Memory,
    /// In a folder.
    Disk,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

/// How far a record must have come before anybody is shown it: what takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the operating system's hands: nothing takes it back but a power cut or a crash of the machine.
    Os,
    /// On the disk: nothing takes it back. Each record waits for the disk.
    Disk,
    /// In this process: any crash takes back what was shown in its last moments. Readers are told, and what is shown after it is
    /// never taken for what was lost.
    Lazy,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Os => "os",
            Self::Disk => "disk",
            Self::Lazy => "lazy",
        })
    }
}

/// Makes of a stretch of a log what those need of it who come back behind it: much shorter, and opaque to the store.
pub type Condense = fn(&Chunk) -> Vec<u8>;

/// Opens the engine that the configuration names. One that writes files has them `condense`d too.
///
/// # Errors
/// When its folder cannot be used; says why and what to do.
pub fn open(config: &Config, condense: Condense) -> Result<Arc<dyn Store>, StoreError> {
    let (retain, max_bytes) = (config.retain, config.max_bytes.as_u64());
    Ok(match config.engine {
        Engine::Memory => Arc::new(memory::Memory::new(retain, max_bytes)),
        Engine::Disk => {
            Arc::new(disk::Disk::open_condensing(&config.path, config.durability, retain, max_bytes, condense)?)
        }
    })
}

/// What every engine does. All calls are cancel safe to the caller, but an append whose future is dropped may or may not have
/// happened: whoever drops one must take a new [`lease`](Store::lease) before the next.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A new empty log; or, when another live stream holds one of its exclusive claims, that stream.
    async fn create(&self, new: NewStream) -> Result<Created, StoreError>;

    /// Appends a batch whose first record gets the cursor `at`. Refuses any other place than the next one, an epoch that is
    /// not the latest, and everything after a last batch. `last` closes the log.
    async fn append(
        &self,
        id: StreamId,
        at: Cursor,
        epoch: Epoch,
        batch: Batch,
        last: Option<Last>,
    ) -> Result<(), StoreError>;

    /// The records after `after`, at most about `max` bytes of them but at least one if there is one. Where there is none yet
    /// and the log is open, waits up to `wait` for it.
    async fn read(&self, id: StreamId, after: Cursor, max: usize, wait: Option<Duration>) -> Result<Page, StoreError>;

    /// The beginning of a log in condensed form, as far as the engine has it and at most up to `last`: stretches that adjoin, each
    /// with its last cursor. An engine that reads all of a log at once has none.
    async fn condensed(&self, _id: StreamId, _last: Cursor) -> Result<Vec<(Cursor, Bytes)>, StoreError> {
        Ok(Vec::new())
    }

    /// All that is known of a stream beside its records and its prompt.
    async fn meta(&self, id: StreamId) -> Result<Meta, StoreError>;

    /// The prompt that was stored with the stream.
    async fn prompt(&self, id: StreamId) -> Result<Bytes, StoreError>;

    /// An owner's streams, newest first: at most `n` that are older than `before`.
    async fn list(&self, owner: &str, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError>;

    /// The stream that holds a claim.
    async fn holder(&self, claim: &ClaimKey) -> Result<Option<StreamId>, StoreError>;

    /// Erases a stream with all that belongs to it. Its id is then unknown.
    async fn remove(&self, id: StreamId) -> Result<(), StoreError>;

    /// Drops what retention no longer covers, in small steps: gives back how many streams went, 0 when there is no more to do.
    async fn expire(&self) -> Result<usize, StoreError>;

    /// Makes `node` the stream's one writer. Whoever wrote before is fenced off.
    async fn lease(&self, id: StreamId, node: NodeId) -> Result<Lease, StoreError>;

    /// Closed streams that were created [`due`](NewStream::due) and that nobody has said were [`told`](Store::told), each with its
    /// place: at most `n` behind the place `after`. What ends later has a later place; with another process the places begin anew.
    async fn due(&self, after: u64, n: usize) -> Result<Vec<(u64, StreamId)>, StoreError>;

    /// This stream is due no longer. Of one that is not, does nothing.
    async fn told(&self, id: StreamId) -> Result<(), StoreError>;

    /// Says that `node` lives, and with it all leases it holds.
    async fn renew(&self, node: NodeId) -> Result<(), StoreError>;

    /// Open logs whose writer has not renewed for [`LEASE`], or that never had one for as long.
    async fn orphans(&self) -> Result<Vec<StreamId>, StoreError>;

    /// Asks a stream's writer, wherever it runs, to do something.
    async fn signal(&self, id: StreamId, signal: Signal) -> Result<(), StoreError>;

    /// The signals sent from now on, by any node.
    fn signals(&self) -> BoxStream<'static, (StreamId, Signal)>;

    /// Whether the store would take an append now.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Bytes kept, records and prompts.
    fn bytes(&self) -> u64;

    /// Everybody's streams, newest first: at most `n` that are older than `before`; with `open`, only those that are not closed.
    async fn all(&self, _open: bool, _before: Option<StreamId>, _n: usize) -> Result<Vec<Meta>, StoreError> {
        Err(inspect::closed())
    }

    /// What it holds, and how it is.
    async fn stats(&self) -> Result<Stats, StoreError> {
        Err(inspect::closed())
    }

    /// Walks through all that is kept. What is wrong with it is no error, but what was found.
    async fn check(&self, _ends: Ends) -> Result<Checked, StoreError> {
        Err(inspect::closed())
    }
}

/// How long a lease lasts after its node was last heard of. A node renews three times as often.
pub const LEASE: Duration = Duration::from_secs(15);

/// What a stream begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct NewStream {
    /// Its id.
    pub id: StreamId,
    /// Who created it; empty while authentication is off.
    pub owner: String,
    /// Unix time in milliseconds.
    pub created_at: u64,
    /// Small, read with every listing. Opaque.
    pub about: Bytes,
    /// Read only by those who ask for it. Opaque.
    pub prompt: Bytes,
    /// What it claims.
    pub claims: Vec<Claim>,
    /// It lives in memory alone, whatever the engine, and is erased so long after its end; its id is then unknown.
    pub keep: Option<Duration>,
    /// Somebody is to be told when it has ended: see [`Store::due`].
    pub due: bool,
}

/// What came of [`Store::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The log is there, empty.
    New,
    /// This stream holds the claim; nothing was created.
    Held(StreamId),
}

/// A key that at most one stream of an owner holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which one.
    pub key: ClaimKey,
    /// What it was claimed with: to tell a repeated request from another one under the same key. Opaque.
    pub fingerprint: Bytes,
}

/// The name of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimKey {
    /// Whose.
    pub owner: String,
    /// What it is for; decides who wins and when it is free again.
    pub kind: ClaimKind,
    /// The key.
    pub key: String,
}

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimKind {
    /// An `Idempotency-Key`: the first stream holds it for as long as it is kept, unless its last batch gives it back.
    Idempotency,
    /// A chat's running answer: the newest stream takes it over, and it is free at the stream's end.
    Chat,
}

/// What the last batch of a log brings along.
#[derive(Clone, Debug, Default)]
pub struct Last {
    /// What is known of the stream without reading its log. Opaque.
    pub summary: Bytes,
    /// Gives idempotency claims back: nothing was said, so the same request may be tried again.
    pub release: bool,
}

/// What is known of a stream.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Its id.
    pub id: StreamId,
    /// Who created it.
    pub owner: String,
    /// Unix time in milliseconds.
    pub created_at: u64,
    /// As it was given to [`Store::create`].
    pub about: Bytes,
    /// What it claimed, whether or not it still holds it.
    pub claims: Vec<Claim>,
    /// The last record's cursor; 0 of an empty log.
    pub last: Cursor,
    /// Cursors that were lost and never filled: (the last one before, the first one after).
    pub hole: Option<(Cursor, Cursor)>,
    /// As it was given with the last batch; absent while the log is open.
    pub summary: Option<Bytes>,
    /// What it counts in [`Store::bytes`].
    pub bytes: u64,
}

impl Meta {
    /// Whether the log has its last record.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.summary.is_some()
    }
}

/// The right to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To be given with each append.
    pub epoch: Epoch,
    /// Where the next record goes.
    pub next: Cursor,
}

/// What a stream's writer can be asked from afar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop generating.
    Cancel,
}

/// What to do where `max_bytes` is too little.
pub const RAISE: &str = "raise [store] max_bytes";

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such stream.
    #[error("there is no stream {0}")]
    Unknown(StreamId),
    /// It was there, and retention has taken it.
    #[error("stream {0} has expired")]
    Expired(StreamId),
    /// Somebody else writes this log now.
    #[error("the log has another writer")]
    Fenced,
    /// Not the next place.
    #[error("record {at} cannot be appended, the next one is {next}")]
    Position {
        /// What was tried.
        at: Cursor,
        /// What would be right.
        next: Cursor,
    },
    /// The log has its last record.
    #[error("the log is closed")]
    Closed,
    /// No room, and nothing finished to make room of.
    #[error("the store is full: {used} of {max} are in use by answers that still run; {remedy}")]
    Full {
        /// In use.
        used: ByteSize,
        /// Allowed.
        max: ByteSize,
        /// What to do.
        remedy: &'static str,
    },
    /// What is kept of the stream has been changed by something else than this store. Others are as they were.
    #[error(
        "what the store has of stream {0} is damaged; remove the stream, or put a copy of the whole store in its place"
    )]
    Damaged(StreamId),
    /// The engine cannot work now; says why and what to do.
    #[error("{0}")]
    Unavailable(String),
}
