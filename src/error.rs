//! The one error type that the whole program branches on: a mistake that the person at the keyboard can mend.
//!
//! Everything else travels as [`anyhow::Error`] with context up to `main`, which prints the chain and exits with 1.

use std::fmt;

/// Something in the settings, the command line, the CRM database or the state does not fit. Exit code 2.
///
/// Shown as one message: what is wrong and where, then the cure on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupError {
    /// What is wrong, and where: names the file, key, table or column. Never a secret, never personal data.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

impl SetupError {
    pub fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  cure: {}", self.what, self.cure)
    }
}

impl std::error::Error for SetupError {}

impl SetupError {
    /// The one that an error is, or that was put around it, or that caused it.
    pub fn find_in(error: &anyhow::Error) -> Option<&Self> {
        // Context put around an error by `anyhow` is not in its chain of causes.
        error.downcast_ref().or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
    }
}

/// Another instance polls by now: what this poll has read is old, and is not written. The next poll reads it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another instance has taken over polling meanwhile: what this poll has found is left to it")]
pub struct TurnLost;
