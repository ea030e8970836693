//! One pass from end to end: poll, then deliver until nothing is due. `once` runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::ServiceSettings;
use crate::conversica::outcome::OutcomeClass;
use crate::send::deliver::{ClaimIntake, LeadDeliverer};
use crate::send::older_mapping;
use crate::send::poll::PollOutcome;
use crate::send::poll_context::PollContext;
use crate::send::reach::PollReach;
use crate::send::tally::RunTally;
use crate::send::turn::PollTurn;
use crate::source::crm::ConnectedCrm;
use crate::store::orphan::{self, OrphanScope};
use crate::store::state_db::StateDb;
use crate::store::{due, operator_pause, pause};

/// Between two attempts to get the poll lease.
const TURN_PAUSE: Duration = Duration::from_millis(100);

/// The result of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassOutcome {
    pub polled: PollOutcome,
    pub accepted: u64,
    pub rejected: u64,
    pub transient: u64,
    pub ambiguous: u64,
    pub halting: u64,
    /// Leads that are still to be sent, now or later.
    pub waiting: i64,
    /// First contacts wait until this time, because a cap is reached.
    pub new_people_wait_until: Option<DateTime<Utc>>,
    /// Leads wait, and this pass delivered none for another reason than a cap: Conversica failed, did not answer, or has asked
    /// for a pause.
    pub nothing_delivered: bool,
    /// When the first waiting lead is tried next; in the past if it is due already, `None` while sending is halted.
    pub next_try_at: Option<DateTime<Utc>>,
    /// Sending is halted until an operator acts.
    pub halted: bool,
    /// Operators have paused everybody, or conversations.
    pub paused: bool,
    /// A signal ended the pass early.
    pub interrupted: bool,
    pub duration_ms: u64,
}

/// How far a pass goes.
#[derive(Clone, Copy)]
pub struct PassOptions<'a> {
    pub reach: PollReach,
    /// Retries are waited for as long as something was decided within this time.
    pub max_wait: Duration,
    /// Ends the pass early.
    pub stop: &'a CancellationToken,
}

/// Polls once, then delivers until nothing is due. It waits for retries as long as the last decision is at most `max_wait` old.
pub async fn pass(
    crm: &ConnectedCrm,
    state: &StateDb,
    settings: &ServiceSettings,
    tally: Arc<RunTally>,
    options: PassOptions<'_>,
) -> anyhow::Result<PassOutcome> {
    let started = Instant::now();
    let stop = options.stop;
    let mut turn = PollTurn::new(tally.instance);
    let context = PollContext { crm, state, settings, tally: &tally, now: clock::now() };
    let polled = tokio::select! {
        polled = poll_in_turn(&mut turn, context, options.reach) => polled,
        () = stop.cancelled() => Ok(PollOutcome::default()),
    };
    turn.give_back(state).await;
    let polled = polled?;
    tally.set_read();
    let wake = Arc::new(Notify::new());
    let mut deliverer = LeadDeliverer::new(state.clone(), settings, tally.clone(), wake, clock::now()).await?;
    deliver_until_idle(&mut deliverer, context, options).await?;
    deliverer.drain(tokio::time::Instant::now() + settings.delivery.timeout).await?;
    let now = clock::now();
    let asked_until = pause::asked_until(state, now).await?;
    let next_try_at = match deliverer.halt() {
        Some(_) => None,
        None => deliverer.next_due_at(now).await?.map(|due| asked_until.map_or(due, |until| due.max(until))),
    };
    let (waiting, _) = due::backlog(state).await?;
    let capped = if deliverer.capped_until().is_some() { due::count_untried_people(state).await? } else { 0 };
    Ok(PassOutcome {
        polled,
        accepted: tally.outcomes(OutcomeClass::Accepted),
        rejected: tally.outcomes(OutcomeClass::Rejected),
        transient: tally.outcomes(OutcomeClass::Transient),
        ambiguous: tally.outcomes(OutcomeClass::Ambiguous),
        halting: tally.outcomes(OutcomeClass::Halting),
        waiting,
        new_people_wait_until: deliverer.capped_until(),
        nothing_delivered: tally.outcomes(OutcomeClass::Accepted) == 0 && waiting > capped,
        next_try_at,
        halted: deliverer.halt().is_some(),
        paused: operator_pause::read(state, now).await?.is_some(),
        interrupted: stop.is_cancelled(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Waits for another instance that is polling, then polls: the other poll may have begun too early for this pass.
async fn poll_in_turn(turn: &mut PollTurn, context: PollContext<'_>, reach: PollReach) -> anyhow::Result<PollOutcome> {
    let mut said = false;
    while !turn.try_take(context.state).await? {
        if !std::mem::replace(&mut said, true) {
            tracing::info!("another instance is polling; waiting for it");
        }
        tokio::time::sleep(TURN_PAUSE).await;
    }
    let context = PollContext { now: clock::now(), ..context };
    older_mapping::refuse_older(context).await?;
    turn.poll(context, reach).await
}

async fn deliver_until_idle(
    deliverer: &mut LeadDeliverer,
    context: PollContext<'_>,
    options: PassOptions<'_>,
) -> anyhow::Result<()> {
    let PollContext { state, settings, tally, .. } = context;
    let PassOptions { max_wait, stop, .. } = options;
    let decided = || tally.outcomes(OutcomeClass::Accepted) + tally.outcomes(OutcomeClass::Rejected);
    let mut decided_before = decided();
    let mut decided_at = Instant::now();
    while !stop.is_cancelled() {
        let now = clock::now();
        let step = deliverer.step(ClaimIntake::Open, now).await?;
        if decided() != decided_before {
            (decided_before, decided_at) = (decided(), Instant::now());
        }
        if step.halted && step.in_flight == 0 {
            return Ok(());
        }
        if step.claimed == 0 && step.in_flight == 0 {
            if step.recorded == 0 {
                // Claims of a dead instance return to the queue when their lease expires.
                orphan::recover(state, OrphanScope::Expired, &settings.delivery, now).await?;
            }
            let due_in = deliverer.next_due_at(now).await?.map(|due| (due - now).to_std().unwrap_or_default());
            // A due lead that waits only for our own pace is no retry.
            if due_in != Some(Duration::ZERO) || deliverer.is_obstructed(now) {
                let (waiting, in_flight) = due::backlog(state).await?;
                if waiting == 0 && in_flight == 0 {
                    return Ok(());
                }
                if due_in.is_none() && in_flight == 0 && deliverer.is_paused() {
                    return Ok(());
                }
                let left = max_wait.saturating_sub(decided_at.elapsed());
                if left.is_zero() || due_in.is_some_and(|due_in| due_in > left) {
                    return Ok(());
                }
            }
        }
        tokio::select! {
            () = deliverer.wait(now) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}
