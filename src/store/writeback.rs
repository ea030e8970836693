//! Table `writeback`: events that wait to be written to the CRM, and the tries so far.
//!
//! The events of one lane are written in their order: an unfinished event delays later events of its lane only.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::horizon;
use crate::rules::heard_event::{StoredConversation, WaitingEvent};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
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
    let due = StateStatement::new(sql).bind(micros(now)).bind(micros(horizon::latest(longest, now)));
    db.fetch_all::<WaitingRow>(due).await?.into_iter().map(WaitingRow::waiting).collect()
}

/// A row of [`due`]. The last three are of the conversation, if there is one.
#[derive(sqlx::FromRow)]
struct WaitingRow {
    event_seq: i64,
    lane: String,
    attempts: i64,
    kind: String,
    id: String,
    client_id: String,
    received_at: i64,
    body: Vec<u8>,
    content_hash: Vec<u8>,
    effect: Option<String>,
    picture: Option<String>,
    first_heard_at: Option<i64>,
    last_heard_at: Option<i64>,
}

impl WaitingRow {
    fn waiting(self) -> Result<WaitingEvent, sqlx::Error> {
        let at = |at: Option<i64>| instant(at.unwrap_or_default());
        let conversation = self.picture.map(|picture| StoredConversation {
            picture,
            first_heard_at: at(self.first_heard_at),
            last_heard_at: at(self.last_heard_at),
        });
        Ok(WaitingEvent {
            seq: self.event_seq,
            lane: self.lane,
            attempts: self.attempts,
            kind: kind_of(&self.kind)?,
            lead: LeadId { id: self.id, client_id: self.client_id },
            received_at: instant(self.received_at),
            body: self.body,
            key: hex(&self.content_hash),
            effect: self.effect,
            conversation,
        })
    }
}

/// When the next event becomes due.
pub async fn next_due(db: &StateDb, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let next = StateStatement::new("select min(due_at) from writeback where status = 'waiting' and due_at > $1");
    let (next,): (Option<i64>,) = db.fetch_one(next.bind(micros(now))).await?;
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
    let mut statement = StateStatement::new("with failed (seq, status, due_at, detail) as (");
    statement.push_values(failed, |row, failed| {
        row.push_bind(failed.seq)
            .push_bind(if failed.due_at.is_some() { "waiting" } else { "stopped" })
            .push_bind(micros(failed.due_at.unwrap_or(now)))
            .push_bind(&failed.detail);
    });
    statement.push(
        ") update writeback set attempts = attempts + 1, status = f.status, due_at = f.due_at, detail = f.detail, \
         first_failed_at = coalesce(first_failed_at, ",
    );
    statement.push_bind(micros(now)).push(") from failed f where event_seq = f.seq");
    db.execute(statement).await.map(drop)
}

/// The fields of a [`StoppedEvent`], in its order.
type StoppedRow = (i64, String, String, String, i64, i64, Option<String>, i64);

/// Dead letters, oldest first, at most `limit`.
pub async fn stopped(db: &StateDb, limit: i64) -> Result<Vec<StoppedEvent>, sqlx::Error> {
    // What waits behind an event is counted for the shown events only.
    let sql = "with w as (select * from writeback where status = 'stopped' order by event_seq limit $1) \
               select w.event_seq, e.kind, e.id, e.client_id, w.attempts, coalesce(w.first_failed_at, w.due_at), w.detail, \
               (select count(*) from writeback b where b.lane = w.lane and b.event_seq > w.event_seq) \
               from w join event e on e.seq = w.event_seq order by w.event_seq";
    let rows: Vec<StoppedRow> = db.fetch_all(StateStatement::new(sql).bind(limit)).await?;
    let stopped = |(seq, kind, id, client_id, attempts, since, detail, behind): StoppedRow| {
        let (kind, lead) = (kind_of(&kind)?, LeadId { id, client_id });
        Ok(StoppedEvent { seq, kind, lead, attempts, since: instant(since), detail, behind })
    };
    rows.into_iter().map(stopped).collect()
}

/// Queues dead letters again: those of these leads and these events, or all. Returns how many.
pub async fn retry(db: &StateDb, which: Option<(&[String], &[i64])>, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut statement =
        StateStatement::new("update writeback set status = 'waiting', attempts = 0, first_failed_at = null, due_at = ");
    statement.push_bind(micros(now)).push(" where status = 'stopped'");
    if let Some((ids, seqs)) = which {
        statement.push(" and (1 = 0");
        for id in ids {
            // Chat leads have no id, so a blank id does not select them.
            statement.push(" or event_seq in (select seq from event where kind <> 'chat_lead' and id = ");
            statement.push_bind(id).push(")");
        }
        for seq in seqs {
            statement.push(" or event_seq = ").push_bind(*seq);
        }
        statement.push(")");
    }
    db.execute(statement).await
}

fn kind_of(name: &str) -> Result<PostKind, sqlx::Error> {
    PostKind::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("no such kind of event: {name}").into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
