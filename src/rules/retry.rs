//! When a failed lead is retried: exponential back-off with full jitter, `Retry-After` honoured, a limit in time. Pure except for
//! the random number.
//!
//! The `backoff` crate is used here alone, as a generator of delays. Its own limit of elapsed time is off, because it reads its
//! own clock. Its jitter is clamped here, because it overshoots the longest interval. The schedule is stored in the lead's row,
//! so that a restart keeps it.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;
use chrono::{DateTime, Utc};

use crate::config::{self, OnAmbiguous};
use crate::conversica::outcome::RETRY_AFTER_MAX;

/// The longest delay before any jitter: initial × multiplier^(attempt − 1), at most the longest interval.
pub fn ceiling(retry: &config::RetrySettings, attempt: i64) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX).clamp(0, 1000);
    let seconds = retry.initial_interval.as_secs_f64() * retry.multiplier.powi(exponent);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(retry.max_interval)
}

/// The longest delay that a lead can have before its next try.
pub fn longest_wait(delivery: &config::DeliverySettings) -> Duration {
    delivery.retry.max_interval.max(RETRY_AFTER_MAX).max(delivery.ambiguous_wait)
}

/// How long to wait after that attempt failed: anything between zero and [`ceiling`], so that leads that failed together do not
/// return together.
pub fn delay(retry: &config::RetrySettings, attempt: i64) -> Duration {
    let ceiling = ceiling(retry, attempt);
    // Full jitter: uniform between zero and the ceiling, written as half the ceiling plus or minus that half.
    let mut generator = ExponentialBackoffBuilder::new()
        .with_initial_interval(ceiling / 2)
        .with_randomization_factor(1.0)
        .with_max_interval(ceiling.max(Duration::from_nanos(1)))
        .with_max_elapsed_time(None)
        .build();
    generator.next_backoff().unwrap_or(ceiling).min(ceiling)
}

/// The longest delay, before a `Retry-After`, of a lead that withdraws consent. Each try costs one request, and prevents a
/// message to a person who wants none.
const WITHDRAWAL_MAX_INTERVAL: Duration = Duration::from_secs(30);

/// The settings that apply to a lead that withdraws consent.
pub fn for_withdrawals(retry: &config::RetrySettings) -> config::RetrySettings {
    config::RetrySettings { max_interval: retry.max_interval.min(WITHDRAWAL_MAX_INTERVAL), ..retry.clone() }
}

/// The next step for a lead whose attempt failed for a passing reason. `failing_for` is how long the series of attempts has
/// lasted.
pub fn next(
    retry: &config::RetrySettings,
    attempt: i64,
    failing_for: Duration,
    retry_after: Option<Duration>,
    now: DateTime<Utc>,
) -> NextStep {
    if failing_for >= retry.max_elapsed {
        return NextStep::Exhausted;
    }
    let wait = delay(retry, attempt).max(retry_after.unwrap_or(Duration::ZERO));
    NextStep::RetryAt(now + wait)
}

/// The next step for a lead that Conversica may or may not have.
pub fn next_unknown(
    delivery: &config::DeliverySettings,
    attempt: i64,
    failing_for: Duration,
    now: DateTime<Utc>,
) -> NextStep {
    match (delivery.on_ambiguous, next(&delivery.retry, attempt, failing_for, None, now)) {
        (OnAmbiguous::Hold, _) => NextStep::Hold,
        (OnAmbiguous::Wait, NextStep::RetryAt(_)) => NextStep::RetryAt(now + delivery.ambiguous_wait),
        (OnAmbiguous::Wait | OnAmbiguous::Resend, next) => next,
    }
}

/// The retry policy's decision about the content that was sent. Content that has changed since is always sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Accepted: nothing more to do.
    Done,
    /// Rejected by Conversica: waits for a change or the operator.
    Rejected,
    /// Retried for long enough: waits for a change or the operator.
    Exhausted,
    /// Rejected, but it withdraws consent: the withdrawal is sent apart, with the content accepted last.
    WithdrawApart,
    /// Sent again at that time.
    RetryAt(DateTime<Utc>),
    /// Ambiguous outcome of a crash: sent again at once.
    Resend,
    /// Ambiguous outcome: waits for approval, unless it withdraws consent.
    Hold,
    /// As if it had not been tried: all sending has stopped for another reason.
    Untried,
    /// The claim was too old when its request was to be written, and nothing has left: due again at once. It is no attempt, so
    /// the journal has no entry for it, and `class` is ignored.
    Unsent,
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn retry(initial_ms: u64, multiplier: f64, max_ms: u64) -> config::RetrySettings {
        config::RetrySettings {
            initial_interval: Duration::from_millis(initial_ms),
            multiplier,
            max_interval: Duration::from_millis(max_ms),
            max_elapsed: Duration::from_secs(86_400),
        }
    }

    proptest! {
        #[test]
        fn every_delay_lies_within_its_window(initial in 1u64..60_000, factor in 1.0f64..10.0, more in 0u64..3_600_000, attempt in 1i64..10_000) {
            let retry = retry(initial, factor, initial + more);
            prop_assert!(delay(&retry, attempt) <= ceiling(&retry, attempt));
            prop_assert!(ceiling(&retry, attempt) <= retry.max_interval);
        }

        #[test]
        fn the_window_never_shrinks_from_one_attempt_to_the_next(initial in 1u64..60_000, factor in 1.0f64..10.0, more in 0u64..3_600_000, attempt in 1i64..200) {
            let retry = retry(initial, factor, initial + more);
            prop_assert!(ceiling(&retry, attempt) <= ceiling(&retry, attempt + 1));
        }

        #[test]
        fn a_retry_after_is_never_undercut(seconds in 0u64..3600, attempt in 1i64..50) {
            let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
            let NextStep::RetryAt(at) = next(&retry(1000, 2.0, 900_000), attempt, Duration::ZERO, Some(Duration::from_secs(seconds)), now) else {
                panic!("not exhausted")
            };
            prop_assert!(at >= now + TimeDelta::seconds(seconds as i64));
        }
    }

    #[test]
    fn the_first_window_is_the_initial_interval() {
        assert_eq!(ceiling(&retry(1000, 2.0, 900_000), 1), Duration::from_secs(1));
        assert_eq!(ceiling(&retry(1000, 2.0, 900_000), 4), Duration::from_secs(8));
    }

    #[test]
    fn jitter_spreads_leads_that_failed_together() {
        let delays: std::collections::BTreeSet<_> = (0..50).map(|_| delay(&retry(60_000, 2.0, 900_000), 1)).collect();
        assert!(delays.len() > 40);
    }

    #[test]
    fn failing_for_longer_than_the_limit_exhausts() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let next_after = |hours: u64| next(&retry(1000, 2.0, 900_000), 9, Duration::from_secs(hours * 3600), None, now);
        assert_eq!(next_after(25), NextStep::Exhausted);
        assert!(matches!(next_after(23), NextStep::RetryAt(_)));
    }
}
