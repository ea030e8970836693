//! Recognises a PostgreSQL state that was restored from a backup, where the operator has not run `conversica-sync restored`: by its
//! `store::write_mark`.
//!
//! A snapshot of the server's files, and a recovery to a point in time, restore the mark with its transaction. A running process
//! recognises them too: the server's sequences have gone back.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tracing::warn;

use crate::store::backup;
use crate::store::decision::DecisionMaker;
use crate::store::state_db::StateDb;

const READ: &str = "select (select body from control where name = 'write_mark'), \
     (select xmin::text from control where name = 'write_mark'), \
     coalesce(pg_sequence_last_value(to_regclass('outcome_seq_seq')), 0), \
     coalesce(pg_sequence_last_value(to_regclass('event_seq_seq')), 0)";

/// What this process has last seen of a PostgreSQL state.
#[derive(Debug, Default)]
pub struct StateMemory(Mutex<Option<SeenMark>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct SeenMark {
    /// `None` where the row is missing.
    mark: Option<String>,
    outcomes: i64,
    events: i64,
}

impl SeenMark {
    /// Whether a state that looked like `self` can have become one that looks like `later` by what instances write.
    fn may_become(&self, later: &Self) -> bool {
        match (&self.mark, &later.mark) {
            (Some(_), None) => false,
            // Another instance has recognised a restored state, and has written a mark of its own.
            (earlier, mark) if earlier != mark => true,
            _ => self.outcomes <= later.outcomes && self.events <= later.events,
        }
    }
}

/// Holds the leads of a state that was restored from a backup, as `conversica-sync restored` does. Returns whether it was restored.
///
/// # Errors
/// The database's.
pub async fn recognise_restored(db: &StateDb, memory: &StateMemory, now: DateTime<Utc>) -> anyhow::Result<bool> {
    let StateDb::Postgres(pool) = db else { return Ok(false) };
    let (mark, written_in, outcomes, events): (Option<String>, Option<String>, i64, i64) =
        sqlx::query_as(READ).fetch_one(pool).await?;
    let found = SeenMark { mark: mark.clone(), outcomes, events };
    let earlier = memory.0.lock().unwrap_or_else(PoisonError::into_inner).replace(found.clone());
    if mark == written_in && earlier.as_ref().is_none_or(|earlier| earlier.may_become(&found)) {
        return Ok(false);
    }
    let marked = backup::mark_restored(db, &DecisionMaker::new("conversica-sync"), now).await;
    if marked.is_err() {
        // Compared with the same again.
        *memory.0.lock().unwrap_or_else(PoisonError::into_inner) = earlier;
    }
    warn!(
        leads = marked?,
        cure = "look at `conversica-sync plan`, then `approve` or `baseline`",
        "the state was restored from a backup, and is older than what Conversica holds: what waits, and what the next poll finds, is held"
    );
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mark: Option<&str>, outcomes: i64, events: i64) -> SeenMark {
        SeenMark { mark: mark.map(str::to_owned), outcomes, events }
    }

    #[test]
    fn a_state_with_the_same_mark_only_goes_forward() {
        let before = seen(Some("7"), 10, 5);
        for later in [before.clone(), seen(Some("7"), 42, 5), seen(Some("7"), 10, 6), seen(Some("9"), 1, 1)] {
            assert!(before.may_become(&later), "{later:?}");
        }
        for other in [seen(Some("7"), 9, 5), seen(Some("7"), 99, 4), seen(None, 99, 99)] {
            assert!(!before.may_become(&other), "{other:?}");
        }
        assert!(seen(None, 10, 5).may_become(&seen(Some("7"), 10, 5)), "a mark is written where there was none");
    }
}
