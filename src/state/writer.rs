//! Who may send from a state. An SQLite state has one sender: a second `run` or `once` is refused, and told who has it. A
//! PostgreSQL state is shared by any number of instances, which know of each other.
//!
//! On SQLite a lock on a file beside the state (see [`super::file_lock`]); on PostgreSQL session advisory locks, which the server
//! drops with the session.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, PgPool};

use crate::db::Db;

/// The right to send; given back when dropped.
pub struct Writer {
    held: Held,
}

enum Held {
    /// By the lock beside the file.
    File,
    Session(PgConnection),
}

/// Whether somebody else may be sending from this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Nobody at the moment when it was asked.
    Alone,
    Shared,
}

/// Any number will do, as long as it is ours: the letters "csyncwri". Every instance holds it shared, and none for itself
/// alone: an instance that is paused while it holds this keeps no other waiting.
const PRESENCE: i64 = 0x6373_796e_6377_7269;
/// The letters "csyncpol". Held by the instance that polls.
const POLLING: i64 = 0x6373_796e_6370_6f6c;
/// The letters "csyncwbk". Held, by a transaction, by the instance that writes to the CRM what Conversica has sent.
pub(super) const WRITEBACK: i64 = 0x6373_796e_6377_626b;

/// How long a session may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to notice that an instance was killed, before we take it for alive.
const FAREWELL: Duration = Duration::from_millis(500);
/// Between two tries for a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Takes the right to send. On SQLite the lock was taken before the state was opened.
///
/// # Errors
/// The database's, while it is away.
pub async fn acquire(db: &Db) -> anyhow::Result<(Writer, Company)> {
    match db {
        Db::Sqlite(_) => Ok((Writer { held: Held::File }, Company::Alone)),
        Db::Postgres(pool) => {
            let mut session = pool.acquire().await?.detach();
            join(&mut session).await?;
            let start = Instant::now();
            let company = loop {
                if count_present(&mut session).await? == 1 {
                    break Company::Alone;
                }
                if start.elapsed() >= FAREWELL {
                    break Company::Shared;
                }
                tokio::time::sleep(LOCK_PAUSE).await;
            };
            Ok((Writer { held: Held::Session(session) }, company))
        }
    }
}

impl Writer {
    /// Looks whether the right is still ours, takes it again where it went with the session that held it (the server was
    /// restarted, or the connection cut), and counts who has it: at least 1.
    ///
    /// # Errors
    /// The database's, while it is away.
    pub async fn keep(&mut self, db: &Db) -> anyhow::Result<u32> {
        let (Held::Session(session), Db::Postgres(pool)) = (&mut self.held, db) else { return Ok(1) };
        if !matches!(tokio::time::timeout(PING_TIMEOUT, session.ping()).await, Ok(Ok(()))) {
            *session = pool.acquire().await?.detach();
            join(session).await?;
        }
        Ok(count_present(session).await?)
    }
}

/// The right to poll: one instance reads at a time.
pub struct Turn {
    session: Option<PgConnection>,
}

impl Turn {
    pub fn new() -> Self {
        Self { session: None }
    }

    /// Takes the turn unless another instance has it. On SQLite there is no other.
    pub async fn try_take(&mut self, db: &Db) -> anyhow::Result<bool> {
        let Db::Postgres(pool) = db else { return Ok(true) };
        let mut session = match self.session.take() {
            Some(session) => session,
            None => pool.acquire().await?.detach(),
        };
        let mine = try_lock(&mut session, POLLING).await?;
        self.session = Some(session);
        Ok(mine)
    }

    /// Whether other instances are there at this very moment. To be asked by whoever has the turn.
    pub async fn others_present(&mut self) -> Result<bool, sqlx::Error> {
        match &mut self.session {
            Some(session) => Ok(count_present(session).await? > 1),
            None => Ok(false),
        }
    }

    /// Gives the turn back. A session that is lost has given it back already.
    pub async fn give_back(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        if sqlx::query("select pg_advisory_unlock($1)").bind(POLLING).execute(&mut session).await.is_ok() {
            self.session = Some(session);
        }
    }

    /// Takes the turn, waiting for whoever has it.
    pub async fn take(&mut self, db: &Db) -> anyhow::Result<()> {
        let mut said = false;
        while !self.try_take(db).await? {
            if !std::mem::replace(&mut said, true) {
                tracing::info!("another instance is polling; waiting for it");
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Ok(())
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

/// How many instances there are: at least 1.
async fn count_present(session: &mut PgConnection) -> Result<u32, sqlx::Error> {
    let present: i64 = sqlx::query_scalar(PRESENT).bind(PRESENCE).fetch_one(session).await?;
    Ok(u32::try_from(present).unwrap_or(u32::MAX).max(1))
}

/// The same for somebody who is none of them.
pub async fn instances(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(PRESENT).bind(PRESENCE).fetch_one(pool).await
}

const PRESENT: &str = "select count(*) from pg_locks where locktype = 'advisory' and granted and mode = 'ShareLock' and objsubid = 1 \
     and database = (select oid from pg_database where datname = current_database()) \
     and classid = ($1 >> 32)::oid and objid = ($1 & 4294967295)::oid";

async fn try_lock(session: &mut PgConnection, key: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(key).fetch_one(session).await
}

/// Takes the presence lock, shared.
async fn join(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_lock_shared($1)").bind(PRESENCE).execute(session).await.map(drop)
}
