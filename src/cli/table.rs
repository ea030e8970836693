//! Tables for people: plain columns, coloured only on a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// A table without lines, as wide as the terminal allows.
pub fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    table
}

/// `1 lead`, `2 leads`.
pub fn leads(number: impl Into<i64>) -> String {
    let number = number.into();
    if number == 1 { "1 lead".to_owned() } else { format!("{number} leads") }
}
