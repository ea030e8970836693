//! Table `control`: pauses by an operator, one row for each scope. Column `at` is the end of the pause.
//!
//! Every statement that looks for leads to send asks these rows, so that a pause holds for all instances as soon as it is written.

use chrono::{DateTime, Utc};

use crate::horizon;
use crate::rules::operator_pause::{OperatorPause, PauseScope, PauseShown};
use crate::store::decision::{DecisionAction, DecisionMaker};
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;

/// The names of these rows in SQL's `like`: [`EVERYBODY`], and [`CONVERSATION`] with the name of the conversation.
pub(crate) const ROWS: &str = "operator_pause%";
const EVERYBODY: &str = "operator_pause";
const CONVERSATION: &str = "operator_pause:";

/// The end of a pause without an end.
const OPEN_END: i64 = i64::MAX;

/// Whether this row of `control` is a pause by an operator.
pub(crate) fn is_row(name: &str) -> bool {
    name == EVERYBODY || name.starts_with(CONVERSATION)
}

/// The first words of a statement with [`is_not_paused`]. The caller appends the present moment and `)`.
pub(crate) const PAUSED_BEFORE: &str =
    "with paused (paused_name) as (select name from control where name like 'operator_pause%' and at > ";

/// A condition in SQL on a lead whose request withdraws no consent: no pause stops it. The statement begins with
/// [`PAUSED_BEFORE`].
///
/// The contents of leads are read only if a conversation is paused.
pub(crate) fn is_not_paused(db: &StateDb) -> String {
    let conversation = conversation_of_lead(db);
    format!(
        " and not exists (select 1 from paused where paused_name = '{EVERYBODY}') \
         and (not exists (select 1 from paused) \
         or not exists (select 1 from paused where paused_name = '{CONVERSATION}' || ({conversation})))"
    )
}

/// The conversation of a lead's desired content; null for none.
pub(crate) fn conversation_of_lead(db: &StateDb) -> &'static str {
    match db {
        StateDb::Sqlite(_) => "lead.desired ->> 'conversationId'",
        StateDb::Postgres(_) => "lead.desired::json ->> 'conversationId'",
    }
}

fn row_name(scope: &PauseScope) -> String {
    match scope {
        PauseScope::Everybody => EVERYBODY.to_owned(),
        PauseScope::Conversation(name) => format!("{CONVERSATION}{name}"),
    }
}

/// The pauses in force.
pub async fn read(db: &StateDb, now: DateTime<Utc>) -> Result<Option<PauseShown>, sqlx::Error> {
    let bodies: Vec<(String,)> = db.fetch_all(in_force(now)).await?;
    Ok(PauseShown::of(parse(bodies, now)?, now))
}

fn in_force(now: DateTime<Utc>) -> StateStatement {
    StateStatement::new("select body from control where name like $1 and at > $2").bind(ROWS).bind(micros(now))
}

fn parse(bodies: Vec<(String,)>, now: DateTime<Utc>) -> Result<Vec<OperatorPause>, sqlx::Error> {
    let parse_one = |(body,): (String,)| {
        let pause: OperatorPause = serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(OperatorPause { since: horizon::as_of_now(pause.since, now), ..pause })
    };
    bodies.into_iter().map(parse_one).collect()
}

/// Stores these pauses, each in place of an earlier one of its scope, and records the decision.
pub async fn begin(db: &StateDb, pauses: &[OperatorPause], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let mut rows = StateStatement::new("insert into control (name, body, at) ");
    let bodies: Result<Vec<String>, _> = pauses.iter().map(serde_json::to_string).collect();
    let bodies = bodies.map_err(|error| sqlx::Error::Encode(error.into()))?;
    rows.push_values(pauses.iter().zip(bodies), |row, (pause, body)| {
        row.push_bind(row_name(&pause.scope())).push_bind(body).push_bind(pause.until.map_or(OPEN_END, micros));
    });
    rows.push(" on conflict (name) do update set body = excluded.body, at = excluded.at");
    let mut transaction = db.begin().await?;
    transaction.execute(ended_before(now)).await?;
    transaction.execute(rows).await?;
    if let Some(pause) = pauses.first() {
        let why = pause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let what = format!("{}{why}", names(pauses));
        record(&mut transaction, DecisionAction::Pause, &DecisionMaker::new(&pause.who), what, now).await?;
    }
    transaction.commit().await
}

/// The result of [`end`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseEnd {
    Ended(Vec<OperatorPause>),
    /// These scopes are not paused, so nothing was changed; these pauses are in force.
    NotPaused(Vec<PauseScope>, Option<PauseShown>),
}

/// Ends the pauses of these conversations, or all pauses if none is named, and records the decision.
pub async fn end(
    db: &StateDb,
    conversations: &[String],
    who: &DecisionMaker,
    now: DateTime<Utc>,
) -> Result<PauseEnd, sqlx::Error> {
    let mut transaction = db.begin().await?;
    let mut standing = parse(transaction.fetch_all(in_force(now)).await?, now)?;
    let wanted = PauseScope::of(conversations);
    if !conversations.is_empty() {
        let has = |scope: &PauseScope| standing.iter().any(|pause| pause.scope() == *scope);
        let missing: Vec<PauseScope> = wanted.iter().filter(|scope| !has(scope)).cloned().collect();
        if !missing.is_empty() {
            return Ok(PauseEnd::NotPaused(missing, PauseShown::of(standing, now)));
        }
        standing.retain(|pause| wanted.contains(&pause.scope()));
    }
    if standing.is_empty() {
        return Ok(PauseEnd::NotPaused(wanted, None));
    }
    transaction.execute(ended_before(now)).await?;
    let mut delete = StateStatement::new("delete from control where name in (");
    delete.push_list(standing.iter().map(|pause| row_name(&pause.scope()))).push(")");
    transaction.execute(delete).await?;
    record(&mut transaction, DecisionAction::Unpause, who, names(&standing), now).await?;
    transaction.commit().await?;
    Ok(PauseEnd::Ended(standing))
}

/// Removes pauses that are over.
fn ended_before(now: DateTime<Utc>) -> StateStatement {
    StateStatement::new("delete from control where name like $1 and at <= $2").bind(ROWS).bind(micros(now))
}

fn names(pauses: &[OperatorPause]) -> String {
    let names: Vec<&str> = pauses.iter().map(|pause| pause.conversation.as_deref().unwrap_or("everybody")).collect();
    names.join(", ")
}

async fn record(
    transaction: &mut StateTransaction,
    action: DecisionAction,
    who: &DecisionMaker,
    what: String,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let insert =
        StateStatement::new("insert into decision (at, action, who, reason, leads) values ($1, $2, $3, $4, 0)");
    let insert = insert.bind(micros(now)).bind(action.name()).bind(who.as_str()).bind(what);
    transaction.execute(insert).await.map(drop)
}

/// How many leads have this `conversationId`. It reads every lead.
pub async fn count_leads_of(db: &StateDb, name: &str) -> Result<i64, sqlx::Error> {
    let count = format!("select count(*) from lead where {} = $1", conversation_of_lead(db));
    let (leads,): (i64,) = db.fetch_one(StateStatement::new(count).bind(name)).await?;
    Ok(leads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ahead;
    use crate::store::control::{self, ControlFacts, ResumedAt};

    #[tokio::test]
    async fn the_end_of_a_pause_is_no_clock_that_ran_ahead() {
        let db = StateDb::open_state_in_memory().await.unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let pause = |conversation: Option<&str>, until| OperatorPause {
            conversation: conversation.map(str::to_owned),
            since: now,
            until,
            reason: None,
            who: "kim".to_owned(),
        };
        let next_month = now + chrono::TimeDelta::days(30);
        begin(&db, &[pause(None, None), pause(Some("Spring"), Some(next_month))], now).await.unwrap();
        let before = read(&db, now).await.unwrap();
        assert_eq!(before.as_ref().map(|pause| pause.scopes.len()), Some(2));
        assert!(ControlFacts::read(&db).await.unwrap().newest_at() <= Some(now));
        control::write(&db, &ResumedAt { at: next_month }, next_month).await.unwrap();
        let facts = ControlFacts::read(&db).await.unwrap();
        let facts = ahead::correct_facts(&db, facts, now).await.unwrap();
        assert!(facts.newest_at() <= Some(now), "the other fact is corrected");
        assert_eq!(read(&db, now).await.unwrap(), before);
    }
}
