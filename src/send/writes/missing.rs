//! Leads whose rows are missing: the poll marks them gone, or holds them because so large a number is more likely a mistake.

use crate::config::OnDelete;
use crate::conversica::lead::LeadId;
use crate::rules::guard::{ExpectedCount, MissingVerdict};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::KnownLead;
use crate::send::odd_values::UNDECIDED;
use crate::send::writes::PollWriter;
use crate::source::read::BATCH_ROWS;
use crate::store::control::{self, UnaskedLosses};
use crate::store::gone::{self, StopOutcome};
use crate::store::held::{self, HeldSelection, ReleaseKind};
use crate::store::lead;

impl PollWriter<'_> {
    pub(crate) async fn missing(&mut self, known: KnownLead) -> anyhow::Result<()> {
        if known.is_withheld() {
            self.found.missing += 1;
            self.found.withheld += 1;
            return Ok(());
        }
        if known.gone {
            return Ok(());
        }
        if !known.is_expected() {
            self.polled.changed += 1;
            self.polled.gone += 1;
            self.gone.push(known.lead);
            return if self.gone.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) };
        }
        self.found.missing += 1;
        self.missing.push(known.lead);
        if self.missing.len() >= UNDECIDED { self.withhold().await } else { Ok(()) }
    }

    /// Holds the missing leads that are in memory. If they turn out to be really gone, the poll releases them.
    async fn withhold(&mut self) -> anyhow::Result<()> {
        self.fence.check(self.state).await?;
        for leads in std::mem::take(&mut self.missing).chunks(BATCH_ROWS) {
            self.withheld += gone::withhold(self.state, leads, self.now, self.written_at()).await?;
        }
        Ok(())
    }

    /// Whether the poll would hold the missing leads because of their number, with none of them written yet. For a partial
    /// compare, `present` counts the leads found in that part.
    pub(crate) fn misses_much(&self, present: u64) -> bool {
        let found = ExpectedCount { present, ..self.found };
        self.withheld == 0 && self.losses.verdict(found) == MissingVerdict::Hold
    }

    /// Most leads are missing. The poll also holds its staged sends: if the key column has changed, each person would otherwise be
    /// contacted again.
    pub(crate) async fn hold_missing(&mut self) -> anyhow::Result<()> {
        // The operator decides now; losses after that decision count from zero.
        control::clear::<UnaskedLosses>(self.state).await?;
        self.hold_staged(HoldReason::SourceShrank).await?;
        self.withhold().await?;
        self.polled.changed += self.withheld;
        self.polled.held += self.withheld;
        Ok(())
    }

    /// A missing lead may have been approved and contacted since this poll read it.
    pub(crate) async fn take_for_gone(&self, leads: &[LeadId]) -> anyhow::Result<StopOutcome> {
        match self.settings.source.on_delete {
            OnDelete::Ignore => {
                lead::mark_gone(self.state, leads, self.now).await?;
                Ok(StopOutcome { stopped: 0, gone: leads.len() as u64 })
            }
            OnDelete::StopMessaging => Ok(gone::stop(self.state, leads, self.written_at()).await?),
        }
    }

    pub(crate) async fn let_missing_go(&mut self) -> anyhow::Result<()> {
        self.polled.lost += self.missing.len() as u64 + self.withheld;
        for leads in std::mem::take(&mut self.missing).chunks(BATCH_ROWS) {
            let told = self.take_for_gone(leads).await?;
            self.polled.gone += told.stopped + told.gone;
            self.polled.stopped += told.stopped;
            self.polled.changed += leads.len() as u64;
        }
        if self.withheld > 0 || self.found.withheld > 0 {
            let since = Some(self.now).filter(|_| !self.losses.is_of_everything());
            let gone = gone::let_go(self.state, since, self.written_at()).await?;
            self.polled.changed += gone;
            self.polled.gone += gone;
            self.settle().await?;
        }
        if self.found.back > 0 { self.end_hold().await } else { Ok(()) }
    }

    /// The rows are back. Leads that appeared meanwhile are like any others: sent, unless they exceed the limit without approval.
    async fn end_hold(&mut self) -> anyhow::Result<()> {
        let joined = HeldSelection::reason(HoldReason::SourceShrank);
        let leads = held::look(self.state, &joined).await?.leads;
        let limit = i64::from(self.settings.safety.approve_above);
        if limit > 0 && leads > limit {
            held::rename(self.state, HoldReason::SourceShrank, HoldReason::TooManyChanges, self.now).await?;
            return Ok(());
        }
        held::release_all(self.state, &joined, ReleaseKind::Send, self.now).await?;
        self.polled.held = self.polled.held.saturating_sub(self.joined);
        Ok(())
    }
}
