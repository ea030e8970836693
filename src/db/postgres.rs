//! How sessions on a PostgreSQL server begin, whatever they are for.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::{ACQUIRE_TIMEOUT, Db, trusted};

/// No statement is logged: the customer's own conditions may quote personal data.
pub(super) fn postgres_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("conversica-sync").disable_statement_logging())
}

pub(super) async fn postgres_pool(url: &str, connections: u32, session: String) -> Result<PgPool, sqlx::Error> {
    let options = postgres_options(url)?;
    // A pool tries again until its time is over, and then only says that it is: one plain try says at once what is wrong.
    let first = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&options)).await;
    first.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await?;
    in_session(connections, session).connect_with(options).await
}

/// Connections that each begin with these statements.
pub(super) fn in_session(connections: u32, session: String) -> PgPoolOptions {
    let session = std::sync::Arc::new(session);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Not as start-up options: poolers such as PgBouncer refuse those.
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move {
                use sqlx::Executor;
                connection.execute(sqlx::raw_sql(trusted(session.to_string()))).await?;
                Ok(())
            })
        })
}

impl Db {
    /// Whether a statement that looks up many leads may be kept with its plan. PostgreSQL would keep one that it made
    /// while the table was empty, and by which each look reads all of what has come in since, until the table is analysed.
    pub const fn keeps_plans(&self) -> bool {
        matches!(self, Db::Sqlite(_))
    }
}
