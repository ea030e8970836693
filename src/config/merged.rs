//! The merged layers: finds missing keys and unreadable field rules, and builds the settings.

use std::collections::{BTreeMap, BTreeSet};

use config::{Config, Map, Value, ValueKind};

use crate::config::check::ConfigProblems;
use crate::config::key::{self, ConfigKey, KeyKind, TableList};
use crate::config::layer::ConfigLayer;
use crate::config::{FieldRule, ServiceSettings};
use crate::error::SetupError;

/// Whether the settings have a section `[receive]`: without one nothing of it is required or shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReceiverSection {
    Present,
    Absent,
}

impl ReceiverSection {
    /// Whether the key counts.
    pub(super) fn has(self, key: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Absent => !key.starts_with("receive."),
        }
    }
}

/// The merged layers.
pub struct MergedConfig {
    root: Value,
    file: String,
    /// The places of the entries of lists of tables, by their full names: merging loses that of an entry without keys.
    entries: BTreeMap<String, String>,
}

impl MergedConfig {
    pub(super) fn of(layers: &[ConfigLayer], file: &str) -> Result<Self, SetupError> {
        let builder = layers.iter().fold(Config::builder(), |builder, layer| builder.add_source(layer.clone()));
        let config = builder.build().map_err(|error| {
            SetupError::new(format!("{file}: the settings cannot be merged: {error}"), "Please report this as a bug.")
        })?;
        let values = layers.iter().flat_map(|layer| &layer.values);
        let entries = values.filter(|(path, _)| key::find(path).is_none() && key::entry_at(path).is_some());
        let place = |(path, value): (&Vec<String>, &Value)| Some((path.join("."), value.origin()?.to_owned()));
        Ok(Self { root: config.cache, file: file.to_owned(), entries: entries.filter_map(place).collect() })
    }

    pub fn value<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Value> {
        path.into_iter().try_fold(&self.root, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            _ => None,
        })
    }

    /// The place of a key's value; for a key that is not set, the file.
    pub fn place(&self, key: &str) -> String {
        let of_value = || self.value(key.split('.')).and_then(origin);
        self.entries.get(key).cloned().or_else(of_value).unwrap_or_else(|| self.file.clone())
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

    /// The numbers of the entries of a list of tables, in order.
    fn numbers(&self, list: &TableList) -> Vec<String> {
        let Some(ValueKind::Table(entries)) = self.value(list.name.split('.')).map(|value| &value.kind) else {
            return Vec::new();
        };
        let mut numbers: Vec<String> = entries.keys().cloned().collect();
        numbers.sort_by_key(|number| number.parse::<usize>().unwrap_or(usize::MAX));
        numbers
    }

    /// The keys of all entries of all lists of tables, list by list and entry by entry.
    pub(super) fn keys_of_entries(&self) -> Vec<ConfigKey> {
        let lists = key::lists().iter();
        lists.flat_map(|list| self.numbers(list).into_iter().flat_map(|number| list.keys_of_entry(&number))).collect()
    }

    /// Entries are counted from 0 without a gap; only environment variables can leave one.
    pub(super) fn complain_of_gaps(&self, problems: &mut ConfigProblems) {
        for list in key::lists() {
            for (expected, number) in self.numbers(list).into_iter().enumerate() {
                if number != expected.to_string() {
                    let name = format!("{}.{number}", list.name);
                    problems.spoil(&name);
                    problems.add(
                        &self.place(&name),
                        format!("`{name}` is set, but there is no `{}.{expected}`", list.name),
                        "Count the entries from 0, those of the file first.",
                    );
                    break;
                }
            }
        }
    }

    pub(super) fn complain_of_missing(&self, problems: &mut ConfigProblems, receiver: ReceiverSection) {
        for key in &self.required(receiver) {
            if self.value(key.name.split('.')).is_none() && !problems.is_spoiled(&key.name) {
                let (section, last) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
                let line = key::example(&key.name).unwrap_or_else(|| format!("{last} = …"));
                let elsewhere = match key.secrecy {
                    Some(_) => format!(", or the secret's own file: {last}_file = \"/run/secrets/…\""),
                    None => String::new(),
                };
                let place = match key::entry_at(&key::parts(section)) {
                    Some(_) => self.place(section),
                    None => self.file.clone(),
                };
                problems.spoil(&key.name);
                problems.add(
                    &place,
                    format!("`{}` is not set", key.name),
                    format!("Add under {}: {line}{elsewhere}", key::header(section)),
                );
            }
        }
    }

    fn required(&self, receiver: ReceiverSection) -> Vec<ConfigKey> {
        let is_required = |key: &ConfigKey| key.required && receiver.has(&key.name);
        key::all().iter().cloned().chain(self.keys_of_entries()).filter(is_required).collect()
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
        receiver: ReceiverSection,
    ) -> Result<ServiceSettings, SetupError> {
        let mut tree = json(&self.root);
        for key in self.required(receiver).iter().filter(|key| problems.is_spoiled(&key.name)) {
            let (section, last) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
            let stand_in = match &key.kind {
                KeyKind::Address => "127.0.0.1:0",
                KeyKind::Choice(words) => words.first().map_or("", String::as_str),
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
        for list in key::lists() {
            let entries = list.name.split('.').fold(&mut tree, |tree, name| &mut tree[name]);
            let in_order = self.numbers(list).iter().map(|number| entries[number].take()).collect();
            *entries = serde_json::Value::Array(in_order);
        }
        serde_path_to_error::deserialize(&tree).map_err(|error| {
            // `admin.operator[0].role` is `admin.operator.0.role` in every message.
            let key = error.path().to_string().replace('[', ".").replace(']', "");
            SetupError::new(
                format!("{}: `{key}` cannot be used: {}", self.place(&key), error.inner()),
                "Compare it with config/default.toml, or remove it.",
            )
        })
    }
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
