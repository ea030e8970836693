//! The poll's writes: gathered in batches, with sends kept back until the poll has decided about them.

mod missing;
mod odd;

use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::config::{DuplicateLeads, ServiceSettings};
use crate::conversica::lead::{LeadId, RowHash};
use crate::rules::content_hold::ContentHoldPolicy;
use crate::rules::diff::{self, RowDifference};
use crate::rules::guard::{ExpectedCount, MissingLeadPolicy, MissingVerdict, SendPolicy};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::{ChangeKind, KnownLead, LeadChange};
use crate::rules::mapping::MappedRow;
use crate::send::fence::PollerFence;
use crate::send::merge::MergeItem;
use crate::send::odd_values::OddValues;
use crate::send::odd_values::UNDECIDED;
use crate::send::poll_context::PollContext;
use crate::send::polled::PollOutcome;
use crate::send::step::StepWeight;
use crate::source::read::BATCH_ROWS;
use crate::store::held::StagedCount;
use crate::store::state_db::StateDb;
use crate::store::{consent, gone, held, lead, lead_address};

/// Gathers differences and writes them in batches; keeps sends back until the poll decides whether they may leave.
pub(crate) struct PollWriter<'a> {
    state: &'a StateDb,
    fence: PollerFence,
    settings: &'a ServiceSettings,
    now: DateTime<Utc>,
    started: Instant,
    admission: SendPolicy,
    losses: MissingLeadPolicy,
    /// Which contents are held.
    contents: ContentHoldPolicy,
    found: ExpectedCount,
    ready: Vec<LeadChange>,
    /// Rows whose comparison needs the delivered content.
    doubtful: Vec<(MappedRow, Option<KnownLead>)>,
    /// The newest consent entry when this poll began.
    words: i64,
    /// Sends that wait for the judgement at the end; never more than [`UNDECIDED`].
    staged: Vec<LeadChange>,
    /// Further staged sends, which are in the state.
    staged_rows: usize,
    /// Leads among them that a person has sent again: they need no further approval.
    resent: usize,
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
        let contents = match admission {
            SendPolicy::Baseline => ContentHoldPolicy::none(),
            SendPolicy::Send | SendPolicy::Hold(_) | SendPolicy::UpTo { .. } => ContentHoldPolicy::new(settings, now),
        };
        Self {
            state,
            fence,
            settings,
            now,
            started: Instant::now(),
            admission,
            losses,
            contents,
            found: ExpectedCount::default(),
            ready: Vec::new(),
            doubtful: Vec::new(),
            words,
            staged: Vec::new(),
            staged_rows: 0,
            resent: 0,
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

    /// Sends that a crashed poll has staged, and resends that an operator wants, join this poll's judgement, or follow this poll's
    /// policy if it needs none. They leave at its end, when their rows have been seen.
    pub(crate) async fn take_over(&mut self, staged: StagedCount) -> anyhow::Result<()> {
        match self.admission {
            SendPolicy::Hold(reason) => _ = held::hold_staged(self.state, reason, self.now).await?,
            SendPolicy::Baseline => _ = held::hold_staged(self.state, HoldReason::FirstRun, self.now).await?,
            SendPolicy::Send | SendPolicy::UpTo { .. } => self.staged_rows = staged.all - staged.resent,
        }
        // A person has decided about these: no other hold takes them.
        self.staged_rows += staged.resent;
        self.resent = staged.resent;
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
        let changes = self.ready.iter().chain(&self.staged).map(|change| &change.lead);
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
        match item {
            MergeItem::Quiet => Ok(()),
            MergeItem::Missing(known) => self.missing(known).await,
            MergeItem::Row(mapped, known) if diff::needs_delivered(&mapped, known.as_ref(), &self.contents) => {
                self.doubtful(*mapped, known).await
            }
            MergeItem::Row(mapped, known) => {
                let difference = diff::compare(*mapped, known.as_ref(), None, &self.contents);
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
            if !mapped.odd.is_empty() {
                let difference = diff::compare(mapped.clone(), known.as_ref(), delivered, &self.contents);
                if matches!(difference, RowDifference::Changed(_, ChangeKind::Stop)) {
                    self.keep_odd(mapped, known, delivered).await?;
                    continue;
                }
            }
            let difference = diff::compare(mapped, known.as_ref(), delivered, &self.contents);
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
            ChangeKind::Suppressed => self.polled.suppressed += 1,
            ChangeKind::Reverted => {}
        }
        if change.hold_reason.is_some() {
            self.polled.held += 1;
        }
        if !kind.sends() || change.urgent || change.hold_reason.is_some() {
            return self.write(change).await;
        }
        match self.admission {
            // Which lead of an address goes is decided when all of them are known.
            SendPolicy::Send if self.compares_addresses() => self.stage(change).await,
            SendPolicy::Send => self.write(change).await,
            SendPolicy::Hold(reason) => {
                change.hold_reason = Some(reason);
                self.polled.held += 1;
                self.joined += u64::from(reason == HoldReason::SourceShrank);
                self.write(change).await
            }
            SendPolicy::Baseline => {
                change.hold_reason = Some(HoldReason::FirstRun);
                self.write(change).await
            }
            SendPolicy::UpTo { .. } => self.stage(change).await,
        }
    }

    fn compares_addresses(&self) -> bool {
        self.settings.safety.duplicates != DuplicateLeads::Send
    }

    /// Keeps a send until all of them are judged: some thousand in memory, the others in the state, where they are not due.
    async fn stage(&mut self, change: LeadChange) -> anyhow::Result<()> {
        self.staged.push(change);
        if self.staged.len() < UNDECIDED {
            return Ok(());
        }
        self.staged_rows += self.staged.len();
        for mut change in std::mem::take(&mut self.staged) {
            change.hold_reason = Some(HoldReason::Staged);
            self.write(change).await?;
        }
        Ok(())
    }

    fn count_staged(&self) -> usize {
        self.staged_rows + self.staged.len()
    }

    /// Staged sends without the decision of a person.
    fn count_unasked(&self) -> usize {
        self.count_staged().saturating_sub(self.resent)
    }

    /// The judgement that the staged sends need approval.
    async fn hold_staged(&mut self, reason: HoldReason) -> anyhow::Result<()> {
        self.polled.held += self.count_staged() as u64;
        self.joined += if reason == HoldReason::SourceShrank { self.count_staged() as u64 } else { 0 };
        for mut change in std::mem::take(&mut self.staged) {
            change.hold_reason = Some(reason);
            self.write(change).await?;
        }
        self.flush().await?;
        if self.staged_rows > 0 {
            held::hold_staged(self.state, reason, self.now).await?;
        }
        self.staged_rows = 0;
        Ok(())
    }

    /// The judgement that the staged sends need no approval, after the rows that were read are written.
    async fn send_staged(&mut self) -> anyhow::Result<()> {
        if self.staged_rows > 0 {
            held::send_staged(self.state, self.now).await?;
        }
        self.staged_rows = 0;
        Ok(())
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
        if self.compares_addresses() {
            // Before the leads are due.
            lead_address::keep_changed(self.state, &self.ready, self.written_at()).await?;
        } else {
            lead_address::note_unkept(self.state).await?;
        }
        if self.settings.consent.keep_opt_outs {
            consent::upsert(self.state, &self.ready, self.words, self.now, self.written_at()).await?;
        } else {
            lead::upsert(self.state, &self.ready, self.now, self.written_at()).await?;
        }
        if self.compares_addresses() {
            lead_address::forget_former(self.state, &self.ready, self.written_at()).await?;
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
        let sends = self.count_staged() as u64;
        let created = if sends > 0 { self.polled.created } else { 0 };
        Ok(StepWeight { missing: self.found.missing, created, sends })
    }

    /// Sets by what the sends are judged that a step has staged.
    pub(crate) fn judge_by(&mut self, admission: SendPolicy) {
        self.admission = admission;
    }

    /// Writes changes that need no decision, and leaves the others, odd withdrawals included, to a full compare.
    pub(crate) async fn leave(mut self) -> anyhow::Result<()> {
        self.flush().await
    }

    /// Writes the gathered changes; returns whether all findings so far are decided as well, so that a poll may resume from here.
    pub(crate) async fn rest(&mut self) -> anyhow::Result<bool> {
        self.settle_doubtful().await?;
        let mut undecided = self.count_staged();
        if self.admission == SendPolicy::Send {
            // They wait for each other and for no judgement: the next poll takes them over.
            self.staged_rows += self.staged.len();
            for change in std::mem::take(&mut self.staged) {
                self.write(LeadChange { hold_reason: Some(HoldReason::Staged), ..change }).await?;
            }
            undecided = 0;
        }
        self.flush().await?;
        let ExpectedCount { present: _, missing: lost, withheld: before, back } = self.found;
        let decided = undecided == 0 && self.joined == 0 && !self.odd.is_waiting();
        Ok(decided && self.missing.is_empty() && self.withheld == 0 && lost + before + back == 0)
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
        let verdict = match self.losses.verdict(self.found) {
            // Enough leads are missing that some are held already.
            MissingVerdict::Gone if spares && self.withheld + self.found.withheld > 0 => MissingVerdict::Hold,
            verdict => verdict,
        };
        if spares && verdict == MissingVerdict::Gone {
            self.missing.clear();
        }
        match (verdict, &self.admission) {
            (MissingVerdict::Hold, _) => self.hold_missing().await?,
            (MissingVerdict::Gone, SendPolicy::UpTo { limit, reason }) if self.count_unasked() > *limit => {
                self.hold_staged(*reason).await?;
                self.let_missing_go().await?;
            }
            (MissingVerdict::Gone, _) => {
                if let SendPolicy::UpTo { .. } = self.admission {
                    self.polled.unasked = self.count_unasked() as u64;
                }
                // First the rows that were read: leads that the state still holds as missing after that are really missing.
                let staged = std::mem::take(&mut self.staged);
                self.staged_rows += if self.compares_addresses() { staged.len() } else { 0 };
                let hold_reason = self.compares_addresses().then_some(HoldReason::Staged);
                for change in staged {
                    self.write(LeadChange { hold_reason, ..change }).await?;
                }
                self.flush().await?;
                self.let_missing_go().await?;
                self.send_staged().await?;
            }
        }
        self.record_odd().await?;
        Ok(self.polled)
    }
}
