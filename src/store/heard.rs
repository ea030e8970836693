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

use crate::config::{OnAmbiguous, ServiceSettings};
use crate::conversica::conversation::HeardConversation;
use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::conversica::sign_of_life;
use crate::db;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::store::delivery::OptOuts;
use crate::store::event::lane;
use crate::store::heard::candidate::{AT_ONCE, EventCandidates, begin_with_waiting, next_candidates};
use crate::store::heard::fold::{ExaminedEvent, FoldedConversation, FoldedEvents, PendingEvent, RaisedAlert};
use crate::store::heard::similar::find_similar_ids;
use crate::store::heard::withdraw::{WithdrawalBatch, withdraw};
use crate::store::lead::DELIVERED;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{conversation_progress, instant, lead_record, micros, possible_opt_out};

/// The counts of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// Leads whose consent was withdrawn, and leads that have become hot.
    pub opted_out: Vec<LeadId>,
    pub hot: Vec<LeadId>,
}

/// The leads with an opt-out in these posts, and those that have become hot; each once.
fn reported(folded: &FoldedEvents) -> (Vec<LeadId>, Vec<LeadId>) {
    let once = |leads: BTreeSet<&LeadId>| leads.into_iter().cloned().collect();
    let withdrawn = folded.words.iter().filter(|entry| !entry.word.given).map(|entry| &entry.lead).collect();
    let hot = folded.alerts.iter().filter(|alert| alert.kind == "hot_lead").map(|alert| &alert.lead).collect();
    (once(withdrawn), once(hot))
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
    let Some((mut transaction, events)) = begin_with_waiting(db, EventCandidates::Readable, events).await? else {
        return Ok(AppliedEvents::default());
    };
    let folded = fold::fold(&events, BTreeMap::new());
    let batch = WithdrawalBatch { folded: &folded, similar: &similar, opt_outs: consequences.opt_outs };
    let due = withdraw(db, &mut transaction, batch, now).await?;
    if !events.is_empty() {
        transaction.execute(set_aside_statement(&events, now)).await?;
    }
    transaction.commit().await?;
    Ok(AppliedEvents {
        events: events.len(),
        unreadable: events.len(),
        words: folded.words.len(),
        possible: folded.possible.len(),
        due,
        ..AppliedEvents::default()
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
    let Some((mut transaction, examined)) = begin_with_waiting(db, EventCandidates::Readable, events).await? else {
        return Ok(AppliedEvents::default());
    };
    if examined.is_empty() {
        // The rollback is awaited, unlike that of a drop: while the lock is held, other instances leave new events to this one.
        transaction.rollback().await?;
        return Ok(AppliedEvents::default());
    }
    let events: Vec<&PendingEvent> = examined.iter().map(|examined| &examined.event).collect();
    let stored: Vec<HeardConversationRow> = transaction.fetch_all(conversations_statement(&events)).await?;
    let folded = fold::fold(&examined, stored.into_iter().map(HeardConversationRow::stored).collect());
    let mut applied = AppliedEvents {
        events: events.len(),
        possible: folded.possible.len(),
        unreadable: folded.effects.iter().filter(|(_, effect)| effect.is_err()).count(),
        words: folded.words.len(),
        ..AppliedEvents::default()
    };
    (applied.opted_out, applied.hot) = reported(&folded);
    if !folded.conversations.is_empty() {
        transaction.execute(upsert_statement(&folded)).await?;
    }
    let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
    transaction.execute(possible_opt_out::settle_fixed_statement(&seqs, now)).await?;
    if !folded.words.is_empty() || !folded.possible.is_empty() || !folded.withdrawals.is_empty() {
        let batch = WithdrawalBatch { folded: &folded, similar: &similar, opt_outs: consequences.opt_outs };
        applied.due += withdraw(db, &mut transaction, batch, now).await?;
    }
    if consequences.ends_wait && !folded.conversations.is_empty() {
        applied.due += end_wait(&mut transaction, &events, now).await?;
    }
    if consequences.writeback {
        let effects = events.iter().zip(&folded.effects);
        let readable: Vec<&PendingEvent> =
            effects.filter(|(_, (_, effect))| effect.is_ok()).map(|(event, _)| *event).collect();
        applied.writeback = !readable.is_empty();
        if applied.writeback {
            transaction.execute(writeback_statement(&readable, now)).await?;
        }
    }
    if consequences.alerts && !folded.alerts.is_empty() {
        let rows: Vec<(String, String, Option<String>)> =
            transaction.fetch_all(delivered_statement(&folded.alerts)).await?;
        let delivered = rows.into_iter().map(|(id, client_id, content)| (LeadId { id, client_id }, content)).collect();
        applied.alerts = folded.alerts.len();
        transaction.execute(alert_statement(&folded.alerts, &delivered, now)).await?;
    }
    transaction.execute(applied_statement(&folded, now)).await?;
    conversation_progress::note_worked(&mut transaction, &worked_leads(&events, &folded), now).await?;
    transaction.commit().await?;
    Ok(applied)
}

/// The leads that these events show to be worked by Conversica, and when they came. Every Message is such a sign; of a Lead Update only
/// its news count, because what was heard before may be about another conversation.
fn worked_leads(events: &[&PendingEvent], folded: &FoldedEvents) -> BTreeMap<LeadId, DateTime<Utc>> {
    let mut worked = BTreeMap::new();
    for (event, (_, effect)) in events.iter().zip(&folded.effects) {
        let news = || effect.as_ref().ok().and_then(Option::as_deref).and_then(|news| serde_json::from_str(news).ok());
        let is_worked = match event.kind {
            PostKind::Message => true,
            PostKind::LeadUpdate => news().is_some_and(|news| sign_of_life::is_worked(&news)),
            PostKind::ChatLead => false,
        };
        if is_worked {
            worked.insert(event.lead.clone(), event.received_at);
        }
    }
    worked
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
    let Some((mut transaction, examined)) = begin_with_waiting(db, EventCandidates::Unexamined, events).await? else {
        return Ok(AppliedEvents::default());
    };
    let folded = FoldedEvents { possible: fold::possible_opt_outs(&examined), ..FoldedEvents::default() };
    let mut applied =
        AppliedEvents { events: examined.len(), possible: folded.possible.len(), ..AppliedEvents::default() };
    if !folded.possible.is_empty() {
        let batch = WithdrawalBatch { folded: &folded, similar: &similar, opt_outs: consequences.opt_outs };
        applied.due += withdraw(db, &mut transaction, batch, now).await?;
    }
    if !examined.is_empty() {
        transaction.execute(examined_statement(&examined, now)).await?;
    }
    transaction.commit().await?;
    Ok(applied)
}

#[derive(sqlx::FromRow)]
struct HeardConversationRow {
    id: String,
    client_id: String,
    picture: String,
    versions: String,
    first_heard_at: i64,
    last_heard_at: i64,
}

impl HeardConversationRow {
    fn stored(self) -> (LeadId, FoldedConversation) {
        let conversation = FoldedConversation {
            conversation: HeardConversation::of_json(&self.picture, &self.versions),
            first_heard_at: Some(instant(self.first_heard_at)),
            last_heard_at: Some(instant(self.last_heard_at)),
        };
        (LeadId { id: self.id, client_id: self.client_id }, conversation)
    }
}

fn conversations_statement(events: &[&PendingEvent]) -> StateStatement {
    let mut statement = StateStatement::new(
        "select id, client_id, picture, versions, first_heard_at, last_heard_at from conversation where (id, client_id) in (",
    );
    statement.push_values(events, |row, event| {
        row.push_bind(&event.lead.id).push_bind(&event.lead.client_id);
    });
    statement.push(")");
    statement
}

fn upsert_statement(folded: &FoldedEvents) -> StateStatement {
    let mut statement = StateStatement::new(
        "insert into conversation (id, client_id, picture, versions, not_worked, first_heard_at, last_heard_at) ",
    );
    statement.push_values(&folded.conversations, |row, (lead, stored)| {
        let at = |at: Option<DateTime<Utc>>| at.map_or(0, micros);
        row.push_bind(&lead.id)
            .push_bind(&lead.client_id)
            .push_bind(stored.conversation.picture_json())
            .push_bind(stored.conversation.versions_json())
            .push_bind(stored.conversation.not_worked())
            .push_bind(at(stored.first_heard_at))
            .push_bind(at(stored.last_heard_at));
    });
    statement.push(
        " on conflict (id, client_id) do update set picture = excluded.picture, versions = excluded.versions, \
         not_worked = excluded.not_worked, \
         first_heard_at = excluded.first_heard_at, last_heard_at = excluded.last_heard_at",
    );
    statement
}

/// Conversica knows every lead that it posts about. So a lead that waits because an earlier outcome was ambiguous waits no
/// longer.
async fn end_wait(
    transaction: &mut StateTransaction,
    events: &[&PendingEvent],
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let mut newest: BTreeMap<LeadId, DateTime<Utc>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind != PostKind::ChatLead) {
        let at = newest.entry(event.lead.clone()).or_insert(event.received_at);
        *at = event.received_at.max(*at);
    }
    let leads: Vec<LeadId> = newest.keys().cloned().collect();
    let records = lead_record::lock(transaction, &leads).await?;
    let heard = |record: &LeadRecord| Some(LeadEvent::Heard { heard_at: *newest.get(&record.lead)? });
    let heard = lead_record::apply(transaction, records, now, heard).await?;
    Ok(heard.iter().filter(|lead| lead.has_changed()).count() as u64)
}

fn set_aside_statement(events: &[ExaminedEvent], now: DateTime<Utc>) -> StateStatement {
    let mut statement = StateStatement::new("update event set problem = ");
    statement.push_bind("The state did not take it in; what it says about consent counts");
    statement.push(", examined_at = ").push_bind(micros(now)).push(" where seq in (");
    statement.push_list(events.iter().map(|event| event.event.seq)).push(")");
    statement
}

fn examined_statement(events: &[ExaminedEvent], now: DateTime<Utc>) -> StateStatement {
    let mut statement = StateStatement::new("update event set examined_at = ");
    statement.push_bind(micros(now)).push(" where seq in (");
    statement.push_list(events.iter().map(|event| event.event.seq)).push(")");
    statement
}

fn writeback_statement(events: &[&PendingEvent], now: DateTime<Utc>) -> StateStatement {
    let mut statement = StateStatement::new("insert into writeback (event_seq, lane, status, due_at) ");
    statement.push_values(events, |row, event| {
        row.push_bind(event.seq)
            .push_bind(lane(event.kind, &event.lead, event.seq))
            .push_bind("waiting")
            .push_bind(micros(now));
    });
    statement.push(" on conflict (event_seq) do nothing");
    statement
}

fn delivered_statement(alerts: &[RaisedAlert]) -> StateStatement {
    let mut statement = StateStatement::new("select id, client_id, ");
    statement.push(DELIVERED).push(" from lead where (id, client_id) in (");
    statement.push_values(alerts, |row, alert| {
        row.push_bind(&alert.lead.id).push_bind(&alert.lead.client_id);
    });
    statement.push(")");
    statement
}

fn alert_statement(
    alerts: &[RaisedAlert],
    delivered: &BTreeMap<LeadId, Option<String>>,
    now: DateTime<Utc>,
) -> StateStatement {
    let mut statement =
        StateStatement::new("insert into alert (kind, id, client_id, occasion, body, created_at, due_at) ");
    statement.push_values(alerts, |row, alert| {
        let delivered = delivered.get(&alert.lead).and_then(Option::as_deref);
        row.push_bind(alert.kind)
            .push_bind(&alert.lead.id)
            .push_bind(&alert.lead.client_id)
            .push_bind(&alert.occasion)
            .push_bind(alert.body(delivered))
            .push_bind(micros(now))
            .push_bind(micros(now));
    });
    statement.push(" on conflict (occasion) do nothing");
    statement
}

/// An event that can no longer be read waits for an operator, like one that never could. It was searched for withdrawals with the
/// others.
fn applied_statement(folded: &FoldedEvents, now: DateTime<Utc>) -> StateStatement {
    let mut statement = StateStatement::new("with e (e_seq, e_applied_at, e_effect, e_problem) as (");
    statement.push_values(&folded.effects, |row, (seq, effect)| {
        row.push_bind(*seq)
            .push_bind(effect.is_ok().then_some(micros(now)))
            .push_bind(effect.as_ref().ok().and_then(Option::as_deref))
            .push_bind(effect.as_ref().err().map(String::as_str));
    });
    statement.push(
        ") update event set applied_at = e_applied_at, effect = e_effect, problem = e_problem, \
         examined_at = case when e_problem is null then examined_at else ",
    );
    statement.push_bind(micros(now)).push(" end from e where event.seq = e_seq");
    statement
}
