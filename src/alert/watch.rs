//! Checks the service for alert conditions: the loop around [`service::step`].
//!
//! The state records the alerts that were sent. One transaction compares this record and writes the next alerts, so that a
//! restart repeats no alert, and only one of several instances sends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::alert::service::{self, AlertSender, ProcessCircumstances, ServiceReading};
use crate::clock;
use crate::config::{OnAmbiguous, ServiceSettings};
use crate::db::discreet::in_words;
use crate::pulse::{DaemonLoop, ProcessVitals};
use crate::receive::signals::LoopSignals;
use crate::rules::poll_record::LastPoll;
use crate::status::ServiceStanding;
use crate::store::heard::reading;
use crate::store::held::{self, HeldSelection};
use crate::store::state_db::StateDb;
use crate::store::{alert, budget, control, conversation_progress, due, lead, operator_pause};

/// Silent conversations that an alert counts.
const MOST_SILENT: i64 = 100;
/// Pause between two checks.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A check that takes longer has failed: the state's database does not answer.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// Runs until `stop`.
pub async fn run(
    settings: Arc<ServiceSettings>,
    state: StateDb,
    signals: LoopSignals,
    vitals: ProcessVitals,
    stop: CancellationToken,
) {
    if !settings.alerts.is_on() {
        return;
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let sender = AlertSender { host, version: env!("CARGO_PKG_VERSION") };
    let mut watch = ConditionWatch { settings: &settings, state: &state, window: None, sender };
    loop {
        let look = watch.check_conditions(circumstances(&settings, &vitals), clock::now());
        let looked = tokio::select! {
            looked = tokio::time::timeout(LOOK_WITHIN, look) => looked,
            () = stop.cancelled() => break,
        };
        match looked {
            Ok(Ok(0)) => {}
            Ok(Ok(_)) => signals.alert.notify_one(),
            // The loops that this stops log it prominently.
            Ok(Err(error)) => debug!(error = in_words(&error), "the service's status cannot be read"),
            Err(_) => debug!("the service's status did not arrive in time"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = stop.cancelled() => break,
        }
    }
    if let Some(window) = watch.window {
        let _ = tokio::time::timeout(LOOK_INTERVAL, window.close()).await;
    }
}

fn circumstances(settings: &ServiceSettings, vitals: &ProcessVitals) -> ProcessCircumstances {
    let (safety, delivery) = (&settings.safety, &settings.delivery);
    // Leads whose answer is ambiguous wait for a post from Conversica as long as configured.
    let more = if delivery.on_ambiguous == OnAmbiguous::Wait { delivery.ambiguous_wait } else { Duration::ZERO };
    let longest = Some(settings.alerts.backlog_older_than).filter(|longest| !longest.is_zero());
    ProcessCircumstances {
        began_at: vitals.began_at,
        connected: vitals.pulse.beats()[DaemonLoop::Poll as usize].1.is_some(),
        longest_wait: longest.and_then(|longest| TimeDelta::from_std(longest + more).ok()),
        capped: safety.new_leads_per_hour > 0 || safety.new_leads_per_day > 0 || safety.new_leads_per_month > 0,
    }
}

/// What the checks of the service need.
struct ConditionWatch<'a> {
    settings: &'a ServiceSettings,
    state: &'a StateDb,
    /// Connections of its own: the only connection to an SQLite state is for delivery, which must not wait for a count.
    window: Option<StateDb>,
    sender: AlertSender,
}

impl ConditionWatch<'_> {
    /// Checks, and records the alerts to send. Returns their number.
    async fn check_conditions(
        &mut self,
        circumstances: ProcessCircumstances,
        now: DateTime<Utc>,
    ) -> anyhow::Result<usize> {
        let window = match &mut self.window {
            Some(window) => window,
            None => match StateDb::open_state_read_only(self.settings.state.url.expose_secret()).await? {
                Some(db) => self.window.insert(db),
                None => return Ok(0),
            },
        };
        // In this order: if another instance records an alert meanwhile, it has seen newer facts, and this check records none.
        let before = alert::noted(window).await?;
        let seen = service::view(&read(window, now).await?, &circumstances, now);
        let (next, news) = service::step(&before.account, &seen, &self.sender, now);
        if news.is_empty() || !alert::tell(self.state, &before, &next, &news, now).await? {
            return Ok(0);
        }
        for news in &news {
            info!(kind = news.kind, state = news.document["state"].as_str(), "an alert about the service was queued");
        }
        Ok(news.len())
    }
}

async fn read(state: &StateDb, now: DateTime<Utc>) -> Result<ServiceReading, sqlx::Error> {
    let ServiceStanding { halt, hold, .. } = ServiceStanding::of(state).await?;
    let hold_reasons = match hold {
        Some(_) => held::look(state, &HeldSelection::default()).await?.reasons,
        None => BTreeMap::new(),
    };
    let pause = operator_pause::read(state, now).await?;
    let (rejected, exhausted) = lead::failed(state).await?;
    let last_poll = control::read::<LastPoll>(state).await?;
    let longest = due::longest_wait(state, now).await?;
    let numbers = reading::numbers(state).await?;
    let (stopped, unreadable, possible_opt_outs) = (numbers.stopped, numbers.unreadable, numbers.possible_opt_outs);
    Ok(ServiceReading {
        halt,
        hold,
        hold_reasons,
        pause,
        rejected,
        exhausted,
        last_poll,
        longest,
        stopped,
        unreadable,
        possible_opt_outs,
        budget: budget::read(state, now).await?,
        silent: conversation_progress::list_silent(state, MOST_SILENT, now).await?,
    })
}
