//! What a clock that was ahead has written, put right: delays that are longer than any delay can be end now, and people who
//! were contacted in the future were contacted now. See [`crate::horizon`].

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::db::{Db, trusted};
use crate::horizon::{self, TOLERANCE};
use crate::on_db;
use crate::state::lead::locking;
use crate::state::micros;

/// Each has an index that knows the latest.
const LATEST_DUE: &str = "select max(at) from (\
     select max(due_at) as at from lead where status in ('pending', 'retrying') and urgent = 1 union all \
     select max(due_at) from lead where status in ('pending', 'retrying') and urgent = 0 and first_contact_at is not null union all \
     select max(due_at) from lead where status in ('pending', 'retrying') and urgent = 0 and first_contact_at is null) latest";

const LATEST_INTRODUCED: &str = "select max(at) from (\
     select max(introduced_at) as at from lead where introduced_at is not null union all \
     select max(introduced_at) from tombstone) latest";

/// `longest` is the longest delay that the settings can make. `count_introductions`: whether a cap counts new people.
pub async fn correct_waits(
    db: &Db,
    longest: Duration,
    count_introductions: bool,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let latest = micros(horizon::latest(longest + TOLERANCE, now));
    if newest(db, LATEST_DUE).await? > Some(latest) {
        let sql = format!(
            "with late (late_id, late_client_id) as (select id, client_id from lead \
             where status in ('pending', 'retrying') and due_at > $1{}) \
             update lead set due_at = $2 from late where lead.id = late_id and lead.client_id = late_client_id",
            locking(db)
        );
        on_db!(db, pool => sqlx::query(trusted(sql)).bind(latest).bind(micros(now)).execute(pool).await.map(drop))?;
    }
    let latest = micros(horizon::latest(TOLERANCE, now));
    if count_introductions && newest(db, LATEST_INTRODUCED).await? > Some(latest) {
        let sql = format!(
            "with early (early_id, early_client_id) as (select id, client_id from lead where introduced_at > $1{}) \
             update lead set introduced_at = $2 from early where lead.id = early_id and lead.client_id = early_client_id",
            locking(db)
        );
        on_db!(db, pool => sqlx::query(trusted(sql)).bind(latest).bind(micros(now)).execute(pool).await.map(drop))?;
        let sql = "update tombstone set introduced_at = $2 where introduced_at > $1";
        on_db!(db, pool => sqlx::query(sql).bind(latest).bind(micros(now)).execute(pool).await.map(drop))?;
    }
    Ok(())
}

async fn newest(db: &Db, sql: &'static str) -> Result<Option<i64>, sqlx::Error> {
    on_db!(db, pool => sqlx::query_scalar(sql).fetch_one(pool).await)
}
