//! The dates of the values in Conversica's posts.

use chrono::DateTime;
use chrono::NaiveDateTime;
use chrono::Utc;
use serde_json::Map;
use serde_json::Value;

use crate::conversica::lead::ValueKind;
use crate::conversica::post::PostKind;

/// The datetimes of one Lead Update.
pub struct HeardDates<'a> {
    pub(crate) content: &'a Map<String, Value>,
    pub(crate) newest: Option<DateTime<Utc>>,
}

impl<'a> HeardDates<'a> {
    pub fn of(content: &'a Map<String, Value>) -> Self {
        let datetimes = PostKind::LeadUpdate.keys().iter().filter(|(_, kind)| *kind == ValueKind::Datetime);
        let counted = datetimes.map(|(key, _)| *key).filter(|key| !BEGINNINGS.contains(key));
        Self { content, newest: counted.filter_map(|key| datetime(content.get(key)?.as_str()?)).max() }
    }

    /// The date of this key's value; `None` if the update does not give one.
    pub fn of_key(&self, key: &str) -> Option<DateTime<Utc>> {
        let read = |key: &str| self.content.get(key).and_then(Value::as_str).and_then(datetime);
        if PostKind::LeadUpdate.keys().iter().any(|(published, kind)| *published == key && *kind == ValueKind::Datetime)
        {
            return read(key);
        }
        own_date_key(key).and_then(read).or(self.newest)
    }
}

/// These keys say when something began. The earliest value is right, and they date no other value.
pub(crate) const BEGINNINGS: [&str; 2] = ["dateAdded", "firstMessageDate"];

/// The key with the date of a status.
pub fn own_date_key(key: &str) -> Option<&'static str> {
    OWN_DATES.iter().find(|(status, _)| *status == key).map(|(_, date)| *date)
}

/// A datetime as Conversica writes it (`2019-05-10T05:57:44+00:00`), or in other forms: with a space, with an offset without its
/// colon, or without an offset, which means UTC. Cut to microseconds.
pub fn datetime(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let with_offset = |format| DateTime::parse_from_str(text, format).ok().map(|at| at.to_utc());
    let without = |format| NaiveDateTime::parse_from_str(text, format).ok().map(|at| at.and_utc());
    let at = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    let at = at.or_else(|| with_offset("%Y-%m-%dT%H:%M:%S%.f%#z")).or_else(|| with_offset("%Y-%m-%d %H:%M:%S%.f%#z"));
    let at = at.or_else(|| without("%Y-%m-%dT%H:%M:%S%.f")).or_else(|| without("%Y-%m-%d %H:%M:%S%.f"))?;
    DateTime::from_timestamp_micros(at.timestamp_micros())
}

/// The statuses, each with its own date.
pub(crate) const OWN_DATES: [(&str, &str); 6] = [
    ("hotLead", "hotLeadDate"),
    ("leadAtRisk", "leadAtRiskDate"),
    ("actionRequired", "actionRequiredDate"),
    ("leadStatus", "leadStatusDate"),
    ("conversationStage", "conversationStageDate"),
    ("conversationStatus", "conversationStatusDate"),
];
