//! What another configuration makes of the same row. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::conversica::lead::{LeadId, WITHDRAWALS};

/// A lead whose content differs because of the configuration alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigurationChange {
    pub id: String,
    pub client_id: String,
    pub kind: ConfigurationChangeKind,
    /// Key → [value by the old configuration or null, value by the new one or null].
    pub changes: BTreeMap<String, [Value; 2]>,
    /// Why the lead is invalid on one side.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigurationChangeKind {
    /// Valid with both.
    Changed,
    /// Valid only with the new one.
    NowValid,
    /// Valid only with the old one.
    NowInvalid,
    /// Read only with the new one.
    Added,
    /// Read only with the old one: with `on_delete = "stop_messaging"` its messages are stopped.
    Removed,
}

impl ConfigurationChangeKind {
    pub const fn name(self) -> &'static str {
        match self {
            ConfigurationChangeKind::Changed => "changed",
            ConfigurationChangeKind::NowValid => "now_valid",
            ConfigurationChangeKind::NowInvalid => "now_invalid",
            ConfigurationChangeKind::Added => "added",
            ConfigurationChangeKind::Removed => "removed",
        }
    }
}

/// What one configuration makes of a row: a Lead object, or the reasons why there is none.
pub type RowContent = Result<String, Vec<String>>;

/// The difference between what two configurations make of the row of a lead; `None` if there is none. A side that does not read the
/// lead is `None`.
pub fn difference(lead: &LeadId, old: Option<&RowContent>, new: Option<&RowContent>) -> Option<ConfigurationChange> {
    let object = |content: Option<&RowContent>| -> Map<String, Value> {
        let content = content.and_then(|content| content.as_ref().ok());
        content.and_then(|content| serde_json::from_str(content).ok()).unwrap_or_default()
    };
    let reasons = |content: Option<&RowContent>| content.and_then(|content| content.as_ref().err().cloned());
    let (kind, reasons) = match (old, new) {
        // Sent by neither.
        (None | Some(Err(_)), None | Some(Err(_))) => return None,
        (None, Some(Ok(_))) => (ConfigurationChangeKind::Added, None),
        (Some(Ok(_)), None) => (ConfigurationChangeKind::Removed, None),
        (Some(Ok(old)), Some(Ok(new))) if old == new => return None,
        (Some(Ok(_)), Some(Ok(_))) => (ConfigurationChangeKind::Changed, None),
        (Some(Err(_)), Some(Ok(_))) => (ConfigurationChangeKind::NowValid, reasons(old)),
        (Some(Ok(_)), Some(Err(_))) => (ConfigurationChangeKind::NowInvalid, reasons(new)),
    };
    let (old, new) = (object(old), object(new));
    let keys = old.keys().chain(new.keys());
    let value = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
    let changes = keys
        .map(|key| (key.clone(), [value(&old, key), value(&new, key)]))
        .filter(|(_, [old, new])| old != new)
        .collect();
    let LeadId { id, client_id } = lead.clone();
    Some(ConfigurationChange { id, client_id, kind, changes, reasons: reasons.unwrap_or_default() })
}

/// The numbers of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConfigurationTotals {
    pub unchanged: u64,
    pub changed: u64,
    pub now_valid: u64,
    pub now_invalid: u64,
    pub added: u64,
    pub removed: u64,
    /// Key → leads for which it changes, of those that are valid with both.
    pub changed_keys: BTreeMap<String, u64>,
    /// Leads with an opt-out or a stop by the new configuration only. At Conversica most of these cannot be undone.
    pub withdrawals: u64,
    /// Leads with an opt-out or a stop by the old configuration only.
    pub lost_withdrawals: u64,
}

impl ConfigurationTotals {
    /// Counts a lead; `None` is one without a difference.
    pub fn add(&mut self, change: Option<&ConfigurationChange>) {
        let Some(change) = change else {
            self.unchanged += 1;
            return;
        };
        match change.kind {
            ConfigurationChangeKind::Changed => {
                self.changed += 1;
                for key in change.changes.keys() {
                    *self.changed_keys.entry(key.clone()).or_default() += 1;
                }
            }
            ConfigurationChangeKind::NowValid => self.now_valid += 1,
            ConfigurationChangeKind::NowInvalid => self.now_invalid += 1,
            ConfigurationChangeKind::Added => self.added += 1,
            ConfigurationChangeKind::Removed => self.removed += 1,
        }
        let says = |side: usize| {
            WITHDRAWALS
                .into_iter()
                .any(|key| change.changes.get(key.name()).is_some_and(|sides| sides[side] == Value::Bool(true)))
        };
        self.withdrawals += u64::from(says(1));
        self.lost_withdrawals += u64::from(says(0));
    }

    pub fn is_without_difference(&self) -> bool {
        self.changed + self.now_valid + self.now_invalid + self.added + self.removed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lead() -> LeadId {
        LeadId { id: "7".to_owned(), client_id: String::new() }
    }

    fn valid(content: Value) -> RowContent {
        Ok(content.to_string())
    }

    #[test]
    fn each_difference_has_its_kind_and_its_keys() {
        let (a, b) = (valid(json!({"id": "7", "city": "Ulm"})), valid(json!({"id": "7", "zip": "89073"})));
        let invalid = Err(vec!["email: missing".to_owned()]);
        let kind = |old, new| difference(&lead(), old, new).map(|change| change.kind);
        assert_eq!(kind(Some(&a), Some(&a)), None);
        assert_eq!(kind(Some(&invalid), Some(&invalid)), None);
        assert_eq!(kind(Some(&a), Some(&b)), Some(ConfigurationChangeKind::Changed));
        assert_eq!(kind(Some(&invalid), Some(&b)), Some(ConfigurationChangeKind::NowValid));
        assert_eq!(kind(Some(&a), Some(&invalid)), Some(ConfigurationChangeKind::NowInvalid));
        assert_eq!(kind(None, Some(&a)), Some(ConfigurationChangeKind::Added));
        assert_eq!(kind(Some(&a), None), Some(ConfigurationChangeKind::Removed));
        let changed = difference(&lead(), Some(&a), Some(&b)).unwrap();
        assert_eq!(changed.changes["city"], [json!("Ulm"), Value::Null]);
        assert_eq!(changed.changes.len(), 2);
    }

    #[test]
    fn opt_outs_that_come_or_go_are_counted_apart() {
        let (out, not) = (valid(json!({"id": "7", "optOut": true})), valid(json!({"id": "7", "optOut": false})));
        let mut totals = ConfigurationTotals::default();
        totals.add(difference(&lead(), Some(&not), Some(&out)).as_ref());
        totals.add(difference(&lead(), Some(&out), Some(&not)).as_ref());
        totals.add(difference(&lead(), Some(&out), None).as_ref());
        totals.add(None);
        assert_eq!((totals.withdrawals, totals.lost_withdrawals), (1, 2));
        assert_eq!((totals.changed, totals.removed, totals.unchanged, totals.changed_keys["optOut"]), (2, 1, 1, 2));
    }
}
