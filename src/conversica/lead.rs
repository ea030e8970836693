//! The Lead object that is sent to Conversica: its keys, their types and order. Pure.
//!
//! Canonical form: the keys in the order of [`LeadKey`], then custom keys in byte order; no key without a value; strings, except
//! for booleans. The canonical text is sent, stored and fingerprinted.

use std::cmp::Ordering;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    Text,
    /// Sent as `true` or `false`.
    Boolean,
    /// Sent as UTC in RFC 3339, e.g. `2019-05-10T05:57:44+00:00`.
    Datetime,
}

macro_rules! lead_keys {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident;)*) => {
        /// A published key of the Lead object. `apiVersion` is not among them: it comes from the settings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum LeadKey { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl LeadKey {
            /// All keys, in the order in which they are sent.
            pub const ALL: &'static [LeadKey] = &[$(LeadKey::$variant,)*];

            /// The key as Conversica writes it.
            pub const fn name(self) -> &'static str {
                match self { $(LeadKey::$variant => $name,)* }
            }

            pub const fn kind(self) -> ValueKind {
                match self { $(LeadKey::$variant => ValueKind::$kind,)* }
            }
        }
    };
}

lead_keys! {
    /// The lead's id in the CRM (Source ID); the upsert key.
    Id = "id", Text;
    ClientId = "clientId", Text;
    ConversationId = "conversationId", Text;
    FirstName = "firstName", Text;
    LastName = "lastName", Text;
    Email = "email", Text;
    LeadSource = "leadSource", Text;
    LeadStatus = "leadStatus", Text;
    LeadType = "leadType", Text;
    OptOut = "optOut", Boolean;
    RepId = "repId", Text;
    RepName = "repName", Text;
    RepEmail = "repEmail", Text;
    HomePhone = "homePhone", Text;
    WorkPhone = "workPhone", Text;
    CellPhone = "cellPhone", Text;
    Address = "address", Text;
    City = "city", Text;
    State = "state", Text;
    Zip = "zip", Text;
    Date = "date", Datetime;
    SmsOptOut = "smsOptOut", Boolean;
    SmsOptIn = "smsOptIn", Boolean;
    StopMessaging = "stopMessaging", Boolean;
    SkipToFollowup = "skipToFollowup", Boolean;
    LeadSubStatus = "leadSubStatus", Text;
    AppointmentStatus = "appointmentStatus", Text;
    AppointmentDate = "appointmentDate", Datetime;
    BdcRepId = "bdcRepId", Text;
    BdcRepName = "bdcRepName", Text;
    BdcRepEmail = "bdcRepEmail", Text;
    ServiceRepId = "serviceRepId", Text;
    ServiceRepName = "serviceRepName", Text;
    ServiceRepEmail = "serviceRepEmail", Text;
    Year = "year", Text;
    Make = "make", Text;
    Model = "model", Text;
    Vin = "vin", Text;
    AltRepId = "altRepId", Text;
    AltRepName = "altRepName", Text;
    AltRepEmail = "altRepEmail", Text;
    HomeEmail = "homeEmail", Text;
    WorkEmail = "workEmail", Text;
    AltEmail = "altEmail", Text;
}

impl fmt::Display for LeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl LeadKey {
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }
}

/// The identity of a lead: the key of its CRM row, and the tenant it belongs to (blank if there is only one).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct LeadId {
    /// Conversica's `id`.
    pub id: String,
    /// Conversica's `clientId`, or blank.
    pub client_id: String,
}

impl LeadId {
    pub fn as_pair(&self) -> (&str, &str) {
        (&self.id, &self.client_id)
    }

    pub fn of_pair((id, client_id): (&str, &str)) -> Self {
        Self { id: id.to_owned(), client_id: client_id.to_owned() }
    }

    /// Takes another identity, reusing its memory.
    pub fn set(&mut self, (id, client_id): (&str, &str)) {
        self.id.clear();
        self.id.push_str(id);
        self.client_id.clear();
        self.client_id.push_str(client_id);
    }
}

/// The keys that withdraw consent when they are true.
pub const WITHDRAWALS: [LeadKey; 3] = [LeadKey::OptOut, LeadKey::SmsOptOut, LeadKey::StopMessaging];

/// The keys that say whether a person may be written to. An unreadable value must not count as a yes.
pub const CONSENT: [LeadKey; 4] = [LeadKey::OptOut, LeadKey::SmsOptOut, LeadKey::SmsOptIn, LeadKey::StopMessaging];

/// The keys that hold an e-mail address.
pub const ADDRESSES: [LeadKey; 8] = [
    LeadKey::Email,
    LeadKey::RepEmail,
    LeadKey::BdcRepEmail,
    LeadKey::ServiceRepEmail,
    LeadKey::AltRepEmail,
    LeadKey::HomeEmail,
    LeadKey::WorkEmail,
    LeadKey::AltEmail,
];

/// Whether `new` withdraws consent that `old` did not withdraw: `optOut`, `smsOptOut` or `stopMessaging` turned true. Both are
/// canonical texts, in which quotes inside values are escaped, so the letters of a key with its value are found by a search.
pub fn withdraws_consent(old: &str, new: &str) -> bool {
    WITHDRAWALS.into_iter().any(|key| {
        let said = format!("\"{}\":true", key.name());
        new.contains(&said) && !old.contains(&said)
    })
}

/// The same Lead object with these keys true, and a consent that contradicts them false, in canonical form; `None` if the text is no
/// Lead object.
pub fn with_withdrawn(body: &str, withdrawn: &[LeadKey]) -> Option<String> {
    let mut old: Map<String, Value> = serde_json::from_str(body).ok()?;
    let mut new = Map::new();
    if let Some(version) = old.shift_remove("apiVersion") {
        new.insert("apiVersion".to_owned(), version);
    }
    for key in LeadKey::ALL {
        let value = old.shift_remove(key.name());
        let is_contradicted = *key == LeadKey::SmsOptIn && withdrawn.contains(&LeadKey::SmsOptOut);
        let value = match value {
            _ if withdrawn.contains(key) => Some(Value::Bool(true)),
            Some(Value::Bool(true)) if is_contradicted => Some(Value::Bool(false)),
            other => other,
        };
        if let Some(value) = value {
            new.insert(key.name().to_owned(), value);
        }
    }
    new.extend(old);
    Some(Value::Object(new).to_string())
}

/// 128 bits of SHA-256: enough that two different leads never look alike, short enough to keep for every lead.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentFingerprint(pub [u8; 16]);

impl ContentFingerprint {
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(bytes);
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ContentFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of a source row, read by one mapping. It stays the same while the row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHash(pub i64);

/// An order of leads in which both the source and the state can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdOrder {
    /// By the bytes of the id.
    Bytes,
    /// By the length in bytes, then by the bytes: whole numbers that are not negative sort by size.
    ByLength,
}

impl IdOrder {
    /// Compares two leads, each given as id and client.
    pub fn compare(self, a: (&str, &str), b: (&str, &str)) -> Ordering {
        match self {
            IdOrder::Bytes => a.cmp(&b),
            IdOrder::ByLength => a.0.len().cmp(&b.0.len()).then_with(|| a.cmp(&b)),
        }
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for ContentFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_is_withdrawn_only_where_it_was_not_withdrawn_before() {
        let (given, out) = (r#"{"id":"1","optOut":false}"#, r#"{"id":"1","city":"Ulm","optOut":true}"#);
        assert!(withdraws_consent(given, out));
        assert!(!withdraws_consent(out, r#"{"id":"1","city":"Bonn","optOut":true}"#));
        assert!(withdraws_consent(out, r#"{"id":"1","optOut":true,"smsOptOut":true}"#));
        assert!(!withdraws_consent(given, r#"{"id":"1","firstName":"\"optOut\":true"}"#), "a name is not a key");
    }

    #[test]
    fn a_withdrawal_put_into_a_lead_keeps_the_rest_and_the_order_of_the_keys() {
        let body =
            r#"{"apiVersion":"7.2","id":"1","firstName":"A \"B\"","optOut":false,"city":"Ulm","dealerGroup":"x"}"#;
        let stopped = with_withdrawn(body, &[LeadKey::OptOut, LeadKey::StopMessaging]).unwrap();
        let expected = r#"{"apiVersion":"7.2","id":"1","firstName":"A \"B\"","optOut":true,"city":"Ulm","stopMessaging":true,"dealerGroup":"x"}"#;
        assert_eq!(stopped, expected);
        assert_eq!(with_withdrawn(body, &[]).unwrap(), body, "canonical already");
        assert!(withdraws_consent(body, &stopped));
        assert_eq!(with_withdrawn("no JSON", &[]), None);
    }
}
