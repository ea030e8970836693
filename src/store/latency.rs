//! Table `outcome`: how long the newest attempts took.

use chrono::{DateTime, Utc};

use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// How many of the newest journal entries are read: no index leads to the attempts of a time.
const NEWEST_ATTEMPTS: i64 = 20_000;

/// How long the newest attempts took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTimes {
    /// Moments and durations in milliseconds of the attempts with a duration.
    pub durations: Vec<(DateTime<Utc>, i64)>,
    pub cover: AnswerCover,
}

/// Which attempts were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerCover {
    /// All of the time.
    Whole,
    /// The newest; there may be earlier ones.
    Newest,
}

/// How long the newest attempts since then took.
pub async fn durations(db: &StateDb, since: DateTime<Utc>) -> Result<AnswerTimes, sqlx::Error> {
    let durations = StateStatement::new(
        "select at, duration_ms from (select at, duration_ms from outcome order by seq desc limit $1) newest \
         where at >= $2",
    );
    let rows: Vec<(i64, Option<i64>)> = db.fetch_all(durations.bind(NEWEST_ATTEMPTS).bind(micros(since))).await?;
    let cover = match i64::try_from(rows.len()) {
        Ok(NEWEST_ATTEMPTS) => AnswerCover::Newest,
        _ => AnswerCover::Whole,
    };
    let durations = rows.into_iter().filter_map(|(at, duration)| Some((instant(at), duration?))).collect();
    Ok(AnswerTimes { durations, cover })
}
