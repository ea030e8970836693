//! The row of a lead that the state does not know yet, for people and for scripts.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::cli::plan::shown;
use crate::console::printable;
use crate::conversica::consent::ConsentOverride;
use crate::rules::mapping::MappedRow;
use crate::story::name;

/// Continues "the source has its row, ".
pub fn in_words(row: &MappedRow) -> String {
    match &row.desired {
        Ok(_) => "which makes a valid lead".to_owned(),
        // The reasons name keys and columns, never values.
        Err(reasons) => format!("which makes no valid lead: {}", printable(&reasons.join("; "))),
    }
}

pub fn document(row: &MappedRow) -> Value {
    let kept: Vec<String> = row.kept.iter().map(ConsentOverride::in_words).collect();
    json!({
        "valid": row.desired.is_ok(),
        "lead": row.desired.as_deref().ok().map(object),
        "invalid_reasons": row.desired.as_ref().err().cloned().unwrap_or_default(),
        "kept": kept,
        "notes": row.notes,
    })
}

/// The whole document of a lead that no poll has read yet.
pub fn unread_document(row: &MappedRow) -> Value {
    json!({
        "id": row.lead.id, "client_id": row.lead.client_id, "status": null, "desired": null, "delivered": null,
        "due_at": null, "outcomes": [], "heard": [], "conversation": {}, "messages": [], "source": document(row),
    })
}

/// The same for people.
pub fn unread_text(row: &MappedRow) -> String {
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
        Err(_) => text.push_str("  to do: fix the row in the CRM; it is sent by itself\n"),
    }
    text
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}
