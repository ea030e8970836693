//! Streams the source's rows as text, in batches, from one snapshot, in constant memory, in an order in which the state can be
//! read too.
//!
//! It only reads; the merge handles duplicates and missing keys. `statement` writes the SQL, `postgres`, `sqlite` and `mysql` run it,
//! `left_filter` names rows outside the filter,
//! [`crate::rules::line`] has the rows.

mod left_filter;
mod mysql;
mod mysql_silence;
mod mysql_text;
pub mod number;
mod postgres;
mod silence;
mod sqlite;
mod statement;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use crate::config::SourceSettings;
use crate::conversica::lead::{ContentFingerprint, IdOrder, RowHash};
use crate::db::discreet;
use crate::rules::cursor::NewestStamp;
use crate::rules::line::{RowBatch, RowLine};
use crate::rules::read_scope::{ReadScope, WholeNames};
use crate::source::crm::{ConnectedCrm, FittingSource, SourceSchema};
use crate::source::source_db::SourceDb;
use statement::ReadStatements;

/// Rows per batch: large enough that the statement per batch costs little, small enough that a few batches need little memory.
pub const BATCH_ROWS: usize = 1000;
/// Batches read ahead while the poll works on one.
const BATCHES_AHEAD: usize = 6;

/// A prepared way of reading.
#[derive(Debug, Clone)]
pub struct PreparedReading {
    statements: ReadStatements,
    scope: ReadScope,
    limit: Option<usize>,
    now: Option<DateTime<Utc>>,
    has_client: bool,
    salt: u64,
    source: SourceSettings,
}

impl PreparedReading {
    pub fn new(crm: &ConnectedCrm, fitting: &FittingSource, scope: ReadScope) -> Self {
        let mut statements = ReadStatements::new(crm, fitting);
        statements.call(crm.whole_names.get().copied().unwrap_or(WholeNames::Whole));
        Self {
            salt: salt(crm, &statements),
            has_client: crm.source.client.is_some(),
            source: crm.source.clone(),
            limit: None,
            now: None,
            statements,
            scope,
        }
    }

    /// At most `rows` rows, in no particular order: a sample.
    pub fn sample(mut self, rows: usize) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Keys and clients alone, without the cells.
    pub fn names_only(mut self) -> Self {
        self.statements.list = self.statements.names.clone();
        self
    }

    /// Sets the present moment, so that the reader recognises stamps in the future.
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.now = Some(now);
        self
    }

    /// Starts reading. Dropping the [`RowBatches`] stops it.
    pub fn start(self, db: &SourceDb) -> RowBatches {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let (opened_sender, opened) = oneshot::channel();
        let salt = self.salt;
        match db {
            SourceDb::Sqlite(_) => {
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = self.read_sqlite(&sender, opened_sender) {
                        // The receiver may be gone: then the error is irrelevant.
                        let _ = sender.blocking_send(Err(discreet::of_source(error)));
                    }
                });
            }
            SourceDb::Postgres(pool) => {
                let pool = pool.clone();
                tokio::spawn(async move {
                    if let Err(error) = self.read_postgres(&pool, &sender, opened_sender).await {
                        let _ = sender.send(Err(discreet::of_source(error))).await;
                    }
                });
            }
            SourceDb::Mysql(pool) => {
                let pool = pool.clone();
                tokio::spawn(async move {
                    if let Err(error) = self.read_mysql(&pool, &sender, opened_sender).await {
                        let _ = sender.send(Err(discreet::of_source(error))).await;
                    }
                });
            }
        }
        RowBatches { batches, opened: Some(opened), salt }
    }
}

/// A salt that changes all row hashes if rows get another meaning: with another mapping or another version of the program.
fn salt(crm: &ConnectedCrm, statements: &ReadStatements) -> u64 {
    let meaning = (crm.mapping.fingerprint(), &statements.list, env!("CARGO_PKG_VERSION"));
    let ContentFingerprint(bytes) = ContentFingerprint::of(format!("{meaning:?}").as_bytes());
    bytes.iter().take(8).fold(0, |salt, byte| salt << 8 | u64::from(*byte))
}

pub(crate) use mysql_text::newest_stamp as newest_mysql_stamp;

type BatchSender = mpsc::Sender<Result<RowBatch, sqlx::Error>>;

/// Facts about the reading that are known once its snapshot exists, before the first row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedReading {
    /// The order of the rows.
    pub order: IdOrder,
    /// The newest `changed_at` in this snapshot; `None` where no row has one.
    pub newest: Option<NewestStamp>,
    /// Whether this reading skips rows that another reading has seen: see [`ReadScope::From`].
    pub resumed: bool,
    /// On PostgreSQL, the source's schema in this snapshot; not for a sample.
    pub schema: Option<SourceSchema>,
}

/// The rows that are coming in.
#[derive(Debug)]
pub struct RowBatches {
    batches: mpsc::Receiver<Result<RowBatch, sqlx::Error>>,
    opened: Option<oneshot::Receiver<OpenedReading>>,
    salt: u64,
}

impl RowBatches {
    /// The next batch, never empty; `None` at the end.
    ///
    /// # Errors
    /// The database's, in words without data; no further batch follows.
    pub async fn next(&mut self) -> Result<Option<RowBatch>, sqlx::Error> {
        self.batches.recv().await.transpose()
    }

    /// The facts that precede the first row; once.
    ///
    /// # Errors
    /// The database's, in words without data; no further batch follows.
    pub async fn opened(&mut self) -> Result<OpenedReading, sqlx::Error> {
        if let Some(opened) = self.opened.take()
            && let Ok(opened) = opened.await
        {
            return Ok(opened);
        }
        // A reading that fails before it begins sends its error instead.
        match self.batches.recv().await {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Err(sqlx::Error::WorkerCrashed),
        }
    }

    pub fn hash(&self, line: RowLine<'_>) -> RowHash {
        RowHash(line.hash(self.salt))
    }
}
