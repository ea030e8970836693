//! One step of a drain, which reads one batch of the change log. Decides whether the step can be judged alone or is part of a
//! larger change that needs a full compare.

use crate::conversica::lead::LeadId;
use crate::rules::guard::{self, EarlierLosses};
use crate::send::allowance::UnaskedAllowance;
use crate::send::poll_context::PollContext;
use crate::source::changes::log::ChangeLog;
use crate::store::gone;
use crate::store::state_db::StateDb;

/// The input of a step.
#[derive(Debug, Clone)]
pub struct TouchedRows {
    pub leads: Vec<LeadId>,
    pub behind: LogBehind,
    /// Rows without a valid key in this step: leads that seem missing may be theirs.
    pub unnamed: u64,
}

/// The part of the log that waits behind a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogBehind {
    /// Nothing, or only rows that were there at the last full compare.
    Nothing,
    /// Rows that no poll has read.
    Rows,
}

/// Findings of a step that need approval when they are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepWeight {
    /// Leads that the source was expected to have.
    pub missing: u64,
    /// Sends among them that are first contacts.
    pub created: u64,
    pub sends: u64,
}

/// Whether a full compare must come before this step sends a lead or marks one gone. It counts the remaining leads only where
/// some are missing, and only until it is certain that enough are left.
pub async fn is_part(
    weight: StepWeight,
    behind: LogBehind,
    log: &ChangeLog,
    context: PollContext<'_>,
    allowance: &UnaskedAllowance,
) -> Result<bool, sqlx::Error> {
    let PollContext { state, settings, .. } = context;
    let below = settings.safety.source_shrinks_below;
    let limit = u64::from(settings.safety.approve_above);
    if behind == LogBehind::Rows {
        // If a key has changed everywhere, the new keys may come first in the log and the old ones behind them.
        if below > 0.0 && weight.missing + weight.created > 0 {
            return Ok(true);
        }
        if limit > 0 && weight.missing + weight.sends > 0 && log.has_more_than(allowance.left(limit)).await? {
            return Ok(true);
        }
    }
    has_lost_much(state, below, weight.missing, allowance.earlier()).await
}

/// Whether these missing leads, with those that were lost earlier, are so large a share that only a full compare may judge them.
pub async fn has_lost_much(
    state: &StateDb,
    below: f64,
    missing: u64,
    earlier: EarlierLosses,
) -> Result<bool, sqlx::Error> {
    let lost = missing + earlier.lost;
    if below <= 0.0 || missing == 0 || lost < 2 {
        return Ok(false);
    }
    let enough = guard::enough_left(below, lost);
    let left = gone::left(state, enough.saturating_add(missing)).await?.saturating_sub(missing);
    Ok(guard::has_shrunk(below, left, lost))
}
