//! The merge of the source's rows with the leads that the state knows, in constant memory.
//!
//! Both sides come in the same order, so one pass over both finds new, changed and missing leads. The merge recognises an
//! unchanged row by its hash and neither parses, maps nor looks it up. Rows that share a key make one invalid lead; the merge
//! skips and counts a row whose key names no lead. Rows out of order end the merge.

pub mod copies;
mod expected_leads;
pub mod interest;

use std::cmp::Ordering;
use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use crate::conversica::lead::{IdOrder, LeadId};
use crate::rules::cursor::NewestStamp;
use crate::rules::lead_change::KnownLead;
use crate::rules::line::{RowBatch, RowLine};
use crate::rules::mapping::MappedRow;
use crate::rules::read_scope::{ReadScope, WholeNames};
use crate::send::consent::{self, LedgerUse};
use crate::send::merge::copies::RowCopies;
use crate::send::merge::expected_leads::ExpectedLeads;
use crate::send::merge::interest::MergeInterest;
use crate::send::people::record_people;
use crate::send::suppressed::mark_suppressed;
use crate::source::crm::{ConnectedCrm, FittingSource, SourceSchema};
use crate::source::read::{BATCH_ROWS, PreparedReading, RowBatches};
use crate::store::compare::{self, KnownLeads};
use crate::store::state_db::StateDb;
use crate::store::{lead, tombstone};

/// One result of the merge.
#[derive(Debug)]
pub enum MergeItem {
    /// A row of the source that may differ from what is known of its lead.
    Row(Box<MappedRow>, Option<KnownLead>),
    /// A lead that is no longer in the source.
    Missing(KnownLead),
    /// Nothing to report for some time: more rows follow.
    Quiet,
}

pub struct RowMerge<'a> {
    crm: &'a ConnectedCrm,
    state: &'a StateDb,
    fitting: &'a FittingSource,
    interest: MergeInterest,
    now: DateTime<Utc>,
    batches: RowBatches,
    batch: RowBatch,
    /// The batch after it: both may have rows of one key.
    ahead: Option<RowBatch>,
    /// The next line of the batch.
    next: usize,
    source_at_end: bool,
    /// The position of an earlier, interrupted merge: rows before it are skipped.
    passed: Option<LeadId>,
    last: Option<LeadId>,
    rows: u64,
    /// Rows among them that share a key with an earlier one.
    copies: u64,
    /// Rows whose key names no lead: none at all, not valid UTF-8, too long.
    unnamed: u64,
    /// Expected leads that the source has.
    present: u64,
    newest: Option<NewestStamp>,
    schema: Option<SourceSchema>,
    known: ExpectedLeads,
    items: VecDeque<MergeItem>,
    /// `None` where no lead was ever erased.
    erasure: Option<tombstone::TombstoneKey>,
    /// Rows of erased people.
    erased: u64,
}

/// Rows and missing leads for one query to the state.
#[derive(Default)]
struct GatheredRows {
    rows: Vec<MetLead>,
    missing: Vec<LeadId>,
}

impl GatheredRows {
    fn is_full(&self) -> bool {
        self.rows.len() + self.missing.len() >= BATCH_ROWS
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.missing.is_empty()
    }
}

/// A lead and its row or rows in the source.
struct MetLead {
    lead: LeadId,
    rows: MetRows,
}

enum MetRows {
    /// The line of the batch.
    One(usize),
    Several(RowCopies),
}

/// What a merge reads, what it returns, and the moment that it is asked at.
#[derive(Debug, Clone)]
pub struct MergeRequest {
    pub scope: ReadScope,
    pub interest: MergeInterest,
    pub now: DateTime<Utc>,
}

impl<'a> RowMerge<'a> {
    /// Starts a merge over all rows and all known leads, or over the rows of a narrower scope and their leads. Returns once the
    /// snapshot exists.
    ///
    /// # Errors
    /// The source's.
    pub async fn begin(
        crm: &'a ConnectedCrm,
        state: &'a StateDb,
        fitting: &'a FittingSource,
        request: MergeRequest,
    ) -> anyhow::Result<Self> {
        let MergeRequest { scope, interest, now } = request;
        if crm.may_have_whole_names(fitting) {
            let names = async || -> Result<WholeNames, sqlx::Error> {
                let has_decimal = compare::has_decimal_names(state).await?;
                Ok(if has_decimal { WholeNames::Decimal } else { WholeNames::Whole })
            };
            crm.whole_names.get_or_try_init(names).await?;
        }
        let mut batches = PreparedReading::new(crm, fitting, scope.clone()).at(now).start(&crm.db);
        let opened = batches.opened().await?;
        let mut passed = None;
        let doubted = if let MergeInterest::Doubts(doubted) = interest { Some(doubted) } else { None };
        let known = match scope {
            ReadScope::All => {
                ExpectedLeads::InOrder(opened.order, KnownLeads::read(state, opened.order, None, doubted))
            }
            ReadScope::From(_, lead) => {
                passed = Some(lead).filter(|_| opened.resumed);
                ExpectedLeads::InOrder(opened.order, KnownLeads::read(state, opened.order, passed.clone(), doubted))
            }
            ReadScope::Since(_) => ExpectedLeads::LookedUp,
            ReadScope::Keys(mut leads) => {
                leads.sort();
                leads.dedup();
                ExpectedLeads::Asked(leads.into())
            }
        };
        Ok(Self {
            crm,
            state,
            fitting,
            interest,
            now,
            batches,
            batch: RowBatch::default(),
            ahead: None,
            next: 0,
            source_at_end: false,
            passed,
            last: None,
            rows: 0,
            copies: 0,
            unnamed: 0,
            present: 0,
            newest: opened.newest,
            schema: opened.schema,
            known,
            items: VecDeque::new(),
            erasure: tombstone::key(state).await?,
            erased: 0,
        })
    }

    /// The source's schema as this merge read it; `None` on SQLite.
    pub fn schema(&self) -> Option<&SourceSchema> {
        self.schema.as_ref()
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Distinct leads among the rows read so far; rows that share a key count as one lead.
    pub fn leads(&self) -> u64 {
        self.rows - self.copies
    }

    /// Rows read so far whose key names no lead, counted apart from the others.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }

    /// Whether the merge compares every row with every lead.
    pub fn is_full(&self) -> bool {
        matches!(self.known, ExpectedLeads::InOrder(..))
    }

    /// Whether the merge continues behind the lead of its scope.
    pub fn is_resumed(&self) -> bool {
        self.passed.is_some()
    }

    /// The order of the rows.
    pub fn order(&self) -> IdOrder {
        self.known.order()
    }

    /// The last row that the merge compared; `None` before the first, and while results are still waiting to be returned.
    pub fn position(&self) -> Option<&LeadId> {
        self.last.as_ref().filter(|_| self.items.is_empty())
    }

    /// Whether all results before the next one have been returned: between two queries to the state, rows come before missing
    /// leads.
    pub fn is_in_order(&self) -> bool {
        self.items.is_empty()
    }

    /// The newest `changed_at` of the snapshot.
    pub fn newest(&self) -> Option<&NewestStamp> {
        self.newest.as_ref()
    }

    /// Expected leads that the source still has; the other expected leads are missing. Counted in a merge over everything.
    pub fn present(&self) -> u64 {
        self.present
    }

    /// Skipped rows of erased people.
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// The next row or missing lead to report; `None` when both sides are at their end.
    ///
    /// # Errors
    /// [`crate::error::SetupError`] for rows that do not come in order; the databases' errors.
    pub async fn next(&mut self) -> anyhow::Result<Option<MergeItem>> {
        while self.items.is_empty() {
            self.load().await?;
            let gathered = self.gather().await?;
            if gathered.is_empty() && self.source_at_end {
                return Ok(None);
            }
            if gathered.is_empty() {
                return Ok(Some(MergeItem::Quiet));
            }
            self.look_up(gathered).await?;
        }
        Ok(self.items.pop_front())
    }

    /// Loads the next batch once this one is finished.
    async fn load(&mut self) -> anyhow::Result<()> {
        if self.next == self.batch.len() && !self.source_at_end { self.advance().await } else { Ok(()) }
    }

    async fn advance(&mut self) -> anyhow::Result<()> {
        let batch = match self.ahead.take() {
            Some(batch) => Some(batch),
            None => self.batches.next().await?,
        };
        match batch {
            Some(batch) => {
                (self.batch, self.next) = (batch, 0);
                self.ahead = self.batches.next().await?;
            }
            None => self.source_at_end = true,
        }
        Ok(())
    }

    /// The line after this line of the batch.
    fn line_after(&self, index: usize) -> Option<RowLine<'_>> {
        if index + 1 < self.batch.len() {
            return Some(self.batch.line(index + 1));
        }
        self.ahead.as_ref().map(|ahead| ahead.line(0))
    }

    /// Whether the next line is the first of several with the same key, and whether they continue in the next batch.
    fn copies_ahead(&self) -> Option<GoesOn> {
        let line = self.batch.line(self.next);
        let is_same = |other: Option<RowLine<'_>>| other.is_some_and(|other| line.has_name_of(other));
        if !is_same(self.line_after(self.next)) {
            return None;
        }
        let last = (self.next..self.batch.len()).find(|index| !is_same(self.line_after(*index)));
        Some(if last.is_some() { GoesOn::InThisBatch } else { GoesOn::InTheNext })
    }

    /// Consumes all lines of this key.
    async fn take_copies(&mut self) -> anyhow::Result<RowCopies> {
        let mut copies = RowCopies::default();
        loop {
            let line = self.batch.line(self.next);
            copies.add(self.crm, &line.row());
            let goes_on = self.line_after(self.next).is_some_and(|other| line.has_name_of(other));
            self.next += 1;
            if !goes_on {
                self.rows += copies.rows;
                self.copies += copies.rows - 1;
                return Ok(copies);
            }
            self.load().await?;
        }
    }

    /// Collects rows until they suffice for one query to the state, or the batch is at its end.
    async fn gather(&mut self) -> anyhow::Result<GatheredRows> {
        let mut gathered = GatheredRows::default();
        while self.next < self.batch.len() {
            let line = self.batch.line(self.next);
            let (key, client) = line.key_and_client();
            let row = (key.as_deref(), client.as_deref().unwrap_or_default());
            let row = match row {
                (Some(key), client) if copies::is_name(line, key, client) => (key, client),
                _ => {
                    self.unnamed += 1;
                    self.next += 1;
                    continue;
                }
            };
            if self.passed.as_ref().is_some_and(|passed| !is_beyond(&self.known, passed, row)) {
                self.next += 1;
                continue;
            }
            // A known lead that sorts before this row is missing.
            let found = loop {
                if gathered.is_full() {
                    return Ok(gathered);
                }
                match self.known.front().await?.map(|(order, lead)| order.compare(lead, row)) {
                    Some(Ordering::Less) => gathered.missing.extend(self.known.is_missing(self.interest)),
                    Some(Ordering::Equal) => break true,
                    Some(Ordering::Greater) | None => break false,
                }
            };
            if self.last.as_ref().is_some_and(|last| !is_beyond(&self.known, last, row)) {
                return Err(self.crm.disorder().into());
            }
            if let Some(goes_on) = self.copies_ahead() {
                // The collected lines are indexes into this batch, which must not change yet.
                if goes_on == GoesOn::InTheNext && !gathered.is_empty() {
                    return Ok(gathered);
                }
                let lead = LeadId::of_pair(row);
                if found {
                    self.known.pop();
                }
                let copies = self.take_copies().await?;
                self.last.get_or_insert_default().set(lead.as_pair());
                gathered.rows.push(MetLead { lead, rows: MetRows::Several(copies) });
                continue;
            }
            let found = if found { self.known.pop() } else { None };
            let differs = self.interest == MergeInterest::Everything
                || found.is_none_or(|found| found.row_hash != Some(self.batches.hash(line)));
            if differs {
                gathered.rows.push(MetLead { lead: LeadId::of_pair(row), rows: MetRows::One(self.next) });
            } else {
                self.present += 1;
            }
            self.last.get_or_insert_default().set(row);
            self.next += 1;
            self.rows += 1;
        }
        while self.source_at_end && !gathered.is_full() && self.known.front().await?.is_some() {
            gathered.missing.extend(self.known.is_missing(self.interest));
        }
        Ok(gathered)
    }

    /// Adds the state's knowledge of the leads to their rows.
    async fn look_up(&mut self, mut gathered: GatheredRows) -> anyhow::Result<()> {
        if matches!(self.known, ExpectedLeads::LookedUp) && self.interest == MergeInterest::Differences {
            self.look_closer(&mut gathered).await?;
        }
        if let Some(key) = &self.erasure {
            let erased = tombstone::among(self.state, key, gathered.rows.iter().map(|met| &met.lead)).await?;
            let before = gathered.rows.len();
            gathered.rows.retain(|met| !erased.has(&met.lead));
            self.erased += (before - gathered.rows.len()) as u64;
        }
        let met = gathered.rows.iter().map(|met| &met.lead);
        let leads: Vec<LeadId> = met.chain(&gathered.missing).cloned().collect();
        let mut known = lead::known(self.state, &leads).await?;
        let mut rows = Vec::with_capacity(gathered.rows.len());
        for MetLead { lead, rows: met } in gathered.rows {
            let found = known.get(&lead);
            self.present += u64::from(found.is_some_and(KnownLead::is_expected));
            let index = match met {
                MetRows::One(index) => index,
                MetRows::Several(copies) => {
                    rows.push((copies.into_mapped(self.crm, lead), None));
                    continue;
                }
            };
            let line = self.batch.line(index);
            let hash = self.batches.hash(line);
            let says_the_same = found.is_some_and(|known| !known.gone && known.row_hash == Some(hash));
            if self.interest != MergeInterest::Differences || !says_the_same {
                let row = line.row();
                rows.push((self.crm.mapping.map(&row).of_row(hash), self.crm.mapping.given_at(&row)));
            }
        }
        if self.interest == MergeInterest::Differences {
            record_people(self.state, &rows, &known, self.now).await?;
        }
        // Before any comparison: an opt-out by the person overrides the CRM.
        let rows = if self.crm.mapping.keeps_opt_outs() {
            let ledger = if self.interest == MergeInterest::Differences { LedgerUse::Write } else { LedgerUse::Leave };
            consent::keep(self.state, rows, ledger, self.crm.suppression_scope, self.now).await?
        } else {
            rows.into_iter().map(|(mapped, _)| mapped).collect()
        };
        let rows = mark_suppressed(self.state, self.crm.suppression_scope, rows, &known).await?;
        for mapped in rows {
            let known = known.remove(&mapped.lead);
            self.items.push_back(MergeItem::Row(Box::new(mapped), known));
        }
        let missing = gathered.missing.iter().filter_map(|lead| known.remove(lead));
        let missing = missing.filter(|known| self.interest.is_in_the_missing() || !known.gone || known.is_withheld());
        self.items.extend(missing.map(MergeItem::Missing));
        Ok(())
    }

    /// Most rows of a look-back were read before: a short query tells them from the others. Some of the others share their key
    /// with unchanged rows.
    async fn look_closer(&self, gathered: &mut GatheredRows) -> anyhow::Result<()> {
        let leads: Vec<LeadId> = gathered.rows.iter().map(|met| met.lead.clone()).collect();
        let hashes = compare::hashes(self.state, &leads).await?;
        gathered.rows.retain(|met| match &met.rows {
            MetRows::One(index) => hashes.get(&met.lead) != Some(&self.batches.hash(self.batch.line(*index))),
            MetRows::Several(_) => true,
        });
        if self.fitting.has_unique_key || gathered.rows.is_empty() {
            return Ok(());
        }
        let leads = gathered.rows.iter().map(|met| met.lead.clone()).collect();
        let mut copies = copies::of_leads(self.crm, self.fitting, leads).await?;
        for met in &mut gathered.rows {
            if let Some(copies) = copies.remove(&met.lead) {
                met.rows = MetRows::Several(copies);
            }
        }
        Ok(())
    }
}

/// Where the run of lines that share a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoesOn {
    InThisBatch,
    InTheNext,
}

/// Whether a row comes after a lead.
fn is_beyond(known: &ExpectedLeads, lead: &LeadId, row: (&str, &str)) -> bool {
    known.order().compare(row, lead.as_pair()) == Ordering::Greater
}
