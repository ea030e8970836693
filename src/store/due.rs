//! What may be claimed, and when. Due leads form three groups, each with its own index. Withdrawals of consent always go first;
//! caps on first contacts and the Test Lead Token limit the other groups.

use chrono::{DateTime, Utc};

use crate::rules::admission::{ClaimFilter, NewPeopleCap};
use crate::rules::lead_event::{ClaimCounting, LeadEvent};
use crate::store::control::{self, TestLeadSent};
use crate::store::lead_status::UNSETTLED;
use crate::store::operator_pause::{self, PAUSED_BEFORE};
use crate::store::possible_opt_out::NOT_HELD;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, lead_record, micros};

/// A group of due leads, and how many of them may be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimArm {
    pub condition: &'static str,
    pub limit: i64,
}

pub(crate) const URGENT: &str = "urgent = 1";
pub(crate) const KNOWN: &str = "urgent = 0 and first_contact_at is not null and assumed_at is null";
/// Leads never sent from here: as far as is known, their first request is a first contact. The text must match the condition of
/// its index.
pub(crate) const NEW: &str = "urgent = 0 and (first_contact_at is null or assumed_at is not null)";
/// Both contain [`UNSETTLED`], which a constant cannot include by its name.
const TESTED: &str = "status <> 'in_sync' and urgent = 0 and test_lead_at is not null";
const UNTESTED: &str = "status <> 'in_sync' and urgent = 0 and test_lead_at is null";

/// A limit on a number of leads: those with an instant later than `since`, counted up to `at_most`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimQuota {
    /// Binds `since` and `at_most`.
    pub sql: &'static str,
    pub since: i64,
    pub at_most: i64,
}

impl ClaimFilter {
    /// The counts to make, in the claim's own transaction, before new people may be claimed.
    pub(crate) fn quotas(&self, now: DateTime<Utc>) -> Vec<ClaimQuota> {
        const INTRODUCED: &str = "select count(*) from (select 1 as one from lead where introduced_at > $1 \
             union all select 1 from tombstone where introduced_at > $1 limit $2) counted";
        const TESTED: &str = "select count(*) from (select 1 as one from lead where test_lead_at > $1 \
             union all select 1 from tombstone where test_lead_at > $1 limit $2) counted";
        match self {
            ClaimFilter::Everybody | ClaimFilter::Withdrawals => Vec::new(),
            ClaimFilter::Capped(caps) => caps
                .iter()
                .map(|cap| ClaimQuota {
                    sql: INTRODUCED,
                    since: micros(cap.span.counts_after(now)),
                    at_most: i64::from(cap.people),
                })
                .collect(),
            ClaimFilter::TestLeads(limit) => {
                vec![ClaimQuota { sql: TESTED, since: i64::MIN, at_most: i64::from(*limit) }]
            }
        }
    }

    /// The groups that a claim chooses from, withdrawals first. `budget` is how many new people the quotas leave.
    pub(crate) fn arms(&self, wanted: usize, budget: i64) -> Vec<ClaimArm> {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let budget = budget.clamp(0, wanted);
        let others = match self {
            ClaimFilter::Everybody | ClaimFilter::Capped(_) => vec![(KNOWN, wanted), (NEW, budget)],
            ClaimFilter::TestLeads(_) => vec![(TESTED, wanted), (UNTESTED, budget)],
            ClaimFilter::Withdrawals => vec![],
        };
        let arms = std::iter::once((URGENT, wanted)).chain(others).filter(|(_, limit)| *limit > 0);
        arms.map(|(condition, limit)| ClaimArm { condition, limit }).collect()
    }

    /// What a claim counts towards.
    pub(crate) fn counting(&self) -> ClaimCounting {
        match self {
            ClaimFilter::Withdrawals => ClaimCounting::Nothing,
            // Also without a cap, so that one that is set later counts the people of its whole span.
            ClaimFilter::Everybody | ClaimFilter::Capped(_) => ClaimCounting::NewPeople,
            ClaimFilter::TestLeads(_) => ClaimCounting::TestLeads,
        }
    }
}

/// When a lead can be claimed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextDue {
    /// The first moment at which a claim finds a lead; in the past if a lead is due already.
    pub at: Option<DateTime<Utc>>,
    /// Set if new people wait only because a cap is reached: the time when it admits the next one.
    pub capped_until: Option<DateTime<Utc>>,
}

/// When the next claimable lead is due, if any waits.
pub async fn next_due_at(db: &StateDb, admit: &ClaimFilter, now: DateTime<Utc>) -> Result<NextDue, sqlx::Error> {
    let mut next = NextDue::default();
    for arm in admit.arms(1, 1) {
        let sql = format!(
            "{PAUSED_BEFORE}$1) select min(due_at) from lead where status in ('pending', 'retrying') and {}{NOT_HELD}{}",
            arm.condition,
            unless_paused(db, arm.condition)
        );
        let (due,): (Option<i64>,) = db.fetch_one(StateStatement::new(sql).bind(micros(now))).await?;
        let Some(due) = due.map(instant) else { continue };
        let mut at = due;
        if let ClaimFilter::Capped(caps) = admit
            && arm.condition == NEW
        {
            let free = free_at(db, caps, now).await?;
            next.capped_until = free.filter(|_| due <= now);
            at = due.max(free.unwrap_or(due));
        }
        next.at = Some(next.at.map_or(at, |before| before.min(at)));
    }
    Ok(next)
}

/// A condition that leaves out leads that an operator has paused; blank for withdrawals of consent, which no pause stops.
fn unless_paused(db: &StateDb, condition: &str) -> String {
    if condition == URGENT { String::new() } else { operator_pause::is_not_paused(db) }
}

/// When every cap admits a new person; `None` if they all do now.
async fn free_at(
    db: &StateDb,
    caps: &[NewPeopleCap],
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let mut free = None;
    for cap in caps {
        // The cap is full while its `people`-th newest introduction lies within the window.
        let full = StateStatement::new(
            "select introduced_at from lead where introduced_at > $1 \
             union all select introduced_at from tombstone where introduced_at > $1 \
             order by introduced_at desc limit 1 offset $2",
        );
        let full = full.bind(micros(cap.span.counts_after(now))).bind(i64::from(cap.people) - 1);
        let full: Option<(i64,)> = db.fetch_optional(full).await?;
        free = free.max(full.map(|(oldest,)| cap.span.frees_at(instant(oldest), now)));
    }
    Ok(free)
}

/// With the Test Lead Token: how many more leads it may send.
pub async fn test_leads_left(db: &StateDb, limit: u32) -> Result<i64, sqlx::Error> {
    let (used,): (i64,) = db
        .fetch_one(
            "select (select count(*) from lead where test_lead_at is not null) + (select count(test_lead_at) from tombstone)",
        )
        .await?;
    Ok((i64::from(test_leads_for_the_crm(db, limit).await?) - used).max(0))
}

/// How many leads of the CRM the Test Lead Token may send: one less if `check --send-test-lead` has used one.
pub async fn test_leads_for_the_crm(db: &StateDb, limit: u32) -> Result<u32, sqlx::Error> {
    Ok(limit.saturating_sub(u32::from(control::read::<TestLeadSent>(db).await?.is_some())))
}

/// With the Test Lead Token: once it has sent `limit` distinct leads, holds the other waiting leads, a few thousand at a time.
/// Returns how many leads it held.
pub async fn hold_surplus_tests(db: &StateDb, limit: u32, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let quota = ClaimFilter::TestLeads(limit).quotas(now).remove(0);
    let mut transaction = db.begin().await?;
    let used = StateStatement::new(quota.sql).bind(quota.since).bind(quota.at_most);
    let (used,): (i64,) = transaction.fetch_one(used).await?;
    if used < quota.at_most {
        return Ok(0);
    }
    let mut surplus = lead_record::choose();
    surplus.push("status in ('pending', 'retrying') and ").push(UNTESTED).push(" order by id, client_id limit ");
    surplus.push_bind(lead_record::AT_ONCE).push(transaction.skip_locked());
    let surplus = lead_record::read(&mut transaction, surplus).await?;
    let held = lead_record::apply(&mut transaction, surplus, now, |_| Some(LeadEvent::TestLeadsUsedUp)).await?;
    transaction.commit().await?;
    Ok(held.len() as u64)
}

/// Makes withdrawals of consent that wait for a retry due at once: Conversica answers again, and they go first.
pub async fn hurry_withdrawals(db: &StateDb, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let choice = || {
        let mut late = lead_record::choose();
        late.push("status = 'retrying' and urgent = 1 and due_at > ").push_bind(micros(now));
        late
    };
    lead_record::apply_to_all(db, choice, now, |_| Some(LeadEvent::ConversicaBack)).await
}

/// Since when the lead that has waited longest waits: due, or failed and waiting for its retry. Leads that an operator has paused
/// do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LongestWait {
    /// For leads that Conversica knows and for withdrawals of consent; no cap delays them.
    pub known: Option<DateTime<Utc>>,
    /// For first contacts.
    pub new: Option<DateTime<Utc>>,
}

impl LongestWait {
    pub fn of_all(self) -> Option<DateTime<Utc>> {
        self.known.into_iter().chain(self.new).min()
    }
}

/// Reads the first entry of each index of due leads, and the few failed leads.
pub async fn longest_wait(db: &StateDb, now: DateTime<Utc>) -> Result<LongestWait, sqlx::Error> {
    let mut longest = LongestWait::default();
    for (condition, is_new) in [(URGENT, false), (KNOWN, false), (NEW, true)] {
        let waits = format!("{condition}{NOT_HELD}{}", unless_paused(db, condition));
        let sql = format!(
            "{PAUSED_BEFORE}$1) select min(due_at) from lead where status in ('pending', 'retrying') and {waits} union all \
             select min(first_failed_at) from lead where status = 'retrying' and {UNSETTLED} and {waits}"
        );
        let found: Vec<(Option<i64>,)> = db.fetch_all(StateStatement::new(sql).bind(micros(now))).await?;
        let since = if is_new { &mut longest.new } else { &mut longest.known };
        *since = since.iter().copied().chain(found.into_iter().filter_map(|(at,)| at).map(instant)).min();
    }
    Ok(longest)
}

/// The backlog as `(waiting, in_flight)`: leads that are due now or later, and leads in flight. It leaves out leads held by a
/// possible opt-out.
pub async fn backlog(db: &StateDb) -> Result<(i64, i64), sqlx::Error> {
    let sql = format!("select count(*) from lead where status in ('pending', 'retrying') and {UNSETTLED}{NOT_HELD}");
    let (waiting,) = db.fetch_one(sql).await?;
    let (in_flight,) =
        db.fetch_one(format!("select count(*) from lead where status = 'in_flight' and {UNSETTLED}")).await?;
    Ok((waiting, in_flight))
}

/// How many people wait for their first contact without a try so far. A cap may delay them.
pub async fn count_untried_people(db: &StateDb) -> Result<i64, sqlx::Error> {
    let sql = format!("select count(*) from lead where status = 'pending' and {UNSETTLED} and {NEW}");
    let (people,) = db.fetch_one(sql).await?;
    Ok(people)
}

/// The earliest due time in the backlog, without paused leads; `None` if no lead waits. Each part has an index.
pub async fn oldest(db: &StateDb, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    const WAITS: &str = "select min(due_at) as at from lead where status in ('pending', 'retrying')";
    let sql = format!(
        "{PAUSED_BEFORE}$1) select min(at) from \
         ({WAITS} and {URGENT} union all {WAITS} and {KNOWN}{sent} union all {WAITS} and {NEW}{sent}) parts",
        sent = operator_pause::is_not_paused(db)
    );
    let (at,): (Option<i64>,) = db.fetch_one(StateStatement::new(sql).bind(micros(now))).await?;
    Ok(at.map(instant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_claim_of_test_leads_asks_has_the_condition_of_the_index() {
        assert!(TESTED.starts_with(UNSETTLED) && UNTESTED.starts_with(UNSETTLED), "{TESTED}, {UNTESTED}");
    }
}
