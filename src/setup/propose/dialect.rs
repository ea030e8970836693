//! The dialect of SQL that a proposal is written in.

/// The engine whose SQL the proposal uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlDialect {
    Sqlite,
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}
