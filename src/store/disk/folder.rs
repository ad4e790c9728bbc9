//! The folder as the [`Medium`]: who may use it, which run of the machine wrote it, and what is said when it cannot be used.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::medium::{LogFile, Medium, Room};
use crate::store::StoreError;

/// What is said of a file or folder that cannot be used, and what to do.
pub(super) fn unavailable(path: &Path, what: &str, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the store in {} {what}: {error}; {}", path.display(), remedy(error)))
}

pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that disk",
        io::ErrorKind::PermissionDenied => "give this user the right to write there, or name another [store] path",
        io::ErrorKind::ReadOnlyFilesystem => "name a [store] path that can be written",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is in its way: name another [store] path"
        }
        _ => "see to the disk, or name another [store] path",
    }
}

/// The base, and one that is to take its place.
const BASE: &str = "base.redb";
const SECOND: &str = "base.new";

/// See the module. As long as it lives, no other process has this folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    logs: PathBuf,
    reserve: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be used, or another process has it; says why and what to do.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: io::Error| unavailable(path, "cannot be used", &error);
        let logs = path.join("log");
        let whole = std::path::absolute(&logs).map_err(failed)?;
        let made: Vec<_> = whole.ancestors().take_while(|folder| !folder.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&logs).map_err(failed)?;
        let lock = lock(path)?;
        // A folder whose name is lost is lost with all that is in it.
        made.iter().filter_map(|folder| folder.parent()).try_for_each(sync_folder).map_err(failed)?;
        Ok(Self { path: path.to_owned(), logs, reserve: path.join("reserve"), _lock: lock })
    }
}

impl Folder {
    fn database(&self, name: &str, empty: bool, builder: &redb::Builder) -> Result<redb::Database, redb::Error> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(empty).mode(0o600).open(self.path.join(name))?;
        sync_folder(&self.path)?;
        Ok(builder.create_with_backend(redb::backends::FileBackend::new(file)?)?)
    }
}

impl Medium for Folder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn boot(&self) -> u64 {
        let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        if id.is_empty() { 0 } else { u64::from(crc32fast::hash(&id)) + 1 }
    }

    fn base(&self, builder: &redb::Builder) -> Result<redb::Database, redb::Error> {
        self.discard();
        self.database(BASE, false, builder)
    }

    fn second(&self, builder: &redb::Builder) -> Result<redb::Database, redb::Error> {
        self.database(SECOND, true, builder)
    }

    fn adopt(&self) -> io::Result<()> {
        fs::rename(self.path.join(SECOND), self.path.join(BASE))?;
        sync_folder(&self.path)
    }

    fn discard(&self) {
        let _ = fs::remove_file(self.path.join(SECOND));
    }

    fn room(&self) -> io::Result<Room> {
        let disk = rustix::fs::statvfs(&self.path)?;
        let base = fs::metadata(self.path.join(BASE))?.blocks() * 512;
        Ok(Room { base, free: disk.f_bavail.saturating_mul(disk.f_frsize) })
    }

    fn logs(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.logs)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(self.logs.join(name))?;
        Ok(Arc::new(file))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.logs.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.logs.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder(&self.logs)
    }

    fn reserve(&self, bytes: usize) -> io::Result<()> {
        if fs::metadata(&self.reserve).is_ok_and(|file| file.len() == bytes as u64) {
            return Ok(());
        }
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.reserve);
        let made = made.and_then(|mut file| {
            let piece = [0x5a; 64 * 1024];
            (0..bytes / piece.len()).try_for_each(|_| file.write_all(&piece))?;
            file.sync_all()
        });
        made.inspect_err(|_| _ = self.release())
    }

    fn release(&self) -> bool {
        fs::remove_file(&self.reserve).is_ok()
    }
}

impl LogFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Held as long as the store is open: two processes never write one folder.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(|error| unavailable(folder, "cannot be used", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(unavailable(folder, "cannot be locked", &error)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
            "the store in {} is open in another process; stop that one, or name another [store] path",
            folder.display()
        ))),
    }
}
