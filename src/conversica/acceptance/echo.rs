//! What an answer repeats of the request says nothing about the outcome: a CRM's own field may hold "Please log in". Pure.

use std::collections::HashMap;

use serde_json::Value;

use super::vocabulary::plain_key;

/// The answer without what it repeats of the Lead object `sent`; `None` where it repeats nothing, or is no JSON.
pub(super) fn remove_echo(answer: &str, sent: &str) -> Option<String> {
    let Ok(Value::Object(sent)) = serde_json::from_str(sent) else { return None };
    let mut answer: Value = serde_json::from_str(answer).ok()?;
    let sent = SentValues(sent.iter().filter_map(|(key, value)| Some((plain_key(key), as_text(value)?))).collect());
    sent.remove_from(&mut answer).then(|| answer.to_string())
}

/// The values of a Lead object, by their keys.
struct SentValues(HashMap<String, String>);

impl SentValues {
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
