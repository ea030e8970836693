//! The right to send from a state. An SQLite state has one sender: a second `run` or `once` is refused with the name of the
//! first. Any number of instances may share a PostgreSQL state, and they know about each other.
//!
//! On SQLite the right is a lock on a file beside the state (see [`super::file_lock`]). On PostgreSQL it is a session advisory
//! lock that all instances share and that the server drops with the session; a second one shows the instance's mapping, and table
//! `instance` has the names (see [`super::instance`]). Work for one instance at a time is in [`super::turn`].

use std::convert::Infallible;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, PgPool};

use crate::conversica::lead::ContentFingerprint;
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
        locks: PresenceLocks,
        row: InstanceRow,
    },
}

/// What an instance shows to the others by locks of its session: that it is present, and which mapping it has.
#[derive(Debug, Clone, Copy)]
struct PresenceLocks {
    mapping: i32,
}

impl PresenceLocks {
    /// `mapping` is the mapping's fingerprint.
    fn of(mapping: &str) -> Self {
        let [a, b, c, d, ..] = ContentFingerprint::of(mapping.as_bytes()).0;
        Self { mapping: i32::from_be_bytes([a, b, c, d]) }
    }

    /// Takes both locks, shared. The one of the mapping first: an instance that is seen as present is also seen with its mapping.
    async fn take(self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sql = "select pg_advisory_lock_shared($1, $2)";
        sqlx::query(sql).bind(MAPPING).bind(self.mapping).execute(&mut *session).await?;
        let sql = "select pg_advisory_lock_shared($1)";
        sqlx::query(sql).bind(PRESENCE).execute(session).await.map(drop)
    }
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
/// The letters "csym": the first number of the locks that show mappings.
const MAPPING: i32 = 0x6373_796d;

/// The time between two checks of the right in [`SendRight::keep_on`].
const KEEP_INTERVAL: Duration = Duration::from_secs(2);
/// How long a session may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to notice that an instance was killed, before we assume that it is alive.
const FAREWELL: Duration = Duration::from_millis(500);
/// The time between two tries for a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Takes the right to send, as an instance with the mapping of that fingerprint. On SQLite the lock was taken before the state
/// was opened.
///
/// # Errors
/// An error of the database while it is unreachable.
pub async fn acquire(db: &StateDb, instance: InstanceId, mapping: &str) -> anyhow::Result<(SendRight, OtherSenders)> {
    match db {
        StateDb::Sqlite(_) => Ok((SendRight { held: HeldRight::File }, OtherSenders::Alone)),
        StateDb::Postgres(pool) => {
            let mut session = pool.acquire().await?.detach();
            let locks = PresenceLocks::of(mapping);
            locks.take(&mut session).await?;
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
            Ok((SendRight { held: HeldRight::Session { session, locks, row } }, company))
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
        let (HeldRight::Session { session, locks, row }, StateDb::Postgres(pool)) = (&mut self.held, db) else {
            return Ok(1);
        };
        if !matches!(tokio::time::timeout(PING_TIMEOUT, session.ping()).await, Ok(Ok(()))) {
            *session = pool.acquire().await?.detach();
            locks.take(session).await?;
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
        if let HeldRight::Session { session, row, .. } = &mut self.held {
            let _ = tokio::time::timeout(PING_TIMEOUT, row.leave(session)).await;
        }
    }
}

/// How many instances are present at this moment that have the mapping of that fingerprint, or may have it: an instance of an
/// earlier version of the program does not show its mapping.
pub async fn instances_that_may_have(db: &StateDb, mapping: &str) -> Result<i64, sqlx::Error> {
    match db {
        StateDb::Sqlite(_) => Ok(0),
        StateDb::Postgres(pool) => {
            let locks = PresenceLocks::of(mapping);
            sqlx::query_scalar(MAY_HAVE).bind(MAPPING).bind(locks.mapping).bind(PRESENCE).fetch_one(pool).await
        }
    }
}

/// How many other instances are present at this moment; an instance asks.
pub async fn other_instances(db: &StateDb) -> Result<i64, sqlx::Error> {
    match db {
        StateDb::Sqlite(_) => Ok(0),
        StateDb::Postgres(pool) => Ok((instances(pool).await? - 1).max(0)),
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

const MAY_HAVE: &str = "select count(*) filter (where objsubid = 2 and objid = $2::int4::oid) \
     + greatest(0, count(*) filter (where objsubid = 1) - count(*) filter (where objsubid = 2)) \
     from pg_locks where locktype = 'advisory' and granted and mode = 'ShareLock' \
     and database = (select oid from pg_database where datname = current_database()) \
     and (objsubid = 2 and classid = $1::int4::oid \
     or objsubid = 1 and classid = ($3 >> 32)::oid and objid = ($3 & 4294967295)::oid)";
