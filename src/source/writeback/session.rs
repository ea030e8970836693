//! One connection of the write-back and its transactions, of any engine. Statements leave nothing prepared behind.

use std::time::Duration;

use serde_json::{Map, Value};
use sqlx::mysql::MySql;
use sqlx::pool::PoolConnection;
use sqlx::{Acquire as _, Connection as _, Postgres, Sqlite, Transaction};

use crate::db::trusted;
use crate::source::source_db::SourceDb;
use crate::source::writeback::ddl::WritebackDesign;
use crate::source::writeback::failure::WriteFailure;
use crate::source::writeback::mysql;
use crate::source::writeback::statements::{EventStatements, PreparedStatement, ReadyStatements};

/// The longest time for closing a failed connection; its content no longer matters.
const CLOSING: Duration = Duration::from_secs(2);

/// Whether a transaction's changes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionEnd {
    Keep,
    UndoAll,
}

/// A connection of the pool.
pub(crate) enum WriterConnection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    Mysql(PoolConnection<MySql>),
}

/// A writing transaction, or a savepoint in one. It is rolled back when it is dropped before its end.
pub(crate) enum WriterTransaction<'c> {
    Sqlite(Transaction<'c, Sqlite>),
    Postgres(Transaction<'c, Postgres>),
    Mysql(Transaction<'c, MySql>),
}

impl WriterConnection {
    pub async fn acquire(db: &SourceDb) -> Result<Self, sqlx::Error> {
        Ok(match db {
            SourceDb::Sqlite(pool) => Self::Sqlite(pool.acquire().await?),
            SourceDb::Postgres(pool) => Self::Postgres(pool.acquire().await?),
            SourceDb::Mysql(pool) => Self::Mysql(pool.acquire().await?),
        })
    }

    pub async fn begin(&mut self, db: &SourceDb) -> Result<WriterTransaction<'_>, sqlx::Error> {
        let begin = db.begin_write();
        Ok(match self {
            Self::Sqlite(connection) => WriterTransaction::Sqlite(connection.begin_with(begin).await?),
            Self::Postgres(connection) => WriterTransaction::Postgres(connection.begin_with(begin).await?),
            Self::Mysql(connection) => WriterTransaction::Mysql(connection.begin_with(begin).await?),
        })
    }

    /// It does not return to the pool by itself, because a failed connection is still in a transaction.
    pub fn close_on_drop(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::Postgres(connection) => connection.close_on_drop(),
            Self::Mysql(connection) => connection.close_on_drop(),
        }
    }

    pub async fn return_to_pool(mut self) {
        match &mut self {
            Self::Sqlite(connection) => connection.return_to_pool().await,
            Self::Postgres(connection) => connection.return_to_pool().await,
            Self::Mysql(connection) => connection.return_to_pool().await,
        }
    }

    /// Closes a connection on which something has failed.
    pub async fn close(self) {
        let _ = match self {
            Self::Sqlite(connection) => tokio::time::timeout(CLOSING, connection.close()).await,
            Self::Postgres(connection) => tokio::time::timeout(CLOSING, connection.close()).await,
            Self::Mysql(connection) => tokio::time::timeout(CLOSING, connection.close()).await,
        };
    }
}

impl WriterTransaction<'_> {
    pub async fn begin_savepoint(&mut self) -> Result<WriterTransaction<'_>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(transaction) => WriterTransaction::Sqlite(transaction.begin().await?),
            Self::Postgres(transaction) => WriterTransaction::Postgres(transaction.begin().await?),
            Self::Mysql(transaction) => WriterTransaction::Mysql(transaction.begin().await?),
        })
    }

    /// Runs a statement without parameters.
    pub async fn execute(&mut self, sql: String) -> Result<(), sqlx::Error> {
        let sql = trusted(sql);
        match self {
            Self::Sqlite(session) => sqlx::query(sql).persistent(false).execute(&mut **session).await.map(drop),
            Self::Postgres(session) => sqlx::query(sql).persistent(false).execute(&mut **session).await.map(drop),
            Self::Mysql(session) => sqlx::query(sql).persistent(false).execute(&mut **session).await.map(drop),
        }
    }

    /// Runs a statement with one parameter.
    pub async fn execute_with(&mut self, sql: String, value: String) -> Result<(), sqlx::Error> {
        let sql = trusted(sql);
        match self {
            Self::Sqlite(session) => {
                sqlx::query(sql).bind(value).persistent(false).execute(&mut **session).await.map(drop)
            }
            Self::Postgres(session) => {
                sqlx::query(sql).bind(value).persistent(false).execute(&mut **session).await.map(drop)
            }
            Self::Mysql(session) => {
                sqlx::query(sql).bind(value).persistent(false).execute(&mut **session).await.map(drop)
            }
        }
    }

    /// The texts that a statement with one parameter returns.
    pub async fn fetch_texts(&mut self, sql: &'static str, value: String) -> Result<Vec<String>, sqlx::Error> {
        match self {
            Self::Sqlite(session) => {
                sqlx::query_scalar(sql).bind(value).persistent(false).fetch_all(&mut **session).await
            }
            Self::Postgres(session) => {
                sqlx::query_scalar(sql).bind(value).persistent(false).fetch_all(&mut **session).await
            }
            Self::Mysql(session) => {
                sqlx::query_scalar(sql).bind(value).persistent(false).fetch_all(&mut **session).await
            }
        }
    }

    /// Runs one of the operator's statements for an event. Returns how many rows it touched.
    pub async fn run(
        &mut self,
        statement: &PreparedStatement,
        values: &Map<String, Value>,
    ) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(session) => {
                statement.query_sqlite(values).persistent(false).execute(&mut **session).await?.rows_affected()
            }
            Self::Postgres(session) => {
                statement.query_postgres(values).persistent(false).execute(&mut **session).await?.rows_affected()
            }
            Self::Mysql(session) => {
                statement.query_mysql(values).persistent(false).execute(&mut **session).await?.rows_affected()
            }
        })
    }

    /// Asks the server whether it understands the operator's statements.
    pub async fn prepare(&mut self, statements: &EventStatements) -> Result<ReadyStatements, WriteFailure> {
        match self {
            Self::Sqlite(session) => statements.prepare_sqlite(session).await,
            Self::Postgres(session) => statements.prepare_postgres(session).await,
            Self::Mysql(session) => mysql::prepare_statements(session, statements).await,
        }
    }

    /// Inserts the markers of the events that have none yet, and returns their keys.
    pub async fn insert_marks(&mut self, design: &WritebackDesign, marks: String) -> Result<Vec<String>, sqlx::Error> {
        let sql = trusted(design.mark());
        match self {
            Self::Sqlite(session) => {
                sqlx::query_scalar(sql).bind(marks).persistent(false).fetch_all(&mut **session).await
            }
            Self::Postgres(session) => {
                sqlx::query_scalar(sql).bind(marks).persistent(false).fetch_all(&mut **session).await
            }
            Self::Mysql(session) => mysql::mark(session, design, &marks).await,
        }
    }

    pub async fn end(self, end: TransactionEnd) -> Result<(), sqlx::Error> {
        match end {
            TransactionEnd::Keep => self.commit().await,
            TransactionEnd::UndoAll => self.rollback().await,
        }
    }

    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
            Self::Mysql(transaction) => transaction.commit().await,
        }
    }

    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
            Self::Mysql(transaction) => transaction.rollback().await,
        }
    }
}
