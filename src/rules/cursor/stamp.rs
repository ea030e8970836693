//! Reads the database's own text of a stamp. Pure.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

/// A stamp that is kept as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IsoStamp {
    /// As it is written, whatever its zone; cut to the second.
    pub at: NaiveDateTime,
    pub zone: StampZone,
    pub form: IsoForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StampZone {
    Unsaid,
    Utc,
    /// East of UTC.
    Offset(TimeDelta),
}

/// The form of a text, which decides how it sorts among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsoForm {
    Day,
    Minutes { separator: char },
    Seconds { separator: char },
}

/// `YYYY-MM-DD`, optionally with a space or a `T`, `HH:MM`, seconds, their fraction, and a zone. Other forms are excluded: values
/// padded with blanks, or with hours up to twelve, do not sort like their times.
pub(crate) fn iso(text: &str) -> Option<IsoStamp> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let day = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    if rest.is_empty() {
        return Some(IsoStamp { at: day.and_time(NaiveTime::MIN), zone: StampZone::Unsaid, form: IsoForm::Day });
    }
    let separator = rest.chars().next().filter(|c| [' ', 'T'].contains(c))?;
    let (hours, rest) = digits(&rest[1..], 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (seconds, rest, form) = match rest.strip_prefix(':') {
        None => (0, rest, IsoForm::Minutes { separator }),
        Some(rest) => {
            let (seconds, rest) = digits(rest, 2)?;
            (seconds, without_fraction(rest)?, IsoForm::Seconds { separator })
        }
    };
    // A leap second counts as the second before it.
    let seconds = if seconds == 60 { 59 } else { seconds };
    Some(IsoStamp { at: day.and_hms_opt(hours, minutes, seconds)?, zone: zone(rest)?, form })
}

/// A number of exactly `count` digits, and the rest of the text.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, rest))
}

fn without_fraction(text: &str) -> Option<&str> {
    let Some(fraction) = text.strip_prefix(['.', ',']) else { return Some(text) };
    let rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < fraction.len()).then_some(rest)
}

/// Nothing, `Z`, `+02`, `+0200` or `+02:00`.
fn zone(text: &str) -> Option<StampZone> {
    if text.is_empty() {
        return Some(StampZone::Unsaid);
    }
    if ["Z", "z"].contains(&text) {
        return Some(StampZone::Utc);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = digits(text.strip_prefix(['+', '-'])?, 2)?;
    let minutes = match rest.strip_prefix(':').unwrap_or(rest) {
        "" if rest.is_empty() => 0,
        minutes => digits(minutes, 2).filter(|(_, rest)| rest.is_empty())?.0,
    };
    Some(StampZone::Offset(TimeDelta::minutes(sign * i64::from(hours * 60 + minutes))))
}

/// PostgreSQL's text of a date or a timestamp. Values after all calendars (`infinity`, the year 10000) become the last possible
/// moment; values before them (`-infinity`, BC) become `None`.
pub(crate) fn postgres(text: &str) -> Option<NaiveDateTime> {
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

/// PostgreSQL's text of a `timestamptz`, in UTC: `…+00`. After a pooler that forgets session settings it may have any other
/// offset, in times long past to the second.
pub(crate) fn zoned(text: &str) -> Option<NaiveDateTime> {
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

/// A date and time without its zone, cut to the readable part.
fn naive(text: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}
