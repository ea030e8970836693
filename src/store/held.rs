//! Leads that wait for approval: their number and their release. A release covers the leads that the operator was shown, and none
//! that were held since.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::rules::guard::StandingHold;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_event::LeadEvent;
use crate::rules::shown_set::ShownSet;
use crate::store::bulk_decision::{self, NewDecision};
use crate::store::decision::{DecisionAction, DecisionMaker};
use crate::store::lead_status::UNSETTLED;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, lead_record, micros};

/// Selects held leads; with no ids and no reason it selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldSelection {
    pub ids: Vec<String>,
    pub reason: Option<String>,
}

impl HeldSelection {
    /// All leads that are held for this reason.
    pub fn reason(reason: HoldReason) -> Self {
        Self { ids: Vec::new(), reason: Some(reason.name().to_owned()) }
    }

    pub fn is_everything(&self) -> bool {
        self.ids.is_empty() && self.reason.is_none()
    }
}

/// The held leads at one moment. It identifies the set: a lead that is held later, or whose content changes later, has a hold
/// time after `newest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldLeads {
    pub leads: i64,
    /// People among them who were never sent from here; an approval would send them.
    pub new_people: i64,
    /// New people among these, if a baseline assumes that Conversica knows them.
    pub assumed_known: i64,
    /// Leads among them whose row is missing from the source. Any decision marks them gone and does not send them.
    pub missing: i64,
    /// Reason → leads.
    pub reasons: BTreeMap<String, i64>,
    /// When the newest of them was held with its present content.
    pub newest: Option<DateTime<Utc>>,
}

impl HeldLeads {
    fn set(&self) -> Option<ShownSet> {
        self.newest.map(|newest| ShownSet { leads: self.leads, newest: micros(newest) })
    }

    /// A name for this set; blank for an empty set. [`Self::named`] reads it.
    pub fn set_name(&self) -> String {
        self.set().map(ShownSet::name).unwrap_or_default()
    }

    /// The set with that name, with its number and time only; `None` for any other text.
    pub fn named(name: &str) -> Option<Self> {
        let ShownSet { leads, newest } = ShownSet::named(name)?;
        Some(Self { leads, newest: Some(instant(newest)), ..Self::default() })
    }

    /// The reason, if all of them have the same one.
    fn only_reason(&self) -> Option<&str> {
        self.reasons.keys().next().filter(|_| self.reasons.len() == 1).map(String::as_str)
    }

    /// Whether this set has leads that `shown` did not have.
    pub fn has_outgrown(&self, shown: &HeldLeads) -> bool {
        self.set().is_some_and(|set| shown.set().is_none_or(|shown| set.has_outgrown(shown)))
    }
}

/// How released leads are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseKind {
    /// They are sent.
    Send,
    /// Nothing is sent. A lead that was never sent is assumed known to Conversica; for the others the content counts as
    /// delivered.
    Baseline,
}

impl ReleaseKind {
    /// The operator's decision that this is.
    fn action(self) -> DecisionAction {
        match self {
            ReleaseKind::Send => DecisionAction::Approve,
            ReleaseKind::Baseline => DecisionAction::Baseline,
        }
    }
}

/// The number of leads that a release concerned, counted in its own transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReleasedLeads {
    pub leads: u64,
    /// As in [`HeldLeads`].
    pub new_people: u64,
    pub assumed_known: u64,
    /// Leads whose rows are missing from the source.
    pub missing: u64,
}

/// The outcome of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseOutcome {
    Leads(ReleasedLeads),
    /// Nothing was released: the set is larger than the one that was shown.
    Grown,
}

/// A condition for the selected leads that were held up to and including an instant. Their newest content is held; an older
/// content may be in flight, or the row may be gone.
pub(crate) fn push_held(statement: &mut StateStatement, selection: &HeldSelection, until: Option<DateTime<Utc>>) {
    // The poll that has staged a lead decides about it.
    statement.push("hold_reason <> 'staged' and status <> 'invalid' and ").push(UNSETTLED);
    if let Some(until) = until {
        statement.push(" and held_at <= ").push_bind(micros(until));
    }
    if let Some(reason) = &selection.reason {
        statement.push(" and hold_reason = ").push_bind(reason);
    }
    if !selection.ids.is_empty() {
        statement.push(" and id in (").push_list(&selection.ids).push(")");
    }
}

/// As [`push_held`], for the leads that a release changes. A baseline includes leads that are gone: if their rows returned, they
/// would be in sync.
fn push_released(
    statement: &mut StateStatement,
    selection: &HeldSelection,
    until: Option<DateTime<Utc>>,
    release: ReleaseKind,
) {
    if release == ReleaseKind::Baseline {
        statement.push("status in ('held', 'gone') and ");
    }
    push_held(statement, selection, until);
}

/// Counts over held leads: people never sent from here, those among them who are assumed known, and missing rows.
const PEOPLE: &str = "count(*) filter (where status = 'held' and gone_at is null \
     and (first_contact_at is null or assumed_at is not null)), \
     count(assumed_at) filter (where status = 'held' and gone_at is null), \
     count(gone_at) filter (where status in ('held', 'gone'))";

/// The leads that are held now.
pub async fn look(db: &StateDb, selection: &HeldSelection) -> Result<HeldLeads, sqlx::Error> {
    let mut held = HeldLeads::default();
    let mut statement =
        StateStatement::new(format!("select hold_reason, count(*), max(held_at), {PEOPLE} from lead where "));
    push_held(&mut statement, selection, None);
    statement.push(" group by hold_reason");
    let rows: Vec<(String, i64, Option<i64>, i64, i64, i64)> = db.fetch_all(statement).await?;
    for (reason, leads, newest, new_people, assumed_known, missing) in rows {
        held.leads += leads;
        held.newest = held.newest.max(newest.map(instant));
        held.new_people += new_people;
        held.assumed_known += assumed_known;
        held.missing += missing;
        held.reasons.insert(reason, leads);
    }
    Ok(held)
}

/// Whether any lead waits for approval, for that reason or for any.
pub async fn any(db: &StateDb, reason: Option<HoldReason>) -> Result<bool, sqlx::Error> {
    let selection = HeldSelection { ids: Vec::new(), reason: reason.map(|reason| reason.name().to_owned()) };
    let mut statement = StateStatement::new("select cast(1 as bigint) from lead where status = 'held' and ");
    push_held(&mut statement, &selection, None);
    statement.push(" limit 1");
    Ok(db.fetch_optional::<(i64,)>(statement).await?.is_some())
}

/// The number of leads that wait for approval.
pub async fn count(db: &StateDb) -> Result<i64, sqlx::Error> {
    let sql = format!("select count(*) from lead where status = 'held' and {UNSETTLED} and hold_reason <> 'staged'");
    let (count,) = db.fetch_one(sql).await?;
    Ok(count)
}

/// The reason and the beginning of the longest hold; `None` if no lead is held for a reason.
pub async fn longest_held(db: &StateDb) -> Result<Option<(String, DateTime<Utc>)>, sqlx::Error> {
    let sql = format!(
        "select hold_reason, changed_at from lead where status = 'held' and {UNSETTLED} and hold_reason <> 'staged' \
         order by changed_at limit 1"
    );
    let first: Option<(String, i64)> = db.fetch_optional(sql).await?;
    Ok(first.map(|(reason, changed_at)| (reason, instant(changed_at))))
}

/// How many of the held leads are people never sent from here, and how many of those are assumed known. It reads an index only,
/// because it is called often.
pub async fn first_contacts(db: &StateDb) -> Result<(i64, i64), sqlx::Error> {
    db.fetch_one(
        "select count(*), count(assumed_at) from lead where status = 'held' and gone_at is null \
         and hold_reason <> 'staged' and (first_contact_at is null or assumed_at is not null)",
    )
    .await
}

/// Which held leads are released, and how.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseOrder<'a> {
    pub selection: &'a HeldSelection,
    /// What the operator was shown.
    pub shown: &'a HeldLeads,
    pub release: ReleaseKind,
    /// The person who decided.
    pub who: &'a DecisionMaker,
}

/// Releases the leads that were shown; nothing if `shown` has been outgrown. Leads whose row is missing are marked gone either
/// way; after [`ReleaseKind::Send`], [`super::gone::settle`] queues their stops. `done` is told how many leads each part had.
pub async fn release(
    db: &StateDb,
    order: ReleaseOrder<'_>,
    now: DateTime<Utc>,
    done: impl FnMut(u64),
) -> Result<ReleaseOutcome, sqlx::Error> {
    let ReleaseOrder { selection, shown, release, who } = order;
    let Some(newest) = shown.newest else { return Ok(ReleaseOutcome::Leads(ReleasedLeads::default())) };
    let mut transaction = db.begin().await?;
    let mut chosen = StateStatement::new("select id, client_id from lead where ");
    push_released(&mut chosen, selection, Some(newest), release);
    let decision = NewDecision { action: release.action(), who, reason: shown.only_reason(), until: newest };
    let listed = bulk_decision::list(&mut transaction, decision, chosen, now).await?;
    if i64::try_from(listed.leads).is_ok_and(|leads| leads > shown.leads) {
        // More leads are held than the operator was shown: some joined after the count was read.
        return Ok(ReleaseOutcome::Grown);
    }
    let mut people = StateStatement::new(format!("select {PEOPLE} from lead where "));
    push_released(&mut people, selection, Some(newest), release);
    let (new_people, assumed_known, missing): (i64, i64, i64) = transaction.fetch_one(people).await?;
    transaction.commit().await?;
    bulk_decision::finish(db, listed, now, done).await?;
    let number = |of: i64| u64::try_from(of).unwrap_or(0);
    Ok(ReleaseOutcome::Leads(ReleasedLeads {
        leads: listed.leads,
        new_people: number(new_people),
        assumed_known: number(assumed_known),
        missing: number(missing),
    }))
}

/// Releases all held leads of the selection, because a setting decided so. Returns how many leads it released.
pub async fn release_all(
    db: &StateDb,
    selection: &HeldSelection,
    release: ReleaseKind,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let choice = || {
        let mut held = lead_record::choose();
        push_released(&mut held, selection, None, release);
        held
    };
    let event = match release {
        ReleaseKind::Send => LeadEvent::Approved,
        ReleaseKind::Baseline => LeadEvent::Baselined,
    };
    lead_record::apply_to_all(db, choice, now, |_| Some(event.clone())).await
}

/// A condition for leads with existing rows that a poll has staged. An older content of them may be in flight.
const IS_STAGED: &str = "hold_reason = 'staged' and gone_at is null";

fn staged() -> StateStatement {
    let mut staged = lead_record::choose();
    staged.push(IS_STAGED);
    staged
}

/// Lets the staged leads go: no approval is needed. Returns how many there were.
pub async fn send_staged(db: &StateDb, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    lead_record::apply_to_all(db, staged, now, |_| Some(LeadEvent::HoldLifted)).await
}

/// Holds the staged leads for this reason, except those that a person has sent again. Returns how many there were.
pub async fn hold_staged(db: &StateDb, reason: HoldReason, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let undecided = || {
        let mut undecided = staged();
        undecided.push(" and (approved_for is null or approved_for <> 'resend')");
        undecided
    };
    lead_record::apply_to_all(db, undecided, now, |_| Some(LeadEvent::HoldRenamed(reason))).await
}

/// How many leads are staged, and how many of them because a person has them sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StagedCount {
    pub all: usize,
    pub resent: usize,
}

pub async fn count_staged(db: &StateDb) -> Result<StagedCount, sqlx::Error> {
    const RESENT: &str = "approved_for = 'resend'";
    let (all, resent): (i64, i64) =
        db.fetch_one(format!("select count(*), count(*) filter (where {RESENT}) from lead where {IS_STAGED}")).await?;
    let number = |count| usize::try_from(count).unwrap_or(0);
    Ok(StagedCount { all: number(all), resent: number(resent) })
}

/// The hold of whole polls that is in force: the first in the order of [`HoldReason::OF_POLLS`] that holds a lead.
pub async fn standing(db: &StateDb) -> Result<Option<StandingHold>, sqlx::Error> {
    let since = |reason: &HoldReason| {
        let name = reason.name();
        format!("select '{name}', min(held_at) from lead where status = 'held' and hold_reason = '{name}'")
    };
    let all: Vec<String> = HoldReason::OF_POLLS.iter().map(since).collect();
    let found: Vec<(String, Option<i64>)> = db.fetch_all(all.join(" union all ")).await?;
    let since = |reason: &HoldReason| {
        let (_, since) = found.iter().find(|(name, since)| name == reason.name() && since.is_some())?;
        Some(StandingHold { reason: *reason, since: instant((*since)?) })
    };
    Ok(HoldReason::OF_POLLS.iter().find_map(since))
}

/// Replaces a reason by another. Returns how many leads it changed.
pub async fn rename(db: &StateDb, reason: HoldReason, to: HoldReason, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let choice = || {
        let mut meant = lead_record::choose();
        meant.push(UNSETTLED).push(" and gone_at is null and hold_reason = ").push_bind(reason.name());
        meant
    };
    lead_record::apply_to_all(db, choice, now, |_| Some(LeadEvent::HoldRenamed(to))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_known_again_by_its_name_and_tells_a_larger_or_newer_one_apart() {
        let held = HeldLeads { leads: 3, newest: Some(instant(1_800_000_000_000_000)), ..HeldLeads::default() };
        let named = HeldLeads::named(&held.set_name()).unwrap();
        assert_eq!((named.leads, named.newest), (held.leads, held.newest));
        assert!(!held.has_outgrown(&named));
        assert!(HeldLeads { leads: 4, ..held.clone() }.has_outgrown(&named));
        assert!(HeldLeads { newest: Some(instant(1_800_000_000_000_001)), ..held.clone() }.has_outgrown(&named));
        assert!(!HeldLeads { leads: 2, ..held }.has_outgrown(&named), "some have gone");
        assert_eq!(HeldLeads::default().set_name(), "");
        for name in ["", "3", "-", "0-5", "x-5", "3-x", "-3-5"] {
            assert_eq!(HeldLeads::named(name), None, "{name}");
        }
    }
}
