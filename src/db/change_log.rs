//! How the CRM's database is opened: to read, and for the two jobs that write to it. One takes rows out of the change log, and makes
//! the triggers when it is told to; the other writes what Conversica has sent.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqlStr};

use super::file::FileId;
use super::guest::{GuestAccess, IsolationLevel, SourcePool};
use super::postgres::postgres_options;
use super::{ACQUIRE_TIMEOUT, LOCK_TIMEOUT, SourceDb, discreet, sqlite_path, trusted};

impl SourceDb {
    /// To read: in read-only transactions, in UTC, with ISO dates, statements cut off after `statement_timeout` (on SQLite, which
    /// has no such setting, the reader itself interrupts).
    ///
    /// # Errors
    /// What keeps a first connection from being made.
    pub async fn open_source(url: &str, statement_timeout: Duration) -> Result<Self, sqlx::Error> {
        if sqlite_path(url).is_some() {
            let options = SqliteConnectOptions::from_str(url)?
                .read_only(true)
                .busy_timeout(LOCK_TIMEOUT)
                .row_buffer_size(512)
                .disable_statement_logging();
            let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(ACQUIRE_TIMEOUT);
            // A file does not hang up.
            let pool = pool.test_before_acquire(false);
            return pool.connect_with(options).await.map(SourceDb::Sqlite).map_err(discreet::of_source);
        }
        open_postgres(url, statement_timeout).await.map(SourceDb::Postgres).map_err(discreet::of_source)
    }

    /// Connects at the first statement, so that a pass that takes nothing out of the log needs no right to.
    ///
    /// # Errors
    /// Only where the URL cannot be read.
    pub fn change_log(url: &str, statement_timeout: Duration) -> Result<Self, sqlx::Error> {
        Self::writing(url, statement_timeout)
    }

    /// Connects at the first statement, and again whenever it has to.
    ///
    /// # Errors
    /// Only where the URL cannot be read.
    pub fn writeback(url: &str, statement_timeout: Duration) -> Result<Self, sqlx::Error> {
        Self::writing(url, statement_timeout)
    }

    fn writing(url: &str, statement_timeout: Duration) -> Result<Self, sqlx::Error> {
        if sqlite_path(url).is_some() {
            let options = SqliteConnectOptions::from_str(url)
                .map_err(discreet::of_source)?
                .read_only(false)
                .create_if_missing(false)
                .busy_timeout(LOCK_TIMEOUT)
                .disable_statement_logging();
            let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
            // There is one connection at a time: what it writes must not go into a file that has lost its name to another.
            let path = options.get_filename().to_owned();
            let opened: Arc<Mutex<Option<FileId>>> = Arc::default();
            let (sink, place) = (opened.clone(), path.clone());
            let pool = pool.after_connect(move |_, _| {
                *sink.lock().unwrap_or_else(PoisonError::into_inner) = FileId::at(&place);
                Box::pin(async { Ok(()) })
            });
            let pool = pool.before_acquire(move |_, _| {
                let is_same = *opened.lock().unwrap_or_else(PoisonError::into_inner) == FileId::at(&path);
                Box::pin(async move { Ok(is_same) })
            });
            return Ok(SourceDb::Sqlite(pool.connect_lazy_with(options)));
        }
        let pool = SourcePool::new(url, GuestAccess::ReadWrite, 1, statement_timeout);
        pool.map(SourceDb::Postgres).map_err(discreet::of_source)
    }

    /// How a transaction that writes begins; see [`super::Db::begin_write`]. On PostgreSQL with all its settings, as nothing is set
    /// for longer than a transaction.
    pub fn begin_write(&self) -> SqlStr {
        match self {
            SourceDb::Sqlite(_) => trusted("begin immediate".to_owned()),
            SourceDb::Postgres(pool) => trusted(pool.begin_text(IsolationLevel::ReadCommitted)),
        }
    }

    pub async fn close(&self) {
        match self {
            SourceDb::Sqlite(pool) => pool.close().await,
            SourceDb::Postgres(pool) => pool.close().await,
        }
    }
}

/// A pool tries again until its time is over, and then only says that it is: one plain try says at once what is wrong.
async fn open_postgres(url: &str, statement_timeout: Duration) -> Result<SourcePool, sqlx::Error> {
    let options = postgres_options(url)?;
    let first = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await;
    first.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await?;
    SourcePool::new(url, GuestAccess::ReadOnly, 3, statement_timeout)
}
