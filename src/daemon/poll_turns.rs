//! The poll loop's turns: whether this instance polls now, or leaves it to another one.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::clock;
use crate::rules::mapping_in_use::{MappingTurn, OwnPolls};
use crate::rules::poll_record::LastPoll;
use crate::send::older_mapping::OlderMapping;
use crate::send::poll::PollOutcome;
use crate::send::poll_context::PollContext;
use crate::send::reach::PollReach;
use crate::send::turn::PollTurn;
use crate::source::crm::ConnectedCrm;
use crate::store::control;
use crate::store::instance::{self, InstanceId};
use crate::store::state_db::StateDb;

/// With a short `poll_interval`, the least time that another instance has held the poll lease before a warning.
const REFUSED_LEAST: Duration = Duration::from_secs(5);

/// The poll loop's memory between turns.
pub(super) struct PollTurns {
    pub turn: PollTurn,
    /// Since when another instance has held the lease at each attempt, and whether that was logged.
    refused: Option<(Instant, bool)>,
    /// This instance has read everything with its own mapping.
    polled: bool,
    /// Whether another instance has a newer mapping.
    pub older: OlderMapping,
    /// The change log has new rows: do not wait for the next poll.
    pub woken: bool,
    /// Stays until a poll has ended.
    pub reach: PollReach,
}

impl PollTurns {
    pub fn new(instance: InstanceId) -> Self {
        Self {
            turn: PollTurn::new(instance),
            refused: None,
            polled: false,
            older: OlderMapping::default(),
            woken: false,
            reach: PollReach::default(),
        }
    }

    /// Polls, unless another instance does, or has just done so, or has a newer mapping.
    pub async fn poll(&mut self, context: PollContext<'_>) -> anyhow::Result<Option<PollOutcome>> {
        let PollContext { crm, state, settings, tally, .. } = context;
        let interval = settings.source.poll_interval;
        if !self.turn.try_take(state).await? {
            self.note_refusal(state, interval, Instant::now()).await;
            return Ok(None);
        }
        self.refused = None;
        // The server's answer may have changed the time.
        let context = PollContext { now: clock::now(), ..context };
        let own = if self.polled { OwnPolls::Some } else { OwnPolls::NoneYet };
        match self.older.decide(context, own).await? {
            MappingTurn::Poll | MappingTurn::PollAsChanged => {}
            MappingTurn::StandBack(_) => return Ok(None),
        }
        if self.woken && is_drained(crm).await {
            return Ok(None);
        }
        let now = clock::now();
        if !self.woken && tally.instances().is_some_and(|instances| instances > 1) {
            let last = control::read::<LastPoll>(state).await?;
            if last.is_some_and(|last| last.at <= now && now < last.at + interval / 2) {
                return Ok(None);
            }
        }
        let polled = self.turn.poll(PollContext { now, ..context }, self.reach).await?;
        self.polled = true;
        self.reach = PollReach::AsDue;
        Ok(Some(polled))
    }

    /// Warns once after three intervals, and not before a compare of some thousand rows may have ended.
    async fn note_refusal(&mut self, state: &StateDb, interval: Duration, now: Instant) {
        let (since, said) = self.refused.get_or_insert((now, false));
        let waited = now.duration_since(*since);
        if waited >= (interval * 3).max(REFUSED_LEAST) && !std::mem::replace(said, true) {
            let seconds = waited.as_secs();
            let holder = instance::poller(state).await.ok().flatten();
            warn!(
                seconds,
                holder = holder.as_deref().unwrap_or("unknown"),
                "another instance has had the turn to poll for three intervals; this one polls when it is free"
            );
        }
    }
}

/// Another instance was faster. The poll reports faults of the log.
async fn is_drained(crm: &ConnectedCrm) -> bool {
    match &crm.log {
        Some(log) => log.is_empty().await.unwrap_or(false),
        None => false,
    }
}
