//! Reads an SQLite file on a thread of its own, row by row, without a copy between SQLite's page and our batch.
//!
//! `rusqlite` shares the one bundled SQLite with sqlx. sqlx's driver hands every row over to another thread: eighteen
//! cells of a million rows cost it 11 s where this takes 1 s.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use secrecy::ExposeSecret;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::oneshot;

use crate::conversica::lead::IdOrder;
use crate::db::discreet;
use crate::rules::cursor::{self, NewestStamp, StampKind, ZoneMix};
use crate::rules::line::RowBatch;
use crate::rules::read_scope::ReadScope;
use crate::source::read::statement::RowOrdering;
use crate::source::read::{BATCH_ROWS, BatchSender, OpenedReading, PreparedReading};
use crate::source::source_file::SourceAccess;

/// SQLite checks its deadline after this many virtual-machine steps (some milliseconds).
const STEPS: i32 = 100_000;
/// How long a statement waits for another writer of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl PreparedReading {
    pub(crate) fn read_sqlite(
        &self,
        sender: &BatchSender,
        opened: oneshot::Sender<OpenedReading>,
    ) -> Result<(), sqlx::Error> {
        let connection = open(self.source.url.expose_secret())?;
        let deadline = ReadDeadline::new(self.source.statement_timeout);
        let (watch, listener) = (deadline.clone(), sender.clone());
        // SQLite has no statement time-out: it asks this handler regularly whether to continue.
        let is_over = move || watch.is_over() || listener.is_closed();
        connection.progress_handler(STEPS, Some(is_over)).map_err(told)?;
        self.read_rows(&connection, &deadline, sender, opened).map_err(told)
    }

    fn read_rows(
        &self,
        connection: &Connection,
        deadline: &ReadDeadline,
        sender: &BatchSender,
        opened: oneshot::Sender<OpenedReading>,
    ) -> rusqlite::Result<()> {
        let snapshot = connection.unchecked_transaction()?;
        let ordering = self.sqlite_ordering(&snapshot)?;
        let mut newest = None;
        if let Some(statement) = self.statements.newest(&self.scope).filter(|_| self.limit.is_none()) {
            newest = newest_by(&snapshot, &statement)?;
        }
        // SQLite does not report which writers have begun, but no writer overtakes another: the newest row marks the limit.
        if let Some((found, now)) = newest.as_ref().zip(self.now)
            && let Some(ahead) = cursor::ahead(found, self.source.time_zone, now)
            && let Some(statement) = self.statements.newest_below(&ahead)
        {
            newest = newest_by(&snapshot, &statement)?.or(newest);
        }
        if let Some(newest) = &mut newest
            && let Some(statement) = self.statements.another_zone(&self.scope, newest)
            && snapshot.query_row(&statement, [], |row| row.get(0))?
        {
            newest.zones = ZoneMix::Several;
        }
        let order = ordering.of_ids();
        let resumed = matches!(&self.scope, ReadScope::From(wanted, _) if *wanted == order);
        let _ = opened.send(OpenedReading { order, newest, resumed, schema: None });
        let mut statement = snapshot.prepare(&self.statements.rows(&self.scope, ordering, self.limit))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut batch = RowBatch::new(self.has_client);
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Text(text) | ValueRef::Blob(text) => batch.push_value(Some(text)),
                    // Cannot occur: the statement casts all cells to text.
                    ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => batch.push_value(None),
                }
            }
            batch.end_row();
            if batch.len() == BATCH_ROWS {
                let successor = batch.successor();
                if sender.blocking_send(Ok(std::mem::replace(&mut batch, successor))).is_err() {
                    return Ok(());
                }
                // Time that the poll spends on a batch does not count against SQLite.
                deadline.put_off();
            }
        }
        if !batch.is_empty() {
            let _ = sender.blocking_send(Ok(batch));
        }
        Ok(())
    }

    /// The order for the keys as they are now: an SQLite column may hold values of any type.
    fn sqlite_ordering(&self, snapshot: &Connection) -> rusqlite::Result<RowOrdering> {
        if !matches!(self.scope, ReadScope::All | ReadScope::From(..)) || self.limit.is_some() {
            return Ok(RowOrdering::Text);
        }
        let Some(statement) = self.statements.key_types() else { return Ok(RowOrdering::Text) };
        let (least, greatest, negative): (Option<String>, Option<String>, bool) =
            snapshot.query_row(&statement, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(match (least.as_deref(), greatest.as_deref(), negative) {
            (Some("integer"), Some("integer"), false) => RowOrdering::Native(IdOrder::ByLength),
            (Some("text"), Some("text"), _) => RowOrdering::Native(IdOrder::Bytes),
            _ => RowOrdering::Text,
        })
    }
}

fn newest_by(snapshot: &Connection, statement: &str) -> rusqlite::Result<Option<NewestStamp>> {
    let (text, kind): (Option<Vec<u8>>, String) = snapshot.query_row(statement, [], |row| {
        let text = row.get_ref(0)?.as_bytes_or_null()?.map(<[u8]>::to_vec);
        Ok((text, row.get(1)?))
    })?;
    let kind = if kind == "text" { StampKind::Text } else { StampKind::Number };
    Ok(text.map(|text| NewestStamp::new(String::from_utf8_lossy(&text).into_owned(), kind)))
}

fn open(url: &str) -> Result<Connection, sqlx::Error> {
    let path = SqliteConnectOptions::from_str(url)?.get_filename().to_owned();
    let access = SourceAccess::of(url);
    let mode = match access {
        SourceAccess::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        SourceAccess::QueryOnly => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let parameters = url.split_once('?').map(|(_, parameters)| parameters).unwrap_or_default();
    let parameters: Vec<_> = url::form_urlencoded::parse(parameters.as_bytes()).collect();
    let asked = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref());
    let connection = if asked("immutable").is_some_and(|value| value == "true" || value == "1") {
        Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)
    } else {
        Connection::open_with_flags(path, flags)
    };
    let connection = connection.map_err(told)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(told)?;
    if access == SourceAccess::QueryOnly {
        connection.pragma_update(None, "query_only", true).map_err(told)?;
    }
    Ok(connection)
}

/// The SQLite URI for a file that no process changes.
fn immutable(path: PathBuf) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?immutable=1")
}

fn told(error: rusqlite::Error) -> sqlx::Error {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            let message = message.unwrap_or_else(|| failure.to_string());
            discreet::of_sqlite(failure.extended_code, message)
        }
        other => sqlx::Error::Decode(other.into()),
    }
}

/// The time until which SQLite may work without a result.
#[derive(Debug, Clone)]
struct ReadDeadline {
    start: Instant,
    patience: Duration,
    /// In milliseconds from `start`.
    at: Arc<AtomicU64>,
}

impl ReadDeadline {
    fn new(patience: Duration) -> Self {
        let deadline = Self { start: Instant::now(), patience, at: Arc::default() };
        deadline.put_off();
        deadline
    }

    fn put_off(&self) {
        let at = self.start.elapsed().saturating_add(self.patience).as_millis();
        self.at.store(u64::try_from(at).unwrap_or(u64::MAX), Relaxed);
    }

    fn is_over(&self) -> bool {
        self.start.elapsed().as_millis() > u128::from(self.at.load(Relaxed))
    }
}
