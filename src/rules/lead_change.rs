//! What a poll compares (what the state knows of a lead) and what it writes (a lead whose content has changed).

use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash};
use crate::rules::hold_reason::SOURCE_SHRANK;
use crate::rules::lead_status::LeadStatus;

/// What the diff needs to know of a lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLead {
    pub lead: LeadId,
    pub status: LeadStatus,
    pub desired_hash: ContentFingerprint,
    /// `None`: never accepted, or nobody knows.
    pub delivered_hash: Option<ContentFingerprint>,
    /// Conversica has, or may have, taken this lead before, or a baseline assumes so.
    pub contacted: bool,
    /// It was never sent from here: a baseline assumes that Conversica knows it.
    pub assumed: bool,
    pub hold_reason: Option<String>,
    /// The row was found missing, whatever is still to be done about its lead.
    pub gone: bool,
    /// Of the row that `desired` was made of; `None` where it has to be looked at again.
    pub row_hash: Option<RowHash>,
}

impl KnownLead {
    /// Conversica has this lead, may have it, or is about to: a request is on its way.
    pub fn may_be_contacted(&self) -> bool {
        self.contacted || self.status == LeadStatus::InFlight
    }

    /// Its row was found missing together with most others: it is held as it was.
    pub fn is_withheld(&self) -> bool {
        self.gone && self.status == LeadStatus::Held
    }

    /// Whether the source is expected to have it. Who was first seen in a source that had lost most of its leads, and waits
    /// for that, is not.
    pub fn is_expected(&self) -> bool {
        self.is_withheld() || !self.gone && !self.is_doubtful()
    }

    fn is_doubtful(&self) -> bool {
        self.status == LeadStatus::Held && !self.contacted && self.hold_reason.as_deref() == Some(SOURCE_SHRANK)
    }
}

/// A row to write: a lead whose content differs from what the state holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadChange {
    pub lead: LeadId,
    pub desired_hash: ContentFingerprint,
    /// The canonical Lead object, or the reasons why there is none.
    pub desired: Result<String, Vec<String>>,
    /// Set: it waits for a person instead of being sent.
    pub hold_reason: Option<&'static str>,
    /// Withdraws consent: it goes out before all others and is never held.
    pub urgent: bool,
    /// Of the row that `desired` was made of.
    pub row_hash: Option<RowHash>,
}
