//! The merge of the source's rows with the leads that the state knows, in constant memory.
//!
//! Both sides come in the same order, so one pass over both finds new, changed and missing leads. A row that says what it
//! said before is known by its hash: it is neither taken apart nor mapped nor looked up. A missing, repeated or unusable
//! key ends the merge: nobody could say which row is the lead.

use std::cmp::Ordering;
use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use crate::conversica::lead::{IdOrder, LeadId};
use crate::crm::cursor::Newest;
use crate::crm::mapping::Mapped;
use crate::crm::read::line::{Batch, Line};
use crate::crm::read::{BATCH_ROWS, Batches, Reading, Scope};
use crate::crm::{Crm, Fitting};
use crate::db::Db;
use crate::state::compare::{self, Compared, Doubted, KnownLeads};
use crate::state::{lead, tombstone};
use crate::sync::consent::{self, Ledger};

/// What the merge comes upon.
#[derive(Debug)]
pub enum Item {
    /// A row of the source that may differ from what is known of its lead.
    Row(Mapped, Option<lead::Known>),
    /// A lead that is no longer in the source.
    Missing(lead::Known),
    /// Nothing of interest for some time: there are more rows.
    Quiet,
}

/// What the merge passes over in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Rows that say what they said before, and leads that have been missing for long.
    Differences,
    /// Rows that say what they said before and whose leads are not in doubt.
    Doubts(Doubted),
    /// Nothing.
    Everything,
}

impl Interest {
    /// Whether leads that have been missing for long are told of.
    const fn is_in_the_missing(self) -> bool {
        !matches!(self, Interest::Differences)
    }
}

/// The longest key, and the longest client, that is taken. No key is that long; an index of PostgreSQL ends at some 2,700.
const MAX_KEY_BYTES: usize = 1000;

pub struct Merge<'a> {
    crm: &'a Crm,
    state: &'a Db,
    interest: Interest,
    now: DateTime<Utc>,
    batches: Batches,
    batch: Batch,
    /// The next line of the batch.
    next: usize,
    source_at_end: bool,
    /// Where an earlier merge has come to: what lies before it is passed over.
    passed: Option<LeadId>,
    last: Option<LeadId>,
    rows: u64,
    /// Leads that the source is expected to have, and has.
    present: u64,
    newest: Option<Newest>,
    known: Known,
    items: VecDeque<Item>,
    /// Set where anybody was ever erased.
    erasure: Option<tombstone::Key>,
    /// Rows of people who were erased.
    erased: u64,
}

/// The state's side.
enum Known {
    /// Every lead.
    InOrder(IdOrder, KnownLeads),
    /// The leads of the rows that are read: nothing is missing.
    LookedUp,
    /// These leads, in byte order.
    Asked(VecDeque<LeadId>),
}

/// What is gathered for one look at the state.
#[derive(Default)]
struct Gathered {
    /// Lines of the batch, and whose they are.
    rows: Vec<(usize, LeadId)>,
    missing: Vec<LeadId>,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.rows.len() + self.missing.len() >= BATCH_ROWS
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.missing.is_empty()
    }
}

/// Why nobody can say which row is the lead.
enum Fault {
    Missing,
    Unusable,
    Repeated,
}

impl<'a> Merge<'a> {
    /// Over all rows and all known leads, or over the rows of a narrower scope and their leads only. Comes back once the
    /// snapshot stands.
    ///
    /// # Errors
    /// The source's.
    pub async fn begin(
        crm: &'a Crm,
        state: &'a Db,
        fitting: &Fitting,
        scope: Scope,
        interest: Interest,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let mut batches = Reading::new(crm, fitting, scope.clone()).at(now).start(&crm.db);
        let opened = batches.opened().await?;
        let mut passed = None;
        let doubted = if let Interest::Doubts(doubted) = interest { Some(doubted) } else { None };
        let known = match scope {
            Scope::All => Known::InOrder(opened.order, KnownLeads::read(state, opened.order, None, doubted)),
            Scope::From(_, lead) => {
                passed = Some(lead).filter(|_| opened.resumed);
                Known::InOrder(opened.order, KnownLeads::read(state, opened.order, passed.clone(), doubted))
            }
            Scope::Since(_) => Known::LookedUp,
            Scope::Keys(mut leads) => {
                leads.sort();
                leads.dedup();
                Known::Asked(leads.into())
            }
        };
        Ok(Self {
            crm,
            state,
            interest,
            now,
            batches,
            batch: Batch::default(),
            next: 0,
            source_at_end: false,
            passed,
            last: None,
            rows: 0,
            present: 0,
            newest: opened.newest,
            known,
            items: VecDeque::new(),
            erasure: tombstone::key(state).await?,
            erased: 0,
        })
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether every row is compared with every lead.
    pub fn is_full(&self) -> bool {
        matches!(self.known, Known::InOrder(..))
    }

    /// Whether it goes on behind the lead of its scope.
    pub fn is_resumed(&self) -> bool {
        self.passed.is_some()
    }

    /// In which the rows come.
    pub fn order(&self) -> IdOrder {
        self.known.order()
    }

    /// The last row that was looked at; `None` before the first, and while some that were are still to be handed out.
    pub fn position(&self) -> Option<&LeadId> {
        self.last.as_ref().filter(|_| self.items.is_empty())
    }

    /// Whether all that comes before what is handed out next has been handed out: between two looks at the state, rows come
    /// before missing leads.
    pub fn is_in_order(&self) -> bool {
        self.items.is_empty()
    }

    /// The newest `changed_at` of the snapshot.
    pub fn newest(&self) -> Option<&Newest> {
        self.newest.as_ref()
    }

    /// Of the leads that the source is expected to have, so many have been met with their rows: the others are missing.
    /// Counted in a merge over everything.
    pub fn present(&self) -> u64 {
        self.present
    }

    /// So many of the rows are of people who were erased: they are passed over.
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// The next row or missing lead that is of interest; `None` when both sides are at their end.
    ///
    /// # Errors
    /// [`crate::error::SetupError`] for rows without a key or with the key of another; the databases' errors.
    pub async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        while self.items.is_empty() {
            self.load().await?;
            let gathered = self.gather().await?;
            if gathered.is_empty() && self.source_at_end {
                return Ok(None);
            }
            if gathered.is_empty() {
                return Ok(Some(Item::Quiet));
            }
            self.look_up(gathered).await?;
        }
        Ok(self.items.pop_front())
    }

    /// The next batch, once this one has been worked on.
    async fn load(&mut self) -> anyhow::Result<()> {
        if self.next == self.batch.len() && !self.source_at_end {
            match self.batches.next().await? {
                Some(batch) => (self.batch, self.next) = (batch, 0),
                None => self.source_at_end = true,
            }
        }
        Ok(())
    }

    /// Goes on until there is enough for one look at the state, or the batch is at its end.
    async fn gather(&mut self) -> anyhow::Result<Gathered> {
        let mut gathered = Gathered::default();
        while self.next < self.batch.len() {
            let line = self.batch.line(self.next);
            let (key, client) = line.key_and_client();
            let row = match usable(key.as_deref(), client.as_deref()) {
                Ok(row) => row,
                Err(fault) => return Err(self.explain(fault, line).await),
            };
            if self.passed.as_ref().is_some_and(|passed| is_beyond(&self.known, passed, row) != Some(true)) {
                self.next += 1;
                continue;
            }
            // What is known, and comes before this row, is missing.
            let found = loop {
                if gathered.is_full() {
                    return Ok(gathered);
                }
                match self.known.front().await?.map(|(order, lead)| order.compare(lead, row)) {
                    Some(Ordering::Less) => self.known.is_missing(self.interest, &mut gathered),
                    Some(Ordering::Equal) => break self.known.pop(),
                    Some(Ordering::Greater) | None => break None,
                }
            };
            let differs = self.interest == Interest::Everything
                || found.is_none_or(|found| found.row_hash != Some(self.batches.hash(line)));
            if self.last.as_ref().is_some_and(|last| is_beyond(&self.known, last, row) != Some(true)) {
                return Err(self.explain(Fault::Repeated, line).await);
            }
            if differs {
                gathered.rows.push((self.next, LeadId::of_pair(row)));
            } else {
                self.present += 1;
            }
            self.last.get_or_insert_default().set(row);
            self.next += 1;
            self.rows += 1;
        }
        while self.source_at_end && !gathered.is_full() && self.known.front().await?.is_some() {
            self.known.is_missing(self.interest, &mut gathered);
        }
        Ok(gathered)
    }

    /// What the state says of the leads, beside what their rows say.
    async fn look_up(&mut self, mut gathered: Gathered) -> anyhow::Result<()> {
        // Most rows of a look-back have been read before: a short look tells them from the others.
        if matches!(self.known, Known::LookedUp) && self.interest == Interest::Differences {
            let leads: Vec<LeadId> = gathered.rows.iter().map(|(_, lead)| lead.clone()).collect();
            let hashes = compare::hashes(self.state, &leads).await?;
            gathered.rows.retain(|(index, lead)| hashes.get(lead) != Some(&self.batches.hash(self.batch.line(*index))));
        }
        if let Some(key) = &self.erasure {
            let erased = tombstone::among(self.state, key, gathered.rows.iter().map(|(_, lead)| lead)).await?;
            let before = gathered.rows.len();
            gathered.rows.retain(|(_, lead)| !erased.has(lead));
            self.erased += (before - gathered.rows.len()) as u64;
        }
        let leads: Vec<LeadId> = gathered.rows.iter().map(|(_, lead)| lead).chain(&gathered.missing).cloned().collect();
        let mut known = lead::known(self.state, &leads).await?;
        let mut rows = Vec::with_capacity(gathered.rows.len());
        for (index, lead) in gathered.rows {
            let line = self.batch.line(index);
            let hash = self.batches.hash(line);
            let found = known.get(&lead);
            self.present += u64::from(found.is_some_and(lead::Known::is_expected));
            let says_the_same = found.is_some_and(|known| !known.gone && known.row_hash == Some(hash));
            if self.interest != Interest::Differences || !says_the_same {
                let row = line.row();
                rows.push((self.crm.mapping.map(&row).of_row(hash), self.crm.mapping.given_at(&row)));
            }
        }
        // Before anything is compared: what a person has said counts for more than what the CRM says of them.
        let rows = if self.crm.mapping.keeps_opt_outs() {
            let ledger = if self.interest == Interest::Differences { Ledger::Write } else { Ledger::Leave };
            consent::keep(self.state, rows, ledger, self.now).await?
        } else {
            rows.into_iter().map(|(mapped, _)| mapped).collect()
        };
        for mapped in rows {
            let known = known.remove(&mapped.lead);
            self.items.push_back(Item::Row(mapped, known));
        }
        let missing = gathered.missing.iter().filter_map(|lead| known.remove(lead));
        let missing = missing.filter(|known| self.interest.is_in_the_missing() || !known.gone || known.is_withheld());
        self.items.extend(missing.map(Item::Missing));
        Ok(())
    }

    async fn explain(&self, fault: Fault, line: Line<'_>) -> anyhow::Error {
        let explained = match fault {
            Fault::Unusable => return self.crm.unusable_key(&line.row()).into(),
            Fault::Missing => self.crm.missing_keys().await,
            Fault::Repeated => self.crm.duplicate_keys().await,
        };
        explained.map_or_else(|error| error, Into::into)
    }
}

impl Known {
    /// In which the rows come: narrow scopes in byte order.
    fn order(&self) -> IdOrder {
        match self {
            Known::InOrder(order, _) => *order,
            Known::LookedUp | Known::Asked(_) => IdOrder::Bytes,
        }
    }

    /// The next lead that is to be found in the source, and the order in which they come.
    async fn front(&mut self) -> Result<Option<(IdOrder, (&str, &str))>, sqlx::Error> {
        Ok(match self {
            Known::InOrder(order, known) => {
                known.fill().await?;
                known.peek().map(|known| (*order, known.lead.as_pair()))
            }
            Known::Asked(leads) => leads.front().map(|lead| (IdOrder::Bytes, lead.as_pair())),
            Known::LookedUp => None,
        })
    }

    /// It was found. What its row was like is not known of leads that were merely asked for.
    fn pop(&mut self) -> Option<Compared> {
        match self {
            Known::InOrder(_, known) => known.pop(),
            Known::Asked(leads) => leads.pop_front().map(|lead| Compared { lead, row_hash: None, gone: false }),
            Known::LookedUp => None,
        }
    }

    /// It has no row.
    fn is_missing(&mut self, interest: Interest, gathered: &mut Gathered) {
        if let Some(known) = self.pop()
            && (interest.is_in_the_missing() || !known.gone)
        {
            gathered.missing.push(known.lead);
        }
    }
}

/// Whether a row comes after a lead; `None` where it is that lead's.
fn is_beyond(known: &Known, lead: &LeadId, row: (&str, &str)) -> Option<bool> {
    match known.order().compare(row, lead.as_pair()) {
        Ordering::Greater => Some(true),
        Ordering::Less => Some(false),
        Ordering::Equal => None,
    }
}

/// Whose row it is, if a state of either engine can hold that.
fn usable<'k>(key: Option<&'k str>, client: Option<&'k str>) -> Result<(&'k str, &'k str), Fault> {
    let (key, client) = (key.ok_or(Fault::Missing)?, client.unwrap_or_default());
    let unusable = |text: &str| text.len() > MAX_KEY_BYTES || text.contains('\0');
    if unusable(key) || unusable(client) { Err(Fault::Unusable) } else { Ok((key, client)) }
}
