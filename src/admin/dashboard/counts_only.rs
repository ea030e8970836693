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
