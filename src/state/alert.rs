//! Table `alert`: what people are to be told of, and how far that has come.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row as _;

use crate::db::{Db, trusted};
use crate::on_db;
use crate::state::{instant, micros};

/// Something to be told, taken by one instance for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub seq: i64,
    pub kind: String,
    /// The lead that it is about; blank where it is about the service.
    pub id: String,
    pub body: String,
    pub created_at: DateTime<Utc>,
    /// Tries, this one included.
    pub attempts: i64,
    /// What the try before came to.
    pub detail: Option<String>,
}

/// What has not been told yet, and is not given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    pub waiting: i64,
    /// Since when the oldest of them waits.
    pub since: Option<DateTime<Utc>>,
}

pub async fn backlog(db: &Db) -> Result<Backlog, sqlx::Error> {
    let sql = "select count(*), min(created_at) from alert where done_at is null";
    let (waiting, since): (i64, Option<i64>) = on_db!(db, pool => sqlx::query_as(sql).fetch_one(pool).await)?;
    Ok(Backlog { waiting, since: since.map(instant) })
}

/// Takes what is due, oldest first. Nobody else has it before `lease_until`, when a crash has given it back.
pub async fn take(
    db: &Db,
    limit: i64,
    lease_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<Taken>, sqlx::Error> {
    let sql = format!(
        "update alert set due_at = $1, attempts = attempts + 1 where seq in ( \
           select seq from alert where done_at is null and due_at <= $2 order by due_at, seq limit $3 {} \
         ) returning seq, kind, id, body, created_at, attempts, detail",
        db.skip_locked()
    );
    on_db!(db, pool => {
        let rows = sqlx::query(trusted(sql)).bind(micros(lease_until)).bind(micros(now)).bind(limit).fetch_all(pool).await?;
        rows.iter().map(|row| Ok(Taken {
            seq: row.try_get(0)?,
            kind: row.try_get(1)?,
            id: row.try_get(2)?,
            body: row.try_get(3)?,
            created_at: instant(row.try_get(4)?),
            attempts: row.try_get(5)?,
            detail: row.try_get(6)?,
        })).collect()
    })
}

/// It is over: told, or given up.
pub async fn over(db: &Db, seq: i64, detail: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let sql = "update alert set done_at = $1, detail = $2 where seq = $3";
    on_db!(db, pool => sqlx::query(sql).bind(micros(now)).bind(detail).bind(seq).execute(pool).await.map(drop))
}

/// It is tried again.
pub async fn again(db: &Db, seq: i64, detail: &str, due_at: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let sql = "update alert set due_at = $1, detail = $2 where seq = $3";
    on_db!(db, pool => sqlx::query(sql).bind(micros(due_at)).bind(detail).bind(seq).execute(pool).await.map(drop))
}
