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

/// `1,234,567`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_off_by_thousands() {
        let numbers = [0, 999, 1000, 12_345, 123_456, 10_000_000].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345", "123,456", "10,000,000"]);
    }
}
