//! Where the next poll begins to read, and what a poll stores for that. Pure.
//!
//! While the source is busy, polls read the look-back before the newest value again. Once it has been quiet for long enough,
//! polls read newer rows only. The first change after that makes a poll read the look-back of the earlier newest value once more.
//! It finds rows that came later than any look-back allows for (from a replica that had fallen behind).

use chrono::{DateTime, Utc};

use crate::horizon;
use crate::rules::cursor::{self, NewestStamp, PollCursor, ReadWindow};
use crate::rules::quiet_source::{QuietTime, StampPolicy, bound_behind};
use crate::rules::settled::SettledMoment;

/// What a whole poll has seen.
#[derive(Debug, Clone)]
pub(crate) struct PollSight {
    /// The newest value; `None` if it was not found, or not searched for.
    pub newest: Option<NewestStamp>,
    /// What was committed for certain before it read.
    pub settled: SettledMoment,
    /// When it began, if it has compared every row.
    pub full_at: Option<DateTime<Utc>>,
    /// As in [`PollCursor`].
    pub source: String,
}

/// The rows to read; `None` if nothing limits them, so that all are read.
pub(crate) fn read_window(cursor: &PollCursor, policy: StampPolicy, now: DateTime<Utc>) -> Option<ReadWindow> {
    let (newest, settled) = (cursor.newest.as_ref()?, cursor.settled.as_ref()?);
    let since = |newest: &NewestStamp| cursor::bound(newest, policy.lookback, policy.time_zone, settled, now);
    let whole = since(newest)?;
    let rows = match &cursor.passed {
        Some(passed) => since(passed)?,
        None => {
            let quiet = cursor.unchanged_since.map(|unchanged_since| QuietTime { settled, unchanged_since });
            let behind = quiet.and_then(|quiet| bound_behind(newest, policy, &quiet, now));
            behind.unwrap_or_else(|| whole.clone())
        }
    };
    Some(ReadWindow { rows, newest: whole })
}

/// The cursor after a completed poll.
pub(crate) fn renew_cursor(
    before: Option<&PollCursor>,
    seen: PollSight,
    policy: StampPolicy,
    now: DateTime<Utc>,
) -> PollCursor {
    let earlier = before.and_then(|cursor| cursor.newest.as_ref());
    let is_same =
        |newest: &NewestStamp, earlier: &NewestStamp| (&newest.text, newest.kind) == (&earlier.text, earlier.kind);
    let is_found_again = seen.newest.as_ref().zip(earlier).is_some_and(|(newest, earlier)| is_same(newest, earlier));
    let is_newer = seen.newest.is_some() && !is_found_again;
    let was_passed =
        |cursor: &PollCursor| read_window(cursor, policy, now).is_some_and(|window| window.rows != window.newest);
    let passed = before
        .filter(|cursor| is_newer && seen.full_at.is_none() && cursor.passed.is_none() && was_passed(cursor))
        .and_then(|cursor| cursor.newest.clone());
    let unchanged_since = before.and_then(|cursor| cursor.unchanged_since).unwrap_or(seen.settled.at);
    // A later moment was written by a clock that ran ahead. Polls would read the look-back again until that moment.
    let unchanged_since = horizon::as_of_now(unchanged_since, seen.settled.at);
    let newest = match (seen.newest, earlier) {
        (Some(newest), Some(earlier)) if seen.full_at.is_none() => Some(newest.after(earlier)),
        // There is nothing newer than the bound: the newest row was deleted, and the cursor stays unchanged.
        (newest, earlier) => newest.or(earlier.cloned()),
    };
    PollCursor {
        full_at: seen.full_at.or(before.map(|cursor| cursor.full_at)).unwrap_or(now),
        newest,
        source: seen.source,
        unchanged_since: is_found_again.then_some(unchanged_since),
        settled: Some(seen.settled),
        passed,
    }
}

/// Whether the earlier cursor leads to the same rows, so that the new one is not worth a write.
pub(crate) fn is_as_good(before: &PollCursor, cursor: &PollCursor, policy: StampPolicy, now: DateTime<Utc>) -> bool {
    let kind = |cursor: &PollCursor| cursor.newest.as_ref().map(|newest| newest.kind);
    before.full_at == cursor.full_at
        && before.settled.is_some()
        && kind(before) == kind(cursor)
        && before.unchanged_since == cursor.unchanged_since
        && read_window(before, policy, now) == read_window(cursor, policy, now)
}

#[cfg(test)]
mod tests;
