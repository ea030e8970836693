//! From a CRM row to the Lead object: columns, defaults, constants, value maps, and the checks before sending. Pure.
//!
//! A row that does not make a valid lead yields *every* reason, and concerns no other row. Reasons name keys and columns,
//! never values.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use email_address::{EmailAddress, Options};
use secrecy::ExposeSecret;

use crate::config::{FieldRule, Settings, WhenNull};
use crate::conversica::consent::{Override, Standing};
use crate::conversica::lead::{Fingerprint, Kind, LeadId, LeadKey, RowHash, WITHDRAWALS};
use crate::crm::json::UNREADABLE;
use crate::crm::value;

/// The longest value that is sent, in characters. Conversica publishes no limit; no name, address or source is this long.
pub const MAX_CHARS: usize = 2000;

/// Stands in a cell for a JSON object or array, which no key of a lead can hold; before the text of a JSON scalar as it is
/// read, see [`crate::crm::json::scalar`].
pub const NOT_SCALAR: &str = "\u{1}json";

/// One row of the source: the key, the client where one is configured, then the cells of [`Mapping::columns`] in order.
/// All as the database's own text; `None` for NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: Option<String>,
    pub client: Option<String>,
    pub cells: Vec<Option<String>>,
}

impl Row {
    /// Whose row it is; `None` where the key is NULL.
    pub fn lead(&self) -> Option<LeadId> {
        Some(LeadId { id: self.key.clone()?, client_id: self.client.clone().unwrap_or_default() })
    }
}

/// The `[lead]` section made ready for rows.
#[derive(Debug, Clone)]
pub struct Mapping {
    columns: Vec<String>,
    fields: Vec<Field>,
    api_version: String,
    zone: Tz,
    sms: bool,
    require_conversation_id: bool,
    /// Of the columns, the one with the time at which consent was given.
    given_at: Option<usize>,
    keep_opt_outs: bool,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    /// `None` for custom keys, which are text.
    key: Option<LeadKey>,
    from: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    Key,
    Client,
    Constant(String),
    Column { index: usize, default: Option<String>, map: BTreeMap<String, String>, when_null: WhenNull },
}

/// What a row became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub lead: LeadId,
    /// The canonical Lead object, or every reason why there is none.
    pub desired: Result<String, Vec<String>>,
    /// Of a row that makes no lead: which keys withdraw consent all the same. A person's word is not lost with an address.
    pub withdrawn: Vec<LeadKey>,
    /// Of the row it was made of, where it makes a lead: as long as that is the same, this is.
    pub row_hash: Option<RowHash>,
    /// What of it is not as the row has it, because a person's opt-out stands against that.
    pub kept: Vec<Override>,
}

impl Mapped {
    /// Made of a row of this hash.
    pub fn of_row(self, hash: RowHash) -> Self {
        // A row that makes no lead is looked at each time: what it withdraws may not have arrived.
        Self { row_hash: self.desired.is_ok().then_some(hash), ..self }
    }

    /// With the opt-outs that stand.
    pub fn kept_by(self, standing: &Standing) -> Self {
        let Ok(body) = &self.desired else { return self };
        let kept = standing.overrides(body);
        match standing.keep(body) {
            Some(body) => Self { desired: Ok(body), kept, ..self },
            None => self,
        }
    }

    /// Of the Lead object, or of the reasons: equal fingerprints mean that nothing has changed.
    pub fn fingerprint(&self) -> Fingerprint {
        match &self.desired {
            Ok(body) => Fingerprint::of(body.as_bytes()),
            Err(reasons) => Fingerprint::of(reasons.join("\n").as_bytes()),
        }
    }
}

impl Mapping {
    pub fn new(settings: &Settings) -> Self {
        let mut mapping = Mapping {
            columns: Vec::new(),
            fields: Vec::new(),
            api_version: settings.conversica.api_version.clone(),
            zone: settings.source.time_zone,
            sms: settings.conversica.sms,
            require_conversation_id: settings.conversica.require_conversation_id,
            given_at: None,
            keep_opt_outs: settings.consent.keep_opt_outs,
        };
        for key in LeadKey::ALL.iter().copied() {
            let rule = settings.lead.published.get(&key);
            let from = match (key, rule, &settings.conversica.test_lead_token) {
                (LeadKey::LastName, _, Some(token)) => Origin::Constant(token.expose_secret().to_owned()),
                (LeadKey::Id, _, _) => Origin::Key,
                (LeadKey::ClientId, _, _) if settings.source.client.is_some() => Origin::Client,
                (_, Some(rule), _) => mapping.origin_by(rule),
                (_, None, _) => continue,
            };
            mapping.fields.push(Field { name: key.name().to_owned(), key: Some(key), from });
        }
        for (name, rule) in &settings.lead.custom {
            let from = mapping.origin_by(rule);
            mapping.fields.push(Field { name: name.clone(), key: None, from });
        }
        let given_at = settings.consent.given_at.as_deref().filter(|_| settings.consent.keep_opt_outs);
        mapping.given_at = given_at.map(|column| mapping.index_of(column));
        mapping
    }

    /// Whether an opt-out that was heard stands against what a row says.
    pub fn keeps_opt_outs(&self) -> bool {
        self.keep_opt_outs
    }

    /// The column with the time at which consent was given.
    pub fn given_at_column(&self) -> Option<&str> {
        self.given_at.map(|index| self.columns[index].as_str())
    }

    /// When the row says that consent was given; `None` also where that cannot be read.
    pub fn given_at(&self, row: &Row) -> Option<DateTime<Utc>> {
        let text = row.cells[self.given_at?].as_deref().map(str::trim).filter(|text| !text.is_empty())?;
        value::datetime(text, self.zone)
    }

    fn index_of(&mut self, column: &str) -> usize {
        self.columns.iter().position(|known| known == column).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        })
    }

    /// The source's columns that the mapping reads, each once, in the order of [`Row::cells`].
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Where each mapped column is used: `(column, Conversica key)`, for messages about columns.
    pub fn uses(&self) -> Vec<(&str, &str)> {
        let of = |field: &Field| match &field.from {
            Origin::Column { index, .. } => Some(*index),
            Origin::Key | Origin::Client | Origin::Constant(_) => None,
        };
        self.fields.iter().filter_map(|f| Some((self.columns[of(f)?].as_str(), f.name.as_str()))).collect()
    }

    /// A fingerprint of the whole mapping: changes when `[lead]` or the API version does.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(format!("{self:?}").as_bytes())
    }

    /// Makes the Lead object of a row. The row has a key: rows without one never get here.
    pub fn map(&self, row: &Row) -> Mapped {
        let key = row.key.clone().unwrap_or_default();
        let mut reasons = Vec::new();
        let mut present: u64 = 0;
        let mut body = String::with_capacity(512);
        body.push_str("{\"apiVersion\":");
        push_json_text(&mut body, &self.api_version);
        for field in &self.fields {
            let Some(text) = self.text(field, row, &mut reasons) else { continue };
            if let Some(key) = field.key.filter(|_| !text.is_empty()) {
                present |= 1 << key as u64;
            }
            self.push(&mut body, field, text, &mut reasons);
        }
        body.push('}');
        self.check_presence(present, &mut reasons);
        if key != key.trim() {
            reasons.push("id: the source key begins or ends with white space".to_owned());
        }
        // Both are sent without it, which could be another lead's identity.
        if row.client.as_deref().is_some_and(|client| client != client.trim()) {
            reasons.push("clientId: the source client begins or ends with white space".to_owned());
        }
        let lead = LeadId { id: key, client_id: row.client.clone().unwrap_or_default() };
        if reasons.is_empty() {
            return Mapped { lead, desired: Ok(body), withdrawn: Vec::new(), row_hash: None, kept: Vec::new() };
        }
        let withdrawn = self.withdrawn(row);
        Mapped { lead, desired: Err(reasons), withdrawn, row_hash: None, kept: Vec::new() }
    }

    fn withdrawn(&self, row: &Row) -> Vec<LeadKey> {
        let mut said_before = Vec::new();
        let mut is_true =
            |field: &Field| self.text(field, row, &mut said_before).and_then(value::boolean) == Some(true);
        let fields = self.fields.iter().filter(|field| field.key.is_some_and(|key| WITHDRAWALS.contains(&key)));
        fields.filter(|field| is_true(field)).filter_map(|field| field.key).collect()
    }

    fn origin_by(&mut self, rule: &FieldRule) -> Origin {
        match rule {
            FieldRule::Value(value) => Origin::Constant(value.clone()),
            FieldRule::Column { column, default, map, when_null } => {
                let index = self.index_of(column);
                Origin::Column { index, default: default.clone(), map: map.clone(), when_null: *when_null }
            }
        }
    }

    /// The trimmed text of a field, mapped and defaulted; `None` where the key is to be left out.
    fn text<'a>(&'a self, field: &'a Field, row: &'a Row, reasons: &mut Vec<String>) -> Option<&'a str> {
        fn trimmed(cell: &Option<String>) -> Option<&str> {
            cell.as_deref().map(str::trim).filter(|text| !text.is_empty())
        }
        match &field.from {
            Origin::Key => trimmed(&row.key),
            Origin::Client => trimmed(&row.client),
            Origin::Constant(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            Origin::Column { index, default, map, when_null } => {
                let Some(text) = trimmed(&row.cells[*index]) else {
                    let default = default.as_deref().map(str::trim).filter(|text| !text.is_empty());
                    return match when_null {
                        WhenNull::Empty => default.or(Some("")),
                        WhenNull::Omit => default,
                    };
                };
                if map.is_empty() {
                    return Some(text);
                }
                match map.get(text).or_else(|| map.get("*")) {
                    Some(mapped) => Some(mapped.trim()).filter(|text| !text.is_empty()),
                    None => {
                        let column = &self.columns[*index];
                        let name = &field.name;
                        reasons.push(format!(
                            "{name}: the value of column \"{column}\" has no entry in its map (add it, or a \"*\" entry)"
                        ));
                        None
                    }
                }
            }
        }
    }

    /// Appends `,"key":value`, checked by the key's own type.
    fn push(&self, body: &mut String, field: &Field, text: &str, reasons: &mut Vec<String>) {
        let mut refuse = |why: &str| reasons.push(format!("{}: {why}{}", field.name, self.place(field)));
        body.push(',');
        push_json_text(body, &field.name);
        body.push(':');
        match field.key.map_or(Kind::Text, LeadKey::kind) {
            Kind::Boolean => match value::boolean(text) {
                Some(true) => body.push_str("true"),
                Some(false) => body.push_str("false"),
                None => refuse("is neither yes nor no"),
            },
            Kind::Datetime => match value::datetime(text, self.zone) {
                Some(at) => push_json_text(body, &value::format_datetime(at)),
                None => refuse("is not a date and time that can be read"),
            },
            Kind::Text => {
                if ![NOT_SCALAR, UNREADABLE].contains(&text) && text.chars().any(char::is_control) {
                    refuse("contains control characters such as line breaks");
                }
                if text == NOT_SCALAR {
                    refuse("is a JSON object or array; pick one value of it in a [source] query");
                } else if text == UNREADABLE {
                    refuse("is JSON that holds no text: half of a character, or a number beyond all measure");
                } else if text.contains('\u{fffd}') {
                    refuse("is not valid UTF-8 text");
                }
                if text.chars().nth(MAX_CHARS).is_some() {
                    refuse("is longer than 2000 characters");
                }
                if field.key == Some(LeadKey::Email) && !is_address(text) {
                    refuse("is not shaped like an e-mail address");
                }
                push_json_text(body, text);
            }
        }
    }

    fn check_presence(&self, present: u64, reasons: &mut Vec<String>) {
        let has = |key: LeadKey| present & (1 << key as u64) != 0;
        let mut required = |key: LeadKey| {
            if !has(key) {
                let field = self.fields.iter().find(|field| field.key == Some(key));
                // A value without an entry in its map has said so already.
                if !reasons.iter().any(|reason| reason.starts_with(key.name()) && reason.contains(" map ")) {
                    let origin = field.map(|field| self.place(field)).unwrap_or_default();
                    reasons.push(format!("{}: is required, but blank{origin}", key.name()));
                }
            }
        };
        for key in [LeadKey::Id, LeadKey::FirstName, LeadKey::Email, LeadKey::LeadSource, LeadKey::RepName] {
            required(key);
        }
        if self.require_conversation_id {
            required(LeadKey::ConversationId);
        }
        if self.sms {
            required(LeadKey::CellPhone);
            if !has(LeadKey::SmsOptIn) && !has(LeadKey::SmsOptOut) {
                reasons.push("smsOptIn or smsOptOut: one is required for text messages, but both are blank".to_owned());
            }
        }
    }

    fn place(&self, field: &Field) -> String {
        match &field.from {
            Origin::Column { index, .. } => format!(" (column \"{}\")", self.columns[*index]),
            Origin::Key => " (the source's key)".to_owned(),
            Origin::Client => " (the source's client)".to_owned(),
            Origin::Constant(_) => " (a constant in [lead])".to_owned(),
        }
    }
}

/// Shaped like `someone@host.tld`: no display name, no address literal, a dot in the domain.
fn is_address(text: &str) -> bool {
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    EmailAddress::parse_with_options(text, options).is_ok()
}

fn push_json_text(body: &mut String, text: &str) {
    // Nearly every name, address and code needs no escaping.
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        body.push('"');
        body.push_str(text);
        body.push('"');
    } else {
        body.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use proptest::prelude::*;

    const CONFIG: &str = r#"
        [source]
        url = "sqlite://crm.db"
        table = "leads"
        key = "id"
        [lead]
        firstName = "first"
        email = "mail"
        leadSource = { column = "source", default = "Website" }
        leadStatus = { column = "status", map = { "1" = "New", "2" = "Sold" } }
        repName = { value = "Robin Roe" }
        optOut = "dnc"
        date = "created"
        [lead.custom]
        dealerGroup = "group"
        [conversica]
        username = "sandbox"
        password = "sandbox"
    "#;

    fn mapping() -> Mapping {
        let loaded = config::layers::load_text("test.toml", CONFIG, &Environment::default()).expect("valid settings");
        Mapping::new(&loaded.settings)
    }

    /// Columns in the order of the Lead keys that use them: first, mail, source, status, dnc, created, group.
    fn row(cells: [Option<&str>; 7]) -> Row {
        Row { key: Some("7".into()), client: None, cells: cells.iter().map(|c| c.map(str::to_owned)).collect() }
    }

    fn mapped(cells: [Option<&str>; 7]) -> Result<String, Vec<String>> {
        mapping().map(&row(cells)).desired
    }

    const GOOD: [Option<&str>; 7] = [
        Some("Ann"),
        Some("ann@example.com"),
        Some("Fair"),
        Some("1"),
        Some("N"),
        Some("2026-01-02 03:04:05"),
        Some("North"),
    ];

    #[test]
    fn a_good_row_becomes_the_canonical_lead() {
        assert_eq!(
            mapped(GOOD).unwrap(),
            r#"{"apiVersion":"7.2","id":"7","firstName":"Ann","email":"ann@example.com","leadSource":"Fair","leadStatus":"New","optOut":false,"repName":"Robin Roe","date":"2026-01-02T03:04:05+00:00","dealerGroup":"North"}"#
        );
    }

    #[test]
    fn blank_and_null_values_are_left_out_and_defaults_stand_in() {
        let mut cells = GOOD;
        (cells[2], cells[3], cells[4], cells[5], cells[6]) = (Some("  "), None, None, Some(""), None);
        assert_eq!(
            mapped(cells).unwrap(),
            r#"{"apiVersion":"7.2","id":"7","firstName":"Ann","email":"ann@example.com","leadSource":"Website","repName":"Robin Roe"}"#
        );
    }

    #[test]
    fn a_faulty_row_names_every_reason_at_once() {
        let reasons = mapped([
            None,
            Some("ann at example"),
            Some("a\u{7}b"),
            Some("9"),
            Some("perhaps"),
            Some("2026-13-01"),
            Some(NOT_SCALAR),
        ])
        .unwrap_err();
        let keys: Vec<_> = reasons.iter().map(|reason| reason.split(':').next().unwrap()).collect();
        assert_eq!(
            keys,
            ["email", "leadSource", "leadStatus", "optOut", "date", "dealerGroup", "firstName"],
            "{reasons:?}"
        );
    }

    #[test]
    fn reasons_never_quote_what_the_row_says() {
        let reasons =
            mapped([Some("S3cret\n"), Some("s3cret"), None, Some("s3cret"), Some("s3cret"), Some("s3cret"), None]);
        assert!(!format!("{reasons:?}").to_lowercase().contains("s3cret"));
    }

    #[test]
    fn values_are_escaped_as_json() {
        let mut cells = GOOD;
        cells[0] = Some("An\"n \\ O\u{2028}é");
        let body: serde_json::Value = serde_json::from_str(&mapped(cells).unwrap()).unwrap();
        assert_eq!(body["firstName"], "An\"n \\ O\u{2028}é");
    }

    proptest! {
        #[test]
        fn whatever_a_row_holds_the_result_is_json_or_reasons(cells in proptest::collection::vec(proptest::option::of(".{0,30}"), 7)) {
            let row = Row { key: Some("7".into()), client: None, cells };
            match mapping().map(&row).desired {
                Ok(body) => { serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&body).unwrap(); }
                Err(reasons) => prop_assert!(!reasons.is_empty()),
            }
        }

        #[test]
        fn the_same_row_always_has_the_same_fingerprint(name in "[a-zA-Z ]{1,20}") {
            let mut cells = GOOD.map(|c| c.map(str::to_owned)).to_vec();
            cells[0] = Some(format!("x{name}"));
            let row = Row { key: Some("7".into()), client: None, cells };
            prop_assert_eq!(mapping().map(&row).fingerprint(), mapping().map(&row.clone()).fingerprint());
        }
    }
}
