//! Table `instance` (PostgreSQL): the processes that may send from the state, each with its name and its last sign of life.
//! An SQLite state has one at most, which the lock file beside it names.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::db::trusted;
use crate::rules::listed_instance::{ListedInstance, SEEN_WITHIN, instance_name, seen_lately};
use crate::store::lock_holder::{self, LockHolder};
use crate::store::server_clock::SERVER_MICROS;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// Tells a process from all others that share its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceId(u64);

impl Default for InstanceId {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The least time between two signs of life.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Rows of processes that were killed are deleted when they are this old.
const KEPT: TimeDelta = TimeDelta::days(1);
/// How many processes of one machine and one process number can be named. Two containers may have both in common.
const MOST_OF_A_NAME: u32 = 100;

const LEAVE: &str = "delete from instance where holder = $1";

/// The row of this process.
pub struct InstanceRow {
    id: InstanceId,
    /// The name, and when this process took its right to send: after the row was first written.
    written: Option<(String, i64)>,
    beat_at: Option<Instant>,
}

impl InstanceRow {
    pub fn new(id: InstanceId) -> Self {
        Self { id, written: None, beat_at: None }
    }

    /// Writes the row, for the session that has the right to send. The name is the first that no other running process has.
    pub async fn enter(&mut self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        let kept = self.written.as_ref().map(|(name, _)| name.clone());
        let (host, pid) = (lock_holder::host_name(), std::process::id());
        let since = self.written.as_ref().map(|(_, since)| *since);
        let names = (1..=MOST_OF_A_NAME).map(|number| instance_name(&host, pid, number));
        for name in kept.into_iter().chain(names) {
            let enter = sqlx::query_scalar(trusted(enter_statement()));
            let enter = enter.bind(&name).bind(self.id.to_string()).bind(since);
            if let Some(since) = enter.fetch_optional(&mut *session).await? {
                self.written = Some((name, since));
                break;
            }
        }
        self.beat_at = Some(Instant::now());
        Ok(())
    }

    /// Writes a sign of life, at most every five seconds. A row that is gone, as after a crash of the server, is written again.
    pub async fn beat(&mut self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.beat_at.is_some_and(|at| at.elapsed() < BEAT_INTERVAL) {
            return Ok(());
        }
        let beat = trusted(format!("update instance set last_seen = {SERVER_MICROS} where holder = $1"));
        let beat = sqlx::query(beat).bind(self.id.to_string());
        if beat.execute(&mut *session).await?.rows_affected() == 0 {
            return self.enter(session).await;
        }
        self.beat_at = Some(Instant::now());
        Ok(())
    }

    /// Deletes the row.
    pub async fn leave(&self, session: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(LEAVE).bind(self.id.to_string()).execute(session).await.map(drop)
    }
}

/// Writes the row of name `$1` for process `$2`. A row of another process that has ended, or was not seen lately, is taken over.
/// Returns no row if the name belongs to another running process.
fn enter_statement() -> String {
    let lately = SEEN_WITHIN.num_microseconds().unwrap_or(i64::MAX);
    format!(
        "insert into instance as i (name, holder, pid, since, last_seen) \
         select $1, $2, pg_backend_pid(), coalesce($3::bigint, now.micros), now.micros \
         from (select {SERVER_MICROS} as micros) now \
         on conflict (name) do update set holder = excluded.holder, pid = excluded.pid, since = excluded.since, \
         last_seen = excluded.last_seen \
         where i.holder = excluded.holder or abs(i.last_seen - excluded.last_seen) > {lately} \
         or not exists (select 1 from pg_stat_activity s where s.pid = i.pid) \
         returning i.since"
    )
}

/// The instances whose sessions last, those that began first at the top.
const RUNNING: &str = "select i.name, i.since, i.last_seen, \
     cast(case when exists (select 1 from turn t where t.name = 'poll' and t.holder = i.holder) then 1 else 0 end as bigint) \
     from instance i where exists (select 1 from pg_stat_activity s where s.pid = i.pid) order by i.since, i.name";
/// PostgreSQL's code for reading an unlogged table on a standby, which has no content there.
const UNLOGGED_ON_STANDBY: &str = "0A000";

/// The processes that may send from the state at present.
///
/// # Errors
/// An error of the database.
pub async fn list(db: &StateDb, now: DateTime<Utc>) -> Result<Vec<ListedInstance>, sqlx::Error> {
    if let StateDb::Sqlite(pool) = db {
        return Ok(LockHolder::at(pool.connect_options().get_filename())
            .map(|holder| of_lock(&holder, now))
            .into_iter()
            .collect());
    }
    let rows: Result<Vec<(String, i64, i64, i64)>, _> = db.fetch_all(RUNNING).await;
    let rows = match rows {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNLOGGED_ON_STANDBY) => Vec::new(),
        rows => rows?,
    };
    let listed = rows.into_iter().map(|(name, since, last_seen, polls)| ListedInstance {
        name,
        since: instant(since),
        polls: polls == 1,
        last_seen: instant(last_seen),
    });
    Ok(seen_lately(listed.collect(), now))
}

/// A process that holds the lock is there, and no other can poll.
fn of_lock(holder: &LockHolder, now: DateTime<Utc>) -> ListedInstance {
    let LockHolder { host, pid, since, .. } = holder;
    ListedInstance { name: instance_name(host, *pid, 1), since: *since, polls: true, last_seen: now }
}

/// The name of the instance that has the turn to poll (PostgreSQL), if it has written one.
///
/// # Errors
/// An error of the database.
pub async fn poller(db: &StateDb) -> Result<Option<String>, sqlx::Error> {
    let find = "select i.name from turn t join instance i on i.holder = t.holder where t.name = 'poll'";
    let found: Option<(String,)> = db.fetch_optional(find).await?;
    Ok(found.map(|(name,)| name))
}

/// Deletes what killed processes have left (PostgreSQL).
///
/// # Errors
/// An error of the database.
pub async fn delete_old(db: &StateDb, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if let StateDb::Postgres(_) = db {
        let old = StateStatement::new("delete from instance where last_seen < $1");
        db.execute(old.bind(micros(now - KEPT))).await?;
    }
    Ok(())
}
