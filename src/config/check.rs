//! Checks that one value fits its key: type, choice, shape. Combinations of settings are not checked here.
//!
//! The value itself is named in a message unless the key is secret.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;

use chrono_tz::Tz;
use config::{Value, ValueKind};

use crate::config::key::{ConfigKey, KeyKind};
use crate::config::{address, duration, size};
use crate::error::SetupError;
use crate::nearest::nearest;

/// All mistakes found, so that the operator can fix them in one go.
#[derive(Debug, Default)]
pub struct ConfigProblems {
    found: Vec<ConfigProblem>,
    /// Keys with a message already: errors that follow from them need no second one.
    spoiled: BTreeSet<String>,
}

#[derive(Debug)]
struct ConfigProblem {
    place: String,
    error: SetupError,
}

impl ConfigProblems {
    /// `place` locates the mistake: `conversica-sync.toml:12` or an environment variable.
    pub fn add(&mut self, place: &str, what: impl AsRef<str>, cure: impl Into<String>) {
        let error = SetupError::new(format!("{place}: {}", what.as_ref()), cure);
        if !self.found.iter().any(|other| other.error == error) {
            self.found.push(ConfigProblem { place: place.to_owned(), error });
        }
    }

    pub fn spoil(&mut self, key: impl Into<String>) {
        self.spoiled.insert(key.into());
    }

    /// Whether the key, or a section that contains it, has a message already.
    pub fn is_spoiled(&self, key: &str) -> bool {
        let mut ends = key.match_indices('.').map(|(end, _)| end).chain([key.len()]);
        ends.any(|end| self.spoiled.contains(&key[..end]))
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of their lines; mistakes without a line come first.
    pub fn into_errors(mut self) -> Vec<SetupError> {
        self.found.sort_by_key(|problem| line_of(&problem.place));
        self.found.into_iter().map(|problem| problem.error).collect()
    }
}

fn line_of(place: &str) -> u32 {
    place.rsplit_once(':').and_then(|(_, line)| line.parse().ok()).unwrap_or(0)
}

/// The fault of a value, and the cure.
#[derive(Debug, PartialEq, Eq)]
pub struct ValueMisfit {
    pub what: String,
    pub cure: String,
}

fn misfit<T>(what: impl Into<String>, cure: impl Into<String>) -> Result<T, ValueMisfit> {
    Err(ValueMisfit { what: what.into(), cure: cure.into() })
}

/// Checks that a value fits its key. Field rules are checked when they are read, after the layers are merged.
pub fn fits(key: &ConfigKey, value: &Value) -> Result<(), ValueMisfit> {
    match (&key.kind, &value.kind) {
        (KeyKind::Rule, _) | (KeyKind::Boolean, ValueKind::Boolean(_)) => Ok(()),
        (KeyKind::Integer, ValueKind::I64(number)) => whole(key, *number),
        (KeyKind::Integer, ValueKind::Float(number)) => {
            misfit(format!("`{}` is {number}, which is not a whole number", key.name), "Write a whole number.")
        }
        (KeyKind::Number, ValueKind::I64(_)) => Ok(()),
        (KeyKind::Number, ValueKind::Float(number)) if number.is_finite() => Ok(()),
        (KeyKind::Number, ValueKind::Float(number)) => {
            misfit(format!("`{}` is {number}, which is not a number to work with", key.name), "Write a finite number.")
        }
        (KeyKind::Boolean | KeyKind::Integer | KeyKind::Number, _) => mistyped(key, value),
        (KeyKind::TextOrNone, ValueKind::String(_)) => Ok(()),
        (KeyKind::TextList, ValueKind::Array(items)) => texts(key, items),
        (KeyKind::ChoiceList(words), ValueKind::Array(items)) => {
            texts(key, items).and_then(|()| items.iter().try_for_each(|item| chosen(key, words, item)))
        }
        (KeyKind::Headers, ValueKind::Table(entries)) => headers(key, entries),
        (KeyKind::TextList | KeyKind::ChoiceList(_) | KeyKind::Headers, _) => mistyped(key, value),
        (_, ValueKind::String(text)) if text.trim().is_empty() => {
            misfit(format!("`{}` is empty", key.name), "Write a value, or remove the key.")
        }
        (kind, ValueKind::String(text)) => shaped(key, kind, text),
        _ => mistyped(key, value),
    }
}

fn whole(key: &ConfigKey, number: i64) -> Result<(), ValueMisfit> {
    match u32::try_from(number) {
        Ok(_) => Ok(()),
        Err(_) => misfit(
            format!("`{}` is {number}, which is out of range", key.name),
            format!("Write a whole number from 0 to {}.", u32::MAX),
        ),
    }
}

fn texts(key: &ConfigKey, items: &[Value]) -> Result<(), ValueMisfit> {
    const CURE: &str = "Write each entry in quotes, like [\"one\", \"another\"].";
    for item in items {
        match &item.kind {
            ValueKind::String(text) if text.trim().is_empty() => {
                return misfit(format!("`{}` has an empty entry", key.name), "Remove the empty entry.");
            }
            ValueKind::String(_) => {}
            other => {
                return misfit(format!("`{}` has an entry that is {}, not text", key.name, kind_in_words(other)), CURE);
            }
        }
    }
    Ok(())
}

/// One entry of a list of words.
fn chosen(key: &ConfigKey, words: &[String], item: &Value) -> Result<(), ValueMisfit> {
    let ValueKind::String(text) = &item.kind else { return Ok(()) };
    if words.contains(text) {
        return Ok(());
    }
    let near = nearest(text, words.iter().map(String::as_str));
    let question = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
    misfit(
        format!("`{}` has `{text}`, which is not known{question}", key.name),
        format!("Write some of {}.", listed(words)),
    )
}

/// Headers of a request. No value is shown.
fn headers(key: &ConfigKey, entries: &config::Map<String, Value>) -> Result<(), ValueMisfit> {
    for (name, value) in entries {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return misfit(
                format!("`{}` has a name that no header can have", key.name),
                "Write headers like { Authorization = \"Bearer …\" }.",
            );
        }
        let ValueKind::String(text) = &value.kind else {
            return misfit(
                format!("`{}.{name}` must be text, but is {}", key.name, kind_in_words(&value.kind)),
                "Write it in quotes.",
            );
        };
        if text.trim().is_empty() || text.chars().any(|c| c.is_control() || !c.is_ascii()) {
            return misfit(
                format!("`{}.{name}` is not the value of a header", key.name),
                "Write it in one line of plain characters.",
            );
        }
    }
    Ok(())
}

fn kind_in_words(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::String(_) => "text",
        ValueKind::Float(_) | ValueKind::I64(_) => "a number",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
        _ => "of another kind",
    }
}

fn mistyped(key: &ConfigKey, value: &Value) -> Result<(), ValueMisfit> {
    let found = kind_in_words(&value.kind);
    let (expected, cure) = match &key.kind {
        KeyKind::Boolean => ("true or false", "Write true or false, without quotes.".to_owned()),
        KeyKind::Integer => ("a whole number", "Write a whole number, without quotes.".to_owned()),
        KeyKind::Number => ("a number", "Write a number, without quotes.".to_owned()),
        KeyKind::Duration => {
            ("a duration", "Write it with a unit and in quotes, like \"15s\" or \"1h30m\".".to_owned())
        }
        KeyKind::Size => ("a size", "Write it with a unit and in quotes, like \"1MiB\".".to_owned()),
        KeyKind::TextList => ("a list", "Write it in brackets, like [\"one\", \"another\"].".to_owned()),
        KeyKind::ChoiceList(words) => ("a list", format!("Write it in brackets: some of {}.", listed(words))),
        KeyKind::Headers => ("a table", "Write it like { Authorization = \"Bearer …\" }.".to_owned()),
        KeyKind::Choice(words) => ("one of some words", format!("Write {}.", listed(words))),
        KeyKind::Text | KeyKind::TextOrNone | KeyKind::Address | KeyKind::TimeZone | KeyKind::Url | KeyKind::Rule => {
            ("text", "Write it in quotes.".to_owned())
        }
    };
    misfit(format!("`{}` must be {expected}, but is {found}", key.name), cure)
}

fn shaped(key: &ConfigKey, kind: &KeyKind, text: &str) -> Result<(), ValueMisfit> {
    let shown = if key.secrecy.is_some() { "unreadable".to_owned() } else { format!("`{text}`") };
    let is = format!("`{}` is {shown}", key.name);
    match kind {
        KeyKind::Duration => match duration::parse(text) {
            Ok(_) => Ok(()),
            Err(error) => misfit(
                format!("{is}, which is not a duration: {error}"),
                "Write it like \"200ms\", \"15s\", \"5m\", \"24h\" or \"1h30m\".",
            ),
        },
        KeyKind::Size => match size::parse(text) {
            Ok(_) => Ok(()),
            Err(error) => misfit(format!("{is}, which is not a size: {error}"), "Write it like \"1MiB\"."),
        },
        // A port alone would mean this machine, where no post of Conversica arrives.
        KeyKind::Address if key.name == "receive.listen" => match text.parse::<SocketAddr>() {
            Ok(_) => Ok(()),
            Err(_) => misfit(
                format!("{is}, which is not an IP address and port"),
                "Write them like \"0.0.0.0:8443\" or \"[::]:8443\"; host names are not resolved.",
            ),
        },
        KeyKind::Address => match address::parse(text) {
            Ok(_) => Ok(()),
            Err(_) => misfit(
                format!("{is}, which is not an IP address and port"),
                "Write them like \"127.0.0.1:9464\", \"0.0.0.0:8443\" or \"[::1]:9464\", or a port alone for this machine; host names are \
                 not resolved.",
            ),
        },
        KeyKind::TimeZone => match Tz::from_str(text) {
            Ok(_) => Ok(()),
            Err(_) => misfit(
                match nearest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
                    Some(near) => format!("{is}, which is not a time zone: did you mean `{near}`?"),
                    None => format!("{is}, which is not a time zone"),
                },
                "Write an IANA name like \"UTC\" or \"America/New_York\".",
            ),
        },
        KeyKind::Url => match url::Url::parse(text) {
            Ok(_) => Ok(()),
            Err(error) => {
                misfit(format!("`{}` is not a URL: {error}", key.name), "Write it whole, like \"https://host/path/\".")
            }
        },
        KeyKind::Choice(words) if !words.iter().any(|word| word == text) => misfit(
            match nearest(text, words.iter().map(String::as_str)) {
                Some(near) => format!("{is}, which is not known: did you mean `{near}`?"),
                None => format!("{is}, which is not known"),
            },
            format!("Write {}.", listed(words)),
        ),
        _ => Ok(()),
    }
}

fn listed(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::by_name;

    fn refused(key: &str, kind: impl Into<ValueKind>) -> String {
        let misfit = fits(by_name(key).unwrap(), &Value::new(None, kind)).unwrap_err();
        format!("{}\n{}", misfit.what, misfit.cure)
    }

    #[test]
    fn numbers_are_never_rounded_nor_read_from_text() {
        assert!(refused("delivery.concurrency", 2.9).contains("2.9, which is not a whole number"));
        assert!(refused("delivery.concurrency", "5").contains("must be a whole number, but is text"));
        assert!(refused("delivery.concurrency", -1).contains("out of range"));
        assert!(refused("delivery.requests_per_second", f64::NAN).contains("finite"));
    }

    #[test]
    fn a_wrong_word_lists_the_right_ones() {
        let message = refused("delivery.on_ambiguous", "resnd");
        assert!(message.contains("did you mean `resend`?") && message.contains("\"resend\", \"wait\" or \"hold\""));
    }

    #[test]
    fn shapes_are_explained() {
        assert!(refused("source.poll_interval", "15").contains("a unit is missing after `15`"));
        assert!(refused("source.poll_interval", 15).contains("with a unit and in quotes"));
        assert!(refused("admin.listen", "crm.example.com:9464").contains("127.0.0.1:9464"));
        assert!(refused("receive.listen", "8443").contains("0.0.0.0:8443"));
        assert!(refused("source.time_zone", "America/NewYork").contains("did you mean `America/New_York`?"));
        assert!(refused("receive.max_body", "1 megabyte").contains("1MiB"));
        assert!(refused("conversica.endpoint", "integrations").contains("not a URL"));
    }

    #[test]
    fn a_list_holds_texts() {
        let fit = |items: &[&str]| fits(by_name("lead.required").unwrap(), &Value::new(None, items.to_vec()));
        assert_eq!((fit(&[]), fit(&["city", "zip"])), (Ok(()), Ok(())));
        assert!(fit(&["city", " "]).unwrap_err().what.contains("`lead.required` has an empty entry"));
        assert!(refused("lead.required", vec![5]).contains("has an entry that is a number, not text"));
        assert!(refused("lead.required", "city").contains("must be a list, but is text\nWrite it in brackets"));
    }

    #[test]
    fn a_secret_is_not_repeated() {
        assert!(!refused("conversica.password", 4711).contains("4711"));
        assert!(!refused("conversica.endpoint", "hunter2 hunter2").contains("hunter2"));
    }
}
