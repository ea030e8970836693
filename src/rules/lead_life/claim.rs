//! Events of the queue: a lead is claimed, or becomes due sooner.

use chrono::{DateTime, TimeDelta, Utc};

use crate::conversica::lead::{ContentFingerprint, withdraws_consent};
use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_event::{ClaimCounting, ClaimTerms};
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;
use crate::rules::withdrawal_apart::withdrawal_apart;

/// The longest lateness of a claim that counts as time of failure.
const LATENESS_COUNTED: TimeDelta = TimeDelta::minutes(1);

/// The lead is written down as in flight before its request leaves. An opt-out in force goes before what the CRM says.
pub(super) fn claimed(record: LeadRecord, terms: &ClaimTerms, now: DateTime<Utc>) -> LeadRecord {
    if !matches!(record.status, LeadStatus::Pending | LeadStatus::Retrying) || record.desired.is_none() {
        return record;
    }
    let counts_as_new = !record.urgent && record.is_new_person();
    let claimed = LeadRecord {
        status: LeadStatus::InFlight,
        attempts: record.attempts + 1,
        sent_hash: Some(record.desired_hash),
        first_failed_at: failing_since(&record, now),
        claimed_at: Some(now),
        lease_until: Some(now + terms.lease),
        introduced_at: match terms.counting {
            ClaimCounting::NewPeople if counts_as_new => Some(now),
            ClaimCounting::NewPeople | ClaimCounting::TestLeads | ClaimCounting::Nothing => record.introduced_at,
        },
        test_lead_at: match terms.counting {
            ClaimCounting::TestLeads => record.test_lead_at.or(Some(now)),
            ClaimCounting::NewPeople | ClaimCounting::Nothing => record.test_lead_at,
        },
        ..record
    };
    let desired_hash = claimed.desired_hash;
    let kept = with_opt_outs_kept(claimed, terms);
    // A rejection concerns the content that was desired until now.
    if kept.desired_hash == desired_hash { sent_apart(kept, terms) } else { kept }
}

/// Lateness counts for a minute only, because it is no failure of Conversica: the program did not run, sending was paused, or the
/// clock was wrong.
fn failing_since(record: &LeadRecord, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let since = record.first_failed_at?;
    if since > now {
        return Some(now);
    }
    let lateness = record.due_at.map_or(TimeDelta::zero(), |due_at| now - LATENESS_COUNTED - due_at);
    Some(since + lateness.max(TimeDelta::zero()))
}

/// The last check before a request leaves: the writer of this content may not have known of an opt-out. The row hash stays,
/// because the row has not changed.
fn with_opt_outs_kept(record: LeadRecord, terms: &ClaimTerms) -> LeadRecord {
    let kept = terms.opt_outs.as_ref().zip(record.desired.as_deref()).and_then(|(opt_outs, body)| opt_outs.keep(body));
    let Some(body) = kept else { return record };
    let withdraws = withdraws_consent(record.certain_content().unwrap_or_default(), &body);
    let urgent = record.urgent || record.first_contact_at.is_some() && withdraws;
    let fingerprint = ContentFingerprint::of(body.as_bytes());
    let delivered = record.accepted_content().map(str::to_owned);
    LeadRecord {
        delivered,
        desired: Some(body),
        desired_hash: fingerprint,
        sent_hash: Some(fingerprint),
        approved_for: None,
        urgent,
        ..record
    }
}

/// Conversica rejected a content that withdraws consent, so the withdrawal is sent by itself.
fn sent_apart(record: LeadRecord, terms: &ClaimTerms) -> LeadRecord {
    if !record.urgent || terms.rejection.is_none() {
        return record;
    }
    let (desired, accepted) = (record.desired.as_deref(), record.accepted_content());
    let Some(body) = desired.zip(accepted).and_then(|(desired, accepted)| withdrawal_apart(desired, accepted)) else {
        return record;
    };
    LeadRecord { sent_hash: Some(ContentFingerprint::of(body.as_bytes())), sent: Some(body), ..record }
}

/// Conversica answers again, and withdrawals of consent go first.
pub(super) fn conversica_back(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    let waits = record.status == LeadStatus::Retrying && record.urgent && record.due_at > Some(now);
    if waits { due_now(record, now) } else { record }
}

/// Conversica knows every lead that it posts about. So a lead that waits because an earlier outcome was ambiguous waits no longer.
pub(super) fn heard(record: LeadRecord, heard_at: DateTime<Utc>, now: DateTime<Utc>) -> LeadRecord {
    let waits = record.status == LeadStatus::Retrying
        && record.last_outcome_is(OutcomeClass::Ambiguous)
        && record.last_outcome_at.is_some_and(|at| at <= heard_at)
        && record.due_at > Some(now);
    if waits { due_now(record, now) } else { record }
}

fn due_now(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    LeadRecord { due_at: Some(now), ..record }
}
