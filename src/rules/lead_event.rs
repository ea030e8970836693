//! What can happen to a lead. [`super::lead_life::next`] says what each event does.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::lead::ContentFingerprint;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::LeadChange;
use crate::rules::lead_claim::FinishedAttempt;

/// An event in the life of a lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadEvent {
    /// A poll found that the content of the row differs, or an opt-out changed it.
    RowChanged { change: LeadChange, due_at: DateTime<Utc> },
    /// The row is missing, and Conversica is not told.
    RowMissing,
    /// The row is missing, and Conversica is told once to stop messaging if it knows the lead.
    RowMissingStop,
    /// The row is missing together with most others, so the lead is held as it is.
    RowMissingWithMost { missing_since: DateTime<Utc> },
    /// The row is back with this content.
    RowBack { content: ContentFingerprint },
    /// A missing row is accepted as gone for good.
    LossAccepted,
    /// Conversica is not told that the lead is gone.
    StopDropped,
    /// An instance takes the lead, to send it.
    Claimed(ClaimTerms),
    /// The request of the present claim has ended.
    Answered { attempt: FinishedAttempt, rejection: Option<ContentRejection> },
    /// The request of a claim that was taken over has ended.
    AnsweredLate { attempt: FinishedAttempt },
    /// A person approved what waits.
    Approved,
    /// A person decided that Conversica has what waits.
    Baselined,
    /// The poll that has staged it judges that it needs no approval.
    HoldLifted,
    /// The hold has another reason than was known at first.
    HoldRenamed(HoldReason),
    /// The last look before a first contact found this reason to hold it.
    HeldBeforeContact(HoldReason),
    /// This reason applies no more.
    HoldEnded(HoldReason),
    /// The Test Lead Token has sent as many leads as it may.
    TestLeadsUsedUp,
    /// A person asked for another attempt with a rejected or exhausted lead.
    RetryAsked,
    /// A person asked for another request after an ambiguous outcome.
    ResendAsked,
    /// A person has accepted content sent again, because Conversica may have lost it or never worked it.
    ResendDecided { is_held: bool },
    /// The state came out of a backup.
    Restored,
    /// Conversica answers again.
    ConversicaBack,
    /// The person has withdrawn this consent elsewhere: under another id, or by an entry of the suppression list.
    Suppressed(WithdrawnConsent),
    /// Conversica posted something about the lead, so it knows the lead.
    Heard { heard_at: DateTime<Utc> },
}

/// What a claim has to take into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimTerms {
    pub lease: Duration,
    pub counting: ClaimCounting,
    /// Opt-outs in force, if they go before what the CRM says.
    pub opt_outs: Option<WithdrawnConsent>,
    /// Conversica rejected the desired content, and has accepted nothing since.
    pub rejection: Option<ContentRejection>,
}

/// The limits that a claim counts towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimCounting {
    Nothing,
    /// People contacted for the first time, for caps that are set or will be.
    NewPeople,
    /// The limit of the Test Lead Token.
    TestLeads,
}

/// The journal entry that rejected the desired content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRejection {
    pub http_status: Option<i64>,
    pub detail: Option<String>,
}
