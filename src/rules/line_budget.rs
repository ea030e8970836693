//! How many log lines of one kind are written in a minute: a line for each lead while they are few, and no flood. Pure.

use chrono::{DateTime, TimeDelta, Utc};

const WINDOW: TimeDelta = TimeDelta::minutes(1);

#[derive(Debug, Clone)]
pub struct LineBudget {
    /// Lines in a minute.
    most: u32,
    since: Option<DateTime<Utc>>,
    used: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineVerdict {
    Write,
    /// Write this line, and that the further ones of this minute are left out.
    WriteLast,
    Skip,
}

impl LineBudget {
    pub const fn new(most: u32) -> Self {
        Self { most, since: None, used: 0 }
    }

    /// Judges one line.
    pub fn admit(&mut self, now: DateTime<Utc>) -> LineVerdict {
        // A clock that was set back begins a new minute.
        if self.since.is_none_or(|since| now < since || now - since >= WINDOW) {
            (self.since, self.used) = (Some(now), 0);
        }
        self.used = self.used.saturating_add(1);
        match self.used.cmp(&self.most) {
            std::cmp::Ordering::Less => LineVerdict::Write,
            std::cmp::Ordering::Equal => LineVerdict::WriteLast,
            std::cmp::Ordering::Greater => LineVerdict::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_are_written_in_a_minute_and_the_last_says_that_more_are_left_out() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut budget = LineBudget::new(3);
        let verdicts: Vec<LineVerdict> = (0..5).map(|second| budget.admit(now + TimeDelta::seconds(second))).collect();
        use LineVerdict::{Skip, Write, WriteLast};
        assert_eq!(verdicts, [Write, Write, WriteLast, Skip, Skip]);
        assert_eq!(budget.admit(now + TimeDelta::seconds(59)), Skip);
        assert_eq!(budget.admit(now + TimeDelta::seconds(60)), Write);
        assert_eq!(budget.admit(now - TimeDelta::hours(1)), Write, "a clock that was set back");
    }
}
