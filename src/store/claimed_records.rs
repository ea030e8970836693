//! The records of claimed leads, kept in memory until their answers are recorded. Without them every answer would read the whole
//! record again. They also know the sizes of the tables, by which PostgreSQL keeps the plans of the deliverer's statements.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::horizon;
use crate::rules::lead_record::LeadRecord;
use crate::store::lead_record::{self, LeadVersion};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::TableSizes;

/// The records of leads as their claims left them: one for each request in flight.
#[derive(Debug, Default)]
pub struct ClaimedRecords {
    records: HashMap<LeadId, VersionedRecord>,
    measured: Option<MeasuredTables>,
}

/// The sizes of the tables on PostgreSQL.
#[derive(Debug, Clone, Copy)]
struct MeasuredTables {
    sizes: TableSizes,
    counts_until: DateTime<Utc>,
}

/// How long a measured size counts.
const MEASURED_FOR: Duration = Duration::from_secs(1);

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
    /// Begins a transaction of the deliverer.
    pub(crate) async fn begin(&mut self, db: &StateDb, now: DateTime<Utc>) -> Result<StateTransaction, sqlx::Error> {
        let StateDb::Postgres(_) = db else { return db.begin().await };
        let known = self.measured.filter(|measured| !horizon::is_over(measured.counts_until, MEASURED_FOR, now));
        let measured = match known {
            Some(measured) => measured,
            None => {
                let pages = "select pg_relation_size('lead') / 8192, pg_relation_size('event') / 8192";
                let (leads, posts): (i64, i64) = db.fetch_one(pages).await?;
                MeasuredTables { sizes: TableSizes::of_pages(leads, posts), counts_until: now + MEASURED_FOR }
            }
        };
        self.measured = Some(measured);
        db.begin_with_kept_plans(measured.sizes).await
    }

    pub(crate) fn keep(&mut self, record: LeadRecord, version: i64) {
        self.records.insert(record.lead.clone(), VersionedRecord { record, version });
    }

    /// After the answer is recorded.
    pub(crate) fn forget(&mut self, lead: &LeadId) {
        self.records.remove(lead);
    }

    /// Locks the records of these leads. Records without a change since their claims are taken from memory. Leads that the
    /// state does not have are left out.
    pub(crate) async fn lock(
        &self,
        transaction: &mut StateTransaction,
        leads: &[LeadId],
    ) -> Result<Vec<LeadRecord>, sqlx::Error> {
        if !leads.iter().any(|lead| self.records.contains_key(lead)) {
            return lead_record::lock(transaction, leads).await;
        }
        let mut records = Vec::with_capacity(leads.len());
        let mut changed = Vec::new();
        for (lead, version) in lead_record::lock_versions(transaction, leads).await? {
            match self.records.get(&lead) {
                Some(kept) if kept.is_of(version) => records.push(kept.record.clone()),
                _ => changed.push(lead),
            }
        }
        records.extend(lead_record::lock(transaction, &changed).await?);
        Ok(records)
    }
}
