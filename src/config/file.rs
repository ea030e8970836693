//! The layer made from a TOML file: its values with their lines. Unknown names are refused here.

use config::{Map, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use crate::config::check::ConfigProblems;
use crate::config::key::{self, KeyKind, TableList};
use crate::config::layer::ConfigLayer;
use crate::error::SetupError;

/// The name of the embedded defaults, whose line numbers mean nothing to an operator.
pub const DEFAULT: &str = "default";

/// Reads a file's text. `Err` is a text that is not TOML; every other mistake goes to `problems`.
pub fn layer(name: &str, text: &str, problems: &mut ConfigProblems) -> Result<ConfigLayer, SetupError> {
    let document = DeTable::parse(text).map_err(|error| syntax_error(name, text, &error))?;
    let mut reader = FileReader { name, text, layer: ConfigLayer::default(), problems };
    reader.section(document.get_ref(), &[]);
    Ok(reader.layer)
}

fn syntax_error(name: &str, text: &str, error: &toml::de::Error) -> SetupError {
    let (line, column) = error.span().map_or((1, 1), |span| position(text, span.start));
    let reason = error.message().lines().collect::<Vec<_>>().join("; ");
    SetupError::new(
        format!("{name}:{line}:{column}: this is not TOML: {reason}"),
        "Text needs quotes, a key may appear once, a section is written [section].",
    )
}

/// Line and column, counted from one.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

struct FileReader<'a> {
    name: &'a str,
    text: &'a str,
    layer: ConfigLayer,
    problems: &'a mut ConfigProblems,
}

impl FileReader<'_> {
    fn section(&mut self, table: &DeTable<'_>, path: &[String]) {
        for (name, value) in table {
            let place = self.place(name.span().start);
            let mut full = path.to_vec();
            full.push(name.get_ref().to_string());
            self.entry(&place, full, value.get_ref());
        }
    }

    fn entry(&mut self, place: &str, path: Vec<String>, value: &DeValue<'_>) {
        let name = path.join(".");
        if key::sections().contains(&name) {
            match value {
                DeValue::Table(table) => {
                    self.layer.sections.insert(name);
                    self.section(table, &path);
                }
                _ => self.problems.add(
                    place,
                    format!("`{name}` is a section, not a key"),
                    format!("Write [{name}] on a line of its own, and its keys below."),
                ),
            }
        } else if let Some(list) = key::lists().iter().find(|list| list.name == name) {
            self.list(place, list, &path, value);
        } else if let Some(key) = key::find(&path) {
            let value = match key.kind {
                KeyKind::Rule => rule(place, value),
                _ => plain(place, value),
            };
            self.layer.values.insert(path, value);
        } else if key::twin_of(&path).is_some() {
            self.layer.values.insert(path, plain(place, value));
        } else {
            self.unknown(place, &path);
        }
    }

    /// The entries of a list of tables, each at its number.
    fn list(&mut self, place: &str, list: &TableList, path: &[String], value: &DeValue<'_>) {
        let header = format!("[[{}]]", list.name);
        let DeValue::Array(items) = value else {
            self.problems.spoil(&list.name);
            return self.problems.add(
                place,
                format!("`{}` is a list of tables, not one value", list.name),
                format!("Write {header} on a line of its own before each entry, with two brackets."),
            );
        };
        for (number, item) in items.iter().enumerate() {
            let place = self.place(item.span().start);
            let mut entry = path.to_vec();
            entry.push(number.to_string());
            let DeValue::Table(table) = item.get_ref() else {
                self.problems.add(
                    &place,
                    format!("`{}.{number}` is not a table", list.name),
                    format!("Write {header} on a line of its own, and the keys of the entry below."),
                );
                continue;
            };
            // So that an entry without keys is an entry, too.
            self.layer.values.insert(entry.clone(), Value::new(Some(&place), Map::<String, Value>::new()));
            self.section(table, &entry);
        }
    }

    fn place(&self, byte: usize) -> String {
        match self.name {
            DEFAULT => DEFAULT.to_owned(),
            file => format!("{file}:{}", position(self.text, byte).0),
        }
    }

    fn unknown(&mut self, place: &str, path: &[String]) {
        let name = path.join(".");
        let (last, section) = (path.last().map_or("", String::as_str), path.split_last().map_or(&[][..], |(_, s)| s));
        let section = section.join(".");
        if section == "lead" {
            return self.unknown_lead_key(place, last);
        }
        match key::nearest_to(&section, last) {
            Some(near) if near.contains('.') => {
                self.problems.spoil(near.clone());
                self.problems.add(
                    place,
                    format!("unknown key `{name}`: did you mean `{near}`?"),
                    format!("Move the line to its own section, [{}].", near.rsplit_once('.').map_or("", |(s, _)| s)),
                );
            }
            Some(near) => {
                self.problems.spoil(if section.is_empty() { near.clone() } else { format!("{section}.{near}") });
                self.problems.add(
                    place,
                    format!("unknown key `{name}`: did you mean `{near}`?"),
                    format!("Write `{near}`, or remove it."),
                );
            }
            None => self.problems.add(
                place,
                format!("unknown key `{name}`"),
                "Remove it; `conversica-sync config show` lists every key.",
            ),
        }
    }

    fn unknown_lead_key(&mut self, place: &str, last: &str) {
        if last == "apiVersion" {
            return self.problems.add(
                place,
                "`lead.apiVersion` cannot be mapped: it comes from `conversica.api_version`",
                "Remove the line; set `api_version` under [conversica] if the default does not fit.",
            );
        }
        let near = key::nearest_to("lead", last).filter(|near| !near.contains('.'));
        let question = near.as_ref().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
        if let Some(near) = near {
            self.problems.spoil(format!("lead.{near}"));
        }
        self.problems.add(
            place,
            format!("unknown key `lead.{last}`{question}"),
            format!("If Conversica agreed the key `{last}` with you, put it under [lead.custom]."),
        );
    }
}

fn plain(place: &str, value: &DeValue<'_>) -> Value {
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => ValueKind::I64(number),
            // Out of range for every key; as text, the check of values refuses it with the key's type.
            Err(_) => ValueKind::String(number.as_str().to_owned()),
        },
        DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
        DeValue::Datetime(instant) => ValueKind::String(instant.to_string()),
        DeValue::Array(items) => ValueKind::Array(items.iter().map(|item| plain(place, item.get_ref())).collect()),
        DeValue::Table(table) => {
            let entries = table.iter().map(|(name, value)| (name.get_ref().to_string(), plain(place, value.get_ref())));
            ValueKind::Table(entries.collect())
        }
    };
    Value::new(Some(&place.to_owned()), kind)
}

/// A field rule: it keeps numbers as the text in the file, so that `7.20` does not become `7.2`.
fn rule(place: &str, value: &DeValue<'_>) -> Value {
    let DeValue::Table(parts) = value else { return plain(place, value) };
    let parts: Map<String, Value> = parts
        .iter()
        .map(|(name, part)| {
            let name = name.get_ref().to_string();
            let part = match (name.as_str(), part.get_ref()) {
                ("default" | "value", part) => as_written(place, part),
                ("map", DeValue::Table(entries)) => {
                    let entries: Map<String, Value> = entries
                        .iter()
                        .map(|(from, to)| (from.get_ref().to_string(), as_written(place, to.get_ref())))
                        .collect();
                    Value::new(Some(&place.to_owned()), ValueKind::Table(entries))
                }
                (_, part) => plain(place, part),
            };
            (name, part)
        })
        .collect();
    Value::new(Some(&place.to_owned()), ValueKind::Table(parts))
}

fn as_written(place: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Float(number) => Value::new(Some(&place.to_owned()), number.as_str()),
        DeValue::Integer(number) if number.radix() == 10 => Value::new(Some(&place.to_owned()), number.as_str()),
        other => plain(place, other),
    }
}
