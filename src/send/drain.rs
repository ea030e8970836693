//! A poll with triggers: reads the rows that the change log names until the log is empty. It writes changes to the state first
//! and deletes their log rows second. After a crash it reads the remaining log rows again, which sends nothing twice.

use crate::send::poll::PollOutcome;
use crate::send::poll_context::PollContext;
use crate::send::poll_rows::read_and_write;
use crate::send::reach::{PollCoverage, PollReach, ReadExtent};
use crate::send::step::{LogBehind, TouchedRows};
use crate::source::changes::log::{ChangeLog, TouchedLeads};
use crate::store::control::{self, ChangeLogInUse};

/// Before the rest of the log, it reads every row in four cases: a full compare is due; the log says that anything may have
/// changed; a step turns out to be part of a larger change; the log is not the one of the last poll, because missing triggers
/// recorded nothing.
///
/// # Errors
/// [`crate::error::SetupError`] where log or triggers do not match these settings.
pub(crate) async fn drain(
    context: PollContext<'_>,
    log: &ChangeLog,
    mut reach: PollReach,
    extent: &mut ReadExtent,
) -> anyhow::Result<PollOutcome> {
    let PollContext { crm, state, now, .. } = context;
    let mut total = PollOutcome::default();
    let mut first = true;
    // Log rows that were there at the last full compare and still are.
    let mut compared = 0;
    loop {
        // In this order: every row that is read below is at least as new as this check and the log.
        let generation = match log.look().await?.complete(&log.design) {
            Ok(generation) => generation,
            Err(missing) => {
                // A table that was dropped or replaced by a view has lost its triggers: that is the failure to report.
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
        let covered = Box::pin(read_and_write(context, reach, Some(touched), &mut step)).await;
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
