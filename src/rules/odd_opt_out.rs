//! How many odd opt-out values one poll may send as withdrawals without asking the operator. Pure.
//!
//! An odd value is neither yes nor no and names no opt-out: `2`, a date, `New`. One of them in an opt-out column is most likely
//! an opt-out, and is sent. Many of them most likely mean that the column holds something else. Conversica cannot undo an
//! opt-out, so the operator decides about those.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::conversica::lead::LeadKey;
use crate::rules::mapping::MappedRow;
use crate::rules::mapping::opt_out::{COUNTS_AS_OPT_OUT, TOO_MANY_OPT_OUTS};

/// Up to this many odd values of one key are always sent.
const ALWAYS_SENT: u64 = 5;
/// More than this are never sent by one poll, however many rows it reads.
const NEVER_SENT: u64 = 100;

/// The opt-out columns, as the last poll knew them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutColumns {
    /// A fingerprint of the mapping of each key.
    pub mapped: BTreeMap<LeadKey, String>,
    /// Keys whose odd values wait for the operator, until a full compare finds none that would be sent.
    pub doubted: BTreeSet<LeadKey>,
    /// Since the last comparison of every row: how many odd values of each key were sent, and how many rows the polls that sent
    /// them have read.
    #[serde(default)]
    pub sent: BTreeMap<LeadKey, (u64, u64)>,
}

impl OptOutColumns {
    /// The columns as `[lead]` maps them now. A key whose mapping has changed is doubted: its column may be the wrong one.
    /// Without an `earlier` record, `mapping_changed` says whether anything in `[lead]` has changed.
    pub fn renewed(mapped: BTreeMap<LeadKey, String>, earlier: Option<&Self>, mapping_changed: MappingChange) -> Self {
        let is_doubted = |key: &LeadKey| match earlier {
            Some(earlier) => earlier.doubted.contains(key) || earlier.mapped.get(key) != mapped.get(key),
            None => mapping_changed == MappingChange::Changed,
        };
        let doubted: BTreeSet<LeadKey> = mapped.keys().copied().filter(is_doubted).collect();
        let mut sent = earlier.map(|earlier| earlier.sent.clone()).unwrap_or_default();
        sent.retain(|key, _| !doubted.contains(key));
        Self { mapped, doubted, sent }
    }

    /// Whether a key has too many odd values for its number of rows, together with those that earlier polls have sent.
    pub fn are_too_many(&self, key: LeadKey, odd: u64, rows: u64) -> bool {
        let (odd_before, rows_before) = self.sent.get(&key).copied().unwrap_or_default();
        are_too_many(odd + odd_before, rows + rows_before)
    }

    /// Counts what a poll has sent of a key.
    pub fn add_sent(&mut self, key: LeadKey, odd: u64, rows: u64) {
        let sent = self.sent.entry(key).or_default();
        *sent = (sent.0 + odd, sent.1 + rows);
    }
}

/// Whether `[lead]` has changed since the last poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingChange {
    Unchanged,
    Changed,
}

/// Whether `odd` values of one key among `rows` rows are too many to be opt-outs.
const fn are_too_many(odd: u64, rows: u64) -> bool {
    odd > NEVER_SENT || odd > ALWAYS_SENT && odd > rows / 10
}

/// Removes from the row the withdrawals by odd values of these keys: nothing is sent for it, and its reasons say why.
pub fn hold_odd(mut mapped: MappedRow, doubted: &BTreeSet<LeadKey>) -> MappedRow {
    let held: BTreeSet<LeadKey> = mapped.odd.iter().copied().filter(|key| doubted.contains(key)).collect();
    mapped.odd.retain(|key| !held.contains(key));
    mapped.withdrawn.retain(|key| !held.contains(key));
    let Err(reasons) = &mut mapped.desired else { return mapped };
    for key in held {
        let name = format!("{}: ", key.name());
        let counts = reasons.iter_mut().find(|why| why.starts_with(&name) && why.contains(COUNTS_AS_OPT_OUT));
        match counts {
            Some(why) => *why = why.replace(COUNTS_AS_OPT_OUT, TOO_MANY_OPT_OUTS),
            // If several rows share the key, the reasons do not mention their values yet.
            None => reasons.push(format!("{name}{TOO_MANY_OPT_OUTS}")),
        }
    }
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversica::lead::LeadId;
    use LeadKey::{OptOut, StopMessaging};

    #[test]
    fn a_handful_of_odd_values_is_sent_and_a_large_share_or_number_is_not() {
        for (odd, rows, too_many) in
            [(1, 1, false), (5, 5, false), (6, 6, true), (6, 100, false), (11, 100, true), (101, 100_000, true)]
        {
            assert_eq!(are_too_many(odd, rows), too_many, "{odd} of {rows}");
        }
    }

    #[test]
    fn a_few_odd_values_of_each_poll_add_up() {
        let mut columns = OptOutColumns::default();
        for _ in 0..2 {
            assert!(!columns.are_too_many(OptOut, 2, 4));
            columns.add_sent(OptOut, 2, 4);
        }
        assert!(columns.are_too_many(OptOut, 2, 4), "6 of 12");
        assert!(!columns.are_too_many(StopMessaging, 2, 4), "another column");
        assert!(!columns.are_too_many(OptOut, 2, 1_000), "a column of many rows");
    }

    #[test]
    fn a_key_is_doubted_once_its_mapping_changes_and_as_long_as_it_was() {
        let mapped = |status: &str| BTreeMap::from([(OptOut, status.to_owned()), (StopMessaging, "stop".to_owned())]);
        let earlier = OptOutColumns { mapped: mapped("opt_out"), ..OptOutColumns::default() };
        let doubted = |now: &str, earlier: Option<&OptOutColumns>, change| {
            OptOutColumns::renewed(mapped(now), earlier, change).doubted.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(doubted("opt_out", Some(&earlier), MappingChange::Changed), [], "another key has changed");
        assert_eq!(doubted("status", Some(&earlier), MappingChange::Changed), [OptOut]);
        assert_eq!(doubted("status", None, MappingChange::Changed), [OptOut, StopMessaging], "an upgrade");
        assert_eq!(doubted("status", None, MappingChange::Unchanged), []);
        let still =
            OptOutColumns { mapped: mapped("status"), doubted: BTreeSet::from([OptOut]), ..OptOutColumns::default() };
        assert_eq!(doubted("status", Some(&still), MappingChange::Unchanged), [OptOut]);
    }

    #[test]
    fn a_row_whose_odd_value_waits_keeps_its_clear_withdrawals() {
        let mapped = MappedRow {
            lead: LeadId::default(),
            desired: Err(vec![format!("optOut: {COUNTS_AS_OPT_OUT} (column \"status\")")]),
            withdrawn: vec![OptOut, StopMessaging],
            odd: vec![OptOut],
            row_hash: None,
            grounds: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        };
        let held = hold_odd(mapped.clone(), &BTreeSet::from([OptOut]));
        assert_eq!(held.withdrawn, [StopMessaging]);
        assert_eq!(held.desired, Err(vec![format!("optOut: {TOO_MANY_OPT_OUTS} (column \"status\")")]));
        assert_eq!(hold_odd(mapped.clone(), &BTreeSet::from([StopMessaging])), mapped, "its value is clear");
    }
}
