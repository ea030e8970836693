//! An instance whose `[lead]` was replaced by a newer one does not poll while an instance with the newer one is present: see
//! [`crate::rules::mapping_in_use`]. This file finds out which instances are present, and logs why this one does not poll.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tracing::{info, warn};

use crate::error::SetupError;
use crate::rules::mapping_in_use::{
    self, InstanceCompany, MappingInUse, MappingTurn, NewerInstances, NewerWatch, OwnPolls, RESTART_TIME, SharedLately,
    StandBackReason,
};
use crate::rules::poll_record::LastPoll;
use crate::send::poll_context::PollContext;
use crate::store::state_db::StateDb;
use crate::store::{control, writer};

/// The operator's remedy.
pub const CURE: &str = "give this instance the new configuration and restart it; to go back to its [lead], stop the instances that \
                        have the newer one: a minute later it polls with its own";

/// This process's memory of who has the newest mapping.
#[derive(Debug, Default)]
pub struct OlderMapping {
    watch: NewerWatch,
    /// The last decision not to poll.
    standing_back: Option<StandBackReason>,
}

impl OlderMapping {
    /// Decides whether this instance polls. The holder of the turn to poll asks, so the mapping in use stays the same meanwhile.
    ///
    /// # Errors
    /// The database's, while it is unreachable.
    pub async fn decide(&mut self, context: PollContext<'_>, own: OwnPolls) -> Result<MappingTurn, sqlx::Error> {
        let PollContext { crm, state, now, .. } = context;
        let mine = crm.mapping.fingerprint().to_string();
        let in_use = control::read::<MappingInUse>(state).await?;
        let newer = match in_use.as_ref().filter(|in_use| mapping_in_use::is_older(in_use, &mine, own)) {
            Some(in_use) => {
                let company = company(state, in_use).await?;
                let lately = shared_lately(state, context.settings.source.poll_interval, now).await?;
                self.watch.look(company, lately, Instant::now())
            }
            None => NewerInstances::NoneKnown,
        };
        let turn = mapping_in_use::decide(in_use.as_ref(), &mine, own, newer);
        self.note(turn, in_use.as_ref());
        Ok(turn)
    }

    /// The time until the next look, if this instance waits for one with the newer mapping to come back.
    pub fn next_look(&self) -> Option<Duration> {
        (self.standing_back == Some(StandBackReason::NewerWasPresent)).then_some(RESTART_TIME / 10)
    }

    /// Logs once that this instance does not poll, and why; and later that it polls again.
    fn note(&mut self, turn: MappingTurn, in_use: Option<&MappingInUse>) {
        let before = self.standing_back;
        let MappingTurn::StandBack(reason) = turn else {
            if before.is_some() {
                info!("this instance polls again with its own [lead]");
            }
            self.standing_back = None;
            if turn == MappingTurn::Poll {
                self.watch = NewerWatch::default();
            }
            return;
        };
        self.standing_back = Some(reason);
        if before.is_none()
            && let Some(in_use) = in_use
        {
            warn!(
                set_by = in_use.set_by,
                set_at = in_use.set_at.map(|at| at.to_rfc3339()),
                cure = CURE,
                "[lead] of this instance is older than the one in use: it does not poll"
            );
        }
        if reason == StandBackReason::NewerWasPresent && before != Some(reason) {
            let seconds = RESTART_TIME.as_secs();
            info!(seconds, "no instance has the [lead] in use now; unless one comes, this one polls with its own then");
        }
    }
}

/// For a command that polls once and does not wait.
///
/// # Errors
/// [`SetupError`] if this configuration's mapping is older than the one in use, and an instance with that one is present or was
/// a short time ago.
pub async fn refuse_older(context: PollContext<'_>) -> anyhow::Result<()> {
    let mut older = OlderMapping::default();
    match older.decide(context, OwnPolls::NoneYet).await? {
        MappingTurn::Poll | MappingTurn::PollAsChanged => Ok(()),
        MappingTurn::StandBack(_) => {
            let in_use = control::read::<MappingInUse>(context.state).await?;
            Err(SetupError::new(in_use.map(|in_use| describe(&in_use)).unwrap_or_default(), CURE).into())
        }
    }
}

/// Names the mapping in use in a sentence about an older one.
pub fn describe(in_use: &MappingInUse) -> String {
    let by = in_use.set_by.as_ref().map(|who| format!(", which {who} set")).unwrap_or_default();
    let at = in_use.set_at.map(|at| format!(" at {}", at.format("%F %T UTC"))).unwrap_or_default();
    format!(
        "[lead] of this instance is older than the one in use{by}{at}: it does not poll while an instance with that one is present"
    )
}

async fn company(state: &StateDb, in_use: &MappingInUse) -> Result<InstanceCompany, sqlx::Error> {
    let others = writer::other_instances(state).await?;
    let newer = match in_use.newest() {
        Some(newest) => writer::instances_that_may_have(state, newest).await?,
        None => others,
    };
    Ok(InstanceCompany { others, newer })
}

/// With several instances, each poll is recorded. So an instance that was there until just now has polled within its interval.
async fn shared_lately(
    state: &StateDb,
    poll_interval: Duration,
    now: DateTime<Utc>,
) -> Result<SharedLately, sqlx::Error> {
    let last = control::read::<LastPoll>(state).await?;
    let within = poll_interval.saturating_mul(2).saturating_add(RESTART_TIME);
    Ok(if last.is_some_and(|last| last.was_shared(within, now)) { SharedLately::Yes } else { SharedLately::No })
}
