//! A poll with triggers: reads what the change log names, until nothing is left in it, and takes out of the log what has
//! been written to the state, in that order. What a crash leaves in the log is read again, which sends nothing.

use crate::send::poll::PollOutcome;
use crate::send::poll_context::PollContext;
use crate::send::poll_rows::read_and_write;
use crate::send::reach::{PollCoverage, PollReach, ReadExtent};
use crate::send::step::{LogBehind, TouchedRows};
use crate::source::changes::log::{ChangeLog, TouchedLeads};
use crate::store::control::{self, ChangeLogInUse};

/// Everything is read instead, before the rest of the log, where that is due, where the log says that anything may have
/// changed, where a step turns out to be part of something larger, and where it is not the log of the last time: triggers
/// that were away have missed what happened meanwhile.
///
/// # Errors
/// [`crate::error::SetupError`] where log or triggers are not there as these settings want them.
pub(crate) async fn drain(
    context: PollContext<'_>,
    log: &ChangeLog,
    mut reach: PollReach,
    extent: &mut ReadExtent,
) -> anyhow::Result<PollOutcome> {
    let PollContext { crm, state, now, .. } = context;
    let mut total = PollOutcome::default();
    let mut first = true;
    // So many rows of the log were there when everything was last compared, and still are.
    let mut compared = 0;
    loop {
        // In this order: of what is read below, nothing is older than the look and the log.
        let generation = match log.look().await?.complete(&log.design) {
            Ok(generation) => generation,
            Err(missing) => {
                // A table that was dropped, or has become a view, has taken its triggers with it: that is what is to be said.
                crm.fitting().await?;
                return Err(missing.into());
            }
        };
        let in_use = ChangeLogInUse { generation };
        log.make_sure_of_writing().await?;
        let known = control::read::<ChangeLogInUse>(state).await?.as_ref() == Some(&in_use);
        let read = log.read().await?;
        let touched = match &read.touched {
            TouchedLeads::Leads(leads) if known => leads.clone(),
            TouchedLeads::Leads(_) | TouchedLeads::Anything => {
                reach = PollReach::Everything;
                Vec::new()
            }
        };
        let behind = if read.is_full() && compared == 0 { LogBehind::Rows } else { LogBehind::Nothing };
        let waiting = match reach {
            PollReach::Everything if read.is_full() => u64::try_from(log.backlog().await?.rows).unwrap_or(0),
            PollReach::Everything | PollReach::AsDue => read.rows(),
        };
        let keyless = if read.has_keyless { crm.keyless_rows().await? } else { 0 };
        let unnamed = keyless.max(u64::from(read.has_unnamed));
        let touched = TouchedRows { leads: touched, behind, unnamed };
        let mut step = ReadExtent::Full;
        let covered = read_and_write(context, reach, Some(touched), &mut step).await;
        if step == ReadExtent::Full || first {
            *extent = step;
        }
        first = false;
        let (polled, covered) = covered?;
        total.add(polled);
        if covered == PollCoverage::Nothing {
            reach = PollReach::Everything;
            continue;
        }
        if covered == PollCoverage::Everything {
            compared = waiting;
        }
        if covered == PollCoverage::Everything && !known {
            control::write(state, &in_use, now).await?;
        }
        let at_end = covered == PollCoverage::Touched && !read.is_full();
        if covered != PollCoverage::Part {
            compared = compared.saturating_sub(read.rows());
            log.forget(read).await?;
        }
        if at_end {
            return Ok(total);
        }
        reach = PollReach::AsDue;
    }
}
