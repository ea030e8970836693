//! The wiring of `run`: the loops, and the order in which they start and stop.
//!
//! Two phases. First the daemon checks everything that can be wrong, and fails on errors. Then the loops run, and wait for
//! unreachable databases.

mod activity;
pub mod notify;
pub mod open_state;
mod poll_turns;
mod start;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use crate::config::{self, ServiceSettings};
use crate::daemon::open_state::{AWAY_PAUSE, OpenState};
use crate::daemon::poll_turns::PollTurns;
use crate::db::discreet::{in_words, split_cure};
use crate::pulse::{DaemonLoop, LoopPulse, ProcessVitals, StateHealth};
use crate::receive::post_store::PostStore;
use crate::receive::signals::{LoopSignals, ReceiveLoop};
use crate::receive::{self, writeback};
use crate::send::deliver::{ClaimIntake, LeadDeliverer};
use crate::send::poll_context::PollContext;
use crate::send::reach::PollReach;
use crate::send::tally::RunTally;
use crate::source::changes::watch::LogWaiter;
use crate::source::crm::{ConnectedCrm, FileHistory};
use crate::store::orphan::{self, OrphanScope};
use crate::store::state_db::StateDb;
use crate::{admin, alert, clock, db, upkeep};

/// The time to wait after a commit, so that commits that follow at once are read with it.
const BURST: Duration = Duration::from_millis(3);

/// Pause between two checks for other instances, and for claims of dead senders.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(2);
/// The time for stopping, beyond the time limit of the requests in flight.
const STOP_MARGIN: Duration = Duration::from_secs(2);

/// The settings and their changes.
pub type SettingsChanges = watch::Receiver<Arc<ServiceSettings>>;

/// The loops' shared context.
#[derive(Clone)]
struct LoopContext {
    settings: Arc<ServiceSettings>,
    pulse: Arc<LoopPulse>,
    tally: Arc<RunTally>,
    stop: CancellationToken,
}

/// Runs until `stop`: polls, delivers, and ends by finishing the requests in flight. It applies changed settings meanwhile as
/// [`crate::config::reload`] decides.
///
/// # Errors
/// [`crate::error::SetupError`] when settings, source or state do not fit at the start; any other error only when a loop fails
/// for good.
pub async fn run(mut changes: SettingsChanges, tally: Arc<RunTally>, stop: CancellationToken) -> anyhow::Result<()> {
    let began_at = clock::now();
    let settings = changes.borrow_and_update().clone();
    if settings.receive.is_some() {
        writeback::check(&settings)?;
    }
    let certificate = receive::prepare(&settings)?;
    // The source first: if it does not fit, no state is created. An unreachable source is awaited later.
    let opened = tokio::select! {
        opened = ConnectedCrm::open(&settings) => opened,
        () = stop.cancelled() => return Ok(()),
    };
    if let Err(error) = &opened
        && !db::is_away(error)
    {
        return opened.map(drop);
    }
    let pulse = Arc::new(LoopPulse::new(Instant::now()));
    let vitals = ProcessVitals { pulse: pulse.clone(), tally: tally.clone(), began_at };
    // Not one of the loops below: delivery goes on even if the admin server fails.
    let watch = || AbortOnDropHandle::new(tokio::spawn(admin::run(settings.clone(), vitals.clone(), stop.clone())));
    let notify = notify::run(settings.clone(), pulse.clone(), stop.clone());
    let _notify = AbortOnDropHandle::new(tokio::spawn(notify));
    let mut admin = None;
    // A service that waits for its state counts as started: a restart by systemd would not help it.
    let meanwhile = || {
        admin = Some(watch());
        notify::ready();
    };
    let state = start::wait_for_state(&settings, tally.instance, &stop, meanwhile).await?;
    let Some(state) = state else { return Ok(()) };
    let admin = admin.unwrap_or_else(watch);
    let db = state.db.clone();
    let wake = Arc::new(Notify::new());
    let deliverer = start::wait_for_deliverer(&db, &settings, &tally, &wake, &stop).await?;
    let Some(deliverer) = deliverer else { return Ok(()) };
    if let Some(halt) = deliverer.halt() {
        error!(reason = halt.reason.name(), since = %halt.since, cure = halt.reason.cure(), "still halted: nothing is sent");
    }
    // These are separate as well: their failures delay no delivery, and they wait for their databases themselves.
    let signals = LoopSignals { deliver: wake.clone(), ..LoopSignals::default() };
    let store = PostStore { db: db.clone(), file: state.file.clone() };
    let receive_loop = ReceiveLoop { signals: signals.clone(), pulse: pulse.clone(), stop: stop.clone() };
    let receive = receive::run(changes.clone(), certificate, store, receive_loop);
    let receive = AbortOnDropHandle::new(tokio::spawn(receive));
    let loss = alert::loss::run(settings.clone(), db.clone(), state.file.clone(), stop.clone());
    let _loss = AbortOnDropHandle::new(tokio::spawn(loss));
    let alert = alert::run(settings.clone(), db.clone(), signals, vitals, stop.clone());
    let alert = AbortOnDropHandle::new(tokio::spawn(alert));
    // Rows that it misses today it removes tomorrow.
    let _upkeep = AbortOnDropHandle::new(tokio::spawn(upkeep::run(settings.clone(), db.clone(), stop.clone())));
    let sent_all = CancellationToken::new();
    let activity = activity::run(tally.clone(), settings.state.url.clone(), sent_all.clone());
    let activity = AbortOnDropHandle::new(tokio::spawn(activity));
    let mut loops = JoinSet::new();
    let common = LoopContext { settings, pulse, tally, stop: stop.clone() };
    loops.spawn(poll_loop(opened, db.clone(), common.clone(), wake));
    loops.spawn(deliver_loop(deliverer, state, common, changes));
    notify::ready();
    info!(version = env!("CARGO_PKG_VERSION"), "running");
    let mut result = Ok(());
    while let Some(ended) = loops.join_next().await {
        // If one loop ends, the other stops too, whatever the reason; the first reason is the one to report.
        stop.cancel();
        notify::stopping();
        let ended =
            ended.unwrap_or_else(|panic| Err(anyhow::Error::from(panic).context("a loop of the daemon failed")));
        result = result.and(ended);
    }
    sent_all.cancel();
    let _ = tokio::time::timeout(STOP_MARGIN, activity).await;
    if receive.await.is_err_and(|error| error.is_panic()) {
        result = result.and(Err(anyhow::anyhow!("a part of the receiver failed")));
    }
    if alert.await.is_err_and(|error| error.is_panic()) {
        result = result.and(Err(anyhow::anyhow!("what tells people failed")));
    }
    drop(admin.await);
    // A server that has fallen silent does not answer a clean close.
    let _ = tokio::time::timeout(STOP_MARGIN, db.close()).await;
    info!("stopped");
    result
}

/// Connects to the source, however long that takes; due leads are delivered meanwhile.
async fn poll_loop(
    opened: anyhow::Result<ConnectedCrm>,
    state: StateDb,
    common: LoopContext,
    wake: Arc<Notify>,
) -> anyhow::Result<()> {
    let LoopContext { settings, pulse, tally, stop } = common;
    let Some(mut crm) = start::connect(opened, &settings, &stop).await? else { return Ok(()) };
    let mut first = true;
    let mut failing: Option<(String, Option<String>)> = None;
    let mut stuck = false;
    let mut turns = PollTurns::new(tally.instance);
    let mut watch = crm.log.as_ref().map(LogWaiter::start);
    loop {
        if crm.is_replaced() {
            match crm.reopened().await {
                Ok(reopened) => {
                    info!("another file has replaced the source's file: comparing every row");
                    crm = reopened;
                    watch = crm.log.as_ref().map(LogWaiter::start);
                    // The new file's log may be empty although its rows differ.
                    turns.woken = false;
                }
                Err(error) => debug!(error = in_words(&error), "the source's new file cannot be opened yet"),
            }
        }
        if crm.begin_poll() == FileHistory::TurnedBack {
            info!("older content was copied over the source's file: comparing every row");
            turns.woken = false;
            turns.reach = PollReach::Everything;
        }
        let polled = tokio::select! {
            polled = turns.poll(PollContext { crm: &crm, state: &state, settings: &settings, tally: &tally, now: clock::now() }) => polled,
            () = stop.cancelled() => return Ok(()),
            never = pulse.follow(DaemonLoop::Poll, || tally.rows()) => match never {},
            never = pass_on(&tally, &wake) => match never {},
        };
        turns.turn.give_back(&state).await;
        match polled {
            Ok(None) => {}
            Ok(Some(polled)) => {
                stuck = false;
                if failing.take().is_some() {
                    info!("polling works again");
                }
                if polled.changed > 0 {
                    info!(
                        rows = polled.rows,
                        created = polled.created,
                        updated = polled.updated,
                        invalid = polled.invalid,
                        gone = polled.gone,
                        stopped = polled.stopped,
                        held = polled.held,
                        "polled"
                    );
                    wake.notify_one();
                }
                if polled.held > 0 {
                    warn!(leads = polled.held, "waiting for approval: run `plan`, then `approve` or `baseline`");
                }
                first = false;
            }
            // A mismatch at the very first check is a mistake in the settings: report it and end, as at the start.
            Err(error) if first && !db::is_away(&error) => return Err(error),
            Err(error) => {
                stuck = !db::is_away(&error);
                let said = split_cure(&error);
                if failing.as_ref() != Some(&said) {
                    let (error, cure) = &said;
                    warn!(error, cure, "a poll failed; nothing new is found until it works again");
                    failing = Some(said);
                }
            }
        }
        // A change that woke the poll while the source was unreachable must not wait for a whole poll interval, which is meant
        // for normal operation. A mismatch is for the operator to fix: retrying at every commit does not help.
        let soon = watch.is_some() && failing.is_some() && !stuck;
        let interval = turns.older.next_look().unwrap_or(Duration::MAX).min(settings.source.poll_interval);
        turns.woken = tokio::select! {
            () = tokio::time::sleep(if soon { interval.min(AWAY_PAUSE) } else { interval }) => false,
            () = changed(&mut watch), if !stuck => true,
            () = stop.cancelled() => return Ok(()),
            never = pulse.rest(DaemonLoop::Poll) => match never {},
        };
    }
}

/// Delivery begins with the leads that a poll has written so far, before the poll ends.
async fn pass_on(tally: &RunTally, wake: &Notify) -> Infallible {
    loop {
        tally.announced().await;
        wake.notify_one();
    }
}

/// Returns shortly after the change log has new rows; never without a change log.
async fn changed(watch: &mut Option<LogWaiter>) {
    match watch {
        Some(watch) => {
            watch.changed().await;
            tokio::time::sleep(BURST).await;
        }
        None => std::future::pending().await,
    }
}

async fn deliver_loop(
    mut deliverer: LeadDeliverer,
    mut state: OpenState,
    common: LoopContext,
    mut changes: SettingsChanges,
) -> anyhow::Result<()> {
    let LoopContext { settings, pulse, tally, stop } = common;
    let mut failing = false;
    let mut upkeep = DeliveryUpkeep { tally, due_at: None, orphans: false, changed: None };
    let patience = settings.delivery.timeout + STOP_MARGIN;
    while !stop.is_cancelled() {
        pulse.beat(DaemonLoop::Deliver, Instant::now());
        if changes.has_changed().unwrap_or(false) {
            upkeep.changed = Some(changes.borrow_and_update().clone());
        }
        let now = clock::now();
        let round = tokio::select! {
            round = deliver_round(&mut deliverer, &mut state, &mut upkeep, &settings.delivery, now) => round,
            // An interrupted round may leave claims without requests, but only if the state did not answer for that long.
            () = patience_over(&stop, patience) => {
                warn!("the state does not answer: stopped without waiting for it");
                return Ok(());
            }
        };
        match round {
            Ok(()) => {
                pulse.set_state(StateHealth::Writable);
                if std::mem::take(&mut failing) {
                    info!("the state can be written again");
                }
                tokio::select! {
                    () = deliverer.wait(now) => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(error) => {
                pulse.set_state(StateHealth::after(&error));
                if !std::mem::replace(&mut failing, true) {
                    let (error, cure) = (in_words(&error), start::cure_of(&error));
                    error!(error, cure, "the state cannot be written; nothing is sent until it can");
                }
                // During an outage this process may have lost the right to send, and the set of instances may have changed.
                upkeep.due_at = None;
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
    let drained = deliverer.drain(tokio::time::Instant::now() + patience).await;
    state.writer.leave().await;
    drained
}

/// Returns this long after the signal to stop.
async fn patience_over(stop: &CancellationToken, patience: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience).await;
}

/// Regular checks besides delivering.
struct DeliveryUpkeep {
    tally: Arc<RunTally>,
    due_at: Option<DateTime<Utc>>,
    /// Claims of a dead sender wait for recovery. Recovery runs only while no request of this process is in flight, so that it
    /// never recovers one of ours, however the clock was set.
    orphans: bool,
    /// Changed settings that wait to be applied. They are applied only while no request is in flight, so that no answer to the
    /// old credentials counts for the new ones.
    changed: Option<Arc<ServiceSettings>>,
}

async fn deliver_round(
    deliverer: &mut LeadDeliverer,
    state: &mut OpenState,
    upkeep: &mut DeliveryUpkeep,
    delivery: &config::DeliverySettings,
    mut now: DateTime<Utc>,
) -> anyhow::Result<()> {
    if upkeep.due_at.is_none_or(|due_at| due_at <= now || now + UPKEEP_INTERVAL < due_at) {
        let instances = state.writer.keep(&state.db).await?;
        // The first count is worth a log line only if there are other instances.
        if upkeep.tally.set_instances(instances).max(1) != instances {
            info!(instances, "instances share this state, and the pace");
        }
        // The server's answer may have changed the time.
        now = clock::now();
        deliverer.share_with(instances, now);
        upkeep.orphans = orphan::any_expired(&state.db, delivery, now).await?;
        upkeep.due_at = Some(now + UPKEEP_INTERVAL);
    }
    // At the last moment before a claim: after a claim in a lost file, the next start would send the lead again.
    let file = state.file.check();
    let is_busy = upkeep.orphans || upkeep.changed.is_some() || file.is_err();
    let intake = if is_busy { ClaimIntake::Closed } else { ClaimIntake::Open };
    let step = deliverer.step(intake, now).await?;
    file?;
    let is_quiet = step.in_flight == 0 && step.recorded == 0;
    if is_quiet && let Some(settings) = &upkeep.changed {
        *deliverer = deliverer.renewed(settings, now).await?;
        upkeep.changed = None;
        // Count again the instances that share the pace.
        upkeep.due_at = None;
    }
    if upkeep.orphans && is_quiet {
        orphan::recover(&state.db, OrphanScope::Expired, delivery, now).await?;
        upkeep.orphans = false;
        deliverer.look_again();
    }
    Ok(())
}
