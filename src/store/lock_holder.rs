//! The first line of the lock file beside an SQLite state. It names the process that holds the lock, or held it last.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::rules::listed_instance::plain_host;
use crate::store::stray_log::{LOCK_BYTES, lock_of};

const TIME: &str = "%F %T UTC";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    pub pid: u32,
    pub host: String,
    pub command: String,
    pub since: DateTime<Utc>,
}

/// The machine's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl LockHolder {
    pub fn this_process(command: &str, now: DateTime<Utc>) -> Self {
        let host = plain_host(&host_name());
        Self { pid: std::process::id(), host, command: command.to_owned(), since: now }
    }

    fn parse(text: &str) -> Option<Self> {
        let (pid, rest) = text.lines().next()?.strip_prefix("process ")?.split_once(" on ")?;
        let (host, rest) = rest.split_once(" (conversica-sync ")?;
        let (command, since) = rest.split_once("), since ")?;
        let since = NaiveDateTime::parse_from_str(since, TIME).ok()?.and_utc();
        Some(Self { pid: pid.parse().ok()?, host: host.to_owned(), command: command.to_owned(), since })
    }

    /// The process that holds the lock of that state at present.
    pub fn at(state: &Path) -> Option<Self> {
        let mut file = File::open(lock_of(state)).ok()?;
        // The lock is released at once. A process that starts at this moment tries again.
        let is_locked = matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
        let mut text = String::new();
        (&mut file).take(LOCK_BYTES).read_to_string(&mut text).ok()?;
        Self::parse(&text).filter(|_| is_locked)
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, host, command, since } = self;
        write!(f, "process {pid} on {host} (conversica-sync {command}), since {}", since.format(TIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let since = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let holder = LockHolder::this_process("check --send-test-lead", since);
        assert_eq!(LockHolder::parse(&format!("{holder}\nfile 1:2")), Some(holder));
        for text in ["", "\nlast 12", "process 12 (conversica-sync run), since 2026-01-01 00:00:00 UTC"] {
            assert_eq!(LockHolder::parse(text), None, "{text}");
        }
    }
}
