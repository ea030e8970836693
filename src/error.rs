//! The one error type that the whole program branches on: a mistake that the operator can fix.
//!
//! Everything else travels as [`anyhow::Error`] with context up to `main`, which prints the chain and exits with 1.

use std::fmt;

/// A mismatch in the settings, the command line, the CRM database or the state. Exit code 2.
///
/// Shown as one message: the fault and its place, then the cure on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupError {
    /// The fault and its place: names the file, key, table or column. Never a secret, never personal data.
    pub what: String,
    /// The remedy.
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
    /// The setup error in an error: the error itself, its context, or one of its causes.
    pub fn find_in(error: &anyhow::Error) -> Option<&Self> {
        // The chain of causes does not include context that `anyhow` puts around an error.
        error.downcast_ref().or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
    }
}

/// Another instance polls by now: the rows of this poll are outdated, and are not written. The next poll reads them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another instance has taken over polling meanwhile: what this poll has found is left to it")]
pub struct TurnLost;
