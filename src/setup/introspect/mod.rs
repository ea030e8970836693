//! What a database holds, as plain data: tables, columns, types, keys, references, and a bounded sample of values. It only
//! reads, with few statements; what it finds is for [`crate::setup::propose`] to judge.
//!
//! Samples are personal data: they stay in memory.

mod postgres;
mod sqlite;

use crate::db::{self, discreet};
use crate::rules::drift::Family;
use crate::rules::source_column::Relation;
use crate::source::source_db::SourceDb;

/// Rows of a table that are looked at.
pub const SAMPLE_ROWS: usize = 200;
/// Characters of a value that are looked at.
const SAMPLE_CHARS: usize = 300;
/// Where counting ends: beyond it a table is just large.
pub const COUNT_UP_TO: i64 = 10_000;

/// A table or view with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `None` where the name alone finds it.
    pub schema: Option<String>,
    pub name: String,
    pub relation: Relation,
    pub columns: Vec<Column>,
    /// The columns of the primary key and of every other unique index without a condition, the primary key first.
    pub unique: Vec<Unique>,
    /// References of one column to one column.
    pub references: Vec<Reference>,
    /// How many rows there are, at most [`COUNT_UP_TO`] and one; `None` where nobody has counted.
    pub rows: Option<i64>,
    /// How many rows the samples are of.
    pub sampled: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The database's own name of the type.
    pub type_name: String,
    pub family: Family,
    /// Whether its values have a plain text: not arrays, composites, binary.
    pub readable: bool,
    pub not_null: bool,
    /// One value a sampled row.
    pub samples: Vec<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    pub columns: Vec<String>,
    pub primary: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub column: String,
    pub schema: Option<String>,
    pub table: String,
    /// `None`: its primary key.
    pub target: Option<String>,
}

impl Table {
    /// As `[source] table` names it.
    pub fn setting(&self) -> String {
        let part = |name: &str| match name.contains(['.', '"']) || name.trim() != name || name.is_empty() {
            true => db::quote(name),
            false => name.to_owned(),
        };
        match &self.schema {
            Some(schema) => format!("{}.{}", part(schema), part(&self.name)),
            None => part(&self.name),
        }
    }

    /// As SQL names it.
    pub fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", db::quote(schema), db::quote(&self.name)),
            None => db::quote(&self.name),
        }
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        let exact = self.columns.iter().find(|column| column.name == name);
        exact.or_else(|| self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)))
    }

    /// The primary key, where it is one column.
    pub fn primary_key(&self) -> Option<&str> {
        let primary = self.unique.iter().find(|unique| unique.primary)?;
        match primary.columns.as_slice() {
            [column] => Some(column),
            _ => None,
        }
    }
}

impl Column {
    /// The sampled values that are not blank.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().flatten().map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

/// Every table and view that this user may read, without samples.
///
/// # Errors
/// The database's.
pub async fn tables(db: &SourceDb) -> Result<Vec<Table>, sqlx::Error> {
    let mut tables = match db {
        SourceDb::Sqlite(pool) => sqlite::tables(pool).await,
        SourceDb::Postgres(pool) => postgres::tables(pool).await,
    }
    .map_err(discreet::of_source)?;
    // What we have made ourselves is nobody's CRM.
    tables.retain(|table| {
        table.schema.as_deref() != Some("conversica_sync")
            && !table.name.starts_with("conversica_")
            && !table.name.starts_with("_sqlx_")
    });
    Ok(tables)
}

/// Takes samples of a table, and counts its rows up to a bound. What cannot be read (a view that fails) has none.
pub async fn sample(db: &SourceDb, table: &mut Table) {
    if table.rows.is_some() {
        return;
    }
    let count = format!("select count(*) from (select 1 from {} limit {}) as t", table.sql(), COUNT_UP_TO + 1);
    table.rows = db.fetch_number(count).await.ok();
    let readable: Vec<usize> = (0..table.columns.len()).filter(|index| table.columns[*index].readable).collect();
    if readable.is_empty() {
        return;
    }
    let text = |index: &usize| {
        let name = db::quote(&table.columns[*index].name);
        // PostgreSQL's `left` counts characters as `substr` does; both engines have `substr`.
        format!("substr(cast(t.{name} as text), 1, {SAMPLE_CHARS})")
    };
    let list = readable.iter().map(text).collect::<Vec<_>>().join(", ");
    let sql = format!("select {list} from {} as t limit {SAMPLE_ROWS}", table.sql());
    let width = readable.len();
    let Ok(rows) = db.fetch_texts(sql, width).await else { return };
    table.sampled = rows.len();
    for (place, index) in readable.into_iter().enumerate() {
        table.columns[index].samples = rows.iter().map(|row| row[place].clone()).collect();
    }
}
