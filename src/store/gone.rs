//! Table `lead`, for leads whose row is missing from the source: holding them, letting them go, and telling Conversica once
//! to stop messaging them. [`super::lead::mark_gone`] and [`super::lead::mark_returned`] are the simple ends.
//!
//! A lead that is held because its row is missing (`status = 'held'` with `gone_at` set) keeps all it had: when the row comes
//! back, it stands where it stood.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _};

use crate::config::OnDelete;
use crate::conversica::lead::{ContentFingerprint, LeadId, LeadKey, WITHDRAWALS, with_withdrawn, withdraws_consent};
use crate::db::trusted;
use crate::store::lead::{DELIVERED, InOrder, SENT, locking};
use crate::store::micros;
use crate::store::state_db::{StateDb, on_state};

/// What Conversica holds of a lead, or may hold, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastContent {
    /// The newest content that it took, or may have taken; `None` where it was never told of the lead.
    pub body: Option<String>,
    /// What it holds for certain; `None` where nobody knows, or a request is on its way.
    certain: Option<String>,
    /// Content that withdraws consent and has not arrived.
    withdrawing: Option<String>,
    moment: ContentMoment,
}

/// By this a statement knows whether anything was sent or answered since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ContentMoment {
    delivered_hash: Option<Vec<u8>>,
    sent_hash: Option<Vec<u8>>,
    first_contact_at: Option<i64>,
    gone_at: Option<i64>,
}

impl LastContent {
    /// The same content with `stopMessaging: true`, and with whatever consent the row withdrew before it went; `None` where
    /// there is nothing to tell: nobody has written to them, or Conversica has been told.
    pub fn stop(&self) -> Option<String> {
        let body = self.body.as_deref()?;
        let withdrawing = self.withdrawing.as_deref().unwrap_or_default();
        let mut keys = vec![LeadKey::StopMessaging];
        keys.extend(WITHDRAWALS.into_iter().filter(|key| withdrawing.contains(&format!("\"{}\":true", key.name()))));
        let stop = with_withdrawn(body, &keys)?;
        withdraws_consent(self.certain.as_deref().unwrap_or_default(), &stop).then_some(stop)
    }
}

/// What Conversica holds, or may hold, of these leads (at most 2,000). Where a request is on its way, that one's content is
/// the newest that it may have; where an answer was ambiguous, the content that is tried again.
pub async fn last(db: &StateDb, leads: &[LeadId]) -> Result<BTreeMap<LeadId, LastContent>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(BTreeMap::new());
    }
    let newest = format!(
        "coalesce(case when lead.status = 'in_flight' then {SENT} \
         when lead.delivered_hash is null and lead.attempts > 0 and lead.urgent = 0 \
         and coalesce(lead.hold_reason, 'ambiguous') in ('ambiguous', 'source_shrank') then lead.desired end, {DELIVERED})"
    );
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("with asked (asked_id, asked_client_id) as (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(") select id, client_id, case when first_contact_at is not null or status = 'in_flight' then ");
        query.push(newest).push(" end, case when status <> 'in_flight' and delivered_hash is not null then ");
        query.push(DELIVERED).push(
            " end, case when urgent = 1 then desired end, delivered_hash, sent_hash, first_contact_at, \
             gone_at from asked join lead on lead.id = asked_id and lead.client_id = asked_client_id");
        let rows = query.build().persistent(db.keeps_plans()).fetch_all(pool).await?;
        rows.iter().map(|row| {
            let lead = LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? };
            let moment = ContentMoment {
                delivered_hash: row.try_get(5)?,
                sent_hash: row.try_get(6)?,
                first_contact_at: row.try_get(7)?,
                gone_at: row.try_get(8)?,
            };
            let last = LastContent { body: row.try_get(2)?, certain: row.try_get(3)?, withdrawing: row.try_get(4)?, moment };
            Ok((lead, last))
        }).collect()
    })
}

/// What came of [`stop`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopOutcome {
    /// Conversica will be told to stop messaging so many.
    pub stopped: u64,
    /// Of so many there is nothing to tell.
    pub gone: u64,
}

/// How often leads are looked at again that were sent, answered or read anew between the look and the word.
const TRIES: usize = 5;

/// Their rows are no longer in the source: who Conversica knows is to be told to it once more, with its last content and
/// `stopMessaging: true`, before all other leads; the others are gone. What is in flight ends first. At most 2,000 leads.
pub async fn stop(
    db: &StateDb,
    leads: &[LeadId],
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<StopOutcome, sqlx::Error> {
    tell(db, leads, |_| true, now, written_at).await
}

/// [`stop`] of those that are still as they have to be.
async fn tell(
    db: &StateDb,
    leads: &[LeadId],
    still: impl Fn(&LastContent) -> bool,
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<StopOutcome, sqlx::Error> {
    let mut told = StopOutcome::default();
    let mut left: Vec<LeadId> = leads.to_vec();
    for _ in 0..TRIES {
        let mut last = last(db, &left).await?;
        last.retain(|_, last| still(last));
        let (mut stops, mut others) = (Vec::new(), Vec::new());
        for (lead, last) in &last {
            match last.stop() {
                Some(body) => stops.push((lead, last, Some(body))),
                None => others.push((lead, last, None)),
            }
        }
        let stopped = write(db, &stops, now, written_at).await?;
        let gone = write(db, &others, now, written_at).await?;
        told.stopped += stopped.len() as u64;
        told.gone += gone.len() as u64;
        left = last.into_keys().filter(|lead| !stopped.contains(lead) && !gone.contains(lead)).collect();
        if left.is_empty() {
            break;
        }
    }
    // Whoever is still left is sent and answered all the time: the next compare finds them missing again.
    Ok(told)
}

/// Writes the word that is to go out, or that there is none, to leads of which nothing was sent, answered or read anew since the
/// look at them; hands back which those were. Either all of `leads` have a word, or none has.
async fn write(
    db: &StateDb,
    leads: &[(&LeadId, &LastContent, Option<String>)],
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<Vec<LeadId>, sqlx::Error> {
    let Some((_, _, word)) = leads.first() else { return Ok(Vec::new()) };
    let order = InOrder::of(db, "select m_id, m_client_id from m");
    on_state!(db, pool => {
        let mut query = QueryBuilder::new(
            "with m (m_id, m_client_id, m_body, m_hash, m_delivered_hash, m_sent_hash, m_contact, m_gone_at) as (");
        query.push_values(leads, |mut row, (lead, last, word)| {
            row.push_bind(&lead.id)
                .push_bind(&lead.client_id)
                .push_bind(word.as_deref())
                .push_bind(word.as_deref().map(|body| ContentFingerprint::of(body.as_bytes()).as_bytes().to_vec()))
                .push_bind(last.moment.delivered_hash.as_deref())
                .push_bind(last.moment.sent_hash.as_deref())
                .push_bind(last.moment.first_contact_at)
                .push_bind(last.moment.gone_at);
        });
        query.push(")").push(&order.cte).push(" update lead set gone_at = ").push_bind(micros(now));
        query.push(", hold_reason = null, held_at = null, status_before = null, ");
        if word.is_some() {
            query.push("urgent = 1, delivered = ").push(DELIVERED).push(
                ", sent = case when lead.status = 'in_flight' and lead.sent is null and lead.desired_hash = lead.sent_hash \
                   then lead.desired else lead.sent end, \
                 desired = m_body, desired_hash = m_hash, invalid_reasons = null, row_hash = null, \
                 attempts = case when lead.status = 'in_flight' then lead.attempts else 0 end, \
                 first_failed_at = case when lead.status = 'in_flight' then lead.first_failed_at end, \
                 status = case when lead.status = 'in_flight' then 'in_flight' else 'pending' end, due_at = ");
            query.push_bind(micros(now)).push(", changed_at = ").push_bind(micros(written_at));
        } else {
            query.push("urgent = 0, status = case when lead.status = 'in_flight' then 'in_flight' else 'gone' end");
        }
        query.push(" from m").push(order.from);
        // As a case: SQLite would else look leads up by what most of them have in common, and compare each with each.
        query.push(
            " where lead.id = m_id and lead.client_id = m_client_id \
             and case when lead.delivered_hash is not distinct from m_delivered_hash \
             and lead.sent_hash is not distinct from m_sent_hash \
             and lead.first_contact_at is not distinct from m_contact \
             and lead.gone_at is not distinct from m_gone_at then 1 end = 1");
        query.push(order.condition).push(" returning id, client_id");
        let rows = query.build().fetch_all(pool).await?;
        rows.iter().map(|row| Ok(LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? })).collect()
    })
}

/// Holds leads whose rows are missing together with most others (at most 2,000). What is on its way, or withdraws consent,
/// goes on: a later compare finds it at rest. A lead that is held already keeps its reason and its time. Returns how many
/// are held by this.
pub async fn withhold(
    db: &StateDb,
    leads: &[LeadId],
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    if leads.is_empty() {
        return Ok(0);
    }
    let order = InOrder::of(db, "select missing_id, missing_client_id from missing");
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("with missing (missing_id, missing_client_id) as (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(")").push(&order.cte).push(" update lead set gone_at = ").push_bind(micros(now));
        query.push(
            ", status_before = case when lead.status = 'held' then lead.status_before else lead.status end, \
             hold_reason = coalesce(lead.hold_reason, 'source_shrank'), \
             held_at = case when lead.status = 'held' then lead.held_at else ").push_bind(micros(written_at));
        query.push(" end, status = 'held' from missing").push(order.from);
        query.push(
            " where lead.id = missing.missing_id and lead.client_id = missing.missing_client_id and lead.gone_at is null \
             and lead.status not in ('in_flight', 'gone') \
             and not (lead.urgent = 1 and lead.status in ('pending', 'retrying'))");
        query.push(order.condition);
        Ok(query.build().execute(pool).await?.rows_affected())
    })
}

/// How many leads the source is expected to have, as far as `most`: no more than these are looked at, and those that went
/// before.
pub async fn left(db: &StateDb, most: u64) -> Result<u64, sqlx::Error> {
    let left: i64 = on_state!(db, pool => {
        sqlx::query_scalar(
            "select count(*) from (select 1 as one from lead where gone_at is null \
             and (hold_reason is null or hold_reason <> 'source_shrank') limit $1) l")
            .bind(i64::try_from(most).unwrap_or(i64::MAX)).fetch_one(pool).await
    })?;
    Ok(u64::try_from(left).unwrap_or(0))
}

/// Lets leads go that are held because their rows are missing, all or those found missing since that moment; returns how many
/// that was. Who Conversica knows is owed a word: see [`settle`].
pub async fn let_go(db: &StateDb, since: Option<DateTime<Utc>>) -> Result<u64, sqlx::Error> {
    let sql = format!(
        "with missing (missing_id, missing_client_id) as (select id, client_id from lead \
         where status = 'held' and status <> 'in_sync' and gone_at >= $1{}) \
         update lead set {GONE} from missing where lead.id = missing_id and lead.client_id = missing_client_id",
        locking(db)
    );
    let since = since.map_or(i64::MIN, micros);
    Ok(on_state!(db, pool => sqlx::query(trusted(sql)).bind(since).execute(pool).await?.rows_affected()))
}

/// What becomes of a held lead whose row is missing when it is let go. Gone and urgent: owed a word.
const GONE: &str = "status = 'gone', status_before = null, urgent = case when lead.first_contact_at is null then 0 else 1 end, \
     held_at = case when lead.hold_reason <> 'source_shrank' then lead.held_at end, \
     hold_reason = case when lead.hold_reason <> 'source_shrank' then lead.hold_reason end";

/// Settles what is owed to leads that were let go: with `on_delete = "stop_messaging"` the word goes into the queue, else there
/// is none. Each poll does it too, for whoever did not live to do it. Returns how many are told.
pub async fn settle(
    db: &StateDb,
    on_delete: OnDelete,
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    if on_delete == OnDelete::Ignore {
        let sql = format!(
            "with owed (owed_id, owed_client_id) as (select id, client_id from lead where status = 'gone' and urgent = 1{}) \
             update lead set urgent = 0 from owed where lead.id = owed_id and lead.client_id = owed_client_id",
            locking(db)
        );
        on_state!(db, pool => sqlx::query(trusted(sql)).execute(pool).await?.rows_affected());
        return Ok(0);
    }
    let (mut told, mut after) = (0, LeadId { id: String::new(), client_id: String::new() });
    loop {
        let owed: Vec<(String, String)> = on_state!(db, pool => {
            sqlx::query_as(
                "select id, client_id from lead where status = 'gone' and urgent = 1 and (id, client_id) > ($1, $2) \
                 order by id, client_id limit 1000")
                .bind(&after.id).bind(&after.client_id).fetch_all(pool).await
        })?;
        let owed: Vec<LeadId> = owed.into_iter().map(|(id, client_id)| LeadId { id, client_id }).collect();
        let Some(newest) = owed.last() else { return Ok(told) };
        after = newest.clone();
        // Not who has come back meanwhile.
        told += tell(db, &owed, |last| last.moment.gone_at.is_some(), now, written_at).await?.stopped;
    }
}
