//! Table `control`: the pause that Conversica has asked for (`Retry-After` with a 429 or 503).
//!
//! A fact of its own, which no instance overwrites with what it knows of its own pace: it only ever grows. The claim's own
//! statement asks it, so that every instance is silent from the moment when it is written.

use chrono::{DateTime, Utc};

use crate::conversica::outcome::RETRY_AFTER_MAX;
use crate::db::Db;
use crate::horizon;
use crate::on_db;
use crate::state::{instant, micros};

const NAME: &str = "asked_pause";

/// The beginning of a statement that finds the pause while it lasts. What follows is the present moment, and a limit: a pause
/// that ends later than any pause can was written by a clock that was ahead.
pub(super) const IN_FORCE: &str = "select 1 from control where name = 'asked_pause' and at > ";

/// Conversica has asked for silence until then. A shorter pause than the one in force changes nothing.
pub async fn ask(db: &Db, until: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let latest = horizon::latest(RETRY_AFTER_MAX, now);
    let until = until.min(latest);
    on_db!(db, pool => {
        sqlx::query(
            "insert into control (name, body, at) values ($1, $2, $3) on conflict (name) do update \
             set body = excluded.body, at = excluded.at where excluded.at > control.at or control.at > $4")
            .bind(NAME).bind(serde_json::json!({ "until": until }).to_string()).bind(micros(until)).bind(micros(latest))
            .execute(pool).await.map(drop)
    })
}

/// Until when no instance sends, where Conversica has asked for a pause that is not over.
pub async fn asked_until(db: &Db, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let until: Option<i64> = on_db!(db, pool => {
        sqlx::query_scalar("select at from control where name = $1").bind(NAME).fetch_optional(pool).await
    })?;
    Ok(until.map(instant).filter(|until| !horizon::is_over(*until, RETRY_AFTER_MAX, now)))
}
