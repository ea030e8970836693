//! Erasing a person: one transaction deletes everything stored about them and leaves a tombstone, so that nothing is sent to them
//! again. [`super::tombstone`] describes the tombstone; [`super::record`] knows every table with data of a person.
//!
//! On PostgreSQL other sessions write at the same time. A writer that may write about a missing lead holds the lock of
//! `tombstone::erased!`, and an erasure waits for that lock. Writers journal answers under the lock of table `outcome`, which an
//! erasure takes. An erasure waits for nothing else while it holds these locks: if a session is working on the lead, the erasure
//! is tried again.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{Database, Encode, QueryBuilder, Row as _, Type};

use crate::conversica::any_withdrawal;
use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::lead::{LeadId, LeadKey};
use crate::db::{self, trusted};
use crate::store::control::{self, CompareAsked};
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::heard::reading::kind_of;
use crate::store::lead::DELIVERED;
use crate::store::record::{self, PERSONAL, RecordLookup};
use crate::store::state_db::{StateDb, on_state};
use crate::store::tombstone::{self, TombstoneKey};
use crate::store::{consent, gone, micros, payload, possible_opt_out};

/// Whether Conversica may still write to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureReach {
    /// Conversica was never told about them and has never posted about them.
    Never,
    /// The content that Conversica accepted last withdraws consent to all messages.
    Stopped,
    /// A request is in flight.
    InFlight,
    /// A request to stop messaging waits to be sent.
    Stopping,
    /// Conversica rejected the request to stop, or did not answer for too long.
    StopFailed,
    /// Conversica knows them, or may know them; the state has the content to stop it with.
    MayWrite,
    /// Conversica has posted about them but was never told about them from here, so the state has no content to stop it with.
    SpeaksOfThem,
}

/// The outcome of an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureOutcome {
    /// The person is erased; the number counts the deleted rows.
    Done(u64),
    /// Nothing was changed, for this reason.
    Refused(ErasureReach),
    /// Another session is working on the lead at this moment.
    Busy,
}

/// The ground for deciding whether Conversica may still write to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldFact {
    /// Only the state counts.
    AsFarAsIsKnown,
    /// The operator says that they have stopped the messages at Conversica by hand.
    ByHand,
}

/// Columns of table `lead`: status, whether Conversica was ever told, the content accepted for certain, the desired content.
type ErasureRow = (String, bool, Option<String>, Option<String>, Option<i64>, Option<i64>);

fn says(content: Option<&String>, keys: &[LeadKey]) -> bool {
    keys.iter().any(|key| content.is_some_and(|content| content.contains(&format!("\"{}\":true", key.name()))))
}

fn reach(row: Option<&ErasureRow>, is_heard: bool) -> ErasureReach {
    let unknown = if is_heard { ErasureReach::SpeaksOfThem } else { ErasureReach::Never };
    let Some((status, is_contacted, delivered, desired, _, _)) = row else { return unknown };
    let stops = says(desired.as_ref(), &[LeadKey::StopMessaging]);
    match status.as_str() {
        "in_flight" => ErasureReach::InFlight,
        _ if says(delivered.as_ref(), &[LeadKey::StopMessaging, LeadKey::OptOut]) => ErasureReach::Stopped,
        _ if !is_contacted => unknown,
        "pending" | "retrying" if stops => ErasureReach::Stopping,
        "rejected" | "exhausted" if stops => ErasureReach::StopFailed,
        _ => ErasureReach::MayWrite,
    }
}

/// Reads the row of table `lead`, and whether Conversica has posted about the lead. `$lock` is the locking clause.
macro_rules! look {
    ($connection:expr, $lead:expr, $lock:expr) => {{
        let sql = format!(
            "select status, first_contact_at, case when delivered_hash is not null then {DELIVERED} end, desired, introduced_at, \
             test_lead_at from lead where id = $1 and client_id = $2 {}",
            $lock
        );
        let row =
            sqlx::query(trusted(sql)).bind(&$lead.id).bind(&$lead.client_id).fetch_optional(&mut *$connection).await?;
        let row: Option<ErasureRow> = match row {
            None => None,
            Some(row) => Some((
                row.try_get(0)?,
                row.try_get::<Option<i64>, _>(1)?.is_some(),
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
                row.try_get(5)?,
            )),
        };
        let heard: Option<i64> = sqlx::query_scalar(
            "select cast(1 as bigint) from event where id = $1 and client_id = $2 and id <> '' and kind <> 'chat_lead' \
             union all select cast(1 as bigint) from conversation where id = $1 and client_id = $2 limit 1",
        )
        .bind(&$lead.id)
        .bind(&$lead.client_id)
        .fetch_optional(&mut *$connection)
        .await?;
        (row, heard.is_some())
    }};
}

/// Keeps out every writer that may write about a person; see the module.
macro_rules! keep_away {
    ($db:expr, $transaction:expr) => {
        if let StateDb::Postgres(_) = $db {
            for lock in
                ["select pg_advisory_xact_lock(7166204947097547379)", "lock table outcome in share row exclusive mode"]
            {
                sqlx::query(lock).execute(&mut *$transaction).await?;
            }
        }
    };
}

/// Locks a row without waiting for another session. SQLite has no other writer.
fn without_waiting(db: &StateDb) -> &'static str {
    match db {
        StateDb::Sqlite(_) => "",
        StateDb::Postgres(_) => "for update nowait",
    }
}

/// In a transaction: creates the tombstone if it is missing, and copies into it what must be kept.
macro_rules! bury {
    ($transaction:expr, $lead:expr, $standing:expr, $row:expr, $now:expr) => {{
        let body = TombstoneKey::generate().body();
        sqlx::query("insert into control (name, body, at) values ($1, $2, $3) on conflict (name) do nothing")
            .bind(tombstone::KEY_NAME)
            .bind(body)
            .bind(micros($now))
            .execute(&mut *$transaction)
            .await?;
        let body: String = sqlx::query_scalar("select body from control where name = $1")
            .bind(tombstone::KEY_NAME)
            .fetch_one(&mut *$transaction)
            .await?;
        let key = TombstoneKey::parse(&body)?;
        let standing: WithdrawnConsent = $standing;
        let (introduced_at, test_lead_at) = $row.as_ref().map_or((None, None), |row: &ErasureRow| (row.4, row.5));
        sqlx::query(
            "insert into tombstone (tag, at, email_withdrawn_at, sms_withdrawn_at, introduced_at, test_lead_at) \
             values ($1, $2, $3, $4, $5, $6) on conflict (tag) do update set \
             email_withdrawn_at = coalesce(excluded.email_withdrawn_at, tombstone.email_withdrawn_at), \
             sms_withdrawn_at = coalesce(excluded.sms_withdrawn_at, tombstone.sms_withdrawn_at), \
             introduced_at = coalesce(excluded.introduced_at, tombstone.introduced_at), \
             test_lead_at = coalesce(excluded.test_lead_at, tombstone.test_lead_at)",
        )
        .bind(key.tag($lead))
        .bind(micros($now))
        .bind(standing.email.map(micros))
        .bind(standing.sms.map(micros))
        .bind(introduced_at)
        .bind(test_lead_at)
        .execute(&mut *$transaction)
        .await?;
    }};
}

/// Whether Conversica may still write to them.
pub async fn reach_of(db: &StateDb, lead: &LeadId) -> Result<ErasureReach, sqlx::Error> {
    on_state!(db, pool => {
        let mut connection = pool.acquire().await?;
        let (row, heard) = look!(connection, lead, "");
        Ok(reach(row.as_ref(), heard))
    })
}

/// Deletes everything stored about a person and leaves the tombstone. If Conversica may still write to them, nothing is changed.
/// It may be repeated.
pub async fn erase(
    db: &StateDb,
    lead: &LeadId,
    told: ToldFact,
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> Result<ErasureOutcome, sqlx::Error> {
    match erase_now(db, lead, told, who, now).await {
        Err(error) if matches!(db, StateDb::Postgres(_)) && is_busy(&error) => Ok(ErasureOutcome::Busy),
        done => done,
    }
}

/// Another session holds a lock that the erasure needs. This includes a deadlock (40P01) that the server has broken.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    db::is_lock(error) || code.as_deref() == Some("40P01")
}

async fn erase_now(
    db: &StateDb,
    lead: &LeadId,
    told: ToldFact,
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> Result<ErasureOutcome, sqlx::Error> {
    let addresses = &record::addresses(&payload::contents(db, lead).await?);
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        keep_away!(db, transaction);
        let (row, heard) = look!(transaction, lead, without_waiting(db));
        let reach = reach(row.as_ref(), heard);
        let is_over = matches!(reach, ErasureReach::Never | ErasureReach::Stopped);
        if reach == ErasureReach::InFlight || !is_over && told == ToldFact::AsFarAsIsKnown {
            // Roll back at once, because claims skip locked leads.
            transaction.rollback().await?;
            return Ok(ErasureOutcome::Refused(reach));
        }
        let mut standing = consent::standing!(&mut *transaction, std::slice::from_ref(lead))?.remove(lead).unwrap_or_default();
        let posts = record::posts!(transaction, lead, addresses);
        // The posts about to be deleted may hold an opt-out that was not applied yet, or that waits for an operator.
        let mut doubted: Vec<ConsentChannel> = Vec::new();
        for some in posts.chunks(500) {
            for row in waiting_query(some).build().fetch_all(&mut *transaction).await? {
                let (kind, problem) = (kind_of(row.try_get(0)?)?, row.try_get::<Option<String>, _>(2)?);
                doubted.extend(any_withdrawal::list_withdrawn(kind, row.try_get::<&[u8], _>(1)?, problem.as_deref()));
            }
        }
        let held: Vec<String> = sqlx::query_scalar(
            "select channel from possible_opt_out where id = $1 and client_id = $2 and settled_at is null")
            .bind(&lead.id).bind(&lead.client_id).fetch_all(&mut *transaction).await?;
        doubted.extend(held.iter().filter_map(|channel| ConsentChannel::from_name(channel)));
        for channel in doubted {
            standing.set(channel, standing.get(channel).max(Some(now)));
        }
        bury!(transaction, lead, standing, row, now);
        // Facts whose texts may quote the person.
        let quoted: Vec<String> = sqlx::query_scalar(
            "select detail from outcome where id = $1 and client_id = $2 and class = 'halting' and detail is not null")
            .bind(&lead.id).bind(&lead.client_id).fetch_all(&mut *transaction).await?;
        let facts: Vec<(String, String)> =
            sqlx::query_as("select name, body from control where name in ('comparing', 'last_poll', 'halt')")
                .fetch_all(&mut *transaction).await?;
        for (name, body) in facts {
            match without(lead, &quoted, &name, &body) {
                ErasedFact::Stays => {}
                ErasedFact::Goes => {
                    sqlx::query("delete from control where name = $1").bind(name).execute(&mut *transaction).await?;
                }
                ErasedFact::Becomes(body) => {
                    sqlx::query("update control set body = $1 where name = $2")
                        .bind(body).bind(name).execute(&mut *transaction).await?;
                }
            }
        }
        let mut removed = 0;
        for some in posts.chunks(500) {
            removed += possible_opt_out::forget_query(some).build().execute(&mut *transaction).await?.rows_affected();
        }
        for (table, by, _) in PERSONAL {
            match by {
                RecordLookup::Lead => {
                    let sql = format!("delete from {table} where id = $1 and client_id = $2");
                    let deleted = sqlx::query(trusted(sql)).bind(&lead.id).bind(&lead.client_id);
                    removed += deleted.execute(&mut *transaction).await?.rows_affected();
                }
                RecordLookup::Event => {
                    let column = if table == "event" { "seq" } else { "event_seq" };
                    for some in posts.chunks(500) {
                        let mut delete = QueryBuilder::new(format!("delete from {table} where {column} in ("));
                        let mut seqs = delete.separated(", ");
                        for seq in some {
                            seqs.push_bind(*seq);
                        }
                        delete.push(")");
                        removed += delete.build().execute(&mut *transaction).await?.rows_affected();
                    }
                }
            }
        }
        decision::begin_query(DecisionAction::Erase, who, None, now).build().execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(ErasureOutcome::Done(removed))
    })
}

/// Posts that were not applied, and unreadable ones that wait for an operator. `seqs` is not empty.
fn waiting_query<DB: Database>(seqs: &[i64]) -> QueryBuilder<DB>
where
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(
        "select kind, body, problem from event where applied_at is null and settled_at is null and mended_as is null and seq in (",
    );
    let mut list = query.separated(", ");
    for seq in seqs {
        list.push_bind(*seq);
    }
    query.push(")");
    query
}

/// The treatment of a fact that may name or quote a person.
enum ErasedFact {
    Stays,
    Goes,
    Becomes(String),
}

fn without(lead: &LeadId, quoted: &[String], name: &str, body: &str) -> ErasedFact {
    let mut fact: Value = serde_json::from_str(body).unwrap_or_default();
    match name {
        // The full compare begins again.
        "comparing" if fact["id"] == lead.id.as_str() && fact["client_id"] == lead.client_id.as_str() => {
            ErasedFact::Goes
        }
        "last_poll"
            if ["error", "cure"].iter().any(|key| fact[*key].as_str().is_some_and(|text| text.contains(&lead.id))) =>
        {
            fact["error"] = json!("(it may have named a person who was erased; the next poll says it again)");
            fact["cure"] = Value::Null;
            ErasedFact::Becomes(fact.to_string())
        }
        "halt" if fact["detail"].as_str().is_some_and(|detail| quoted.iter().any(|quoted| quoted == detail)) => {
            fact["detail"] = Value::Null;
            ErasedFact::Becomes(fact.to_string())
        }
        _ => ErasedFact::Stays,
    }
}

/// Queues a request to stop messaging them, before all other leads, and creates the tombstone in the same step. From then on
/// nothing else is sent to them, whatever their row says. Returns `false` if another session changed the lead in between.
pub async fn stop_first(db: &StateDb, lead: &LeadId, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    if reach_of(db, lead).await? == ErasureReach::MayWrite {
        gone::stop(db, std::slice::from_ref(lead), now, now).await?;
    }
    match bury_who_stops(db, lead, now).await {
        Err(error) if matches!(db, StateDb::Postgres(_)) && is_busy(&error) => Ok(false),
        done => done,
    }
}

async fn bury_who_stops(db: &StateDb, lead: &LeadId, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        keep_away!(db, transaction);
        let (row, _) = look!(transaction, lead, without_waiting(db));
        // A poll may have written the row's content again. Then the stop is queued again.
        if !row.as_ref().is_some_and(|row| says(row.3.as_ref(), &[LeadKey::StopMessaging])) {
            transaction.rollback().await?;
            return Ok(false);
        }
        let standing = consent::standing!(&mut *transaction, std::slice::from_ref(lead))?.remove(lead).unwrap_or_default();
        bury!(transaction, lead, standing, row, now);
        transaction.commit().await?;
        Ok(true)
    })
}

/// Removes the tombstone: the person may be written to again, as a new person. Their earlier opt-outs from e-mails or text
/// messages count again. Returns whether a tombstone existed.
pub async fn allow(db: &StateDb, lead: &LeadId, who: &DecisionMaker, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let Some(key) = tombstone::key(db).await? else { return Ok(false) };
    let allowed = on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        keep_away!(db, transaction);
        let stood: Option<(Option<i64>, Option<i64>)> = sqlx::query_as(
            "delete from tombstone where tag = $1 returning email_withdrawn_at, sms_withdrawn_at")
            .bind(key.tag(lead)).fetch_optional(&mut *transaction).await?;
        let Some((email, sms)) = stood else { return Ok(false) };
        for (channel, at) in [("email", email), ("sms", sms)] {
            let Some(at) = at else { continue };
            sqlx::query(
                "insert into consent (id, client_id, channel, given, at, heard_at, source) \
                 values ($1, $2, $3, 0, $4, $5, 'conversica')")
                .bind(&lead.id).bind(&lead.client_id).bind(channel).bind(at).bind(micros(now))
                .execute(&mut *transaction).await?;
        }
        decision::begin_query(DecisionAction::Allow, who, None, now).build().execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok::<bool, sqlx::Error>(true)
    })?;
    if allowed {
        // Their row may have been unchanged for long, so only a full compare finds it.
        control::write(db, &CompareAsked { at: now }, now).await?;
    }
    Ok(allowed)
}

/// SQLite: moves the write-ahead log into the file and empties it, because erased bytes would stay in the log for some time.
/// Returns `false` if a reader prevents it. PostgreSQL does this by itself, later.
pub async fn scrub(db: &StateDb) -> Result<bool, sqlx::Error> {
    let StateDb::Sqlite(pool) = db else { return Ok(true) };
    let (busy, _, _): (i64, i64, i64) = sqlx::query_as("pragma wal_checkpoint(truncate)").fetch_one(pool).await?;
    Ok(busy == 0)
}
