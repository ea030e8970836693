//! Table `lead`: claims that their instance will not finish, because it has ended or is away for longer than the lease.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row as _;

use crate::config::{DeliverySettings, OnAmbiguous};
use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::conversica::outcome::OutcomeClass;
use crate::db::trusted;
use crate::horizon::{self, TOLERANCE};
use crate::rules::lead_claim::FinishedAttempt;
use crate::rules::retry::NextStep;
use crate::store::lead::{InOrder, SENT, locking};
use crate::store::state_db::{StateDb, on_state};
use crate::store::{delivery, instant, late, micros, outcome};

/// Whether any claim with an expired lease has to be recovered.
pub async fn any_expired(db: &StateDb, settings: &DeliverySettings, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let latest = horizon::latest(longest_lease(settings), now);
    let found: Option<i64> = on_state!(db, pool => {
        sqlx::query_scalar(
            "select cast(1 as bigint) from lead where status = 'in_flight' and status <> 'in_sync' and (lease_until <= $1 or lease_until > $2) limit 1")
            .bind(micros(now)).bind(micros(latest)).fetch_optional(pool).await
    })?;
    Ok(found.is_some())
}

/// An instance that has not reloaded its settings may have a longer time limit, so a lease of this length is always accepted.
const ALWAYS_BELIEVED: Duration = Duration::from_secs(300);

/// No lease is longer than this. A longer one was written by a clock that ran ahead.
fn longest_lease(settings: &DeliverySettings) -> Duration {
    (settings.timeout * 2 + TOLERANCE).max(ALWAYS_BELIEVED)
}

/// Shortens leases that are longer than possible, as if they began now: the instance that claimed with a wrong clock may still be
/// sending.
async fn shorten_leases(db: &StateDb, settings: &DeliverySettings, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let (latest, left) = (horizon::latest(longest_lease(settings), now), settings.timeout * 2 + TOLERANCE);
    let sql = format!(
        "with ahead (ahead_id, ahead_client_id) as (select id, client_id from lead \
         where status = 'in_flight' and status <> 'in_sync' and lease_until > $1{}) \
         update lead set lease_until = $2 from ahead where lead.id = ahead_id and lead.client_id = ahead_client_id",
        locking(db)
    );
    on_state!(db, pool => {
        sqlx::query(trusted(sql)).bind(micros(latest)).bind(micros(now + left))
            .execute(pool).await.map(drop)
    })
}

/// Which claims have lost their worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrphanScope {
    /// All claims: no other process can be sending, because this one has just become the only writer.
    All,
    /// Claims whose lease has expired.
    Expired,
}

/// Claims that one transaction recovers.
const ORPHANS_AT_ONCE: i64 = 1000;

/// Recovers claims left by a crash. It is unknown whether their requests arrived, so each is recorded as ambiguous and treated as
/// `[delivery] on_ambiguous` says. Returns how many there were.
pub async fn recover(
    db: &StateDb,
    orphans: OrphanScope,
    settings: &DeliverySettings,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    shorten_leases(db, settings, now).await?;
    let mut recovered = 0;
    loop {
        let part = recover_some(db, orphans, settings, now).await?;
        recovered += part;
        if part < ORPHANS_AT_ONCE as u64 {
            return Ok(recovered);
        }
    }
}

async fn recover_some(
    db: &StateDb,
    orphans: OrphanScope,
    settings: &DeliverySettings,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let before = match orphans {
        OrphanScope::All => i64::MAX,
        OrphanScope::Expired => micros(now),
    };
    let order = InOrder::of(db, "select f_id, f_client_id from f");
    // The statement locks the claims that it finds: if several instances recover at once, one gets each claim.
    let find = format!(
        "select id, client_id, claimed_at, attempts, sent_hash, urgent, \
         case when sent_hash = $3 then {SENT} end from lead \
         where status = 'in_flight' and status <> 'in_sync' and lease_until <= $1 order by id, client_id limit $2 {}",
        db.skip_locked()
    );
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let rows = sqlx::query(crate::db::trusted(find))
            .bind(before).bind(ORPHANS_AT_ONCE).bind(late::OTHER_CONTENT.to_vec()).fetch_all(&mut *transaction).await?;
        let mut finished = Vec::with_capacity(rows.len());
        for row in &rows {
            let overtaken: Option<String> = row.try_get(6)?;
            let sent_hash = match overtaken {
                Some(sent) => ContentFingerprint::of(sent.as_bytes()).as_bytes().to_vec(),
                None => row.try_get(4)?,
            };
            finished.push(FinishedAttempt {
                lead: LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? },
                claimed_at: instant(row.try_get(2)?),
                attempt: row.try_get(3)?,
                class: OutcomeClass::Ambiguous,
                http_status: None,
                detail: Some("the program ended while this request was on its way".to_owned()),
                duration: None,
                at: now,
                sent_hash,
                next: after_crash(settings, row.try_get::<i64, _>(5)? == 1, now),
            });
        }
        if !finished.is_empty() {
            outcome::insert_query(&finished).build().execute(&mut *transaction).await?;
            delivery::finished_query(&finished, &order).build().execute(&mut *transaction).await?;
            outcome::minute_query(&finished).build().execute(&mut *transaction).await?;
            outcome::count_query(&finished).build().execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        Ok(finished.len() as u64)
    })
}

fn after_crash(settings: &DeliverySettings, urgent: bool, now: DateTime<Utc>) -> NextStep {
    match settings.on_ambiguous {
        // A withdrawal of consent does not wait.
        _ if urgent => NextStep::Resend,
        OnAmbiguous::Resend => NextStep::Resend,
        OnAmbiguous::Wait => NextStep::RetryAt(now + settings.ambiguous_wait),
        OnAmbiguous::Hold => NextStep::Hold,
    }
}
