//! Writes to the CRM's database: checks that everything fits, then writes events, all of them or none, each once even if a write
//! is repeated.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::{Connection as _, MySqlConnection, MySqlPool, PgConnection, SqliteConnection};

use crate::config::{ServiceSettings, WritebackMode};
use crate::db::{self, trusted};
use crate::error::SetupError;
use crate::rules::heard_event::WaitingEvent;
use crate::source::source_db::{SourceDb, on_source};
use crate::source::writeback::ddl::{self, MARKER, WritebackDesign, WritebackTable};
use crate::source::writeback::failure::{FailureReach, WriteFailure};
use crate::source::writeback::mysql::{self, MissingTables};
use crate::source::writeback::statements::{self, EventStatements, ReadyStatements};
use crate::source::writeback::tables::{TableRows, format_instant};
use crate::store::instance::InstanceId;
use crate::store::turn::{TurnLease, TurnName};

pub struct CrmWriter {
    db: SourceDb,
    design: WritebackDesign,
    mode: WriterMode,
    /// Set once the check has passed.
    ready: Option<ReadyStatements>,
    /// Increases with every answer of the CRM's database.
    progress: Arc<AtomicU64>,
    /// `None` while the write-back loop holds it.
    turn: Option<TurnLease>,
}

enum WriterMode {
    Tables,
    Sql(EventStatements),
}

/// The result of writing events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WrittenEvents {
    /// Numbers of events that the CRM has, from now or from an earlier attempt.
    pub done: Vec<i64>,
    /// Numbers of events that the CRM refuses, and its message; later events in their lanes wait.
    pub failed: Vec<(i64, String)>,
    /// How many events had statements that touched no row.
    untouched: usize,
}

/// The longest time for closing a failed connection; its content no longer matters.
const CLOSING: Duration = Duration::from_secs(2);

/// Whether the transaction's changes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransactionEnd {
    Keep,
    UndoAll,
}

impl CrmWriter {
    /// Does not connect yet; `None` with `mode = "off"`.
    ///
    /// # Errors
    /// [`SetupError`] for statements or a URL that cannot be read.
    pub fn new(settings: &ServiceSettings) -> Result<Option<Self>, SetupError> {
        let writeback = &settings.writeback;
        let design = WritebackDesign::of(settings);
        let mode = match writeback.mode {
            WritebackMode::Off => return Ok(None),
            WritebackMode::Tables => WriterMode::Tables,
            WritebackMode::Sql => WriterMode::Sql(EventStatements::read(writeback, design.engine)?),
        };
        let url = writeback.url.as_ref().unwrap_or(&settings.source.url).expose_secret();
        let db = SourceDb::writeback(url, settings.source.statement_timeout).map_err(|error| {
            SetupError::new(
                format!("[writeback] url: {} cannot be read: {error}", db::display_url(url)),
                "write it as sqlite:///absolute/path.db, postgres://user@host/database or mysql://user@host/database",
            )
        })?;
        Ok(Some(Self { db, design, mode, ready: None, progress: Arc::default(), turn: None }))
    }

    /// The write-back lease, which one instance holds at a time.
    pub(crate) fn take_turn(&mut self) -> TurnLease {
        self.turn.take().unwrap_or_else(|| TurnLease::new(TurnName::Writeback, InstanceId::default()))
    }

    /// Keeps the lease's session for the next turn.
    pub(crate) fn keep_turn(&mut self, turn: TurnLease) {
        self.turn = Some(turn);
    }

    /// Increases while the writer makes progress.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// Checks whether everything exists or can be created, and may be written: tries all of it and undoes it. Returns the names
    /// of the tables that are still missing.
    ///
    /// # Errors
    /// [`WriteFailure`], as writing would meet it.
    pub async fn rehearse(&self) -> Result<Vec<String>, WriteFailure> {
        self.prepare(TransactionEnd::UndoAll).await.map(|(missing, _)| missing)
    }

    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Writes these events in their order. If the CRM's database itself fails, none is written.
    pub async fn write(&mut self, events: &[WaitingEvent], now: DateTime<Utc>) -> Result<WrittenEvents, WriteFailure> {
        let ready = match self.ready.take() {
            Some(ready) => ready,
            None => self.prepare(TransactionEnd::Keep).await?.1,
        };
        let written = match self.mode {
            WriterMode::Tables => self.fill_tables(events).await,
            WriterMode::Sql(_) => self.run_statements(&ready, events, now).await,
        };
        // A mismatch is checked again from the beginning.
        if !matches!(&written, Err(failure) if failure.reach == FailureReach::Unfit) {
            self.ready = Some(ready);
        }
        written
    }

    async fn prepare(&self, then: TransactionEnd) -> Result<(Vec<String>, ReadyStatements), WriteFailure> {
        let unfit = |doing: &str| {
            let doing = doing.to_owned();
            move |error| WriteFailure::unfit(doing, error)
        };
        let design = &self.design;
        macro_rules! prepare {
            ($pool:ident, $prepare:ident) => {{
                let mut connection = $pool.acquire().await.map_err(unfit("connecting"))?;
                // A failed connection is still in a transaction.
                connection.close_on_drop();
                let begin = self.db.begin_write();
                let mut transaction = connection.begin_with(begin).await.map_err(unfit("connecting"))?;
                let mut missing = Vec::new();
                for table in &design.tables {
                    let find = unfit("looking for the tables");
                    let name = self.findable(table);
                    let there = sqlx::query_scalar(self.find()).bind(name).persistent(false);
                    let there: bool = there.fetch_one(&mut *transaction).await.map_err(find)?;
                    if !there {
                        missing.push(table.name.to_owned());
                        for sql in design.create(table) {
                            let create = unfit(&format!("creating the table {}", design.quoted(table.name)));
                            let create_it = sqlx::query(trusted(sql)).persistent(false);
                            create_it.execute(&mut *transaction).await.map_err(create)?;
                        }
                        let find = unfit("looking for publications");
                        let name = self.findable(table);
                        let published: Option<String> = sqlx::query_scalar(self.publications())
                            .bind(name)
                            .persistent(false)
                            .fetch_one(&mut *transaction)
                            .await
                            .map_err(find)?;
                        if let Some(names) = published {
                            return Err(WriteFailure::published(&design.quoted(table.name), &names));
                        }
                    }
                }
                for (table, sql) in self.probes() {
                    let probe = unfit(&format!("writing to the table {}", design.quoted(table)));
                    let no_rows = sqlx::query(trusted(sql)).bind("[]").persistent(false);
                    no_rows.execute(&mut *transaction).await.map_err(probe)?;
                }
                let ready = match &self.mode {
                    WriterMode::Tables => ReadyStatements::default(),
                    WriterMode::Sql(statements) => statements.$prepare(&mut transaction).await?,
                };
                match then {
                    TransactionEnd::Keep => transaction.commit().await,
                    TransactionEnd::UndoAll => transaction.rollback().await,
                }
                .map_err(unfit("creating the tables"))?;
                connection.return_to_pool().await;
                Ok((missing, ready))
            }};
        }
        match &self.db {
            SourceDb::Sqlite(pool) => prepare!(pool, prepare_sqlite),
            SourceDb::Postgres(pool) => prepare!(pool, prepare_postgres),
            SourceDb::Mysql(pool) => self.prepare_mysql(pool, then).await,
        }
    }

    async fn prepare_mysql(
        &self,
        pool: &MySqlPool,
        then: TransactionEnd,
    ) -> Result<(Vec<String>, ReadyStatements), WriteFailure> {
        let tables = match then {
            TransactionEnd::Keep => MissingTables::Make,
            TransactionEnd::UndoAll => MissingTables::Tell,
        };
        let missing = mysql::prepare_tables(pool, &self.design, self.probes(), tables).await?;
        let ready = match &self.mode {
            WriterMode::Tables => ReadyStatements::default(),
            WriterMode::Sql(statements) => mysql::prepare_statements(pool, statements).await?,
        };
        Ok((missing, ready))
    }

    async fn mark_sqlite(&self, session: &mut SqliteConnection, marks: String) -> Result<Vec<String>, sqlx::Error> {
        let mark = sqlx::query_scalar(trusted(self.design.mark())).bind(marks).persistent(false);
        mark.fetch_all(session).await
    }

    async fn mark_postgres(&self, session: &mut PgConnection, marks: String) -> Result<Vec<String>, sqlx::Error> {
        let mark = sqlx::query_scalar(trusted(self.design.mark())).bind(marks).persistent(false);
        mark.fetch_all(session).await
    }

    async fn mark_mysql(&self, session: &mut MySqlConnection, marks: String) -> Result<Vec<String>, sqlx::Error> {
        mysql::mark(session, &self.design, &marks).await
    }

    /// Whether a table, or a view in its place, exists.
    fn find(&self) -> &'static str {
        match self.db {
            SourceDb::Sqlite(_) => {
                "select count(*) > 0 from sqlite_master where type in ('table', 'view') and name = $1"
            }
            SourceDb::Postgres(_) => "select to_regclass($1) is not null",
            SourceDb::Mysql(_) => "select false",
        }
    }

    /// Which publications would publish a newly created table to subscribers that do not have it.
    fn publications(&self) -> &'static str {
        match self.db {
            SourceDb::Sqlite(_) | SourceDb::Mysql(_) => "select nullif($1, $1)",
            SourceDb::Postgres(_) => {
                "select string_agg(quote_ident(pubname), ', ' order by pubname) from pg_catalog.pg_publication_tables \
                 where to_regclass(quote_ident(schemaname) || '.' || quote_ident(tablename)) = to_regclass($1)"
            }
        }
    }

    fn findable(&self, table: &WritebackTable) -> String {
        match self.db {
            SourceDb::Sqlite(_) | SourceDb::Mysql(_) => table.name.to_owned(),
            SourceDb::Postgres(_) => self.design.quoted(table.name),
        }
    }

    /// The statements that we run ourselves, each with its table; without rows they change nothing.
    fn probes(&self) -> Vec<(&'static str, String)> {
        let own = self.design.tables.iter().map(|table| (table.name, self.design.write(table)));
        let unmark = matches!(self.mode, WriterMode::Sql(_)).then(|| (MARKER, self.design.unmark()));
        own.chain(unmark).collect()
    }

    /// One statement per table. If the CRM refuses a batch, the writer splits its lanes until only the refused ones remain.
    async fn fill_tables(&self, events: &[WaitingEvent]) -> Result<WrittenEvents, WriteFailure> {
        let mut written = WrittenEvents::default();
        let mut undecided = vec![by_lane(events)];
        while let Some(lanes) = undecided.pop() {
            let rows = TableRows::of(lanes.iter().flatten().copied());
            match self.put(rows).await {
                Ok(()) => written.done.extend(lanes.iter().flatten().map(|event| event.seq)),
                Err(failure) if failure.reach != FailureReach::Event => return Err(failure),
                Err(failure) => match lanes.as_slice() {
                    [] => {}
                    [lane] => self.fill_one_by_one(lane, failure, &mut written).await?,
                    several => {
                        let (some, others) = several.split_at(several.len() / 2);
                        undecided.extend([some.to_vec(), others.to_vec()]);
                    }
                },
            }
        }
        Ok(written)
    }

    /// Writes a lane that was refused as a whole, up to the refused event.
    async fn fill_one_by_one(
        &self,
        lane: &[&WaitingEvent],
        refusal: WriteFailure,
        written: &mut WrittenEvents,
    ) -> Result<(), WriteFailure> {
        if let [event] = lane {
            written.failed.push((event.seq, refusal.to_string()));
            return Ok(());
        }
        for event in lane {
            match self.put(TableRows::of([*event])).await {
                Ok(()) => written.done.push(event.seq),
                Err(failure) if failure.reach != FailureReach::Event => return Err(failure),
                Err(failure) => {
                    written.failed.push((event.seq, failure.to_string()));
                    break;
                }
            }
        }
        Ok(())
    }

    async fn put(&self, rows: TableRows) -> Result<(), WriteFailure> {
        self.progress.fetch_add(1, Ordering::Relaxed);
        let tables =
            [(ddl::leads(), rows.leads), (ddl::messages(), rows.messages), (ddl::chat_leads(), rows.chat_leads)];
        let writing = |error| WriteFailure::of("writing to the tables", error);
        on_source!(&self.db, pool => {
            let mut connection = pool.acquire().await.map_err(writing)?;
            let put = async {
                let mut transaction = connection.begin_with(self.db.begin_write()).await?;
                for (table, rows) in tables.into_iter().filter(|(_, rows)| !rows.is_empty()) {
                    let sql = trusted(self.design.write(&table));
                    let put = sqlx::query(sql).bind(Value::Array(rows).to_string()).persistent(false);
                    put.execute(&mut *transaction).await?;
                }
                transaction.commit().await
            };
            let put = put.await;
            if put.is_err() {
                let _ = tokio::time::timeout(CLOSING, connection.close()).await;
            }
            put.map_err(writing)
        })
    }

    /// Runs each event in a savepoint of its own, with its marker in the same transaction.
    async fn run_statements(
        &self,
        ready: &ReadyStatements,
        events: &[WaitingEvent],
        now: DateTime<Utc>,
    ) -> Result<WrittenEvents, WriteFailure> {
        let writing = |error| WriteFailure::of("writing", error);
        macro_rules! run {
            ($pool:ident, $query:ident, $mark:ident) => {{
                let mut connection = $pool.acquire().await.map_err(writing)?;
                let run = async {
                    let mut written = WrittenEvents::default();
                    let mut transaction = connection.begin_with(self.db.begin_write()).await.map_err(writing)?;
                    let marks = json!(events.iter().map(|event| mark(event, now)).collect::<Vec<_>>()).to_string();
                    let fresh = self.$mark(&mut transaction, marks).await.map_err(writing)?;
                    let fresh: HashSet<String> = fresh.into_iter().collect();
                    let mut blocked: HashSet<&str> = HashSet::new();
                    let mut refused: Vec<&str> = Vec::new();
                    for event in events {
                        self.progress.fetch_add(1, Ordering::Relaxed);
                        if !fresh.contains(&event.key) {
                            written.done.push(event.seq);
                            continue;
                        }
                        if blocked.contains(event.lane.as_str()) {
                            refused.push(&event.key);
                            continue;
                        }
                        let statements = &ready[event.kind as usize];
                        let values = if statements.is_empty() { None } else { statements::values(event) };
                        let Some(values) = values else {
                            written.done.push(event.seq);
                            continue;
                        };
                        let mut savepoint = transaction.begin().await.map_err(writing)?;
                        let mut touched = Ok(0);
                        for statement in statements {
                            match statement.$query(&values).persistent(false).execute(&mut *savepoint).await {
                                Ok(result) => touched = touched.map(|rows| rows + result.rows_affected()),
                                Err(error) => {
                                    touched = Err(WriteFailure::of(running(event), error));
                                    break;
                                }
                            }
                        }
                        match touched {
                            Ok(rows) => {
                                savepoint.commit().await.map_err(writing)?;
                                written.untouched += usize::from(rows == 0);
                                written.done.push(event.seq);
                            }
                            Err(failure) if failure.reach != FailureReach::Event => return Err(failure),
                            Err(failure) => {
                                written.failed.push((event.seq, failure.to_string()));
                                // A trigger of the CRM may have rolled back the whole transaction: then nothing is written.
                                if savepoint.rollback().await.is_err() {
                                    let failed = written.failed.pop().into_iter().collect();
                                    return Ok((
                                        WrittenEvents { failed, ..WrittenEvents::default() },
                                        ConnectionHealth(false),
                                    ));
                                }
                                blocked.insert(&event.lane);
                                refused.push(&event.key);
                            }
                        }
                    }
                    if !refused.is_empty() {
                        let unmark = sqlx::query(trusted(self.design.unmark())).bind(json!(refused).to_string());
                        unmark.persistent(false).execute(&mut *transaction).await.map_err(writing)?;
                    }
                    transaction.commit().await.map_err(writing)?;
                    Ok((written, ConnectionHealth(true)))
                };
                let run = run.await;
                if !matches!(run, Ok((_, ConnectionHealth(true)))) {
                    let _ = tokio::time::timeout(CLOSING, connection.close()).await;
                }
                run.map(|(written, _)| written)
            }};
        }
        let written = match &self.db {
            SourceDb::Sqlite(pool) => run!(pool, query_sqlite, mark_sqlite),
            SourceDb::Postgres(pool) => run!(pool, query_postgres, mark_postgres),
            SourceDb::Mysql(pool) => run!(pool, query_mysql, mark_mysql),
        }?;
        if written.untouched > 0 {
            tracing::debug!(events = written.untouched, "statements of [writeback] touched no row");
        }
        Ok(written)
    }
}

/// Whether a connection is usable after a transaction.
struct ConnectionHealth(bool);

fn running(event: &WaitingEvent) -> String {
    format!("running [writeback] {}", event.kind.name())
}

fn mark(event: &WaitingEvent, now: DateTime<Utc>) -> Value {
    json!({"event_key": event.key, "written_at": format_instant(now)})
}

/// The events of each lane, in their order.
fn by_lane(events: &[WaitingEvent]) -> Vec<Vec<&WaitingEvent>> {
    let mut lanes: Vec<Vec<&WaitingEvent>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for event in events {
        let place = *places.entry(event.lane.as_str()).or_insert_with(|| {
            lanes.push(Vec::new());
            lanes.len() - 1
        });
        lanes[place].push(event);
    }
    lanes
}
