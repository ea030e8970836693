//! A write-ahead log left behind by an earlier file of an SQLite state. SQLite does not notice that the file beside the log has
//! been replaced: it writes the old log into the new file and destroys it. So the lock file beside the state stores which file
//! was opened last, and a state with a log is opened only if its file is that one.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::db::file::beside;
use crate::db::sqlite_path;
use crate::error::SetupError;
use crate::store::state_header::HeaderFile;
use crate::store::state_log::LogNote;

/// More bytes than any lock file has.
pub const LOCK_BYTES: u64 = 800;
/// During a write, a read may return half of the old header and half of the new one.
const READS: u32 = 3;

/// The lock file beside a state.
pub fn lock_of(state: &Path) -> PathBuf {
    let mut place = state.to_owned().into_os_string();
    place.push(".lock");
    PathBuf::from(place)
}

/// The file that was opened last, as the lock file describes it. The device number is left out, because it may change when the
/// machine restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMemory {
    number: u64,
    /// In microseconds, if the file system knows it. A new file often gets the inode number of a removed one.
    born: Option<u64>,
    /// The id and the starts of the state, as [`crate::store::state_header::StateHeader`] has them.
    header: Option<(u32, u32)>,
}

impl FileMemory {
    /// The file as it is now; its content is not read.
    pub fn at(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        let born = file.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|born| u64::try_from(born.as_micros()).ok());
        Some(Self { number: file.ino(), born, header: None })
    }

    #[must_use]
    pub fn with_header(self, header: Option<(u32, u32)>) -> Self {
        Self { header, ..self }
    }

    /// Parses the text of a lock file. A process that has opened a file writes it as `file`, with its device.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = field("last").or_else(|| field("file")?.rsplit(':').next())?.parse().ok()?;
        let born = field("born").and_then(|born| born.parse().ok());
        let header = field("state").and_then(|header| header.split_once(' '));
        let header = header.and_then(|(id, starts)| Some((id.parse().ok()?, starts.parse().ok()?)));
        Some(Self { number, born, header })
    }

    /// Whether a file with this inode number and time of birth may be the stored one.
    fn is_same_file(&self, found: &Self) -> bool {
        let has_other_birth = matches!((self.born, found.born), (Some(one), Some(other)) if one != other);
        self.number == found.number && !has_other_birth
    }

    /// Whether the file holds another state, or an older copy of it.
    fn has_other_content(&self, path: &Path) -> bool {
        let (Some((id, starts)), Some(file)) = (self.header, HeaderFile::open(path)) else { return false };
        (0..READS).all(|_| file.read().is_none_or(|found| found.state_id != id || found.starts < starts))
    }
}

/// The lines of a lock file below the first, for a file that is about to be opened.
impl fmt::Display for FileMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nlast {}", self.number)?;
        self.write_details(f)
    }
}

impl FileMemory {
    pub fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.header.map_or(Ok(()), |(id, starts)| write!(f, "\nstate {id} {starts}"))?;
        self.born.map_or(Ok(()), |born| write!(f, "\nborn {born}"))
    }
}

fn read_lock(state: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(lock_of(state)).ok()?.take(LOCK_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The owner of the log beside a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOwner {
    /// No process sends from the state: the last one left the log.
    Nobody,
    /// A sending process, which watches its log itself.
    Sender,
}

impl LogOwner {
    fn find(state: &Path) -> Self {
        let is_locked = |file: File| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
        if File::open(lock_of(state)).is_ok_and(is_locked) { Self::Sender } else { Self::Nobody }
    }
}

/// Checks the file and the log before SQLite opens them. Returns the description of the file for the lock file.
///
/// # Errors
/// [`SetupError`] if the log belongs to another file than the present one, or has lost commits.
pub fn admit_file(state: &Path, log: LogOwner) -> Result<Option<FileMemory>, SetupError> {
    let found = FileMemory::at(state);
    let text = read_lock(state);
    let Some(known) = text.as_deref().and_then(FileMemory::parse) else { return Ok(found) };
    let is_known = found.is_some_and(|found| known.is_same_file(&found)) && !known.has_other_content(state);
    if is_known {
        if let Some(note) = text.as_deref().and_then(LogNote::parse)
            && log == LogOwner::Nobody
            && note.is_lost(state)
        {
            return Err(refuse_lost_log(state, note));
        }
        return Ok(found.map(|found| found.with_header(known.header)));
    }
    let stray = beside(state, "-wal");
    if std::fs::metadata(&stray).map_or(0, |stray| stray.len()) == 0 {
        return Ok(found);
    }
    Err(refuse_log(state, &stray, found))
}

/// [`admit_file`] for a URL of any engine.
///
/// # Errors
/// As [`admit_file`].
pub fn refuse_stray_log(url: &str) -> Result<(), SetupError> {
    sqlite_path(url).map_or(Ok(()), |state| admit_file(&state, LogOwner::find(&state)).map(drop))
}

/// Removes from the lock file a log that has lost commits: the operator goes on with the content of the file.
pub fn accept_lost_log(url: &str) {
    let Some(state) = sqlite_path(url) else { return };
    let Some(text) = read_lock(&state).filter(|text| LogNote::parse(text).is_some_and(|note| note.is_lost(&state)))
    else {
        return;
    };
    let Ok(mut file) = File::options().read(true).write(true).open(lock_of(&state)) else { return };
    if file.try_lock().is_ok() {
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("log ")).collect();
        drop(file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(kept.join("\n").as_bytes())));
    }
}

fn refuse_lost_log(state: &Path, note: LogNote) -> SetupError {
    let (place, log, index) = (state.display(), beside(state, "-wal"), beside(state, "-shm"));
    let (log, index) = (log.display(), index.display());
    let seen = if note.loss().is_some() { "while conversica-sync ran" } else { "since conversica-sync ran last" };
    SetupError::new(
        format!(
            "the log {log} beside the state's file was emptied, removed, replaced or copied over {seen}, and what it held is not in \
             the file {place}: nothing is opened, because leads would be sent again and opt-outs would be forgotten"
        ),
        format!(
            "stop conversica-sync if it runs. Put that log back (mv), if it was moved, then start. Otherwise move {log} and {index} \
             away, put a backup in place of {place}, run `conversica-sync restored`, then start. Without a backup, leave the file as \
             it is and run `conversica-sync restored`: what is to be sent then waits for approval"
        ),
    )
}

fn refuse_log(state: &Path, log: &Path, found: Option<FileMemory>) -> SetupError {
    let (place, log, index, lock) =
        (state.display(), log.display(), beside(state, "-shm"), lock_of(state).display().to_string());
    let index = index.display();
    match found {
        Some(_) => SetupError::new(
            format!(
                "the state's file {place} is another one than conversica-sync opened last, and the log {log} beside it belongs to \
                 the file that was there before: nothing is opened, because the old log would destroy the new file"
            ),
            format!(
                "stop conversica-sync if it runs. Move {log} and {index} away, run `conversica-sync restored` if the file is a \
                 backup, then start. If the file before is the one to use, put it back (mv) and leave its log there. If this file \
                 and this log were copied here together, remove {lock} instead, then start"
            ),
        ),
        None => SetupError::new(
            format!(
                "there is no state file {place}, and the log {log} belongs to the file that was there before: nothing is opened, \
                 because what that log holds would be lost"
            ),
            format!(
                "put that file back (mv), then start. To restore a backup instead: move {log} and {index} away, put the backup \
                 there, run `conversica-sync restored`, then start. To begin with an empty state: move the two files away, then \
                 start"
            ),
        ),
    }
}

/// Stores in the lock file the file that a command is about to write to while no other process sends from it. If the command is
/// killed, its log belongs to that file.
pub fn remember_file(state: &Path) {
    let Some(text) = read_lock(state) else { return };
    let (Some(known), Some(found)) = (FileMemory::parse(&text), FileMemory::at(state)) else { return };
    if known.is_same_file(&found) && !known.has_other_content(state) {
        return;
    }
    let Ok(mut file) = File::options().read(true).write(true).open(lock_of(state)) else { return };
    if file.try_lock().is_ok() {
        let text = format!("{}{found}", text.lines().next().unwrap_or_default());
        // On a full disk this note is lost, but not the lock.
        drop(file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: FileMemory = FileMemory { number: 12, born: Some(34), header: Some((5, 6)) };

    #[test]
    fn the_lock_file_says_which_file_was_opened_last() {
        let text = format!("process 1 (conversica-sync run), since today{KNOWN}");
        assert_eq!(FileMemory::parse(&text), Some(KNOWN));
        let by_an_older_version = "process 1\nfile 99:12\nstate 5 6";
        assert_eq!(FileMemory::parse(by_an_older_version), Some(FileMemory { born: None, ..KNOWN }));
        for nothing in ["", "process 1", "file 99:12", "process 1\nfile", "process 1\nlast x"] {
            assert_eq!(FileMemory::parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_file_is_the_same_one_by_its_number_and_its_birth() {
        let same = |number, born| KNOWN.is_same_file(&FileMemory { number, born, header: None });
        assert!(same(12, Some(34)) && same(12, None), "the file system may not know the birth");
        assert!(!same(13, Some(34)), "another file");
        assert!(!same(12, Some(35)), "a new file that got the number of the old one");
    }
}
