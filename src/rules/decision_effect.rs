//! The effect of a decision about leads, for the page that asks for it: which keys change at Conversica, who is contacted for the
//! first time, and some changes in full. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::conversica::lead::LeadId;
use crate::rules::lead_person::LeadPerson;

/// A lead that a decision concerns.
#[derive(Debug, Clone, PartialEq)]
pub struct DecidedContent {
    pub lead: LeadId,
    pub desired: Option<String>,
    /// What Conversica accepted last.
    pub delivered: Option<String>,
    /// Never sent from here, as far as is known.
    pub is_new: bool,
}

/// A key with its value at Conversica, and with the one that it would get.
pub type KeyChange = (String, Option<Value>, Option<Value>);

/// One lead in full.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedSample {
    pub lead: LeadId,
    pub name: String,
    pub changes: Vec<KeyChange>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecisionEffect {
    /// How many leads were looked at.
    pub leads: usize,
    /// Key → number of known leads for which it changes; the most frequent first.
    pub changed_keys: Vec<(String, u64)>,
    /// Leads that Conversica has with the same content already.
    pub unchanged: u64,
    /// The first of those who are contacted for the first time.
    pub new_people: Vec<(LeadId, String)>,
    pub all_new_people: u64,
    pub samples: Vec<ChangedSample>,
}

const SAMPLES: usize = 3;
const PEOPLE: usize = 20;

impl DecisionEffect {
    pub fn of(contents: &[DecidedContent]) -> Self {
        let mut effect = Self { leads: contents.len(), ..Self::default() };
        let mut keys: BTreeMap<String, u64> = BTreeMap::new();
        for content in contents {
            let desired = content.desired.as_deref().unwrap_or_default();
            let name = || LeadPerson::of_lead_object(desired).name;
            if content.is_new {
                effect.all_new_people += 1;
                if effect.new_people.len() < PEOPLE {
                    effect.new_people.push((content.lead.clone(), name()));
                }
                continue;
            }
            let Some(delivered) = &content.delivered else { continue };
            let changes = changes(&object(delivered), &object(desired));
            effect.unchanged += u64::from(changes.is_empty());
            for (key, _, _) in &changes {
                *keys.entry(key.clone()).or_default() += 1;
            }
            if effect.samples.len() < SAMPLES && !changes.is_empty() {
                effect.samples.push(ChangedSample { lead: content.lead.clone(), name: name(), changes });
            }
        }
        effect.changed_keys = keys.into_iter().collect();
        effect.changed_keys.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        effect
    }
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}

fn changes(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<KeyChange> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    let keys = old.keys().chain(added).filter(|key| old.get(*key) != new.get(*key));
    keys.map(|key| (key.clone(), old.get(key).cloned(), new.get(key).cloned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(id: u32, desired: &str, delivered: Option<&str>) -> DecidedContent {
        DecidedContent {
            lead: LeadId { id: id.to_string(), client_id: String::new() },
            desired: Some(desired.to_owned()),
            delivered: delivered.map(str::to_owned),
            is_new: delivered.is_none(),
        }
    }

    #[test]
    fn an_effect_counts_what_changes_and_names_who_is_new() {
        let effect = DecisionEffect::of(&[
            content(1, r#"{"firstName":"Ann","repName":"Sam"}"#, Some(r#"{"firstName":"Ann","repName":"Rae"}"#)),
            content(2, r#"{"firstName":"Bob","repName":"Sam"}"#, Some(r#"{"firstName":"Rob","repName":"Rae"}"#)),
            content(3, r#"{"firstName":"Eve"}"#, Some(r#"{"firstName":"Eve"}"#)),
            content(4, r#"{"firstName":"Dan","lastName":"Lee"}"#, None),
        ]);
        assert_eq!(effect.changed_keys, [("repName".to_owned(), 2), ("firstName".to_owned(), 1)]);
        assert_eq!((effect.leads, effect.unchanged, effect.all_new_people), (4, 1, 1));
        assert_eq!(effect.new_people[0].1, "Dan Lee");
        assert_eq!(effect.samples.len(), 2);
        let change = |key: &str, old: &str, new: &str| (key.to_owned(), Some(Value::from(old)), Some(Value::from(new)));
        assert_eq!(effect.samples[0].changes, [change("repName", "Rae", "Sam")]);
    }
}
