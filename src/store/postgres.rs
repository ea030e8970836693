//! Connections to a PostgreSQL server, and the sessions of the state, which keep settings and locks until they end.

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::db::pooler::{self, SessionKind};
use crate::db::postgres_options;
use crate::db::{ACQUIRE_TIMEOUT, LOCK_TIMEOUT, away_or_unfit, display_url, is_outage, trusted};
use crate::error::SetupError;
use crate::store::server_clock;
use crate::store::state_failure::state_unusable;

/// Connections that each begin with these statements, which last as long as the connection.
fn in_session(connections: u32, session: String) -> PgPoolOptions {
    let session = std::sync::Arc::new(session);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Not start-up options, because poolers such as PgBouncer reject those.
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move {
                use sqlx::Executor;
                connection.execute(sqlx::raw_sql(trusted(session.to_string()))).await?;
                Ok(())
            })
        })
}

/// How long one of our transactions may be idle. It is idle only if the process is paused or cut off from the server, and other
/// sessions may wait for its locks.
const IDLE_TRANSACTION_MS: u32 = 8_000;
/// How long the server keeps sending an answer to a process that does not read it.
const UNANSWERED_MS: u32 = 15_000;

/// The first statements of every session of the state. With these time limits, an instance that is paused, or whose network is
/// cut, holds no lock for longer than 20 seconds.
pub(crate) fn session_settings() -> String {
    format!(
        // A commit must be on the disk. Stricter settings of the server stay.
        "set client_min_messages = 'warning'; set search_path = {POSTGRES_SCHEMA}; set time zone 'UTC'; \
         select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'; \
         set lock_timeout = {}; set idle_in_transaction_session_timeout = {IDLE_TRANSACTION_MS}; \
         set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 3; set tcp_keepalives_count = 3; \
         set tcp_user_timeout = {UNANSWERED_MS}",
        LOCK_TIMEOUT.as_millis()
    )
}

pub(crate) async fn state_pool(url: &str) -> anyhow::Result<PgPool> {
    let unreachable = |error: sqlx::Error| {
        let what = format!("the state at {} cannot be reached: {error}", display_url(url));
        let cure = "check that the server is running, and the host, database, user and password of [state] url";
        away_or_unfit(&error, SetupError::new(what, cure))
    };
    let options = postgres_options(url).map_err(unreachable)?;
    // This check comes before the first `set`, because in a shared session the setting would reach other clients.
    if pooler::session_kind(&options).await.map_err(unreachable)? == SessionKind::Shared {
        return Err(shared_session(url).into());
    }
    let pool = in_session(8, session_settings()).connect_with(options).await.map_err(unreachable)?;
    refuse_encoding(&pool, url).await?;
    server_clock::follow_server_clock(&pool).await.map_err(unreachable)?;
    Ok(pool)
}

fn shared_session(url: &str) -> SetupError {
    SetupError::new(
        format!(
            "the state at {} is behind a connection pooler that hands sessions from one client to the next between transactions \
             (PgBouncer: pool_mode = transaction or statement); the state needs sessions of its own, for locks and settings",
            display_url(url)
        ),
        "name the PostgreSQL server itself in [state] url (host and port without the pooler), or give that database pool_mode = \
         session in the pooler",
    )
}

/// Creates the schema only if it is missing: a role that may use the schema need not be allowed to create one.
pub(crate) async fn create_schema(pool: &PgPool, url: &str) -> anyhow::Result<()> {
    if !is_missing(pool).await? {
        return Ok(());
    }
    let Err(error) = make_schema(pool).await else { return Ok(()) };
    // Another process that does not use our lock was faster.
    if !is_outage(&error) && !is_missing(pool).await? {
        return Ok(());
    }
    let setup = SetupError::new(
        format!("the schema {POSTGRES_SCHEMA} cannot be created at {}: {error}", display_url(url)),
        format!("let an administrator run: create schema {POSTGRES_SCHEMA} authorization <the user of [state] url>"),
    );
    Err(away_or_unfit(&error, setup))
}

async fn is_missing(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select to_regnamespace($1) is null").bind(POSTGRES_SCHEMA).fetch_one(pool).await
}

/// The letters "csyncmak". If several instances start at once, one creates the schema and the others wait. Two that run `create
/// schema if not exists` at the same time fail with a duplicate key.
const MAKING: i64 = 0x6373_796e_636d_616b;

async fn make_schema(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut *transaction).await?;
    let statement = trusted(format!("create schema if not exists {POSTGRES_SCHEMA}"));
    sqlx::query(statement).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Refuses an encoding that cannot store every text, or cannot return it in the bytes that it is counted by.
async fn refuse_encoding(pool: &PgPool, url: &str) -> anyhow::Result<()> {
    let encoding = sqlx::query_scalar("select getdatabaseencoding()::text").fetch_one(pool).await;
    let encoding: String = encoding.map_err(|error| state_unusable(url, &error))?;
    // SQL_ASCII stores bytes unchanged, and we send UTF-8.
    if ["UTF8", "SQL_ASCII"].contains(&encoding.as_str()) {
        return Ok(());
    }
    Err(SetupError::new(
        format!(
            "the database at {} keeps texts as {encoding}, in which not every name can be written",
            display_url(url)
        ),
        "name another one in state.url: create database conversica encoding 'UTF8' template template0",
    )
    .into())
}

/// The schema that holds our tables on PostgreSQL, so that they never meet the CRM's own.
pub const POSTGRES_SCHEMA: &str = "conversica_sync";
