//! Corrects what a clock that ran ahead has written. Delays longer than the longest possible delay end now, and first contacts
//! dated in the future count as made now. See [`crate::horizon`].

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::horizon::{self, TOLERANCE};
use crate::rules::poll_record::LastPoll;
use crate::store::control::{self, CompareAsked, ControlFact, ControlFacts, ResumedAt, UnaskedLosses, UnaskedSends};
use crate::store::lead::locking;
use crate::store::lead_status::UNSETTLED;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{due, micros, operator_pause};

/// The latest due time over all groups. Each group has an index that answers this.
fn latest_due() -> String {
    let of =
        |group: &str| format!("select max(due_at) as at from lead where status in ('pending', 'retrying') and {group}");
    format!("select max(at) from ({}) latest", [due::URGENT, due::KNOWN, due::NEW].map(of).join(" union all "))
}

const LATEST_INTRODUCED: &str = "select max(at) from (\
     select max(introduced_at) as at from lead where introduced_at is not null union all \
     select max(introduced_at) from tombstone where introduced_at is not null) latest";

/// `longest` is the longest delay that the settings allow. `count_introductions` is set unless all leads are test leads.
pub async fn correct_waits(
    db: &StateDb,
    longest: Duration,
    count_introductions: bool,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let latest = micros(horizon::latest(longest + TOLERANCE, now));
    if newest(db, &latest_due()).await? > Some(latest) {
        let sql = format!(
            "with late (late_id, late_client_id) as (select id, client_id from lead \
             where status in ('pending', 'retrying') and due_at > $1{}) \
             update lead set due_at = $2, version = version + 1 from late where lead.id = late_id and lead.client_id = late_client_id",
            locking(db)
        );
        db.execute(StateStatement::new(sql).bind(latest).bind(micros(now))).await?;
    }
    let latest = micros(horizon::latest(TOLERANCE, now));
    if count_introductions && newest(db, LATEST_INTRODUCED).await? > Some(latest) {
        let sql = format!(
            "with early (early_id, early_client_id) as (select id, client_id from lead where introduced_at > $1{}) \
             update lead set introduced_at = $2, version = version + 1 from early where lead.id = early_id and lead.client_id = early_client_id",
            locking(db)
        );
        db.execute(StateStatement::new(sql).bind(latest).bind(micros(now))).await?;
        let sql = "update tombstone set introduced_at = $2 where introduced_at > $1";
        db.execute(StateStatement::new(sql).bind(latest).bind(micros(now))).await?;
    }
    Ok(())
}

async fn newest(db: &StateDb, sql: &str) -> Result<Option<i64>, sqlx::Error> {
    let (newest,) = db.fetch_one(sql.to_owned()).await?;
    Ok(newest)
}

/// A fact that carries the moment since which it holds, or at which it happened.
trait DatedFact: ControlFact {
    /// The same fact, with a moment in the future replaced by now.
    fn limit_to_now(self, now: DateTime<Utc>) -> Self;
}

impl DatedFact for CompareAsked {
    fn limit_to_now(self, now: DateTime<Utc>) -> Self {
        Self { at: horizon::as_of_now(self.at, now) }
    }
}

impl DatedFact for UnaskedSends {
    fn limit_to_now(self, now: DateTime<Utc>) -> Self {
        Self { since: horizon::as_of_now(self.since, now), ..self }
    }
}

impl DatedFact for UnaskedLosses {
    fn limit_to_now(self, now: DateTime<Utc>) -> Self {
        Self { since: horizon::as_of_now(self.since, now), ..self }
    }
}

impl DatedFact for ResumedAt {
    fn limit_to_now(self, now: DateTime<Utc>) -> Self {
        Self { at: horizon::as_of_now(self.at, now) }
    }
}

impl DatedFact for LastPoll {
    fn limit_to_now(self, now: DateTime<Utc>) -> Self {
        self.limit_to_now(now)
    }
}

/// The replacement of a fact: its name, its new text, and the text that it must still have.
type FactCorrection = (&'static str, String, String);

fn correction<F: DatedFact + Clone + PartialEq>(
    facts: &ControlFacts,
    now: DateTime<Utc>,
) -> Result<Option<FactCorrection>, sqlx::Error> {
    let Some((fact, before)) = facts.get::<F>()?.zip(facts.text::<F>()) else { return Ok(None) };
    let corrected = fact.clone().limit_to_now(now);
    if corrected == fact {
        return Ok(None);
    }
    let text = serde_json::to_string(&corrected).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(Some((F::NAME, text, before.to_owned())))
}

/// Limits to `now` the facts, and the moments since which leads are held, that a clock running ahead has dated in the future.
/// Returns the corrected facts. If the newest fact is not in the future, nothing is, and the database is not asked.
pub async fn correct_facts(db: &StateDb, facts: ControlFacts, now: DateTime<Utc>) -> Result<ControlFacts, sqlx::Error> {
    let latest = horizon::latest(TOLERANCE, now);
    if facts.newest_at() <= Some(latest) {
        return Ok(facts);
    }
    let corrections = [
        correction::<CompareAsked>(&facts, now)?,
        correction::<UnaskedSends>(&facts, now)?,
        correction::<UnaskedLosses>(&facts, now)?,
        correction::<ResumedAt>(&facts, now)?,
        correction::<LastPoll>(&facts, now)?,
    ];
    let [first, second] = control::WITHOUT_MOMENT;
    let mut transaction = db.begin().await?;
    for (column, status) in [("held_at", ""), ("gone_at", " and status = 'held'")] {
        let correct = format!(
            "with ahead (ahead_id, ahead_client_id) as (select id, client_id from lead \
             where {UNSETTLED} and {column} > $1{status}{}) \
             update lead set {column} = $2, version = version + 1 from ahead where lead.id = ahead_id and lead.client_id = ahead_client_id",
            locking(db)
        );
        transaction.execute(StateStatement::new(correct).bind(micros(latest)).bind(micros(now))).await?;
    }
    for (name, text, before) in corrections.into_iter().flatten() {
        let correct = StateStatement::new("update control set body = $2 where name = $1 and body = $3");
        transaction.execute(correct.bind(name).bind(text).bind(before)).await?;
    }
    let facts =
        StateStatement::new("update control set at = $2 where at > $1 and name not in ($3, $4) and name not like $5");
    let facts = facts.bind(micros(latest)).bind(micros(now)).bind(first).bind(second).bind(operator_pause::ROWS);
    transaction.execute(facts).await?;
    transaction.commit().await?;
    ControlFacts::read(db).await
}
