//! Shared by both databases, ours and the customer's: quoting, kinds of failure, connections to PostgreSQL.

pub mod discreet;
pub mod failure_class;
pub mod failure_cure;
pub mod file;
pub(crate) mod mysql_failure;
pub mod pooler;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, SqlSafeStr, SqlStr};

pub use crate::config::url_engine::is_mysql;
use crate::error::{SetupError, TurnLost};

/// How long a statement waits for another session's lock.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a connection before the database counts as unreachable.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks SQLite for its version.
pub(crate) const SQLITE_VERSION: &str = "select sqlite_version()";
/// Asks PostgreSQL for its version, up to the first blank: distributions add their own words.
pub(crate) const POSTGRES_VERSION: &str = "select split_part(current_setting('server_version'), ' ', 1)";

/// An engine's name with its version, for people.
pub(crate) fn named_version(engine: &str, version: String) -> String {
    format!("{engine} {version}")
}

/// SQL built at run time: identifiers quoted by [`quote`], values bound. Only for texts from the settings file or from this
/// crate, never from a row.
pub fn trusted(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

/// An identifier quoted for SQL, with any characters.
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text literal for SQL. PostgreSQL's sessions have `standard_conforming_strings` on; `COPY` takes no parameters.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table name for SQL: quotes each part of `schema.table`, except parts that the operator quoted already.
pub fn quote_table(name: &str) -> String {
    table_parts(name).iter().map(|part| quote(part)).collect::<Vec<_>>().join(".")
}

/// The parts of `schema.table`, without the operator's quotes.
pub fn table_parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            // A doubled quote inside quotes is one quote of the name.
            '"' if quoted && characters.next_if_eq(&'"').is_some() => {
                parts.last_mut().expect("starts with one part").push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            other => parts.last_mut().expect("starts with one part").push(other),
        }
    }
    parts
}

/// The file of an SQLite URL (`sqlite:///var/lib/crm.db`, `sqlite://crm.db`, `sqlite:crm.db`), as sqlx reads it; `None` for other
/// databases.
pub fn sqlite_path(url: &str) -> Option<PathBuf> {
    if !url.starts_with("sqlite:") {
        return None;
    }
    SqliteConnectOptions::from_str(url).ok().map(|options| options.get_filename().to_owned())
}

/// A database URL for people and logs, without its password.
pub fn display_url(url: &str) -> String {
    crate::config::secret::redact_url(url)
}

/// The server of a URL, with the defaults that the URL leaves out; `None` for a file.
pub fn server_in_words(url: &str) -> Option<String> {
    if sqlite_path(url).is_some() {
        return None;
    }
    if is_mysql(url) {
        let options = MySqlConnectOptions::from_str(url).ok()?;
        return Some(match options.get_socket() {
            Some(socket) => format!("socket {}", socket.display()),
            None => format!("host {}, port {}", options.get_host(), options.get_port()),
        });
    }
    let options = PgConnectOptions::from_str(url).ok()?;
    let port = options.get_port();
    Some(match options.get_socket() {
        Some(directory) => format!("socket {}/.s.PGSQL.{port}", directory.display()),
        None => format!("host {}, port {port}", options.get_host()),
    })
}

/// Whether a failed statement may succeed later without a change: the database is unreachable, starting, full or locked, as
/// opposed to a statement that does not fit it.
pub fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Tls(_) => false,
        sqlx::Error::Database(database) => {
            let class = database.code().map(|code| failure_cure::cure_failure(&code).class);
            class == Some(failure_cure::FailureClass::Wait)
        }
        _ => false,
    }
}

/// Whether a statement failed because another session holds a lock.
pub fn is_lock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some("55P03" | failure_cure::MYSQL_LOCK_WAIT) => true,
        // SQLite: 5 busy, 6 locked.
        Some(code) => code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6)),
        None => false,
    }
}

/// Marks an error as an unreachable database: worth waiting for.
#[derive(Debug, thiserror::Error)]
#[error("the database is away")]
pub struct DatabaseAway;

/// Whether waiting resolves an error: a database is unreachable, or another instance holds the lease, as opposed to a mismatch
/// with the settings.
pub fn is_away(error: &anyhow::Error) -> bool {
    let passes = |cause: &(dyn std::error::Error + 'static)| cause.is::<DatabaseAway>() || cause.is::<TurnLost>();
    error.chain().any(|cause| passes(cause) || cause.downcast_ref::<sqlx::Error>().is_some_and(is_outage))
}

/// Whether an SQLite file is damaged, or is no database.
pub fn is_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 11 | 26)))
}

/// An error and its cure, marked as one that waiting resolves.
pub fn away(setup: SetupError) -> anyhow::Error {
    anyhow::Error::from(DatabaseAway).context(setup)
}

/// An error of the driver in other words, with its cure: marked if waiting resolves it.
pub fn away_or_unfit(error: &sqlx::Error, setup: SetupError) -> anyhow::Error {
    if is_outage(error) { away(setup) } else { setup.into() }
}

/// No statement is logged: the customer's own conditions may quote personal data. PgBouncer refuses `extra_float_digits` by
/// default, which the driver would send as it connects; where it matters, the transaction sets it.
pub(crate) fn postgres_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.application_name("conversica-sync").disable_statement_logging();
    Ok(options.extra_float_digits(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn identifiers_are_quoted_whatever_they_contain() {
        assert_eq!(quote("first name"), "\"first name\"");
        assert_eq!(quote("a\"; drop table leads; --"), "\"a\"\"; drop table leads; --\"");
        assert_eq!(quote_table("crm.leads"), "\"crm\".\"leads\"");
        assert_eq!(quote_table("\"odd.name\""), "\"odd.name\"");
        assert_eq!(quote_table(r#"crm."My ""odd"" leads""#), r#""crm"."My ""odd"" leads""#);
    }

    #[test]
    fn the_file_of_an_sqlite_url_is_found_in_every_spelling() {
        assert_eq!(sqlite_path("sqlite:///var/crm.db").unwrap(), Path::new("/var/crm.db"));
        assert_eq!(sqlite_path("sqlite://crm.db?mode=ro").unwrap(), Path::new("crm.db"));
        assert_eq!(sqlite_path("sqlite:crm.db").unwrap(), Path::new("crm.db"));
        assert!(sqlite_path("postgres://localhost/crm").is_none());
        assert!(is_mysql("mysql://localhost/crm") && is_mysql("mariadb://localhost/crm") && !is_mysql("mysqlx:crm"));
    }
}
