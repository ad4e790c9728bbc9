//! The folder as a place: who may use it, which run of the machine wrote it, and what is said when it cannot be used.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::store::StoreError;

pub(super) fn unavailable(folder: &Path, what: &str, error: &io::Error) -> StoreError {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that disk",
        io::ErrorKind::PermissionDenied => "give this user the right to write there, or name another [store] path",
        io::ErrorKind::ReadOnlyFilesystem => "name a [store] path that can be written",
        _ => "see to the disk, or name another [store] path",
    };
    StoreError::Unavailable(format!("the store in {} {what}: {error}; {remedy}", folder.display()))
}

/// Held as long as the store is open: two processes never write one folder.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
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

/// Which run of the machine this is; 0 where that cannot be known.
pub(super) fn boot() -> u64 {
    let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.is_empty() { 0 } else { u64::from(crc32fast::hash(&id)) + 1 }
}
