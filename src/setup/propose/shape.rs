//! Shapes of sampled values. Pure.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use crate::rules::source_column::TypeFamily;
use crate::rules::value;
use crate::setup::introspect::table::TableColumn;

/// Fewer values than this prove nothing about a column.
const ENOUGH: usize = 3;

/// How well values have a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeFit {
    /// Nearly all have it.
    Fits,
    /// Too few values to tell, or a mixture.
    Unsure,
    /// Hardly any has it.
    Misfits,
}

/// How well a column's values pass a test.
pub fn fit(column: &TableColumn, is: impl Fn(&str) -> bool) -> ShapeFit {
    let (mut all, mut fitting) = (0_usize, 0_usize);
    for value in column.values() {
        all += 1;
        fitting += usize::from(is(value));
    }
    match all {
        0 => ShapeFit::Unsure,
        _ if fitting * 10 >= all * 8 => ShapeFit::Fits,
        all if all >= ENOUGH && fitting * 10 < all * 3 => ShapeFit::Misfits,
        _ => ShapeFit::Unsure,
    }
}

pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    !local.is_empty() && domain.contains('.') && !text.contains(char::is_whitespace) && !domain.starts_with('.')
}

/// Whether a text is digits and the usual separators.
pub fn is_phone(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let others =
        text.chars().filter(|c| !c.is_ascii_digit() && !matches!(c, ' ' | '+' | '-' | '(' | ')' | '/' | '.' | 'x'));
    (6..=18).contains(&digits)
        && others.count() == 0
        && !text.contains("://")
        && value::datetime(text, Tz::UTC).is_none_or(|_| !text.contains(':'))
}

/// Whether a text has letters, and no more digits than letters.
pub fn is_words(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    letters > 0 && text.chars().filter(char::is_ascii_digit).count() <= letters
}

pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

pub fn is_time(text: &str) -> bool {
    value::datetime(text, Tz::UTC).is_some()
}

/// `{"en_US": "New", "de_DE": "Neu"}`: one text in several languages.
pub fn is_translations(text: &str) -> bool {
    let Ok(serde_json::Value::Object(entries)) = serde_json::from_str(text) else { return false };
    let is_language = |name: &String| {
        let language = name.split(['_', '-']).next().unwrap_or_default();
        (2..=3).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_lowercase())
    };
    !entries.is_empty() && entries.iter().all(|(name, value)| is_language(name) && value.is_string())
}

/// Words for yes and no that the mapping does not know by itself.
const YES: [&str; 11] = ["ja", "j", "oui", "o", "si", "sí", "s", "x", "wahr", "vrai", "verdadero"];
const NO: [&str; 6] = ["nein", "non", "falsch", "faux", "falso", "-"];

/// Yes or no, in words that the mapping knows or that a map can translate.
pub fn truth(text: &str) -> Option<bool> {
    value::boolean(text).or_else(|| {
        let lower = text.to_lowercase();
        let is = |words: &[&str]| words.contains(&lower.as_str());
        is(&YES).then_some(true).or_else(|| is(&NO).then_some(false))
    })
}

/// Whether a column says what a key asks, or the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TruthSense {
    Same,
    Opposite,
}

/// The map entries that make every sampled yes and no readable; empty where none are needed.
pub fn truth_map(column: &TableColumn, sense: TruthSense) -> BTreeMap<String, String> {
    let inverted = sense == TruthSense::Opposite;
    let mut map = BTreeMap::new();
    let mut needed = inverted;
    for word in column.values() {
        needed |= value::boolean(word).is_none();
        if let Some(truth) = truth(word) {
            map.insert(word.to_owned(), (truth != inverted).to_string());
        }
    }
    if !needed {
        return BTreeMap::new();
    }
    // Adds the counterpart of a sampled word, in the same spelling.
    for (yes, no) in [
        ("1", "0"),
        ("true", "false"),
        ("t", "f"),
        ("ja", "nein"),
        ("oui", "non"),
        ("Y", "N"),
        ("J", "N"),
        ("yes", "no"),
    ] {
        let spelt = map.contains_key(yes) || map.contains_key(no);
        if spelt || (map.is_empty() && matches!(yes, "1" | "true")) {
            map.entry(yes.to_owned()).or_insert_with(|| (!inverted).to_string());
            map.entry(no.to_owned()).or_insert_with(|| inverted.to_string());
        }
    }
    if inverted {
        // PostgreSQL writes booleans as words, SQLite as numbers.
        for (yes, no) in [("1", "0"), ("true", "false")] {
            map.entry(yes.to_owned()).or_insert_with(|| false.to_string());
            map.entry(no.to_owned()).or_insert_with(|| true.to_string());
        }
    }
    map
}

pub fn is_time_column(column: &TableColumn) -> bool {
    match column.family {
        TypeFamily::Date | TypeFamily::Timestamp | TypeFamily::TimestampTz => true,
        TypeFamily::Text | TypeFamily::Other(_) => {
            fit(column, is_time) == ShapeFit::Fits && column.values().next().is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_told_apart() {
        assert!(is_email("ann@example.com") && !is_email("Ann <ann@example.com>") && !is_email("ann"));
        assert!(is_phone("+49 (30) 1234-567") && !is_phone("12") && !is_phone("2026-01-02 10:00:00"));
        assert!(is_words("O'Neill 2nd") && !is_words("123"));
        assert!(is_uuid("00000000-0000-4000-8000-000000000001") && !is_uuid("1"));
        assert!(
            is_translations(r#"{"en_US":"New","de_DE":"Neu"}"#)
                && !is_translations(r#"{"a":1}"#)
                && !is_translations("New")
        );
        assert_eq!(
            (truth("ja"), truth("Non"), truth("1"), truth("maybe")),
            (Some(true), Some(false), Some(true), None)
        );
    }
}
