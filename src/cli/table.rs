//! Tables for people: plain columns, coloured only on a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use crate::console::printable;

pub use crate::wording::{leads, number};

/// The ids that the operator named, as many as fit a line.
pub fn ids_of(ids: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = ids.iter().take(SHOWN).map(|id| printable(id).into_owned()).collect();
    let further = ids.len().saturating_sub(SHOWN);
    if further == 0 { shown.join(", ") } else { format!("{} and {further} more", shown.join(", ")) }
}

/// A table without lines, as wide as the terminal allows.
pub fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    table
}
