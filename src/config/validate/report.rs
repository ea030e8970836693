//! Findings of a validation.

use std::time::Duration;

use crate::config::check::ConfigProblems;
use crate::config::duration;
use crate::config::merged::MergedConfig;

/// Collects problems, each with the place of its key.
pub(crate) struct ValidationReport<'a> {
    pub(crate) merged: &'a MergedConfig,
    pub(crate) problems: &'a mut ConfigProblems,
    pub(crate) warnings: &'a mut Vec<String>,
}

impl ValidationReport<'_> {
    /// Skips a key that has a message already.
    pub(crate) fn problem(&mut self, key: &str, what: impl AsRef<str>, cure: impl Into<String>) {
        if !self.problems.is_spoiled(key) {
            self.problems.add(&self.merged.place(key), what, cure);
        }
    }

    pub(crate) fn warning(&mut self, key: &str, text: impl AsRef<str>) {
        self.warnings.push(format!("{}: {}", self.merged.place(key), text.as_ref()));
    }

    pub(crate) fn is_spoiled(&self, key: &str) -> bool {
        self.problems.is_spoiled(key)
    }

    pub(crate) fn duration(&mut self, key: &str, value: Duration, least: &str, most: &str) {
        let bound = |text: &str| duration::parse(text).unwrap_or(Duration::MAX);
        if value < bound(least) || value > bound(most) {
            self.problem(
                key,
                format!("`{key}` is {}, which is out of range", duration::format(value)),
                format!("Write a duration from \"{least}\" to \"{most}\"."),
            );
        }
    }
}
