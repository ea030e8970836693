//! Opens the file of an SQLite source for one statement or one reading, and closes it after that. A connection that stayed open
//! would keep the write-ahead log of a CRM program that has closed; copying a file over it would then break it for the CRM.
//!
//! A reader that closes last must leave the file as it found it. At the last close SQLite removes the log only over a connection
//! that may write. So the program opens the file for writing, with `query_only` on, where that is safe; see [`SourceAccess`].

use std::path::Path;
use std::str::FromStr;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::db::file::beside;
use crate::db::file::{FileId, FileLook};
use crate::db::{ACQUIRE_TIMEOUT, LOCK_TIMEOUT, away, discreet, sqlite_path};
use crate::error::SetupError;
use crate::source::source_db::SourceDb;

/// How a connection to the source opens the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceAccess {
    /// Changes nothing, and keeps the files that a crashed program left: such a log may belong to another file by now, and only
    /// the CRM's operator knows.
    ReadOnly,
    /// May write, but runs only queries. When it closes last, SQLite writes the log's committed changes into the file and removes
    /// the log, as at the CRM program's own close.
    QueryOnly,
}

/// The files beside the database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SourceTraces {
    /// Size of the rollback journal.
    journal_bytes: u64,
    /// Size of the write-ahead log.
    log_bytes: u64,
    /// Another process has the file open, in WAL mode.
    is_shared: bool,
}

impl SourceAccess {
    pub fn of(url: &str) -> Self {
        let asks_for_less = url.split_once('?').is_some_and(|(_, parameters)| {
            url::form_urlencoded::parse(parameters.as_bytes()).any(|(key, _)| key == "mode" || key == "immutable")
        });
        match sqlite_path(url) {
            Some(path) if !asks_for_less => Self::beside(SourceTraces::of(&path)),
            _ => Self::ReadOnly,
        }
    }

    fn beside(traces: SourceTraces) -> Self {
        let has_live_log = traces.log_bytes == 0 || traces.is_shared;
        if traces.journal_bytes == 0 && has_live_log { Self::QueryOnly } else { Self::ReadOnly }
    }
}

impl SourceTraces {
    fn of(path: &Path) -> Self {
        let bytes = |suffix: &str| std::fs::metadata(beside(path, suffix)).map_or(0, |file| file.len());
        let log_bytes = bytes("-wal");
        let is_shared = log_bytes > 0 && is_open_elsewhere(path);
        Self { journal_bytes: bytes("-journal"), log_bytes, is_shared }
    }
}

/// Every connection in WAL mode holds a lock on the `-shm` file. Asking the kernel for the lock itself would need a file that
/// this process opens and closes, and that close would drop the locks of our own connections.
fn is_open_elsewhere(path: &Path) -> bool {
    let Some(shared) = FileId::at(&beside(path, "-shm")) else { return false };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    holds_lock(&locks, shared.number(), std::process::id())
}

/// Whether a process other than `own` holds a lock on the file of that number, in lines such as
/// `1: POSIX  ADVISORY  READ 26270 fe:00:10018955 128 128`.
fn holds_lock(locks: &str, number: u64, own: u32) -> bool {
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(4);
        let process = words.next().and_then(|word| word.parse::<u32>().ok());
        let file = words.next().and_then(|place| place.rsplit(':').next()?.parse::<u64>().ok());
        file == Some(number) && process != Some(own)
    })
}

/// Changes with every commit: the file, or its write-ahead log. An empty log counts as none: readers create and remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStamp {
    pub file: Option<FileLook>,
    log: Option<FileLook>,
}

impl SourceStamp {
    pub fn at(path: &Path) -> Self {
        let log = FileLook::at(&beside(path, "-wal")).filter(|log| log.bytes() > 0);
        Self { file: FileLook::at(path), log }
    }
}

/// The options for the next connection, as the file is at this moment.
fn options(url: &str) -> Result<SqliteConnectOptions, sqlx::Error> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(false)
        .busy_timeout(LOCK_TIMEOUT)
        .row_buffer_size(512)
        .disable_statement_logging();
    Ok(match SourceAccess::of(url) {
        SourceAccess::ReadOnly => options.read_only(true),
        SourceAccess::QueryOnly => options.read_only(false).pragma("query_only", "on"),
    })
}

/// Settings of a pool on the customer's file: it closes each connection as soon as it is returned.
pub(crate) fn closing_pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A file never drops a connection.
        .test_before_acquire(false)
        .after_release(|_, _| Box::pin(async { Ok(false) }))
}

pub(crate) async fn open_sqlite_source(url: &str) -> Result<SourceDb, sqlx::Error> {
    let open = async {
        let pool = closing_pool(2).connect_lazy_with(options(url)?);
        // Checks that the file can be opened; `connect_with` would keep this connection.
        pool.acquire().await?.close().await?;
        Ok(SourceDb::Sqlite(pool))
    };
    open.await.map_err(discreet::of_source)
}

impl SourceDb {
    /// Decides again how the source's next connections open its file. Called before each poll.
    pub fn renew_source_access(&self, url: &str) {
        if let SourceDb::Sqlite(pool) = self
            && let Ok(options) = options(url)
        {
            pool.set_connect_options(options);
        }
    }
}

/// Refuses a source without a file. A missing file may still appear, as on a file system that is mounted late.
///
/// # Errors
/// [`SetupError`]; [`crate::db::is_away`] tells whether waiting may help.
pub fn expect_source_file(url: &str) -> anyhow::Result<()> {
    use std::io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    let Some(path) = sqlite_path(url) else { return Ok(()) };
    let place = path.display();
    match std::fs::metadata(&path) {
        Ok(file) if file.is_dir() => {
            let what = format!("[source] url: {place} is a directory");
            Err(SetupError::new(what, "give the path of the CRM's SQLite file").into())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == NotFound => {
            let cure = "give the path of the CRM's SQLite file, and let this user read it; if its file system is not mounted yet, \
                        `run` waits for it";
            Err(away(SetupError::new(format!("[source] url: there is no file {place}"), cure)))
        }
        Err(error) => {
            let lasts = matches!(error.kind(), InvalidFilename | NotADirectory | PermissionDenied);
            let what = format!("[source] url: the file {place} cannot be found: {error}");
            let cure = "give the path of the CRM's SQLite file, and let this user search its directory and read it";
            let setup = SetupError::new(what, cure);
            Err(if lasts { setup.into() } else { away(setup) })
        }
    }
}

/// The message for a file that SQLite cannot open, or cannot read without writing beside it; `None` for other errors.
pub fn unopened_source(url: &str, error: &sqlx::Error) -> Option<anyhow::Error> {
    let path = sqlite_path(url)?;
    let database = error.as_database_error()?;
    let code: u32 = database.code()?.parse().ok()?;
    // 8: SQLite would have to write it; 14: it cannot be opened. 264 and 776: a writer crashed, and the next one cleans up.
    if !matches!(code & 0xff, 8 | 14) || matches!(code, 264 | 776) {
        return None;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (place, directory) = (path.display(), directory.display());
    let setup = if is_in_wal_mode(&path) {
        SetupError::new(
            format!(
                "[source] url: {place} is in WAL mode. Its reader needs the files {place}-wal and {place}-shm, and this user may \
                 not make them in the directory {directory}"
            ),
            format!(
                "let the user that runs conversica-sync write to the directory {directory} (SQLite makes the two files there and \
                 removes them again), or let the CRM's program keep the file open; or take the file out of WAL mode (pragma \
                 journal_mode = delete)"
            ),
        )
    } else {
        SetupError::new(
            format!("[source] url: {place} cannot be opened: {}", database.message()),
            format!("let the user that runs conversica-sync read the file, and search the directory {directory}"),
        )
    };
    // The rights may change, and a program that opens the file creates the missing files.
    Some(away(setup))
}

/// Reads the file without SQLite, which is safe only while this process has no connection to it: closing the file drops their
/// locks.
fn is_in_wal_mode(path: &Path) -> bool {
    use std::io::Read as _;
    let mut header = [0; 20];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    // The format's "read version", which is 2 in WAL mode.
    read.is_ok() && header[19] == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_for_writing_only_where_no_dead_program_left_anything() {
        let access = |journal_bytes, log_bytes, is_shared| {
            SourceAccess::beside(SourceTraces { journal_bytes, log_bytes, is_shared })
        };
        assert_eq!(access(0, 0, false), SourceAccess::QueryOnly, "what we make we remove");
        assert_eq!(access(0, 4096, true), SourceAccess::QueryOnly, "its program may close before we do");
        assert_eq!(access(0, 4096, false), SourceAccess::ReadOnly, "a log without a program");
        assert_eq!(access(512, 0, false), SourceAccess::ReadOnly, "a journal that may have to be rolled back");
        assert_eq!(SourceAccess::of("postgres://localhost/crm"), SourceAccess::ReadOnly);
        assert_eq!(SourceAccess::of("sqlite:///nowhere/crm.db?mode=ro"), SourceAccess::ReadOnly);
        assert_eq!(SourceAccess::of("sqlite:///nowhere/crm.db?immutable=true"), SourceAccess::ReadOnly);
    }

    #[test]
    fn a_lock_counts_when_another_process_holds_it_on_that_file() {
        let locks = "1: POSIX  ADVISORY  READ 26270 fe:00:10018955 128 128\n\
                     2: FLOCK  ADVISORY  WRITE 77 fe:00:500 0 EOF\n\
                     3: OFDLCK ADVISORY  READ -1 fe:00:600 128 128\n";
        assert!(holds_lock(locks, 10_018_955, 1));
        assert!(!holds_lock(locks, 10_018_955, 26270), "our own");
        assert!(!holds_lock(locks, 10_018_953, 1));
        assert!(holds_lock(locks, 600, 1), "of no named process");
        assert!(!holds_lock("", 600, 1) && !holds_lock("no lock at all", 600, 1));
    }
}
