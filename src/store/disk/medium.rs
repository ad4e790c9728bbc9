//! What the engine stands on: everything it does with files, as one seam. [`Folder`](super::Folder) is the real one; tests have one
//! that forgets, fails and lies as disks do.
//!
//! It knows nothing of frames and tables. A write that is not synced may be taken back by a power cut, whole or in part; so may a
//! name that was made or removed.

use std::{fmt::Debug, io, path::Path, sync::Arc};

/// Where a store is kept. One store at a time has it.
pub trait Medium: Debug + Send + Sync + 'static {
    /// The folder, for messages.
    fn path(&self) -> &Path;

    /// Which run of the machine this is; 0 where that cannot be known.
    fn boot(&self) -> u64;

    /// Opens the base, `base.redb`, which is made if it is not there; its name then is synced.
    ///
    /// # Errors
    /// When the file cannot be used, or is no such database.
    fn base(&self, builder: &redb::Builder) -> Result<redb::Database, redb::Error>;

    /// Opens an empty base beside the one that is open, to take its place.
    ///
    /// # Errors
    /// As of [`base`](Self::base).
    fn second(&self, builder: &redb::Builder) -> Result<redb::Database, redb::Error>;

    /// Makes the second base the base, also after a power cut. Whoever has the first one open may go on reading it.
    ///
    /// # Errors
    /// Those of the system. Then the base is the first one or the second.
    fn adopt(&self) -> io::Result<()>;

    /// Removes the second base, if there is one.
    fn discard(&self);

    /// What the base takes and what is free.
    ///
    /// # Errors
    /// Those of the system.
    fn room(&self) -> io::Result<Room>;

    /// The names of the log's files, and of whatever else lies there.
    ///
    /// # Errors
    /// Those of the system, here and below.
    fn logs(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file of the log, in the place of one of this name.
    ///
    /// # Errors
    /// See [`logs`](Self::logs).
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// All that a file of the log holds.
    ///
    /// # Errors
    /// See [`logs`](Self::logs).
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Removes a file of the log.
    ///
    /// # Errors
    /// See [`logs`](Self::logs).
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Syncs which files of the log there are.
    ///
    /// # Errors
    /// See [`logs`](Self::logs).
    fn sync_names(&self) -> io::Result<()>;

    /// Keeps so much room, of bytes that are really there; nothing to do where it is kept already.
    ///
    /// # Errors
    /// See [`logs`](Self::logs). Nothing is kept then.
    fn reserve(&self, bytes: usize) -> io::Result<()>;

    /// Gives that room back to whoever writes next; false if there was none.
    fn release(&self) -> bool;
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Those that the base takes.
    pub base: u64,
    /// Those that are left for anybody.
    pub free: u64,
}

/// A file of the log that is written.
pub trait LogFile: Debug + Send + Sync + 'static {
    /// Writes all of it at this place, or part of it and then fails.
    ///
    /// # Errors
    /// Those of the system.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Syncs what was written.
    ///
    /// # Errors
    /// Those of the system. What was not synced may never be, whatever a later call says.
    fn sync(&self) -> io::Result<()>;
}
