//! The numbers of a plan, in bounded memory: names beyond a limit are counted together. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::conversica::lead::LeadId;
use crate::rules::contact_quality;
use crate::rules::hold_reason::HoldReason;
use crate::rules::mapping::MappedRow;
use crate::rules::name_counts::{CountedName, LeadNames, NameCounts};
use crate::rules::operator_pause::PauseShown;
use crate::rules::plan_address::SameEmail;
use crate::rules::plan_forecast::PlanForecast;

/// The numbers of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlanTotals {
    pub create: u64,
    pub update: u64,
    /// First requests to leads that a baseline assumes to be known to Conversica: neither new people nor updates.
    pub assumed_known: u64,
    pub stop: u64,
    pub invalid: u64,
    /// New people who are not introduced, because they have opted out elsewhere.
    pub suppressed: u64,
    /// Nothing to send: delivered already, or waiting for the operator after a rejection.
    pub unchanged: u64,
    /// Leads whose row contradicts the person's own opt-out, which counts.
    pub kept_opt_outs: u64,
    /// Leads no longer in the source.
    pub gone: u64,
    /// Rows of erased people, which are ignored.
    pub erased: u64,
    /// Rows whose key names no lead: none at all, not valid UTF-8, too long. While there are any, no lead is marked gone.
    pub unnamed: u64,
    /// People who would be contacted for the first time.
    pub new_people: u64,
    /// New people by `conversationId`; blank without one. At most [`CONVERSATIONS`] conversations.
    pub new_people_by_conversation: BTreeMap<String, u64>,
    /// People in conversations beyond those.
    pub new_people_in_other_conversations: u64,
    /// The conversations of all valid leads that the plan has looked at, the most frequent first.
    pub conversations: Vec<CountedName>,
    /// Their reps.
    pub reps: Vec<CountedName>,
    /// Pairs of names among either that look like one: Conversica matches names to the letter.
    pub names_that_look_alike: Vec<[String; 2]>,
    /// The most frequent reasons; a lead counts for each of its reasons.
    pub invalid_reasons: Vec<RowReason>,
    /// How often other reasons were found.
    pub invalid_other_reasons: u64,
    /// The most frequent notes on valid rows: values that were cleaned, and keys that are left out.
    pub notes: Vec<RowReason>,
    /// How often other notes were made.
    pub other_notes: u64,
    /// The most frequent doubts about addresses and first names of valid rows, which are sent all the same.
    pub doubts: Vec<RowReason>,
    /// For leads that Conversica has: key → number of leads for which it would change.
    pub changed_keys: BTreeMap<String, u64>,
    /// E-mail addresses that leads to be sent have under more than one id.
    pub same_email: u64,
    pub same_email_examples: Vec<SameEmail>,
    /// Leads to be sent whose addresses were not compared with the others, because there are too many.
    pub same_email_uncompared: u64,
    /// Nothing is sent during this halt.
    pub halt: Option<PlannedHalt>,
    /// What operators have paused: of the rest, only withdrawals of consent are sent.
    pub pause: Option<PauseShown>,
    /// `[safety] first_run = "baseline"` would treat all of it as delivered.
    pub baseline: bool,
    /// While the Test Lead Token is set.
    pub test_leads: Option<TestLeads>,
    pub forecast: Option<PlanForecast>,
    /// Why the sends wait for approval, or would wait after a poll.
    pub hold: Option<HoldReason>,
    /// These leads alone would wait, and the others would be sent; empty where `hold` is about all of them.
    #[serde(skip)]
    pub held_singly: BTreeMap<HoldReason, u64>,
    /// Leads in the state that already wait for approval.
    pub held: HeldShown,
    /// What the last look before first contacts holds besides, in words; the plan does not foresee which leads.
    pub before_first_contacts: Vec<String>,
}

impl PlanTotals {
    /// Requests that a poll would send.
    pub fn requests(&self) -> u64 {
        self.create + self.update + self.assumed_known + self.stop
    }

    /// The people that the caps on first contacts count: all who were never sent from here.
    pub fn first_contacts(&self) -> u64 {
        self.new_people + self.assumed_known
    }
}

/// Why rows are invalid, or a note on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowReason {
    pub reason: String,
    pub leads: u64,
    /// The first of them.
    pub first: Vec<LeadId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedHalt {
    pub reason: &'static str,
    pub since: DateTime<Utc>,
    pub cure: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TestLeads {
    pub limit: u32,
    /// How many more leads may be sent.
    pub left: i64,
}

/// The held leads, in the form that `approve --shown` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HeldShown {
    pub leads: i64,
    /// People among them who were never sent from here.
    pub new_people: i64,
    /// New people that a baseline assumes to be known to Conversica.
    pub assumed_known: i64,
    /// Leads among them whose row is missing from the source.
    pub missing: i64,
    /// Reason → leads.
    pub reasons: BTreeMap<String, i64>,
    /// Identifies this set: leads that join later are not in it. Blank if no lead is held.
    pub shown: String,
}

/// More conversations than any customer has; a wrong mapping may find one in each row.
pub const CONVERSATIONS: usize = 1000;
/// More than the mapping can give: reasons and keys name columns and keys, never values.
const REASONS: usize = 1000;
const KEYS: usize = 1000;
/// Conversations and reps that are listed.
const NAMES_SHOWN: usize = 100;
/// Reasons that are shown, and leads of each.
const REASONS_SHOWN: usize = 10;
const LEADS_OF_ONE: usize = 5;

/// Counts by name, while the plan reads the rows.
#[derive(Debug)]
pub struct PlanCounts {
    conversations: NamedCounts,
    reasons: NamedCounts,
    notes: NamedCounts,
    doubts: NamedCounts,
    keys: NamedCounts,
    names: LeadNames,
}

impl Default for PlanCounts {
    fn default() -> Self {
        let (conversations, keys) = (NamedCounts::up_to(CONVERSATIONS), NamedCounts::up_to(KEYS));
        Self {
            conversations,
            reasons: NamedCounts::up_to(REASONS),
            notes: NamedCounts::up_to(REASONS),
            doubts: NamedCounts::up_to(REASONS),
            keys,
            names: LeadNames::default(),
        }
    }
}

impl PlanCounts {
    pub fn new_person(&mut self, conversation: &str) {
        self.conversations.add(conversation, None);
    }

    pub fn invalid<'r>(&mut self, reasons: impl Iterator<Item = &'r String>, lead: (&str, &str)) {
        reasons.for_each(|reason| self.reasons.add(reason, Some(lead)));
    }

    /// What every row counts for, whether it is sent or not.
    pub fn row(&mut self, mapped: &MappedRow) {
        if let Ok(content) = &mapped.desired {
            self.names.add(content);
            for doubt in contact_quality::doubts(content) {
                self.doubts.add(&doubt, Some(mapped.lead.as_pair()));
            }
        }
        mapped.notes.iter().for_each(|note| self.notes.add(note, Some(mapped.lead.as_pair())));
    }

    pub fn changed<'k>(&mut self, keys: impl Iterator<Item = &'k String>) {
        keys.for_each(|key| self.keys.add(key, None));
    }

    pub fn put_into(self, totals: &mut PlanTotals) {
        let counts = |counted: NamedCounts| -> BTreeMap<String, u64> {
            counted.by_name.into_iter().map(|(name, (count, _))| (name, count)).collect()
        };
        (totals.invalid_reasons, totals.invalid_other_reasons) = self.reasons.most_frequent(REASONS_SHOWN);
        (totals.notes, totals.other_notes) = self.notes.most_frequent(REASONS_SHOWN);
        (totals.doubts, _) = self.doubts.most_frequent(REASONS_SHOWN);
        totals.new_people_in_other_conversations = self.conversations.others;
        totals.new_people_by_conversation = counts(self.conversations);
        totals.changed_keys = counts(self.keys);
        let first = |names: &NameCounts| names.list().into_iter().take(NAMES_SHOWN).collect();
        (totals.conversations, totals.reps) = (first(&self.names.conversations), first(&self.names.reps));
        totals.names_that_look_alike = self.names.conversations.near();
        totals.names_that_look_alike.extend(self.names.reps.near());
    }
}

/// Counts by name, of at most `most` names.
#[derive(Debug)]
struct NamedCounts {
    by_name: BTreeMap<String, (u64, Vec<LeadId>)>,
    most: usize,
    others: u64,
}

impl NamedCounts {
    fn up_to(most: usize) -> Self {
        Self { by_name: BTreeMap::new(), most, others: 0 }
    }

    fn add(&mut self, name: &str, lead: Option<(&str, &str)>) {
        let full = self.by_name.len() >= self.most;
        let (count, first) = match self.by_name.get_mut(name) {
            Some(known) => known,
            None if full => {
                self.others += 1;
                return;
            }
            None => self.by_name.entry(name.to_owned()).or_default(),
        };
        *count += 1;
        if first.len() < LEADS_OF_ONE
            && let Some((id, client_id)) = lead
        {
            first.push(LeadId { id: id.to_owned(), client_id: client_id.to_owned() });
        }
    }

    /// The most frequent names, and the number of the others; equal counts are in the order of their names.
    fn most_frequent(self, wanted: usize) -> (Vec<RowReason>, u64) {
        let mut all: Vec<RowReason> =
            self.by_name.into_iter().map(|(reason, (leads, first))| RowReason { reason, leads, first }).collect();
        all.sort_by_key(|reason| std::cmp::Reverse(reason.leads));
        let others = all.iter().skip(wanted).map(|reason| reason.leads).sum::<u64>() + self.others;
        all.truncate(wanted);
        (all, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_in_counting_and_no_more_names_are_kept_than_may_be(
            names in proptest::collection::vec(0u16..40, 0..200), most in 1usize..50, wanted in 0usize..20,
        ) {
            let mut counted = NamedCounts::up_to(most);
            for (id, name) in names.iter().enumerate() {
                counted.add(&format!("{name:02}"), Some((&id.to_string(), "")));
            }
            prop_assert!(counted.by_name.len() <= most);
            let (reasons, others) = counted.most_frequent(wanted);
            prop_assert_eq!(reasons.iter().map(|reason| reason.leads).sum::<u64>() + others, names.len() as u64);
            prop_assert!(reasons.is_sorted_by(|a, b| a.leads >= b.leads) && reasons.len() <= wanted);
            for reason in &reasons {
                let of = |lead: &LeadId| format!("{:02}", names[lead.id.parse::<usize>().unwrap()]);
                prop_assert!(reason.first.iter().all(|lead| of(lead) == reason.reason));
                prop_assert_eq!(reason.first.len() as u64, reason.leads.min(LEADS_OF_ONE as u64));
            }
        }
    }
}
