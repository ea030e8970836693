//! A poll writes only while its process holds the poll lease. A process can lose the lease without notice (a suspended machine, a
//! firewall that dropped the session). Another instance then polls, and the rows that the first one read are outdated.
//!
//! The check here saves a poll unnecessary work. The guarantee comes from the server: see [`super::turn`].

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::TurnLost;
use crate::store::control::{self, ControlFact, ControlFacts};
use crate::store::instance::InstanceId;
use crate::store::state_db::StateDb;

/// Names this process to a person.
pub fn name_of_process() -> String {
    let machine = rustix::system::uname();
    format!("process {} on {}", std::process::id(), machine.nodename().to_string_lossy())
}

/// The instance that began the newest poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestPoller {
    pub instance: InstanceId,
}

impl ControlFact for NewestPoller {
    const NAME: &'static str = "polling";
}

/// Valid as long as no other instance begins a poll. An SQLite state has no other instance.
#[derive(Debug, Clone, Copy)]
pub struct PollerFence(Option<InstanceId>);

impl PollerFence {
    /// The holder of the poll lease calls this before it reads anything.
    pub async fn raise(
        state: &StateDb,
        facts: &ControlFacts,
        instance: InstanceId,
        now: DateTime<Utc>,
    ) -> Result<Self, sqlx::Error> {
        if matches!(state, StateDb::Sqlite(_)) {
            return Ok(Self(None));
        }
        let polling = NewestPoller { instance };
        if facts.get::<NewestPoller>()?.as_ref() != Some(&polling) {
            control::write(state, &polling, now).await?;
        }
        Ok(Self(Some(instance)))
    }

    /// Checked before each batch is written.
    ///
    /// # Errors
    /// Another instance has begun a poll since.
    pub async fn check(self, state: &StateDb) -> anyhow::Result<()> {
        let Some(instance) = self.0 else { return Ok(()) };
        let polling = control::read::<NewestPoller>(state).await?;
        if polling.is_none_or(|polling| polling.instance != instance) {
            return Err(TurnLost.into());
        }
        Ok(())
    }
}
