//! The write-ahead log (-wal) beside an SQLite state, checked without SQLite. If the log is emptied, overwritten or replaced, a
//! connection goes on using it, and its commits are lost with the process.
//!
//! SQLite keeps an index of the log in the file -shm. The index identifies the log (two salts, new with each round of the log)
//! and has the number of committed frames and the checksum of the last one. The frame that the index names has to be in the log.
//! The layouts are those of "WAL-mode File Format" in SQLite's documentation.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock;
use crate::db::file::{FileId, FileLook, beside};
use crate::store::state_header::HeaderFile;

/// Two copies of the header; the number of frames that are already in the database file; marks of readers and locks; and the
/// number of frames that an unfinished or interrupted checkpoint may have written into that file.
const INDEX_BYTES: usize = 132;
const COPY_BYTES: usize = 48;
const LOG_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;
/// If the index changes during a read, it is read again.
const READS: u32 = 5;

/// The newest committed frame of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CommittedFrame {
    salts: u64,
    /// Its number, from 1; 0 for an empty log.
    number: u32,
    checksum: u64,
    page_bytes: u32,
}

/// The parsed index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LogIndex {
    newest: CommittedFrame,
    /// Frames that are, or may be, in the database file as well.
    copied: u32,
}

impl LogIndex {
    /// `None` while SQLite writes the index, or if there is no log yet.
    fn parse(bytes: &[u8; INDEX_BYTES]) -> Option<Self> {
        let (first, second) = (&bytes[..COPY_BYTES], &bytes[COPY_BYTES..2 * COPY_BYTES]);
        if first != second || first[12] == 0 {
            return None;
        }
        let native = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let big = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let page = u32::from(u16::from_ne_bytes([bytes[14], bytes[15]]));
        let newest = CommittedFrame {
            salts: joined(big(32), big(36)),
            number: native(16),
            checksum: joined(native(24), native(28)),
            page_bytes: (page & 0xfe00) | (page & 1) << 16,
        };
        Some(Self { newest, copied: native(96).max(native(128)) })
    }
}

fn joined(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl CommittedFrame {
    /// `Ok(false)` if the log does not have the frame.
    ///
    /// # Errors
    /// An error of the file system, if the log cannot be read.
    fn is_in(&self, log: &File) -> std::io::Result<bool> {
        let end = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Ok(false),
            _ => Err(error),
        };
        let at = LOG_HEADER_BYTES
            + u64::from(self.number.saturating_sub(1)) * (FRAME_HEADER_BYTES + u64::from(self.page_bytes));
        let (mut salts_of_log, mut of_frame, mut last_byte) = ([0; 8], [0; 16], [0]);
        let read = log
            .read_exact_at(&mut salts_of_log, 16)
            .and_then(|()| log.read_exact_at(&mut of_frame, at + 8))
            .and_then(|()| log.read_exact_at(&mut last_byte, at + FRAME_HEADER_BYTES + u64::from(self.page_bytes) - 1));
        if let Err(error) = read {
            return end(error);
        }
        let (salts, checksum) = of_frame.split_at(8);
        let wanted = (self.salts.to_be_bytes(), self.checksum.to_be_bytes());
        Ok(salts_of_log == wanted.0 && salts == wanted.0 && checksum == wanted.1)
    }
}

/// How the log beside a state in use has been lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLoss {
    /// Another file has its name; the connection keeps the one before.
    Replaced,
    /// Committed frames are missing from it.
    Damaged,
}

const UNKNOWN: (i64, i64) = (0, 0);
/// File systems stamp a write with a clock that ticks every few milliseconds. If a stamp is older than this, the next write
/// changes it.
const STAMP_SETTLED: TimeDelta = TimeDelta::milliseconds(100);

/// The lock file's note about the log: the frames that must be there at the next start, unless they are in the database file by
/// then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogNote {
    index: LogIndex,
    /// When the database file was last written; [`UNKNOWN`] if that is so recent that another write may not change the stamp.
    modified: (i64, i64),
    loss: Option<LogLoss>,
}

impl LogNote {
    /// Parses the text of a lock file; `None` if it does not mention a log.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.lines().find_map(|line| line.strip_prefix("log "))?.split(' ');
        let mut hex = || u64::from_str_radix(words.next()?, 16).ok();
        let (salts, checksum) = (hex()?, hex()?);
        let mut number = || hex().and_then(|number| u32::try_from(number).ok());
        let newest = CommittedFrame { salts, checksum, number: number()?, page_bytes: number()? };
        let copied = number()?;
        let modified = (i64::try_from(hex()?).ok()?, i64::try_from(hex()?).ok()?);
        let loss = match words.next()? {
            "replaced" => Some(LogLoss::Replaced),
            "damaged" => Some(LogLoss::Damaged),
            _ => None,
        };
        Some(Self { index: LogIndex { newest, copied }, modified, loss })
    }

    /// Whether commits are lost: the log lacks them, and the database file was not written since. After a crash, the last process
    /// to close the state copies the log into the file and removes it.
    pub fn is_lost(&self, state: &Path) -> bool {
        if self.loss == Some(LogLoss::Damaged) {
            return true;
        }
        let LogIndex { newest, copied } = self.index;
        let may_be_written =
            self.modified == UNKNOWN || FileLook::at(state).is_none_or(|look| look.modified() != self.modified);
        if newest.number <= copied || may_be_written {
            return false;
        }
        match File::open(beside(state, "-wal")) {
            Ok(log) => !newest.is_in(&log).unwrap_or(true),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// How the process that wrote the note has lost its log, if it has.
    pub const fn loss(&self) -> Option<LogLoss> {
        self.loss
    }
}

/// A line of a lock file with a fixed length, because it is written in place.
impl fmt::Display for LogNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index: LogIndex { newest, copied }, modified, loss } = self;
        let CommittedFrame { salts, number, checksum, page_bytes } = newest;
        let word = match loss {
            None => "in_place",
            Some(LogLoss::Replaced) => "replaced",
            Some(LogLoss::Damaged) => "damaged ",
        };
        write!(f, "\nlog {salts:016x} {checksum:016x} {number:08x} {page_bytes:08x} {copied:08x} ")?;
        write!(f, "{:016x} {:08x} {word}", modified.0.max(0), modified.1)
    }
}

/// Watches the log of a state that this process has open.
#[derive(Debug)]
pub struct LogWatch {
    state: PathBuf,
    log: PathBuf,
    id: FileId,
    index: HeaderFile,
    /// The newest index whose frame was found in the log.
    last: Option<LogIndex>,
    note: Option<LogNote>,
    is_damaged: bool,
}

impl LogWatch {
    /// `None` if the state has no log, as on a disk that cannot share memory.
    pub fn new(state: &Path) -> Option<Self> {
        let log = beside(state, "-wal");
        let (id, index) = (FileId::at(&log)?, HeaderFile::open(&beside(state, "-shm"))?);
        Some(Self { state: state.to_owned(), log, id, index, last: None, note: None, is_damaged: false })
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The note for the lock file.
    pub const fn note(&self) -> Option<LogNote> {
        self.note
    }

    /// Checks that the committed frames are in the log with the expected name. The caller decides about a log that is missing.
    ///
    /// # Errors
    /// How the log was lost. Damage is permanent.
    pub fn check(&mut self) -> Result<(), LogLoss> {
        if self.is_damaged {
            return Err(LogLoss::Damaged);
        }
        let found = FileId::at(&self.log);
        if found != Some(self.id) {
            if is_open_here(self.id) {
                let loss = found.map(|_| LogLoss::Replaced);
                self.update_note(loss);
                return loss.map_or(Ok(()), Err);
            }
            // The connection was replaced, and its log with it.
            let Some(anew) = Self::new(&self.state) else { return Ok(()) };
            *self = Self { note: self.note, ..anew };
        }
        self.is_damaged = self.find_damage();
        let loss = self.is_damaged.then_some(LogLoss::Damaged);
        self.update_note(loss);
        loss.map_or(Ok(()), Err)
    }

    fn read_index(&self) -> Option<LogIndex> {
        let mut bytes = [0; INDEX_BYTES];
        self.index.read_bytes(&mut bytes).then(|| LogIndex::parse(&bytes)).flatten()
    }

    fn find_damage(&mut self) -> bool {
        for _ in 0..READS {
            let Some(index) = self.read_index() else { continue };
            if index.newest.number == 0 {
                self.last = None;
                return false;
            }
            // Frames committed before are still there as well, until the next round of the log.
            let before = self.last.filter(|last| last.newest.salts == index.newest.salts);
            let frames = before.into_iter().chain([index]).map(|index| index.newest);
            // If the log cannot be read at this moment, the next check reads it.
            let Ok(log) = File::open(&self.log) else { return false };
            let Ok(is_whole) =
                frames.map(|frame| frame.is_in(&log)).try_fold(true, |all, one| one.map(|one| all && one))
            else {
                return false;
            };
            if is_whole {
                self.last = Some(index);
                return false;
            }
            if self.read_index().is_some_and(|again| again.newest == index.newest) {
                return true;
            }
        }
        false
    }

    /// The stamp is read before the index: a checkpoint announces itself in the index before it writes. So if the index announces
    /// none, any write of a checkpoint comes after the stamp.
    fn update_note(&mut self, loss: Option<LogLoss>) {
        let Some(modified) = FileLook::at(&self.state).map(|look| look.modified()) else { return };
        let modified = if is_settled(modified, clock::own()) { modified } else { UNKNOWN };
        if let Some(index) = self.read_index() {
            self.note = Some(LogNote { index, modified, loss });
        }
    }
}

/// Whether another write would change the stamp of a file that was last written then.
fn is_settled((seconds, nanoseconds): (i64, i64), now: DateTime<Utc>) -> bool {
    let modified = u32::try_from(nanoseconds).ok().and_then(|nanos| DateTime::from_timestamp(seconds, nanos));
    modified.is_some_and(|modified| now - modified >= STAMP_SETTLED)
}

/// Whether this process has the file open. If the system does not tell, the file counts as open.
fn is_open_here(id: FileId) -> bool {
    let Ok(descriptors) = std::fs::read_dir("/dev/fd") else { return true };
    descriptors.flatten().any(|descriptor| FileId::at(&descriptor.path()) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: u32, copied: u32) -> LogNote {
        let newest = CommittedFrame { salts: 0x0102_0304_0506_0708, number, checksum: u64::MAX, page_bytes: 4096 };
        LogNote { index: LogIndex { newest, copied }, modified: (1_800_000_000, 5), loss: None }
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_has_one_length() {
        let text = |note: LogNote| format!("process 1{note}");
        let lost = |loss| LogNote { loss: Some(loss), ..note(u32::MAX, 0) };
        for written in [note(7, 3), lost(LogLoss::Replaced), lost(LogLoss::Damaged)] {
            assert_eq!(LogNote::parse(&text(written)), Some(written));
            assert_eq!(text(written).len(), text(note(7, 3)).len());
        }
        for nothing in ["", "process 1\nlast 2", "process 1\nlog", "process 1\nlog 1 2 3"] {
            assert_eq!(LogNote::parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn an_index_that_is_being_written_says_nothing() {
        let mut bytes = [0; INDEX_BYTES];
        assert_eq!(LogIndex::parse(&bytes), None, "no log yet");
        for copy in [0, COPY_BYTES] {
            bytes[copy + 12] = 1;
            bytes[copy + 14..copy + 16].copy_from_slice(&4096_u16.to_ne_bytes());
            bytes[copy + 16..copy + 20].copy_from_slice(&9_u32.to_ne_bytes());
        }
        bytes[96..100].copy_from_slice(&4_u32.to_ne_bytes());
        let index = LogIndex::parse(&bytes).unwrap();
        assert_eq!((index.newest.number, index.newest.page_bytes, index.copied), (9, 4096, 4));
        bytes[128..].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(LogIndex::parse(&bytes).unwrap().copied, 7, "a checkpoint has announced itself");
        bytes[16] = 8;
        assert_eq!(LogIndex::parse(&bytes), None);
    }

    #[test]
    fn a_stamp_counts_once_the_next_write_is_sure_to_change_it() {
        let now = DateTime::from_timestamp(1_800_000_000, 500_000_000).unwrap();
        assert!(is_settled((1_800_000_000, 400_000_000), now) && is_settled((1_799_999_999, 0), now));
        assert!(!is_settled((1_800_000_000, 400_000_001), now), "too short ago");
        assert!(!is_settled((1_800_000_001, 0), now), "the clock was set back");
    }
}
