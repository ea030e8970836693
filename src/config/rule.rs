//! Reads a [`FieldRule`], the rule for one key of the Lead object, and makes its JSON Schema. Pure.
//!
//! Written by hand, because an untagged enum answers every mistake with "did not match any variant".

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::config::{FieldRule, LeadSettings, WhenNull};
use crate::conversica::lead::LeadKey;
use crate::nearest::nearest;

/// The parts of a rule.
pub const PARTS: [&str; 5] = ["column", "default", "map", "when_null", "value"];

const FORMS: &str = "write \"column\", { column = \"…\", default = \"…\", map = { … }, when_null = \"omit\" } or \
                     { value = \"…\" }";

impl FieldRule {
    /// The rule for a bare column name.
    pub fn column(name: impl Into<String>) -> Self {
        Self::Column { column: name.into(), default: None, map: BTreeMap::new(), when_null: WhenNull::Omit }
    }
}

impl<'de> Deserialize<'de> for FieldRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RuleVisitor)
    }
}

struct RuleVisitor;

impl<'de> Visitor<'de> for RuleVisitor {
    type Value = FieldRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a column or a rule; {FORMS}")
    }

    fn visit_str<E: Error>(self, column: &str) -> Result<FieldRule, E> {
        Ok(FieldRule::column(filled("column", column)?))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<FieldRule, A::Error> {
        let (mut column, mut default, mut map, mut when_null, mut value) = (None, None, None, None, None);
        while let Some(name) = parts.next_key::<String>()? {
            let part: Value = parts.next_value()?;
            match name.as_str() {
                "column" => column = Some(filled("column", text(&name, &part)?)?),
                "default" => default = Some(scalar(&name, &part)?),
                "map" => map = Some(translations(&part)?),
                "when_null" => when_null = Some(when_null_from(&part)?),
                "value" => value = Some(scalar(&name, &part)?),
                unknown => return Err(unknown_part(unknown)),
            }
        }
        match (column, value) {
            (Some(column), None) => Ok(FieldRule::Column {
                column,
                default,
                map: map.unwrap_or_default(),
                when_null: when_null.unwrap_or(WhenNull::Omit),
            }),
            (None, Some(value)) => {
                let beside =
                    [("default", default.is_some()), ("map", map.is_some()), ("when_null", when_null.is_some())];
                match beside.iter().find(|(_, present)| *present) {
                    Some((name, _)) => Err(A::Error::custom(format_args!(
                        "`{name}` has no meaning beside `value`, which is sent for every lead"
                    ))),
                    None => Ok(FieldRule::Value(value)),
                }
            }
            (Some(_), Some(_)) => Err(A::Error::custom("`column` and `value` exclude each other; remove one of them")),
            (None, None) => Err(A::Error::custom(format_args!("neither `column` nor `value` is set; {FORMS}"))),
        }
    }
}

fn unknown_part<E: Error>(name: &str) -> E {
    match nearest(name, PARTS) {
        Some(near) => E::custom(format_args!("unknown name `{name}`: did you mean `{near}`?")),
        None => E::custom(format_args!("unknown name `{name}`; the names are {}", PARTS.join(", "))),
    }
}

fn text<'a, E: Error>(name: &str, value: &'a Value) -> Result<&'a str, E> {
    value.as_str().ok_or_else(|| E::custom(format_args!("`{name}` must be text in quotes, not {}", kind(value))))
}

fn filled<E: Error>(name: &str, text: &str) -> Result<String, E> {
    if text.trim().is_empty() {
        return Err(E::custom(format_args!("`{name}` is empty")));
    }
    Ok(text.to_owned())
}

/// Numbers and booleans become the text in the file: every value is sent as text in the end.
fn scalar<E: Error>(name: &str, value: &Value) -> Result<String, E> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        other => Err(E::custom(format_args!("`{name}` must be one value, not {}", kind(other)))),
    }
}

fn translations<E: Error>(value: &Value) -> Result<BTreeMap<String, String>, E> {
    let Value::Object(entries) = value else {
        return Err(E::custom(format_args!("`map` must be a table like {{ \"1\" = \"New\" }}, not {}", kind(value))));
    };
    let read = |(from, to): (&String, &Value)| Ok((from.clone(), scalar(&format!("map.{from}"), to)?));
    entries.iter().map(read).collect()
}

fn when_null_from<E: Error>(value: &Value) -> Result<WhenNull, E> {
    WhenNull::deserialize(value).map_err(|_| E::custom("`when_null` must be \"omit\" or \"empty\""))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

impl JsonSchema for FieldRule {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FieldRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let scalar = json!({ "type": ["string", "number", "boolean"] });
        json_schema!({
            "x-kind": "rule",
            "oneOf": [
                { "type": "string", "minLength": 1, "description": "The column that holds the value." },
                {
                    "type": "object",
                    "properties": {
                        "column": { "type": "string", "minLength": 1, "description": "The column." },
                        "default": {
                            "type": ["string", "number", "boolean"],
                            "description": "Used where the column is NULL or blank."
                        },
                        "map": {
                            "type": "object",
                            "additionalProperties": scalar,
                            "description": "CRM value to Conversica value; \"*\" catches every other value."
                        },
                        "when_null": { "enum": ["omit", "empty"], "description": "What is sent for no value." }
                    },
                    "required": ["column"],
                    "additionalProperties": false
                },
                {
                    "type": "object",
                    "properties": {
                        "value": {
                            "type": ["string", "number", "boolean"],
                            "description": "The same value for every lead."
                        }
                    },
                    "required": ["value"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

impl JsonSchema for LeadSettings {
    fn schema_name() -> Cow<'static, str> {
        "Lead".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rule = FieldRule::json_schema(generator);
        let mut properties: Map<String, Value> =
            LeadKey::ALL.iter().map(|key| (key.name().to_owned(), rule.clone().to_value())).collect();
        properties.insert(
            "required".to_owned(),
            json!({
                "type": "array",
                "items": { "type": "string" },
                "description": "Further keys that this account requires: a lead without one is invalid.",
            }),
        );
        properties.insert(
            "custom".to_owned(),
            json!({
                "type": "object",
                "description": "Keys agreed with Conversica beyond the published ones.",
                "additionalProperties": rule,
            }),
        );
        json_schema!({
            "type": "object",
            "description": "Which column fills which key of Conversica's Lead object.",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<FieldRule, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(read(json!("email")), Ok(FieldRule::column("email")));
        assert_eq!(read(json!({ "value": "Inbound" })), Ok(FieldRule::Value("Inbound".to_owned())));
        let map = json!({ "1": true, "Do Not Call": 2.5, "a.b": "x" });
        let full = json!({ "column": "status", "default": 1, "map": map, "when_null": "empty" });
        let map = [("1", "true"), ("Do Not Call", "2.5"), ("a.b", "x")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(
            read(full),
            Ok(FieldRule::Column {
                column: "status".to_owned(),
                default: Some("1".to_owned()),
                map: map.into(),
                when_null: WhenNull::Empty
            })
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (value, expected) in [
            (json!({ "colum": "email" }), "did you mean `column`?"),
            (json!({ "column": "a", "value": "b" }), "exclude each other"),
            (json!({ "value": "b", "default": "c" }), "`default` has no meaning beside `value`"),
            (json!({ "default": "c" }), "neither `column` nor `value`"),
            (json!({ "column": 5 }), "`column` must be text in quotes, not a number"),
            (json!({ "column": "a", "map": ["x"] }), "`map` must be a table"),
            (json!({ "column": "a", "map": { "x": [] } }), "`map.x` must be one value"),
            (json!({ "column": "a", "when_null": "skip" }), "\"omit\" or \"empty\""),
            (json!(""), "`column` is empty"),
            (json!(5), "a column or a rule"),
        ] {
            let message = read(value.clone()).unwrap_err();
            assert!(message.contains(expected), "{value}: {message}");
        }
    }
}
