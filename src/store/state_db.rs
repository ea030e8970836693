//! Our own state: one SQLite file, or one schema of a PostgreSQL database. Opening, creating and migrating it.
//!
//! The customer's database has its own type, [`crate::source::source_db::SourceDb`].

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgPool, SqlitePool};

use crate::db::{
    ACQUIRE_TIMEOUT, LOCK_TIMEOUT, POSTGRES_VERSION, SQLITE_VERSION, display_url, is_damage, is_outage, named_version,
    sqlite_path,
};
use crate::error::SetupError;
use crate::store::postgres::{create_schema, state_pool};
use crate::store::state_failure::state_unusable;
use crate::store::{stray_log, write_mark};

/// A pool of connections to the state.
#[derive(Debug, Clone)]
pub enum StateDb {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// SQLite's write-ahead log is cut to this many bytes after a long transaction has been copied into the file; a batch needs less.
const LOG_KEPT: u64 = 64 << 20;
/// How long another process may take to create or migrate a state before the state counts as an old one.
const BEING_MADE: Duration = Duration::from_secs(2);

impl StateDb {
    /// Opens the state for writing. Creates it if it is missing, and migrates it if it is old.
    ///
    /// # Errors
    /// [`SetupError`] when the directory cannot be written, or the state was written by a newer version.
    pub async fn open_state(url: &str) -> anyhow::Result<Self> {
        stray_log::refuse_stray_log(url)?;
        let db = match sqlite_path(url) {
            Some(path) => {
                create_private_file(&path)?;
                let options = sqlite_options(url)?
                    .journal_mode(SqliteJournalMode::Wal)
                    // FULL, not NORMAL: a claim has to be on the disk before its request leaves, power cuts included.
                    .synchronous(SqliteSynchronous::Full)
                    // In KiB. The rows of a batch are close together; with the default of 2 MiB most were read twice.
                    .pragma("cache_size", "-4096")
                    .pragma("secure_delete", "on") // Who is erased leaves no bytes behind in the file.
                    // Otherwise SQLite makes and removes a file for nearly each batch of updates.
                    .pragma("temp_store", "memory")
                    // In bytes. A first run writes a log as large as the state; without this limit it would keep that disk space
                    // for ever.
                    .pragma("journal_size_limit", LOG_KEPT.to_string())
                    // Batches have many sizes, and each size needs its own statement.
                    .statement_cache_capacity(400);
                let pool = SqlitePoolOptions::new()
                    // One connection: there is one writer at a time in any case, and waiting in the pool is cheaper than in
                    // SQLite, which sleeps and tries again. Caches and statements exist once.
                    .max_connections(1)
                    // A file does not hang up. A removed file is gone for good once the last connection to it closes.
                    .test_before_acquire(false)
                    .idle_timeout(None)
                    .max_lifetime(None)
                    // SQLite itself rolls back a commit that finds no room. sqlx does not notice and would treat the connection
                    // as inside a transaction for ever. A ping waits for a pending rollback.
                    .before_acquire(|connection, _| {
                        Box::pin(async move {
                            if connection.is_in_transaction() {
                                connection.ping().await?;
                            }
                            Ok(!connection.is_in_transaction())
                        })
                    })
                    .acquire_timeout(ACQUIRE_TIMEOUT);
                StateDb::Sqlite(pool.connect_with(options).await.map_err(|e| state_unusable(url, &e))?)
            }
            None => {
                let pool = state_pool(url).await?;
                create_schema(&pool, url).await?;
                StateDb::Postgres(pool)
            }
        };
        db.migrate(url).await.map_err(|error| {
            let failure = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
            let outage = failure.filter(|e| is_outage(e) || is_damage(e));
            outage.map(|outage| state_unusable(url, outage)).unwrap_or(error)
        })?;
        if let StateDb::Postgres(pool) = &db {
            write_mark::write_missing_mark(pool).await.map_err(|error| state_unusable(url, &error))?;
        }
        Ok(db)
    }

    /// Opens an existing state for writing; never creates a file.
    ///
    /// # Errors
    /// As [`Self::open_state`], and an error if there is no file.
    pub async fn open_existing_state(url: &str) -> anyhow::Result<Self> {
        stray_log::refuse_stray_log(url)?;
        if let Some(path) = sqlite_path(url) {
            if !path.exists() {
                let cure = "put it back; `conversica-sync status` says more";
                return Err(SetupError::new(format!("there is no state file {}", path.display()), cure).into());
            }
            stray_log::remember_file(&path);
        }
        Self::open_state(url).await
    }

    /// Opens the state for reading only; `None` when there is none yet. Creates nothing.
    ///
    /// # Errors
    /// [`SetupError`] when it was written by another version than this one.
    pub async fn open_state_read_only(url: &str) -> anyhow::Result<Option<Self>> {
        let Some(db) = Self::open_any_state_read_only(url).await? else { return Ok(None) };
        let start = std::time::Instant::now();
        // Another process may be creating or migrating it at this moment.
        while db.newest_migration().await? < newest_known() {
            if start.elapsed() > BEING_MADE {
                return Err(SetupError::new(
                    format!("the state at {} was written by an older conversica-sync", display_url(url)),
                    "start `conversica-sync run` or `once`, which bring it up to date; a backup first does no harm",
                )
                .into());
            }
            tokio::time::sleep(BEING_MADE / 20).await;
        }
        Ok(Some(db))
    }

    /// Whether there is a state, of any version.
    pub async fn state_exists(url: &str) -> anyhow::Result<bool> {
        let Some(db) = Self::open_any_state_read_only(url).await? else { return Ok(false) };
        db.close().await;
        Ok(true)
    }

    async fn open_any_state_read_only(url: &str) -> anyhow::Result<Option<Self>> {
        stray_log::refuse_stray_log(url)?;
        let db = match sqlite_path(url) {
            Some(path) if !path.exists() => return Ok(None),
            Some(_) => {
                // Not `read_only`: a reader of a WAL file may have to create its shared-memory file.
                let options = sqlite_options(url)?.pragma("query_only", "on");
                let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(ACQUIRE_TIMEOUT);
                StateDb::Sqlite(pool.connect_with(options).await.map_err(|e| state_unusable(url, &e))?)
            }
            None => StateDb::Postgres(state_pool(url).await?),
        };
        let made = db.has_table("lead").await.map_err(|error| match db {
            // Opening an SQLite file reads nothing. A wrong file shows at the first statement.
            StateDb::Sqlite(_) => state_unusable(url, &error),
            StateDb::Postgres(_) => error.into(),
        })?;
        if !made {
            return Ok(None);
        }
        db.refuse_newer(url).await?;
        Ok(Some(db))
    }

    /// An empty state in memory: `plan` compares with it before there is a state.
    pub async fn open_state_in_memory() -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new().in_memory(true).disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        // The pool replaces a connection that was dropped in the middle of a statement; the new connection begins empty too.
        let pool = pool.after_connect(|connection, _| {
            Box::pin(async move { SQLITE_MIGRATIONS.run_direct(None, connection, false).await.map_err(Into::into) })
        });
        Ok(StateDb::Sqlite(pool.connect_with(options).await?))
    }

    /// How a writing transaction begins. On SQLite it takes the write lock at once: a transaction that reads first and writes
    /// later can fail with `SQLITE_BUSY_SNAPSHOT`, which no busy time-out covers.
    pub fn begin_write(&self) -> &'static str {
        match self {
            StateDb::Sqlite(_) => "begin immediate",
            StateDb::Postgres(_) => "begin",
        }
    }

    /// With several workers on a table, PostgreSQL can skip rows that another worker is claiming. SQLite has one writer at a time
    /// and no such clause.
    pub fn skip_locked(&self) -> &'static str {
        match self {
            StateDb::Sqlite(_) => "",
            StateDb::Postgres(_) => "for update skip locked",
        }
    }

    /// A statement that keeps other instances from claiming until the transaction ends. SQLite has one writer at a time.
    pub fn claim_lock(&self) -> Option<&'static str> {
        match self {
            StateDb::Sqlite(_) => None,
            // The letters "csyncclm"; another lock is in `store::writer`.
            StateDb::Postgres(_) => Some("select pg_advisory_xact_lock(7166204947097414765)"),
        }
    }

    /// What a claim asks in addition: whether the state was restored, and its leads are not held yet.
    pub(crate) fn claim_condition(&self) -> &'static str {
        match self {
            StateDb::Sqlite(_) => "",
            StateDb::Postgres(_) => write_mark::IS_INTACT,
        }
    }

    /// Statements for the transaction that holds the leads of a restored state.
    pub(crate) fn accept_statements(&self) -> &'static [&'static str] {
        match self {
            StateDb::Sqlite(_) => &[],
            StateDb::Postgres(_) => &[write_mark::WRITE, write_mark::END_POLL],
        }
    }

    /// A statement that says whether this instance may apply stored posts until its transaction ends. SQLite has one writer at a
    /// time.
    pub fn apply_lock(&self) -> Option<&'static str> {
        match self {
            StateDb::Sqlite(_) => None,
            // The letters "csyncapp"; see `claim_lock`.
            StateDb::Postgres(_) => Some("select pg_try_advisory_xact_lock(7166204947097284720)"),
        }
    }

    /// The engine and its version: `SQLite 3.46.0`, `PostgreSQL 15.8`.
    pub async fn engine_version(&self) -> Result<String, sqlx::Error> {
        Ok(match self {
            StateDb::Sqlite(pool) => named_version("SQLite", sqlx::query_scalar(SQLITE_VERSION).fetch_one(pool).await?),
            StateDb::Postgres(pool) => {
                named_version("PostgreSQL", sqlx::query_scalar(POSTGRES_VERSION).fetch_one(pool).await?)
            }
        })
    }

    pub async fn close(&self) {
        match self {
            StateDb::Sqlite(pool) => pool.close().await,
            StateDb::Postgres(pool) => pool.close().await,
        }
    }

    async fn migrate(&self, url: &str) -> anyhow::Result<()> {
        self.refuse_newer(url).await?;
        match self {
            StateDb::Sqlite(pool) => SQLITE_MIGRATIONS.run(pool).await,
            StateDb::Postgres(pool) => POSTGRES_MIGRATIONS.run(pool).await,
        }
        .with_context(|| format!("bringing the state at {} up to date", display_url(url)))
    }

    async fn has_table(&self, name: &str) -> Result<bool, sqlx::Error> {
        let tables: i64 = match self {
            StateDb::Sqlite(pool) => {
                let sql = "select count(*) from sqlite_master where type = 'table' and name = $1";
                sqlx::query_scalar(sql).bind(name).fetch_one(pool).await?
            }
            StateDb::Postgres(pool) => {
                let sql = "select count(*) from information_schema.tables \
                           where table_schema = current_schema() and table_name = $1";
                sqlx::query_scalar(sql).bind(name).fetch_one(pool).await?
            }
        };
        Ok(tables > 0)
    }

    /// The number of the newest migration that was applied to the state; 0 for none.
    pub async fn newest_migration(&self) -> Result<i64, sqlx::Error> {
        if !self.has_table("_sqlx_migrations").await? {
            return Ok(0);
        }
        let (newest,): (Option<i64>,) = self.fetch_one("select max(version) from _sqlx_migrations").await?;
        Ok(newest.unwrap_or(0))
    }

    /// Migrations only go forward, so a state written by a newer version is refused.
    async fn refuse_newer(&self, url: &str) -> anyhow::Result<()> {
        let (newest, known) = (self.newest_migration().await?, newest_known());
        if newest > known {
            return Err(SetupError::new(
                format!(
                    "the state at {} was written by a newer conversica-sync (its schema is number {}, this program knows \
                     up to {known})",
                    display_url(url),
                    newest
                ),
                "install that newer version again, or point [state] url at a backup taken before the upgrade",
            )
            .into());
        }
        Ok(())
    }
}

/// The newest compiled-in migration; both engines have the same numbers.
fn newest_known() -> i64 {
    SQLITE_MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0)
}

static SQLITE_MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// How many migrations are compiled in, for SQLite and for PostgreSQL. On stable Rust the `migrate!` macro does not notice a new
/// file; a test compares this with the folder.
pub fn embedded_migrations() -> (usize, usize) {
    (SQLITE_MIGRATIONS.iter().count(), POSTGRES_MIGRATIONS.iter().count())
}

fn sqlite_options(url: &str) -> anyhow::Result<SqliteConnectOptions> {
    Ok(SqliteConnectOptions::from_str(url)
        .map_err(|error| SetupError::new(format!("[state] url is not an SQLite URL: {error}"), URL_CURE))?
        .foreign_keys(false)
        .busy_timeout(LOCK_TIMEOUT)
        .disable_statement_logging())
}

const URL_CURE: &str = "write it as sqlite:///absolute/path.db or postgres://user@host/database";

/// The state holds names and addresses, so its file is created for the service's user alone, before SQLite opens it.
fn create_private_file(path: &Path) -> Result<(), SetupError> {
    use std::os::unix::fs::OpenOptionsExt;
    if path.exists() {
        return Ok(());
    }
    let created = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    created.map(drop).map_err(|error| {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        SetupError::new(
            format!("the state file {} cannot be created: {error}", path.display()),
            format!(
                "make the directory {} and give it to the user that runs conversica-sync, or set [state] url to a file in a \
                 directory that user can write",
                directory.display()
            ),
        )
    })
}
