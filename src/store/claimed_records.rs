//! The records of claimed leads, kept in memory until their answers are recorded. Without them every answer would read the whole
//! record again.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::rules::lead_record::LeadRecord;
use crate::store::lead_record::{self, LeadVersion};
use crate::store::statement::StateTransaction;

/// The records of leads as their claims left them: one for each request in flight.
#[derive(Debug, Default)]
pub struct ClaimedRecords(HashMap<LeadId, VersionedRecord>);

#[derive(Debug)]
struct VersionedRecord {
    record: LeadRecord,
    version: i64,
}

impl VersionedRecord {
    /// Whether this is the record of that version. The state keeps microseconds.
    fn is_of(&self, version: LeadVersion) -> bool {
        let micros = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros());
        self.version == version.number && micros(self.record.claimed_at) == micros(version.claimed_at)
    }
}

impl ClaimedRecords {
    pub(crate) fn keep(&mut self, record: LeadRecord, version: i64) {
        self.0.insert(record.lead.clone(), VersionedRecord { record, version });
    }

    /// After the answer is recorded.
    pub(crate) fn forget(&mut self, lead: &LeadId) {
        self.0.remove(lead);
    }

    /// Locks the records of these leads. Records without a change since their claims are taken from memory. Leads that the
    /// state does not have are left out.
    pub(crate) async fn lock(
        &self,
        transaction: &mut StateTransaction,
        leads: &[LeadId],
    ) -> Result<Vec<LeadRecord>, sqlx::Error> {
        if !leads.iter().any(|lead| self.0.contains_key(lead)) {
            return lead_record::lock(transaction, leads).await;
        }
        let mut records = Vec::with_capacity(leads.len());
        let mut changed = Vec::new();
        for (lead, version) in lead_record::lock_versions(transaction, leads).await? {
            match self.0.get(&lead) {
                Some(kept) if kept.is_of(version) => records.push(kept.record.clone()),
                _ => changed.push(lead),
            }
        }
        records.extend(lead_record::lock(transaction, &changed).await?);
        Ok(records)
    }
}
