//! The known keys, derived from the schema of the settings tree: the type of each, whether it is required, whether it is secret.
//!
//! One list for all uses: checks, environment variables, `config show`, messages.

use std::borrow::Cow;
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
    /// A list of some of these words.
    ChoiceList(Vec<String>),
    /// A table of the operator's own names, each with a text or, as `NAME_file`, with a file that holds it.
    Headers,
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

impl ConfigKey {
    /// Whether `KEY_file` names a file that holds the value.
    pub fn has_file_twin(&self) -> bool {
        self.secrecy.is_some() && self.kind != KeyKind::Headers
    }
}

/// A list of tables: `[[admin.operator]]` begins one entry. In the layers an entry is a table at its number, counted from 0, so that
/// `admin.operator.0.name` is a key like any other, for messages, `config show` and environment variables.
#[derive(Debug)]
pub struct TableList {
    /// The full name: `admin.operator`.
    pub name: String,
    /// The keys of an entry, with their full names without a number: `admin.operator.name`.
    pub fields: Vec<ConfigKey>,
}

impl TableList {
    /// The keys of the entry of that number.
    pub fn keys_of_entry(&self, number: &str) -> Vec<ConfigKey> {
        self.fields.iter().map(|field| self.key_of_entry(number, field)).collect()
    }

    fn key_of_entry(&self, number: &str, field: &ConfigKey) -> ConfigKey {
        ConfigKey { name: format!("{}.{number}{}", self.name, &field.name[self.name.len()..]), ..field.clone() }
    }
}

/// Any key of `[lead.custom]`: the operator chooses the names.
static CUSTOM: LazyLock<ConfigKey> =
    LazyLock::new(|| ConfigKey { name: "lead.custom".to_owned(), kind: KeyKind::Rule, secrecy: None, required: false });

static KEYS: LazyLock<KnownKeys> = LazyLock::new(|| {
    let mut known = KnownKeys::default();
    known.collect(&schema::of_settings(), "");
    known
});

#[derive(Default)]
struct KnownKeys {
    keys: Vec<ConfigKey>,
    sections: Vec<String>,
    lists: Vec<TableList>,
}

/// All keys, in the order of the settings tree. `[lead.custom]` has none of its own; those of lists of tables are in [`lists`].
pub fn all() -> &'static [ConfigKey] {
    &KEYS.keys
}

/// All sections with their full names: `source`, `delivery.retry`.
pub fn sections() -> &'static [String] {
    &KEYS.sections
}

/// All lists of tables.
pub fn lists() -> &'static [TableList] {
    &KEYS.lists
}

/// The list of tables, and the number of its entry, that a path begins with.
pub fn entry_at(path: &[String]) -> Option<(&'static TableList, &str)> {
    lists().iter().find_map(|list| {
        let depth = list.name.split('.').count();
        let is_of_list = path.len() > depth && path[..depth].join(".") == list.name;
        is_of_list.then(|| (list, path[depth].as_str()))
    })
}

/// The key at this path. In `[lead.custom]`, every name is a key.
pub fn find(path: &[String]) -> Option<Cow<'static, ConfigKey>> {
    match path {
        [lead, custom, _] if lead == "lead" && custom == "custom" => Some(Cow::Borrowed(&CUSTOM)),
        _ => find_named(path, &path.join(".")),
    }
}

fn find_named(path: &[String], name: &str) -> Option<Cow<'static, ConfigKey>> {
    match entry_at(path) {
        Some((list, number)) => list.keys_of_entry(number).into_iter().find(|key| key.name == name).map(Cow::Owned),
        None => by_name(name).map(Cow::Borrowed),
    }
}

pub fn by_name(name: &str) -> Option<&'static ConfigKey> {
    all().iter().find(|key| key.name == name)
}

/// The secret whose `_file` twin this path is.
pub fn twin_of(path: &[String]) -> Option<Cow<'static, ConfigKey>> {
    let name = path.join(".");
    find_named(path, name.strip_suffix("_file")?).filter(|key| key.has_file_twin())
}

/// The section of a full name as a file writes its header: `[delivery.retry]`, `[[admin.operator]]`.
pub fn header(section: &str) -> String {
    match entry_at(&parts(section)) {
        Some((list, _)) => format!("[[{}]]", list.name),
        None => format!("[{section}]"),
    }
}

/// A full name, taken apart at its dots.
pub fn parts(name: &str) -> Vec<String> {
    name.split('.').map(str::to_owned).collect()
}

/// An example line for a key, from the commented-out lines of `config/default.toml`.
pub fn example(name: &str) -> Option<String> {
    let (section, key) = name.rsplit_once('.')?;
    let section = entry_at(&parts(section)).map_or(section, |(list, _)| &list.name);
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
        let header = text.strip_prefix("[[").or_else(|| text.strip_prefix('['));
        if let Some((name, _)) = header.and_then(|rest| rest.split_once(']')) {
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
    let of_entry = entry_at(&parts(section)).map_or_else(Vec::new, |(list, number)| list.keys_of_entry(number));
    let here = all()
        .iter()
        .chain(&of_entry)
        .flat_map(|key| [Some(key.name.clone()), key.has_file_twin().then(|| format!("{}_file", key.name))])
        .flatten()
        .chain(sections().iter().cloned())
        .chain(lists().iter().map(|list| list.name.clone()))
        .filter_map(|full| full.strip_prefix(&prefix).map(str::to_owned))
        .filter(|rest| !rest.contains('.'))
        .collect::<Vec<_>>();
    if let Some(near) = nearest(name, here.iter().map(String::as_str)) {
        return Some(near.to_owned());
    }
    let elsewhere = |key: &&ConfigKey| key.name.rsplit_once('.').is_some_and(|(_, last)| last == name);
    all().iter().find(elsewhere).map(|key| key.name.clone())
}

impl KnownKeys {
    fn collect(&mut self, schema: &Value, prefix: &str) {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let full = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if property["type"] == "object" && property["x-kind"].is_null() {
                self.sections.push(full.clone());
                self.collect(property, &full);
            } else if schema::is_list_of_tables(property) {
                let mut entry = Self::default();
                entry.collect(&property["items"], &full);
                self.lists.push(TableList { name: full, fields: entry.keys });
            } else {
                let secrecy = match property["x-secret"].as_str() {
                    Some("url") => Some(KeySecrecy::Url),
                    Some(_) => Some(KeySecrecy::Whole),
                    None => None,
                };
                self.keys.push(ConfigKey {
                    name: full,
                    kind: kind(property),
                    secrecy,
                    required: required.contains(&name.as_str()),
                });
            }
        }
    }
}

fn kind(schema: &Value) -> KeyKind {
    let plain = schema["enum"].as_array().into_iter().flatten();
    // Where the words have descriptions of their own.
    let described = schema["oneOf"].as_array().into_iter().flatten().map(|word| &word["const"]);
    let choices: Vec<String> = plain.chain(described).filter_map(Value::as_str).map(str::to_owned).collect();
    let of_items = schema["items"]["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let of_items: Vec<String> = of_items.map(str::to_owned).collect();
    let is = |name: &str| schema["type"] == name;
    match schema["x-kind"].as_str() {
        Some("text-or-none") => KeyKind::TextOrNone,
        Some("duration") => KeyKind::Duration,
        Some("size") => KeyKind::Size,
        Some("address") => KeyKind::Address,
        Some("time-zone") => KeyKind::TimeZone,
        Some("url") => KeyKind::Url,
        Some("rule") => KeyKind::Rule,
        Some("headers") => KeyKind::Headers,
        _ if !choices.is_empty() => KeyKind::Choice(choices),
        _ if is("integer") => KeyKind::Integer,
        _ if is("number") => KeyKind::Number,
        _ if is("boolean") => KeyKind::Boolean,
        _ if is("array") && !of_items.is_empty() => KeyKind::ChoiceList(of_items),
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
        let known: BTreeSet<String> =
            all().iter().chain(lists().iter().flat_map(|list| &list.fields)).map(|key| key.name.clone()).collect();
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
