//! Whether the end of a poll is worth writing down: a source that is quiet for days must not cost a write every few seconds.
//! Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::horizon;

/// While polls find nothing, `status` is at most this old.
const FRESH: Duration = Duration::from_secs(60);
/// With short intervals it is fresher: one poll in this many is stored.
const POLLS: u32 = 10;

/// Whether this poll differs from the stored one, or the stored one has grown old.
pub(crate) fn is_news(before: Option<&LastPoll>, last: &LastPoll, poll_interval: Duration) -> bool {
    let Some(before) = before else { return true };
    let says_the_same = last.error.is_none()
        && before.error.is_none()
        && last.changed == 0
        && before.changed == 0
        && (last.rows, last.unnamed, &last.kind) == (before.rows, before.unnamed, &before.kind);
    let fresh = FRESH.min(poll_interval.saturating_mul(POLLS));
    // A moment in the future comes from a wrong clock.
    let age = (last.at - before.at).to_std();
    !says_the_same || age.is_ok_and(|age| age >= fresh) || age.is_err()
}

/// How the newest poll ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPoll {
    pub at: DateTime<Utc>,
    pub kind: String,
    /// Rows read.
    pub rows: u64,
    /// Leads whose content differed from the state.
    pub changed: u64,
    pub duration_ms: u64,
    /// The error, with its cure in brackets if it is known.
    pub error: Option<String>,
    /// What the operator can do about the error.
    #[serde(default)]
    pub cure: Option<String>,
    /// Rows whose key names no lead: none at all, not valid UTF-8, too long. The number is that of the last full compare, or more
    /// if a later poll has met more.
    #[serde(default)]
    pub unnamed: u64,
    /// Since when every poll has failed; `None` while polls succeed.
    #[serde(default)]
    pub failing_since: Option<DateTime<Utc>>,
    /// When a poll last succeeded, by kind: `incremental`, `full`, `drain` (of the change log).
    #[serde(default)]
    pub succeeded_at: BTreeMap<String, DateTime<Utc>>,
    /// How many instances shared the state; `None` if the polling process had not counted them yet.
    #[serde(default)]
    pub instances: Option<u32>,
}

impl LastPoll {
    /// Whether several instances shared the state at this poll, and it began at most `within` ago.
    pub fn was_shared(&self, within: Duration, now: DateTime<Utc>) -> bool {
        let age = (now - self.at).to_std().unwrap_or_default();
        self.instances.is_some_and(|instances| instances > 1) && age <= within
    }

    /// The error without its cure, for callers that show the cure apart.
    pub fn plain_error(&self) -> Option<&str> {
        let error = self.error.as_deref()?;
        let cure = self.cure.as_ref().map(|cure| format!(" (cure: {cure})"));
        Some(cure.and_then(|cure| error.strip_suffix(cure.as_str())).unwrap_or(error))
    }
}

impl LastPoll {
    /// The same with moments in the future replaced by now.
    pub fn limit_to_now(mut self, now: DateTime<Utc>) -> Self {
        self.at = horizon::as_of_now(self.at, now);
        self.failing_since = self.failing_since.map(|since| horizon::as_of_now(since, now));
        for at in self.succeeded_at.values_mut() {
            *at = horizon::as_of_now(*at, now);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn polled(second: i64) -> LastPoll {
        LastPoll {
            at: DateTime::from_timestamp(1_780_000_000 + second, 0).expect("a moment"),
            kind: "incremental".to_owned(),
            rows: 3,
            changed: 0,
            duration_ms: 5,
            error: None,
            cure: None,
            unnamed: 0,
            failing_since: None,
            succeeded_at: Default::default(),
            instances: None,
        }
    }

    #[test]
    fn a_poll_in_company_is_known_as_such_for_a_while() {
        let shared = |instances, within, second| {
            let poll = LastPoll { instances, ..polled(0) };
            poll.was_shared(Duration::from_secs(within), polled(second).at)
        };
        assert!(shared(Some(2), 60, 60) && shared(Some(2), 60, -5));
        assert!(!shared(Some(2), 60, 61) && !shared(Some(1), 60, 0) && !shared(None, 60, 0));
    }

    #[test]
    fn a_quiet_poll_is_written_down_once_a_minute() {
        let is_news = |last: LastPoll, seconds| super::is_news(Some(&polled(0)), &last, Duration::from_secs(seconds));
        assert!(super::is_news(None, &polled(0), Duration::from_secs(15)));
        assert!(!is_news(polled(15), 15) && !is_news(polled(59), 15) && is_news(polled(60), 15));
        assert!(!is_news(polled(9), 1) && is_news(polled(10), 1), "fresher where polls are frequent");
        assert!(is_news(polled(300), 300), "every one of those that are rare");
        assert!(is_news(polled(-1), 15), "after a clock that was ahead");
    }

    #[test]
    fn whatever_a_poll_finds_is_written_down_at_once() {
        let is_news = |last: &LastPoll| super::is_news(Some(&polled(0)), last, Duration::from_secs(15));
        assert!(is_news(&LastPoll { changed: 1, ..polled(15) }));
        assert!(is_news(&LastPoll { rows: 4, ..polled(15) }));
        assert!(is_news(&LastPoll { unnamed: 1, ..polled(15) }));
        assert!(is_news(&LastPoll { kind: "full".to_owned(), ..polled(15) }));
        let failed = LastPoll { error: Some("away".to_owned()), ..polled(0) };
        assert!(is_news(&LastPoll { at: polled(15).at, ..failed.clone() }));
        assert!(super::is_news(Some(&failed), &polled(15), Duration::from_secs(15)), "and that it works again");
        let found = LastPoll { changed: 2, ..polled(0) };
        assert!(super::is_news(Some(&found), &polled(15), Duration::from_secs(15)), "and that there is no more");
    }
}
