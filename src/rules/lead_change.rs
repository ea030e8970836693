//! The input of a poll's comparison (what the state knows about a lead) and its output (a lead whose content has changed).

use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_status::LeadStatus;

/// The facts of a lead that the comparison needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLead {
    pub lead: LeadId,
    pub status: LeadStatus,
    pub desired_hash: ContentFingerprint,
    /// `None`: never accepted, or unknown.
    pub delivered_hash: Option<ContentFingerprint>,
    /// Conversica has accepted this lead before, or may have, or a baseline assumes so.
    pub contacted: bool,
    /// The lead was never sent from here: a baseline assumes that Conversica knows it.
    pub assumed: bool,
    pub hold_reason: Option<HoldReason>,
    /// The row was found missing, even if the lead is not finished yet.
    pub gone: bool,
    /// The hash of the row that made `desired`; `None` if the row has to be mapped again.
    pub row_hash: Option<RowHash>,
}

impl KnownLead {
    /// Conversica has this lead, or may have it, or a request is in flight.
    pub fn may_be_contacted(&self) -> bool {
        self.contacted || self.status == LeadStatus::InFlight
    }

    /// The row was found missing together with most others, so the lead is held unchanged.
    pub fn is_withheld(&self) -> bool {
        self.gone && self.status == LeadStatus::Held
    }

    /// Whether the source should have the lead. A lead first seen in a source that had lost most of its leads, and held for that,
    /// is not expected.
    pub fn is_expected(&self) -> bool {
        self.is_withheld() || !self.gone && !self.is_doubtful()
    }

    fn is_doubtful(&self) -> bool {
        let is_doubtful = matches!(self.hold_reason, Some(HoldReason::SourceShrank | HoldReason::Staged));
        self.status == LeadStatus::Held && !self.contacted && is_doubtful
    }
}

/// The effect of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Conversica has never received this lead.
    Create,
    Update,
    /// An update that withdraws consent.
    Stop,
    /// Conversica has this content already: nothing is sent.
    Reverted,
    Invalid,
    /// The person has opted out elsewhere, and is not introduced.
    Suppressed,
}

impl ChangeKind {
    /// Whether this change makes the deliverer send a request.
    pub const fn sends(self) -> bool {
        matches!(self, ChangeKind::Create | ChangeKind::Update | ChangeKind::Stop)
    }
}

/// A row to write: a lead whose content differs from the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadChange {
    pub lead: LeadId,
    pub desired_hash: ContentFingerprint,
    /// The canonical Lead object, or the reasons why there is none.
    pub desired: Result<String, Vec<String>>,
    /// Set if the lead waits for approval.
    pub hold_reason: Option<HoldReason>,
    /// Withdraws consent: it is sent before all others and is never held.
    pub urgent: bool,
    /// The person has opted out elsewhere, so a lead that was never contacted is not introduced.
    pub suppressed: bool,
    /// The hash of the row that made `desired`.
    pub row_hash: Option<RowHash>,
}

impl LeadChange {
    /// The reasons why there is no Lead object, as JSON.
    pub fn invalid_reasons(&self) -> Option<String> {
        self.desired.as_ref().err().map(|reasons| serde_json::json!(reasons).to_string())
    }
}
