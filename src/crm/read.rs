//! Streams the source's rows, as text, in byte order of their keys, in batches, inside one snapshot, in constant memory.
//!
//! It reads and never judges: duplicates and missing keys are for whoever merges the rows with the state.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::{Connection as _, Row as _, SqlStr};
use tokio::sync::{mpsc, oneshot};

use crate::conversica::lead::LeadId;
use crate::crm::columns::{self, ChangedAt, Column, Form};
use crate::crm::cursor::{Bound, Kind, Newest};
use crate::crm::mapping::{NOT_SCALAR, Row};
use crate::crm::{Crm, Fitting};
use crate::db::{self, Db, discreet};

/// Rows a batch: large enough that a statement a batch costs little, small enough that three batches are nothing.
pub const BATCH_ROWS: usize = 1000;
/// Batches read ahead while one is being worked on.
const BATCHES_AHEAD: usize = 2;
/// SQLite looks at its deadline every so many virtual-machine steps (some milliseconds).
const SQLITE_STEPS: i32 = 100_000;

/// Binds the bound, where there is one, as what it is.
macro_rules! bind_bound {
    ($query:expr, $bound:expr) => {
        match $bound {
            None => $query,
            Some(Bound::Number(number)) => $query.bind(*number),
            Some(Bound::Text(text)) => $query.bind(text.clone()),
        }
    };
}

/// Which rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Those whose `changed_at` is at least this.
    Since(Bound),
    /// Those of these leads.
    Keys(Vec<LeadId>),
}

/// A prepared way of reading.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Key, client where there is one, and the cells, as text.
    list: String,
    from: String,
    order: String,
    limit: Option<usize>,
    changed_at: Option<ChangedAt>,
    scope: Scope,
    /// The keys that are asked for, and the condition that finds their rows by way of the table's own index.
    keys: Option<(Bound, String)>,
    cells: usize,
    has_client: bool,
    statement_timeout: Duration,
}

impl Reading {
    /// Rows ordered by (key, client) in byte order on both engines.
    pub fn new(crm: &Crm, fitting: &Fitting, scope: Scope) -> Self {
        let text = |name: &str| as_text(&crm.db, &fitting.columns, name);
        let key = text(&crm.source.key);
        let client = crm.source.client.as_deref().map(text);
        let cells: Vec<String> = crm.mapping.columns().iter().map(|name| text(name)).collect();
        // A row without a client comes first, as it does in our own order.
        let collation = match &crm.db {
            Db::Sqlite(_) => "binary",
            Db::Postgres(_) => "\"C\" nulls first",
        };
        let order: Vec<_> =
            std::iter::once(&key).chain(&client).map(|part| format!("{part} collate {collation}")).collect();
        Self {
            list: [std::slice::from_ref(&key), client.as_slice(), cells.as_slice()].concat().join(", "),
            from: columns::from_clause(&crm.source),
            order: order.join(", "),
            limit: None,
            changed_at: fitting.changed_at.clone(),
            keys: match &scope {
                Scope::Keys(leads) => Some(of_keys(crm, fitting, leads)),
                Scope::All | Scope::Since(_) => None,
            },
            scope,
            cells: cells.len(),
            has_client: client.is_some(),
            statement_timeout: crm.source.statement_timeout,
        }
    }

    /// At most `rows` rows, in no particular order: a sample.
    pub fn sample(mut self, rows: usize) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Starts reading. Dropping the [`Batches`] stops it.
    pub fn start(self, db: &Db) -> Batches {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let (newest_sender, newest) = oneshot::channel();
        let db = db.clone();
        tokio::spawn(async move {
            let result = match &db {
                Db::Sqlite(pool) => self.stream_sqlite(pool, &sender, newest_sender).await,
                Db::Postgres(pool) => self.stream_postgres(pool, &sender, newest_sender).await,
            };
            if let Err(error) = result {
                // The receiver may be gone: then nobody wants to know.
                let _ = sender.send(Err(discreet::of_source(error))).await;
            }
        });
        Batches { batches: receiver, newest }
    }

    /// The rows. On SQLite one cell a row: reading twenty cells a row one by one costs sqlx's driver four times as much.
    fn statement(&self, db: Engine) -> SqlStr {
        let list = match db {
            Engine::Sqlite => format!("json_array({})", self.list),
            Engine::Postgres => self.list.clone(),
        };
        let mut sql = format!("select {list} from {}{}", self.from, self.condition());
        match self.limit {
            Some(limit) => sql.push_str(&format!(" limit {limit}")),
            None => sql.push_str(&format!(" order by {}", self.order)),
        }
        db::trusted(sql)
    }

    /// The newest `changed_at` among the rows, as text, and the name of its type on SQLite; `None` where nobody asks.
    fn newest_statement(&self, db: Engine) -> Option<SqlStr> {
        let expression = &self.changed_at.as_ref().filter(|_| self.limit.is_none() && self.keys.is_none())?.expression;
        let columns = match db {
            Engine::Sqlite => format!("cast(max({expression}) as text), typeof(max({expression}))"),
            Engine::Postgres => format!("max({expression})::text"),
        };
        Some(db::trusted(format!("select {columns} from {}{}", self.from, self.condition())))
    }

    fn condition(&self) -> String {
        if let Some((_, condition)) = &self.keys {
            return condition.clone();
        }
        let Some((bound, changed_at)) = self.bound().zip(self.changed_at.as_ref()) else { return String::new() };
        let cast = match (bound, changed_at.kind) {
            (Bound::Text(_), Some(Kind::TimestampTz)) => "::timestamptz",
            (Bound::Text(_), Some(Kind::Timestamp)) => "::timestamp",
            (Bound::Text(_), Some(Kind::Date)) => "::date",
            (Bound::Text(_) | Bound::Number(_), _) => "",
        };
        format!(" and {} >= $1{cast}", changed_at.expression)
    }

    fn bound(&self) -> Option<&Bound> {
        match &self.scope {
            Scope::All => None,
            Scope::Since(bound) => Some(bound),
            Scope::Keys(_) => self.keys.as_ref().map(|(keys, _)| keys),
        }
    }

    async fn stream_sqlite(
        &self,
        pool: &sqlx::SqlitePool,
        sender: &Sender,
        newest: oneshot::Sender<Option<Newest>>,
    ) -> Result<(), sqlx::Error> {
        let mut connection = pool.acquire().await?;
        let deadline = Instant::now() + self.statement_timeout;
        // SQLite has no statement time-out: the connection is asked now and then whether to go on.
        connection.lock_handle().await?.set_progress_handler(SQLITE_STEPS, move || Instant::now() < deadline);
        let result = self.stream_sqlite_snapshot(&mut connection, sender, newest).await;
        connection.lock_handle().await?.remove_progress_handler();
        result
    }

    async fn stream_sqlite_snapshot(
        &self,
        connection: &mut sqlx::SqliteConnection,
        sender: &Sender,
        newest: oneshot::Sender<Option<Newest>>,
    ) -> Result<(), sqlx::Error> {
        let mut snapshot = connection.begin().await?;
        let mut found = None;
        if let Some(statement) = self.newest_statement(Engine::Sqlite) {
            let query = bind_bound!(sqlx::query_as(statement), self.bound());
            let (text, kind): (Option<String>, String) = query.fetch_one(&mut *snapshot).await?;
            found = text.map(|text| Newest { text, kind: if kind == "text" { Kind::Text } else { Kind::Number } });
        }
        let _ = newest.send(found);
        let query = bind_bound!(sqlx::query(self.statement(Engine::Sqlite)), self.bound());
        let mut rows = query.fetch(&mut *snapshot);
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

    async fn stream_postgres(
        &self,
        pool: &sqlx::PgPool,
        sender: &Sender,
        newest: oneshot::Sender<Option<Newest>>,
    ) -> Result<(), sqlx::Error> {
        let mut snapshot = pool.begin_with("begin isolation level repeatable read read only").await?;
        let mut found = None;
        if let Some((statement, kind)) = self.newest_statement(Engine::Postgres).zip(self.changed_at.as_ref()) {
            let query = bind_bound!(sqlx::query_as(statement), self.bound());
            let (text,): (Option<String>,) = query.fetch_one(&mut *snapshot).await?;
            found = text.zip(kind.kind).map(|(text, kind)| Newest { text, kind });
        }
        let _ = newest.send(found);
        let query = bind_bound!(sqlx::query(self.statement(Engine::Postgres)), self.bound());
        let mut rows = query.fetch(&mut *snapshot);
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

#[derive(Debug, Clone, Copy)]
enum Engine {
    Sqlite,
    Postgres,
}

/// The rows that are coming in.
#[derive(Debug)]
pub struct Batches {
    batches: mpsc::Receiver<Result<Vec<Row>, sqlx::Error>>,
    newest: oneshot::Receiver<Option<Newest>>,
}

impl Batches {
    /// The next batch, never empty; `None` at the end.
    ///
    /// # Errors
    /// The database's, in words without data, after which there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Vec<Row>>, sqlx::Error> {
        self.batches.recv().await.transpose()
    }

    /// The newest `changed_at` in this snapshot; `None` where there is none, or the reading failed.
    pub async fn newest(&mut self) -> Option<Newest> {
        (&mut self.newest).await.ok().flatten()
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

/// The rows of some keys: a few too many where the column takes different texts for the same, never too few.
fn of_keys(crm: &Crm, fitting: &Fitting, leads: &[LeadId]) -> (Bound, String) {
    let keys: Vec<&str> = leads.iter().map(|lead| lead.id.as_str()).collect();
    let column = columns::find(&crm.db, &fitting.columns, &crm.source.key);
    let quoted = db::quote(column.map_or(&crm.source.key, |column| &column.name));
    let condition = match &crm.db {
        // A column without a type may hold numbers, which are no texts to it.
        Db::Sqlite(_) => format!(
            " and t.{quoted} in (select value from json_each($1) union all select cast(value as numeric) from json_each($1))"
        ),
        Db::Postgres(_) => format!(
            " and t.{quoted} = any (array(select jsonb_array_elements_text($1::jsonb)::{}))",
            column.map_or("text", |column| &column.type_name)
        ),
    };
    (Bound::Text(serde_json::json!(keys).to_string()), condition)
}
