//! Decisions about leads that wait: by a person, by a setting, or by the poll that held them.

use chrono::{DateTime, Utc};

use crate::conversica::outcome::OutcomeClass;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_life::row::with_contents_kept;
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;

/// Whether a decision can concern the lead: its newest content waits for approval. An older content may be in flight, or the row
/// may be gone. What a poll has staged waits for that poll.
pub fn waits_for_approval(record: &LeadRecord) -> bool {
    let waits = record.hold_reason.is_some_and(|reason| reason != HoldReason::Staged);
    waits && !matches!(record.status, LeadStatus::Invalid | LeadStatus::InSync)
}

/// The lead is sent. If its row is missing, the lead is gone, and Conversica has still to be told if it knows the lead.
pub(super) fn approved(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    if !waits_for_approval(&record) {
        return record;
    }
    if record.hold_reason == Some(HoldReason::Resend) && record.status == LeadStatus::Held && record.gone_at.is_none() {
        // As a resend that needs no approval: it leaves once a poll has seen that the row is still there.
        return LeadRecord {
            hold_reason: Some(HoldReason::Staged),
            held_at: Some(now),
            approved_for: record.hold_reason,
            ..record
        };
    }
    // A decision about anything else says nothing about what the last look finds.
    let of_last_look = record.hold_reason.filter(|reason| reason.place_in_last_look().is_some());
    let is_missing = record.status == LeadStatus::Held && record.gone_at.is_some();
    let is_in_flight = record.is_in_flight();
    LeadRecord {
        status: match record.status {
            LeadStatus::Held if is_missing => LeadStatus::Gone,
            LeadStatus::Held => LeadStatus::Pending,
            other => other,
        },
        urgent: if is_missing { record.first_contact_at.is_some() } else { record.urgent },
        attempts: if is_in_flight { record.attempts } else { 0 },
        first_failed_at: record.first_failed_at.filter(|_| is_in_flight),
        due_at: Some(now),
        approved_for: of_last_look.filter(|_| !is_missing).or(record.approved_for),
        ..released(record)
    }
}

/// Conversica is assumed to have the content. Only an answer of Conversica sets the time of acceptance. The lead counts as known
/// from now on, so withdrawals of consent and stops are sent for it.
pub(super) fn baselined(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    if !waits_for_approval(&record) || !matches!(record.status, LeadStatus::Held | LeadStatus::Gone) {
        return record;
    }
    let is_present = record.status == LeadStatus::Held && record.gone_at.is_none();
    let status = if is_present { LeadStatus::InSync } else { LeadStatus::Gone };
    let only_missing = record.gone_at.is_some() && record.hold_reason == Some(HoldReason::SourceShrank);
    if only_missing || record.desired.is_none() {
        return LeadRecord { status, urgent: false, ..released(record) };
    }
    LeadRecord {
        status,
        urgent: false,
        delivered: None,
        delivered_hash: Some(record.desired_hash),
        delivered_at: None,
        approved_for: None,
        assumed_at: if record.first_contact_at.is_some() { record.assumed_at } else { Some(now) },
        first_contact_at: record.first_contact_at.or(Some(now)),
        ..released(record)
    }
}

fn released(record: LeadRecord) -> LeadRecord {
    LeadRecord { hold_reason: None, held_at: None, status_before: None, ..record }
}

/// A lead whose row is missing stays as it is. Of a lead in flight, the newest content is sent after the answer.
pub(super) fn hold_lifted(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    if record.hold_reason != Some(HoldReason::Staged) || record.gone_at.is_some() {
        return record;
    }
    let free = LeadRecord { hold_reason: None, held_at: None, ..record };
    if free.status != LeadStatus::Held {
        return free;
    }
    LeadRecord { status: LeadStatus::Pending, due_at: Some(now), ..free }
}

pub(super) fn hold_renamed(record: LeadRecord, reason: HoldReason) -> LeadRecord {
    let is_held = record.hold_reason.is_some() && record.status != LeadStatus::InSync && record.gone_at.is_none();
    if is_held { LeadRecord { hold_reason: Some(reason), ..record } } else { record }
}

/// A lead that was sent with the Test Lead Token before may be sent again, and a withdrawal of consent always.
pub(super) fn test_leads_used_up(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    let is_due = matches!(record.status, LeadStatus::Pending | LeadStatus::Retrying);
    if !is_due || record.urgent || record.test_lead_at.is_some() {
        return record;
    }
    LeadRecord { status: LeadStatus::Held, hold_reason: Some(HoldReason::TestLeadLimit), held_at: Some(now), ..record }
}

/// The last look before a first contact finds a reason to hold it. A person's approval of this content outlives that look.
pub(super) fn held_before_contact(record: LeadRecord, reason: HoldReason, now: DateTime<Utc>) -> LeadRecord {
    let is_due = matches!(record.status, LeadStatus::Pending | LeadStatus::Retrying);
    if !is_due || record.urgent || record.first_contact_at.is_some() || reason.is_approved_by(record.approved_for) {
        return record;
    }
    LeadRecord { status: LeadStatus::Held, hold_reason: Some(reason), held_at: Some(now), ..record }
}

/// The reason of the hold applies no more. The last look before a first contact judges the lead anew.
pub(super) fn hold_ended(record: LeadRecord, reason: HoldReason, now: DateTime<Utc>) -> LeadRecord {
    if record.status != LeadStatus::Held || record.hold_reason != Some(reason) || record.gone_at.is_some() {
        return record;
    }
    LeadRecord {
        status: LeadStatus::Pending,
        due_at: Some(now),
        attempts: 0,
        first_failed_at: None,
        ..released(record)
    }
}

pub(super) fn retry_asked(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    if !matches!(record.status, LeadStatus::Rejected | LeadStatus::Exhausted) {
        return record;
    }
    LeadRecord { status: LeadStatus::Pending, attempts: 0, first_failed_at: None, due_at: Some(now), ..record }
}

/// Only a lead with an ambiguous outcome is sent again with the same content.
pub(super) fn resend_asked(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    let waits = matches!(record.status, LeadStatus::Pending | LeadStatus::Retrying);
    if !waits || !record.last_outcome_is(OutcomeClass::Ambiguous) {
        return record;
    }
    LeadRecord { status: LeadStatus::Pending, due_at: Some(now), ..record }
}

/// Only a lead that nothing waits for. From now on it is uncertain whether Conversica has the content. Without an approval to wait
/// for, the next poll releases it, once it has seen that the row is still there. A withdrawal in the content has been accepted
/// before, so it waits like the rest; one that the row makes later goes at once. The reason is `Resend` or `Staged`.
pub(super) fn resend_decided(record: LeadRecord, hold_reason: HoldReason, now: DateTime<Utc>) -> LeadRecord {
    if record.status != LeadStatus::InSync || record.gone_at.is_some() || record.desired.is_none() {
        return record;
    }
    LeadRecord {
        urgent: false,
        status: LeadStatus::Held,
        hold_reason: Some(hold_reason),
        held_at: Some(now),
        delivered_hash: None,
        attempts: 0,
        first_failed_at: None,
        due_at: Some(now),
        approved_for: (hold_reason == HoldReason::Staged).then_some(HoldReason::Resend),
        ..with_contents_kept(record)
    }
}

/// What waited in a state that came out of a backup is older than what Conversica holds. A lead in flight is held when its
/// outcome is recorded. Withdrawals of consent are sent.
pub(super) fn restored(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    let waits = matches!(record.status, LeadStatus::Pending | LeadStatus::InFlight | LeadStatus::Retrying);
    let is_staged = record.hold_reason == Some(HoldReason::Staged) && record.gone_at.is_none();
    let is_released = waits && record.hold_reason.is_none();
    if !(is_released || is_staged && record.status != LeadStatus::Invalid) || record.urgent {
        return record;
    }
    LeadRecord {
        status: if record.is_in_flight() { LeadStatus::InFlight } else { LeadStatus::Held },
        hold_reason: Some(HoldReason::Restored),
        held_at: Some(now),
        approved_for: None,
        ..record
    }
}
