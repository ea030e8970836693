//! The right to send from a state. An SQLite state has one sender: a second `run` or `once` is refused with the name of the
//! first. Any number of instances may share a PostgreSQL state, and they know about each other.
//!
//! On SQLite the right is a lock on a file beside the state (see [`super::file_lock`]). On PostgreSQL it is a session advisory
//! lock that all instances share and that the server drops with the session; table `instance` has their names (see
//! [`super::instance`]). Work for one instance at a time is in [`super::turn`].

use std::convert::Infallible;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, PgPool};

use crate::store::instance::{InstanceId, InstanceRow};
use crate::store::server_clock;
use crate::store::state_db::StateDb;

/// The right to send; released when dropped.
pub struct SendRight {
    held: HeldRight,
}

enum HeldRight {
    /// By the lock beside the file.
    File,
    Session {
        session: PgConnection,
        row: InstanceRow,
    },
}

/// Whether other processes may be sending from this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherSenders {
    /// There was none when this was checked.
    Alone,
    Shared,
}

/// The letters "csyncwri"; any number of our own would do. Instances only share this lock, and none takes it exclusively, so a
/// paused instance keeps no other waiting.
const PRESENCE: i64 = 0x6373_796e_6377_7269;

/// The time between two checks of the right in [`SendRight::keep_on`].
const KEEP_INTERVAL: Duration = Duration::from_secs(2);
/// How long a session may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to notice that an instance was killed, before we assume that it is alive.
const FAREWELL: Duration = Duration::from_millis(500);
/// The time between two tries for a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Takes the right to send. On SQLite the lock was taken before the state was opened.
///
/// # Errors
/// An error of the database while it is unreachable.
pub async fn acquire(db: &StateDb, instance: InstanceId) -> anyhow::Result<(SendRight, OtherSenders)> {
    match db {
        StateDb::Sqlite(_) => Ok((SendRight { held: HeldRight::File }, OtherSenders::Alone)),
        StateDb::Postgres(pool) => {
            let mut session = pool.acquire().await?.detach();
            join(&mut session).await?;
            let mut row = InstanceRow::new(instance);
            row.enter(&mut session).await?;
            let start = Instant::now();
            let company = loop {
                if count_present(&mut session).await? == 1 {
                    break OtherSenders::Alone;
                }
                if start.elapsed() >= FAREWELL {
                    break OtherSenders::Shared;
                }
                tokio::time::sleep(LOCK_PAUSE).await;
            };
            Ok((SendRight { held: HeldRight::Session { session, row } }, company))
        }
    }
}

impl SendRight {
    /// Checks that this process still has the right. If its session was lost (the server was restarted, or the connection cut),
    /// takes the right again. Returns how many instances have it: at least 1. Also reads the server's time, and writes a sign of
    /// life.
    ///
    /// # Errors
    /// An error of the database while it is unreachable.
    pub async fn keep(&mut self, db: &StateDb) -> anyhow::Result<u32> {
        let (HeldRight::Session { session, row }, StateDb::Postgres(pool)) = (&mut self.held, db) else { return Ok(1) };
        if !matches!(tokio::time::timeout(PING_TIMEOUT, session.ping()).await, Ok(Ok(()))) {
            *session = pool.acquire().await?.detach();
            join(session).await?;
            row.enter(session).await?;
        }
        server_clock::follow_server_clock(&mut *session).await?;
        row.beat(session).await?;
        Ok(count_present(session).await?)
    }

    /// Keeps the right for as long as this runs. What fails is tried again.
    pub async fn keep_on(&mut self, db: &StateDb) -> Infallible {
        loop {
            tokio::time::sleep(KEEP_INTERVAL).await;
            let _ = self.keep(db).await;
        }
    }

    /// Takes this process off the list of instances. If the server does not answer, the end of the session does that.
    pub async fn leave(&mut self) {
        if let HeldRight::Session { session, row } = &mut self.held {
            let _ = tokio::time::timeout(PING_TIMEOUT, row.leave(session)).await;
        }
    }
}

/// Whether other instances are present at this moment.
pub async fn others_present(db: &StateDb) -> Result<bool, sqlx::Error> {
    match db {
        StateDb::Sqlite(_) => Ok(false),
        StateDb::Postgres(pool) => Ok(instances(pool).await? > 1),
    }
}

/// How many instances are present: at least 1.
async fn count_present(session: &mut PgConnection) -> Result<u32, sqlx::Error> {
    let present: i64 = sqlx::query_scalar(PRESENT).bind(PRESENCE).fetch_one(session).await?;
    Ok(u32::try_from(present).unwrap_or(u32::MAX).max(1))
}

/// The same, for a process that is no instance.
pub async fn instances(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(PRESENT).bind(PRESENCE).fetch_one(pool).await
}

const PRESENT: &str = "select count(*) from pg_locks where locktype = 'advisory' and granted and mode = 'ShareLock' and objsubid = 1 \
     and database = (select oid from pg_database where datname = current_database()) \
     and classid = ($1 >> 32)::oid and objid = ($1 & 4294967295)::oid";

/// Takes the presence lock, shared.
async fn join(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_lock_shared($1)").bind(PRESENCE).execute(session).await.map(drop)
}
