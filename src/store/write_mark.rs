//! The write mark: one row of table `control` of a PostgreSQL state, which holds the number of the transaction that wrote it. A restored dump
//! writes that row in another transaction, and the two numbers differ. Replicas, fail-overs, `vacuum` and `pg_upgrade` keep the row and
//! its transaction. [`super::restored_state`] reads it.

use sqlx::PgPool;

/// A condition of every claim: nothing is claimed from a restored state before its leads are held.
pub(crate) const IS_INTACT: &str =
    " and not exists (select 1 from control where name = 'write_mark' and body <> xmin::text)";

/// The server gives a transaction a number of 64 bits. A row keeps the lower 32.
pub(crate) const WRITE: &str = "insert into control (name, body, at) values ('write_mark', (txid_current() % 4294967296)::text, 0) \
     on conflict (name) do update set body = excluded.body, at = 0";
const WRITE_MISSING: &str = "insert into control (name, body, at) \
     select 'write_mark', (txid_current() % 4294967296)::text, 0 \
     where not exists (select 1 from control where name = 'write_mark') on conflict (name) do nothing";
/// A poll that runs has read the state as it was before. Without this row its writes are refused.
pub(crate) const END_POLL: &str = "delete from control where name = 'polling'";

/// Gives a state its mark, where it has none.
///
/// # Errors
/// The database's.
pub(crate) async fn write_missing_mark(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(WRITE_MISSING).execute(pool).await.map(drop)
}
