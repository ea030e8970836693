//! Recognises a connection pooler that hands server sessions from one client to another between transactions (PgBouncer with
//! pool_mode = transaction or statement, and others of the kind). It only asks who answers, so nothing stays behind in any session.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::ACQUIRE_TIMEOUT;

/// Whether settings, locks and LISTEN of a connection last as long as the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// The server itself, or a pooler that keeps a session for each client.
    Own,
    /// A session is used by several clients in turn.
    Shared,
}

/// Which of two connections asks. A pooler hands out the session that was released last, or the sessions in turn. The first shows at
/// once, as both connections meet the same session. In turn, the two of "bb" meet different sessions, or "ab" the same one.
/// Several rounds, because other clients of the pooler take sessions in between.
const TURNS: &str = "abbaababbabaab";

/// The session that answers: its process, and the server that it belongs to.
const WHO_ANSWERS: &str = "select pg_backend_pid()::text || ' ' || pg_postmaster_start_time()::text";

/// Asks over two connections of its own. A session of its own never changes under a connection, and never serves two.
///
/// # Errors
/// Those of connecting; [`sqlx::Error::PoolTimedOut`] where no session is free for one of the two.
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

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
