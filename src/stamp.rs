//! Whether a file is still the one that it was.
//!
//! Files are looked at, not watched: a look follows links and sees every way of saving a file (written in place, another one renamed
//! over it, a link turned), on every file system, and a change is never lost for want of a watch.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// What changes when a file does: which one it is, how long it is, when it was written, when anything about it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of what this path leads to now; nothing, if that is no regular file. Blocks on the file system.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            file: (about.dev(), about.ino()),
            size: about.len(),
            written: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }

    /// In bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_of_saving_a_file_leaves_another_stamp() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, other] = ["file", "other"].map(|name| folder.path().join(name));
        assert_eq!(Stamp::of(&file), None);
        assert_eq!(Stamp::of(folder.path()), None, "a folder is no file");
        fs::write(&file, "one").expect("written");
        fs::write(&other, "two").expect("written");
        let old = fs::metadata(&file).and_then(|about| about.modified()).expect("a time");
        let mut stamps = vec![Stamp::of(&file)];
        let mut saved = |how: &str| {
            let stamp = Stamp::of(&file);
            assert!(stamp.is_some() && !stamps.contains(&stamp), "{how}");
            assert_eq!(Stamp::of(&file), stamp, "nothing has changed");
            stamps.push(stamp);
        };
        fs::write(&file, "longer").expect("written");
        saved("written in place");
        let same_age = fs::File::options().write(true).open(&other).expect("opened");
        same_age.set_modified(old).expect("set");
        fs::rename(&other, &file).expect("renamed");
        saved("another one of the same length and age renamed over it");
        fs::write(&other, "two").expect("written");
        let link = folder.path().join("link");
        symlink(&other, &link).expect("linked");
        fs::rename(&link, &file).expect("renamed");
        saved("a link turned");
    }
}
