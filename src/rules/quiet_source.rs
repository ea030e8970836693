//! Where to read from in a quiet source: after the newest value, once everything up to it has been read for good. Without this,
//! each poll would read again all rows of a bulk load that share the newest stamp. Pure.
//!
//! The newest value is passed when a whole poll has read the look-back before it, and every transaction still open then had begun
//! later than the look-back after that value. This must hold by the value's own time, and also by how long it has been the
//! newest, because the clock that writes the stamps need not be ours.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;

use crate::rules::cursor::stamp::{self, IsoForm, StampZone};
use crate::rules::cursor::{DAYS, NewestStamp, StampBound, StampKind, WESTMOST, ZoneMix, epoch, ranges_from, texts};
use crate::rules::settled::SettledMoment;

/// The shortest time between two stamps that are kept by the second.
const SECOND: TimeDelta = TimeDelta::seconds(1);
/// Clocks with local time go back by an hour, in times of war by two.
const PUT_BACK: TimeDelta = TimeDelta::hours(2);

/// How the settings want stamps to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampPolicy {
    /// `[source] lookback`.
    pub lookback: Duration,
    /// `[source] time_zone`.
    pub time_zone: Tz,
}

/// What a whole poll has established.
#[derive(Debug, Clone, Copy)]
pub struct QuietTime<'a> {
    /// What was committed for certain when that poll began to read.
    pub settled: &'a SettledMoment,
    /// By the source's clock, a moment at which the newest value had been seen already.
    pub unchanged_since: DateTime<Utc>,
}

/// A newest value as a clock shows it, cut to the unit that it is kept in.
struct NewestMoment {
    at: NaiveDateTime,
    unit: TimeDelta,
    clock: StampClock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StampClock {
    Utc,
    /// One local clock of an unknown zone.
    Unsaid,
    /// Local clocks of several zones.
    Any,
}

/// The bound after the newest value; `None` if rows with that value, or before it, may still come.
pub fn bound_behind(
    newest: &NewestStamp,
    policy: StampPolicy,
    quiet: &QuietTime<'_>,
    now: DateTime<Utc>,
) -> Option<StampBound> {
    let moment = NewestMoment::of(newest)?;
    if !moment.is_passed(policy, quiet, now)? {
        return None;
    }
    let next = moment.at.checked_add_signed(moment.unit)?;
    Some(match newest.kind {
        StampKind::Number => {
            let (unit, _) = epoch(newest.text.trim())?;
            StampBound::Numbers(ranges_from(unit, next.and_utc()))
        }
        StampKind::TimestampTz => StampBound::Moment(format!("{}+00", next.format("%F %T"))),
        StampKind::Timestamp => StampBound::Moment(next.format("%F %T").to_string()),
        StampKind::Date => StampBound::Moment(next.format(DAYS).to_string()),
        StampKind::Text => StampBound::Texts(texts(stamp::iso(&newest.text)?.form, next)),
    })
}

impl NewestMoment {
    fn of(newest: &NewestStamp) -> Option<Self> {
        let text = newest.text.trim();
        let (at, unit, clock) = match newest.kind {
            StampKind::Number => {
                let (unit, number) = epoch(text)?;
                (unit.at(number)?.naive_utc(), SECOND, StampClock::Utc)
            }
            StampKind::TimestampTz => (stamp::zoned(text)?, SECOND, StampClock::Utc),
            StampKind::Timestamp => (stamp::postgres(text)?, SECOND, StampClock::Unsaid),
            StampKind::Date => (stamp::postgres(text)?, TimeDelta::days(1), StampClock::Unsaid),
            StampKind::Text => {
                let iso = stamp::iso(&newest.text)?;
                let unit = match iso.form {
                    IsoForm::Day => TimeDelta::days(1),
                    IsoForm::Minutes { .. } => TimeDelta::minutes(1),
                    IsoForm::Seconds { .. } => SECOND,
                };
                let clock = match (newest.zones, iso.zone) {
                    (ZoneMix::One, StampZone::Utc) => StampClock::Utc,
                    (ZoneMix::One, StampZone::Unsaid) => StampClock::Unsaid,
                    (ZoneMix::One, StampZone::Offset(_)) | (ZoneMix::Several, _) => StampClock::Any,
                };
                (iso.at, unit, clock)
            }
        };
        Some(Self { at: at.with_nanosecond(0)?, unit, clock })
    }

    fn is_passed(&self, policy: StampPolicy, quiet: &QuietTime<'_>, now: DateTime<Utc>) -> Option<bool> {
        let before = quiet.settled.before.min(now);
        // The unit covers stamps that are cut to it, and a second covers the moment of reading.
        let margin = TimeDelta::from_std(policy.lookback).ok()?.checked_add(&self.unit)?.checked_add(&SECOND)?;
        let is_past = |clock: NaiveDateTime, margin: TimeDelta| Some(self.at.checked_add_signed(margin)? < clock);
        let has_stayed = |margin: TimeDelta| Some(quiet.unchanged_since.checked_add_signed(margin)? < before);
        let anywhere = if self.clock == StampClock::Utc { TimeDelta::zero() } else { WESTMOST };
        if is_past(before.naive_utc(), margin.checked_add(&anywhere)?)? && has_stayed(margin)? {
            return Some(true);
        }
        // On one clock of an unknown zone the stamps advance with time, except for the hour that comes twice.
        let local = before.with_timezone(&policy.time_zone).naive_local().min(before.naive_utc());
        let margin = margin.checked_add(&PUT_BACK)?;
        Some(self.clock == StampClock::Unsaid && is_past(local, margin)? && has_stayed(margin)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: StampPolicy = StampPolicy { lookback: Duration::from_secs(300), time_zone: Tz::UTC };

    fn now() -> DateTime<Utc> {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    /// The bound if the newest value was first found again `minutes` minutes ago.
    fn behind(newest: &NewestStamp, minutes: i64) -> Option<StampBound> {
        let unchanged_since = now() - TimeDelta::minutes(minutes);
        bound_behind(newest, POLICY, &QuietTime { settled: &SettledMoment::at(now()), unchanged_since }, now())
    }

    fn newest(kind: StampKind, text: &str) -> NewestStamp {
        NewestStamp::new(text.to_owned(), kind)
    }

    #[test]
    fn rows_of_the_newest_stamp_are_passed_once_they_have_been_quiet_for_the_look_back() {
        for (kind, text, least) in [
            (StampKind::TimestampTz, "2026-06-01 11:00:00.123456+00", "2026-06-01 11:00:01+00"),
            (StampKind::Number, "1780311600", "1780311601"),
            (StampKind::Number, "1780311600500", "1780311601000"),
            (StampKind::Text, "2026-06-01T11:00:00Z", "2026-06-01T11:00:01"),
            (StampKind::Text, "2026-06-01 11:00Z", "2026-06-01 11:01"),
            (StampKind::Timestamp, "2026-05-31 11:00:00", "2026-05-31 11:00:01"),
            (StampKind::Text, "2026-05-31 11:00:00", "2026-05-31 11:00:01"),
        ] {
            let newest = newest(kind, text);
            assert_eq!(behind(&newest, 60).map(|bound| bound.least()[0].clone()).as_deref(), Some(least), "{text}");
            assert_eq!(behind(&newest, 5), None, "{text}: it was found for the first time just now");
        }
    }

    #[test]
    fn what_was_open_at_the_last_whole_poll_may_still_bring_such_rows() {
        let newest = newest(StampKind::TimestampTz, "2026-06-01 11:00:00+00");
        for (open_since, passed) in [("2026-06-01T11:05:02Z", false), ("2026-06-01T11:05:03Z", true)] {
            let settled = SettledMoment { before: open_since.parse().unwrap(), ..SettledMoment::at(now()) };
            let quiet = QuietTime { settled: &settled, unchanged_since: now() - TimeDelta::hours(1) };
            assert_eq!(bound_behind(&newest, POLICY, &quiet, now()).is_some(), passed, "{open_since}");
        }
    }

    #[test]
    fn a_stamp_that_may_lie_in_the_future_on_some_clock_is_never_passed() {
        for (kind, text) in [
            (StampKind::TimestampTz, "2026-06-01 11:55:00+00"),
            (StampKind::TimestampTz, "2099-01-01 00:00:00+00"),
            (StampKind::TimestampTz, "infinity"),
            (StampKind::Number, "4070908800"),
            (StampKind::Text, "2026-06-01T12:30:00Z"),
            (StampKind::Timestamp, "2026-06-01 11:00:00"),
            (StampKind::Date, "2026-06-01"),
            (StampKind::Text, "2026-06-01"),
            (StampKind::Text, "2026-06-01 02:00:00+02"),
        ] {
            assert_eq!(behind(&newest(kind, text), 6000), None, "{text}");
        }
        let several = NewestStamp { zones: ZoneMix::Several, ..newest(StampKind::Text, "2026-06-01T02:00:00Z") };
        assert_eq!(behind(&several, 6000), None);
    }

    #[test]
    fn local_time_waits_for_the_hour_that_comes_twice() {
        let text = newest(StampKind::Text, "2026-06-01 09:00:00");
        assert_eq!(behind(&text, 120), None);
        assert!(behind(&text, 126).is_some());
    }
}
