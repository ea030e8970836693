//! PostgreSQL's catalog: four statements for the whole database.

use crate::rules::source_column::{RelationKind, TypeFamily};
use crate::setup::introspect::table::{ForeignKey, InspectedTable, TableColumn, UniqueKey};
use crate::source::guest::SourcePool;

/// The most relations that are read: a database with more is no CRM in which an operator could choose a table.
const MAX_TABLES: i64 = 5000;

pub(crate) async fn tables(pool: &SourcePool) -> Result<Vec<InspectedTable>, sqlx::Error> {
    // Partitions belong to their table. `public` is on nearly every search path. Tables of other schemas are always qualified,
    // because the path belongs to the session, and ours may have another one tomorrow.
    let relations: Vec<(i64, String, String, String, bool)> = sqlx::query_as(
        "select c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, \
                n.nspname = 'public' and pg_catalog.pg_table_is_visible(c.oid) \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition \
           and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' \
           and pg_catalog.has_schema_privilege(n.oid, 'usage') \
           and (pg_catalog.has_table_privilege(c.oid, 'select') or pg_catalog.has_any_column_privilege(c.oid, 'select')) \
         order by 2, 3 limit $1",
    )
    .bind(MAX_TABLES)
    .fetch_all(pool)
    .await?;
    let mut oids = Vec::with_capacity(relations.len());
    let mut tables = Vec::with_capacity(relations.len());
    for (oid, schema, name, kind, plain) in relations {
        oids.push(oid);
        let relation = match kind.as_str() {
            "v" => RelationKind::View,
            "m" => RelationKind::MaterialisedView,
            "f" => RelationKind::ForeignTable,
            _ => RelationKind::Table,
        };
        tables.push(InspectedTable {
            schema: (!plain).then_some(schema),
            name,
            relation,
            columns: Vec::new(),
            unique: Vec::new(),
            references: Vec::new(),
            rows: None,
            sampled: 0,
        });
    }
    // The relations come sorted by name, not by number.
    let place = |oid: i64| oids.iter().position(|known| *known == oid);
    columns(pool, &oids, &mut tables, &place).await?;
    uniques(pool, &oids, &mut tables, &place).await?;
    references(pool, &oids, &mut tables, &place).await?;
    Ok(tables)
}

async fn columns(
    pool: &SourcePool,
    oids: &[i64],
    tables: &mut [InspectedTable],
    place: &impl Fn(i64) -> Option<usize>,
) -> Result<(), sqlx::Error> {
    // A domain counts as its base type.
    let columns: Vec<(i64, String, String, String, bool)> = sqlx::query_as(
        "select a.attrelid::int8, a.attname::text, coalesce(b.typname, t.typname)::text, \
                coalesce(b.typcategory, t.typcategory)::text, a.attnotnull \
         from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid \
         left join pg_catalog.pg_type b on t.typtype = 'd' and b.oid = t.typbasetype \
         where a.attrelid::int8 = any($1) and a.attnum > 0 and not a.attisdropped \
           and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select') \
         order by a.attrelid, a.attnum",
    )
    .bind(oids)
    .fetch_all(pool)
    .await?;
    for group in columns.chunk_by(|a, b| a.0 == b.0) {
        let Some(index) = place(group[0].0) else { continue };
        tables[index].columns = group
            .iter()
            .map(|(_, name, kind, category, required)| {
                // A array, C composite, G geometric, P pseudo, R range, V bit string; the named types below have no plain text
                // either.
                let readable = !["A", "C", "G", "P", "R", "V"].contains(&category.as_str())
                    && !["bytea", "tsvector", "tsquery"].contains(&kind.as_str());
                // E is an enum.
                let family = if category == "E" { TypeFamily::Text } else { TypeFamily::of_postgres(kind) };
                let (name, type_name) = (name.clone(), kind.clone());
                TableColumn { name, type_name, family, readable, not_null: *required, samples: Vec::new() }
            })
            .collect();
    }
    Ok(())
}

async fn uniques(
    pool: &SourcePool,
    oids: &[i64],
    tables: &mut [InspectedTable],
    place: &impl Fn(i64) -> Option<usize>,
) -> Result<(), sqlx::Error> {
    let indexes: Vec<(i64, bool, Vec<String>)> = sqlx::query_as(
        "select i.indrelid::int8, i.indisprimary, array_agg(a.attname::text order by k.place) \
         from pg_catalog.pg_index i \
         cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place) \
         join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
         where i.indrelid::int8 = any($1) and i.indisunique and i.indpred is null and i.indexprs is null and i.indisvalid \
           and k.place <= i.indnkeyatts \
         group by i.indexrelid, i.indrelid, i.indisprimary order by i.indisprimary desc, i.indexrelid",
    )
    .bind(oids)
    .fetch_all(pool)
    .await?;
    for (oid, primary, columns) in indexes {
        if let Some(index) = place(oid) {
            tables[index].unique.push(UniqueKey { columns, primary });
        }
    }
    Ok(())
}

async fn references(
    pool: &SourcePool,
    oids: &[i64],
    tables: &mut [InspectedTable],
    place: &impl Fn(i64) -> Option<usize>,
) -> Result<(), sqlx::Error> {
    let keys: Vec<(i64, i64, String, String)> = sqlx::query_as(
        "select c.conrelid::int8, c.confrelid::int8, a.attname::text, b.attname::text \
         from pg_catalog.pg_constraint c \
         join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1] \
         join pg_catalog.pg_attribute b on b.attrelid = c.confrelid and b.attnum = c.confkey[1] \
         where c.contype = 'f' and c.conrelid::int8 = any($1) and cardinality(c.conkey) = 1 order by c.oid",
    )
    .bind(oids)
    .fetch_all(pool)
    .await?;
    for (from, to, column, target) in keys {
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            let (schema, table) = (tables[to].schema.clone(), tables[to].name.clone());
            tables[from].references.push(ForeignKey { column, schema, table, target: Some(target) });
        }
    }
    Ok(())
}
