//! How far sending has come: the largest backlog since nothing waited last, what is left of it, and how long that takes at the present
//! pace.

use std::sync::{Mutex, PoisonError};

use super::sending::SendingState;
use crate::rules::lead_status::LeadStatus;
use crate::status::StatusReport;
use crate::wording::{number, roughly};

/// The largest backlog since nothing waited last.
#[derive(Debug, Default)]
pub struct BacklogMark(Mutex<i64>);

/// What a page shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingProgress {
    pub done: i64,
    pub all: i64,
    pub says: String,
}

/// A smaller backlog is gone before anybody looks.
const WORTH_SHOWING: i64 = 5;

impl BacklogMark {
    /// Notes the backlog; `None` where there is nothing to show.
    pub fn progress(&self, report: &StatusReport, sending: SendingState) -> Option<SendingProgress> {
        let waiting: i64 = [LeadStatus::Pending, LeadStatus::Retrying, LeadStatus::InFlight]
            .map(|status| report.leads(status))
            .iter()
            .sum();
        let mut most = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *most = if waiting == 0 { 0 } else { waiting.max(*most) };
        if *most < WORTH_SHOWING || sending != SendingState::Flowing {
            return None;
        }
        Some(SendingProgress { done: *most - waiting, all: *most, says: words(*most - waiting, waiting, report) })
    }
}

fn words(done: i64, waiting: i64, report: &StatusReport) -> String {
    let count = |leads: i64| number(u64::try_from(leads).unwrap_or(0));
    let shown = format!("{} of {} sent", count(done), count(done + waiting));
    let Some(pace) = &report.pacing else { return format!("{shown}.") };
    if pace.new_people_wait_until.is_some() {
        return format!("{shown}; the rest at the pace that the caps on new people allow.");
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rough time"
    )]
    let seconds = (waiting as f64 / pace.requests_per_second.max(0.01)).ceil() as u64;
    format!("{shown}; the rest in about {}, at {} requests a second.", roughly(seconds), pace.requests_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_from_the_largest_backlog_until_nothing_waits() {
        let (mark, mut report) = (BacklogMark::default(), StatusReport::before_the_first_run());
        let mut progress = |waiting: i64| {
            report.leads.insert("pending", waiting);
            mark.progress(&report, SendingState::Flowing).map(|shown| (shown.done, shown.all))
        };
        assert_eq!([progress(0), progress(3)], [None, None]);
        assert_eq!([progress(100), progress(60), progress(10)], [Some((0, 100)), Some((40, 100)), Some((90, 100))]);
        assert_eq!([progress(0), progress(20)], [None, Some((0, 20))], "another one");
        report.leads.insert("pending", 7);
        assert_eq!(mark.progress(&report, SendingState::Halted), None, "nothing is sent");
    }
}
