//! Streams the source's rows, as text, in byte order of their keys, in batches, inside one snapshot, in constant memory.
//!
//! It reads and never judges: duplicates and missing keys are for whoever merges the rows with the state.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::{Row as _, SqlStr};
use tokio::sync::mpsc;

use crate::config::Source;
use crate::crm::columns::{self, Column, Form};
use crate::crm::mapping::{Mapping, NOT_SCALAR, Row};
use crate::db::{self, Db};

/// Rows a batch: large enough that a statement a batch costs little, small enough that three batches are nothing.
pub const BATCH_ROWS: usize = 1000;
/// Batches read ahead while one is being worked on.
const BATCHES_AHEAD: usize = 2;
/// SQLite looks at its deadline every so many virtual-machine steps (some milliseconds).
const SQLITE_STEPS: i32 = 100_000;

/// A prepared way of reading: the statement, and how many cells its rows have.
#[derive(Debug, Clone)]
pub struct Reading {
    sql: String,
    cells: usize,
    has_client: bool,
    statement_timeout: Duration,
}

impl Reading {
    /// Every row of the source, ordered by (key, client) in byte order on both engines.
    pub fn all(db: &Db, source: &Source, mapping: &Mapping, columns: &[Column]) -> Self {
        let text = |name: &str| as_text(db, columns, name);
        let key = text(&source.key);
        let client = source.client.as_deref().map(text);
        let cells: Vec<String> = mapping.columns().iter().map(|name| text(name)).collect();
        let from = columns::from_clause(source);
        let list = [std::slice::from_ref(&key), client.as_slice(), cells.as_slice()].concat().join(", ");
        let order = std::iter::once(&key).chain(&client);
        let sql = match db {
            // One cell a row: reading twenty cells a row one by one costs sqlx's SQLite driver four times as much.
            Db::Sqlite(_) => {
                let order = order.map(|part| format!("{part} collate binary")).collect::<Vec<_>>().join(", ");
                format!("select json_array({list}) from {from} order by {order}")
            }
            Db::Postgres(_) => {
                let order =
                    order.map(|part| format!("{part} collate \"C\" nulls first")).collect::<Vec<_>>().join(", ");
                format!("select {list} from {from} order by {order}")
            }
        };
        Self { sql, cells: cells.len(), has_client: client.is_some(), statement_timeout: source.statement_timeout }
    }

    /// At most `rows` rows, in no particular order: a sample.
    pub fn sample(mut self, rows: usize) -> Self {
        self.sql = format!("{} limit {rows}", self.sql.rsplit_once(" order by ").map_or(&*self.sql, |(sql, _)| sql));
        self
    }

    /// Starts reading. Dropping the [`Batches`] stops it.
    pub fn start(self, db: &Db) -> Batches {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let db = db.clone();
        tokio::spawn(async move {
            let result = match &db {
                Db::Sqlite(pool) => self.stream_sqlite(pool, &sender).await,
                Db::Postgres(pool) => self.stream_postgres(pool, &sender).await,
            };
            if let Err(error) = result {
                // The receiver may be gone: then nobody wants to know.
                let _ = sender.send(Err(error)).await;
            }
        });
        Batches(receiver)
    }

    fn statement(&self) -> SqlStr {
        db::trusted(self.sql.clone())
    }

    async fn stream_sqlite(&self, pool: &sqlx::SqlitePool, sender: &Sender) -> Result<(), sqlx::Error> {
        let mut connection = pool.acquire().await?;
        let deadline = Instant::now() + self.statement_timeout;
        // SQLite has no statement time-out: the connection is asked now and then whether to go on.
        connection.lock_handle().await?.set_progress_handler(SQLITE_STEPS, move || Instant::now() < deadline);
        let result = self.stream_sqlite_rows(&mut connection, sender).await;
        connection.lock_handle().await?.remove_progress_handler();
        result
    }

    async fn stream_sqlite_rows(
        &self,
        connection: &mut sqlx::SqliteConnection,
        sender: &Sender,
    ) -> Result<(), sqlx::Error> {
        let mut rows = sqlx::query(self.statement()).fetch(connection);
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        while let Some(row) = rows.try_next().await? {
            // As bytes: one value that is not UTF-8 must not cost the whole batch.
            let json: &[u8] = row.try_get_unchecked(0)?;
            batch.push(self.row_of_json(json)?);
            if batch.len() == BATCH_ROWS && !hand_over(&mut batch, sender).await {
                return Ok(());
            }
        }
        hand_over(&mut batch, sender).await;
        Ok(())
    }

    async fn stream_postgres(&self, pool: &sqlx::PgPool, sender: &Sender) -> Result<(), sqlx::Error> {
        let mut snapshot = pool.begin_with("begin isolation level repeatable read read only").await?;
        let mut rows = sqlx::query(self.statement()).fetch(&mut *snapshot);
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        while let Some(row) = rows.try_next().await? {
            let mut cells = Vec::with_capacity(self.cells);
            let first = 1 + usize::from(self.has_client);
            for index in first..first + self.cells {
                cells.push(row.try_get(index)?);
            }
            let client = if self.has_client { row.try_get(1)? } else { None };
            batch.push(Row { key: row.try_get(0)?, client, cells });
            if batch.len() == BATCH_ROWS && !hand_over(&mut batch, sender).await {
                return Ok(());
            }
        }
        hand_over(&mut batch, sender).await;
        Ok(())
    }

    fn row_of_json(&self, json: &[u8]) -> Result<Row, sqlx::Error> {
        let cells: Result<Vec<Option<String>>, _> = match std::str::from_utf8(json) {
            Ok(text) => serde_json::from_str(text),
            // The replacement character in the result makes that one lead invalid.
            Err(_) => serde_json::from_str(&String::from_utf8_lossy(json)),
        };
        let mut cells = cells.map_err(|error| sqlx::Error::Decode(error.into()))?.into_iter();
        let key = cells.next().flatten();
        let client = if self.has_client { cells.next().flatten() } else { None };
        Ok(Row { key, client, cells: cells.collect() })
    }
}

type Sender = mpsc::Sender<Result<Vec<Row>, sqlx::Error>>;

/// Sends what has been gathered; `false` when nobody listens any more.
async fn hand_over(batch: &mut Vec<Row>, sender: &Sender) -> bool {
    if batch.is_empty() {
        return true;
    }
    sender.send(Ok(std::mem::replace(batch, Vec::with_capacity(BATCH_ROWS)))).await.is_ok()
}

/// The rows that are coming in.
#[derive(Debug)]
pub struct Batches(mpsc::Receiver<Result<Vec<Row>, sqlx::Error>>);

impl Batches {
    /// The next batch, never empty; `None` at the end.
    ///
    /// # Errors
    /// The database's, after which there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Vec<Row>>, sqlx::Error> {
        self.0.recv().await.transpose()
    }
}

/// A column's value as the database's own text, whatever its type; quoted and qualified.
fn as_text(db: &Db, columns: &[Column], name: &str) -> String {
    let column = columns::find(db, columns, name);
    let quoted = db::quote(column.map_or(name, |column| &column.name));
    match (db, column.map(|column| column.form)) {
        (Db::Sqlite(_), _) => format!("cast(t.{quoted} as text)"),
        (Db::Postgres(_), Some(Form::Json)) => format!(
            "case when jsonb_typeof(t.{quoted}::jsonb) in ('object', 'array') then chr(1) || '{}' \
             else t.{quoted}::jsonb #>> '{{}}' end",
            &NOT_SCALAR[1..]
        ),
        (Db::Postgres(_), _) => format!("t.{quoted}::text"),
    }
}
