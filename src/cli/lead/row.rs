//! A lead that the state does not know, looked for in the source: one row, by its key. Only if that can be done soon.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::cli::plan::shown;
use crate::config::Settings;
use crate::console::printable;
use crate::conversica::consent::Override;
use crate::conversica::lead::LeadId;
use crate::crm::Crm;
use crate::crm::mapping::Mapped;
use crate::crm::read::Scope;
use crate::db::Db;
use crate::story::name;
use crate::sync::merge::{Interest, Item, Merge};

/// Whoever asks about one lead does not wait longer for a source that they did not ask about.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for what is only an addition.
const BRIEFLY: Duration = Duration::from_secs(2);

/// What is noted of the lead's row as it is now: values that are cleaned, and keys that are left out. `None` where the source
/// could not be asked.
pub async fn notes(settings: &Settings, state: &Db, lead: &LeadId, now: DateTime<Utc>) -> Option<Vec<String>> {
    let rows = look(settings, state, &lead.id, Some(&lead.client_id), now);
    let rows = tokio::time::timeout(BRIEFLY, rows).await.ok()??;
    Some(rows.into_iter().flat_map(|row| row.notes).collect())
}

/// The rows of that id, of every client where none is named; `None` where the source could not be asked.
pub async fn look(
    settings: &Settings,
    state: &Db,
    id: &str,
    client: Option<&str>,
    now: DateTime<Utc>,
) -> Option<Vec<Mapped>> {
    let lead = LeadId { id: id.to_owned(), client_id: client.unwrap_or_default().to_owned() };
    let rows = async {
        let crm = Crm::open(settings).await?;
        let fitting = crm.fitting().await?;
        let scope = Scope::Keys(vec![lead]);
        let mut merge = Merge::begin(&crm, state, &fitting, scope, Interest::Everything, now).await?;
        let mut rows = Vec::new();
        while let Some(item) = merge.next().await? {
            if let Item::Row(mapped, _) = item {
                rows.push(mapped);
            }
        }
        anyhow::Ok(rows)
    };
    let mut rows = tokio::time::timeout(PATIENCE, rows).await.ok()?.ok()?;
    rows.retain(|row| client.is_none_or(|client| row.lead.client_id == client));
    Some(rows)
}

/// Continues "the source has its row, ".
pub fn in_words(row: &Mapped) -> String {
    match &row.desired {
        Ok(_) => "which makes a valid lead".to_owned(),
        // They name keys and columns, never values.
        Err(reasons) => format!("which makes no valid lead: {}", printable(&reasons.join("; "))),
    }
}

pub fn document(row: &Mapped) -> Value {
    let kept: Vec<String> = row.kept.iter().map(Override::in_words).collect();
    json!({
        "valid": row.desired.is_ok(),
        "lead": row.desired.as_deref().ok().map(object),
        "invalid_reasons": row.desired.as_ref().err().cloned().unwrap_or_default(),
        "kept": kept,
        "notes": row.notes,
    })
}

/// The whole document of a lead that was not read yet.
pub fn unread_document(row: &Mapped) -> Value {
    json!({
        "id": row.lead.id, "client_id": row.lead.client_id, "status": null, "desired": null, "delivered": null,
        "due_at": null, "outcomes": [], "heard": [], "conversation": {}, "messages": [], "source": document(row),
    })
}

/// The same for people.
pub fn unread_text(row: &Mapped) -> String {
    let mut text = name(&row.lead);
    let _ = writeln!(text, ": not known to the state yet\n  the source has its row, {}", in_words(row));
    match &row.desired {
        Ok(body) => {
            text.push_str(
                "  to do: nothing; the next poll that reads it takes it in\n\nWhat Conversica would be told\n",
            );
            let body = object(body);
            let width = body.keys().map(|key| key.chars().count()).max().unwrap_or(0);
            for (key, value) in &body {
                let _ = writeln!(text, "  {:width$}  {}", printable(key), shown(value));
            }
            for kept in &row.kept {
                let _ = writeln!(text, "  {}", kept.in_words());
            }
            for note in &row.notes {
                let _ = writeln!(text, "  note: {}", printable(note));
            }
        }
        Err(_) => text.push_str("  to do: mend the row in the CRM; it is sent by itself\n"),
    }
    text
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}
