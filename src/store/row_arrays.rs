//! Rows in a statement of a PostgreSQL state: an array for each column. `store/statement.rs` writes the
//! statement.

use std::ops::Range;

use crate::store::statement_argument::StatementArgument;

/// A list of rows in a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValuesList {
    pub text: Range<usize>,
    pub arguments: Range<usize>,
    pub rows: usize,
}

/// An argument on PostgreSQL: a value, or a column of a list of rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PostgresArgument {
    One(StatementArgument),
    Texts(Vec<Option<String>>),
    Integers(Vec<Option<i64>>),
    ByteTexts(Vec<Option<Vec<u8>>>),
}

/// The columns of a list whose values are given row by row. All values of a column have one type.
pub(crate) fn columns_of(values: &mut [Option<StatementArgument>], rows: usize) -> Vec<PostgresArgument> {
    let width = values.len() / rows.max(1);
    let mut columns: Vec<PostgresArgument> = Vec::with_capacity(width);
    for (place, value) in values.iter_mut().enumerate() {
        let Some(value) = value.take() else { continue };
        if place < width {
            columns.push(match value {
                StatementArgument::Text(value) => PostgresArgument::Texts(vec![value]),
                StatementArgument::Integer(value) => PostgresArgument::Integers(vec![value]),
                StatementArgument::Bytes(value) => PostgresArgument::ByteTexts(vec![value]),
            });
            continue;
        }
        match (&mut columns[place % width], value) {
            (PostgresArgument::Texts(column), StatementArgument::Text(value)) => column.push(value),
            (PostgresArgument::Integers(column), StatementArgument::Integer(value)) => column.push(value),
            (PostgresArgument::ByteTexts(column), StatementArgument::Bytes(value)) => column.push(value),
            (column, value) => panic!("a column has one type: {value:?} after {column:?}"),
        }
    }
    columns
}

/// In PostgreSQL's SQL: the rows of these columns, which are the arguments after the first `before`. The columns are named as in
/// `values`.
pub(crate) fn rows_from(columns: &[PostgresArgument], before: usize) -> String {
    let arrays: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let kind = match column {
                PostgresArgument::Texts(_) => "text",
                PostgresArgument::Integers(_) => "bigint",
                PostgresArgument::ByteTexts(_) | PostgresArgument::One(_) => "bytea",
            };
            format!("${}::{kind}[]", before + place + 1)
        })
        .collect();
    let names: Vec<String> = (1..=columns.len()).map(|number| format!("column{number}")).collect();
    format!("select * from unnest({}) as v ({})", arrays.join(", "), names.join(", "))
}
