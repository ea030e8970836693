//! The oldest open transaction of a MySQL or MariaDB server.

use sqlx::MySqlPool;

use crate::source::mysql;

/// The server's clock and its oldest transaction that may write, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenTransactions {
    pub at: i64,
    pub oldest: Option<i64>,
    /// A replica: the transactions of its primary are not visible.
    pub is_replica: bool,
}

/// InnoDB refreshes this list at most every tenth of a second, and a transaction appears in it a moment after the statement
/// that begins it has taken the time.
const LIST_DELAY_MICROS: i64 = 1_000_000;

/// The clock is read in the time zone of the server, in which InnoDB gives the starts of transactions, in whole seconds.
/// At the end of summer time an hour repeats: a start that an hour more would explain as well is taken for the earlier one.
const TRANSACTIONS: &str = "select cast(unix_timestamp(now(6)) * 1000000 as signed), \
     (select max(ago + if(convert_tz(utc_timestamp() - interval (ago + 3600) second, '+00:00', 'SYSTEM') = started, 3600, 0)) \
     from (select trx_started as started, timestampdiff(second, trx_started, convert_tz(utc_timestamp(), '+00:00', 'SYSTEM')) as ago \
     from information_schema.innodb_trx where trx_mysql_thread_id <> connection_id() and trx_is_read_only = 0) as open_trx), \
     @@global.read_only";

/// At the end of summer time an hour repeats: a start that seems to lie ahead was in the hour before.
const REPEATED_HOUR_SECONDS: i64 = 3600;

/// # Errors
/// The database's; number 1227 where the role may not see other sessions.
pub(crate) async fn ask(pool: &MySqlPool) -> Result<OpenTransactions, sqlx::Error> {
    let rows = mysql::texts(pool, TRANSACTIONS.to_owned()).await?;
    let row = rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
    let number = |place: usize| row.get(place)?.as_deref()?.parse::<i64>().ok();
    let now = number(0).ok_or(sqlx::Error::RowNotFound)?;
    Ok(OpenTransactions {
        at: now - LIST_DELAY_MICROS,
        oldest: number(1).map(|seconds| started(now, seconds)),
        is_replica: number(2) == Some(1),
    })
}

fn started(now: i64, seconds_ago: i64) -> i64 {
    let ago = if seconds_ago < 0 { seconds_ago + REPEATED_HOUR_SECONDS } else { seconds_ago };
    (now / 1_000_000 - ago) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_taken_from_the_beginning_of_its_second() {
        assert_eq!(started(1_000_000_900_000, 5), 999_995_000_000);
        assert_eq!(started(1_000_000_900_000, -600), 997_000_000_000, "the clock was put back");
    }
}
