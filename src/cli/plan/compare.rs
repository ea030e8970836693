//! `plan --compare OLD.toml`: whose content changes because of the configuration alone.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::context::{ExitCode, settings};
use crate::cli::plan::text::shown;
use crate::config::ServiceSettings;
use crate::console::{SCHEMA_VERSION, printable, say};
use crate::conversica::token::TokenVeil;
use crate::error::SetupError;
use crate::rules::configuration_change::{ConfigurationChange, ConfigurationTotals};
use crate::send::compare_configurations::compare_configurations;
use crate::source::crm::ConnectedCrm;
use crate::wording::number;

/// How the comparison is shown.
pub(super) enum ShownAs {
    Text,
    Json,
}

/// Compares with the configuration in `old`. Shows at most `limit` leads.
pub(super) async fn run(
    old: &Path,
    settings: &ServiceSettings,
    limit: u64,
    shown_as: ShownAs,
) -> anyhow::Result<ExitCode> {
    if !old.exists() {
        let what = format!("{}, named by --compare, does not exist", old.display());
        return Err(SetupError::new(what, "name the configuration file to compare with").into());
    }
    let old = self::settings(Some(old))?;
    let (old_crm, new_crm) = (ConnectedCrm::open(&old.settings).await?, ConnectedCrm::open(settings).await?);
    let veils = [&old.settings, settings].map(|settings| TokenVeil::over(settings.conversica.test_lead_token.as_ref()));
    let mut leads = Vec::new();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let totals = compare_configurations(&old_crm, &new_crm, |mut change| {
        if leads.len() < limit {
            for value in change.changes.values_mut().flatten() {
                veils.iter().for_each(|veil| veil.value(value));
            }
            leads.push(change);
        }
        Ok(())
    })
    .await?;
    match shown_as {
        ShownAs::Json => say(document(&totals, &leads)?),
        ShownAs::Text => say(text(&totals, &leads).trim_end()),
    }
    Ok(if totals.is_without_difference() { ExitCode::Done } else { ExitCode::Attention })
}

fn document(totals: &ConfigurationTotals, leads: &[ConfigurationChange]) -> anyhow::Result<String> {
    let mut document = serde_json::to_value(totals)?;
    document["schema_version"] = json!(SCHEMA_VERSION);
    document["leads"] = serde_json::to_value(leads)?;
    Ok(format!("{document:#}"))
}

fn text(totals: &ConfigurationTotals, leads: &[ConfigurationChange]) -> String {
    let mut text = String::new();
    if totals.is_without_difference() {
        let _ =
            writeln!(text, "No lead differs because of the configuration; {} are the same.", number(totals.unchanged));
        return text;
    }
    text.push_str("Because of the configuration alone:\n");
    let mut count = |count: u64, what: &str| {
        if count > 0 {
            let _ = writeln!(text, "  {:>10}  {what}", number(count));
        }
    };
    count(totals.changed, "would be sent with other content");
    count(totals.added, "are read only by the new one: people contacted for the first time, unless they are known");
    count(totals.now_valid, "are valid only with the new one");
    count(totals.now_invalid, "are invalid with the new one: not sent any more");
    count(totals.removed, "are read only by the old one: gone, and on_delete decides");
    count(totals.withdrawals, "OPT-OUTS AND STOPS that only the new one says: at Conversica most cannot be undone");
    count(totals.lost_withdrawals, "OPT-OUTS AND STOPS that only the old one says");
    count(totals.unchanged, "stay as they are");
    if !totals.changed_keys.is_empty() {
        text.push_str("Keys that change:\n");
        let mut keys: Vec<(&String, &u64)> = totals.changed_keys.iter().collect();
        keys.sort_by_key(|(_, leads)| std::cmp::Reverse(**leads));
        for (key, leads) in keys {
            let _ = writeln!(text, "  {:>10}  {}", number(*leads), printable(key));
        }
    }
    leads.iter().for_each(|lead| text.push_str(&describe(lead)));
    let all = totals.changed + totals.added + totals.now_valid + totals.now_invalid + totals.removed;
    let more = all.saturating_sub(leads.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "\n… and {} more (--limit N)", number(more));
    }
    text
}

fn describe(lead: &ConfigurationChange) -> String {
    let mut text = format!("\n{:<13}{}", lead.kind.name(), printable(&lead.id));
    if !lead.client_id.is_empty() {
        let _ = write!(text, " (client {})", printable(&lead.client_id));
    }
    if !lead.reasons.is_empty() {
        let _ = write!(text, "  {}", printable(&lead.reasons.join("; ")));
    }
    text.push('\n');
    for (key, [old, new]) in &lead.changes {
        let side = |value: &Value| shown(value);
        let _ = writeln!(text, "        {}: {} → {}", printable(key), side(old), side(new));
    }
    text
}
