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

/// The newest alerts, those that are not delivered first.
pub async fn newest(db: &StateDb, limit: i64) -> Result<Vec<ListedAlert>, sqlx::Error> {
    let newest = StateStatement::new(
        "select kind, id, client_id, created_at, attempts, done_at, detail from alert \
         order by case when done_at is null then 0 else 1 end, seq desc limit $1",
    );
    type AlertLine = (String, String, String, i64, i64, Option<i64>, Option<String>);
    let rows: Vec<AlertLine> = db.fetch_all(newest.bind(limit)).await?;
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
