//! The tables and views that a statement reads, as the database itself sees them.

use sqlx::{PgConnection, SqlitePool};

use crate::db::{self, discreet};
use crate::source::columns;
use crate::source::guest::SourcePool;
use crate::source::source_db::SourceDb;

/// A table or view that a statement reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadRelation {
    /// PostgreSQL.
    pub schema: Option<String>,
    pub name: String,
    pub kind: ReadKind,
    /// PostgreSQL: its number in the catalog.
    pub oid: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadKind {
    /// Has rows of its own.
    Table,
    /// Reads other relations, which are listed too.
    View,
}

/// The relations of a select statement, sorted by their names; tables that only a function reads are not among them. Empty on
/// MySQL.
///
/// # Errors
/// The database's.
pub async fn relations_read(db: &SourceDb, sql: &str) -> Result<Vec<ReadRelation>, sqlx::Error> {
    match db {
        SourceDb::Sqlite(pool) => of_sqlite(pool, sql).await,
        SourceDb::Postgres(pool) => of_postgres(pool, sql).await,
        SourceDb::Mysql(_) => Ok(Vec::new()),
    }
    .map_err(discreet::of_source)
}

/// The tables and indexes that the compiled statement opens.
async fn of_sqlite(pool: &SqlitePool, sql: &str) -> Result<Vec<ReadRelation>, sqlx::Error> {
    let mut connection = columns::fresh_sqlite(pool).await?;
    let opened: Vec<SqliteOpcode> =
        sqlx::query_as(db::trusted(format!("explain {sql}"))).fetch_all(&mut *connection).await?;
    let pages: Vec<i64> =
        opened.iter().filter(|(_, opcode, ..)| opcode == "OpenRead").map(|(_, _, _, page)| *page).collect();
    let names: Vec<String> = sqlx::query_scalar(
        "select distinct tbl_name from sqlite_master where rootpage in (select value from json_each($1)) order by 1",
    )
    .bind(serde_json::json!(pages).to_string())
    .fetch_all(&mut *connection)
    .await?;
    let table = |name| ReadRelation { schema: None, name, kind: ReadKind::Table, oid: 0 };
    Ok(names.into_iter().map(table).collect())
}

/// Address, opcode, and its first two operands.
type SqliteOpcode = (i64, String, i64, i64);

async fn of_postgres(pool: &SourcePool, sql: &str) -> Result<Vec<ReadRelation>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    columns::prepared_columns_within(&mut transaction, sql.to_owned()).await?;
    let found = locked_relations(&mut transaction).await?;
    transaction.commit().await?;
    Ok(found)
}

/// PostgreSQL locks every relation of a statement when it prepares it, with those below views, and keeps the locks until the
/// transaction ends. So this names the relations of all statements that the transaction has prepared.
pub(crate) async fn locked_relations(connection: &mut PgConnection) -> Result<Vec<ReadRelation>, sqlx::Error> {
    let rows: Vec<(String, String, bool, i64)> = sqlx::query_as(
        "select distinct n.nspname::text, c.relname::text, c.relkind = 'v', c.oid::bigint from pg_catalog.pg_locks l \
         join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where l.locktype = 'relation' and l.pid = pg_catalog.pg_backend_pid() and l.database in (0, (select d.oid \
         from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())) \
         and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') \
         order by 1, 2",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let relation = |(schema, name, is_view, oid)| ReadRelation {
        schema: Some(schema),
        name,
        kind: if is_view { ReadKind::View } else { ReadKind::Table },
        oid,
    };
    Ok(rows.into_iter().map(relation).collect())
}
