//! What to do about a failure of the customer's database: one table from PostgreSQL's SQLSTATE, or SQLite's result code, to a
//! class and a cure. The message of the database is never looked at, except for the general error of SQLite. It takes errors
//! apart and asks no database anything.

use sqlx::error::DatabaseError;

pub use crate::db::failure_class::{FailureClass, FailureCure, FailureSubject};
use crate::db::mysql_failure::cure_mysql;

const NO_TABLE: &str =
    "set [source] table, or the tables in [source] query and where, to ones that the user of [source] url sees";
const NO_COLUMN: &str = "fix [source] where, changed_at or query: name only columns that are there";
const BAD_STATEMENT: &str =
    "fix [source] where, changed_at or query: run the statement by hand as the user of [source] url to see it fail";
const RETRIED: &str = "nothing: it is tried again by itself";
const STANDBY: &str = "nothing: it is tried again by itself, and goes on where it had come to. A standby cancels readers that hold up its replay: to let \
     it wait longer, raise max_standby_streaming_delay or set hot_standby_feedback = on there, or read from the primary";
const LOCKED: &str =
    "nothing, if the lock is short: it is tried again by itself. Otherwise end the program that keeps the lock";
const POOLER: &str = "if a connection pooler is in front of the database, look at its log and settings (user list, databases, \
                      pool_mode, protocol), or give the server's own address in [source] url";

/// The prefix of a MySQL error number that serves as a code, so that no code of another engine looks alike.
pub(crate) const MYSQL: &str = "MySQL ";
/// MySQL: another session kept a lock for too long.
pub(crate) const MYSQL_LOCK_WAIT: &str = "MySQL 1205";

/// The cure for a driver's code: five characters are an SQLSTATE, fewer are a number of SQLite.
pub fn cure_failure(code: &str) -> FailureCure {
    if let Some(number) = code.strip_prefix(MYSQL).and_then(|number| number.parse().ok()) {
        return cure_mysql(number);
    }
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => cure_sqlite(number),
        _ => cure_postgres(code),
    }
}

/// Whether a MySQL error may pass by itself.
pub(crate) fn is_passing(mysql_number: u16) -> bool {
    cure_mysql(mysql_number).class == FailureClass::Wait
}

/// The cure for a database error. SQLite has one code for a missing table, a missing column and a mistyped statement.
pub fn cure_error(database: &dyn DatabaseError) -> FailureCure {
    let code = database.code().unwrap_or_default();
    let message = database.message();
    match code.as_ref() {
        "1" if message.starts_with("no such table") => cure(FailureClass::Fix, FailureSubject::Table, NO_TABLE),
        "1" if message.starts_with("no such column") => cure(FailureClass::Fix, FailureSubject::Column, NO_COLUMN),
        code => cure_failure(code),
    }
}

/// The cure for a connection that failed before the database could answer with a code.
pub fn cure_connection(error: &sqlx::Error) -> Option<&'static str> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, TimedOut};
    match error {
        sqlx::Error::Tls(_) => Some(
            "check sslmode, sslrootcert, sslcert and sslkey in [source] url, and that the server speaks TLS with a certificate for that host",
        ),
        sqlx::Error::Io(error) => match error.kind() {
            ConnectionRefused => Some("start the server, or correct host and port of [source] url"),
            NotFound => Some("start the server, or correct the directory of its socket in [source] url"),
            PermissionDenied => Some("let the user that runs conversica-sync use the server's socket"),
            TimedOut => Some(
                "look at the server's load, its max_connections and the network to it; if a connection pooler is in front of it, \
                 give this user more sessions there",
            ),
            _ => None,
        },
        _ => None,
    }
}

const fn cure(class: FailureClass, subject: FailureSubject, text: &'static str) -> FailureCure {
    FailureCure { class, subject, text }
}

fn cure_postgres(code: &str) -> FailureCure {
    use FailureClass::{Fix, Wait};
    use FailureSubject::{Column, Connection, Rights, Statement, Table};
    match code {
        "42P01" | "3F000" => cure(Fix, Table, NO_TABLE),
        "42703" => cure(Fix, Column, NO_COLUMN),
        "42501" => cure(
            Fix,
            Rights,
            "let this user read the table: grant usage on its schema and select on it to the user of [source] url",
        ),
        "28P01" => cure(Fix, Connection, "check the user and the password of [source] url"),
        "3D000" => cure(Fix, Connection, "name a database that is there in [source] url"),
        "25006" => cure(
            Wait,
            Connection,
            "the server is a standby, or is set to read only: wait for the end of the fail-over, or name the primary in [source] url",
        ),
        // Readers meet it on standbys only: a conflict with recovery.
        "40001" => cure(Wait, Connection, STANDBY),
        "55P03" => cure(Wait, Statement, LOCKED),
        "57014" => cure(
            Wait,
            Statement,
            "raise [source] statement_timeout, or make an index on the column of changed_at; it is tried again by itself",
        ),
        "57P03" => cure(Wait, Connection, "nothing while the server starts or stops: it is tried again by itself"),
        // The server ended a transaction that waited or lasted too long, because this process was paused.
        "25P03" | "25P04" => cure(Wait, Connection, RETRIED),
        "53100" => cure(Wait, Connection, "make room on the disk of the server of [source] url"),
        "53200" => cure(
            Wait,
            Connection,
            "see that the server of [source] url has memory to spare; it is tried again by itself",
        ),
        "53300" => cure(
            Wait,
            Connection,
            "raise max_connections of the server, or the connection limit of the role or database, or end unused sessions; \
             it is tried again by itself",
        ),
        "08P01" => cure(Wait, Connection, POOLER),
        "0A000" => cure(
            Fix,
            Connection,
            "the server, or a connection pooler in front of it, does not support what was asked: give the server's own address in \
             [source] url; if a table was changed just now, the next poll reads it anew",
        ),
        "26000" | "42P05" => cure(Fix, Connection, POOLER),
        _ => match code.get(..2).unwrap_or_default() {
            "28" => cure(
                Fix,
                Connection,
                "check the user and password of [source] url, and that this role may log in (alter role … login) and pg_hba.conf \
                 lets it",
            ),
            "08" => cure(
                Wait,
                Connection,
                "check that the server of [source] url runs and can be reached; it is tried again by itself",
            ),
            "57" | "40" => cure(Wait, Connection, RETRIED),
            "53" => cure(
                Wait,
                Connection,
                "see what the server of [source] url has run out of; it is tried again by itself",
            ),
            "58" | "XX" => cure(
                Fix,
                Connection,
                "look into the server's own log: its files or its disk are damaged, or the server has a fault",
            ),
            _ => cure(Fix, Statement, BAD_STATEMENT),
        },
    }
}

fn cure_sqlite(code: u32) -> FailureCure {
    use FailureClass::{Fix, Wait};
    use FailureSubject::{Connection, Statement};
    match (code & 0xff, code) {
        (5 | 6, _) => cure(Wait, Connection, LOCKED),
        (9 | 17, _) => cure(Wait, Connection, RETRIED),
        (3 | 23, _) => cure(Fix, Connection, "let the user that runs conversica-sync read the file of [source] url"),
        (7, _) => cure(Fix, Connection, "give the program more memory"),
        // READONLY_RECOVERY, READONLY_ROLLBACK.
        (8, 264 | 776) => cure(
            Wait,
            Connection,
            "the CRM's program was ended while it wrote: start it, or any program that may write the file, and SQLite repairs it",
        ),
        // READONLY_DBMOVED.
        (8, 1032) => {
            cure(Wait, Connection, "nothing: the file was moved or replaced, and the next poll opens the new one")
        }
        (8, _) => cure(
            Fix,
            Connection,
            "let the user that runs conversica-sync write in the directory of the file: a file in WAL mode needs the files -wal and \
             -shm beside it; or let the CRM's program keep the file open",
        ),
        (10, _) => cure(
            Wait,
            Connection,
            "see that the disk, or the network file system, of the file of [source] url is sound",
        ),
        (11, _) => cure(
            Fix,
            Connection,
            "the file of [source] url is damaged: restore it, or repair it with `sqlite3 FILE .recover`",
        ),
        (13, _) => cure(
            Wait,
            Connection,
            "make room on the disk of the file of [source] url, and in the directory for temporary files",
        ),
        (14, _) => cure(
            Wait,
            Connection,
            "let the user that runs conversica-sync read the file of [source] url and search its directory; a file in WAL mode needs \
             the files -wal and -shm beside it",
        ),
        (26, _) => cure(
            Fix,
            Connection,
            "give the path of the CRM's SQLite file; the file in [source] url is of another kind, or encrypted",
        ),
        _ => cure(Fix, Statement, BAD_STATEMENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program must wait for exactly those failures that waiting cures.
    #[test]
    fn what_passes_by_itself_is_waited_for_and_the_rest_names_what_to_change() {
        let waited_for = [
            "57P01", "57P02", "57P03", "57014", "53300", "53100", "08000", "08006", "08P01", "55P03", "40001", "40P01",
            "25006", "25P03", "25P04", "5", "261", "517", "6", "9", "10", "3850", "13", "14", "17", "264", "776",
        ];
        for code in waited_for {
            assert_eq!(cure_failure(code).class, FailureClass::Wait, "{code}");
        }
        let fixed = [
            "42P01", "42703", "42501", "28000", "28P01", "3D000", "0A000", "42601", "22P02", "XX001", "P0001", "1",
            "3", "8", "1544", "520", "11", "267", "23", "26",
        ];
        for code in fixed {
            assert_eq!(cure_failure(code).class, FailureClass::Fix, "{code}");
        }
    }

    #[test]
    fn no_table_is_blamed_for_what_is_no_question_of_tables() {
        let connection = [
            "28000", "28P01", "3D000", "57P01", "57P03", "53300", "08006", "08P01", "0A000", "40001", "25006", "26",
            "11", "14", "8", "1544", "3", "23", "5", "10", "13", "17",
        ];
        for code in connection {
            let cure = cure_failure(code);
            assert_eq!(cure.subject, FailureSubject::Connection, "{code}");
            assert!(!cure.text.contains("[source] table"), "{code}: {}", cure.text);
        }
        assert_eq!(cure_failure("42P01").subject, FailureSubject::Table);
        assert_eq!(cure_failure("42703").subject, FailureSubject::Column);
        assert_eq!(cure_failure("42501").subject, FailureSubject::Rights);
        assert_eq!(cure_failure("").subject, FailureSubject::Statement);
    }

    #[test]
    fn a_file_in_wal_mode_is_told_which_files_it_needs() {
        for code in ["8", "1544", "14"] {
            let text = cure_failure(code).text;
            assert!(text.contains("-wal") && text.contains("-shm") && text.contains("directory"), "{code}: {text}");
        }
    }
}
