//! SQLite's catalog: `sqlite_master` and the pragmas that have table-valued functions.

use sqlx::SqlitePool;

use crate::rules::source_column::{RelationKind, TypeFamily};
use crate::setup::introspect::table::{ForeignKey, InspectedTable, TableColumn, UniqueKey};

/// A broken view makes a joined query over all views fail, so each view is read alone.
const MAX_VIEWS: i64 = 200;

pub(crate) async fn tables(pool: &SqlitePool) -> Result<Vec<InspectedTable>, sqlx::Error> {
    let columns: Vec<(String, String, String, bool, i64)> = sqlx::query_as(
        "select m.name, c.name, c.type, c.\"notnull\" <> 0, c.pk from sqlite_master m join pragma_table_xinfo(m.name) c \
         where m.type = 'table' and m.name not like 'sqlite_%' and c.hidden <> 1 order by m.name, c.cid",
    )
    .fetch_all(pool)
    .await?;
    let mut tables: Vec<InspectedTable> = Vec::new();
    let mut keys: Vec<(i64, String)> = Vec::new();
    for (table, column, declared, not_null, pk) in columns {
        if tables.last().is_none_or(|last| last.name != table) {
            end_of_key(&mut tables, &mut keys);
            tables.push(empty(table, RelationKind::Table));
        }
        if pk > 0 {
            keys.push((pk, column.clone()));
        }
        if let Some(table) = tables.last_mut() {
            table.columns.push(TableColumn { not_null, ..read(column, declared) });
        }
    }
    end_of_key(&mut tables, &mut keys);
    uniques(pool, &mut tables).await?;
    references(pool, &mut tables).await?;
    tables.extend(views(pool).await?);
    Ok(tables)
}

/// Combines the collected primary-key columns of the last table into one key.
fn end_of_key(tables: &mut [InspectedTable], keys: &mut Vec<(i64, String)>) {
    keys.sort();
    let columns: Vec<String> = keys.drain(..).map(|(_, column)| column).collect();
    if let Some(table) = tables.last_mut().filter(|_| !columns.is_empty()) {
        table.unique.push(UniqueKey { columns, primary: true });
    }
}

async fn uniques(pool: &SqlitePool, tables: &mut [InspectedTable]) -> Result<(), sqlx::Error> {
    let indexes: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "select m.name, i.name, c.name from sqlite_master m join pragma_index_list(m.name) i join pragma_index_info(i.name) c \
         where m.type = 'table' and i.\"unique\" <> 0 and i.partial = 0 and i.origin <> 'pk' order by m.name, i.name, c.seqno",
    )
    .fetch_all(pool)
    .await?;
    for group in indexes.chunk_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1)) {
        // An index column without a name is an expression.
        let columns: Option<Vec<String>> = group.iter().map(|(_, _, column)| column.clone()).collect();
        if let (Some(columns), Some(table)) = (columns, tables.iter_mut().find(|table| table.name == group[0].0)) {
            table.unique.push(UniqueKey { columns, primary: false });
        }
    }
    Ok(())
}

async fn references(pool: &SqlitePool, tables: &mut [InspectedTable]) -> Result<(), sqlx::Error> {
    let keys: Vec<(String, i64, String, String, Option<String>)> = sqlx::query_as(
        "select m.name, f.id, f.\"table\", f.\"from\", f.\"to\" from sqlite_master m join pragma_foreign_key_list(m.name) f \
         where m.type = 'table' order by m.name, f.id, f.seq",
    )
    .fetch_all(pool)
    .await?;
    for group in keys.chunk_by(|a, b| (&a.0, a.1) == (&b.0, b.1)) {
        let [(table, _, to, column, target)] = group else { continue };
        if let Some(table) = tables.iter_mut().find(|known| known.name == *table) {
            table.references.push(ForeignKey {
                column: column.clone(),
                schema: None,
                table: to.clone(),
                target: target.clone(),
            });
        }
    }
    Ok(())
}

async fn views(pool: &SqlitePool) -> Result<Vec<InspectedTable>, sqlx::Error> {
    let names: Vec<String> =
        sqlx::query_scalar("select name from sqlite_master where type = 'view' order by 1 limit $1")
            .bind(MAX_VIEWS)
            .fetch_all(pool)
            .await?;
    let mut views = Vec::new();
    for name in names {
        let columns: Result<Vec<(String, String)>, sqlx::Error> =
            sqlx::query_as("select name, type from pragma_table_xinfo($1) order by cid")
                .bind(&name)
                .fetch_all(pool)
                .await;
        let Ok(columns) = columns else { continue };
        let mut view = empty(name, RelationKind::View);
        view.columns = columns.into_iter().map(|(name, declared)| read(name, declared)).collect();
        views.push(view);
    }
    Ok(views)
}

fn empty(name: String, relation: RelationKind) -> InspectedTable {
    InspectedTable {
        schema: None,
        name,
        relation,
        columns: Vec::new(),
        unique: Vec::new(),
        references: Vec::new(),
        rows: None,
        sampled: 0,
    }
}

fn read(name: String, declared: String) -> TableColumn {
    let family = family(&declared);
    let readable = !declared.to_ascii_uppercase().contains("BLOB");
    TableColumn { name, type_name: declared.to_lowercase(), family, readable, not_null: false, samples: Vec::new() }
}

/// The family of a declared type. SQLite accepts any words as a type and reads them by what they contain; so does this.
fn family(declared: &str) -> TypeFamily {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["BOOL"]) {
        TypeFamily::Boolean
    } else if has(&["DATETIME", "TIMESTAMP"]) {
        TypeFamily::Timestamp
    } else if has(&["DATE"]) {
        TypeFamily::Date
    } else if has(&["INT"]) {
        TypeFamily::Integer
    } else if has(&["UUID", "GUID"]) {
        TypeFamily::Uuid
    } else if has(&["CHAR", "TEXT", "CLOB"]) {
        TypeFamily::Text
    } else if has(&["JSON"]) {
        TypeFamily::Json
    } else if has(&["REAL", "FLOA", "DOUB", "NUM", "DEC"]) {
        TypeFamily::Number
    } else {
        TypeFamily::Other(declared)
    }
}
