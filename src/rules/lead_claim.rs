//! A claimed lead, and the end of its attempt.

use std::time::Duration;

use chrono::DateTime;
use chrono::Utc;

use crate::conversica::lead::LeadId;
use crate::conversica::outcome::OutcomeClass;
use crate::rules::retry::NextStep;

/// A lead that this instance may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadClaim {
    pub lead: LeadId,
    /// The canonical Lead object: the body of the request.
    pub body: String,
    /// The number of this attempt in the present series, from 1.
    pub attempt: i64,
    /// The beginning of the present series of attempts, moved forward by the time for which attempts were late.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// Identifies the claim.
    pub claimed_at: DateTime<Utc>,
    /// The hash of the body.
    pub sent_hash: Vec<u8>,
    /// The content withdraws consent.
    pub urgent: bool,
}

impl LeadClaim {
    /// How long the present series of attempts had lasted when this claim was made; zero for a first attempt.
    pub fn failing_for(&self) -> Duration {
        self.first_failed_at.and_then(|since| (self.claimed_at - since).to_std().ok()).unwrap_or_default()
    }
}

/// A claim whose request has ended, and what is to be recorded about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedAttempt {
    pub lead: LeadId,
    pub claimed_at: DateTime<Utc>,
    pub attempt: i64,
    pub class: OutcomeClass,
    pub http_status: Option<u16>,
    pub detail: Option<String>,
    /// `None` if the process that sent the request is gone, so that the time was not measured.
    pub duration: Option<Duration>,
    pub at: DateTime<Utc>,
    pub sent_hash: Vec<u8>,
    pub next: NextStep,
}

impl FinishedAttempt {
    /// The end of a claim that was given up before its request left.
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
