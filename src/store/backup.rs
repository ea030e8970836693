//! Backups of the state. A restored state is older than what Conversica holds, so nothing is sent from it before an operator has
//! checked it.

use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::OpenFlags;
use serde::{Deserialize, Serialize};
use sqlx::QueryBuilder;

use crate::db::{self, LOCK_TIMEOUT};
use crate::rules::hold_reason::RESTORED;
use crate::store::control::{CompareAsked, ControlFact};
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::micros;
use crate::store::state_db::{StateDb, on_state};

/// Copies an SQLite state, as it is at one moment, into an empty file. Writers are not disturbed.
///
/// # Errors
/// An error of SQLite, usually for lack of room.
pub fn copy(state: &Path, file: &Path) -> Result<(), rusqlite::Error> {
    // The copy uses its own connection, which may not write to the state.
    let state = rusqlite::Connection::open_with_flags(state, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    state.busy_timeout(LOCK_TIMEOUT)?;
    state.execute("vacuum into ?1", [file.to_string_lossy()]).map(drop)
}

/// Gives a copy its own id. A process that uses a state notices by the id that the copy has replaced its file.
///
/// # Errors
/// An error of SQLite.
pub async fn set_state_id(copy: &StateDb, id: i64) -> Result<(), sqlx::Error> {
    let StateDb::Sqlite(pool) = copy else { return Ok(()) };
    sqlx::raw_sql(db::trusted(format!("pragma application_id = {id}"))).execute(pool).await.map(drop)
}

/// Sends found by polls wait for approval until a poll has compared everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredState {
    pub at: DateTime<Utc>,
}

impl ControlFact for RestoredState {
    const NAME: &'static str = "restored";
}

/// Holds the backlog except withdrawals of consent, and makes the next poll compare everything and hold what it finds, in one
/// transaction. Returns how many leads were waiting.
pub async fn mark_restored(db: &StateDb, who: &DecisionMaker, now: DateTime<Utc>) -> anyhow::Result<u64> {
    let (restored, asked) =
        (serde_json::to_string(&RestoredState { at: now })?, serde_json::to_string(&CompareAsked { at: now })?);
    Ok(on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let mut hold = QueryBuilder::new("update lead set hold_reason = ");
        hold.push_bind(RESTORED).push(", held_at = ").push_bind(micros(now));
        // A lead in flight is held when its outcome is recorded, or when its claim expires.
        hold.push(
            ", status = case when status = 'in_flight' then status else 'held' end \
             where status <> 'in_sync' and hold_reason is null \
             and status in ('pending', 'in_flight', 'retrying') and urgent = 0");
        let leads = hold.build().execute(&mut *transaction).await?.rows_affected();
        let mut facts = QueryBuilder::new("insert into control (name, body, at) ");
        facts.push_values([(RestoredState::NAME, restored), (CompareAsked::NAME, asked)], |mut row, (name, body)| {
            row.push_bind(name).push_bind(body).push_bind(micros(now));
        });
        facts.push(" on conflict (name) do update set body = excluded.body, at = excluded.at");
        facts.build().execute(&mut *transaction).await?;
        for statement in db.accept_statements() {
            sqlx::query(*statement).execute(&mut *transaction).await?;
        }
        decision::begin_query(DecisionAction::Restored, who, None, now).build().execute(&mut *transaction).await?;
        transaction.commit().await?;
        leads
    }))
}
