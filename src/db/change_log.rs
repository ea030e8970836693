//! The two sessions that write to the CRM's database: one takes rows out of the change log, and makes the triggers when it
//! is told to; the other writes what Conversica has sent. Everything else reads the CRM over [`Db::open_source`], which
//! cannot write.

use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::postgres::{in_session, postgres_options};
use super::source_file::closing_pool;
use super::{Db, LOCK_TIMEOUT, discreet, sqlite_path};

impl Db {
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
            // Opened anew each time: what it writes goes into the file that has the name at that moment.
            return Ok(Db::Sqlite(closing_pool(1).connect_lazy_with(options)));
        }
        // Not read-only, whatever the role's own setting is. What has to wait for a lock is tried again.
        let session = format!(
            "set default_transaction_read_only = off; set time zone 'UTC'; set datestyle = 'ISO, YMD'; \
             set client_min_messages = 'error'; set lock_timeout = {}; set statement_timeout = {}",
            LOCK_TIMEOUT.as_millis(),
            statement_timeout.as_millis()
        );
        let options = postgres_options(url).map_err(discreet::of_source)?;
        Ok(Db::Postgres(in_session(1, session).connect_lazy_with(options)))
    }
}
