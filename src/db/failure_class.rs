//! The kinds of failures of the customer's database, and the remedy for one. Plain data.

/// Whether a retry can succeed without a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The next retry may succeed without a change to the settings.
    Wait,
    /// The operator has to change a right, a setting or the database.
    Fix,
}

/// The subject of the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureSubject {
    /// A table in the statement is missing, or not visible to this user.
    Table,
    /// A column in the statement is missing.
    Column,
    /// The text of the statement, or the values that it reads.
    Statement,
    /// The table exists, but this user may not read it.
    Rights,
    /// The server, the file, the login, or the way to them.
    Connection,
}

/// The subject of the failure, and the operator's remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureCure {
    pub class: FailureClass,
    pub subject: FailureSubject,
    pub text: &'static str,
}
