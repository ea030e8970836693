//! Table `lead`, the deliverer's side: claiming due leads and recording the outcomes of attempts, each in one transaction.
//!
//! A claim is on the disk before its request leaves. An outcome counts only for its own claim. A lead has at most one claim at a
//! time, so at most one request per lead is in flight. [`super::due`] says what may be claimed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::{ConsentSettings, DuplicateLeads};
use crate::conversica::lead::LeadId;
use crate::conversica::outcome::RETRY_AFTER_MAX;
use crate::rules::admission::ClaimFilter;
use crate::rules::first_contact::FirstContactPolicy;
use crate::rules::lead_claim::{FinishedAttempt, LeadClaim};
use crate::rules::lead_event::{ClaimTerms, LeadEvent};
use crate::rules::lead_life;
use crate::rules::lead_record::LeadRecord;
use crate::rules::retry::NextStep;
use crate::rules::suppression_ground::SuppressionScope;
use crate::store::claimed_records::ClaimedRecords;
use crate::store::due::ClaimArm;
use crate::store::first_contact::FirstContactLook;
use crate::store::late::LateEntry;
use crate::store::lead_record::{self, ChangedLead};
use crate::store::lead_status::UNSETTLED;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{
    consent, conversation_progress, due, late, lead_address, micros, operator_pause, outcome, pause, possible_opt_out,
    suppression, withdrawal_apart,
};

/// Which leads are wanted, and how many.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    pub leads: usize,
    pub admit: &'a ClaimFilter,
    /// No lead is claimed while any instance has one in flight. The credentials have never been accepted, so a wrong password
    /// costs one rejected request and not one for every instance.
    pub alone: bool,
    pub opt_outs: OptOuts,
    /// Whose opt-outs count for every lead of the same person.
    pub people: SuppressionScope,
    /// Which first contacts are held instead.
    pub first_contacts: &'a FirstContactPolicy,
}

/// How content that contradicts a heard opt-out is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOuts {
    /// The content is sent with the opt-out in it.
    Keep,
    Ignore,
}

impl OptOuts {
    pub fn of(settings: &ConsentSettings) -> Self {
        if settings.keep_opt_outs { Self::Keep } else { Self::Ignore }
    }
}

impl ClaimRequest<'_> {
    pub const NOTHING: ClaimRequest<'static> = ClaimRequest {
        leads: 0,
        admit: &ClaimFilter::Everybody,
        alone: false,
        opt_outs: OptOuts::Keep,
        people: SuppressionScope::Person,
        first_contacts: &FirstContactPolicy::NONE,
    };

    pub fn up_to(leads: usize) -> Self {
        Self { leads, ..Self::NOTHING }
    }
}

/// A stored post about a lead may withdraw consent. Until the receiver has applied it, only withdrawals are sent for that lead.
const NOTHING_TO_TAKE_IN: &str = " and (urgent = 1 or not exists (select 1 from event where event.id = lead.id \
     and event.client_id = lead.client_id and event.applied_at is null and event.problem is null))";

/// What one round of bookkeeping records and claims.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryRound<'a> {
    /// At most 2,000.
    pub finished: &'a [FinishedAttempt],
    pub wanted: ClaimRequest<'a>,
    pub now: DateTime<Utc>,
    pub lease: Duration,
}

/// [`ClaimedRecords::record_and_claim`] for a caller that keeps no records in memory.
pub async fn record_and_claim(
    db: &StateDb,
    finished: &[FinishedAttempt],
    wanted: ClaimRequest<'_>,
    now: DateTime<Utc>,
    lease: Duration,
) -> Result<Vec<LeadClaim>, sqlx::Error> {
    ClaimedRecords::default().record_and_claim(db, DeliveryRound { finished, wanted, now, lease }).await
}

impl ClaimedRecords {
    /// Records the finished attempts and claims up to `wanted` due leads, withdrawals of consent first. It takes a handful of
    /// statements in one transaction, for any number of leads; `[safety] duplicates` adds one or two for each first contact.
    pub async fn record_and_claim(
        &mut self,
        db: &StateDb,
        round: DeliveryRound<'_>,
    ) -> Result<Vec<LeadClaim>, sqlx::Error> {
        let finished = round.finished;
        if finished.is_empty() && round.wanted.leads == 0 {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin(db, round.now).await?;
        let RecordedAttempts { journal, leads } = record(&mut transaction, self, finished).await?;
        // Otherwise later, because other instances wait for these counts. The lock comes first, whatever the settings of an instance.
        let needs_counts = round.wanted.first_contacts.canary_leads > 0;
        if needs_counts {
            if let Some(lock) = db.claim_lock().filter(|_| round.wanted.leads > 0) {
                transaction.execute(lock).await?;
            }
            conversation_progress::count_contacted(&mut transaction, &leads, round.now).await?;
        }
        let claimed = claim(db, &mut transaction, round).await?;
        if !needs_counts {
            conversation_progress::count_contacted(&mut transaction, &leads, round.now).await?;
        }
        if !journal.is_empty() {
            transaction.execute(outcome::minute_statement(&journal)).await?;
            transaction.execute(outcome::count_statement(&journal)).await?;
        }
        transaction.commit().await?;
        for attempt in finished {
            self.forget(&attempt.lead);
        }
        let mut claims = Vec::with_capacity(claimed.len());
        for (version, record) in claimed {
            if let Some(claim) = record.clone().into_claim(round.now) {
                claims.push(claim);
                self.keep(record, version);
            }
        }
        claims.sort_by_key(|claim| !claim.urgent);
        Ok(claims)
    }
}

/// Finished attempts, as they were recorded.
pub(crate) struct RecordedAttempts {
    /// The journal's entries.
    pub journal: Vec<FinishedAttempt>,
    pub leads: Vec<ChangedLead>,
}

/// Writes finished attempts to the journal and to their leads. The counts of outcomes and of people are written at the end of the
/// transaction.
pub(crate) async fn record(
    transaction: &mut StateTransaction,
    claimed: &ClaimedRecords,
    finished: &[FinishedAttempt],
) -> Result<RecordedAttempts, sqlx::Error> {
    let mut journal: Vec<FinishedAttempt> =
        finished.iter().filter(|attempt| attempt.next != NextStep::Unsent).cloned().collect();
    if !journal.is_empty() {
        transaction.execute(outcome::insert_statement(&journal)).await?;
    }
    let leads: BTreeSet<LeadId> = finished.iter().map(|attempt| attempt.lead.clone()).collect();
    let records = claimed.lock(transaction, &Vec::from_iter(leads)).await?;
    let mut leads: BTreeMap<LeadId, ChangedLead> = records.into_iter().map(unchanged).collect();
    // Answers that came in time go first: a late answer meets the record that they leave.
    let has_claim =
        |attempt: &FinishedAttempt| leads.get(&attempt.lead).is_some_and(|lead| lead.before.has_claim(attempt));
    let (in_time, too_late): (Vec<_>, Vec<_>) = finished.iter().partition(|attempt| has_claim(attempt));
    let apart: Vec<LeadId> = leads.values().filter_map(answers_apart).cloned().collect();
    let rejections = withdrawal_apart::rejections(transaction, &apart).await?;
    for attempt in in_time {
        let rejection = rejections.get(&attempt.lead).cloned();
        take_in(&mut leads, &attempt.lead, &LeadEvent::Answered { attempt: attempt.clone(), rejection }, attempt.at);
    }
    for attempt in too_late.into_iter().filter(|attempt| attempt.next != NextStep::Unsent) {
        match late::journal(transaction, attempt).await? {
            LateEntry::Said(entry) => {
                let event = LeadEvent::AnsweredLate { attempt: attempt.clone() };
                take_in(&mut leads, &attempt.lead, &event, attempt.at);
                late::replace(&mut journal, attempt, Some(entry));
            }
            LateEntry::WrittenBefore => late::replace(&mut journal, attempt, None),
            LateEntry::Erased => {}
        }
    }
    let leads: Vec<ChangedLead> = leads.into_values().collect();
    lead_record::save(transaction, &leads).await?;
    Ok(RecordedAttempts { journal, leads })
}

fn unchanged(record: LeadRecord) -> (LeadId, ChangedLead) {
    (record.lead.clone(), ChangedLead { before: record.clone(), after: record })
}

/// A lead in flight with another content than the desired one may be a withdrawal that is sent apart.
fn answers_apart(lead: &ChangedLead) -> Option<&LeadId> {
    let is_apart = lead.before.urgent && lead.before.is_in_flight() && !lead.before.sends_desired();
    is_apart.then_some(&lead.before.lead)
}

fn take_in(leads: &mut BTreeMap<LeadId, ChangedLead>, lead: &LeadId, event: &LeadEvent, at: DateTime<Utc>) {
    if let Some(lead) = leads.get_mut(lead) {
        lead.after = lead_life::next(lead.after.clone(), event, at);
    }
}

/// How often one transaction looks for further leads where the last look before first contacts has held all that were due.
const MOST_LOOKS: usize = 32;

/// Claims up to `wanted.leads` due leads. Returns their versions and records.
async fn claim(
    db: &StateDb,
    transaction: &mut StateTransaction,
    round: DeliveryRound<'_>,
) -> Result<Vec<(i64, LeadRecord)>, sqlx::Error> {
    let DeliveryRound { wanted, now, .. } = round;
    let ClaimRequest { leads: mut count, admit, alone, opt_outs, people: _, first_contacts } = wanted;
    if count == 0 {
        return Ok(Vec::new());
    }
    let quotas = admit.quotas(now);
    if alone || !quotas.is_empty() || first_contacts.looks_at_others() {
        // The counts must still be true when the claim is made, so one instance counts and claims at a time.
        if let Some(lock) = db.claim_lock() {
            transaction.execute(lock).await?;
        }
    }
    if alone {
        let (in_flight,): (i64,) = transaction
            .fetch_one(format!("select count(*) from lead where status = 'in_flight' and {UNSETTLED}"))
            .await?;
        if in_flight > 0 {
            return Ok(Vec::new());
        }
        count = 1;
    }
    let mut budget = i64::MAX;
    for quota in quotas {
        let (used,): (i64,) =
            transaction.fetch_one(StateStatement::new(quota.sql).bind(quota.since).bind(quota.at_most)).await?;
        budget = budget.min(quota.at_most - used);
    }
    // The next poll makes these tables; until then no claim can tell which leads have the same address, or how many went first.
    let lacks_addresses =
        first_contacts.duplicates != DuplicateLeads::Send && !lead_address::is_kept(transaction).await?;
    let lacks_progress = first_contacts.canary_leads > 0 && !conversation_progress::is_made(transaction).await?;
    if lacks_addresses || lacks_progress {
        budget = 0;
    }
    let arms = admit.arms(count, budget);
    let choice = DueChoice { arms, leads: count, opt_outs };
    for _ in 0..MOST_LOOKS {
        let due = lead_record::read_versions(transaction, choice.statement(db, now)).await?;
        if due.is_empty() {
            break;
        }
        let claimed = claim_due(transaction, due, round).await?;
        if claimed.iter().any(|(_, record)| record.is_in_flight()) {
            return Ok(claimed);
        }
    }
    Ok(Vec::new())
}

/// Claims these leads, which are due and locked, except those that are suppressed or held instead.
async fn claim_due(
    transaction: &mut StateTransaction,
    due: Vec<(LeadRecord, i64)>,
    round: DeliveryRound<'_>,
) -> Result<Vec<(i64, LeadRecord)>, sqlx::Error> {
    let DeliveryRound { wanted, now, lease, .. } = round;
    let ClaimRequest { admit, opt_outs, people, first_contacts, .. } = wanted;
    let versions: HashMap<LeadId, i64> = due.iter().map(|(record, version)| (record.lead.clone(), *version)).collect();
    let due: Vec<LeadRecord> = due.into_iter().map(|(record, _)| record).collect();
    // The last check before a request leaves: the writer of this content may not have known of an opt-out.
    let has_opt_outs = opt_outs == OptOuts::Keep && transaction.fetch_optional::<(i64,)>(consent::ANY).await?.is_some();
    let mut withdrawn = HashMap::new();
    if has_opt_outs {
        let leads: Vec<LeadId> = due.iter().map(|record| record.lead.clone()).collect();
        withdrawn = consent::withdrawn_of(transaction, &leads).await?;
    }
    let urgent: Vec<LeadId> = due.iter().filter(|record| record.urgent).map(|record| record.lead.clone()).collect();
    let rejections = withdrawal_apart::rejections(transaction, &urgent).await?;
    let suppressed = suppression::find_withdrawn(transaction, people, &due).await?;
    let mut look = FirstContactLook::prepare(transaction, first_contacts, &due, now).await?;
    let claimed = |record: &LeadRecord| {
        let is_resent = record.may_have_been_lost();
        let own = withdrawn.get(&record.lead).map(|own| if is_resent { own.with_keys_added() } else { *own });
        let elsewhere = suppressed.get(&record.lead).copied();
        if let Some(elsewhere) = elsewhere.filter(|_| !record.may_be_contacted()) {
            return Some(LeadEvent::Suppressed(elsewhere));
        }
        if let Some(reason) = look.reason(record) {
            return Some(LeadEvent::HeldBeforeContact(reason));
        }
        Some(LeadEvent::Claimed(ClaimTerms {
            lease,
            counting: admit.counting(),
            opt_outs: elsewhere.map(|elsewhere| elsewhere.with(&own.unwrap_or_default())).or(own),
            rejection: rejections.get(&record.lead).cloned(),
        }))
    };
    let claimed = lead_record::apply(transaction, due, now, claimed).await?;
    let with_version = |lead: ChangedLead| Some((versions.get(&lead.after.lead)? + 1, lead.after));
    Ok(claimed.into_iter().filter_map(with_version).collect())
}

/// Follows a `limit`. SQLite plans by the value of a bare argument, and prepares the statement anew for each other value.
const NOT_PEEKED: &str = " + 0";

/// The due leads of these groups, at most `leads`.
struct DueChoice {
    arms: Vec<ClaimArm>,
    leads: usize,
    opt_outs: OptOuts,
}

impl DueChoice {
    /// Reads the records, and locks them.
    fn statement(&self, db: &StateDb, now: DateTime<Utc>) -> StateStatement {
        let columns = lead_record::columns();
        let not_paused = operator_pause::is_not_paused(db);
        let mut statement = StateStatement::new(operator_pause::PAUSED_BEFORE);
        statement.push_bind(micros(now)).push(") select ").push(&columns).push(" from (");
        for (place, arm) in self.arms.iter().enumerate() {
            statement.push(if place == 0 { "" } else { " union all " });
            statement.push("select * from (select ").push(&columns).push(if place == 0 { ", 0" } else { ", 1" });
            statement.push(" as place from lead where status in ('pending', 'retrying') and ");
            statement.push(arm.condition).push(" and due_at <= ").push_bind(micros(now));
            if self.opt_outs == OptOuts::Keep {
                statement.push(NOTHING_TO_TAKE_IN).push(possible_opt_out::NOT_HELD);
            }
            if arm.condition != due::URGENT {
                statement.push(&not_paused);
            }
            statement
                .push(" order by due_at, id limit ")
                .push_bind(arm.limit)
                .push(NOT_PEEKED)
                .push(" ")
                .push(db.skip_locked())
                .push(") arm");
        }
        // A halt, or a pause that Conversica asked for, applies at once, whichever instance met it.
        statement.push(") arms where not exists (select 1 from control where name = 'halt') and not exists (");
        statement.push(pause::IN_FORCE).push_bind(micros(now)).push(" and at <= ");
        statement.push_bind(micros(now + RETRY_AFTER_MAX)).push(")").push(db.claim_condition());
        statement.push(" order by place, due_at, id limit ").push_bind(i64::try_from(self.leads).unwrap_or(i64::MAX));
        statement.push(NOT_PEEKED);
        statement
    }
}
