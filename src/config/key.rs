//! The known keys, derived from the schema of the settings tree: the type of each, whether it is required, whether it is secret.
//!
//! One list for all uses: checks, environment variables, `config show`, messages.

use std::sync::LazyLock;

use serde_json::Value;

use crate::config::schema;
use crate::nearest::nearest;

/// The type of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyKind {
    Text,
    /// A text; blank means none.
    TextOrNone,
    /// A list of texts; it may be empty.
    TextList,
    Integer,
    Number,
    Boolean,
    Duration,
    Size,
    Address,
    TimeZone,
    Url,
    /// One of these words.
    Choice(Vec<String>),
    /// A field rule of `[lead]`.
    Rule,
}

/// Which part of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySecrecy {
    /// Everything but the password in it.
    Url,
    /// No part.
    Whole,
}

#[derive(Debug, Clone)]
pub struct ConfigKey {
    /// The full name: `delivery.retry.multiplier`.
    pub name: String,
    pub kind: KeyKind,
    pub secrecy: Option<KeySecrecy>,
    /// Whether the settings are incomplete without it (in `[receive]`: once that section exists).
    pub required: bool,
}

/// Any key of `[lead.custom]`: the operator chooses the names.
static CUSTOM: LazyLock<ConfigKey> =
    LazyLock::new(|| ConfigKey { name: "lead.custom".to_owned(), kind: KeyKind::Rule, secrecy: None, required: false });

static KEYS: LazyLock<(Vec<ConfigKey>, Vec<String>)> = LazyLock::new(|| {
    let (mut keys, mut sections) = (Vec::new(), Vec::new());
    collect(&schema::of_settings(), "", &mut keys, &mut sections);
    (keys, sections)
});

/// All keys, in the order of the settings tree. `[lead.custom]` has none of its own.
pub fn all() -> &'static [ConfigKey] {
    &KEYS.0
}

/// All sections with their full names: `source`, `delivery.retry`.
pub fn sections() -> &'static [String] {
    &KEYS.1
}

/// The key at this path. In `[lead.custom]`, every name is a key.
pub fn find(path: &[String]) -> Option<&'static ConfigKey> {
    match path {
        [lead, custom, _] if lead == "lead" && custom == "custom" => Some(&CUSTOM),
        _ => by_name(&path.join(".")),
    }
}

pub fn by_name(name: &str) -> Option<&'static ConfigKey> {
    all().iter().find(|key| key.name == name)
}

/// The secret whose `_file` twin this path is.
pub fn twin_of(path: &[String]) -> Option<&'static ConfigKey> {
    let name = path.join(".");
    by_name(name.strip_suffix("_file")?).filter(|key| key.secrecy.is_some())
}

/// An example line for a key, from the commented-out lines of `config/default.toml`.
pub fn example(name: &str) -> Option<String> {
    let (section, key) = name.rsplit_once('.')?;
    documented().into_iter().find(|line| line.section == section && line.key == key).map(|line| line.text.to_owned())
}

/// A key in `config/default.toml`, set or commented out (`#key = …`, no space after `#`).
pub struct DocumentedKey {
    pub section: &'static str,
    pub key: &'static str,
    /// The line without `#`.
    pub text: &'static str,
}

pub fn documented() -> Vec<DocumentedKey> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in schema::DEFAULTS.lines() {
        let text = line.strip_prefix('#').unwrap_or(line);
        if let Some((name, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = name;
        } else if let Some((key, _)) = text.split_once(" = ")
            && !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            keys.push(DocumentedKey { section, key, text });
        }
    }
    keys
}

/// The probable meaning of an unknown name in a section (empty: at the top); a full name if the key belongs to another section.
pub fn nearest_to(section: &str, name: &str) -> Option<String> {
    let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
    let here = all()
        .iter()
        .flat_map(|key| [Some(key.name.clone()), key.secrecy.map(|_| format!("{}_file", key.name))])
        .flatten()
        .chain(sections().iter().cloned())
        .filter_map(|full| full.strip_prefix(&prefix).map(str::to_owned))
        .filter(|rest| !rest.contains('.'))
        .collect::<Vec<_>>();
    if let Some(near) = nearest(name, here.iter().map(String::as_str)) {
        return Some(near.to_owned());
    }
    let elsewhere = |key: &&ConfigKey| key.name.rsplit_once('.').is_some_and(|(_, last)| last == name);
    all().iter().find(elsewhere).map(|key| key.name.clone())
}

fn collect(schema: &Value, prefix: &str, keys: &mut Vec<ConfigKey>, sections: &mut Vec<String>) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let full = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if property["type"] == "object" {
            sections.push(full.clone());
            collect(property, &full, keys, sections);
        } else {
            let secrecy = match property["x-secret"].as_str() {
                Some("url") => Some(KeySecrecy::Url),
                Some(_) => Some(KeySecrecy::Whole),
                None => None,
            };
            keys.push(ConfigKey {
                name: full,
                kind: kind(property),
                secrecy,
                required: required.contains(&name.as_str()),
            });
        }
    }
}

fn kind(schema: &Value) -> KeyKind {
    let choices = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let choices: Vec<String> = choices.map(str::to_owned).collect();
    let is = |name: &str| schema["type"] == name;
    match schema["x-kind"].as_str() {
        Some("text-or-none") => KeyKind::TextOrNone,
        Some("duration") => KeyKind::Duration,
        Some("size") => KeyKind::Size,
        Some("address") => KeyKind::Address,
        Some("time-zone") => KeyKind::TimeZone,
        Some("url") => KeyKind::Url,
        Some("rule") => KeyKind::Rule,
        _ if !choices.is_empty() => KeyKind::Choice(choices),
        _ if is("integer") => KeyKind::Integer,
        _ if is("number") => KeyKind::Number,
        _ if is("boolean") => KeyKind::Boolean,
        _ if is("array") && schema["items"]["type"] == "string" => KeyKind::TextList,
        _ => KeyKind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_default_file_documents_every_key_and_no_other() {
        let known: BTreeSet<String> = all().iter().map(|key| key.name.clone()).collect();
        let documented: Vec<String> =
            documented().iter().map(|line| format!("{}.{}", line.section, line.key)).collect();
        let unique: BTreeSet<String> =
            documented.iter().filter(|name| !name.starts_with("lead.custom.")).cloned().collect();
        assert_eq!(documented.len(), documented.iter().collect::<BTreeSet<_>>().len(), "a key appears twice");
        assert_eq!(known.difference(&unique).collect::<Vec<_>>(), Vec::<&String>::new(), "missing in default.toml");
        assert_eq!(unique.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "unknown in default.toml");
    }

    #[test]
    fn keys_know_what_they_hold() {
        let kind = |name: &str| by_name(name).unwrap().kind.clone();
        assert_eq!(kind("source.poll_interval"), KeyKind::Duration);
        assert_eq!(kind("source.time_zone"), KeyKind::TimeZone);
        assert_eq!(kind("delivery.concurrency"), KeyKind::Integer);
        assert_eq!(kind("delivery.requests_per_second"), KeyKind::Number);
        assert_eq!(kind("conversica.sms"), KeyKind::Boolean);
        assert_eq!(kind("receive.listen"), KeyKind::Address);
        assert_eq!(kind("receive.max_body"), KeyKind::Size);
        assert_eq!(kind("lead.firstName"), KeyKind::Rule);
        assert_eq!(kind("source.where"), KeyKind::Text);
        assert_eq!(kind("lead.required"), KeyKind::TextList);
        let choices = ["send", "baseline"].map(str::to_owned).to_vec();
        assert_eq!(kind("safety.first_run"), KeyKind::Choice(choices));
        assert_eq!(
            kind("log.level"),
            KeyKind::Choice(["error", "warn", "info", "debug", "trace"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn the_secrets_are_these() {
        let secrets: Vec<&str> = all().iter().filter(|key| key.secrecy.is_some()).map(|key| &*key.name).collect();
        assert_eq!(
            secrets,
            [
                "source.url",
                "conversica.endpoint",
                "conversica.password",
                "conversica.test_lead_token",
                "state.url",
                "receive.password",
                "writeback.url",
                "alerts.url",
                "admin.token"
            ]
        );
    }

    #[test]
    fn what_has_no_default_must_be_set() {
        let required = |name: &str| by_name(name).unwrap().required;
        assert!(required("source.url") && required("conversica.password") && required("receive.listen"));
        assert!(!required("source.table") && !required("safety.first_run") && !required("lead.email"));
    }

    #[test]
    fn a_key_in_the_wrong_section_is_found_in_its_own() {
        assert_eq!(nearest_to("source", "pol_interval").as_deref(), Some("poll_interval"));
        assert_eq!(nearest_to("delivery.retry", "concurrency").as_deref(), Some("delivery.concurrency"));
        assert_eq!(nearest_to("", "sorce").as_deref(), Some("source"));
        assert_eq!(example("source.key").as_deref(), Some("key = \"id\""));
    }
}
