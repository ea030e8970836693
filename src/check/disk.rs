//! `check` of the disks: whether there is room where SQLite files are written.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use crate::check::item::CheckItem;
use crate::config::{ServiceSettings, WritebackMode};
use crate::db;

const SECTION: &str = "disk";
/// Less free space than this may be used up before the operator checks again: journals, logs and backups share a disk with the
/// state.
const LITTLE: u64 = 1 << 30;

pub(super) fn of_disks(settings: &ServiceSettings) -> Vec<CheckItem> {
    let mut items = Vec::new();
    // Posts are stored in the state before they are acknowledged.
    if let Some(file) = db::sqlite_path(settings.state.url.expose_secret()) {
        items.push(of_disk("state", "the state", &file));
    }
    if settings.receive.is_some() && settings.writeback.mode != WritebackMode::Off {
        let url = settings.writeback.url.as_ref().unwrap_or(&settings.source.url);
        items.extend(db::sqlite_path(url.expose_secret()).map(|file| of_disk("writeback", "the CRM's file", &file)));
    }
    items
}

fn of_disk(name: &'static str, what: &str, file: &Path) -> CheckItem {
    let directory = directory_of(file);
    match rustix::fs::statvfs(&directory) {
        Ok(found) => room(name, what, found.f_bavail.saturating_mul(found.f_frsize)),
        Err(error) => {
            CheckItem::skipped(SECTION, name, format!("{} cannot be looked at: {error}", directory.display()))
        }
    }
}

pub(super) fn directory_of(file: &Path) -> PathBuf {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).to_owned()
}

fn room(name: &'static str, what: &str, bytes: u64) -> CheckItem {
    let text = format!("{} free where {what} is", size(bytes));
    if bytes >= LITTLE {
        return CheckItem::ok(SECTION, name, text);
    }
    let text = format!("{text}: when it is full, nothing is sent and nothing received");
    CheckItem::warn(SECTION, name, text).cure("make room, or move it to a larger disk")
}

/// In a unit that leaves one to three digits.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if size < 10.0 && unit > 0 { format!("{size:.1} {}", units[unit]) } else { format!("{size:.0} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::item::ItemState;

    #[test]
    fn sizes_are_written_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 20, "20 MiB"), (3 << 40, "3.0 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn less_than_a_gibibyte_is_little() {
        assert_eq!(room("state", "the state", LITTLE).state, ItemState::Ok);
        let little = room("state", "the state", LITTLE - 1);
        assert!(little.state == ItemState::Warn && little.detail.contains("1024 MiB free"), "{little:?}");
    }
}
