//! The one place that reads the clock. Everything else is given the time as an argument.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use rustix::time::{ClockId, clock_gettime};

/// Now, cut to the microseconds that both databases keep, so that what is written reads back the same.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// The time since the machine was started, suspensions included. It never goes back, and setting the clock does not move it:
/// for how old a thing of this process is. `std::time::Instant` stands still while a machine is suspended.
pub fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}
