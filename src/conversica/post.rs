//! A post of Conversica, after it was read.

use chrono::DateTime;
use chrono::SecondsFormat;
use serde_json::Map;
use serde_json::Value;

use crate::conversica::lead::{ContentFingerprint, LeadId, ValueKind};

/// The kind of a post, which follows from the path that it is posted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostKind {
    LeadUpdate,
    Message,
    ChatLead,
}

impl PostKind {
    pub const ALL: [PostKind; 3] = [PostKind::LeadUpdate, PostKind::Message, PostKind::ChatLead];

    /// The name in SQL, JSON, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            PostKind::LeadUpdate => "lead_update",
            PostKind::Message => "message",
            PostKind::ChatLead => "chat_lead",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The published keys beside `id`, `leadId` and `clientId`, and the type of each.
    pub const fn keys(self) -> &'static [(&'static str, ValueKind)] {
        use ValueKind::{Boolean, Datetime, Text};
        match self {
            PostKind::LeadUpdate => &[
                ("apiVersion", Text),
                ("dateAdded", Datetime),
                ("firstMessageDate", Datetime),
                ("lastMessageDate", Datetime),
                ("lastResponseDate", Datetime),
                ("hotLead", Boolean),
                ("hotLeadDate", Datetime),
                ("leadAtRisk", Boolean),
                ("leadAtRiskDate", Datetime),
                ("actionRequired", Boolean),
                ("actionRequiredDate", Datetime),
                ("leadStatus", Text),
                ("leadStatusDate", Datetime),
                ("conversationStage", Text),
                ("conversationStageDate", Datetime),
                ("conversationStatus", Text),
                ("conversationStatusDate", Datetime),
                ("doNotEmail", Boolean),
                ("smsOptIn", Boolean),
                ("smsOptOut", Boolean),
                ("discoveredPhone1", Text),
                ("discoveredPhone2", Text),
                ("discoveredEmail1", Text),
                ("discoveredEmail2", Text),
            ],
            PostKind::Message => {
                &[("apiVersion", Text), ("action", Text), ("date", Datetime), ("subject", Text), ("body", Text)]
            }
            // `conversationHistory` is kept in any form.
            PostKind::ChatLead => &[("apiVersion", Text), ("firstName", Text), ("lastName", Text), ("email", Text)],
        }
    }

    /// The keys, beside the lead's id, that a post of this kind needs to be of use.
    pub(crate) const fn required(self) -> &'static [&'static str] {
        match self {
            PostKind::LeadUpdate => &[],
            // Subject, version and client are published as required too; without them a message still says who said what.
            PostKind::Message => &["action", "date", "body"],
            PostKind::ChatLead => &["firstName", "lastName", "email", "conversationHistory"],
        }
    }

    pub(crate) fn type_of(self, key: &str) -> Option<ValueKind> {
        self.keys().iter().find(|(name, _)| *name == key).map(|(_, kind)| *kind)
    }
}

/// A readable post.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedPost {
    pub kind: PostKind,
    /// As posted: `id` or `leadId`, and `clientId` or blank. Both blank for chat leads without them.
    pub lead: LeadId,
    /// Every other value of `id` and `leadId`: the post may be about that lead.
    pub other_ids: Vec<String>,
    /// The other keys and their values, each of its published type; keys without a value (`null`) are left out.
    pub content: Map<String, Value>,
    /// Unusable parts of the post, each with its published key: values of a type without a possible meaning, and earlier values
    /// of a key that comes twice.
    pub unused: Vec<(String, Value)>,
    /// Repaired damage and omissions: sentences for display.
    pub notes: Vec<String>,
}

impl ReceivedPost {
    /// Adds a value, if it has a possible meaning. If a key comes twice, the withdrawal counts for keys of consent, and the last
    /// value for others.
    pub(crate) fn add(&mut self, key: String, value: Value) {
        let value = match self.kind.type_of(&key) {
            None => value,
            Some(wanted) => match typed(wanted, &value) {
                Some(value) => value,
                None => {
                    self.notes.push(format!("{key} was left out: it is not {}", named_type(wanted)));
                    self.unused.push((key, value));
                    return;
                }
            },
        };
        let withdraws = |value: &Value| match key.as_str() {
            "doNotEmail" | "smsOptOut" => *value == Value::Bool(true),
            "smsOptIn" => *value == Value::Bool(false),
            _ => false,
        };
        match self.content.get(&key).cloned() {
            Some(earlier) if earlier == value => {}
            Some(earlier) if withdraws(&earlier) => self.replace(&key, value),
            Some(earlier) => {
                self.replace(&key, earlier);
                self.content.insert(key, value);
            }
            None => _ = self.content.insert(key, value),
        }
    }

    /// Keeps the value that does not count, of a key that comes twice.
    pub(crate) fn replace(&mut self, key: &str, unused: Value) {
        let is_published = key == "id" || self.kind.type_of(key).is_some();
        let name = if is_published { key } else { "an unknown key" };
        self.notes.push(format!("{name} comes twice, with two values"));
        self.unused.push((key.to_owned(), unused));
    }

    /// The same for every arrival of the same kind, lead and content, in any order of keys.
    pub fn content_hash(&self) -> ContentFingerprint {
        let mut canonical = serde_json::json!([self.kind.name(), self.lead.id, self.lead.client_id]).to_string();
        write_sorted(&self.content, &mut canonical);
        if !self.other_ids.is_empty() {
            canonical.push_str(&serde_json::json!(self.other_ids).to_string());
        }
        if !self.unused.is_empty() {
            // They may be the important part.
            canonical.push_str(&serde_json::json!(self.unused).to_string());
        }
        ContentFingerprint::of(canonical.as_bytes())
    }
}

pub(crate) fn named_type(wanted: ValueKind) -> &'static str {
    match wanted {
        ValueKind::Boolean => "a boolean",
        ValueKind::Text => "a string",
        ValueKind::Datetime => "a datetime, which is a string",
    }
}

/// Converts the value to its published type, if it has only one possible meaning. Datetimes stay texts in their original form,
/// because the caller compares them; numbers become such texts.
pub(crate) fn typed(wanted: ValueKind, value: &Value) -> Option<Value> {
    match (wanted, value) {
        (ValueKind::Boolean, Value::Bool(yes)) => Some(Value::Bool(*yes)),
        (ValueKind::Boolean, Value::String(text)) => boolean(text),
        (ValueKind::Boolean, Value::Number(number)) => match number.as_f64() {
            Some(1.0) => Some(Value::Bool(true)),
            Some(0.0) => Some(Value::Bool(false)),
            _ => None,
        },
        (ValueKind::Boolean, _) => None,
        (ValueKind::Text, Value::String(text)) => Some(Value::String(text.clone())),
        (ValueKind::Text, Value::Number(number)) => Some(Value::String(number.to_string())),
        (ValueKind::Text, Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::Null) => None,
        (ValueKind::Datetime, Value::String(text)) => {
            let instant = text.trim().parse().ok().and_then(epoch);
            Some(Value::String(instant.unwrap_or_else(|| text.clone())))
        }
        (ValueKind::Datetime, Value::Number(number)) => {
            Some(Value::String(number.as_f64().and_then(epoch).unwrap_or_else(|| number.to_string())))
        }
        (ValueKind::Datetime, _) => None,
    }
}

/// The object with its keys in byte order, at every depth.
pub(crate) fn write_sorted(object: &Map<String, Value>, text: &mut String) {
    let mut entries: Vec<(&String, &Value)> = object.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    text.push('{');
    for (key, value) in entries {
        text.push_str(&Value::String(key.clone()).to_string());
        text.push(':');
        write_value(value, text);
        text.push(',');
    }
    text.push('}');
}

pub(crate) fn boolean(text: &str) -> Option<Value> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "t" | "on" | "1" => Some(Value::Bool(true)),
        "false" | "no" | "n" | "f" | "off" | "0" => Some(Value::Bool(false)),
        _ => None,
    }
}

/// Seconds, milliseconds or microseconds since 1970, in the years 2001 to 2100; another number is no time.
pub(crate) fn epoch(number: f64) -> Option<String> {
    let seconds = [1.0, 1e3, 1e6].map(|unit| number / unit).into_iter().find(|s| (1e9..4.2e9).contains(s))?;
    let at = DateTime::from_timestamp_micros((seconds * 1e6).round() as i64)?;
    Some(at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

pub(crate) fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => write_sorted(object, text),
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_value(value, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}
