//! Everything that the state keeps about one lead. [`super::lead_life`] says how events change it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::conversica::lead::{
    ContentFingerprint, LeadId, LeadKey, RowHash, WITHDRAWALS, with_withdrawn, withdraws_consent,
};
use crate::conversica::outcome::OutcomeClass;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::LeadChange;
use crate::rules::lead_claim::{FinishedAttempt, LeadClaim};
use crate::rules::lead_status::LeadStatus;

/// The record of one lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadRecord {
    pub lead: LeadId,
    /// As it is stored: never [`LeadStatus::Assumed`], which is shown for a lead in sync with `assumed_at`.
    pub status: LeadStatus,
    /// The canonical Lead object of the CRM's row; `None` while the row is invalid.
    pub desired: Option<String>,
    /// The fingerprint of `desired`, or of the reasons why there is none.
    pub desired_hash: ContentFingerprint,
    /// JSON; `None` while the row is valid.
    pub invalid_reasons: Option<String>,
    /// Why the newest content waits for approval. A lead that is in flight, invalid or gone may have a reason too.
    pub hold_reason: Option<HoldReason>,
    pub held_at: Option<DateTime<Utc>>,
    /// The content that Conversica accepted last; `None` if `desired` is the same. After an ambiguous outcome it is the newest
    /// content that may have arrived.
    pub delivered: Option<String>,
    /// The fingerprint of the content accepted last; `None`: never accepted, or a later outcome was ambiguous.
    pub delivered_hash: Option<ContentFingerprint>,
    pub delivered_at: Option<DateTime<Utc>>,
    /// When Conversica first accepted the lead, or may have, or a baseline assumed so.
    pub first_contact_at: Option<DateTime<Utc>>,
    /// Since when a baseline assumes that Conversica knows the lead, which was never sent from here.
    pub assumed_at: Option<DateTime<Utc>>,
    /// When the lead was claimed for its first contact. It counts towards the caps on new people.
    pub introduced_at: Option<DateTime<Utc>>,
    /// The hold that a person has let the desired content out of: `resend`, or one of the last look before a first contact. It is over once
    /// the content has arrived, or changes.
    pub approved_for: Option<HoldReason>,
    /// When the lead was first sent with the Test Lead Token.
    pub test_lead_at: Option<DateTime<Utc>>,
    /// The content in flight, if it is not the desired content.
    pub sent: Option<String>,
    /// The fingerprint of the content in flight. [`LeadRecord::OTHER_CONTENT`] differs from every desired content.
    pub sent_hash: Option<ContentFingerprint>,
    /// Identifies the claim.
    pub claimed_at: Option<DateTime<Utc>>,
    pub lease_until: Option<DateTime<Utc>>,
    /// Attempts in the present series.
    pub attempts: i64,
    /// The beginning of the present series of failures.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// When the lead may be claimed. It counts while the lead is pending or retrying.
    pub due_at: Option<DateTime<Utc>>,
    /// The desired content withdraws consent that the content accepted last did not. For a lead that is gone: Conversica has
    /// still to be told to stop messaging.
    pub urgent: bool,
    pub last_outcome: Option<String>,
    pub last_http_status: Option<i64>,
    pub last_detail: Option<String>,
    pub last_outcome_at: Option<DateTime<Utc>>,
    /// When `desired` was last written.
    pub changed_at: DateTime<Utc>,
    /// Since when the row is missing from the source.
    pub gone_at: Option<DateTime<Utc>>,
    /// The status before the lead was held for its missing row.
    pub status_before: Option<LeadStatus>,
    /// The hash of the row that made `desired`; `None`: the row has to be mapped again.
    pub row_hash: Option<RowHash>,
}

impl LeadRecord {
    /// As the fingerprint of the content in flight it means "other than the desired content": whatever the outcome of that
    /// request, the desired content is sent after it.
    pub const OTHER_CONTENT: ContentFingerprint = ContentFingerprint([0; 16]);

    /// The record of a lead that the source shows for the first time.
    pub fn first_seen(change: &LeadChange, due_at: DateTime<Utc>, written_at: DateTime<Utc>) -> Self {
        let hold_reason = change.hold_reason.filter(|_| !(change.suppressed && change.desired.is_ok()));
        let status = match (&change.desired, hold_reason) {
            (Err(_), _) => LeadStatus::Invalid,
            (Ok(_), _) if change.suppressed => LeadStatus::Suppressed,
            (Ok(_), Some(_)) => LeadStatus::Held,
            (Ok(_), None) => LeadStatus::Pending,
        };
        Self {
            lead: change.lead.clone(),
            status,
            desired: change.desired.as_ref().ok().cloned(),
            desired_hash: change.desired_hash,
            invalid_reasons: change.invalid_reasons(),
            hold_reason,
            held_at: hold_reason.map(|_| written_at),
            delivered: None,
            delivered_hash: None,
            delivered_at: None,
            first_contact_at: None,
            assumed_at: None,
            introduced_at: None,
            approved_for: None,
            test_lead_at: None,
            sent: None,
            sent_hash: None,
            claimed_at: None,
            lease_until: None,
            attempts: 0,
            first_failed_at: None,
            due_at: Some(due_at),
            urgent: change.urgent,
            last_outcome: None,
            last_http_status: None,
            last_detail: None,
            last_outcome_at: None,
            changed_at: written_at,
            gone_at: None,
            status_before: None,
            row_hash: change.row_hash,
        }
    }

    /// The content that Conversica accepted last.
    pub fn accepted_content(&self) -> Option<&str> {
        match &self.delivered {
            None if self.delivered_hash == Some(self.desired_hash) => self.desired.as_deref(),
            delivered => delivered.as_deref(),
        }
    }

    /// The content that Conversica has for certain.
    pub fn certain_content(&self) -> Option<&str> {
        self.delivered_hash.and_then(|_| self.accepted_content())
    }

    /// The content in flight.
    pub fn content_in_flight(&self) -> Option<&str> {
        match &self.sent {
            None if self.sent_hash == Some(self.desired_hash) => self.desired.as_deref(),
            sent => sent.as_deref(),
        }
    }

    /// Every content of the lead, once: the desired one, and what Conversica has or is about to have. The person may be known to
    /// Conversica by another address than the row has by now.
    pub fn contents(&self) -> BTreeSet<&str> {
        let all = [self.desired.as_deref(), self.accepted_content(), self.content_in_flight()];
        all.into_iter().flatten().collect()
    }

    pub fn is_in_flight(&self) -> bool {
        self.status == LeadStatus::InFlight
    }

    /// A person has the lead sent again, because Conversica may have lost what it knew: accepted or assumed once, and certain no
    /// more, without a request that ended unknown.
    pub fn may_have_been_lost(&self) -> bool {
        self.delivered_hash.is_none() && (self.last_outcome_is(OutcomeClass::Accepted) || self.assumed_at.is_some())
    }

    /// Conversica holds the desired content.
    pub fn is_delivered(&self) -> bool {
        self.delivered_hash == Some(self.desired_hash)
    }

    /// The content in flight is the desired content.
    pub fn sends_desired(&self) -> bool {
        self.sent_hash == Some(self.desired_hash)
    }

    /// Conversica knows the lead, or may know it, or is about to.
    pub fn may_be_contacted(&self) -> bool {
        self.first_contact_at.is_some() || self.is_in_flight()
    }

    /// Never sent from here: as far as is known, the first request introduces the person.
    pub fn is_new_person(&self) -> bool {
        self.first_contact_at.is_none() || self.assumed_at.is_some()
    }

    /// The claim of a lead that has just been claimed; `None` for a lead that is not in flight.
    pub fn into_claim(self, claimed_at: DateTime<Utc>) -> Option<LeadClaim> {
        if !self.is_in_flight() {
            return None;
        }
        Some(LeadClaim {
            body: self.content_in_flight()?.to_owned(),
            attempt: self.attempts,
            first_failed_at: self.first_failed_at,
            claimed_at,
            sent_hash: self.sent_hash?.as_bytes().to_vec(),
            urgent: self.urgent,
            lead: self.lead,
        })
    }

    /// The request of this attempt belongs to the lead's present claim.
    pub fn has_claim(&self, attempt: &FinishedAttempt) -> bool {
        let claimed_at = self.claimed_at.map(|at| at.timestamp_micros());
        self.is_in_flight() && claimed_at == Some(attempt.claimed_at.timestamp_micros())
    }

    /// The newest content that Conversica has or may have; `None` if it was never told about the lead.
    pub fn last_content(&self) -> Option<&str> {
        if self.first_contact_at.is_none() && !self.is_in_flight() {
            return None;
        }
        let unsure = matches!(self.hold_reason, None | Some(HoldReason::Ambiguous | HoldReason::SourceShrank));
        let newest = if self.is_in_flight() {
            self.content_in_flight()
        } else if self.delivered_hash.is_none() && self.attempts > 0 && !self.urgent && unsure {
            // The content to retry after an ambiguous outcome.
            self.desired.as_deref()
        } else {
            None
        };
        newest.or_else(|| self.accepted_content())
    }

    /// The last content with `stopMessaging: true`, and with the consent that the row withdrew before it went. `None` if there is
    /// nothing to tell: Conversica never knew the lead, or has been told to stop.
    pub fn stop_content(&self) -> Option<String> {
        let body = self.last_content()?;
        let withdrawing = self.desired.as_deref().filter(|_| self.urgent).unwrap_or_default();
        let mut keys = vec![LeadKey::StopMessaging];
        keys.extend(withdrawn_keys(withdrawing));
        let stop = with_withdrawn(body, &keys)?;
        let certain = if self.is_in_flight() { None } else { self.certain_content() };
        withdraws_consent(certain.unwrap_or_default(), &stop).then_some(stop)
    }

    /// The newest outcome, as the state names it.
    pub fn last_outcome_is(&self, class: OutcomeClass) -> bool {
        self.last_outcome.as_deref() == Some(class.name())
    }
}

/// The keys that withdraw consent in this canonical content.
pub fn withdrawn_keys(content: &str) -> impl Iterator<Item = LeadKey> {
    WITHDRAWALS.into_iter().filter(|key| says(content, *key))
}

/// Whether a canonical content has that key with the value true. Quotes inside values are escaped, so a search finds keys only.
pub fn says(content: &str, key: LeadKey) -> bool {
    content.contains(&format!("\"{}\":true", key.name()))
}
