//! The lock beside an SQLite state, which admits one sending process, and the watch over the file that this process opened.
//!
//! If the file is removed or replaced, open connections stay with the old file. The next start would lose everything that this
//! process then sends and acknowledges, so the loss has to be noticed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::SqlitePool;
use tracing::warn;

use crate::db;
use crate::db::file::FileId;
use crate::error::SetupError;
use crate::store::lock_holder::LockHolder;
use crate::store::state_db::StateDb;
use crate::store::state_header::{HeaderFile, HeaderWatch};
use crate::store::state_log::{LogLoss, LogNote, LogWatch};
use crate::store::stray_log::{self, FileMemory, LOCK_BYTES, LogOwner, lock_of};

/// A command that reads the lock holds it for a moment. A starting process takes the lock first and writes its name afterwards.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_millis(25);
/// The write-ahead log is missing for a moment while a connection is replaced.
const LOG_ABSENT: Duration = Duration::from_millis(300);
/// The time between two checks of [`StateFile::lost`].
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The right to create, to migrate and to send from an SQLite state. The kernel releases it when the process ends.
#[derive(Debug)]
pub struct StateLock {
    file: File,
    place: PathBuf,
    state: PathBuf,
    /// One line that names this process.
    holder: String,
}

impl StateLock {
    /// Takes the lock, before the state is created. `None` for a shared state.
    ///
    /// # Errors
    /// [`SetupError`] when another process has it; an error that [`db::is_away`] accepts if the directory may still appear.
    pub async fn take(url: &str, command: &str, now: DateTime<Utc>) -> anyhow::Result<Option<Self>> {
        let Some(state) = db::sqlite_path(url) else { return Ok(None) };
        let holder = LockHolder::this_process(command, now).to_string();
        let place = lock_of(&state);
        for _ in 1..TRIES {
            if let Some(lock) = Self::try_take(&state, &place, &holder)? {
                return lock.admit_file().map(Some);
            }
            tokio::time::sleep(PAUSE).await;
        }
        match Self::try_take(&state, &place, &holder)? {
            Some(lock) => lock.admit_file().map(Some),
            None => Err(refused(&state, &holder_of(&place)).into()),
        }
    }

    /// Refuses a file that has another file's log beside it. The lock file then keeps naming that other file.
    fn admit_file(mut self) -> anyhow::Result<Self> {
        let last = stray_log::admit_file(&self.state, LogOwner::Nobody)?;
        self.write(&last.map(|last| last.to_string()).unwrap_or_default());
        Ok(self)
    }

    fn try_take(state: &Path, place: &Path, holder: &str) -> anyhow::Result<Option<Self>> {
        let file = open(place).map_err(|error| not_lockable(place, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", place.display()));
            }
        }
        Ok(Some(Self { file, place: place.to_owned(), state: state.to_owned(), holder: holder.to_owned() }))
    }

    /// Writes which process holds the lock, and which file it has opened or is about to open. Other processes and the next start
    /// use the text in messages only, so a full disk is no reason to give up the lock.
    fn write(&mut self, opened: &str) {
        let text = format!("{}{opened}", self.holder);
        // Written in place, so that a concurrent reader finds a complete text.
        let length = u64::try_from(text.len()).unwrap_or_default();
        drop(self.file.write_all_at(text.as_bytes(), 0).and_then(|()| self.file.set_len(length)));
    }

    /// Whether the lock file is still the one beside the state. A removed lock file would admit a second process.
    fn is_in_place(&self) -> bool {
        self.file.metadata().ok().map(|file| FileId::from(&file)) == FileId::at(&self.place)
    }

    /// Takes the lock in the file that has replaced its own, if no other process holds that one.
    fn is_taken_again(&mut self, opened: &str) -> bool {
        match Self::try_take(&self.state, &self.place, &self.holder) {
            Ok(Some(lock)) => {
                *self = lock;
                self.write(opened);
                warn!("the lock file beside the state was removed or replaced; the lock is taken again");
                true
            }
            Ok(None) | Err(_) => false,
        }
    }
}

/// The file that a process has opened, as its lock file describes it to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenedFile {
    id: FileId,
    /// Includes the header, once the header is in the file.
    memory: FileMemory,
}

impl fmt::Display for OpenedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nfile {}", self.id)?;
        self.memory.write_details(f)
    }
}

fn open(place: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(place)
}

fn holder_of(place: &Path) -> String {
    let text = std::fs::read_to_string(place).unwrap_or_default();
    let holder = text.lines().next().unwrap_or_default();
    if holder.is_empty() { "another process".to_owned() } else { holder.to_owned() }
}

fn refused(state: &Path, holder: &str) -> SetupError {
    SetupError::new(
        format!("the state at {} is in use by {holder}", state.display()),
        "one process at a time sends from a state: stop that one first, or look at it with `conversica-sync status`",
    )
}

/// A missing directory may appear with a mount, and a full disk may get room; rights are for the operator to change.
fn not_lockable(place: &Path, error: std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    if !matches!(error.kind(), NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem) {
        return anyhow::Error::from(error).context(format!("opening the lock file {}", place.display()));
    }
    let directory = place.parent().unwrap_or(place).display().to_string();
    let cure = "make the directory, and give it to the user that runs conversica-sync (a service may write to the directories that \
                its unit names), or set [state] url to a file in a directory that it may write; `run` waits for a directory that \
                is not mounted yet";
    let what = format!("the directory of the state, {directory}, cannot be written: {error}");
    let setup = SetupError::new(what, cure);
    if error.kind() == NotFound { db::away(setup) } else { setup.into() }
}

/// How a running process has lost its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateLoss {
    #[error("the state's file was removed while it was in use")]
    Removed,
    #[error("another file has taken the place of the state's file while it was in use")]
    Replaced,
    #[error("the write-ahead log beside the state's file (-wal) was removed while it was in use")]
    LogRemoved,
    #[error(
        "another file has taken the place of the write-ahead log beside the state's file (-wal) while it was in use"
    )]
    LogReplaced,
    #[error("the write-ahead log beside the state's file (-wal) was emptied or copied over while it was in use")]
    LogDamaged,
    #[error("another content was copied over the state's file while it was in use")]
    Overwritten,
    #[error("another process has taken the lock beside the state's file")]
    LockTaken,
}

impl From<LogLoss> for StateLoss {
    fn from(loss: LogLoss) -> Self {
        match loss {
            LogLoss::Replaced => Self::LogReplaced,
            LogLoss::Damaged => Self::LogDamaged,
        }
    }
}

impl StateLoss {
    /// What the operator can do about it.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Removed => {
                "do not restart the service yet, for it would begin with an empty state. Put the file back under its name (mv), and it \
                 goes on by itself; or stop the service, move the files -wal and -shm beside the state's file away, put a backup in \
                 its place, run `conversica-sync restored`, and start it"
            }
            Self::Replaced => {
                "put the first file back (mv), and the service goes on by itself; or, where the new file is the one to use, stop the \
                 service, move the files -wal and -shm beside it away (they belong to the first file), run `conversica-sync restored` \
                 if the new file is a backup, and start it"
            }
            Self::LogRemoved | Self::LogReplaced => {
                "restart the service: as it stops, it writes into the file what the log held. Do not kill it, which would lose that"
            }
            Self::LogDamaged => {
                "what the log held is lost. Stop the service, move the files -wal and -shm beside the state's file away, put a backup in its \
                 place, run `conversica-sync restored`, and start the service. Without a backup, leave the file as it is and run \
                 `conversica-sync restored` before the start: what is to be sent then waits for approval"
            }
            Self::Overwritten => {
                "stop the service, which mixes what it held with that content. Then move the files -wal and -shm beside the file away, put a \
                 backup in its place once more, run `conversica-sync restored`, and start the service"
            }
            Self::LockTaken => "stop one of the two processes; the other goes on by itself",
        }
    }
}

/// The file of an SQLite state as this process opened it. A state on a server has no file to watch.
#[derive(Debug, Clone, Default)]
pub struct StateFile(Option<Arc<WatchedFile>>);

#[derive(Debug)]
struct WatchedFile {
    opened: OpenedFile,
    path: PathBuf,
    header: Option<Mutex<HeaderWatch>>,
    /// `None` without a write-ahead log.
    log: Option<Mutex<WatchedLog>>,
    log_absent_since: Mutex<Option<Instant>>,
    lock: Mutex<StateLock>,
}

#[derive(Debug)]
struct WatchedLog {
    watch: LogWatch,
    /// The description of the log in the lock file.
    noted: Option<LogNote>,
}

impl StateFile {
    /// Watches the locked file that is open as `db`. Gives a new state its id, and counts the start.
    ///
    /// # Errors
    /// An error of the database.
    pub async fn open(lock: Option<StateLock>, db: &StateDb) -> Result<Self, sqlx::Error> {
        let (Some(mut lock), StateDb::Sqlite(pool)) = (lock, db) else { return Ok(Self::default()) };
        let state_id = begin_start(pool).await?;
        let path = lock.state.clone();
        let (Some(id), Some(memory)) = (FileId::at(&path), FileMemory::at(&path)) else { return Ok(Self::default()) };
        let header = HeaderWatch::new(&path, state_id);
        let written = header.as_ref().map(HeaderWatch::last).filter(|header| header.state_id == state_id);
        let memory = memory.with_header(written.map(|header| (header.state_id, header.starts)));
        let opened = OpenedFile { id, memory };
        lock.write(&opened.to_string());
        let log = LogWatch::new(&path).map(|watch| Mutex::new(WatchedLog { watch, noted: None }));
        let (header, lock) = (header.map(Mutex::new), Mutex::new(lock));
        Ok(Self(Some(Arc::new(WatchedFile { opened, path, header, log, log_absent_since: Mutex::default(), lock }))))
    }

    /// Checks that the file, its log and its lock are unchanged; called before anything is sent or acknowledged. It costs three
    /// look-ups of file names and one read of the first bytes of the file.
    ///
    /// # Errors
    /// The kind of loss.
    pub fn check(&self) -> Result<(), StateLoss> {
        self.0.as_ref().map_or(Ok(()), |watched| watched.check())
    }

    /// Whether there is a file that can be lost.
    pub fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    /// Returns once something is lost.
    pub async fn lost(&self) -> StateLoss {
        loop {
            if let Err(loss) = self.check() {
                return loss;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl WatchedFile {
    fn check(&self) -> Result<(), StateLoss> {
        match FileId::at(&self.path) {
            Some(found) if found == self.opened.id => {}
            Some(_) => return Err(StateLoss::Replaced),
            None => return Err(StateLoss::Removed),
        }
        let header = self.header.as_ref().map(|header| header.lock().unwrap_or_else(PoisonError::into_inner));
        if header.is_some_and(|mut header| header.is_overwritten()) {
            return Err(StateLoss::Overwritten);
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let note = self.check_log(&mut lock)?;
        if lock.is_in_place() || lock.is_taken_again(&lock_text(self.opened, note)) {
            Ok(())
        } else {
            Err(StateLoss::LockTaken)
        }
    }

    /// Checks the log, and stores its progress in the lock file. Returns that progress.
    fn check_log(&self, lock: &mut StateLock) -> Result<Option<LogNote>, StateLoss> {
        let Some(log) = &self.log else { return Ok(None) };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let WatchedLog { watch, noted } = &mut *log;
        let checked = watch.check();
        if *noted != watch.note() && lock.is_in_place() {
            *noted = watch.note();
            lock.write(&lock_text(self.opened, *noted));
        }
        checked?;
        let mut since = self.log_absent_since.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.log().exists() {
            *since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() > LOG_ABSENT {
            return Err(StateLoss::LogRemoved);
        }
        Ok(*noted)
    }
}

/// The text of a lock file below its first line.
fn lock_text(opened: OpenedFile, note: Option<LogNote>) -> String {
    note.map_or_else(|| opened.to_string(), |note| format!("{opened}{note}"))
}

/// Draws an id for a state without one, counts this start, and makes sure that both are in the file. Returns the id.
async fn begin_start(pool: &SqlitePool) -> Result<u32, sqlx::Error> {
    let (id, starts): (i64, i64) =
        sqlx::query_as("select application_id, user_version from pragma_application_id, pragma_user_version")
            .fetch_one(pool)
            .await?;
    let id = if id == 0 { draw_state_id() } else { id };
    let set = format!(
        "begin immediate; pragma application_id = {id}; pragma user_version = {}; commit; pragma wal_checkpoint(passive)",
        (starts + 1).rem_euclid(i64::from(i32::MAX))
    );
    sqlx::raw_sql(db::trusted(set)).execute(pool).await?;
    // Without a sign, as in the header.
    Ok(u32::try_from(id & i64::from(u32::MAX)).unwrap_or_default())
}

/// An id for a state, or for a copy of one; it is very likely unique, and never 0.
pub fn draw_state_id() -> i64 {
    i64::from((rand::random::<u32>() >> 1) | 1)
}

/// For another process: whether a running process has opened a file that is no longer under the state's name, or whose content
/// has been replaced.
pub fn loss_of_holder(url: &str) -> Option<(StateLoss, String)> {
    let state = db::sqlite_path(url)?;
    let mut text = String::new();
    let file = File::open(lock_of(&state)).ok()?;
    (&file).take(LOCK_BYTES).read_to_string(&mut text).ok()?;
    let (holder, opened) = text.split_once("\nfile ")?;
    let (opened, details) = opened.split_once('\n').unwrap_or((opened, ""));
    let header = details.lines().find_map(|line| line.strip_prefix("state "));
    let loss = match FileId::at(&state) {
        Some(found) if found.to_string() == opened => {
            let is_overwritten = header.is_some_and(|header| is_other_content(&state, header));
            if is_overwritten { StateLoss::Overwritten } else { LogNote::parse(details)?.loss()?.into() }
        }
        Some(_) => StateLoss::Replaced,
        None => StateLoss::Removed,
    };
    // The lock is released at once. A process that starts at this moment tries again.
    match file.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => Some((loss, holder.to_owned())),
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => None,
    }
}

/// Whether the file holds another state than the lock names, or an older copy of it.
fn is_other_content(state: &Path, of_lock: &str) -> bool {
    let of_lock: Option<(u32, u32)> =
        of_lock.split_once(' ').and_then(|(id, starts)| Some((id.parse().ok()?, starts.parse().ok()?)));
    let Some((id, starts)) = of_lock else { return false };
    let found = HeaderFile::open(state).and_then(|file| file.read());
    found.is_none_or(|found| found.state_id != id || found.starts < starts)
}

/// Refuses to read or change a state that a running process has lost.
///
/// # Errors
/// [`SetupError`] that names the process.
pub fn refuse_lost(url: &str) -> Result<(), SetupError> {
    let Some((loss, holder)) = loss_of_holder(url) else { return Ok(()) };
    Err(SetupError::new(format!("{loss} by {holder}, which sends nothing: {}", db::display_url(url)), loss.cure()))
}
