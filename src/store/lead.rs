//! Table `lead`: one row a lead. This file has the reads and writes of the poll; [`super::delivery`] has the deliverer's.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash};
use crate::rules::lead_change::{KnownLead, LeadChange};
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::store::lead_record::{self, fingerprint, reason_named};
use crate::store::lead_status::{IS_ASSUMED, SHOWN_STATUS, UNSETTLED, status_named};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::tombstone::{self, ErasedPeople};

pub use crate::rules::lead_status::LeadStatus;

/// The columns that [`KnownRow`] reads.
fn known_columns() -> String {
    format!(
        "id, client_id, {SHOWN_STATUS} as status, desired_hash, delivered_hash, first_contact_at, hold_reason, gone_at, row_hash, \
         assumed_at"
    )
}

#[derive(sqlx::FromRow)]
struct KnownRow {
    id: String,
    client_id: String,
    status: String,
    desired_hash: Vec<u8>,
    delivered_hash: Option<Vec<u8>>,
    first_contact_at: Option<i64>,
    hold_reason: Option<String>,
    gone_at: Option<i64>,
    row_hash: Option<i64>,
    assumed_at: Option<i64>,
}

fn known_lead(row: KnownRow) -> Result<KnownLead, sqlx::Error> {
    Ok(KnownLead {
        lead: LeadId { id: row.id, client_id: row.client_id },
        status: status_named(&row.status)?,
        desired_hash: fingerprint(row.desired_hash)?,
        delivered_hash: row.delivered_hash.map(fingerprint).transpose()?,
        contacted: row.first_contact_at.is_some(),
        hold_reason: row.hold_reason.as_deref().map(reason_named).transpose()?,
        gone: row.gone_at.is_some(),
        row_hash: row.row_hash.map(RowHash),
        assumed: row.assumed_at.is_some(),
    })
}

/// Leads known to the state in byte order of (id, client), after `after`, at most `limit`.
pub async fn page(db: &StateDb, after: Option<&LeadId>, limit: i64) -> Result<Vec<KnownLead>, sqlx::Error> {
    let (id, client_id) = after.map_or(("", ""), |lead| (&lead.id, &lead.client_id));
    // Without `after`, blank keys are included: a lead with a blank key is invalid, but it is a lead.
    let beyond = if after.is_some() { ">" } else { ">=" };
    let mut page =
        StateStatement::new(format!("select {} from lead where (id, client_id) {beyond} (", known_columns()));
    page.push_bind(id).push(", ").push_bind(client_id).push(") order by id, client_id limit ").push_bind(limit);
    let rows: Vec<KnownRow> = db.fetch_all(page).await?;
    rows.into_iter().map(known_lead).collect()
}

/// The stored facts of these leads: one statement for any number of leads (at most 5,000).
pub async fn known(db: &StateDb, leads: &[LeadId]) -> Result<HashMap<LeadId, KnownLead>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    let mut known = StateStatement::new("with asked (asked_id, asked_client_id) as (");
    known.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    known.push(") select ").push(&known_columns());
    known.push(" from asked join lead on lead.id = asked_id and lead.client_id = asked_client_id");
    let rows: Vec<KnownRow> = db.fetch_all(known).await?;
    let known = rows.into_iter().map(known_lead);
    known.map(|known| known.map(|known| (known.lead.clone(), known))).collect()
}

/// Parts of an update that make PostgreSQL lock its rows in byte order, as `upsert` does. Poll and deliverer write at the same
/// time, and two sessions that lock the same rows in different orders deadlock. SQLite has one writer at a time.
pub(crate) struct InOrder {
    /// Goes after the CTE that names the leads.
    pub cte: String,
    /// Goes after the `from` list.
    pub from: &'static str,
    /// Goes after the condition.
    pub condition: &'static str,
}

impl InOrder {
    /// `keys` selects id and client of the leads to update.
    pub fn of(db: &StateDb, keys: &str) -> Self {
        match db {
            StateDb::Sqlite(_) => Self { cte: String::new(), from: "", condition: "" },
            StateDb::Postgres(_) => Self {
                cte: format!(
                    ", locked (locked_id, locked_client_id) as (select id, client_id from lead \
                     where (id, client_id) in ({keys}) order by id, client_id for update)"
                ),
                from: ", locked",
                condition: " and lead.id = locked_id and lead.client_id = locked_client_id",
            },
        }
    }
}

/// Goes after `select id, client_id from lead where …` in a CTE. It locks the rows that an update will change, in the same order,
/// and checks the condition again under the lock. The update itself must name leads by id and client alone. With a second
/// condition or a second CTE, PostgreSQL may expect one row on both sides, as it does while a table has just been filled, and
/// then compares each row with each.
pub(crate) fn locking(db: &StateDb) -> &'static str {
    match db {
        StateDb::Sqlite(_) => "",
        StateDb::Postgres(_) => " order by id, client_id for update",
    }
}

/// The content accepted last. If it equals the desired content by fingerprint, it is not stored twice.
pub(crate) const DELIVERED: &str = "case when lead.delivered is null and lead.delivered_hash = lead.desired_hash then lead.desired else lead.delivered end";

/// The content in flight.
pub(crate) const SENT: &str = "coalesce(lead.sent, case when lead.desired_hash = lead.sent_hash then lead.desired end)";

/// Writes the changes that a poll found (at most 2,000).
///
/// `now` is the poll's own time, from which the leads are due. `written_at` is the present moment; by it an approval can tell
/// which leads the operator was shown.
pub async fn upsert(
    db: &StateDb,
    changes: &[LeadChange],
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    let leads = changes.iter().map(|change| change.lead.clone());
    let erased = tombstone::erased_among(&mut transaction, leads).await?;
    write_changes(&mut transaction, &spared(changes, &erased), now, written_at).await?;
    transaction.commit().await
}

/// Drops the changes of erased people, whatever their rows say.
pub(crate) fn spared<'c>(changes: &'c [LeadChange], erased: &ErasedPeople) -> Cow<'c, [LeadChange]> {
    if erased.is_empty() {
        return Cow::Borrowed(changes);
    }
    Cow::Owned(changes.iter().filter(|change| !erased.has(&change.lead)).cloned().collect())
}

/// As [`upsert`], for a caller that has a transaction and has checked for erased people.
pub(crate) async fn write_changes(
    transaction: &mut StateTransaction,
    changes: &[LeadChange],
    due_at: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let of: BTreeMap<&LeadId, &LeadChange> = changes.iter().map(|change| (&change.lead, change)).collect();
    let leads: Vec<LeadId> = changes.iter().map(|change| change.lead.clone()).collect();
    let known = lead_record::lock(transaction, &leads).await?;
    let mut new = of.clone();
    for record in &known {
        new.remove(&record.lead);
    }
    let row_changed = |record: &LeadRecord| {
        let change = of.get(&record.lead).copied()?.clone();
        Some(LeadEvent::RowChanged { change, due_at })
    };
    lead_record::apply(transaction, known, written_at, row_changed).await?;
    let new: Vec<LeadRecord> =
        new.into_values().map(|change| LeadRecord::first_seen(change, due_at, written_at)).collect();
    let inserted_by_others = lead_record::insert(transaction, &new).await?;
    let known = lead_record::lock(transaction, &inserted_by_others).await?;
    lead_record::apply(transaction, known, written_at, row_changed).await.map(drop)
}

/// Marks leads whose rows are no longer in the source. Requests in flight end first, and withdrawals of consent are still sent.
pub async fn mark_gone(db: &StateDb, leads: &[LeadId], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if leads.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    let records = lead_record::lock(&mut transaction, leads).await?;
    lead_record::apply(&mut transaction, records, now, |_| Some(LeadEvent::RowMissing)).await?;
    transaction.commit().await
}

/// Gives leads whose rows have returned unchanged the status that follows from their content.
pub async fn mark_returned(db: &StateDb, leads: &[KnownLead], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if leads.is_empty() {
        return Ok(());
    }
    let contents: HashMap<&LeadId, ContentFingerprint> =
        leads.iter().map(|known| (&known.lead, known.desired_hash)).collect();
    let mut transaction = db.begin().await?;
    let leads: Vec<LeadId> = leads.iter().map(|known| known.lead.clone()).collect();
    let records = lead_record::lock(&mut transaction, &leads).await?;
    let row_back = |record: &LeadRecord| Some(LeadEvent::RowBack { content: *contents.get(&record.lead)? });
    lead_record::apply(&mut transaction, records, now, row_back).await?;
    transaction.commit().await
}

/// The number of leads of each status; all statuses are present.
pub async fn counts(db: &StateDb) -> Result<BTreeMap<LeadStatus, i64>, sqlx::Error> {
    let mut counts: BTreeMap<LeadStatus, i64> = LeadStatus::ALL.into_iter().map(|status| (status, 0)).collect();
    // One statement reads one moment, so that the numbers add up.
    let sql = format!(
        "select status, count(*) from lead where {UNSETTLED} group by status \
         union all select 'in_sync', (select count(*) from lead) - (select count(*) from lead where {UNSETTLED}) - \
         (select count(*) from lead where {IS_ASSUMED}) \
         union all select 'assumed', count(*) from lead where {IS_ASSUMED}"
    );
    let rows: Vec<(String, i64)> = db.fetch_all(sql).await?;
    for (name, count) in rows {
        counts.insert(status_named(&name)?, count);
    }
    Ok(counts)
}

/// How many leads Conversica rejected, and how many are exhausted.
pub async fn failed(db: &StateDb) -> Result<(i64, i64), sqlx::Error> {
    let sql = format!(
        "select (select count(*) from lead where status = 'rejected' and {UNSETTLED}), \
         (select count(*) from lead where status = 'exhausted' and {UNSETTLED})"
    );
    db.fetch_one(sql).await
}

/// The content that Conversica accepted last, for a page of leads; `plan` compares with it. Without an acceptance it is the
/// content that Conversica may have, or is about to get.
pub async fn delivered(db: &StateDb, leads: &[LeadId]) -> Result<BTreeMap<LeadId, String>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut delivered = StateStatement::new(format!(
        "select id, client_id, coalesce({DELIVERED}, {SENT}) from lead \
         where (delivered is not null or delivered_hash = desired_hash or status = 'in_flight') and (id, client_id) in ("
    ));
    delivered.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    delivered.push(")");
    let rows: Vec<(String, String, String)> = db.fetch_all(delivered).await?;
    Ok(rows.into_iter().map(|(id, client_id, body)| (LeadId { id, client_id }, body)).collect())
}
