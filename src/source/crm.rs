//! The source as the settings describe it: connected, described, and watched for changes of its columns.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use chrono::DateTime;
use chrono::Utc;
use secrecy::ExposeSecret;
use sqlx::PgConnection;
use tokio::sync::OnceCell;

use crate::config::{ChangeDetection, ServiceSettings, SourceSettings};
use crate::conversica::lead::ContentFingerprint;
use crate::db::failure_cure::{self, FailureClass};
use crate::db::file::{FileId, FileLook};
use crate::db::pooler::StatementPooler;
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::rules::drift::{self, ColumnPart, SourceShape, UsedColumn};
use crate::rules::mapping::LeadMapping;
use crate::rules::read_scope::WholeNames;
use crate::rules::settled::SettledMoment;
use crate::rules::source_column::{CatalogTable, ColumnForm, RelationKind, SourceColumn};
use crate::rules::suppression_ground::SuppressionScope;
use crate::source::changed_at::{self, ChangedAt};
use crate::source::changes::log::ChangeLog;
use crate::source::read::number;
use crate::source::settled::{self, SettledLook};
use crate::source::source_db::SourceDb;
use crate::source::source_file::expect_source_file;
use crate::source::{catalog, columns, mysql};

/// The source as the settings describe it, connected.
#[derive(Debug, Clone)]
pub struct ConnectedCrm {
    pub db: SourceDb,
    pub source: SourceSettings,
    pub mapping: LeadMapping,
    /// Whose opt-outs count for every lead of the same person.
    pub suppression_scope: SuppressionScope,
    /// Set with `changes = "triggers"`.
    pub log: Option<ChangeLog>,
    /// Read from the state before the first poll, where the key may hold such numbers.
    pub whole_names: Arc<OnceCell<WholeNames>>,
    pub(crate) seen: Arc<Mutex<SourceMemory>>,
    /// The file of an SQLite source at the time of opening.
    pub(crate) file: Option<FileId>,
}

impl ConnectedCrm {
    /// Connects and checks that the source fits the settings.
    ///
    /// # Errors
    /// [`SetupError`] when it does not fit or cannot be reached; [`db::is_away`] tells the two apart.
    pub async fn open(settings: &ServiceSettings) -> anyhow::Result<Self> {
        let source = settings.source.clone();
        let url = source.url.expose_secret();
        expect_source_file(url)?;
        let file = FileId::of(url);
        let db = connect(&source).await?;
        let mapping = LeadMapping::new(settings);
        let (whole_names, seen) = (Arc::default(), Arc::default());
        let suppression_scope = SuppressionScope::of(&settings.consent);
        let mut crm = ConnectedCrm { mapping, suppression_scope, db, source, log: None, whole_names, seen, file };
        crm.fitting().await?;
        if crm.source.changes == ChangeDetection::Triggers {
            // On the heap: the stack of a thread has to hold every future around this one.
            let log = Box::pin(ChangeLog::open(&crm.db, &crm.source, crm.source.url.expose_secret())).await?;
            crm.log = Some(log);
        }
        Ok(crm)
    }

    /// Whether another file has replaced the one that was opened.
    pub fn is_replaced(&self) -> bool {
        let found = FileId::of(self.source.url.expose_secret());
        found.is_some() && found != self.file
    }

    /// Called before each poll: checks an SQLite file as it is now and decides how to open it. Reports whether an older content
    /// has been copied over it since the last poll: then the poll has to compare every row. A newer content shows in the stamps
    /// of its rows; the next full compare finds rows with old stamps, as it finds those that the CRM itself backdates.
    pub fn begin_poll(&self) -> FileHistory {
        let url = self.source.url.expose_secret();
        let Some(path) = db::sqlite_path(url) else { return FileHistory::Continued };
        self.db.renew_source_access(url);
        let Some(now) = FileLook::at(&path) else { return FileHistory::Continued };
        match self.seen().file.replace(now) {
            Some(earlier) if now.is_turned_back_since(&earlier) => FileHistory::TurnedBack,
            _ => FileHistory::Continued,
        }
    }

    /// The same source in the file that replaced it. It must still match the schema of the first check.
    ///
    /// # Errors
    /// [`SetupError`] when it cannot be opened.
    pub async fn reopened(&self) -> anyhow::Result<Self> {
        let url = self.source.url.expose_secret();
        let file = FileId::of(url);
        let db = connect(&self.source).await?;
        let log = self.log.as_ref().map(|log| log.reopened(&db, &self.source, url)).transpose()?;
        let seen = SourceMemory { first: self.seen().first.clone(), ..SourceMemory::default() };
        let (source, mapping) = (self.source.clone(), self.mapping.clone());
        let whole_names = self.whole_names.clone();
        let (seen, suppression_scope) = (Arc::new(Mutex::new(seen)), self.suppression_scope);
        Ok(Self { db, source, mapping, suppression_scope, log, whole_names, seen, file })
    }

    /// The source's schema, checked against the settings and against the first check. Called at the start of every pass, so that
    /// a column that is dropped or retyped meanwhile stops the pass, not the leads.
    ///
    /// # Errors
    /// [`SetupError`] when it does not fit, or no longer does; the database's error when it is unreachable.
    pub async fn fitting(&self) -> anyhow::Result<FittingSource> {
        self.look().await.map_err(|error| self.explained(error))
    }

    pub(crate) async fn look(&self) -> anyhow::Result<FittingSource> {
        let schema = columns::schema_version(&self.db).await;
        if let Some((seen, fitting)) = &self.seen().fitted
            && schema.as_ref() == Some(seen)
        {
            return Ok(fitting.clone());
        }
        let columns = columns::describe(&self.db, &self.source).await?;
        let found = catalog::look(&self.db, &self.source).await?;
        let columns = found.entered(columns);
        self.refuse_drift(&found, &columns)?;
        columns::check(&self.db, &self.source, &self.mapping, &columns)?;
        let changed_at = changed_at::prepare(&self.db, &self.source, &columns).await?;
        let CatalogTable { relation, row_security, has_unique_key, .. } = found;
        self.seen().first.get_or_insert_with(|| SourceShape { relation, row_security, used: self.used(&columns) });
        let has_unique_key = has_unique_key && self.has_plain_key(&columns);
        let fitting = FittingSource { relation, row_security, has_unique_key, columns, changed_at };
        self.seen().fitted = schema.map(|schema| (schema, fitting.clone()));
        Ok(fitting)
    }

    /// Checks again while a pass reads from an open snapshot that the source is still the one that the pass began with. On
    /// PostgreSQL the reading session has described the source itself, as `schema`: a second session may not be free before the
    /// reading ends.
    ///
    /// # Errors
    /// As [`ConnectedCrm::fitting`]; an error that waiting resolves where a session changed the source just now.
    pub async fn still(&self, fitting: &FittingSource, schema: Option<&SourceSchema>) -> anyhow::Result<()> {
        if self.is_replaced() {
            let what = format!("{}: another file took its place as a poll began", columns::place(&self.source));
            return Err(db::away(SetupError::new(what, "nothing to do: the next poll reads that one")));
        }
        let is_same = match schema {
            Some(schema) => schema.fits(self, fitting),
            None => self.fitting().await? == *fitting,
        };
        if is_same {
            return Ok(());
        }
        let what = format!("{}: its columns changed as a poll began", columns::place(&self.source));
        Err(db::away(SetupError::new(what, "nothing to do: the next poll looks again")))
    }

    /// Whether the poll should check shared keys again.
    pub fn may_look_again(&self) -> bool {
        self.seen().again_at.is_none_or(|at| at <= Instant::now())
    }

    /// Records such a check and its duration: the next one waits fifty times as long.
    pub fn has_looked_again(&self, took: Duration) {
        self.seen().again_at = Instant::now().checked_add(took.saturating_mul(50));
    }

    /// Whether a full compare may be asked for: not more often than so. Counts as asked.
    pub fn may_ask_for_compare(&self, every: Duration, now: Instant) -> bool {
        let mut seen = self.seen();
        if seen.asked_at.is_some_and(|asked_at| now.saturating_duration_since(asked_at) < every) {
            return false;
        }
        seen.asked_at = Some(now);
        true
    }

    /// Whether a lead's key or client may be a whole number in a floating-point column, which can be written in two ways.
    pub fn may_have_whole_names(&self, fitting: &FittingSource) -> bool {
        let names = std::iter::once(self.source.key.as_str()).chain(self.source.client.as_deref());
        let mut columns = names.into_iter().filter_map(|name| columns::find(&self.db, &fitting.columns, name));
        matches!(self.db, SourceDb::Sqlite(_)) && columns.any(|column| number::may_be_real(&column.plain_type))
    }

    /// A JSON key is only the scalar inside: "7" and 7 are the same.
    pub(crate) fn has_plain_key(&self, columns: &[SourceColumn]) -> bool {
        let names = std::iter::once(self.source.key.as_str()).chain(self.source.client.as_deref());
        names
            .into_iter()
            .all(|name| columns::find(&self.db, columns, name).is_some_and(|c| c.form == ColumnForm::Plain))
    }

    pub(crate) fn used(&self, columns: &[SourceColumn]) -> Vec<UsedColumn> {
        let mut wanted = columns::wanted(&self.source, &self.mapping);
        wanted.extend(self.source.changed_at.as_deref().map(|name| (name, "[source] changed_at".to_owned())));
        let names = [Some(self.source.key.as_str()), self.source.client.as_deref()];
        let used = |(name, by): (&str, String)| {
            let part = if names.contains(&Some(name)) { ColumnPart::Name } else { ColumnPart::Value };
            Some(UsedColumn { by, part, column: columns::find(&self.db, columns, name)?.clone() })
        };
        wanted.into_iter().filter_map(used).collect()
    }

    pub(crate) fn refuse_drift(&self, found: &CatalogTable, columns: &[SourceColumn]) -> Result<(), SetupError> {
        let seen = self.seen();
        let Some(first) = &seen.first else { return Ok(()) };
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let changes = drift::since(first, found, |name| columns::find(&self.db, columns, name).cloned(), &names);
        if changes.is_empty() {
            return Ok(());
        }
        let what = format!("{} has changed: {}", columns::place(&self.source), changes.join("; "));
        Err(SetupError::new(what, if changes == [drift::HIDDEN] { HIDDEN_CURE } else { CHANGED_CURE }))
    }

    /// The moment up to which every transaction has been committed: read before a snapshot is taken.
    ///
    /// # Errors
    /// The database's when it is unreachable.
    pub async fn outlook(
        &self,
        earlier: Option<&SettledMoment>,
        now: DateTime<Utc>,
    ) -> Result<SettledLook, sqlx::Error> {
        let outlook = settled::look(&self.db, earlier, now).await?;
        settled::warn_of_long(&outlook.settled, &mut self.seen().long_open);
        Ok(outlook)
    }

    /// Adds a cure to a database error, whose own text names no setting.
    pub fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let Some(cause) = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()) else { return error };
        if db::is_lock(cause) {
            return error.context(SetupError::new(
                format!("{} is locked by another session; waiting for it", columns::place(&self.source)),
                "nothing, if an ALTER TABLE, a TRUNCATE or a bulk load is under way: it is tried again by itself. Otherwise end \
                 the transaction that keeps the lock",
            ));
        }
        // The same steps also read and write the state.
        if !discreet::is_of_crm(cause) {
            return error;
        }
        let Some(database) = cause.as_database_error() else {
            return unreachable(self.source.url.expose_secret(), cause);
        };
        let refused = columns::refuse_failure(&self.source, database);
        match failure_cure::cure_error(database).class {
            FailureClass::Fix => refused.into(),
            FailureClass::Wait => {
                let what = format!("{} cannot be read now: {}", columns::place(&self.source), database.message());
                db::away(SetupError::new(what, refused.cure))
            }
        }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, SourceMemory> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when the settings select other rows, or read them in another way; not with passwords. A column that was dropped
    /// and created again holds other values, whatever the rows' stamps say.
    pub fn fingerprint(&self) -> ContentFingerprint {
        let source = &self.source;
        let place = db::display_url(source.url.expose_secret());
        // Another file under the same name says nothing about changes to the first one.
        let place = (place, self.file.map(FileId::number));
        let seen = self.seen();
        let used = seen.first.iter().flat_map(|first| &first.used);
        let numbers: Vec<_> = used.map(|used| used.column.entry.map(|entry| entry.number)).collect();
        let row_security = seen.first.as_ref().is_some_and(|first| first.row_security);
        let parts = (
            (place, &source.table, &source.query, &source.filter, &source.key, &source.client, &source.changed_at),
            (numbers, row_security),
        );
        ContentFingerprint::of(format!("{parts:?}").as_bytes())
    }

    /// Rows without a key among the selected ones.
    pub async fn keyless_rows(&self) -> Result<u64, sqlx::Error> {
        let key = self.db.dialect().quote(&self.source.key);
        let sql = format!("select count(*) from {} and t.{key} is null", columns::from_clause(&self.source));
        let rows = self.db.fetch_number(sql).await.map_err(discreet::of_source)?;
        Ok(u64::try_from(rows).unwrap_or(0))
    }

    /// The message for rows that come in another order than requested.
    pub fn disorder(&self) -> SetupError {
        SetupError::new(
            format!(
                "{}: the values of the key column \"{}\" do not come in the order of their UTF-8 bytes",
                columns::place(&self.source),
                self.source.key
            ),
            "nothing was sent; choose a [source] key of numbers or UUIDs, or keep the CRM in a database with encoding UTF8; \
             if keys change while they are read, the next poll goes on by itself",
        )
    }
}

/// A source that fits the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittingSource {
    pub relation: Option<RelationKind>,
    /// Whether row level security applies to this user.
    pub row_security: bool,
    /// Whether the database itself refuses a second row with the same key (and client).
    pub has_unique_key: bool,
    pub columns: Vec<SourceColumn>,
    pub changed_at: Option<ChangedAt>,
}

/// The schema that a reading session finds on PostgreSQL, in its own transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSchema {
    pub(crate) found: CatalogTable,
    pub(crate) columns: Vec<SourceColumn>,
}

impl SourceSchema {
    /// # Errors
    /// The database's.
    pub async fn read(connection: &mut PgConnection, source: &SourceSettings) -> Result<Self, sqlx::Error> {
        let columns = columns::describe_within(connection, source).await?;
        let found = catalog::look_within(connection, source).await?;
        Ok(Self { columns: found.entered(columns), found })
    }

    pub(crate) fn fits(&self, crm: &ConnectedCrm, fitting: &FittingSource) -> bool {
        let CatalogTable { relation, row_security, has_unique_key, .. } = &self.found;
        let has_unique_key = *has_unique_key && crm.has_plain_key(&self.columns);
        let of_table = (*relation, *row_security, has_unique_key);
        of_table == (fitting.relation, fitting.row_security, fitting.has_unique_key) && self.columns == fitting.columns
    }
}

/// Facts about the source that the program remembers between checks while it runs.
#[derive(Debug, Default)]
pub(crate) struct SourceMemory {
    /// The source at the first check that it passed.
    pub(crate) first: Option<SourceShape>,
    /// The last accepted source and its schema fingerprint, where the database tells the fingerprint cheaply.
    pub(crate) fitted: Option<(ContentFingerprint, FittingSource)>,
    /// The start of the last long transaction that was warned of.
    pub(crate) long_open: Option<DateTime<Utc>>,
    /// The earliest time of the next check of shared keys.
    pub(crate) again_at: Option<Instant>,
    /// When rows outside the filter asked for a full compare.
    pub(crate) asked_at: Option<Instant>,
    /// An SQLite file at the last poll.
    pub(crate) file: Option<FileLook>,
}

/// How the content of a source relates to the one that the last poll read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileHistory {
    Continued,
    /// An older content has replaced it.
    TurnedBack,
}

pub(crate) async fn connect(source: &SourceSettings) -> anyhow::Result<SourceDb> {
    let url = source.url.expose_secret();
    SourceDb::open_source(url, source.statement_timeout).await.map_err(|error| unreachable(url, &error))
}

/// The message for a database that cannot be connected to: the place, the reason, the cure.
fn unreachable(url: &str, error: &sqlx::Error) -> anyhow::Error {
    if let Some((what, cure)) = mysql::explain_login(error).filter(|_| db::is_mysql(url)) {
        let what = format!("[source] url: {} cannot be reached: {what}", db::display_url(url));
        return SetupError::new(what, cure).into();
    }
    let is_refused = StatementPooler::is_cause_of(error);
    let known = error.as_database_error().map(|database| failure_cure::cure_error(database).text);
    let known = known.or(is_refused.then_some(StatementPooler::CURE)).or_else(|| failure_cure::cure_connection(error));
    let place = db::server_in_words(url).map(|server| format!(" ({server})")).unwrap_or_default();
    let shown = db::display_url(url);
    let what = match is_refused {
        true => format!("[source] url: {shown} cannot be used: {StatementPooler}"),
        false => {
            format!("[source] url: {shown} cannot be reached{place}: {}", discreet::connection_failure(error))
        }
    };
    let setup = SetupError::new(
        what,
        known
            .unwrap_or("check that the database is running, and the host, database, user and password of [source] url"),
    );
    db::away_or_unfit(error, setup)
}

pub(crate) const HIDDEN_CURE: &str = "give the user of [source] url `bypassrls`, and polling goes on by itself; or, where its policies \
                           let it see every row that is a lead, look at `conversica-sync plan`, and restart the daemon";

pub(crate) const CHANGED_CURE: &str = "change it back, and polling goes on by itself; or, where it is to stay so, make the settings \
                            fit, look at `conversica-sync plan`, and restart the daemon";
