//! The oldest open transaction of a MySQL or MariaDB server, and whether rows arrive from other servers.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, MySql, MySqlConnection, MySqlPool};

use crate::db::{discreet, trusted};
use crate::source::mysql;

/// The server's clock and its oldest transaction that may write, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenTransactions {
    pub at: i64,
    pub oldest: Option<i64>,
    pub writers: WriterPlace,
}

/// Where the transactions run that change the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriterPlace {
    Here,
    /// A replica that accepts no writes of its own: the transactions of its primary are not visible.
    Primary,
    /// A server that also takes over the changes of others: a writable replica, or a node of a cluster.
    Several,
}

/// InnoDB refreshes its list at most every tenth of a second, and a transaction appears in it a moment after the statement
/// that begins it has taken the time.
const LIST_DELAY_MICROS: i64 = 1_000_000;

/// Longer than the age at which InnoDB refreshes its list.
const LIST_REFRESH: Duration = Duration::from_millis(120);
/// Another program that asks for the list all the time keeps it from being refreshed. After this many attempts the list counts as
/// it is.
const LIST_ATTEMPTS: u32 = 10;

/// The clock; for how many seconds the longest statement has waited for a lock on a table; how many threads apply the changes of
/// another server. InnoDB's list does not have a statement that waits for such a lock: its transaction begins when the wait is
/// over, and yet `now()` in it is the moment at which the statement arrived. This list comes before InnoDB's, so that a statement
/// whose wait ends between the two is in one of them.
const SESSIONS: &str = "select cast(unix_timestamp(now(6)) * 1000000 as signed), \
     max(case when user not in ('system user', 'event_scheduler') and command not in ('Sleep', 'Daemon') \
     and command not like 'Binlog Dump%' and (state like 'Waiting%' or state in ('Opening tables', 'System lock')) \
     then time end), \
     coalesce(sum(user = 'system user' and (command in ('Connect', 'Query') or command like 'Slave%')), 0) \
     from information_schema.processlist where id <> connection_id()";

const VARIABLES: &str = "show global variables where variable_name in ('read_only', 'wsrep_on', 'wsrep_provider')";

const SNAPSHOT: &str = "start transaction with consistent snapshot, read only";

/// The seconds since the oldest transaction began, and whether the list has the transaction of this session, which is newer than
/// [`SESSIONS`]: then no older transaction is missing. The clock is read in the time zone of the server, in which InnoDB gives
/// the starts of transactions, in whole seconds. At the end of summer time an hour repeats: a start that may lie in either
/// hour counts as the earlier one.
const TRANSACTIONS: &str = "select max(if(is_own or is_read_only, null, \
     ago + if(convert_tz(utc_timestamp() - interval (ago + 3600) second, '+00:00', 'SYSTEM') = started, 3600, 0))), \
     coalesce(max(is_own), 0) \
     from (select trx_started as started, trx_is_read_only as is_read_only, trx_mysql_thread_id = connection_id() as is_own, \
     timestampdiff(second, trx_started, convert_tz(utc_timestamp(), '+00:00', 'SYSTEM')) as ago \
     from information_schema.innodb_trx) as open_trx";

/// At the end of summer time an hour repeats: a start that seems to lie ahead was in the hour before.
const REPEATED_HOUR_SECONDS: i64 = 3600;

/// # Errors
/// The database's, in words without data; number 1227 where the role may not see other sessions.
pub(crate) async fn ask(pool: &MySqlPool) -> Result<OpenTransactions, sqlx::Error> {
    asked(pool).await.map_err(discreet::of_source)
}

async fn asked(pool: &MySqlPool) -> Result<OpenTransactions, sqlx::Error> {
    let mut connection: PoolConnection<MySql> = mysql::acquire(pool).await?;
    // A failed session is still in its transaction.
    connection.close_on_drop();
    let (now, waiting, appliers) = sessions(&mut connection).await?;
    let writers = writer_place(&mysql::texts_within(&mut connection, VARIABLES.to_owned()).await?, appliers);
    connection.execute(sqlx::raw_sql(SNAPSHOT)).await?;
    let open = fresh_transactions(&mut connection).await?;
    connection.execute(sqlx::raw_sql("rollback")).await?;
    connection.return_to_pool().await;
    let oldest = [open.map(|ago| started(now, ago)), waiting.map(|ago| began_to_wait(now, ago))];
    Ok(OpenTransactions { at: now - LIST_DELAY_MICROS, oldest: oldest.into_iter().flatten().min(), writers })
}

async fn sessions(connection: &mut MySqlConnection) -> Result<(i64, Option<i64>, i64), sqlx::Error> {
    let row = numbers(connection, SESSIONS).await?;
    let now = row.first().copied().flatten().ok_or(sqlx::Error::RowNotFound)?;
    Ok((now, row.get(1).copied().flatten(), row.get(2).copied().flatten().unwrap_or(0)))
}

async fn fresh_transactions(connection: &mut MySqlConnection) -> Result<Option<i64>, sqlx::Error> {
    let mut attempt = 1;
    loop {
        let row = numbers(connection, TRANSACTIONS).await?;
        let is_fresh = row.get(1).copied().flatten() == Some(1);
        if is_fresh || attempt == LIST_ATTEMPTS {
            return Ok(row.first().copied().flatten());
        }
        attempt += 1;
        tokio::time::sleep(LIST_REFRESH).await;
    }
}

/// The whole numbers of a statement's first row.
async fn numbers(connection: &mut MySqlConnection, sql: &'static str) -> Result<Vec<Option<i64>>, sqlx::Error> {
    let rows = sqlx::raw_sql(trusted(sql.to_owned())).fetch_all(connection).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(mysql::texts_of(row)?.into_iter().map(|text| text?.parse().ok()).collect())
}

/// `variables` are pairs of a name and a value.
fn writer_place(variables: &[Vec<Option<String>>], appliers: i64) -> WriterPlace {
    let value = |name: &str| {
        let named = |row: &&Vec<Option<String>>| row.first().and_then(Option::as_deref) == Some(name);
        variables.iter().find(named).and_then(|row| row.get(1)?.as_deref()).unwrap_or_default()
    };
    let is_cluster = value("wsrep_on") == "ON" && !["", "none"].contains(&value("wsrep_provider"));
    match () {
        () if is_cluster => WriterPlace::Several,
        // MariaDB 12 has further values beside these.
        () if !["", "OFF", "0"].contains(&value("read_only")) => WriterPlace::Primary,
        () if appliers > 0 => WriterPlace::Several,
        () => WriterPlace::Here,
    }
}

fn started(now: i64, seconds_ago: i64) -> i64 {
    let ago = if seconds_ago < 0 { seconds_ago + REPEATED_HOUR_SECONDS } else { seconds_ago };
    (now / 1_000_000 - ago) * 1_000_000
}

/// The server rounds the time down to whole seconds.
fn began_to_wait(now: i64, seconds_ago: i64) -> i64 {
    now - (seconds_ago.max(0) + 1) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_taken_from_the_beginning_of_its_second() {
        assert_eq!(started(1_000_000_900_000, 5), 999_995_000_000);
        assert_eq!(started(1_000_000_900_000, -600), 997_000_000_000, "the clock was set back");
        assert_eq!(began_to_wait(1_000_000_900_000, 5), 999_994_900_000);
    }

    #[test]
    fn the_variables_tell_where_the_rows_are_written() {
        let place = |variables: &[(&str, &str)], has_appliers: bool| {
            let row = |(name, value): &(&str, &str)| vec![Some((*name).to_owned()), Some((*value).to_owned())];
            writer_place(&variables.iter().map(row).collect::<Vec<_>>(), i64::from(has_appliers))
        };
        let alone = [("read_only", "OFF"), ("wsrep_on", "OFF"), ("wsrep_provider", "none")];
        assert_eq!(place(&alone, false), WriterPlace::Here);
        assert_eq!(place(&alone, true), WriterPlace::Several, "a replica that may be written to");
        assert_eq!(place(&[("read_only", "ON")], true), WriterPlace::Primary);
        assert_eq!(place(&[("read_only", "OFF")], false), WriterPlace::Here, "MySQL has no Galera");
        let node = [("read_only", "OFF"), ("wsrep_on", "ON"), ("wsrep_provider", "/usr/lib/galera/libgalera_smm.so")];
        assert_eq!(place(&node, false), WriterPlace::Several);
        assert_eq!(place(&[("wsrep_on", "ON"), ("wsrep_provider", "none")], false), WriterPlace::Here);
    }
}
