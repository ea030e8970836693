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
    /// The header in which a proxy in front names the operator it has signed in: single sign-on. Only with `sso_from`.
    pub sso_header: Option<String>,
    /// The addresses, and ranges like `10.0.0.0/8`, from which `sso_header` counts; it is ignored from any other.
    pub sso_from: Option<Vec<String>>,
    /// The people who may sign in with a token of their own, or by `sso_header`.
    pub operator: Vec<OperatorSettings>,
}

/// `[[admin.operator]]`: a person who signs in to the dashboard with their own token, or by single sign-on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorSettings {
    /// The name that decisions carry, and that `admin.sso_header` has for this person.
    pub name: String,
    /// Signs this person in; at least 20 characters off loopback. Not needed with `admin.sso_header`.
    #[schemars(with = "Option<String>", extend("x-secret" = "secret"))]
    pub token: Option<SecretString>,
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
