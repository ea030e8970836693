//! Tables `decision` and `decided`: the decisions of operators, and the leads that they concern. They are written in the
//! transaction that carries the decision out.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::conversica::lead::LeadId;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// The operator who decides, as far as is known: the account at the command line, or the dashboard. It is only a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionMaker {
    who: String,
    /// What they wrote beside the decision.
    comment: Option<String>,
}

/// The longest comment, in characters.
const LONGEST_COMMENT: usize = 500;

impl DecisionMaker {
    pub fn new(who: impl Into<String>) -> Self {
        Self { who: who.into(), comment: None }
    }

    /// The same with a comment, unless it is blank.
    #[must_use]
    pub fn with_comment(self, comment: &str) -> Self {
        let comment: String = comment.trim().chars().take(LONGEST_COMMENT).filter(|c| *c != '\0').collect();
        Self { comment: (!comment.is_empty()).then_some(comment), ..self }
    }

    pub fn as_str(&self) -> &str {
        &self.who
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
        "insert into decision (at, action, who, reason, comment, leads) values ($1, $2, $3, $4, $5, 0) returning seq",
    )
    .bind(micros(now))
    .bind(action.name())
    .bind(who.as_str())
    .bind(reason)
    .bind(who.comment.as_deref())
}

/// One statement that deletes the comments on decisions about that lead: they may name the person.
pub(crate) fn forget_comments_statement(lead: &LeadId) -> StateStatement {
    StateStatement::new(
        "update decision set comment = null where comment is not null \
         and seq in (select decision_seq from decided where id = $1 and client_id = $2)",
    )
    .bind(&lead.id)
    .bind(&lead.client_id)
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
    /// What they wrote beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The columns of a [`DecisionRow`].
const COLUMNS: &str = "at, action, who, reason, leads, comment";
type DecisionRow = (i64, String, String, Option<String>, i64, Option<String>);

fn decided((at, action, who, reason, leads, comment): DecisionRow) -> RecordedDecision {
    RecordedDecision { at: instant(at), action, who, reason, leads, comment }
}

/// Decisions about one lead, oldest first.
pub async fn of_lead(db: &StateDb, id: &str, client_id: &str) -> Result<Vec<RecordedDecision>, sqlx::Error> {
    let of_lead = StateStatement::new(format!(
        "select {COLUMNS} from decision \
         where seq in (select decision_seq from decided where id = $1 and client_id = $2) order by seq"
    ));
    let rows: Vec<DecisionRow> = db.fetch_all(of_lead.bind(id).bind(client_id)).await?;
    Ok(rows.into_iter().map(decided).collect())
}

/// The newest decisions, newest first.
pub async fn newest(db: &StateDb, limit: i64) -> Result<Vec<RecordedDecision>, sqlx::Error> {
    Ok(before(db, i64::MAX, limit).await?.into_iter().map(|(_, decided)| decided).collect())
}

/// Decisions with their numbers, newest first, from before that number on.
pub async fn before(db: &StateDb, seq: i64, limit: i64) -> Result<Vec<(i64, RecordedDecision)>, sqlx::Error> {
    let sql = format!("select seq, {COLUMNS} from decision where seq < $1 order by seq desc limit $2");
    type NumberedRow = (i64, i64, String, String, Option<String>, i64, Option<String>);
    let rows: Vec<NumberedRow> = db.fetch_all(StateStatement::new(sql).bind(seq).bind(limit)).await?;
    let numbered = |(seq, at, action, who, reason, leads, comment): NumberedRow| {
        (seq, decided((at, action, who, reason, leads, comment)))
    };
    Ok(rows.into_iter().map(numbered).collect())
}
