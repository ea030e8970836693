//! Settings after loading, with the layer of each.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::config::ServiceSettings;

/// One key of the settings in force, for display: it contains no secret.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct EffectiveSetting {
    pub key: String,
    /// `None`: not set.
    pub value: Option<serde_json::Value>,
    /// The origin of the value: `default`, `conversica-sync.toml:12`, `environment variable …`; empty if not set.
    pub layer: String,
    /// A trace of the value itself, hidden or not, to compare two readings.
    #[serde(skip)]
    pub trace: ValueTrace,
}

/// Settings that have passed every check.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    pub settings: ServiceSettings,
    pub effective: Vec<EffectiveSetting>,
    /// Legal settings that deserve a warning.
    pub warnings: Vec<String>,
    /// The file that they came from, if any.
    pub file: Option<PathBuf>,
}

/// Tells a value from another one without revealing it: it may be a secret. Meaningless outside this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueTrace(u64);

impl ValueTrace {
    pub fn of(value: &str) -> Self {
        Self(KEY.hash_one(value))
    }
}

pub(crate) static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
