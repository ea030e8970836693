//! Table `lead`: whole records of leads, read under lock and written back. [`crate::rules::lead_life`] says what changes.
//!
//! A writer of leads locks the records that an event concerns, applies the event to each, and saves what has changed, all in one
//! transaction. So every event meets the newest record.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_life;
use crate::rules::lead_record::LeadRecord;
use crate::store::lead_status::status_named;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::{StateStatement, StatementArgument};
use crate::store::{instant, micros};

/// A column of table `lead` that events change.
struct LeadColumn {
    name: &'static str,
    value: fn(&LeadRecord) -> StatementArgument,
    is_same: fn(&LeadRecord, &LeadRecord) -> bool,
}

macro_rules! column {
    ($name:ident, $value:expr) => {
        LeadColumn { name: stringify!($name), value: $value, is_same: |before, after| before.$name == after.$name }
    };
}

const COLUMNS: [LeadColumn; 30] = [
    column!(status, |lead| lead.status.name().into()),
    column!(desired, |lead| lead.desired.as_deref().into()),
    column!(desired_hash, |lead| lead.desired_hash.as_bytes().into()),
    column!(invalid_reasons, |lead| lead.invalid_reasons.as_deref().into()),
    column!(hold_reason, |lead| lead.hold_reason.map(HoldReason::name).into()),
    column!(held_at, |lead| lead.held_at.map(micros).into()),
    column!(delivered, |lead| lead.delivered.as_deref().into()),
    column!(delivered_hash, |lead| bytes_of(lead.delivered_hash)),
    column!(delivered_at, |lead| lead.delivered_at.map(micros).into()),
    column!(first_contact_at, |lead| lead.first_contact_at.map(micros).into()),
    column!(assumed_at, |lead| lead.assumed_at.map(micros).into()),
    column!(introduced_at, |lead| lead.introduced_at.map(micros).into()),
    column!(approved_for, |lead| lead.approved_for.map(HoldReason::name).into()),
    column!(test_lead_at, |lead| lead.test_lead_at.map(micros).into()),
    column!(sent, |lead| lead.sent.as_deref().into()),
    column!(sent_hash, |lead| bytes_of(lead.sent_hash)),
    column!(claimed_at, |lead| lead.claimed_at.map(micros).into()),
    column!(lease_until, |lead| lead.lease_until.map(micros).into()),
    column!(attempts, |lead| lead.attempts.into()),
    column!(first_failed_at, |lead| lead.first_failed_at.map(micros).into()),
    column!(due_at, |lead| lead.due_at.map(micros).into()),
    column!(urgent, |lead| i64::from(lead.urgent).into()),
    column!(last_outcome, |lead| lead.last_outcome.as_deref().into()),
    column!(last_http_status, |lead| lead.last_http_status.into()),
    column!(last_detail, |lead| lead.last_detail.as_deref().into()),
    column!(last_outcome_at, |lead| lead.last_outcome_at.map(micros).into()),
    column!(changed_at, |lead| micros(lead.changed_at).into()),
    column!(gone_at, |lead| lead.gone_at.map(micros).into()),
    column!(status_before, |lead| lead.status_before.map(|status| status.name()).into()),
    column!(row_hash, |lead| lead.row_hash.map(|hash| hash.0).into()),
];

fn bytes_of(fingerprint: Option<ContentFingerprint>) -> StatementArgument {
    fingerprint.map(|fingerprint| fingerprint.as_bytes().to_vec()).into()
}

/// The columns that [`StoredLead`] reads.
pub(crate) fn columns() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    format!("id, client_id, version, {}", names.join(", "))
}

/// [`columns`] of a table that a statement joins with others.
pub(crate) fn columns_of(table: &str) -> String {
    columns().split(", ").map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}

/// A row of table `lead`.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct StoredLead {
    id: String,
    client_id: String,
    version: i64,
    status: String,
    desired: Option<String>,
    desired_hash: Vec<u8>,
    invalid_reasons: Option<String>,
    hold_reason: Option<String>,
    held_at: Option<i64>,
    delivered: Option<String>,
    delivered_hash: Option<Vec<u8>>,
    delivered_at: Option<i64>,
    first_contact_at: Option<i64>,
    assumed_at: Option<i64>,
    introduced_at: Option<i64>,
    approved_for: Option<String>,
    test_lead_at: Option<i64>,
    sent: Option<String>,
    sent_hash: Option<Vec<u8>>,
    claimed_at: Option<i64>,
    lease_until: Option<i64>,
    attempts: i64,
    first_failed_at: Option<i64>,
    due_at: Option<i64>,
    urgent: i64,
    last_outcome: Option<String>,
    last_http_status: Option<i64>,
    last_detail: Option<String>,
    last_outcome_at: Option<i64>,
    changed_at: i64,
    gone_at: Option<i64>,
    status_before: Option<String>,
    row_hash: Option<i64>,
}

/// The record of a lead; `None` if the state has no such lead.
///
/// # Errors
/// Also for a status, a hold reason or a fingerprint that this version does not know.
pub async fn find_record(db: &StateDb, lead: &LeadId) -> Result<Option<LeadRecord>, sqlx::Error> {
    let text = format!("select {} from lead where id = $1 and client_id = $2", columns());
    let found = db.fetch_optional::<StoredLead>(StateStatement::new(text).bind(&lead.id).bind(&lead.client_id)).await?;
    found.map(record_of).transpose()
}

/// The records of these leads (at most 2,000), as far as the state has them.
pub async fn find(db: &StateDb, leads: &[LeadId]) -> Result<BTreeMap<LeadId, LeadRecord>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<StoredLead> = db.fetch_all(of_leads(leads)).await?;
    rows.into_iter().map(|row| record_of(row).map(|record| (record.lead.clone(), record))).collect()
}

fn of_leads(leads: &[LeadId]) -> StateStatement {
    let mut statement = choose();
    statement.push("(id, client_id) in (").push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement.push(")");
    statement
}

/// The record before an event, and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangedLead {
    pub before: LeadRecord,
    pub after: LeadRecord,
}

impl ChangedLead {
    pub fn has_changed(&self) -> bool {
        self.before != self.after
    }
}

/// How many records one transaction changes, where it is free to choose.
pub(crate) const AT_ONCE: i64 = 2000;

/// Locks the records of these leads. Leads that the state does not have are left out.
pub(crate) async fn lock(transaction: &mut StateTransaction, leads: &[LeadId]) -> Result<Vec<LeadRecord>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(Vec::new());
    }
    lock_chosen(transaction, of_leads(leads)).await
}

/// The version of a lead's row. A row that was deleted and inserted again counts from zero, so its claim is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeadVersion {
    pub number: i64,
    pub claimed_at: Option<DateTime<Utc>>,
}

/// As [`lock`], for the newest version of each lead only.
pub(crate) async fn lock_versions(
    transaction: &mut StateTransaction,
    leads: &[LeadId],
) -> Result<Vec<(LeadId, LeadVersion)>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement =
        StateStatement::new("select id, client_id, version, claimed_at from lead where (id, client_id) in (");
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement.push(") order by id, client_id").push(transaction.for_update());
    let rows: Vec<(String, String, i64, Option<i64>)> = transaction.fetch_all(statement).await?;
    let version = |(id, client_id, number, claimed_at)| {
        (LeadId { id, client_id }, LeadVersion { number, claimed_at: at(claimed_at) })
    };
    Ok(rows.into_iter().map(version).collect())
}

/// The beginning of a statement for [`lock_chosen`]; a condition on leads follows.
pub(crate) fn choose() -> StateStatement {
    StateStatement::new(format!("select {} from lead where ", columns()))
}

/// Locks the records that a statement chooses. All writers lock leads in byte order, because two sessions of PostgreSQL that lock
/// the same rows in different orders deadlock. SQLite has one writer at a time.
pub(crate) async fn lock_chosen(
    transaction: &mut StateTransaction,
    mut statement: StateStatement,
) -> Result<Vec<LeadRecord>, sqlx::Error> {
    statement.push(" order by id, client_id").push(transaction.for_update());
    read(transaction, statement).await
}

/// As [`lock_chosen`], for at most [`AT_ONCE`] leads after `after`.
pub(crate) async fn lock_some(
    transaction: &mut StateTransaction,
    mut statement: StateStatement,
    after: &LeadId,
) -> Result<Vec<LeadRecord>, sqlx::Error> {
    push_after(&mut statement, after);
    statement.push(transaction.for_update());
    read(transaction, statement.plan_anew()).await
}

/// As [`lock_some`], without a lock.
pub(crate) async fn read_some(
    transaction: &mut StateTransaction,
    mut statement: StateStatement,
    after: &LeadId,
) -> Result<Vec<LeadRecord>, sqlx::Error> {
    push_after(&mut statement, after);
    read(transaction, statement.plan_anew()).await
}

fn push_after(statement: &mut StateStatement, after: &LeadId) {
    // A lead with a blank key is invalid, but it is a lead.
    let beyond = if *after == LeadId::default() { " and (id, client_id) >= (" } else { " and (id, client_id) > (" };
    statement.push(beyond).push_bind(&after.id).push(", ").push_bind(&after.client_id);
    statement.push(") order by id, client_id limit ").push_bind(AT_ONCE);
}

/// Reads whole records; the statement has locked them.
pub(crate) async fn read(
    transaction: &mut StateTransaction,
    statement: StateStatement,
) -> Result<Vec<LeadRecord>, sqlx::Error> {
    let rows: Vec<StoredLead> = transaction.fetch_all(statement).await?;
    rows.into_iter().map(record_of).collect()
}

/// As [`read`], with the version of each record.
pub(crate) async fn read_versions(
    transaction: &mut StateTransaction,
    statement: StateStatement,
) -> Result<Vec<(LeadRecord, i64)>, sqlx::Error> {
    let rows: Vec<StoredLead> = transaction.fetch_all(statement).await?;
    rows.into_iter().map(|row| (row.version, record_of(row))).map(|(version, record)| Ok((record?, version))).collect()
}

/// Applies an event to each of these leads, as `event` chooses it by the record, and saves what changes. Returns the leads that
/// were found and had an event.
pub(crate) async fn apply(
    transaction: &mut StateTransaction,
    records: Vec<LeadRecord>,
    now: DateTime<Utc>,
    mut event: impl FnMut(&LeadRecord) -> Option<LeadEvent>,
) -> Result<Vec<ChangedLead>, sqlx::Error> {
    let change = |before: LeadRecord| {
        let after = lead_life::next(before.clone(), &event(&before)?, now);
        Some(ChangedLead { before, after })
    };
    let changed: Vec<ChangedLead> = records.into_iter().filter_map(change).collect();
    save(transaction, &changed).await?;
    Ok(changed)
}

/// [`apply`] for some thousand leads that a statement chooses, after `after`. Moves `after` forward; `None` at the end.
pub(crate) async fn apply_to_some(
    transaction: &mut StateTransaction,
    choice: StateStatement,
    after: &mut LeadId,
    now: DateTime<Utc>,
    event: impl FnMut(&LeadRecord) -> Option<LeadEvent>,
) -> Result<Option<Vec<ChangedLead>>, sqlx::Error> {
    let records = lock_some(transaction, choice, after).await?;
    let Some(last) = records.last() else { return Ok(None) };
    *after = last.lead.clone();
    apply(transaction, records, now, event).await.map(Some)
}

/// [`apply`] for all leads that a statement chooses, some thousand in one transaction. If the process ends meanwhile, the other
/// leads stay as they were. Returns how many leads changed.
pub(crate) async fn apply_to_all(
    db: &StateDb,
    choice: impl Fn() -> StateStatement,
    now: DateTime<Utc>,
    mut event: impl FnMut(&LeadRecord) -> Option<LeadEvent>,
) -> Result<u64, sqlx::Error> {
    // Most of the time there is nothing to do, and a transaction would make other writers wait.
    let mut first = choice();
    first.push(" limit 1");
    if db.fetch_optional::<StoredLead>(first).await?.is_none() {
        return Ok(0);
    }
    let (mut after, mut count) = (LeadId::default(), 0);
    loop {
        let mut transaction = db.begin().await?;
        let Some(changed) = apply_to_some(&mut transaction, choice(), &mut after, now, &mut event).await? else {
            return Ok(count);
        };
        transaction.commit().await?;
        count += changed.iter().filter(|lead| lead.has_changed()).count() as u64;
    }
}

/// The most arguments of a statement on SQLite are 32,766, and on PostgreSQL 65,535.
const MOST_ARGUMENTS: usize = 32_000;

/// Writes records that are locked: the columns that differ in any of them.
pub(crate) async fn save(transaction: &mut StateTransaction, leads: &[ChangedLead]) -> Result<(), sqlx::Error> {
    let leads: Vec<&ChangedLead> = leads.iter().filter(|lead| lead.has_changed()).collect();
    let differs = |column: &&LeadColumn| leads.iter().any(|lead| !(column.is_same)(&lead.before, &lead.after));
    let columns: Vec<&LeadColumn> = COLUMNS.iter().filter(differs).collect();
    for some in leads.chunks(MOST_ARGUMENTS / (columns.len() + 2)) {
        transaction.execute(save_statement(some, &columns)).await?;
    }
    Ok(())
}

fn save_statement(leads: &[&ChangedLead], columns: &[&LeadColumn]) -> StateStatement {
    let mut statement = StateStatement::new("with n (n_id, n_client_id");
    for column in columns {
        statement.push(", n_").push(column.name);
    }
    statement.push(") as (");
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.after.lead.id).push_bind(&lead.after.lead.client_id);
        for column in columns {
            row.push_bind((column.value)(&lead.after));
        }
    });
    statement.push(") update lead set ");
    for (place, column) in columns.iter().enumerate() {
        statement.push(if place == 0 { "" } else { ", " }).push(column.name).push(" = n_").push(column.name);
    }
    statement.push(", version = version + 1 from n where lead.id = n_id and lead.client_id = n_client_id");
    statement
}

/// Inserts records of new leads. Returns the leads that another process has inserted meanwhile, which are left as they are.
pub(crate) async fn insert(
    transaction: &mut StateTransaction,
    records: &[LeadRecord],
) -> Result<Vec<LeadId>, sqlx::Error> {
    let mut kept: BTreeSet<&LeadId> = BTreeSet::new();
    // New leads need no other columns, which are null by default.
    let is_set = |column: &&LeadColumn| {
        records.iter().any(|record| {
            !matches!(
                (column.value)(record),
                StatementArgument::Text(None) | StatementArgument::Integer(None) | StatementArgument::Bytes(None)
            )
        })
    };
    let columns: Vec<&LeadColumn> = COLUMNS.iter().filter(is_set).collect();
    for some in records.chunks(MOST_ARGUMENTS / (columns.len() + 2)) {
        let mut statement = StateStatement::new("insert into lead (id, client_id");
        for column in &columns {
            statement.push(", ").push(column.name);
        }
        statement.push(") ");
        statement.push_values(some, |row, record| {
            row.push_bind(&record.lead.id).push_bind(&record.lead.client_id);
            for column in &columns {
                row.push_bind((column.value)(record));
            }
        });
        statement.push(" on conflict (id, client_id) do nothing");
        if transaction.execute(statement).await? < some.len() as u64 {
            kept.extend(some.iter().map(|record| &record.lead));
        }
    }
    Ok(kept.into_iter().cloned().collect())
}

fn record_of(stored: StoredLead) -> Result<LeadRecord, sqlx::Error> {
    Ok(LeadRecord {
        lead: LeadId { id: stored.id, client_id: stored.client_id },
        status: status_named(&stored.status)?,
        desired: stored.desired,
        desired_hash: fingerprint(stored.desired_hash)?,
        invalid_reasons: stored.invalid_reasons,
        hold_reason: stored.hold_reason.as_deref().map(reason_named).transpose()?,
        held_at: at(stored.held_at),
        delivered: stored.delivered,
        delivered_hash: stored.delivered_hash.map(fingerprint).transpose()?,
        delivered_at: at(stored.delivered_at),
        first_contact_at: at(stored.first_contact_at),
        assumed_at: at(stored.assumed_at),
        introduced_at: at(stored.introduced_at),
        approved_for: stored.approved_for.as_deref().map(reason_named).transpose()?,
        test_lead_at: at(stored.test_lead_at),
        sent: stored.sent,
        sent_hash: stored.sent_hash.map(fingerprint).transpose()?,
        claimed_at: at(stored.claimed_at),
        lease_until: at(stored.lease_until),
        attempts: stored.attempts,
        first_failed_at: at(stored.first_failed_at),
        due_at: at(stored.due_at),
        urgent: stored.urgent == 1,
        last_outcome: stored.last_outcome,
        last_http_status: stored.last_http_status,
        last_detail: stored.last_detail,
        last_outcome_at: at(stored.last_outcome_at),
        changed_at: instant(stored.changed_at),
        gone_at: at(stored.gone_at),
        status_before: stored.status_before.as_deref().map(status_named).transpose()?,
        row_hash: stored.row_hash.map(RowHash),
    })
}

fn at(micros: Option<i64>) -> Option<DateTime<Utc>> {
    micros.map(instant)
}

pub(crate) fn fingerprint(bytes: Vec<u8>) -> Result<ContentFingerprint, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("a fingerprint has 16 bytes".into()))?;
    Ok(ContentFingerprint(bytes))
}

pub(crate) fn reason_named(name: &str) -> Result<HoldReason, sqlx::Error> {
    HoldReason::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown hold reason {name:?}").into()))
}
