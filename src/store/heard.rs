//! Tables `event`, `conversation`, `writeback` and `alert`: stored posts are applied in batches, one transaction each. [`fold`]
//! decides, [`super::event`] stores posts, [`reading`] answers questions of operators, [`replay`] reads fixed posts again.

mod candidate;
pub mod fold;
pub mod reading;
pub mod replay;
mod similar;
mod withdraw;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Row as _, Type};

use crate::config::{OnAmbiguous, ServiceSettings};
use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::db;
use crate::store::delivery::OptOuts;
use crate::store::event::lane;
use crate::store::heard::candidate::{
    AT_ONCE, EventCandidates, next_candidates, search_lock, still_waiting, still_waiting_query,
};
use crate::store::heard::fold::{ExaminedEvent, FoldedConversation, FoldedEvents, PendingEvent, RaisedAlert};
use crate::store::heard::similar::find_similar_ids;
use crate::store::heard::withdraw::withdraw;
use crate::store::lead::{DELIVERED, InOrder};
use crate::store::state_db::{StateDb, on_state};
use crate::store::{consent, instant, micros, possible_opt_out, tombstone};

/// The counts of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedEvents {
    /// Events that were applied.
    pub events: usize,
    /// Events among them that can no longer be read.
    pub unreadable: usize,
    /// Withdrawals and grants of consent.
    pub words: usize,
    /// Damaged posts that may withdraw consent.
    pub possible: usize,
    /// An event waits for the write-back to the CRM.
    pub writeback: bool,
    /// Alerts that wait to be sent.
    pub alerts: usize,
    /// Leads that this step has made due.
    pub due: u64,
}

/// The effects of an event, by the settings.
#[derive(Debug, Clone, Copy)]
pub struct HeardPolicy {
    pub writeback: bool,
    pub alerts: bool,
    pub opt_outs: OptOuts,
    /// A post about a lead ends the wait after an ambiguous outcome.
    pub ends_wait: bool,
}

impl HeardPolicy {
    pub fn of(settings: &ServiceSettings) -> Self {
        Self {
            writeback: settings.writeback.mode != crate::config::WritebackMode::Off,
            alerts: settings.alerts.is_on(),
            opt_outs: OptOuts::of(&settings.consent),
            ends_wait: settings.delivery.on_ambiguous == OnAmbiguous::Wait,
        }
    }
}

/// Applies the oldest waiting events to the conversations of their leads, with all effects: a handful of statements in one
/// transaction. Only one instance does this at a time. An event that the database rejects does not hold up the others: its
/// consent counts, and the rest of the event waits for an operator.
///
/// Then searches unreadable posts: see [`search_unreadable`].
pub async fn apply(db: &StateDb, consequences: HeardPolicy, now: DateTime<Utc>) -> Result<AppliedEvents, sqlx::Error> {
    let readable = apply_readable(db, consequences, now).await?;
    let unreadable = search_unreadable(db, consequences, now).await?;
    Ok(AppliedEvents {
        events: readable.events + unreadable.events,
        possible: readable.possible + unreadable.possible,
        due: readable.due + unreadable.due,
        ..readable
    })
}

/// As [`apply`], for readable posts only. It does not wait for the search of a large unreadable body.
pub async fn apply_readable(
    db: &StateDb,
    consequences: HeardPolicy,
    now: DateTime<Utc>,
) -> Result<AppliedEvents, sqlx::Error> {
    let is_refused = |error: &sqlx::Error| matches!(error, sqlx::Error::Database(_)) && !db::is_outage(error);
    match apply_some(db, consequences, AT_ONCE, now).await {
        Err(error) if is_refused(&error) => match apply_some(db, consequences, 1, now).await {
            Err(error) if is_refused(&error) => set_aside(db, consequences, now).await,
            done => done,
        },
        done => done,
    }
}

/// Applies only the consent of the oldest event, because the database rejects the rest of it.
async fn set_aside(db: &StateDb, consequences: HeardPolicy, now: DateTime<Utc>) -> Result<AppliedEvents, sqlx::Error> {
    let events = next_candidates(db, EventCandidates::Readable, 1).await?;
    if events.is_empty() {
        return Ok(AppliedEvents::default());
    }
    let similar = find_similar_ids(db, &fold::fold(&events, BTreeMap::new())).await?;
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        if let Some(lock) = tombstone::shared_lock(db) {
            sqlx::query(lock).execute(&mut *transaction).await?;
        }
        if let Some(lock) = db.apply_lock() {
            let mine: bool = sqlx::query_scalar(lock).fetch_one(&mut *transaction).await?;
            if !mine {
                transaction.rollback().await?;
                return Ok(AppliedEvents::default());
            }
        }
        let mut waiting = BTreeMap::new();
        for row in still_waiting_query(EventCandidates::Readable, &events).build().fetch_all(&mut *transaction).await? {
            waiting.insert(row.try_get(0)?, row.try_get(1)?);
        }
        let events = still_waiting(events, &waiting);
        let folded = fold::fold(&events, BTreeMap::new());
        let mut applied = AppliedEvents { events: events.len(), unreadable: events.len(), words: folded.words.len(), ..AppliedEvents::default() };
        applied.possible = folded.possible.len();
        applied.due += withdraw!(db, transaction, folded, similar, consequences, now);
        for event in &events {
            sqlx::query("update event set problem = $1, examined_at = $2 where seq = $3")
                .bind("The state did not take it in; what it says about consent counts").bind(micros(now)).bind(event.event.seq)
                .execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(applied)
    })
}

async fn apply_some(
    db: &StateDb,
    consequences: HeardPolicy,
    most: i64,
    now: DateTime<Utc>,
) -> Result<AppliedEvents, sqlx::Error> {
    let events = next_candidates(db, EventCandidates::Readable, most).await?;
    if events.is_empty() {
        return Ok(AppliedEvents::default());
    }
    let similar = find_similar_ids(db, &fold::fold(&events, BTreeMap::new())).await?;
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        // The lock keeps erasures out until all effects of this batch are written.
        if let Some(lock) = tombstone::shared_lock(db) {
            sqlx::query(lock).execute(&mut *transaction).await?;
        }
        if let Some(lock) = db.apply_lock() {
            let mine: bool = sqlx::query_scalar(lock).fetch_one(&mut *transaction).await?;
            if !mine {
                transaction.rollback().await?;
                return Ok(AppliedEvents::default());
            }
        }
        let mut waiting = BTreeMap::new();
        for row in still_waiting_query(EventCandidates::Readable, &events).build().fetch_all(&mut *transaction).await? {
            waiting.insert(row.try_get(0)?, row.try_get(1)?);
        }
        let examined = still_waiting(events, &waiting);
        if examined.is_empty() {
            // The rollback is awaited, unlike that of a drop: while the lock is held, other instances leave new
            // events to this one.
            transaction.rollback().await?;
            return Ok(AppliedEvents::default());
        }
        let events: Vec<&PendingEvent> = examined.iter().map(|examined| &examined.event).collect();
        let mut stored = BTreeMap::new();
        for row in conversations_query(&events).build().fetch_all(&mut *transaction).await? {
            let lead = LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? };
            stored.insert(lead, stored_of(row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?));
        }
        let folded = fold::fold(&examined, stored);
        let mut applied = AppliedEvents {
            events: events.len(),
            possible: folded.possible.len(),
            unreadable: folded.effects.iter().filter(|(_, effect)| effect.is_err()).count(),
            words: folded.words.len(),
            ..AppliedEvents::default()
        };
        if !folded.conversations.is_empty() {
            upsert_query(&folded).build().execute(&mut *transaction).await?;
        }
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        possible_opt_out::mended_query(&seqs, now).build().execute(&mut *transaction).await?;
        if !folded.words.is_empty() || !folded.possible.is_empty() || !folded.withdrawals.is_empty() {
            applied.due += withdraw!(db, transaction, folded, similar, consequences, now);
        }
        if consequences.ends_wait && !folded.conversations.is_empty() {
            applied.due += end_wait_query(db, &events, now).build().execute(&mut *transaction).await?.rows_affected();
        }
        if consequences.writeback {
            let readable: Vec<&PendingEvent> = events.iter().zip(&folded.effects)
                .filter(|(_, (_, effect))| effect.is_ok()).map(|(event, _)| *event).collect();
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
        applied_query(&folded, now).build().execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(applied)
    })
}

/// Searches the oldest unreadable posts that were not searched yet for possible withdrawals of consent.
pub async fn search_unreadable(
    db: &StateDb,
    consequences: HeardPolicy,
    now: DateTime<Utc>,
) -> Result<AppliedEvents, sqlx::Error> {
    let events = next_candidates(db, EventCandidates::Unexamined, AT_ONCE).await?;
    if events.is_empty() {
        return Ok(AppliedEvents::default());
    }
    let possible = fold::possible_opt_outs(&events);
    let similar = find_similar_ids(db, &FoldedEvents { possible, ..FoldedEvents::default() }).await?;
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        if let Some(lock) = tombstone::shared_lock(db) {
            sqlx::query(lock).execute(&mut *transaction).await?;
        }
        if let Some(lock) = search_lock(db) {
            let mine: bool = sqlx::query_scalar(lock).fetch_one(&mut *transaction).await?;
            if !mine {
                transaction.rollback().await?;
                return Ok(AppliedEvents::default());
            }
        }
        let mut waiting = BTreeMap::new();
        for row in still_waiting_query(EventCandidates::Unexamined, &events).build().fetch_all(&mut *transaction).await? {
            waiting.insert(row.try_get(0)?, row.try_get(1)?);
        }
        let examined = still_waiting(events, &waiting);
        let folded = FoldedEvents { possible: fold::possible_opt_outs(&examined), ..FoldedEvents::default() };
        let mut applied = AppliedEvents { events: examined.len(), possible: folded.possible.len(), ..AppliedEvents::default() };
        if !folded.possible.is_empty() {
            applied.due += withdraw!(db, transaction, folded, similar, consequences, now);
        }
        if !examined.is_empty() {
            examined_query(&examined, now).build().execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(applied)
    })
}

fn stored_of(picture: &str, versions: &str, first: i64, last: i64) -> FoldedConversation {
    FoldedConversation {
        conversation: crate::conversica::conversation::HeardConversation::of_json(picture, versions),
        first_heard_at: Some(instant(first)),
        last_heard_at: Some(instant(last)),
    }
}

fn conversations_query<DB: Database>(events: &[&PendingEvent]) -> QueryBuilder<DB>
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

fn upsert_query<DB: Database>(folded: &FoldedEvents) -> QueryBuilder<DB>
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

/// Conversica knows every lead that it posts about. So a lead that waits because an earlier outcome was ambiguous waits no
/// longer.
fn end_wait_query<DB: Database>(db: &StateDb, events: &[&PendingEvent], now: DateTime<Utc>) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let order = InOrder::of(db, "select heard_id, heard_client_id from spoken");
    let mut newest: BTreeMap<&LeadId, DateTime<Utc>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind != PostKind::ChatLead) {
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

fn examined_query<DB: Database>(events: &[ExaminedEvent], now: DateTime<Utc>) -> QueryBuilder<DB>
where
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("update event set examined_at = ");
    query.push_bind(micros(now)).push(" where seq in (");
    let mut list = query.separated(", ");
    for event in events {
        list.push_bind(event.event.seq);
    }
    query.push(")");
    query
}

fn writeback_query<DB: Database>(events: &[&PendingEvent], now: DateTime<Utc>) -> QueryBuilder<DB>
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

fn delivered_query<DB: Database>(alerts: &[RaisedAlert]) -> QueryBuilder<DB>
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
    alerts: &[RaisedAlert],
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

/// An event that can no longer be read waits for an operator, like one that never could. It was searched for withdrawals with the
/// others.
fn applied_query<DB: Database>(folded: &FoldedEvents, now: DateTime<Utc>) -> QueryBuilder<DB>
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
        ") update event set applied_at = e_applied_at, effect = e_effect, problem = e_problem, \
         examined_at = case when e_problem is null then examined_at else ",
    );
    query.push_bind(micros(now)).push(" end from e where event.seq = e_seq");
    query
}
