//! The merge of the source's rows with the leads that the state knows, in constant memory.
//!
//! Both sides come in the same byte order of (key, client), so one pass over both finds new, changed and missing leads.
//! A missing, repeated or unusable key ends the merge: nobody could say which row is the lead.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::conversica::lead::LeadId;
use crate::crm::cursor::Newest;
use crate::crm::mapping::{Mapped, Row};
use crate::crm::read::{BATCH_ROWS, Batches, Reading, Scope};
use crate::crm::{Crm, Fitting};
use crate::db::Db;
use crate::state::lead;

/// What the merge comes upon.
#[derive(Debug)]
pub enum Item {
    /// A row of the source, and what is known of its lead.
    Row(Mapped, Option<lead::Known>),
    /// A lead that is no longer in the source.
    Missing(lead::Known),
}

/// The longest key, and the longest client, that is taken. No key is that long; an index of PostgreSQL ends at some 2,700.
const MAX_KEY_BYTES: usize = 1000;

pub struct Merge<'a> {
    crm: &'a Crm,
    batches: Batches,
    batch: std::vec::IntoIter<Row>,
    /// The row that waits for its place.
    next: Option<Mapped>,
    last: Option<LeadId>,
    rows: u64,
    source_at_end: bool,
    known: Known<'a>,
    /// Leads that were asked for by name and have no row, as far as is known by now; those that the state knows, at the end.
    rowless: Rowless,
}

enum Rowless {
    Asked(BTreeSet<LeadId>),
    Found(Vec<lead::Known>),
}

impl<'a> Merge<'a> {
    /// Over all rows and all known leads, or over the rows of a narrower scope and their leads only: then nothing is
    /// missing.
    pub fn start(crm: &'a Crm, state: &'a Db, fitting: &Fitting, scope: Scope) -> Self {
        let known = match scope {
            Scope::All => Known::InOrder(KnownLeads::new(state)),
            Scope::Since(_) | Scope::Keys(_) => Known::LookedUp(state, HashMap::new()),
        };
        let asked = match &scope {
            Scope::Keys(leads) => leads.iter().cloned().collect(),
            Scope::All | Scope::Since(_) => BTreeSet::new(),
        };
        Self {
            crm,
            batches: Reading::new(crm, fitting, scope).start(&crm.db),
            batch: Vec::new().into_iter(),
            next: None,
            last: None,
            rows: 0,
            source_at_end: false,
            known,
            rowless: Rowless::Asked(asked),
        }
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next row or missing lead; `None` when both sides are at their end.
    ///
    /// # Errors
    /// [`crate::error::SetupError`] for rows without a key or with the key of another; the databases' errors.
    pub async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        if self.next.is_none() && !self.source_at_end {
            self.next = self.next_row().await?;
            self.source_at_end = self.next.is_none();
        }
        let known = match &mut self.known {
            Known::LookedUp(state, found) => {
                let Some(mapped) = self.next.take() else { return Ok(self.rowless.next(state).await?) };
                let known = found.remove(&mapped.lead);
                return Ok(Some(Item::Row(mapped, known)));
            }
            Known::InOrder(known) => known,
        };
        known.fill().await?;
        let Some(mapped) = self.next.take() else {
            return Ok(known.pop().map(Item::Missing));
        };
        if known.is_before(&mapped.lead) {
            self.next = Some(mapped);
            return Ok(known.pop().map(Item::Missing));
        }
        let known = known.take(&mapped.lead);
        Ok(Some(Item::Row(mapped, known)))
    }

    /// The newest `changed_at` of the snapshot.
    pub async fn newest(&mut self) -> Option<Newest> {
        self.batches.newest().await
    }

    async fn next_row(&mut self) -> anyhow::Result<Option<Mapped>> {
        let row = loop {
            match self.batch.next() {
                Some(row) => break row,
                None => match self.batches.next().await? {
                    Some(batch) => {
                        if let Some(row) = batch.iter().find(|row| is_unusable(&row.key) || is_unusable(&row.client)) {
                            return Err(self.crm.unusable_key(row).into());
                        }
                        if let Known::LookedUp(state, found) = &mut self.known {
                            let leads: Vec<LeadId> = batch.iter().filter_map(Row::lead).collect();
                            *found = lead::known(state, &leads).await?;
                        }
                        self.batch = batch.into_iter();
                    }
                    None => return Ok(None),
                },
            }
        };
        if row.key.is_none() {
            return Err(self.crm.missing_keys().await?.into());
        }
        let mapped = self.crm.mapping.map(&row);
        if self.last.as_ref().is_some_and(|last| *last >= mapped.lead) {
            return Err(self.crm.duplicate_keys().await?.into());
        }
        self.last = Some(mapped.lead.clone());
        if let Rowless::Asked(asked) = &mut self.rowless {
            asked.remove(&mapped.lead);
        }
        self.rows += 1;
        Ok(Some(mapped))
    }
}

impl Rowless {
    async fn next(&mut self, state: &Db) -> Result<Option<Item>, sqlx::Error> {
        if let Rowless::Asked(asked) = self {
            let asked: Vec<LeadId> = std::mem::take(asked).into_iter().collect();
            let mut found = Vec::new();
            for batch in asked.chunks(BATCH_ROWS) {
                found.extend(lead::known(state, batch).await?.into_values());
            }
            *self = Rowless::Found(found);
        }
        match self {
            Rowless::Found(found) => Ok(found.pop().map(Item::Missing)),
            Rowless::Asked(_) => Ok(None),
        }
    }
}

/// No state of either engine can hold it as part of a lead's identity.
fn is_unusable(key: &Option<String>) -> bool {
    key.as_deref().is_some_and(|key| key.len() > MAX_KEY_BYTES || key.contains('\0'))
}

/// The state's side.
enum Known<'a> {
    /// Every lead, page by page.
    InOrder(KnownLeads<'a>),
    /// The leads of the present batch.
    LookedUp(&'a Db, HashMap<LeadId, lead::Known>),
}

/// Leads in byte order, a page at a time.
struct KnownLeads<'a> {
    state: &'a Db,
    page: VecDeque<lead::Known>,
    /// How far the merge has come. Pages begin after it: leads that this very pass writes lie behind it.
    position: Option<LeadId>,
    at_end: bool,
}

impl<'a> KnownLeads<'a> {
    fn new(state: &'a Db) -> Self {
        Self { state, page: VecDeque::new(), position: None, at_end: false }
    }

    async fn fill(&mut self) -> Result<(), sqlx::Error> {
        if self.page.is_empty() && !self.at_end {
            let page = lead::page(self.state, self.position.as_ref(), BATCH_ROWS as i64).await?;
            self.at_end = page.len() < BATCH_ROWS;
            self.page = page.into();
        }
        Ok(())
    }

    fn is_before(&self, lead: &LeadId) -> bool {
        self.page.front().is_some_and(|known| known.lead < *lead)
    }

    fn pop(&mut self) -> Option<lead::Known> {
        let known = self.page.pop_front()?;
        self.position = Some(known.lead.clone());
        Some(known)
    }

    /// What is known of that lead, which the merge has come to.
    fn take(&mut self, lead: &LeadId) -> Option<lead::Known> {
        self.position = Some(lead.clone());
        if self.page.front().is_some_and(|known| known.lead == *lead) { self.page.pop_front() } else { None }
    }
}
