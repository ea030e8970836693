//! The first 100 bytes of an SQLite state's file, read without SQLite. SQLite connections keep what they have read, so they do
//! not notice that another file was copied over theirs. The bytes identify the state and show its progress.
//!
//! This process never closes a file that it reads here: when a process closes any descriptor of a file, the kernel drops all its
//! locks on that file, including SQLite's.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::file::FileId;

/// The parsed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateHeader {
    /// `application_id`: drawn at random when the state is first opened to send from; 0 before.
    pub state_id: u32,
    /// `user_version`: how often the state was opened to send from.
    pub starts: u32,
    /// Never decreases, and sometimes increases, as the database is written.
    change_counter: u32,
    pages: u32,
}

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

impl StateHeader {
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number = |at: usize| bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        bytes.starts_with(MAGIC).then(|| Self {
            state_id: number(68),
            starts: number(60),
            change_counter: number(24),
            pages: number(28),
        })
    }

    /// Whether SQLite may have written `later` after this header: progress never decreases.
    fn may_become(&self, later: &Self, state_id: u32) -> bool {
        let progress = |header: &Self| (header.starts, header.change_counter, header.pages);
        (later.state_id == state_id || later.state_id == self.state_id) && progress(self) <= progress(later)
    }
}

/// An open file whose header can be read at any time.
#[derive(Debug, Clone)]
pub struct HeaderFile(Arc<File>);

/// Every file that this process has opened here.
static OPENED: Mutex<Vec<(FileId, HeaderFile)>> = Mutex::new(Vec::new());

impl HeaderFile {
    /// `None` if there is no such file.
    pub fn open(path: &Path) -> Option<Self> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = FileId::at(path)?;
        if let Some((_, known)) = opened.iter().find(|(id, _)| *id == wanted) {
            return Some(known.clone());
        }
        let file = File::open(path).ok()?;
        let id = FileId::from(&file.metadata().ok()?);
        let file = Self(Arc::new(file));
        opened.push((id, file.clone()));
        Some(file)
    }

    /// `None` if the file does not begin like an SQLite file.
    pub fn read(&self) -> Option<StateHeader> {
        let mut bytes = [0; HEADER_BYTES];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        StateHeader::parse(&bytes)
    }

    /// Whether the first bytes of the file fill `bytes`.
    pub fn read_bytes(&self, bytes: &mut [u8]) -> bool {
        self.0.read_exact_at(bytes, 0).is_ok()
    }
}

/// Watches the header of a state that this process has opened to send from.
#[derive(Debug)]
pub struct HeaderWatch {
    file: HeaderFile,
    state_id: u32,
    last: StateHeader,
    is_overwritten: bool,
}

/// During a write, a read may return half of the old header and half of the new one.
const READS: u32 = 3;

impl HeaderWatch {
    /// `state_id` is the state's current id, which may be in the write-ahead log only. `None` if the file cannot be read.
    pub fn new(path: &Path, state_id: u32) -> Option<Self> {
        let file = HeaderFile::open(path)?;
        let last = file.read()?;
        Some(Self { file, state_id, last, is_overwritten: false })
    }

    /// Whether another content was copied over the file. It stays true, because later writes are mixed with that content.
    pub fn is_overwritten(&mut self) -> bool {
        let mut tries = 0;
        while !self.is_overwritten {
            match self.file.read().filter(|found| self.last.may_become(found, self.state_id)) {
                Some(found) => {
                    self.last = found;
                    return false;
                }
                None => tries += 1,
            }
            self.is_overwritten = tries == READS;
        }
        true
    }

    /// The header as it was read last.
    pub fn last(&self) -> StateHeader {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(state_id: u32, starts: u32, change_counter: u32, pages: u32) -> StateHeader {
        StateHeader { state_id, starts, change_counter, pages }
    }

    #[test]
    fn the_fields_of_a_header_are_found_where_sqlite_has_them() {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[24..32].copy_from_slice(&[0, 0, 1, 2, 0, 0, 0, 9]);
        bytes[60..64].copy_from_slice(&[0, 0, 0, 5]);
        bytes[68..72].copy_from_slice(&[1, 0, 0, 0]);
        assert_eq!(StateHeader::parse(&bytes), Some(header(1 << 24, 5, 258, 9)));
        bytes[0] = b'x';
        assert_eq!(StateHeader::parse(&bytes), None);
    }

    #[test]
    fn a_state_only_goes_forward_and_stays_the_same_one() {
        let before = header(7, 3, 10, 50);
        for later in [before, header(7, 3, 10, 51), header(7, 3, 11, 20), header(7, 4, 1, 1)] {
            assert!(before.may_become(&later, 7), "{later:?}");
        }
        for other in [
            header(8, 9, 99, 99),
            header(0, 3, 10, 50),
            header(7, 2, 99, 99),
            header(7, 3, 9, 99),
            header(7, 3, 10, 49),
        ] {
            assert!(!before.may_become(&other, 7), "{other:?}");
        }
        assert!(header(0, 0, 1, 1).may_become(&header(7, 1, 2, 1), 7), "a new state gets its id");
        assert!(header(0, 0, 1, 1).may_become(&header(0, 0, 1, 1), 7), "which may be in the log still");
    }
}
