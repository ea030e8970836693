//! What an answer repeats of the request says nothing about the outcome: a CRM's own field may hold "Please log in". Pure.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use serde_json::value::RawValue;

use super::vocabulary::plain_key;

/// The answer without what it repeats of the Lead object `sent`; `None` where it repeats nothing, or is no JSON.
pub(super) fn remove_echo(answer: &str, sent: &str) -> Option<String> {
    let mut answer: Value = serde_json::from_str(answer).ok()?;
    let mut keys = HashSet::new();
    add_keys(&answer, &mut keys);
    let sent = SentValues::of(sent, &keys)?;
    sent.remove_from(&mut answer).then(|| answer.to_string())
}

/// Adds the keys of all objects in the answer.
fn add_keys(answer: &Value, keys: &mut HashSet<String>) {
    match answer {
        Value::Object(object) => {
            keys.extend(object.keys().map(|key| plain_key(key)));
            object.values().for_each(|value| add_keys(value, keys));
        }
        Value::Array(values) => values.iter().for_each(|value| add_keys(value, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The values of a Lead object, by their keys.
struct SentValues(HashMap<String, String>);

impl SentValues {
    /// The values under these keys; `None` where there are none. Every answer is compared with its request, and most repeat none of
    /// its keys, so the other values are not read.
    fn of(sent: &str, keys: &HashSet<String>) -> Option<Self> {
        let sent: HashMap<String, &RawValue> = serde_json::from_str(sent).ok()?;
        let named = sent.into_iter().map(|(key, value)| (plain_key(&key), value));
        let named = named.filter(|(key, _)| keys.contains(key));
        let read = named.filter_map(|(key, value)| Some((key, as_text(&serde_json::from_str(value.get()).ok()?)?)));
        let values: HashMap<String, String> = read.collect();
        (!values.is_empty()).then_some(Self(values))
    }

    /// Whether anything was removed.
    fn remove_from(&self, answer: &mut Value) -> bool {
        match answer {
            Value::Object(object) => {
                let before = object.len();
                object.retain(|key, value| !self.has(key, value));
                let is_shorter = object.len() < before;
                object.values_mut().fold(is_shorter, |removed, value| self.remove_from(value) || removed)
            }
            Value::Array(values) => {
                let mut is_shorter = false;
                for value in values {
                    is_shorter |= self.remove_from(value);
                }
                is_shorter
            }
            _ => false,
        }
    }

    fn has(&self, key: &str, value: &Value) -> bool {
        as_text(value).is_some_and(|text| self.0.get(&plain_key(key)) == Some(&text))
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_value_under_the_same_key_is_an_echo() {
        let sent = r#"{"id":"1","note":"Please log in","optOut":false,"status":"Rejected"}"#;
        let of = |answer: &str| remove_echo(answer, sent);
        assert_eq!(of(r#"{"note":"Please log in","ok":1}"#).as_deref(), Some(r#"{"ok":1}"#));
        assert_eq!(of(r#"{"leads":[{"ID":1,"Status":"Rejected"}]}"#).as_deref(), Some(r#"{"leads":[{}]}"#));
        for other in [r#"{"message":"Please log in"}"#, r#"{"status":"rejected"}"#, "{}", "no", r#"{"id":"1""#] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
