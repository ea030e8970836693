//! Finds the moment before which every transaction has been committed: the cursor never passes it.
//!
//! A transaction usually stamps its rows with its own start, and may commit long after rows with a newer stamp were read. So the
//! poll reads the start of the oldest open transaction before each snapshot, where the role may see it. The look-back alone has
//! to cover three cases: the role may not see it, a standby does not know the transactions of its primary, and rows come from
//! another server.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::MySqlPool;
use tracing::warn;

use crate::config::SourceSettings;
use crate::db::{self, discreet};
use crate::rules::settled::SettledMoment;
use crate::source::columns;
use crate::source::guest::SourcePool;
use crate::source::mysql_settled::{self, OpenTransactions, WriterPlace};
use crate::source::source_db::SourceDb;

/// The longest time between the two statements of one check.
const ONE_LOOK: TimeDelta = TimeDelta::seconds(1);

/// Which sessions' open transactions are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionSight {
    Everybodys,
    /// The role may not see other roles' sessions.
    OwnOnly,
    /// Some sessions do not show when their transactions began: `track_activities` is off for them.
    Untracked,
    /// A standby does not know the transactions of its primary.
    Standby,
    /// A subscription delivers the rows, each with the stamp of a transaction that ended before its own began.
    Subscriber,
    /// Rows come from another server, whose transactions are not visible here.
    Foreign,
    /// The server's own transactions are visible. It also takes over those of other servers: a writable replica of MySQL or
    /// MariaDB, or a node of a cluster.
    Replicated,
    /// The database does not tell; SQLite has one writer, which no other writer overtakes.
    Nobodys,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledLook {
    pub settled: SettledMoment,
    pub sight: TransactionSight,
}

/// In microseconds: the clock, and the start of the oldest transaction; then whether this is a standby, whether the role sees all
/// sessions, and whether some session hides its own start. The clock is the time of the statement's arrival: a transaction that
/// began during the check, and is therefore missed, began later. Vacuum writes no rows; workers of a parallel query have a leader
/// that is counted.
const SESSIONS: &str = "select (extract(epoch from case when pg_is_in_recovery() \
         then coalesce(pg_last_xact_replay_timestamp(), statement_timestamp()) else statement_timestamp() end) \
         * 1000000)::bigint, \
     (extract(epoch from min(xact_start)) * 1000000)::bigint, \
     pg_is_in_recovery(), pg_has_role('pg_read_all_stats', 'usage'), \
     coalesce(bool_or(state = 'disabled' or xact_start is null and backend_xid is not null), false) \
     from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
     and backend_type not in ('autovacuum worker', 'parallel worker')";

/// When the oldest and the newest prepared transactions were prepared; PostgreSQL does not keep when they began.
const PREPARED: &str = "select (extract(epoch from min(prepared)) * 1000000)::bigint, \
     (extract(epoch from max(prepared)) * 1000000)::bigint from pg_prepared_xacts where database = current_database()";

/// Whether this database receives rows from a publisher.
const SUBSCRIBED: &str = "select exists (select 1 from pg_catalog.pg_subscription s \
     join pg_catalog.pg_database d on d.oid = s.subdbid where d.datname = current_database() and s.subenabled)";

type SessionsRow = (i64, Option<i64>, bool, bool, bool);
type PreparedRow = (Option<i64>, Option<i64>);

/// Checks before a snapshot is taken. `earlier` is the cursor's record of an earlier check.
///
/// # Errors
/// The database's when it is unreachable. A database that refuses the question counts as one that shows nothing.
pub async fn look(
    db: &SourceDb,
    earlier: Option<&SettledMoment>,
    now: DateTime<Utc>,
) -> Result<SettledLook, sqlx::Error> {
    let unseen = SettledMoment::at(now);
    let pool = match db {
        SourceDb::Postgres(pool) => pool,
        SourceDb::Mysql(pool) => return look_mysql(pool, earlier, now).await,
        SourceDb::Sqlite(_) => return Ok(SettledLook { settled: unseen, sight: TransactionSight::Nobodys }),
    };
    match ask(pool).await.map_err(discreet::of_source) {
        Ok(((at, _, true, ..), _)) => {
            // A transaction that is replayed later was also committed later.
            let at = instant(at);
            Ok(SettledLook {
                settled: SettledMoment { before: at.min(now), ..SettledMoment::at(at) },
                sight: TransactionSight::Standby,
            })
        }
        Ok((sessions, prepared)) => {
            let sight = match sessions {
                (.., false, _) => TransactionSight::OwnOnly,
                (.., true, true) => TransactionSight::Untracked,
                (.., true, false) => TransactionSight::Everybodys,
            };
            Ok(SettledLook { settled: settle(sessions, prepared, earlier, now), sight })
        }
        Err(error) if db::is_outage(&error) => Err(error),
        Err(_) => Ok(SettledLook { settled: unseen, sight: TransactionSight::Nobodys }),
    }
}

async fn look_mysql(
    pool: &MySqlPool,
    earlier: Option<&SettledMoment>,
    now: DateTime<Utc>,
) -> Result<SettledLook, sqlx::Error> {
    let (settled, sight) = match mysql_settled::ask(pool).await {
        Ok(OpenTransactions { at, oldest, writers }) => {
            let own = settle((at, oldest, false, true, false), (None, None), earlier, now);
            match writers {
                WriterPlace::Here => (own, TransactionSight::Everybodys),
                WriterPlace::Several => (own, TransactionSight::Replicated),
                WriterPlace::Primary => {
                    let at = instant(at);
                    (SettledMoment { before: at.min(now), ..SettledMoment::at(at) }, TransactionSight::Standby)
                }
            }
        }
        Err(error) if db::is_outage(&error) => return Err(error),
        Err(_) => (SettledMoment::at(now), TransactionSight::OwnOnly),
    };
    Ok(SettledLook { settled, sight })
}

/// A limit that this server's transactions do not show: whether rows of the source come from another server. For `check`, because
/// it does not change from poll to poll.
///
/// # Errors
/// The database's when it is unreachable.
pub async fn from_elsewhere(db: &SourceDb, source: &SourceSettings) -> Result<Option<TransactionSight>, sqlx::Error> {
    let SourceDb::Postgres(pool) = db else { return Ok(None) };
    // The plan includes the tables below views, partitions and queries.
    let plan = db::trusted(format!("explain select 1 from {}", columns::from_clause(source)));
    let plan: Vec<String> = known(sqlx::query_scalar(plan).fetch_all(pool).await)?.unwrap_or_default();
    let is_foreign = |line: &String| line.trim_start_matches([' ', '-', '>']).starts_with("Foreign Scan");
    let is_subscribed = known(sqlx::query_scalar(SUBSCRIBED).fetch_one(pool).await)?.unwrap_or(false);
    Ok(match (plan.iter().any(is_foreign), is_subscribed) {
        (true, _) => Some(TransactionSight::Foreign),
        (false, true) => Some(TransactionSight::Subscriber),
        (false, false) => None,
    })
}

/// `None` where the database does not tell.
fn known<T>(answer: Result<T, sqlx::Error>) -> Result<Option<T>, sqlx::Error> {
    match answer.map_err(discreet::of_source) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if db::is_outage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The sessions first: both statements see a transaction that is prepared between them; in the other order neither would.
async fn ask(pool: &SourcePool) -> Result<(SessionsRow, PreparedRow), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let sessions: SessionsRow = sqlx::query_as(SESSIONS).persistent(false).fetch_one(&mut *transaction).await?;
    let prepared = sqlx::query_as(PREPARED).persistent(false).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok((sessions, prepared))
}

fn settle(
    (at, oldest, ..): SessionsRow,
    (first_prepared, last_prepared): PreparedRow,
    earlier: Option<&SettledMoment>,
    now: DateTime<Utc>,
) -> SettledMoment {
    let at = instant(at);
    let open_since = oldest.map_or(at, |oldest| instant(oldest).min(at));
    let mut oldest = open_since;
    if let Some((first, last)) = first_prepared.zip(last_prepared) {
        oldest = oldest.min(instant(first));
        if let Some(earlier) = earlier {
            let known = earlier.at + ONE_LOOK;
            // Prepared since the earlier check: it was open then, or began afterwards.
            if instant(last) > known {
                oldest = oldest.min(earlier.open_since);
            }
            // Prepared before: the earlier check counted it.
            if instant(first) <= known {
                oldest = oldest.min(earlier.before);
            }
        } else {
            // Its start is unknown.
            oldest = DateTime::UNIX_EPOCH;
        }
    }
    // Rounded up to the next second.
    let open_seconds = (at - oldest + TimeDelta::milliseconds(999)).num_seconds();
    SettledMoment { at, open_since, before: oldest.min(now), open_seconds }
}

fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Warns of a transaction that has been open for long, once for each; `said` is the start of the last one in a warning.
pub fn warn_of_long(settled: &SettledMoment, said: &mut Option<DateTime<Utc>>) {
    if settled.is_of_unknown_age() {
        if said.replace(DateTime::UNIX_EPOCH) != Some(DateTime::UNIX_EPOCH) {
            warn!(
                cure = "commit or roll back the transactions in pg_prepared_xacts",
                "a transaction in the CRM's database was prepared before this program first looked: until it ends, every \
                 poll reads every row that has a stamp"
            );
        }
        return;
    }
    let Some(since) = settled.long_open() else { return };
    if said.replace(since) != Some(since) {
        warn!(
            since = %since.format("%F %T UTC"),
            cure = "find it in pg_stat_activity (xact_start) or pg_prepared_xacts, on MySQL in information_schema.innodb_trx and \
                    processlist, and end it",
            "a transaction in the CRM's database has been open for more than an hour: until it ends, every poll reads again \
             what has changed since it began"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_000_000 + second, 0).expect("a moment")
    }

    fn sessions(at: i64, oldest: Option<i64>) -> SessionsRow {
        (second(at).timestamp_micros(), oldest.map(|oldest| second(oldest).timestamp_micros()), false, true, false)
    }

    fn prepared(seconds: &[i64]) -> PreparedRow {
        let micros_of = |at: Option<&i64>| at.map(|at| second(*at).timestamp_micros());
        (micros_of(seconds.iter().min()), micros_of(seconds.iter().max()))
    }

    #[test]
    fn nothing_open_settles_everything_up_to_now() {
        let settled = settle(sessions(100, None), prepared(&[]), None, second(100));
        assert_eq!((settled.open_since, settled.before), (second(100), second(100)));
        assert_eq!(
            settle(sessions(100, None), prepared(&[]), None, second(90)).before,
            second(90),
            "our clock is behind"
        );
    }

    #[test]
    fn what_is_prepared_counts_from_when_it_may_have_begun() {
        let open = settle(sessions(100, Some(40)), prepared(&[]), None, second(100));
        assert_eq!(open.before, second(40));
        let just = settle(sessions(200, None), prepared(&[150]), Some(&open), second(200));
        assert_eq!(just.before, second(40), "it may be the one that was open");
        let still = settle(sessions(300, None), prepared(&[150]), Some(&just), second(300));
        assert_eq!(still.before, second(40), "it still is");
        let another = settle(sessions(400, None), prepared(&[350]), Some(&still), second(400));
        assert_eq!(another.before, second(300), "the first has ended; this one began after the look before");
        assert_eq!(settle(sessions(500, None), prepared(&[]), Some(&another), second(500)).before, second(500));
    }

    #[test]
    fn what_was_prepared_before_the_first_look_may_have_begun_at_any_time() {
        let first = settle(sessions(100, None), prepared(&[90]), None, second(100));
        assert_eq!((first.before, first.long_open()), (DateTime::UNIX_EPOCH, None));
        let still = settle(sessions(200, None), prepared(&[90]), Some(&first), second(200));
        assert!(still.is_of_unknown_age());
        let ended = settle(sessions(300, None), prepared(&[]), Some(&still), second(300));
        assert_eq!(ended.before, second(300));
        let mut said = None;
        warn_of_long(&still, &mut said);
        assert_eq!(said, Some(DateTime::UNIX_EPOCH));
    }

    #[test]
    fn a_long_transaction_is_said_once() {
        let settled = |at, oldest| settle(sessions(at, Some(oldest)), prepared(&[]), None, second(at));
        assert_eq!(settled(3600, 0).long_open(), None);
        assert_eq!(settled(3601, 0).long_open(), Some(second(0)));
        let mut said = None;
        warn_of_long(&settled(4000, 0), &mut said);
        assert_eq!(said, Some(second(0)));
    }
}
