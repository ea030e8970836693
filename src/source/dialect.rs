//! How the three engines write names and texts in SQL. Pure.

use crate::db::{self, is_mysql};

/// The SQL of the customer's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceDialect {
    Sqlite,
    Postgres,
    Mysql,
}

impl SourceDialect {
    /// The dialect of a URL that was validated.
    pub fn of_url(url: &str) -> Self {
        if is_mysql(url) {
            Self::Mysql
        } else if db::sqlite_path(url).is_some() {
            Self::Sqlite
        } else {
            Self::Postgres
        }
    }

    /// An identifier, with any characters. MySQL reads `"name"` as a text unless the server's `sql_mode` says otherwise.
    pub fn quote(self, identifier: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => db::quote(identifier),
            Self::Mysql => format!("`{}`", identifier.replace('`', "``")),
        }
    }

    /// A table name: each part of `schema.table`.
    pub fn quote_table(self, name: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => db::quote_table(name),
            Self::Mysql => {
                let (schema, table) = mysql_table(name);
                let schema = schema.map(|schema| self.quote(&schema) + ".").unwrap_or_default();
                schema + &self.quote(&table)
            }
        }
    }

    /// A text. A backslash of MySQL may be an escape or a plain character, as the server's `sql_mode` says: then the text is
    /// written by its bytes.
    pub fn literal(self, text: &str) -> String {
        match self {
            Self::Mysql if text.contains('\\') => format!("_utf8mb4 x'{}'", in_hex(text)),
            Self::Sqlite | Self::Postgres | Self::Mysql => db::literal(text),
        }
    }

    /// A text that sorts and compares by its bytes, beside [`Self::by_bytes`].
    pub fn byte_literal(self, text: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => db::literal(text),
            Self::Mysql => format!("x'{}'", in_hex(text)),
        }
    }

    /// An expression of texts, compared by bytes. The binary collations of MySQL ignore trailing blanks, so its texts are
    /// compared as bytes.
    pub fn by_bytes(self, text: &str) -> String {
        match self {
            Self::Sqlite => format!("{text} collate binary"),
            Self::Postgres => format!("{text} collate \"C\""),
            Self::Mysql => format!("cast({text} as binary)"),
        }
    }
}

fn in_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The schema, if there is one, and the table of a MySQL table's name. The operator may have quoted parts with backticks or
/// double quotes.
pub fn mysql_table(name: &str) -> (Option<String>, String) {
    let mut parts = vec![String::new()];
    let mut quoted_by = None;
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        let last = parts.last_mut().expect("starts with one part");
        match (c, quoted_by) {
            ('`' | '"', Some(quote)) if c == quote => match characters.next_if_eq(&c) {
                // A doubled quote inside quotes is one quote of the name.
                Some(_) => last.push(c),
                None => quoted_by = None,
            },
            ('`' | '"', None) => quoted_by = Some(c),
            ('.', None) => parts.push(String::new()),
            (other, _) => last.push(other),
        }
    }
    let table = parts.pop().unwrap_or_default();
    (parts.pop(), table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_mysql_are_quoted_with_backticks() {
        let mysql = SourceDialect::Mysql;
        assert_eq!(mysql.quote("a`; drop table leads; --"), "`a``; drop table leads; --`");
        assert_eq!(mysql.quote_table("crm.leads"), "`crm`.`leads`");
        assert_eq!(mysql.quote_table("`odd.name`"), "`odd.name`");
        assert_eq!(mysql.quote_table("\"a\".`b``c`"), "`a`.`b``c`");
        assert_eq!(mysql_table("leads"), (None, "leads".to_owned()));
    }

    #[test]
    fn a_backslash_is_a_character_whatever_the_sql_mode_of_mysql() {
        assert_eq!(SourceDialect::Mysql.literal("o'b"), "'o''b'");
        assert_eq!(SourceDialect::Mysql.literal("a\\'"), "_utf8mb4 x'615c27'");
        assert_eq!(SourceDialect::Postgres.literal("a\\'"), "'a\\'''");
        assert_eq!(SourceDialect::Mysql.byte_literal("aé"), "x'61c3a9'");
    }
}
