//! Ends statements on a MySQL or MariaDB server that the server does not answer. A server goes on with a statement whose client
//! has gone, until it has a row to send.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, MySqlConnection, MySqlPool};
use tracing::warn;

use crate::db::trusted;
use crate::source::mysql;
use crate::source::read::silence::answered_within;

/// How long a silent server may take to end a statement.
pub(super) const GOOD_BYE: Duration = Duration::from_secs(5);
/// For so long the program goes on trying to end a statement.
const ENDING: Duration = Duration::from_secs(600);
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(5);

/// Measures how long the server is silent.
#[derive(Clone)]
pub(super) struct ServerSilence {
    pub pool: MySqlPool,
    /// The number of the reading session.
    pub id: String,
    pub patience: Duration,
}

impl ServerSilence {
    /// The answer; or, after too long a silence, the server's error once it is asked to end the statement.
    pub async fn broken<T>(&self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        let mut answer = std::pin::pin!(answer);
        let began_at = Instant::now();
        if let Some(answer) = answered_within(answer.as_mut(), self.patience).await {
            return answer;
        }
        let ended = tokio::time::timeout(GOOD_BYE, self.end_statement("kill query", began_at)).await;
        let is_ended = matches!(ended, Ok(Ok(())));
        match tokio::time::timeout(GOOD_BYE, answer).await {
            Ok(answer) if is_ended => return answer,
            Ok(_) | Err(_) => {}
        }
        if !is_ended {
            tokio::spawn(self.clone().end_session(began_at));
        }
        Err(sqlx::Error::PoolTimedOut)
    }

    /// Tries again until the session is gone. Nothing reads from it now.
    async fn end_session(self, began_at: Instant) {
        let tried_since = Instant::now();
        while tried_since.elapsed() < ENDING {
            tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            let ended = tokio::time::timeout(GOOD_BYE, self.end_statement("kill", began_at)).await;
            if matches!(ended, Ok(Ok(()))) {
                return;
            }
        }
        warn!(
            session = self.id,
            cure = "end it by hand: kill, with the number of the session, as the user of [source] url",
            "a statement of this program may still be running on the CRM's server: it did not answer in time, and could not be \
             ended"
        );
    }

    /// A user may end its own statements. The server may accept no other session, so a session that is open already goes first.
    async fn end_statement(&self, how: &str, began_at: Instant) -> Result<(), sqlx::Error> {
        if let Some(mut open) = self.pool.try_acquire()
            && self.end_over(&mut open, how, began_at).await.is_ok()
        {
            return Ok(());
        }
        let mut connection = mysql::connect(&self.pool.connect_options(), GOOD_BYE).await?;
        self.end_over(&mut connection, how, began_at).await?;
        connection.close().await
    }

    /// After a restart of the server another session may have this number, but no statement that has run for as long.
    async fn end_over(&self, session: &mut MySqlConnection, how: &str, began_at: Instant) -> Result<(), sqlx::Error> {
        let running = format!(
            "select count(*) from information_schema.processlist where id = {} and command in ('Query', 'Execute') \
             and time + 2 >= {}",
            self.id,
            began_at.elapsed().as_secs()
        );
        let running = mysql::texts_within(session, running).await?;
        if running.into_iter().flatten().flatten().any(|count| count != "0") {
            session.execute(sqlx::raw_sql(trusted(format!("{how} {}", self.id)))).await?;
        }
        Ok(())
    }
}
