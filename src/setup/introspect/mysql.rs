//! The catalog of MySQL and MariaDB: four statements for the whole database.

use sqlx::MySqlPool;

use crate::rules::source_column::{RelationKind, TypeFamily};
use crate::setup::introspect::table::{ForeignKey, InspectedTable, TableColumn, UniqueKey};
use crate::source::mysql;
use crate::source::mysql_catalog::is_binary;

const TABLES: &str = "select table_name, table_type from information_schema.tables where table_schema = database() \
     order by 1 limit 5000";

const COLUMNS: &str = "select table_name, column_name, data_type, column_type, is_nullable from information_schema.columns \
     where table_schema = database() order by table_name, ordinal_position";

/// Unique indexes, the primary key of each table first.
const UNIQUES: &str = "select table_name, index_name, column_name from information_schema.statistics \
     where table_schema = database() and non_unique = 0 \
     order by table_name, index_name <> 'PRIMARY', index_name, seq_in_index";

const REFERENCES: &str = "select table_name, constraint_name, column_name, referenced_table_name, referenced_column_name \
     from information_schema.key_column_usage where table_schema = database() and referenced_table_schema = database() \
     order by table_name, constraint_name, ordinal_position";

/// Types of places on a map, which have no plain text.
const SHAPES: [&str; 8] = [
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
];

pub(crate) async fn tables(pool: &MySqlPool) -> Result<Vec<InspectedTable>, sqlx::Error> {
    let mut tables: Vec<InspectedTable> = rows(pool, TABLES).await?.into_iter().map(empty).collect();
    for row in rows(pool, COLUMNS).await? {
        if let Some(table) = named(&mut tables, &row[0]) {
            table.columns.push(column(&row));
        }
    }
    for group in rows(pool, UNIQUES).await?.chunk_by(|a, b| a[..2] == b[..2]) {
        // An index column without a name is an expression.
        if group.iter().all(|row| !row[2].is_empty())
            && let Some(table) = named(&mut tables, &group[0][0])
        {
            let columns = group.iter().map(|row| row[2].clone()).collect();
            table.unique.push(UniqueKey { columns, primary: group[0][1] == "PRIMARY" });
        }
    }
    for group in rows(pool, REFERENCES).await?.chunk_by(|a, b| a[..2] == b[..2]) {
        let [row] = group else { continue };
        let (column, other, target) = (row[2].clone(), row[3].clone(), row[4].clone());
        if let Some(table) = named(&mut tables, &row[0]) {
            table.references.push(ForeignKey { column, schema: None, table: other, target: Some(target) });
        }
    }
    Ok(tables)
}

/// The texts of the rows, a NULL as a blank one.
async fn rows(pool: &MySqlPool, sql: &str) -> Result<Vec<Vec<String>>, sqlx::Error> {
    let rows = mysql::texts(pool, sql.to_owned()).await?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect())
}

fn named<'t>(tables: &'t mut [InspectedTable], name: &str) -> Option<&'t mut InspectedTable> {
    tables.iter_mut().find(|table| table.name == name)
}

fn empty(row: Vec<String>) -> InspectedTable {
    let relation = if row[1].ends_with("VIEW") { RelationKind::View } else { RelationKind::Table };
    InspectedTable {
        schema: None,
        name: row[0].clone(),
        relation,
        columns: Vec::new(),
        unique: Vec::new(),
        references: Vec::new(),
        rows: None,
        sampled: 0,
    }
}

fn column(row: &[String]) -> TableColumn {
    let (data_type, column_type) = (row[2].to_lowercase(), row[3].to_lowercase());
    let family = match data_type.as_str() {
        "tinyint" if column_type.starts_with("tinyint(1)") => TypeFamily::Boolean,
        "bit" if column_type == "bit(1)" => TypeFamily::Boolean,
        "uuid" => TypeFamily::Uuid,
        name => TypeFamily::of_mysql(name),
    };
    TableColumn {
        name: row[1].clone(),
        readable: !is_binary(&data_type) && !SHAPES.contains(&data_type.as_str()),
        type_name: data_type,
        family,
        not_null: row[4] == "NO",
        samples: Vec::new(),
    }
}
