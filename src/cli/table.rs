//! Tables for people: plain columns, coloured only on a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

pub use crate::wording::{leads, number};

/// A table without lines, as wide as the terminal allows.
pub fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    table
}
