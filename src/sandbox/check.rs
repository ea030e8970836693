//! Finds everything in a posted body that Conversica would answer with 400. Pure.
//!
//! One pass over the text, borrowing from it: this is also the benchmark's server. A problem must not repeat a value, because
//! values are personal data; the keys suffice to fix it. Unknown keys are accepted.

use std::borrow::Cow;
use std::fmt;

use chrono::DateTime;
use email_address::{EmailAddress, Options};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::conversica::lead::{LeadKey, ValueKind};

/// The identity of the lead in a body.
#[derive(Debug, PartialEq, Eq)]
pub struct LeadIdentity<'a> {
    /// Empty where the body has none.
    pub client_id: Cow<'a, str>,
    pub id: Cow<'a, str>,
}

const API_VERSION: &str = "apiVersion";

/// A lead needs a value for each of these; `apiVersion` is checked separately.
const REQUIRED: [LeadKey; 5] = [LeadKey::Id, LeadKey::FirstName, LeadKey::Email, LeadKey::LeadSource, LeadKey::RepName];

/// The lead's identity, or every problem of the body, each a sentence for people.
pub fn check(body: &[u8]) -> Result<LeadIdentity<'_>, Vec<String>> {
    // Skipped strings would otherwise go unchecked, and `GET /leads` returns bodies as JSON.
    let text = std::str::from_utf8(body).map_err(|_| vec!["the body is not UTF-8".to_owned()])?;
    let reading: BodyCheck<'_> = serde_json::from_str(text).map_err(|error| {
        // A data error of serde quotes the value; a syntax error names only the place.
        vec![if error.is_data() { "the body is not a JSON object".into() } else { format!("not JSON: {error}") }]
    })?;
    reading.finish()
}

#[derive(Default)]
struct BodyCheck<'a> {
    client_id: Cow<'a, str>,
    id: Cow<'a, str>,
    /// One bit for each published key in the body, valid or not.
    seen: u64,
    version_seen: bool,
    problems: Vec<String>,
}

impl<'a> BodyCheck<'a> {
    fn take(&mut self, name: &str, value: PostedValue<'a>) {
        if matches!(value, PostedValue::Null) {
            self.problems.push(format!("{name} is null: leave out a key that has no value"));
        }
        let Some(key) = LeadKey::from_name(name) else {
            if name == API_VERSION {
                self.version_seen = true;
                self.required_text(name, &value);
            }
            return;
        };
        let bit = 1 << (key as u32);
        if self.seen & bit != 0 {
            self.problems.push(format!("{name} is given twice"));
        }
        self.seen |= bit;
        match key.kind() {
            ValueKind::Boolean if matches!(value, PostedValue::Boolean | PostedValue::Null) => {}
            ValueKind::Boolean => self.problems.push(format!("{name} must be true or false, not {}", value.describe())),
            ValueKind::Text if REQUIRED.contains(&key) => self.required_text(name, &value),
            ValueKind::Text => self.text(name, &value),
            ValueKind::Datetime => self.datetime(name, &value),
        }
        match (key, value) {
            (LeadKey::Id, PostedValue::Text(id)) => self.id = id,
            (LeadKey::ClientId, PostedValue::Text(client_id)) => self.client_id = client_id,
            (LeadKey::Email, PostedValue::Text(email))
                if !email.trim().is_empty() && !shaped_like_an_address(&email) =>
            {
                self.problems.push("email is not shaped like an address".to_owned());
            }
            _ => {}
        }
    }

    fn required_text(&mut self, name: &str, value: &PostedValue<'_>) {
        match value {
            PostedValue::Text(text) if text.trim().is_empty() => self.problems.push(format!("{name} is blank")),
            other => self.text(name, other),
        }
    }

    fn text(&mut self, name: &str, value: &PostedValue<'_>) {
        match value {
            PostedValue::Text(_) | PostedValue::Null => {}
            other => self.problems.push(format!("{name} must be a string, not {}", other.describe())),
        }
    }

    fn datetime(&mut self, name: &str, value: &PostedValue<'_>) {
        match value {
            PostedValue::Text(text) if DateTime::parse_from_rfc3339(text).is_ok() => {}
            PostedValue::Text(_) => {
                self.problems.push(format!("{name} is not an RFC 3339 datetime such as 2019-05-10T05:57:44+00:00"));
            }
            other => self.text(name, other),
        }
    }

    fn finish(mut self) -> Result<LeadIdentity<'a>, Vec<String>> {
        if !self.version_seen {
            self.problems.push(format!("{API_VERSION} is missing"));
        }
        for key in REQUIRED {
            if self.seen & (1 << (key as u32)) == 0 {
                self.problems.push(format!("{key} is missing"));
            }
        }
        if self.problems.is_empty() {
            Ok(LeadIdentity { client_id: self.client_id, id: self.id })
        } else {
            Err(self.problems)
        }
    }
}

fn shaped_like_an_address(text: &str) -> bool {
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    EmailAddress::parse_with_options(text, options).is_ok()
}

impl<'de> Deserialize<'de> for BodyCheck<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BodyVisitor;

        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = BodyCheck<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut reading = BodyCheck::default();
                while let Some(BodyKey(name)) = map.next_key()? {
                    let value = map.next_value()?;
                    reading.take(&name, value);
                }
                Ok(reading)
            }
        }

        deserializer.deserialize_map(BodyVisitor)
    }
}

#[derive(serde::Deserialize)]
struct BodyKey<'a>(#[serde(borrow)] Cow<'a, str>);

/// A JSON value, as far as the check needs it: only strings keep their content.
enum PostedValue<'a> {
    Null,
    Boolean,
    Number,
    Text(Cow<'a, str>),
    Array,
    Object,
}

impl PostedValue<'_> {
    fn describe(&self) -> &'static str {
        match self {
            PostedValue::Null => "null",
            PostedValue::Boolean => "a boolean",
            PostedValue::Number => "a number",
            PostedValue::Text(_) => "a string",
            PostedValue::Array => "an array",
            PostedValue::Object => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for PostedValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = PostedValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(PostedValue::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(PostedValue::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(PostedValue::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(PostedValue::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(PostedValue::Number)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(PostedValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(PostedValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(PostedValue::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(PostedValue::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALLY: &str = r#"{"apiVersion":"7.2","id":"12345","firstName":"Sally","email":"sally@email.com",
        "leadSource":"Big Events","repName":"John"}"#;

    fn with(more: &str) -> String {
        SALLY.replace('}', &format!(",{more}}}"))
    }

    fn problems(body: &str) -> Vec<String> {
        check(body.as_bytes()).map(|identity| format!("{identity:?}")).unwrap_err()
    }

    #[test]
    fn a_good_lead_gives_its_identity() {
        let identity = check(SALLY.as_bytes()).unwrap();
        assert_eq!((identity.client_id.as_ref(), identity.id.as_ref()), ("", "12345"));
        let tenant = with(r#""clientId":"a\"b","optOut":false,"date":"2019-05-10T05:57:44+00:00","custom":[{"a":1}]"#);
        assert_eq!(check(tenant.as_bytes()).unwrap().client_id, "a\"b");
    }

    #[test]
    fn every_problem_is_listed_at_once() {
        let body = r#"{"apiVersion":"","id":12345,"firstName":" ","email":"sally(at)email","repName":"John",
            "optOut":"false","date":"2019-05-10 05:57","lastName":null,"year":2019,"year":"2019"}"#;
        let expected = [
            "apiVersion is blank",
            "id must be a string, not a number",
            "firstName is blank",
            "email is not shaped like an address",
            "optOut must be true or false, not a string",
            "date is not an RFC 3339 datetime such as 2019-05-10T05:57:44+00:00",
            "lastName is null: leave out a key that has no value",
            "year must be a string, not a number",
            "year is given twice",
            "leadSource is missing",
        ];
        assert_eq!(problems(body), expected);
    }

    #[test]
    fn an_empty_object_misses_every_required_key() {
        let expected = ["apiVersion", "id", "firstName", "email", "leadSource", "repName"];
        assert_eq!(problems("{}"), expected.map(|key| format!("{key} is missing")));
    }

    #[test]
    fn a_custom_key_may_be_anything_but_null() {
        assert!(check(with(r#""dealerGroup":7"#).as_bytes()).is_ok());
        assert_eq!(problems(&with(r#""dealerGroup":null"#)).len(), 1);
    }

    #[test]
    fn what_is_no_json_object_is_one_problem_that_quotes_nothing() {
        assert_eq!(problems("\"Sally\""), ["the body is not a JSON object"]);
        assert_eq!(problems("[]"), ["the body is not a JSON object"]);
        assert!(problems("{\"id\":\"Sally\nSmith\"}")[0].starts_with("not JSON: "));
        assert!(problems("")[0].starts_with("not JSON: "));
        assert_eq!(check(b"{\"x\":\"\xff\"}").unwrap_err(), ["the body is not UTF-8"]);
    }

    #[test]
    fn no_problem_repeats_a_value() {
        let told =
            problems(r#"{"id":["secret-value"],"email":"secret-value","date":"secret-value","optOut":"secret-value"}"#);
        assert!(!told.join(" ").contains("secret-value"), "{told:?}");
    }
}
