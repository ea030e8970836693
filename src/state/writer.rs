//! One writer a state: a second `run` or `once` is refused, and told who has it.
//!
//! On SQLite a lock on a file beside the state, which the kernel drops with the process, however it ends; on PostgreSQL a
//! session advisory lock.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::Connection;

use crate::db::{self, Db};
use crate::error::SetupError;

/// Holds the right to write; gives it back when dropped.
pub struct Writer {
    held: Held,
}

enum Held {
    File { _lock: File },
    Session { connection: sqlx::PgConnection, url: String },
}

/// Any number will do, as long as it is ours: the first bytes of SHA-256("conversica-sync writer").
const ADVISORY_LOCK: i64 = 0x6373_796e_6377_7269;

/// How long a session may take to say that it is there.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Takes the right to write.
///
/// # Errors
/// [`SetupError`] when another process has it.
pub async fn acquire(db: &Db, url: &str, command: &str, now: DateTime<Utc>) -> anyhow::Result<Writer> {
    match db {
        Db::Sqlite(_) => {
            let mut path = db::sqlite_path(url).context("an SQLite state has a file")?.into_os_string();
            path.push(".lock");
            let lock = lock_file(PathBuf::from(path), command, now)?;
            Ok(Writer { held: Held::File { _lock: lock } })
        }
        Db::Postgres(pool) => {
            let connection = lock_session(pool, url).await?;
            Ok(Writer { held: Held::Session { connection, url: url.to_owned() } })
        }
    }
}

impl Writer {
    /// Looks whether the right is still ours, and takes it again where it went with the session that held it: the server
    /// was restarted, or the connection cut.
    ///
    /// # Errors
    /// [`SetupError`] when another process has it by now; the database's error while it is away.
    pub async fn keep(&mut self, db: &Db) -> anyhow::Result<()> {
        let (Held::Session { connection, url }, Db::Postgres(pool)) = (&mut self.held, db) else { return Ok(()) };
        if matches!(tokio::time::timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(()))) {
            return Ok(());
        }
        *connection = lock_session(pool, url).await?;
        Ok(())
    }
}

async fn lock_session(pool: &sqlx::PgPool, url: &str) -> anyhow::Result<sqlx::PgConnection> {
    let mut connection = pool.acquire().await?.detach();
    let mine: bool =
        sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(ADVISORY_LOCK).fetch_one(&mut connection).await?;
    if mine {
        return Ok(connection);
    }
    let holder: Option<String> = sqlx::query_scalar(
        "select 'process ' || a.pid || coalesce(' from ' || host(a.client_addr), '') || ', since ' || \
         to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') from pg_locks l join pg_stat_activity a using (pid) \
         where l.locktype = 'advisory' and l.granted and a.datname = current_database() \
         and l.objid = ($1 & 4294967295)::oid limit 1",
    )
    .bind(ADVISORY_LOCK)
    .fetch_optional(&mut connection)
    .await?;
    Err(refused(&db::display_url(url), &holder.unwrap_or_else(|| "another session".to_owned())).into())
}

fn lock_file(path: PathBuf, command: &str, now: DateTime<Utc>) -> anyhow::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("opening the lock file {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            let holder = format!(
                "process {} (conversica-sync {command}), since {}",
                std::process::id(),
                now.format("%F %T UTC")
            );
            // For the message to the next one only: a full disk is no reason to give up the lock.
            drop(file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())));
            Ok(file)
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.rewind()?;
            file.read_to_string(&mut holder)?;
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            Err(refused(&path.with_extension("").display().to_string(), &holder).into())
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

fn refused(state: &str, holder: &str) -> SetupError {
    SetupError::new(
        format!("the state at {state} is in use by {holder}"),
        "one process at a time sends from a state: stop that one first, or look at it with `conversica-sync status`",
    )
}
