//! Alerts about the service itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The alerts that people have received.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertAccount {
    /// Counts changes, so that a writer notices that its copy is outdated.
    pub revision: u64,
    /// By the names of the conditions.
    pub told: BTreeMap<String, ToldCondition>,
}

/// An alert to send.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertNews {
    pub kind: &'static str,
    pub document: Value,
}

/// A condition that people were alerted to, and whose end they were not told of yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldCondition {
    pub since: DateTime<Utc>,
    pub reason: Option<String>,
}
