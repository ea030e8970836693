//! The names that leads have for conversations and reps, with counts. Conversica matches both to the letter, so names that look alike
//! are usually one name and a slip. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// More names than any customer has; a wrong mapping may find one in each row.
const MOST_NAMES: usize = 1000;
/// Pairs that are listed.
const MOST_PAIRS: usize = 20;
/// Names with fewer letters differ by one letter too often.
const SHORTEST_SLIP: usize = 5;

/// How many leads have each name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameCounts {
    by_name: BTreeMap<String, u64>,
    /// Leads with names beyond the limit.
    others: u64,
}

/// A name and its number of leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountedName {
    pub name: String,
    pub leads: u64,
}

impl NameCounts {
    pub fn add(&mut self, name: &str) {
        let has_room = self.by_name.len() < MOST_NAMES;
        match self.by_name.get_mut(name) {
            Some(leads) => *leads += 1,
            None if has_room => _ = self.by_name.insert(name.to_owned(), 1),
            None => self.others += 1,
        }
    }

    /// The names with the most leads first.
    pub fn list(&self) -> Vec<CountedName> {
        let counted = |(name, leads): (&String, &u64)| CountedName { name: name.clone(), leads: *leads };
        let mut list: Vec<CountedName> = self.by_name.iter().map(counted).collect();
        list.sort_by_key(|name| std::cmp::Reverse(name.leads));
        list
    }

    /// Leads whose names are not listed, because there are too many names.
    pub fn others(&self) -> u64 {
        self.others
    }

    /// Pairs of names that look like one, at most twenty.
    pub fn near(&self) -> Vec<[String; 2]> {
        let names: Vec<(&String, String)> = self.by_name.keys().map(|name| (name, folded(name))).collect();
        let mut pairs = Vec::new();
        for (place, (name, folded)) in names.iter().enumerate() {
            for (other, other_folded) in &names[place + 1..] {
                if looks_like(folded, other_folded) {
                    pairs.push([(*name).clone(), (*other).clone()]);
                    if pairs.len() == MOST_PAIRS {
                        return pairs;
                    }
                }
            }
        }
        pairs
    }
}

/// The letters and digits, without case.
fn folded(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Numbers differ by a digit on purpose.
fn looks_like(a: &str, b: &str) -> bool {
    let (short, long) = (a.len().min(b.len()), a.len().max(b.len()));
    let letters = |text: &str| text.chars().filter(|c| !c.is_numeric()).collect::<String>();
    a == b
        || short >= SHORTEST_SLIP
            && long - short <= 4
            && letters(a) != letters(b)
            && strsim::damerau_levenshtein(a, b) <= 1
}

/// The names of conversations and reps in some leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeadNames {
    pub leads: u64,
    /// Blank for leads without one.
    pub conversations: NameCounts,
    pub reps: NameCounts,
}

#[derive(Deserialize)]
struct NamedContent {
    #[serde(rename = "conversationId", default)]
    conversation: String,
    #[serde(rename = "repName", default)]
    rep: String,
}

impl LeadNames {
    /// Counts a canonical Lead object.
    pub fn add(&mut self, content: &str) {
        let Ok(named) = serde_json::from_str::<NamedContent>(content) else { return };
        self.leads += 1;
        self.conversations.add(&named.conversation);
        self.reps.add(&named.rep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(names: &[&str]) -> NameCounts {
        let mut counts = NameCounts::default();
        names.iter().for_each(|name| counts.add(name));
        counts
    }

    #[test]
    fn names_that_differ_by_case_blanks_points_or_one_letter_look_alike() {
        let near = |a: &str, b: &str| !counts(&[a, b]).near().is_empty();
        assert!(near("A", "a") && near("Jon Smith", "Jon  Smith") && near("Jon Smith", "John  Smith"));
        assert!(
            near("J. R. Roe", "JR Roe") && near("Inbound Leads", "Inbound-Leads ") && near("Robin Roe", "Robyn Roe")
        );
        assert!(!near("Ann", "Jon") && !near("Inbound", "Outbound") && !near("Spring 2025", "Spring 2026"));
        assert!(!near("", "A"), "no name is another name");
    }

    #[test]
    fn the_most_frequent_name_comes_first_and_too_many_names_are_counted_together() {
        let some = counts(&["b", "a", "b"]);
        let list: Vec<_> = some.list().into_iter().map(|name| (name.name, name.leads)).collect();
        assert_eq!(list, [("b".to_owned(), 2), ("a".to_owned(), 1)]);
        let mut many = NameCounts::default();
        (0..MOST_NAMES + 7).for_each(|n| many.add(&format!("{n:05}")));
        assert_eq!((many.list().len(), many.others(), many.near().len()), (MOST_NAMES, 7, 0));
    }

    #[test]
    fn a_lead_counts_with_both_names() {
        let mut names = LeadNames::default();
        names.add(r#"{"id":"1","conversationId":"A","repName":"Rae Roe"}"#);
        names.add(r#"{"id":"2","repName":"Rae Roe"}"#);
        names.add("no object");
        assert_eq!((names.leads, names.conversations.list().len(), names.reps.list()[0].leads), (2, 2, 2));
    }
}
