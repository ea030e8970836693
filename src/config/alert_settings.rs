//! `[alerts]` of the settings tree: who is told when a person is needed, of what, and by which channels.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::config::duration;

/// `[alerts]`: who is told when a person is needed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertSettings {
    /// Web address that a JSON document is posted to; HTTPS, except on this machine. A secret as a whole: it gives the right to
    /// post.
    #[schemars(with = "Option<String>", extend("x-secret" = "secret", "x-kind" = "url"))]
    pub url: Option<url::Url>,
    /// Command line for `/bin/sh`, given the document on its standard input.
    pub command: Option<String>,
    /// Longest that one try may take; 1s to 10m.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub timeout: Duration,
    /// People are told when a lead has waited for longer than this to be sent; `0s` = off.
    #[serde(with = "duration")]
    #[schemars(with = "duration::DurationText")]
    pub backlog_older_than: Duration,
    /// Further channels, each with its own form, address and kinds of alerts.
    pub channel: Vec<ChannelSettings>,
}

impl AlertSettings {
    /// Whether any alert can be sent.
    pub fn is_on(&self) -> bool {
        self.url.is_some() || self.command.is_some() || !self.channel.is_empty()
    }
}

/// `[[alerts.channel]]`: a place where people are told of alerts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    /// What the log, `alerts test` and `check` call the channel; unset: its place in the file, `channel.0`.
    pub name: Option<String>,
    /// The kinds of alerts that it is told of; unset: all.
    pub kinds: Option<Vec<AlertKind>>,
    /// The form of its messages; unset: `json`.
    pub format: Option<ChannelFormat>,
    /// Web address that the message is posted to; HTTPS, except on this machine. A secret as a whole.
    #[schemars(with = "Option<String>", extend("x-secret" = "secret", "x-kind" = "url"))]
    pub url: Option<url::Url>,
    /// Command line for `/bin/sh`, given the message on its standard input.
    pub command: Option<String>,
    /// With `format = "email"`: the mail server, `smtps://user:password@host` or `smtp://…` with STARTTLS. A secret as a whole.
    #[schemars(with = "Option<String>", extend("x-secret" = "secret", "x-kind" = "url"))]
    pub smtp_url: Option<url::Url>,
    /// With `format = "email"`: who gets the message.
    pub to: Option<Vec<String>>,
    /// With `format = "email"`: the sender.
    pub from: Option<String>,
    /// With `format = "pagerduty"`: the integration key of the service. A secret.
    #[schemars(with = "Option<String>", extend("x-secret" = "secret"))]
    pub routing_key: Option<SecretString>,
    /// Further headers of the request, secrets all of them: `{ Authorization = "Bearer …" }`, or `{ Authorization_file = "…" }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-secret" = "secret", "x-kind" = "headers"))]
    pub headers: BTreeMap<String, SecretString>,
}

impl ChannelSettings {
    pub fn format(&self) -> ChannelFormat {
        self.format.unwrap_or(ChannelFormat::Json)
    }

    /// The channel's name; `place` counts the entries from 0.
    pub fn name_at(&self, place: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("channel.{place}"))
    }
}

/// The form of a channel's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelFormat {
    Json,
    Slack,
    Teams,
    Pagerduty,
    Email,
}

impl ChannelFormat {
    pub const fn name(self) -> &'static str {
        match self {
            ChannelFormat::Json => "json",
            ChannelFormat::Slack => "slack",
            ChannelFormat::Teams => "teams",
            ChannelFormat::Pagerduty => "pagerduty",
            ChannelFormat::Email => "email",
        }
    }
}

/// The kinds of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    HotLead,
    ActionRequired,
    LeadAtRisk,
    Halted,
    Paused,
    Held,
    Rejected,
    Exhausted,
    PollFailing,
    BacklogOld,
    WritebackStopped,
    Unreadable,
    PossibleOptOut,
    NewLeadsBudget,
    ConversationSilent,
    StateLost,
}

impl AlertKind {
    pub const ALL: [AlertKind; 16] = [
        AlertKind::HotLead,
        AlertKind::ActionRequired,
        AlertKind::LeadAtRisk,
        AlertKind::Halted,
        AlertKind::Paused,
        AlertKind::Held,
        AlertKind::Rejected,
        AlertKind::Exhausted,
        AlertKind::PollFailing,
        AlertKind::BacklogOld,
        AlertKind::WritebackStopped,
        AlertKind::Unreadable,
        AlertKind::PossibleOptOut,
        AlertKind::NewLeadsBudget,
        AlertKind::ConversationSilent,
        AlertKind::StateLost,
    ];

    /// The `kind` of the alert's document.
    pub const fn name(self) -> &'static str {
        match self {
            AlertKind::HotLead => "hot_lead",
            AlertKind::ActionRequired => "action_required",
            AlertKind::LeadAtRisk => "lead_at_risk",
            AlertKind::Halted => "halted",
            AlertKind::Paused => "paused",
            AlertKind::Held => "held",
            AlertKind::Rejected => "rejected",
            AlertKind::Exhausted => "exhausted",
            AlertKind::PollFailing => "poll_failing",
            AlertKind::BacklogOld => "backlog_old",
            AlertKind::WritebackStopped => "writeback_stopped",
            AlertKind::Unreadable => "unreadable",
            AlertKind::PossibleOptOut => "possible_opt_out",
            AlertKind::NewLeadsBudget => "new_leads_budget",
            AlertKind::ConversationSilent => "conversation_silent",
            AlertKind::StateLost => "state_lost",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
