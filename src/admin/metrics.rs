//! The numbers as Prometheus reads them (text format 0.0.4). Pure: from the status report alone.
//!
//! Written by hand, for every number is read from the state at the moment it is asked for: a metrics registry, which keeps
//! numbers in the process, would have nothing to keep.

use std::fmt::Write as _;

use crate::conversica::outcome::HaltReason;
use crate::state::control::BreakerState;
use crate::status::Report;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A value, with its label where there are several of a kind.
type Sample<'a> = (Option<(&'static str, &'a str)>, f64);

/// Numbers that are not known (before the first poll, before the first delivery) are left out: a zero would be a lie.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let mut gauge = |name, help, samples: &[Sample<'_>]| family(&mut text, name, "gauge", help, samples);
    let one = |value: Option<f64>| value.map(|value| (None, value)).into_iter().collect::<Vec<Sample<'_>>>();
    let flag = |is: bool| if is { 1.0 } else { 0.0 };

    gauge("build_info", "The version that runs; always 1.", &[(Some(("version", report.version)), 1.0)]);
    let leads: Vec<Sample<'_>> =
        report.leads.iter().map(|(status, leads)| (Some(("status", *status)), *leads as f64)).collect();
    gauge("leads", "Leads in the state, by where they stand.", &leads);
    let held = report.hold.as_ref().map_or(0, |hold| hold.leads);
    gauge("held_leads", "Leads that wait for a person to approve them.", &one(Some(held as f64)));
    let halt = report.halt.as_ref().map(|halt| halt.reason);
    let halted = HaltReason::ALL.map(|reason| (Some(("reason", reason.name())), flag(halt == Some(reason.name()))));
    gauge("halted", "Whether nothing is sent until a person mends that: 1 or 0.", &halted);

    let pacing = report.pacing.as_ref();
    let rate = one(pacing.map(|pacing| pacing.requests_per_second));
    gauge("pace_requests_per_second", "Requests a second that may leave at present.", &rate);
    let ceiling = one(pacing.map(|pacing| pacing.ceiling));
    gauge("pace_ceiling_requests_per_second", "The setting delivery.requests_per_second.", &ceiling);
    let open = one(pacing.map(|pacing| flag(pacing.breaker == BreakerState::Open)));
    gauge("breaker_open", "Whether Conversica fails and is only probed, one lead at a time: 1 or 0.", &open);

    let poll = report.last_poll.as_ref();
    let at = one(poll.map(|poll| poll.at.timestamp_micros() as f64 / 1e6));
    gauge("last_poll_timestamp_seconds", "When the last poll began, in seconds since 1970.", &at);
    let duration = one(poll.map(|poll| poll.duration_ms as f64 / 1e3));
    gauge("last_poll_duration_seconds", "How long the last poll took.", &duration);
    let failed = one(poll.map(|poll| flag(poll.error.is_some())));
    gauge("last_poll_failed", "Whether the last poll failed: 1 or 0.", &failed);

    let outcomes: Vec<Sample<'_>> =
        report.outcomes.iter().map(|(class, count)| (Some(("class", *class)), *count as f64)).collect();
    let help = "Attempts to deliver a lead, by what came of them; counted from the journal, so restarts reset nothing.";
    family(&mut text, "deliveries_total", "counter", help, &outcomes);
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, samples: &[Sample<'_>]) {
    let _ = writeln!(text, "# HELP conversica_sync_{name} {help}\n# TYPE conversica_sync_{name} {kind}");
    for (label, value) in samples {
        // Labels are our own words and need no escaping; an `f64` is written without an exponent.
        let _ = match label {
            Some((label, word)) => writeln!(text, "conversica_sync_{name}{{{label}=\"{word}\"}} {value}"),
            None => writeln!(text, "conversica_sync_{name} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::control::{LastPoll, Pacing};
    use crate::status::HaltShown;
    use chrono::DateTime;

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = render(&Report::before_the_first_run());
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), 1 + 9 + 1 + 3 + 5, "{text}");
        assert!(samples.contains(&"conversica_sync_leads{status=\"in_sync\"} 0"), "{text}");
    }

    #[test]
    fn a_report_in_full() {
        let mut report = Report::before_the_first_run();
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
        });
        report.pacing = Some(Pacing {
            at,
            requests_per_second: 2.5,
            ceiling: 5.0,
            paused_until: None,
            breaker: BreakerState::Open,
            next_probe_at: None,
            failures: 5,
            new_people_wait_until: None,
        });
        let text = render(&report);
        for line in [
            "# HELP conversica_sync_leads Leads in the state, by where they stand.",
            "# TYPE conversica_sync_leads gauge",
            "conversica_sync_leads{status=\"in_sync\"} 12345678901",
            "# TYPE conversica_sync_deliveries_total counter",
            "conversica_sync_deliveries_total{class=\"accepted\"} 7",
            "conversica_sync_halted{reason=\"credentials\"} 0",
            "conversica_sync_halted{reason=\"forbidden\"} 1",
            "conversica_sync_held_leads 0",
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
