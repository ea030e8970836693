//! What the deliverer tells all processes that share the state, and what it takes over from them: halts, pauses that Conversica
//! asked for, the mapping in use, the first success of the credentials.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use crate::rules::retry;
use crate::send::deliver::deliverer::{LeadDeliverer, RECHECK, UnwrittenFact};
use crate::store::claim::{FinishedAttempt, LeadClaim};
use crate::store::control::{self, MappingInUse, ResumedAt, StoredHalt, VerifiedAccount};
use crate::store::state_db::StateDb;
use crate::store::{ahead, pause, restored_state};
use crate::{clock, horizon};

/// How long a request's task tries to announce a pause: its outcome waits meanwhile.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells the other instances at once, before anything else is done about the answer. The deliverer writes the same pause once
/// more with the outcome, so that nothing is lost where this fails. An SQLite state has no other instance.
pub(crate) async fn announce_pause(state: &StateDb, wait: Duration) {
    if matches!(state, StateDb::Postgres(_)) {
        let now = clock::now();
        let _ = tokio::time::timeout(ANNOUNCE_TIMEOUT, pause::announce(state, now + wait, now)).await;
    }
}

/// A claim whose lease was written with a clock that was further off is not sent: another instance may take it for its own too
/// early. A machine that was paused learns the time only here.
const CLAIM_CLOCK_ERROR: TimeDelta = TimeDelta::seconds(5);

impl LeadDeliverer {
    /// Gives claims back unsent where Conversica has asked for a pause since they were made: until a claim is on the disk, many
    /// requests' time may pass. The deliverer gives them back as well if its clock was wrong when it made them. If the state does
    /// not answer, the requests are sent: their permits end in time.
    pub(crate) async fn withhold_in_pause(&mut self, claims: Vec<LeadClaim>) -> Vec<LeadClaim> {
        let StateDb::Postgres(pool) = &self.state else { return claims };
        if claims.is_empty() {
            return claims;
        }
        let asked = tokio::time::timeout(ANNOUNCE_TIMEOUT, pause::ask_server(pool)).await;
        let Ok(Ok((asked_until, correction))) = asked else { return claims };
        let now = clock::now();
        if let Some(until) = asked_until {
            self.throttle.pace.pause_until(until, now);
        } else if correction.moved.abs() <= CLAIM_CLOCK_ERROR {
            return claims;
        }
        self.finished.extend(claims.into_iter().map(|claim| FinishedAttempt::unsent(claim, now)));
        Vec::new()
    }

    /// Facts go to the disk before the outcomes that brought them about: after a crash in between, a halt still stands.
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

    /// What other processes may have changed: a halt that `resume` lifts or another instance has met, the mapping whose
    /// leads are in the queue, the credentials' first success.
    pub(crate) async fn look_at_state(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.look_at_halt(now).await?;
        restored_state::recognise_restored(&self.state, &self.tally.memory, now).await?;
        let longest = retry::longest_wait(&self.settings.delivery);
        ahead::correct_waits(&self.state, longest, self.admit.counts_introductions(), now).await?;
        let in_use = control::read::<MappingInUse>(&self.state).await?;
        let remapping = in_use.is_some_and(|in_use| in_use.fingerprint != self.mapping);
        if remapping != self.remapping {
            // Content made by another mapping is stale: the poll that is to come makes it anew.
            self.idle_until = None;
            if remapping {
                info!("[lead] has changed: what is in the queue waits until a poll has made it anew");
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

    /// The halt as the state has it: `resume` in another process lifts it, other credentials lift it here.
    async fn look_at_halt(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let stored = control::read::<StoredHalt>(&self.state).await?;
        match stored {
            // With a date that lies in the future, no later `resume` would count.
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
                // An instance with other credentials takes a halt away that is not its own. These credentials stay refused
                // until a person says otherwise.
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
