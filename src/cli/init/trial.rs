//! Tries a proposed configuration as the program itself would use it: loads it, checks it against the source, and maps the first
//! rows. Stores nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::store::ConfigTarget;
use crate::config::{ProcessEnvironment, load_text};
use crate::console::printable;
use crate::conversica::lead::{LeadKey, ValueKind};
use crate::rules::read_scope::ReadScope;
use crate::source::crm::ConnectedCrm;
use crate::source::read::PreparedReading;

/// Rows tried.
pub const ROWS: usize = 1000;

/// The result of the trial.
#[derive(Debug)]
pub struct ConfigTrial {
    pub rows: usize,
    pub valid: usize,
    /// Why rows make no valid lead, and the number of rows per reason.
    pub reasons: BTreeMap<String, usize>,
    /// Sampled keys that occur twice.
    pub repeated_keys: usize,
    /// Valid rows with an opt-out.
    pub opted_out: usize,
    /// A Lead object made of a real row.
    pub sample: Option<Map<String, Value>>,
    /// Warnings of the settings' own check.
    pub warnings: Vec<String>,
}

impl ConfigTrial {
    /// # Errors
    /// The error that `check` would report for these settings and this source.
    pub async fn of(target: &ConfigTarget, text: &str, url: &str) -> anyhow::Result<Self> {
        // The password is not there yet, and the trial does not need it.
        let variables =
            [("CONVERSICA_SYNC__SOURCE__URL", url), ("CONVERSICA_SYNC__CONVERSICA__PASSWORD", "not known yet")];
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment = ProcessEnvironment { variables, credentials_directory: None };
        let loaded = load_text(&target.file.display().to_string(), text, &environment)?;
        let crm = ConnectedCrm::open(&loaded.settings).await?;
        let fitting = crm.fitting().await?;
        let mut trial = Self {
            rows: 0,
            valid: 0,
            reasons: BTreeMap::new(),
            repeated_keys: 0,
            opted_out: 0,
            sample: None,
            warnings: loaded.warnings,
        };
        let mut keys = BTreeSet::new();
        let mut batches = PreparedReading::new(&crm, &fitting, ReadScope::All).sample(ROWS).start(&crm.db);
        while let Some(batch) = batches.next().await? {
            for line in batch.lines() {
                let row = line.row();
                trial.rows += 1;
                let Some(lead) = row.lead() else {
                    *trial
                        .reasons
                        .entry("id: the key column is NULL, so that the row is left out".to_owned())
                        .or_default() += 1;
                    continue;
                };
                trial.repeated_keys += usize::from(!keys.insert(lead));
                match crm.mapping.map(&row).desired {
                    Ok(body) => trial.take(&body),
                    Err(reasons) => {
                        reasons.into_iter().for_each(|reason| *trial.reasons.entry(reason).or_default() += 1);
                    }
                }
            }
        }
        crm.db.close().await;
        Ok(trial)
    }

    /// Leaves of the sample no more than the forms of its values.
    pub fn mask_sample(&mut self) {
        if let Some(sample) = &mut self.sample {
            sample.iter_mut().for_each(|(key, value)| mask(key, value));
        }
    }

    fn take(&mut self, body: &str) {
        self.valid += 1;
        let Ok(Value::Object(lead)) = serde_json::from_str::<Value>(body) else { return };
        self.opted_out += usize::from(lead.get(LeadKey::OptOut.name()) == Some(&Value::Bool(true)));
        // The fullest lead shows most.
        if self.sample.as_ref().is_none_or(|known| known.len() < lead.len()) {
            self.sample = Some(lead);
        }
    }
}

/// Shows of a person only enough to recognise the right column: without a terminal, output ends up in logs.
fn mask(key: &str, value: &mut Value) {
    use LeadKey::{ClientId, ConversationId, Id, LeadSource, LeadStatus, LeadType, RepId};
    let Value::String(text) = value else { return };
    if key == "apiVersion" {
        return;
    }
    let key = LeadKey::from_name(key);
    let harmless = [Id, ClientId, RepId, ConversationId, LeadSource, LeadStatus, LeadType];
    if key.is_some_and(|key| key.kind() != ValueKind::Text || harmless.contains(&key)) {
        return;
    }
    *text = match text.rsplit_once('@') {
        Some((_, domain)) if !domain.contains(char::is_whitespace) => format!("…@{domain}"),
        _ => text
            .chars()
            .map(|c| {
                if c.is_ascii_digit() {
                    '9'
                } else if c.is_alphanumeric() {
                    'x'
                } else {
                    c
                }
            })
            .collect(),
    };
}

/// The lines that show a Lead object.
pub fn lines(lead: &Map<String, Value>) -> Vec<String> {
    let line = |(key, value): (&String, &Value)| format!("  {}: {}", printable(key), printable(&value.to_string()));
    lead.iter().map(line).collect()
}
