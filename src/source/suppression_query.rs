//! Reads `[consent] suppression_query`: one column of addresses, numbers or domains, in constant memory.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::db::{discreet, trusted};
use crate::source::mysql;
use crate::source::source_db::SourceDb;

/// Values per batch.
const VALUES_AT_ONCE: usize = 2000;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 3;

type ColumnValue = Result<Option<String>, sqlx::Error>;
type ValueSender = mpsc::Sender<Result<Vec<String>, sqlx::Error>>;

/// The values that are coming in. Dropping it stops the reading.
#[derive(Debug)]
pub struct SuppressionValues {
    batches: mpsc::Receiver<Result<Vec<String>, sqlx::Error>>,
    _reader: AbortOnDropHandle<()>,
}

impl SuppressionValues {
    /// Starts to read the query.
    pub fn read(db: &SourceDb, query: &str) -> Self {
        let text_type = if matches!(db, SourceDb::Mysql(_)) { "char" } else { "text" };
        let text = format!("with suppressed (value) as ({query}\n) select cast(value as {text_type}) from suppressed");
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let db = db.clone();
        let reader = tokio::spawn(async move {
            let end = send_values(&db, text, &sender).await.map(|()| Vec::new());
            // The receiver may be gone: then the end interests no one.
            let _ = sender.send(end.map_err(discreet::of_source)).await;
        });
        Self { batches, _reader: AbortOnDropHandle::new(reader) }
    }

    /// The next values, without NULL; `None` at the end.
    ///
    /// # Errors
    /// The database's, in words without data.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, sqlx::Error> {
        match self.batches.recv().await {
            Some(Ok(values)) if values.is_empty() => Ok(None),
            Some(values) => values.map(Some),
            // The reader ends with an empty batch, unless it has died.
            None => Err(sqlx::Error::WorkerCrashed),
        }
    }
}

async fn send_values(db: &SourceDb, text: String, sender: &ValueSender) -> Result<(), sqlx::Error> {
    match db {
        SourceDb::Sqlite(pool) => send_batches(sqlx::query_scalar(trusted(text)).fetch(pool), sender).await,
        SourceDb::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            let query = sqlx::query_scalar(trusted(text)).persistent(false);
            send_batches(query.fetch(&mut *transaction), sender).await?;
            transaction.commit().await
        }
        SourceDb::Mysql(pool) => {
            let rows = sqlx::raw_sql(trusted(text)).fetch(pool);
            send_batches(rows.map(|row| mysql::first_text(&row?)).boxed(), sender).await
        }
    }
}

async fn send_batches(mut values: BoxStream<'_, ColumnValue>, sender: &ValueSender) -> Result<(), sqlx::Error> {
    let mut batch = Vec::with_capacity(VALUES_AT_ONCE);
    while let Some(value) = values.try_next().await? {
        batch.extend(value);
        if batch.len() == VALUES_AT_ONCE {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(VALUES_AT_ONCE));
            if sender.send(Ok(full)).await.is_err() {
                return Ok(());
            }
        }
    }
    if !batch.is_empty() {
        let _ = sender.send(Ok(batch)).await;
    }
    Ok(())
}
