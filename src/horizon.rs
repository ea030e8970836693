//! Interprets a stored instant in case the clock that wrote it was ahead. Pure.
//!
//! A clock may be years ahead for one pass. The instants that this pass stored must not block anything until that year: a delay
//! that is longer than any possible delay is over, and an event in the future counts as an event of now.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Two clocks that are set by the network differ by no more than this. An instant this little in the future is accepted.
pub const TOLERANCE: Duration = Duration::from_secs(60);

/// Whether a wait has ended: its end has passed, or is further away than the longest possible wait of this kind (`longest`).
pub fn is_over(until: DateTime<Utc>, longest: Duration, now: DateTime<Utc>) -> bool {
    until <= now || latest(longest, now) < until
}

/// The latest possible end of a wait of this kind; a later one was written by a clock that was ahead.
pub fn latest(longest: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(longest)
        .ok()
        .and_then(|longest| now.checked_add_signed(longest))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The effective instant of an event: one in the future counts as now.
pub fn as_of_now(at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    at.min(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    proptest! {
        #[test]
        fn no_stored_instant_lets_a_wait_last_longer_than_the_longest(offset in -100_000_000i64..100_000_000, longest in 0u64..100_000) {
            let until = now() + TimeDelta::seconds(offset);
            let longest = Duration::from_secs(longest);
            // Once the longest wait has passed by a correct clock, it is over whatever was stored.
            prop_assert!(is_over(until, longest, now()) || is_over(until, longest, latest(longest, now())));
        }

        #[test]
        fn a_wait_that_can_be_is_kept(offset in 1i64..100_000) {
            let until = now() + TimeDelta::seconds(offset);
            prop_assert!(!is_over(until, Duration::from_secs(offset as u64), now()));
        }
    }

    #[test]
    fn a_wait_until_another_year_is_over_and_an_event_of_another_year_is_one_of_now() {
        let hour = Duration::from_secs(3600);
        assert!(!is_over(now() + hour, hour, now()));
        assert!(is_over(now() + hour + Duration::from_secs(1), hour, now()));
        assert!(is_over(now() + TimeDelta::days(730), hour, now()));
        assert!(is_over(now(), hour, now()));
        assert_eq!(as_of_now(now() + TimeDelta::days(730), now()), now());
        assert_eq!(as_of_now(now() - hour, now()), now() - hour);
        assert_eq!(latest(Duration::MAX, now()), DateTime::<Utc>::MAX_UTC);
    }
}
