//! The metrics for Prometheus and their meanings. Pure: from the status report, and from this process's counts.

use chrono::{DateTime, Utc};

use crate::admin::exposition::{MetricSample, MetricsFormat, MetricsText};
use crate::conversica::outcome::{HaltReason, OutcomeClass};
use crate::rules::hold_reason::HoldReason;
use crate::rules::operator_pause::PauseShown;
use crate::send::tally::{PollKind, RunTally};
use crate::status::StatusReport;
use crate::store::control::BreakerState;

/// Facts of this process besides the state.
#[derive(Debug, Clone, Copy)]
pub struct ProcessMetrics<'a> {
    pub tally: &'a RunTally,
    pub began_at: DateTime<Utc>,
    /// The result of `/readyz`.
    pub ready: bool,
    /// Whether the last write to the state succeeded.
    pub writable: bool,
}

/// Unknown numbers (before the first poll, before the first delivery) are omitted: a zero would be false.
pub fn render(
    report: &StatusReport,
    process: &ProcessMetrics<'_>,
    format: MetricsFormat,
    now: DateTime<Utc>,
) -> String {
    let mut to = MetricsText::new(format);
    service(&mut to, report, process, now);
    leads(&mut to, report, now);
    delivery(&mut to, report, process.tally, now);
    polls(&mut to, report, process.tally);
    road_back(&mut to, report, now);
    to.finish()
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}

/// Seconds since then; 0 if nothing waits.
fn age(since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> f64 {
    since.map_or(0.0, |since| (now - since).num_milliseconds().max(0) as f64 / 1e3)
}

fn one<'a>(value: impl Into<Option<f64>>) -> impl Iterator<Item = MetricSample<'a>> {
    value.into().into_iter().map(|value| (None, value))
}

fn service(to: &mut MetricsText, report: &StatusReport, process: &ProcessMetrics<'_>, now: DateTime<Utc>) {
    let help = "The version that runs; always 1.";
    to.gauge("conversica_sync_build_info", help, [(Some(("version", report.version)), 1.0)]);
    let help = "When this process began, in seconds since 1970.";
    to.gauge("process_start_time_seconds", help, one(seconds(process.began_at)));
    let help = "Whether leads are found and sent, as /readyz says: 1 or 0.";
    to.gauge("conversica_sync_ready", help, one(flag(process.ready)));
    let help = "Instances that share the state, this one included.";
    to.gauge("conversica_sync_instances", help, one(process.tally.instances().map(f64::from)));
    let seen = report.instances.iter();
    let seen = seen.map(|one| (Some(("name", one.name.as_str())), age(Some(one.last_seen), now)));
    let help = "Seconds since the last sign of life of each instance; no sample a minute after the last.";
    to.gauge("conversica_sync_instance_last_seen_seconds", help, seen);
    let help = "Whether the state could be written when that was last tried: 1 or 0.";
    to.gauge("conversica_sync_state_writable", help, one(flag(process.writable)));
    let help = "What the state takes on its disk.";
    to.gauge("conversica_sync_state_size_bytes", help, one(report.state_bytes.map(|bytes| bytes as f64)));
}

fn leads(to: &mut MetricsText, report: &StatusReport, now: DateTime<Utc>) {
    let leads = report.leads.iter().map(|(status, leads)| (Some(("status", *status)), *leads as f64));
    to.gauge("conversica_sync_leads", "Leads in the state, by status.", leads);
    let held = report.hold.as_ref().map_or(0, |hold| hold.leads);
    to.gauge("conversica_sync_held_leads", "Leads that wait for a person to approve them.", one(held as f64));
    let new_people = report.hold.as_ref().map_or(0, |hold| hold.new_people);
    let help = "Of the held leads, people who were never sent from here: an approval contacts them for the first time.";
    to.gauge("conversica_sync_held_new_people", help, one(new_people as f64));
    let hold = report.hold.as_ref().map(|hold| hold.reason.as_str());
    let holds =
        HoldReason::ALL.map(HoldReason::name).map(|reason| (Some(("reason", reason)), flag(hold == Some(reason))));
    to.gauge("conversica_sync_hold", "Whether leads are held for a person for that reason: 1 or 0.", holds);
    let halt = report.halt.as_ref().map(|halt| halt.reason);
    let halts = HaltReason::ALL.map(|reason| (Some(("reason", reason.name())), flag(halt == Some(reason.name()))));
    to.gauge(
        "conversica_sync_halted",
        "Whether sending is halted for that reason until an operator fixes it: 1 or 0.",
        halts,
    );
    let pause = report.pause.as_ref();
    let scopes = [
        ("everybody", pause.is_some_and(PauseShown::is_of_everybody)),
        ("conversations", pause.is_some_and(|pause| pause.scopes.iter().any(|scope| scope.conversation.is_some()))),
    ];
    let scopes = scopes.map(|(scope, is)| (Some(("scope", scope)), flag(is)));
    let help = "Whether an operator has paused first contacts and updates, of everybody or of conversations: 1 or 0.";
    to.gauge("conversica_sync_operator_pause", help, scopes);
    let help = "How long the lead has waited that has waited longest to be sent; 0 when none waits. Paused leads do not count.";
    to.gauge("conversica_sync_oldest_waiting_seconds", help, one(age(report.oldest_waiting_since, now)));
}

fn delivery(to: &mut MetricsText, report: &StatusReport, tally: &RunTally, now: DateTime<Utc>) {
    let outcomes = report.outcomes.iter().map(|(class, count)| (Some(("class", *class)), *count as f64));
    let help = "Attempts to deliver a lead, by outcome; counted from the journal, so a restart resets nothing.";
    to.counter("conversica_sync_deliveries", help, outcomes);
    let durations = OutcomeClass::ALL.map(|class| (class.name(), tally.deliveries[class as usize].observed()));
    let help = "How long attempts took, by outcome; counted by this process, from 0 at its start.";
    to.histogram("conversica_sync_delivery_duration_seconds", help, "class", &durations);

    let pacing = report.pacing.as_ref();
    let rate = one(pacing.map(|pacing| pacing.requests_per_second));
    to.gauge("conversica_sync_pace_requests_per_second", "Requests a second that may leave at present.", rate);
    let ceiling = one(pacing.map(|pacing| pacing.ceiling));
    let help = "The setting delivery.requests_per_second.";
    to.gauge("conversica_sync_pace_ceiling_requests_per_second", help, ceiling);
    let later = |until: Option<DateTime<Utc>>| flag(until.is_some_and(|until| until > now));
    let paused = one(pacing.map(|pacing| later(pacing.paused_until)));
    to.gauge("conversica_sync_paused", "Whether sending is paused because Conversica asked for it: 1 or 0.", paused);
    let capped = one(pacing.map(|pacing| later(pacing.new_people_wait_until)));
    let help = "Whether people wait for their first contact, because a cap is reached: 1 or 0.";
    to.gauge("conversica_sync_new_people_wait", help, capped);
    let budget = report.new_leads_budget.as_ref();
    let help = "People contacted for the first time in this month of the contract.";
    to.gauge("conversica_sync_new_leads_budget_used", help, one(budget.map(|budget| budget.used as f64)));
    let help = "The setting safety.new_leads_per_month.";
    to.gauge("conversica_sync_new_leads_budget", help, one(budget.map(|budget| budget.people as f64)));
    let silent = report.silent_conversations.len();
    let help = "Conversations whose people were contacted hours ago, without a sign that any is worked.";
    to.gauge("conversica_sync_silent_conversations", help, one(Some(silent as f64)));
    let open = one(pacing.map(|pacing| flag(pacing.breaker == BreakerState::Open)));
    let help = "Whether Conversica fails and is only probed, one lead at a time: 1 or 0.";
    to.gauge("conversica_sync_breaker_open", help, open);
}

fn polls(to: &mut MetricsText, report: &StatusReport, tally: &RunTally) {
    let poll = report.last_poll.as_ref();
    let help = "When the last poll began, in seconds since 1970.";
    to.gauge("conversica_sync_last_poll_timestamp_seconds", help, one(poll.map(|poll| seconds(poll.at))));
    let duration = one(poll.map(|poll| poll.duration_ms as f64 / 1e3));
    to.gauge("conversica_sync_last_poll_duration_seconds", "How long the last poll took.", duration);
    let failed = one(poll.map(|poll| flag(poll.error.is_some())));
    to.gauge("conversica_sync_last_poll_failed", "Whether the last poll failed: 1 or 0.", failed);
    let succeeded = poll.into_iter().flat_map(|poll| &poll.succeeded_at);
    let succeeded = succeeded.map(|(kind, at)| (Some(("kind", kind.as_str())), seconds(*at)));
    let help = "When the last poll of that kind began that went through, in seconds since 1970.";
    to.gauge("conversica_sync_last_successful_poll_timestamp_seconds", help, succeeded);
    let durations = PollKind::ALL.map(|kind| (kind.name(), tally.polls[kind as usize].observed()));
    let help = "How long polls took that went through, by kind; counted by this process, from 0 at its start.";
    to.histogram("conversica_sync_poll_duration_seconds", help, "kind", &durations);
    let help = "Polls of this process that failed, from 0 at its start.";
    to.counter("conversica_sync_poll_failures", help, one(tally.failed_polls() as f64));
    let help = "Rows of the source that polls of this process have read, from 0 at its start.";
    to.counter("conversica_sync_poll_rows", help, one(tally.rows_read() as f64));
    let help = "Leads that polls of this process have found changed, from 0 at its start.";
    to.counter("conversica_sync_poll_changed_leads", help, one(tally.changed() as f64));
}

fn road_back(to: &mut MetricsText, report: &StatusReport, now: DateTime<Utc>) {
    let received = &report.received;
    let kinds =
        [("lead_update", received.lead_updates), ("message", received.messages), ("chat_lead", received.chat_leads)];
    let kinds = kinds.map(|(kind, count)| (Some(("kind", kind)), count as f64));
    let help = "What Conversica has sent back, each content once; counted in the state, so restarts reset nothing.";
    to.counter("conversica_sync_received", help, kinds);
    let help = "Later arrivals of what had arrived before.";
    to.counter("conversica_sync_received_repeats", help, one(received.repeats as f64));
    let help = "Posts that could not be read and wait for an operator.";
    to.gauge("conversica_sync_unreadable_posts", help, one(received.unreadable as f64));
    let help = "Damaged posts that may be opt-outs, and count as such until an operator has looked.";
    to.gauge("conversica_sync_possible_opt_outs", help, one(received.possible_opt_outs as f64));
    let help = "What is still to be written to the CRM, stopped ones included.";
    to.gauge("conversica_sync_writeback_waiting", help, one(received.waiting_writeback as f64));
    let help = "Events that the CRM refused and that wait for an operator.";
    to.gauge("conversica_sync_writeback_stopped", help, one(received.stopped_writeback as f64));
    let help = "What people have not been told yet by [alerts].";
    to.gauge("conversica_sync_alerts_waiting", help, one(report.alerts.waiting as f64));
    let help = "How long the oldest alert has waited; 0 when none waits.";
    to.gauge("conversica_sync_oldest_alert_seconds", help, one(age(report.alerts.since, now)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::listed_instance::ListedInstance;
    use crate::rules::poll_record::LastPoll;
    use crate::status::{HaltShown, HoldShown};
    use crate::store::control::StoredPace;
    use chrono::TimeDelta;
    use std::time::Duration;

    fn rendered(report: &StatusReport, format: MetricsFormat) -> String {
        let at = DateTime::from_timestamp_micros(1_800_000_000_250_000).unwrap();
        let tally = RunTally::default();
        if report.last_poll.is_some() {
            tally.add(OutcomeClass::Accepted, Duration::from_millis(1250));
            tally.polled(PollKind::Drain, 10, 2, Duration::from_millis(3));
            tally.set_instances(2);
        }
        render(report, &ProcessMetrics { tally: &tally, began_at: at, ready: true, writable: true }, format, at)
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let samples = |format| {
            let text = rendered(&StatusReport::before_the_first_run(), format);
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(MetricsFormat::Text), samples(MetricsFormat::OpenMetrics));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = rendered(&StatusReport::before_the_first_run(), MetricsFormat::Text);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for unknown in
            ["instances", "state_size_bytes", "pace_", "paused", "breaker_open", "last_poll", "last_successful"]
        {
            let name = format!("conversica_sync_{unknown}");
            assert!(!samples.iter().any(|line| line.starts_with(&name)), "{name}: {text}");
        }
        assert!(samples.contains(&"conversica_sync_leads{status=\"in_sync\"} 0"), "{text}");
    }

    #[test]
    fn a_report_in_full() {
        let mut report = StatusReport::before_the_first_run();
        let at = DateTime::from_timestamp_micros(1_800_000_000_250_000).unwrap();
        report.leads.insert("in_sync", 12_345_678_901);
        report.outcomes.insert("accepted", 7);
        report.halt = Some(HaltShown { reason: "forbidden", since: at, detail: None, cure: "" });
        report.last_poll = Some(LastPoll {
            at,
            kind: "full".to_owned(),
            rows: 1,
            changed: 1,
            duration_ms: 1250,
            error: Some("row 17: ann@example.com".to_owned()),
            cure: None,
            unnamed: 0,
            failing_since: Some(at),
            succeeded_at: [("incremental".to_owned(), at)].into(),
            instances: None,
        });
        let reason = "too_many_changes".to_owned();
        report.hold = Some(HoldShown { reason, since: at, leads: 3, new_people: 2, assumed_known: 1 });
        report.oldest_waiting_since = Some(at - TimeDelta::milliseconds(1500));
        report.received.messages = 4;
        report.alerts.since = Some(at + TimeDelta::hours(1));
        report.pacing = Some(StoredPace {
            at,
            requests_per_second: 2.5,
            ceiling: 5.0,
            paused_until: None,
            breaker: BreakerState::Open,
            next_probe_at: None,
            failures: 5,
            new_people_wait_until: None,
        });
        report.instances = [("crm-a:4711", 0), ("crm-b:12#2", 7)]
            .map(|(name, seconds)| ListedInstance {
                name: name.to_owned(),
                since: at - TimeDelta::days(1),
                polls: seconds == 0,
                last_seen: at - TimeDelta::seconds(seconds),
            })
            .to_vec();
        let text = rendered(&report, MetricsFormat::Text);
        for line in [
            "conversica_sync_instance_last_seen_seconds{name=\"crm-a:4711\"} 0",
            "conversica_sync_instance_last_seen_seconds{name=\"crm-b:12#2\"} 7",
            "# HELP conversica_sync_leads Leads in the state, by status.",
            "# TYPE conversica_sync_leads gauge",
            "conversica_sync_leads{status=\"in_sync\"} 12345678901",
            "# TYPE conversica_sync_deliveries_total counter",
            "conversica_sync_deliveries_total{class=\"accepted\"} 7",
            "conversica_sync_halted{reason=\"credentials\"} 0",
            "conversica_sync_halted{reason=\"forbidden\"} 1",
            "conversica_sync_held_leads 3",
            "conversica_sync_held_new_people 2",
            "conversica_sync_hold{reason=\"too_many_changes\"} 1",
            "conversica_sync_hold{reason=\"first_run\"} 0",
            "conversica_sync_oldest_waiting_seconds 1.5",
            "conversica_sync_oldest_alert_seconds 0",
            "conversica_sync_received_total{kind=\"message\"} 4",
            "conversica_sync_last_successful_poll_timestamp_seconds{kind=\"incremental\"} 1800000000.25",
            "conversica_sync_delivery_duration_seconds_bucket{class=\"accepted\",le=\"1.0\"} 0",
            "conversica_sync_delivery_duration_seconds_bucket{class=\"accepted\",le=\"+Inf\"} 1",
            "conversica_sync_delivery_duration_seconds_sum{class=\"accepted\"} 1.25",
            "conversica_sync_poll_duration_seconds_count{kind=\"drain\"} 1",
            "conversica_sync_poll_rows_total 10",
            "conversica_sync_poll_changed_leads_total 2",
            "conversica_sync_instances 2",
            "conversica_sync_ready 1",
            "process_start_time_seconds 1800000000.25",
            "conversica_sync_last_poll_timestamp_seconds 1800000000.25",
            "conversica_sync_last_poll_duration_seconds 1.25",
            "conversica_sync_last_poll_failed 1",
            "conversica_sync_pace_requests_per_second 2.5",
            "conversica_sync_pace_ceiling_requests_per_second 5",
            "conversica_sync_breaker_open 1",
            concat!("conversica_sync_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis missing in\n{text}");
        }
        assert!(!text.contains("example.com"), "{text}");
    }
}
