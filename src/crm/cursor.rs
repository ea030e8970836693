//! Where reading goes on: from the newest value of `changed_at` seen so far, less the look-back. Pure.
//!
//! The cursor is the database's own text of the value. The bound made of it is inclusive, and never above the cursor, the
//! present time, or the moment before which everything was committed when the cursor was read: reading a row again costs no
//! request, missing one does. Rows whose value no bound can be compared with (NULL, another form, a time long past) are
//! seen by the next full compare.

use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The newest value seen, and what kind of value it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    pub text: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Seconds, milliseconds or microseconds since 1970.
    Number,
    /// PostgreSQL `timestamptz`, in a session set to UTC.
    TimestampTz,
    /// PostgreSQL `timestamp`.
    Timestamp,
    /// PostgreSQL `date`.
    Date,
    /// ISO 8601 text, compared as text.
    Text,
}

/// The least value of `changed_at` that is read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    Number(i64),
    Text(String),
}

/// Local times of two offsets lie at most this far apart.
const OFFSETS_APART: TimeDelta = TimeDelta::hours(26);
const SECONDS: &str = "%Y-%m-%d %H:%M:%S";
const MINUTES: &str = "%Y-%m-%d %H:%M";
const DAYS: &str = "%Y-%m-%d";
/// Later than any value that is a time at all.
const FAR: TimeDelta = TimeDelta::days(365 * 1000);

/// The bound for the next poll; `None` where the value is not a time that can be read: then everything is read.
///
/// `settled` is the moment before which everything was committed when the newest value was seen, `now` the present. A value
/// later than that (a typing mistake, a wrong clock) counts as that: it must not hide what was written since.
pub fn bound(
    newest: &Newest,
    lookback: Duration,
    zone: Tz,
    settled: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Bound> {
    let lookback = TimeDelta::from_std(lookback).ok()?;
    let settled = settled.min(now);
    // Whether a value without a zone is local or UTC is a matter of habit: the earlier reading only reads more.
    let local = lowest_local(zone, settled, now).min(settled.naive_utc());
    let text = newest.text.trim();
    match newest.kind {
        Kind::Number => number_bound(text, lookback, settled).map(Bound::Number),
        Kind::TimestampTz => {
            let at = back(zoned(text)?.min(settled.naive_utc()), lookback)?;
            Some(Bound::Text(format!("{}+00", at.format(SECONDS))))
        }
        Kind::Timestamp => {
            let at = back(postgres(text)?.min(local), lookback)?;
            Some(Bound::Text(at.format(SECONDS).to_string()))
        }
        Kind::Date => {
            let at = back(postgres(text)?.min(local), lookback)?;
            Some(Bound::Text(at.format(DAYS).to_string()))
        }
        Kind::Text => text_bound(text, lookback, local, settled).map(Bound::Text),
    }
}

/// Whether the newest value lies in the future, further than clocks and zones explain.
pub fn is_ahead(newest: &Newest, zone: Tz, now: DateTime<Utc>) -> bool {
    let slack = match newest.kind {
        Kind::Number | Kind::TimestampTz => TimeDelta::minutes(1),
        // Local, perhaps of another zone than that of the settings.
        Kind::Timestamp | Kind::Date | Kind::Text => OFFSETS_APART,
    };
    let at = |moment| bound(newest, Duration::ZERO, zone, moment, moment);
    at(now + slack) != at(now + FAR)
}

/// Whether the newest value, which says nothing of its zone, is later than now where it counts as a time of this zone: by
/// less than [`is_ahead`] wants, but further than clocks explain.
pub fn is_of_another_zone(newest: &Newest, zone: Tz, now: DateTime<Utc>) -> bool {
    let text = newest.text.trim();
    let at = match newest.kind {
        Kind::Timestamp => postgres(text),
        Kind::Text if !text.ends_with('Z') && !text.get(11..).unwrap_or_default().contains(['+', '-']) => {
            text.get(..text.len().min(19)).and_then(naive)
        }
        Kind::Number | Kind::TimestampTz | Kind::Date | Kind::Text => None,
    };
    let local = now.with_timezone(&zone).naive_local() + TimeDelta::minutes(1);
    at.is_some_and(|at| at > local) && !is_ahead(newest, zone, now)
}

/// The lowest local time that a clock shows from one moment to the other, which is not the earliest where summer time has
/// ended between the two.
fn lowest_local(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> NaiveDateTime {
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let put_back = (offset(from) - offset(to)).max(0);
    from.with_timezone(&zone).naive_local() - TimeDelta::seconds(i64::from(put_back))
}

/// Not before the year 1, which databases do not take as text.
fn back(at: NaiveDateTime, by: TimeDelta) -> Option<NaiveDateTime> {
    at.checked_sub_signed(by).filter(|at| at.year() >= 1)
}

fn number_bound(text: &str, lookback: TimeDelta, settled: DateTime<Utc>) -> Option<i64> {
    // Some write fractions, and large numbers with an exponent.
    let newest = text.parse::<i64>().ok().or_else(|| {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
        Some(number.floor() as i64)
    })?;
    let (settled, lookback) = match newest.unsigned_abs().to_string().len() {
        9 | 10 => (settled.timestamp(), lookback.num_seconds()),
        12 | 13 => (settled.timestamp_millis(), lookback.num_milliseconds()),
        15 | 16 => (settled.timestamp_micros(), lookback.num_microseconds()?),
        _ => return None,
    };
    Some(newest.min(settled) - lookback)
}

/// As text, `2026-01-02` sorts before `2026-01-02 03:04`, and that before `2026-01-02T03:04`: the bound is written in the
/// lowest form that the day's values can have.
fn text_bound(text: &str, lookback: TimeDelta, local: NaiveDateTime, settled: DateTime<Utc>) -> Option<String> {
    let form = match text.len() {
        10 => DAYS,
        16 => MINUTES,
        _ => SECONDS,
    };
    let time = text.get(11..).unwrap_or_default();
    let utc = time.ends_with('Z');
    let offset = time.contains(['+', '-']);
    let plain = text.get(..text.len().min(19))?;
    let newest = naive(plain)?;
    let settled = if utc { settled.naive_utc() } else { local };
    let mut at = back(newest.min(settled), lookback)?;
    if offset {
        at = back(at, OFFSETS_APART)?;
    }
    Some(at.format(form).to_string())
}

/// PostgreSQL's text of a date or a timestamp. What lies beyond all calendars (`infinity`, the year 10000) is the last moment
/// there is; what lies before them (`-infinity`, BC) is none.
fn postgres(text: &str) -> Option<NaiveDateTime> {
    let year = text.split('-').next().unwrap_or_default();
    let is_late = text == "infinity" || year.len() > 4 && year.bytes().all(|b| b.is_ascii_digit());
    if text.ends_with(" BC") {
        None
    } else if is_late {
        Some(NaiveDateTime::MAX)
    } else {
        naive(text)
    }
}

/// PostgreSQL's text of a `timestamptz`, in UTC: `…+00`, but behind a pooler that forgets what a session has set, any other
/// offset, in times long past to the second.
fn zoned(text: &str) -> Option<NaiveDateTime> {
    let Some((at, sign)) = text.find(':').and_then(|time| {
        let sign = text[time..].find(['+', '-'])?;
        Some((time + sign, if text.as_bytes()[time + sign] == b'-' { -1 } else { 1 }))
    }) else {
        // `infinity`; anything else has an offset.
        return postgres(text).filter(|at| *at == NaiveDateTime::MAX);
    };
    let (local, offset) = (&text[..at], &text[at + 1..]);
    if text.ends_with(" BC") {
        return None;
    }
    let mut seconds = 0;
    for (part, unit) in offset.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i64>().ok()? * unit;
    }
    match postgres(local)? {
        NaiveDateTime::MAX => Some(NaiveDateTime::MAX),
        local => local.checked_sub_signed(TimeDelta::seconds(sign * seconds)),
    }
}

/// A date and time without regard to its zone, cut to what can be read.
fn naive(text: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOOKBACK: Duration = Duration::from_secs(300);

    #[test]
    fn a_time_of_a_zone_further_east_is_later_than_now() {
        let is = |kind, text: &str, zone| {
            is_of_another_zone(&Newest { text: text.to_owned(), kind }, zone, "2026-06-01T12:00:00Z".parse().unwrap())
        };
        let (utc, tokyo) = (chrono_tz::UTC, chrono_tz::Asia::Tokyo);
        for kind in [Kind::Text, Kind::Timestamp] {
            assert!(is(kind, "2026-06-01 20:59:59", utc));
            assert!(!is(kind, "2026-06-01 20:59:59", tokyo));
            assert!(!is(kind, "2026-06-01 12:00:59", utc), "clocks explain that");
            assert!(!is(kind, "2199-01-01 00:00:00", utc), "no zone explains that");
        }
        assert!(!is(Kind::Text, "2026-06-01T20:59:59Z", utc) && !is(Kind::Text, "2026-06-01T20:59:59+09:00", utc));
        assert!(!is(Kind::Text, "soon", utc) && !is(Kind::Number, "1780318799", utc));
    }

    fn now() -> DateTime<Utc> {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn text_of(kind: Kind, text: &str) -> Option<Bound> {
        bound(&Newest { text: text.to_owned(), kind }, LOOKBACK, Tz::UTC, now(), now())
    }

    #[test]
    fn the_bound_lies_behind_the_newest_value_by_the_lookback() {
        let text = |text: &str| Some(Bound::Text(text.to_owned()));
        assert_eq!(text_of(Kind::TimestampTz, "2026-05-01 10:00:00.123456+00"), text("2026-05-01 09:55:00+00"));
        assert_eq!(text_of(Kind::Timestamp, "2026-05-01 10:00:00.5"), text("2026-05-01 09:55:00"));
        assert_eq!(text_of(Kind::Date, "2026-05-01"), text("2026-04-30"));
        assert_eq!(text_of(Kind::Text, "2026-05-01 10:00:00"), text("2026-05-01 09:55:00"));
        assert_eq!(text_of(Kind::Text, "2026-05-01"), text("2026-04-30"));
        assert_eq!(text_of(Kind::Number, "1777629600"), Some(Bound::Number(1_777_629_300)));
        assert_eq!(text_of(Kind::Number, "1777629600000"), Some(Bound::Number(1_777_629_300_000)));
    }

    #[test]
    fn a_value_in_the_future_hides_nothing() {
        assert_eq!(text_of(Kind::Text, "2099-01-01 00:00:00"), Some(Bound::Text("2026-06-01 11:55:00".to_owned())));
        assert_eq!(text_of(Kind::Number, "4070908800"), Some(Bound::Number(now().timestamp() - 300)));
    }

    #[test]
    fn what_cannot_be_read_as_a_time_has_no_bound() {
        assert_eq!(text_of(Kind::Text, "version 12"), None);
        assert_eq!(text_of(Kind::Number, "42"), None);
        assert_eq!(text_of(Kind::Text, "größer"), None);
    }

    #[test]
    fn numbers_with_fractions_exponents_and_signs_are_epochs_too() {
        assert_eq!(text_of(Kind::Number, "1777629600.75"), Some(Bound::Number(1_777_629_300)));
        assert_eq!(text_of(Kind::Number, "1.777629600123456e+15"), Some(Bound::Number(1_777_629_300_123_456)));
        assert_eq!(text_of(Kind::Number, "-177762960"), Some(Bound::Number(-177_763_260)));
        for text in ["NaN", "Infinity", "-5", "9999999999999999999", "1e30"] {
            assert_eq!(text_of(Kind::Number, text), None, "{text}");
        }
    }

    #[test]
    fn what_lies_beyond_all_calendars_counts_as_the_future_or_is_no_time() {
        let capped = |text: &str| Some(Bound::Text(text.to_owned()));
        for text in ["infinity", "10000-01-01 00:00:00+00", "294276-12-31 23:59:59.999999+00"] {
            assert_eq!(text_of(Kind::TimestampTz, text), capped("2026-06-01 11:55:00+00"), "{text}");
        }
        assert_eq!(text_of(Kind::Timestamp, "infinity"), capped("2026-06-01 11:55:00"));
        assert_eq!(text_of(Kind::Date, "infinity"), capped("2026-06-01"));
        for text in ["-infinity", "0044-03-15 12:00:00+00 BC", "0001-01-01 00:00:00+00"] {
            assert_eq!(text_of(Kind::TimestampTz, text), None, "{text}");
        }
        assert_eq!(text_of(Kind::Timestamp, "0044-03-15 12:00:00 BC"), None);
        assert_eq!(text_of(Kind::Date, "0044-03-15 BC"), None);
        assert_eq!(text_of(Kind::Timestamp, "0001-01-01 00:00:00"), None);
    }

    #[test]
    fn an_offset_is_heeded_though_the_session_was_set_to_utc() {
        for text in [
            "2026-05-01 10:00:00+00",
            "2026-05-01 12:00:00+02",
            "2026-05-01 04:30:00.5-05:30",
            "2026-05-01 10:53:28+00:53:28",
        ] {
            assert_eq!(
                text_of(Kind::TimestampTz, text),
                Some(Bound::Text("2026-05-01 09:55:00+00".to_owned())),
                "{text}"
            );
        }
        assert_eq!(text_of(Kind::TimestampTz, "2026-05-01 10:00:00"), None);
    }

    #[test]
    fn times_that_are_cut_to_the_minute_are_compared_as_such() {
        assert_eq!(text_of(Kind::Text, "2026-05-01 10:00"), Some(Bound::Text("2026-05-01 09:55".to_owned())));
    }

    #[test]
    fn what_was_still_open_is_read_again() {
        let newest = Newest { text: "2026-06-01 11:59:00+00".to_owned(), kind: Kind::TimestampTz };
        let settled = now() - TimeDelta::hours(3);
        let bound = bound(&newest, LOOKBACK, Tz::UTC, settled, now());
        assert_eq!(bound, Some(Bound::Text("2026-06-01 08:55:00+00".to_owned())));
    }

    #[test]
    fn the_hour_that_comes_twice_is_read_twice() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let newest = Newest { text: "2026-10-25 02:55:00".to_owned(), kind: Kind::Timestamp };
        let utc = |time: &str| format!("2026-10-25T{time}Z").parse::<DateTime<Utc>>().unwrap();
        // Seen at 02:56 summer time; the clock was put back at 03:00, and it is 02:10 or 04:00 now.
        for now in ["01:10:00", "03:00:00"] {
            let bound = bound(&newest, LOOKBACK, berlin, utc("00:56:00"), utc(now)).unwrap();
            let Bound::Text(bound) = bound else { panic!("a text") };
            assert!(bound.as_str() <= "2026-10-25 02:00:00", "{now}: {bound}");
        }
    }

    #[test]
    fn only_what_no_clock_explains_is_ahead() {
        let ahead = |kind, text: &str| is_ahead(&Newest { text: text.to_owned(), kind }, Tz::UTC, now());
        assert!(ahead(Kind::TimestampTz, "2026-06-01 12:30:00+00") && ahead(Kind::TimestampTz, "infinity"));
        assert!(
            ahead(Kind::Text, "2026-07-01") && ahead(Kind::Number, "4070908800") && ahead(Kind::Date, "2099-01-01")
        );
        assert!(!ahead(Kind::TimestampTz, "2026-06-01 11:59:00+00") && !ahead(Kind::Timestamp, "2026-06-01 22:00:00"));
        assert!(!ahead(Kind::Text, "version 12") && !ahead(Kind::Number, "42"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_cursor_panic(text in "\\PC{0,30}|-?[0-9:.+ e-]{0,30}", kind in 0usize..5) {
            let kind = [Kind::Number, Kind::TimestampTz, Kind::Timestamp, Kind::Date, Kind::Text][kind];
            let newest = Newest { text, kind };
            let _ = bound(&newest, Duration::from_secs(86_400 * 365), Tz::UTC, now(), now());
            let _ = is_ahead(&newest, Tz::UTC, now());
        }

        #[test]
        fn in_every_form_of_text_the_bound_sorts_below_what_is_written_later(before in 0i64..10_000_000, later in 0i64..1_000_000, mine in 0usize..4, theirs in 0usize..4) {
            let forms = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S%.6f"];
            let newest = now() - TimeDelta::seconds(before + 1_000_000);
            let Some(Bound::Text(bound)) = text_of(Kind::Text, &newest.format(forms[mine]).to_string()) else { panic!("a time") };
            let row = (newest + TimeDelta::seconds(later)).format(forms[theirs]).to_string();
            prop_assert!(bound <= row, "{bound} {row}");
        }
    }
}
