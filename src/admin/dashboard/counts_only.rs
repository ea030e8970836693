//! What the overview shows to a visitor who has not signed in: counts, and no people.

use super::details::{OverviewDetails, WaitingGroup};
use crate::status::StatusReport;

/// Texts by Conversica and by operators may quote a person.
pub fn report_without_people(report: &StatusReport) -> StatusReport {
    let mut report = report.clone();
    if let Some(halt) = &mut report.halt {
        halt.detail = None;
    }
    // A database's message may quote a condition of the settings.
    if let Some(poll) = &mut report.last_poll {
        poll.error = poll.error.take().map(|_| "sign in to see why".to_owned());
        poll.cure = None;
    }
    if let Some(pause) = &mut report.pause {
        pause.reason = None;
        "an operator".clone_into(&mut pause.who);
        for scope in &mut pause.scopes {
            scope.reason = None;
            "an operator".clone_into(&mut scope.who);
        }
    }
    report
}

/// Without lead ids: they may be addresses. One group a status: reasons may quote a value.
pub fn without_people(seen: &(StatusReport, OverviewDetails)) -> (StatusReport, OverviewDetails) {
    let (report, details) = seen;
    let mut groups: Vec<WaitingGroup> = Vec::new();
    for (status, leads) in details.needing.iter().filter(|(_, leads)| *leads > 0) {
        groups.push(WaitingGroup { status: *status, reason: String::new(), leads: *leads, examples: Vec::new() });
    }
    let details = OverviewDetails {
        groups,
        decisions: Vec::new(),
        failed: Vec::new(),
        posts: Vec::new(),
        possible_opt_outs: Vec::new(),
        ..details.clone()
    };
    (report_without_people(report), details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::operator_pause::{OperatorPause, PauseShown};
    use crate::rules::poll_record::LastPoll;

    #[test]
    fn no_text_that_may_quote_a_person_is_left() {
        let now = chrono::DateTime::UNIX_EPOCH;
        let secret = || Some("ann@example.com".to_owned());
        let mut report = StatusReport::before_the_first_run();
        report.last_poll = Some(LastPoll {
            at: now,
            unnamed: 0,
            kind: "full".to_owned(),
            rows: 1,
            changed: 0,
            duration_ms: 1,
            error: secret(),
            cure: secret(),
            failing_since: None,
            succeeded_at: Default::default(),
            instances: None,
        });
        let pause = OperatorPause {
            conversation: None,
            since: now,
            until: None,
            reason: secret(),
            who: "ann@example.com".to_owned(),
        };
        report.pause = PauseShown::of(vec![pause], now);
        assert!(serde_json::to_string(&report).unwrap().contains("ann@"));
        let shown = report_without_people(&report);
        assert!(!serde_json::to_string(&shown).unwrap().contains("ann@"), "{shown:?}");
        assert!(shown.pause.is_some() && shown.last_poll.is_some_and(|poll| poll.error.is_some()), "the facts stay");
    }
}
