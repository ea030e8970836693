//! A poll with triggers: reads what the change log names, until nothing is left in it, and takes out of the log what has
//! been written to the state, in that order. What a crash leaves in the log is read again, which sends nothing.

use chrono::{DateTime, Utc};

use crate::config::Settings;
use crate::send::poll::Polled;
use crate::send::poll_rows::read_and_write;
use crate::send::reach::{Covered, Reach};
use crate::send::step::{Behind, Touch};
use crate::send::tally::Tally;
use crate::source::changes::log::{ChangeLog, Touched};
use crate::source::crm::Crm;
use crate::store::control::{self, ChangeLogInUse};
use crate::store::state_db::StateDb;

/// Everything is read instead, before the rest of the log, where that is due, where the log says that anything may have
/// changed, where a step turns out to be part of something larger, and where it is not the log of the last time: triggers
/// that were away have missed what happened meanwhile.
///
/// # Errors
/// [`crate::error::SetupError`] where log or triggers are not there as these settings want them.
#[expect(clippy::too_many_arguments, reason = "those of a poll, and the log")]
pub(crate) async fn drain(
    crm: &Crm,
    log: &ChangeLog,
    state: &StateDb,
    settings: &Settings,
    mut reach: Reach,
    tally: &Tally,
    kind: &mut &'static str,
    now: DateTime<Utc>,
) -> anyhow::Result<Polled> {
    let mut total = Polled::default();
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
            Touched::Leads(leads) if known => leads.clone(),
            Touched::Leads(_) | Touched::Anything => {
                reach = Reach::Everything;
                Vec::new()
            }
        };
        let behind = if read.is_full() && compared == 0 { Behind::Rows } else { Behind::Nothing };
        let waiting = match reach {
            Reach::Everything if read.is_full() => u64::try_from(log.backlog().await?.rows).unwrap_or(0),
            Reach::Everything | Reach::AsDue => read.rows(),
        };
        let keyless = if read.has_keyless { crm.keyless_rows().await? } else { 0 };
        let unnamed = keyless.max(u64::from(read.has_unnamed));
        let touched = Touch { leads: touched, behind, unnamed };
        let mut step = "full";
        let covered = read_and_write(crm, state, settings, reach, Some(touched), tally, &mut step, now).await;
        if step == "full" || first {
            *kind = step;
        }
        first = false;
        let (polled, covered) = covered?;
        total.add(polled);
        if covered == Covered::Nothing {
            reach = Reach::Everything;
            continue;
        }
        if covered == Covered::Everything {
            compared = waiting;
        }
        if covered == Covered::Everything && !known {
            control::write(state, &in_use, now).await?;
        }
        let at_end = covered == Covered::Touched && !read.is_full();
        if covered != Covered::Part {
            compared = compared.saturating_sub(read.rows());
            log.forget(read).await?;
        }
        if at_end {
            return Ok(total);
        }
        reach = Reach::AsDue;
    }
}
