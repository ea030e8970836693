//! Opens the CRM's database: to read, and for the two jobs that write to it. One job deletes rows of the change log and creates
//! the triggers on request; the other writes Conversica's posts.

use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqlStr};

use crate::db::{LOCK_TIMEOUT, discreet, is_mysql, pooler, postgres_options, sqlite_path, trusted};
use crate::source::guest::{GuestAccess, IsolationLevel, SourcePool};
use crate::source::mysql::{self, MysqlAccess};
use crate::source::source_db::SourceDb;
use crate::source::source_file::{closing_pool, open_sqlite_source};

impl SourceDb {
    /// For reading: in read-only transactions, in UTC, with ISO dates, with statements cut off after `statement_timeout` (SQLite
    /// has no such setting, so the reader itself interrupts). An SQLite file has no connection that stays open.
    ///
    /// # Errors
    /// The error of the first connection.
    pub async fn open_source(url: &str, statement_timeout: Duration) -> Result<Self, sqlx::Error> {
        if sqlite_path(url).is_some() {
            return open_sqlite_source(url).await;
        }
        if is_mysql(url) {
            return mysql::open(url, statement_timeout).await.map(SourceDb::Mysql).map_err(discreet::of_source);
        }
        open_postgres(url, statement_timeout).await.map(SourceDb::Postgres).map_err(discreet::of_source)
    }

    /// Connects at the first statement, so that a pass that deletes nothing from the log needs no right to.
    ///
    /// # Errors
    /// Only where the URL cannot be read.
    pub fn change_log(url: &str, statement_timeout: Duration) -> Result<Self, sqlx::Error> {
        Self::writing(url, statement_timeout)
    }

    /// Connects at the first statement, and again whenever necessary.
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
            // Opened anew each time, so that it writes to the file that has the name at that moment.
            return Ok(SourceDb::Sqlite(closing_pool(1).connect_lazy_with(options)));
        }
        if is_mysql(url) {
            let options = mysql::options(url).map_err(discreet::of_source)?;
            return Ok(SourceDb::Mysql(mysql::pool(options, MysqlAccess::ReadWrite, 1, statement_timeout)));
        }
        let pool = SourcePool::new(url, GuestAccess::ReadWrite, 1, statement_timeout);
        pool.map(SourceDb::Postgres).map_err(discreet::of_source)
    }

    /// The statement that begins a writing transaction; see [`crate::store::state_db::StateDb::begin_write`]. On PostgreSQL it
    /// includes all settings, because no setting outlives a transaction.
    pub fn begin_write(&self) -> SqlStr {
        match self {
            SourceDb::Sqlite(_) => trusted("begin immediate".to_owned()),
            SourceDb::Postgres(pool) => trusted(pool.begin_text(IsolationLevel::ReadCommitted)),
            SourceDb::Mysql(_) => trusted("start transaction read write".to_owned()),
        }
    }
}

/// A pool retries until its time is over and then reports only that; one plain attempt reports at once the real failure.
async fn open_postgres(url: &str, statement_timeout: Duration) -> Result<SourcePool, sqlx::Error> {
    pooler::expect_transactions(&postgres_options(url)?).await?;
    SourcePool::new(url, GuestAccess::ReadOnly, 3, statement_timeout)
}
