//! Erasing a person: one transaction deletes everything stored about them and leaves a tombstone, so that nothing is sent to them
//! again. [`super::tombstone`] describes the tombstone; [`super::record`] knows every table with data of a person.
//!
//! On PostgreSQL other sessions write at the same time. A writer that may write about a missing lead holds the lock of
//! `tombstone::erased_among`, and an erasure waits for that lock. Writers journal answers under the lock of table `outcome`, which an
//! erasure takes. An erasure waits for nothing else while it holds these locks: if a session is working on the lead, the erasure
//! is tried again.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::conversica::any_withdrawal;
use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::lead::{LeadId, LeadKey};
use crate::db;
use crate::rules::person_word::PersonWord;
use crate::store::control::{self, CompareAsked};
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::heard::reading::kind_of;
use crate::store::lead::DELIVERED;
use crate::store::record::{self, PERSONAL, RecordLookup};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::tombstone::{self, TombstoneKey};
use crate::store::{consent, gone, micros, payload, person_consent, possible_opt_out, suppression_entries};

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

/// What an erasure reads of a row of table `lead`.
#[derive(sqlx::FromRow)]
struct ErasureRow {
    status: String,
    /// When Conversica was first told about the lead.
    first_contact_at: Option<i64>,
    /// The content accepted for certain.
    accepted: Option<String>,
    desired: Option<String>,
    introduced_at: Option<i64>,
    test_lead_at: Option<i64>,
}

fn says(content: Option<&String>, keys: &[LeadKey]) -> bool {
    keys.iter().any(|key| content.is_some_and(|content| content.contains(&format!("\"{}\":true", key.name()))))
}

fn reach(row: Option<&ErasureRow>, is_heard: bool) -> ErasureReach {
    let unknown = if is_heard { ErasureReach::SpeaksOfThem } else { ErasureReach::Never };
    let Some(row) = row else { return unknown };
    let stops = says(row.desired.as_ref(), &[LeadKey::StopMessaging]);
    match row.status.as_str() {
        "in_flight" => ErasureReach::InFlight,
        _ if says(row.accepted.as_ref(), &[LeadKey::StopMessaging, LeadKey::OptOut]) => ErasureReach::Stopped,
        _ if row.first_contact_at.is_none() => unknown,
        "pending" | "retrying" if stops => ErasureReach::Stopping,
        "rejected" | "exhausted" if stops => ErasureReach::StopFailed,
        _ => ErasureReach::MayWrite,
    }
}

/// Reads the row of table `lead`. `lock` is the locking clause.
fn row_statement(lead: &LeadId, lock: &str) -> StateStatement {
    let sql = format!(
        "select status, first_contact_at, case when delivered_hash is not null then {DELIVERED} end as accepted, desired, \
         introduced_at, test_lead_at from lead where id = $1 and client_id = $2 {lock}"
    );
    StateStatement::new(sql).bind(&lead.id).bind(&lead.client_id)
}

/// Returns a row if Conversica has posted about the lead.
fn heard_statement(lead: &LeadId) -> StateStatement {
    let heard = StateStatement::new(
        "select cast(1 as bigint) from event where id = $1 and client_id = $2 and id <> '' and kind <> 'chat_lead' \
         union all select cast(1 as bigint) from conversation where id = $1 and client_id = $2 limit 1",
    );
    heard.bind(&lead.id).bind(&lead.client_id)
}

/// Begins a transaction that keeps out every writer that may write about a person; see the module.
async fn begin_alone(db: &StateDb) -> Result<StateTransaction, sqlx::Error> {
    let mut transaction = db.begin().await?;
    if let StateTransaction::Postgres(_) = transaction {
        transaction.execute("select pg_advisory_xact_lock(7166204947097547379)").await?;
        transaction.execute("lock table outcome in share row exclusive mode").await?;
    }
    Ok(transaction)
}

/// Locks a row without waiting for another session. SQLite has no other writer.
fn without_waiting(db: &StateDb) -> &'static str {
    match db {
        StateDb::Sqlite(_) => "",
        StateDb::Postgres(_) => "for update nowait",
    }
}

/// In a transaction: creates the tombstone if it is missing, and copies into it what must be kept.
async fn bury(
    transaction: &mut StateTransaction,
    lead: &LeadId,
    standing: WithdrawnConsent,
    row: Option<&ErasureRow>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let new_key =
        StateStatement::new("insert into control (name, body, at) values ($1, $2, $3) on conflict (name) do nothing");
    let new_key = new_key.bind(tombstone::KEY_NAME).bind(TombstoneKey::generate().body()).bind(micros(now));
    transaction.execute(new_key).await?;
    let key = StateStatement::new("select body from control where name = $1").bind(tombstone::KEY_NAME);
    let (key,): (String,) = transaction.fetch_one(key).await?;
    let tombstone = StateStatement::new(
        "insert into tombstone (tag, at, email_withdrawn_at, sms_withdrawn_at, introduced_at, test_lead_at) \
         values ($1, $2, $3, $4, $5, $6) on conflict (tag) do update set \
         email_withdrawn_at = coalesce(excluded.email_withdrawn_at, tombstone.email_withdrawn_at), \
         sms_withdrawn_at = coalesce(excluded.sms_withdrawn_at, tombstone.sms_withdrawn_at), \
         introduced_at = coalesce(excluded.introduced_at, tombstone.introduced_at), \
         test_lead_at = coalesce(excluded.test_lead_at, tombstone.test_lead_at)",
    );
    let tombstone = tombstone
        .bind(TombstoneKey::parse(&key)?.tag(lead))
        .bind(micros(now))
        .bind(standing.email.map(micros))
        .bind(standing.sms.map(micros))
        .bind(row.and_then(|row| row.introduced_at))
        .bind(row.and_then(|row| row.test_lead_at));
    transaction.execute(tombstone).await.map(drop)
}

/// Whether Conversica may still write to them.
pub async fn reach_of(db: &StateDb, lead: &LeadId) -> Result<ErasureReach, sqlx::Error> {
    let row: Option<ErasureRow> = db.fetch_optional(row_statement(lead, "")).await?;
    let heard: Option<(i64,)> = db.fetch_optional(heard_statement(lead)).await?;
    Ok(reach(row.as_ref(), heard.is_some()))
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
    let contents = payload::contents(db, lead).await?;
    let addresses = &record::addresses(&contents);
    let mut transaction = begin_alone(db).await?;
    let row: Option<ErasureRow> = transaction.fetch_optional(row_statement(lead, without_waiting(db))).await?;
    let heard: Option<(i64,)> = transaction.fetch_optional(heard_statement(lead)).await?;
    let reach = reach(row.as_ref(), heard.is_some());
    let is_over = matches!(reach, ErasureReach::Never | ErasureReach::Stopped);
    if reach == ErasureReach::InFlight || !is_over && told == ToldFact::AsFarAsIsKnown {
        // Roll back at once, because claims skip locked leads.
        transaction.rollback().await?;
        return Ok(ErasureOutcome::Refused(reach));
    }
    let posts = record::events_read_by(&mut transaction, lead, addresses).await?;
    let standing = withdrawn_by_now(&mut transaction, lead, &posts, now).await?;
    bury(&mut transaction, lead, standing, row.as_ref(), now).await?;
    let words: Vec<PersonWord> =
        contents.values().map(|content| PersonWord::heard(lead, Some(&standing), Some(content))).collect();
    person_consent::keep_without_id(&mut transaction, lead, &words, now).await?;
    forget_quotes(&mut transaction, lead).await?;
    transaction.execute(decision::forget_comments_statement(lead)).await?;
    let removed = delete_rows(&mut transaction, lead, &posts).await?;
    transaction.execute(decision::begin_statement(DecisionAction::Erase, who, None, now)).await?;
    transaction.commit().await?;
    Ok(ErasureOutcome::Done(removed))
}

/// The consent that the person has withdrawn. The posts about to be deleted may hold an opt-out that was not applied yet, or that
/// waits for an operator.
async fn withdrawn_by_now(
    transaction: &mut StateTransaction,
    lead: &LeadId,
    posts: &[i64],
    now: DateTime<Utc>,
) -> Result<WithdrawnConsent, sqlx::Error> {
    let standing = consent::withdrawn_of(transaction, std::slice::from_ref(lead)).await?.remove(lead);
    let mut standing = standing.unwrap_or_default();
    let mut doubted: Vec<ConsentChannel> = Vec::new();
    for some in posts.chunks(500) {
        let rows: Vec<(String, Vec<u8>, Option<String>)> = transaction.fetch_all(waiting_statement(some)).await?;
        for (kind, body, problem) in rows {
            doubted.extend(any_withdrawal::list_withdrawn(kind_of(&kind)?, &body, problem.as_deref()));
        }
    }
    let held = StateStatement::new(
        "select channel from possible_opt_out where id = $1 and client_id = $2 and settled_at is null",
    );
    let held: Vec<(String,)> = transaction.fetch_all(held.bind(&lead.id).bind(&lead.client_id)).await?;
    doubted.extend(held.iter().filter_map(|(channel,)| ConsentChannel::from_name(channel)));
    for channel in doubted {
        standing.set(channel, standing.get(channel).max(Some(now)));
    }
    Ok(standing)
}

/// Changes or removes the facts whose texts may quote the person.
async fn forget_quotes(transaction: &mut StateTransaction, lead: &LeadId) -> Result<(), sqlx::Error> {
    let quoted = StateStatement::new(
        "select detail from outcome where id = $1 and client_id = $2 and class = 'halting' and detail is not null",
    );
    let quoted: Vec<(String,)> = transaction.fetch_all(quoted.bind(&lead.id).bind(&lead.client_id)).await?;
    let quoted: Vec<String> = quoted.into_iter().map(|(detail,)| detail).collect();
    let facts: Vec<(String, String)> = transaction
        .fetch_all("select name, body from control where name in ('comparing', 'last_poll', 'halt')")
        .await?;
    for (name, body) in facts {
        let change = match without(lead, &quoted, &name, &body) {
            ErasedFact::Stays => continue,
            ErasedFact::Goes => StateStatement::new("delete from control where name = $1").bind(name),
            ErasedFact::Becomes(body) => {
                StateStatement::new("update control set body = $1 where name = $2").bind(body).bind(name)
            }
        };
        transaction.execute(change).await?;
    }
    Ok(())
}

/// Deletes every row about the person. Returns how many.
async fn delete_rows(transaction: &mut StateTransaction, lead: &LeadId, posts: &[i64]) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for some in posts.chunks(500) {
        removed += transaction.execute(possible_opt_out::forget_statement(some)).await?;
    }
    for (table, by, _) in PERSONAL {
        match by {
            RecordLookup::Lead => {
                let named = suppression_entries::of_leads_only(table);
                let delete =
                    StateStatement::new(format!("delete from {table} where id = $1 and client_id = $2{named}"));
                removed += transaction.execute(delete.bind(&lead.id).bind(&lead.client_id)).await?;
            }
            RecordLookup::Event => {
                let column = if table == "event" { "seq" } else { "event_seq" };
                for some in posts.chunks(500) {
                    let mut delete = StateStatement::new(format!("delete from {table} where {column} in ("));
                    delete.push_list(some.iter().copied()).push(")");
                    removed += transaction.execute(delete).await?;
                }
            }
        }
    }
    Ok(removed)
}

/// Posts that were not applied, and unreadable ones that wait for an operator. `seqs` is not empty.
fn waiting_statement(seqs: &[i64]) -> StateStatement {
    let mut statement = StateStatement::new(
        "select kind, body, problem from event where applied_at is null and settled_at is null and mended_as is null and seq in (",
    );
    statement.push_list(seqs.iter().copied()).push(")");
    statement
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
        gone::stop(db, std::slice::from_ref(lead), now).await?;
    }
    match bury_who_stops(db, lead, now).await {
        Err(error) if matches!(db, StateDb::Postgres(_)) && is_busy(&error) => Ok(false),
        done => done,
    }
}

async fn bury_who_stops(db: &StateDb, lead: &LeadId, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let mut transaction = begin_alone(db).await?;
    let row: Option<ErasureRow> = transaction.fetch_optional(row_statement(lead, without_waiting(db))).await?;
    // A poll may have written the row's content again. Then the stop is queued again.
    if !row.as_ref().is_some_and(|row| says(row.desired.as_ref(), &[LeadKey::StopMessaging])) {
        transaction.rollback().await?;
        return Ok(false);
    }
    let standing = consent::withdrawn_of(&mut transaction, std::slice::from_ref(lead)).await?.remove(lead);
    bury(&mut transaction, lead, standing.unwrap_or_default(), row.as_ref(), now).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Removes the tombstone: the person may be written to again, as a new person. Their earlier opt-outs from e-mails or text
/// messages count again. Returns whether a tombstone existed.
pub async fn allow(db: &StateDb, lead: &LeadId, who: &DecisionMaker, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let Some(key) = tombstone::key(db).await? else { return Ok(false) };
    let mut transaction = begin_alone(db).await?;
    let delete =
        StateStatement::new("delete from tombstone where tag = $1 returning email_withdrawn_at, sms_withdrawn_at");
    let stood: Option<(Option<i64>, Option<i64>)> = transaction.fetch_optional(delete.bind(key.tag(lead))).await?;
    let Some((email, sms)) = stood else { return Ok(false) };
    for (channel, at) in [("email", email), ("sms", sms)] {
        let Some(at) = at else { continue };
        let withdraw = StateStatement::new(
            "insert into consent (id, client_id, channel, given, at, heard_at, source) \
             values ($1, $2, $3, 0, $4, $5, 'conversica')",
        );
        let withdraw = withdraw.bind(&lead.id).bind(&lead.client_id).bind(channel).bind(at).bind(micros(now));
        transaction.execute(withdraw).await?;
    }
    transaction.execute(decision::begin_statement(DecisionAction::Allow, who, None, now)).await?;
    transaction.commit().await?;
    // Their row may have been unchanged for long, so only a full compare finds it.
    control::write(db, &CompareAsked { at: now }, now).await?;
    Ok(true)
}

/// SQLite: moves the write-ahead log into the file and empties it, because erased bytes would stay in the log for some time.
/// Returns `false` if a reader prevents it. PostgreSQL does this by itself, later.
pub async fn scrub(db: &StateDb) -> Result<bool, sqlx::Error> {
    let StateDb::Sqlite(pool) = db else { return Ok(true) };
    let (busy, _, _): (i64, i64, i64) = sqlx::query_as("pragma wal_checkpoint(truncate)").fetch_one(pool).await?;
    Ok(busy == 0)
}
