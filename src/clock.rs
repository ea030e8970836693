//! The only place that reads the clock. The edges (commands, loops, requests) call it; all other code gets the time as an argument.
//!
//! Instances that share a PostgreSQL state use the clock of its server: one instance compares leases, pauses and due times that
//! another wrote, and their own clocks may be minutes apart. [`follow_server`] learns the server's time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};

/// A moment by the server's clock, and when this process learned it: setting this machine's clock does not move the time that
/// counts from there.
static ANCHOR: Mutex<Option<ClockAnchor>> = Mutex::new(None);

/// Networks and busy machines explain a smaller difference between two clocks. A larger one is reported.
pub const CLOCKS_APART: TimeDelta = TimeDelta::seconds(10);

/// Now, cut to the microseconds that both databases keep, so that a stored instant reads back the same. By the clock of the
/// state's server, if there is one, and otherwise by this machine's.
pub fn now() -> DateTime<Utc> {
    let anchor = *ANCHOR.lock().unwrap_or_else(PoisonError::into_inner);
    anchor.map_or_else(own, |anchor| anchor.reading(since_boot())).trunc_subsecs(6)
}

/// Now by this machine's own clock, whatever the server's time.
pub fn own() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// The time since the machine started, suspensions included. It never goes back, and setting the clock does not move it: it
/// measures ages within this process. `std::time::Instant` does not count suspensions.
pub fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}

/// A server's time, with the moments of question and answer by [`since_boot`].
#[derive(Debug, Clone, Copy)]
pub struct ServerTime {
    pub said: DateTime<Utc>,
    pub asked: Duration,
    pub answered: Duration,
}

/// The effect of following a server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockCorrection {
    /// By how much [`now`] has moved.
    pub moved: TimeDelta,
    /// How far this machine's own clock is ahead of the server's.
    pub own_ahead: TimeDelta,
}

/// From now on [`now`] is the server's time.
pub fn follow_server(time: ServerTime) -> ClockCorrection {
    let own = own();
    let mut anchor = ANCHOR.lock().unwrap_or_else(PoisonError::into_inner);
    let before = anchor.map_or(own, |anchor| anchor.reading(time.answered));
    let next = ClockAnchor::new(time, own, *anchor);
    *anchor = Some(next);
    ClockCorrection { moved: next.reading(time.answered) - before, own_ahead: own - time.at_answer() }
}

impl ServerTime {
    /// The server's time at its answer, assuming that half of the time between question and answer has passed since.
    fn at_answer(&self) -> DateTime<Utc> {
        self.said + self.uncertainty()
    }

    fn uncertainty(&self) -> TimeDelta {
        TimeDelta::from_std(self.answered.saturating_sub(self.asked) / 2).unwrap_or(TimeDelta::MAX)
    }
}

#[derive(Debug, Clone, Copy)]
struct ClockAnchor {
    at: DateTime<Utc>,
    since_boot: Duration,
}

/// A machine's clock this close to the server's is as good as the server's, whose answer takes time.
const AGREEING: TimeDelta = TimeDelta::seconds(1);
/// Smaller differences are ignored, so that the time does not jump at each answer.
const JITTER: TimeDelta = TimeDelta::milliseconds(250);

impl ClockAnchor {
    /// `own` is this machine's clock at the answer.
    fn new(time: ServerTime, own: DateTime<Utc>, before: Option<Self>) -> Self {
        let (server, uncertainty) = (time.at_answer(), time.uncertainty());
        let at = if (own - server).abs() <= AGREEING + uncertainty { own } else { server };
        let next = Self { at, since_boot: time.answered };
        before.filter(|before| (before.reading(time.answered) - at).abs() <= JITTER + uncertainty).unwrap_or(next)
    }

    fn reading(&self, since_boot: Duration) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(since_boot.saturating_sub(self.since_boot)).unwrap_or_default();
        self.at.checked_add_signed(passed).unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn asked_at(seconds: i64, took_ms: u64) -> ServerTime {
        let answered = Duration::from_secs(1000 + seconds.unsigned_abs());
        let took = Duration::from_millis(took_ms);
        // The server reads its clock as soon as it is asked: the worst case.
        ServerTime { said: start() + TimeDelta::seconds(seconds) - took, asked: answered - took, answered }
    }

    proptest! {
        #[test]
        fn the_time_is_the_servers_however_far_off_the_own_clock_is(off in -100_000_000i64..100_000_000, took_ms in 0u64..5000) {
            let time = asked_at(0, took_ms);
            let anchor = ClockAnchor::new(time, start() + TimeDelta::seconds(off), None);
            let error = (anchor.reading(time.answered) - start()).abs();
            prop_assert!(error <= AGREEING + TimeDelta::milliseconds(took_ms as i64), "{error}");
        }

        #[test]
        fn setting_the_own_clock_changes_nothing_between_two_answers(off in -100_000i64..100_000, passed in 0i64..100_000) {
            let first = ClockAnchor::new(asked_at(0, 2), start(), None);
            let later = asked_at(passed, 2);
            prop_assert_eq!(first.reading(later.answered), start() + TimeDelta::seconds(passed));
            let second = ClockAnchor::new(later, start() + TimeDelta::seconds(passed + off), Some(first));
            let error = (second.reading(later.answered) - start() - TimeDelta::seconds(passed)).abs();
            prop_assert!(error <= AGREEING + TimeDelta::milliseconds(2), "{error}");
        }
    }

    #[test]
    fn clocks_that_agree_leave_the_own_clock_as_it_is_and_small_differences_do_not_make_it_jump() {
        let own = start() + TimeDelta::milliseconds(700);
        let anchor = ClockAnchor::new(asked_at(0, 2), own, None);
        assert_eq!(anchor.reading(Duration::from_secs(1003)), own + TimeDelta::seconds(3));
        let later = start() + TimeDelta::seconds(3) + TimeDelta::milliseconds(800);
        let again = ClockAnchor::new(asked_at(3, 2), later, Some(anchor));
        assert_eq!(again.reading(Duration::from_secs(1003)), own + TimeDelta::seconds(3), "100 ms are no reason");
    }
}
