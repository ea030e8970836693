//! How a pass over a PostgreSQL source begins: with its locks first, and only then its snapshot.
//!
//! `ALTER TABLE` and `TRUNCATE` are not safe under MVCC: who takes a snapshot, then waits for the lock of one of them, finds
//! an empty table, and every lead would be gone. So the lock comes first, and the snapshot is newer than any rewriting that
//! it had to wait for. The lock is `access share`, that of any `select`: it keeps nobody from reading and writing.

use sqlx::{Executor, PgConnection};

use crate::config::SourceSettings;
use crate::db;
use crate::source::columns;
use crate::source::guest::{IsolationLevel, SourcePool};

/// Begins reading. The newest `changed_at` is to be asked for first, and all rows by one statement: see below.
///
/// # Errors
/// The database's; `55P03` when somebody keeps the source locked.
pub async fn begin(
    connection: &mut PgConnection,
    pool: &SourcePool,
    source: &SourceSettings,
) -> Result<(), sqlx::Error> {
    if let (Some(table), None) = (&source.table, &source.filter) {
        begin_at(connection, pool, IsolationLevel::RepeatableRead).await?;
        // No statement that takes a snapshot may come before this one. A view is locked with all that is below it.
        let lock = format!("lock table {} in access share mode", db::quote_table(table));
        match connection.execute(sqlx::raw_sql(db::trusted(lock))).await {
            Ok(_) => return Ok(()),
            Err(error) if is_not_for_us(&error) => connection.execute("rollback").await?,
            Err(error) => return Err(error),
        };
    }
    // Nobody says which tables a query or a condition reads; some things cannot be locked by name (foreign tables,
    // materialised views, tables of which we may read a few columns only). Planning the statement takes all its locks,
    // kept until the end; under `read committed` each statement after that has a newer snapshot of its own. All rows
    // come from one statement. The newest value, asked for before, is then a little too old, which only reads more.
    begin_at(connection, pool, IsolationLevel::ReadCommitted).await?;
    let plan = db::trusted(format!("select 1 from {} limit 0", columns::from_clause(source)));
    connection.execute(sqlx::query(plan).persistent(false)).await?;
    Ok(())
}

/// With the limit on waiting for a lock, among the other settings.
async fn begin_at(
    connection: &mut PgConnection,
    pool: &SourcePool,
    isolation: IsolationLevel,
) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(db::trusted(pool.begin_text(isolation)))).await.map(drop)
}

/// `lock table` does not take this kind of relation, or not from us.
fn is_not_for_us(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42809" | "42501"))
}
