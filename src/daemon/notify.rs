//! Tells systemd the state of the service: that it has started, that it is alive (as long as no loop hangs), a line of counts,
//! and that it stops. Does nothing without `NOTIFY_SOCKET`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::admin::judgement::{self, UnreadyReason};
use crate::admin::window::StatusCache;
use crate::config::ServiceSettings;
use crate::pulse::LoopPulse;
use crate::rules::lead_status::LeadStatus;
use crate::status::StatusReport;

/// Pause between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// The service has started: every start-up check has passed.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// The service stops, and finishes the requests in flight.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd cannot be notified of the service's status");
    }
}

/// Runs until it is dropped, so that systemd hears of the service until the end.
pub async fn run(settings: Arc<ServiceSettings>, pulse: Arc<LoopPulse>, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    tokio::join!(watchdog(&settings, &pulse), tell_status(&settings, &stop));
}

/// Sends the sign of life twice in systemd's time-out.
async fn watchdog(settings: &ServiceSettings, pulse: &LoopPulse) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut silent = false;
    loop {
        let reasons = judgement::health(pulse.beats(), settings.source.statement_timeout, Instant::now());
        match beat(&reasons) {
            Some(beat) => {
                silent = false;
                say(&[beat]);
            }
            None if std::mem::replace(&mut silent, true) => {}
            None => {
                let reasons: Vec<&str> = reasons.iter().map(|reason| reason.reason).collect();
                warn!(
                    reasons = reasons.join(", "),
                    "a loop hangs: systemd is no longer told that the service is alive"
                );
            }
        }
        tokio::time::sleep(patience / 2).await;
    }
}

/// The sign of life, if there is no fault that a restart may fix.
fn beat(reasons: &[UnreadyReason]) -> Option<NotifyState<'static>> {
    reasons.is_empty().then_some(NotifyState::Watchdog)
}

async fn tell_status(settings: &ServiceSettings, stop: &CancellationToken) {
    let window = StatusCache::new(settings.state.url.clone());
    let mut said = String::new();
    while !stop.is_cancelled() {
        let line = line(window.report().await.as_deref());
        if line != said {
            say(&[NotifyState::Status(&line)]);
            said = line;
        }
        tokio::select! {
            () = tokio::time::sleep(STATUS_INTERVAL) => {}
            () = stop.cancelled() => {}
        }
    }
    window.close().await;
}

/// The state of the service in one line of counts.
fn line(report: Option<&StatusReport>) -> String {
    let Some(report) = report else { return "waiting: the state cannot be read".to_owned() };
    let mut parts = Vec::new();
    if let Some(halt) = &report.halt {
        parts.push(format!("HALTED ({}), nothing is sent", halt.reason));
    }
    if let Some(pause) = &report.pause {
        parts.push(format!("PAUSED by an operator: {}", pause.names()));
    }
    if let Some(hold) = &report.hold {
        parts.push(format!("held: {} ({}), {} never sent before", hold.leads, hold.reason, hold.new_people));
    }
    if report.last_poll.as_ref().is_some_and(|poll| poll.error.is_some()) {
        parts.push("the source cannot be polled".to_owned());
    }
    let sum = |statuses: &[LeadStatus]| statuses.iter().map(|status| report.leads(*status)).sum::<i64>();
    let waiting = sum(&[LeadStatus::Pending, LeadStatus::InFlight, LeadStatus::Retrying]);
    let wrong = sum(&[LeadStatus::Rejected, LeadStatus::Invalid, LeadStatus::Exhausted]);
    parts.push(format!("leads in step: {}", report.leads(LeadStatus::InSync)));
    if report.leads(LeadStatus::Assumed) > 0 {
        parts.push(format!("assumed known, never sent: {}", report.leads(LeadStatus::Assumed)));
    }
    parts.push(format!("to be sent: {waiting}"));
    parts.push(format!("for a person: {wrong}"));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::DaemonLoop;
    use crate::status::HoldShown;

    #[test]
    fn a_loop_that_hangs_is_no_sign_of_life() {
        let start = Instant::now();
        let pulse = LoopPulse::new(start);
        for which in DaemonLoop::ALL {
            pulse.beat(which, start);
        }
        let beat_after = |seconds| {
            let now = start + Duration::from_secs(seconds);
            beat(&judgement::health(pulse.beats(), Duration::from_secs(600), now)).map(|beat| beat.to_string())
        };
        assert_eq!(beat_after(60).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(beat_after(61), None);
    }

    #[test]
    fn the_line_says_what_stops_it_and_how_much_there_is() {
        assert_eq!(line(None), "waiting: the state cannot be read");
        let mut report = StatusReport::before_the_first_run();
        assert_eq!(line(Some(&report)), "leads in step: 0; to be sent: 0; for a person: 0");
        report.leads.extend([("in_sync", 7), ("retrying", 2), ("pending", 1), ("rejected", 3), ("invalid", 1)]);
        let since = chrono::DateTime::UNIX_EPOCH;
        let reason = "first_run".to_owned();
        report.hold = Some(HoldShown { reason, since, leads: 5, new_people: 5, assumed_known: 0 });
        assert_eq!(
            line(Some(&report)),
            "held: 5 (first_run), 5 never sent before; leads in step: 7; to be sent: 3; for a person: 4"
        );
    }
}
