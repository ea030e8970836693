//! What a poll writes down: gathered in batches, and kept back where more has to be known before it may leave.

use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::config::ConversationChanges;
use crate::conversica::lead::LeadId;
use crate::crm::mapping::Mapped;
use crate::crm::read::BATCH_ROWS;
use crate::db::Db;
use crate::state::control::{self, Hold};
use crate::state::held;
use crate::state::lead::{self, Change, Known};
use crate::sync::diff::{self, Difference, Kind};
use crate::sync::guard::Admission;

/// What a poll found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Polled {
    pub rows: u64,
    /// Leads written: new, changed, faulty, gone, returned.
    pub changed: u64,
    pub created: u64,
    pub updated: u64,
    pub invalid: u64,
    pub gone: u64,
    /// Changes that wait for a person.
    pub held: u64,
}

/// How many sends are kept in memory until it is known whether they may leave.
const UNDECIDED: usize = 10_000;

/// Gathers what differs and writes it in batches; keeps sends back until it is known whether they may leave.
pub(super) struct Writes<'a> {
    state: &'a Db,
    now: DateTime<Utc>,
    started: Instant,
    admission: Admission,
    conversations: ConversationChanges,
    ready: Vec<Change>,
    /// Rows of which it matters what was delivered.
    doubtful: Vec<(Mapped, Option<Known>)>,
    /// Sends that wait for the decision; never more than [`UNDECIDED`].
    undecided: Vec<Change>,
    /// So many more are held in the state meanwhile, since then: they are let go if it turns out that they may leave.
    provisional: Option<(usize, DateTime<Utc>)>,
    /// The hold of this poll, or one that stood before, is on the disk.
    hold_stands: bool,
    gone: Vec<LeadId>,
    returned: Vec<LeadId>,
    pub(super) polled: Polled,
}

impl<'a> Writes<'a> {
    pub(super) fn new(
        state: &'a Db,
        admission: Admission,
        conversations: ConversationChanges,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            state,
            now,
            started: Instant::now(),
            admission,
            conversations,
            ready: Vec::new(),
            doubtful: Vec::new(),
            undecided: Vec::new(),
            provisional: None,
            hold_stands: false,
            gone: Vec::new(),
            returned: Vec::new(),
            polled: Polled::default(),
        }
    }

    /// This very moment.
    fn written_at(&self) -> DateTime<Utc> {
        self.now + self.started.elapsed()
    }

    pub(super) async fn doubtful(&mut self, mapped: Mapped, known: Option<Known>) -> anyhow::Result<()> {
        self.doubtful.push((mapped, known));
        if self.doubtful.len() >= BATCH_ROWS { self.settle_doubtful().await } else { Ok(()) }
    }

    async fn settle_doubtful(&mut self) -> anyhow::Result<()> {
        let doubtful = std::mem::take(&mut self.doubtful);
        let leads: Vec<LeadId> = doubtful.iter().map(|(mapped, _)| mapped.lead.clone()).collect();
        let delivered = lead::delivered(self.state, &leads).await?;
        for (mapped, known) in doubtful {
            let delivered = delivered.get(&mapped.lead).map(String::as_str);
            let difference = diff::compare(mapped, known.as_ref(), delivered, self.conversations);
            self.different(difference, known).await?;
        }
        Ok(())
    }

    pub(super) async fn different(&mut self, difference: Difference, known: Option<Known>) -> anyhow::Result<()> {
        match difference {
            Difference::None => Ok(()),
            Difference::Returned => self.returned(known).await,
            Difference::Changed(change, kind) => self.changed(change, kind).await,
        }
    }

    async fn changed(&mut self, mut change: Change, kind: Kind) -> anyhow::Result<()> {
        self.polled.changed += 1;
        match kind {
            Kind::Create => self.polled.created += 1,
            Kind::Update | Kind::Stop => self.polled.updated += 1,
            Kind::Invalid => self.polled.invalid += 1,
            Kind::Reverted => {}
        }
        if change.hold_reason.is_some() {
            self.polled.held += 1;
        }
        if !kind.sends() || change.urgent || change.hold_reason.is_some() {
            return self.write(change).await;
        }
        match &self.admission {
            Admission::Send => self.write(change).await,
            Admission::Hold(reason) => {
                change.hold_reason = Some(reason);
                self.hold(change).await
            }
            Admission::Baseline => {
                change.hold_reason = Some(held::FIRST_RUN);
                self.write(change).await
            }
            Admission::UpTo { limit, reason } => {
                let (limit, reason) = (*limit, *reason);
                self.undecided.push(change);
                let provisional = self.provisional.map_or(0, |(leads, _)| leads);
                if provisional + self.undecided.len() > limit {
                    self.admission = Admission::Hold(reason);
                    self.polled.held += provisional as u64;
                    return self.hold_undecided(reason).await;
                }
                if self.undecided.len() >= UNDECIDED {
                    let since = self.provisional.map_or_else(|| self.written_at(), |(_, since)| since);
                    self.provisional = Some((provisional + self.undecided.len(), since));
                    for mut change in std::mem::take(&mut self.undecided) {
                        change.hold_reason = Some(reason);
                        self.write(change).await?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn hold_undecided(&mut self, reason: &'static str) -> anyhow::Result<()> {
        for mut change in std::mem::take(&mut self.undecided) {
            change.hold_reason = Some(reason);
            self.hold(change).await?;
        }
        Ok(())
    }

    /// The hold is written before the first lead that it holds.
    async fn hold(&mut self, change: Change) -> anyhow::Result<()> {
        if !self.hold_stands && control::read::<Hold>(self.state).await?.is_none() {
            let reason = change.hold_reason.unwrap_or(held::TOO_MANY_CHANGES).to_owned();
            control::write(self.state, &Hold { reason, since: self.now }, self.now).await?;
        }
        self.hold_stands = true;
        self.polled.held += 1;
        self.write(change).await
    }

    async fn write(&mut self, change: Change) -> anyhow::Result<()> {
        self.ready.push(change);
        if self.ready.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn missing(&mut self, known: Known) -> anyhow::Result<()> {
        if known.gone {
            return Ok(());
        }
        self.polled.changed += 1;
        self.polled.gone += 1;
        self.gone.push(known.lead);
        if self.gone.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn returned(&mut self, known: Option<Known>) -> anyhow::Result<()> {
        self.polled.changed += 1;
        self.returned.extend(known.map(|known| known.lead));
        if self.returned.len() >= BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        lead::upsert(self.state, &self.ready, self.now, self.written_at()).await?;
        self.ready.clear();
        lead::mark_gone(self.state, &self.gone, self.now).await?;
        self.gone.clear();
        lead::mark_returned(self.state, &self.returned, self.now).await?;
        self.returned.clear();
        Ok(())
    }

    pub(super) async fn finish(mut self) -> anyhow::Result<Polled> {
        self.settle_doubtful().await?;
        for change in std::mem::take(&mut self.undecided) {
            self.write(change).await?;
        }
        self.flush().await?;
        if let (Admission::UpTo { reason, .. }, Some((_, since))) = (&self.admission, self.provisional) {
            held::release_since(self.state, reason, since, self.now).await?;
        }
        Ok(self.polled)
    }
}
