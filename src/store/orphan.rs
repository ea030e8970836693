//! Table `lead`: claims that their instance will not finish, because it has ended or is away for longer than the lease.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::{DeliverySettings, OnAmbiguous};
use crate::conversica::lead::ContentFingerprint;
use crate::conversica::outcome::OutcomeClass;
use crate::horizon::{self, TOLERANCE};
use crate::rules::lead_claim::FinishedAttempt;
use crate::rules::lead_record::LeadRecord;
use crate::rules::retry::NextStep;
use crate::store::claimed_records::ClaimedRecords;
use crate::store::delivery::RecordedAttempts;
use crate::store::lead::locking;
use crate::store::lead_status::UNSETTLED;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{conversation_progress, delivery, lead_record, micros, outcome};

/// Whether any claim with an expired lease has to be recovered.
pub async fn any_expired(db: &StateDb, settings: &DeliverySettings, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let latest = horizon::latest(longest_lease(settings), now);
    let expired = StateStatement::new(format!(
        "select cast(1 as bigint) from lead where status = 'in_flight' and {UNSETTLED} \
         and (lease_until <= $1 or lease_until > $2) limit 1"
    ));
    let found: Option<(i64,)> = db.fetch_optional(expired.bind(micros(now)).bind(micros(latest))).await?;
    Ok(found.is_some())
}

/// An instance that has not reloaded its settings may have a longer time limit, so a lease of this length is always accepted.
const ALWAYS_BELIEVED: Duration = Duration::from_secs(300);

/// No lease is longer than this. A longer one was written by a clock that ran ahead.
fn longest_lease(settings: &DeliverySettings) -> Duration {
    (settings.timeout * 2 + TOLERANCE).max(ALWAYS_BELIEVED)
}

/// Shortens leases that are longer than possible, as if they began now: the instance that claimed with a wrong clock may still be
/// sending.
async fn shorten_leases(db: &StateDb, settings: &DeliverySettings, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let (latest, left) = (horizon::latest(longest_lease(settings), now), settings.timeout * 2 + TOLERANCE);
    let sql = format!(
        "with ahead (ahead_id, ahead_client_id) as (select id, client_id from lead \
         where status = 'in_flight' and {UNSETTLED} and lease_until > $1{}) \
         update lead set lease_until = $2, version = version + 1 from ahead where lead.id = ahead_id and lead.client_id = ahead_client_id",
        locking(db)
    );
    db.execute(StateStatement::new(sql).bind(micros(latest)).bind(micros(now + left))).await.map(drop)
}

/// Which claims have lost their worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrphanScope {
    /// All claims: no other process can be sending, because this one has just become the only writer.
    All,
    /// Claims whose lease has expired. Their instance may have ended, but it may also have been paused or cut off and still run.
    Expired,
}

impl OrphanScope {
    /// What the journal says about such a claim: no more than is known.
    const fn detail(self) -> &'static str {
        match self {
            Self::All => "the program ended while this request was on its way",
            Self::Expired => {
                "the lease of this request ended without an answer: its instance ended, was paused, or was cut off from the state"
            }
        }
    }
}

/// Claims that one transaction recovers.
const ORPHANS_AT_ONCE: i64 = 1000;

/// Recovers claims that their instances have left open. It is unknown whether their requests arrived, so each is recorded as ambiguous and treated as
/// `[delivery] on_ambiguous` says. Returns how many there were.
pub async fn recover(
    db: &StateDb,
    orphans: OrphanScope,
    settings: &DeliverySettings,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    shorten_leases(db, settings, now).await?;
    let mut recovered = 0;
    loop {
        let part = recover_some(db, orphans, settings, now).await?;
        recovered += part;
        if part < ORPHANS_AT_ONCE as u64 {
            return Ok(recovered);
        }
    }
}

async fn recover_some(
    db: &StateDb,
    orphans: OrphanScope,
    settings: &DeliverySettings,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let before = match orphans {
        OrphanScope::All => i64::MAX,
        OrphanScope::Expired => micros(now),
    };
    let mut transaction = db.begin().await?;
    let mut find = lead_record::choose();
    find.push(UNSETTLED).push(" and status = 'in_flight' and lease_until <= ").push_bind(before);
    find.push(" order by id, client_id limit ").push_bind(ORPHANS_AT_ONCE);
    // If several instances recover at once, one gets each claim.
    find.push(transaction.skip_locked());
    let records = lead_record::read(&mut transaction, find).await?;
    let finished: Vec<FinishedAttempt> =
        records.iter().filter_map(|record| lost(record, orphans, settings, now)).collect();
    if finished.is_empty() {
        return Ok(0);
    }
    let RecordedAttempts { journal, leads } =
        delivery::record(&mut transaction, &ClaimedRecords::default(), &finished).await?;
    conversation_progress::count_contacted(&mut transaction, &leads, now).await?;
    transaction.execute(outcome::minute_statement(&journal)).await?;
    transaction.execute(outcome::count_statement(&journal)).await?;
    transaction.commit().await?;
    Ok(finished.len() as u64)
}

/// The end of a claim whose instance does not finish it.
fn lost(
    record: &LeadRecord,
    orphans: OrphanScope,
    settings: &DeliverySettings,
    now: DateTime<Utc>,
) -> Option<FinishedAttempt> {
    let overtaken = record.sent_hash == Some(LeadRecord::OTHER_CONTENT);
    let sent = record.content_in_flight().filter(|_| overtaken).map(|sent| ContentFingerprint::of(sent.as_bytes()));
    Some(FinishedAttempt {
        lead: record.lead.clone(),
        claimed_at: record.claimed_at?,
        attempt: record.attempts,
        class: OutcomeClass::Ambiguous,
        http_status: None,
        detail: Some(orphans.detail().to_owned()),
        duration: None,
        at: now,
        sent_hash: sent.or(record.sent_hash)?.as_bytes().to_vec(),
        next: after_crash(settings, record, now),
    })
}

fn after_crash(settings: &DeliverySettings, record: &LeadRecord, now: DateTime<Utc>) -> NextStep {
    match settings.on_ambiguous {
        // A withdrawal of consent does not wait.
        _ if record.urgent => NextStep::Resend,
        OnAmbiguous::Resend => NextStep::Resend,
        OnAmbiguous::Wait => NextStep::RetryAt(now + settings.ambiguous_wait),
        OnAmbiguous::Hold => NextStep::Hold,
    }
}
