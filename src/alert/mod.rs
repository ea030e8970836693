//! Alerts people: delivers each row of table `alert` by the [`channel`]s that are told of its kind, until all have taken it, or a day
//! is over.
//!
//! An alert's source writes its document: [`crate::store::heard`] for leads, [`service`] for the service itself. `notice` and
//! `body` put it into the words and the form of a channel. [`loss`] reports the loss of the state without that table.

mod body;
pub mod channel;
mod command;
pub mod failure;
pub mod loss;
mod mail;
mod notice;
mod post;
pub mod service;
pub mod trial;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::alert::channel::{AlertChannels, TOLD};
use crate::clock;
use crate::config::{self, ServiceSettings};
use crate::db::discreet;
use crate::pulse::{DaemonLoop, LoopPulse, ProcessVitals};
use crate::receive::signals::LoopSignals;
use crate::rules::retry;
use crate::send::account;
use crate::store::alert::{self, TakenAlert};
use crate::store::state_db::StateDb;
use crate::store::state_failure::state_cure;

/// Alerts at the same time: one that hangs must not delay the others.
const AT_ONCE: usize = 4;
/// Pause between two checks without a signal: another instance may have filled the table.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Pause between two attempts to reach the state.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// The time for recording an attempt, beyond the attempt itself, before another instance takes over the alert.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// The time limit for stopping.
const STOP_MARGIN: Duration = Duration::from_secs(2);
/// How long an alert is retried, and the least number of attempts.
const PATIENCE: TimeDelta = TimeDelta::days(1);
const LEAST_TRIES: i64 = 10;
/// Pauses between the attempts.
const RETRY: config::RetrySettings = config::RetrySettings {
    initial_interval: Duration::from_secs(1),
    multiplier: 2.0,
    max_interval: Duration::from_secs(15 * 60),
    max_elapsed: Duration::from_secs(24 * 60 * 60),
};

/// Runs until `stop`.
pub async fn run(
    settings: Arc<ServiceSettings>,
    state: StateDb,
    signals: LoopSignals,
    vitals: ProcessVitals,
    stop: CancellationToken,
) {
    let pulse = vitals.pulse.clone();
    let hand_on = hand_on(settings.clone(), state.clone(), signals.clone(), pulse, stop.clone());
    tokio::join!(hand_on, watch::run(settings, state, signals, vitals, stop));
}

/// Delivers due alerts from any source.
async fn hand_on(
    settings: Arc<ServiceSettings>,
    state: StateDb,
    signals: LoopSignals,
    pulse: Arc<LoopPulse>,
    stop: CancellationToken,
) {
    if !settings.alerts.is_on() {
        return stop.cancelled().await;
    }
    let Some(identity) = identity(&state, &pulse, &stop).await else { return };
    let channels = Arc::new(AlertChannels::new(&settings.alerts, identity));
    channels.report_broken();
    let mut failing = false;
    let mut tasks = JoinSet::new();
    loop {
        pulse.beat(DaemonLoop::Alert, Instant::now());
        let now = clock::now();
        let free = AT_ONCE - tasks.len();
        let lease_until = now + channels.timeout + LEASE_MARGIN;
        let taken = if free == 0 {
            Ok(Vec::new())
        } else {
            tokio::select! {
                taken = alert::take(&state, free as i64, lease_until, now) => taken,
                () = stop.cancelled() => break,
            }
        };
        match taken {
            Ok(taken) => {
                if std::mem::take(&mut failing) {
                    info!("alerts can be read from the state again");
                }
                for alert in taken {
                    tasks.spawn(hand_over(channels.clone(), state.clone(), alert));
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let cure = state_cure(&error);
                    let error = discreet::in_words(&error.into());
                    warn!(error, cure, "no alert can be sent while the state cannot be written");
                }
            }
        }
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            () = signals.alert.notified(), if !failing && tasks.len() < AT_ONCE => {}
            () = tokio::time::sleep(if failing { AWAY_PAUSE } else { LOOK_INTERVAL }) => {}
            () = stop.cancelled() => break,
        }
    }
    // An interrupted alert is sent again when its lease expires.
    let _ = tokio::time::timeout(STOP_MARGIN, async { while tasks.join_next().await.is_some() {} }).await;
}

/// What tells this installation from others; `None` when told to stop before the state has answered.
async fn identity(state: &StateDb, pulse: &LoopPulse, stop: &CancellationToken) -> Option<String> {
    loop {
        pulse.beat(DaemonLoop::Alert, Instant::now());
        let read = tokio::select! {
            read = account::installation(state, clock::now()) => read,
            () = stop.cancelled() => return None,
        };
        match read {
            Ok(identity) => return Some(identity),
            // The deliverer reports that the state cannot be read.
            Err(error) => debug!(error = discreet::in_words(&error.into()), "alerts wait for the state"),
        }
        tokio::select! {
            () = tokio::time::sleep(AWAY_PAUSE) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// Tries to deliver, and records the result.
async fn hand_over(channels: Arc<AlertChannels>, state: StateDb, alert: TakenAlert) {
    let came_to = channels.tell(&alert).await;
    let now = clock::now();
    let (seq, kind, id, attempts) = (alert.seq, &alert.kind, &alert.id, alert.attempts);
    let detail = serde_json::json!(came_to).to_string();
    let written = match next(&alert, &came_to, now) {
        NextAlert::Over(told) => {
            if came_to.is_empty() {
                debug!(alert = seq, kind, "no channel is told of this kind");
            } else if told {
                info!(alert = seq, kind, id, attempts, "told");
            } else {
                error!(alert = seq, kind, id, attempts, detail, "an alert could not be delivered; given up");
            }
            alert::over(&state, seq, &detail, now).await
        }
        NextAlert::Again(due_at) => {
            warn!(alert = seq, kind, id, attempts, detail, "an alert could not be delivered; retrying");
            alert::again(&state, seq, &detail, due_at).await
        }
    };
    if let Err(error) = written {
        let error = discreet::in_words(&error.into());
        warn!(alert = seq, error, "the result of an alert cannot be recorded: the alert may be sent again");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum NextAlert {
    /// Delivered, or given up.
    Over(bool),
    Again(DateTime<Utc>),
}

fn next(alert: &TakenAlert, came_to: &BTreeMap<String, String>, now: DateTime<Utc>) -> NextAlert {
    if came_to.values().all(|came_to| came_to == TOLD) {
        return NextAlert::Over(true);
    }
    if now - alert.created_at >= PATIENCE && alert.attempts >= LEAST_TRIES {
        return NextAlert::Over(false);
    }
    NextAlert::Again(now + retry::delay(&RETRY, alert.attempts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(attempts: i64) -> TakenAlert {
        let created_at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (kind, id, body) = ("hot_lead".to_owned(), "1".to_owned(), "{}".to_owned());
        TakenAlert { seq: 1, kind, id, body, created_at, attempts, detail: None }
    }

    fn results(of_command: &str) -> BTreeMap<String, String> {
        BTreeMap::from(
            [("url", TOLD), ("command", of_command)].map(|(name, result)| (name.to_owned(), result.to_owned())),
        )
    }

    #[test]
    fn it_is_over_when_every_way_has_told_or_after_a_day_and_ten_tries() {
        let told = results(TOLD);
        let half = results("exit code 1");
        let soon = taken(1).created_at + TimeDelta::hours(1);
        let late = taken(1).created_at + TimeDelta::hours(25);
        assert_eq!(next(&taken(1), &told, late), NextAlert::Over(true));
        assert!(matches!(next(&taken(1), &half, soon), NextAlert::Again(at) if at <= soon + TimeDelta::seconds(1)));
        assert!(matches!(next(&taken(500), &half, soon), NextAlert::Again(at) if at <= soon + TimeDelta::minutes(15)));
        assert!(matches!(next(&taken(2), &half, late), NextAlert::Again(_)), "down for a day: still tried");
        assert_eq!(next(&taken(10), &half, late), NextAlert::Over(false));
    }
}
