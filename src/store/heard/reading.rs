//! Posts of Conversica for operators: of one lead, in a list, in numbers. Reads only.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{QueryBuilder, Row as _};

use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::store::instant;
use crate::store::state_db::{StateDb, on_state};

/// An event, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct HeardEvent {
    pub seq: i64,
    pub kind: PostKind,
    pub lead: LeadId,
    pub received_at: DateTime<Utc>,
    pub body: Vec<u8>,
    /// Why it cannot be read.
    pub problem: Option<String>,
    /// For an unreadable event: the event that replaced it.
    pub mended_as: Option<i64>,
    /// Later arrivals of the same content.
    pub repeats: i64,
    pub repeated_at: Option<DateTime<Utc>>,
    pub applied_at: Option<DateTime<Utc>>,
    /// For a Lead Update: its news.
    pub effect: Option<Map<String, Value>>,
    /// Whether the state has a lead of that id.
    pub is_known: bool,
    /// When an operator put the unreadable event aside.
    pub settled_at: Option<DateTime<Utc>>,
    /// The event may withdraw consent, and waits for an operator.
    pub may_be_opt_out: bool,
}

/// A macro, because the two engines' rows are two types.
macro_rules! heard_of {
    ($row:expr) => {
        Ok::<HeardEvent, sqlx::Error>(HeardEvent {
            seq: $row.try_get(0)?,
            kind: kind_of($row.try_get(1)?)?,
            lead: LeadId { id: $row.try_get(2)?, client_id: $row.try_get(3)? },
            received_at: instant($row.try_get(4)?),
            body: $row.try_get(5)?,
            problem: $row.try_get(6)?,
            mended_as: $row.try_get(7)?,
            repeats: $row.try_get(8)?,
            repeated_at: $row.try_get::<Option<i64>, _>(9)?.map(instant),
            applied_at: $row.try_get::<Option<i64>, _>(10)?.map(instant),
            effect: $row.try_get::<Option<&str>, _>(11)?.and_then(|effect| serde_json::from_str(effect).ok()),
            is_known: $row.try_get::<Option<i64>, _>(12)?.is_some(),
            settled_at: $row.try_get::<Option<i64>, _>(13)?.map(instant),
            may_be_opt_out: $row.try_get::<Option<i64>, _>(14)?.is_some(),
        })
    };
}

const SELECT: &str = "select seq, kind, event.id, event.client_id, received_at, body, problem, mended_as, repeats, \
     repeated_at, applied_at, effect, lead.changed_at, event.settled_at, (select max(p.seq) from possible_opt_out p \
     where p.event_seq = event.seq and p.settled_at is null) from event \
     left join lead on lead.id = event.id and lead.client_id = event.client_id where ";

/// Which events are listed, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub kind: Option<PostKind>,
    /// Only unreadable events that were neither fixed nor put aside.
    pub unreadable: bool,
    /// Only events that may withdraw consent and wait for an operator.
    pub possible_opt_outs: bool,
    pub id: Option<String>,
    pub client_id: Option<String>,
    pub seqs: Vec<i64>,
    /// Only events older than this one.
    pub before: Option<i64>,
}

/// A page of events, newest first.
pub async fn list(db: &StateDb, wanted: &EventFilter, limit: i64) -> Result<Vec<HeardEvent>, sqlx::Error> {
    on_state!(db, pool => {
        let mut query = QueryBuilder::new(SELECT);
        query.push("seq < ").push_bind(wanted.before.unwrap_or(i64::MAX));
        if let Some(kind) = wanted.kind {
            query.push(" and kind = ").push_bind(kind.name());
        }
        if wanted.unreadable {
            query.push(" and problem is not null and mended_as is null and event.settled_at is null");
        }
        if wanted.possible_opt_outs {
            query.push(" and event.seq in (select event_seq from possible_opt_out where settled_at is null)");
        }
        if let Some(id) = &wanted.id {
            query.push(" and event.id = ").push_bind(id.as_str());
        }
        if let Some(client_id) = &wanted.client_id {
            query.push(" and event.client_id = ").push_bind(client_id.as_str());
        }
        if !wanted.seqs.is_empty() {
            query.push(" and seq in (");
            let mut list = query.separated(", ");
            for seq in &wanted.seqs {
                list.push_bind(*seq);
            }
            query.push(")");
        }
        query.push(" order by seq desc limit ").push_bind(limit);
        let rows = query.build().fetch_all(pool).await?;
        rows.iter().map(|row| heard_of!(row)).collect()
    })
}

pub async fn one(db: &StateDb, seq: i64) -> Result<Option<HeardEvent>, sqlx::Error> {
    let wanted = EventFilter { seqs: vec![seq], ..EventFilter::default() };
    Ok(list(db, &wanted, 1).await?.pop())
}

/// The limit on a lead's newest events.
const TOLD: i64 = 1000;

/// The events of a lead, oldest first, and the picture that they add up to.
pub async fn of_lead(db: &StateDb, lead: &LeadId) -> Result<(Vec<HeardEvent>, Map<String, Value>), sqlx::Error> {
    let wanted =
        EventFilter { id: Some(lead.id.clone()), client_id: Some(lead.client_id.clone()), ..EventFilter::default() };
    let mut heard = list(db, &wanted, TOLD).await?;
    heard.retain(|heard| heard.problem.is_none() && heard.kind != PostKind::ChatLead);
    heard.reverse();
    let picture: Option<String> = on_state!(db, pool => {
        sqlx::query_scalar("select picture from conversation where id = $1 and client_id = $2")
            .bind(&lead.id).bind(&lead.client_id).fetch_optional(pool).await
    })?;
    Ok((heard, picture.and_then(|picture| serde_json::from_str(&picture).ok()).unwrap_or_default()))
}

/// The clients with posts about a lead of that id, at most 50.
pub async fn clients(db: &StateDb, id: &str) -> Result<Vec<String>, sqlx::Error> {
    on_state!(db, pool => {
        sqlx::query_scalar(
            "select distinct client_id from event where id = $1 and id <> '' and problem is null order by client_id limit 50")
            .bind(id).fetch_all(pool).await
    })
}

/// The numbers of received posts, by the names of table `received_count`, and of waiting ones: unreadable events, events to write
/// to the CRM, and dead letters among those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedNumbers {
    counts: Vec<(String, i64)>,
    pub unreadable: i64,
    pub possible_opt_outs: i64,
    pub writeback: i64,
    pub stopped: i64,
}

impl ReceivedNumbers {
    pub fn count(&self, name: &str) -> i64 {
        self.counts.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
    }
}

pub async fn numbers(db: &StateDb) -> Result<ReceivedNumbers, sqlx::Error> {
    on_state!(db, pool => {
        Ok(ReceivedNumbers {
            counts: sqlx::query_as("select name, count from received_count").fetch_all(pool).await?,
            unreadable: sqlx::query_scalar(
                "select count(*) from event where problem is not null and mended_as is null and settled_at is null")
                .fetch_one(pool).await?,
            possible_opt_outs: sqlx::query_scalar(
                "select count(distinct event_seq) from possible_opt_out where settled_at is null")
                .fetch_one(pool).await?,
            writeback: sqlx::query_scalar("select count(*) from writeback").fetch_one(pool).await?,
            stopped: sqlx::query_scalar("select count(*) from writeback where status = 'stopped'").fetch_one(pool).await?,
        })
    })
}

/// A stored kind. The table admits no other names.
pub(crate) fn kind_of(name: &str) -> Result<PostKind, sqlx::Error> {
    PostKind::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown kind {name:?}").into()))
}
