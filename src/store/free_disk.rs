//! The room on the disk of an SQLite state. Below a reserve no posts are stored any more, so that requests to Conversica can still be
//! written down.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde::Serialize;

use crate::config::ServiceSettings;
use crate::db;

/// Where the state is, and how much room has to stay free there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskReserve {
    directory: PathBuf,
    /// In bytes.
    reserve: u64,
}

/// Less room is free than the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskShortage {
    /// In bytes.
    pub free: u64,
    /// In bytes.
    pub reserve: u64,
}

impl DiskShortage {
    pub const CURE: &'static str = "make room on the disk of [state] url, or move the state to a larger one; [receive] free_disk says how much has to stay free";
}

impl fmt::Display for DiskShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, reserve) = (self.free / 1_048_576, self.reserve / 1_048_576);
        write!(f, "{free} MiB are free on the disk of the state, less than the {reserve} MiB of [receive] free_disk")
    }
}

impl std::error::Error for DiskShortage {}

impl DiskReserve {
    /// `None` without a receiver, and for a state on a server, whose disk is not looked at.
    pub fn of(settings: &ServiceSettings) -> Option<Self> {
        let reserve = settings.receive.as_ref()?.free_disk_bytes();
        let file = db::sqlite_path(settings.state.url.expose_secret())?;
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        Some(Self { directory: directory.unwrap_or(Path::new(".")).to_owned(), reserve })
    }

    /// `None` also where the disk does not say how much room it has.
    pub fn shortage(&self) -> Option<DiskShortage> {
        let found = rustix::fs::statvfs(&self.directory).ok()?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        (free < self.reserve).then_some(DiskShortage { free, reserve: self.reserve })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_the_reserve_is_a_shortage() {
        let directory = std::env::temp_dir();
        let shortage = |reserve| DiskReserve { directory: directory.clone(), reserve }.shortage();
        assert_eq!(shortage(0), None);
        let found = shortage(u64::MAX).expect("no disk is as large");
        assert!(found.to_string().ends_with("of [receive] free_disk"), "{found}");
        let away = DiskReserve { directory: directory.join("is-not-there"), reserve: u64::MAX };
        assert_eq!(away.shortage(), None);
    }
}
