//! The merged layers: finds missing keys and unreadable field rules, and builds the settings.

use std::collections::BTreeSet;

use config::{Config, Map, Value, ValueKind};

use crate::config::check::ConfigProblems;
use crate::config::key::{self, ConfigKey, KeyKind};
use crate::config::layer::ConfigLayer;
use crate::config::{FieldRule, ServiceSettings};
use crate::error::SetupError;

/// The merged layers.
pub struct MergedConfig {
    root: Value,
    file: String,
}

impl MergedConfig {
    pub(super) fn of(layers: &[ConfigLayer], file: &str) -> Result<Self, SetupError> {
        let builder = layers.iter().fold(Config::builder(), |builder, layer| builder.add_source(layer.clone()));
        let config = builder.build().map_err(|error| {
            SetupError::new(format!("{file}: the settings cannot be merged: {error}"), "Please report this as a bug.")
        })?;
        Ok(Self { root: config.cache, file: file.to_owned() })
    }

    pub fn value<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Value> {
        path.into_iter().try_fold(&self.root, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            _ => None,
        })
    }

    /// The place of a key's value; for a key that is not set, the file.
    pub fn place(&self, key: &str) -> String {
        self.value(key.split('.')).and_then(origin).unwrap_or_else(|| self.file.clone())
    }

    /// The keys of `[lead.custom]`, sorted.
    pub fn custom(&self) -> Vec<(&str, &Value)> {
        let Some(ValueKind::Table(table)) = self.value(["lead", "custom"]).map(|value| &value.kind) else {
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter().map(|(name, value)| (name.as_str(), value)).collect();
        entries.sort_by_key(|(name, _)| *name);
        entries
    }

    pub(super) fn complain_of_missing(&self, problems: &mut ConfigProblems, wants_receiver: bool) {
        for key in required(wants_receiver) {
            if self.value(key.name.split('.')).is_none() && !problems.is_spoiled(&key.name) {
                let (section, last) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
                let line = key::example(&key.name).unwrap_or_else(|| format!("{last} = …"));
                let elsewhere = match key.secrecy {
                    Some(_) => format!(", or the secret's own file: {last}_file = \"/run/secrets/…\""),
                    None => String::new(),
                };
                problems.spoil(&key.name);
                problems.add(
                    &self.file,
                    format!("`{}` is not set", key.name),
                    format!("Add under [{section}]: {line}{elsewhere}"),
                );
            }
        }
    }

    pub(super) fn complain_of_rules(&mut self, problems: &mut ConfigProblems) {
        let Some(ValueKind::Table(sections)) = Some(&mut self.root.kind) else { return };
        let Some(ValueKind::Table(lead)) = sections.get_mut("lead").map(|lead| &mut lead.kind) else { return };
        retain_rules(lead, "lead", problems);
        if let Some(ValueKind::Table(custom)) = lead.get_mut("custom").map(|custom| &mut custom.kind) {
            retain_rules(custom, "lead.custom", problems);
        }
    }

    /// The settings; a placeholder fills each faulty key, so that the rest can still be checked.
    pub(super) fn settings(
        &self,
        problems: &ConfigProblems,
        wants_receiver: bool,
    ) -> Result<ServiceSettings, SetupError> {
        let mut tree = json(&self.root);
        for key in required(wants_receiver).filter(|key| problems.is_spoiled(&key.name)) {
            let (section, last) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
            let stand_in = match key.kind {
                KeyKind::Address => "127.0.0.1:0",
                _ => "sqlite:stand-in",
            };
            let section = section.split('.').fold(&mut tree, |tree, name| &mut tree[name]);
            if section[last].is_null() {
                section[last] = stand_in.into();
            }
        }
        if tree["lead"].is_null() {
            tree["lead"] = serde_json::json!({});
        }
        serde_path_to_error::deserialize(&tree).map_err(|error| {
            let key = error.path().to_string();
            SetupError::new(
                format!("{}: `{key}` cannot be used: {}", self.place(&key), error.inner()),
                "Compare it with config/default.toml, or remove it.",
            )
        })
    }
}

fn required(wants_receiver: bool) -> impl Iterator<Item = &'static ConfigKey> {
    key::all().iter().filter(move |key| key.required && (wants_receiver || !key.name.starts_with("receive.")))
}

fn retain_rules(rules: &mut Map<String, Value>, section: &str, problems: &mut ConfigProblems) {
    rules.retain(|name, value| {
        if section == "lead" && ["custom", "required"].contains(&name.as_str()) {
            return true;
        }
        let rule: Result<FieldRule, _> = serde_json::from_value(json(value));
        rule.inspect_err(|error| {
            let place = origin(value).unwrap_or_default();
            problems.spoil(format!("{section}.{name}"));
            problems.add(
                &place,
                format!("`{section}.{name}`: {error}"),
                format!("Write {name} = \"column\", or a rule like {{ column = \"…\", default = \"…\" }}."),
            );
        })
        .is_ok()
    });
}

/// The origin of a value; for a table merged from several layers, all of them.
pub(super) fn origin(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Table(table) => {
            let origins: BTreeSet<String> = table.values().filter_map(origin).collect();
            let joined = origins.into_iter().collect::<Vec<_>>().join(" and ");
            if joined.is_empty() { value.origin().map(str::to_owned) } else { Some(joined) }
        }
        _ => value.origin().map(str::to_owned),
    }
}

pub(super) fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Boolean(flag) => (*flag).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Array(items) => items.iter().map(json).collect(),
        ValueKind::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            entries
                .into_iter()
                .map(|(name, value)| (name.clone(), json(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        // The layers create no other kinds.
        _ => serde_json::Value::Null,
    }
}
