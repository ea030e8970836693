//! Events of a request: its answer, in time or too late.

use chrono::{DateTime, Utc};

use crate::conversica::lead::withdraws_consent;
use crate::conversica::outcome::OutcomeClass;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_claim::FinishedAttempt;
use crate::rules::lead_event::ContentRejection;
use crate::rules::lead_record::{LeadRecord, withdrawn_keys};
use crate::rules::lead_status::LeadStatus;
use crate::rules::retry::NextStep;
use crate::rules::withdrawal_apart::{withdrawal_apart, withdrawal_apart_detail};

/// What an attempt says about the content that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentArrival {
    Accepted,
    /// Conversica may have it.
    Unknown,
    /// Conversica does not have it: rejected, failed before it arrived, or never sent.
    NotArrived,
}

impl ContentArrival {
    fn of(attempt: &FinishedAttempt) -> Self {
        if attempt.next == NextStep::Unsent {
            return Self::NotArrived;
        }
        match attempt.class {
            OutcomeClass::Accepted => Self::Accepted,
            OutcomeClass::Ambiguous => Self::Unknown,
            OutcomeClass::Rejected | OutcomeClass::Transient | OutcomeClass::Halting => Self::NotArrived,
        }
    }
}

/// Content that changed after it was sent is due in its own right, whatever the outcome of the old content. Only holds for
/// approval and delays outlive that outcome.
pub(super) fn answered(
    record: LeadRecord,
    attempt: &FinishedAttempt,
    rejection: Option<&ContentRejection>,
) -> LeadRecord {
    if !record.has_claim(attempt) {
        return record;
    }
    let is_rejected = attempt.next == NextStep::Rejected && attempt.class == OutcomeClass::Rejected;
    let next = if is_rejected && can_withdraw_apart(&record) { NextStep::WithdrawApart } else { attempt.next };
    let content = ContentArrival::of(attempt);
    let sends_desired = record.sends_desired();
    // A withdrawal that was sent apart has been answered.
    let apart =
        rejection.filter(|_| record.urgent && !sends_desired && matches!(next, NextStep::Done | NextStep::Rejected));
    // A withdrawal of consent needs no further request: Conversica accepted it, or never received the content that it withdraws.
    let nothing_to_withdraw = next == NextStep::Done && sends_desired
        || content == ContentArrival::NotArrived
            && (record.is_delivered() || record.gone_at.is_some() && record.first_contact_at.is_none());
    let status = status_after(&record, next, apart.is_some(), content, nothing_to_withdraw);
    let (hold_reason, held_at) = hold_after(&record, attempt, next, content);
    let retries = matches!(next, NextStep::RetryAt(_) | NextStep::Resend | NextStep::Hold)
        || next == NextStep::Exhausted && sends_desired;
    let (attempts, first_failed_at) = if matches!(next, NextStep::Untried | NextStep::Unsent) {
        (record.attempts - 1, record.first_failed_at)
    } else if retries {
        (record.attempts, Some(record.first_failed_at.unwrap_or(attempt.at).min(attempt.at)))
    } else {
        (0, None)
    };
    let due_at = match next {
        _ if record.urgent && !sends_desired => attempt.at,
        NextStep::RetryAt(at) => at,
        _ => attempt.at,
    };
    let urgent = !(nothing_to_withdraw || apart.is_some())
        && (record.urgent || next == NextStep::WithdrawApart && sends_desired);
    let was_contacted = record.first_contact_at.is_some() && record.assumed_at.is_none();
    let arrived = content != ContentArrival::NotArrived;
    let after = LeadRecord {
        status,
        due_at: Some(due_at),
        urgent,
        hold_reason,
        held_at,
        delivered: delivered_after(&record, content),
        delivered_hash: match content {
            ContentArrival::Accepted => record.sent_hash.filter(|hash| *hash != LeadRecord::OTHER_CONTENT),
            ContentArrival::Unknown => None,
            ContentArrival::NotArrived => record.delivered_hash,
        },
        delivered_at: if content == ContentArrival::Accepted { Some(attempt.at) } else { record.delivered_at },
        first_contact_at: match (arrived, record.assumed_at) {
            (false, _) => record.first_contact_at,
            (true, None) => record.first_contact_at.or(Some(attempt.at)),
            (true, Some(_)) => Some(attempt.at),
        },
        introduced_at: record.introduced_at.filter(|_| arrived || was_contacted),
        approved_for: record.approved_for.filter(|_| !arrived),
        assumed_at: record.assumed_at.filter(|_| !arrived),
        attempts,
        first_failed_at,
        sent: None,
        sent_hash: None,
        claimed_at: None,
        lease_until: None,
        ..record
    };
    with_outcome(after, attempt, apart)
}

/// A withdrawal of consent in a content that Conversica rejects is sent once more by itself, unless that is what was rejected.
fn can_withdraw_apart(record: &LeadRecord) -> bool {
    let (Some(desired), Some(accepted)) = (record.desired.as_deref(), record.accepted_content()) else { return false };
    record.sends_desired()
        && record.first_contact_at.is_some()
        && withdraws_consent(record.certain_content().unwrap_or_default(), desired)
        && withdrawal_apart(desired, accepted).is_some()
}

fn status_after(
    record: &LeadRecord,
    next: NextStep,
    sent_apart: bool,
    content: ContentArrival,
    nothing_to_withdraw: bool,
) -> LeadStatus {
    let sends_desired = record.sends_desired();
    if record.gone_at.is_some() && (!record.urgent || nothing_to_withdraw) {
        return LeadStatus::Gone;
    }
    if record.invalid_reasons.is_some() {
        return LeadStatus::Invalid;
    }
    if sent_apart {
        // The content itself was rejected.
        return if record.gone_at.is_none() { LeadStatus::Rejected } else { LeadStatus::Gone };
    }
    let is_delivered =
        next == NextStep::Done && sends_desired || content == ContentArrival::NotArrived && record.is_delivered();
    if is_delivered {
        return LeadStatus::InSync;
    }
    let is_held = record.hold_reason.is_some() && next != NextStep::WithdrawApart;
    if is_held || next == NextStep::Hold && !record.urgent {
        return LeadStatus::Held;
    }
    match next {
        NextStep::RetryAt(_) => LeadStatus::Retrying,
        NextStep::Rejected if sends_desired => LeadStatus::Rejected,
        NextStep::Exhausted if sends_desired => LeadStatus::Exhausted,
        NextStep::Done
        | NextStep::Rejected
        | NextStep::Exhausted
        | NextStep::WithdrawApart
        | NextStep::Resend
        | NextStep::Hold
        | NextStep::Untried
        | NextStep::Unsent => LeadStatus::Pending,
    }
}

/// The hold ends if Conversica holds the desired content for certain, or if a withdrawal of consent in it has to be sent apart.
fn hold_after(
    record: &LeadRecord,
    attempt: &FinishedAttempt,
    next: NextStep,
    content: ContentArrival,
) -> (Option<HoldReason>, Option<DateTime<Utc>>) {
    let held_by_conversica = match (next, content) {
        (NextStep::Done, _) => record.sent_hash,
        (_, ContentArrival::Unknown) => None,
        (_, ContentArrival::Accepted | ContentArrival::NotArrived) => record.delivered_hash,
    };
    // A withdrawal of consent is not held, and the content beside it was rejected.
    if held_by_conversica == Some(record.desired_hash) || next == NextStep::WithdrawApart {
        return (None, None);
    }
    if next == NextStep::Hold && !record.urgent {
        return (record.hold_reason.or(Some(HoldReason::Ambiguous)), Some(attempt.at));
    }
    (record.hold_reason, record.held_at)
}

/// If the end of a first contact is unknown, later contents are compared with what was sent. A baseline's assumed content does
/// not count, because it was never sent.
fn delivered_after(record: &LeadRecord, content: ContentArrival) -> Option<String> {
    match content {
        ContentArrival::Accepted if record.sends_desired() => None,
        ContentArrival::Accepted => record.sent.clone(),
        ContentArrival::Unknown => {
            let accepted = record.accepted_content().filter(|_| record.assumed_at.is_none());
            accepted.or_else(|| record.content_in_flight()).map(str::to_owned)
        }
        ContentArrival::NotArrived => record.delivered.clone(),
    }
}

/// The journal has the detail of an accepted attempt; the record carries no second copy.
fn with_outcome(record: LeadRecord, attempt: &FinishedAttempt, apart: Option<&ContentRejection>) -> LeadRecord {
    if attempt.next == NextStep::Unsent {
        return record;
    }
    let at = Some(attempt.at);
    if let Some(rejection) = apart {
        return LeadRecord {
            last_outcome: Some(OutcomeClass::Rejected.name().to_owned()),
            last_http_status: rejection.http_status,
            last_detail: Some(withdrawal_apart_detail(attempt.class, rejection.detail.as_deref())),
            last_outcome_at: at,
            ..record
        };
    }
    LeadRecord {
        last_outcome: Some(attempt.class.name().to_owned()),
        last_http_status: attempt.http_status.map(i64::from),
        last_detail: attempt.detail.clone().filter(|_| attempt.class != OutcomeClass::Accepted),
        last_outcome_at: at,
        ..record
    }
}

/// Whether Conversica may have the content of a request whose claim was taken over.
pub fn may_have_arrived(attempt: &FinishedAttempt) -> bool {
    matches!(attempt.class, OutcomeClass::Accepted | OutcomeClass::Ambiguous)
}

/// Another instance may have sent newer content, and it is unknown in which order Conversica received the two. So the lead is due
/// again, unless the content that was sent is the desired one. A lead that waits for approval or was rejected goes on waiting. A
/// withdrawal of consent does not wait for approval.
pub(super) fn answered_late(record: LeadRecord, attempt: &FinishedAttempt) -> LeadRecord {
    let is_the_same = record.desired_hash.as_bytes() == attempt.sent_hash && record.status != LeadStatus::Suppressed;
    if !may_have_arrived(attempt) || is_the_same {
        return record;
    }
    let withdraws = withdrawn_keys(record.desired.as_deref().unwrap_or_default()).next().is_some();
    // What is held because most rows are missing stays as it is until they are back.
    let ends_hold = withdraws && !(record.status == LeadStatus::Held && record.gone_at.is_some());
    let status = match record.status {
        // Conversica may know a suppressed person by now, and has to be told.
        LeadStatus::InSync | LeadStatus::Suppressed => LeadStatus::Pending,
        LeadStatus::Gone if withdraws => LeadStatus::Pending,
        LeadStatus::Held if ends_hold => LeadStatus::Pending,
        other => other,
    };
    let is_due_now = status != record.status || record.status == LeadStatus::Gone;
    let is_in_flight = record.is_in_flight();
    LeadRecord {
        status,
        due_at: if is_due_now { Some(attempt.at) } else { record.due_at },
        hold_reason: record.hold_reason.filter(|_| !ends_hold),
        held_at: record.held_at.filter(|_| !ends_hold),
        delivered: record.accepted_content().map(str::to_owned),
        delivered_hash: None,
        sent: if is_in_flight { record.content_in_flight().map(str::to_owned) } else { record.sent.clone() },
        sent_hash: if is_in_flight { Some(LeadRecord::OTHER_CONTENT) } else { record.sent_hash },
        first_contact_at: record.first_contact_at.or(Some(attempt.at)),
        urgent: record.urgent || withdraws,
        ..record
    }
}
