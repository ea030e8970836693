//! Begins a pass over a PostgreSQL source: first its locks, and only then its snapshot.
//!
//! `ALTER TABLE` and `TRUNCATE` are not safe under MVCC: a session that takes its snapshot and then waits for their lock finds an
//! empty table, and every lead would be gone. So the lock comes first, and the snapshot is newer than any rewrite that it had to
//! wait for. The lock is `access share`, as for any `select`: it blocks no reader and no writer.

use sqlx::{Executor, PgConnection};

use crate::config::SourceSettings;
use crate::db;
use crate::source::columns;
use crate::source::guest::{IsolationLevel, SourcePool};

/// Begins reading. The caller asks for the newest `changed_at` first, and for all rows by one statement: see below.
///
/// # Errors
/// The database's; `55P03` when another session keeps the source locked.
pub async fn begin(
    connection: &mut PgConnection,
    pool: &SourcePool,
    source: &SourceSettings,
) -> Result<(), sqlx::Error> {
    if let (Some(table), None) = (&source.table, &source.filter) {
        begin_at(connection, pool, IsolationLevel::RepeatableRead).await?;
        // No statement that takes a snapshot may come before this one. Locking a view locks all that is below it.
        let lock = format!("lock table {} in access share mode", db::quote_table(table));
        match connection.execute(sqlx::raw_sql(db::trusted(lock))).await {
            Ok(_) => return Ok(()),
            Err(error) if is_not_for_us(&error) => connection.execute("rollback").await?,
            Err(error) => return Err(error),
        };
    }
    // PostgreSQL does not list the tables that a query or a condition reads, and some relations cannot be locked by name (foreign
    // tables, materialised views, tables with only a few readable columns). Planning the statement takes all its locks, which
    // last until the end; under `read committed` each later statement has a newer snapshot of its own. All rows come from one
    // statement. The newest value, asked for before, is then slightly too old, which only makes the next poll read more.
    begin_at(connection, pool, IsolationLevel::ReadCommitted).await?;
    let plan = db::trusted(format!("select 1 from {} limit 0", columns::from_clause(source)));
    connection.execute(sqlx::query(plan).persistent(false)).await?;
    Ok(())
}

/// Sets the limit on waiting for a lock among the other settings.
async fn begin_at(
    connection: &mut PgConnection,
    pool: &SourcePool,
    isolation: IsolationLevel,
) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(db::trusted(pool.begin_text(isolation)))).await.map(drop)
}

/// Whether `lock table` refuses this kind of relation, or refuses us.
fn is_not_for_us(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42809" | "42501"))
}
