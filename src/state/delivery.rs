//! Table `lead`, the deliverer's side: claiming what is due, and recording what came of it, in one transaction each time.
//!
//! A claim is on the disk before its request leaves. An outcome counts only for the claim it belongs to. At most one
//! claim a lead exists at any time, which is what "one in flight a lead" rests on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _};

use crate::conversica::lead::LeadId;
use crate::conversica::outcome::Class;
use crate::db::Db;
use crate::on_db;
use crate::state::lead::InOrder;
use crate::state::{instant, lead, micros, outcome};

/// A lead that is ours to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub lead: LeadId,
    /// The canonical Lead object: the body of the request.
    pub body: String,
    /// This attempt's number in the present series, from 1.
    pub attempt: i64,
    pub first_failed_at: Option<DateTime<Utc>>,
    /// Names the claim.
    pub claimed_at: DateTime<Utc>,
    /// Of the body.
    pub sent_hash: Vec<u8>,
}

/// A claim whose request has ended, and what is to be written of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub lead: LeadId,
    pub claimed_at: DateTime<Utc>,
    pub attempt: i64,
    pub class: Class,
    pub http_status: Option<u16>,
    pub detail: Option<String>,
    pub duration: Duration,
    pub at: DateTime<Utc>,
    pub sent_hash: Vec<u8>,
    pub next: Next,
}

/// What the retry policy says of the content that was sent. Content that has changed since is always sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Accepted: nothing more to do.
    Done,
    /// Refused: waits for a change or a person.
    Rejected,
    /// Tried long enough: waits for a change or a person.
    Exhausted,
    /// Sent again at that time.
    RetryAt(DateTime<Utc>),
    /// As if it had not been tried: everything has stopped for another reason.
    Untried,
}

/// Where a lead rests that is not on its way: what is left of it when this attempt is put aside.
const RESTING: &str = "when lead.gone_at is not null then 'gone' \
     when lead.invalid_reasons is not null then 'invalid' ";

/// Records what has finished and claims up to `wanted` leads that are due, in one transaction: three statements, whatever
/// the numbers (`finished` at most 2,000).
pub async fn record_and_claim(
    db: &Db,
    finished: &[Finished],
    wanted: usize,
    now: DateTime<Utc>,
    lease: Duration,
) -> Result<Vec<Claim>, sqlx::Error> {
    if finished.is_empty() && wanted == 0 {
        return Ok(Vec::new());
    }
    let order = InOrder::of(db, "select f_id, f_client_id from f");
    on_db!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        if !finished.is_empty() {
            let mut update = QueryBuilder::new(
                "with f (f_id, f_client_id, f_claimed_at, f_class, f_next, f_due_at, f_http_status, f_detail, f_at) as (");
            update.push_values(finished, |mut row, f| {
                let (next, due_at) = match f.next {
                    Next::Done => ("done", f.at),
                    Next::Rejected => ("rejected", f.at),
                    Next::Exhausted => ("exhausted", f.at),
                    Next::RetryAt(at) => ("retrying", at),
                    Next::Untried => ("untried", f.at),
                };
                row.push_bind(&f.lead.id)
                    .push_bind(&f.lead.client_id)
                    .push_bind(micros(f.claimed_at))
                    .push_bind(f.class.name())
                    .push_bind(next)
                    .push_bind(micros(due_at))
                    .push_bind(f.http_status.map(i64::from))
                    .push_bind(f.detail.as_deref())
                    .push_bind(micros(f.at));
            });
            update.push(")").push(&order.cte).push(" update lead set status = case ");
            update.push(RESTING);
            update.push(
                "when f_next = 'done' and lead.desired_hash = lead.sent_hash then 'in_sync' \
                 when f_class not in ('accepted', 'ambiguous') and lead.desired_hash = lead.delivered_hash then 'in_sync' \
                 when lead.hold_reason is not null then 'held' \
                 when f_next in ('done', 'untried') then 'pending' \
                 when f_next = 'retrying' then 'retrying' \
                 when lead.desired_hash = lead.sent_hash then f_next \
                 else 'pending' end, \
                 due_at = case when lead.due_at = 0 and f_next <> 'retrying' \
                          and (f_next = 'untried' or lead.desired_hash <> lead.sent_hash) then 0 else f_due_at end, \
                 hold_reason = case when lead.desired_hash = case when f_next = 'done' then lead.sent_hash \
                               when f_class <> 'ambiguous' then lead.delivered_hash end then null else lead.hold_reason end, \
                 delivered = case when f_class = 'accepted' then case when lead.desired_hash <> lead.sent_hash then lead.sent end \
                             when f_class = 'ambiguous' then ");
            update.push(lead::DELIVERED);
            update.push(
                " else lead.delivered end, \
                 delivered_hash = case f_class when 'accepted' then lead.sent_hash when 'ambiguous' then null \
                                  else lead.delivered_hash end, \
                 delivered_at = case when f_class = 'accepted' then f_at else lead.delivered_at end, \
                 first_contact_at = case when f_class in ('accepted', 'ambiguous') \
                                    then coalesce(lead.first_contact_at, f_at) else lead.first_contact_at end, \
                 attempts = case when f_next = 'untried' then lead.attempts - 1 \
                            when f_next = 'retrying' or (f_next = 'exhausted' and lead.desired_hash = lead.sent_hash) \
                            then lead.attempts else 0 end, \
                 first_failed_at = case when f_next = 'untried' then lead.first_failed_at \
                                   when f_next = 'retrying' or (f_next = 'exhausted' and lead.desired_hash = lead.sent_hash) \
                                   then coalesce(lead.first_failed_at, f_at) end, \
                 sent = null, sent_hash = null, claimed_at = null, lease_until = null, \
                 last_outcome = f_class, last_http_status = f_http_status, last_detail = f_detail, last_outcome_at = f_at \
                 from f");
            update.push(order.from);
            update.push(
                " where lead.id = f_id and lead.client_id = f_client_id and lead.status = 'in_flight' \
                 and lead.claimed_at = f_claimed_at");
            update.push(order.condition);
            outcome::insert_query(finished).build().execute(&mut *transaction).await?;
            update.build().execute(&mut *transaction).await?;
        }
        let mut claims = Vec::new();
        if wanted > 0 {
            let mut claim = QueryBuilder::new(
                "with due (due_id, due_client_id) as (select id, client_id from lead \
                 where status in ('pending', 'retrying') and due_at <= ");
            claim.push_bind(micros(now));
            claim.push(" order by due_at, id limit ");
            claim.push_bind(i64::try_from(wanted).unwrap_or(i64::MAX));
            claim.push(" ").push(db.skip_locked());
            claim.push(") update lead set status = 'in_flight', attempts = attempts + 1, sent_hash = desired_hash, claimed_at = ");
            claim.push_bind(micros(now));
            claim.push(", lease_until = ");
            claim.push_bind(micros(now + lease));
            claim.push(
                " from due where lead.id = due_id and lead.client_id = due_client_id \
                 returning id, client_id, desired, attempts, first_failed_at, sent_hash");
            for row in claim.build().fetch_all(&mut *transaction).await? {
                claims.push(Claim {
                    lead: LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? },
                    body: row.try_get(2)?,
                    attempt: row.try_get(3)?,
                    first_failed_at: row.try_get::<Option<i64>, _>(4)?.map(instant),
                    claimed_at: now,
                    sent_hash: row.try_get(5)?,
                });
            }
        }
        transaction.commit().await?;
        Ok(claims)
    })
}

/// Which claims have lost their worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// All: nobody else can be sending, for this process has just become the one writer.
    All,
    /// Those whose lease is over.
    Expired,
}

/// Claims that a crash left behind: nobody knows whether their requests arrived, so each is recorded as ambiguous, and is
/// due at once. Returns how many there were.
pub async fn recover(db: &Db, orphans: Orphans, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let before = match orphans {
        Orphans::All => i64::MAX,
        Orphans::Expired => micros(now),
    };
    on_db!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        sqlx::query(
            "insert into outcome (id, client_id, at, class, detail, attempt, sent_hash) \
             select id, client_id, $1, 'ambiguous', 'the program ended while this request was on its way', attempts, \
             sent_hash from lead where status = 'in_flight' and status <> 'in_sync' and lease_until <= $2")
            .bind(micros(now)).bind(before).execute(&mut *transaction).await?;
        let update = format!(
            "update lead set status = case {RESTING} when lead.hold_reason is not null \
             then 'held' else 'pending' end, due_at = case when due_at = 0 then 0 else $1 end, delivered = {delivered}, delivered_hash = null, \
             first_contact_at = coalesce(first_contact_at, claimed_at), \
             first_failed_at = coalesce(first_failed_at, $1), sent = null, sent_hash = null, claimed_at = null, \
             lease_until = null, last_outcome = 'ambiguous', last_http_status = null, last_detail = \
             'the program ended while this request was on its way', last_outcome_at = $1 \
             where status = 'in_flight' and status <> 'in_sync' and lease_until <= $2",
            delivered = lead::DELIVERED);
        let recovered = sqlx::query(crate::db::trusted(update))
            .bind(micros(now)).bind(before).execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        Ok(recovered)
    })
}

/// When the next lead is due, if any waits; in the past where some are due already.
pub async fn next_due_at(db: &Db) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let next: Option<i64> = on_db!(db, pool => {
        sqlx::query_scalar("select min(due_at) from lead where status in ('pending', 'retrying')").fetch_one(pool).await
    })?;
    Ok(next.map(instant))
}

/// How many leads wait to be sent, now or later, and how many are on their way: `(waiting, in_flight)`.
pub async fn backlog(db: &Db) -> Result<(i64, i64), sqlx::Error> {
    on_db!(db, pool => {
        let waiting = sqlx::query_scalar("select count(*) from lead where status in ('pending', 'retrying')")
            .fetch_one(pool).await?;
        let in_flight = sqlx::query_scalar("select count(*) from lead where status = 'in_flight' and status <> 'in_sync'")
            .fetch_one(pool).await?;
        Ok((waiting, in_flight))
    })
}
