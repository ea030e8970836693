//! Recognises a connection pooler that passes server sessions from one client to another between transactions (PgBouncer with
//! pool_mode = transaction or statement, and similar ones), and one that refuses transactions (pool_mode = statement). It only
//! asks which session answers, and begins an empty transaction, so it leaves no traces in any session.

use std::io;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::db::ACQUIRE_TIMEOUT;

/// Whether settings, locks and LISTEN last as long as the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// The server itself, or a pooler that keeps a session for each client.
    Own,
    /// Several clients use a session in turn.
    Shared,
}

/// Which of two connections asks. A pooler assigns either the session that was released last, or the sessions in turn. The first
/// case shows at once, because both connections meet the same session. In the second case, "bb" meets different sessions, or "ab"
/// the same one. Several rounds, because other clients of the pooler take sessions in between.
const TURNS: &str = "abbaababbabaab";

/// The session that answers: its process and its server.
const WHO_ANSWERS: &str = "select pg_backend_pid()::text || ' ' || pg_postmaster_start_time()::text";

/// Asks over two connections of its own. Without such a pooler, a session never changes under a connection, and never serves two.
///
/// # Errors
/// Connection errors; one of the kind `TimedOut` where no session is free for one of the two.
pub async fn session_kind(options: &PgConnectOptions) -> Result<SessionKind, sqlx::Error> {
    let mut first = in_time(ACQUIRE_TIMEOUT, options.connect()).await?;
    let mut second = in_time(ACQUIRE_TIMEOUT, options.connect()).await?;
    let kind = observed(&mut first, &mut second).await;
    for connection in [first, second] {
        let _ = in_time(Duration::from_secs(1), connection.close()).await;
    }
    kind
}

async fn observed(first: &mut PgConnection, second: &mut PgConnection) -> Result<SessionKind, sqlx::Error> {
    let (mut of_first, mut of_second) = (None, None);
    for turn in TURNS.chars() {
        let is_first = turn == 'a';
        let connection = if is_first { &mut *first } else { &mut *second };
        let row = in_time(ACQUIRE_TIMEOUT, sqlx::raw_sql(WHO_ANSWERS).fetch_one(connection)).await?;
        let found: String = row.try_get(0)?;
        let (own, other) = if is_first { (&mut of_first, &of_second) } else { (&mut of_second, &of_first) };
        let has_changed = own.as_ref().is_some_and(|known| *known != found);
        if has_changed || other.as_ref() == Some(&found) {
            return Ok(SessionKind::Shared);
        }
        *own = Some(found);
    }
    Ok(SessionKind::Own)
}

/// A connection pooler in front of the database refuses transactions, and the program uses the customer's database only in
/// transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a connection pooler in front of it refuses transactions (PgBouncer: pool_mode = statement)")]
pub struct StatementPooler;

impl StatementPooler {
    pub const CURE: &str = "give that database pool_mode = transaction or pool_mode = session in the pooler, or name the PostgreSQL \
                            server itself in [source] url (host and port without the pooler)";

    pub fn is_cause_of(error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::Configuration(cause) if cause.is::<Self>())
    }
}

/// A pooler in statement mode refuses a transaction faster than this. A slower failure was a wait for a free session: PgBouncer's
/// shortest `query_wait_timeout` is one second.
const REFUSED_WITHIN: Duration = Duration::from_millis(800);

/// Connects, and tries to begin a transaction.
///
/// # Errors
/// Connection errors; one with the cause [`StatementPooler`], where statements are answered and transactions refused.
pub async fn expect_transactions(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    match try_transaction(options).await? {
        TransactionTrial::Begun => Ok(()),
        TransactionTrial::Failed(error) => Err(error),
        TransactionTrial::Refused => match try_transaction(options).await? {
            TransactionTrial::Begun => Ok(()),
            TransactionTrial::Failed(error) => Err(error),
            TransactionTrial::Refused => Err(sqlx::Error::Configuration(Box::new(StatementPooler))),
        },
    }
}

enum TransactionTrial {
    Begun,
    /// At once, over a connection on which a plain statement had just been answered.
    Refused,
    Failed(sqlx::Error),
}

async fn try_transaction(options: &PgConnectOptions) -> Result<TransactionTrial, sqlx::Error> {
    let mut connection = in_time(ACQUIRE_TIMEOUT, options.connect()).await?;
    in_time(ACQUIRE_TIMEOUT, sqlx::raw_sql("select 1").execute(&mut connection)).await?;
    let began = Instant::now();
    let begun = in_time(ACQUIRE_TIMEOUT, sqlx::raw_sql("begin read only").execute(&mut connection)).await;
    let trial = match begun {
        Ok(_) => {
            in_time(ACQUIRE_TIMEOUT, sqlx::raw_sql("rollback").execute(&mut connection)).await?;
            TransactionTrial::Begun
        }
        Err(error) if began.elapsed() < REFUSED_WITHIN && is_refusal(&error) => TransactionTrial::Refused,
        Err(error) => TransactionTrial::Failed(error),
    };
    let _ = in_time(Duration::from_secs(1), connection.close()).await;
    Ok(trial)
}

/// A pooler gives a reason for its refusal (PgBouncer: 08P01). A session that an administrator or a restart cuts ends without a
/// message, or with an error of class 57 (operator intervention).
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| !code.starts_with("57"))
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let silent = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(silent()))
}
