//! What all Lead Updates of a lead come to: one picture, whatever the order in which they arrive. Pure.
//!
//! A Lead Update says only what changed: a missing key means unchanged. Of the keys that it has:
//!
//! - A status is dated by its own date (`hotLead` by `hotLeadDate`) where the update carries it. Every other key, and a
//!   status whose own date is not there or cannot be read, is dated by the newest datetime of the update; `dateAdded` and
//!   `firstMessageDate` do not count, they say when something began. A datetime is dated by itself.
//! - A dated value replaces what is held, unless something with a later date has been heard for its key. Of equal dates,
//!   `true` wins for `doNotEmail` and `smsOptOut`, `false` for `smsOptIn`, and otherwise the greater JSON text. Of
//!   `dateAdded` and `firstMessageDate` the earliest is kept.
//! - Where an update has no date at all, what is heard later wins; of two such that were heard at the same instant, a
//!   withdrawal of consent does. A datetime that cannot be read is such a value, and kept as text.
//! - No sender makes a picture grow without end: long values, and more unknown keys than [`MAX_UNKNOWN_KEYS`], are left out.
//!   They are in the event.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};

use crate::conversica::heard::Kind;
use crate::conversica::lead::Kind as Type;
use crate::conversica::vocabulary;
use crate::horizon;

/// The longest value that a picture holds, as JSON text.
pub const MAX_VALUE_BYTES: usize = 4096;
/// The longest name of an unknown key.
pub const MAX_KEY_BYTES: usize = 200;
/// How many keys a picture holds that nobody has published.
pub const MAX_UNKNOWN_KEYS: usize = 200;

/// They say when something began: the earliest is right, and no other value is of their time.
const BEGINNINGS: [&str; 2] = ["dateAdded", "firstMessageDate"];

/// The statuses, each with its own date.
const OWN_DATES: [(&str, &str); 6] = [
    ("hotLead", "hotLeadDate"),
    ("leadAtRisk", "leadAtRiskDate"),
    ("actionRequired", "actionRequiredDate"),
    ("leadStatus", "leadStatusDate"),
    ("conversationStage", "conversationStageDate"),
    ("conversationStatus", "conversationStatusDate"),
];

/// The key with the date of a status.
pub fn own_date_key(key: &str) -> Option<&'static str> {
    OWN_DATES.iter().find(|(status, _)| *status == key).map(|(_, date)| *date)
}

/// A lead's picture, and of what age each part of it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    pub picture: BTreeMap<String, Value>,
    versions: BTreeMap<String, Version>,
}

/// Of what age a value is. In JSON: the date in microseconds; or, of a value without a date, a pair of the newest date that
/// was heard for its key (or null) and the instant at which the value was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    /// The newest date that was heard for this key; of [`BEGINNINGS`], the earliest.
    date: Option<i64>,
    /// When the value was heard, where it has no date itself.
    undated: Option<i64>,
}

impl Version {
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

impl Conversation {
    /// As it was stored.
    pub fn of_json(picture: &str, versions: &str) -> Self {
        let versions: BTreeMap<String, Value> = serde_json::from_str(versions).unwrap_or_default();
        Self {
            picture: serde_json::from_str(picture).unwrap_or_default(),
            versions: versions.iter().map(|(key, version)| (key.clone(), Version::of_json(version))).collect(),
        }
    }

    /// The picture, as it is stored.
    pub fn picture_json(&self) -> String {
        serde_json::json!(self.picture).to_string()
    }

    /// The ages, as they are stored.
    pub fn versions_json(&self) -> String {
        let versions: BTreeMap<&String, Value> =
            self.versions.iter().map(|(key, version)| (key, version.to_json())).collect();
        serde_json::json!(versions).to_string()
    }

    /// Its `conversationStage`, where leads of that stage are not worked.
    pub fn not_worked(&self) -> Option<&str> {
        self.picture.get("conversationStage").and_then(Value::as_str).filter(|stage| vocabulary::is_not_worked(stage))
    }

    /// The date of a value in the picture, where it has one.
    pub fn date(&self, key: &str) -> Option<DateTime<Utc>> {
        let version = self.versions.get(key).filter(|version| version.undated.is_none())?;
        version.date.and_then(DateTime::from_timestamp_micros)
    }

    /// Takes in the content of a Lead Update that was heard at that time. Hands back what of it was news: the keys whose value
    /// is another now, or of a newer date.
    pub fn hear(&mut self, content: &Map<String, Value>, heard_at: DateTime<Utc>) -> Map<String, Value> {
        let dates = Dates::of(content);
        let mut news = Map::new();
        for (key, value) in content {
            if !self.has_room_for(key, value) {
                continue;
            }
            // A date that lies ahead would keep all later news of its key away until then.
            let date = dates.of_key(key).map(|at| horizon::as_of_now(at, heard_at).timestamp_micros());
            if self.hear_value(key, value, date, heard_at.timestamp_micros()) {
                news.insert(key.clone(), value.clone());
            }
        }
        news
    }

    /// Whether that was news.
    fn hear_value(&mut self, key: &str, value: &Value, date: Option<i64>, heard: i64) -> bool {
        let held = self.versions.get(key).copied();
        let known_date = held.and_then(|version| version.date);
        let (wins, version) = match date {
            Some(date) => {
                let is_later = |a: i64, b: i64| if BEGINNINGS.contains(&key) { a < b } else { a > b };
                let withdraws = withdrawal(key).is_some_and(|withdrawal| *value == withdrawal);
                let wins = match (known_date, held.and_then(|version| version.undated)) {
                    (None, _) => true,
                    (Some(known), _) if is_later(date, known) => true,
                    // What was heard by a clock that was ahead keeps no withdrawal of consent away.
                    (Some(known), _) if withdraws && known > heard => true,
                    (Some(known), _) if is_later(known, date) => false,
                    (Some(_), Some(_)) => true,
                    (Some(_), None) => self.picture.get(key).is_none_or(|old| prevails(key, value, old)),
                };
                (wins, Version { date: Some(date), undated: None })
            }
            None => {
                let at_once = held.and_then(|version| version.undated) == Some(heard);
                let withdrawn = self.picture.get(key).is_some_and(|old| withdrawal(key).is_some_and(|w| *old == w));
                (!(at_once && withdrawn), Version { date: known_date, undated: Some(heard) })
            }
        };
        if !wins {
            return false;
        }
        let is_another = self.picture.get(key) != Some(value);
        let is_redated = date.is_some() && held != Some(version);
        if is_another {
            self.picture.insert(key.to_owned(), value.clone());
        }
        self.versions.insert(key.to_owned(), version);
        is_another || is_redated
    }

    fn has_room_for(&self, key: &str, value: &Value) -> bool {
        let is_short = match value {
            Value::String(text) => text.len() <= MAX_VALUE_BYTES,
            Value::Bool(_) | Value::Number(_) | Value::Null => true,
            Value::Array(_) | Value::Object(_) => value.to_string().len() <= MAX_VALUE_BYTES,
        };
        let is_published = |key: &str| Kind::LeadUpdate.keys().iter().any(|(published, _)| *published == key);
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

/// Of two values of the same date.
fn prevails(key: &str, new: &Value, old: &Value) -> bool {
    match (withdrawal(key), new.as_bool()) {
        (Some(withdrawal), Some(new)) => new == withdrawal,
        _ => {
            let (new, old) = (new.to_string(), old.to_string());
            new >= old
        }
    }
}

/// The datetimes of one Lead Update.
pub struct Dates<'a> {
    content: &'a Map<String, Value>,
    newest: Option<DateTime<Utc>>,
}

impl<'a> Dates<'a> {
    pub fn of(content: &'a Map<String, Value>) -> Self {
        let datetimes = Kind::LeadUpdate.keys().iter().filter(|(_, kind)| *kind == Type::Datetime);
        let counted = datetimes.map(|(key, _)| *key).filter(|key| !BEGINNINGS.contains(key));
        Self { content, newest: counted.filter_map(|key| datetime(content.get(key)?.as_str()?)).max() }
    }

    /// Of when this key's value is; `None` where the update does not say.
    pub fn of_key(&self, key: &str) -> Option<DateTime<Utc>> {
        let read = |key: &str| self.content.get(key).and_then(Value::as_str).and_then(datetime);
        if Kind::LeadUpdate.keys().iter().any(|(published, kind)| *published == key && *kind == Type::Datetime) {
            return read(key);
        }
        own_date_key(key).and_then(read).or(self.newest)
    }
}

/// A datetime as Conversica writes it (`2019-05-10T05:57:44+00:00`), and as others do: with a space, with an offset
/// without its colon, or without one, which means UTC. Cut to microseconds.
pub fn datetime(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let with_offset = |format| DateTime::parse_from_str(text, format).ok().map(|at| at.to_utc());
    let without = |format| NaiveDateTime::parse_from_str(text, format).ok().map(|at| at.and_utc());
    let at = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    let at = at.or_else(|| with_offset("%Y-%m-%dT%H:%M:%S%.f%#z")).or_else(|| with_offset("%Y-%m-%d %H:%M:%S%.f%#z"));
    let at = at.or_else(|| without("%Y-%m-%dT%H:%M:%S%.f")).or_else(|| without("%Y-%m-%d %H:%M:%S%.f"))?;
    DateTime::from_timestamp_micros(at.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn heard(updates: &[Value]) -> Conversation {
        let mut conversation = Conversation::default();
        for (second, update) in (0..).zip(updates) {
            conversation.hear(update.as_object().unwrap(), at(second));
        }
        conversation
    }

    fn date(day: u8) -> String {
        format!("2026-01-{day:02}T00:00:00+00:00")
    }

    #[test]
    fn a_status_with_an_older_date_does_not_replace_a_newer_one_and_a_missing_key_clears_nothing() {
        let newest = json!({"hotLead": true, "hotLeadDate": date(3), "discoveredPhone1": "555"});
        let older = json!({"hotLead": false, "hotLeadDate": date(2)});
        let picture = heard(&[newest, older]).picture;
        assert_eq!(json!(picture), json!({"hotLead": true, "hotLeadDate": date(3), "discoveredPhone1": "555"}));
    }

    #[test]
    fn what_has_no_date_of_its_own_is_of_the_newest_date_of_its_update() {
        let late = json!({"doNotEmail": true, "lastMessageDate": date(5)});
        let early =
            json!({"doNotEmail": false, "lastMessageDate": date(1), "lastResponseDate": date(4), "dateAdded": date(9)});
        for order in [[&late, &early], [&early, &late]] {
            let conversation = heard(&order.map(Clone::clone));
            assert_eq!(conversation.picture["doNotEmail"], json!(true));
            assert_eq!(conversation.date("doNotEmail"), datetime(&date(5)));
        }
    }

    #[test]
    fn a_date_that_lies_ahead_counts_as_the_moment_when_it_was_heard() {
        let ahead = "2099-01-01T00:00:00Z";
        let given = json!({"doNotEmail": false, "hotLead": true, "hotLeadDate": ahead, "lastMessageDate": ahead});
        let mut conversation = heard(&[given]);
        assert_eq!(conversation.date("hotLead"), Some(at(0)));
        let dated = |second: i64| at(second).to_rfc3339();
        let withdrawn = json!({"doNotEmail": true, "lastMessageDate": dated(60)});
        let news = conversation.hear(withdrawn.as_object().unwrap(), at(61));
        assert_eq!(news["doNotEmail"], json!(true));
        // The clock was ahead when consent was given, and is right when it is withdrawn.
        let given = json!({"smsOptIn": true, "lastMessageDate": ahead});
        conversation.hear(given.as_object().unwrap(), at(1_000_000));
        let withdrawn = json!({"smsOptIn": false, "lastMessageDate": dated(50)});
        let news = conversation.hear(withdrawn.as_object().unwrap(), at(61));
        assert_eq!(news["smsOptIn"], json!(false));
        let cold = json!({"hotLead": false, "hotLeadDate": dated(60)});
        conversation.hear(cold.as_object().unwrap(), at(62));
        assert_eq!(conversation.picture["hotLead"], json!(false));
    }

    #[test]
    fn beginnings_are_the_earliest() {
        let picture =
            heard(&[json!({"dateAdded": date(5)}), json!({"dateAdded": date(2)}), json!({"dateAdded": date(3)})]);
        assert_eq!(picture.picture["dateAdded"], json!(date(2)));
    }

    #[test]
    fn without_any_date_what_is_heard_later_wins_and_a_dated_value_replaces_it() {
        let (first, second) = (json!({"leadStatus": "A"}), json!({"leadStatus": "B"}));
        let mut conversation = heard(&[first, second]);
        assert_eq!(conversation.picture["leadStatus"], json!("B"));
        let dated = |day| json!({"leadStatus": format!("of {day}"), "leadStatusDate": date(day)});
        conversation.hear(dated(4).as_object().unwrap(), at(9));
        conversation.hear(json!({"leadStatus": "C"}).as_object().unwrap(), at(10));
        let news = conversation.hear(dated(3).as_object().unwrap(), at(11));
        assert_eq!((conversation.picture["leadStatus"].clone(), news.len()), (json!("C"), 0), "the date is remembered");
        conversation.hear(dated(4).as_object().unwrap(), at(12));
        assert_eq!(conversation.picture["leadStatus"], json!("of 4"));
    }

    #[test]
    fn of_two_words_about_consent_at_one_instant_the_withdrawal_counts() {
        for (key, withdrawn) in [("doNotEmail", true), ("smsOptOut", true), ("smsOptIn", false)] {
            for order in [[withdrawn, !withdrawn], [!withdrawn, withdrawn]] {
                let mut undated = Conversation::default();
                let mut dated = Conversation::default();
                for value in order {
                    undated.hear(json!({key: value}).as_object().unwrap(), at(1));
                    dated.hear(json!({key: value, "lastMessageDate": date(1)}).as_object().unwrap(), at(1));
                }
                assert_eq!((&undated.picture[key], &dated.picture[key]), (&json!(withdrawn), &json!(withdrawn)));
            }
            let later = heard(&[json!({key: withdrawn}), json!({key: !withdrawn})]);
            assert_eq!(later.picture[key], json!(!withdrawn), "heard later");
        }
    }

    #[test]
    fn datetimes_are_read_in_the_shapes_that_are_seen() {
        let expected = DateTime::from_timestamp(1_557_467_864, 0);
        for text in [
            "2019-05-10T05:57:44+00:00",
            "2019-05-10T05:57:44Z",
            "2019-05-10 05:57:44",
            "2019-05-10 05:57:44Z",
            "2019-05-10T07:57:44+0200",
            "2019-05-10T07:57:44+02",
            " 2019-05-10T05:57:44 ",
        ] {
            assert_eq!(datetime(text), expected, "{text}");
        }
        assert_eq!(datetime("yesterday"), None);
        let picture = heard(&[json!({"lastMessageDate": date(1)}), json!({"lastMessageDate": "yesterday"})]).picture;
        assert_eq!(picture["lastMessageDate"], json!("yesterday"), "kept as text");
    }

    #[test]
    fn no_sender_makes_a_picture_grow_without_end() {
        let mut conversation = Conversation::default();
        for n in 0..1000 {
            let update = json!({format!("k{n}"): n, "long": "x".repeat(5000), "leadStatus": "y".repeat(5000)});
            conversation.hear(update.as_object().unwrap(), at(n));
        }
        assert_eq!(conversation.picture.len(), MAX_UNKNOWN_KEYS);
        assert!(conversation.picture_json().len() < 10_000);
        let known = json!({"k3": "new", "hotLead": true});
        assert_eq!(conversation.hear(known.as_object().unwrap(), at(1001)).len(), 2, "what is there goes on");
    }

    #[test]
    fn news_are_what_has_changed_or_is_of_a_newer_date() {
        let mut conversation = heard(&[json!({"hotLead": true, "hotLeadDate": date(1), "leadStatus": "Hot Lead"})]);
        let mut news = |update: Value| {
            let news = conversation.hear(update.as_object().unwrap(), at(5));
            news.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(news(json!({"hotLead": true, "hotLeadDate": date(2)})), "hotLead hotLeadDate");
        assert_eq!(news(json!({"hotLead": true, "hotLeadDate": date(2)})), "");
        assert_eq!(news(json!({"hotLead": false, "hotLeadDate": date(1), "smsOptIn": true})), "smsOptIn");
    }

    fn update(dated: bool) -> impl Strategy<Value = Value> {
        let flag = || prop::option::of(any::<bool>());
        let day = || prop::option::of(1_u8..5);
        let base = if dated { (1_u8..5).prop_map(Some).boxed() } else { prop::option::of(1_u8..5).boxed() };
        let text = || prop::option::of("[ab]");
        (base, (day(), day()), (flag(), flag(), flag(), flag()), (text(), text(), text())).prop_map(
            |(last, (hot_at, added), (hot, stop, sms_in, sms_out), (status, phone, unknown))| {
                let mut update = json!({});
                let mut put = |key: &str, value: Option<Value>| {
                    if let Some(value) = value {
                        update[key] = value;
                    }
                };
                put("lastMessageDate", last.map(|day| json!(date(day))));
                put("hotLeadDate", hot_at.map(|day| json!(date(day))));
                put("dateAdded", added.map(|day| json!(date(day))));
                put("hotLead", hot.map(Value::from));
                put("doNotEmail", stop.map(Value::from));
                put("smsOptIn", sms_in.map(Value::from));
                put("smsOptOut", sms_out.map(Value::from));
                put("leadStatus", status.map(Value::from));
                put("discoveredPhone1", phone.map(Value::from));
                put("mood", unknown.map(Value::from));
                update
            },
        )
    }

    proptest! {
        #[test]
        fn dated_updates_come_to_the_same_in_any_order_and_however_often(
            (updates, order) in prop::collection::vec(update(true), 1..6)
                .prop_flat_map(|updates| {
                    let order = prop::collection::vec(0..updates.len(), 0..8);
                    (Just(updates), order)
                })
        ) {
            let straight = heard(&updates);
            let mut mixed: Vec<Value> = order.iter().map(|index| updates[*index].clone()).collect();
            mixed.extend(updates.iter().rev().cloned());
            let mut other = heard(&mixed);
            prop_assert_eq!(&other, &straight);
            for update in &updates {
                prop_assert!(other.hear(update.as_object().unwrap(), at(99)).is_empty());
            }
            prop_assert_eq!(&other, &straight, "applying again changes nothing");
        }

        #[test]
        fn an_older_date_never_replaces_and_a_missing_key_never_clears(updates in prop::collection::vec(update(true), 1..6)) {
            let mut conversation = Conversation::default();
            for update in &updates {
                let before = conversation.clone();
                conversation.hear(update.as_object().unwrap(), at(0));
                for (key, value) in &before.picture {
                    let new = conversation.picture.get(key);
                    prop_assert!(new.is_some());
                    prop_assert!(update.get(key).is_some() || new == Some(value));
                    let (old, new) = (before.date(key), conversation.date(key));
                    let is_kept = if BEGINNINGS.contains(&key.as_str()) { new <= old } else { new >= old };
                    prop_assert!(is_kept);
                }
            }
        }

        #[test]
        fn the_same_updates_once_more_in_order_come_to_the_same(updates in prop::collection::vec((update(false), 0_i64..3), 1..8)) {
            let mut conversation = Conversation::default();
            let hear_all = |conversation: &mut Conversation| {
                for (update, second) in &updates {
                    conversation.hear(update.as_object().unwrap(), at(*second));
                }
            };
            hear_all(&mut conversation);
            let once = conversation.clone();
            hear_all(&mut conversation);
            prop_assert_eq!(&conversation, &once);
            let stored = Conversation::of_json(&once.picture_json(), &once.versions_json());
            prop_assert_eq!(stored, once);
        }
    }
}
