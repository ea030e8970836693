//! How long a claim lasts, and during which part of that its request may begin to leave. Pure.

use std::time::Duration;

/// The time that a claim lasts beyond one and a half times the time limit of its request: for connecting, and for recording the
/// outcome while the state's server is slow or restarts.
const MARGIN: Duration = Duration::from_secs(20);

/// How long a claim lasts if a request may take `timeout`.
///
/// A request is written only during the first third of the lease, and ends `timeout` later at the latest. With a lease of 1.5 ×
/// timeout + 20 s a third is 0.5 × timeout + 6.7 s, the request has ended after 1.5 × timeout + 6.7 s, and 13 s are left for
/// recording its outcome before another instance may claim the lead.
pub fn duration(timeout: Duration) -> Duration {
    timeout.saturating_add(timeout / 2).saturating_add(MARGIN)
}

/// How old a claim may be when its request begins to be written.
pub fn time_to_write(lease: Duration) -> Duration {
    lease / 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_request_that_may_still_be_written_ends_well_within_its_lease(milliseconds in 1u64..3_600_000) {
            let timeout = Duration::from_millis(milliseconds);
            let lease = duration(timeout);
            prop_assert!(time_to_write(lease) + timeout + Duration::from_secs(13) <= lease);
        }
    }
}
