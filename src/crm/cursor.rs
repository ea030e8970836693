//! Where reading goes on: from the newest value of `changed_at` seen so far, less the look-back. Pure.
//!
//! The cursor is the database's own text of the value. The bound made of it is never above the cursor nor above the
//! present time, and inclusive: reading a row again costs no request, missing one does. Rows whose value no bound can be
//! compared with (NULL, another form, a time long past) are seen by the next full compare.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
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

/// The bound for the next poll; `None` where the value is not a time that can be read: then everything is read.
///
/// A value in the future (a typing mistake, a wrong clock) counts as now: it must not hide what changes until then.
pub fn bound(newest: &Newest, lookback: Duration, zone: Tz, now: DateTime<Utc>) -> Option<Bound> {
    let lookback = TimeDelta::from_std(lookback).ok()?;
    // Whether a value without a zone is local or UTC is a matter of habit: the earlier reading only reads more.
    let local_now = now.with_timezone(&zone).naive_local().min(now.naive_utc());
    let text = newest.text.trim();
    match newest.kind {
        Kind::Number => number_bound(text, lookback, now).map(Bound::Number),
        Kind::TimestampTz => {
            let at = naive(text.split('+').next()?)?.min(now.naive_utc()) - lookback;
            Some(Bound::Text(format!("{}+00", at.format(SECONDS))))
        }
        Kind::Timestamp => {
            let at = naive(text)?.min(local_now) - lookback;
            Some(Bound::Text(at.format(SECONDS).to_string()))
        }
        Kind::Date => {
            let at = naive(text)?.min(local_now) - lookback;
            Some(Bound::Text(at.format("%Y-%m-%d").to_string()))
        }
        Kind::Text => text_bound(text, lookback, local_now, now).map(Bound::Text),
    }
}

fn number_bound(text: &str, lookback: TimeDelta, now: DateTime<Utc>) -> Option<i64> {
    let newest: i64 = text.split('.').next()?.parse().ok()?;
    let (now, lookback) = match newest.to_string().len() {
        9 | 10 => (now.timestamp(), lookback.num_seconds()),
        12 | 13 => (now.timestamp_millis(), lookback.num_milliseconds()),
        15 | 16 => (now.timestamp_micros(), lookback.num_microseconds()?),
        _ => return None,
    };
    Some(newest.min(now) - lookback)
}

/// As text, `2026-01-02` sorts before `2026-01-02 03:04`, and that before `2026-01-02T03:04`: the bound is written in the
/// lowest form that the day's values can have.
fn text_bound(text: &str, lookback: TimeDelta, local_now: NaiveDateTime, now: DateTime<Utc>) -> Option<String> {
    let date_only = text.len() == 10;
    let time = text.get(11..).unwrap_or_default();
    let utc = time.ends_with('Z');
    let offset = time.contains(['+', '-']);
    let plain = text.get(..text.len().min(19))?;
    let newest = naive(plain)?;
    let now = if utc { now.naive_utc() } else { local_now };
    let mut at = newest.min(now) - lookback;
    if offset {
        at -= OFFSETS_APART;
    }
    Some(at.format(if date_only { "%Y-%m-%d" } else { SECONDS }).to_string())
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

    fn now() -> DateTime<Utc> {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn text_of(kind: Kind, text: &str) -> Option<Bound> {
        bound(&Newest { text: text.to_owned(), kind }, LOOKBACK, Tz::UTC, now())
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

    proptest! {
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
