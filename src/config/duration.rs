//! Durations as people write them: `200ms`, `15s`, `5m`, `24h`, `90d`, `1h30m`. Pure.
//!
//! Strict: a unit after every number, larger units first, nothing between them. A number without a unit is refused,
//! because a reader cannot tell seconds from milliseconds.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Visitor};

/// The units, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A century: longer ones are mistakes, and adding them to an instant would overflow.
const LONGEST: Duration = Duration::from_millis(36_500 * 86_400_000);

/// Why a text is not a duration. The message does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("it is empty")]
    Empty,
    #[error("a number is expected before `{0}`")]
    NoNumber(String),
    #[error("a unit is missing after `{0}`")]
    NoUnit(String),
    #[error("`{0}` is not a unit; the units are d, h, m, s and ms")]
    UnknownUnit(String),
    #[error("`{0}` must come before the smaller units, and only once")]
    Order(&'static str),
    #[error("it is longer than 100 years")]
    TooLong,
}

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut allowed = &UNITS[..];
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        if number.is_empty() {
            return Err(DurationError::NoNumber(rest.to_owned()));
        }
        let (unit, after) = split(after, |c| !c.is_ascii_digit());
        if unit.is_empty() {
            return Err(DurationError::NoUnit(number.to_owned()));
        }
        let Some(&(name, unit_ms)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(DurationError::UnknownUnit(unit.to_owned()));
        };
        let Some(position) = allowed.iter().position(|(other, _)| *other == name) else {
            return Err(DurationError::Order(name));
        };
        allowed = &allowed[position + 1..];
        let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
        let part_ms = number.checked_mul(unit_ms).ok_or(DurationError::TooLong)?;
        total_ms = total_ms.checked_add(part_ms).ok_or(DurationError::TooLong)?;
        rest = after;
    }
    let duration = Duration::from_millis(total_ms);
    if duration > LONGEST { Err(DurationError::TooLong) } else { Ok(duration) }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// Writes a duration so that [`parse`] reads the same one; parts below a millisecond are cut off.
pub fn format(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis();
    let mut text = String::new();
    for (name, unit_ms) in UNITS {
        let count = rest_ms / u128::from(unit_ms);
        rest_ms %= u128::from(unit_ms);
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// For `#[serde(with = "duration")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct DurationVisitor;
    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"15s\" or \"1h30m\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(|error| E::custom(format_args!("`{text}` is not a duration: {error}")))
        }
    }
    deserializer.deserialize_str(DurationVisitor)
}

/// The JSON Schema of a duration.
pub struct DurationText;

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(d|h|ms|m|s))+$", "x-kind": "duration" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_contract_are_read() {
        for (text, ms) in [
            ("200ms", 200),
            ("15s", 15_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("90d", 7_776_000_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "15", "s", "15 s", " 15s", "1.5h", "-1s", "15S", "15sec", "30m1h", "1s1s", "1w", "5µs", "40000d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("99999999999999999999s").is_err());
        assert!(parse("18446744073709551615d").is_err());
    }

    #[test]
    fn a_number_without_a_unit_is_explained() {
        assert_eq!(parse("15"), Err(DurationError::NoUnit("15".to_owned())));
        assert_eq!(parse("15").unwrap_err().to_string(), "a unit is missing after `15`");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0..=36_500_u64 * 86_400_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            let _ = parse(&text);
        }
    }
}
