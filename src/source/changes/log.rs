//! Drains the change log. The poll reads the log in the order of its rows. It deletes exactly the rows that it read, once the
//! state holds the resulting changes. A transaction that commits late has lower numbers than rows that were read before, so the
//! program stores no position in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sqlx::Row as _;
use sqlx::postgres::PgConnectOptions;

use crate::config::SourceSettings;
use crate::conversica::lead::LeadId;
use crate::db::{self, discreet};
use crate::source::changes::ddl::TriggerDesign;
use crate::source::changes::design;
use crate::source::changes::standing::{self, TriggerStanding};
use crate::source::read::number;
use crate::source::source_db::{SourceDb, on_source};

/// The log of one source.
#[derive(Debug, Clone)]
pub struct ChangeLog {
    pub design: TriggerDesign,
    /// Read-only.
    reader: SourceDb,
    /// Deletes, and nothing else.
    writer: SourceDb,
    /// Whether the writer has proved that it can delete.
    tried: Arc<AtomicBool>,
}

/// Log rows that were read, and the leads that they name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRead {
    seqs: Vec<i64>,
    pub touched: TouchedLeads,
    /// The log also names rows without a key, which are no leads.
    pub has_keyless: bool,
    /// The log also names rows whose key is no lead's: not valid UTF-8, or too long.
    pub has_unnamed: bool,
}

/// The rows that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TouchedLeads {
    /// The rows of these leads, in order, each once.
    Leads(Vec<LeadId>),
    /// Any row: a session truncated the table, or a row without a key was touched and the log cannot tell the two apart.
    Anything,
}

impl Default for TouchedLeads {
    fn default() -> Self {
        TouchedLeads::Leads(Vec::new())
    }
}

/// The backlog of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBacklog {
    pub rows: i64,
    /// Age of the oldest row, by the database's clock, which also stamped the row.
    pub oldest_seconds: i64,
}

/// A row of the log.
struct LogEntry {
    seq: i64,
    /// The bytes of the texts.
    key: Option<Vec<u8>>,
    client: Option<Vec<u8>>,
    /// The entry is about a row without a key.
    is_keyless: bool,
    /// SQLite: the value is a floating-point number without a fraction; this is its text as a whole number.
    whole_key: Option<Vec<u8>>,
    whole_client: Option<Vec<u8>>,
}

impl LogEntry {
    /// The leads that the entry names: none where no state can hold the key. A whole number in a floating-point column yields two
    /// possible lead names; one of them matches no row.
    fn leads(&self) -> Vec<LeadId> {
        let plain = lead(self.key.as_deref(), self.client.as_deref());
        let is_whole = self.whole_key.is_some() || self.whole_client.is_some();
        let key = self.whole_key.as_deref().or(self.key.as_deref());
        let client = self.whole_client.as_deref().or(self.client.as_deref());
        let whole = if is_whole { lead(key, client) } else { None };
        plain.into_iter().chain(whole).collect()
    }
}

/// Log rows per batch.
const LOG_ROWS: i64 = 5_000;

impl ChangeLog {
    /// Finds the table; does not check log and triggers.
    ///
    /// # Errors
    /// [`crate::error::SetupError`] where the source can have no triggers.
    pub async fn open(reader: &SourceDb, source: &SourceSettings, url: &str) -> anyhow::Result<Self> {
        let design = design::design(reader, source).await?;
        let writer = SourceDb::change_log(url, source.statement_timeout)?;
        Ok(Self { design, reader: reader.clone(), writer, tried: Arc::default() })
    }

    /// The same log over other connections.
    ///
    /// # Errors
    /// Only where the URL cannot be read.
    pub fn reopened(&self, reader: &SourceDb, source: &SourceSettings, url: &str) -> Result<Self, sqlx::Error> {
        let writer = SourceDb::change_log(url, source.statement_timeout)?;
        Ok(Self { design: self.design.clone(), reader: reader.clone(), writer, tried: Arc::default() })
    }

    /// The condition of log and triggers, as the reader sees them.
    pub async fn look(&self) -> Result<TriggerStanding, sqlx::Error> {
        standing::look(&self.reader, &self.design).await
    }

    pub(crate) fn reader(&self) -> &SourceDb {
        &self.reader
    }

    /// The session that deletes rows.
    pub(crate) fn writer(&self) -> &SourceDb {
        &self.writer
    }

    /// The options of a connection for notifications; `None` on SQLite, which has none.
    pub fn listener_options(&self) -> Option<Arc<PgConnectOptions>> {
        match &self.writer {
            SourceDb::Sqlite(_) | SourceDb::Mysql(_) => None,
            SourceDb::Postgres(pool) => Some(pool.connect_options()),
        }
    }

    /// Whether the log is empty.
    pub async fn is_empty(&self) -> Result<bool, sqlx::Error> {
        let sql = format!("select not exists (select 1 from {})", self.design.log.quoted());
        on_source!(&self.reader, pool => sqlx::query_scalar(db::trusted(sql)).fetch_one(pool).await)
            .map_err(discreet::of_source)
    }

    /// Whether the log has more than `rows` rows; it counts no further.
    pub async fn has_more_than(&self, rows: u64) -> Result<bool, sqlx::Error> {
        let sql = format!("select exists (select 1 from {} limit 1 offset $1)", self.design.log.quoted());
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        on_source!(&self.reader, pool => sqlx::query_scalar(db::trusted(sql)).bind(rows).fetch_one(pool).await)
            .map_err(discreet::of_source)
    }

    pub async fn backlog(&self) -> Result<LogBacklog, sqlx::Error> {
        let age = match self.reader {
            SourceDb::Mysql(_) => "unix_timestamp() - min(at)",
            SourceDb::Sqlite(_) => "cast(strftime('%s', 'now') as integer) - min(at)",
            SourceDb::Postgres(_) => "cast(extract(epoch from now() - min(at)) as bigint)",
        };
        let sql = format!("select count(*), coalesce({age}, 0) from {}", self.design.log.quoted());
        let (rows, age): (i64, i64) =
            on_source!(&self.reader, pool => sqlx::query_as(db::trusted(sql)).fetch_one(pool).await)
                .map_err(discreet::of_source)?;
        Ok(LogBacklog { rows, oldest_seconds: age.max(0) })
    }

    /// Checks whether the deleting session may write.
    pub async fn try_writing(&self) -> Result<(), sqlx::Error> {
        let sql = format!("delete from {} where seq is null", self.design.log.quoted());
        on_source!(&self.writer, pool => sqlx::query(db::trusted(sql)).execute(pool).await.map(drop))
            .map_err(discreet::of_source)
    }

    /// Checks once that rows can be deleted after they are read: otherwise every poll would read the same rows.
    ///
    /// # Errors
    /// [`crate::error::SetupError`] where they cannot; the database's error when it is unreachable.
    pub async fn make_sure_of_writing(&self) -> anyhow::Result<()> {
        if !self.tried.load(Relaxed) {
            self.try_writing().await.map_err(|error| self.unwritable(error))?;
            self.tried.store(true, Relaxed);
        }
        Ok(())
    }

    fn unwritable(&self, error: sqlx::Error) -> anyhow::Error {
        let is_outage = db::is_outage(&error);
        // A standby: it may become the primary.
        let is_read_only = error.as_database_error().and_then(|error| error.code()).as_deref() == Some("25006");
        // A lock of another session, or a server that is unreachable, is no lack of rights.
        if is_outage && !is_read_only {
            return error.into();
        }
        db::away_or_unfit(&error, standing::unwritable(&self.design, &error))
    }

    /// A column as the bytes of its text. A database in SQL_ASCII stores any bytes, and would fail to convert them to UTF-8.
    fn as_bytes(&self, column: &str) -> String {
        match self.reader {
            SourceDb::Sqlite(_) => format!("cast({column} as text)"),
            SourceDb::Mysql(_) => column.to_owned(),
            SourceDb::Postgres(_) => format!(
                "convert_to({column}, case pg_catalog.getdatabaseencoding() when 'SQL_ASCII' then 'SQL_ASCII' else 'UTF8' end)"
            ),
        }
    }

    fn as_whole(&self, column: &str) -> String {
        match self.reader {
            SourceDb::Sqlite(_) => {
                format!("case when {} then {} end", number::is_whole(column), number::as_whole(column))
            }
            SourceDb::Postgres(_) => "null::bytea".to_owned(),
            SourceDb::Mysql(_) => "null".to_owned(),
        }
    }

    /// The oldest rows of the log. The source has to be read after this, never before.
    pub async fn read(&self) -> Result<LogRead, sqlx::Error> {
        // The entry "anything may have changed" has no client either, and on SQLite no time.
        let is_told = match self.reader {
            SourceDb::Sqlite(_) | SourceDb::Mysql(_) => "client is not null or at is not null",
            SourceDb::Postgres(_) => "client is not null",
        };
        let [key, client] = ["key", "client"].map(|column| self.as_bytes(column));
        let sql = format!(
            "select seq, {key}, {client}, key is null and ({is_told}), {}, {} from {} order by seq limit {LOG_ROWS}",
            self.as_whole("key"),
            self.as_whole("client"),
            self.design.log.quoted()
        );
        let rows: Result<Vec<LogEntry>, sqlx::Error> = on_source!(&self.reader, pool => {
            let rows = sqlx::query(db::trusted(sql)).fetch_all(pool).await.map_err(discreet::of_source)?;
            // As bytes: a text need not be UTF-8, and one such text must not stop the drain.
            rows.iter()
                .map(|row| {
                    Ok(LogEntry {
                        seq: row.try_get(0)?,
                        key: row.try_get_unchecked(1)?,
                        client: row.try_get_unchecked(2)?,
                        is_keyless: row.try_get_unchecked(3)?,
                        whole_key: row.try_get_unchecked(4)?,
                        whole_client: row.try_get_unchecked(5)?,
                    })
                })
                .collect()
        });
        let rows = rows.map_err(discreet::of_source)?;
        let seqs = rows.iter().map(|entry| entry.seq).collect();
        let is_of_anything = rows.iter().any(|entry| !entry.is_keyless && entry.key.is_none());
        let keyed = rows.iter().filter(|entry| entry.key.is_some());
        let named: Vec<Vec<LeadId>> = keyed.map(LogEntry::leads).collect();
        let has_keyless = rows.iter().any(|entry| entry.is_keyless);
        let has_unnamed = named.iter().any(Vec::is_empty);
        let touched = if is_of_anything {
            TouchedLeads::Anything
        } else {
            let mut leads = named.concat();
            leads.sort();
            leads.dedup();
            TouchedLeads::Leads(leads)
        };
        Ok(LogRead { seqs, touched, has_keyless, has_unnamed })
    }

    /// Deletes the rows that were read.
    ///
    /// # Errors
    /// As [`Self::make_sure_of_writing`].
    pub async fn forget(&self, read: LogRead) -> anyhow::Result<()> {
        if read.is_empty() {
            return Ok(());
        }
        self.delete(read.seqs).await.map_err(|error| self.unwritable(discreet::of_source(error)))
    }

    async fn delete(&self, seqs: Vec<i64>) -> Result<(), sqlx::Error> {
        let log = self.design.log.quoted();
        match &self.writer {
            SourceDb::Mysql(pool) => {
                let numbers = seqs.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
                let sql = format!("delete from {log} where seq in ({numbers})");
                sqlx::query(db::trusted(sql)).execute(pool).await.map(drop)
            }
            SourceDb::Sqlite(pool) => {
                let sql = format!("delete from {log} where seq in (select value from json_each($1))");
                let seqs = serde_json::json!(seqs).to_string();
                sqlx::query(db::trusted(sql)).bind(seqs).execute(pool).await.map(drop)
            }
            SourceDb::Postgres(pool) => {
                let sql = format!("delete from {log} where seq = any($1)");
                sqlx::query(db::trusted(sql)).bind(seqs).execute(pool).await.map(drop)
            }
        }
    }
}

impl LogRead {
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    pub fn rows(&self) -> u64 {
        self.seqs.len() as u64
    }

    /// Whether more rows may be waiting.
    pub fn is_full(&self) -> bool {
        self.seqs.len() as i64 >= LOG_ROWS
    }
}

/// The longest key, and the longest client, that a state can hold.
const MAX_KEY_BYTES: usize = 1000;

/// `None` for a key that names no lead: the full compare counts its row.
fn lead(key: Option<&[u8]>, client: Option<&[u8]>) -> Option<LeadId> {
    let text = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        (text.len() <= MAX_KEY_BYTES && !text.contains('\0')).then(|| text.to_owned())
    };
    Some(LeadId { id: text(key?)?, client_id: text(client.unwrap_or_default())? })
}
