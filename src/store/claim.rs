//! A claimed lead, and the end of its attempt.

use std::time::Duration;

use chrono::DateTime;
use chrono::Utc;

use crate::conversica::lead::{LeadId, WITHDRAWALS};
use crate::conversica::outcome::OutcomeClass;
use crate::rules::retry::NextStep;

/// A lead that is ours to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadClaim {
    pub lead: LeadId,
    /// The canonical Lead object: the body of the request.
    pub body: String,
    /// This attempt's number in the present series, from 1.
    pub attempt: i64,
    /// Since when the present series of attempts counts, less the time for which it came too late.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// Names the claim.
    pub claimed_at: DateTime<Utc>,
    /// Of the body.
    pub sent_hash: Vec<u8>,
    /// Withdraws consent.
    pub urgent: bool,
}

impl LeadClaim {
    /// How long the present series of attempts had lasted when this claim was made; nothing for a first attempt.
    pub fn failing_for(&self) -> Duration {
        self.first_failed_at.and_then(|since| (self.claimed_at - since).to_std().ok()).unwrap_or_default()
    }
}

/// A claim whose request has ended, and what is to be written of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedAttempt {
    pub lead: LeadId,
    pub claimed_at: DateTime<Utc>,
    pub attempt: i64,
    pub class: OutcomeClass,
    pub http_status: Option<u16>,
    pub detail: Option<String>,
    /// `None` where nobody was left to measure it.
    pub duration: Option<Duration>,
    pub at: DateTime<Utc>,
    pub sent_hash: Vec<u8>,
    pub next: NextStep,
}

impl FinishedAttempt {
    /// Of a claim that was given up before its request left.
    pub fn unsent(claim: LeadClaim, at: DateTime<Utc>) -> Self {
        Self {
            lead: claim.lead,
            claimed_at: claim.claimed_at,
            attempt: claim.attempt,
            class: OutcomeClass::Transient,
            http_status: None,
            detail: None,
            duration: None,
            at,
            sent_hash: claim.sent_hash,
            next: NextStep::Unsent,
        }
    }
}

/// Whether one content withdraws consent that another did not, in SQL.
pub(crate) fn withdrawn_by(new: &str, old: &str) -> String {
    let withdrawn = WITHDRAWALS.map(|key| {
        let said = format!("like '%\"{}\":true%'", key.name());
        format!("({new} {said} and not {old} {said})")
    });
    withdrawn.join(" or ")
}
