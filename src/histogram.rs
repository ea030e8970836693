//! Durations counted by length, for charts of quantiles. Counted in the process, from any thread; an observation is two atomic
//! additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in seconds: from the answer of a nearby database to a compare of all rows.
pub const BOUNDS: [f64; 14] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

#[derive(Debug, Default)]
pub struct DurationHistogram {
    /// The observations up to each bound and above the one before; the last counter has those above all bounds.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedHistogram {
    /// The observations up to each bound, all shorter ones included.
    pub up_to: [u64; BOUNDS.len()],
    pub count: u64,
    pub sum_seconds: f64,
}

impl DurationHistogram {
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub fn observed(&self) -> ObservedHistogram {
        let mut count = 0;
        let mut running = self.counts.iter().map(|one| {
            count += one.load(Ordering::Relaxed);
            count
        });
        let up_to = std::array::from_fn(|_| running.next().unwrap_or_default());
        // From the same reading, so that no bucket exceeds the total.
        let count = running.next().unwrap_or_default();
        ObservedHistogram { up_to, count, sum_seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_bucket_holds_what_is_no_longer_than_its_bound(millis in proptest::collection::vec(0..4_000_000_u64, 0..50)) {
            let histogram = DurationHistogram::default();
            millis.iter().for_each(|ms| histogram.observe(Duration::from_millis(*ms)));
            let observed = histogram.observed();
            for (bound, up_to) in BOUNDS.iter().zip(observed.up_to) {
                let expected = millis.iter().filter(|ms| **ms as f64 / 1e3 <= *bound).count();
                prop_assert_eq!(up_to, expected as u64);
            }
            prop_assert_eq!(observed.count, millis.len() as u64);
            prop_assert_eq!(observed.count, histogram.count());
            prop_assert!((observed.sum_seconds - millis.iter().sum::<u64>() as f64 / 1e3).abs() < 1e-6);
        }
    }
}
