//! The one place that reads the clock. Everything else is given the time as an argument.

use chrono::{DateTime, SubsecRound, Utc};

/// Now, cut to the microseconds that both databases keep, so that what is written reads back the same.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
