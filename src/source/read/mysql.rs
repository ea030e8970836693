//! Reads a MySQL or MariaDB server from one snapshot, over a session of its own, row by row as the server sends them.

use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::mysql::MySqlRow;
use sqlx::{Connection as _, Executor, MySqlConnection, MySqlPool, Row as _};
use tokio::sync::oneshot;

use crate::conversica::lead::IdOrder;
use crate::db::trusted;
use crate::rules::cursor::ZoneMix;
use crate::rules::line::RowBatch;
use crate::rules::read_scope::ReadScope;
use crate::source::mysql;
use crate::source::read::mysql_silence::{GOOD_BYE, ServerSilence};
use crate::source::read::mysql_text::{CellText, newest_stamp};
use crate::source::read::statement::RowOrdering;
use crate::source::read::{BATCH_ROWS, BatchSender, OpenedReading, PreparedReading};

/// The transaction. Its first read takes the snapshot, which all later ones see, and [`lock_tables`] comes before it: another
/// session may keep a table locked for long and put another one in its place (`rename table`, as the tools for online changes
/// do), and in a snapshot from before the wait that one would lack rows.
const BEGIN: &str = "start transaction read only";

/// Takes the locks that any `select` takes, which block no reader and no writer, and reads no row, so that it takes no snapshot.
/// A table cannot be altered or replaced from here to the end of the transaction.
fn lock_tables(from: &str) -> String {
    format!("select 1 from {from} limit 0")
}

impl PreparedReading {
    pub(crate) async fn read_mysql(
        &self,
        pool: &MySqlPool,
        sender: &BatchSender,
        opened: oneshot::Sender<OpenedReading>,
    ) -> Result<(), sqlx::Error> {
        let options = pool.connect_options();
        let patience = self.source.statement_timeout;
        let mut connection = mysql::connect(&options, patience).await?;
        let result = self.read_mysql_snapshot(&mut connection, pool, sender, opened).await;
        // The session ends with its connection. A server that has fallen silent does not answer a clean close.
        let _ = match result {
            Ok(()) if !sender.is_closed() => tokio::time::timeout(GOOD_BYE, connection.close()).await,
            Ok(()) | Err(_) => tokio::time::timeout(GOOD_BYE, connection.close_hard()).await,
        };
        result
    }

    async fn read_mysql_snapshot(
        &self,
        connection: &mut MySqlConnection,
        pool: &MySqlPool,
        sender: &BatchSender,
        opened: oneshot::Sender<OpenedReading>,
    ) -> Result<(), sqlx::Error> {
        let id = one_text(connection, "select connection_id()".to_owned()).await?.unwrap_or_default();
        let silence = ServerSilence { pool: pool.clone(), id, patience: self.source.statement_timeout };
        connection.execute(sqlx::raw_sql(trusted(mysql::reading_limit()))).await?;
        connection.execute(sqlx::raw_sql(BEGIN)).await?;
        silence.broken(connection.execute(sqlx::raw_sql(trusted(lock_tables(&self.statements.from))))).await?;
        let ordering = silence.broken(self.mysql_ordering(connection)).await?;
        let mut newest = None;
        let kind = self.statements.changed_at.as_ref().and_then(|changed_at| changed_at.kind);
        let statement = self.statements.newest(&self.scope).filter(|_| self.limit.is_none());
        if let Some((statement, kind)) = statement.zip(kind) {
            let text = silence.broken(one_text(connection, statement)).await?;
            newest = text.map(|text| newest_stamp(text, kind));
        }
        if let Some(newest) = &mut newest
            && let Some(statement) = self.statements.another_zone(&self.scope, newest)
            && silence.broken(one_text(connection, statement)).await?.as_deref() == Some("1")
        {
            newest.zones = ZoneMix::Several;
        }
        let order = ordering.of_ids();
        let resumed = matches!(&self.scope, ReadScope::From(wanted, _) if *wanted == order);
        let _ = opened.send(OpenedReading { order, newest, resumed, schema: None });
        let sql = self.statements.rows(&self.scope, ordering, self.limit);
        let mut rows = sqlx::raw_sql(trusted(sql)).fetch(&mut *connection).fuse();
        let mut batch = RowBatch::new(self.has_client);
        while let Some(row) = silence.broken(rows.try_next()).await? {
            self.push_row(&row, &mut batch)?;
            if batch.len() == BATCH_ROWS {
                let successor = batch.successor();
                if sender.send(Ok(std::mem::replace(&mut batch, successor))).await.is_err() {
                    return Ok(());
                }
            }
        }
        if !batch.is_empty() {
            let _ = sender.send(Ok(batch)).await;
        }
        Ok(())
    }

    fn push_row(&self, row: &MySqlRow, batch: &mut RowBatch) -> Result<(), sqlx::Error> {
        for column in 0..row.len() {
            let value: Option<&[u8]> = row.try_get_unchecked(column)?;
            match self.statements.forms.get(column) {
                None | Some(CellText::AsItIs) => batch.push_value(value),
                Some(form) => match value.and_then(|value| form.rewritten(value)) {
                    Some(text) => batch.push_value(Some(text.as_bytes())),
                    None => batch.push_value(value),
                },
            }
        }
        batch.end_row();
        Ok(())
    }

    /// The order for the keys as they are now: whole numbers sort as their texts do by length and then by bytes, except for
    /// negative ones.
    async fn mysql_ordering(&self, connection: &mut MySqlConnection) -> Result<RowOrdering, sqlx::Error> {
        if !matches!(self.scope, ReadScope::All | ReadScope::From(..)) || self.limit.is_some() {
            return Ok(RowOrdering::Text);
        }
        let Some(statement) = self.statements.negative_keys() else { return Ok(RowOrdering::Text) };
        let negative = one_text(connection, statement).await?;
        let is_negative = negative.as_deref() != Some("0");
        Ok(if is_negative { RowOrdering::Text } else { RowOrdering::Native(IdOrder::ByLength) })
    }
}

async fn one_text(connection: &mut MySqlConnection, sql: String) -> Result<Option<String>, sqlx::Error> {
    let rows = mysql::texts_within(connection, sql).await?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
}
