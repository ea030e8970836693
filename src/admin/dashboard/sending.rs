//! Whether requests leave at this moment: decided once per page, so that no two sentences on it contradict each other. Pure.

use chrono::{DateTime, Utc};

use crate::admin::judgement::UnreadyReason;
use crate::rules::lead_status::LeadStatus;
use crate::rules::operator_pause::PauseShown;
use crate::status::StatusReport;
use crate::store::control::{BreakerState, StoredPace};
use crate::wording::{self, meaning};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendingState {
    Flowing,
    /// Conversica fails: the deliverer tries one lead at a time.
    Probing,
    /// Conversica asked for a pause until this time.
    Paused(DateTime<Utc>),
    /// An operator has paused everybody.
    PausedByOperator,
    /// The state cannot record sent leads.
    StateUnwritable,
    Halted,
}

impl SendingState {
    /// The strongest condition that stops requests; `reasons` are why the daemon is not ready.
    pub fn of(report: &StatusReport, reasons: &[UnreadyReason], now: DateTime<Utc>) -> Self {
        let paused_until = |pacing: &StoredPace| pacing.paused_until.filter(|until| *until > now);
        if report.halt.is_some() {
            Self::Halted
        } else if reasons.iter().any(|reason| reason.reason == "state") {
            Self::StateUnwritable
        } else if report.pause.as_ref().is_some_and(PauseShown::is_of_everybody) {
            Self::PausedByOperator
        } else if let Some(until) = report.pacing.as_ref().and_then(paused_until) {
            Self::Paused(until)
        } else if report.pacing.as_ref().is_some_and(|pacing| pacing.breaker == BreakerState::Open) {
            Self::Probing
        } else {
            Self::Flowing
        }
    }

    /// Continues "3 leads wait to be sent; "; `None` where they leave as fast as they may.
    pub fn why_leads_wait(self) -> Option<String> {
        match self {
            Self::Flowing => None,
            Self::Probing => Some("Conversica does not answer well, and one lead at a time is tried".to_owned()),
            Self::Paused(until) => Some(format!("Conversica asked for a pause until {}", until.format("%T UTC"))),
            Self::PausedByOperator => Some("an operator has paused sending".to_owned()),
            Self::StateUnwritable => Some("nothing is sent until the state can be written".to_owned()),
            Self::Halted => Some("nothing is sent until the halt is lifted".to_owned()),
        }
    }

    /// The note on known leads while the CRM cannot be read.
    pub fn of_known_leads(self) -> &'static str {
        match self {
            Self::Flowing | Self::Probing => "What is known already, and not held, goes on being sent.",
            Self::Paused(_) | Self::StateUnwritable | Self::Halted => "Nothing is sent at present either.",
            Self::PausedByOperator => "Only withdrawals of consent are sent at present.",
        }
    }

    /// What a status means at this moment.
    pub fn meaning(self, status: LeadStatus) -> &'static str {
        match (self, status) {
            (
                Self::Paused(_) | Self::PausedByOperator | Self::StateUnwritable | Self::Halted,
                LeadStatus::Pending | LeadStatus::Retrying,
            ) => wording::WAITS_TO_BE_SENT,
            (_, status) => meaning(status),
        }
    }
}
