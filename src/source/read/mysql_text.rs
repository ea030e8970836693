//! The texts of MySQL's values: SQL for a column, and the changes that are made to the server's text. Pure.

use crate::rules::cursor::{NewestStamp, StampKind};
use crate::rules::source_column::{ColumnForm, SourceColumn, TypeFamily};
use crate::rules::value_fault::NOT_SCALAR;
use crate::source::dialect::SourceDialect;

/// How the server's text of a cell becomes the cell's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellText {
    AsItIs,
    /// A four-byte float, which the server would cut to six digits: it is read as an eight-byte one.
    Single,
    /// An eight-byte float, for which the server may write an exponent.
    Double,
    /// A `timestamp`: its session is in UTC, and the text says so.
    Zoned,
}

/// Up to here every whole number is exact; larger ones stay as the server writes them.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl CellText {
    pub fn of(column: &SourceColumn) -> Self {
        match column.plain_type.as_str() {
            "float" => Self::Single,
            "double" => Self::Double,
            _ if column.family == TypeFamily::TimestampTz => Self::Zoned,
            _ => Self::AsItIs,
        }
    }

    /// The changed text; `None` where the server's own stays.
    pub fn rewritten(self, text: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(text).ok()?;
        match self {
            Self::AsItIs => None,
            Self::Zoned => zoned(text),
            Self::Single => {
                let number: f64 = text.parse().ok()?;
                // Exact: the value was a four-byte float.
                let number = number as f32;
                plain(f64::from(number), number.to_string())
            }
            Self::Double => {
                let number: f64 = text.parse().ok()?;
                plain(number, number.to_string())
            }
        }
    }
}

fn plain(number: f64, shortest: String) -> Option<String> {
    if number == 0.0 {
        return Some("0".to_owned());
    }
    (number.abs() <= EXACT && number.abs() >= 1e-9).then_some(shortest)
}

/// The text of a `timestamp` with its zone. A zero date is no moment and has none.
fn zoned(text: &str) -> Option<String> {
    (!text.starts_with("0000")).then(|| format!("{text}+00"))
}

/// The stamp as the cursor keeps it: with its zone, where it has one.
pub(crate) fn newest_stamp(text: String, kind: StampKind) -> NewestStamp {
    let text = if kind == StampKind::TimestampTz { zoned(&text).unwrap_or(text) } else { text };
    NewestStamp::new(text, kind)
}

/// The forms of the key, of the client where there is one, and of the cells.
pub(crate) fn forms<'a>(
    client: Option<&String>,
    cells: &[String],
    find: impl Fn(&str) -> Option<&'a SourceColumn>,
) -> Vec<CellText> {
    let names = std::iter::repeat_n(CellText::AsItIs, 1 + usize::from(client.is_some()));
    names.chain(cells.iter().map(|name| find(name).map_or(CellText::AsItIs, CellText::of))).collect()
}

/// Whether it is a type of whole numbers.
pub(crate) fn is_integer(plain_type: &str) -> bool {
    let name = plain_type.strip_suffix(" unsigned").unwrap_or(plain_type);
    ["boolean", "tinyint", "smallint", "mediumint", "int", "bigint"].contains(&name)
}

/// The condition on rows with these keys. A column of whole numbers is compared as one. Texts are compared by bytes, and before
/// that by the column's own rules, for which an index serves, and which find at least the same rows.
pub(crate) fn with_keys(key: &str, key_as_text: &str, plain_type: &str, keys: &[&str]) -> String {
    let mysql = SourceDialect::Mysql;
    let list = |texts: Vec<String>| if texts.is_empty() { "null".to_owned() } else { texts.join(", ") };
    if is_integer(plain_type) {
        let numbers = keys.iter().filter_map(|key| key.parse::<i128>().ok()).map(|number| number.to_string());
        return format!(" and {key} in ({})", list(numbers.collect()));
    }
    let bytes = list(keys.iter().map(|key| mysql.byte_literal(key)).collect());
    let exact = format!(" and {} in ({bytes})", mysql.by_bytes(key_as_text));
    // Other characters may have no place in the column's own character set.
    if ["char", "varchar"].contains(&plain_type) && keys.iter().all(|key| key.is_ascii()) {
        let texts = list(keys.iter().map(|key| mysql.literal(key)).collect());
        return format!(" and {key} in ({texts}){exact}");
    }
    exact
}

/// A column's value as text, for comparisons and as the key.
pub(crate) fn as_text(column: Option<&SourceColumn>, name: &str) -> String {
    let quoted = qualified(column, name);
    match column {
        Some(column) if column.form == ColumnForm::Json => json(&quoted),
        Some(column) if column.plain_type == "bit" => format!("cast(cast({quoted} as unsigned) as char)"),
        _ => format!("cast({quoted} as char)"),
    }
}

/// A key or client in the list: the same text as [`as_text`], which the server need not make twice.
pub(crate) fn listed(column: Option<&SourceColumn>, name: &str) -> String {
    match column {
        Some(column)
            if (is_integer(&column.plain_type) || column.plain_type == "decimal")
                || column.family == TypeFamily::Text =>
        {
            qualified(Some(column), name)
        }
        _ => as_text(column, name),
    }
}

/// A mapped column in the list; [`CellText`] does the rest.
pub(crate) fn cell(column: Option<&SourceColumn>, name: &str) -> String {
    let quoted = qualified(column, name);
    match column {
        Some(column) if column.form == ColumnForm::Json => json(&quoted),
        Some(column) if column.plain_type == "bit" => format!("cast({quoted} as unsigned)"),
        Some(column) if column.plain_type == "float" => format!("{quoted} + 0e0"),
        _ => quoted,
    }
}

fn qualified(column: Option<&SourceColumn>, name: &str) -> String {
    format!("t.{}", SourceDialect::Mysql.quote(column.map_or(name, |column| &column.name)))
}

/// The scalar inside, which is the input of [`crate::rules::json::scalar`].
fn json(column: &str) -> String {
    format!(
        "case json_type({column}) when 'NULL' then null when 'OBJECT' then concat(char(1 using utf8mb4), '{mark}') \
         when 'ARRAY' then concat(char(1 using utf8mb4), '{mark}') else json_unquote({column}) end",
        mark = &NOT_SCALAR[1..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_all_their_digits_and_no_exponent() {
        let single = |text: &str| CellText::Single.rewritten(text.as_bytes());
        assert_eq!(single("0.10000000149011612").as_deref(), Some("0.1"));
        assert_eq!(single("1234.5670166015625").as_deref(), Some("1234.567"));
        assert_eq!(single("16777216").as_deref(), Some("16777216"));
        let double = |text: &str| CellText::Double.rewritten(text.as_bytes());
        assert_eq!(double("3605550123").as_deref(), Some("3605550123"));
        assert_eq!(double("1e15").as_deref(), Some("1000000000000000"));
        assert_eq!(double("-0").as_deref(), Some("0"));
        assert_eq!(double("0.1").as_deref(), Some("0.1"));
        assert_eq!(double("1e22"), None, "the server's own text stays");
    }

    #[test]
    fn keys_are_compared_by_their_bytes_and_whole_numbers_as_numbers() {
        assert_eq!(with_keys("t.`id`", "cast(t.`id` as char)", "bigint unsigned", &["7", "x"]), " and t.`id` in (7)");
        assert_eq!(with_keys("t.`id`", "cast(t.`id` as char)", "int", &["x"]), " and t.`id` in (null)");
        assert_eq!(
            with_keys("t.`id`", "cast(t.`id` as char)", "varchar", &["a'"]),
            " and t.`id` in ('a''') and cast(cast(t.`id` as char) as binary) in (x'6127')"
        );
    }

    #[test]
    fn a_moment_says_its_zone_and_a_zero_date_has_none() {
        let text = |text: &str| CellText::Zoned.rewritten(text.as_bytes());
        assert_eq!(text("2026-03-01 10:00:00.5").as_deref(), Some("2026-03-01 10:00:00.5+00"));
        assert_eq!(text("0000-00-00 00:00:00"), None);
    }
}
