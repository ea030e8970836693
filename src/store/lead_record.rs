//! Table `lead`: the whole record of a lead, as [`crate::rules::lead_life`] takes it.

use chrono::{DateTime, Utc};

use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_record::LeadRecord;
use crate::store::instant;
use crate::store::lead_status::status_named;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

const COLUMNS: &str = "id, client_id, status, desired, desired_hash, invalid_reasons, hold_reason, held_at, delivered, \
     delivered_hash, delivered_at, first_contact_at, assumed_at, introduced_at, test_lead_at, sent, sent_hash, claimed_at, \
     lease_until, attempts, first_failed_at, due_at, urgent, last_outcome, last_http_status, last_detail, last_outcome_at, \
     changed_at, gone_at, status_before, row_hash";

#[derive(sqlx::FromRow)]
struct StoredLead {
    id: String,
    client_id: String,
    status: String,
    desired: Option<String>,
    desired_hash: Vec<u8>,
    invalid_reasons: Option<String>,
    hold_reason: Option<String>,
    held_at: Option<i64>,
    delivered: Option<String>,
    delivered_hash: Option<Vec<u8>>,
    delivered_at: Option<i64>,
    first_contact_at: Option<i64>,
    assumed_at: Option<i64>,
    introduced_at: Option<i64>,
    test_lead_at: Option<i64>,
    sent: Option<String>,
    sent_hash: Option<Vec<u8>>,
    claimed_at: Option<i64>,
    lease_until: Option<i64>,
    attempts: i64,
    first_failed_at: Option<i64>,
    due_at: Option<i64>,
    urgent: i64,
    last_outcome: Option<String>,
    last_http_status: Option<i64>,
    last_detail: Option<String>,
    last_outcome_at: Option<i64>,
    changed_at: i64,
    gone_at: Option<i64>,
    status_before: Option<String>,
    row_hash: Option<i64>,
}

/// The record of a lead; `None` if the state has no such lead.
///
/// # Errors
/// Also for a status, a hold reason or a fingerprint that this version does not know.
pub async fn find_record(db: &StateDb, lead: &LeadId) -> Result<Option<LeadRecord>, sqlx::Error> {
    let text = format!("select {COLUMNS} from lead where id = $1 and client_id = $2");
    let found = db.fetch_optional::<StoredLead>(StateStatement::new(text).bind(&lead.id).bind(&lead.client_id)).await?;
    found.map(record_of).transpose()
}

fn record_of(stored: StoredLead) -> Result<LeadRecord, sqlx::Error> {
    Ok(LeadRecord {
        lead: LeadId { id: stored.id, client_id: stored.client_id },
        status: status_named(&stored.status)?,
        desired: stored.desired,
        desired_hash: fingerprint(stored.desired_hash)?,
        invalid_reasons: stored.invalid_reasons,
        hold_reason: stored.hold_reason.as_deref().map(reason_named).transpose()?,
        held_at: at(stored.held_at),
        delivered: stored.delivered,
        delivered_hash: stored.delivered_hash.map(fingerprint).transpose()?,
        delivered_at: at(stored.delivered_at),
        first_contact_at: at(stored.first_contact_at),
        assumed_at: at(stored.assumed_at),
        introduced_at: at(stored.introduced_at),
        test_lead_at: at(stored.test_lead_at),
        sent: stored.sent,
        sent_hash: stored.sent_hash.map(fingerprint).transpose()?,
        claimed_at: at(stored.claimed_at),
        lease_until: at(stored.lease_until),
        attempts: stored.attempts,
        first_failed_at: at(stored.first_failed_at),
        due_at: at(stored.due_at),
        urgent: stored.urgent == 1,
        last_outcome: stored.last_outcome,
        last_http_status: stored.last_http_status,
        last_detail: stored.last_detail,
        last_outcome_at: at(stored.last_outcome_at),
        changed_at: instant(stored.changed_at),
        gone_at: at(stored.gone_at),
        status_before: stored.status_before.as_deref().map(status_named).transpose()?,
        row_hash: stored.row_hash.map(RowHash),
    })
}

fn at(micros: Option<i64>) -> Option<DateTime<Utc>> {
    micros.map(instant)
}

fn fingerprint(bytes: Vec<u8>) -> Result<ContentFingerprint, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("a fingerprint has 16 bytes".into()))?;
    Ok(ContentFingerprint(bytes))
}

fn reason_named(name: &str) -> Result<HoldReason, sqlx::Error> {
    HoldReason::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown hold reason {name:?}").into()))
}
