//! One lead in a list, for scripts and for people: its status and the reason, in one line.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::rules::lead_status::LeadStatus;
use crate::store::listing::{LastOutcome, ListedLead};

/// The length of an answer in a list; the lead's own page has the rest.
const DETAIL_CHARS: usize = 80;

/// A lead for scripts.
#[derive(Serialize)]
pub struct StoryEntry<'a> {
    id: &'a str,
    client_id: &'a str,
    status: &'static str,
    reason: Option<String>,
    hold_reason: Option<&'a str>,
    invalid_reasons: &'a [String],
    last_outcome: Option<&'a LastOutcome>,
    due_at: Option<DateTime<Utc>>,
    changed_at: DateTime<Utc>,
    since: DateTime<Utc>,
    attempts: i64,
}

impl<'a> StoryEntry<'a> {
    pub fn of(lead: &'a ListedLead) -> Self {
        let reason = reason(lead);
        Self {
            id: &lead.lead.id,
            client_id: &lead.lead.client_id,
            status: lead.status.name(),
            reason: (!reason.is_empty()).then_some(reason),
            hold_reason: lead.hold_reason.as_deref(),
            invalid_reasons: &lead.invalid_reasons,
            last_outcome: lead.last_outcome.as_ref(),
            due_at: lead.due_at,
            changed_at: lead.changed_at,
            since: lead.since,
            attempts: lead.attempts,
        }
    }
}

/// The reason for the status, in one line; blank where the status says everything.
pub fn reason(lead: &ListedLead) -> String {
    match lead.status {
        LeadStatus::Invalid => lead.invalid_reasons.join("; "),
        LeadStatus::Held => lead.hold_reason.clone().unwrap_or_default(),
        LeadStatus::Rejected | LeadStatus::Exhausted | LeadStatus::Retrying => {
            lead.last_outcome.as_ref().map(|outcome| answer(outcome, usize::MAX)).unwrap_or_default()
        }
        LeadStatus::Suppressed => "the person has opted out elsewhere; `lead ID` says where".to_owned(),
        LeadStatus::InSync | LeadStatus::Pending | LeadStatus::InFlight | LeadStatus::Gone | LeadStatus::Assumed => {
            String::new()
        }
    }
}

/// The same, short, and with the time of the next retry.
pub fn why(lead: &ListedLead) -> String {
    match (&lead.last_outcome, lead.status) {
        (Some(outcome), LeadStatus::Rejected | LeadStatus::Exhausted) => answer(outcome, DETAIL_CHARS),
        (Some(outcome), LeadStatus::Retrying) => {
            let due = lead.due_at.map(|at| format!("; tried again at {}", at.format("%F %T UTC"))).unwrap_or_default();
            format!("{}{due}", answer(outcome, DETAIL_CHARS))
        }
        _ => reason(lead),
    }
}

/// `422: the email looks odd`, `ambiguous: no answer within the time limit`.
fn answer(outcome: &LastOutcome, chars: usize) -> String {
    let head = outcome.http_status.map_or_else(|| outcome.class.clone(), |status| status.to_string());
    let Some(detail) = &outcome.detail else { return head };
    match detail.char_indices().nth(chars) {
        None => format!("{head}: {detail}"),
        Some((end, _)) => format!("{head}: {}…", &detail[..end]),
    }
}
