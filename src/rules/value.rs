//! Reads the values of CRMs: booleans and datetimes in the forms of ordinary databases. Pure.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// `true`/`false` in the spellings of SQL, of spreadsheets and of old CRMs; `None` for anything else.
pub fn boolean(text: &str) -> Option<bool> {
    const TRUE: &[&str] = &["1", "t", "true", "y", "yes", "on", "1.0"];
    const FALSE: &[&str] = &["0", "f", "false", "n", "no", "off", "0.0"];
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(TRUE) {
        Some(true)
    } else if is(FALSE) {
        Some(false)
    } else {
        None
    }
}

/// A moment in ISO 8601 with its usual variations (space or `T`; with or without fraction, seconds and zone), a bare date
/// (midnight), or an epoch number in seconds, milliseconds or microseconds. Not `05/06/2019`, because its month is ambiguous.
/// Without its own zone it is read in `zone`: the earlier of two at the end of summer time, one hour later inside the gap at its
/// beginning.
pub fn datetime(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    if let Some(at) = epoch(text) {
        return sane(at);
    }
    let (text, offset_minutes) = split_zone(text);
    let naive = naive(text)?;
    let at = match offset_minutes {
        Some(minutes) => naive.and_utc().checked_sub_signed(TimeDelta::minutes(minutes))?,
        None => in_zone(naive, zone)?,
    };
    sane(at)
}

/// As Conversica writes it: `2019-05-10T05:57:44+00:00`.
pub fn format_datetime(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// The unit of a number that is a moment. A number that would be before 1990 as milliseconds means seconds in the far future,
/// such as the sentinel 253402300799 (the end of the year 9999); likewise with microseconds. So each number has one unit, and
/// larger units have larger numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl EpochUnit {
    pub const ALL: [EpochUnit; 3] = [Self::Seconds, Self::Milliseconds, Self::Microseconds];

    pub fn of(number: i64) -> Self {
        let counts = |unit: &EpochUnit| number >= unit.least();
        Self::ALL.into_iter().rev().find(counts).unwrap_or(Self::Seconds)
    }

    /// The least number of this unit.
    pub const fn least(self) -> i64 {
        match self {
            Self::Seconds => i64::MIN,
            // 1990-01-01.
            Self::Milliseconds => 631_152_000_000,
            Self::Microseconds => 631_152_000_000_000,
        }
    }

    /// The next larger unit.
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Seconds => Some(Self::Milliseconds),
            Self::Milliseconds => Some(Self::Microseconds),
            Self::Microseconds => None,
        }
    }

    pub fn at(self, number: i64) -> Option<DateTime<Utc>> {
        match self {
            Self::Seconds => DateTime::from_timestamp(number, 0),
            Self::Milliseconds => DateTime::from_timestamp_millis(number),
            Self::Microseconds => DateTime::from_timestamp_micros(number),
        }
    }

    /// The number of that moment, cut to a whole one.
    pub fn count(self, at: DateTime<Utc>) -> i64 {
        match self {
            Self::Seconds => at.timestamp(),
            Self::Milliseconds => at.timestamp_millis(),
            Self::Microseconds => at.timestamp_micros(),
        }
    }
}

/// Seconds have 9 or 10 digits between 1973 and 2286, milliseconds 12 or 13, microseconds 15 or 16. A shorter number is more
/// likely a year or a code.
fn epoch(text: &str) -> Option<DateTime<Utc>> {
    let whole = text.split('.').next().unwrap_or(text);
    if !whole.bytes().all(|b| b.is_ascii_digit()) || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let number: i64 = whole.parse().ok()?;
    [9, 10, 12, 13, 15, 16].contains(&whole.len()).then(|| EpochUnit::of(number).at(number))?
}

/// Cuts `Z`, `UTC`, `+02`, `+0200`, `+02:00`, `-03:30` off the end. Returns the offset in minutes east of UTC.
fn split_zone(text: &str) -> (&str, Option<i64>) {
    for suffix in ["Z", "z", " UTC", "UTC"] {
        if let Some(rest) = text.strip_suffix(suffix) {
            return (rest.trim_end(), Some(0));
        }
    }
    // A sign before the time of day belongs to the date (2026-01-02), so only a sign after a ':' can begin an offset.
    let Some(time_at) = text.find(':') else { return (text, None) };
    let Some(sign_at) = text[time_at..].rfind(['+', '-']).map(|i| i + time_at) else { return (text, None) };
    let digits: String = text[sign_at + 1..].chars().filter(|c| *c != ':').collect();
    let minutes = match (digits.len(), digits.parse::<i64>()) {
        (2, Ok(hours)) => hours * 60,
        (4, Ok(both)) => both / 100 * 60 + both % 100,
        _ => return (text, None),
    };
    let sign = if text.as_bytes()[sign_at] == b'-' { -1 } else { 1 };
    (text[..sign_at].trim_end(), Some(sign * minutes))
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    const FORMS: &[&str] = &["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    FORMS
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.and_time(NaiveTime::MIN)))
}

fn in_zone(naive: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&naive) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
        LocalResult::None => {
            let before = zone.from_local_datetime(&(naive - TimeDelta::hours(1))).earliest()?;
            Some(before.to_utc() + TimeDelta::hours(1))
        }
    }
}

/// Years outside 1900 to 2199 are typing mistakes or sentinels such as 0001-01-01 and 9999-12-31.
fn sane(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    use chrono::Datelike;
    (1900..2200).contains(&at.year()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, zone: Tz) -> Option<String> {
        datetime(text, zone).map(format_datetime)
    }

    #[test]
    fn booleans_are_read_in_every_common_spelling() {
        for word in ["1", "t", "TRUE", "Y", "yes", "On"] {
            assert_eq!(boolean(word), Some(true), "{word}");
        }
        for word in ["0", "f", "False", "n", "NO", "off"] {
            assert_eq!(boolean(word), Some(false), "{word}");
        }
        assert_eq!(boolean("maybe"), None);
        assert_eq!(boolean("2"), None);
    }

    #[test]
    fn datetimes_are_read_in_every_common_form() {
        let expected = Some("2019-05-10T05:57:44+00:00".to_owned());
        for text in [
            "2019-05-10T05:57:44+00:00",
            "2019-05-10T05:57:44Z",
            "2019-05-10 05:57:44",
            "2019-05-10 05:57:44.123456+00",
            "2019-05-10 07:57:44+02",
            "2019-05-10 02:27:44-0330",
            "2019-05-10 05:57:44 UTC",
            "1557467864",
            "1557467864.5",
            "1557467864000",
            "1557467864000000",
        ] {
            assert_eq!(read(text, Tz::UTC), expected, "{text}");
        }
        assert_eq!(read("2019-05-10", Tz::UTC), Some("2019-05-10T00:00:00+00:00".to_owned()));
        assert_eq!(read("2019-05-10 05:57", Tz::UTC), Some("2019-05-10T05:57:00+00:00".to_owned()));
    }

    #[test]
    fn what_is_not_a_datetime_is_not_guessed_at() {
        for text in
            ["", "soon", "2019-13-45", "05/06/2019", "2019", "0001-01-01", "9999-12-31", "2019-05-10 25:00:00", "-5"]
        {
            assert_eq!(read(text, Tz::UTC), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_no_moment_of_another_unit_than_its_own() {
        // The end of the year 9999, in seconds and in milliseconds; a date and a time in figures; the year 2200.
        for text in ["253402300799", "253402300799999", "202606011200", "7258118400"] {
            assert_eq!(read(text, Tz::UTC), None, "{text}");
        }
        assert_eq!(read("631152000000", Tz::UTC), Some("1990-01-01T00:00:00+00:00".to_owned()));
        assert_eq!(read("7258118399", Tz::UTC), Some("2199-12-31T23:59:59+00:00".to_owned()));
    }

    #[test]
    fn every_number_has_one_unit() {
        for unit in EpochUnit::ALL {
            assert_eq!(EpochUnit::of(unit.least()), unit);
            let now = unit.count("2026-06-01T12:00:00Z".parse().unwrap());
            assert_eq!((EpochUnit::of(now), unit.at(now)), (unit, Some("2026-06-01T12:00:00Z".parse().unwrap())));
        }
    }

    #[test]
    fn a_time_without_a_zone_is_local_even_where_summer_time_changes() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        assert_eq!(read("2026-07-01 12:00:00", berlin).unwrap(), "2026-07-01T10:00:00+00:00");
        assert_eq!(read("2026-01-01 12:00:00", berlin).unwrap(), "2026-01-01T11:00:00+00:00");
        // 02:30 happens twice on 2026-10-25 and never on 2026-03-29.
        assert_eq!(read("2026-10-25 02:30:00", berlin).unwrap(), "2026-10-25T00:30:00+00:00");
        assert_eq!(read("2026-03-29 02:30:00", berlin).unwrap(), "2026-03-29T01:30:00+00:00");
    }

    proptest! {
        #[test]
        fn what_we_write_we_read_back(seconds in -2_000_000_000i64..7_000_000_000) {
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            prop_assert_eq!(datetime(&format_datetime(at), Tz::UTC), Some(at));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = datetime(&text, Tz::UTC);
            let _ = boolean(&text);
        }
    }
}
