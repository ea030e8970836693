//! Writes to the CRM's database: checks that everything fits, then writes events, all of them or none, each once even if a write
//! is repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::MySqlPool;

use crate::config::{ServiceSettings, WritebackMode};
use crate::db;
use crate::error::SetupError;
use crate::rules::heard_event::WaitingEvent;
use crate::source::source_db::SourceDb;
use crate::source::writeback::ddl::{self, MARKER, WritebackDesign, WritebackTable};
use crate::source::writeback::failure::{FailureReach, WriteFailure};
use crate::source::writeback::mysql::{self, MissingTables};
use crate::source::writeback::session::{TransactionEnd, WriterConnection, WriterTransaction};
use crate::source::writeback::statements::{EventStatements, ReadyStatements};
use crate::source::writeback::tables::TableRows;
use crate::store::instance::InstanceId;
use crate::store::turn::{TurnLease, TurnName};

mod event_run;

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

    async fn prepare(&self, end: TransactionEnd) -> Result<(Vec<String>, ReadyStatements), WriteFailure> {
        if let SourceDb::Mysql(pool) = &self.db {
            return self.prepare_mysql(pool, end).await;
        }
        let connecting = |error| WriteFailure::unfit("connecting", error);
        let mut connection = WriterConnection::acquire(&self.db).await.map_err(connecting)?;
        connection.close_on_drop();
        let mut transaction = connection.begin(&self.db).await.map_err(connecting)?;
        let missing = self.create_tables(&mut transaction).await?;
        for (table, sql) in self.probes() {
            let probe = format!("writing to the table {}", self.design.quoted(table));
            let probed = transaction.execute_with(sql, "[]".to_owned()).await;
            probed.map_err(|error| WriteFailure::unfit(probe, error))?;
        }
        let ready = self.prepare_statements(&mut transaction).await?;
        transaction.end(end).await.map_err(|error| WriteFailure::unfit("creating the tables", error))?;
        connection.return_to_pool().await;
        Ok((missing, ready))
    }

    /// Creates the missing tables. Returns their names.
    async fn create_tables(&self, transaction: &mut WriterTransaction<'_>) -> Result<Vec<String>, WriteFailure> {
        let design = &self.design;
        let mut missing = Vec::new();
        for table in &design.tables {
            let name = self.findable(table);
            let found = transaction.fetch_texts(self.find(), name.clone()).await;
            if !found.map_err(|error| WriteFailure::unfit("looking for the tables", error))?.is_empty() {
                continue;
            }
            missing.push(table.name.to_owned());
            for sql in design.create(table) {
                let doing = || format!("creating the table {}", design.quoted(table.name));
                transaction.execute(sql).await.map_err(|error| WriteFailure::unfit(doing(), error))?;
            }
            let Some(publications) = self.publications() else { continue };
            let published = transaction.fetch_texts(publications, name).await;
            let published = published.map_err(|error| WriteFailure::unfit("looking for publications", error))?;
            if let Some(names) = published.first() {
                return Err(WriteFailure::published(&design.quoted(table.name), names));
            }
        }
        Ok(missing)
    }

    async fn prepare_statements(
        &self,
        transaction: &mut WriterTransaction<'_>,
    ) -> Result<ReadyStatements, WriteFailure> {
        match &self.mode {
            WriterMode::Tables => Ok(ReadyStatements::default()),
            WriterMode::Sql(statements) => transaction.prepare(statements).await,
        }
    }

    /// MySQL cannot create and undo a table in one transaction.
    async fn prepare_mysql(
        &self,
        pool: &MySqlPool,
        end: TransactionEnd,
    ) -> Result<(Vec<String>, ReadyStatements), WriteFailure> {
        let tables = match end {
            TransactionEnd::Keep => MissingTables::Make,
            TransactionEnd::UndoAll => MissingTables::Tell,
        };
        let missing = mysql::prepare_tables(pool, &self.design, self.probes(), tables).await?;
        let ready = match &self.mode {
            WriterMode::Tables => ReadyStatements::default(),
            WriterMode::Sql(statements) => mysql::prepare_alone(pool, statements).await?,
        };
        Ok((missing, ready))
    }

    /// Finds a table, or a view in its place. MySQL's are found by [`mysql::prepare_tables`].
    fn find(&self) -> &'static str {
        match self.db {
            SourceDb::Sqlite(_) | SourceDb::Mysql(_) => {
                "select name from sqlite_master where type in ('table', 'view') and name = $1"
            }
            SourceDb::Postgres(_) => "select 'found' where to_regclass($1) is not null",
        }
    }

    /// Which publications would publish a newly created table to subscribers that do not have it. PostgreSQL alone has any.
    fn publications(&self) -> Option<&'static str> {
        match self.db {
            SourceDb::Sqlite(_) | SourceDb::Mysql(_) => None,
            SourceDb::Postgres(_) => Some(
                "select string_agg(quote_ident(pubname), ', ' order by pubname) from pg_catalog.pg_publication_tables \
                 where to_regclass(quote_ident(schemaname) || '.' || quote_ident(tablename)) = to_regclass($1) \
                 having count(*) > 0",
            ),
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
        let writing = |error| WriteFailure::of("writing to the tables", error);
        let mut connection = WriterConnection::acquire(&self.db).await.map_err(writing)?;
        let put = self.put_rows(&mut connection, rows).await;
        if put.is_err() {
            connection.close().await;
        }
        put.map_err(writing)
    }

    async fn put_rows(&self, connection: &mut WriterConnection, rows: TableRows) -> Result<(), sqlx::Error> {
        let tables =
            [(ddl::leads(), rows.leads), (ddl::messages(), rows.messages), (ddl::chat_leads(), rows.chat_leads)];
        let mut transaction = connection.begin(&self.db).await?;
        for (table, rows) in tables.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            transaction.execute_with(self.design.write(&table), Value::Array(rows).to_string()).await?;
        }
        transaction.commit().await
    }
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
