//! Alerts people: delivers each row of table `alert` to a web address, a command, or both, until it is accepted, or a day is
//! over.
//!
//! Delivery does not depend on an alert's content; its source writes the document: [`crate::store::heard`] for leads, [`service`]
//! for the service itself. [`loss`] reports the loss of the state without that table.

pub mod command;
pub mod loss;
pub mod post;
pub mod service;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::alert::post::AlertPost;
use crate::clock;
use crate::config::{self, AlertSettings, ServiceSettings};
use crate::db::discreet;
use crate::pulse::{DaemonLoop, LoopPulse, ProcessVitals};
use crate::receive::signals::LoopSignals;
use crate::rules::retry;
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

/// The result of a channel that has succeeded.
pub const TOLD: &str = "told";

/// The alert channels.
#[derive(Debug, Clone)]
struct AlertChannels {
    post: Option<AlertPost>,
    command: Option<String>,
    timeout: Duration,
}

impl AlertChannels {
    fn new(settings: &AlertSettings) -> anyhow::Result<Self> {
        let post = settings.url.as_ref().map(|url| AlertPost::new(url, settings.timeout)).transpose()?;
        Ok(Self { post, command: settings.command.clone(), timeout: settings.timeout })
    }

    /// Tries each channel that has not succeeded yet for this alert; returns the result of each.
    async fn tell(&self, alert: &TakenAlert) -> BTreeMap<&'static str, String> {
        let before: BTreeMap<String, String> =
            alert.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default();
        let is_told = |way: &str| before.get(way).is_some_and(|came_to| came_to == TOLD);
        let post = async {
            match &self.post {
                Some(_) if is_told("url") => Some(Ok(())),
                Some(post) => Some(post.tell(&alert.body).await),
                None => None,
            }
        };
        let command = async {
            match &self.command {
                Some(_) if is_told("command") => Some(Ok(())),
                Some(command) => Some(command::tell(command, &alert.body, self.timeout).await),
                None => None,
            }
        };
        let (post, command) = tokio::join!(post, command);
        let came_to = |(way, result): (&'static str, Option<Result<(), String>>)| {
            Some((way, result?.err().unwrap_or_else(|| TOLD.to_owned())))
        };
        [("url", post), ("command", command)].into_iter().filter_map(came_to).collect()
    }
}

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
    let ways = match AlertChannels::new(&settings.alerts) {
        Ok(ways) => Arc::new(ways),
        Err(error) => {
            error!(error = format!("{error:#}"), "no alert can be sent");
            return stop.cancelled().await;
        }
    };
    let mut failing = false;
    let mut tasks = JoinSet::new();
    loop {
        pulse.beat(DaemonLoop::Alert, Instant::now());
        let now = clock::now();
        let free = AT_ONCE - tasks.len();
        let lease_until = now + ways.timeout + LEASE_MARGIN;
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
                    tasks.spawn(hand_over(ways.clone(), state.clone(), alert));
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

/// Tries to deliver, and records the result.
async fn hand_over(ways: Arc<AlertChannels>, state: StateDb, alert: TakenAlert) {
    let came_to = ways.tell(&alert).await;
    let now = clock::now();
    let (seq, kind, id, attempts) = (alert.seq, &alert.kind, &alert.id, alert.attempts);
    let detail = serde_json::json!(came_to).to_string();
    let written = match next(&alert, &came_to, now) {
        NextAlert::Over(told) => {
            if told {
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

fn next(alert: &TakenAlert, came_to: &BTreeMap<&'static str, String>, now: DateTime<Utc>) -> NextAlert {
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

    #[test]
    fn it_is_over_when_every_way_has_told_or_after_a_day_and_ten_tries() {
        let told = BTreeMap::from([("url", TOLD.to_owned()), ("command", TOLD.to_owned())]);
        let half = BTreeMap::from([("url", TOLD.to_owned()), ("command", "exit code 1".to_owned())]);
        let soon = taken(1).created_at + TimeDelta::hours(1);
        let late = taken(1).created_at + TimeDelta::hours(25);
        assert_eq!(next(&taken(1), &told, late), NextAlert::Over(true));
        assert!(matches!(next(&taken(1), &half, soon), NextAlert::Again(at) if at <= soon + TimeDelta::seconds(1)));
        assert!(matches!(next(&taken(500), &half, soon), NextAlert::Again(at) if at <= soon + TimeDelta::minutes(15)));
        assert!(matches!(next(&taken(2), &half, late), NextAlert::Again(_)), "down for a day: still tried");
        assert_eq!(next(&taken(10), &half, late), NextAlert::Over(false));
    }
}
