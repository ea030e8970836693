//! Facts that all processes on one state share with this deliverer: halts, pauses that Conversica asked for, the mapping in use,
//! the first success of the credentials.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{info, warn};

use crate::rules::lead_claim::{FinishedAttempt, LeadClaim};
use crate::rules::lead_event::ClaimCounting;
use crate::rules::mapping_in_use::MappingInUse;
use crate::rules::retry;
use crate::send::deliver::deliverer::{LeadDeliverer, RECHECK, UnwrittenFact};
use crate::store::control::{self, ResumedAt, StoredHalt, VerifiedAccount};
use crate::store::state_db::StateDb;
use crate::store::{ahead, first_contact, operator_pause, pause, restored_state};
use crate::{clock, horizon};

/// How long a request's task tries to announce a pause; the outcome of its request waits meanwhile.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells the other instances of a pause before anything else happens with the answer. The deliverer writes the same pause again
/// with the outcome, so a failure here loses nothing. An SQLite state has no other instance.
pub(crate) async fn announce_pause(state: &StateDb, wait: Duration) {
    if matches!(state, StateDb::Postgres(_)) {
        let now = clock::now();
        let _ = tokio::time::timeout(ANNOUNCE_TIMEOUT, pause::announce(state, now + wait, now)).await;
    }
}

/// A claim is not sent if the clock was off by more than this when its lease was written: another instance may see the lease as
/// expired too early. A machine that was suspended learns the time only here.
const CLAIM_CLOCK_ERROR: TimeDelta = TimeDelta::seconds(5);

impl LeadDeliverer {
    /// Releases claims unsent if Conversica asked for a pause after they were made: writing a claim to disk may take as long as
    /// many requests. Also releases them if the deliverer's clock was wrong when it made them. If the state does not answer, the
    /// requests are sent: their permits expire in time.
    pub(crate) async fn withhold_in_pause(&mut self, claims: Vec<LeadClaim>) -> Vec<LeadClaim> {
        let StateDb::Postgres(pool) = &self.state else { return claims };
        if claims.is_empty() {
            return claims;
        }
        let asked = tokio::time::timeout(ANNOUNCE_TIMEOUT, pause::ask_server(pool)).await;
        let Ok(Ok((asked_until, correction))) = asked else { return claims };
        let now = clock::now();
        if let Some(until) = asked_until.filter(|until| pause::is_on(*until, now)) {
            self.throttle.pace.pause_until(until, now);
        } else if correction.moved.abs() <= CLAIM_CLOCK_ERROR {
            return claims;
        }
        self.finished.extend(claims.into_iter().map(|claim| FinishedAttempt::unsent(claim, now)));
        Vec::new()
    }

    /// Facts reach the disk before the outcomes that caused them: after a crash between the two, the halt is still in force.
    pub(crate) async fn write_facts(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        while let Some(fact) = self.unwritten.first() {
            match fact {
                UnwrittenFact::Halt(halt) => {
                    control::write(&self.state, halt, now).await?;
                    control::clear::<VerifiedAccount>(&self.state).await?;
                }
                UnwrittenFact::Pause(until) => pause::ask(&self.state, *until, now).await?,
                UnwrittenFact::Verified => {
                    control::write(&self.state, &VerifiedAccount { account: self.account.clone() }, now).await?;
                }
            }
            self.unwritten.remove(0);
        }
        Ok(())
    }

    /// Reads changes by other processes: a halt that `resume` lifted or another instance recorded, the mapping of the queued
    /// leads, the first success of the credentials.
    pub(crate) async fn look_at_state(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.look_at_halt(now).await?;
        self.look_at_pause(now).await?;
        self.end_first_contact_holds(now).await?;
        restored_state::recognise_restored(&self.state, &self.tally.memory, now).await?;
        let longest = retry::longest_wait(&self.settings.delivery);
        ahead::correct_waits(&self.state, longest, self.admit.counting() == ClaimCounting::NewPeople, now).await?;
        let in_use = control::read::<MappingInUse>(&self.state).await?;
        let remapping = in_use.is_some_and(|in_use| in_use.fingerprint != self.mapping);
        if remapping != self.remapping {
            // Content made by another mapping is stale: the next poll makes it again.
            self.idle_until = None;
            if remapping {
                info!("[lead] has changed: queued leads wait until a poll has built them anew");
            }
        }
        self.remapping = remapping;
        self.throttle.listen(&self.state, now).await?;
        if !self.verified && self.halt.is_none() {
            self.verified = control::read::<VerifiedAccount>(&self.state)
                .await?
                .is_some_and(|verified| verified.account == self.account);
        }
        self.look_at = now + RECHECK;
        Ok(())
    }

    /// Leads that waited for a sign of life of their conversation go on once there is one.
    async fn end_first_contact_holds(&self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let leads = first_contact::end_holds(&self.state, &self.first_contacts, now).await?;
        if leads > 0 {
            info!(leads, "first contacts go on: what held them applies no more");
        }
        Ok(())
    }

    /// Logs when an operator pauses sending, and when it goes on.
    async fn look_at_pause(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let found = operator_pause::read(&self.state, now).await?;
        if found != self.operator_pause {
            match &found {
                Some(pause) => warn!(
                    scope = pause.names(),
                    since = %pause.since,
                    until = pause.until.map(|until| until.to_rfc3339()),
                    who = pause.who,
                    "paused by an operator: no first contact and no update is sent"
                ),
                None => info!("the pause by an operator is over"),
            }
            self.idle_until = None;
            self.operator_pause = found;
        }
        Ok(())
    }

    /// Reads the halt from the state: `resume` in another process lifts it, and new credentials lift it here.
    async fn look_at_halt(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let stored = control::read::<StoredHalt>(&self.state).await?;
        match stored {
            // If the halt's date stayed in the future, no later `resume` would count.
            Some(halt) if halt.account == self.account => {
                self.halt = Some(StoredHalt { since: horizon::as_of_now(halt.since, now), ..halt });
            }
            Some(_) => {
                control::clear::<StoredHalt>(&self.state).await?;
                info!("the credentials or the endpoint have changed: the halt is lifted");
                self.halt = None;
            }
            None => {
                let Some(halt) = &self.halt else { return Ok(()) };
                // An instance with other credentials removes a halt that is not its own. These credentials stay refused until an
                // operator resumes.
                if control::read::<ResumedAt>(&self.state).await?.is_some_and(|resumed| resumed.at >= halt.since) {
                    self.halt = None;
                    self.idle_until = None;
                    info!("the halt has been lifted");
                }
            }
        }
        Ok(())
    }
}
