//! The rate of requests: a token bucket under a ceiling. The rate halves when Conversica asks for less, and grows back little by
//! little. Pure: time is an argument.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::conversica::outcome::RETRY_AFTER_MAX;
use crate::horizon;

/// The rate never falls below this share of the ceiling: a rate near zero would need hours to find out that Conversica is well
/// again.
const FLOOR: f64 = 1.0 / 64.0;
/// Each accepted lead gives back this share of the ceiling: from half to full takes fifty accepted leads.
const RECOVERY: f64 = 1.0 / 100.0;

#[derive(Debug, Clone)]
pub struct SendPace {
    ceiling: f64,
    rate: f64,
    tokens: f64,
    refilled_at: DateTime<Utc>,
    paused_until: Option<DateTime<Utc>>,
}

impl SendPace {
    /// `requests_per_second` is the ceiling, above 0.
    pub fn new(requests_per_second: f64, now: DateTime<Utc>) -> Self {
        Self {
            ceiling: requests_per_second,
            rate: requests_per_second,
            tokens: 1.0,
            refilled_at: now,
            paused_until: None,
        }
    }

    /// Continues at an earlier process's share of the ceiling, after any pause that Conversica asked for.
    pub fn resume(
        requests_per_second: f64,
        share: f64,
        paused_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        let share = if share.is_finite() { share.clamp(FLOOR, 1.0) } else { 1.0 };
        // If the clock has stepped back, a pause of an hour could last a year.
        let paused_until = paused_until.filter(|until| *until > now).map(|until| until.min(now + RETRY_AFTER_MAX));
        Self { rate: requests_per_second * share, paused_until, ..Self::new(requests_per_second, now) }
    }

    /// How many requests may leave now.
    pub fn available(&mut self, now: DateTime<Utc>) -> usize {
        self.refill(now);
        if self.is_paused(now) {
            return 0;
        }
        self.tokens as usize
    }

    /// Whether no request may leave for now, because Conversica asked for a pause.
    pub fn is_paused(&self, now: DateTime<Utc>) -> bool {
        self.paused_until(now).is_some()
    }

    /// Records that `requests` requests leave.
    pub fn take(&mut self, requests: usize) {
        self.tokens -= requests as f64;
    }

    /// When the next request may leave.
    pub fn next_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let missing = (1.0 - self.tokens).max(0.0);
        let wait = Duration::try_from_secs_f64(missing / self.rate).unwrap_or(Duration::from_secs(60));
        // A time written by a clock that ran ahead delays nothing.
        let refilled = self.refilled_at.min(now) + wait;
        refilled.max(self.paused_until(now).unwrap_or(now)).max(now)
    }

    /// After a 429, a 503 or a time-out: halves the rate. With a `Retry-After`, no request leaves before it is over.
    pub fn slow_down(&mut self, retry_after: Option<Duration>, now: DateTime<Utc>) {
        self.refill(now);
        self.rate = (self.rate / 2.0).max(self.ceiling * FLOOR);
        self.tokens = self.tokens.min(1.0);
        if let Some(wait) = retry_after {
            self.paused_until = Some(self.paused_until(now).unwrap_or(now).max(now + wait));
        }
    }

    /// After an accepted lead: raises the rate a little.
    pub fn recover(&mut self) {
        self.rate = (self.rate + self.ceiling * RECOVERY).min(self.ceiling);
    }

    /// Sets another ceiling; the rate keeps its share of it.
    pub fn set_ceiling(&mut self, requests_per_second: f64, now: DateTime<Utc>) {
        self.refill(now);
        self.rate *= requests_per_second / self.ceiling;
        self.ceiling = requests_per_second;
    }

    /// Adopts a pause that Conversica asked another instance for.
    pub fn pause_until(&mut self, until: DateTime<Utc>, now: DateTime<Utc>) {
        let until = until.min(now + RETRY_AFTER_MAX);
        self.paused_until = Some(self.paused_until(now).map_or(until, |paused| paused.max(until)));
    }

    /// Requests a second at present.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The end of the pause that Conversica asked for, if it is not over.
    pub fn paused_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.paused_until.filter(|until| !horizon::is_over(*until, RETRY_AFTER_MAX, now))
    }

    fn refill(&mut self, now: DateTime<Utc>) {
        // A clock that steps back refills nothing.
        let elapsed = (now - self.refilled_at).to_std().unwrap_or(Duration::ZERO);
        // Tokens for a tenth of a second may gather, so that a late wake-up does not cost requests.
        let burst = (self.rate / 10.0).max(1.0);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(burst);
        self.refilled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    proptest! {
        #[test]
        fn no_more_leaves_than_the_ceiling_allows(rate in 0.5f64..5000.0, steps in proptest::collection::vec(1i64..500, 1..200)) {
            let mut pace = SendPace::new(rate, start());
            let mut now = start();
            let mut sent = 0;
            for step in steps {
                now += TimeDelta::milliseconds(step);
                let available = pace.available(now);
                pace.take(available);
                sent += available;
            }
            let elapsed = (now - start()).as_seconds_f64();
            prop_assert!(sent as f64 <= rate * elapsed + (rate / 10.0).max(1.0) + 1.0, "{sent} in {elapsed} s at {rate}/s");
        }

        #[test]
        fn after_next_at_there_is_a_token(rate in 0.01f64..5000.0) {
            let mut pace = SendPace::new(rate, start());
            pace.take(pace.clone().available(start()));
            let next = pace.next_at(start()) + TimeDelta::milliseconds(1);
            prop_assert!(pace.available(next) >= 1);
        }
    }

    #[test]
    fn a_throttled_pace_halves_waits_and_recovers() {
        let mut pace = SendPace::new(100.0, start());
        pace.slow_down(Some(Duration::from_secs(2)), start());
        assert_eq!(pace.rate(), 50.0);
        assert_eq!(pace.available(start() + TimeDelta::seconds(1)), 0, "everybody waits");
        assert!(pace.available(start() + TimeDelta::seconds(3)) > 0);
        for _ in 0..50 {
            pace.recover();
        }
        assert_eq!(pace.rate(), 100.0);
    }

    #[test]
    fn a_restart_keeps_the_pace_and_the_pause_but_no_pause_longer_than_may_be_asked_for() {
        let resumed = SendPace::resume(100.0, 0.25, Some(start() + TimeDelta::seconds(9)), start());
        assert_eq!(resumed.rate(), 25.0);
        assert_eq!(resumed.paused_until(start()), Some(start() + TimeDelta::seconds(9)));
        let after_a_clock_step = SendPace::resume(100.0, f64::NAN, Some(start() + TimeDelta::days(365)), start());
        assert_eq!(after_a_clock_step.rate(), 100.0);
        assert_eq!(after_a_clock_step.paused_until(start()), Some(start() + TimeDelta::hours(1)));
        assert_eq!(SendPace::resume(100.0, 5.0, Some(start()), start()).paused_until(start()), None);
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_put_back_neither_pauses_nor_slows_anybody() {
        let ahead = start() + TimeDelta::days(730);
        let mut pace = SendPace::new(100.0, ahead);
        pace.slow_down(Some(Duration::from_secs(60)), ahead);
        assert!(!pace.is_paused(start()));
        assert!(pace.next_at(start()) <= start() + TimeDelta::seconds(1));
        pace.slow_down(Some(Duration::from_secs(5)), start());
        assert_eq!(pace.paused_until(start()), Some(start() + TimeDelta::seconds(5)));
    }

    #[test]
    fn another_ceiling_changes_the_pace_in_proportion() {
        let mut pace = SendPace::new(100.0, start());
        pace.slow_down(None, start());
        pace.set_ceiling(50.0, start());
        assert_eq!(pace.rate(), 25.0);
        pace.set_ceiling(100.0, start());
        assert_eq!(pace.rate(), 50.0);
    }

    #[test]
    fn a_pace_never_stops_altogether() {
        let mut pace = SendPace::new(64.0, start());
        for _ in 0..100 {
            pace.slow_down(None, start());
        }
        assert_eq!(pace.rate(), 1.0);
    }
}
