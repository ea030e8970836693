//! Table `outcome`: how long the newest attempts took.

use chrono::{DateTime, Utc};

use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// How many of the newest journal entries are read: no index leads to the attempts of a time.
pub const NEWEST_ATTEMPTS: i64 = 20_000;

/// The moments and durations in milliseconds of the newest attempts since then.
pub async fn durations(db: &StateDb, since: DateTime<Utc>) -> Result<Vec<(DateTime<Utc>, i64)>, sqlx::Error> {
    let durations = StateStatement::new(
        "select at, duration_ms from (select at, duration_ms from outcome order by seq desc limit $1) newest \
         where at >= $2 and duration_ms is not null",
    );
    let rows: Vec<(i64, i64)> = db.fetch_all(durations.bind(NEWEST_ATTEMPTS).bind(micros(since))).await?;
    Ok(rows.into_iter().map(|(at, duration)| (instant(at), duration)).collect())
}
