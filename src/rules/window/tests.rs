//! Tests of the cursor's law: a poll after its commit reads each committed row, and a quiet source is not read for ever.

use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::rules::cursor::{StampBound, StampKind};

const LOOKBACK_SECONDS: i64 = 20;
const POLICY: StampPolicy = StampPolicy { lookback: Duration::from_secs(LOOKBACK_SECONDS as u64), time_zone: Tz::UTC };

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000, 0).expect("a moment") + TimeDelta::seconds(second)
}

/// How the source writes its stamps.
#[derive(Debug, Clone, Copy)]
enum StampForm {
    Zoned,
    Epoch,
    Iso,
    /// Local time of an unstated zone, this many hours east.
    Local(i64),
}

impl StampForm {
    fn kind(self) -> StampKind {
        match self {
            StampForm::Zoned => StampKind::TimestampTz,
            StampForm::Epoch => StampKind::Number,
            StampForm::Iso => StampKind::Text,
            StampForm::Local(_) => StampKind::Timestamp,
        }
    }

    fn write(self, stamp: DateTime<Utc>) -> String {
        match self {
            StampForm::Zoned => format!("{}+00", stamp.format("%F %T")),
            StampForm::Epoch => stamp.timestamp().to_string(),
            StampForm::Iso => stamp.format("%FT%TZ").to_string(),
            StampForm::Local(hours) => (stamp + TimeDelta::hours(hours)).format("%F %T").to_string(),
        }
    }
}

fn has(bound: &StampBound, text: &str) -> bool {
    match bound {
        StampBound::Moment(from) => text >= from.as_str(),
        StampBound::Numbers(ranges) => {
            let number: i64 = text.parse().expect("a number");
            ranges.iter().any(|range| range.from <= number && range.below.is_none_or(|below| number < below))
        }
        StampBound::Texts(ranges) => {
            ranges.iter().any(|r| r.from.as_str() <= text && r.below.as_deref().is_none_or(|below| text < below))
        }
    }
}

/// A row, and when its transaction began and committed.
#[derive(Debug, Clone)]
struct WrittenRow {
    began: i64,
    committed: i64,
    text: String,
}

/// Runs polls over the rows, one after the other.
struct PollModel {
    form: StampForm,
    rows: Vec<WrittenRow>,
    cursor: Option<PollCursor>,
    read: Vec<bool>,
    writes: usize,
}

impl PollModel {
    fn new(form: StampForm, rows: Vec<WrittenRow>) -> Self {
        let read = vec![false; rows.len()];
        Self { form, rows, cursor: None, read, writes: 0 }
    }

    /// Returns how many rows it has read. If open transactions are not seen, everything counts as committed.
    fn poll(&mut self, second: i64, sees_open: bool) -> usize {
        let now = at(second);
        let open = self.rows.iter().filter(|row| row.began <= second && second < row.committed).map(|row| row.began);
        let before = open.min().filter(|_| sees_open).map_or(now, at);
        let settled = SettledMoment {
            open_since: before,
            before,
            open_seconds: (now - before).num_seconds(),
            ..SettledMoment::at(now)
        };
        let window = self.cursor.as_ref().and_then(|cursor| read_window(cursor, POLICY, now));
        let (mut rows, mut newest) = (0, None::<String>);
        for (row, read) in self.rows.iter().zip(&mut self.read).filter(|(row, _)| row.committed <= second) {
            if window.as_ref().is_none_or(|window| has(&window.rows, &row.text)) {
                rows += 1;
                *read = true;
            }
            if window.as_ref().is_none_or(|window| has(&window.newest, &row.text)) {
                newest = newest.max(Some(row.text.clone()));
            }
        }
        let seen = PollSight {
            newest: newest.map(|text| NewestStamp::new(text, self.form.kind())),
            settled,
            full_at: window.is_none().then_some(now),
            source: String::new(),
        };
        let cursor = renew_cursor(self.cursor.as_ref(), seen, POLICY, now);
        if !self.cursor.as_ref().is_some_and(|before| is_as_good(before, &cursor, POLICY, now)) {
            self.cursor = Some(cursor);
            self.writes += 1;
        }
        rows
    }
}

fn any_form() -> impl Strategy<Value = StampForm> {
    prop_oneof![
        Just(StampForm::Zoned),
        Just(StampForm::Epoch),
        Just(StampForm::Iso),
        (-11i64..=14).prop_map(StampForm::Local),
    ]
}

/// Rows whose stamps are behind their commit by the look-back at most; or, if open transactions are seen, behind the beginning of
/// their transaction.
fn any_rows(sees_open: bool) -> impl Strategy<Value = Vec<(i64, i64, i64)>> {
    let row = (prop_oneof![3 => 0i64..60, 2 => 0i64..400, 1 => 7_000i64..8_000], 0i64..=LOOKBACK_SECONDS, 0i64..600);
    prop::collection::vec(row, 1..12).prop_map(move |rows| {
        let bounded = |(began, skew, open): (i64, i64, i64)| {
            let open = if sees_open { open } else { open.min(LOOKBACK_SECONDS - skew) };
            (began, skew, open)
        };
        rows.into_iter().map(bounded).collect()
    })
}

proptest! {
    #[test]
    fn each_committed_row_is_read_and_a_quiet_source_is_left_alone(
        form in any_form(),
        (sees_open, rows) in any::<bool>().prop_flat_map(|sees| (Just(sees), any_rows(sees))),
        pauses in prop::collection::vec(1i64..40, 1..30),
    ) {
        let written = rows.iter().map(|(began, skew, open)| WrittenRow {
            began: *began,
            committed: began + open,
            text: form.write(at(began - skew)),
        });
        let mut model = PollModel::new(form, written.collect());
        let mut second = 0;
        for pause in pauses.iter().cycle() {
            second += pause;
            model.poll(second, sees_open);
            for (row, read) in model.rows.iter().zip(&model.read) {
                prop_assert!(*read || row.committed > second, "at {second}: {row:?}\n{:?}", model.cursor);
            }
            if second > 9_000 {
                break;
            }
        }
        // On any clock, everything has been passed a day later.
        for hour in 0..36 {
            model.poll(second + hour * 3600, sees_open);
        }
        let writes = model.writes;
        for hour in 36..60 {
            prop_assert_eq!(model.poll(second + hour * 3600, sees_open), 0, "{:?}", model.cursor);
        }
        prop_assert_eq!(model.writes, writes, "and nothing is written for it");
    }
}

fn bulk(form: StampForm, rows: usize) -> PollModel {
    let row = WrittenRow { began: 0, committed: 0, text: form.write(at(0)) };
    PollModel::new(form, vec![row; rows])
}

#[test]
fn a_bulk_load_is_read_until_the_look_back_is_over_and_then_left_alone() {
    for form in [StampForm::Zoned, StampForm::Epoch, StampForm::Iso] {
        let mut model = bulk(form, 100);
        let read: Vec<usize> = (1..=10).map(|poll| model.poll(poll * 10, true)).collect();
        assert_eq!(read, [100, 100, 100, 100, 100, 0, 0, 0, 0, 0], "{form:?}");
        assert_eq!(model.writes, 3, "{form:?}: the first, the second sight, and when it is passed");
    }
}

#[test]
fn a_bulk_load_is_left_alone_also_where_a_clock_that_was_ahead_has_found_it_again() {
    let mut model = bulk(StampForm::Epoch, 100);
    for poll in [10, 20] {
        model.poll(poll, true);
    }
    let cursor = model.cursor.as_mut().expect("a cursor");
    cursor.unchanged_since = Some(at(365 * 24 * 3600));
    let read: Vec<usize> = (3..=12).map(|poll| model.poll(poll * 10, true)).collect();
    assert_eq!(read.iter().rev().take(4).sum::<usize>(), 0, "{read:?}");
}

#[test]
fn a_row_that_came_too_late_for_every_look_back_is_found_with_the_next_change() {
    let mut model = bulk(StampForm::Zoned, 3);
    for poll in 1..=10 {
        model.poll(poll * 10, true);
    }
    let form = model.form;
    let row = |committed, stamp| WrittenRow { began: committed, committed, text: form.write(at(stamp)) };
    model.rows.extend([row(200, -5), row(300, 300)]);
    model.read.extend([false, false]);
    assert_eq!(model.poll(200, true), 0, "more than the look-back late");
    assert_eq!(model.poll(300, true), 1, "the new one");
    assert_eq!(model.poll(310, true), 5, "and once again what lay in the look-back");
    assert!(model.read.iter().all(|read| *read));
    assert_eq!(model.poll(320, true), 1);
}
