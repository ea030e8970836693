//! The life of a lead as one function: the record of a lead, an event, and the record after it.
//!
//! Every writer of the state goes through it: [`crate::store`] chooses the leads that an event concerns, locks their records, and
//! saves what this function makes of them. An event that does not concern a lead in its present state leaves the record as it is.

mod attempt;
mod claim;
mod decision;
mod row;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};

use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;

/// The record after the event. `now` is the time of the event, and for a row the time at which it is written.
pub fn next(record: LeadRecord, event: &LeadEvent, now: DateTime<Utc>) -> LeadRecord {
    match event {
        LeadEvent::RowChanged { change, due_at } => row::changed(record, change, *due_at, now),
        LeadEvent::RowMissing => row::missing(record, now),
        LeadEvent::RowMissingStop => row::missing_stop(record, now),
        LeadEvent::RowMissingWithMost { missing_since } => row::missing_with_most(record, *missing_since, now),
        LeadEvent::RowBack { content } => row::back(record, *content, now),
        LeadEvent::LossAccepted => row::loss_accepted(record),
        LeadEvent::StopDropped => row::stop_dropped(record),
        LeadEvent::Claimed(terms) => claim::claimed(record, terms, now),
        LeadEvent::Answered { attempt, rejection } => attempt::answered(record, attempt, rejection.as_ref()),
        LeadEvent::AnsweredLate { attempt } => attempt::answered_late(record, attempt),
        LeadEvent::Approved => decision::approved(record, now),
        LeadEvent::Baselined => decision::baselined(record, now),
        LeadEvent::HoldLifted => decision::hold_lifted(record, now),
        LeadEvent::HoldRenamed(reason) => decision::hold_renamed(record, *reason),
        LeadEvent::HeldBeforeContact(reason) => decision::held_before_contact(record, *reason, now),
        LeadEvent::HoldEnded(reason) => decision::hold_ended(record, *reason, now),
        LeadEvent::TestLeadsUsedUp => decision::test_leads_used_up(record, now),
        LeadEvent::RetryAsked => decision::retry_asked(record, now),
        LeadEvent::ResendAsked => decision::resend_asked(record, now),
        LeadEvent::ResendDecided { is_held } => {
            let reason = if *is_held { HoldReason::Resend } else { HoldReason::Staged };
            decision::resend_decided(record, reason, now)
        }
        LeadEvent::Restored => decision::restored(record, now),
        LeadEvent::Suppressed(withdrawn) => row::suppressed(record, withdrawn, now),
        LeadEvent::ConversicaBack => claim::conversica_back(record, now),
        LeadEvent::Heard { heard_at } => claim::heard(record, *heard_at, now),
    }
}
