//! `[admin]` of the settings tree: health, metrics, the dashboard, and who may sign in.

use std::net::SocketAddr;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::config::address;

/// `[admin]`: health, metrics, dashboard.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Address and port; port 0 picks a free one.
    #[serde(deserialize_with = "address::deserialize")]
    #[schemars(with = "String", extend("x-kind" = "address"))]
    pub listen: SocketAddr,
    /// Signs in to the dashboard; required off loopback, unless there are operators.
    #[schemars(with = "Option<String>", extend("x-secret" = "secret"))]
    pub token: Option<SecretString>,
    /// People with a token of their own.
    pub operator: Vec<OperatorSettings>,
}

/// `[[admin.operator]]`: a person who signs in to the dashboard with their own token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorSettings {
    /// The name that decisions carry.
    pub name: String,
    /// Signs this person in; at least 20 characters off loopback.
    #[schemars(with = "String", extend("x-secret" = "secret"))]
    pub token: SecretString,
    /// `look` sees everything and decides nothing; `act` decides, too.
    pub role: OperatorRole,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    Look,
    Act,
}
