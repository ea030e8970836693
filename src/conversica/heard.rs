//! What Conversica posts to us: reading a body as one of the three kinds, leniently. Pure.
//!
//! What identifies the lead and what a kind cannot do without must be there; a value of another type than ours is taken
//! where it can mean one thing only; keys that nobody knows are kept. No error quotes a value: bodies are personal data.

use serde_json::{Map, Value};

use crate::conversica::lead::{Fingerprint, Kind as Type, LeadId};

/// By the path that it is posted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    LeadUpdate,
    Message,
    ChatLead,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::LeadUpdate, Kind::Message, Kind::ChatLead];

    /// The name in SQL, JSON, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::LeadUpdate => "lead_update",
            Kind::Message => "message",
            Kind::ChatLead => "chat_lead",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The published keys beside `id`, `leadId` and `clientId`, and the type of each.
    pub const fn keys(self) -> &'static [(&'static str, Type)] {
        use Type::{Boolean, Datetime, Text};
        match self {
            Kind::LeadUpdate => &[
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
            Kind::Message => {
                &[("apiVersion", Text), ("action", Text), ("date", Datetime), ("subject", Text), ("body", Text)]
            }
            // `conversationHistory` is kept in whatever shape it comes.
            Kind::ChatLead => &[("apiVersion", Text), ("firstName", Text), ("lastName", Text), ("email", Text)],
        }
    }

    /// What a post of this kind is worth nothing without, beside the lead's id.
    const fn required(self) -> &'static [&'static str] {
        match self {
            Kind::LeadUpdate => &[],
            // Subject, version and client are published as required too; without them a message still says who said what.
            Kind::Message => &["action", "date", "body"],
            Kind::ChatLead => &["firstName", "lastName", "email", "conversationHistory"],
        }
    }

    fn type_of(self, key: &str) -> Option<Type> {
        self.keys().iter().find(|(name, _)| *name == key).map(|(_, kind)| *kind)
    }
}

/// A post that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    pub kind: Kind,
    /// As posted: `id` or `leadId`, and `clientId` or blank. Both blank for chat leads without them.
    pub lead: LeadId,
    /// The other keys and their values, each of its published type; keys without a value (`null`) are left out.
    pub content: Map<String, Value>,
}

/// Why a body cannot be read: a sentence for whoever posted it, which quotes nothing of it but key names that are published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// No published kind has thirty keys; whoever sends this many means something else.
const MAX_KEYS: usize = 1000;
/// As long as a key of the source may be.
const MAX_ID_BYTES: usize = 1000;

/// Reads a body.
///
/// # Errors
/// [`Unreadable`] for what is no JSON object, lacks a required key, or has a value of a type that can mean nothing.
pub fn read(kind: Kind, body: &[u8]) -> Result<Post, Unreadable> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Unreadable("The body is empty".to_owned()));
    }
    // The position is said, the text at it is not.
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Unreadable(format!("The body is not valid JSON: {error}")))?;
    let Value::Object(object) = value else {
        return Err(Unreadable("The body is not a JSON object".to_owned()));
    };
    if object.len() > MAX_KEYS {
        return Err(Unreadable(format!("The body has {} keys, more than {MAX_KEYS}", object.len())));
    }
    let mut post = Post { kind, lead: LeadId::default(), content: Map::new() };
    let mut lead_id = None;
    for (key, value) in object {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("id", value) => post.lead.id = identifier("id", value)?,
            ("leadId", value) => lead_id = Some(identifier("leadId", value)?),
            ("clientId", value) => post.lead.client_id = identifier("clientId", value)?,
            (_, value) => {
                let value = match kind.type_of(&key) {
                    Some(wanted) => typed(&key, wanted, value)?,
                    None => value,
                };
                post.content.insert(key, value);
            }
        }
    }
    // Posts of version 7.1 name it so.
    if let Some(lead_id) = lead_id.filter(|_| post.lead.id.is_empty()) {
        post.lead.id = lead_id;
    }
    if post.lead.id.is_empty() && kind != Kind::ChatLead {
        return Err(missing("id"));
    }
    match kind.required().iter().find(|key| is_blank(post.content.get(**key))) {
        Some(key) => Err(missing(key)),
        None => Ok(post),
    }
}

/// Whom a body is about, as far as that can be told, also where it cannot be read otherwise. Wrong at worst for one that cannot.
pub fn identity(body: &[u8]) -> Option<LeadId> {
    let text = String::from_utf8_lossy(body);
    let object: Option<Map<String, Value>> = serde_json::from_str(&text).ok();
    let of = |key: &str| {
        let value = match &object {
            Some(object) => object.get(key).cloned(),
            None => first_value(&text, key),
        };
        identifier(key, value?).ok().filter(|id| !id.is_empty())
    };
    Some(LeadId { id: of("id").or_else(|| of("leadId"))?, client_id: of("clientId").unwrap_or_default() })
}

/// Of what is no valid JSON: the first value that stands behind that key.
fn first_value(text: &str, key: &str) -> Option<Value> {
    let key = format!("\"{key}\"");
    let mut rest = text;
    loop {
        rest = &rest[rest.find(&key)? + key.len()..];
        if let Some(value) = rest.trim_start().strip_prefix(':') {
            return serde_json::Deserializer::from_str(value).into_iter::<Value>().next()?.ok();
        }
    }
}

impl Post {
    /// The same for every arrival of the same kind, lead and content, in whatever order its keys come.
    pub fn content_hash(&self) -> Fingerprint {
        let mut canonical = serde_json::json!([self.kind.name(), self.lead.id, self.lead.client_id]).to_string();
        write_sorted(&self.content, &mut canonical);
        Fingerprint::of(canonical.as_bytes())
    }
}

/// Of what cannot be read: the same for the same bytes at the same path.
pub fn unreadable_hash(kind: Kind, body: &[u8]) -> Fingerprint {
    let mut bytes = format!("unreadable {}\n", kind.name()).into_bytes();
    bytes.extend_from_slice(body);
    Fingerprint::of(&bytes)
}

fn missing(key: &str) -> Unreadable {
    Unreadable(format!("Missing required field: {key}"))
}

/// Conversica's own wording for a chat lead's fields; blank texts and empty lists are as good as none.
fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

/// An identifier is a string; some senders write numbers.
fn identifier(key: &str, value: Value) -> Result<String, Unreadable> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return Err(Unreadable(format!("{key} is neither a string nor a whole number"))),
    };
    if text.len() > MAX_ID_BYTES || text.chars().any(char::is_control) {
        return Err(Unreadable(format!("{key} is longer than {MAX_ID_BYTES} bytes or has control characters")));
    }
    Ok(text)
}

/// The value as its published type has it, where it can mean one thing only. Datetimes stay texts, as they came: whoever
/// compares them reads them.
fn typed(key: &str, wanted: Type, value: Value) -> Result<Value, Unreadable> {
    let wrong = |what: &str| Err(Unreadable(format!("{key} is not {what}")));
    match (wanted, value) {
        (Type::Boolean, Value::Bool(yes)) => Ok(Value::Bool(yes)),
        (Type::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        (Type::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        (Type::Boolean, _) => wrong("a boolean"),
        (Type::Text | Type::Datetime, Value::String(text)) => Ok(Value::String(text)),
        (Type::Text, Value::Number(number)) => Ok(Value::String(number.to_string())),
        (Type::Text, Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::Null) => wrong("a string"),
        (Type::Datetime, _) => wrong("a datetime, which is a string"),
    }
}

/// The object with its keys in byte order, at every depth.
fn write_sorted(object: &Map<String, Value>, text: &mut String) {
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

fn write_value(value: &Value, text: &mut String) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(kind: Kind, body: &str) -> String {
        read(kind, body.as_bytes()).expect_err("is refused").0
    }

    #[test]
    fn both_shapes_of_an_id_are_read_and_numbers_are_taken_for_texts() {
        for body in
            [r#"{"id":"12","clientId":"c"}"#, r#"{"leadId":"12","clientId":"c"}"#, r#"{"id":12,"clientId":"c"}"#]
        {
            let post = read(Kind::LeadUpdate, body.as_bytes()).unwrap();
            assert_eq!(post.lead, LeadId { id: "12".into(), client_id: "c".into() }, "{body}");
        }
        assert_eq!(read(Kind::LeadUpdate, br#"{"id":"1","leadId":"2"}"#).unwrap().lead.id, "1");
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_quotes_nobody() {
        assert_eq!(reason(Kind::LeadUpdate, "{}"), "Missing required field: id");
        assert_eq!(reason(Kind::LeadUpdate, r#"{"id":" "}"#), "Missing required field: id");
        let chat = r#"{"firstName":"Ann","lastName":"Lee","conversationHistory":"…"}"#;
        assert_eq!(reason(Kind::ChatLead, chat), "Missing required field: email");
        let message = r#"{"id":"1","action":"sent","date":"2019-05-10T05:57:44+00:00"}"#;
        assert_eq!(reason(Kind::Message, message), "Missing required field: body");
        assert_eq!(reason(Kind::LeadUpdate, r#"{"id":"1","hotLead":"Sally said so"}"#), "hotLead is not a boolean");
        assert_eq!(reason(Kind::LeadUpdate, r#"{"id":{}}"#), "id is neither a string nor a whole number");
        assert_eq!(reason(Kind::LeadUpdate, "[]"), "The body is not a JSON object");
        assert_eq!(reason(Kind::LeadUpdate, " \n"), "The body is empty");
        let broken = reason(Kind::Message, "{\"id\":\"1\",\"body\":\"Sally\nLee\"}");
        assert!(broken.starts_with("The body is not valid JSON: control character"), "{broken}");
        assert!(!broken.contains("Sally"));
    }

    #[test]
    fn what_nobody_knows_is_kept_and_what_has_no_value_is_left_out() {
        let body = r#"{"id":"1","apiVersion":"9.0","mood":{"x":[1]},"leadStatus":null,"doNotEmail":"True"}"#;
        let post = read(Kind::LeadUpdate, body.as_bytes()).unwrap();
        let expected = serde_json::json!({"apiVersion": "9.0", "mood": {"x": [1]}, "doNotEmail": true});
        assert_eq!(Value::Object(post.content), expected);
    }

    #[test]
    fn too_many_keys_are_refused() {
        let keys: Vec<String> = (0..2000).map(|k| format!("\"k{k}\":1")).collect();
        assert!(reason(Kind::LeadUpdate, &format!("{{\"id\":\"1\",{}}}", keys.join(","))).contains("2001 keys"));
    }

    #[test]
    fn the_same_content_is_known_by_its_hash_in_whatever_order_its_keys_come() {
        let hash = |kind, body: &str| read(kind, body.as_bytes()).unwrap().content_hash();
        let a = hash(Kind::LeadUpdate, r#"{"id":"1","hotLead":true,"x":{"a":1,"b":2}}"#);
        assert_eq!(a, hash(Kind::LeadUpdate, r#"{ "x":{"b":2,"a":1}, "hotLead":true, "leadId":"1" }"#));
        assert_ne!(a, hash(Kind::LeadUpdate, r#"{"id":"2","hotLead":true,"x":{"a":1,"b":2}}"#));
        assert_ne!(a, hash(Kind::LeadUpdate, r#"{"id":"1","hotLead":false,"x":{"a":1,"b":2}}"#));
        assert_ne!(a, hash(Kind::LeadUpdate, r#"{"id":"1","clientId":"c","hotLead":true,"x":{"a":1,"b":2}}"#));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in Kind::ALL {
                if let Ok(post) = read(kind, &body) {
                    post.content_hash();
                }
            }
        }
    }
}
