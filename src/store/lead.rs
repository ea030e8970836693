//! Table `lead`: one row a lead. This file has the reads and writes of the poll; [`super::delivery`] has the deliverer's.
//!
//! Poll, deliverer and operator commands run at the same time. So every statement decides by the current row and not by what was
//! read earlier, and the last branch of each `case` is right whichever of them came first.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Row as _, Type};

use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash, WITHDRAWALS};
use crate::db::trusted;
use crate::rules::lead_change::{KnownLead, LeadChange};
use crate::store::lead_status::{IS_ASSUMED, SHOWN_STATUS, status_named};
use crate::store::micros;
use crate::store::state_db::{StateDb, on_state};
use crate::store::tombstone::{self, ErasedPeople};

pub use crate::rules::lead_status::LeadStatus;

/// Reads a [`KnownLead`] from a row of either engine.
macro_rules! known_of {
    ($row:expr) => {
        Ok::<KnownLead, sqlx::Error>(KnownLead {
            lead: LeadId { id: $row.try_get(0)?, client_id: $row.try_get(1)? },
            status: status_named($row.try_get(2)?)?,
            desired_hash: fingerprint_of($row.try_get(3)?)?,
            delivered_hash: $row.try_get::<Option<&[u8]>, _>(4)?.map(fingerprint_of).transpose()?,
            contacted: $row.try_get::<Option<i64>, _>(5)?.is_some(),
            hold_reason: $row.try_get(6)?,
            gone: $row.try_get::<Option<i64>, _>(7)?.is_some(),
            row_hash: $row.try_get::<Option<i64>, _>(8)?.map(RowHash),
            assumed: $row.try_get::<Option<i64>, _>(9)?.is_some(),
        })
    };
}

/// Leads known to the state in byte order of (id, client), after `after`, at most `limit`.
pub async fn page(db: &StateDb, after: Option<&LeadId>, limit: i64) -> Result<Vec<KnownLead>, sqlx::Error> {
    let (id, client_id) = after.map_or(("", ""), |lead| (&lead.id, &lead.client_id));
    // Without `after`, blank keys are included: a lead with a blank key is invalid, but it is a lead.
    let beyond = if after.is_some() { ">" } else { ">=" };
    let sql = format!(
        "select id, client_id, {SHOWN_STATUS}, desired_hash, delivered_hash, first_contact_at, hold_reason, gone_at, row_hash, \
         assumed_at from lead \
         where (id, client_id) {beyond} ($1, $2) order by id, client_id limit $3"
    );
    on_state!(db, pool => {
        let rows = sqlx::query(trusted(sql))
            .bind(id).bind(client_id).bind(limit).fetch_all(pool).await?;
        rows.iter().map(|row| known_of!(row)).collect()
    })
}

/// The stored facts of these leads: one statement for any number of leads (at most 5,000).
pub async fn known(db: &StateDb, leads: &[LeadId]) -> Result<HashMap<LeadId, KnownLead>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    on_state!(db, pool => {
        let mut query = QueryBuilder::new(
            "with asked (asked_id, asked_client_id) as (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(") select id, client_id, ").push(SHOWN_STATUS).push(
            ", desired_hash, delivered_hash, first_contact_at, hold_reason, gone_at, row_hash, assumed_at from asked join \
             lead on lead.id = asked_id and lead.client_id = asked_client_id");
        let rows = query.build().persistent(db.keeps_plans()).fetch_all(pool).await?;
        rows.iter().map(|row| known_of!(row).map(|known: KnownLead| (known.lead.clone(), known))).collect()
    })
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

/// In an upsert: whether the new content withdraws consent, 1 or 0. The poll read the lead some time ago. If the lead was claimed
/// since, Conversica knows the person by now, and a content that seemed to withdraw nothing is a withdrawal. During a request,
/// consent counts as already withdrawn only if the content in flight withdraws it too.
fn urgent_by_now() -> String {
    let withdrawn = WITHDRAWALS.map(|key| {
        let said = format!("like '%\"{}\":true%'", key.name());
        format!(
            "(excluded.desired {said} and not (\
             coalesce(case when lead.delivered_hash is not null then {DELIVERED} end, '') {said} \
             and (lead.status <> 'in_flight' or coalesce({SENT}, '') {said})))"
        )
    });
    format!(
        "case when excluded.urgent = 1 or (lead.first_contact_at is not null or lead.status = 'in_flight') and ({}) \
         then 1 else 0 end",
        withdrawn.join(" or ")
    )
}

/// In an upsert: the hold reason of the new content. A hold of the old content goes on, except `conversation_changed`, which each
/// content decides for itself. A hold of a single lead goes before a hold of the whole poll, because the latter is released
/// without a check of single leads.
const WAITS_FOR: &str = "coalesce(case when lead.hold_reason in ('ambiguous', 'test_lead_limit') then lead.hold_reason end, \
     excluded.hold_reason, case when lead.hold_reason <> 'conversation_changed' then lead.hold_reason end)";

/// Writes the changes that a poll found: one statement for any number of leads (at most 2,000).
///
/// A lead in flight stays in flight; its newest content waits for the outcome. A lead that waits for its retry keeps its time, so
/// that a change does not hurry an endpoint that asked for patience.
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
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let erased = tombstone::erased!(db, transaction, changes.iter().map(|change| change.lead.clone()));
        let changes = spared(changes, &erased);
        if !changes.is_empty() {
            upsert_query(&changes, now, written_at).build().execute(&mut *transaction).await?;
        }
        transaction.commit().await
    })
}

/// Drops the changes of erased people, whatever their rows say.
pub(crate) fn spared<'c>(changes: &'c [LeadChange], erased: &ErasedPeople) -> Cow<'c, [LeadChange]> {
    if erased.is_empty() {
        return Cow::Borrowed(changes);
    }
    Cow::Owned(changes.iter().filter(|change| !erased.has(&change.lead)).cloned().collect())
}

/// The statement of [`upsert`], for a caller that has a transaction and has checked for erased people.
pub(crate) fn upsert_query<DB: Database>(
    changes: &[LeadChange],
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> Option<&'e str>: Encode<'e, DB> + Type<DB>,
    for<'e> Option<String>: Encode<'e, DB> + Type<DB>,
    for<'e> Vec<u8>: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
    for<'e> Option<i64>: Encode<'e, DB> + Type<DB>,
{
    // See `InOrder`.
    let mut changes: Vec<&LeadChange> = changes.iter().collect();
    changes.sort_unstable_by(|a, b| a.lead.cmp(&b.lead));
    let urgent = urgent_by_now();
    // The new content needs no approval, whatever held the old one. An invalid row can be fixed, but an ambiguous outcome stays
    // unknown.
    let free = format!(
        "excluded.invalid_reasons is not null and coalesce(lead.hold_reason, '') <> 'ambiguous' or {urgent} = 1 \
         or excluded.desired_hash = lead.delivered_hash"
    );
    let mut query = QueryBuilder::new(
        "insert into lead (id, client_id, status, desired, desired_hash, invalid_reasons, hold_reason, held_at, \
         urgent, due_at, attempts, changed_at, row_hash) ",
    );
    query.push_values(changes, |mut row, change| {
        let status = match (&change.desired, change.hold_reason) {
            (Err(_), _) => LeadStatus::Invalid,
            (Ok(_), Some(_)) => LeadStatus::Held,
            (Ok(_), None) => LeadStatus::Pending,
        };
        row.push_bind(change.lead.id.as_str())
            .push_bind(change.lead.client_id.as_str())
            .push_bind(status.name())
            .push_bind(change.desired.as_deref().ok())
            .push_bind(change.desired_hash.as_bytes().to_vec())
            .push_bind(change.desired.as_ref().err().map(|reasons| serde_json::json!(reasons).to_string()))
            .push_bind(change.hold_reason)
            .push_bind(change.hold_reason.map(|_| micros(written_at)))
            .push_bind(i64::from(change.urgent))
            .push_bind(micros(now))
            .push_bind(0_i64)
            .push_bind(micros(written_at))
            .push_bind(change.row_hash.map(|hash| hash.0));
    });
    query
        .push(" on conflict (id, client_id) do update set delivered = ")
        .push(DELIVERED)
        .push(
            ", \
         sent = case when lead.status = 'in_flight' and lead.sent is null and lead.desired_hash = lead.sent_hash \
                then lead.desired else lead.sent end, \
         desired = excluded.desired, desired_hash = excluded.desired_hash, \
         invalid_reasons = excluded.invalid_reasons, \
         hold_reason = case when ",
        )
        .push(&free)
        .push(" then null else ")
        .push(WAITS_FOR)
        .push(
            " end, \
         held_at = case when ",
        )
        .push(&free)
        .push(" then null when ")
        .push(WAITS_FOR)
        .push(
            " is not null then excluded.changed_at end, \
         changed_at = excluded.changed_at, gone_at = null, status_before = null, row_hash = excluded.row_hash, \
         urgent = ",
        )
        .push(&urgent)
        .push(
            ", \
         attempts = case when lead.status in ('retrying', 'in_flight') then lead.attempts else 0 end, \
         first_failed_at = case when lead.status in ('retrying', 'in_flight') then lead.first_failed_at end, \
         due_at = case when lead.status = 'retrying' and ",
        )
        .push(&urgent)
        .push(
            " = 0 then lead.due_at \
                else excluded.due_at end, \
         status = case when lead.status = 'in_flight' then 'in_flight' \
                when excluded.invalid_reasons is not null then 'invalid' \
                when excluded.desired_hash = lead.delivered_hash then 'in_sync' \
                when ",
        )
        .push(&urgent)
        .push(" = 0 and ")
        .push(WAITS_FOR)
        .push(
            " is not null then 'held' \
                when lead.status = 'retrying' then 'retrying' \
                else 'pending' end",
        );
    query
}

/// Marks leads whose rows are no longer in the source. Requests in flight end first, and withdrawals of consent are still sent.
pub async fn mark_gone(db: &StateDb, leads: &[LeadId], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if leads.is_empty() {
        return Ok(());
    }
    let order = InOrder::of(db, "select missing_id, missing_client_id from missing");
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("with missing (missing_id, missing_client_id) as (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(")").push(&order.cte).push(" update lead set gone_at = ");
        query.push_bind(micros(now));
        query.push(
            ", status = case when lead.status = 'in_flight' \
             or lead.urgent = 1 and lead.status in ('pending', 'retrying') then lead.status else 'gone' end, \
             held_at = case when lead.hold_reason <> 'source_shrank' then lead.held_at end, \
             hold_reason = case when lead.hold_reason <> 'source_shrank' then lead.hold_reason end from missing",
        );
        query.push(order.from);
        query.push(" where lead.id = missing.missing_id and lead.client_id = missing.missing_client_id");
        query.push(order.condition);
        query.build().execute(pool).await?;
        Ok(())
    })
}

/// A lead whose row is back still waits for approval: it was held for another reason than the missing row, or it was first seen
/// while most others were missing. A withdrawal of consent is not held.
const STILL_WAITS: &str = "lead.hold_reason is not null and lead.urgent = 0 and (lead.hold_reason <> 'source_shrank' or lead.status <> 'in_flight' \
     and lead.status_before is null and lead.invalid_reasons is null and coalesce(lead.desired_hash <> lead.delivered_hash, true))";

/// Gives leads whose rows have returned unchanged the status that follows from their content. Leads that were held for their
/// missing row get their earlier status back. A lead is skipped if its content has changed: its stop was queued meanwhile, and
/// the next compare finds that the row differs.
pub async fn mark_returned(db: &StateDb, leads: &[KnownLead], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if leads.is_empty() {
        return Ok(());
    }
    let order = InOrder::of(db, "select back_id, back_client_id from back");
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("with back (back_id, back_client_id, back_hash) as (");
        query.push_values(leads, |mut row, known| {
            row.push_bind(&known.lead.id).push_bind(&known.lead.client_id).push_bind(known.desired_hash.as_bytes().to_vec());
        });
        query.push(")").push(&order.cte).push(" update lead set gone_at = null, status_before = null, \
             due_at = case when lead.status_before = 'retrying' then lead.due_at else ");
        query.push_bind(micros(now));
        query.push(
            " end, urgent = case when lead.desired_hash = lead.delivered_hash then 0 else lead.urgent end, held_at = case when ",
        );
        query.push(STILL_WAITS).push(" then lead.held_at end, hold_reason = case when ").push(STILL_WAITS);
        query.push(
            " then lead.hold_reason end, \
             status = case when lead.status = 'in_flight' then lead.status \
             when lead.status_before <> 'in_sync' or lead.status_before = 'in_sync' and lead.desired_hash = lead.delivered_hash \
                  then lead.status_before \
             when lead.invalid_reasons is not null then 'invalid' \
             when lead.desired_hash = lead.delivered_hash then 'in_sync' \
             when ");
        query.push(STILL_WAITS).push(" then 'held' else 'pending' end from back");
        query.push(order.from);
        query.push(
            " where lead.id = back.back_id and lead.client_id = back.back_client_id and lead.desired_hash = back.back_hash \
             and lead.gone_at is not null");
        query.push(order.condition);
        query.build().execute(pool).await?;
        Ok(())
    })
}

/// The number of leads of each status; all statuses are present.
pub async fn counts(db: &StateDb) -> Result<BTreeMap<LeadStatus, i64>, sqlx::Error> {
    let mut counts: BTreeMap<LeadStatus, i64> = LeadStatus::ALL.into_iter().map(|status| (status, 0)).collect();
    // One statement reads one moment, so that the numbers add up.
    let sql = format!(
        "select status, count(*) from lead where status <> 'in_sync' group by status \
         union all select 'in_sync', (select count(*) from lead) - (select count(*) from lead where status <> 'in_sync') - \
         (select count(*) from lead where {IS_ASSUMED}) \
         union all select 'assumed', count(*) from lead where {IS_ASSUMED}"
    );
    let rows: Vec<(String, i64)> = on_state!(db, pool => sqlx::query_as(trusted(sql)).fetch_all(pool).await)?;
    for (name, count) in rows {
        counts.insert(status_named(&name)?, count);
    }
    Ok(counts)
}

/// How many leads Conversica rejected, and how many are exhausted.
pub async fn failed(db: &StateDb) -> Result<(i64, i64), sqlx::Error> {
    on_state!(db, pool => {
        sqlx::query_as(
            "select (select count(*) from lead where status = 'rejected' and status <> 'in_sync'), \
             (select count(*) from lead where status = 'exhausted' and status <> 'in_sync')").fetch_one(pool).await
    })
}

/// The content that Conversica accepted last, for a page of leads; `plan` compares with it. Without an acceptance it is the
/// content that Conversica may have, or is about to get.
pub async fn delivered(db: &StateDb, leads: &[LeadId]) -> Result<BTreeMap<LeadId, String>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(BTreeMap::new());
    }
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("select id, client_id, ");
        query.push(format!("coalesce({DELIVERED}, {SENT})"));
        query.push(" from lead where (delivered is not null or delivered_hash = desired_hash or status = 'in_flight') and (id, client_id) in (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(")");
        let rows: Vec<(String, String, String)> = query.build_query_as().fetch_all(pool).await?;
        Ok(rows.into_iter().map(|(id, client_id, body)| (LeadId { id, client_id }, body)).collect())
    })
}

fn fingerprint_of(bytes: &[u8]) -> Result<ContentFingerprint, sqlx::Error> {
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("a fingerprint has 16 bytes".into()))?;
    Ok(ContentFingerprint(bytes))
}
