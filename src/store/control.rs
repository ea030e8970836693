//! Table `control`: facts that exist at most once, each stored under its name as a small JSON document.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::conversica::lead::IdOrder;
use crate::conversica::outcome::HaltReason;
use crate::rules::cursor::{NewestStamp, PollCursor};
use crate::rules::mapping_in_use::MappingInUse;
use crate::rules::odd_opt_out::OptOutColumns;
use crate::rules::poll_record::LastPoll;
use crate::rules::settled::SettledMoment;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros, operator_pause};

/// A fact that exists at most once.
pub trait ControlFact: Serialize + DeserializeOwned {
    const NAME: &'static str;
}

/// Nothing is sent while this fact exists and the credentials stay the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHalt {
    pub reason: HaltReason,
    pub since: DateTime<Utc>,
    /// Conversica's answer, shortened.
    pub detail: Option<String>,
    /// Fingerprint of endpoint and credentials. Other credentials lift the halt.
    pub account: String,
}

/// When an operator last lifted a halt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedAt {
    pub at: DateTime<Utc>,
}

/// `check --send-test-lead` has used one of the test leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestLeadSent {
    pub at: DateTime<Utc>,
}

/// The sends of the first run have been decided by `first_run`, `approve` or `baseline`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstRunDone {
    pub by: String,
}

/// Conversica has answered 2xx to these credentials at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedAccount {
    pub account: String,
}

/// The rate at which leads may be sent at present. The deliverer stores it, so that `status` can show it and a restart continues
/// from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredPace {
    pub at: DateTime<Utc>,
    /// Requests a second at present, at most `ceiling`.
    pub requests_per_second: f64,
    /// `[delivery] requests_per_second`.
    pub ceiling: f64,
    /// Nothing is sent before then: Conversica asked for a pause.
    pub paused_until: Option<DateTime<Utc>>,
    pub breaker: BreakerState,
    /// When the open breaker lets the next probe through.
    pub next_probe_at: Option<DateTime<Utc>>,
    /// Transient failures in a row, over all leads.
    pub failures: u32,
    /// New people wait until then, because a cap is reached.
    pub new_people_wait_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Requests are sent as pace and concurrency allow.
    Closed,
    /// Probes are sent one at a time.
    Open,
}

/// The progress of a full compare: all rows before this lead are compared, written and decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareMark {
    /// As in [`PollCursor`].
    pub source: String,
    /// As in [`MappingInUse`].
    pub mapping: String,
    pub order: IdOrder,
    pub id: String,
    pub client_id: String,
    pub began_at: DateTime<Utc>,
    /// The newest `changed_at` when the compare began; later changes are after it.
    pub newest: Option<NewestStamp>,
    pub settled: SettledMoment,
    pub rows: u64,
    /// Rows up to this lead whose key names no lead.
    #[serde(default)]
    pub unnamed: u64,
}

/// The operator wants the next poll to compare every row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareAsked {
    pub at: DateTime<Utc>,
}

/// The change log and triggers that were last found in the CRM. A different change log has missed earlier changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLogInUse {
    pub generation: String,
}

/// With triggers: sends since then that stayed below `[safety] approve_above` and so needed no approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaskedSends {
    pub since: DateTime<Utc>,
    pub leads: u64,
    /// Leads among them whose rows went missing.
    #[serde(default)]
    pub lost: u64,
}

/// With triggers: leads since then whose rows went missing and that needed no approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaskedLosses {
    pub since: DateTime<Utc>,
    pub leads: u64,
}

impl ControlFact for PollCursor {
    const NAME: &'static str = "cursor";
}

impl ControlFact for OptOutColumns {
    const NAME: &'static str = "opt_out_columns";
}

impl ControlFact for LastPoll {
    const NAME: &'static str = "last_poll";
}

impl ControlFact for StoredHalt {
    const NAME: &'static str = "halt";
}

impl ControlFact for FirstRunDone {
    const NAME: &'static str = "first_run_done";
}
impl ControlFact for ResumedAt {
    const NAME: &'static str = "resumed";
}
impl ControlFact for TestLeadSent {
    const NAME: &'static str = "test_lead_sent";
}
impl ControlFact for StoredPace {
    const NAME: &'static str = "pacing";
}
impl ControlFact for VerifiedAccount {
    const NAME: &'static str = "verified_account";
}
impl ControlFact for CompareMark {
    const NAME: &'static str = "comparing";
}
impl ControlFact for CompareAsked {
    const NAME: &'static str = "compare_asked";
}
impl ControlFact for ChangeLogInUse {
    const NAME: &'static str = "change_log_in_use";
}
impl ControlFact for UnaskedSends {
    const NAME: &'static str = "unasked";
}
impl ControlFact for UnaskedLosses {
    const NAME: &'static str = "lost";
}
impl ControlFact for MappingInUse {
    const NAME: &'static str = "mapping_in_use";
}

/// The stored fact, if it exists.
pub async fn read<F: ControlFact>(db: &StateDb) -> Result<Option<F>, sqlx::Error> {
    let fact = StateStatement::new("select body from control where name = $1").bind(F::NAME);
    let found: Option<(String,)> = db.fetch_optional(fact).await?;
    found.map(|(body,)| parse(&body)).transpose()
}

/// All facts, read by one statement.
#[derive(Debug, Clone, Default)]
pub struct ControlFacts {
    bodies: HashMap<String, String>,
    newest_at: Option<DateTime<Utc>>,
}

/// Facts whose column `at` is not the moment of writing, besides those of [`operator_pause`]: it is a fencing token or the end
/// of a pause.
pub(crate) const WITHOUT_MOMENT: [&str; 2] = ["polling", "asked_pause"];

fn has_moment(name: &str) -> bool {
    !WITHOUT_MOMENT.contains(&name) && !operator_pause::is_row(name)
}

impl ControlFacts {
    pub async fn read(db: &StateDb) -> Result<Self, sqlx::Error> {
        let rows: Vec<(String, String, i64)> = db.fetch_all("select name, body, at from control").await?;
        let newest = rows.iter().filter(|(name, ..)| has_moment(name)).map(|(.., at)| *at).max();
        let bodies = rows.into_iter().map(|(name, body, _)| (name, body)).collect();
        Ok(Self { bodies, newest_at: newest.map(instant) })
    }

    /// The fact as it was when all were read.
    pub fn get<F: ControlFact>(&self) -> Result<Option<F>, sqlx::Error> {
        self.bodies.get(F::NAME).map(|body| parse(body)).transpose()
    }

    /// The stored text of the fact.
    pub fn text<F: ControlFact>(&self) -> Option<&str> {
        self.bodies.get(F::NAME).map(String::as_str)
    }

    /// When the newest of them was written.
    pub fn newest_at(&self) -> Option<DateTime<Utc>> {
        self.newest_at
    }
}

fn parse<F: ControlFact>(body: &str) -> Result<F, sqlx::Error> {
    serde_json::from_str(body).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Stores the fact in place of an earlier one.
pub async fn write<F: ControlFact>(db: &StateDb, fact: &F, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let body = serde_json::to_string(fact).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let store = StateStatement::new(
        "insert into control (name, body, at) values ($1, $2, $3) \
         on conflict (name) do update set body = excluded.body, at = excluded.at",
    );
    db.execute(store.bind(F::NAME).bind(body).bind(micros(now))).await.map(drop)
}

/// Removes the fact. Returns whether it existed.
pub async fn clear<F: ControlFact>(db: &StateDb) -> Result<bool, sqlx::Error> {
    let removed = db.execute(StateStatement::new("delete from control where name = $1").bind(F::NAME)).await?;
    Ok(removed > 0)
}
