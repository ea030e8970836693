//! The state's facts of a lead, for comparing it with the CRM and the journal.

use chrono::{DateTime, Utc};

use crate::conversica::lead::ContentFingerprint;
use crate::rules::lead_status::LeadStatus;

/// The state's facts of a lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadFacts {
    pub status: LeadStatus,
    pub desired_hash: ContentFingerprint,
    /// The content accepted last, or treated as delivered by a baseline; `None`: never, or unknown.
    pub delivered_hash: Option<ContentFingerprint>,
    pub invalid_reasons: Vec<String>,
    pub hold_reason: Option<String>,
    /// When `desired` was last written.
    pub changed_at: DateTime<Utc>,
    /// When Conversica accepted it; `None` if a baseline treated it as delivered.
    pub delivered_at: Option<DateTime<Utc>>,
    /// `None` also if a baseline only assumes that Conversica knows the lead.
    pub first_contact_at: Option<DateTime<Utc>>,
    /// Since when a baseline assumes that Conversica knows the lead, which was never sent from here.
    pub assumed_at: Option<DateTime<Utc>>,
    pub due_at: Option<DateTime<Utc>>,
    pub gone_at: Option<DateTime<Utc>>,
    /// The newest attempt.
    pub answer: Option<RecordedAnswer>,
    pub heard: Option<LeadHeard>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAnswer {
    pub class: String,
    pub http_status: Option<i64>,
    pub detail: Option<String>,
    pub at: Option<DateTime<Utc>>,
}

/// Conversica's posts about a lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadHeard {
    pub last_at: DateTime<Utc>,
    /// Its `conversationStage` and `conversationStatus`, if Conversica does not work leads of that stage.
    pub not_worked: Option<(String, Option<String>)>,
}
