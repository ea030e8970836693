//! Posts of Conversica for operators: of one lead, in a list, in numbers. Reads only.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::store::instant;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

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

/// A row of [`SELECT`].
#[derive(sqlx::FromRow)]
struct HeardEventRow {
    seq: i64,
    kind: String,
    id: String,
    client_id: String,
    received_at: i64,
    body: Vec<u8>,
    problem: Option<String>,
    mended_as: Option<i64>,
    repeats: i64,
    repeated_at: Option<i64>,
    applied_at: Option<i64>,
    effect: Option<String>,
    changed_at: Option<i64>,
    settled_at: Option<i64>,
    open_opt_out: Option<i64>,
}

impl HeardEventRow {
    fn heard(self) -> Result<HeardEvent, sqlx::Error> {
        Ok(HeardEvent {
            seq: self.seq,
            kind: kind_of(&self.kind)?,
            lead: LeadId { id: self.id, client_id: self.client_id },
            received_at: instant(self.received_at),
            body: self.body,
            problem: self.problem,
            mended_as: self.mended_as,
            repeats: self.repeats,
            repeated_at: self.repeated_at.map(instant),
            applied_at: self.applied_at.map(instant),
            effect: self.effect.and_then(|effect| serde_json::from_str(&effect).ok()),
            is_known: self.changed_at.is_some(),
            settled_at: self.settled_at.map(instant),
            may_be_opt_out: self.open_opt_out.is_some(),
        })
    }
}

const SELECT: &str = "select seq, kind, event.id as id, event.client_id as client_id, received_at, body, problem, mended_as, \
     repeats, repeated_at, applied_at, effect, lead.changed_at as changed_at, event.settled_at as settled_at, \
     (select max(p.seq) from possible_opt_out p where p.event_seq = event.seq and p.settled_at is null) as open_opt_out \
     from event left join lead on lead.id = event.id and lead.client_id = event.client_id where ";

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
    let mut statement = StateStatement::new(SELECT);
    statement.push("seq < ").push_bind(wanted.before.unwrap_or(i64::MAX));
    if let Some(kind) = wanted.kind {
        statement.push(" and kind = ").push_bind(kind.name());
    }
    if wanted.unreadable {
        statement.push(" and problem is not null and mended_as is null and event.settled_at is null");
    }
    if wanted.possible_opt_outs {
        statement.push(" and event.seq in (select event_seq from possible_opt_out where settled_at is null)");
    }
    if let Some(id) = &wanted.id {
        statement.push(" and event.id = ").push_bind(id);
    }
    if let Some(client_id) = &wanted.client_id {
        statement.push(" and event.client_id = ").push_bind(client_id);
    }
    if !wanted.seqs.is_empty() {
        statement.push(" and seq in (").push_list(wanted.seqs.iter().copied()).push(")");
    }
    statement.push(" order by seq desc limit ").push_bind(limit);
    db.fetch_all::<HeardEventRow>(statement).await?.into_iter().map(HeardEventRow::heard).collect()
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
    let picture = StateStatement::new("select picture from conversation where id = $1 and client_id = $2");
    let picture: Option<(String,)> = db.fetch_optional(picture.bind(&lead.id).bind(&lead.client_id)).await?;
    Ok((heard, picture.and_then(|(picture,)| serde_json::from_str(&picture).ok()).unwrap_or_default()))
}

/// The clients with posts about a lead of that id, at most 50.
pub async fn clients(db: &StateDb, id: &str) -> Result<Vec<String>, sqlx::Error> {
    let clients = StateStatement::new(
        "select distinct client_id from event where id = $1 and id <> '' and problem is null order by client_id limit 50",
    );
    let rows: Vec<(String,)> = db.fetch_all(clients.bind(id)).await?;
    Ok(rows.into_iter().map(|(client_id,)| client_id).collect())
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
    Ok(ReceivedNumbers {
        counts: db.fetch_all("select name, count from received_count").await?,
        unreadable: number(
            db,
            "select count(*) from event where problem is not null and mended_as is null and settled_at is null",
        )
        .await?,
        possible_opt_outs: number(
            db,
            "select count(distinct event_seq) from possible_opt_out where settled_at is null",
        )
        .await?,
        writeback: number(db, "select count(*) from writeback").await?,
        stopped: number(db, "select count(*) from writeback where status = 'stopped'").await?,
    })
}

/// How many bytes of unreadable posts wait for the operator.
pub async fn unreadable_bytes(db: &StateDb) -> Result<i64, sqlx::Error> {
    number(
        db,
        "select cast(coalesce(sum(length(body)), 0) as bigint) from event \
         where problem is not null and mended_as is null and settled_at is null",
    )
    .await
}

async fn number(db: &StateDb, text: &'static str) -> Result<i64, sqlx::Error> {
    let (number,) = db.fetch_one(text).await?;
    Ok(number)
}

/// A stored kind. The table admits no other names.
pub(crate) fn kind_of(name: &str) -> Result<PostKind, sqlx::Error> {
    PostKind::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown kind {name:?}").into()))
}
