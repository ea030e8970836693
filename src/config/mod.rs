//! The settings tree: one struct per section, exactly as docs/settings.md names them.
//!
//! This file has no defaults: only `config/default.toml` has any, compiled in as the lowest layer. [`layers`] merges the layers,
//! [`schema`] and [`check`] check names and types, [`validate`] checks combinations, [`reload`] decides which changes apply while
//! the daemon runs. The extensions `x-kind` and `x-secret` tell [`key`] the meaning of a text.

pub mod address;
pub mod address_range;
pub mod admin_settings;
pub mod alert_settings;
pub mod check;
pub mod duration;
pub mod environment;
pub mod file;
pub mod key;
pub mod layer;
pub mod layers;
pub mod loaded;
pub mod merged;
pub mod receive_settings;
pub mod reload;
pub mod rule;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod show;
pub mod size;
pub mod url_engine;
pub mod validate;

pub use crate::config::admin_settings::{AdminSettings, OperatorRole, OperatorSettings};
pub use crate::config::alert_settings::{AlertKind, AlertSettings, ChannelFormat, ChannelSettings};
pub use crate::config::environment::ProcessEnvironment;
pub use crate::config::layers::ConfigErrors;
pub use crate::config::layers::find_file;
pub use crate::config::layers::load;
pub use crate::config::layers::load_text;
pub use crate::config::loaded::EffectiveSetting;
pub use crate::config::loaded::LoadedConfig;
pub use crate::config::receive_settings::ReceiveSettings;
pub use crate::config::settings::{
    BreakerSettings, ChangeDetection, ConsentScope, ConsentSettings, ConversationChanges, ConversicaSettings,
    DeliverySettings, DuplicateLeads, FieldRule, FirstRun, LeadSettings, LogFormat, LogLevel, LogSettings, OnAmbiguous,
    OnDelete, RetrySettings, SafetySettings, ServiceSettings, SourceSettings, StateSettings, WatchSettings, WhenNull,
    WritebackMode, WritebackSettings,
};
