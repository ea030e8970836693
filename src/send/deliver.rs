//! Delivers due leads: claims them, posts them, records the outcomes. One [`LeadDeliverer::step`] does one round of bookkeeping;
//! [`LeadDeliverer::wait`] waits until there is a reason for the next.
//!
//! The deliverer never claims more leads than the limit of requests in flight, and frees a claim only when its outcome is on
//! disk: a crash can repeat no more than the requests in flight.

mod deliverer;
mod ending;
mod refusal_log;
mod shared_facts;

pub use deliverer::LeadDeliverer;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::client::permit::SendPermit;
use crate::client::{ConversicaClient, RequestAttempt};
use crate::config::ServiceSettings;
use crate::conversica::outcome::{OutcomeClass, asks_for_less};
use crate::rules::admission::ClaimFilter;
use crate::rules::first_contact::FirstContactPolicy;
use crate::rules::lead_claim::{FinishedAttempt, LeadClaim};
use crate::rules::mapping::LeadMapping;
use crate::rules::retry::{self, NextStep};
use crate::rules::suppression_ground::SuppressionScope;
use crate::rules::{guard, lease};
use crate::send::account;
use crate::send::tally::RunTally;
use crate::send::throttle::DeliveryThrottle;
use crate::store::claimed_records::ClaimedRecords;
use crate::store::control::{self, StoredHalt, StoredPace, VerifiedAccount};
use crate::store::delivery::{ClaimRequest, DeliveryRound, OptOuts};
use crate::store::state_db::StateDb;
use crate::store::{budget, conversation_progress, due, restored_state};
use crate::{clock, horizon};
use deliverer::{RECHECK, UnwrittenFact};
use refusal_log::RefusalLog;

/// How soon the deliverer checks again for leads that another instance was claiming.
const CONTENTION_PAUSE: Duration = Duration::from_millis(100);

/// Whether the deliverer may claim more leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimIntake {
    Open,
    /// Finish the requests in flight; start none.
    Closed,
}

/// Progress after one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStep {
    pub claimed: usize,
    pub recorded: usize,
    /// Requests in flight.
    pub in_flight: usize,
    pub halted: bool,
}

impl LeadDeliverer {
    /// The poll rings `wake` when leads have become due.
    pub async fn new(
        state: StateDb,
        settings: &ServiceSettings,
        tally: Arc<RunTally>,
        wake: Arc<Notify>,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let client =
            ConversicaClient::new(&settings.conversica, settings.delivery.timeout, settings.delivery.concurrency)?;
        let account = account::fingerprint(&state, &settings.conversica, now).await?;
        let known = control::read::<VerifiedAccount>(&state).await?;
        let verified = known.as_ref().is_some_and(|known| known.account == account);
        // The stored pace of another account says nothing about this one.
        let noted = control::read::<StoredPace>(&state).await?.filter(|_| verified || known.is_none());
        let test_leads = due::test_leads_for_the_crm(&state, settings.conversica.test_lead_limit).await?;
        let admit = guard::admit(settings, test_leads);
        budget::note(&state, settings, now).await?;
        conversation_progress::note_receiver(&state, settings, now).await?;
        let mut deliverer = Self {
            state,
            client,
            settings: settings.clone(),
            account,
            verified,
            halt: None,
            operator_pause: None,
            unwritten: Vec::new(),
            requests: JoinSet::new(),
            finished: Vec::new(),
            claimed: ClaimedRecords::default(),
            throttle: DeliveryThrottle::resume(&settings.delivery, noted, now),
            admit,
            first_contacts: FirstContactPolicy::of(settings),
            mapping: LeadMapping::new(settings).fingerprint().to_string(),
            remapping: false,
            look_at: now,
            hurry: false,
            capped_until: None,
            idle_until: None,
            tally,
            wake,
            reported: Vec::new(),
            refusals: RefusalLog::default(),
        };
        deliverer.look_at_state(now).await?;
        Ok(deliverer)
    }

    /// A deliverer for changed settings, made while no request is in flight. It recognises an account that was refused, and sends
    /// the first request of a new account alone.
    pub async fn renewed(&self, settings: &ServiceSettings, now: DateTime<Utc>) -> anyhow::Result<Self> {
        Self::new(self.state.clone(), settings, self.tally.clone(), self.wake.clone(), now).await
    }

    /// The halt in force, if any.
    pub fn halt(&self) -> Option<&StoredHalt> {
        self.halt.as_ref()
    }

    /// Whether an operator has paused anything.
    pub fn is_paused(&self) -> bool {
        self.operator_pause.is_some()
    }

    /// One round: records finished requests, claims due leads and sends them.
    ///
    /// # Errors
    /// The database's. The failure loses nothing: outcomes and their slots wait for the next round.
    pub async fn step(&mut self, intake: ClaimIntake, now: DateTime<Utc>) -> anyhow::Result<DeliveryStep> {
        while let Some(joined) = self.requests.try_join_next() {
            self.finish(joined, now);
        }
        self.write_facts(now).await?;
        if is_over(self.look_at, now) {
            self.look_at_state(now).await?;
        }
        if !self.finished.is_empty() {
            // The outcome may make a lead due before the next planned check of the queue.
            self.idle_until = None;
        }
        if self.hurry {
            due::hurry_withdrawals(&self.state, now).await?;
            self.hurry = false;
        }
        let wanted = if intake == ClaimIntake::Open { self.wanted(now) } else { 0 };
        let recorded = self.finished.len();
        let mut claims = Vec::new();
        // The permit counts from before the claim's statement is sent: the database may answer slowly.
        let mut permitted_until = Duration::ZERO;
        if wanted > 0 {
            restored_state::recognise_restored(&self.state, &self.tally.memory, now).await?;
        }
        if recorded > 0 || wanted > 0 {
            let lease = lease::duration(self.settings.delivery.timeout);
            permitted_until = clock::since_boot().saturating_add(lease::time_to_write(lease));
            let admit = if self.remapping { &ClaimFilter::Withdrawals } else { &self.admit };
            let opt_outs = OptOuts::of(&self.settings.consent);
            let people = SuppressionScope::of(&self.settings.consent);
            let first_contacts = &self.first_contacts;
            let wanted = ClaimRequest { leads: wanted, admit, alone: !self.verified, opt_outs, people, first_contacts };
            let round = DeliveryRound { finished: &self.finished, wanted, now, lease };
            claims = self.claimed.record_and_claim(&self.state, round).await?;
            self.finished.clear();
            claims = self.withhold_in_pause(claims).await;
        }
        let claimed = claims.len();
        self.throttle.pace.take(claimed);
        // At once: no step that can fail may come between a claim on the disk and its request.
        for claim in claims {
            self.send(claim, SendPermit::until(permitted_until), now);
        }
        if claimed < wanted {
            self.rest(now).await?;
        }
        self.throttle.note(&self.state, self.capped_until, now).await?;
        Ok(DeliveryStep { claimed, recorded, in_flight: self.requests.len(), halted: self.halt.is_some() })
    }

    /// Waits until a request has finished, a lead is due, the pace has a token, or `wake` rings; at most a second.
    pub async fn wait(&mut self, now: DateTime<Utc>) {
        let until = self.next_event(now);
        let pause = (until - now).to_std().unwrap_or(Duration::ZERO).min(RECHECK);
        let wake = self.wake.clone();
        tokio::select! {
            Some(joined) = self.requests.join_next(), if !self.requests.is_empty() => {
                self.finish(joined, crate::clock::now());
            }
            () = wake.notified() => self.idle_until = None,
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Whether due leads have to wait for Conversica: it fails, or has asked for a pause.
    pub fn is_obstructed(&self, now: DateTime<Utc>) -> bool {
        self.throttle.is_obstructed(now)
    }

    /// When the next lead that the deliverer may claim is due, if any waits.
    pub async fn next_due_at(&mut self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
        let admit = if self.remapping { &ClaimFilter::Withdrawals } else { &self.admit };
        let next = due::next_due_at(&self.state, admit, now).await?;
        if self.capped_until.is_none()
            && let Some(until) = next.capped_until
        {
            info!(%until, "a cap on first contacts is reached: the next new lead waits");
        }
        self.capped_until = next.capped_until;
        Ok(next.at)
    }

    /// Until when first contacts wait because a cap is reached.
    pub fn capped_until(&self) -> Option<DateTime<Utc>> {
        self.capped_until
    }

    /// Sets how many instances share the state and the pace.
    pub fn share_with(&mut self, instances: u32, now: DateTime<Utc>) {
        self.throttle.share(instances, now);
    }

    /// Makes the next step check the queue: new leads are in it.
    pub fn look_again(&mut self) {
        self.idle_until = None;
    }

    fn next_event(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.halt.is_some() {
            return now + RECHECK;
        }
        if let Some(until) = self.idle_until.filter(|until| !is_over(*until, now)) {
            return until;
        }
        let pace = self.throttle.pace.next_at(now);
        let probe = self.throttle.breaker.next_probe_at().unwrap_or(now).min(now + RECHECK);
        if self.slots(now) <= self.requests.len() && probe <= now {
            // Every slot is in use: only a finished request changes that.
            return now + RECHECK;
        }
        pace.max(probe)
    }

    fn slots(&self, now: DateTime<Utc>) -> usize {
        let concurrency = if self.verified { self.settings.delivery.concurrency as usize } else { 1 };
        self.throttle.breaker.slots(concurrency, now)
    }

    fn wanted(&mut self, now: DateTime<Utc>) -> usize {
        if self.halt.is_some() || self.idle_until.is_some_and(|until| !is_over(until, now)) {
            return 0;
        }
        let free = self.slots(now).saturating_sub(self.requests.len());
        free.min(self.throttle.pace.available(now))
    }

    /// Plans the next check after a round that claimed fewer leads than it could.
    async fn rest(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        if let ClaimFilter::TestLeads(limit) = self.admit
            && !self.remapping
        {
            let held = due::hold_surplus_tests(&self.state, limit, now).await?;
            if held > 0 {
                warn!(leads = held, limit, "held: the Test Lead Token is set, and test_lead_limit is reached");
                return Ok(());
            }
        }
        let next = self.next_due_at(now).await?;
        // Another instance is claiming the leads that are due and were not claimed here.
        let soonest = now + CONTENTION_PAUSE;
        self.idle_until = Some(next.map_or(now + RECHECK, |next| next.clamp(soonest, now + RECHECK)));
        Ok(())
    }

    fn send(&mut self, claim: LeadClaim, permit: SendPermit, now: DateTime<Utc>) {
        let (client, state) = (self.client.clone(), self.state.clone());
        self.requests.spawn(async move {
            let mut claim = claim;
            let attempt = client.post_permitted(std::mem::take(&mut claim.body), &permit, now).await;
            if let Some(wait) = attempt.as_ref().and_then(asked_pause) {
                shared_facts::announce_pause(&state, wait).await;
            }
            (claim, attempt)
        });
    }

    fn finish(
        &mut self,
        joined: Result<(LeadClaim, Option<RequestAttempt>), tokio::task::JoinError>,
        now: DateTime<Utc>,
    ) {
        // A task that panics loses its claim's name: the claim stays in flight until its lease expires or the next start recovers
        // it.
        let Ok((claim, attempt)) = joined else {
            error!("a request's task failed; its lead stays claimed until the lease is over");
            return;
        };
        let Some(attempt) = attempt else {
            warn!(
                id = claim.lead.id,
                "a claim was too old when its request was to leave: nothing was sent, the lead is due again"
            );
            self.finished.push(FinishedAttempt::unsent(claim, now));
            return;
        };
        self.tally.add(attempt.class, attempt.duration);
        if attempt.class == OutcomeClass::Rejected {
            self.refusals.rejected(&claim.lead, attempt.http_status, now);
        }
        let next = self.consequence(&claim, &attempt, now);
        self.finished.push(FinishedAttempt {
            lead: claim.lead,
            claimed_at: claim.claimed_at,
            attempt: claim.attempt,
            class: attempt.class,
            http_status: attempt.http_status,
            detail: attempt.detail,
            duration: Some(attempt.duration),
            at: now,
            sent_hash: claim.sent_hash,
            next,
        });
    }

    /// The effects of an attempt: on its lead (returned), and on all delivery (pace, breaker, halt).
    fn consequence(&mut self, claim: &LeadClaim, attempt: &RequestAttempt, now: DateTime<Utc>) -> NextStep {
        self.report_fault(attempt);
        let delivery = &self.settings.delivery;
        match attempt.class {
            OutcomeClass::Accepted => {
                self.throttle.pace.recover();
                self.answered();
                if !self.verified {
                    self.verified = true;
                    self.unwritten.push(UnwrittenFact::Verified);
                }
                NextStep::Done
            }
            OutcomeClass::Rejected => {
                self.answered();
                NextStep::Rejected
            }
            OutcomeClass::Transient | OutcomeClass::Ambiguous => {
                if asks_for_less(attempt.class, attempt.http_status) {
                    self.throttle.pace.slow_down(attempt.retry_after, now);
                }
                if let Some(wait) = asked_pause(attempt) {
                    self.unwritten.push(UnwrittenFact::Pause(now + wait));
                }
                if self.throttle.breaker.failed(&delivery.retry, now) {
                    let detail =
                        attempt.http_status.map_or("no answer".to_owned(), |status| format!("status {status}"));
                    warn!(detail, "Conversica does not answer well; trying one lead at a time until it does");
                }
                // Not by the wall clock, which may have been set while the request was in flight.
                let (number, failing_for) = (claim.attempt, claim.failing_for().saturating_add(attempt.duration));
                match attempt.class {
                    // A withdrawal of consent retries on its own schedule, and nothing holds it.
                    _ if claim.urgent => retry::next(
                        &retry::for_withdrawals(&delivery.retry),
                        number,
                        failing_for,
                        attempt.retry_after,
                        now,
                    ),
                    OutcomeClass::Ambiguous => retry::next_unknown(delivery, number, failing_for, now),
                    _ => retry::next(&delivery.retry, number, failing_for, attempt.retry_after, now),
                }
            }
            OutcomeClass::Halting => {
                self.stop_everything(attempt, now);
                NextStep::Untried
            }
        }
    }

    /// Warns of each kind of failed connection once, until Conversica answers.
    fn report_fault(&mut self, attempt: &RequestAttempt) {
        let Some(fault) = attempt.fault.as_ref().filter(|fault| !self.reported.contains(fault)) else { return };
        warn!(error = fault.what, cure = fault.cure, "no connection to Conversica; leads wait and are tried again");
        self.reported.push(fault.clone());
    }

    fn answered(&mut self) {
        self.reported.clear();
        if self.throttle.breaker.answered() {
            self.hurry = true;
            info!("Conversica answers again");
        }
    }

    fn stop_everything(&mut self, attempt: &RequestAttempt, now: DateTime<Utc>) {
        let Some(reason) = attempt.halt.filter(|_| self.halt.is_none()) else { return };
        let halt = StoredHalt { reason, since: now, detail: attempt.detail.clone(), account: self.account.clone() };
        error!(
            reason = reason.name(),
            http_status = attempt.http_status,
            cure = reason.cure(),
            "halted: nothing is sent until this is fixed"
        );
        // After a halt, the next request goes alone, whatever these credentials achieved before.
        self.verified = false;
        self.unwritten.push(UnwrittenFact::Halt(halt.clone()));
        self.halt = Some(halt);
    }
}

/// The pause that Conversica has asked of every instance.
fn asked_pause(attempt: &RequestAttempt) -> Option<Duration> {
    attempt.retry_after.filter(|_| asks_for_less(attempt.class, attempt.http_status))
}

/// Whether an idle time has ended. None lasts longer than [`RECHECK`], so a clock that was set back ends it too.
fn is_over(until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    horizon::is_over(until, RECHECK, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_does_not_make_a_rest_of_a_second_one_of_an_hour() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert!(!is_over(now + RECHECK, now));
        assert!(is_over(now, now));
        assert!(is_over(now + RECHECK, now - chrono::TimeDelta::hours(1)));
    }
}
