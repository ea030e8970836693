//! One item of the list, and the verdict on the whole list. Pure.

use serde::Serialize;

use crate::config::ConfigErrors;
use crate::console::SCHEMA_VERSION;
use crate::db::discreet;
use crate::error::SetupError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    Ok,
    /// Works, but deserves attention.
    Warn,
    /// Must be fixed.
    Fail,
    /// Depends on a failed item.
    Skipped,
}

/// Ids and counts only: no value of a row, no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckItem {
    pub section: &'static str,
    /// Identifies the item within its section, for scripts.
    pub name: &'static str,
    pub state: ItemState,
    pub detail: String,
    /// The remedy.
    pub cure: Option<String>,
}

impl CheckItem {
    fn new(section: &'static str, name: &'static str, state: ItemState, detail: impl Into<String>) -> Self {
        Self { section, name, state, detail: detail.into(), cure: None }
    }

    pub fn ok(section: &'static str, name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(section, name, ItemState::Ok, detail)
    }

    pub fn warn(section: &'static str, name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(section, name, ItemState::Warn, detail)
    }

    pub fn fail(section: &'static str, name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(section, name, ItemState::Fail, detail)
    }

    pub fn skipped(section: &'static str, name: &'static str, reason: impl Into<String>) -> Self {
        Self::new(section, name, ItemState::Skipped, reason)
    }

    #[must_use]
    pub fn cure(self, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..self }
    }

    /// A text that ends with its own cure: `what; cure: how`.
    pub fn warning(section: &'static str, name: &'static str, text: &str) -> Self {
        match text.split_once("cure: ") {
            Some((what, cure)) => Self::warn(section, name, what.trim_end_matches([' ', ';', '.', '\n'])).cure(cure),
            None => Self::warn(section, name, text),
        }
    }

    /// Items for an error that prevents the check.
    pub fn failed(section: &'static str, name: &'static str, error: &anyhow::Error) -> Vec<Self> {
        let of = |setup: &SetupError| Self::fail(section, name, setup.what.clone()).cure(setup.cure.clone());
        if let Some(errors) = error.chain().find_map(|cause| cause.downcast_ref::<ConfigErrors>()) {
            return errors.0.iter().map(of).collect();
        }
        let in_chain = error.chain().find_map(|cause| cause.downcast_ref::<SetupError>());
        // The chain of causes does not include context that `anyhow` puts around an error.
        match in_chain.or_else(|| error.downcast_ref()) {
            Some(setup) => vec![of(setup)],
            None => vec![Self::fail(section, name, discreet::in_words(error))],
        }
    }
}

/// All items, in the order of the checks.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    pub items: Vec<CheckItem>,
    /// Sending waits, at least in part, for the operator's decision.
    pub waits_for_a_person: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckVerdict {
    Ready,
    /// Halted or held, with no other obstacle.
    Decision,
    Unready,
}

impl CheckReport {
    pub fn count(&self, state: ItemState) -> usize {
        self.items.iter().filter(|item| item.state == state).count()
    }

    pub fn verdict(&self) -> CheckVerdict {
        if self.count(ItemState::Fail) > 0 {
            CheckVerdict::Unready
        } else if self.waits_for_a_person {
            CheckVerdict::Decision
        } else {
            CheckVerdict::Ready
        }
    }

    /// The document for scripts; a halt or hold is not ready. New versions may add keys, but remove none.
    pub fn document(&self) -> serde_json::Value {
        serde_json::json!({ "schema_version": SCHEMA_VERSION, "ready": self.verdict() == CheckVerdict::Ready, "items": self.items })
    }

    /// The line at the end.
    pub fn summary(&self) -> String {
        let things = |number: usize| if number == 1 { "1 thing".to_owned() } else { format!("{number} things") };
        let (bad, look) = (self.count(ItemState::Fail), self.count(ItemState::Warn));
        let look = (look > 0).then(|| format!("{look} to look at"));
        match (self.verdict(), look) {
            (CheckVerdict::Unready, None) => format!("{} to fix.", things(bad)),
            (CheckVerdict::Unready, Some(look)) => format!("{} to fix, {look}.", things(bad)),
            (CheckVerdict::Decision, look) => {
                format!("Nothing to fix, {}; a person has to decide.", look.unwrap_or_default())
            }
            (CheckVerdict::Ready, None) => "Ready. Next: conversica-sync plan".to_owned(),
            (CheckVerdict::Ready, Some(look)) => format!("Ready, {look}. Next: conversica-sync plan"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(states: &[ItemState], waits_for_a_person: bool) -> CheckReport {
        let items = states.iter().map(|state| CheckItem::new("source", "rows", *state, "so it is")).collect();
        CheckReport { items, waits_for_a_person }
    }

    #[test]
    fn what_fails_outweighs_what_waits_and_what_waits_what_is_worth_a_look() {
        use ItemState::{Fail, Ok, Skipped, Warn};
        for (states, waits, verdict, summary) in [
            (&[Ok, Ok][..], false, CheckVerdict::Ready, "Ready. Next: conversica-sync plan"),
            (&[Ok, Warn, Skipped], false, CheckVerdict::Ready, "Ready, 1 to look at. Next: conversica-sync plan"),
            (&[Warn], true, CheckVerdict::Decision, "Nothing to fix, 1 to look at; a person has to decide."),
            (&[Fail, Skipped], true, CheckVerdict::Unready, "1 thing to fix."),
            (&[Fail, Fail, Warn], false, CheckVerdict::Unready, "2 things to fix, 1 to look at."),
        ] {
            let list = list(states, waits);
            assert_eq!((list.verdict(), list.summary().as_str()), (verdict, summary));
            assert_eq!(list.document()["ready"], verdict == CheckVerdict::Ready);
        }
    }

    #[test]
    fn a_text_with_a_cure_is_taken_apart() {
        let item = CheckItem::warning("settings", "warning", "a.toml can be read by all; cure: chmod 600 a.toml");
        assert_eq!(
            (item.detail.as_str(), item.cure.as_deref()),
            ("a.toml can be read by all", Some("chmod 600 a.toml"))
        );
        let item = CheckItem::warning("settings", "warning", "as it is");
        assert_eq!((item.detail.as_str(), item.cure), ("as it is", None));
    }
}
