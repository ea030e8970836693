//! SQL for whole numbers in floating-point columns: a telephone number that a table stores as 3605550123.0, because another row
//! has none, becomes 3605550123. Pure.

use crate::rules::value_fault::NOT_A_NUMBER;

/// Up to here every whole number is exact; larger ones stay as the database writes them.
const EXACT: i64 = 9_007_199_254_740_992;
/// The same for four-byte floats.
const EXACT_SINGLE: i64 = 16_777_216;

/// SQLite: whether the value is a whole number stored as a floating-point one.
pub fn is_whole(column: &str) -> String {
    format!("typeof({column}) = 'real' and {column} = cast({column} as integer) and abs({column}) <= {EXACT}")
}

/// SQLite: such a value's text.
pub fn as_whole(column: &str) -> String {
    format!("cast(cast({column} as integer) as text)")
}

/// SQLite: the text of any value in the column; SQLite's own text except for whole numbers.
pub(crate) fn of_sqlite(column: &str) -> String {
    format!(
        "case when typeof({column}) <> 'real' then cast({column} as text) when {} then {} \
         when abs({column}) > 1.7976931348623157e308 then {} else cast({column} as text) end",
        is_whole(column),
        as_whole(column),
        mark("char")
    )
}

/// PostgreSQL, for a column of floating-point numbers: PostgreSQL writes an exponent where a number has many digits.
pub(crate) fn of_postgres(column: &str, plain_type: &str) -> String {
    let exact = if plain_type == "float4" { EXACT_SINGLE } else { EXACT };
    format!(
        "case when {column} in ('NaN', 'Infinity', '-Infinity') then {} when {column} = trunc({column}::float8) \
         and abs({column}) <= {exact} then {column}::bigint::text else {column}::text end",
        mark("chr")
    )
}

/// PostgreSQL, for a column of decimal numbers, which may hold `NaN` and infinity too. They are compared as texts, because
/// servers before version 14 have no infinite `numeric`.
pub(crate) fn of_numeric(column: &str) -> String {
    format!("case when {column}::text in ('NaN', 'Infinity', '-Infinity') then {} else {column}::text end", mark("chr"))
}

/// Whether an SQLite column may hold floating-point numbers without a fraction: columns of other types hold whole numbers or
/// texts.
pub fn may_be_real(plain_type: &str) -> bool {
    !["int", "char", "clob", "text"].iter().any(|kind| plain_type.contains(kind))
}

/// Whether it is a floating-point type of PostgreSQL.
pub fn is_float(plain_type: &str) -> bool {
    matches!(plain_type, "float4" | "float8")
}

fn mark(character: &str) -> String {
    format!("{character}(1) || '{}'", &NOT_A_NUMBER[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_writes_whole_numbers_without_a_fraction() {
        let crm = rusqlite::Connection::open_in_memory().unwrap();
        for (value, text) in [
            ("3605550123.0", "3605550123"),
            ("-7.0", "-7"),
            ("-0.0", "0"),
            ("7.5", "7.5"),
            ("9007199254740992.0", "9007199254740992"),
            ("1e21", "1.0e+21"),
            ("9e999", NOT_A_NUMBER),
            ("-9e999", NOT_A_NUMBER),
            ("7", "7"),
            ("'7.0'", "7.0"),
            ("x'372e30'", "7.0"),
        ] {
            let sql = format!("select {} from (select {value} as c)", of_sqlite("c"));
            assert_eq!(crm.query_row(&sql, [], |row| row.get::<_, String>(0)).unwrap(), text, "{value}");
        }
        let sql = format!("select {} from (select null as c)", of_sqlite("c"));
        assert_eq!(crm.query_row(&sql, [], |row| row.get::<_, Option<String>>(0)).unwrap(), None);
    }
}
