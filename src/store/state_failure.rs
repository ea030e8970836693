//! Errors of the state: what failed, and what the operator can do about it.

use crate::db::{away, display_url, is_damage, is_lock, is_outage, sqlite_path};
use crate::error::SetupError;

/// The error of a start that cannot use its state. An unreachable server or a locked file may recover without the operator; any
/// other failure of a file does not.
pub fn state_unusable(url: &str, error: &sqlx::Error) -> anyhow::Error {
    let is_file = sqlite_path(url).is_some();
    // For a file, only a lock makes the pool wait.
    let is_locked = is_file && (is_lock(error) || matches!(error, sqlx::Error::PoolTimedOut));
    let cure = if is_locked { LOCKED_STATE_CURE } else { state_cure(error) };
    let setup = SetupError::new(format!("the state at {} cannot be used: {error}", display_url(url)), cure);
    if is_locked || is_outage(error) && !is_file { away(setup) } else { setup.into() }
}

/// What the operator can do about a state that cannot be opened or written.
pub fn state_cure(error: &sqlx::Error) -> &'static str {
    let code = match error {
        sqlx::Error::Database(database) => database.code(),
        _ => None,
    };
    match code.as_deref() {
        Some("55P03" | "5" | "6") => LOCKED_STATE_CURE,
        Some("53100") => "make room on the disk of the server of [state] url",
        Some(code) if code.len() == 5 => "check that the server of [state] url runs, and that its user may write",
        // SQLite reports an exhausted quota like any other failed write.
        Some(code) if code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 10 | 13)) => {
            "make room on the disk, or in the quota, of the state's file; if there is room, see that the disk is sound"
        }
        Some(_) if is_damage(error) => {
            "the state's file is damaged, or is no SQLite database: see that [state] url names the right file. If it does, restore a \
             backup: stop conversica-sync, move the file and the files -wal and -shm beside it away, put the backup in its place, run \
             `conversica-sync restored`, and start it"
        }
        Some(_) => {
            "check that the file is an SQLite database and that this user can write it and its directory, or set [state] url"
        }
        None => "check that the database of [state] url runs and can be reached",
    }
}

pub(crate) const LOCKED_STATE_CURE: &str = "end whatever keeps the state locked";
