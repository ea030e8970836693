//! Where the next poll begins to read: at the newest `changed_at` seen so far, less the look-back. Pure.
//!
//! The cursor is the database's own text of that value. The lower bound made from it is inclusive. It is never above the cursor,
//! the present time, or the moment up to which everything was committed when the cursor was read: reading a row again costs no
//! request, missing one does. Rows whose value cannot be compared with the bound (NULL, another form, a time long past) are found
//! by the next full compare.

pub(crate) mod stamp;

#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::rules::settled::SettledMoment;
use crate::rules::value::EpochUnit;
/// The stored position of polling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollCursor {
    /// The newest `changed_at` seen; `None` if there was none, so that the next poll reads everything.
    pub newest: Option<NewestStamp>,
    /// Fingerprint of the source settings. The cursor is invalid for another source.
    pub source: String,
    /// When everything was last read.
    pub full_at: DateTime<Utc>,
    /// What was committed for certain at that reading. `None` in a cursor of an older version: then everything is read.
    #[serde(default)]
    pub settled: Option<SettledMoment>,
    /// The source's clock when the newest value was first found again; `None` until then.
    #[serde(default)]
    pub unchanged_since: Option<DateTime<Utc>>,
    /// The previous newest value, if polls no longer read its look-back when the present one appeared: that look-back is read
    /// once more.
    #[serde(default)]
    pub passed: Option<NewestStamp>,
}

use self::stamp::{IsoForm, StampZone};

/// The newest value seen, and its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestStamp {
    pub text: String,
    pub kind: StampKind,
    #[serde(default)]
    pub zones: ZoneMix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampKind {
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

/// Whether some texts state a zone and others do not. As texts, such values do not sort like their times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneMix {
    One,
    /// Also in a cursor of an older version, which did not check.
    #[default]
    Several,
}

/// The values of `changed_at` that are read again. The ranges do not overlap. The first one contains the newest value, or would
/// if that were not in the future.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StampBound {
    Numbers(Vec<NumberRange<i64>>),
    /// PostgreSQL's text of a date or a timestamp; every later value is included.
    Moment(String),
    Texts(Vec<NumberRange<String>>),
}

/// The values that an incremental poll reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadWindow {
    /// The rows.
    pub rows: StampBound,
    /// The range in which the newest value is searched. It may begin earlier, because the newest value must still be in it.
    pub newest: StampBound,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberRange<T> {
    pub from: T,
    /// `None`: without an end.
    pub below: Option<T>,
}

/// Local times of two offsets differ at most by this.
const OFFSETS_APART: TimeDelta = TimeDelta::hours(26);
/// No clock on earth shows a local time that is further behind UTC.
pub(crate) const WESTMOST: TimeDelta = TimeDelta::hours(12);
/// The difference that clocks explain.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(1);
/// A smaller number is a version or a code.
pub const LEAST_EPOCH: i64 = 100_000_000;
const SECONDS: &str = "%H:%M:%S";
const MINUTES: &str = "%H:%M";
pub(crate) const DAYS: &str = "%Y-%m-%d";

impl NewestStamp {
    pub fn new(text: String, kind: StampKind) -> Self {
        Self { text, kind, zones: ZoneMix::One }
    }

    /// The newest value after a poll that read some rows only: what is known about the other rows stays true.
    pub fn after(self, earlier: &NewestStamp) -> Self {
        let zone = |newest: &NewestStamp| stamp::iso(&newest.text).map(|iso| iso.zone);
        let is_of_another =
            self.kind == StampKind::Text && earlier.kind == StampKind::Text && zone(&self) != zone(earlier);
        let zones = if is_of_another { ZoneMix::Several } else { earlier.zones };
        Self { zones, ..self }
    }

    /// How a row's text shows that its zone differs; `None` if that cannot be seen, or makes no difference.
    pub fn tell_tale(&self) -> Option<TellTale> {
        if self.kind != StampKind::Text {
            return None;
        }
        match stamp::iso(&self.text)?.zone {
            StampZone::Unsaid => Some(TellTale::SaysAZone),
            StampZone::Utc => Some(TellTale::SaysNoUtc),
            // A single place has two offsets in a year, and the bound always allows for that.
            StampZone::Offset(_) => None,
        }
    }
}

/// See [`NewestStamp::tell_tale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TellTale {
    /// A `Z` or a sign follows the minutes.
    SaysAZone,
    /// It does not end with a `Z`.
    SaysNoUtc,
}

impl StampBound {
    /// The least value of each range, as the database writes it.
    pub fn least(&self) -> Vec<String> {
        match self {
            StampBound::Numbers(ranges) => ranges.iter().map(|range| range.from.to_string()).collect(),
            StampBound::Moment(text) => vec![text.clone()],
            StampBound::Texts(ranges) => ranges.iter().map(|range| range.from.clone()).collect(),
        }
    }
}

/// The bound for the next poll; `None` if the value is not a readable time: then everything is read.
///
/// `settled` is what was known when the newest value was seen, `now` the present. A value later than that (a typing mistake, a
/// wrong clock) is limited to it, because it must not hide later changes.
pub fn bound(
    newest: &NewestStamp,
    lookback: Duration,
    zone: Tz,
    settled: &SettledMoment,
    now: DateTime<Utc>,
) -> Option<StampBound> {
    let lookback = TimeDelta::from_std(lookback).ok()?;
    let before = settled.before.min(now);
    let text = newest.text.trim();
    match newest.kind {
        StampKind::Number => numbers(text, lookback, before).map(StampBound::Numbers),
        StampKind::TimestampTz => {
            let at = back(stamp::zoned(text)?.min(before.naive_utc()), lookback)?;
            Some(StampBound::Moment(format!("{}+00", at.format("%F %T"))))
        }
        StampKind::Timestamp => {
            let at = back(zoneless(stamp::postgres(text)?, zone, settled, now)?, lookback)?;
            Some(StampBound::Moment(at.format("%F %T").to_string()))
        }
        StampKind::Date => {
            let at = back(zoneless(stamp::postgres(text)?, zone, settled, now)?, lookback)?;
            Some(StampBound::Moment(at.format(DAYS).to_string()))
        }
        StampKind::Text => {
            let iso = stamp::iso(&newest.text)?;
            let at = match (newest.zones, iso.zone) {
                (ZoneMix::One, StampZone::Utc) => iso.at.min(before.naive_utc()),
                (ZoneMix::One, StampZone::Unsaid) => zoneless(iso.at, zone, settled, now)?,
                (ZoneMix::One, StampZone::Offset(_)) | (ZoneMix::Several, _) => {
                    back(iso.at.min(before.naive_utc()), OFFSETS_APART)?
                }
            };
            Some(StampBound::Texts(texts(iso.form, back(at, lookback)?)))
        }
    }
}

/// For a newest value in the future: the range of future values. If the start of open transactions is unknown, as on SQLite, the
/// newest value below this range shows up to when everything was committed.
pub fn ahead(newest: &NewestStamp, zone: Tz, now: DateTime<Utc>) -> Option<StampBound> {
    is_ahead(newest, zone, now).then(|| bound(newest, Duration::ZERO, zone, &SettledMoment::at(now), now))?
}

/// Whether the newest value is in the future, further than clocks and zones explain.
pub fn is_ahead(newest: &NewestStamp, zone: Tz, now: DateTime<Utc>) -> bool {
    let text = newest.text.trim();
    let utc = (now + CLOCKS_APART).naive_utc();
    // Local time, perhaps of another zone than the configured one.
    let zoneless = now + OFFSETS_APART;
    let zoneless = lowest_local(zone, zoneless, zoneless).min(zoneless.naive_utc());
    let is_later = |at: Option<NaiveDateTime>, limit| at.is_some_and(|at| at > limit);
    match newest.kind {
        StampKind::Number => {
            is_later(epoch(text).and_then(|(_, number)| Some(EpochUnit::of(number).at(number)?.naive_utc())), utc)
        }
        StampKind::TimestampTz => is_later(stamp::zoned(text), utc),
        StampKind::Timestamp | StampKind::Date => is_later(stamp::postgres(text), zoneless),
        StampKind::Text => match stamp::iso(&newest.text) {
            None => false,
            Some(iso) => match iso.zone {
                StampZone::Unsaid => iso.at > zoneless,
                StampZone::Utc => iso.at > utc,
                StampZone::Offset(east) => is_later(iso.at.checked_sub_signed(east), utc),
            },
        },
    }
}

/// Whether the newest value has no zone and is later than now in the configured zone: by less than [`is_ahead`] requires, but
/// further than clocks explain.
pub fn is_of_another_zone(newest: &NewestStamp, zone: Tz, now: DateTime<Utc>) -> bool {
    let at = match newest.kind {
        StampKind::Timestamp => stamp::postgres(newest.text.trim()),
        StampKind::Text => stamp::iso(&newest.text).filter(|iso| iso.zone == StampZone::Unsaid).map(|iso| iso.at),
        StampKind::Number | StampKind::TimestampTz | StampKind::Date => None,
    };
    let local = now.with_timezone(&zone).naive_local() + CLOCKS_APART;
    at.is_some_and(|at| at > local) && !is_ahead(newest, zone, now)
}

/// The lower bound for a newest value without a zone. It is unknown which clock wrote it: usually that of the configured zone or
/// UTC, but without a setting it may be any.
fn zoneless(newest: NaiveDateTime, zone: Tz, settled: &SettledMoment, now: DateTime<Utc>) -> Option<NaiveDateTime> {
    let before = settled.before.min(now);
    let local = settled.at.with_timezone(&zone).naive_local();
    if newest > local.max(settled.at.naive_utc()) + CLOCKS_APART {
        // It is in the future, or from a place further east, and it does not show which. No place is further west than this.
        return Some(newest.min(back(before.naive_utc(), WESTMOST)?));
    }
    // It was in the past when it was seen, on any clock. The oldest transaction open then had begun `open_seconds` earlier, on
    // the same clock.
    let open = back(newest, TimeDelta::try_seconds(settled.open_seconds)?)?;
    // The earlier bound only reads more.
    Some(open.min(lowest_local(zone, before, now)).min(before.naive_utc()))
}

/// The lowest local time that a clock shows between the two moments. At the end of summer time it is not the earliest one.
fn lowest_local(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> NaiveDateTime {
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let put_back = (offset(from) - offset(to)).max(0);
    from.with_timezone(&zone).naive_local() - TimeDelta::seconds(i64::from(put_back))
}

/// Not before the year 1, which databases do not accept as text.
fn back(at: NaiveDateTime, by: TimeDelta) -> Option<NaiveDateTime> {
    at.checked_sub_signed(by).filter(|at| at.year() >= 1)
}

/// A number that may be a time, with its unit. Some databases write fractions, and large numbers with an exponent.
pub(crate) fn epoch(text: &str) -> Option<(EpochUnit, i64)> {
    let number = text.parse::<i64>().ok().or_else(|| {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
        Some(number.floor() as i64)
    })?;
    // Larger numbers are nanoseconds, or no time.
    (LEAST_EPOCH.unsigned_abs()..10_000_000_000_000_000)
        .contains(&number.unsigned_abs())
        .then(|| (EpochUnit::of(number), number))
}

/// Rows may use other units than the newest value, which is the largest number and not always the latest time. So each unit has
/// its own range from the same moment.
fn numbers(text: &str, lookback: TimeDelta, before: DateTime<Utc>) -> Option<Vec<NumberRange<i64>>> {
    let (unit, number) = epoch(text)?;
    Some(ranges_from(unit, unit.at(number)?.min(before).checked_sub_signed(lookback)?))
}

pub(crate) fn ranges_from(unit: EpochUnit, from: DateTime<Utc>) -> Vec<NumberRange<i64>> {
    let units = EpochUnit::ALL.into_iter().rev().filter(|other| other.least() <= unit.least());
    let range = |other: EpochUnit| {
        let from = other.count(from).max(other.least());
        NumberRange { from, below: other.next().filter(|_| other != unit).map(EpochUnit::least) }
    };
    units.map(range).collect()
}

/// As text, `2026-01-02` sorts before `2026-01-02 03:04`, and that before `2026-01-02T03:04`.
pub(crate) fn texts(form: IsoForm, at: NaiveDateTime) -> Vec<NumberRange<String>> {
    let day = at.format(DAYS).to_string();
    let (separator, time) = match form {
        IsoForm::Day => return vec![NumberRange { from: day, below: None }],
        IsoForm::Minutes { separator } => (separator, at.format(MINUTES)),
        IsoForm::Seconds { separator } => (separator, at.format(SECONDS)),
    };
    let mut ranges = vec![NumberRange { from: format!("{day}{separator}{time}"), below: None }];
    if separator == 'T' {
        ranges.push(NumberRange { from: format!("{day} {time}"), below: Some(format!("{day}T")) });
    }
    ranges.push(NumberRange { below: Some(format!("{day} ")), from: day });
    ranges
}
