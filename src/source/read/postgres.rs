//! Reads PostgreSQL with `COPY … TO STDOUT`, which costs us hardly more than the bytes it sends.

use std::io;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Postgres, Row as _, ValueRef as _};
use tokio::sync::oneshot;

use crate::conversica::lead::IdOrder;
use crate::db;
use crate::rules::cursor::{NewestStamp, ZoneMix};
use crate::rules::line::RowBatch;
use crate::rules::read_scope::ReadScope;
use crate::source::crm::SourceSchema;
use crate::source::guest::SourcePool;
use crate::source::read::silence::answered_within;
use crate::source::read::statement::RowOrdering;
use crate::source::read::{BATCH_ROWS, BatchSender, OpenedReading, PreparedReading};
use crate::source::snapshot;

impl PreparedReading {
    pub(crate) async fn read_postgres(
        &self,
        pool: &SourcePool,
        sender: &BatchSender,
        opened: oneshot::Sender<OpenedReading>,
    ) -> Result<(), sqlx::Error> {
        let mut connection = pool.acquire().await?;
        let result = self.read_snapshot(&mut connection, pool, sender, opened).await;
        if matches!(result, Ok(ReadEnd::AtTheEnd)) {
            sqlx::raw_sql("rollback").execute(&mut *connection).await?;
            // Before the reader learns of the end: its next statement then finds this connection free, and opens no second one.
            connection.return_to_pool().await;
            return Ok(());
        }
        // Unread data is still on the wire, or the transaction has failed: this connection must not be reused.
        hang_up(connection).await;
        result.map(drop)
    }

    async fn read_snapshot(
        &self,
        connection: &mut PgConnection,
        pool: &SourcePool,
        sender: &BatchSender,
        opened: oneshot::Sender<OpenedReading>,
    ) -> Result<ReadEnd, sqlx::Error> {
        // The time-out measures how long the server is silent, not how long we work on a batch: see `SilenceWatch`.
        snapshot::begin(connection, pool, &self.source).await?;
        let schema = match self.limit {
            None => Some(SourceSchema::read(connection, &self.source).await?),
            Some(_) => None,
        };
        sqlx::raw_sql("set local statement_timeout = 0").execute(&mut *connection).await?;
        // An SQL_ASCII database stores any bytes, and converts them to UTF-8 only if all are valid: one bad name would stop the
        // whole reading.
        let as_it_is = "select set_config('client_encoding', 'SQL_ASCII', true) \
                        where current_setting('server_encoding') = 'SQL_ASCII'";
        sqlx::raw_sql(as_it_is).execute(&mut *connection).await?;
        let pid = sqlx::query_scalar("select pg_backend_pid()").persistent(false);
        let pid: i32 = pid.fetch_one(&mut *connection).await?;
        let silence = SilenceWatch { pool, pid, patience: self.source.statement_timeout };
        let ordering = silence.broken(self.postgres_ordering(connection)).await?;
        let mut newest = None;
        let kind = self.statements.changed_at.as_ref().and_then(|changed_at| changed_at.kind);
        let statement = self.statements.newest(&self.scope).filter(|_| self.limit.is_none());
        if let Some((statement, kind)) = statement.zip(kind) {
            let query = sqlx::query(db::trusted(statement)).persistent(false);
            let row: PgRow = silence.broken(query.fetch_one(&mut *connection)).await?;
            let value = row.try_get_raw(0)?;
            if !value.is_null() {
                let text = value.as_bytes().map_err(sqlx::Error::Decode)?;
                newest = Some(NewestStamp::new(String::from_utf8_lossy(text).into_owned(), kind));
            }
        }
        if let Some(newest) = &mut newest
            && let Some(statement) = self.statements.another_zone(&self.scope, newest)
        {
            let query = sqlx::query_scalar(db::trusted(statement)).persistent(false);
            if silence.broken(query.fetch_one(&mut *connection)).await? {
                newest.zones = ZoneMix::Several;
            }
        }
        let order = ordering.of_ids();
        let resumed = matches!(&self.scope, ReadScope::From(wanted, _) if *wanted == order);
        let _ = opened.send(OpenedReading { order, newest, resumed, schema });
        let copy = format!("copy ({}) to stdout", self.statements.rows(&self.scope, ordering, self.limit));
        let mut lines = silence.broken(connection.copy_out_raw(&copy)).await?;
        let mut batch = RowBatch::new(self.has_client);
        while let Some(line) = silence.broken(lines.try_next()).await? {
            batch.push_line(&line);
            if batch.len() == BATCH_ROWS {
                let successor = batch.successor();
                if sender.send(Ok(std::mem::replace(&mut batch, successor))).await.is_err() {
                    return Ok(ReadEnd::Early);
                }
            }
        }
        if !batch.is_empty() {
            let _ = sender.send(Ok(batch)).await;
        }
        Ok(ReadEnd::AtTheEnd)
    }

    /// The order for the keys as they are now: by length and then by bytes, the text of whole numbers sorts as they do, except
    /// for negative ones.
    async fn postgres_ordering(&self, connection: &mut PgConnection) -> Result<RowOrdering, sqlx::Error> {
        if !matches!(self.scope, ReadScope::All | ReadScope::From(..)) || self.limit.is_some() {
            return Ok(RowOrdering::Text);
        }
        if self.statements.is_uuid() {
            return Ok(RowOrdering::Native(IdOrder::Bytes));
        }
        let Some(statement) = self.statements.negative_keys() else { return Ok(RowOrdering::Text) };
        let negative = sqlx::query_scalar(db::trusted(statement)).persistent(false);
        let negative: bool = negative.fetch_one(connection).await?;
        Ok(if negative { RowOrdering::Text } else { RowOrdering::Native(IdOrder::ByLength) })
    }
}

enum ReadEnd {
    AtTheEnd,
    /// The receiver stopped listening.
    Early,
}

async fn hang_up(connection: PoolConnection<Postgres>) {
    let connection = connection.detach();
    // A server that has fallen silent does not answer a clean close.
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close_hard()).await;
}

/// Measures how long the server is silent.
struct SilenceWatch<'a> {
    pool: &'a SourcePool,
    pid: i32,
    patience: Duration,
}

impl SilenceWatch<'_> {
    /// The answer; or, after too long a silence, the server's error once it is asked to cancel.
    async fn broken<T>(&self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        let mut answer = std::pin::pin!(answer);
        if let Some(answer) = answered_within(answer.as_mut(), self.patience).await {
            return answer;
        }
        let cancel = sqlx::query("select pg_cancel_backend($1)").bind(self.pid);
        let cancelled = tokio::time::timeout(GOOD_BYE, cancel.execute(self.pool)).await;
        match tokio::time::timeout(GOOD_BYE, answer).await {
            Ok(answer) if cancelled.is_ok() => answer,
            Ok(_) | Err(_) => {
                Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server has fallen silent")))
            }
        }
    }
}

/// How long a silent server may take to cancel.
const GOOD_BYE: Duration = Duration::from_secs(5);
