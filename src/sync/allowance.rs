//! `approve_above` with triggers. It counts what one poll would send; triggers make a poll of every commit, and what a poll
//! of old would have held would leave row by row. So what went unasked counts for as long as `poll_interval`.

use chrono::{DateTime, Utc};

use crate::config::Settings;
use crate::crm::Crm;
use crate::db::Db;
use crate::state::control::{self, Unasked};
use crate::sync::guard::Admission;

/// What has gone unasked so far; `None` where polls are as far apart as the settings say.
pub struct Allowance(Option<Unasked>);

impl Allowance {
    pub async fn read(crm: &Crm, state: &Db, settings: &Settings, now: DateTime<Utc>) -> Result<Self, sqlx::Error> {
        if crm.log.is_none() {
            return Ok(Self(None));
        }
        let last = control::read::<Unasked>(state).await?;
        let interval = settings.source.poll_interval;
        // Of a clock that was set back nothing is believed but the count.
        let current = last.filter(|last| now < last.since + interval);
        Ok(Self(Some(current.unwrap_or(Unasked { since: now, leads: 0 }))))
    }

    /// The same with less to send.
    pub fn narrow(&self, admission: Admission) -> Admission {
        let spent = self.0.as_ref().map_or(0, |unasked| unasked.leads);
        match admission {
            Admission::UpTo { limit, reason } => {
                let spent = usize::try_from(spent).unwrap_or(usize::MAX);
                Admission::UpTo { limit: limit.saturating_sub(spent), reason }
            }
            Admission::Send | Admission::Hold(_) | Admission::Baseline => admission,
        }
    }

    pub async fn spend(self, state: &Db, leads: u64, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        match self.0 {
            Some(unasked) if leads > 0 => {
                let since = unasked.since.min(now);
                control::write(state, &Unasked { since, leads: unasked.leads + leads }, now).await
            }
            Some(_) | None => Ok(()),
        }
    }
}
