//! Alerts about the service itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What people were told last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertAccount {
    /// Of every change: whoever has read an older one knows less than whoever wrote this.
    pub revision: u64,
    /// By the names of the conditions.
    pub told: BTreeMap<String, ToldCondition>,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertNews {
    pub kind: &'static str,
    pub document: Value,
}

/// A condition that people were told of, and not yet of its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldCondition {
    pub since: DateTime<Utc>,
    pub reason: Option<String>,
}
