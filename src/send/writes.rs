//! The poll's writes: gathered in batches, with sends kept back until the poll has decided about them.

mod missing;
mod odd;

use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::config::ServiceSettings;
use crate::conversica::lead::{LeadId, RowHash};
use crate::rules::diff::{self, ChangeKind, RowDifference};
use crate::rules::guard::{ExpectedCount, MissingLeadPolicy, MissingVerdict, SendPolicy, StandingHold};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::{KnownLead, LeadChange};
use crate::rules::mapping::MappedRow;
use crate::send::fence::PollerFence;
use crate::send::merge::MergeItem;
use crate::send::odd_values::OddValues;
use crate::send::odd_values::UNDECIDED;
use crate::send::poll_context::PollContext;
use crate::send::polled::PollOutcome;
use crate::send::step::StepWeight;
use crate::source::read::BATCH_ROWS;
use crate::store::control::{self, KeptBack};
use crate::store::state_db::StateDb;
use crate::store::{consent, gone, held, lead};

/// Gathers differences and writes them in batches; keeps sends back until the poll decides whether they may leave.
pub(crate) struct PollWriter<'a> {
    state: &'a StateDb,
    fence: PollerFence,
    settings: &'a ServiceSettings,
    now: DateTime<Utc>,
    started: Instant,
    admission: SendPolicy,
    losses: MissingLeadPolicy,
    found: ExpectedCount,
    ready: Vec<LeadChange>,
    /// Rows whose comparison needs the delivered content.
    doubtful: Vec<(MappedRow, Option<KnownLead>)>,
    /// The newest consent entry when this poll began.
    words: i64,
    /// Sends that wait for the decision; never more than [`UNDECIDED`].
    undecided: Vec<LeadChange>,
    /// Further undecided sends that are held in the state, and since when; released if the poll decides to send.
    provisional: Option<(usize, DateTime<Utc>)>,
    /// Why and since when this poll holds undecided sends.
    kept_back: Option<(HoldReason, DateTime<Utc>)>,
    /// The hold of this poll, or an earlier one, is on the disk.
    hold_stands: bool,
    /// Sends held because the source shrank.
    joined: u64,
    /// Missing leads that wait for the decision; never more than [`UNDECIDED`].
    missing: Vec<LeadId>,
    /// Further missing leads that are held in the state.
    withheld: u64,
    /// Missing leads that the source was not expected to have.
    gone: Vec<LeadId>,
    returned: Vec<KnownLead>,
    reread: Vec<(LeadId, RowHash)>,
    /// Withdrawals by odd values, see [`odd`].
    pub(crate) odd: OddValues,
    pub(crate) polled: PollOutcome,
}

impl<'a> PollWriter<'a> {
    pub(crate) fn new(
        context: PollContext<'a>,
        fence: PollerFence,
        admission: SendPolicy,
        losses: MissingLeadPolicy,
        words: i64,
    ) -> Self {
        let PollContext { state, settings, now, .. } = context;
        Self {
            state,
            fence,
            settings,
            now,
            started: Instant::now(),
            admission,
            losses,
            found: ExpectedCount::default(),
            ready: Vec::new(),
            doubtful: Vec::new(),
            words,
            undecided: Vec::new(),
            provisional: None,
            kept_back: None,
            hold_stands: false,
            joined: 0,
            missing: Vec::new(),
            withheld: 0,
            gone: Vec::new(),
            returned: Vec::new(),
            reread: Vec::new(),
            odd: OddValues::default(),
            polled: PollOutcome::default(),
        }
    }

    /// Sends that a crashed poll left undecided join this poll's decision. If this poll keeps nothing back, they are released
    /// now.
    pub(crate) async fn take_over(&mut self, kept: &KeptBack) -> anyhow::Result<()> {
        let reason = match self.admission {
            SendPolicy::Send => {
                held::release_since(self.state, kept.reason, kept.since, self.now).await?;
                control::clear::<KeptBack>(self.state).await?;
                return Ok(());
            }
            SendPolicy::UpTo { reason, .. } | SendPolicy::Hold(reason) => reason,
            SendPolicy::Baseline => HoldReason::FirstRun,
        };
        if kept.reason != reason {
            held::rename(self.state, kept.reason, Some(kept.since), reason, self.now).await?;
            let renamed = KeptBack { reason, since: kept.since };
            control::write(self.state, &renamed, self.now).await?;
        }
        if let SendPolicy::UpTo { limit, .. } = self.admission {
            let leads = held::kept_since(self.state, reason, kept.since).await?;
            self.provisional = Some((usize::try_from(leads).unwrap_or(usize::MAX), kept.since));
            self.kept_back = Some((reason, kept.since));
            self.hold_surplus(limit, reason).await?;
        } else {
            control::clear::<KeptBack>(self.state).await?;
        }
        Ok(())
    }

    pub(crate) const fn state(&self) -> &'a StateDb {
        self.state
    }

    pub(crate) const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Whether a change of that lead is gathered and not written yet.
    pub(crate) fn has(&self, lead: &LeadId) -> bool {
        let changes = self.ready.iter().chain(&self.undecided).map(|change| &change.lead);
        let doubtful = self.doubtful.iter().map(|(mapped, _)| &mapped.lead);
        let (returned, reread) =
            (self.returned.iter().map(|known| &known.lead), self.reread.iter().map(|(lead, _)| lead));
        changes
            .chain(doubtful)
            .chain(self.odd.leads())
            .chain(returned)
            .chain(reread)
            .chain(&self.gone)
            .any(|gathered| gathered == lead)
    }

    /// Handles one result of the merge.
    pub(crate) async fn take(&mut self, item: MergeItem) -> anyhow::Result<()> {
        let conversations = self.settings.safety.conversation_changes;
        match item {
            MergeItem::Quiet => Ok(()),
            MergeItem::Missing(known) => self.missing(known).await,
            MergeItem::Row(mapped, known) if diff::needs_delivered(&mapped, known.as_ref(), conversations) => {
                self.doubtful(mapped, known).await
            }
            MergeItem::Row(mapped, known) => {
                let difference = diff::compare(mapped, known.as_ref(), None, conversations);
                self.different(difference, known).await
            }
        }
    }

    /// The present moment.
    fn written_at(&self) -> DateTime<Utc> {
        self.now + self.started.elapsed()
    }

    pub(crate) async fn doubtful(&mut self, mapped: MappedRow, known: Option<KnownLead>) -> anyhow::Result<()> {
        self.doubtful.push((mapped, known));
        if self.doubtful.len() >= BATCH_ROWS { self.settle_doubtful().await } else { Ok(()) }
    }

    async fn settle_doubtful(&mut self) -> anyhow::Result<()> {
        let doubtful = std::mem::take(&mut self.doubtful);
        let leads: Vec<LeadId> = doubtful.iter().map(|(mapped, _)| mapped.lead.clone()).collect();
        let delivered = lead::delivered(self.state, &leads).await?;
        for (mapped, known) in doubtful {
            let delivered = delivered.get(&mapped.lead).map(String::as_str);
            let conversations = self.settings.safety.conversation_changes;
            if !mapped.odd.is_empty() {
                let difference = diff::compare(mapped.clone(), known.as_ref(), delivered, conversations);
                if matches!(difference, RowDifference::Changed(_, ChangeKind::Stop)) {
                    self.keep_odd(mapped, known, delivered).await?;
                    continue;
                }
            }
            let difference = diff::compare(mapped, known.as_ref(), delivered, conversations);
            self.different(difference, known).await?;
        }
        Ok(())
    }

    pub(crate) async fn different(
        &mut self,
        difference: RowDifference,
        known: Option<KnownLead>,
    ) -> anyhow::Result<()> {
        if known.as_ref().is_some_and(KnownLead::is_withheld) {
            if self.losses.is_of_everything() {
                self.found.back += 1;
            } else if !matches!(&difference, RowDifference::Changed(change, _) if change.urgent) {
                // Only a full compare can tell whether the other leads are back too, and one is due soon.
                return Ok(());
            }
        } else if known.as_ref().is_some_and(|known| known.gone) {
            self.polled.back += 1;
        }
        match difference {
            RowDifference::None => Ok(()),
            RowDifference::Reread(lead, hash) => self.reread(lead, hash).await,
            RowDifference::Returned => self.returned(known).await,
            RowDifference::Changed(change, kind) => self.changed(change, kind).await,
        }
    }

    async fn changed(&mut self, mut change: LeadChange, kind: ChangeKind) -> anyhow::Result<()> {
        self.polled.changed += 1;
        match kind {
            ChangeKind::Create => self.polled.created += 1,
            ChangeKind::Update | ChangeKind::Stop => self.polled.updated += 1,
            ChangeKind::Invalid => self.polled.invalid += 1,
            ChangeKind::Reverted => {}
        }
        if change.hold_reason.is_some() {
            self.polled.held += 1;
        }
        if !kind.sends() || change.urgent || change.hold_reason.is_some() {
            return self.write(change).await;
        }
        match &self.admission {
            SendPolicy::Send => self.write(change).await,
            SendPolicy::Hold(reason) => {
                change.hold_reason = Some(*reason);
                self.hold(change).await
            }
            SendPolicy::Baseline => {
                change.hold_reason = Some(HoldReason::FirstRun);
                self.write(change).await
            }
            SendPolicy::UpTo { limit, reason } => {
                let (limit, reason) = (*limit, *reason);
                self.undecided.push(change);
                if self.hold_surplus(limit, reason).await? {
                    return Ok(());
                }
                if self.undecided.len() >= UNDECIDED {
                    let (provisional, since) = match self.provisional {
                        Some(provisional) => provisional,
                        None => {
                            let since = self.written_at();
                            let kept = KeptBack { reason, since };
                            control::write(self.state, &kept, self.now).await?;
                            (0, since)
                        }
                    };
                    self.provisional = Some((provisional + self.undecided.len(), since));
                    self.kept_back = Some((reason, since));
                    for mut change in std::mem::take(&mut self.undecided) {
                        change.hold_reason = Some(reason);
                        self.write(change).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Holds all undecided sends if they exceed the limit; returns whether it did.
    async fn hold_surplus(&mut self, limit: usize, reason: HoldReason) -> anyhow::Result<bool> {
        let provisional = self.provisional.map_or(0, |(leads, _)| leads);
        if provisional + self.undecided.len() <= limit {
            return Ok(false);
        }
        self.admission = SendPolicy::Hold(reason);
        self.polled.held += provisional as u64;
        let since = self.provisional.map_or_else(|| self.written_at(), |(_, since)| since);
        self.kept_back = Some((reason, since));
        self.begin_hold(reason).await?;
        self.hold_undecided(reason).await?;
        Ok(true)
    }

    async fn hold_undecided(&mut self, reason: HoldReason) -> anyhow::Result<()> {
        for mut change in std::mem::take(&mut self.undecided) {
            change.hold_reason = Some(reason);
            self.hold(change).await?;
        }
        Ok(())
    }

    async fn begin_hold(&mut self, reason: HoldReason) -> anyhow::Result<()> {
        if !self.hold_stands && control::read::<StandingHold>(self.state).await?.is_none() {
            control::write(self.state, &StandingHold { reason, since: self.now }, self.now).await?;
        }
        self.hold_stands = true;
        Ok(())
    }

    /// The hold is written before the first lead that it holds.
    async fn hold(&mut self, change: LeadChange) -> anyhow::Result<()> {
        self.begin_hold(change.hold_reason.unwrap_or(HoldReason::TooManyChanges)).await?;
        self.polled.held += 1;
        self.joined += u64::from(change.hold_reason == Some(HoldReason::SourceShrank));
        self.write(change).await
    }

    async fn write(&mut self, change: LeadChange) -> anyhow::Result<()> {
        self.ready.push(change);
        if self.ready.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn returned(&mut self, known: Option<KnownLead>) -> anyhow::Result<()> {
        self.polled.changed += 1;
        self.returned.extend(known);
        if self.returned.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn reread(&mut self, lead: LeadId, hash: RowHash) -> anyhow::Result<()> {
        self.reread.push((lead, hash));
        if self.reread.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if self.ready.is_empty() && self.gone.is_empty() && self.returned.is_empty() && self.reread.is_empty() {
            return Ok(());
        }
        self.fence.check(self.state).await?;
        if self.settings.consent.keep_opt_outs {
            consent::upsert(self.state, &self.ready, self.words, self.now, self.written_at()).await?;
        } else {
            lead::upsert(self.state, &self.ready, self.now, self.written_at()).await?;
        }
        self.ready.clear();
        let gone = std::mem::take(&mut self.gone);
        self.polled.stopped += self.take_for_gone(&gone).await?.stopped;
        lead::mark_returned(self.state, &self.returned, self.now).await?;
        self.returned.clear();
        consent::remember(self.state, &self.reread, self.words).await?;
        self.reread.clear();
        Ok(())
    }

    /// The sends and missing leads of a step; none of them is written yet.
    pub(crate) async fn weighed(&mut self) -> anyhow::Result<StepWeight> {
        self.settle_doubtful().await?;
        let sends = self.undecided.len() as u64;
        let created = if sends > 0 { self.polled.created } else { 0 };
        Ok(StepWeight { missing: self.found.missing, created, sends })
    }

    /// Applies the decision about the sends that a step has kept back.
    pub(crate) async fn admit(&mut self, admission: SendPolicy) -> anyhow::Result<()> {
        self.admission = admission;
        if let SendPolicy::UpTo { limit, reason } = self.admission {
            self.hold_surplus(limit, reason).await?;
        }
        Ok(())
    }

    /// Writes changes that need no decision, and leaves the others, odd withdrawals included, to a full compare.
    pub(crate) async fn leave(mut self) -> anyhow::Result<()> {
        self.flush().await
    }

    /// Writes the gathered changes; returns whether all findings so far are decided as well, so that a poll may resume from here.
    pub(crate) async fn rest(&mut self) -> anyhow::Result<bool> {
        self.settle_doubtful().await?;
        self.flush().await?;
        let Self { undecided, provisional, kept_back, missing, withheld, joined, found, .. } = self;
        let ExpectedCount { present: _, missing: lost, withheld: before, back } = *found;
        let decided = undecided.is_empty()
            && provisional.is_none()
            && kept_back.is_none()
            && *joined == 0
            && !self.odd.is_waiting();
        Ok(decided && missing.is_empty() && *withheld == 0 && lost + before + back == 0)
    }

    /// Finishes decisions about missing leads that a crash interrupted.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<()> {
        let on_delete = self.settings.source.on_delete;
        self.polled.stopped += gone::settle(self.state, on_delete, self.written_at()).await?;
        Ok(())
    }

    /// Whether leads seem to be missing whose rows may only have lost their keys: the poll decides nothing about them.
    pub(crate) fn spares_missing(&self) -> bool {
        self.polled.unnamed > 0 && self.found.missing > 0
    }

    /// Decides about all gathered changes. `present` counts the expected leads that the source still has.
    pub(crate) async fn finish(mut self, present: u64) -> anyhow::Result<PollOutcome> {
        self.settle_doubtful().await?;
        self.decide_odd(self.polled.rows).await?;
        if self.polled.changed > 0 || self.found != ExpectedCount::default() {
            self.fence.check(self.state).await?;
        }
        self.found.present = present;
        let spares = self.spares_missing();
        match self.losses.verdict(self.found) {
            MissingVerdict::Hold => self.hold_missing().await?,
            // Enough leads are missing that some are held already.
            MissingVerdict::Gone if spares && self.withheld + self.found.withheld > 0 => self.hold_missing().await?,
            MissingVerdict::Gone => {
                if matches!(self.admission, SendPolicy::UpTo { .. }) {
                    let provisional = self.provisional.map_or(0, |(leads, _)| leads);
                    self.polled.unasked = (provisional + self.undecided.len()) as u64;
                }
                // First the rows that were read: leads that the state still holds as missing after that are really missing.
                for change in std::mem::take(&mut self.undecided) {
                    self.write(change).await?;
                }
                self.flush().await?;
                if spares {
                    self.missing.clear();
                }
                self.let_missing_go().await?;
            }
        }
        if let (SendPolicy::UpTo { reason, .. }, Some((_, since))) = (&self.admission, self.provisional) {
            held::release_since(self.state, *reason, since, self.now).await?;
        }
        if self.provisional.is_some() {
            // The decision is made either way.
            control::clear::<KeptBack>(self.state).await?;
        }
        self.record_odd().await?;
        Ok(self.polled)
    }
}
