//! The settings tree: one struct per section, exactly as docs/settings.md names them. It has no defaults: only
//! `config/default.toml` has any.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::config::admin_settings::AdminSettings;
use crate::config::alert_settings::AlertSettings;
use crate::config::duration;
use crate::config::receive_settings::ReceiveSettings;
use crate::conversica::lead::LeadKey;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    pub source: SourceSettings,
    pub lead: LeadSettings,
    pub conversica: ConversicaSettings,
    pub delivery: DeliverySettings,
    pub safety: SafetySettings,
    pub consent: ConsentSettings,
    pub state: StateSettings,
    /// Absent: no receiver.
    pub receive: Option<ReceiveSettings>,
    pub writeback: WritebackSettings,
    pub alerts: AlertSettings,
    pub admin: AdminSettings,
    pub log: LogSettings,
}

/// `[source]`: the CRM database that leads are read from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// `sqlite:///path/crm.db`, `postgres://user@host/database` or `mysql://user@host/database`.
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
    /// Address of a row in the CRM's own pages, with `{id}` and `{client}`: the dashboard links to it.
    pub row_url: Option<String>,
    /// How changes are found: by polling, or by triggers in the CRM database.
    pub changes: ChangeDetection,
    /// Table of the change log that the triggers fill; `conversica_sync_<table>` beside the table unless set.
    pub change_log: Option<String>,
    /// Time between two polls.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub poll_interval: Duration,
    /// Each poll reads again this much behind the newest change it has seen.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub lookback: Duration,
    /// Time between two comparisons of every row.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub full_compare_interval: Duration,
    /// What a row that has vanished means.
    pub on_delete: OnDelete,
    /// For timestamps without a zone.
    #[schemars(with = "String", extend("x-kind" = "time-zone"))]
    pub time_zone: Tz,
    /// Longest that one statement may run in the CRM database.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub statement_timeout: Duration,
    /// Tables of the query whose changes do not matter: `check` asks for no stamp and no `[[source.watch]]` of them.
    pub unwatched: Vec<String>,
    /// Other tables whose changes concern leads; the triggers watch them.
    pub watch: Vec<WatchSettings>,
}

/// `[[source.watch]]`: a table whose changes concern leads.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchSettings {
    /// The table, optionally qualified.
    pub table: String,
    /// `SELECT …` that returns the keys of the leads that a row of the table concerns; `:column` is a value of that row.
    pub leads: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeDetection {
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
#[derive(Debug, Clone, Deserialize)]
pub struct LeadSettings {
    /// Further keys that this account requires, published ones or custom ones: a lead without one is invalid.
    pub required: Vec<String>,
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
pub struct ConversicaSettings {
    /// Where leads are posted to; HTTPS, except on this machine.
    #[schemars(with = "String", extend("x-secret" = "url", "x-kind" = "url"))]
    pub endpoint: url::Url,
    /// Of the account that Conversica gave you; at least five characters.
    pub username: String,
    /// Its password; better kept in a file of its own and named by `password_file`.
    #[schemars(with = "String", extend("x-secret" = "secret"))]
    pub password: SecretString,
    /// Sent as `apiVersion` with every lead.
    pub api_version: String,
    /// Whether a lead without `conversationId` is invalid. Conversica's definition requires it; false is for automotive accounts
    /// that go without.
    pub require_conversation_id: bool,
    /// The conversations that exist: a lead of another one is held. Empty: all names are accepted.
    pub conversations: Vec<String>,
    /// The names of Conversica's users: a lead with another `repName` is held. Empty: all names are accepted.
    pub reps: Vec<String>,
    /// Whether Conversica writes text messages: then `cellPhone` and `smsOptIn` or `smsOptOut` are required.
    pub sms: bool,
    /// Marks every lead as a test by replacing its `lastName`.
    #[schemars(with = "Option<String>", extend("x-secret" = "secret"))]
    pub test_lead_token: Option<SecretString>,
    /// How many distinct leads may be sent with `test_lead_token`.
    pub test_lead_limit: u32,
}

/// `[delivery]`: how fast, how long, and what after a failure.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverySettings {
    /// Ceiling; 0.01 to 100000.
    pub requests_per_second: f64,
    /// Requests in flight at once; 1 to 1024.
    pub concurrency: u32,
    /// Longest that one request may take; 1s to 10m.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub timeout: Duration,
    /// What to do when it is unknown whether Conversica has a lead.
    pub on_ambiguous: OnAmbiguous,
    /// With `on_ambiguous = "wait"`: how long to wait for a post from Conversica before the lead is sent again; 1s to 90d.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub ambiguous_wait: Duration,
    pub retry: RetrySettings,
    pub breaker: BreakerSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    Resend,
    Wait,
    Hold,
}

/// `[delivery.retry]`: delays after transient failures.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrySettings {
    /// First delay after a transient failure.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub initial_interval: Duration,
    /// 1.0 to 10.0.
    pub multiplier: f64,
    /// Longest delay.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub max_interval: Duration,
    /// Counted from a lead's first failure; then it is exhausted.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub max_elapsed: Duration,
}

/// `[delivery.breaker]`: when to stop trying for a while.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerSettings {
    /// Transient failures in a row, over all leads.
    pub failures: u32,
}

/// `[safety]`: what waits for a person before it is sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SafetySettings {
    /// Unset with leads present: hold and ask.
    pub first_run: Option<FirstRun>,
    /// A poll that would send more than this is held; 0 = off.
    pub approve_above: u32,
    /// People contacted for the first time, an hour; 0 = no cap.
    pub new_leads_per_hour: u32,
    /// The same, a day.
    pub new_leads_per_day: u32,
    /// The same, a month of the contract.
    pub new_leads_per_month: u32,
    /// The day of the month on which that month begins, at midnight in `source.time_zone`; 1 to 28.
    pub month_starts_on: u32,
    /// A first contact of a lead whose `date` is older than this is held; 0s = off.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub new_lead_older_than: Duration,
    /// Of a conversation that Conversica has never worked a lead of, this many people are contacted first; the others are held until
    /// it works one. 0 = off.
    pub canary_leads: u32,
    /// What happens to a person who was never contacted and has the e-mail address of another lead.
    pub duplicates: DuplicateLeads,
    /// What a changed `conversationId` of a known person means.
    pub conversation_changes: ConversationChanges,
    /// A full compare that finds a smaller share of the known leads marks none of them gone, and holds; 0 to 1, 0 = off.
    pub source_shrinks_below: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstRun {
    Send,
    Baseline,
}

/// What several leads of one e-mail address mean, as long as they were not contacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateLeads {
    /// Each is contacted.
    Send,
    /// The earliest is contacted, by `date` and then by id; the others are held.
    Hold,
    /// The latest is contacted; the others are held.
    Newest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationChanges {
    Send,
    Hold,
}

/// `[consent]`: whose word counts when a person wants no more messages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentSettings {
    /// Whether an opt-out heard from Conversica outlives a stale CRM value.
    pub keep_opt_outs: bool,
    /// Whether an opt-out holds for every lead of the same address or number, or for its own id alone.
    pub scope: ConsentScope,
    /// `SELECT` of one column of the source: addresses, telephone numbers and domains that are never written to. Read with every full
    /// compare. Blank: none.
    #[schemars(extend("x-kind" = "text-or-none"))]
    pub suppression_query: String,
    /// Column of the source with the time at which the person gave their consent: one later than an opt-out ends it.
    pub given_at: Option<String>,
}

/// Which leads an opt-out holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentScope {
    /// Every lead of the same address or number, under any id.
    Person,
    /// The lead that it was heard of, or whose row says it.
    Id,
}

/// `[state]`: our own tables.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateSettings {
    /// `sqlite:///path/state.db`, or `postgres://…` to be shared by several instances.
    #[schemars(with = "String", extend("x-secret" = "url"))]
    pub url: SecretString,
    /// How long the journal of requests is kept.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub keep_outcomes: Duration,
    /// How long what Conversica has posted is kept, once it is taken in and written to the CRM.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub keep_received: Duration,
}

/// `[writeback]`: how what Conversica sends reaches the CRM database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WritebackSettings {
    /// Own tables in the CRM database, your own statements, or nothing.
    pub mode: WritebackMode,
    /// The CRM database with a user that may write; unset: `source.url`.
    #[schemars(with = "Option<String>", extend("x-secret" = "url"))]
    pub url: Option<SecretString>,
    /// Statement with `:named` parameters, run for each Lead Update; only with `mode = "sql"`.
    pub lead_update: Option<String>,
    /// The same for each Message.
    pub message: Option<String>,
    /// The same for each Chat Lead.
    pub chat_lead: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WritebackMode {
    Tables,
    Sql,
    Off,
}

/// `[log]`: what is written to standard error.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `auto` is pretty on a terminal and JSON elsewhere.
    pub format: LogFormat,
    /// The least severe level that is written.
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
