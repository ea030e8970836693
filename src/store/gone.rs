//! Table `lead`, for leads whose row is missing from the source: holding them, marking them gone, and telling Conversica once to
//! stop messaging them. [`super::lead::mark_gone`] and [`super::lead::mark_returned`] are the simple cases.
//!
//! A lead that is held because its row is missing (`status = 'held'` with `gone_at` set) keeps all its data. When the row
//! returns, the lead gets its earlier status back.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _};

use crate::config::OnDelete;
use crate::conversica::lead::{ContentFingerprint, LeadId, LeadKey, WITHDRAWALS, with_withdrawn, withdraws_consent};
use crate::db::trusted;
use crate::store::lead::{DELIVERED, InOrder, SENT, locking};
use crate::store::micros;
use crate::store::state_db::{StateDb, on_state};

/// The content of a lead that Conversica has, or may have, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastContent {
    /// The newest content that Conversica accepted or may have received; `None` if it was never told about the lead.
    pub body: Option<String>,
    /// The content that Conversica has for certain; `None` if that is unknown or a request is in flight.
    certain: Option<String>,
    /// Content that withdraws consent and has not arrived.
    withdrawing: Option<String>,
    moment: ContentMoment,
}

/// Shows a statement whether anything was sent or answered since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ContentMoment {
    delivered_hash: Option<Vec<u8>>,
    sent_hash: Option<Vec<u8>>,
    first_contact_at: Option<i64>,
    gone_at: Option<i64>,
}

impl LastContent {
    /// The content with `stopMessaging: true`, and with the consent that the row withdrew before it went. `None` if there is
    /// nothing to tell: Conversica never knew the lead, or has been told to stop.
    pub fn stop(&self) -> Option<String> {
        let body = self.body.as_deref()?;
        let withdrawing = self.withdrawing.as_deref().unwrap_or_default();
        let mut keys = vec![LeadKey::StopMessaging];
        keys.extend(WITHDRAWALS.into_iter().filter(|key| withdrawing.contains(&format!("\"{}\":true", key.name()))));
        let stop = with_withdrawn(body, &keys)?;
        withdraws_consent(self.certain.as_deref().unwrap_or_default(), &stop).then_some(stop)
    }
}

/// The content that Conversica has, or may have, of these leads (at most 2,000). For a request in flight, its content is the
/// newest that Conversica may have. After an ambiguous outcome, it is the content to retry.
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

/// The outcome of [`stop`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopOutcome {
    /// Leads for which a stop is queued.
    pub stopped: u64,
    /// Leads that need no stop.
    pub gone: u64,
}

/// How often [`stop`] reads leads again that were sent, answered or polled between its read and its write.
const TRIES: usize = 5;

/// Handles leads whose rows are no longer in the source. If Conversica knows a lead, the lead is queued once more before all
/// other leads, with its last content and `stopMessaging: true`. The other leads are marked gone. Requests in flight end first.
/// At most 2,000 leads.
pub async fn stop(
    db: &StateDb,
    leads: &[LeadId],
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<StopOutcome, sqlx::Error> {
    tell(db, leads, |_| true, now, written_at).await
}

/// [`stop`] for the leads that still satisfy `still`.
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
    // The leads that remain are sent and answered all the time. The next full compare finds them missing again.
    Ok(told)
}

/// Queues the stop, or marks the lead gone, for each lead that was not sent, answered or polled since it was read. Returns those
/// leads. Either all `leads` have a stop, or none has.
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
        // Written as a case. Otherwise SQLite would look leads up by a condition that most of them satisfy, and compare each with
        // each.
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

/// Holds leads whose rows are missing together with most others (at most 2,000). Requests in flight and withdrawals of consent go
/// on; a later compare finds them finished. A lead that is already held keeps its reason and time. Returns how many leads this
/// call held.
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

/// How many leads the source should have, counted up to `most`. The query reads no more than these leads and those that are gone.
pub async fn left(db: &StateDb, most: u64) -> Result<u64, sqlx::Error> {
    let left: i64 = on_state!(db, pool => {
        sqlx::query_scalar(
            "select count(*) from (select 1 as one from lead where gone_at is null \
             and (hold_reason is null or hold_reason <> 'source_shrank') limit $1) l")
            .bind(i64::try_from(most).unwrap_or(i64::MAX)).fetch_one(pool).await
    })?;
    Ok(u64::try_from(left).unwrap_or(0))
}

/// Marks leads gone that are held because their rows are missing: all of them, or those found missing since that moment. Returns
/// how many. Leads that Conversica knows still need a stop: see [`settle`].
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

/// Marks a held lead gone whose row is missing. The status `gone` with `urgent` set means that a stop has still to be queued.
const GONE: &str = "status = 'gone', status_before = null, urgent = case when lead.first_contact_at is null then 0 else 1 end, \
     held_at = case when lead.hold_reason <> 'source_shrank' then lead.held_at end, \
     hold_reason = case when lead.hold_reason <> 'source_shrank' then lead.hold_reason end";

/// Finishes the leads that [`let_go`] has marked: with `on_delete = "stop_messaging"` it queues their stops, otherwise it drops
/// them. Each poll calls it too, in case an earlier process crashed before this step. Returns how many stops it queued.
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
        // Leads whose rows have returned meanwhile get no stop.
        told += tell(db, &owed, |last| last.moment.gone_at.is_some(), now, written_at).await?.stopped;
    }
}
