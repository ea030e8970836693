//! Which file has the name of an SQLite database at this moment. One that is put in its place by a rename (a restored backup,
//! a copy made by `vacuum into`) is not seen over connections that are open: they keep the old one.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::sqlite_path;

/// A file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    /// `None` where there is none, for a moment maybe.
    pub fn at(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self { device: file.dev(), number: file.ino() })
    }

    /// `None` for other databases as well.
    pub fn of(url: &str) -> Option<Self> {
        sqlite_path(url).and_then(|path| Self::at(&path))
    }

    /// Within its device, which may have another number after a restart.
    pub const fn number(self) -> u64 {
        self.number
    }
}
