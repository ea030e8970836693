//! Table `possible_opt_out`: posts that may withdraw a person's consent, but are damaged or name no lead exactly. Until an
//! operator decides, each counts as a withdrawal or holds its lead (`HOLD`). [`super::consent`] reads it together with the
//! ledger.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::lead::LeadId;
use crate::store::consent::{self, LedgerEntry};
use crate::store::control::{self, CompareAsked};
use crate::store::decision::DecisionMaker;
use crate::store::state_db::{StateDb, on_state};
use crate::store::{instant, micros};

/// The value of `settled_by` for a post that leaves consent in doubt and that no operator has decided on. Nothing is sent to the
/// lead, and Conversica is not told of an opt-out.
pub(crate) const HOLD: &str = "hold";

/// In SQL, over a lead: no post holds it.
pub(crate) const NOT_HELD: &str = " and (urgent = 1 or not exists (select 1 from possible_opt_out p where p.id = lead.id \
     and p.client_id = lead.client_id and p.settled_at is null and p.settled_by is not null))";

/// A row of the table, for a post, a lead and a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PossibleRow {
    pub event_seq: i64,
    pub lead: LeadId,
    pub channel: ConsentChannel,
    pub at: DateTime<Utc>,
    /// [`HOLD`], or `None` if the post counts as a withdrawal.
    pub hold: Option<&'static str>,
}

/// The operator's decision on such a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOutDecision {
    /// The person wants no more messages.
    Confirmed,
    /// The post is no opt-out.
    Dismissed,
}

impl OptOutDecision {
    pub const fn name(self) -> &'static str {
        match self {
            OptOutDecision::Confirmed => "confirmed",
            OptOutDecision::Dismissed => "dismissed",
        }
    }
}

/// The outcome of settling a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Settled, for these leads.
    Settled(Vec<LeadId>),
    /// There is nothing to confirm or to dismiss.
    NothingWaits,
    /// The post names no lead whose opt-out could be confirmed.
    NamesNoLead,
}

/// A row for display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PossibleOptOutShown {
    pub event_seq: i64,
    pub channel: String,
    pub at: DateTime<Utc>,
    pub decision: Option<String>,
    pub settled_at: Option<DateTime<Utc>>,
}

/// The columns of a [`PossibleOptOutShown`], in its order.
type ShownRow = (i64, String, i64, Option<String>, Option<i64>);

/// The leads with these ids, of any client. The list must not be empty.
pub(crate) fn known_query<DB: Database>(ids: &[&str]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("select id, client_id from lead where id in (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
    query
}

/// The leads whose ids may have one of these normal forms, and some others. The list must not be empty.
pub(crate) fn similar_query<DB: Database>(names: &[String]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> String: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("select id, client_id from lead where ");
    for (place, name) in names.iter().enumerate() {
        query.push(if place == 0 { "" } else { " or " });
        if name.bytes().all(|b| b.is_ascii_digit()) {
            let number = name.trim_start_matches('0');
            query.push("ltrim(id, '0') = ").push_bind(number.to_owned());
            query.push(" or ltrim(id, '0') like ").push_bind(format!("{number}.%"));
        } else {
            // A UUID may be stored with dashes. Its first eight digits are together in every spelling.
            let run = name.split(|c: char| !c.is_ascii_alphanumeric()).max_by_key(|run| run.len()).unwrap_or_default();
            let part = if run.len() == 32 { &run[..8] } else { run };
            query.push("lower(id) like ").push_bind(format!("%{part}%"));
        }
    }
    query
}

/// Adds rows, or opens them again. The list must not be empty.
pub(crate) fn insert_query<DB: Database>(rows: &[PossibleRow]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> Option<&'e str>: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query =
        QueryBuilder::new("insert into possible_opt_out (event_seq, id, client_id, channel, at, settled_by) ");
    query.push_values(rows, |mut row, possible| {
        row.push_bind(possible.event_seq)
            .push_bind(possible.lead.id.as_str())
            .push_bind(possible.lead.client_id.as_str())
            .push_bind(possible.channel.name())
            .push_bind(micros(possible.at))
            .push_bind(possible.hold);
    });
    query.push(
        " on conflict (event_seq, id, client_id, channel) do update \
         set settled_at = null, decision = null, settled_by = excluded.settled_by",
    );
    query
}

/// A fixed post has its own effect on consent when it is applied, so its possible opt-out ends then.
pub(crate) fn mended_query<DB: Database>(event_seqs: &[i64], now: DateTime<Utc>) -> QueryBuilder<DB>
where
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("update possible_opt_out set decision = 'mended', settled_at = ");
    query.push_bind(micros(now)).push(" where settled_at is null and event_seq in (select seq from event where ");
    for (place, column) in ["seq", "mended_as"].into_iter().enumerate() {
        query.push(if place == 0 { "" } else { " or " }).push(column).push(" in (");
        let mut list = query.separated(", ");
        for seq in event_seqs {
            list.push_bind(*seq);
        }
        query.push(")");
    }
    query.push(")");
    query
}

/// Deletes the rows without a lead of deleted posts. Rows about other leads stay. The list must not be empty.
pub(crate) fn forget_query<DB: Database>(event_seqs: &[i64]) -> QueryBuilder<DB>
where
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("delete from possible_opt_out where id = '' and event_seq in (");
    let mut list = query.separated(", ");
    for seq in event_seqs {
        list.push_bind(*seq);
    }
    query.push(")");
    query
}

/// Records an operator's decision about a post. A confirmed opt-out goes into the ledger with the present time, so that no post
/// that arrived meanwhile ends it. After a dismissal the rows of the leads are read again.
pub async fn settle(
    db: &StateDb,
    event_seq: i64,
    decision: OptOutDecision,
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> Result<SettleOutcome, sqlx::Error> {
    if decision == OptOutDecision::Confirmed && holds_lead(db, event_seq).await? {
        // Conversica was not told of it, so the next poll compares every row instead of waiting for the next full compare.
        control::write(db, &CompareAsked { at: now }, now).await?;
    }
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "select id, client_id, channel from possible_opt_out where event_seq = $1 and settled_at is null \
             order by id, client_id")
            .bind(event_seq).fetch_all(&mut *transaction).await?;
        let put_aside = sqlx::query(
            "update event set settled_at = $1 where seq = $2 and problem is not null and mended_as is null and settled_at is null")
            .bind(micros(now)).bind(event_seq).execute(&mut *transaction).await?.rows_affected();
        if rows.is_empty() && (put_aside == 0 || decision == OptOutDecision::Confirmed) {
            transaction.rollback().await?;
            return Ok(SettleOutcome::NothingWaits);
        }
        let mut words = Vec::new();
        for (id, client_id, channel) in rows {
            let Some(channel) = ConsentChannel::from_name(&channel).filter(|_| !id.is_empty()) else { continue };
            let word = ChannelWord { channel, given: false, at: now };
            let lead = LeadId { id, client_id };
            words.push(LedgerEntry { lead, word, heard_at: now, event_seq: Some(event_seq) });
        }
        let leads: BTreeSet<LeadId> = words.iter().map(|entry| entry.lead.clone()).collect();
        let leads: Vec<LeadId> = leads.into_iter().collect();
        if decision == OptOutDecision::Confirmed {
            // The consent in a readable post counts already, under the name in the post.
            let readable: i64 = sqlx::query_scalar(
                "select count(*) from event where seq = $1 and problem is null and kind = 'lead_update'")
                .bind(event_seq).fetch_one(&mut *transaction).await?;
            if words.is_empty() && readable == 0 {
                transaction.rollback().await?;
                return Ok(SettleOutcome::NamesNoLead);
            }
            if !words.is_empty() {
                consent::insert_query(&words).build().execute(&mut *transaction).await?;
            }
        }
        sqlx::query(
            "update possible_opt_out set settled_at = $1, decision = $2, settled_by = $3 \
             where event_seq = $4 and settled_at is null")
            .bind(micros(now)).bind(decision.name()).bind(who.as_str()).bind(event_seq)
            .execute(&mut *transaction).await?;
        if !leads.is_empty() {
            consent::look_again_query(db, &leads).build().execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(SettleOutcome::Settled(leads))
    })
}

/// Whether the post holds a lead.
async fn holds_lead(db: &StateDb, event_seq: i64) -> Result<bool, sqlx::Error> {
    let held: i64 = on_state!(db, pool => {
        sqlx::query_scalar(
            "select count(*) from possible_opt_out where event_seq = $1 and settled_at is null and settled_by is not null")
            .bind(event_seq).fetch_one(pool).await
    })?;
    Ok(held > 0)
}

/// The leads that each of these posts may be about, in the order of their ids. Posts that an operator has dismissed or replaced
/// are left out.
pub async fn leads_of_events(db: &StateDb, event_seqs: &[i64]) -> Result<BTreeMap<i64, Vec<LeadId>>, sqlx::Error> {
    let mut leads: BTreeMap<i64, Vec<LeadId>> = BTreeMap::new();
    if event_seqs.is_empty() {
        return Ok(leads);
    }
    let rows: Vec<(i64, String, String)> = on_state!(db, pool => {
        let mut query = QueryBuilder::new(
            "select distinct event_seq, id, client_id from possible_opt_out \
             where id <> '' and (decision is null or decision = 'confirmed') and event_seq in (");
        let mut list = query.separated(", ");
        for event_seq in event_seqs {
            list.push_bind(*event_seq);
        }
        query.push(") order by event_seq, id, client_id");
        query.build_query_as().fetch_all(pool).await?
    });
    for (event_seq, id, client_id) in rows {
        leads.entry(event_seq).or_default().push(LeadId { id, client_id });
    }
    Ok(leads)
}

/// Leads of possible opt-outs that wait for an operator, at most `limit`.
pub async fn waiting_leads(db: &StateDb, limit: i64) -> Result<Vec<LeadId>, sqlx::Error> {
    let rows: Vec<(String, String)> = on_state!(db, pool => {
        sqlx::query_as(
            "select distinct id, client_id from possible_opt_out where settled_at is null and id <> '' \
             order by id, client_id limit $1")
            .bind(limit).fetch_all(pool).await?
    });
    Ok(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }).collect())
}

/// The possible opt-outs of a lead, open and decided, oldest first.
pub async fn of_lead(db: &StateDb, lead: &LeadId) -> Result<Vec<PossibleOptOutShown>, sqlx::Error> {
    let rows: Vec<ShownRow> = on_state!(db, pool => {
        sqlx::query_as(
            "select event_seq, channel, at, \
             case when settled_at is null and settled_by is not null then 'held' else decision end, settled_at from possible_opt_out where id = $1 and client_id = $2 \
             order by seq")
            .bind(&lead.id).bind(&lead.client_id).fetch_all(pool).await?
    });
    let shown = rows.into_iter().map(|(event_seq, channel, at, decision, settled_at)| PossibleOptOutShown {
        event_seq,
        channel,
        at: instant(at),
        decision,
        settled_at: settled_at.map(instant),
    });
    Ok(shown.collect())
}
