//! Tables `decision` and `decided`: the decisions of operators, and the leads that they concern. They are written in the
//! transaction that carries the decision out.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// The operator who decides, as far as is known: the account at the command line, or the dashboard. It is only a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionMaker(String);

impl DecisionMaker {
    pub fn new(who: impl Into<String>) -> Self {
        Self(who.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionAction {
    Approve,
    Baseline,
    Retry,
    Resend,
    Resume,
    Restored,
    /// The erased lead is not recorded.
    Erase,
    Allow,
    Pause,
    Unpause,
    /// People were put on the suppression list; they are not recorded.
    Suppress,
}

impl DecisionAction {
    pub fn name(self) -> &'static str {
        match self {
            DecisionAction::Approve => "approve",
            DecisionAction::Baseline => "baseline",
            DecisionAction::Retry => "retry",
            DecisionAction::Resend => "resend",
            DecisionAction::Resume => "resume",
            DecisionAction::Restored => "restored",
            DecisionAction::Erase => "erase",
            DecisionAction::Allow => "allow",
            DecisionAction::Pause => "pause",
            DecisionAction::Unpause => "unpause",
            DecisionAction::Suppress => "suppress",
        }
    }
}

/// One statement that begins a decision and returns its number. The number of leads is not known yet.
pub(crate) fn begin_statement(
    action: DecisionAction,
    who: &DecisionMaker,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> StateStatement {
    StateStatement::new(
        "insert into decision (at, action, who, reason, leads) values ($1, $2, $3, $4, 0) returning seq",
    )
    .bind(micros(now))
    .bind(action.name())
    .bind(who.as_str())
    .bind(reason)
}

/// A decision that concerns no lead in particular.
pub async fn note(
    db: &StateDb,
    action: DecisionAction,
    who: &DecisionMaker,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    db.execute(begin_statement(action, who, reason, now)).await.map(drop)
}

/// One stored decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedDecision {
    pub at: DateTime<Utc>,
    pub action: String,
    pub who: String,
    pub reason: Option<String>,
    /// How many leads the decision concerned.
    pub leads: i64,
}

type DecisionRow = (i64, String, String, Option<String>, i64);

fn decided((at, action, who, reason, leads): DecisionRow) -> RecordedDecision {
    RecordedDecision { at: instant(at), action, who, reason, leads }
}

/// Decisions about one lead, oldest first.
pub async fn of_lead(db: &StateDb, id: &str, client_id: &str) -> Result<Vec<RecordedDecision>, sqlx::Error> {
    let of_lead = StateStatement::new(
        "select at, action, who, reason, leads from decision \
         where seq in (select decision_seq from decided where id = $1 and client_id = $2) order by seq",
    );
    let rows: Vec<DecisionRow> = db.fetch_all(of_lead.bind(id).bind(client_id)).await?;
    Ok(rows.into_iter().map(decided).collect())
}

/// The newest decisions, newest first.
pub async fn newest(db: &StateDb, limit: i64) -> Result<Vec<RecordedDecision>, sqlx::Error> {
    let newest = StateStatement::new("select at, action, who, reason, leads from decision order by seq desc limit $1");
    let rows: Vec<DecisionRow> = db.fetch_all(newest.bind(limit)).await?;
    Ok(rows.into_iter().map(decided).collect())
}
