//! Makes database errors fit for logs, `status` and the terminal: they contain no value of a row.
//!
//! A message quotes data where a value does not fit (`invalid input syntax for type integer: "ann@example.com"`), and a function
//! of the customer's own may raise any text. Such a text is replaced by one with a remedy; the code stays, so that checks for
//! outages still work. A message that names only tables and conditions stays as it is.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::{fmt, io};

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::db::{DatabaseAway, failure_cure, is_outage, mysql_failure};
use crate::error::SetupError;

/// Classes of SQLSTATE whose messages name connections, roles, tables, columns and conditions of the server.
const POSTGRES_PLAIN: [&str; 15] =
    ["08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX"];

/// Primary codes of SQLite whose messages need a check; all others have fixed texts. The general error (1) depends on its text,
/// and `raise()` fills the constraint error (19) with any text.
const SQLITE_GENERAL: u32 = 1;
const SQLITE_CONSTRAINT: u32 = 19;

/// General errors of SQLite that come from the text of the statement, or are the same for every row.
const SQLITE_PLAIN: [&str; 20] = [
    "no such ",
    "table ",
    "near \"",
    "unrecognized token",
    "incomplete input",
    "ambiguous column name",
    "wrong number of arguments",
    "misuse of ",
    "row value misused",
    "sub-select returns ",
    "too many ",
    "circular reference",
    "aggregate functions are not allowed",
    "a GROUP BY clause is required",
    "HAVING clause on a non-aggregate query",
    "SELECTs to the left and right",
    "no tables specified",
    "malformed JSON",
    "integer overflow",
    "cannot start a transaction",
];

const WHERE_TO_LOOK: &str = "run the statement of [source] (table or query, where, changed_at) by hand to see it";

const WHERE_TO_LOOK_IN_WRITEBACK: &str = "the database's own log shows it, or running the statement by hand";

/// The error of a statement on the CRM's database. Every such error passes through here before any other code gets it.
pub fn of_source(error: sqlx::Error) -> sqlx::Error {
    told(error, WHERE_TO_LOOK)
}

/// The same for a statement that writes to it.
pub fn of_writeback(error: sqlx::Error) -> sqlx::Error {
    told(error, WHERE_TO_LOOK_IN_WRITEBACK)
}

fn told(error: sqlx::Error, look: &str) -> sqlx::Error {
    match error {
        sqlx::Error::Database(database) => {
            let told = DiscreetError::of(&*database, look);
            sqlx::Error::Database(Box::new(told))
        }
        sqlx::Error::ColumnDecode { index, .. } => {
            let source = format!("its value has not the form that its type promises; {look}");
            sqlx::Error::ColumnDecode { index, source: source.into() }
        }
        sqlx::Error::Decode(_) => {
            sqlx::Error::Decode(format!("a value has not the form that its type promises; {look}").into())
        }
        sqlx::Error::Encode(_) => sqlx::Error::Encode(format!("a value cannot be sent; {look}").into()),
        sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<CrmUnreachable>()) => {
            sqlx::Error::Io(error)
        }
        sqlx::Error::Io(error) => unreachable_crm(error.kind(), error.to_string()),
        sqlx::Error::PoolTimedOut => {
            unreachable_crm(io::ErrorKind::TimedOut, "no connection is free within ten seconds".to_owned())
        }
        other => other,
    }
}

fn unreachable_crm(kind: io::ErrorKind, why: String) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(kind, CrmUnreachable(why)))
}

/// A connection to the CRM's database failed, and not one to the state.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CrmUnreachable(String);

/// Whether an error comes from a statement on the CRM's database, and not on the state.
pub fn is_of_crm(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database.try_downcast_ref::<DiscreetError>().is_some(),
        sqlx::Error::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<CrmUnreachable>()),
        _ => false,
    }
}

/// Whether the CRM's database failed, and waiting resolves it.
pub fn is_crm_outage(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
    cause.is_some_and(|cause| is_of_crm(cause) && is_outage(cause))
}

/// Why a connection failed, without the driver's preamble.
pub fn connection_failure(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(database) => database.to_string(),
        sqlx::Error::PoolTimedOut => NO_CONNECTION.to_owned(),
        other => other.to_string(),
    }
}

const NO_CONNECTION: &str = "no connection to the database within ten seconds";

/// The part of the schema that a value violated: the name of a constraint or a column, if it comes from the database itself and
/// not from a function that may raise any text.
pub fn constraint_of(error: &sqlx::Error) -> Option<String> {
    /// Extended codes of constraint errors other than `raise()`: check, foreign key, not null, primary key, unique, data type.
    const SQLITE_OWN: [&str; 6] = ["275", "787", "1299", "1555", "2067", "3091"];
    let database = error.as_database_error()?;
    if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() {
        let named = postgres.constraint().map(|name| format!("constraint {name}"));
        let named = named.or_else(|| postgres.column().map(|name| format!("column {name}")))?;
        let table = postgres.table().map(|table| format!(" of {table}")).unwrap_or_default();
        return (postgres.r#where().is_none() && postgres.code().starts_with("23")).then(|| named + &table);
    }
    if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql_failure::column_of(mysql.number(), mysql.message());
    }
    let message = database.message();
    // SQLite names an unnamed check by its expression, which may contain any text.
    let plain = message.chars().all(|c| c.is_alphanumeric() || "_.,: ".contains(c));
    (plain && SQLITE_OWN.contains(&database.code()?.as_ref())).then(|| message.to_owned())
}

/// An error from SQLite itself, by its extended code.
pub fn of_sqlite(code: i32, message: String) -> sqlx::Error {
    let shown = format!("(code: {code}) {message}");
    let told = if is_plain_sqlite(code.unsigned_abs(), &message) {
        DiscreetError { message, shown, code: Some(code.to_string()) }
    } else {
        let text = replacement(Some(&code.to_string()), WHERE_TO_LOOK);
        DiscreetError { message: text.clone(), shown: text, code: Some(code.to_string()) }
    };
    sqlx::Error::Database(Box::new(told))
}

/// An error with its causes in one line, with its cure in brackets. A database's message appears once, and without data.
pub fn in_words(error: &anyhow::Error) -> String {
    match split_cure(error) {
        (words, None) => words,
        (words, Some(cure)) => format!("{words} (cure: {cure})"),
    }
}

/// The same, with the cure separate.
pub fn split_cure(error: &anyhow::Error) -> (String, Option<String>) {
    let words = join_causes(error);
    match SetupError::find_in(error) {
        None => (words, None),
        Some(setup) => (words.replacen(&setup.to_string(), &setup.what, 1), Some(setup.cure.clone())),
    }
}

fn join_causes(error: &anyhow::Error) -> String {
    let mut words = Vec::new();
    // That mark is for the program: the message before it says what is away.
    for cause in error.chain().filter(|cause| !cause.is::<DatabaseAway>()) {
        match cause.downcast_ref::<sqlx::Error>() {
            Some(sqlx::Error::Database(database)) => {
                words.push(format!(
                    "the database says: {}",
                    DiscreetError::of(&**database, "look into the database's own log")
                ));
                break;
            }
            // Its text repeats its cause.
            Some(other) => {
                words.push(connection_failure(other));
                break;
            }
            None => words.push(cause.to_string()),
        }
    }
    words.join(": ")
}

/// A database error in words without data. `Debug` is as discreet as `Display`: the drivers' own prints rows.
#[derive(Debug)]
struct DiscreetError {
    /// As a part of a sentence, without the driver's additions.
    message: String,
    shown: String,
    code: Option<String>,
}

impl DiscreetError {
    fn of(database: &dyn DatabaseError, where_to_look: &str) -> Self {
        let mysql = database.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
        let code = mysql.map(|number| format!("{}{number}", failure_cure::MYSQL));
        let code = code.or_else(|| database.code().map(Cow::into_owned));
        let (message, shown) = if is_plain(database) {
            // PostgreSQL's driver adds a line number of the server's own source to its message.
            let postgres = database.try_downcast_ref::<PgDatabaseError>().is_some();
            let message = database.message().to_owned();
            (message.clone(), if postgres { message } else { database.to_string() })
        } else {
            let text = replacement(code.as_deref(), where_to_look);
            (text.clone(), text)
        };
        Self { message, shown, code }
    }
}

fn is_plain(database: &dyn DatabaseError) -> bool {
    if database.try_downcast_ref::<DiscreetError>().is_some() {
        return true;
    }
    let code = database.code().unwrap_or_default();
    if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() {
        // A context means that a function raised the error: it may use any code and any text.
        return postgres.r#where().is_none() && POSTGRES_PLAIN.iter().any(|class| code.starts_with(class));
    }
    if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql_failure::is_plain(mysql.number());
    }
    code.parse().is_ok_and(|code| is_plain_sqlite(code, database.message()))
}

fn is_plain_sqlite(code: u32, message: &str) -> bool {
    match code & 0xff {
        SQLITE_GENERAL => SQLITE_PLAIN.iter().any(|text| message.starts_with(text)),
        code => code != SQLITE_CONSTRAINT,
    }
}

fn replacement(code: Option<&str>, where_to_look: &str) -> String {
    let code = code.unwrap_or("none");
    let code = if code.len() == 5 {
        match code.get(..2).and_then(class_name) {
            Some(name) => format!("SQLSTATE {code}, {name}"),
            None => format!("SQLSTATE {code}"),
        }
    } else if let Some(number) = code.strip_prefix(failure_cure::MYSQL) {
        format!("MySQL error {number}")
    } else {
        format!("SQLite code {code}")
    };
    format!(
        "a statement failed on a value ({code}); the message may quote personal data and is not shown: {where_to_look}"
    )
}

/// The classes that operators meet, with their names from the manual.
fn class_name(class: &str) -> Option<&'static str> {
    Some(match class {
        "08" => "connection exception",
        "22" => "data exception",
        "23" => "integrity constraint violation",
        "38" | "39" => "external routine exception",
        "40" => "transaction rollback",
        "42" => "syntax error or access rule violation",
        "53" => "insufficient resources",
        "57" => "operator intervention, such as a time-out",
        "P0" => "an exception raised by a function",
        "HV" => "foreign data wrapper",
        _ => return None,
    })
}

impl fmt::Display for DiscreetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl StdError for DiscreetError {}

impl DatabaseError for DiscreetError {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.code.as_deref().map(Cow::Borrowed)
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_nobody_knows_has_its_place_in_the_sentence() {
        assert!(replacement(Some("22P02"), "look").contains("(SQLSTATE 22P02, data exception)"));
        assert!(replacement(Some("ZZ001"), "look").contains("(SQLSTATE ZZ001)"));
        assert!(replacement(Some("1811"), "look").contains("(SQLite code 1811)"));
        assert!(replacement(None, "look").ends_with(": look"));
    }

    #[tokio::test]
    async fn an_outage_is_still_one_after_it_was_told() {
        let told = |code: &str| {
            let told = DiscreetError { message: String::new(), shown: String::new(), code: Some(code.to_owned()) };
            of_source(sqlx::Error::Database(Box::new(told)))
        };
        assert!(["57P01", "08006", "53300", "40001", "5", "13"].iter().all(|code| is_outage(&told(code))));
        assert!(!["22P02", "P0001", "42P01", "1", "26"].iter().any(|code| is_outage(&told(code))));
        assert!(is_outage(&of_source(sqlx::Error::PoolTimedOut)));
    }

    #[tokio::test]
    async fn sqlite_is_quoted_only_where_its_words_are_its_own() {
        use sqlx::Connection;
        let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut said = Vec::new();
        for sql in [
            "select * from missing",
            "select json('{ann@example.com')",
            "select json_extract('{}', 'ann@example.com')",
            "create table t (a); create trigger r before insert on t begin select raise(abort, 'ann@example.com'); end; \
             insert into t values (1)",
        ] {
            let error = sqlx::raw_sql(crate::db::trusted(sql.to_owned())).execute(&mut connection).await.unwrap_err();
            let error = of_source(error);
            let words = format!("{error} {error:?}");
            let words = format!("{words} {}", in_words(&anyhow::Error::from(error)));
            assert!(!words.contains("ann@"), "{words}");
            said.push(words);
        }
        assert!(said[0].contains("no such table: missing"), "{}", said[0]);
        assert!(said[1].contains("malformed JSON"), "{}", said[1]);
        assert!(said[2].contains("SQLite code 1") && said[2].contains("by hand"), "{}", said[2]);
        assert!(said[3].contains("SQLite code 1811"), "{}", said[3]);
    }
}
