//! Tables `decision`, `decided` and `lead`: decisions about many leads, carried out in parts.
//!
//! A decision first lists the leads that it concerns, in one transaction. Then it changes them, some thousand in one transaction.
//! If the process ends meanwhile, [`resume`] continues: a person has decided.

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::lead_record::{self, AT_ONCE};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// A decision whose leads are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedDecision {
    seq: i64,
    event: BulkEvent,
    /// A lead that was held, or answered, after this moment has changed since it was shown.
    until: DateTime<Utc>,
    /// How many leads it concerns.
    pub leads: u64,
}

/// What a decision does with each of its leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BulkEvent {
    Approve,
    Baseline,
    Retry,
    Resend,
    /// The leads wait for approval before they are sent again.
    ResendHeld,
}

impl BulkEvent {
    /// `reason` is the reason of the decision.
    fn of(action: &str, reason: Option<&str>) -> Option<Self> {
        let is_held = reason == Some(HoldReason::Resend.name());
        let named = [
            (DecisionAction::Approve, Self::Approve),
            (DecisionAction::Baseline, Self::Baseline),
            (DecisionAction::Retry, Self::Retry),
            (DecisionAction::Resend, if is_held { Self::ResendHeld } else { Self::Resend }),
        ];
        named.into_iter().find(|(named, _)| named.name() == action).map(|(_, event)| event)
    }

    /// The event of a listed lead; `None` if the lead has changed since it was shown.
    fn of_lead(self, record: &LeadRecord, until: DateTime<Utc>) -> Option<LeadEvent> {
        let is_older = |at: Option<DateTime<Utc>>| at.is_none_or(|at| at <= until);
        match self {
            Self::Approve => is_older(record.held_at).then_some(LeadEvent::Approved),
            Self::Baseline => is_older(record.held_at).then_some(LeadEvent::Baselined),
            Self::Retry => is_older(record.last_outcome_at).then_some(LeadEvent::RetryAsked),
            Self::Resend => is_older(record.last_outcome_at).then_some(LeadEvent::ResendDecided { is_held: false }),
            Self::ResendHeld => is_older(record.last_outcome_at).then_some(LeadEvent::ResendDecided { is_held: true }),
        }
    }
}

/// A decision that begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewDecision<'a> {
    pub action: DecisionAction,
    pub who: &'a DecisionMaker,
    /// What the leads were held for, if there is one reason.
    pub reason: Option<&'a str>,
    pub until: DateTime<Utc>,
}

/// Lists the leads that `choose` selects: id and client. The decision is carried out by [`finish`].
pub(crate) async fn list(
    transaction: &mut StateTransaction,
    decision: NewDecision<'_>,
    choose: StateStatement,
    now: DateTime<Utc>,
) -> Result<ListedDecision, sqlx::Error> {
    let NewDecision { action, who, reason, until } = decision;
    let event = BulkEvent::of(action.name(), reason).ok_or(sqlx::Error::RowNotFound)?;
    let (seq,): (i64,) = transaction.fetch_one(decision::begin_statement(action, who, reason, now)).await?;
    let mut list = StateStatement::new("insert into decided (decision_seq, id, client_id) select ");
    list.push_bind(seq).push(", id, client_id from (").append(choose).push(") chosen");
    let leads = transaction.execute(list).await?;
    let count = StateStatement::new("update decision set leads = $1, until = $2, unfinished = 1 where seq = $3");
    transaction.execute(count.bind(i64::try_from(leads).unwrap_or(i64::MAX)).bind(micros(until)).bind(seq)).await?;
    Ok(ListedDecision { seq, event, until, leads })
}

/// Changes the listed leads. `done` is told how many leads each part had.
pub async fn finish(
    db: &StateDb,
    listed: ListedDecision,
    now: DateTime<Utc>,
    mut done: impl FnMut(u64),
) -> Result<(), sqlx::Error> {
    let mut after = None;
    while let Some((leads, last)) = finish_some(db, listed, after.as_ref(), now).await? {
        after = Some(last);
        done(leads);
    }
    db.execute(StateStatement::new("update decision set unfinished = 0 where seq = $1").bind(listed.seq))
        .await
        .map(drop)
}

/// Changes some of the listed leads after `after`. Returns how many there were, and the last one.
async fn finish_some(
    db: &StateDb,
    listed: ListedDecision,
    after: Option<&LeadId>,
    now: DateTime<Utc>,
) -> Result<Option<(u64, LeadId)>, sqlx::Error> {
    let mut next = StateStatement::new("select id, client_id from decided where decision_seq = ");
    next.push_bind(listed.seq);
    if let Some(after) = after {
        next.push(" and (id, client_id) > (").push_bind(&after.id).push(", ").push_bind(&after.client_id).push(")");
    }
    next.push(" order by id, client_id limit ").push_bind(AT_ONCE);
    let leads: Vec<(String, String)> = db.fetch_all(next).await?;
    let leads: Vec<LeadId> = leads.into_iter().map(|(id, client_id)| LeadId { id, client_id }).collect();
    let Some(last) = leads.last().cloned() else { return Ok(None) };
    let mut transaction = db.begin().await?;
    let records = lead_record::lock(&mut transaction, &leads).await?;
    lead_record::apply(&mut transaction, records, now, |record| listed.event.of_lead(record, listed.until)).await?;
    transaction.commit().await?;
    Ok(Some((leads.len() as u64, last)))
}

/// Continues the decisions that an earlier process left unfinished. Returns how many there were.
pub async fn resume(db: &StateDb, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let unfinished: Vec<(i64, i64, String, Option<String>, i64)> = db
        .fetch_all("select seq, until, action, reason, leads from decision where unfinished = 1 order by seq")
        .await?;
    let mut resumed = 0;
    for (seq, until, action, reason, leads) in unfinished {
        let Some(event) = BulkEvent::of(&action, reason.as_deref()) else { continue };
        let leads = u64::try_from(leads).unwrap_or(0);
        finish(db, ListedDecision { seq, event, until: instant(until), leads }, now, |_| ()).await?;
        resumed += 1;
    }
    Ok(resumed)
}
