//! Tables `lead` and `tombstone`: recent first contacts by the minute, for as long as a cap counts them, erased people included.

use chrono::{DateTime, Utc};

use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

const MINUTE: i64 = 60_000_000;

/// First contacts since `since`, oldest first: `(when, people)`. Each minute's people count as of its end, so that the forecast
/// expects no first contact sooner than a cap allows it.
pub async fn since(db: &StateDb, since: DateTime<Utc>) -> Result<Vec<(DateTime<Utc>, u64)>, sqlx::Error> {
    // Integer division: both engines truncate.
    let by_minute = StateStatement::new(
        "select introduced_at / 60000000, count(*) from (select introduced_at from lead where introduced_at > $1 \
         union all select introduced_at from tombstone where introduced_at > $1) introduced \
         group by introduced_at / 60000000 order by 1",
    );
    let rows = db.fetch_all(by_minute.bind(micros(since))).await?;
    let people = |(minute, people): (i64, i64)| (instant((minute + 1) * MINUTE), u64::try_from(people).unwrap_or(0));
    Ok(rows.into_iter().map(people).collect())
}
