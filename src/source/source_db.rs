//! The customer's database, of any engine. The connections leave nothing behind in it ([`crate::source::guest`]).

use sqlx::{MySqlPool, Row as _, SqlitePool};

use crate::db::{POSTGRES_VERSION, SQLITE_VERSION, named_version, trusted};
use crate::source::dialect::SourceDialect;
use crate::source::guest::SourcePool;
use crate::source::mysql;

/// A pool of connections to the customer's database. On PostgreSQL each statement runs in a transaction of its own.
#[derive(Debug, Clone)]
pub enum SourceDb {
    Sqlite(SqlitePool),
    Postgres(SourcePool),
    /// MySQL or MariaDB.
    Mysql(MySqlPool),
}

/// Runs the same expression on whichever pool a [`SourceDb`] holds.
macro_rules! on_source {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::source::source_db::SourceDb::Sqlite($pool) => $body,
            $crate::source::source_db::SourceDb::Postgres($pool) => $body,
            $crate::source::source_db::SourceDb::Mysql($pool) => $body,
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
        match self {
            SourceDb::Sqlite(pool) => sqlx::query_scalar(trusted(sql)).fetch_one(pool).await,
            SourceDb::Postgres(pool) => sqlx::query_scalar(trusted(sql)).fetch_one(pool).await,
            SourceDb::Mysql(pool) => mysql::number(pool, sql).await,
        }
    }

    /// The first `width` columns, all texts, of each row that a statement returns. A value that is not UTF-8 becomes `None`.
    pub async fn fetch_texts(&self, sql: String, width: usize) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
        if let SourceDb::Mysql(pool) = self {
            let mut rows = mysql::texts(pool, sql).await?;
            rows.iter_mut().for_each(|row| row.truncate(width));
            return Ok(rows);
        }
        on_source!(self, pool => {
            let rows = sqlx::query(trusted(sql)).fetch_all(pool).await?;
            Ok(rows.iter().map(|row| (0..width).map(|column| row.try_get(column).unwrap_or(None)).collect()).collect())
        })
    }

    pub fn dialect(&self) -> SourceDialect {
        match self {
            SourceDb::Sqlite(_) => SourceDialect::Sqlite,
            SourceDb::Postgres(_) => SourceDialect::Postgres,
            SourceDb::Mysql(_) => SourceDialect::Mysql,
        }
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
            SourceDb::Mysql(pool) => mysql::version(pool).await?,
        })
    }
}
