//! The process environment as a source of settings, and the layer made from its variables.
//!
//! The `config` crate's own reader is not used: it lower-cases names, and turns the password `007` into 7. This reader matches
//! names with the known keys, and converts a text to a number only for a numeric key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{Map, Value, ValueKind};

use crate::config::check::ConfigProblems;
use crate::config::key::{self, ConfigKey, KeyKind};
use crate::config::layer::ConfigLayer;
use crate::config::rule;
use crate::nearest::nearest;

const PREFIX: &str = "CONVERSICA_SYNC__";

/// The parts of the environment that can hold settings. Passed as an argument everywhere, so that tests never change the real
/// environment.
#[derive(Clone, Default)]
pub struct ProcessEnvironment {
    pub variables: BTreeMap<String, String>,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
}

/// Variables hold secrets of this and other programs: `Debug` shows only their number.
impl std::fmt::Debug for ProcessEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.len())
            .field("credentials_directory", &self.credentials_directory)
            .finish()
    }
}

impl ProcessEnvironment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let lossy = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            // A name or value that is not UTF-8 keeps a mark (U+FFFD), by which our own variables are refused.
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        };
        Self {
            variables: std::env::vars_os().map(lossy).collect(),
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY")
                .filter(|d| !d.is_empty())
                .map(PathBuf::from),
        }
    }
}

/// Reads the variables that set a key. `file` shows the spelling of the keys of `[lead.custom]`.
pub fn layer(
    environment: &ProcessEnvironment,
    file: &ConfigLayer,
    problems: &mut ConfigProblems,
    warnings: &mut Vec<String>,
) -> ConfigLayer {
    let mut layer = ConfigLayer::default();
    let mut names: BTreeMap<Vec<String>, &str> = BTreeMap::new();
    for (variable, text) in &environment.variables {
        let Some(segments) = segments(variable) else {
            warnings.extend(single_underscore(variable));
            continue;
        };
        let place = format!("environment variable {variable}");
        let Some((path, part)) = target(&segments, file) else {
            unknown(&place, &segments, problems);
            continue;
        };
        let name = path.join(".");
        let mut target = path.clone();
        target.extend(part.clone());
        if let Some(other) = names.insert(target, variable) {
            let what = format!("`{name}` is set by {other} as well");
            problems.add(&place, what, "Unset one of the two.");
            continue;
        }
        if text.is_empty() {
            problems.spoil(&name);
            problems.add(
                &place,
                format!("it is empty, so `{name}` would be"),
                "Unset the variable, or give it a value.",
            );
            continue;
        }
        if text.contains('\u{fffd}') {
            problems.spoil(&name);
            problems.add(&place, "its value is not UTF-8", "Set it again, in UTF-8.");
            continue;
        }
        let value = match key::find(&path) {
            Some(key) => typed(&key, text),
            // A `_file` twin: a path.
            None => ValueKind::String(text.clone()),
        };
        let value = Value::new(Some(&place), value);
        match part {
            None => {
                layer.values.insert(path, value);
            }
            Some(part) => {
                let whole =
                    layer.values.entry(path).or_insert_with(|| Value::new(Some(&place), Map::<_, Value>::new()));
                if let ValueKind::Table(parts) = &mut whole.kind {
                    parts.insert(part, value);
                } else {
                    problems.add(&place, format!("`{name}` is set as a whole as well"), "Unset one of the two.");
                }
            }
        }
    }
    layer
}

/// The parts of a name after the prefix, in any case; `None` for variables of other programs.
fn segments(variable: &str) -> Option<Vec<String>> {
    let prefix = variable.get(..PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then(|| variable[PREFIX.len()..].split("__").map(str::to_owned).collect())
}

/// The key that a name sets, and the part of a field rule, if it sets only a part.
fn target(segments: &[String], file: &ConfigLayer) -> Option<(Vec<String>, Option<String>)> {
    if let [lead, custom, name, part @ ..] = segments
        && lead.eq_ignore_ascii_case("lead")
        && custom.eq_ignore_ascii_case("custom")
        && !name.is_empty()
    {
        // In the file's spelling; otherwise in the variable's, whose case is kept.
        let as_in_file = file.values.keys().find(|path| {
            path.len() == 3 && path[0] == "lead" && path[1] == "custom" && path[2].eq_ignore_ascii_case(name)
        });
        let path = as_in_file.cloned().unwrap_or_else(|| vec!["lead".to_owned(), "custom".to_owned(), name.clone()]);
        return Some((path, rule_part(part)?));
    }
    let wanted = segments.join(".").to_lowercase();
    for key in key::all() {
        let path = || key.name.split('.').map(str::to_owned).collect::<Vec<_>>();
        let name = key.name.to_lowercase();
        if wanted == name {
            return Some((path(), None));
        }
        if key.has_file_twin() && wanted.strip_suffix("_file") == Some(&name) {
            let mut path = path();
            if let Some(last) = path.last_mut() {
                last.push_str("_file");
            }
            return Some((path, None));
        }
        if key.kind == KeyKind::Rule && segments.len() == 3 && wanted.starts_with(&format!("{name}.")) {
            return Some((path(), rule_part(&segments[2..])?));
        }
    }
    target_in_entry(&wanted).map(|path| (path, None))
}

/// `admin.operator.0.token`, or its `_file` twin: a key of an entry of a list of tables. The path in the spelling of the settings.
fn target_in_entry(wanted: &str) -> Option<Vec<String>> {
    key::lists().iter().find_map(|list| {
        let (number, _) = wanted.strip_prefix(&format!("{}.", list.name))?.split_once('.')?;
        // `01` would be a second name for entry 1.
        number.parse::<usize>().ok().filter(|parsed| parsed.to_string() == number)?;
        list.keys_of_entry(number).into_iter().find_map(|key| {
            let name = key.name.to_lowercase();
            let twin = format!("{name}_file");
            if wanted == name {
                Some(key::parts(&key.name))
            } else if key.has_file_twin() && wanted == twin {
                Some(key::parts(&format!("{}_file", key.name)))
            } else {
                None
            }
        })
    })
}

/// `Some(None)`: the whole rule. Translations (`map`) have names of the operator's own, and belong in the file.
fn rule_part(rest: &[String]) -> Option<Option<String>> {
    match rest {
        [] => Some(None),
        [part] => rule::PARTS
            .iter()
            .find(|known| **known != "map" && known.eq_ignore_ascii_case(part))
            .map(|known| Some((*known).to_owned())),
        _ => None,
    }
}

/// A text that does not fit the key's type stays text; the check of values then refuses it with the key's name.
fn typed(key: &ConfigKey, text: &str) -> ValueKind {
    match key.kind {
        KeyKind::Boolean => text.parse().map(ValueKind::Boolean).ok(),
        KeyKind::Integer => text.parse().map(ValueKind::I64).ok().or_else(|| text.parse().map(ValueKind::Float).ok()),
        KeyKind::Number => text.parse().map(ValueKind::Float).ok(),
        KeyKind::TextList | KeyKind::ChoiceList(_) => listed(text),
        KeyKind::Headers => inline_table(text),
        _ => None,
    }
    .unwrap_or_else(|| ValueKind::String(text.to_owned()))
}

/// A list: separated by commas, or in brackets as in the file, for entries that contain commas. `[]` is the empty list.
fn listed(text: &str) -> Option<ValueKind> {
    let texts: Vec<String> = if text.trim_start().starts_with('[') {
        let mut document: BTreeMap<String, Vec<String>> = toml::from_str(&format!("list = {}", text.trim())).ok()?;
        document.remove("list").filter(|_| document.is_empty())?
    } else {
        text.split(',').map(|entry| entry.trim().to_owned()).collect()
    };
    Some(ValueKind::Array(texts.into_iter().map(|text| Value::new(None, text)).collect()))
}

/// A table as in the file: `{ Authorization = "…" }`.
fn inline_table(text: &str) -> Option<ValueKind> {
    let mut document: BTreeMap<String, BTreeMap<String, String>> =
        toml::from_str(&format!("table = {}", text.trim())).ok()?;
    let table = document.remove("table").filter(|_| document.is_empty())?;
    Some(ValueKind::Table(table.into_iter().map(|(name, text)| (name, Value::new(None, text))).collect()))
}

fn unknown(place: &str, segments: &[String], problems: &mut ConfigProblems) {
    let wanted = segments.join("__").to_uppercase();
    // Of an entry of a list of tables: the keys of the entry that the name seems to mean.
    let number = segments.iter().find(|segment| segment.parse::<usize>().is_ok()).map_or("0", String::as_str);
    let of_entries: Vec<ConfigKey> = key::lists().iter().flat_map(|list| list.keys_of_entry(number)).collect();
    let names: Vec<String> = key::all()
        .iter()
        .chain(&of_entries)
        .flat_map(|key| [Some(key.name.clone()), key.has_file_twin().then(|| format!("{}_file", key.name))])
        .flatten()
        .map(|name| name.replace('.', "__").to_uppercase())
        .collect();
    let cure = "Unset it; names are CONVERSICA_SYNC__SECTION__KEY, with two underscores between the parts.";
    match nearest(&wanted, names.iter().map(String::as_str)) {
        Some(near) => {
            let meant = near.replace("__", ".");
            let meant = key::all().iter().find(|key| key.name.eq_ignore_ascii_case(&meant));
            meant.into_iter().for_each(|key| problems.spoil(&key.name));
            problems.add(
                place,
                format!("it sets no known key: did you mean {PREFIX}{near}?"),
                "Rename it, or unset it.",
            );
        }
        None => problems.add(place, "it sets no known key", cure),
    }
}

/// A variable with one underscore between the parts is ignored, because Kubernetes creates such names for its services. But a
/// name that spells a key exactly was probably meant for us, so it gets a warning.
fn single_underscore(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix("CONVERSICA_SYNC_")?.to_lowercase();
    let key = key::all().iter().find(|key| key.name.replace('.', "_").to_lowercase() == rest.replace("__", "_"))?;
    let name = key.name.replace('.', "__").to_uppercase();
    Some(format!("environment variable {variable} is ignored; `{}` is set by {PREFIX}{name}", key.name))
}
