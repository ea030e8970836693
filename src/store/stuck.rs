//! Table `lead`, for stuck leads: rejected or exhausted. An operator queues them again.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::rules::lead_status::LeadStatus;
use crate::store::bulk_decision::{self, NewDecision};
use crate::store::decision::{DecisionAction, DecisionMaker};
use crate::store::lead_status::UNSETTLED;
use crate::store::listing;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// The ids that no lead of these statuses has, in their order.
pub async fn list_other_ids(db: &StateDb, statuses: &[LeadStatus], ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    let mut others = Vec::new();
    for some in ids.chunks(500) {
        let mut statement = StateStatement::new("select id from lead where ");
        push_stuck(&mut statement, statuses.iter().map(|status| status.name()), Some(some));
        let found: HashSet<String> = db.fetch_all::<(String,)>(statement).await?.into_iter().map(|(id,)| id).collect();
        others.extend(some.iter().filter(|id| !found.contains(*id)).cloned());
    }
    Ok(others)
}

/// A condition for leads of these statuses, and of these ids if any are given.
pub(crate) fn push_stuck<'s>(
    statement: &mut StateStatement,
    statuses: impl Iterator<Item = &'s str>,
    ids: Option<&[String]>,
) {
    statement.push(UNSETTLED).push(" and status in (").push_list(statuses).push(")");
    if let Some(ids) = ids {
        statement.push(" and id in (").push_list(ids).push(")");
    }
}

fn stuck_names(statuses: &[LeadStatus]) -> Vec<&'static str> {
    let stuck = statuses.iter().filter(|status| matches!(status, LeadStatus::Rejected | LeadStatus::Exhausted));
    stuck.map(|status| status.name()).collect()
}

/// Which stuck leads are queued again.
#[derive(Debug, Clone, Copy)]
pub struct RetryOrder<'a> {
    /// Rejected, exhausted or both.
    pub statuses: &'a [LeadStatus],
    /// All of these statuses if `None`.
    pub ids: Option<&'a [String]>,
    /// Leads with this in their last answer, as `leads --reason` finds it.
    pub reason: Option<&'a str>,
    pub who: &'a DecisionMaker,
}

/// Queues leads again. Returns how many. `done` is told how many leads each part had.
pub async fn requeue(
    db: &StateDb,
    order: RetryOrder<'_>,
    now: DateTime<Utc>,
    done: impl FnMut(u64),
) -> Result<u64, sqlx::Error> {
    let RetryOrder { statuses, ids, reason, who } = order;
    let names = stuck_names(statuses);
    if names.is_empty() || ids.is_some_and(<[String]>::is_empty) {
        return Ok(0);
    }
    let mut chosen = StateStatement::new("select id, client_id from lead where ");
    push_stuck(&mut chosen, names.into_iter(), ids);
    if let Some(reason) = reason {
        listing::push_reason(&mut chosen, db, reason);
    }
    let mut transaction = db.begin().await?;
    let retry = NewDecision { action: DecisionAction::Retry, who, reason: None, until: now };
    let listed = bulk_decision::list(&mut transaction, retry, chosen, now).await?;
    if listed.leads == 0 {
        // Without leads there is no decision to record.
        return Ok(0);
    }
    transaction.commit().await?;
    bulk_decision::finish(db, listed, now, done).await?;
    Ok(listed.leads)
}

/// The leads that a retry would queue again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StuckLeads {
    pub leads: i64,
    /// People among them who were never sent, as far as is known; a baseline may assume that Conversica knows them.
    pub new_people: i64,
}

/// Counts the stuck leads of these statuses, and of these ids if any are given.
pub async fn look(db: &StateDb, statuses: &[LeadStatus], ids: Option<&[String]>) -> Result<StuckLeads, sqlx::Error> {
    let mut stuck = StuckLeads::default();
    for status in stuck_names(statuses) {
        let mut statement = StateStatement::new(
            "select count(*), count(*) filter (where first_contact_at is null or assumed_at is not null) from lead where ",
        );
        push_stuck(&mut statement, std::iter::once(status), ids);
        let (leads, new_people): (i64, i64) = db.fetch_one(statement).await?;
        stuck.leads += leads;
        stuck.new_people += new_people;
    }
    Ok(stuck)
}

/// When the newest of the stuck leads was answered, in microseconds. A lead that joins them later has a later moment.
pub async fn newest(db: &StateDb, statuses: &[LeadStatus], ids: Option<&[String]>) -> Result<i64, sqlx::Error> {
    let mut statement = StateStatement::new("select coalesce(max(last_outcome_at), 0) from lead where ");
    push_stuck(&mut statement, stuck_names(statuses).into_iter(), ids);
    let (newest,) = db.fetch_one(statement).await?;
    Ok(newest)
}
