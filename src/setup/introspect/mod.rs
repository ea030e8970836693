//! The contents of a database as plain data: tables, columns, types, keys, references, and a bounded sample of values. It only
//! reads, with few statements; [`crate::setup::propose`] judges the findings.
//!
//! Samples are personal data: they stay in memory.

mod mysql;
mod postgres;
mod sqlite;
pub mod table;

use crate::db::discreet;
use crate::setup::introspect::table::InspectedTable;
use crate::source::dialect::SourceDialect;
use crate::source::source_db::SourceDb;

/// Rows sampled per table.
pub const SAMPLE_ROWS: usize = 200;
/// Characters sampled per value.
const SAMPLE_CHARS: usize = 300;
/// Counting ends here: a table with more rows is just large.
pub const COUNT_UP_TO: i64 = 10_000;

/// Every table and view that this user may read, without samples.
///
/// # Errors
/// The database's.
pub async fn tables(db: &SourceDb) -> Result<Vec<InspectedTable>, sqlx::Error> {
    let mut tables = match db {
        SourceDb::Sqlite(pool) => sqlite::tables(pool).await,
        SourceDb::Postgres(pool) => postgres::tables(pool).await,
        SourceDb::Mysql(pool) => mysql::tables(pool).await,
    }
    .map_err(discreet::of_source)?;
    // Tables that conversica-sync created belong to no CRM.
    tables.retain(|table| {
        table.schema.as_deref() != Some("conversica_sync")
            && !table.name.starts_with("conversica_")
            && !table.name.starts_with("_sqlx_")
    });
    Ok(tables)
}

/// Samples a table, and counts its rows up to a bound. An unreadable table (a view that fails) gets no samples.
pub async fn sample(db: &SourceDb, table: &mut InspectedTable) {
    if table.rows.is_some() {
        return;
    }
    let dialect = db.dialect();
    let place = match &table.schema {
        Some(schema) => format!("{}.{}", dialect.quote(schema), dialect.quote(&table.name)),
        None => dialect.quote(&table.name),
    };
    let count = format!("select count(*) from (select 1 as one from {place} limit {}) as t", COUNT_UP_TO + 1);
    table.rows = db.fetch_number(count).await.ok();
    let readable: Vec<usize> = (0..table.columns.len()).filter(|index| table.columns[*index].readable).collect();
    if readable.is_empty() {
        return;
    }
    let text = |index: &usize| {
        let name = dialect.quote(&table.columns[*index].name);
        let text = match (dialect, table.columns[*index].type_name.as_str()) {
            (SourceDialect::Sqlite | SourceDialect::Postgres, _) => format!("cast(t.{name} as text)"),
            (SourceDialect::Mysql, "bit") => format!("cast(t.{name} + 0 as char)"),
            (SourceDialect::Mysql, _) => format!("cast(t.{name} as char)"),
        };
        // PostgreSQL's `left` is missing in SQLite; all engines have `substr`, which counts characters.
        format!("substr({text}, 1, {SAMPLE_CHARS})")
    };
    let list = readable.iter().map(text).collect::<Vec<_>>().join(", ");
    let sql = format!("select {list} from {place} as t limit {SAMPLE_ROWS}");
    let width = readable.len();
    let Ok(rows) = db.fetch_texts(sql, width).await else { return };
    table.sampled = rows.len();
    for (place, index) in readable.into_iter().enumerate() {
        table.columns[index].samples = rows.iter().map(|row| row[place].clone()).collect();
    }
}
