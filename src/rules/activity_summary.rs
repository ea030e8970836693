//! What was sent in the last minute, for the log: one line a minute while anything is sent, and none while nothing is. Pure.

use chrono::{DateTime, TimeDelta, Utc};

const WINDOW: TimeDelta = TimeDelta::minutes(1);

/// Finished requests of a process, by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentCounts {
    pub accepted: u64,
    pub rejected: u64,
    pub transient: u64,
    pub ambiguous: u64,
}

impl SentCounts {
    fn since(self, before: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_sub(before.accepted),
            rejected: self.rejected.saturating_sub(before.rejected),
            transient: self.transient.saturating_sub(before.transient),
            ambiguous: self.ambiguous.saturating_sub(before.ambiguous),
        }
    }
}

/// The counts at the last line, and when that was.
#[derive(Debug, Clone)]
pub struct ActivitySummary {
    since: DateTime<Utc>,
    before: SentCounts,
}

impl ActivitySummary {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { since: now, before: SentCounts::default() }
    }

    /// What was sent since the last line, if a minute is over and anything was.
    pub fn step(&mut self, counts: SentCounts, now: DateTime<Utc>) -> Option<SentCounts> {
        if now >= self.since && now - self.since < WINDOW {
            return None;
        }
        self.finish(counts, now)
    }

    /// What was sent since the last line, if anything was.
    pub fn finish(&mut self, counts: SentCounts, now: DateTime<Utc>) -> Option<SentCounts> {
        let sent = counts.since(self.before);
        (self.since, self.before) = (now, counts);
        Some(sent).filter(|sent| *sent != SentCounts::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(accepted: u64, rejected: u64) -> SentCounts {
        SentCounts { accepted, rejected, ..SentCounts::default() }
    }

    #[test]
    fn one_line_a_minute_says_what_the_minute_had_and_none_comes_while_nothing_is_sent() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let at = |seconds: i64| start + TimeDelta::seconds(seconds);
        let mut summary = ActivitySummary::new(start);
        assert_eq!(summary.step(counts(5, 0), at(30)), None);
        assert_eq!(summary.step(counts(9, 1), at(60)), Some(counts(9, 1)));
        assert_eq!(summary.step(counts(20, 1), at(90)), None);
        assert_eq!(summary.step(counts(21, 3), at(120)), Some(counts(12, 2)), "since the last line");
        assert_eq!(summary.step(counts(21, 3), at(180)), None, "nothing was sent");
        assert_eq!(summary.step(counts(22, 3), at(181)), None);
        assert_eq!(summary.finish(counts(22, 3), at(182)), Some(counts(1, 0)), "at the end, what no line has said");
        assert_eq!(summary.finish(counts(22, 3), at(183)), None);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_no_line_back() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut summary = ActivitySummary::new(start);
        assert_eq!(summary.step(counts(3, 0), start - TimeDelta::hours(1)), Some(counts(3, 0)));
        assert_eq!(summary.step(counts(4, 0), start - TimeDelta::hours(1)), None);
    }
}
