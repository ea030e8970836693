//! Table `alert`, for operators who look through it. Reads only.

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::store::instant;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// An alert, and how far it has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAlert {
    pub kind: String,
    /// With a blank id for an alert about the service.
    pub lead: LeadId,
    pub created_at: DateTime<Utc>,
    pub attempts: i64,
    /// When it was delivered or given up.
    pub done_at: Option<DateTime<Utc>>,
    /// The result of the newest try.
    pub detail: Option<String>,
}

type AlertLine = (String, String, String, i64, i64, Option<i64>, Option<String>);

/// Alerts with that condition, in that order. Sorting open and done ones together would read the whole table.
async fn of_state(db: &StateDb, condition: &str, limit: i64) -> Result<Vec<AlertLine>, sqlx::Error> {
    let newest = StateStatement::new(format!(
        "select kind, id, client_id, created_at, attempts, done_at, detail from alert where {condition} limit $1"
    ));
    db.fetch_all(newest.bind(limit)).await
}

/// The newest alerts, those that are not delivered first.
pub async fn newest(db: &StateDb, limit: i64) -> Result<Vec<ListedAlert>, sqlx::Error> {
    // The index over open alerts finds them, so they are sorted; a walk would pass all alerts that are done.
    let mut rows = of_state(db, "done_at is null order by +seq desc", limit).await?;
    let left = limit - i64::try_from(rows.len()).unwrap_or(limit);
    if left > 0 {
        rows.extend(of_state(db, "done_at is not null order by seq desc", left).await?);
    }
    let alert = |(kind, id, client_id, created_at, attempts, done_at, detail): AlertLine| ListedAlert {
        kind,
        lead: LeadId { id, client_id },
        created_at: instant(created_at),
        attempts,
        done_at: done_at.map(instant),
        detail,
    };
    Ok(rows.into_iter().map(alert).collect())
}
