//! The settings tree: one struct a section, exactly as docs/settings.md names them.
//!
//! There are no defaults in this file: `config/default.toml`, compiled in as the lowest layer, is the only place that
//! has any. [`layers`] merges the layers, [`schema`] and [`check`] check names and types, [`validate`] checks what the
//! settings mean, [`reload`] what of them can change while the daemon runs. The extensions `x-kind` and `x-secret` tell [`key`] what a text stands for.

pub mod check;
pub mod duration;
pub mod environment;
pub mod file;
pub mod key;
pub mod layer;
pub mod layers;
pub mod loaded;
pub mod merged;
pub mod reload;
pub mod rule;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod show;
pub mod size;
pub mod validate;

pub use crate::config::environment::ProcessEnvironment;
pub use crate::config::layers::ConfigErrors;
pub use crate::config::layers::find_file;
pub use crate::config::layers::load;
pub use crate::config::layers::load_text;
pub use crate::config::loaded::EffectiveSetting;
pub use crate::config::loaded::LoadedConfig;
pub use crate::config::settings::{
    AdminSettings, AlertSettings, BreakerSettings, ChangeDetection, ConsentSettings, ConversationChanges,
    ConversicaSettings, DeliverySettings, FieldRule, FirstRun, LeadSettings, LogFormat, LogLevel, LogSettings,
    OnAmbiguous, OnDelete, ReceiveSettings, RetrySettings, SafetySettings, ServiceSettings, SourceSettings,
    StateSettings, WhenNull, WritebackMode, WritebackSettings,
};
