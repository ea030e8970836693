//! Sessions on the customer's MySQL or MariaDB server: read only, in UTC and `utf8mb4`, with time limits. Each session is the
//! program's own and ends with its connection. Statements go as text, so that none stays prepared and every value comes as the
//! server's own text.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions as _, Connection as _, Executor, MySql, MySqlConnection, MySqlPool, Row as _};

use crate::db::{ACQUIRE_TIMEOUT, LOCK_TIMEOUT, discreet, trusted};

/// The longest time that the server waits while the poll works on rows that it has sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3600);
/// The longest time in which all rows are read by one statement.
const READING_LIMIT: Duration = Duration::from_secs(86_400);
/// How long the attempt may take that finds out why the pool has no connection.
const LAST_ATTEMPT: Duration = Duration::from_secs(5);
/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Whether sessions may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MysqlAccess {
    ReadOnly,
    ReadWrite,
}

/// Sessions for short statements, each cut off after `statement_timeout`.
///
/// # Errors
/// The error of a first connection: a pool retries until its time is over and then reports only that.
pub async fn open(url: &str, statement_timeout: Duration) -> Result<MySqlPool, sqlx::Error> {
    let options = options(url)?;
    let first = connect(&options, statement_timeout).await?;
    let _ = tokio::time::timeout(Duration::from_secs(1), first.close()).await;
    Ok(pool(options, MysqlAccess::ReadOnly, 3, statement_timeout))
}

/// Connects at the first statement.
pub(crate) fn pool(
    options: MySqlConnectOptions,
    access: MysqlAccess,
    connections: u32,
    statement_timeout: Duration,
) -> MySqlPool {
    let settings = settings(access, statement_timeout);
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE)
        .after_connect(move |connection, _| {
            let settings = settings.clone();
            Box::pin(async move { connection.execute(sqlx::raw_sql(trusted(settings))).await.map(drop) })
        })
        .connect_lazy_with(options)
}

/// A session of its own, for a reading.
///
/// # Errors
/// The error of the connection.
pub async fn connect(
    options: &MySqlConnectOptions,
    statement_timeout: Duration,
) -> Result<MySqlConnection, sqlx::Error> {
    let connected = async {
        let mut connection = options.connect().await?;
        let settings = settings(MysqlAccess::ReadOnly, statement_timeout);
        connection.execute(sqlx::raw_sql(trusted(settings))).await?;
        Ok(connection)
    };
    tokio::time::timeout(ACQUIRE_TIMEOUT, connected).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// The limit on the time of a statement that reads rows. The reading measures the server's silence itself, and ends the statement
/// after too long a one; where it cannot, the server does.
pub(crate) fn reading_limit() -> String {
    let (millis, seconds) = (READING_LIMIT.as_millis(), READING_LIMIT.as_secs());
    format!(
        "set session lock_wait_timeout = @@lock_wait_timeout /*!80000 , max_execution_time = {millis} */ \
         /*M! , max_statement_time = {seconds} */"
    )
}

/// The driver's own changes to `sql_mode` are off: the operator's SQL means what it means in the customer's other programs.
/// No statement is logged: the customer's conditions may quote personal data.
pub(crate) fn options(url: &str) -> Result<MySqlConnectOptions, sqlx::Error> {
    let options = MySqlConnectOptions::from_str(url)?.pipes_as_concat(false).no_engine_substitution(false);
    Ok(options.charset("utf8mb4").timezone(Some("+00:00".to_owned())).disable_statement_logging())
}

/// MariaDB does not read comments of the form `/*!80000`, and MySQL none of the form `/*M!`.
fn settings(access: MysqlAccess, statement_timeout: Duration) -> String {
    let (access, strict) = match access {
        MysqlAccess::ReadOnly => ("read only", ""),
        // A value that does not fit is refused, and never cut silently.
        MysqlAccess::ReadWrite => ("read write", "set session sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES'); "),
    };
    let (locks, write) = (LOCK_TIMEOUT.as_secs(), WRITE_TIMEOUT.as_secs());
    let (millis, seconds) = (statement_timeout.as_millis(), statement_timeout.as_secs_f64());
    format!(
        // Whatever the server's defaults are: no row is cut off, and no snapshot outlives its transaction.
        "set session autocommit = 1, sql_select_limit = 18446744073709551615; \
         set session transaction isolation level repeatable read; set session transaction {access}; {strict}\
         set session innodb_lock_wait_timeout = {locks}, lock_wait_timeout = {locks}, net_write_timeout = {write} \
         /*!80000 , max_execution_time = {millis} */ /*M! , max_statement_time = {seconds:.3} */"
    )
}

/// A session of the pool. The pool retries until its time is over and then reports only that; one more attempt reports the real
/// failure.
///
/// # Errors
/// The database's.
pub(crate) async fn acquire(pool: &MySqlPool) -> Result<PoolConnection<MySql>, sqlx::Error> {
    match pool.acquire().await {
        Err(sqlx::Error::PoolTimedOut) => Err(failure(pool).await),
        acquired => acquired,
    }
}

async fn failure(pool: &MySqlPool) -> sqlx::Error {
    let why = match tokio::time::timeout(LAST_ATTEMPT, pool.connect_options().connect()).await {
        Ok(Err(error)) => return error,
        Ok(Ok(connection)) => {
            let _ = tokio::time::timeout(LAST_ATTEMPT, connection.close()).await;
            "all connections of conversica-sync are in use"
        }
        Err(_) => "it does not answer",
    };
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why))
}

/// The rows of a statement, as the server's texts.
///
/// # Errors
/// The database's, in words without data.
pub async fn texts(pool: &MySqlPool, sql: String) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let mut connection = acquire(pool).await.map_err(discreet::of_source)?;
    texts_within(&mut connection, sql).await.map_err(discreet::of_source)
}

/// The same over a connection.
///
/// # Errors
/// The database's.
pub(crate) async fn texts_within(
    connection: &mut MySqlConnection,
    sql: String,
) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let rows = sqlx::raw_sql(trusted(sql)).fetch_all(connection).await?;
    rows.iter().map(texts_of).collect()
}

/// The columns of a row.
pub(crate) fn texts_of(row: &MySqlRow) -> Result<Vec<Option<String>>, sqlx::Error> {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (0..row.len()).map(|column| Ok(text(row.try_get_unchecked(column)?))).collect()
}

/// The first column of a row.
pub(crate) fn first_text(row: &MySqlRow) -> Result<Option<String>, sqlx::Error> {
    let bytes: Option<&[u8]> = row.try_get_unchecked(0)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

/// The one whole number that a statement returns.
///
/// # Errors
/// The database's, in words without data.
pub async fn number(pool: &MySqlPool, sql: String) -> Result<i64, sqlx::Error> {
    let rows = texts(pool, sql).await?;
    let value = rows.first().and_then(|row| row.first()).cloned().flatten();
    value.and_then(|value| value.parse().ok()).ok_or(sqlx::Error::RowNotFound)
}

/// Whether a plan, as `explain` shows it, could use an index for a condition.
///
/// # Errors
/// The database's, in words without data.
pub async fn may_use_index(pool: &MySqlPool, explain: String) -> Result<bool, sqlx::Error> {
    let rows = sqlx::raw_sql(trusted(explain)).fetch_all(pool).await.map_err(discreet::of_source)?;
    let is_named =
        |row: &MySqlRow| row.try_get_unchecked::<Option<&[u8]>, _>("possible_keys").is_ok_and(|keys| keys.is_some());
    Ok(rows.iter().any(is_named))
}

/// Whether the server refuses to explain a view, which this user may read.
pub fn hides_view(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.as_deref() == Some("MySQL 1345")
}

/// `MariaDB 10.11.6`, `MySQL 8.0.36`.
///
/// # Errors
/// The database's, in words without data.
pub async fn version(pool: &MySqlPool) -> Result<String, sqlx::Error> {
    let rows = texts(pool, "select version()".to_owned()).await?;
    let version = rows.into_iter().flatten().flatten().next().unwrap_or_default();
    let number = version.split('-').next().unwrap_or_default();
    Ok(if is_mariadb(&version) { format!("MariaDB {number}") } else { format!("MySQL {number}") })
}

/// Whether a version is one of MariaDB's: `10.11.6-MariaDB-1`.
pub fn is_mariadb(version: &str) -> bool {
    version.to_ascii_lowercase().contains("mariadb")
}

/// Whether a line of `show grants` allows its user to change rows.
pub fn grants_writing(grant: &str) -> bool {
    let grant = grant.to_ascii_uppercase();
    let rights = grant.strip_prefix("GRANT ").and_then(|grant| grant.split(" ON ").next()).unwrap_or_default();
    let rights = rights.split(',').map(|right| right.trim().split(' ').next().unwrap_or_default());
    rights.into_iter().any(|right| ["ALL", "INSERT", "UPDATE", "DELETE"].contains(&right))
}

/// A failure of the login that no code tells: what happened, and the cure.
pub fn explain_login(error: &sqlx::Error) -> Option<(String, &'static str)> {
    let said = error.to_string();
    match error {
        sqlx::Error::Configuration(_) if said.contains("RSA auth") => Some((
            "the server takes this user's password (caching_sha2_password or sha256_password) only over TLS or a socket".to_owned(),
            "let the server offer TLS and write ?ssl-mode=required in [source] url (verify-identity with a certificate that can \
             be checked), or give the server's socket (?socket=/run/mysqld/mysqld.sock)",
        )),
        sqlx::Error::Protocol(_) if said.contains("unknown authentication plugin") => Some((
            format!("the login of this user cannot be carried out: {said}"),
            "let an administrator give the user of [source] url a password of the kind caching_sha2_password (MySQL) or \
             mysql_native_password (MariaDB)",
        )),
        sqlx::Error::Tls(_) => Some((
            format!("no TLS connection comes about: {said}"),
            "check ssl-mode and ssl-ca of [source] url, and that the server offers TLS",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_needs_tls_is_told_with_its_cure() {
        let error = sqlx::Error::Configuration("RSA auth backend disabled; enable feature `mysql-rsa`".into());
        let (what, cure) = explain_login(&error).expect("it is known");
        assert!(what.contains("caching_sha2_password") && what.contains("TLS") && what.contains("socket"), "{what}");
        assert!(cure.contains("ssl-mode=required") && cure.contains("socket="), "{cure}");
        let error = sqlx::Error::Protocol("unknown authentication plugin: client_ed25519".into());
        assert!(explain_login(&error).expect("it is known").0.contains("client_ed25519"));
        assert!(explain_login(&sqlx::Error::PoolTimedOut).is_none());
    }

    #[test]
    fn a_grant_to_write_is_told_from_one_to_read() {
        assert!(grants_writing("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`"));
        assert!(grants_writing("GRANT SELECT, UPDATE (`name`) ON `crm`.`leads` TO `app`@`%`"));
        assert!(!grants_writing("GRANT SELECT, PROCESS ON *.* TO `reader`@`%` IDENTIFIED BY PASSWORD '*00'"));
        assert!(!grants_writing("GRANT USAGE ON *.* TO `reader`@`%`"));
        assert!(!grants_writing("GRANT `role`@`%` TO `reader`@`%`"));
    }

    #[test]
    fn the_settings_say_what_each_server_understands() {
        let text = settings(MysqlAccess::ReadOnly, Duration::from_millis(2500));
        assert!(text.contains("set session transaction read only"), "{text}");
        assert!(text.contains("/*!80000 , max_execution_time = 2500 */"), "{text}");
        assert!(text.contains("/*M! , max_statement_time = 2.500 */"), "{text}");
    }
}
