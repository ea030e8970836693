//! An event that Conversica has sent, on its way to the CRM.

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;

/// An event to write to the CRM, with everything that the write needs.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingEvent {
    pub seq: i64,
    pub lane: String,
    /// Tries that failed.
    pub attempts: i64,
    pub kind: PostKind,
    /// The lead as table `lead` names it.
    pub lead: LeadId,
    pub received_at: DateTime<Utc>,
    pub body: Vec<u8>,
    /// Identifies the content, in hexadecimal digits.
    pub key: String,
    /// JSON object: the keys of a Lead Update that were news.
    pub effect: Option<String>,
    pub conversation: Option<StoredConversation>,
}

/// The picture that all Lead Updates of a lead add up to.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredConversation {
    pub picture: String,
    pub first_heard_at: DateTime<Utc>,
    pub last_heard_at: DateTime<Utc>,
}
