//! What `check` says of clocks: whether the database's and ours agree. Conversica's is not asked: it would tell by an answer to
//! a request, and none is sent.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

use crate::check::item::Item;
use crate::crm::Crm;
use crate::db::{Db, discreet};

const SECTION: &str = "clock";
/// Networks and busy machines explain less; look-back and leases bear much more.
const APART: TimeDelta = TimeDelta::seconds(10);

/// `now` was when the check began.
pub(super) async fn of_source(crm: &Crm, now: DateTime<Utc>, began: Instant) -> Item {
    let Db::Postgres(pool) = &crm.db else {
        let text = "nothing to compare with: a file has no clock, and Conversica is sent no request that it would date";
        return Item::skipped(SECTION, "source", text);
    };
    let asked = began.elapsed();
    let theirs: Result<i64, sqlx::Error> =
        sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000000)::bigint").fetch_one(pool).await;
    // Half-way between question and answer.
    let ours = TimeDelta::from_std((asked + began.elapsed()) / 2).map(|passed| now + passed);
    match (theirs.map_err(discreet::of_source), ours) {
        (Ok(theirs), Ok(ours)) => compared(DateTime::from_timestamp_micros(theirs).unwrap_or(ours) - ours),
        (Err(error), _) => Item::fail(SECTION, "source", format!("the database does not say what time it is: {error}")),
        (_, Err(_)) => Item::skipped(SECTION, "source", "the check has taken too long to compare clocks"),
    }
}

/// How far theirs is ahead.
fn compared(ahead: TimeDelta) -> Item {
    let apart = ahead.abs();
    if apart <= APART {
        return Item::ok(
            SECTION,
            "source",
            format!("the database's clock and ours agree to {} s", apart.num_seconds() + 1),
        );
    }
    let which = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
    let text =
        format!("the database's clock is {} s {which} ours: [source] lookback has to cover that", apart.num_seconds());
    Item::warn(SECTION, "source", text).cure("let both machines follow a time server (timedatectl status)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::item::State;

    #[test]
    fn clocks_may_differ_a_little_either_way() {
        for (seconds, state, words) in [
            (0, State::Ok, "agree"),
            (-9, State::Ok, "agree"),
            (11, State::Warn, "11 s ahead of ours"),
            (-3600, State::Warn, "3600 s behind ours"),
        ] {
            let item = compared(TimeDelta::seconds(seconds));
            assert_eq!(item.state, state, "{seconds}");
            assert!(item.detail.contains(words), "{}", item.detail);
        }
    }
}
