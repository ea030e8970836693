//! Which leads of the plan are shown, and in which order: whole-number ids by size. The plan itself comes in the order of the source,
//! which for texts of numbers is 1, 10, 2. Pure.

use std::cmp::Ordering;

use crate::send::planned_lead::{PlannedAction, PlannedLead};

/// Leads that are kept in memory for sorting. More are shown in the order of the source.
const SORTED: usize = 10_000;

/// The leads that the operator asked for.
pub(super) struct PlanSelection<'a> {
    only: &'a [PlannedAction],
    ids: &'a [String],
    limit: Option<usize>,
    /// Matching leads so far, shown or not.
    pub found: u64,
    kept: Vec<PlannedLead>,
    /// There are too many to sort.
    is_streaming: bool,
}

impl<'a> PlanSelection<'a> {
    pub fn new(only: &'a [PlannedAction], ids: &'a [String], limit: Option<u64>) -> Self {
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Self { only, ids, limit, found: 0, kept: Vec::new(), is_streaming: false }
    }

    pub fn is_all(&self) -> bool {
        self.only.is_empty() && self.ids.is_empty()
    }

    /// Takes a lead of the plan; returns those that are to be shown at once.
    pub fn add(&mut self, lead: PlannedLead) -> Vec<PlannedLead> {
        let is_meant = (self.only.is_empty() || self.only.contains(&lead.action))
            && (self.ids.is_empty() || self.ids.contains(&lead.id));
        if !is_meant {
            return Vec::new();
        }
        self.found += 1;
        match self.limit.filter(|limit| *limit <= SORTED) {
            Some(limit) => {
                let place = self.kept.partition_point(|kept| compare(kept, &lead) != Ordering::Greater);
                if place < limit {
                    self.kept.insert(place, lead);
                    self.kept.truncate(limit);
                }
                Vec::new()
            }
            None if self.limit.is_some_and(|limit| self.found > limit as u64) => Vec::new(),
            None if self.is_streaming => vec![lead],
            None => {
                self.kept.push(lead);
                self.is_streaming = self.kept.len() > SORTED;
                if self.is_streaming { std::mem::take(&mut self.kept) } else { Vec::new() }
            }
        }
    }

    /// The rest, at the end of the plan.
    pub fn rest(&mut self) -> Vec<PlannedLead> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_by(compare);
        kept
    }
}

fn compare(a: &PlannedLead, b: &PlannedLead) -> Ordering {
    compare_ids(&a.id, &b.id).then_with(|| a.client_id.cmp(&b.client_id))
}

/// Whole numbers first, by size; then all other ids, by their bytes.
fn compare_ids(a: &str, b: &str) -> Ordering {
    match (WholeNumber::read(a), WholeNumber::read(b)) {
        (Some(a), Some(b)) => a.compare(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// A whole number of any length.
#[derive(Clone, Copy)]
struct WholeNumber<'t> {
    is_negative: bool,
    digits: &'t str,
}

impl<'t> WholeNumber<'t> {
    /// Also as a state may know keys of a floating-point column: 7.0.
    fn read(text: &'t str) -> Option<Self> {
        let whole = text.strip_suffix(".0").unwrap_or(text);
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // 007 is a code.
        let is_plain = digits == "0" || !digits.starts_with('0');
        (is_number && is_plain).then_some(Self { is_negative: whole.starts_with('-'), digits })
    }

    fn compare(self, other: Self) -> Ordering {
        let size = |number: Self| (number.digits.len(), number.digits);
        match (self.is_negative, other.is_negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(id: &str) -> PlannedLead {
        let (changes, reasons) = Default::default();
        PlannedLead { id: id.to_owned(), client_id: String::new(), action: PlannedAction::Create, changes, reasons }
    }

    fn shown(ids: &[&str], limit: Option<u64>) -> Vec<String> {
        let mut selection = PlanSelection::new(&[], &[], limit);
        let mut shown: Vec<PlannedLead> = ids.iter().flat_map(|id| selection.add(lead(id))).collect();
        shown.extend(selection.rest());
        assert_eq!(selection.found, ids.len() as u64);
        shown.into_iter().map(|lead| lead.id).collect()
    }

    #[test]
    fn whole_numbers_come_by_size_and_before_other_ids() {
        let ids = ["-5", "1", "10", "100", "11", "2", "9.0", "-40", "a10", "a2", "007", "12345678901234567890"];
        let sorted = ["-40", "-5", "1", "2", "9.0", "10", "11", "100", "12345678901234567890", "007", "a10", "a2"];
        assert_eq!(shown(&ids, None), sorted);
        assert_eq!(shown(&ids, Some(5)), sorted[..5]);
        assert_eq!(shown(&ids, Some(0)), [""; 0]);
    }

    #[test]
    fn more_than_can_be_sorted_come_in_the_order_of_the_source() {
        let ids: Vec<String> = (0..SORTED + 2).rev().map(|id| id.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(shown(&ids, None), ids);
        assert_eq!(shown(&ids, Some(SORTED as u64 + 1)), ids[..=SORTED]);
        assert_eq!(shown(&ids, Some(2)), ["0", "1"]);
    }
}
