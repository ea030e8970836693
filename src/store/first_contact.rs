//! The last look before first contacts, in the transaction of the claim; and the end of holds that it has begun.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::config::DuplicateLeads;
use crate::conversica::lead::LeadId;
use crate::rules::first_contact::{
    AddressHolder, ConversationProgress, FirstContactPolicy, FirstContent, HolderStanding, is_duplicate,
};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::store::control::{self, ControlFact};
use crate::store::conversation_progress::{self, ConversationName};
use crate::store::lead_address::{self, AddressCrowd};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{lead_record, micros};

/// What the look at some due leads needs to know.
pub(crate) struct FirstContactLook<'p> {
    policy: &'p FirstContactPolicy,
    crowds: HashMap<LeadId, AddressCrowd>,
    progress: HashMap<ConversationName, ConversationProgress>,
    now: DateTime<Utc>,
}

impl<'p> FirstContactLook<'p> {
    pub async fn prepare(
        transaction: &mut StateTransaction,
        policy: &'p FirstContactPolicy,
        due: &[LeadRecord],
        now: DateTime<Utc>,
    ) -> Result<Self, sqlx::Error> {
        let concerned: Vec<&LeadRecord> = due.iter().filter(|record| policy.concerns(record)).collect();
        let mut look = Self { policy, crowds: HashMap::new(), progress: HashMap::new(), now };
        if concerned.is_empty() {
            return Ok(look);
        }
        if policy.duplicates != DuplicateLeads::Send {
            look.crowds = lead_address::crowds(transaction, policy.duplicates, &concerned, now).await?;
        }
        if policy.canary_leads > 0 {
            let conversation = |record: &&LeadRecord| {
                ConversationName::of(&record.lead, record.desired.as_deref().unwrap_or_default())
            };
            let conversations: BTreeSet<ConversationName> = concerned.iter().map(conversation).collect();
            look.progress = conversation_progress::progress(transaction, &conversations).await?;
        }
        Ok(look)
    }

    /// Why the lead waits for approval; `None` if it is contacted now.
    pub fn reason(&mut self, record: &LeadRecord) -> Option<HoldReason> {
        if !self.policy.concerns(record) {
            return None;
        }
        let content = record.desired.as_deref().unwrap_or_default();
        let first = FirstContent::read(content);
        let is_held_for = |reason: HoldReason| !reason.is_approved_by(record.approved_for);
        if is_held_for(HoldReason::StaleLead) && self.policy.is_stale(&first, self.now) {
            return Some(HoldReason::StaleLead);
        }
        if is_held_for(HoldReason::DuplicatePerson)
            && let Some(crowd) = self.crowds.get(&record.lead)
            && (crowd.is_far_behind
                || is_duplicate(self.policy.duplicates, &lead_address::holder(record), &crowd.holders))
        {
            return Some(HoldReason::DuplicatePerson);
        }
        let progress = self.progress.entry(ConversationName::of(&record.lead, content)).or_default();
        if is_held_for(HoldReason::Canary) && !progress.has_room(self.policy.canary_leads) {
            return Some(HoldReason::Canary);
        }
        progress.contacted += 1;
        None
    }
}

/// Ends the holds of canaries whose conversation Conversica works by now, and holds whose setting was switched off. Returns how many
/// leads go on.
pub async fn end_holds(db: &StateDb, policy: &FirstContactPolicy, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut released = 0;
    if policy.duplicates == DuplicateLeads::Send {
        released += end_all(db, HoldReason::DuplicatePerson, now).await?;
    }
    if policy.canary_leads == 0 {
        return Ok(released + end_all(db, HoldReason::Canary, now).await?);
    }
    let rows: Vec<(String, String)> = db
        .fetch_all("select client, name from conversation_progress where worked_at is not null and released_at is null")
        .await?;
    if rows.is_empty() {
        return Ok(released);
    }
    let worked: BTreeSet<ConversationName> =
        rows.into_iter().map(|(client_id, name)| ConversationName { client_id, name }).collect();
    // Claims that have not seen this yet are over after this: what they hold is found below.
    if let Some(lock) = db.claim_lock() {
        let mut barrier = db.begin().await?;
        barrier.execute(lock).await?;
        barrier.commit().await?;
    }
    let is_worked = |record: &LeadRecord| {
        worked.contains(&ConversationName::of(&record.lead, record.desired.as_deref().unwrap_or_default()))
    };
    let ended = |record: &LeadRecord| is_worked(record).then_some(LeadEvent::HoldEnded(HoldReason::Canary));
    released += lead_record::apply_to_all(db, || held(HoldReason::Canary), now, ended).await?;
    for conversation in &worked {
        let done =
            StateStatement::new("update conversation_progress set released_at = $1 where client = $2 and name = $3");
        db.execute(done.bind(micros(now)).bind(&conversation.client_id).bind(&conversation.name)).await?;
    }
    Ok(released)
}

fn held(reason: HoldReason) -> StateStatement {
    let mut held = lead_record::choose();
    held.push("status = 'held' and gone_at is null and hold_reason = ").push_bind(reason.name());
    held
}

async fn end_all(db: &StateDb, reason: HoldReason, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    lead_record::apply_to_all(db, || held(reason), now, |_| Some(LeadEvent::HoldEnded(reason))).await
}

/// The last look at held duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DuplicateReview {
    at: DateTime<Utc>,
}

impl ControlFact for DuplicateReview {
    const NAME: &'static str = "duplicate_review";
}

/// A look costs some statements for each lead, and its news is never urgent.
const REVIEW_EVERY: TimeDelta = TimeDelta::seconds(30);
/// Leads that one look examines.
const REVIEWED_AT_ONCE: i64 = 500;

/// Looks again at some of the leads that are held as duplicates: the lead that went before may have become invalid, rejected, suppressed or
/// gone. Of very many, each look takes others, by chance. Returns how many leads go on.
pub async fn review_duplicates(
    db: &StateDb,
    policy: &FirstContactPolicy,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let before = control::read::<DuplicateReview>(db).await?;
    let is_soon = before.is_some_and(|review| review.at <= now && now < review.at + REVIEW_EVERY);
    if policy.duplicates == DuplicateLeads::Send || is_soon {
        return Ok(0);
    }
    let count = StateStatement::new("select count(*) from lead where status = 'held' and hold_reason = $1");
    let (all,): (i64,) = db.fetch_one(count.bind(HoldReason::DuplicatePerson.name())).await?;
    if all == 0 {
        return Ok(0);
    }
    control::write(db, &DuplicateReview { at: now }, now).await?;
    let skipped = if all > REVIEWED_AT_ONCE { rand::random_range(0..=all - REVIEWED_AT_ONCE) } else { 0 };
    let mut transaction = db.begin().await?;
    let mut some = held(HoldReason::DuplicatePerson);
    some.push(" order by id, client_id limit ").push_bind(REVIEWED_AT_ONCE).push(" offset ").push_bind(skipped);
    some.push(transaction.for_update());
    let records = lead_record::read(&mut transaction, some).await?;
    let asked: Vec<&LeadRecord> = records.iter().collect();
    let crowds = lead_address::crowds(&mut transaction, policy.duplicates, &asked, now).await?;
    let goes_on = |record: &LeadRecord| {
        crowds.get(&record.lead).is_none_or(|crowd| {
            // It is a candidate from now on, as it was before it was held.
            let own = AddressHolder { standing: HolderStanding::Waiting, ..lead_address::holder(record) };
            !crowd.is_far_behind && !is_duplicate(policy.duplicates, &own, &crowd.holders)
        })
    };
    let ended = |record: &LeadRecord| goes_on(record).then_some(LeadEvent::HoldEnded(HoldReason::DuplicatePerson));
    let ended = lead_record::apply(&mut transaction, records, now, ended).await?;
    transaction.commit().await?;
    Ok(ended.len() as u64)
}
