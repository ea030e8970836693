//! Table `writeback`: events that wait to be written to the CRM, and the tries so far.
//!
//! The events of one lane are written in their order: an unfinished event delays later events of its lane only.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _};

use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::db::trusted;
use crate::horizon;
use crate::rules::heard_event::{StoredConversation, WaitingEvent};
use crate::store::state_db::{StateDb, on_state};
use crate::store::{instant, micros};

/// An event that the CRM's database rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedEvent {
    pub seq: i64,
    /// When it is retried; `None`: only after an operator asks for it.
    pub due_at: Option<DateTime<Utc>>,
    pub detail: String,
}

/// A dead letter, which waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedEvent {
    pub seq: i64,
    pub kind: PostKind,
    pub lead: LeadId,
    pub attempts: i64,
    pub since: DateTime<Utc>,
    pub detail: Option<String>,
    /// Later events in its lane.
    pub behind: i64,
}

/// Events of one batch, and bytes of their bodies.
const BATCH: i64 = 500;
const BATCH_BYTES: i64 = 8 * 1024 * 1024;

/// The events that can be written now, in order: of each lane up to the first that is not due. No event waits longer than
/// `longest` for its retry; a later time was written by a clock that ran ahead.
pub async fn due(db: &StateDb, longest: Duration, now: DateTime<Utc>) -> Result<Vec<WaitingEvent>, sqlx::Error> {
    let sql = format!(
        "with due as ( \
           select w.event_seq, w.lane, w.attempts from writeback w where w.status = 'waiting' and (w.due_at <= $1 or w.due_at > $2) \
           and not exists (select 1 from writeback b where b.lane = w.lane and b.event_seq < w.event_seq \
             and (b.status <> 'waiting' or b.due_at > $1 and b.due_at <= $2)) \
           order by w.event_seq limit {BATCH} \
         ), sized as ( \
           select d.event_seq, d.lane, d.attempts, \
             cast(sum(length(e.body)) over (order by d.event_seq) as bigint) - length(e.body) as before \
           from due d join event e on e.seq = d.event_seq \
         ) \
         select s.event_seq, s.lane, s.attempts, e.kind, e.id, e.client_id, e.received_at, e.body, e.content_hash, e.effect, \
           c.picture, c.first_heard_at, c.last_heard_at \
         from sized s join event e on e.seq = s.event_seq \
         left join conversation c on c.id = e.id and c.client_id = e.client_id and e.kind <> 'chat_lead' \
         where s.before < {BATCH_BYTES} order by s.event_seq"
    );
    on_state!(db, pool => {
        let rows = sqlx::query(trusted(sql))
            .bind(micros(now)).bind(micros(horizon::latest(longest, now))).fetch_all(pool).await?;
        rows.iter().map(|row| {
            let conversation = match row.try_get::<Option<String>, _>(10)? {
                None => None,
                Some(picture) => Some(StoredConversation {
                    picture,
                    first_heard_at: instant(row.try_get(11)?),
                    last_heard_at: instant(row.try_get(12)?),
                }),
            };
            Ok(WaitingEvent {
                seq: row.try_get(0)?,
                lane: row.try_get(1)?,
                attempts: row.try_get(2)?,
                kind: kind_of(row.try_get(3)?)?,
                lead: LeadId { id: row.try_get(4)?, client_id: row.try_get(5)? },
                received_at: instant(row.try_get(6)?),
                body: row.try_get(7)?,
                key: hex(row.try_get(8)?),
                effect: row.try_get(9)?,
                conversation,
            })
        }).collect()
    })
}

/// When the next event becomes due.
pub async fn next_due(db: &StateDb, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let sql = "select min(due_at) from writeback where status = 'waiting' and due_at > $1";
    let next: Option<i64> = on_state!(db, pool => sqlx::query_scalar(sql).bind(micros(now)).fetch_one(pool).await)?;
    Ok(next.map(instant))
}

/// Deletes events that were written.
pub async fn done(db: &StateDb, seqs: &[i64]) -> Result<(), sqlx::Error> {
    if seqs.is_empty() {
        return Ok(());
    }
    // A list as one value, in the form of each engine.
    match db {
        StateDb::Sqlite(pool) => {
            let sql = "delete from writeback where event_seq in (select value from json_each($1))";
            sqlx::query(sql).bind(serde_json::json!(seqs).to_string()).execute(pool).await.map(drop)
        }
        StateDb::Postgres(pool) => {
            let sql = "delete from writeback where event_seq = any($1)";
            sqlx::query(sql).bind(seqs).execute(pool).await.map(drop)
        }
    }
}

/// Stores events that were rejected.
pub async fn failed(db: &StateDb, failed: &[FailedEvent], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if failed.is_empty() {
        return Ok(());
    }
    on_state!(db, pool => {
        let mut sql = QueryBuilder::new("with failed (seq, status, due_at, detail) as (");
        sql.push_values(failed, |mut row, failed| {
            row.push_bind(failed.seq)
                .push_bind(if failed.due_at.is_some() { "waiting" } else { "stopped" })
                .push_bind(micros(failed.due_at.unwrap_or(now)))
                .push_bind(&failed.detail);
        });
        sql.push(") update writeback set attempts = attempts + 1, status = f.status, due_at = f.due_at, detail = f.detail, \
                  first_failed_at = coalesce(first_failed_at, ");
        sql.push_bind(micros(now)).push(") from failed f where event_seq = f.seq");
        sql.build().execute(pool).await?;
        Ok(())
    })
}

/// Dead letters, oldest first.
pub async fn stopped(db: &StateDb) -> Result<Vec<StoppedEvent>, sqlx::Error> {
    let sql = "select w.event_seq, e.kind, e.id, e.client_id, w.attempts, coalesce(w.first_failed_at, w.due_at), w.detail, \
               (select count(*) from writeback b where b.lane = w.lane and b.event_seq > w.event_seq) \
               from writeback w join event e on e.seq = w.event_seq where w.status = 'stopped' order by w.event_seq";
    on_state!(db, pool => {
        let rows = sqlx::query(sql).fetch_all(pool).await?;
        rows.iter().map(|row| Ok(StoppedEvent {
            seq: row.try_get(0)?,
            kind: kind_of(row.try_get(1)?)?,
            lead: LeadId { id: row.try_get(2)?, client_id: row.try_get(3)? },
            attempts: row.try_get(4)?,
            since: instant(row.try_get(5)?),
            detail: row.try_get(6)?,
            behind: row.try_get(7)?,
        })).collect()
    })
}

/// Queues dead letters again: those of these leads and these events, or all. Returns how many.
pub async fn retry(db: &StateDb, which: Option<(&[String], &[i64])>, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    on_state!(db, pool => {
        let mut sql = QueryBuilder::new(
            "update writeback set status = 'waiting', attempts = 0, first_failed_at = null, due_at = ",
        );
        sql.push_bind(micros(now)).push(" where status = 'stopped'");
        if let Some((ids, seqs)) = which {
            sql.push(" and (1 = 0");
            for id in ids {
                // Chat leads have no id, so a blank id does not select them.
                sql.push(" or event_seq in (select seq from event where kind <> 'chat_lead' and id = ").push_bind(id).push(")");
            }
            for seq in seqs {
                sql.push(" or event_seq = ").push_bind(*seq);
            }
            sql.push(")");
        }
        Ok(sql.build().execute(pool).await?.rows_affected())
    })
}

fn kind_of(name: &str) -> Result<PostKind, sqlx::Error> {
    PostKind::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("no such kind of event: {name}").into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
