//! Reads from the catalog facts about `[source] table` that a prepared statement does not tell: its kind, the identity of its
//! columns, and whether row level security hides rows from this user.

use sqlx::{PgConnection, PgExecutor};

use crate::config::SourceSettings;
use crate::db::{self, discreet};
use crate::rules::source_column::{CatalogColumn, CatalogTable, RelationKind};
use crate::source::mysql_catalog;
use crate::source::source_db::SourceDb;

type PostgresRow = (i64, String, bool, bool, Vec<String>, Vec<i32>, Vec<i32>);

/// On SQLite only a key that is the row number is unique as a text: any other column may hold 7 and '7', or a text and the same
/// bytes.
const ROW_NUMBERS_AS_KEYS: &str = "select exists (select 1 from pragma_table_info($1) p join sqlite_master m \
     on m.name = $1 collate nocase and m.type = 'table' where p.name = $2 collate nocase and p.pk = 1 \
     and p.type = 'integer' collate nocase and m.sql not like '%without%rowid%' and m.sql not like '%desc%' \
     and (select count(*) from pragma_table_info($1) where pk > 0) = 1)";

/// For a domain, the query takes the domain's own definition.
const IN_POSTGRES: &str = "select c.oid::bigint, c.relkind::text, pg_catalog.row_security_active(c.oid), \
     c.relkind in ('r', 'p') \
     and not exists (select 1 from pg_catalog.pg_inherits h where h.inhparent = c.oid and c.relkind = 'r') \
     and exists (select 1 from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisunique and i.indisvalid \
     and i.indpred is null and i.indexprs is null and not exists (\
     select 1 from pg_catalog.unnest(i.indkey::int2[]) with ordinality k (number, place) \
     join pg_catalog.pg_attribute b on b.attrelid = c.oid and b.attnum = k.number \
     where k.place <= i.indnkeyatts and b.attname::text <> $2 \
     and (b.attname::text is distinct from $3 or not b.attnotnull))), coalesce(a.names, '{}'), \
     coalesce(a.numbers, '{}'), coalesce(a.modifiers, '{}') from pg_catalog.pg_class c \
     left join lateral (select array_agg(a.attname::text) as names, \
     array_agg(a.attnum::int4) as numbers, \
     array_agg(case when t.typtype = 'd' then t.typtypmod else a.atttypmod end) as modifiers \
     from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid \
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) a on true \
     where c.oid = pg_catalog.to_regclass($1)";

/// Queries the catalog, with one statement or two.
///
/// # Errors
/// The database's when it is unreachable.
pub async fn look(db: &SourceDb, source: &SourceSettings) -> Result<CatalogTable, sqlx::Error> {
    let Some(table) = &source.table else { return Ok(CatalogTable::default()) };
    match db {
        SourceDb::Sqlite(pool) => {
            let name = db::quote_table(table);
            // Without its schema, which is nearly always `main`.
            let plain = name.rsplit("\".\"").next().unwrap_or(&name).trim_matches('"').replace("\"\"", "\"");
            let sql = "select type from sqlite_master where name = $1 collate nocase and type in ('table', 'view')";
            let kind: Option<String> = sqlx::query_scalar(sql).bind(&plain).fetch_optional(pool).await?;
            let has_unique_key: bool =
                sqlx::query_scalar(ROW_NUMBERS_AS_KEYS).bind(&plain).bind(&source.key).fetch_one(pool).await?;
            Ok(CatalogTable { relation: kind.as_deref().and_then(relation), has_unique_key, ..CatalogTable::default() })
        }
        SourceDb::Postgres(pool) => look_postgres(pool, source, table).await,
        SourceDb::Mysql(pool) => mysql_catalog::look(pool, source).await,
    }
    .map_err(discreet::of_source)
}

/// The same over a connection to PostgreSQL that is in a transaction.
///
/// # Errors
/// The database's.
pub async fn look_within(connection: &mut PgConnection, source: &SourceSettings) -> Result<CatalogTable, sqlx::Error> {
    match &source.table {
        None => Ok(CatalogTable::default()),
        Some(table) => look_postgres(connection, source, table).await,
    }
}

async fn look_postgres(
    database: impl PgExecutor<'_>,
    source: &SourceSettings,
    table: &str,
) -> Result<CatalogTable, sqlx::Error> {
    let query = sqlx::query_as(IN_POSTGRES).bind(db::quote_table(table)).bind(&source.key).bind(&source.client);
    let found: Option<PostgresRow> = query.persistent(false).fetch_optional(database).await?;
    Ok(found.map(postgres).unwrap_or_default())
}

fn postgres((table, kind, row_security, has_unique_key, names, numbers, modifiers): PostgresRow) -> CatalogTable {
    let entries =
        numbers.into_iter().zip(modifiers).map(|(number, modifier)| CatalogColumn { table, number, modifier });
    let columns = names.into_iter().zip(entries).collect();
    CatalogTable { relation: relation(&kind), row_security, has_unique_key, columns }
}

fn relation(kind: &str) -> Option<RelationKind> {
    match kind {
        "table" | "r" | "p" => Some(RelationKind::Table),
        "view" | "v" => Some(RelationKind::View),
        "m" => Some(RelationKind::MaterialisedView),
        "f" => Some(RelationKind::ForeignTable),
        _ => None,
    }
}
