//! Backups of the state. A restored state is older than what Conversica holds, so nothing is sent from it before an operator has
//! checked it.

use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::OpenFlags;
use serde::{Deserialize, Serialize};

use crate::conversica::lead::LeadId;
use crate::db::{self, LOCK_TIMEOUT};
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::store::control::{CompareAsked, ControlFact};
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::lead_status::UNSETTLED;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{lead_record, micros};

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
    let waiting = || {
        let mut waiting = lead_record::choose();
        waiting.push(UNSETTLED).push(
            " and urgent = 0 and (hold_reason is null and status in ('pending', 'in_flight', 'retrying') \
             or hold_reason = 'staged' and gone_at is null)",
        );
        waiting
    };
    let mut transaction = db.begin().await?;
    let (mut leads, mut after) = (0, LeadId::default());
    let event = |_: &LeadRecord| Some(LeadEvent::Restored);
    while let Some(held) = lead_record::apply_to_some(&mut transaction, waiting(), &mut after, now, event).await? {
        leads += held.len() as u64;
    }
    let mut facts = StateStatement::new("insert into control (name, body, at) ");
    facts.push_values([(RestoredState::NAME, restored), (CompareAsked::NAME, asked)], |row, (name, body)| {
        row.push_bind(name).push_bind(body).push_bind(micros(now));
    });
    facts.push(" on conflict (name) do update set body = excluded.body, at = excluded.at");
    transaction.execute(facts).await?;
    for statement in db.accept_statements() {
        transaction.execute(*statement).await?;
    }
    transaction.execute(decision::begin_statement(DecisionAction::Restored, who, None, now)).await?;
    transaction.commit().await?;
    Ok(leads)
}
