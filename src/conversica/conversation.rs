//! The picture that all Lead Updates of a lead add up to, whatever the order of their arrival. Pure.
//!
//! A Lead Update says only what changed: a missing key means unchanged. For the keys that it has:
//!
//! - A status is dated by its own date (`hotLead` by `hotLeadDate`) if the update has one. Every other key, and a status whose
//!   own date is missing or unreadable, is dated by the newest datetime of the update. `dateAdded` and `firstMessageDate` do not
//!   count for this, because they say when something began. A datetime is dated by itself.
//! - A dated value replaces the stored one, unless a later date was heard for its key. Of equal dates the greater JSON text wins.
//!   Of `dateAdded` and `firstMessageDate` the earliest is kept.
//! - `doNotEmail`, `smsOptOut` and `smsOptIn` follow the rule of [`crate::conversica::consent`]: a withdrawal always replaces the
//!   stored value; a grant replaces a withdrawal if it is posted later and dated later.
//! - If an update has no date at all, the value heard later wins. An unreadable datetime counts as undated, and is kept as text.
//! - No sender can make a picture grow without limit: long values, and more unknown keys than [`MAX_UNKNOWN_KEYS`], are left
//!   out. They are still in the event.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::conversica::heard_dates::{BEGINNINGS, HeardDates};
use crate::conversica::post::PostKind;
use crate::conversica::{consent, vocabulary};
use crate::horizon;

/// The longest value that a picture holds, as JSON text.
pub const MAX_VALUE_BYTES: usize = 4096;
/// The longest name of an unknown key.
pub const MAX_KEY_BYTES: usize = 200;
/// How many unpublished keys a picture holds.
pub const MAX_UNKNOWN_KEYS: usize = 200;

/// A lead's picture, with the age of each part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeardConversation {
    pub picture: BTreeMap<String, Value>,
    versions: BTreeMap<String, ValueVersion>,
}

/// The age of a value. In JSON it is the date in microseconds. For a value without a date it is a pair: the newest date that was
/// heard for its key (or null), and the instant at which the value was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ValueVersion {
    /// The newest date that was heard for this key; for [`BEGINNINGS`], the earliest.
    date: Option<i64>,
    /// When the value was heard, if it has no date.
    undated: Option<i64>,
}

impl ValueVersion {
    /// The time of the value.
    fn at(self) -> i64 {
        self.undated.or(self.date).unwrap_or(i64::MIN)
    }

    fn to_json(self) -> Value {
        match self.undated {
            None => self.date.into(),
            Some(heard) => Value::from(vec![Value::from(self.date), heard.into()]),
        }
    }

    fn of_json(value: &Value) -> Self {
        match value.as_array() {
            None => Self { date: value.as_i64(), undated: None },
            Some(pair) => Self {
                date: pair.first().and_then(Value::as_i64),
                undated: Some(pair.get(1).and_then(Value::as_i64).unwrap_or(0)),
            },
        }
    }
}

impl HeardConversation {
    /// Reads the stored form.
    pub fn of_json(picture: &str, versions: &str) -> Self {
        let versions: BTreeMap<String, Value> = serde_json::from_str(versions).unwrap_or_default();
        Self {
            picture: serde_json::from_str(picture).unwrap_or_default(),
            versions: versions.iter().map(|(key, version)| (key.clone(), ValueVersion::of_json(version))).collect(),
        }
    }

    /// The stored form of the picture.
    pub fn picture_json(&self) -> String {
        serde_json::json!(self.picture).to_string()
    }

    /// The stored form of the ages.
    pub fn versions_json(&self) -> String {
        let versions: BTreeMap<&String, Value> =
            self.versions.iter().map(|(key, version)| (key, version.to_json())).collect();
        serde_json::json!(versions).to_string()
    }

    /// Its `conversationStage`, if Conversica does not work leads of that stage.
    pub fn not_worked(&self) -> Option<&str> {
        self.picture.get("conversationStage").and_then(Value::as_str).filter(|stage| vocabulary::is_not_worked(stage))
    }

    /// The date of a value in the picture, if it has one.
    pub fn date(&self, key: &str) -> Option<DateTime<Utc>> {
        let version = self.versions.get(key).filter(|version| version.undated.is_none())?;
        version.date.and_then(DateTime::from_timestamp_micros)
    }

    /// Adds the content of a Lead Update that was heard at that time. Returns its news: the keys whose value or whose date
    /// changed.
    pub fn hear(&mut self, content: &Map<String, Value>, heard_at: DateTime<Utc>) -> Map<String, Value> {
        let dates = HeardDates::of(content);
        let mut news = Map::new();
        for (key, value) in content {
            if !self.has_room_for(key, value) {
                continue;
            }
            let heard = heard_at.timestamp_micros();
            let is_news = match consent_word(key, value, &dates, heard_at) {
                Some(word) => self.hear_consent(word, heard),
                None => {
                    // A date in the future would block later news of its key until then.
                    let date = dates.of_key(key).map(|at| horizon::as_of_now(at, heard_at).timestamp_micros());
                    self.hear_value(key, value, date, heard)
                }
            };
            if is_news {
                news.insert(key.clone(), value.clone());
            }
        }
        news
    }

    /// Returns whether it was news.
    fn hear_value(&mut self, key: &str, value: &Value, date: Option<i64>, heard: i64) -> bool {
        let held = self.versions.get(key).copied();
        let known_date = held.and_then(|version| version.date);
        let Some(date) = date else {
            return self.replace(key, value, ValueVersion { date: known_date, undated: Some(heard) });
        };
        let is_later = |a: i64, b: i64| if BEGINNINGS.contains(&key) { a < b } else { a > b };
        let wins = match (known_date, held.and_then(|version| version.undated)) {
            (None, _) => true,
            (Some(known), _) if is_later(date, known) => true,
            (Some(known), _) if is_later(known, date) => false,
            (Some(_), Some(_)) => true,
            (Some(_), None) => self.picture.get(key).is_none_or(|old| prevails(value, old)),
        };
        wins && self.replace(key, value, ValueVersion { date: Some(date), undated: None })
    }

    /// The same for a key of consent, by the rule of the ledger: a withdrawal always counts. A grant ends earlier posted
    /// withdrawals that are dated before it and before its arrival.
    fn hear_consent(&mut self, word: ConsentWord<'_>, heard: i64) -> bool {
        let ConsentWord { key, value, withdraws, date } = word;
        let held = self.versions.get(key).copied();
        let held_at = held.map_or(i64::MIN, ValueVersion::at);
        let is_withdrawn = self.picture.get(key).and_then(Value::as_bool) == withdrawal(key);
        let at = date.unwrap_or(heard);
        if is_withdrawn && !withdraws && !(held_at < at && held_at < heard) {
            return false;
        }
        let version = match held {
            Some(held) if is_withdrawn == withdraws && held_at >= at => held,
            held => ValueVersion {
                date: date.or(held.and_then(|version| version.date)),
                undated: date.is_none().then_some(heard),
            },
        };
        self.replace(key, value, version)
    }

    /// Replaces the stored value. Returns whether it was news.
    fn replace(&mut self, key: &str, value: &Value, version: ValueVersion) -> bool {
        let held = self.versions.insert(key.to_owned(), version);
        let is_another = self.picture.get(key) != Some(value);
        if is_another {
            self.picture.insert(key.to_owned(), value.clone());
        }
        is_another || version.undated.is_none() && held != Some(version)
    }

    fn has_room_for(&self, key: &str, value: &Value) -> bool {
        let is_short = match value {
            Value::String(text) => text.len() <= MAX_VALUE_BYTES,
            Value::Bool(_) | Value::Number(_) | Value::Null => true,
            Value::Array(_) | Value::Object(_) => value.to_string().len() <= MAX_VALUE_BYTES,
        };
        let is_published = |key: &str| PostKind::LeadUpdate.keys().iter().any(|(published, _)| *published == key);
        is_short
            && (is_published(key)
                || self.picture.contains_key(key)
                || key.len() <= MAX_KEY_BYTES
                    && self.picture.keys().filter(|key| !is_published(key)).count() < MAX_UNKNOWN_KEYS)
    }
}

/// The value of a key of consent that withdraws it.
fn withdrawal(key: &str) -> Option<bool> {
    match key {
        "doNotEmail" | "smsOptOut" => Some(true),
        "smsOptIn" => Some(false),
        _ => None,
    }
}

/// Whether the new of two values with the same date replaces the old.
fn prevails(new: &Value, old: &Value) -> bool {
    let (new, old) = (new.to_string(), old.to_string());
    new >= old
}

/// The part of one key of a Lead Update in consent.
struct ConsentWord<'u> {
    key: &'u str,
    value: &'u Value,
    withdraws: bool,
    date: Option<i64>,
}

/// Dated as [`consent::words`] dates it.
fn consent_word<'u>(
    key: &'u str,
    value: &'u Value,
    dates: &HeardDates<'_>,
    heard_at: DateTime<Utc>,
) -> Option<ConsentWord<'u>> {
    let withdraws = value.as_bool()? == withdrawal(key)?;
    let date = dates.of_key(key).filter(|at| *at >= consent::EARLIEST);
    let date = date.map(|at| if withdraws { at } else { at.min(heard_at) });
    Some(ConsentWord { key, value, withdraws, date: date.map(|at| at.timestamp_micros()) })
}

#[cfg(test)]
mod tests;
