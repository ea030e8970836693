//! A month of the contract with Conversica, which may begin on another day than the first. Pure.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// Months that begin at midnight of this day in this zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingMonth {
    /// 1 to 28, so that every month has the day.
    pub starts_on: u32,
    pub zone: Tz,
}

impl BillingMonth {
    /// The beginning of the month that `now` is in.
    pub fn begun_at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.midnight(self.first_day(now))
    }

    /// The beginning of the next month.
    pub fn ends_at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let first = self.first_day(now);
        self.midnight(first.checked_add_months(Months::new(1)).unwrap_or(first))
    }

    fn first_day(self, now: DateTime<Utc>) -> NaiveDate {
        let today = now.with_timezone(&self.zone).date_naive();
        let of_this_month = today.with_day(self.starts_on).unwrap_or(today);
        if of_this_month <= today {
            of_this_month
        } else {
            of_this_month.checked_sub_months(Months::new(1)).unwrap_or(of_this_month)
        }
    }

    /// Where the clocks are put forward at midnight, the day begins an hour later.
    fn midnight(self, day: NaiveDate) -> DateTime<Utc> {
        let midnight = day.and_time(NaiveTime::MIN);
        let local = (0..=3).find_map(|hours| {
            self.zone.from_local_datetime(&midnight.checked_add_signed(TimeDelta::hours(hours))?).earliest()
        });
        local.map_or_else(|| midnight.and_utc(), |local| local.with_timezone(&Utc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn month(starts_on: u32, zone: &str) -> BillingMonth {
        BillingMonth { starts_on, zone: zone.parse().unwrap() }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_month_begins_at_midnight_of_its_day_where_the_crm_is() {
        let days = |month: BillingMonth, now: &str| (month.begun_at(at(now)), month.ends_at(at(now)));
        let first = month(1, "UTC");
        assert_eq!(days(first, "2026-02-28T23:59:59Z"), (at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z")));
        assert_eq!(days(first, "2026-03-01T00:00:00Z").0, at("2026-03-01T00:00:00Z"));
        let mid = month(15, "America/New_York");
        assert_eq!(days(mid, "2026-01-15T04:59:59Z"), (at("2025-12-15T05:00:00Z"), at("2026-01-15T05:00:00Z")));
        assert_eq!(days(mid, "2026-03-20T00:00:00Z"), (at("2026-03-15T04:00:00Z"), at("2026-04-15T04:00:00Z")));
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_an_hour_later() {
        let chile = month(7, "America/Santiago");
        assert_eq!(chile.begun_at(at("2025-09-20T00:00:00Z")), at("2025-09-07T04:00:00Z"));
    }

    proptest! {
        #[test]
        fn every_moment_is_in_exactly_one_month(
            seconds in 0i64..4_000_000_000, starts_on in 1u32..=28, zone in 0usize..chrono_tz::TZ_VARIANTS.len()
        ) {
            let month = BillingMonth { starts_on, zone: chrono_tz::TZ_VARIANTS[zone] };
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            let (from, to) = (month.begun_at(now), month.ends_at(now));
            prop_assert!(from < to && now < to, "{from} {now} {to}");
            // A day that is skipped as a whole (Samoa, 2011) may begin a little after its first moment.
            prop_assert!(from <= now + TimeDelta::hours(25), "{from} {now}");
            prop_assert_eq!(month.begun_at(to), to);
        }
    }
}
