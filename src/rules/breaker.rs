//! After several transient failures in a row, over all leads, the deliverer sends one probe at a time until Conversica answers.
//! So an outage costs a few leads an attempt now and then, and not every lead every attempt. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::rules::retry;
use crate::{config, horizon};

#[derive(Debug, Clone)]
pub struct DeliveryBreaker {
    limit: u32,
    failures: u32,
    open: Option<OpenBreaker>,
}

#[derive(Debug, Clone, Copy)]
struct OpenBreaker {
    probes: i64,
    next_probe_at: DateTime<Utc>,
    /// The longest pause between two probes. A longer one was written by a clock that ran ahead.
    longest: Duration,
}

impl DeliveryBreaker {
    pub fn new(settings: &config::BreakerSettings) -> Self {
        Self { limit: settings.failures, failures: 0, open: None }
    }

    /// Open, as an earlier process left it; the first probe may leave at once.
    pub fn resume(settings: &config::BreakerSettings, failures: u32, now: DateTime<Utc>) -> Self {
        Self {
            limit: settings.failures,
            failures,
            open: Some(OpenBreaker { probes: 0, next_probe_at: now, longest: Duration::ZERO }),
        }
    }

    /// How many requests may be in flight, of `concurrency` at most.
    pub fn slots(&self, concurrency: usize, now: DateTime<Utc>) -> usize {
        match self.open {
            None => concurrency,
            Some(open) if horizon::is_over(open.next_probe_at, open.longest, now) => 1,
            Some(_) => 0,
        }
    }

    /// Transient failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn next_probe_at(&self) -> Option<DateTime<Utc>> {
        self.open.map(|open| open.next_probe_at)
    }

    /// Records a transient or ambiguous outcome. Returns whether this opened the breaker.
    pub fn failed(&mut self, settings: &config::RetrySettings, now: DateTime<Utc>) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.limit {
            return false;
        }
        let probes = self.open.map_or(1, |open| open.probes + 1);
        let opened = self.open.is_none();
        // At least half the window, because a probe at once would give Conversica no rest.
        let wait = retry::ceiling(settings, probes) / 2 + retry::delay(settings, probes) / 2;
        let wait = wait.max(Duration::from_millis(10));
        self.open = Some(OpenBreaker { probes, next_probe_at: now + wait, longest: settings.max_interval.max(wait) });
        opened
    }

    /// Records an answer that decides. Returns whether this closed the breaker.
    pub fn answered(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn settings() -> config::RetrySettings {
        config::RetrySettings {
            initial_interval: Duration::from_secs(1),
            multiplier: 2.0,
            max_interval: Duration::from_secs(60),
            max_elapsed: Duration::from_secs(3600),
        }
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row_and_lets_one_probe_through_at_a_time() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut breaker = DeliveryBreaker::new(&config::BreakerSettings { failures: 3 });
        assert!(!breaker.failed(&settings(), now));
        assert!(!breaker.failed(&settings(), now));
        assert_eq!(breaker.slots(64, now), 64);
        assert!(breaker.failed(&settings(), now));
        assert_eq!(breaker.slots(64, now), 0);
        assert_eq!(breaker.slots(64, now + TimeDelta::seconds(1)), 1);
        assert!(breaker.answered());
        assert_eq!(breaker.slots(64, now), 64);
    }

    #[test]
    fn a_probe_that_a_clock_that_was_ahead_has_put_off_is_due() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut breaker = DeliveryBreaker::new(&config::BreakerSettings { failures: 1 });
        breaker.failed(&settings(), now + TimeDelta::days(730));
        assert_eq!(breaker.slots(64, now), 1);
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_anew() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut breaker = DeliveryBreaker::new(&config::BreakerSettings { failures: 2 });
        for _ in 0..10 {
            assert!(!breaker.failed(&settings(), now));
            assert!(!breaker.answered());
        }
    }

    #[test]
    fn probes_come_ever_more_rarely() {
        let mut now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut breaker = DeliveryBreaker::new(&config::BreakerSettings { failures: 1 });
        let mut waits = Vec::new();
        for _ in 0..8 {
            breaker.failed(&settings(), now);
            let next = breaker.next_probe_at().unwrap();
            waits.push((next - now).num_milliseconds());
            now = next;
        }
        assert!(waits[7] >= 30_000 && waits[7] <= 60_000, "{waits:?}");
    }
}
