//! Columns and catalog facts of a MySQL or MariaDB source.

use std::collections::HashSet;

use sqlx::mysql::MySqlColumn;
use sqlx::{Column as _, MySqlPool, Row as _, TypeInfo as _};

use crate::config::SourceSettings;
use crate::db::{discreet, trusted};
use crate::rules::cursor::StampKind;
use crate::rules::source_column::{CatalogTable, ColumnForm, RelationKind, SourceColumn, TypeFamily};
use crate::source::dialect::{SourceDialect, mysql_table};
use crate::source::mysql;

/// The plain type of a floating-point column with a fixed number of decimals: its text is not shortened.
pub(crate) const FIXED_FLOAT: &str = "float with decimals";

/// The columns of a query, and of a table further facts from the catalog.
///
/// # Errors
/// The database's, in words without data.
pub(crate) async fn describe(
    pool: &MySqlPool,
    source: &SourceSettings,
    sql: &str,
) -> Result<Vec<SourceColumn>, sqlx::Error> {
    let mut columns: Vec<SourceColumn> = typed_columns(pool, sql).await?.into_iter().map(column).collect();
    if let Some(table) = &source.table {
        let facts = TableFacts::read(pool, table).await?;
        for column in &mut columns {
            let name = column.name.to_lowercase();
            if facts.json.contains(&name) {
                (column.type_name, column.family, column.form) =
                    ("json".to_owned(), TypeFamily::Json, ColumnForm::Json);
            }
            if facts.fixed.contains(&name) {
                column.plain_type = FIXED_FLOAT.to_owned();
            }
        }
    }
    Ok(columns)
}

/// The kind of an expression's values.
///
/// # Errors
/// The database's, in words without data.
pub(crate) async fn stamp_kind(pool: &MySqlPool, sql: &str) -> Result<Option<StampKind>, sqlx::Error> {
    let columns = typed_columns(pool, sql).await?;
    Ok(columns.first().and_then(|(_, type_name)| match type_name.as_str() {
        "TIMESTAMP" => Some(StampKind::TimestampTz),
        "DATETIME" => Some(StampKind::Timestamp),
        "DATE" => Some(StampKind::Date),
        "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" => Some(StampKind::Text),
        name => is_number(name).then_some(StampKind::Number),
    }))
}

fn is_number(name: &str) -> bool {
    is_whole(name) || matches!(name, "DECIMAL" | "FLOAT" | "DOUBLE")
}

fn is_whole(name: &str) -> bool {
    name.starts_with("BIGINT")
        || name.starts_with("INT")
        || name.starts_with("MEDIUMINT")
        || name.starts_with("SMALLINT")
        || name.starts_with("TINYINT")
}

/// The names and types of a query's columns, from a row in which all are null: without a row the driver tells none.
async fn typed_columns(pool: &MySqlPool, sql: &str) -> Result<Vec<(String, String)>, sqlx::Error> {
    let null_row = format!("from (select 1 as one) as one left join (\n{sql}\nlimit 0) as t on true");
    let statement = trusted(format!("select t.* {null_row}"));
    let mut connection = mysql::acquire(pool).await.map_err(discreet::of_source)?;
    let row = sqlx::raw_sql(statement).fetch_one(&mut *connection).await.map_err(discreet::of_source)?;
    drop(connection);
    let typed = |column: &MySqlColumn| (column.name().to_owned(), column.type_info().name().to_owned());
    let mut columns: Vec<(String, String)> = row.columns().iter().map(typed).collect();
    // The driver takes texts with a binary collation (`utf8mb4_bin`) for bytes.
    let doubtful: Vec<usize> = (0..columns.len()).filter(|place| is_binary(&columns[*place].1)).collect();
    if doubtful.is_empty() {
        return Ok(columns);
    }
    let asked = doubtful.iter().map(|place| format!("charset(t.{})", SourceDialect::Mysql.quote(&columns[*place].0)));
    let asked = asked.collect::<Vec<_>>().join(", ");
    let sets = mysql::texts(pool, format!("select {asked} {null_row}")).await?;
    for (place, set) in doubtful.into_iter().zip(sets.into_iter().next().unwrap_or_default()) {
        if set.as_deref() != Some("binary") {
            columns[place].1 = as_text_type(&columns[place].1);
        }
    }
    Ok(columns)
}

fn as_text_type(binary: &str) -> String {
    match binary {
        "BINARY" => "CHAR".to_owned(),
        "VARBINARY" => "VARCHAR".to_owned(),
        other => other.replace("BLOB", "TEXT"),
    }
}

fn column((name, type_name): (String, String)) -> SourceColumn {
    SourceColumn {
        name,
        plain_type: type_name.to_lowercase(),
        family: TypeFamily::of_mysql(&type_name),
        form: form(&type_name),
        type_name: type_name.to_lowercase(),
        entry: None,
    }
}

fn form(name: &str) -> ColumnForm {
    match name {
        "JSON" => ColumnForm::Json,
        "GEOMETRY" => ColumnForm::Unfit,
        name if is_binary(name) => ColumnForm::Unfit,
        _ => ColumnForm::Plain,
    }
}

/// Whether a type holds bytes and no text.
pub(crate) fn is_binary(type_name: &str) -> bool {
    let name = type_name.to_ascii_uppercase();
    name.ends_with("BINARY") || name.ends_with("BLOB")
}

/// Facts about a table's columns that a result does not tell.
#[derive(Default)]
struct TableFacts {
    /// Columns that MariaDB declares as `json`, and keeps as checked texts.
    json: HashSet<String>,
    fixed: HashSet<String>,
}

impl TableFacts {
    async fn read(pool: &MySqlPool, table: &str) -> Result<Self, sqlx::Error> {
        let (schema, name) = in_catalog(table);
        let fixed = format!(
            "select lower(column_name) from information_schema.columns where table_schema = {schema} \
             and table_name = {name} and data_type in ('float', 'double') and numeric_scale is not null"
        );
        let fixed = first_of(mysql::texts(pool, fixed).await?);
        let mut facts = Self { fixed, json: HashSet::new() };
        if mysql::version(pool).await?.starts_with("MariaDB") {
            // The check that the server itself adds to such a column has the column's name.
            let json = format!(
                "select lower(constraint_name) from information_schema.check_constraints \
                 where constraint_schema = {schema} and table_name = {name} and level = 'Column' \
                 and check_clause = concat('json_valid(`', constraint_name, '`)')"
            );
            facts.json = first_of(mysql::texts(pool, json).await?);
        }
        Ok(facts)
    }
}

fn first_of(rows: Vec<Vec<Option<String>>>) -> HashSet<String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

/// Schema and table as expressions, for a comparison with the catalog.
fn in_catalog(table: &str) -> (String, String) {
    let mysql = SourceDialect::Mysql;
    let (schema, name) = mysql_table(table);
    (schema.map_or_else(|| "database()".to_owned(), |schema| mysql.literal(&schema)), mysql.literal(&name))
}

/// `[source] table` in the catalog. A unique index tells texts apart at most as finely as their bytes do, except for
/// floating-point numbers, whose text is rounded.
///
/// # Errors
/// The database's, in words without data.
pub(crate) async fn look(pool: &MySqlPool, source: &SourceSettings) -> Result<CatalogTable, sqlx::Error> {
    let Some(table) = &source.table else { return Ok(CatalogTable::default()) };
    let (schema, name) = in_catalog(table);
    let mysql = SourceDialect::Mysql;
    let key = mysql.literal(&source.key);
    let client = source.client.as_deref().map_or_else(|| "null".to_owned(), |client| mysql.literal(client));
    let sql = format!(
        "select t.table_type, (select count(*) from (select s.index_name from information_schema.statistics s \
         left join information_schema.columns c on c.table_schema = s.table_schema and c.table_name = s.table_name \
         and c.column_name = s.column_name \
         where s.table_schema = {schema} and s.table_name = {name} and s.non_unique = 0 group by s.index_name \
         having sum(case when c.data_type in ('float', 'double') then 1 when s.column_name = {key} then 0 \
         when s.column_name = {client} and c.is_nullable = 'NO' then 0 else 1 end) = 0) as u) \
         from information_schema.tables t where t.table_schema = {schema} and t.table_name = {name}"
    );
    let rows = mysql::texts(pool, sql).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(CatalogTable::default()) };
    let relation = match row.first().and_then(Option::as_deref) {
        Some("VIEW" | "SYSTEM VIEW") => Some(RelationKind::View),
        Some(_) => Some(RelationKind::Table),
        None => None,
    };
    let has_unique_key = row.get(1).and_then(Option::as_deref).is_some_and(|count| count != "0");
    Ok(CatalogTable { relation, has_unique_key, ..CatalogTable::default() })
}

/// Tables and views that the user may see, at most 50, for messages.
pub(crate) const TABLES: &str = "select table_name from information_schema.tables where table_schema = database() \
     order by 1 limit 50";
