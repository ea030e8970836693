//! The settings in force, each with the layer it came from, and no secret: for `config show`.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::config::key::{self, ConfigKey, KeyKind, KeySecrecy};
use crate::config::loaded::{EffectiveSetting, ValueTrace};
use crate::config::merged::{MergedConfig, ReceiverSection, json as to_json, origin};
use crate::config::secret::{HIDDEN, redact_url};
use crate::config::validate::CompletedKey;
use crate::console::SCHEMA_VERSION;

/// Every key of the sections in force. Of `[lead]` only the keys that are set: most installations use few of them.
pub(super) fn effective(
    merged: &MergedConfig,
    receiver: ReceiverSection,
    completed: Vec<CompletedKey>,
) -> Vec<EffectiveSetting> {
    let mut shown = Vec::new();
    for key in key::all() {
        let value = merged.value(key.name.split('.'));
        if let Some(value) = value {
            let layer = origin(value).unwrap_or_default();
            let value = to_json(value);
            let trace = ValueTrace::of(&value.to_string());
            shown.push(EffectiveSetting { key: key.name.clone(), value: Some(fit_to_show(key, value)), layer, trace });
        } else if let Some(completed) = completed.iter().find(|completed| key.name == format!("lead.{}", completed.key))
        {
            let layer = format!("follows from {}", completed.from);
            let trace = ValueTrace::of(&completed.column);
            shown.push(EffectiveSetting { key: key.name.clone(), value: Some(json!(completed.column)), layer, trace });
        } else if key.kind != KeyKind::Rule && receiver.has(&key.name) {
            let trace = ValueTrace::of("");
            shown.push(EffectiveSetting { key: key.name.clone(), value: None, layer: String::new(), trace });
        }
    }
    let lead_ends =
        shown.iter().rposition(|effective| effective.key.starts_with("lead.")).map_or(shown.len(), |i| i + 1);
    let custom = merged.custom().into_iter().map(|(name, value)| EffectiveSetting {
        key: format!("lead.custom.{name}"),
        value: Some(to_json(value)),
        layer: origin(value).unwrap_or_default(),
        trace: ValueTrace::of(&to_json(value).to_string()),
    });
    shown.splice(lead_ends..lead_ends, custom);
    for key in merged.keys_of_entries() {
        // Behind the other keys of its section, and the entries before it.
        let section = key.name.split('.').next().unwrap_or_default();
        let of_section = |shown: &EffectiveSetting| shown.key.split('.').next() == Some(section);
        let ends = shown.iter().rposition(of_section).map_or(shown.len(), |last| last + 1);
        let value = merged.value(key.name.split('.'));
        let json = value.map(to_json);
        shown.insert(
            ends,
            EffectiveSetting {
                trace: ValueTrace::of(&json.as_ref().map(Value::to_string).unwrap_or_default()),
                value: json.map(|json| fit_to_show(&key, json)),
                layer: value.and_then(origin).unwrap_or_default(),
                key: key.name,
            },
        );
    }
    shown
}

fn fit_to_show(key: &ConfigKey, value: Value) -> Value {
    match (key.secrecy, &value) {
        (None, _) => value,
        (Some(KeySecrecy::Url), Value::String(url)) => redact_url(url).into(),
        (Some(_), _) => HIDDEN.into(),
    }
}

/// One line per key: name, value, layer, in columns.
pub fn text(effective: &[EffectiveSetting]) -> String {
    let value = |effective: &EffectiveSetting| effective.value.as_ref().map_or_else(|| "(not set)".to_owned(), as_toml);
    let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let keys = width(&mut effective.iter().map(|effective| effective.key.chars().count()));
    // A long query must not push the layer of every other key out of sight.
    let values = width(&mut effective.iter().map(|effective| value(effective).chars().count()).filter(|n| *n <= 60));
    effective.iter().fold(String::new(), |mut text, effective| {
        let line = format!("{:keys$}  {:values$}  {}", effective.key, value(effective), effective.layer);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}

/// The same for programs.
pub fn json(effective: &[EffectiveSetting]) -> Value {
    let entry = |effective: &EffectiveSetting| {
        let layer = Some(&effective.layer).filter(|layer| !layer.is_empty());
        json!({ "key": effective.key, "value": effective.value, "layer": layer })
    };
    json!({ "schema_version": SCHEMA_VERSION, "settings": effective.iter().map(entry).collect::<Vec<_>>() })
}

/// The value in TOML; a hidden value has no quotes, so that it is not mistaken for the real one.
fn as_toml(value: &Value) -> String {
    match value {
        Value::String(text) if text == HIDDEN => text.clone(),
        Value::Object(parts) => {
            let parts: Vec<String> =
                parts.iter().map(|(name, part)| format!("{} = {}", bare(name), as_toml(part))).collect();
            format!("{{ {} }}", parts.join(", "))
        }
        other => other.to_string(),
    }
}

fn bare(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_bare { name.to_owned() } else { json!(name).to_string() }
}
