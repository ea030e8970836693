//! The meaning of a value in an opt-out column, also in unlisted spellings: a flag of -1, an X, the date of the opt-out. Pure.
//!
//! Any value that is neither yes nor no counts as an opt-out, because people write into such a column when that lead opted out. A
//! value that means "nothing is set", or that cannot be read, is held for the operator.

use chrono::{Datelike, NaiveDate};

use crate::rules::value;
use crate::rules::value_fault::{NOT_A_NUMBER, NOT_SCALAR, UNREADABLE};

/// The meaning of a value of `optOut`, `smsOptOut` or `stopMessaging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOutValue {
    Yes,
    No,
    /// Neither yes nor no, but something: it counts as an opt-out.
    LikelyYes,
    /// It says nothing reliable, so the operator has to check.
    Unclear,
}

/// Continues a sentence after "it": why a lead with such a value is not sent. Operators read both reasons, and queries of the
/// state search for them.
pub const COUNTS_AS_OPT_OUT: &str = "is neither yes nor no, so it counts as an opt-out";
pub const MAY_BE_OPT_OUT: &str = "is neither yes nor no, and may be an opt-out";
/// The reason for an odd value that is one of many: see [`crate::rules::odd_opt_out`]. It begins like [`MAY_BE_OPT_OUT`], because
/// queries of the state search for that.
pub const TOO_MANY_OPT_OUTS: &str = "is neither yes nor no, and may be an opt-out; it is not sent as one, because many values are \
                                     like it or the key was mapped anew: correct the mapping or the values, or map what each value means";
/// The reasons for a value that its column's map does not have; they follow the words that say so.
pub const UNMAPPED_COUNTS: &str = "until then it counts as an opt-out";
pub const UNMAPPED_MAY_BE: &str = "until then it may be an opt-out";

impl OptOutValue {
    /// Whether the value withdraws consent.
    pub const fn withdraws(self) -> bool {
        matches!(self, Self::Yes | Self::LikelyYes)
    }
}

/// Words that mean "nothing is set", as their letters and digits.
const NOTHING_SET: [&str; 36] = [
    "none",
    "null",
    "nil",
    "nan",
    "na",
    "inf",
    "infinity",
    "undefined",
    "unknown",
    "unset",
    "notset",
    "blank",
    "empty",
    "never",
    "default",
    "pending",
    "maybe",
    "nein",
    "non",
    "nao",
    "não",
    "nie",
    "nej",
    "nee",
    "ne",
    "нет",
    "falsch",
    "faux",
    "falso",
    "falsk",
    "ok",
    "okay",
    "allowed",
    "permitted",
    "granted",
    "active",
];

/// Beginnings and parts of texts that say the opposite of an opt-out.
const OPPOSITES: [&str; 7] = ["optin", "optedin", "optsin", "resubscribe", "mayemail", "mayreceive", "wantsemail"];

/// Reads a value that is not blank.
pub fn read_opt_out(text: &str) -> OptOutValue {
    if [NOT_SCALAR, UNREADABLE, NOT_A_NUMBER].contains(&text) {
        return OptOutValue::Unclear;
    }
    if text.contains([char::REPLACEMENT_CHARACTER, '\u{ffff}']) {
        // A letter is lost, so the rest is no clear yes or no.
        let rest: String = text.replace([char::REPLACEMENT_CHARACTER, '\u{ffff}'], "");
        return match read_opt_out(rest.trim()) {
            OptOutValue::Yes | OptOutValue::LikelyYes => OptOutValue::LikelyYes,
            OptOutValue::No | OptOutValue::Unclear => OptOutValue::Unclear,
        };
    }
    match value::boolean(text) {
        Some(true) => return OptOutValue::Yes,
        Some(false) => return OptOutValue::No,
        None => {}
    }
    if let Some(bytes) = text.strip_prefix("\\x").and_then(decode_hex) {
        return read_bytes(&bytes);
    }
    if text.chars().all(char::is_control) {
        return read_bytes(text.as_bytes());
    }
    if let Ok(number) = text.parse::<f64>() {
        return match number {
            0.0 => OptOutValue::No,
            number if number.is_finite() => OptOutValue::LikelyYes,
            _ => OptOutValue::Unclear,
        };
    }
    if says_nothing(text) { OptOutValue::Unclear } else { OptOutValue::LikelyYes }
}

/// Parts of texts that name an opt-out.
const OPT_OUT_WORDS: [&str; 14] = [
    "optout",
    "optedout",
    "optsout",
    "optingout",
    "unsubscri",
    "donot",
    "dont",
    "stop",
    "nocontact",
    "noemail",
    "suppress",
    "désinscri",
    "abgemeldet",
    "abbestellt",
];

/// Whole values that people tick an opt-out with.
const OPT_OUT_MARKS: [&str; 9] = ["x", "dnc", "dne", "ja", "oui", "si", "sí", "sim", "tak"];

/// Whether a value certainly counts as an opt-out: it names an opt-out, is a tick, or is another spelling of a flag. Any other
/// value counts only if few are like it: see [`crate::rules::odd_opt_out`].
pub fn names_opt_out(text: &str) -> bool {
    if let Some(bytes) = text.strip_prefix("\\x").and_then(decode_hex) {
        return match std::str::from_utf8(&bytes).map(str::trim) {
            Ok(text) if text.chars().any(|c| !c.is_control()) => {
                value::boolean(text) == Some(true) || names_opt_out(text)
            }
            Ok(_) | Err(_) => true,
        };
    }
    if let Ok(number) = text.parse::<f64>() {
        return number.abs() == 1.0;
    }
    let letters = letters_of(text);
    text.chars().all(char::is_control)
        || is_ticked(text)
        || OPT_OUT_MARKS.contains(&letters.as_str())
        || OPT_OUT_WORDS.iter().any(|word| letters.contains(word))
}

/// Reads a value that has no entry in the map of its column. The map defines the values, so this one counts as an opt-out only if
/// it is spelled like one of the map's yeses, or names an opt-out in words.
pub fn read_unmapped<'m>(text: &str, map: impl Iterator<Item = (&'m String, &'m String)>) -> OptOutValue {
    let letters = letters_of(text);
    let mut yeses = map.filter(|(_, to)| read_opt_out(to.trim()).withdraws()).map(|(from, _)| letters_of(from));
    let is_written_like_a_yes = !letters.is_empty() && yeses.any(|yes| yes == letters);
    let has_word = ["optout", "optedout", "unsubscribe", "donot", "stop"].iter().any(|word| letters.contains(word));
    if is_written_like_a_yes || has_word && !says_nothing(text) { OptOutValue::LikelyYes } else { OptOutValue::Unclear }
}

fn letters_of(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a text means "nothing is set", or the opposite of an opt-out.
fn says_nothing(text: &str) -> bool {
    let letters = letters_of(text);
    let first_word = text.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty()).unwrap_or_default();
    let is_negated = ["not", "no", "never", "non"].iter().any(|no| first_word.eq_ignore_ascii_case(no));
    let is_subscribed = letters.contains("subscribed") && !letters.contains("unsubscribed");
    letters.chars().all(|c| c == '0') && !is_ticked(text)
        || NOTHING_SET.contains(&letters.as_str())
        || OPPOSITES.iter().any(|opposite| letters.contains(opposite))
        || is_negated
        || is_subscribed
        || is_placeholder_date(text)
}

fn is_ticked(text: &str) -> bool {
    text.contains(['\u{2713}', '\u{2714}', '\u{2611}', '\u{2612}', '\u{2717}', '\u{2718}', '\u{2705}'])
}

/// 1900-01-01, 1970-01-01 and 9999-12-31 mean "never".
fn is_placeholder_date(text: &str) -> bool {
    let date = text.get(..10).and_then(|date| NaiveDate::parse_from_str(date, "%Y-%m-%d").ok());
    date.is_some_and(|date| !(1990..2100).contains(&date.year()))
}

/// A column of bytes holds a flag of one bit, or a text.
fn read_bytes(bytes: &[u8]) -> OptOutValue {
    match std::str::from_utf8(bytes).map(str::trim) {
        Ok(text) if text.chars().any(|c| !c.is_control()) => read_opt_out(text),
        _ if bytes.iter().all(|byte| *byte == 0) => OptOutValue::Unclear,
        _ if bytes.len() == 1 => OptOutValue::LikelyYes,
        _ => OptOutValue::Unclear,
    }
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use OptOutValue::{LikelyYes, No, Unclear, Yes};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_value_that_is_neither_yes_nor_no_counts_as_an_opt_out_where_it_says_something() {
        for (value, said) in [
            ("1", Yes),
            ("true", Yes),
            ("0", No),
            ("0.00", No),
            ("-0", No),
            ("-1", LikelyYes),
            ("1.00", LikelyYes),
            ("2", LikelyYes),
            ("X", LikelyYes),
            ("\u{2713}", LikelyYes),
            ("2026-11-20 10:00", LikelyYes),
            ("20/11/2026", LikelyYes),
            ("Opted out", LikelyYes),
            ("Unsubscribed", LikelyYes),
            ("$1.00", LikelyYes),
            ("\\x01", LikelyYes),
            ("\\x59", Yes),
            ("\u{1}", LikelyYes),
            ("Désinscrit", LikelyYes),
            ("D\u{fffd}sinscrit", LikelyYes),
            ("n\u{fffd}", Unclear),
            ("\u{fffd}\u{fffd}", Unclear),
            ("\\x00", Unclear),
            ("\u{0}", Unclear),
            ("$0.00", Unclear),
            ("0000-00-00", Unclear),
            ("1900-01-01", Unclear),
            ("9999-12-31 23:59:59", Unclear),
            ("N/A", Unclear),
            ("-", Unclear),
            ("?", Unclear),
            ("Not opted out", Unclear),
            ("Opted in", Unclear),
            ("Subscribed", Unclear),
            ("NaN", Unclear),
            (NOT_SCALAR, Unclear),
            (NOT_A_NUMBER, Unclear),
        ] {
            assert_eq!(read_opt_out(value), said, "{value:?}");
        }
    }

    #[test]
    fn an_opt_out_is_certain_where_the_value_names_it_or_is_a_flag() {
        for certain in [
            "-1",
            "1.00",
            "X",
            "\u{2713}",
            "\\x01",
            "\u{1}",
            "Opted out",
            "Unsubscribed",
            "DO NOT CONTACT",
            "Désinscrit",
            "Stopped",
        ] {
            assert!(names_opt_out(certain), "{certain:?}");
        }
        for odd in [
            "2",
            "-5",
            "New",
            "Open",
            "Eligible",
            "email,sms",
            "2026-11-20 10:00",
            "20/11/2026",
            "\\x4e6577",
            "Valid",
            "$1.00",
        ] {
            assert!(read_opt_out(odd).withdraws() && !names_opt_out(odd), "{odd:?}");
        }
    }

    #[test]
    fn the_map_of_a_column_says_what_its_values_mean() {
        let map = BTreeMap::from([("Unsubscribed", "true"), ("Y", "yes"), ("Subscribed", "false")]);
        let map: BTreeMap<String, String> = map.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        for (value, said) in [
            ("UNSUBSCRIBED", LikelyYes),
            ("y", LikelyYes),
            ("Opted out", LikelyYes),
            ("Do not contact", LikelyYes),
            ("Hot", Unclear),
            ("1", Unclear),
            ("not opted out", Unclear),
        ] {
            assert_eq!(read_unmapped(value, map.iter()), said, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn every_value_that_says_yes_or_no_is_read_as_it_is(text in "\\PC{1,20}") {
            prop_assume!(!text.starts_with("\\x"));
            match value::boolean(&text) {
                Some(true) => prop_assert_eq!(read_opt_out(&text), Yes),
                Some(false) => prop_assert_eq!(read_opt_out(&text), No),
                None => prop_assert_ne!(read_opt_out(&text), Yes),
            }
        }
    }
}
