//! Tests of the bound for every kind of stamp: no later change sorts below it.

use proptest::prelude::*;
use stamp::iso;

use super::*;

const LOOKBACK: Duration = Duration::from_secs(300);

#[test]
fn a_time_of_a_zone_further_east_is_later_than_now() {
    let is = |kind, text: &str, zone| {
        is_of_another_zone(&NewestStamp::new(text.to_owned(), kind), zone, "2026-06-01T12:00:00Z".parse().unwrap())
    };
    let (utc, tokyo) = (chrono_tz::UTC, chrono_tz::Asia::Tokyo);
    for kind in [StampKind::Text, StampKind::Timestamp] {
        assert!(is(kind, "2026-06-01 20:59:59", utc));
        assert!(!is(kind, "2026-06-01 20:59:59", tokyo));
        assert!(!is(kind, "2026-06-01 12:00:59", utc), "clocks explain that");
        assert!(!is(kind, "2199-01-01 00:00:00", utc), "no zone explains that");
    }
    assert!(
        !is(StampKind::Text, "2026-06-01T20:59:59Z", utc) && !is(StampKind::Text, "2026-06-01T20:59:59+09:00", utc)
    );
    assert!(!is(StampKind::Text, "soon", utc) && !is(StampKind::Number, "1780318799", utc));
}

fn now() -> DateTime<Utc> {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn bound_of(kind: StampKind, text: &str) -> Option<StampBound> {
    bound(&NewestStamp::new(text.to_owned(), kind), LOOKBACK, Tz::UTC, &SettledMoment::at(now()), now())
}

fn open_for_hours(hours: i64) -> SettledMoment {
    SettledMoment { before: now() - TimeDelta::hours(hours), open_seconds: hours * 3600, ..SettledMoment::at(now()) }
}

fn moment(text: &str) -> Option<StampBound> {
    Some(StampBound::Moment(text.to_owned()))
}

/// The first range has no end.
fn numbers_from(ranges: &[(i64, Option<i64>)]) -> Option<StampBound> {
    Some(StampBound::Numbers(ranges.iter().map(|(from, below)| NumberRange { from: *from, below: *below }).collect()))
}

fn texts_from(ranges: &[(&str, Option<&str>)]) -> Option<StampBound> {
    let range = |(from, below): &(&str, Option<&str>)| NumberRange {
        from: (*from).to_owned(),
        below: below.map(str::to_owned),
    };
    Some(StampBound::Texts(ranges.iter().map(range).collect()))
}

/// Whether a text is read again.
fn reads(bound: &StampBound, text: &str) -> bool {
    let StampBound::Texts(ranges) = bound else { panic!("texts: {bound:?}") };
    ranges.iter().any(|range| range.from.as_str() <= text && range.below.as_deref().is_none_or(|below| text < below))
}

fn reads_number(bound: &StampBound, number: i64) -> bool {
    let StampBound::Numbers(ranges) = bound else { panic!("numbers: {bound:?}") };
    ranges.iter().any(|range| range.from <= number && range.below.is_none_or(|below| number < below))
}

const SECOND: i64 = 1_777_629_300;
const YEAR_1990_IN_MILLISECONDS: i64 = 631_152_000_000;

#[test]
fn the_bound_lies_behind_the_newest_value_by_the_lookback() {
    assert_eq!(bound_of(StampKind::TimestampTz, "2026-05-01 10:00:00.123456+00"), moment("2026-05-01 09:55:00+00"));
    assert_eq!(bound_of(StampKind::Timestamp, "2026-05-01 10:00:00.5"), moment("2026-05-01 09:55:00"));
    assert_eq!(bound_of(StampKind::Date, "2026-05-01"), moment("2026-04-30"));
    assert_eq!(
        bound_of(StampKind::Text, "2026-05-01 10:00:00"),
        texts_from(&[("2026-05-01 09:55:00", None), ("2026-05-01", Some("2026-05-01 "))])
    );
    assert_eq!(
        bound_of(StampKind::Text, "2026-05-01T10:00:00.25Z"),
        texts_from(&[
            ("2026-05-01T09:55:00", None),
            ("2026-05-01 09:55:00", Some("2026-05-01T")),
            ("2026-05-01", Some("2026-05-01 "))
        ])
    );
    assert_eq!(bound_of(StampKind::Text, "2026-05-01"), texts_from(&[("2026-04-30", None)]));
    assert_eq!(bound_of(StampKind::Number, "1777629600"), numbers_from(&[(SECOND, None)]));
    assert_eq!(
        bound_of(StampKind::Number, "1777629600000"),
        numbers_from(&[(SECOND * 1000, None), (SECOND, Some(YEAR_1990_IN_MILLISECONDS))])
    );
}

#[test]
fn a_value_in_the_future_hides_nothing() {
    // A text without a zone does not show its zone by being in the future, but no clock is more than twelve hours behind UTC.
    assert_eq!(
        bound_of(StampKind::Text, "2099-01-01 00:00:00"),
        texts_from(&[("2026-05-31 23:55:00", None), ("2026-05-31", Some("2026-05-31 "))])
    );
    let ahead = bound_of(StampKind::Text, "2099-01-01T00:00:00Z").unwrap();
    assert!(reads(&ahead, "2026-06-01T11:55:00Z") && !reads(&ahead, "2026-06-01T11:54:59Z"));
    assert_eq!(bound_of(StampKind::Number, "4070908800"), numbers_from(&[(now().timestamp() - 300, None)]));
    // The end of the year 9999.
    assert_eq!(bound_of(StampKind::Number, "253402300799"), numbers_from(&[(now().timestamp() - 300, None)]));
}

#[test]
fn a_number_of_another_unit_hides_nothing() {
    let then = now() - TimeDelta::minutes(1);
    let units = [(EpochUnit::Seconds, 1), (EpochUnit::Milliseconds, 1_000), (EpochUnit::Microseconds, 1_000_000)];
    for (unit, factor) in units {
        // The newest value has this unit, whenever it was written; the other units have their newest values now.
        for newest in [then - TimeDelta::days(30), then, then + TimeDelta::days(30)] {
            let bound = bound_of(StampKind::Number, &unit.count(newest).to_string()).unwrap();
            for (_, other) in units {
                assert!(reads_number(&bound, now().timestamp() * other), "{unit:?} {newest} {bound:?}");
            }
            let old = (newest.min(now()) - TimeDelta::minutes(6)).timestamp();
            assert!(!reads_number(&bound, old * factor), "{unit:?} {newest} {bound:?}");
        }
    }
    // A date and a time in figures is no time of any unit, so all such values are read.
    let figures = bound_of(StampKind::Number, "202606011200").unwrap();
    assert!(reads_number(&figures, 202_501_010_000));
}

#[test]
fn where_a_zone_is_left_unsaid_an_open_transaction_is_waited_for_on_any_clock() {
    for (hours, kind) in
        [-11, -8, 0, 2, 9, 14].into_iter().flat_map(|h| [(h, StampKind::Timestamp), (h, StampKind::Text)])
    {
        let there = |at: DateTime<Utc>| (at + TimeDelta::hours(hours)).format("%F %T").to_string();
        let settled = open_for_hours(1);
        let newest = NewestStamp::new(there(now() - TimeDelta::minutes(1)), kind);
        let bound = bound(&newest, LOOKBACK, Tz::UTC, &settled, now()).unwrap();
        let least = &bound.least()[0];
        assert!(*least <= there(settled.before), "{hours}: {least}");
        // Nothing is open, and no clock is ahead of ours: only the look-back is read.
        if hours <= 0 {
            assert_eq!(bound_of(kind, &newest.text).unwrap().least()[0], there(now() - TimeDelta::minutes(6)));
        }
    }
}

#[test]
fn where_a_zone_is_left_unsaid_a_stamp_in_the_future_hides_nothing_on_any_clock() {
    for (hours, kind) in [-11, -8, 0, 9, 14].into_iter().flat_map(|h| [(h, StampKind::Timestamp), (h, StampKind::Text)])
    {
        let there = (now() + TimeDelta::hours(hours)).format("%F %T").to_string();
        let bound = bound_of(kind, "2199-01-01 00:00:00").unwrap();
        assert!(bound.least()[0] <= there, "{hours}: {bound:?}");
    }
}

#[test]
fn texts_of_several_zones_are_read_as_far_back_as_zones_lie_apart() {
    let newest =
        NewestStamp { zones: ZoneMix::Several, ..NewestStamp::new("2026-05-20T03:00:00Z".to_owned(), StampKind::Text) };
    let bound = bound(&newest, LOOKBACK, Tz::UTC, &SettledMoment::at(now()), now()).unwrap();
    assert!(reads(&bound, "2026-05-19T19:10:00-08:00") && reads(&bound, "2026-05-19 19:10:00"));
    assert!(!reads(&bound_of(StampKind::Text, "2026-05-20T03:00:00Z").unwrap(), "2026-05-19T19:10:00-08:00"));
}

#[test]
fn another_form_of_zone_is_noticed_when_it_becomes_the_newest() {
    let newest = |text: &str| NewestStamp::new(text.to_owned(), StampKind::Text);
    let (utc, local) = (newest("2026-05-20T03:00:00Z"), newest("2026-05-20 04:00:00"));
    assert_eq!(newest("2026-05-20T05:00:00.5Z").after(&utc).zones, ZoneMix::One);
    let both = local.clone().after(&utc);
    assert_eq!(both.zones, ZoneMix::Several);
    assert_eq!(newest("2026-05-20 06:00:00").after(&both).zones, ZoneMix::Several, "the others are still there");
    assert_eq!(utc.tell_tale(), Some(TellTale::SaysNoUtc));
    assert_eq!(local.tell_tale(), Some(TellTale::SaysAZone));
    assert_eq!(newest("2026-05-20 06:00:00+02").tell_tale(), None);
}

#[test]
fn only_what_sorts_like_the_time_it_stands_for_is_followed() {
    for text in [
        "2026-06-01",
        "2026-06-01 10:00",
        "2026-06-01T10:00:00",
        "2026-06-01 10:00:00.123456",
        "2026-06-01T10:00:00,5Z",
        "2026-06-01 10:00Z",
        "2026-06-01 10:00:00z",
        "2026-06-01 10:00:00+02",
        "2026-06-01T10:00:00-0330",
        "2026-06-01T10:00:00.1+05:45",
        "2026-06-01 23:59:60",
    ] {
        assert!(iso(text).is_some(), "{text}");
    }
    for text in [
        "",
        " 2026-06-01",
        "2026-06-01 ",
        "2026-6-1",
        "2026-06-01 9:00:00",
        "2026-06-01  9:00:00",
        "2026-06-01 09:00:00 AM",
        "2026-06-01 09:00 PM",
        "2026-06-01T10:00:00 Z",
        "2026-06-01 10:00:00 +02",
        "2026-06-01 10:00:00 UTC",
        "2026-06-01 10:00:00.",
        "2026-06-01 10",
        "2026-06-01t10:00:00",
        "2026/06/01",
        "20260601",
        "2026-02-30",
        "2026-06-01 25:00:00",
        "2026-06-01 10:00:00+2",
        "2026-06-01 10:00:00+02:",
        "+2026-06-01",
        "2026-06-01 10:00:00+02:00:00",
    ] {
        assert_eq!(bound_of(StampKind::Text, text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_read_as_a_time_has_no_bound() {
    assert_eq!(bound_of(StampKind::Text, "version 12"), None);
    assert_eq!(bound_of(StampKind::Number, "42"), None);
    assert_eq!(bound_of(StampKind::Text, "größer"), None);
}

#[test]
fn numbers_with_fractions_exponents_and_signs_are_epochs_too() {
    assert_eq!(bound_of(StampKind::Number, "1777629600.75"), numbers_from(&[(SECOND, None)]));
    let micros = bound_of(StampKind::Number, "1.777629600123456e+15").unwrap();
    assert!(reads_number(&micros, 1_777_629_300_123_456) && !reads_number(&micros, 1_777_629_300_123_455));
    assert_eq!(bound_of(StampKind::Number, "-177762960"), numbers_from(&[(-177_763_260, None)]));
    for text in ["NaN", "Infinity", "-5", "9999999999999999999", "1e30"] {
        assert_eq!(bound_of(StampKind::Number, text), None, "{text}");
    }
}

#[test]
fn what_lies_beyond_all_calendars_counts_as_the_future_or_is_no_time() {
    for text in ["infinity", "10000-01-01 00:00:00+00", "294276-12-31 23:59:59.999999+00"] {
        assert_eq!(bound_of(StampKind::TimestampTz, text), moment("2026-06-01 11:55:00+00"), "{text}");
    }
    assert_eq!(bound_of(StampKind::Timestamp, "infinity"), moment("2026-05-31 23:55:00"), "on whatever clock");
    assert_eq!(bound_of(StampKind::Date, "infinity"), moment("2026-05-31"));
    for text in ["-infinity", "0044-03-15 12:00:00+00 BC", "0001-01-01 00:00:00+00"] {
        assert_eq!(bound_of(StampKind::TimestampTz, text), None, "{text}");
    }
    assert_eq!(bound_of(StampKind::Timestamp, "0044-03-15 12:00:00 BC"), None);
    assert_eq!(bound_of(StampKind::Date, "0044-03-15 BC"), None);
    assert_eq!(bound_of(StampKind::Timestamp, "0001-01-01 00:00:00"), None);
}

#[test]
fn an_offset_is_heeded_though_the_session_was_set_to_utc() {
    for text in [
        "2026-05-01 10:00:00+00",
        "2026-05-01 12:00:00+02",
        "2026-05-01 04:30:00.5-05:30",
        "2026-05-01 10:53:28+00:53:28",
    ] {
        assert_eq!(bound_of(StampKind::TimestampTz, text), moment("2026-05-01 09:55:00+00"), "{text}");
    }
    assert_eq!(bound_of(StampKind::TimestampTz, "2026-05-01 10:00:00"), None);
}

#[test]
fn times_that_are_cut_to_the_minute_are_compared_as_such() {
    assert_eq!(
        bound_of(StampKind::Text, "2026-05-01 10:00"),
        texts_from(&[("2026-05-01 09:55", None), ("2026-05-01", Some("2026-05-01 "))])
    );
}

#[test]
fn what_was_still_open_is_read_again() {
    let newest = NewestStamp::new("2026-06-01 11:59:00+00".to_owned(), StampKind::TimestampTz);
    let settled = open_for_hours(3);
    let bound = bound(&newest, LOOKBACK, Tz::UTC, &settled, now());
    assert_eq!(bound, moment("2026-06-01 08:55:00+00"));
}

#[test]
fn the_hour_that_comes_twice_is_read_twice() {
    let berlin: Tz = "Europe/Berlin".parse().unwrap();
    let newest = NewestStamp::new("2026-10-25 02:55:00".to_owned(), StampKind::Timestamp);
    let utc = |time: &str| format!("2026-10-25T{time}Z").parse::<DateTime<Utc>>().unwrap();
    // Seen at 02:56 summer time. The clock went back at 03:00, and it is 02:10 or 04:00 now.
    for now in ["01:10:00", "03:00:00"] {
        let bound = bound(&newest, LOOKBACK, berlin, &SettledMoment::at(utc("00:56:00")), utc(now)).unwrap();
        let StampBound::Moment(bound) = bound else { panic!("a moment") };
        assert!(bound.as_str() <= "2026-10-25 02:00:00", "{now}: {bound}");
    }
}

#[test]
fn only_what_no_clock_explains_is_ahead() {
    let ahead = |kind, text: &str| is_ahead(&NewestStamp::new(text.to_owned(), kind), Tz::UTC, now());
    assert!(ahead(StampKind::TimestampTz, "2026-06-01 12:30:00+00") && ahead(StampKind::TimestampTz, "infinity"));
    assert!(
        ahead(StampKind::Text, "2026-07-01")
            && ahead(StampKind::Number, "4070908800")
            && ahead(StampKind::Date, "2099-01-01")
    );
    assert!(
        !ahead(StampKind::TimestampTz, "2026-06-01 11:59:00+00") && !ahead(StampKind::Timestamp, "2026-06-01 22:00:00")
    );
    assert!(!ahead(StampKind::Text, "version 12") && !ahead(StampKind::Number, "42"));
}

proptest! {
    #[test]
    fn no_text_makes_the_cursor_panic(text in "\\PC{0,30}|-?[0-9:.+ e-]{0,30}", kind in 0usize..5) {
        let kind = [StampKind::Number, StampKind::TimestampTz, StampKind::Timestamp, StampKind::Date, StampKind::Text][kind];
        let newest = NewestStamp::new(text, kind);
        let _ = bound(&newest, Duration::from_secs(86_400 * 365), Tz::UTC, &SettledMoment::at(now()), now());
        let _ = is_ahead(&newest, Tz::UTC, now());
    }

    #[test]
    fn in_every_form_of_text_what_is_written_later_is_read(before in 0i64..10_000_000, later in 0i64..1_000_000, mine in 0usize..5, theirs in 0usize..6) {
        let forms = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S%.6f", "%Y-%m-%dT%H:%M", "%Y-%m-%d"];
        let newest = now() - TimeDelta::seconds(before + 1_000_000);
        let zones = if forms[mine].ends_with('Z') == forms[theirs].ends_with('Z') { ZoneMix::One } else { ZoneMix::Several };
        let newest_ = NewestStamp { zones, ..NewestStamp::new(newest.format(forms[mine]).to_string(), StampKind::Text) };
        let bound = bound(&newest_, LOOKBACK, Tz::UTC, &SettledMoment::at(now()), now()).unwrap();
        let row = (newest + TimeDelta::seconds(later)).format(forms[theirs]).to_string();
        prop_assert!(reads(&bound, &row), "{bound:?} {row}");
    }
}
