//! Table `control`: the pause that Conversica has asked for (`Retry-After` with a 429 or 503).
//!
//! It is a fact of its own: no instance overwrites it with its own pace, and a shorter pause replaces it only if the stored one ends later
//! than any pause can. The claim's statement reads it, so that
//! every instance stops sending as soon as it is written.

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, PgPool};

use crate::clock::ClockCorrection;
use crate::conversica::outcome::RETRY_AFTER_MAX;
use crate::db::{literal, trusted};
use crate::horizon;
use crate::store::server_clock::{self, SERVER_MICROS};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

const NAME: &str = "asked_pause";

/// The beginning of a statement that finds a pause in force. The caller appends the present moment and a limit: a pause that ends
/// later than the limit was written by a clock that ran ahead.
pub(crate) const IN_FORCE: &str = "select 1 from control where name = 'asked_pause' and at > ";

/// Stores that Conversica asked for a pause until then. A shorter pause than the one in force changes nothing.
pub async fn ask(db: &StateDb, until: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let latest = horizon::latest(RETRY_AFTER_MAX, now);
    let until = until.min(latest);
    let store = StateStatement::new(
        "insert into control (name, body, at) values ($1, $2, $3) on conflict (name) do update \
         set body = excluded.body, at = excluded.at where excluded.at > control.at or control.at > $4",
    );
    let body = serde_json::json!({ "until": until }).to_string();
    db.execute(store.bind(NAME).bind(body).bind(micros(until)).bind(micros(latest))).await.map(drop)
}

/// As [`ask`], for a PostgreSQL state that instances share: they see the pause before it is on the disk. A later commit brings it
/// there.
pub async fn announce(db: &StateDb, until: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let StateDb::Postgres(pool) = db else { return ask(db, until, now).await };
    let latest = horizon::latest(RETRY_AFTER_MAX, now);
    let until = until.min(latest);
    // One round trip. The literals are safe: numbers and an instant that this crate made.
    let body = literal(&serde_json::json!({ "until": until }).to_string());
    let sql = format!(
        "begin; set local synchronous_commit = off; \
         insert into control (name, body, at) values ('{NAME}', {body}, {at}) on conflict (name) do update \
         set body = excluded.body, at = excluded.at where excluded.at > control.at or control.at > {}; commit",
        micros(latest),
        at = micros(until)
    );
    let mut connection = pool.acquire().await?;
    connection.close_on_drop();
    connection.execute(sqlx::raw_sql(trusted(sql))).await?;
    connection.return_to_pool().await;
    Ok(())
}

/// The end of the last pause that Conversica asked for, over or not, and the server's clock, which this process follows from
/// then on: the caller reads the clock again before it asks [`is_on`].
pub async fn ask_server(pool: &PgPool) -> Result<(Option<DateTime<Utc>>, ClockCorrection), sqlx::Error> {
    let query = format!("select (select at from control where name = $1), {SERVER_MICROS}");
    let (until, correction) = server_clock::ask_with_clock(pool, &query, NAME).await?;
    Ok((until.map(instant), correction))
}

/// Whether a pause with this end is still on.
pub fn is_on(until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    !horizon::is_over(until, RETRY_AFTER_MAX, now)
}

/// The end of the pause that Conversica asked for; `None` if it is over.
pub async fn asked_until(db: &StateDb, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let pause = StateStatement::new("select at from control where name = $1").bind(NAME);
    let until: Option<(i64,)> = db.fetch_optional(pause).await?;
    Ok(until.map(|(until,)| instant(until)).filter(|until| is_on(*until, now)))
}
