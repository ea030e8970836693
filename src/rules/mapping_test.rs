//! Tests of a mapping: rows of the CRM, and the Lead objects or reasons that they should make. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::nearest::nearest;
use crate::rules::mapping::{LeadMapping, SourceRow};

/// A file of tests.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingTests {
    #[serde(rename = "test")]
    pub tests: Vec<MappingTest>,
}

/// A row, and what it should make. At least one of `lead`, `has`, `lacks`, `invalid` and `notes` is given.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingTest {
    #[serde(default)]
    pub name: String,
    /// Column → value; columns that are left out are NULL.
    pub row: BTreeMap<String, toml::Value>,
    /// The whole Lead object; `apiVersion` may be left out.
    pub lead: Option<BTreeMap<String, toml::Value>>,
    /// Some keys of the Lead object.
    #[serde(default)]
    pub has: BTreeMap<String, toml::Value>,
    /// Keys that the Lead object does not have.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Parts of the reasons why there is no Lead object; each is found in one of them, and each reason has one.
    pub invalid: Option<Vec<String>>,
    /// Parts of the notes on values that were cleaned or left out; each is found in one of them.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The columns that a test's row may have.
#[derive(Debug, Clone, Copy)]
pub struct TestedColumns<'a> {
    pub key: &'a str,
    pub client: Option<&'a str>,
}

impl MappingTest {
    /// The lines of a difference; none if the test passes.
    pub fn differences(&self, mapping: &LeadMapping, columns: TestedColumns<'_>) -> Vec<String> {
        let mut lines = self.mistakes(mapping, columns);
        if !lines.is_empty() {
            return lines;
        }
        let cell = |column: &str| self.row.get(column).map(text_of);
        let row = SourceRow {
            key: cell(columns.key),
            client: columns.client.and_then(cell),
            cells: mapping.columns().iter().map(|column| cell(column)).collect(),
        };
        let mapped = mapping.map(&row);
        match (&mapped.desired, &self.invalid) {
            (Ok(body), None) => {
                let made: Value = serde_json::from_str(body).unwrap_or_default();
                self.compare(&made, &mut lines);
            }
            (Ok(_), Some(_)) => lines.push("the test says that the row is invalid, and it makes a lead".to_owned()),
            (Err(reasons), None) => lines.extend(reasons.iter().map(|reason| format!("the row is invalid: {reason}"))),
            (Err(reasons), Some(wanted)) => {
                let missing = wanted.iter().filter(|part| !reasons.iter().any(|reason| reason.contains(*part)));
                lines.extend(missing.map(|part| format!("no reason says {part:?}")));
                let further = reasons.iter().filter(|reason| !wanted.iter().any(|part| reason.contains(part)));
                lines.extend(further.map(|reason| format!("a reason that the test does not name: {reason}")));
            }
        }
        let missing = self.notes.iter().filter(|part| !mapped.notes.iter().any(|note| note.contains(*part)));
        lines.extend(missing.map(|part| format!("no note says {part:?}; the notes are {:?}", mapped.notes)));
        lines
    }

    /// What is wrong with the test itself.
    fn mistakes(&self, mapping: &LeadMapping, columns: TestedColumns<'_>) -> Vec<String> {
        let known: BTreeSet<&str> =
            mapping.columns().iter().map(String::as_str).chain([columns.key]).chain(columns.client).collect();
        let unknown = self.row.keys().filter(|column| !known.contains(column.as_str()));
        let mut lines: Vec<String> = unknown
            .map(|column| match nearest(column, known.iter().copied()) {
                Some(near) => format!("no key is mapped from a column {column}; did you mean {near}?"),
                None => format!("no key is mapped from a column {column}"),
            })
            .collect();
        if !self.row.contains_key(columns.key) {
            lines.push(format!("the row has no value for the key column {}", columns.key));
        }
        let says = self.lead.is_some() || !self.has.is_empty() || !self.lacks.is_empty() || self.invalid.is_some();
        if !says && self.notes.is_empty() {
            lines.push("the test says nothing: give it lead, has, lacks, invalid or notes".to_owned());
        }
        let blank = self.invalid.iter().flatten().chain(&self.notes).any(|part| part.trim().is_empty());
        if blank {
            lines.push("a part of a reason or a note is blank: every reason has that".to_owned());
        }
        let sent: Vec<&str> = mapping.key_names().collect();
        lines.extend(self.lacks.iter().filter(|key| !sent.contains(&key.as_str())).map(|key| {
            match nearest(key, sent.iter().copied()) {
                Some(near) => format!("no key {key} is ever sent, so it is always lacking; did you mean {near}?"),
                None => format!("no key {key} is ever sent, so it is always lacking"),
            }
        }));
        let is_both = self.invalid.is_some() && (self.lead.is_some() || !self.has.is_empty());
        if is_both {
            lines.push("the row is to make a lead and to be invalid: give one of lead or has, and invalid".to_owned());
        }
        lines
    }

    fn compare(&self, made: &Value, lines: &mut Vec<String>) {
        let made_of = |key: &str| made.get(key);
        let mut say = |key: &str, wanted: Option<&Value>, made: Option<&Value>| {
            lines.push(key.to_owned());
            let shown = |value: Option<&Value>| value.map_or("(nothing)".to_owned(), Value::to_string);
            lines.push(format!("  - {}  (the test)", shown(wanted)));
            lines.push(format!("  + {}  (the mapping)", shown(made)));
        };
        let wanted = self.lead.iter().flatten().chain(&self.has);
        for (key, wanted) in wanted {
            let wanted = json_of(wanted);
            if made_of(key) != Some(&wanted) {
                say(key, Some(&wanted), made_of(key));
            }
        }
        if let (Some(lead), Some(object)) = (&self.lead, made.as_object()) {
            for (key, value) in object.iter().filter(|(key, _)| *key != "apiVersion" && !lead.contains_key(*key)) {
                say(key, None, Some(value));
            }
        }
        for key in self.lacks.iter().filter(|key| made_of(key).is_some()) {
            say(key, None, made_of(key));
        }
    }
}

/// A cell as the database's text of the value.
fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn json_of(value: &toml::Value) -> Value {
    match value {
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(flag) => Value::from(*flag),
        other => Value::from(text_of(other)),
    }
}
