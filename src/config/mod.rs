//! The settings tree: one struct a section, exactly as the contract in the README names them.
//!
//! There are no defaults in this file: `config/default.toml`, compiled in as the lowest layer, is the only place that
//! has any. [`layers`] merges the layers, [`schema`] checks names and types, [`validate`] checks what the settings mean.

pub mod duration;
pub mod layers;
pub mod schema;
pub mod secret;
pub mod show;
pub mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

pub use crate::config::layers::{Environment, Loaded, load};
use crate::conversica::lead::LeadKey;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub source: Source,
    pub lead: Lead,
    pub conversica: Conversica,
    pub delivery: Delivery,
    pub safety: Safety,
    pub consent: Consent,
    pub state: State,
    /// Absent: no receiver.
    pub receive: Option<Receive>,
    pub writeback: Writeback,
    pub admin: Admin,
    pub log: Log,
}

/// `[source]`: the CRM database that leads are read from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `sqlite:///path/crm.db` or `postgres://user@host/database`.
    #[schemars(with = "String", extend("x-secret" = "url"))]
    pub url: SecretString,
    /// Table or view, optionally qualified: `leads`, `crm.leads`. Either this or `query`.
    pub table: Option<String>,
    /// `SELECT …` for joins, renames and filters. Either this or `table`.
    pub query: Option<String>,
    /// Column that identifies a lead; it becomes Conversica's `id`.
    pub key: String,
    /// Column or expression that changes whenever a row does.
    pub changed_at: Option<String>,
    /// Filter, an SQL expression; only with `table`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Column that fills `clientId` and is part of the lead's identity.
    pub client: Option<String>,
    pub changes: Changes,
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub poll_interval: Duration,
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub lookback: Duration,
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub full_compare_interval: Duration,
    pub on_delete: OnDelete,
    /// For timestamps without a zone.
    #[schemars(with = "String")]
    pub time_zone: Tz,
    /// Longest that one statement may run in the CRM database.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub statement_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Changes {
    Poll,
    Triggers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    Ignore,
    StopMessaging,
}

/// `[lead]`: which column fills which key of Conversica's Lead object.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Lead {
    /// Keys agreed with Conversica beyond the published ones.
    #[serde(default)]
    pub custom: BTreeMap<String, FieldRule>,
    #[serde(flatten)]
    pub published: BTreeMap<LeadKey, FieldRule>,
}

/// How one key of the Lead object gets its value: `"column"`, `{ column, default, map, when_null }` or `{ value }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldRule {
    Column {
        column: String,
        /// Used where the column is NULL or blank.
        default: Option<String>,
        /// CRM value → Conversica value; the entry `"*"` catches every other value. Empty: values pass unchanged.
        map: BTreeMap<String, String>,
        when_null: WhenNull,
    },
    Value(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenNull {
    Omit,
    Empty,
}

/// `[conversica]`: the account that leads are sent to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conversica {
    #[schemars(extend("x-secret" = "url"))]
    pub endpoint: url::Url,
    pub username: String,
    #[schemars(with = "String", extend("x-secret" = "secret"))]
    pub password: SecretString,
    pub api_version: String,
    pub require_conversation_id: bool,
    pub sms: bool,
    #[schemars(with = "Option<String>", extend("x-secret" = "secret"))]
    pub test_lead_token: Option<SecretString>,
    pub test_lead_limit: u32,
}

/// `[delivery]`: how fast, how long, and what after a failure.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Ceiling; 0.01 to 100000.
    pub requests_per_second: f64,
    /// Requests in flight at once; 1 to 1024.
    pub concurrency: u32,
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub timeout: Duration,
    pub on_ambiguous: OnAmbiguous,
    pub retry: Retry,
    pub breaker: Breaker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    Resend,
    Wait,
    Hold,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub initial_interval: Duration,
    /// 1.0 to 10.0.
    pub multiplier: f64,
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub max_interval: Duration,
    /// Counted from a lead's first failure; then it is exhausted.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub max_elapsed: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Transient failures in a row, over all leads.
    pub failures: u32,
}

/// `[safety]`: what waits for a person before it is sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Safety {
    /// Unset with leads present: hold and ask.
    pub first_run: Option<FirstRun>,
    /// A poll that would send more than this is held; 0 = off.
    pub approve_above: u32,
    pub new_leads_per_hour: u32,
    pub new_leads_per_day: u32,
    pub conversation_changes: ConversationChanges,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstRun {
    Send,
    Baseline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationChanges {
    Send,
    Hold,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    pub keep_opt_outs: bool,
}

/// `[state]`: our own tables.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    #[schemars(with = "String", extend("x-secret" = "url"))]
    pub url: SecretString,
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub keep_outcomes: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    pub listen: SocketAddr,
    pub username: String,
    #[schemars(with = "String", extend("x-secret" = "secret"))]
    pub password: SecretString,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    #[serde(default)]
    pub behind_proxy: bool,
    pub max_body: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Writeback {
    pub mode: WritebackMode,
    pub lead_update: Option<String>,
    pub message: Option<String>,
    pub chat_lead: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WritebackMode {
    Tables,
    Sql,
    Off,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub listen: SocketAddr,
    #[schemars(with = "Option<String>", extend("x-secret" = "secret"))]
    pub token: Option<SecretString>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Auto,
    Pretty,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
