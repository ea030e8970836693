//! Rows that share a key: no rule says which of them is the lead, so the lead is invalid until one row is left. A withdrawal of
//! consent in any of them counts.

use std::collections::{BTreeSet, HashMap};

use crate::conversica::lead::{LeadId, LeadKey};
use crate::rules::line::RowLine;
use crate::rules::mapping::{MappedRow, SourceRow};
use crate::rules::read_scope::ReadScope;
use crate::source::crm::{ConnectedCrm, FittingSource};
use crate::source::read::PreparedReading;

/// The longest key, and the longest client, that the poll accepts. No real key is that long; a PostgreSQL index entry ends at
/// some 2,700 bytes.
pub const MAX_KEY_BYTES: usize = 1000;

/// The reason of such a lead, after the number of its rows.
pub const SHARED: &str = "rows of the source have this key";

/// The rows of one key, counted; memory does not grow with their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCopies {
    pub rows: u64,
    withdrawn: Vec<LeadKey>,
    odd: BTreeSet<LeadKey>,
    clear: BTreeSet<LeadKey>,
}

impl RowCopies {
    pub fn add(&mut self, crm: &ConnectedCrm, row: &SourceRow) {
        self.rows += 1;
        let odd = crm.mapping.odd_withdrawn(row);
        for key in crm.mapping.withdrawn(row) {
            if odd.contains(&key) {
                self.odd.insert(key)
            } else {
                self.clear.insert(key)
            };
            if !self.withdrawn.contains(&key) {
                self.withdrawn.push(key);
            }
        }
    }

    /// The invalid lead that these rows make.
    pub fn into_mapped(self, crm: &ConnectedCrm, lead: LeadId) -> MappedRow {
        let client = if crm.source.client.is_some() { " and client" } else { "" };
        let reason = format!("id: {} {SHARED}{client}, and only one may", self.rows);
        MappedRow {
            lead,
            desired: Err(vec![reason]),
            withdrawn: self.withdrawn,
            odd: self.odd.difference(&self.clear).copied().collect(),
            row_hash: None,
            grounds: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Finds which of these leads have several rows. An incremental poll reads only the changed rows, and the other rows of the key
/// may be older.
///
/// # Errors
/// The source's.
pub async fn of_leads(
    crm: &ConnectedCrm,
    fitting: &FittingSource,
    leads: Vec<LeadId>,
) -> Result<HashMap<LeadId, RowCopies>, sqlx::Error> {
    let mut found: HashMap<LeadId, RowCopies> = leads.iter().map(|lead| (lead.clone(), RowCopies::default())).collect();
    let mut batches = PreparedReading::new(crm, fitting, ReadScope::Keys(leads)).start(&crm.db);
    while let Some(batch) = batches.next().await? {
        for line in batch.lines().filter(|line| named(*line).is_some()) {
            let row = line.row();
            if let Some(copies) = row.lead().and_then(|lead| found.get_mut(&lead)) {
                copies.add(crm, &row);
            }
        }
    }
    found.retain(|_, copies| copies.rows > 1);
    Ok(found)
}

/// Whether the row has a key that names a lead: one that a state of either engine can hold, in valid UTF-8.
pub fn named(line: RowLine<'_>) -> Option<()> {
    let (key, client) = line.key_and_client();
    is_name(line, &key?, client.as_deref().unwrap_or_default()).then_some(())
}

/// The same for a row whose key and client have been read already.
pub fn is_name(line: RowLine<'_>, key: &str, client: &str) -> bool {
    let fits = |text: &str| text.len() <= MAX_KEY_BYTES && !text.contains('\0');
    let is_replaced = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    fits(key) && fits(client) && !((is_replaced(key) || is_replaced(client)) && line.has_broken_name())
}
