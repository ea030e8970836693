//! From a CRM row to the Lead object: columns, defaults, constants, value maps, and the checks before sending. Pure.
//!
//! An invalid row yields *every* reason, and does not affect other rows. An optional key with an unusable value is left out, with
//! a note. Reasons and notes name keys and columns, never values.

pub mod opt_out;
mod sendable;
mod telephone;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use secrecy::ExposeSecret;

use crate::config::{FieldRule, ServiceSettings, WhenNull};
use crate::conversica::consent::{ConsentOverride, WithdrawnConsent};
use crate::conversica::lead::{CONSENT, ContentFingerprint, LeadId, LeadKey, RowHash, WITHDRAWALS};
use crate::rules::content_hold::ExpectedNames;
use crate::rules::mapping::opt_out::{
    OptOutValue, UNMAPPED_COUNTS, UNMAPPED_MAY_BE, names_opt_out, read_opt_out, read_unmapped,
};
use crate::rules::mapping::sendable::{SendableValue, read};
use crate::rules::suppression_ground::SuppressionGround;
use crate::rules::value;

/// The version of the reading rules. A new number counts as a changed mapping, so that a version that makes other leads of the
/// same rows asks for approval before it sends them.
const READING: u32 = 3;

/// One row of the source: the key, the client if one is configured, then the cells of [`LeadMapping::columns()`] in order. All as
/// the database's own text; `None` for NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    pub key: Option<String>,
    pub client: Option<String>,
    pub cells: Vec<Option<String>>,
}

impl SourceRow {
    /// The lead of the row; `None` if the key is NULL.
    pub fn lead(&self) -> Option<LeadId> {
        Some(LeadId { id: self.key.clone()?, client_id: self.client.clone().unwrap_or_default() })
    }
}

/// The `[lead]` section, prepared for mapping rows.
#[derive(Debug, Clone)]
pub struct LeadMapping {
    /// Only part of the fingerprint.
    #[expect(dead_code, reason = "read by way of Debug, in the fingerprint")]
    reading: u32,
    /// Only part of the fingerprint: other names or another age judge every row anew.
    #[expect(dead_code, reason = "read by way of Debug, in the fingerprint")]
    held_by: (ExpectedNames, Duration),
    columns: Vec<String>,
    fields: Vec<MappedField>,
    api_version: String,
    zone: Tz,
    sms: bool,
    require_conversation_id: bool,
    /// The index of the column with the time at which consent was given.
    given_at: Option<usize>,
    keep_opt_outs: bool,
}

#[derive(Debug, Clone)]
struct MappedField {
    name: String,
    /// `None` for custom keys, which are text.
    key: Option<LeadKey>,
    from: FieldOrigin,
    /// Whether `lead.required` names it.
    is_required: bool,
}

#[derive(Debug, Clone)]
enum FieldOrigin {
    Key,
    Client,
    Constant(String),
    Column { index: usize, default: Option<String>, map: BTreeMap<String, String>, when_null: WhenNull },
}

/// The result of mapping a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedRow {
    pub lead: LeadId,
    /// The canonical Lead object, or every reason why there is none.
    pub desired: Result<String, Vec<String>>,
    /// For an invalid row: the keys that withdraw consent all the same. An opt-out is not lost with an address.
    pub withdrawn: Vec<LeadKey>,
    /// Those keys of `withdrawn` whose values are odd. If many rows have such values, they wait for the operator.
    pub odd: Vec<LeadKey>,
    /// The hash of the row, if it makes a lead: while it stays the same, so does the lead.
    pub row_hash: Option<RowHash>,
    /// Why the person is not written to under any id; empty if they may be.
    pub grounds: Vec<SuppressionGround>,
    /// The values that differ from the row, because a person's opt-out overrides the row.
    pub kept: Vec<ConsentOverride>,
    /// For a valid lead: values that were cleaned, and keys left out because their values cannot be used.
    pub notes: Vec<String>,
}

impl MappedRow {
    /// Adds the hash of the row.
    pub fn of_row(self, hash: RowHash) -> Self {
        // An invalid row is mapped each time, because its withdrawals may not have arrived.
        Self { row_hash: self.desired.is_ok().then_some(hash), ..self }
    }

    /// Applies the opt-outs in force.
    pub fn kept_by(self, standing: &WithdrawnConsent) -> Self {
        let Ok(body) = &self.desired else { return self };
        let kept = standing.overrides(body);
        match standing.keep(body) {
            Some(body) => Self { desired: Ok(body), kept, ..self },
            None => self,
        }
    }

    /// The fingerprint of the Lead object or of the reasons: if it is equal, nothing has changed.
    pub fn fingerprint(&self) -> ContentFingerprint {
        match &self.desired {
            Ok(body) => ContentFingerprint::of(body.as_bytes()),
            Err(reasons) => ContentFingerprint::of(reasons.join("\n").as_bytes()),
        }
    }
}

impl LeadMapping {
    pub fn new(settings: &ServiceSettings) -> Self {
        let mut mapping = LeadMapping {
            reading: READING,
            held_by: (ExpectedNames::new(settings), settings.safety.new_lead_older_than),
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
                (LeadKey::LastName, _, Some(token)) => FieldOrigin::Constant(token.expose_secret().to_owned()),
                (LeadKey::Id, _, _) => FieldOrigin::Key,
                (LeadKey::ClientId, _, _) if settings.source.client.is_some() => FieldOrigin::Client,
                (_, Some(rule), _) => mapping.origin_by(rule),
                (_, None, _) => continue,
            };
            let name = key.name().to_owned();
            let is_required = settings.lead.required.contains(&name);
            mapping.fields.push(MappedField { name, key: Some(key), from, is_required });
        }
        for (name, rule) in &settings.lead.custom {
            let from = mapping.origin_by(rule);
            let is_required = settings.lead.required.contains(name);
            mapping.fields.push(MappedField { name: name.clone(), key: None, from, is_required });
        }
        let given_at = settings.consent.given_at.as_deref().filter(|_| settings.consent.keep_opt_outs);
        mapping.given_at = given_at.map(|column| mapping.index_of(column));
        mapping
    }

    /// Whether a heard opt-out overrides a row.
    pub fn keeps_opt_outs(&self) -> bool {
        self.keep_opt_outs
    }

    /// The column with the time at which consent was given.
    pub fn given_at_column(&self) -> Option<&str> {
        self.given_at.map(|index| self.columns[index].as_str())
    }

    /// When consent was given, by the row; `None` also if the value cannot be read.
    pub fn given_at(&self, row: &SourceRow) -> Option<DateTime<Utc>> {
        let text = row.cells[self.given_at?].as_deref().map(str::trim).filter(|text| !text.is_empty())?;
        value::datetime(text, self.zone)
    }

    fn index_of(&mut self, column: &str) -> usize {
        self.columns.iter().position(|known| known == column).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        })
    }

    /// The source's columns that the mapping reads, each once, in the order of [`SourceRow::cells`].
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Where each mapped column is used: `(column, Conversica key)`, for messages about columns.
    pub fn uses(&self) -> Vec<(&str, &str)> {
        let of = |field: &MappedField| match &field.from {
            FieldOrigin::Column { index, .. } => Some(*index),
            FieldOrigin::Key | FieldOrigin::Client | FieldOrigin::Constant(_) => None,
        };
        self.fields.iter().filter_map(|f| Some((self.columns[of(f)?].as_str(), f.name.as_str()))).collect()
    }

    /// The keys of the Lead objects that the mapping may make.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// A fingerprint of the whole mapping: it changes with `[lead]` or the API version.
    pub fn fingerprint(&self) -> ContentFingerprint {
        ContentFingerprint::of(format!("{self:?}").as_bytes())
    }

    /// Makes the Lead object of a row. The row has a key: rows without one never get here.
    pub fn map(&self, row: &SourceRow) -> MappedRow {
        let key = row.key.clone().unwrap_or_default();
        let (mut reasons, mut notes) = (Vec::new(), Vec::new());
        let mut present: u64 = 0;
        let mut blank: Vec<&MappedField> = Vec::new();
        let mut body = String::with_capacity(512);
        body.push_str("{\"apiVersion\":");
        push_json_text(&mut body, &self.api_version);
        for field in &self.fields {
            let Some(text) = self.text(field, row, &mut reasons) else {
                blank.push(field);
                continue;
            };
            let is_blank = match read(field.key, text, self.zone) {
                Ok(sendable) => {
                    let is_blank = sendable.is_blank();
                    if let Some(how) = sendable.cleaned() {
                        notes.push(format!("{}: {how}{}", field.name, self.place(field)));
                    }
                    // A text of control characters only is no value.
                    if !is_blank || text.is_empty() {
                        push_field(&mut body, &field.name, &sendable);
                    }
                    is_blank
                }
                Err(unusable) => {
                    let place = self.place(field);
                    if unusable.is_of_the_row() || self.is_needed(field) {
                        reasons.extend(unusable.reasons.iter().map(|why| format!("{}: {why}{place}", field.name)));
                    } else {
                        let why = unusable.reasons.join(", and ");
                        notes.push(format!("{}: left out, because it {why}{place}", field.name));
                    }
                    false
                }
            };
            if is_blank {
                blank.push(field);
            } else if let Some(key) = field.key {
                present |= 1 << key as u64;
            }
        }
        body.push('}');
        self.check_presence(present, &mut reasons);
        self.check_required(&blank, &mut reasons);
        if key != key.trim() {
            reasons.push("id: the source key begins or ends with white space".to_owned());
        }
        // Both are sent trimmed, and the trimmed text could be another lead's identity.
        if row.client.as_deref().is_some_and(|client| client != client.trim()) {
            reasons.push("clientId: the source client begins or ends with white space".to_owned());
        }
        let lead = LeadId { id: key, client_id: row.client.clone().unwrap_or_default() };
        if reasons.is_empty() {
            return MappedRow {
                lead,
                desired: Ok(body),
                withdrawn: Vec::new(),
                odd: Vec::new(),
                grounds: Vec::new(),
                row_hash: None,
                kept: Vec::new(),
                notes,
            };
        }
        let (withdrawn, odd) = (self.withdrawn(row), self.odd_withdrawn(row));
        MappedRow {
            lead,
            desired: Err(reasons),
            withdrawn,
            odd,
            row_hash: None,
            grounds: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether the lead is invalid without this key: it identifies or addresses the person, or it says whether they may be
    /// written to and which messages they get.
    fn is_needed(&self, field: &MappedField) -> bool {
        use LeadKey::{CellPhone, ClientId, ConversationId};
        field.is_required
            || field.key.is_some_and(|key| {
                REQUIRED.contains(&key)
                    || CONSENT.contains(&key)
                    || [ClientId, ConversationId].contains(&key)
                    || key == CellPhone && self.sms
            })
    }

    /// The keys that withdraw consent in this row, also by a value that is neither yes nor no.
    pub fn withdrawn(&self, row: &SourceRow) -> Vec<LeadKey> {
        let fields = self.fields.iter().filter(|field| field.key.is_some_and(|key| WITHDRAWALS.contains(&key)));
        fields.filter(|field| self.opt_out_value(field, row).withdraws()).filter_map(|field| field.key).collect()
    }

    /// Those keys that withdraw consent by an odd value, see [`crate::rules::odd_opt_out`].
    pub fn odd_withdrawn(&self, row: &SourceRow) -> Vec<LeadKey> {
        let is_odd = |field: &&MappedField| {
            let FieldOrigin::Column { index, map, .. } = &field.from else { return false };
            let own = row.cells[*index].as_deref().map(str::trim).unwrap_or_default();
            // A value that is not in the map counts only if it resembles a yes of the map, or names an opt-out.
            self.opt_out_value(field, row) == OptOutValue::LikelyYes
                && !is_unmapped(own, map)
                && !self.text(field, row, &mut Vec::new()).is_some_and(names_opt_out)
        };
        let fields = self.fields.iter().filter(|field| field.key.is_some_and(|key| WITHDRAWALS.contains(&key)));
        fields.filter(is_odd).filter_map(|field| field.key).collect()
    }

    /// A fingerprint of the mapping of each opt-out key that has a column.
    pub fn opt_out_columns(&self) -> BTreeMap<LeadKey, String> {
        let of = |field: &MappedField| {
            let key = field.key.filter(|key| WITHDRAWALS.contains(key))?;
            let FieldOrigin::Column { index, default, map, when_null } = &field.from else { return None };
            let mapped = format!("{:?}", (&self.columns[*index], default, map, when_null));
            Some((key, ContentFingerprint::of(mapped.as_bytes()).to_string()))
        };
        self.fields.iter().filter_map(of).collect()
    }

    /// The opt-out value of the row, its default or a constant. Only a row's own value may be an odd one: a default and a
    /// constant come from the operator, who can write yes or no.
    fn opt_out_value(&self, field: &MappedField, row: &SourceRow) -> OptOutValue {
        let own = match &field.from {
            FieldOrigin::Column { index, map, .. } => {
                row.cells[*index].as_deref().map(str::trim).filter(|text| !text.is_empty()).map(|text| (text, map))
            }
            FieldOrigin::Key | FieldOrigin::Client | FieldOrigin::Constant(_) => None,
        };
        if let Some((text, map)) = own.filter(|(text, map)| is_unmapped(text, map)) {
            return read_unmapped(text, map.iter());
        }
        match (self.text(field, row, &mut Vec::new()), own) {
            (Some(text), Some(_)) => read_opt_out(text),
            (Some(text), None) if value::boolean(text) == Some(true) => OptOutValue::Yes,
            (Some(_), None) | (None, _) => OptOutValue::No,
        }
    }

    fn origin_by(&mut self, rule: &FieldRule) -> FieldOrigin {
        match rule {
            FieldRule::Value(value) => FieldOrigin::Constant(value.clone()),
            FieldRule::Column { column, default, map, when_null } => {
                let index = self.index_of(column);
                FieldOrigin::Column { index, default: default.clone(), map: map.clone(), when_null: *when_null }
            }
        }
    }

    /// The trimmed text of a field, mapped and defaulted; `None` if the key is left out.
    fn text<'a>(&'a self, field: &'a MappedField, row: &'a SourceRow, reasons: &mut Vec<String>) -> Option<&'a str> {
        fn trimmed(cell: &Option<String>) -> Option<&str> {
            cell.as_deref().map(str::trim).filter(|text| !text.is_empty())
        }
        match &field.from {
            FieldOrigin::Key => trimmed(&row.key),
            FieldOrigin::Client => trimmed(&row.client),
            FieldOrigin::Constant(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            FieldOrigin::Column { index, default, map, when_null } => {
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
                        let is_opt_out = field.key.is_some_and(|key| WITHDRAWALS.contains(&key));
                        let also = match read_unmapped(text, map.iter()) {
                            _ if !is_opt_out => String::new(),
                            OptOutValue::LikelyYes | OptOutValue::Yes => format!("; {UNMAPPED_COUNTS}"),
                            OptOutValue::Unclear | OptOutValue::No => format!("; {UNMAPPED_MAY_BE}"),
                        };
                        reasons.push(format!(
                            "{name}: the value of column \"{column}\" has no entry in its map (add it, or a \"*\" entry){also}"
                        ));
                        None
                    }
                }
            }
        }
    }

    fn check_presence(&self, present: u64, reasons: &mut Vec<String>) {
        let has = |key: LeadKey| present & (1 << key as u64) != 0;
        let mut required = |key: LeadKey| {
            if !has(key) {
                let field = self.fields.iter().find(|field| field.key == Some(key));
                // A value without an entry in its map has its own reason already.
                if !reasons.iter().any(|reason| reason.starts_with(key.name()) && reason.contains(" map ")) {
                    let origin = field.map(|field| self.place(field)).unwrap_or_default();
                    reasons.push(format!("{}: is required, but blank{origin}", key.name()));
                }
            }
        };
        for key in REQUIRED {
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

    /// Adds the keys that `lead.required` names and the row leaves blank, unless they have a reason already.
    fn check_required(&self, blank: &[&MappedField], reasons: &mut Vec<String>) {
        for field in blank.iter().filter(|field| field.is_required) {
            let named = format!("{}:", field.name);
            if !reasons.iter().any(|reason| reason.starts_with(&named)) {
                let place = self.place(field);
                reasons.push(format!("{named} is required by `required` in [lead], but blank{place}"));
            }
        }
    }

    fn place(&self, field: &MappedField) -> String {
        match &field.from {
            FieldOrigin::Column { index, .. } => format!(" (column \"{}\")", self.columns[*index]),
            FieldOrigin::Key => " (the source's key)".to_owned(),
            FieldOrigin::Client => " (the source's client)".to_owned(),
            FieldOrigin::Constant(_) => " (a constant in [lead])".to_owned(),
        }
    }
}

/// Whether a column has a map without an entry for this value.
fn is_unmapped(text: &str, map: &BTreeMap<String, String>) -> bool {
    !map.is_empty() && !map.contains_key(text) && !map.contains_key("*")
}

/// The keys that every account requires.
const REQUIRED: [LeadKey; 5] = [LeadKey::Id, LeadKey::FirstName, LeadKey::Email, LeadKey::LeadSource, LeadKey::RepName];

/// Appends `,"key":value`.
fn push_field(body: &mut String, name: &str, value: &SendableValue<'_>) {
    body.push(',');
    push_json_text(body, name);
    body.push(':');
    match value {
        SendableValue::Boolean(true) => body.push_str("true"),
        SendableValue::Boolean(false) => body.push_str("false"),
        SendableValue::Moment(at) => push_json_text(body, &value::format_datetime(*at)),
        SendableValue::Text(text) => push_json_text(body, text),
        SendableValue::Cleaned { text, .. } => push_json_text(body, text),
    }
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
mod tests;
