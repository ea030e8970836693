//! Decides why the daemon is unhealthy (it hangs, and a restart may help) or not ready (it runs, but its work has stopped, and
//! the operator has to fix something). Pure.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::pulse::{DaemonLoop, LoopBeats, StateHealth};
use crate::status::ServiceStanding;

/// One fault. It never quotes an error, which may contain a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadyReason {
    pub reason: &'static str,
    pub detail: String,
    pub cure: &'static str,
}

/// The time for a round of a loop beyond its longest statement: the databases' time-outs several times over.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loops that have been silent for too long. A loop that queries the CRM's database may spend `[source] statement_timeout`
/// waiting for its first row. A loop that has not begun waits for the source, which is no fault, or is not configured.
pub fn health(beats: LoopBeats, statement_timeout: Duration, now: Instant) -> Vec<UnreadyReason> {
    let silent = beats.into_iter().filter_map(|(which, beat)| {
        let silence = now.saturating_duration_since(beat?);
        let (reason, patience) = match which {
            DaemonLoop::Poll => ("poll_loop", PATIENCE + statement_timeout),
            DaemonLoop::Deliver => ("deliver_loop", PATIENCE),
            DaemonLoop::Receive => ("receive_loop", PATIENCE),
            DaemonLoop::Writeback => ("writeback_loop", PATIENCE + statement_timeout),
            DaemonLoop::Alert => ("alert_loop", PATIENCE),
        };
        (silence > patience).then(|| UnreadyReason {
            reason,
            detail: format!("no sign of life for {} s", silence.as_secs()),
            cure: "look at the log for a database that has stopped answering, then restart conversica-sync",
        })
    });
    silent.collect()
}

/// Why no lead is found or sent. `standing` is `None` where the state cannot be read; `health` is the result of the last writes.
pub fn readiness(standing: Option<&ServiceStanding>, beats: LoopBeats, health: StateHealth) -> Vec<UnreadyReason> {
    if let StateHealth::Lost(loss) = health {
        return vec![UnreadyReason { reason: "state", detail: loss.to_string(), cure: loss.cure() }];
    }
    let Some(standing) = standing else { return vec![state_unreadable()] };
    let mut reasons = Vec::new();
    if health != StateHealth::Writable {
        reasons.push(UnreadyReason {
            reason: "state",
            detail: "it cannot be written".to_owned(),
            cure: "see that its disk has room and that it may be written; the log says what is wrong, and it goes on by itself",
        });
    }
    if let Some(halt) = &standing.halt {
        reasons.push(UnreadyReason { reason: "halted", detail: halt.reason.to_owned(), cure: halt.cure });
    }
    let waiting = beats.contains(&(DaemonLoop::Poll, None));
    if waiting || standing.poll_failed {
        let detail = if waiting { "not connected yet" } else { "the last poll failed" };
        reasons.push(UnreadyReason {
            reason: "source",
            detail: detail.to_owned(),
            cure: "see that the database of [source] url answers and still fits [source] and [lead]; the log and \
                   `conversica-sync check` say what is wrong",
        });
    }
    reasons
}

pub fn state_unreadable() -> UnreadyReason {
    UnreadyReason {
        reason: "state",
        detail: "it cannot be read".to_owned(),
        cure: "see that the database of [state] url answers, or that its file is there and readable; `conversica-sync \
               status` says what is wrong",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::HaltShown;
    use crate::store::file_lock::StateLoss;

    const STATEMENT: Duration = Duration::from_secs(600);

    /// No loop has begun except these.
    fn beats<const N: usize>(of: [(DaemonLoop, Option<Instant>); N]) -> LoopBeats {
        DaemonLoop::ALL.map(|which| (which, of.iter().find(|(one, _)| *one == which).and_then(|(_, beat)| *beat)))
    }

    #[test]
    fn the_loops_of_the_road_back_are_listened_to_as_well() {
        let start = Instant::now();
        let unhealthy = |after: u64| -> Vec<&'static str> {
            let now = start + Duration::from_secs(after);
            let beats = beats(
                [DaemonLoop::Receive, DaemonLoop::Writeback, DaemonLoop::Alert].map(|which| (which, Some(start))),
            );
            health(beats, STATEMENT, now).into_iter().map(|reason| reason.reason).collect()
        };
        assert_eq!(unhealthy(60), [""; 0]);
        assert_eq!(unhealthy(61), ["receive_loop", "alert_loop"]);
        assert_eq!(unhealthy(661), ["receive_loop", "writeback_loop", "alert_loop"]);
    }

    fn healthy_after(poll: u64, deliver: u64) -> Vec<&'static str> {
        let start = Instant::now();
        let now = start + Duration::from_secs(10_000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        let beats = beats([(DaemonLoop::Poll, ago(poll)), (DaemonLoop::Deliver, ago(deliver))]);
        health(beats, STATEMENT, now).into_iter().map(|reason| reason.reason).collect()
    }

    #[test]
    fn a_loop_is_unhealthy_once_its_silence_outlasts_its_longest_statement() {
        assert_eq!(healthy_after(0, 0), [""; 0]);
        assert_eq!(healthy_after(660, 60), [""; 0], "a huge table may take so long to sort");
        assert_eq!(healthy_after(661, 60), ["poll_loop"]);
        assert_eq!(healthy_after(660, 61), ["deliver_loop"]);
        assert_eq!(healthy_after(5000, 5000), ["poll_loop", "deliver_loop"]);
    }

    #[test]
    fn loops_that_have_not_begun_and_beats_of_the_future_are_healthy() {
        let now = Instant::now();
        let ahead = now + Duration::from_secs(5);
        assert_eq!(health(beats([(DaemonLoop::Poll, None), (DaemonLoop::Deliver, Some(ahead))]), STATEMENT, now), []);
    }

    #[test]
    fn every_stop_has_its_reason_and_a_hold_is_none() {
        let begun = beats([(DaemonLoop::Poll, Some(Instant::now()))]);
        let reasons = |standing: &ServiceStanding, beats| -> Vec<(&str, String)> {
            readiness(Some(standing), beats, StateHealth::Writable)
                .into_iter()
                .map(|reason| (reason.reason, reason.detail))
                .collect()
        };
        let mut standing = ServiceStanding { halt: None, hold: None, poll_failed: false };
        assert_eq!(reasons(&standing, begun), []);
        assert_eq!(reasons(&standing, beats([])), [("source", "not connected yet".to_owned())]);
        standing.poll_failed = true;
        standing.halt = Some(HaltShown {
            reason: "forbidden",
            since: chrono::DateTime::UNIX_EPOCH,
            detail: Some("Ann's e-mail".to_owned()),
            cure: "ask",
        });
        assert_eq!(
            reasons(&standing, begun),
            [("halted", "forbidden".to_owned()), ("source", "the last poll failed".to_owned())]
        );
        assert_eq!(readiness(None, begun, StateHealth::Writable)[0].detail, "it cannot be read");
        let unwritable = readiness(Some(&standing), begun, StateHealth::Unwritable);
        assert_eq!(unwritable[0].detail, "it cannot be written");
        let lost = readiness(None, begun, StateHealth::Lost(StateLoss::Removed));
        assert!(lost.len() == 1 && lost[0].detail.contains("removed"), "{lost:?}");
    }
}
