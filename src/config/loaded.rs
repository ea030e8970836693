//! Settings as they were loaded, with the layer that each came from.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::config::ServiceSettings;

/// One key of the settings in force, fit to be shown: no secret is in it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct EffectiveSetting {
    pub key: String,
    /// `None`: not set.
    pub value: Option<serde_json::Value>,
    /// Where the value came from: `default`, `conversica-sync.toml:12`, `environment variable …`; empty if not set.
    pub layer: String,
    /// Of the value itself, hidden or not: by this two readings are compared.
    #[serde(skip)]
    pub trace: ValueTrace,
}

/// Settings that have passed every check.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    pub settings: ServiceSettings,
    pub effective: Vec<EffectiveSetting>,
    /// Legal, but worth a word.
    pub warnings: Vec<String>,
    /// The file they came from, if it was one.
    pub file: Option<PathBuf>,
}

/// Tells a value from another one without giving it away: it may be a secret. Means nothing outside this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueTrace(u64);

impl ValueTrace {
    pub fn of(value: &str) -> Self {
        Self(KEY.hash_one(value))
    }
}

pub(crate) static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
