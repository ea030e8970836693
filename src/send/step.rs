//! One step of a drain: as many rows of the change log as are read at a time. Whether it can be judged by itself, or is part
//! of something larger, of which only a comparison of every row can tell what it is.

use crate::conversica::lead::LeadId;
use crate::rules::guard;
use crate::send::allowance::UnaskedAllowance;
use crate::send::poll_context::PollContext;
use crate::source::changes::log::ChangeLog;
use crate::store::gone;

/// What a step reads.
#[derive(Debug, Clone)]
pub struct TouchedRows {
    pub leads: Vec<LeadId>,
    pub behind: LogBehind,
    /// Rows whose key names no lead, where such rows were touched as well: they may be those of leads that seem to be missing.
    pub unnamed: u64,
}

/// What waits in the log behind a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogBehind {
    /// Nothing, or only what was there when everything was last compared.
    Nothing,
    /// Rows that nobody has looked at.
    Rows,
}

/// What a step has found that must not happen unasked at any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepWeight {
    /// Leads that the source was expected to have.
    pub missing: u64,
    /// Of the sends: people who are told of for the first time.
    pub created: u64,
    pub sends: u64,
}

/// Whether everything has to be compared before anything of this leaves or goes. The number of leads is asked for where some
/// have gone, and no further than it takes to know that enough are left.
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
        // Where a key has changed everywhere, the new ones may come first, and the old ones behind them.
        if below > 0.0 && weight.missing + weight.created > 0 {
            return Ok(true);
        }
        if limit > 0 && weight.missing + weight.sends > 0 && log.has_more_than(allowance.left(limit)).await? {
            return Ok(true);
        }
    }
    let lost = weight.missing + allowance.earlier().lost;
    if below <= 0.0 || weight.missing == 0 || lost < 2 {
        return Ok(false);
    }
    let enough = guard::enough_left(below, lost);
    let left = gone::left(state, enough.saturating_add(weight.missing)).await?.saturating_sub(weight.missing);
    Ok(guard::has_shrunk(below, left, lost))
}
