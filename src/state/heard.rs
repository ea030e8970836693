//! Tables `event`, `conversation`, `writeback` and `alert`: what becomes of what was stored, in one transaction a batch.
//! [`fold`] decides it; [`super::event`] stores it; [`reading`] is for people who ask, [`replay`] for what they have mended.

pub mod fold;
pub mod reading;
pub mod replay;
mod withdraw;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::{Database, Decode, Encode, QueryBuilder, Row as _, Type};

use crate::config::{OnAmbiguous, Settings};
use crate::conversica::heard::Kind;
use crate::conversica::lead::LeadId;
use crate::db::{self, Db};
use crate::on_db;
use crate::state::consent;
use crate::state::delivery::OptOuts;
use crate::state::event::lane;
use crate::state::heard::fold::{Alert, Event, Folded, PossibleOptOut, Stored};
use crate::state::heard::withdraw::withdraw;
use crate::state::lead::{DELIVERED, InOrder};
use crate::state::possible_opt_out;
use crate::state::tombstone;
use crate::state::{instant, micros};

/// Events that one transaction takes.
const AT_ONCE: i64 = 500;
/// Bytes of events that one transaction takes; a single event may have more. To read them takes time, and an SQLite state takes
/// no post meanwhile.
const BYTES_AT_ONCE: i64 = 1 << 20;

/// What a step has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that were taken.
    pub events: usize,
    /// Of them: can no longer be read.
    pub unreadable: usize,
    /// Words about consent.
    pub words: usize,
    /// Damaged posts that may withdraw consent.
    pub possible: usize,
    /// Something waits to be written to the CRM.
    pub writeback: bool,
    /// Somebody is to be told something.
    pub alerts: usize,
    /// Leads that are due to be sent because of it.
    pub due: u64,
}

/// What follows from an event, by the settings.
#[derive(Debug, Clone, Copy)]
pub struct Consequences {
    pub writeback: bool,
    pub alerts: bool,
    pub opt_outs: OptOuts,
    /// A word about a lead ends the wait after an unknown outcome.
    pub ends_wait: bool,
}

impl Consequences {
    pub fn of(settings: &Settings) -> Self {
        Self {
            writeback: settings.writeback.mode != crate::config::WritebackMode::Off,
            alerts: settings.alerts.is_on(),
            opt_outs: OptOuts::of(&settings.consent),
            ends_wait: settings.delivery.on_ambiguous == OnAmbiguous::Wait,
        }
    }
}

/// A row of [`WAITING`] or [`UNEXAMINED`], of either engine.
fn read_event<'r, R>(row: &'r R) -> Result<Event, sqlx::Error>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(Event {
        seq: row.try_get(0)?,
        kind: kind_of(row.try_get(1)?)?,
        lead: LeadId { id: row.try_get(2)?, client_id: row.try_get(3)? },
        received_at: instant(row.try_get(4)?),
        body: row.try_get(5)?,
    })
}

/// Takes the oldest events that nobody has taken yet into the conversations of their leads, with all that follows from it:
/// a handful of statements in one transaction. Of several instances one does it at a time. An event that the database does not
/// take holds up no other: what it says about consent counts, and the rest of it waits for an operator.
pub async fn apply(db: &Db, consequences: Consequences, now: DateTime<Utc>) -> Result<Applied, sqlx::Error> {
    let is_refused = |error: &sqlx::Error| matches!(error, sqlx::Error::Database(_)) && !db::is_outage(error);
    match apply_some(db, consequences, AT_ONCE, now).await {
        Err(error) if is_refused(&error) => match apply_some(db, consequences, 1, now).await {
            Err(error) if is_refused(&error) => set_aside(db, consequences, now).await,
            done => done,
        },
        done => done,
    }
}

/// Of the oldest event, which the database does not take: what it says about consent, and nothing else.
async fn set_aside(db: &Db, consequences: Consequences, now: DateTime<Utc>) -> Result<Applied, sqlx::Error> {
    on_db!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        if let Some(lock) = tombstone::shared_lock(db) {
            sqlx::query(lock).execute(&mut *transaction).await?;
        }
        if let Some(lock) = db.apply_lock() {
            let mine: bool = sqlx::query_scalar(lock).fetch_one(&mut *transaction).await?;
            if !mine {
                transaction.rollback().await?;
                return Ok(Applied::default());
            }
        }
        let mut events = Vec::new();
        for row in sqlx::query(WAITING).bind(1_i64).fetch_all(&mut *transaction).await? {
            events.push(read_event(&row)?);
        }
        let folded = fold::fold(&events, BTreeMap::new());
        let mut applied = Applied { events: events.len(), unreadable: events.len(), words: folded.words.len(), ..Applied::default() };
        applied.possible = folded.possible.len();
        applied.due += withdraw!(db, transaction, folded, consequences, now);
        for event in &events {
            sqlx::query("update event set problem = $1, examined_at = $2 where seq = $3")
                .bind("The state did not take it in; what it says about consent counts").bind(micros(now)).bind(event.seq)
                .execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(applied)
    })
}

/// The oldest events that could be read and nobody has taken yet.
const WAITING: &str = "select seq, kind, id, client_id, coalesce(repeated_at, received_at), body from event \
     where applied_at is null and problem is null order by seq limit $1";

/// Posts that cannot be read and that nobody has searched for a withdrawal yet.
const UNEXAMINED: &str = "select seq, kind, id, client_id, received_at, body from event \
     where problem is not null and examined_at is null and mended_as is null order by seq limit $1";

const WAITING_SIZES: &str = "select cast(length(body) as bigint) from event \
     where applied_at is null and problem is null order by seq limit $1";

const UNEXAMINED_SIZES: &str = "select cast(length(body) as bigint) from event \
     where problem is not null and examined_at is null and mended_as is null order by seq limit $1";

/// How many of the next events, which have so many bytes each, one transaction takes: at least one where there is one.
fn rows_at_once(sizes: &[i64]) -> i64 {
    let mut bytes = 0;
    let fits = |size: &&i64| {
        bytes += **size;
        bytes <= BYTES_AT_ONCE
    };
    let rows = sizes.iter().take_while(fits).count().max(sizes.len().min(1));
    i64::try_from(rows).unwrap_or(AT_ONCE)
}

async fn apply_some(
    db: &Db,
    consequences: Consequences,
    most: i64,
    now: DateTime<Utc>,
) -> Result<Applied, sqlx::Error> {
    on_db!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        // What is read below is of nobody who is erased before all that follows from it is written.
        if let Some(lock) = tombstone::shared_lock(db) {
            sqlx::query(lock).execute(&mut *transaction).await?;
        }
        if let Some(lock) = db.apply_lock() {
            let mine: bool = sqlx::query_scalar(lock).fetch_one(&mut *transaction).await?;
            if !mine {
                transaction.rollback().await?;
                return Ok(Applied::default());
            }
        }
        let sizes: Vec<i64> = sqlx::query_scalar(WAITING_SIZES).bind(most).fetch_all(&mut *transaction).await?;
        let rows = sqlx::query(WAITING).bind(rows_at_once(&sizes)).fetch_all(&mut *transaction).await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            events.push(read_event(row)?);
        }
        let sizes: Vec<i64> = sqlx::query_scalar(UNEXAMINED_SIZES).bind(most).fetch_all(&mut *transaction).await?;
        let mut unexamined = Vec::new();
        for row in sqlx::query(UNEXAMINED).bind(rows_at_once(&sizes)).fetch_all(&mut *transaction).await? {
            unexamined.push(read_event(&row)?);
        }
        if events.is_empty() && unexamined.is_empty() {
            // Waited for, unlike a drop's: until the lock is gone, whoever looks next would leave what comes now to us.
            transaction.rollback().await?;
            return Ok(Applied::default());
        }
        let mut stored = BTreeMap::new();
        if !events.is_empty() {
            for row in conversations_query(&events).build().fetch_all(&mut *transaction).await? {
                let lead = LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? };
                stored.insert(lead, stored_of(row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?));
            }
        }
        let mut folded = fold::fold(&events, stored);
        folded.possible.extend(unexamined.iter().filter_map(PossibleOptOut::of_unreadable));
        let mut applied = Applied {
            events: events.len() + unexamined.len(),
            possible: folded.possible.len(),
            unreadable: folded.effects.iter().filter(|(_, effect)| effect.is_err()).count(),
            words: folded.words.len(),
            ..Applied::default()
        };
        if !folded.conversations.is_empty() {
            upsert_query(&folded).build().execute(&mut *transaction).await?;
        }
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        if !seqs.is_empty() {
            possible_opt_out::mended_query(&seqs, now).build().execute(&mut *transaction).await?;
        }
        if !folded.words.is_empty() || !folded.possible.is_empty() || !folded.withdrawals.is_empty() {
            applied.due += withdraw!(db, transaction, folded, consequences, now);
        }
        if !unexamined.is_empty() {
            examined_query(&unexamined, now).build().execute(&mut *transaction).await?;
        }
        if consequences.ends_wait && !folded.conversations.is_empty() {
            applied.due += end_wait_query(db, &events, now).build().execute(&mut *transaction).await?.rows_affected();
        }
        if consequences.writeback {
            let readable: Vec<&Event> = events.iter().zip(&folded.effects)
                .filter(|(_, (_, effect))| effect.is_ok()).map(|(event, _)| event).collect();
            applied.writeback = !readable.is_empty();
            if applied.writeback {
                writeback_query(&readable, now).build().execute(&mut *transaction).await?;
            }
        }
        if consequences.alerts && !folded.alerts.is_empty() {
            let mut delivered = BTreeMap::new();
            for row in delivered_query(&folded.alerts).build().fetch_all(&mut *transaction).await? {
                let lead = LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? };
                delivered.insert(lead, row.try_get::<Option<String>, _>(2)?);
            }
            applied.alerts = folded.alerts.len();
            alert_query(&folded.alerts, &delivered, now).build().execute(&mut *transaction).await?;
        }
        if !events.is_empty() {
            applied_query(&folded, now).build().execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(applied)
    })
}

/// A kind as stored; the table admits no other names.
fn kind_of(name: &str) -> Result<Kind, sqlx::Error> {
    Kind::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown kind {name:?}").into()))
}

fn stored_of(picture: &str, versions: &str, first: i64, last: i64) -> Stored {
    Stored {
        conversation: crate::conversica::conversation::Conversation::of_json(picture, versions),
        first_heard_at: Some(instant(first)),
        last_heard_at: Some(instant(last)),
    }
}

fn conversations_query<DB: Database>(events: &[Event]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(
        "select id, client_id, picture, versions, first_heard_at, last_heard_at from conversation where (id, client_id) in (",
    );
    query.push_values(events, |mut row, event| {
        row.push_bind(event.lead.id.as_str()).push_bind(event.lead.client_id.as_str());
    });
    query.push(")");
    query
}

fn upsert_query<DB: Database>(folded: &Folded) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> String: Encode<'e, DB> + Type<DB>,
    for<'e> Option<&'e str>: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(
        "insert into conversation (id, client_id, picture, versions, not_worked, first_heard_at, last_heard_at) ",
    );
    query.push_values(&folded.conversations, |mut row, (lead, stored)| {
        let at = |at: Option<DateTime<Utc>>| at.map_or(0, micros);
        row.push_bind(lead.id.as_str())
            .push_bind(lead.client_id.as_str())
            .push_bind(stored.conversation.picture_json())
            .push_bind(stored.conversation.versions_json())
            .push_bind(stored.conversation.not_worked())
            .push_bind(at(stored.first_heard_at))
            .push_bind(at(stored.last_heard_at));
    });
    query.push(
        " on conflict (id, client_id) do update set picture = excluded.picture, versions = excluded.versions, \
         not_worked = excluded.not_worked, \
         first_heard_at = excluded.first_heard_at, last_heard_at = excluded.last_heard_at",
    );
    query
}

/// Conversica knows the leads that it speaks of: nobody waits any longer to be told so, who was sent before that word came.
fn end_wait_query<DB: Database>(db: &Db, events: &[Event], now: DateTime<Utc>) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let order = InOrder::of(db, "select heard_id, heard_client_id from spoken");
    let mut newest: BTreeMap<&LeadId, DateTime<Utc>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind != Kind::ChatLead) {
        let at = newest.entry(&event.lead).or_insert(event.received_at);
        *at = event.received_at.max(*at);
    }
    let mut query = QueryBuilder::new("with spoken (heard_id, heard_client_id, heard_at) as (");
    query.push_values(newest, |mut row, (lead, at)| {
        row.push_bind(lead.id.as_str()).push_bind(lead.client_id.as_str()).push_bind(micros(at));
    });
    query.push(")").push(&order.cte).push(" update lead set due_at = ").push_bind(micros(now));
    query.push(" from spoken").push(order.from);
    query.push(
        " where lead.id = heard_id and lead.client_id = heard_client_id and lead.status = 'retrying' \
         and lead.last_outcome = 'ambiguous' and lead.last_outcome_at <= heard_at and lead.due_at > ",
    );
    query.push_bind(micros(now)).push(order.condition);
    query
}

fn examined_query<DB: Database>(events: &[Event], now: DateTime<Utc>) -> QueryBuilder<DB>
where
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("update event set examined_at = ");
    query.push_bind(micros(now)).push(" where seq in (");
    let mut list = query.separated(", ");
    for event in events {
        list.push_bind(event.seq);
    }
    query.push(")");
    query
}

fn writeback_query<DB: Database>(events: &[&Event], now: DateTime<Utc>) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> String: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("insert into writeback (event_seq, lane, status, due_at) ");
    query.push_values(events, |mut row, event| {
        row.push_bind(event.seq)
            .push_bind(lane(event.kind, &event.lead, event.seq))
            .push_bind("waiting")
            .push_bind(micros(now));
    });
    query.push(" on conflict (event_seq) do nothing");
    query
}

fn delivered_query<DB: Database>(alerts: &[Alert]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("select id, client_id, ");
    query.push(DELIVERED).push(" from lead where (id, client_id) in (");
    query.push_values(alerts, |mut row, alert| {
        row.push_bind(alert.lead.id.as_str()).push_bind(alert.lead.client_id.as_str());
    });
    query.push(")");
    query
}

fn alert_query<DB: Database>(
    alerts: &[Alert],
    delivered: &BTreeMap<LeadId, Option<String>>,
    now: DateTime<Utc>,
) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> String: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("insert into alert (kind, id, client_id, occasion, body, created_at, due_at) ");
    query.push_values(alerts, |mut row, alert| {
        let delivered = delivered.get(&alert.lead).and_then(Option::as_deref);
        row.push_bind(alert.kind)
            .push_bind(alert.lead.id.as_str())
            .push_bind(alert.lead.client_id.as_str())
            .push_bind(alert.occasion.as_str())
            .push_bind(alert.body(delivered))
            .push_bind(micros(now))
            .push_bind(micros(now));
    });
    query.push(" on conflict (occasion) do nothing");
    query
}

/// What cannot be read any more waits for a person, like what never could.
fn applied_query<DB: Database>(folded: &Folded, now: DateTime<Utc>) -> QueryBuilder<DB>
where
    for<'e> i64: Encode<'e, DB> + Type<DB>,
    for<'e> Option<i64>: Encode<'e, DB> + Type<DB>,
    for<'e> Option<&'e str>: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("with e (e_seq, e_applied_at, e_effect, e_problem) as (");
    query.push_values(&folded.effects, |mut row, (seq, effect)| {
        row.push_bind(*seq)
            .push_bind(effect.is_ok().then_some(micros(now)))
            .push_bind(effect.as_ref().ok().and_then(Option::as_deref))
            .push_bind(effect.as_ref().err().map(String::as_str));
    });
    query.push(
        ") update event set applied_at = e_applied_at, effect = e_effect, problem = e_problem from e where event.seq = e_seq",
    );
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_transaction_takes_a_megabyte_of_events_or_one_that_is_larger() {
        let large = BYTES_AT_ONCE / 2;
        assert_eq!(rows_at_once(&[]), 0);
        assert_eq!(rows_at_once(&[BYTES_AT_ONCE * 3, 1]), 1);
        assert_eq!(rows_at_once(&[large, large, 1]), 2);
        assert_eq!(rows_at_once(&[1; 500]), 500);
    }
}
