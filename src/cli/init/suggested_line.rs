//! A line that a new configuration suggests as a comment.

use std::fmt::Write as _;

use crate::config::FieldRule;
use crate::setup::propose::proposal::{RowsPlace, SourceProposal, UnmappedColumn};

/// A line for a column about consent or use, and the meaning that the line gives it.
pub struct SuggestedLine {
    pub meaning: String,
    pub line: String,
}

/// Under `[lead]`: how the column fills optOut.
pub fn suggest_opt_out(unmapped: &UnmappedColumn) -> Option<SuggestedLine> {
    let by_column = unmapped.rule.as_ref()?;
    let meaning = match unmapped.inverse_of {
        Some(_) => "To take each person without a yes there for opted out",
        None => "If a yes there means that the person wants no messages",
    };
    Some(SuggestedLine { meaning: meaning.to_owned(), line: format!("optOut = {}", rule(by_column)) })
}

/// Under `[source]`: how to leave out the rows that the column marks.
pub fn suggest_condition(proposal: &SourceProposal, unmapped: &UnmappedColumn) -> Option<SuggestedLine> {
    let condition = unmapped.condition.as_ref()?;
    let (place, line) = match &proposal.place {
        RowsPlace::Table { filter: None } => ("", format!("where = {}", quoted(condition))),
        RowsPlace::Table { filter: Some(filter) } => {
            (", in place of the where above", format!("where = {}", quoted(&format!("{filter} AND {condition}"))))
        }
        RowsPlace::Query(query) => {
            let word = if query.contains("\nWHERE ") { "AND" } else { "WHERE" };
            (", as the last line of the query", format!("{word} {condition}"))
        }
    };
    Some(SuggestedLine { meaning: format!("To leave out {}{place}", unmapped.who_is_left_out()), line })
}

pub(crate) fn rule(rule: &FieldRule) -> String {
    match rule {
        FieldRule::Value(value) => format!("{{ value = {} }}", quoted(value)),
        FieldRule::Column { column, default: None, map, .. } if map.is_empty() => quoted(column),
        FieldRule::Column { column, default, map, .. } => {
            let mut parts = vec![format!("column = {}", quoted(column))];
            parts.extend(default.as_ref().map(|text| format!("default = {}", quoted(text))));
            if !map.is_empty() {
                let entries = map.iter().map(|(from, to)| format!("{} = {}", quoted(from), quoted(to)));
                parts.push(format!("map = {{ {} }}", entries.collect::<Vec<_>>().join(", ")));
            }
            format!("{{ {} }}", parts.join(", "))
        }
    }
}

/// A basic string of TOML, never on several lines.
pub(crate) fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
