//! Events of the CRM's row: it changes, goes missing and comes back.

use chrono::{DateTime, Utc};

use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::lead::{ContentFingerprint, WITHDRAWALS};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::LeadChange;
use crate::rules::lead_record::{LeadRecord, says};
use crate::rules::lead_status::LeadStatus;

/// A lead in flight stays in flight; its newest content waits for the outcome. A lead that waits for its retry keeps its time, so
/// that a change does not hurry an endpoint that asked for patience.
pub(super) fn changed(
    record: LeadRecord,
    change: &LeadChange,
    due_at: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> LeadRecord {
    let is_suppressed = change.suppressed && change.desired.is_ok() && !record.may_be_contacted();
    let urgent = !is_suppressed && withdraws_now(&record, change);
    let is_delivered = record.delivered_hash == Some(change.desired_hash);
    // The new content needs no approval, whatever held the old one. An invalid row can be fixed, but an ambiguous outcome stays
    // unknown.
    let is_settled = urgent || is_delivered || is_suppressed;
    let needs_approval = !(is_settled || change.desired.is_err() && record.hold_reason != Some(HoldReason::Ambiguous));
    let hold_reason = hold_of_new_content(record.hold_reason, change.hold_reason).filter(|_| needs_approval);
    let status = match record.status {
        LeadStatus::InFlight => LeadStatus::InFlight,
        _ if change.desired.is_err() => LeadStatus::Invalid,
        _ if is_suppressed => LeadStatus::Suppressed,
        _ if is_delivered => LeadStatus::InSync,
        _ if hold_reason.is_some() => LeadStatus::Held,
        LeadStatus::Retrying => LeadStatus::Retrying,
        _ => LeadStatus::Pending,
    };
    let goes_on = matches!(record.status, LeadStatus::Retrying | LeadStatus::InFlight) && !is_suppressed;
    let keeps_time = record.status == LeadStatus::Retrying && !urgent;
    LeadRecord {
        status,
        hold_reason,
        held_at: hold_reason.map(|_| written_at),
        urgent,
        attempts: if goes_on { record.attempts } else { 0 },
        first_failed_at: record.first_failed_at.filter(|_| goes_on),
        due_at: if keeps_time { record.due_at } else { Some(due_at) },
        desired: change.desired.as_ref().ok().cloned(),
        desired_hash: change.desired_hash,
        approved_for: record.approved_for.filter(|_| change.desired_hash == record.desired_hash),
        invalid_reasons: change.invalid_reasons(),
        changed_at: written_at,
        gone_at: None,
        status_before: None,
        row_hash: change.row_hash,
        ..with_contents_kept(record)
    }
}

/// The person has opted out elsewhere. A lead that was never contacted is not introduced. One that Conversica may know is sent with
/// the opt-out, also if its row is missing.
pub(super) fn suppressed(record: LeadRecord, withdrawn: &WithdrawnConsent, now: DateTime<Utc>) -> LeadRecord {
    if record.gone_at.is_some() {
        return suppressed_missing(record, withdrawn, now);
    }
    let Some(desired) = record.desired.as_ref() else { return record };
    let kept = withdrawn.keep(desired);
    let is_known = record.may_be_contacted();
    if kept.is_none() && (is_known || record.status == LeadStatus::Suppressed) {
        return record;
    }
    let desired = kept.unwrap_or_else(|| desired.clone());
    let change = LeadChange {
        lead: record.lead.clone(),
        desired_hash: ContentFingerprint::of(desired.as_bytes()),
        desired: Ok(desired),
        hold_reason: None,
        urgent: false,
        suppressed: !is_known,
        row_hash: record.row_hash,
    };
    changed(record, &change, now, now)
}

/// A lead whose row is missing is suppressed when its row is back. Conversica may write to it until then, so the opt-out is added to
/// what Conversica has, or to the withdrawal that waits. A lead that was never contacted needs no request.
fn suppressed_missing(record: LeadRecord, withdrawn: &WithdrawnConsent, now: DateTime<Utc>) -> LeadRecord {
    if !record.may_be_contacted() {
        let is_due = matches!(record.status, LeadStatus::Pending | LeadStatus::Retrying);
        let status = if is_due { LeadStatus::Gone } else { record.status };
        return LeadRecord { status, urgent: record.urgent && !is_due, ..record };
    }
    let told = match record.status {
        // A stop waits to be queued.
        LeadStatus::Gone if record.urgent => record.stop_content().or_else(|| record.last_content().map(str::to_owned)),
        _ if record.urgent => record.desired.clone(),
        _ => record.last_content().map(str::to_owned),
    };
    match told.and_then(|content| withdrawn.keep(&content)) {
        Some(content) => withdrawal_queued(record, content, now),
        None => record,
    }
}

/// Whether the new content withdraws consent. The poll read the lead some time ago. If the lead was claimed since, Conversica
/// knows the person by now, and a content that seemed to withdraw nothing is a withdrawal. During a request, consent counts as
/// already withdrawn only if the content in flight withdraws it too.
fn withdraws_now(record: &LeadRecord, change: &LeadChange) -> bool {
    if change.urgent {
        return true;
    }
    let Ok(desired) = &change.desired else { return false };
    let is_known = record.first_contact_at.is_some() || record.is_in_flight();
    let certain = record.certain_content().unwrap_or_default();
    let in_flight = record.content_in_flight().unwrap_or_default();
    is_known
        && WITHDRAWALS.into_iter().any(|key| {
            let was_withdrawn = says(certain, key) && (!record.is_in_flight() || says(in_flight, key));
            says(desired, key) && !was_withdrawn
        })
}

/// A hold of the old content goes on, except one for its content, such as `conversation_changed`, which each content decides for
/// itself. A hold of a single lead goes before a hold of the whole poll, because the latter is released without a check of single
/// leads.
fn hold_of_new_content(old: Option<HoldReason>, new: Option<HoldReason>) -> Option<HoldReason> {
    match old {
        Some(HoldReason::Ambiguous | HoldReason::TestLeadLimit) => old,
        Some(
            HoldReason::ConversationChanged
            | HoldReason::UnknownConversation
            | HoldReason::UnknownRep
            | HoldReason::StaleLead
            | HoldReason::Canary
            | HoldReason::DuplicatePerson,
        )
        | None => new,
        Some(
            HoldReason::FirstRun
            | HoldReason::TooManyChanges
            | HoldReason::MappingChanged
            | HoldReason::SourceShrank
            | HoldReason::Restored
            | HoldReason::Resend
            | HoldReason::Staged,
        ) => new.or(old),
    }
}

/// Before the desired content changes: keeps a copy of it where it is the content accepted last, or the content in flight.
pub(super) fn with_contents_kept(record: LeadRecord) -> LeadRecord {
    let delivered = record.accepted_content().map(str::to_owned);
    let sent = if record.is_in_flight() { record.content_in_flight().map(str::to_owned) } else { record.sent.clone() };
    LeadRecord { delivered, sent, ..record }
}

/// The request in flight ends first, and a withdrawal of consent is still sent.
pub(super) fn missing(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    let still_sends = record.is_in_flight() || is_due_withdrawal(&record);
    let status = if still_sends { record.status } else { LeadStatus::Gone };
    LeadRecord { gone_at: Some(now), status, ..without_shrunk_hold(record) }
}

/// If Conversica knows the lead, its last content is queued with `stopMessaging: true`, before all other leads.
pub(super) fn missing_stop(record: LeadRecord, now: DateTime<Utc>) -> LeadRecord {
    if let Some(stop) = record.stop_content() {
        return withdrawal_queued(LeadRecord { gone_at: Some(now), ..record }, stop, now);
    }
    let status = if record.is_in_flight() { LeadStatus::InFlight } else { LeadStatus::Gone };
    LeadRecord { gone_at: Some(now), urgent: false, status, ..without_hold(record) }
}

/// The last withdrawal of a lead whose row is missing. No hold delays it.
fn withdrawal_queued(record: LeadRecord, content: String, now: DateTime<Utc>) -> LeadRecord {
    let is_in_flight = record.is_in_flight();
    LeadRecord {
        status: if is_in_flight { LeadStatus::InFlight } else { LeadStatus::Pending },
        urgent: true,
        desired_hash: ContentFingerprint::of(content.as_bytes()),
        desired: Some(content),
        approved_for: None,
        invalid_reasons: None,
        row_hash: None,
        attempts: if is_in_flight { record.attempts } else { 0 },
        first_failed_at: record.first_failed_at.filter(|_| is_in_flight),
        due_at: Some(now),
        changed_at: now,
        ..without_hold(with_contents_kept(record))
    }
}

fn without_hold(record: LeadRecord) -> LeadRecord {
    LeadRecord { hold_reason: None, held_at: None, status_before: None, ..record }
}

/// A lead that is held already keeps its reason and time. Requests in flight and withdrawals of consent go on.
pub(super) fn missing_with_most(
    record: LeadRecord,
    missing_since: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> LeadRecord {
    if record.gone_at.is_some()
        || matches!(record.status, LeadStatus::InFlight | LeadStatus::Gone)
        || is_due_withdrawal(&record)
    {
        return record;
    }
    let was_held = record.status == LeadStatus::Held;
    LeadRecord {
        gone_at: Some(missing_since),
        status_before: if was_held { record.status_before } else { Some(record.status) },
        hold_reason: record.hold_reason.or(Some(HoldReason::SourceShrank)),
        held_at: if was_held { record.held_at } else { Some(written_at) },
        status: LeadStatus::Held,
        ..record
    }
}

/// The lead gets the status that follows from its content, or its status before it was held for the missing row. If its content
/// has changed, its stop was queued meanwhile, and the next compare finds that the row differs.
pub(super) fn back(record: LeadRecord, content: ContentFingerprint, now: DateTime<Utc>) -> LeadRecord {
    if record.desired_hash != content || record.gone_at.is_none() {
        return record;
    }
    let hold_reason = hold_of_row_back(&record);
    let status = match (record.status, record.status_before) {
        (LeadStatus::InFlight, _) => LeadStatus::InFlight,
        // Conversica may know a suppressed lead by now, and has to be told of the opt-out.
        (_, Some(LeadStatus::Suppressed)) if record.may_be_contacted() => LeadStatus::Pending,
        // An answer that came late may have taken its delivered content.
        (_, Some(before)) if before != LeadStatus::InSync || record.is_delivered() => before,
        _ if record.invalid_reasons.is_some() => LeadStatus::Invalid,
        _ if record.is_delivered() => LeadStatus::InSync,
        _ if hold_reason.is_some() => LeadStatus::Held,
        _ => LeadStatus::Pending,
    };
    let keeps_time = record.status_before == Some(LeadStatus::Retrying);
    LeadRecord {
        status,
        hold_reason,
        held_at: record.held_at.filter(|_| hold_reason.is_some()),
        gone_at: None,
        due_at: if keeps_time { record.due_at } else { Some(now) },
        urgent: record.urgent && !record.is_delivered(),
        status_before: None,
        // The settings may have changed meanwhile, so the content is judged again.
        row_hash: record.row_hash.filter(|_| !hold_reason.is_some_and(HoldReason::is_of_content)),
        ..record
    }
}

/// A lead whose row is back still waits for approval if it was held for another reason than the missing row, or if it was first
/// seen while most others were missing. A withdrawal of consent is not held.
fn hold_of_row_back(record: &LeadRecord) -> Option<HoldReason> {
    let first_seen_then = !record.is_in_flight()
        && record.status_before.is_none()
        && record.invalid_reasons.is_none()
        && !record.is_delivered();
    let reason = record.hold_reason.filter(|_| !record.urgent);
    // The last look before the first contact finds these anew.
    let is_found_again = |reason: HoldReason| matches!(reason, HoldReason::Canary | HoldReason::DuplicatePerson);
    reason.filter(|reason| (*reason != HoldReason::SourceShrank || first_seen_then) && !is_found_again(*reason))
}

/// A lead that Conversica knows has still to be told: `urgent` on a lead that is gone says so.
pub(super) fn loss_accepted(record: LeadRecord) -> LeadRecord {
    if record.status != LeadStatus::Held || record.gone_at.is_none() {
        return record;
    }
    let urgent = record.first_contact_at.is_some();
    LeadRecord { status: LeadStatus::Gone, status_before: None, urgent, ..without_shrunk_hold(record) }
}

pub(super) fn stop_dropped(record: LeadRecord) -> LeadRecord {
    if record.status != LeadStatus::Gone {
        return record;
    }
    LeadRecord { urgent: false, ..record }
}

fn is_due_withdrawal(record: &LeadRecord) -> bool {
    record.urgent && matches!(record.status, LeadStatus::Pending | LeadStatus::Retrying)
}

fn without_shrunk_hold(record: LeadRecord) -> LeadRecord {
    let hold_reason = record.hold_reason.filter(|reason| *reason != HoldReason::SourceShrank);
    LeadRecord { held_at: record.held_at.filter(|_| hold_reason.is_some()), hold_reason, ..record }
}
