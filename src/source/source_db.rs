//! The customer's database, of either engine. The connections leave nothing behind in it ([`crate::source::guest`]).

use sqlx::{Row as _, SqlitePool};

use crate::db::{POSTGRES_VERSION, SQLITE_VERSION, named_version, trusted};
use crate::source::guest::SourcePool;

/// A pool of connections to the customer's database. On PostgreSQL each statement runs in a transaction of its own.
#[derive(Debug, Clone)]
pub enum SourceDb {
    Sqlite(SqlitePool),
    Postgres(SourcePool),
}

/// Runs the same expression on whichever pool a [`SourceDb`] holds.
macro_rules! on_source {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::source::source_db::SourceDb::Sqlite($pool) => $body,
            $crate::source::source_db::SourceDb::Postgres($pool) => $body,
        }
    };
}
pub(crate) use on_source;

impl SourceDb {
    /// Closes all connections.
    pub async fn close(&self) {
        on_source!(self, pool => pool.close().await);
    }

    /// The one whole number that a statement returns.
    pub async fn fetch_number(&self, sql: String) -> Result<i64, sqlx::Error> {
        on_source!(self, pool => sqlx::query_scalar(trusted(sql)).fetch_one(pool).await)
    }

    /// The first `width` columns, all texts, of each row that a statement returns. A value that is not UTF-8 becomes `None`.
    pub async fn fetch_texts(&self, sql: String, width: usize) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
        on_source!(self, pool => {
            let rows = sqlx::query(trusted(sql)).fetch_all(pool).await?;
            Ok(rows.iter().map(|row| (0..width).map(|column| row.try_get(column).unwrap_or(None)).collect()).collect())
        })
    }

    /// The engine and its version: `SQLite 3.46.0`, `PostgreSQL 15.8`.
    pub async fn engine_version(&self) -> Result<String, sqlx::Error> {
        Ok(match self {
            SourceDb::Sqlite(pool) => {
                named_version("SQLite", sqlx::query_scalar(SQLITE_VERSION).fetch_one(pool).await?)
            }
            SourceDb::Postgres(pool) => {
                named_version("PostgreSQL", sqlx::query_scalar(POSTGRES_VERSION).fetch_one(pool).await?)
            }
        })
    }
}
