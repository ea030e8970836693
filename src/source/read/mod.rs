//! Streams the source's rows, as text, in an order that our state can be read in too, in batches, inside one snapshot, in
//! constant memory.
//!
//! It reads and never judges: duplicates and missing keys are for whoever merges the rows with the state. `statement`
//! writes the SQL, `postgres` and `sqlite` run it, [`crate::rules::line`] has the rows.

pub mod number;
mod postgres;
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

/// Rows a batch: large enough that a statement a batch costs little, small enough that three batches are nothing.
pub const BATCH_ROWS: usize = 1000;
/// Batches read ahead while one is being worked on.
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

    /// At that moment: what lies in the future then is told from what does not.
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.now = Some(now);
        self
    }

    /// Starts reading. Dropping the [`Batches`] stops it.
    pub fn start(self, db: &SourceDb) -> RowBatches {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let (opened_sender, opened) = oneshot::channel();
        let salt = self.salt;
        match db {
            SourceDb::Sqlite(_) => {
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = self.read_sqlite(&sender, opened_sender) {
                        // The receiver may be gone: then nobody wants to know.
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
        }
        RowBatches { batches, opened: Some(opened), salt }
    }
}

/// Rows that mean something else have other hashes: with another mapping, or as another version of the program reads them.
fn salt(crm: &ConnectedCrm, statements: &ReadStatements) -> u64 {
    let meaning = (crm.mapping.fingerprint(), &statements.list, env!("CARGO_PKG_VERSION"));
    let ContentFingerprint(bytes) = ContentFingerprint::of(format!("{meaning:?}").as_bytes());
    bytes.iter().take(8).fold(0, |salt, byte| salt << 8 | u64::from(*byte))
}

type BatchSender = mpsc::Sender<Result<RowBatch, sqlx::Error>>;

/// What is known once the snapshot stands, before the first row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedReading {
    /// The order in which the rows come.
    pub order: IdOrder,
    /// The newest `changed_at` in this snapshot; `None` where there is none.
    pub newest: Option<NewestStamp>,
    /// Whether rows are left out that another reading has seen: see [`Scope::From`].
    pub resumed: bool,
    /// On PostgreSQL, what the source is like in this snapshot; not for a sample.
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
    /// The database's, in words without data, after which there is nothing more.
    pub async fn next(&mut self) -> Result<Option<RowBatch>, sqlx::Error> {
        self.batches.recv().await.transpose()
    }

    /// What is known before the first row; once.
    ///
    /// # Errors
    /// The database's, in words without data, after which there is nothing more.
    pub async fn opened(&mut self) -> Result<OpenedReading, sqlx::Error> {
        if let Some(opened) = self.opened.take()
            && let Ok(opened) = opened.await
        {
            return Ok(opened);
        }
        // A reading that ends before it has begun says why.
        match self.batches.recv().await {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Err(sqlx::Error::WorkerCrashed),
        }
    }

    pub fn hash(&self, line: RowLine<'_>) -> RowHash {
        RowHash(line.hash(self.salt))
    }
}
