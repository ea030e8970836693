//! How long it takes until all people are written to, by the configured pace and caps. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::rules::admission::NewPeopleCap;

/// In seconds.
const HOUR: u64 = 3600;

/// The duration of the plan, if it were sent with these settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanForecast {
    /// `[delivery] requests_per_second`: a ceiling.
    pub requests_per_second: f64,
    /// The time for all requests at that pace.
    pub seconds: u64,
    /// `[safety] new_leads_per_hour` and `new_leads_per_day`; 0 = no cap.
    pub new_leads_per_hour: u32,
    pub new_leads_per_day: u32,
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
        let within = |seconds| caps.iter().find(|cap| cap.within.as_secs() == seconds).map_or(0, |cap| cap.people);
        Self {
            requests_per_second,
            seconds,
            new_leads_per_hour: within(HOUR),
            new_leads_per_day: within(24 * HOUR),
            last_new_person_at,
        }
    }
}

/// The people that one cap counts.
struct CapWindow {
    people: u64,
    within: i64,
    /// Times and numbers of people, oldest first.
    inside: VecDeque<(i64, u64)>,
    count: u64,
}

impl CapWindow {
    fn room(&mut self, now: i64) -> u64 {
        while let Some((_, people)) = self.inside.front().copied().filter(|(at, _)| at + self.within <= now) {
            self.inside.pop_front();
            self.count -= people;
        }
        self.people.saturating_sub(self.count)
    }

    fn add(&mut self, at: i64, people: u64) {
        self.inside.push_back((at, people));
        self.count += people;
    }

    /// When the oldest people leave the window.
    fn frees_at(&self) -> Option<i64> {
        self.inside.front().map(|(at, _)| at + self.within)
    }
}

/// The last first contact, if each happens as soon as every cap allows it. `None` beyond all calendars.
fn last_at(
    people: u64,
    caps: &[NewPeopleCap],
    introduced: &[(DateTime<Utc>, u64)],
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let mut at = now.timestamp() + i64::from(now.timestamp_subsec_nanos() > 0);
    let mut windows: Vec<CapWindow> = caps
        .iter()
        .map(|cap| {
            let within = i64::try_from(cap.within.as_secs()).unwrap_or(i64::MAX / 4);
            let mut window = CapWindow { people: cap.people.into(), within, inside: VecDeque::new(), count: 0 };
            introduced.iter().for_each(|(then, people)| window.add(then.timestamp().min(at), *people));
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
            return DateTime::from_timestamp(at, 0).map(|at| at.max(now));
        }
        let full = windows.iter().filter(|window| window.count >= window.people);
        at = full.filter_map(CapWindow::frees_at).max()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use std::time::Duration;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn cap(people: u32, seconds: u64) -> NewPeopleCap {
        NewPeopleCap { people, within: Duration::from_secs(seconds) }
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
    fn without_a_cap_only_the_pace_counts() {
        let forecast = PlanForecast::of(PlannedRequests { requests: 901, new_people: 901 }, 5.0, &[], &[], start());
        assert_eq!((forecast.seconds, forecast.last_new_person_at), (181, None));
    }

    /// One person after the other, each as soon as every window has fewer people than its cap.
    fn one_by_one(people: u64, caps: &[NewPeopleCap], before: &[i64], now: i64) -> i64 {
        let (mut went, mut at) = (before.to_vec(), now);
        for _ in 0..people {
            let lets = |cap: &NewPeopleCap, at: i64, went: &[i64]| {
                went.iter().filter(|then| **then > at - cap.within.as_secs() as i64).count() < cap.people as usize
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
