//! `check` of the clocks: whether the databases' clocks and ours agree. Conversica's clock is not checked: only an answer to a
//! request would show it, and `check` sends none.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;

use crate::check::item::CheckItem;
use crate::clock::CLOCKS_APART;
use crate::db::{discreet, trusted};
use crate::source::crm::ConnectedCrm;
use crate::source::mysql;
use crate::source::source_db::SourceDb;
use crate::store::server_clock::{CLOCK_CURE, SERVER_MICROS};

const SECTION: &str = "clock";

/// The start of the check, by the wall clock and by a monotonic clock.
#[derive(Clone, Copy)]
pub(super) struct CheckStart {
    pub now: DateTime<Utc>,
    pub at: Instant,
}

pub(super) async fn of_source(crm: &ConnectedCrm, began: CheckStart) -> CheckItem {
    match &crm.db {
        SourceDb::Postgres(pool) => of_server("source", pool, began).await,
        SourceDb::Mysql(pool) => {
            let theirs = mysql::number(pool, "select cast(unix_timestamp(now(6)) * 1000000 as signed)".to_owned());
            of_answer("source", theirs, began).await
        }
        SourceDb::Sqlite(_) => {
            let text =
                "nothing to compare with: a file has no clock, and Conversica is sent no request that it would date";
            CheckItem::skipped(SECTION, "source", text)
        }
    }
}

/// `name` says whose clock is checked.
pub(super) async fn of_server(name: &'static str, pool: impl PgExecutor<'_>, began: CheckStart) -> CheckItem {
    let theirs = sqlx::query_scalar(trusted(format!("select {SERVER_MICROS}"))).fetch_one(pool);
    of_answer(name, theirs, began).await
}

/// Compares the moment, in microseconds since 1970, that the server answers.
async fn of_answer(
    name: &'static str,
    theirs: impl Future<Output = Result<i64, sqlx::Error>>,
    began: CheckStart,
) -> CheckItem {
    let asked = began.at.elapsed();
    let theirs = theirs.await;
    // Assumes the middle between question and answer.
    let ours = TimeDelta::from_std((asked + began.at.elapsed()) / 2).map(|passed| began.now + passed);
    match (theirs.map_err(discreet::of_source), ours) {
        (Ok(theirs), Ok(ours)) => compared(name, DateTime::from_timestamp_micros(theirs).unwrap_or(ours) - ours),
        (Err(error), _) => {
            CheckItem::fail(SECTION, name, format!("the {name}'s server does not say what time it is: {error}"))
                .cure("look at the server's log, and at what lies between it and this machine")
        }
        (_, Err(_)) => CheckItem::skipped(SECTION, name, "the check has taken too long to compare clocks"),
    }
}

/// Judges how far the server's clock is ahead.
fn compared(name: &'static str, ahead: TimeDelta) -> CheckItem {
    let apart = ahead.abs();
    if apart <= CLOCKS_APART {
        let text = format!("the clock of the {name}'s server and ours agree to {} s", apart.num_seconds() + 1);
        return CheckItem::ok(SECTION, name, text);
    }
    let which = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
    let text = format!("the clock of the {name}'s server is {} s {which} ours", apart.num_seconds());
    CheckItem::warn(SECTION, name, text).cure(CLOCK_CURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::item::ItemState;

    #[test]
    fn clocks_may_differ_a_little_either_way() {
        for (seconds, state, words) in [
            (0, ItemState::Ok, "agree"),
            (-9, ItemState::Ok, "agree"),
            (11, ItemState::Warn, "11 s ahead of ours"),
            (-3600, ItemState::Warn, "3600 s behind ours"),
        ] {
            let item = compared("source", TimeDelta::seconds(seconds));
            assert_eq!(item.state, state, "{seconds}");
            assert!(item.detail.contains(words), "{}", item.detail);
        }
    }
}
