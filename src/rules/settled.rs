//! The moment up to which every transaction of the source is committed, as stored in the cursor.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A transaction that stays open for longer is reported: until it ends, every poll reads again all rows that have changed since.
const LONG: TimeDelta = TimeDelta::hours(1);

/// What was known just before a snapshot was taken. Stored with the cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledMoment {
    /// The source's clock.
    pub at: DateTime<Utc>,
    /// The start of the oldest transaction that a session had open; `at` if there was none.
    pub open_since: DateTime<Utc>,
    /// Every transaction still to be committed had begun at this moment or later, prepared transactions included.
    pub before: DateTime<Utc>,
    /// How long the oldest transaction may have been open, by the source's clock alone.
    #[serde(default)]
    pub open_seconds: i64,
}

impl SettledMoment {
    /// Nothing is open.
    pub const fn at(at: DateTime<Utc>) -> Self {
        Self { at, open_since: at, before: at, open_seconds: 0 }
    }

    /// The start of a transaction that has been open for remarkably long.
    pub fn long_open(&self) -> Option<DateTime<Utc>> {
        let oldest = self.open_since.min(self.before);
        (self.at - oldest > LONG && !self.is_of_unknown_age()).then_some(oldest)
    }

    /// A transaction was prepared before the first poll, and still is: nothing is settled.
    pub fn is_of_unknown_age(&self) -> bool {
        self.before == DateTime::UNIX_EPOCH
    }
}
