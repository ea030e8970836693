//! How long it takes until all people are written to, by the configured pace and caps. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use serde::Serialize;

use crate::rules::admission::{CapSpan, NewPeopleCap};

const HOUR: Duration = Duration::from_secs(3600);

/// The duration of the plan, if it were sent with these settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanForecast {
    /// `[delivery] requests_per_second`: a ceiling.
    pub requests_per_second: f64,
    /// The time for all requests at that pace.
    pub seconds: u64,
    /// `[safety] new_leads_per_hour`, `new_leads_per_day` and `new_leads_per_month`; 0 = no cap.
    pub new_leads_per_hour: u32,
    pub new_leads_per_day: u32,
    pub new_leads_per_month: u32,
    /// With a cap: the earliest time of the last first contact.
    pub last_new_person_at: Option<DateTime<Utc>>,
}

/// What a plan sends.
#[derive(Debug, Clone, Copy)]
pub struct PlannedRequests {
    pub requests: u64,
    /// People who are contacted for the first time, one request each.
    pub new_people: u64,
}

impl PlanForecast {
    /// `introduced` are the recent first contacts, oldest first.
    pub fn of(
        PlannedRequests { requests, new_people }: PlannedRequests,
        requests_per_second: f64,
        caps: &[NewPeopleCap],
        introduced: &[(DateTime<Utc>, u64)],
        now: DateTime<Utc>,
    ) -> Self {
        let seconds = (requests as f64 / requests_per_second).ceil() as u64;
        let last_new_person_at =
            (!caps.is_empty() && new_people > 0).then(|| last_at(new_people, caps, introduced, now)).flatten();
        let people = |is: &dyn Fn(CapSpan) -> bool| caps.iter().find(|cap| is(cap.span)).map_or(0, |cap| cap.people);
        Self {
            requests_per_second,
            seconds,
            new_leads_per_hour: people(&|span| span == CapSpan::Sliding(HOUR)),
            new_leads_per_day: people(&|span| span == CapSpan::Sliding(24 * HOUR)),
            new_leads_per_month: people(&|span| matches!(span, CapSpan::Month(_))),
            last_new_person_at,
        }
    }
}

/// The people that one cap counts.
struct CapWindow {
    people: u64,
    span: CapSpan,
    /// Times and numbers of people, oldest first.
    inside: VecDeque<(DateTime<Utc>, u64)>,
    count: u64,
}

impl CapWindow {
    fn room(&mut self, now: DateTime<Utc>) -> u64 {
        let counts_after = self.span.counts_after(now);
        while let Some((_, people)) = self.inside.front().copied().filter(|(at, _)| *at <= counts_after) {
            self.inside.pop_front();
            self.count -= people;
        }
        self.people.saturating_sub(self.count)
    }

    fn add(&mut self, at: DateTime<Utc>, people: u64) {
        self.inside.push_back((at, people));
        self.count += people;
    }

    /// When the oldest people leave the window.
    fn frees_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.inside.front().map(|(at, _)| self.span.frees_at(*at, now))
    }
}

/// The last first contact, if each happens as soon as every cap allows it. `None` beyond some thousand years.
fn last_at(
    people: u64,
    caps: &[NewPeopleCap],
    introduced: &[(DateTime<Utc>, u64)],
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let mut at = DateTime::from_timestamp(now.timestamp() + i64::from(now.timestamp_subsec_nanos() > 0), 0)?;
    let mut windows: Vec<CapWindow> = caps
        .iter()
        .map(|cap| {
            let mut window = CapWindow { people: cap.people.into(), span: cap.span, inside: VecDeque::new(), count: 0 };
            introduced.iter().for_each(|(then, people)| window.add((*then).min(at), *people));
            window
        })
        .collect();
    let mut left = people;
    loop {
        let rooms: Vec<u64> = windows.iter_mut().map(|window| window.room(at)).collect();
        let go = rooms.into_iter().min().unwrap_or(left).min(left);
        if go > 0 {
            windows.iter_mut().for_each(|window| window.add(at, go));
            left -= go;
        }
        if left == 0 {
            return Some(at.max(now));
        }
        let full = windows.iter().filter(|window| window.count >= window.people);
        let next = full.filter_map(|window| window.frees_at(at)).max()?;
        // A span that never ends, or ends beyond all calendars, makes no progress.
        at = Some(next).filter(|next| *next > at && next.year() < LAST_YEAR)?;
    }
}

/// Far enough from the end of the calendar that no span overflows it.
const LAST_YEAR: i32 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::billing_month::BillingMonth;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn cap(people: u32, seconds: u64) -> NewPeopleCap {
        NewPeopleCap { people, span: CapSpan::Sliding(Duration::from_secs(seconds)) }
    }

    #[test]
    fn a_cap_of_fifty_a_day_lets_the_hundred_and_first_go_after_two_days() {
        let last = |people, caps: &[NewPeopleCap]| last_at(people, caps, &[], start()).unwrap() - start();
        let daily = [cap(50, 86_400)];
        assert_eq!((last(50, &daily), last(101, &daily)), (TimeDelta::zero(), TimeDelta::days(2)));
        let both = [cap(10, 3600), cap(50, 86_400)];
        assert_eq!((last(50, &both), last(61, &both)), (TimeDelta::hours(4), TimeDelta::hours(25)));
        let full = [(start() - TimeDelta::hours(1), 50)];
        assert_eq!(last_at(1, &daily, &full, start()).unwrap() - start(), TimeDelta::hours(23));
        assert!(last_at(1_000_000, &[cap(1, 86_400)], &[], start()).is_some(), "in 2,700 years");
    }

    #[test]
    fn a_monthly_budget_begins_anew_with_the_month() {
        // 15 January 2027.
        let month = BillingMonth { starts_on: 20, zone: chrono_tz::UTC };
        let monthly = [NewPeopleCap { people: 10, span: CapSpan::Month(month) }];
        let last = |people, introduced: &[(DateTime<Utc>, u64)]| {
            last_at(people, &monthly, introduced, start()).unwrap().to_string()
        };
        assert_eq!(last(10, &[]), start().to_string());
        assert_eq!(last(11, &[]), "2027-01-20 00:00:00 UTC");
        assert_eq!(last(31, &[]), "2027-03-20 00:00:00 UTC");
        assert_eq!(last(1, &[(start() - TimeDelta::days(2), 10)]), "2027-01-20 00:00:00 UTC");
        assert_eq!(last(1, &[(start() - TimeDelta::days(27), 10)]), start().to_string(), "in the month before");
        let forecast = PlanForecast::of(PlannedRequests { requests: 1, new_people: 1 }, 5.0, &monthly, &[], start());
        assert_eq!((forecast.new_leads_per_day, forecast.new_leads_per_month), (0, 10));
        assert_eq!(last_at(u64::MAX, &[NewPeopleCap { people: 1, ..monthly[0] }], &[], start()), None);
    }

    #[test]
    fn without_a_cap_only_the_pace_counts() {
        let forecast = PlanForecast::of(PlannedRequests { requests: 901, new_people: 901 }, 5.0, &[], &[], start());
        assert_eq!((forecast.seconds, forecast.last_new_person_at), (181, None));
    }

    /// One person after the other, each as soon as every window has fewer people than its cap.
    fn one_by_one(people: u64, caps: &[NewPeopleCap], before: &[i64], now: i64) -> i64 {
        let (mut went, mut at) = (before.to_vec(), now);
        for _ in 0..people {
            let lets = |cap: &NewPeopleCap, at: i64, went: &[i64]| {
                let after = cap.span.counts_after(DateTime::from_timestamp(at, 0).unwrap());
                went.iter().filter(|then| DateTime::from_timestamp(**then, 0).unwrap() > after).count()
                    < cap.people as usize
            };
            while !caps.iter().all(|cap| lets(cap, at, &went)) {
                at += 1;
            }
            went.push(at);
        }
        at
    }

    proptest! {
        #[test]
        fn it_says_when_the_last_goes_were_each_to_go_as_soon_as_every_cap_lets_them(
            people in 1u64..25, hourly in 1u32..6, daily in 1u32..10, mut before in proptest::collection::vec(0i64..30, 0..12),
        ) {
            let caps = [cap(hourly, 5), cap(daily, 30)];
            before.sort_unstable_by(|a, b| b.cmp(a));
            let now = start().timestamp();
            let before: Vec<i64> = before.into_iter().map(|ago| now - ago).collect();
            let introduced: Vec<_> = before.iter().map(|at| (DateTime::from_timestamp(*at, 0).unwrap(), 1)).collect();
            let last = last_at(people, &caps, &introduced, start()).unwrap().timestamp();
            prop_assert_eq!(last, one_by_one(people, &caps, &before, now));
        }
    }
}
