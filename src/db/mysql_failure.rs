//! What to do about a failure of a MySQL or MariaDB server: one table from the error number to a class and a cure. Pure.

use crate::db::failure_class::{FailureClass, FailureCure, FailureSubject};

/// Errors whose messages name connections, users, tables, columns and conditions of the server, and no value of a row.
const PLAIN: [u16; 58] = [
    1021, 1030, 1037, 1038, 1040, 1041, 1044, 1045, 1046, 1049, 1051, 1052, 1053, 1054, 1055, 1056, 1060, 1064, 1079,
    1102, 1104, 1109, 1111, 1114, 1129, 1130, 1135, 1142, 1143, 1146, 1203, 1205, 1213, 1222, 1226, 1227, 1235, 1248,
    1251, 1267, 1271, 1290, 1305, 1317, 1356, 1370, 1412, 1449, 1582, 1698, 1792, 1820, 1836, 1862, 1927, 1969, 3024,
    3159,
];

/// Whether an error's message contains no data.
pub(crate) fn is_plain(number: u16) -> bool {
    PLAIN.contains(&number)
}

/// The column that a value does not fit: not null, without a default, out of range, cut, too long.
pub(crate) fn column_of(number: u16, message: &str) -> Option<String> {
    if ![1048, 1264, 1265, 1364, 1406].contains(&number) {
        return None;
    }
    let name = message.split('\'').nth(1)?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| format!("column {name}"))
}

/// The cure for an error number.
pub(crate) fn cure_mysql(number: u16) -> FailureCure {
    use FailureClass::{Fix, Wait};
    use FailureSubject::{Column, Connection, Rights, Statement, Table};
    let cure = |class, subject, text| FailureCure { class, subject, text };
    match number {
        1045 | 1698 | 1251 => cure(
            Fix,
            Connection,
            "check the user and the password of [source] url, and that the server lets this user in from this machine \
             (`create user reader@'%'`, or with this machine's address)",
        ),
        1044 => cure(
            Fix,
            Connection,
            "check the database of [source] url, and grant the user select on it: grant select on crm.* to reader",
        ),
        1049 | 1046 => {
            cure(Fix, Connection, "name a database that is there in [source] url (mysql://user@host/database)")
        }
        1129 | 1130 => cure(
            Fix,
            Connection,
            "let the server accept this machine: create the user of [source] url for its address, or run `flush hosts` after many \
             failed logins",
        ),
        1820 | 1862 => cure(Fix, Connection, "the password of the user of [source] url has expired: set a new one"),
        3159 => cure(Fix, Connection, "the server takes TLS only: write ?ssl-mode=required in [source] url"),
        1146 | 1051 | 1109 => cure(
            Fix,
            Table,
            "set [source] table, or the tables in [source] query and where, to ones that the user of [source] url sees",
        ),
        1054 => cure(Fix, Column, "fix [source] where, changed_at or query: name only columns that are there"),
        1142 | 1143 | 1227 | 1370 => cure(
            Fix,
            Rights,
            "let this user read the table: grant select on it, with all its columns, to the user of [source] url",
        ),
        1356 | 1449 => cure(
            Fix,
            Rights,
            "the view names tables, columns or a definer that are gone, or that its definer may not read: let its owner make it anew",
        ),
        1205 | 1213 => cure(
            Wait,
            Statement,
            "nothing, if the lock is short: it is tried again by itself. Otherwise end the transaction that keeps the lock",
        ),
        1317 | 1969 | 3024 => cure(
            Wait,
            Statement,
            "raise [source] statement_timeout, or make an index on the column of changed_at; it is tried again by itself",
        ),
        1412 => cure(Wait, Table, "nothing: the table was changed as a poll began, and the next poll reads it anew"),
        1040 | 1203 | 1226 => cure(
            Wait,
            Connection,
            "raise max_connections of the server, or the limit of the user, or end unused sessions; it is tried again by itself",
        ),
        1053 | 1927 => cure(Wait, Connection, "nothing while the server starts or stops: it is tried again by itself"),
        1021 | 1114 => {
            cure(Wait, Connection, "make room on the disk of the server of [source] url, and for its temporary files")
        }
        1037 | 1038 | 1041 | 1135 => cure(
            Wait,
            Connection,
            "see that the server of [source] url has memory to spare; it is tried again by itself",
        ),
        1290 | 1836 | 1792 => cure(
            Wait,
            Connection,
            "the server is a replica, or is set to read only: wait for the end of the fail-over, or name the primary",
        ),
        1030 => cure(Fix, Connection, "look into the server's own log: a storage engine has failed"),
        _ => cure(
            Fix,
            Statement,
            "fix [source] where, changed_at or query: run the statement by hand as the user of [source] url to see it fail",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_waited_for_and_the_rest_names_what_to_change() {
        for number in [1040, 1053, 1114, 1205, 1213, 1290, 1317, 1412, 1927, 1969, 3024] {
            assert_eq!(cure_mysql(number).class, FailureClass::Wait, "{number}");
        }
        for number in [1044, 1045, 1049, 1054, 1064, 1142, 1146, 1227, 1366, 3159] {
            assert_eq!(cure_mysql(number).class, FailureClass::Fix, "{number}");
        }
        assert_eq!(cure_mysql(1146).subject, FailureSubject::Table);
        assert_eq!(cure_mysql(1054).subject, FailureSubject::Column);
        assert_eq!(cure_mysql(1142).subject, FailureSubject::Rights);
    }

    #[test]
    fn a_message_that_may_quote_a_value_is_not_plain() {
        // Duplicate entry, incorrect value, data too long, signalled by a trigger.
        for number in [1062, 1292, 1366, 1406, 1644] {
            assert!(!is_plain(number), "{number}");
        }
        assert!(is_plain(1146) && is_plain(1045));
        assert_eq!(column_of(1406, "Data too long for column 'city' at row 1").as_deref(), Some("column city"));
        assert_eq!(column_of(1048, "Column 'ann@example.com' cannot be null"), None);
        assert_eq!(column_of(1062, "Duplicate entry 'ann' for key 'email'"), None);
    }
}
