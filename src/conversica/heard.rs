//! Reads a body that Conversica posts as one of the three kinds, leniently. Pure.
//!
//! The lead's identity and the keys that a kind requires must be present. A value of another type than the published one is
//! converted if it has only one possible meaning; otherwise its key is left out with a note. Unknown keys are kept. Errors and
//! notes quote no values, because bodies are personal data.

use serde_json::{Map, Value};

use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::conversica::post::{PostKind, ReceivedPost, named_type};
use crate::conversica::{lenient, withdrawal};

/// Why a body cannot be read: a sentence for the sender, which quotes published key names only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadablePost(pub String);

/// The reason for a body that was not stored to its end.
pub const TOO_LARGE: &str = "The body is larger than max_body";

/// No published kind has thirty keys. A post with this many keys is something else.
const MAX_KEYS: usize = 1000;
/// The limit on the keys of the source.
const MAX_ID_BYTES: usize = 1000;

/// Reads a body.
///
/// # Errors
/// [`UnreadablePost`] for a body that is no JSON object, or lacks a required key.
pub fn read(kind: PostKind, body: &[u8]) -> Result<ReceivedPost, UnreadablePost> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(UnreadablePost("The body is empty".to_owned()));
    }
    let object = lenient::read_object(body).map_err(UnreadablePost)?;
    if object.members.len() > MAX_KEYS {
        return Err(UnreadablePost(format!("The body has {} keys, more than {MAX_KEYS}", object.members.len())));
    }
    let notes = object.notes.into_iter().map(str::to_owned).collect();
    let mut post = ReceivedPost {
        kind,
        lead: LeadId::default(),
        other_ids: Vec::new(),
        content: Map::new(),
        unused: Vec::new(),
        notes,
    };
    let (mut id, mut lead_id) = (None, None);
    let keys: Vec<String> = object.members.iter().map(|(key, _)| key.clone()).collect();
    for (key, value) in object.members {
        let key = published_name(kind, &key, &keys).map_or(key, str::to_owned);
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("id", value) => {
                let named = identifier("id", value)?;
                if let Some(earlier) = id.replace(named.clone()).filter(|earlier| *earlier != named) {
                    post.other_ids.push(earlier.clone());
                    post.replace("id", Value::String(earlier));
                }
            }
            ("leadId", value) => {
                let named = identifier("leadId", value)?;
                post.other_ids.push(named.clone());
                lead_id = Some(named);
            }
            ("clientId", value) => post.lead.client_id = identifier("clientId", value)?,
            (_, value) => post.add(key, value),
        }
    }
    // Posts of version 7.1 use this name.
    post.lead.id = id.filter(|id| !id.is_empty()).or(lead_id).unwrap_or_default();
    post.other_ids.retain(|other| !other.is_empty() && *other != post.lead.id);
    if post.lead.id.is_empty() && kind != PostKind::ChatLead {
        return Err(missing("id"));
    }
    let Some(key) = kind.required().iter().find(|key| is_blank(post.content.get(**key))) else { return Ok(post) };
    let unused = post.unused.iter().any(|(unused, _)| unused == key);
    match kind.type_of(key).filter(|_| unused) {
        Some(wanted) => Err(UnreadablePost(format!("{key} is not {}", named_type(wanted)))),
        None => Err(missing(key)),
    }
}

/// The published key that is meant: in another case or with blanks around it, if the post does not have the exact name too.
fn published_name(kind: PostKind, key: &str, keys: &[String]) -> Option<&'static str> {
    let identifiers = ["id", "leadId", "clientId"];
    let mut names = kind.keys().iter().map(|(name, _)| *name).chain(identifiers);
    let is_exact = |name: &str| keys.iter().any(|key| key == name);
    let is_consent = |name: &str| ["doNotEmail", "smsOptOut", "smsOptIn"].contains(&name);
    // For keys of consent every value counts, see `ReceivedPost::add`.
    let name = names.find(|name| name.eq_ignore_ascii_case(key.trim()))?;
    (key == name || !is_exact(name) || is_consent(name)).then_some(name)
}

/// The lead that a body is about, as far as it can be read. For an unreadable body it may be wrong.
pub fn identity(body: &[u8]) -> Option<LeadId> {
    let named = withdrawal::named_leads(body);
    Some(LeadId {
        id: named.ids.into_iter().next()?,
        client_id: named.client_ids.into_iter().next().unwrap_or_default(),
    })
}

/// The hash of an unreadable body: the same for the same bytes at the same path.
pub fn unreadable_hash(kind: PostKind, body: &[u8]) -> ContentFingerprint {
    let mut bytes = format!("unreadable {}\n", kind.name()).into_bytes();
    bytes.extend_from_slice(body);
    ContentFingerprint::of(&bytes)
}

fn missing(key: &str) -> UnreadablePost {
    UnreadablePost(format!("Missing required field: {key}"))
}

/// Conversica's own wording for a chat lead's fields; blank texts and empty lists count as missing.
fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

/// An identifier is a string; some senders write numbers.
fn identifier(key: &str, value: Value) -> Result<String, UnreadablePost> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return Err(UnreadablePost(format!("{key} is neither a string nor a whole number"))),
    };
    if text.len() > MAX_ID_BYTES || text.chars().any(char::is_control) {
        return Err(UnreadablePost(format!("{key} is longer than {MAX_ID_BYTES} bytes or has control characters")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(kind: PostKind, body: &str) -> String {
        read(kind, body.as_bytes()).expect_err("is refused").0
    }

    #[test]
    fn both_shapes_of_an_id_are_read_and_numbers_are_taken_for_texts() {
        for body in
            [r#"{"id":"12","clientId":"c"}"#, r#"{"leadId":"12","clientId":"c"}"#, r#"{"id":12,"clientId":"c"}"#]
        {
            let post = read(PostKind::LeadUpdate, body.as_bytes()).unwrap();
            assert_eq!(post.lead, LeadId { id: "12".into(), client_id: "c".into() }, "{body}");
        }
        assert_eq!(read(PostKind::LeadUpdate, br#"{"id":"1","leadId":"2"}"#).unwrap().lead.id, "1");
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_quotes_nobody() {
        assert_eq!(reason(PostKind::LeadUpdate, "{}"), "Missing required field: id");
        assert_eq!(reason(PostKind::LeadUpdate, r#"{"id":" "}"#), "Missing required field: id");
        let chat = r#"{"firstName":"Ann","lastName":"Lee","conversationHistory":"…"}"#;
        assert_eq!(reason(PostKind::ChatLead, chat), "Missing required field: email");
        let message = r#"{"id":"1","action":"sent","date":"2019-05-10T05:57:44+00:00"}"#;
        assert_eq!(reason(PostKind::Message, message), "Missing required field: body");
        assert_eq!(reason(PostKind::Message, r#"{"id":"1","action":["Sally"]}"#), "action is not a string");
        assert_eq!(reason(PostKind::LeadUpdate, r#"{"id":{}}"#), "id is neither a string nor a whole number");
        assert_eq!(reason(PostKind::LeadUpdate, "[]"), "The body is not a JSON object");
        assert_eq!(reason(PostKind::LeadUpdate, " \n"), "The body is empty");
        let broken = reason(PostKind::Message, "{\"id\":\"1\",\"body\":\"Sally\nLee");
        assert!(broken.starts_with("The body is not valid JSON: EOF while parsing a string"), "{broken}");
        assert!(!broken.contains("Sally"));
    }

    #[test]
    fn a_bad_value_costs_its_key_and_not_the_post() {
        let read =
            |body: &str| read(PostKind::LeadUpdate, body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"));
        let post = read(r#"{"id":"1","doNotEmail":true,"hotLead":"Sally said so","leadStatus":{"a":1}}"#);
        assert_eq!(Value::Object(post.content), serde_json::json!({"doNotEmail": true}));
        let notes = ["hotLead was left out: it is not a boolean", "leadStatus was left out: it is not a string"];
        assert_eq!(post.notes, notes);
        for (body, expected) in [
            (r#"{"ID":"1"," DoNotEmail ":"Y"}"#, serde_json::json!({"doNotEmail": true})),
            (r#"{"id":"1","smsOptOut":1,"hotLead":0}"#, serde_json::json!({"smsOptOut": true, "hotLead": false})),
            (
                r#"{"id":"1","leadStatusDate":1764300000}"#,
                serde_json::json!({"leadStatusDate": "2025-11-28T03:20:00Z"}),
            ),
            (r#"{"id":"1","dateAdded":"1764300000500"}"#, serde_json::json!({"dateAdded": "2025-11-28T03:20:00.500Z"})),
            (r#"{"id":"1","dateAdded":12}"#, serde_json::json!({"dateAdded": "12"})),
            (r#"{"id":"1","doNotEmail":true,"doNotEmail":false}"#, serde_json::json!({"doNotEmail": true})),
            (r#"{"id":"1","doNotEmail":false,"donotemail":true}"#, serde_json::json!({"doNotEmail": true})),
            (r#"{"id":"1","smsOptIn":false,"smsOptIn":true}"#, serde_json::json!({"smsOptIn": false})),
        ] {
            assert_eq!(Value::Object(read(body).content), expected, "{body}");
        }
        let hash = |body: &str| read(body).content_hash();
        assert_ne!(hash(r#"{"id":"1","doNotEmail":"maybe"}"#), hash(r#"{"id":"1"}"#), "it is no repeat of the other");
    }

    #[test]
    fn what_nobody_knows_is_kept_and_what_has_no_value_is_left_out() {
        let body = r#"{"id":"1","apiVersion":"9.0","mood":{"x":[1]},"leadStatus":null,"doNotEmail":"True"}"#;
        let post = read(PostKind::LeadUpdate, body.as_bytes()).unwrap();
        let expected = serde_json::json!({"apiVersion": "9.0", "mood": {"x": [1]}, "doNotEmail": true});
        assert_eq!(Value::Object(post.content), expected);
    }

    #[test]
    fn too_many_keys_are_refused() {
        let keys: Vec<String> = (0..2000).map(|k| format!("\"k{k}\":1")).collect();
        assert!(reason(PostKind::LeadUpdate, &format!("{{\"id\":\"1\",{}}}", keys.join(","))).contains("2001 keys"));
    }

    #[test]
    fn the_same_content_is_known_by_its_hash_in_whatever_order_its_keys_come() {
        let hash = |kind, body: &str| read(kind, body.as_bytes()).unwrap().content_hash();
        let a = hash(PostKind::LeadUpdate, r#"{"id":"1","hotLead":true,"x":{"a":1,"b":2}}"#);
        assert_eq!(a, hash(PostKind::LeadUpdate, r#"{ "x":{"b":2,"a":1}, "hotLead":true, "leadId":"1" }"#));
        assert_ne!(a, hash(PostKind::LeadUpdate, r#"{"id":"2","hotLead":true,"x":{"a":1,"b":2}}"#));
        assert_ne!(a, hash(PostKind::LeadUpdate, r#"{"id":"1","hotLead":false,"x":{"a":1,"b":2}}"#));
        assert_ne!(a, hash(PostKind::LeadUpdate, r#"{"id":"1","clientId":"c","hotLead":true,"x":{"a":1,"b":2}}"#));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in PostKind::ALL {
                if let Ok(post) = read(kind, &body) {
                    post.content_hash();
                }
            }
        }
    }
}
