//! The leads that a person was shown before a decision, by their number and the moment of the newest. Pure.

/// Leads that a person was shown. A lead that joins them later, or the same lead after a decision, has a later moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownSet {
    pub leads: i64,
    /// The moment of the newest of them, in microseconds since 1970.
    pub newest: i64,
}

impl ShownSet {
    /// Short enough to copy from a screen. [`Self::named`] reads it.
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
