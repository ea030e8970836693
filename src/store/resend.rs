//! Table `lead`, for leads that Conversica has accepted, or is assumed to know: a person has them sent again.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::rules::hold_reason::HoldReason;
use crate::store::bulk_decision::{self, NewDecision};
use crate::store::decision::{DecisionAction, DecisionMaker};
use crate::store::micros;
use crate::store::operator_pause::conversation_of_lead;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// Selects leads that nothing waits for. All conditions that are given count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResendSelection {
    pub ids: Vec<String>,
    /// The `conversationId` of the content.
    pub conversations: Vec<String>,
    /// When Conversica accepted the lead last: from the first moment on, and before the second.
    pub accepted_from: Option<DateTime<Utc>>,
    pub accepted_to: Option<DateTime<Utc>>,
    /// Accepted before this moment, and Conversica has posted nothing about the lead.
    pub silent_since: Option<DateTime<Utc>>,
    /// Leads that a baseline assumes known. Without it and without ids they are left out.
    pub assumed: bool,
}

impl ResendSelection {
    pub(crate) fn push(&self, db: &StateDb, statement: &mut StateStatement) {
        statement.push("status = 'in_sync' and gone_at is null and desired is not null");
        if !self.ids.is_empty() {
            statement.push(" and id in (").push_list(&self.ids).push(")");
        }
        if self.assumed {
            statement.push(" and assumed_at is not null");
        } else if self.ids.is_empty() {
            statement.push(" and assumed_at is null");
        }
        if !self.conversations.is_empty() {
            statement
                .push(" and ")
                .push(conversation_of_lead(db))
                .push(" in (")
                .push_list(&self.conversations)
                .push(")");
        }
        if let Some(from) = self.accepted_from {
            statement.push(" and delivered_at >= ").push_bind(micros(from));
        }
        if let Some(to) = self.accepted_to {
            statement.push(" and delivered_at < ").push_bind(micros(to));
        }
        if let Some(since) = self.silent_since {
            statement.push(" and delivered_at < ").push_bind(micros(since));
            statement.push(
                " and not exists (select 1 from conversation heard \
                 where heard.id = lead.id and heard.client_id = lead.client_id)",
            );
        }
    }
}

/// The selected leads of one conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResendGroup {
    /// Blank for leads without a `conversationId`.
    pub conversation: String,
    pub leads: i64,
    /// Leads among them that were never sent from here: for them it is a first contact, as far as is known.
    pub assumed: i64,
}

/// Counts the selected leads by conversation.
pub async fn look(db: &StateDb, selection: &ResendSelection) -> Result<Vec<ResendGroup>, sqlx::Error> {
    let conversation = conversation_of_lead(db);
    let mut statement = StateStatement::new(format!(
        "select coalesce({conversation}, ''), count(*), count(assumed_at) from lead where "
    ));
    selection.push(db, &mut statement);
    statement.push(" group by 1 order by 1");
    let rows: Vec<(String, i64, i64)> = db.fetch_all(statement).await?;
    Ok(rows.into_iter().map(|(conversation, leads, assumed)| ResendGroup { conversation, leads, assumed }).collect())
}

/// When Conversica accepted the newest of the selected leads, or a baseline assumed so, in microseconds. A lead that joins the selection
/// later has a later moment.
pub async fn newest(db: &StateDb, selection: &ResendSelection) -> Result<i64, sqlx::Error> {
    let mut statement =
        StateStatement::new("select coalesce(max(coalesce(delivered_at, assumed_at)), 0) from lead where ");
    selection.push(db, &mut statement);
    let (newest,) = db.fetch_one(statement).await?;
    Ok(newest)
}

/// The ids among these that no lead of the selection has, in their order.
pub async fn list_other_ids(db: &StateDb, selection: &ResendSelection) -> Result<Vec<String>, sqlx::Error> {
    let mut statement = StateStatement::new("select id from lead where ");
    selection.push(db, &mut statement);
    let found: HashSet<String> = db.fetch_all::<(String,)>(statement).await?.into_iter().map(|(id,)| id).collect();
    Ok(selection.ids.iter().filter(|id| !found.contains(*id)).cloned().collect())
}

/// Which leads are sent again.
#[derive(Debug, Clone, Copy)]
pub struct ResendOrder<'a> {
    pub selection: &'a ResendSelection,
    /// How many leads the operator was shown.
    pub shown: i64,
    /// The leads wait for approval first.
    pub is_held: bool,
    pub who: &'a DecisionMaker,
}

/// Makes the leads due, or holds them. `None` if there are more than were shown: then nothing is changed. `done` is told how many
/// leads each part had.
pub async fn order(
    db: &StateDb,
    order: ResendOrder<'_>,
    now: DateTime<Utc>,
    done: impl FnMut(u64),
) -> Result<Option<u64>, sqlx::Error> {
    let mut chosen = StateStatement::new("select id, client_id from lead where ");
    order.selection.push(db, &mut chosen);
    let mut transaction = db.begin().await?;
    let reason = order.is_held.then_some(HoldReason::Resend.name());
    let decision = NewDecision { action: DecisionAction::Resend, who: order.who, reason, until: now };
    let listed = bulk_decision::list(&mut transaction, decision, chosen, now).await?;
    if i64::try_from(listed.leads).is_ok_and(|leads| leads > order.shown) {
        return Ok(None);
    }
    transaction.commit().await?;
    bulk_decision::finish(db, listed, now, done).await?;
    Ok(Some(listed.leads))
}
