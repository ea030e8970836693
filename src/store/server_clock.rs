//! The clock of a PostgreSQL state's server, which every instance uses. A process reads it when it connects, every two seconds
//! while it sends, and after each claim.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};
use tracing::{info, warn};

use crate::clock::{self, CLOCKS_APART, ClockCorrection, ServerTime};

/// The server's time in microseconds, as an expression.
pub const SERVER_MICROS: &str = "cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)";

/// Reads the server's time and uses its clock from then on.
///
/// # Errors
/// An error of the database.
pub async fn follow_server_clock(server: impl PgExecutor<'_>) -> Result<ClockCorrection, sqlx::Error> {
    let asked = clock::since_boot();
    let sql = crate::db::trusted(format!("select {SERVER_MICROS}"));
    let micros: i64 = sqlx::query_scalar(sql).fetch_one(server).await?;
    Ok(take_over(micros, asked))
}

/// As [`follow_server_clock`], with a query that returns one row: a value that may be null, and [`SERVER_MICROS`].
///
/// # Errors
/// An error of the database.
pub async fn ask_with_clock(
    pool: &PgPool,
    query: &str,
    bound: &str,
) -> Result<(Option<i64>, ClockCorrection), sqlx::Error> {
    let asked = clock::since_boot();
    let sql = crate::db::trusted(query.to_owned());
    let (found, micros): (Option<i64>, i64) = sqlx::query_as(sql).bind(bound).fetch_one(pool).await?;
    Ok((found, take_over(micros, asked)))
}

fn take_over(micros: i64, asked: std::time::Duration) -> ClockCorrection {
    let said = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_else(clock::own);
    let correction = clock::follow_server(ServerTime { said, asked, answered: clock::since_boot() });
    report_difference(correction);
    correction
}

/// Logs once that the clocks differ, and once that they agree again.
fn report_difference(correction: ClockCorrection) {
    static IS_REPORTED: AtomicBool = AtomicBool::new(false);
    let ahead = correction.own_ahead;
    if ahead.abs() > CLOCKS_APART {
        if !IS_REPORTED.swap(true, Ordering::Relaxed) {
            let seconds = ahead.abs().num_seconds();
            let direction = if ahead > chrono::TimeDelta::zero() { "ahead of" } else { "behind" };
            warn!(
                seconds,
                direction,
                cure = CLOCK_CURE,
                "this machine's clock and that of the state's server differ; leases, pauses and retries go by the server's clock"
            );
        }
    } else if IS_REPORTED.swap(false, Ordering::Relaxed) {
        info!("the clocks of this machine and of the state's server agree again");
    }
}

/// What the operator can do about clocks that differ.
pub const CLOCK_CURE: &str = "let both machines follow a time server (timedatectl status)";
