//! What the page before a decision shows, and what comes after the decision.

use super::effect::ShownEffect;

/// The effect of the decision at this moment.
#[derive(Default)]
pub struct ActionPreview {
    pub title: String,
    pub question: String,
    pub asides: Vec<String>,
    pub button: &'static str,
    /// Names the set that was shown: if more leads join it, the page shows them first.
    pub shown: String,
    /// What the operator may write.
    pub inputs: Vec<ActionInput>,
    /// Its effect on single leads.
    pub effect: ShownEffect,
}

/// A line of the form that the operator fills in.
pub struct ActionInput {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    /// What was written before, if the page is shown again.
    pub value: String,
}

/// The result of the decision.
pub enum ActionResult {
    Said(String),
    /// The set has grown, or the form cannot be read: the page shows it again, with this message.
    Grown(String),
}

/// The leads that a page showed: their number, and the moment of the newest of them in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownSet {
    pub leads: i64,
    pub newest: i64,
}

impl ShownSet {
    pub fn name(self) -> String {
        format!("{}-{}", self.leads, self.newest)
    }

    /// The set with that name; `None` for any other text.
    pub fn named(name: &str) -> Option<Self> {
        let (leads, newest) = name.split_once('-')?;
        Some(Self { leads: leads.parse().ok().filter(|leads| *leads > 0)?, newest: newest.parse().ok()? })
    }

    /// Whether this set has leads that `shown` did not have, or has the same leads after they were decided about once.
    pub fn has_outgrown(self, shown: Self) -> bool {
        self.leads > shown.leads || self.newest > shown.newest
    }
}

/// The loops notice decisions by themselves.
pub const TAKEN_UP: &str = " It is taken up within seconds.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_set_is_known_by_its_name_and_a_larger_or_newer_one_is_told_apart() {
        let shown = ShownSet { leads: 2, newest: 1_800_000_000_000_000 };
        assert_eq!(ShownSet::named(&shown.name()), Some(shown));
        assert!(!shown.has_outgrown(shown));
        assert!(!ShownSet { leads: 1, ..shown }.has_outgrown(shown), "one has gone");
        assert!(ShownSet { leads: 3, ..shown }.has_outgrown(shown));
        assert!(
            ShownSet { newest: shown.newest + 1, ..shown }.has_outgrown(shown),
            "another lead, or the same one sent since"
        );
        for name in ["", "2", "0-5", "-1-5", "2-", "2-x"] {
            assert_eq!(ShownSet::named(name), None, "{name}");
        }
    }
}
