//! The effects of the posts about one lead: its events waiting for the write-back, and its alerts. Reads only.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::conversica::lead::LeadId;
use crate::store::instant;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// The progress of an event that is not in the CRM yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnItsWay {
    /// `waiting` or `stopped`.
    pub status: String,
    pub attempts: i64,
    pub due_at: DateTime<Utc>,
    /// The answer of the CRM's database to the newest try.
    pub detail: Option<String>,
}

/// The lead's events that wait for the write-back, by their numbers.
pub async fn writeback(db: &StateDb, lead: &LeadId) -> Result<HashMap<i64, OnItsWay>, sqlx::Error> {
    type Line = (i64, String, i64, i64, Option<String>);
    let waiting = StateStatement::new(
        "select w.event_seq, w.status, w.attempts, w.due_at, w.detail from event e \
         join writeback w on w.event_seq = e.seq where e.id = $1 and e.client_id = $2",
    );
    let rows: Vec<Line> = db.fetch_all(waiting.bind(&lead.id).bind(&lead.client_id)).await?;
    let of = |(seq, status, attempts, due_at, detail): Line| {
        (seq, OnItsWay { status, attempts, due_at: instant(due_at), detail })
    };
    Ok(rows.into_iter().map(of).collect())
}

/// An alert that was sent, or waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToldAlert {
    pub kind: String,
    pub at: DateTime<Utc>,
    pub attempts: i64,
    /// When it was delivered or given up.
    pub done_at: Option<DateTime<Utc>>,
    /// The result of the newest try, for each channel.
    pub detail: Option<String>,
}

/// Oldest first, at most 1,000.
pub async fn alerts(db: &StateDb, lead: &LeadId) -> Result<Vec<ToldAlert>, sqlx::Error> {
    type Line = (String, i64, i64, Option<i64>, Option<String>);
    let alerts = StateStatement::new(
        "select kind, created_at, attempts, done_at, detail from alert where id = $1 and client_id = $2 \
         order by seq limit 1000",
    );
    let rows: Vec<Line> = db.fetch_all(alerts.bind(&lead.id).bind(&lead.client_id)).await?;
    let of = |(kind, at, attempts, done_at, detail): Line| ToldAlert {
        kind,
        at: instant(at),
        attempts,
        done_at: done_at.map(instant),
        detail,
    };
    Ok(rows.into_iter().map(of).collect())
}
