//! Pace and breaker together. Both are stored, so that `status` can show them and a restart does not begin with requests that
//! Conversica refused a moment ago.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::DeliverySettings;
use crate::rules::breaker::DeliveryBreaker;
use crate::rules::pace::SendPace;
use crate::store::control::{self, BreakerState, StoredPace};
use crate::store::pause;
use crate::store::state_db::StateDb;

/// Shortest interval between two writes of gradual changes.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct DeliveryThrottle {
    pub pace: SendPace,
    pub breaker: DeliveryBreaker,
    /// `[delivery] requests_per_second`, for all instances together.
    ceiling: f64,
    /// Instances that share the ceiling.
    instances: u32,
    /// The values last written.
    noted: Option<StoredPace>,
}

impl DeliveryThrottle {
    /// Resumes from the stored values. A breaker that was open stays open but sends its first probe at once: the operator may
    /// have fixed the cause before the restart.
    pub fn resume(delivery: &DeliverySettings, noted: Option<StoredPace>, now: DateTime<Utc>) -> Self {
        let ceiling = delivery.requests_per_second;
        let (pace, breaker) = match &noted {
            None => (SendPace::new(ceiling, now), DeliveryBreaker::new(&delivery.breaker)),
            Some(noted) => {
                let share = noted.requests_per_second / noted.ceiling;
                let breaker = match noted.breaker {
                    BreakerState::Closed => DeliveryBreaker::new(&delivery.breaker),
                    BreakerState::Open => DeliveryBreaker::resume(&delivery.breaker, noted.failures, now),
                };
                (SendPace::resume(ceiling, share, noted.paused_until, now), breaker)
            }
        };
        Self { pace, breaker, ceiling, instances: 1, noted }
    }

    /// Whether due leads have to wait for Conversica: it fails, or has asked for a pause.
    pub fn is_obstructed(&self, now: DateTime<Utc>) -> bool {
        self.breaker.is_open() || self.pace.is_paused(now)
    }

    /// Divides the ceiling by the number of instances.
    pub fn share(&mut self, instances: u32, now: DateTime<Utc>) {
        let instances = instances.max(1);
        if instances != self.instances {
            self.instances = instances;
            self.pace.set_ceiling(self.ceiling / f64::from(instances), now);
        }
    }

    /// Takes over the pause that Conversica has asked for, from whichever instance and whenever.
    pub async fn listen(&mut self, state: &StateDb, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        if let Some(until) = pause::asked_until(state, now).await? {
            self.pace.pause_until(until, now);
        }
        Ok(())
    }

    /// Writes pace and breaker: at once if a restart or the operator needs the change, otherwise now and then.
    pub async fn note(
        &mut self,
        state: &StateDb,
        capped_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        let pacing = self.pacing(capped_until, now);
        if self.noted.as_ref().is_some_and(|noted| !is_news(noted, &pacing)) {
            return Ok(());
        }
        control::write(state, &pacing, now).await?;
        self.noted = Some(pacing);
        Ok(())
    }

    fn pacing(&self, capped_until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> StoredPace {
        StoredPace {
            at: now,
            requests_per_second: self.pace.rate() * f64::from(self.instances),
            ceiling: self.ceiling,
            paused_until: self.pace.paused_until(now),
            breaker: if self.breaker.is_open() { BreakerState::Open } else { BreakerState::Closed },
            next_probe_at: self.breaker.next_probe_at(),
            failures: self.breaker.failures(),
            new_people_wait_until: capped_until.filter(|until| *until > now),
        }
    }
}

fn is_news(noted: &StoredPace, pacing: &StoredPace) -> bool {
    let turn =
        |pacing: &StoredPace| (pacing.ceiling, pacing.paused_until, pacing.breaker, pacing.new_people_wait_until);
    if turn(noted) != turn(pacing) || pacing.requests_per_second < noted.requests_per_second {
        return true;
    }
    let same = StoredPace { at: pacing.at, ..noted.clone() } == *pacing;
    let just_now = noted.at <= pacing.at && pacing.at < noted.at + NOTE_INTERVAL;
    !same && !just_now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::OnAmbiguous;
    use chrono::TimeDelta;

    fn delivery() -> DeliverySettings {
        let second = Duration::from_secs(1);
        DeliverySettings {
            requests_per_second: 100.0,
            concurrency: 4,
            timeout: second,
            on_ambiguous: OnAmbiguous::Resend,
            ambiguous_wait: second,
            retry: config::RetrySettings {
                initial_interval: second,
                multiplier: 2.0,
                max_interval: second,
                max_elapsed: second,
            },
            breaker: config::BreakerSettings { failures: 1 },
        }
    }

    #[test]
    fn a_restart_remembers_the_pause_the_pace_and_that_conversica_fails() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut before = DeliveryThrottle::resume(&delivery(), None, now);
        before.pace.slow_down(Some(Duration::from_secs(60)), now);
        before.breaker.failed(&delivery().retry, now);
        let mut after =
            DeliveryThrottle::resume(&delivery(), Some(before.pacing(None, now)), now + TimeDelta::seconds(1));
        assert!(after.is_obstructed(now + TimeDelta::seconds(59)));
        assert_eq!(after.pace.available(now + TimeDelta::seconds(59)), 0, "every instance waits, restarted or not");
        assert_eq!(after.pace.rate(), 50.0);
        assert_eq!(after.breaker.slots(4, now + TimeDelta::seconds(61)), 1, "one probe");
    }

    #[test]
    fn what_matters_is_news_at_once_and_the_rest_once_a_second() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let noted = DeliveryThrottle::resume(&delivery(), None, now).pacing(None, now);
        let later = |at: i64| StoredPace { at: now + TimeDelta::milliseconds(at), ..noted.clone() };
        assert!(!is_news(&noted, &later(5_000)), "nothing has changed");
        assert!(is_news(&noted, &StoredPace { breaker: BreakerState::Open, ..later(1) }));
        assert!(is_news(&noted, &StoredPace { paused_until: Some(now), ..later(1) }));
        assert!(is_news(&noted, &StoredPace { requests_per_second: 50.0, ..later(1) }), "slower");
        let slow = StoredPace { requests_per_second: 10.0, ..noted.clone() };
        assert!(!is_news(&slow, &later(1)), "faster, a little");
        assert!(is_news(&slow, &later(1_000)));
        assert!(is_news(&slow, &later(-1)), "the clock was set back");
    }
}
