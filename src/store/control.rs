//! Table `control`: the facts of which there is one each, as small JSON documents under a name.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::conversica::lead::IdOrder;
use crate::conversica::outcome::HaltReason;
use crate::rules::cursor::{NewestStamp, PollCursor};
use crate::rules::guard::StandingHold;
use crate::rules::odd_opt_out::OptOutColumns;
use crate::rules::poll_record::LastPoll;
use crate::rules::settled::SettledMoment;
use crate::store::state_db::{StateDb, on_state};
use crate::store::{instant, micros};

/// A fact of which there is at most one.
pub trait ControlFact: Serialize + DeserializeOwned {
    const NAME: &'static str;
}

/// Nothing is sent while this stands and the credentials are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHalt {
    pub reason: HaltReason,
    pub since: DateTime<Utc>,
    /// What Conversica said, in short.
    pub detail: Option<String>,
    /// Fingerprint of endpoint and credentials: other ones lift the halt.
    pub account: String,
}

/// When a person last lifted a halt by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedAt {
    pub at: DateTime<Utc>,
}

/// `check --send-test-lead` has used one of the test leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestLeadSent {
    pub at: DateTime<Utc>,
}

/// The first pass has been decided upon: by `first_run`, by `approve` or by `baseline`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstRunDone {
    pub by: String,
}

/// Conversica has answered 2xx to these credentials at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedAccount {
    pub account: String,
}

/// The mapping whose leads the state holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingInUse {
    pub fingerprint: String,
}

/// How fast leads may leave at present. Written down by whoever delivers, so that `status` can show it and a restart goes
/// on from there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredPace {
    pub at: DateTime<Utc>,
    /// Requests a second at present; `ceiling` at most.
    pub requests_per_second: f64,
    /// `[delivery] requests_per_second`.
    pub ceiling: f64,
    /// Nobody sends before then: Conversica asked for a pause.
    pub paused_until: Option<DateTime<Utc>>,
    pub breaker: BreakerState,
    /// When the open breaker lets the next probe through.
    pub next_probe_at: Option<DateTime<Utc>>,
    /// Transient failures in a row, over all leads.
    pub failures: u32,
    /// People never contacted wait for their turn until then, because a cap is reached.
    pub new_people_wait_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Requests leave as pace and concurrency allow.
    Closed,
    /// One probe at a time.
    Open,
}

/// How far a comparison of every row has come: all that lies before this lead is compared, written, and decided upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareMark {
    /// As in [`Cursor`].
    pub source: String,
    /// As in [`MappingInUse`].
    pub mapping: String,
    pub order: IdOrder,
    pub id: String,
    pub client_id: String,
    pub began_at: DateTime<Utc>,
    /// The newest `changed_at` when it began: what was written since lies behind it.
    pub newest: Option<NewestStamp>,
    pub settled: SettledMoment,
    pub rows: u64,
    /// Rows whose key names no lead, up to there.
    #[serde(default)]
    pub unnamed: u64,
}

/// A poll holds more than it can keep in memory until it knows whether it may be sent: what is held for that reason since that
/// moment. Where it does not live to know, the next one, which compares everything, decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBack {
    pub reason: String,
    pub since: DateTime<Utc>,
}

/// Somebody wants every row compared by the next poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareAsked {
    pub at: DateTime<Utc>,
}

/// The change log, with its triggers, that was last found in the CRM; another one has missed what happened before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLogInUse {
    pub generation: String,
}

/// With triggers: sends that went unasked under `[safety] approve_above`, since then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaskedSends {
    pub since: DateTime<Utc>,
    pub leads: u64,
    /// Leads that were taken for gone meanwhile.
    #[serde(default)]
    pub lost: u64,
}

/// With triggers: leads that were taken for gone, since then, without anybody having been asked.
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

impl ControlFact for StandingHold {
    const NAME: &'static str = "hold";
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
impl ControlFact for KeptBack {
    const NAME: &'static str = "kept_back";
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

/// The fact as it stands, if it does.
pub async fn read<F: ControlFact>(db: &StateDb) -> Result<Option<F>, sqlx::Error> {
    let body: Option<String> = on_state!(db, pool => {
        sqlx::query_scalar("select body from control where name = $1").bind(F::NAME).fetch_optional(pool).await
    })?;
    body.map(|body| parse(&body)).transpose()
}

/// Every fact, by one statement.
#[derive(Debug, Clone, Default)]
pub struct ControlFacts {
    bodies: HashMap<String, String>,
    newest_at: Option<DateTime<Utc>>,
}

/// Facts whose column `at` is not the moment when they were written: a fence, and the end of a pause.
pub(crate) const WITHOUT_MOMENT: [&str; 2] = ["polling", "asked_pause"];

impl ControlFacts {
    pub async fn read(db: &StateDb) -> Result<Self, sqlx::Error> {
        let rows: Vec<(String, String, i64)> =
            on_state!(db, pool => sqlx::query_as("select name, body, at from control").fetch_all(pool).await)?;
        let newest =
            rows.iter().filter(|(name, ..)| !WITHOUT_MOMENT.contains(&name.as_str())).map(|(.., at)| *at).max();
        let bodies = rows.into_iter().map(|(name, body, _)| (name, body)).collect();
        Ok(Self { bodies, newest_at: newest.map(instant) })
    }

    /// As it was when all were read.
    pub fn get<F: ControlFact>(&self) -> Result<Option<F>, sqlx::Error> {
        self.bodies.get(F::NAME).map(|body| parse(body)).transpose()
    }

    /// As it is stored.
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

/// Puts the fact in place of what stood there.
pub async fn write<F: ControlFact>(db: &StateDb, fact: &F, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let body = serde_json::to_string(fact).map_err(|error| sqlx::Error::Encode(error.into()))?;
    on_state!(db, pool => {
        sqlx::query(
            "insert into control (name, body, at) values ($1, $2, $3) \
             on conflict (name) do update set body = excluded.body, at = excluded.at")
            .bind(F::NAME).bind(body).bind(micros(now)).execute(pool).await?;
        Ok(())
    })
}

/// Takes the fact away; whether it stood.
pub async fn clear<F: ControlFact>(db: &StateDb) -> Result<bool, sqlx::Error> {
    Ok(on_state!(db, pool => {
        sqlx::query("delete from control where name = $1").bind(F::NAME).execute(pool).await?.rows_affected()
    }) > 0)
}
