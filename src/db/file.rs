//! Identifies the file that has the name of an SQLite database at this moment. If a rename puts another file in its place (a
//! restored backup, a copy made by `vacuum into`), open connections do not notice: they keep the old one.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::db::sqlite_path;

/// A file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    /// `None` where there is no file, perhaps only for a moment.
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|file| Self::from(&file))
    }

    /// `None` for other databases as well.
    pub fn of(url: &str) -> Option<Self> {
        sqlite_path(url).and_then(|path| Self::at(&path))
    }

    /// The number within its device, whose own number may change after a restart.
    pub const fn number(self) -> u64 {
        self.number
    }
}

impl From<&Metadata> for FileId {
    fn from(file: &Metadata) -> Self {
        Self { device: file.dev(), number: file.ino() }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.number)
    }
}

/// A file at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLook {
    id: FileId,
    bytes: u64,
    /// In seconds and nanoseconds.
    modified: (i64, i64),
}

impl FileLook {
    /// `None` where there is no file.
    pub fn at(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        let id = FileId::from(&file);
        Some(Self { id, bytes: file.len(), modified: (file.mtime(), file.mtime_nsec()) })
    }

    pub const fn id(&self) -> FileId {
        self.id
    }

    /// In seconds and nanoseconds.
    pub const fn modified(&self) -> (i64, i64) {
        self.modified
    }

    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether an older content has been copied over this one. A database in use never gets an earlier modification time, and
    /// loses a tenth of its size only when it is rebuilt. The reverse is not true: a copy that is larger and newer shows nothing.
    pub fn is_turned_back_since(&self, earlier: &Self) -> bool {
        self.id == earlier.id
            && (self.modified < earlier.modified || self.bytes < earlier.bytes - earlier.bytes.div_ceil(10))
    }
}

/// SQLite puts its files beside the target of a symbolic link.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
    path.push(suffix);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_or_much_smaller_content_in_the_same_file_is_noticed() {
        let id = FileId { device: 1, number: 2 };
        let look = |bytes, seconds| FileLook { id, bytes, modified: (seconds, 0) };
        let earlier = look(100_000, 50);
        assert!(look(200_000, 49).is_turned_back_since(&earlier), "modified earlier than before");
        assert!(look(89_999, 51).is_turned_back_since(&earlier));
        assert!(!look(90_000, 51).is_turned_back_since(&earlier), "rows were deleted");
        assert!(!earlier.is_turned_back_since(&earlier));
        let other = FileLook { id: FileId { device: 1, number: 3 }, ..look(1, 1) };
        assert!(!other.is_turned_back_since(&earlier), "another file is told by its number");
        assert!(!look(0, 51).is_turned_back_since(&look(0, 50)), "nothing is never less");
    }
}
