//! Delivers what is due: claims leads, posts them, records what came of it. One [`Deliverer::step`] does one round of
//! bookkeeping; [`Deliverer::wait`] waits until there is a reason for the next.
//!
//! Never more leads are claimed than requests may be in flight, and a claim is given up only when its outcome is on the
//! disk: so a crash can repeat no more than what was in flight.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::config::Settings;
use crate::conversica::client::{Attempt, Client};
use crate::conversica::outcome::Class;
use crate::db::Db;
use crate::state::control::{self, Halt, Verified};
use crate::state::delivery::{self, Claim, Finished, Next};
use crate::sync::account;
use crate::sync::breaker::Breaker;
use crate::sync::pace::Pace;
use crate::sync::retry;
use crate::sync::tally::Tally;

/// How long the queue is left alone when nothing in it was due: operator commands in other processes are noticed then.
const RECHECK: Duration = Duration::from_secs(1);
/// A claim outlives its request's time limit by this, for connecting and for writing the outcome down.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Whether leads may still be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    Open,
    /// Finish what is in flight, begin nothing.
    Closed,
}

/// Where a step left things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub claimed: usize,
    pub recorded: usize,
    /// Requests on their way.
    pub in_flight: usize,
    pub halted: bool,
}

pub struct Deliverer {
    state: Db,
    client: Client,
    settings: Settings,
    /// Fingerprint of the credentials in use.
    account: String,
    /// Whether these credentials have ever had a 2xx; until then, one request at a time.
    verified: bool,
    halt: Option<Halt>,
    /// A halt or a first 2xx that is not on the disk yet.
    unwritten: Vec<Unwritten>,
    requests: JoinSet<(Claim, Attempt)>,
    finished: Vec<Finished>,
    pace: Pace,
    breaker: Breaker,
    /// Nothing was due when last looked; look again then.
    idle_until: Option<DateTime<Utc>>,
    tally: Arc<Tally>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
enum Unwritten {
    Halt(Halt),
    Verified,
}

impl Deliverer {
    /// `wake` is rung when leads have become due.
    pub async fn new(
        state: Db,
        settings: &Settings,
        tally: Arc<Tally>,
        wake: Arc<Notify>,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let client = Client::new(&settings.conversica, settings.delivery.timeout, settings.delivery.concurrency)?;
        let account = account::fingerprint(&state, &settings.conversica, now).await?;
        let verified = control::read::<Verified>(&state).await?.is_some_and(|verified| verified.account == account);
        let mut deliverer = Self {
            state,
            client,
            settings: settings.clone(),
            account,
            verified,
            halt: None,
            unwritten: Vec::new(),
            requests: JoinSet::new(),
            finished: Vec::new(),
            pace: Pace::new(settings.delivery.requests_per_second, now),
            breaker: Breaker::new(&settings.delivery.breaker),
            idle_until: None,
            tally,
            wake,
        };
        deliverer.look_at_halt().await?;
        Ok(deliverer)
    }

    /// The halt that stands, if one does.
    pub fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// One round: writes down what has finished, claims what is due and may leave, and lets it leave.
    ///
    /// # Errors
    /// The database's. Nothing is lost by it: outcomes wait for the next round, and so do their slots.
    pub async fn step(&mut self, intake: Intake, now: DateTime<Utc>) -> anyhow::Result<Step> {
        while let Some(joined) = self.requests.try_join_next() {
            self.finish(joined, now);
        }
        self.write_facts(now).await?;
        if self.halt.is_some() && self.idle_until.is_none_or(|until| until <= now) {
            self.look_at_halt().await?;
            self.idle_until = Some(now + RECHECK);
        }
        if !self.finished.is_empty() {
            // What is recorded now may be due before the queue was to be looked at again.
            self.idle_until = None;
        }
        let wanted = if intake == Intake::Open { self.wanted(now) } else { 0 };
        let recorded = self.finished.len();
        let mut claims = Vec::new();
        if recorded > 0 || wanted > 0 {
            let lease = self.settings.delivery.timeout + LEASE_MARGIN;
            claims = delivery::record_and_claim(&self.state, &self.finished, wanted, now, lease).await?;
            self.finished.clear();
        }
        let claimed = claims.len();
        self.pace.take(claimed);
        // At once: nothing that can fail may stand between a claim on the disk and its request.
        for claim in claims {
            self.send(claim, now);
        }
        if claimed < wanted {
            self.rest(now).await?;
        }
        Ok(Step { claimed, recorded, in_flight: self.requests.len(), halted: self.halt.is_some() })
    }

    /// Waits until something has finished, something is due, a token is there, or somebody rings; at most a second.
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

    /// Whether what is due has to wait for Conversica: it fails, or has asked for a pause.
    pub fn is_obstructed(&self, now: DateTime<Utc>) -> bool {
        self.breaker.is_open() || self.pace.is_paused(now)
    }

    /// Forgets that nothing was due: somebody has put something in.
    pub fn look_again(&mut self) {
        self.idle_until = None;
    }

    /// Waits for what is in flight, writes it down, begins nothing. Requests that are still on their way at `deadline` are
    /// left as claims, which the next start records as ambiguous.
    pub async fn drain(&mut self, deadline: tokio::time::Instant) -> anyhow::Result<()> {
        loop {
            let step = self.step(Intake::Closed, crate::clock::now()).await;
            if self.requests.is_empty() && self.finished.is_empty() {
                return step.map(drop);
            }
            if tokio::time::Instant::now() >= deadline {
                warn!(
                    in_flight = self.requests.len(),
                    "stopped with requests on their way; the next start records them as ambiguous"
                );
                return Ok(());
            }
            if step.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            } else {
                let _ = tokio::time::timeout_at(deadline, async {
                    if let Some(joined) = self.requests.join_next().await {
                        self.finish(joined, crate::clock::now());
                    }
                })
                .await;
            }
        }
    }

    fn next_event(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.halt.is_some() {
            return now + RECHECK;
        }
        if let Some(until) = self.idle_until.filter(|until| *until > now) {
            return until;
        }
        let pace = self.pace.next_at(now);
        let probe = self.breaker.next_probe_at().unwrap_or(now);
        if self.slots(now) <= self.requests.len() && probe <= now {
            // Every slot is taken: only a finished request changes that.
            return now + RECHECK;
        }
        pace.max(probe)
    }

    fn slots(&self, now: DateTime<Utc>) -> usize {
        let concurrency = if self.verified { self.settings.delivery.concurrency as usize } else { 1 };
        self.breaker.slots(concurrency, now)
    }

    fn wanted(&mut self, now: DateTime<Utc>) -> usize {
        if self.halt.is_some() || self.idle_until.is_some_and(|until| until > now) {
            return 0;
        }
        let free = self.slots(now).saturating_sub(self.requests.len());
        free.min(self.pace.available(now))
    }

    /// Nothing more is due: until when?
    async fn rest(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        let next = delivery::next_due_at(&self.state).await?;
        self.idle_until = Some(next.map_or(now + RECHECK, |next| next.min(now + RECHECK)));
        Ok(())
    }

    fn send(&mut self, claim: Claim, now: DateTime<Utc>) {
        let client = self.client.clone();
        self.requests.spawn(async move {
            let mut claim = claim;
            let attempt = client.post(std::mem::take(&mut claim.body), now).await;
            (claim, attempt)
        });
    }

    fn finish(&mut self, joined: Result<(Claim, Attempt), tokio::task::JoinError>, now: DateTime<Utc>) {
        // A task that panics has lost its claim's name: the claim stays in flight, and its lease or the next start ends it.
        let Ok((claim, attempt)) = joined else {
            error!("a request's task failed; its lead stays claimed until the lease is over");
            return;
        };
        self.tally.add(attempt.class);
        let next = self.consequence(&claim, &attempt, now);
        self.finished.push(Finished {
            lead: claim.lead,
            claimed_at: claim.claimed_at,
            attempt: claim.attempt,
            class: attempt.class,
            http_status: attempt.http_status,
            detail: attempt.detail,
            duration: attempt.duration,
            at: now,
            sent_hash: claim.sent_hash,
            next,
        });
    }

    /// What an attempt means: for its lead (returned), and for everybody (pace, breaker, halt).
    fn consequence(&mut self, claim: &Claim, attempt: &Attempt, now: DateTime<Utc>) -> Next {
        let delivery = &self.settings.delivery;
        match attempt.class {
            Class::Accepted => {
                self.pace.recover();
                self.answered();
                if !self.verified {
                    self.verified = true;
                    self.unwritten.push(Unwritten::Verified);
                }
                Next::Done
            }
            Class::Rejected => {
                self.answered();
                Next::Rejected
            }
            Class::Transient | Class::Ambiguous => {
                if matches!(attempt.http_status, Some(429 | 503)) || attempt.class == Class::Ambiguous {
                    self.pace.slow_down(attempt.retry_after, now);
                }
                if self.breaker.failed(&delivery.retry, now) {
                    let detail =
                        attempt.http_status.map_or("no answer".to_owned(), |status| format!("status {status}"));
                    warn!(detail, "Conversica does not answer well; trying one lead at a time until it does");
                }
                retry::next(&delivery.retry, claim.attempt, claim.first_failed_at, attempt.retry_after, now)
            }
            Class::Halting => {
                self.stop_everything(attempt, now);
                Next::Untried
            }
        }
    }

    fn answered(&mut self) {
        if self.breaker.answered() {
            info!("Conversica answers again");
        }
    }

    fn stop_everything(&mut self, attempt: &Attempt, now: DateTime<Utc>) {
        let Some(reason) = attempt.halt.filter(|_| self.halt.is_none()) else { return };
        let halt = Halt { reason, since: now, detail: attempt.detail.clone(), account: self.account.clone() };
        error!(
            reason = reason.name(),
            http_status = attempt.http_status,
            cure = reason.cure(),
            "halted: nothing is sent until this is mended"
        );
        // Whatever these credentials were worth before, the next request goes alone.
        self.verified = false;
        self.unwritten.push(Unwritten::Halt(halt.clone()));
        self.halt = Some(halt);
    }

    /// Facts go to the disk before the outcomes that brought them about: after a crash in between, a halt still stands.
    async fn write_facts(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        while let Some(fact) = self.unwritten.first() {
            match fact {
                Unwritten::Halt(halt) => {
                    control::write(&self.state, halt, now).await?;
                    control::clear::<Verified>(&self.state).await?;
                }
                Unwritten::Verified => {
                    control::write(&self.state, &Verified { account: self.account.clone() }, now).await?;
                }
            }
            self.unwritten.remove(0);
        }
        Ok(())
    }

    /// The halt as the state has it: `resume` in another process lifts it, other credentials lift it here.
    async fn look_at_halt(&mut self) -> anyhow::Result<()> {
        let stored = control::read::<Halt>(&self.state).await?;
        match stored {
            Some(halt) if halt.account == self.account => self.halt = Some(halt),
            Some(_) => {
                control::clear::<Halt>(&self.state).await?;
                info!("the credentials or the endpoint have changed: the halt is lifted");
                self.halt = None;
            }
            None => {
                if self.halt.take().is_some() {
                    info!("the halt has been lifted");
                }
            }
        }
        Ok(())
    }
}
