//! Applies `approve_above` and `source_shrinks_below` across polls when triggers are in use. Both settings limit one poll.
//! Triggers make a poll of every commit, so changes that one poll would have held could leave row by row. Sends without approval
//! therefore count for one `poll_interval`, and lost leads for at least an hour.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::ServiceSettings;
use crate::rules::guard::{EarlierLosses, SendPolicy};
use crate::send::polled::PollOutcome;
use crate::source::crm::ConnectedCrm;
use crate::store::control::{self, ControlFacts, UnaskedLosses, UnaskedSends};
use crate::store::state_db::StateDb;

/// A script that deletes in small commits, with pauses, has finished within this time.
const LOST_WITHIN: Duration = Duration::from_secs(3600);

/// Sends and losses so far without approval; `None` where polls keep their configured interval.
#[derive(Debug, Clone)]
pub struct UnaskedAllowance(Option<(UnaskedSends, UnaskedLosses)>);

impl UnaskedAllowance {
    pub fn of(
        crm: &ConnectedCrm,
        facts: &ControlFacts,
        settings: &ServiceSettings,
        now: DateTime<Utc>,
    ) -> Result<Self, sqlx::Error> {
        if crm.log.is_none() {
            return Ok(Self(None));
        }
        let interval = settings.source.poll_interval;
        // A clock that was set back makes the recorded time useless; only the count is used.
        let unasked = facts.get::<UnaskedSends>()?.filter(|unasked| now < unasked.since + interval);
        let lost = facts.get::<UnaskedLosses>()?.filter(|lost| now < lost.since + LOST_WITHIN.max(interval));
        Ok(Self(Some((
            unasked.unwrap_or(UnaskedSends { since: now, leads: 0, lost: 0 }),
            lost.unwrap_or(UnaskedLosses { since: now, leads: 0 }),
        ))))
    }

    /// Lowers the policy's limit by the sends that left already.
    pub fn narrow(&self, admission: SendPolicy) -> SendPolicy {
        match admission {
            SendPolicy::UpTo { limit, reason } => {
                let limit = self.left(limit as u64);
                SendPolicy::UpTo { limit: usize::try_from(limit).unwrap_or(usize::MAX), reason }
            }
            SendPolicy::Send | SendPolicy::Hold(_) | SendPolicy::Baseline => admission,
        }
    }

    /// The part of a limit on sends that is still unused.
    pub fn left(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.0.as_ref().map_or(0, |(unasked, _)| unasked.leads))
    }

    pub fn earlier(&self) -> EarlierLosses {
        let earlier = |(unasked, lost): &(UnaskedSends, UnaskedLosses)| EarlierLosses {
            lost: lost.leads,
            lost_of_late: unasked.lost,
        };
        self.0.as_ref().map(earlier).unwrap_or_default()
    }

    pub async fn spend(self, state: &StateDb, polled: &PollOutcome, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        let Some((unasked, lost)) = self.0 else { return Ok(()) };
        let less = |leads: u64| (leads + polled.lost).saturating_sub(polled.back);
        let spent = UnaskedSends {
            since: unasked.since.min(now),
            leads: unasked.leads + polled.unasked,
            lost: less(unasked.lost),
        };
        if (spent.leads, spent.lost) != (unasked.leads, unasked.lost) {
            control::write(state, &spent, now).await?;
        }
        if less(lost.leads) != lost.leads {
            control::write(state, &UnaskedLosses { since: lost.since.min(now), leads: less(lost.leads) }, now).await?;
        }
        Ok(())
    }
}
