//! The source's shape when it was first read, and its changes since. Pure.
//!
//! The CRM's tables may change while we run. Values of another type make other Lead objects of the same rows, or none. So such a
//! change stops the poll until the column is as it was or the operator has checked it.

use crate::nearest::nearest;
use crate::rules::source_column::{CatalogTable, RelationKind, SourceColumn, TypeFamily};

/// The source at one reading: its kind, and the columns in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceShape {
    pub relation: Option<RelationKind>,
    /// Whether row level security applied to this user from the beginning.
    pub row_security: bool,
    pub used: Vec<UsedColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedColumn {
    /// The setting that names it, as users write it: `[lead] email`.
    pub by: String,
    pub part: ColumnPart,
    pub column: SourceColumn,
}

/// The change that no column shows.
pub const HIDDEN: &str = "row level security has been switched on, and may hide rows from this user, whose leads would seem \
                          to be gone";

/// The role of a column for a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnPart {
    /// Its key or client: with another text the row is another lead.
    Name,
    Value,
}

/// Whether values of the column still have the same texts.
fn has_same_texts(was: &SourceColumn, is: &SourceColumn, part: ColumnPart) -> bool {
    was.family == is.family
        && match was.family {
            // 7 is `7` as an integer and `7.00` as `numeric(9,2)`, and 0.1 has other digits in four bytes than in eight.
            TypeFamily::Number => was.plain_type == is.plain_type && scale(was) == scale(is),
            // Trailing blanks, bytes beyond 63 and negative numbers do not matter in a value, but in a key they make the wrong
            // lead.
            TypeFamily::Text | TypeFamily::Integer if part == ColumnPart::Name => spelling(was) == spelling(is),
            TypeFamily::Timestamp | TypeFamily::TimestampTz if part == ColumnPart::Name => {
                modifier(was) == modifier(is)
            }
            _ => true,
        }
}

/// Types that spell every value alike have one name here.
fn spelling(column: &SourceColumn) -> &str {
    match column.plain_type.as_str() {
        "varchar" | "citext" => "text",
        "int2" | "int4" | "int8" => "integer",
        kind if kind.starts_with("enum ") => "text",
        kind => kind,
    }
}

fn modifier(column: &SourceColumn) -> Option<i32> {
    column.entry.map(|entry| entry.modifier)
}

/// Whether the column only has the same name as the earlier one, which was dropped or renamed. In another table all columns are
/// different, and swapped tables are meant to be the same.
fn is_another(was: &SourceColumn, is: &SourceColumn) -> bool {
    let entries = was.entry.zip(is.entry);
    entries.is_some_and(|(was, is)| was.table == is.table && was.number != is.number)
}

/// The number of digits after the point that every value has; `None` if each value has its own. PostgreSQL keeps it in eleven
/// bits, which may be negative, four above the modifier's zero.
fn scale(column: &SourceColumn) -> Option<i32> {
    let modifier = modifier(column).filter(|modifier| *modifier >= 4)?;
    Some((((modifier - 4) & 0x7ff) ^ 1024) - 1024)
}

/// A type with the details that distinguish it from similar types.
fn described(column: &SourceColumn) -> String {
    match (&column.family, scale(column)) {
        (TypeFamily::Number, Some(scale)) => format!("{} with {scale} digit(s) behind the point", column.type_name),
        _ => column.type_name.clone(),
    }
}

/// The changes since then, in words; empty if there are none.
pub fn since(
    first: &SourceShape,
    found: &CatalogTable,
    find: impl Fn(&str) -> Option<SourceColumn>,
    names: &[&str],
) -> Vec<String> {
    let mut changes = Vec::new();
    if let (Some(was), Some(is)) = (first.relation, found.relation)
        && was != is
    {
        changes.push(format!("it was a {was} and is now a {is}"));
    }
    if found.row_security && !first.row_security {
        changes.push(HIDDEN.to_owned());
    }
    let mut said: Vec<&str> = Vec::new();
    for UsedColumn { by, part, column: was } in &first.used {
        if said.contains(&was.name.as_str()) {
            continue;
        }
        said.push(&was.name);
        match find(&was.name) {
            None => {
                let near = nearest(&was.name, names.iter().copied());
                let hint = near.map(|near| format!("; there is \"{near}\"")).unwrap_or_default();
                let (name, kind) = (&was.name, &was.type_name);
                changes.push(format!("column \"{name}\" ({kind}), which {by} asks for, is not there any more{hint}"));
            }
            Some(is) if !has_same_texts(was, &is, *part) => changes.push(format!(
                "column \"{}\", which {by} asks for, was of type {} and is now of type {}",
                was.name,
                described(was),
                described(&is)
            )),
            Some(is) if is_another(was, &is) => {
                changes.push(format!("column \"{}\", which {by} asks for, is another column than it was", was.name));
            }
            Some(_) => {}
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::source_column::CatalogColumn;
    use crate::rules::source_column::ColumnForm;

    fn column(kind: &str, modifier: i32) -> SourceColumn {
        let (name, entry) = ("id".to_owned(), Some(CatalogColumn { table: 1, number: 1, modifier }));
        let (type_name, plain_type) = (kind.to_owned(), kind.to_owned());
        SourceColumn {
            name,
            type_name,
            plain_type,
            family: TypeFamily::of_postgres(kind),
            form: ColumnForm::Plain,
            entry,
        }
    }

    /// As PostgreSQL keeps `numeric(precision, scale)`.
    fn numeric(precision: i32, scale: i32) -> SourceColumn {
        column("numeric", ((precision << 16) | (scale & 0x7ff)) + 4)
    }

    #[test]
    fn numbers_have_the_same_texts_where_they_have_as_many_digits_behind_the_point() {
        let same = |was: &SourceColumn, is: &SourceColumn| has_same_texts(was, is, ColumnPart::Value);
        assert!(same(&numeric(10, 2), &numeric(14, 2)) && same(&numeric(5, -2), &numeric(9, -2)));
        for other in [numeric(10, 2), numeric(10, -1), column("numeric", -1), column("float8", -1)] {
            assert!(!same(&numeric(10, 0), &other), "{other:?}");
        }
        assert!(!same(&column("float4", -1), &column("float8", -1)));
        assert_eq!(scale(&numeric(10, -3)), Some(-3));
    }

    #[test]
    fn a_key_has_to_be_spelled_alike_and_a_value_need_not() {
        let pairs = [("text", "char"), ("varchar", "name"), ("int4", "oid"), ("\"char\"", "char")];
        for (was, is) in pairs.map(|(was, is)| (column(was, -1), column(is, -1))) {
            assert!(
                !has_same_texts(&was, &is, ColumnPart::Name) && has_same_texts(&was, &is, ColumnPart::Value),
                "{was:?}"
            );
        }
        for (was, is) in [("text", "varchar"), ("citext", "text"), ("int2", "int8"), ("char", "char")] {
            assert!(has_same_texts(&column(was, 14), &column(is, 24), ColumnPart::Name), "{was} {is}");
        }
        assert!(!has_same_texts(&column("timestamp", -1), &column("timestamp", 0), ColumnPart::Name));
    }

    #[test]
    fn types_of_one_family_have_the_same_texts() {
        assert_eq!(TypeFamily::of_postgres("VARCHAR"), TypeFamily::of_postgres("TEXT"));
        assert_eq!(TypeFamily::of_postgres("INT4"), TypeFamily::of_postgres("INT8"));
        for (one, other) in [("INT8", "NUMERIC"), ("TIMESTAMP", "TIMESTAMPTZ"), ("TEXT", "UUID"), ("DATE", "TIMESTAMP")]
        {
            assert_ne!(TypeFamily::of_postgres(one), TypeFamily::of_postgres(other));
        }
        assert_ne!(TypeFamily::of_postgres("inet"), TypeFamily::of_postgres("money"));
    }
}
