//! Sessions on the customer's PostgreSQL server. The program is a guest there, often behind a connection pooler that gives the
//! same server session to the CRM a moment later: no effect of the program may outlive its own transaction.
//!
//! Every use is one transaction. It begins with `begin` and the settings as `set local`, in one message; its statements are
//! unnamed, so that none stays prepared; a connection on which anything has failed is closed, not used again.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{
    ConnectOptions as _, Connection as _, Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
};

use crate::db::{ACQUIRE_TIMEOUT, LOCK_TIMEOUT, postgres_options, trusted};

/// How long the attempt may take that finds out why the pool has no connection.
const LAST_ATTEMPT: Duration = Duration::from_secs(5);

/// Which changes of others a transaction sees while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    ReadCommitted,
    RepeatableRead,
}

/// Whether transactions may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestAccess {
    ReadOnly,
    ReadWrite,
}

/// Connections to the customer's PostgreSQL database. As an executor it runs each statement in a transaction of its own.
#[derive(Debug, Clone)]
pub struct SourcePool {
    pool: PgPool,
    access: GuestAccess,
    settings: Arc<str>,
}

impl SourcePool {
    /// Connects at the first statement.
    ///
    /// # Errors
    /// Only where the URL cannot be read.
    pub(crate) fn new(
        url: &str,
        access: GuestAccess,
        connections: u32,
        statement_timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
        Ok(Self {
            pool: pool.connect_lazy_with(postgres_options(url)?),
            access,
            settings: local_settings(statement_timeout).into(),
        })
    }

    /// The statements that begin a transaction, with all settings.
    pub fn begin_text(&self, isolation: IsolationLevel) -> String {
        let isolation = match isolation {
            IsolationLevel::ReadCommitted => "read committed",
            IsolationLevel::RepeatableRead => "repeatable read",
        };
        let access = match self.access {
            GuestAccess::ReadOnly => "read only",
            // Overrides the role's own setting.
            GuestAccess::ReadWrite => "read write",
        };
        format!("begin isolation level {isolation} {access}; {}", self.settings)
    }

    /// A transaction for several statements. Dropping it before its end closes its connection.
    pub async fn begin(&self) -> Result<SourceTransaction, sqlx::Error> {
        let mut connection = self.acquire().await?;
        connection.close_on_drop();
        let begin = trusted(self.begin_text(IsolationLevel::ReadCommitted));
        connection.execute(sqlx::raw_sql(begin)).await?;
        Ok(SourceTransaction { connection })
    }

    /// A connection without a transaction: the caller begins one with [`Self::begin_text`] before any other statement.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => Err(self.failure().await),
            acquired => acquired,
        }
    }

    /// The reason why no connection is to be had. The pool retries until its time is over and then reports only that; one more
    /// attempt reports the real failure.
    async fn failure(&self) -> sqlx::Error {
        let options = self.pool.connect_options();
        let why = match tokio::time::timeout(LAST_ATTEMPT, options.connect()).await {
            Ok(Err(error)) => return error,
            Ok(Ok(connection)) => {
                let _ = tokio::time::timeout(LAST_ATTEMPT, connection.close()).await;
                "all connections of conversica-sync are in use"
            }
            Err(_) => "it does not answer",
        };
        sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    pub fn connect_options(&self) -> Arc<PgConnectOptions> {
        self.pool.connect_options()
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The settings of every transaction, until its end. Warnings are off as well: the customer's own functions may write any text
/// into them.
fn local_settings(statement_timeout: Duration) -> String {
    format!(
        "set local client_min_messages = 'error'; set local time zone 'UTC'; set local datestyle = 'ISO, YMD'; \
         set local extra_float_digits = 1; set local intervalstyle = 'iso_8601'; set local bytea_output = 'hex'; \
         set local standard_conforming_strings = on; set local lock_timeout = {}; set local statement_timeout = {}",
        LOCK_TIMEOUT.as_millis(),
        statement_timeout.as_millis()
    )
}

/// An open transaction. The caller sends its statements with `persistent(false)`.
#[derive(Debug)]
pub struct SourceTransaction {
    connection: PoolConnection<Postgres>,
}

impl SourceTransaction {
    /// Commits and returns the connection to the pool.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("commit").await?;
        self.connection.return_to_pool().await;
        Ok(())
    }
}

impl Deref for SourceTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for SourceTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A statement that leaves nothing prepared behind.
struct UnnamedQuery<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for UnnamedQuery<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}

type FetchedPart = Either<PgQueryResult, PgRow>;

impl<'p> Executor<'p> for &'p SourcePool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<FetchedPart, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let fetched = async move {
            let mut transaction = self.begin().await?;
            let fetched: Vec<FetchedPart> = transaction.fetch_many(UnnamedQuery(query)).try_collect().await?;
            transaction.commit().await?;
            Ok::<_, sqlx::Error>(stream::iter(fetched.into_iter().map(Ok)))
        };
        stream::once(fetched).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let row = transaction.fetch_optional(UnnamedQuery(query)).await?;
            transaction.commit().await?;
            Ok(row)
        })
    }

    /// The program prepares nothing on a connection of the customer's; [`crate::source::columns`] describes columns in another
    /// way.
    fn prepare_with<'e>(
        self,
        _sql: SqlStr,
        _parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(async { Err(sqlx::Error::Configuration(NOT_PREPARED.into())) })
    }

    fn describe<'e>(self, _sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(async { Err(sqlx::Error::Configuration(NOT_PREPARED.into())) })
    }
}

const NOT_PREPARED: &str = "no statement is prepared in the customer's database";
