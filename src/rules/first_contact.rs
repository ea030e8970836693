//! The last look before a person is contacted for the first time: whether the lead has grown too old while it waited, whether another
//! lead has the same address, and whether Conversica works the conversation at all. Pure.
//!
//! A content that a person has let out of such a hold is not held for it again. Withdrawals of consent, updates and leads that a baseline
//! assumes to be known are not looked at.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::config::{DuplicateLeads, ServiceSettings};
use crate::conversica::lead::LeadId;
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;

/// What the settings say about first contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstContactPolicy {
    /// A lead whose `date` is longer ago is held; zero: none is.
    pub new_lead_older_than: Duration,
    pub duplicates: DuplicateLeads,
    /// First contacts of a conversation before its first sign of life; 0: no limit.
    pub canary_leads: u32,
}

impl FirstContactPolicy {
    /// Nothing is held.
    pub const NONE: FirstContactPolicy =
        FirstContactPolicy { new_lead_older_than: Duration::ZERO, duplicates: DuplicateLeads::Send, canary_leads: 0 };

    /// With the Test Lead Token no lead is a canary: all of them are tests.
    pub fn of(settings: &ServiceSettings) -> Self {
        let safety = &settings.safety;
        let is_test = settings.conversica.test_lead_token.is_some();
        Self {
            new_lead_older_than: safety.new_lead_older_than,
            duplicates: safety.duplicates,
            canary_leads: if is_test { 0 } else { safety.canary_leads },
        }
    }

    /// Whether the look at a lead depends on others, so that only one claim may look at a time.
    pub fn looks_at_others(&self) -> bool {
        self.duplicates != DuplicateLeads::Send || self.canary_leads > 0
    }

    /// What holds first contacts that a plan counts.
    pub fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.canary_leads > 0 {
            words.push(format!(
                "of each conversation that Conversica has not been seen to work, {} people are contacted first, and the others are held \
                 (canary)",
                self.canary_leads
            ));
        }
        let which = match self.duplicates {
            DuplicateLeads::Send => return words,
            DuplicateLeads::Hold => "earliest",
            DuplicateLeads::Newest => "newest",
        };
        words.push(format!(
            "of several leads with one address only the {which} is contacted, and the others are held (duplicate_person)"
        ));
        words
    }

    /// Whether this look is needed for the lead.
    pub fn concerns(&self, record: &LeadRecord) -> bool {
        *self != Self::NONE && !record.urgent && !record.may_be_contacted()
    }

    /// Whether the lead is too old by now.
    pub fn is_stale(&self, content: &FirstContent, now: DateTime<Utc>) -> bool {
        let age = content.date.and_then(|date| (now - date).to_std().ok());
        !self.new_lead_older_than.is_zero() && age.is_some_and(|age| age > self.new_lead_older_than)
    }
}

/// The keys of a Lead object that this look depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct FirstContent {
    #[serde(rename = "conversationId")]
    conversation: Option<String>,
    #[serde(default)]
    pub email: String,
    pub date: Option<DateTime<Utc>>,
}

impl FirstContent {
    pub fn read(content: &str) -> Self {
        serde_json::from_str(content).unwrap_or_default()
    }

    /// The conversation as Conversica names it; blank for leads that go without.
    pub fn conversation(&self) -> &str {
        self.conversation.as_deref().unwrap_or_default()
    }
}

/// A lead among those of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressHolder {
    pub lead: LeadId,
    /// The lead's `date`; a lead without one counts as the earliest.
    pub date: Option<DateTime<Utc>>,
    pub standing: HolderStanding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderStanding {
    /// Conversica knows the person under this id, or may know them, or is about to.
    Known,
    /// The lead waits for its first contact.
    Waiting,
    /// The lead is not going to be contacted as it is.
    Idle,
}

impl HolderStanding {
    pub fn of(record: &LeadRecord) -> Self {
        if record.may_be_contacted() {
            return Self::Known;
        }
        match record.status {
            LeadStatus::Pending | LeadStatus::Retrying => Self::Waiting,
            LeadStatus::Held if record.gone_at.is_some() => Self::Idle,
            // They may never be contacted, and must not keep back a lead that can be.
            LeadStatus::Held if record.hold_reason.is_some_and(HoldReason::is_of_content) => Self::Idle,
            LeadStatus::Held if record.hold_reason == Some(HoldReason::DuplicatePerson) => Self::Idle,
            LeadStatus::Held => Self::Waiting,
            LeadStatus::InSync
            | LeadStatus::InFlight
            | LeadStatus::Invalid
            | LeadStatus::Rejected
            | LeadStatus::Exhausted
            | LeadStatus::Gone
            | LeadStatus::Assumed
            | LeadStatus::Suppressed => Self::Idle,
        }
    }
}

impl AddressHolder {
    /// By `date`, then by id; whole numbers by their size.
    fn place(&self) -> (Option<DateTime<Utc>>, usize, &LeadId) {
        (self.date, self.lead.id.chars().count(), &self.lead)
    }
}

/// Whether another lead of the same address goes before this one.
pub fn is_duplicate(duplicates: DuplicateLeads, own: &AddressHolder, others: &[AddressHolder]) -> bool {
    let goes_before = |other: &AddressHolder| match (duplicates, other.standing) {
        (DuplicateLeads::Send, _) | (_, HolderStanding::Idle) => false,
        (DuplicateLeads::Hold | DuplicateLeads::Newest, HolderStanding::Known) => true,
        (DuplicateLeads::Hold, HolderStanding::Waiting) => other.place() < own.place(),
        (DuplicateLeads::Newest, HolderStanding::Waiting) => other.place() > own.place(),
    };
    others.iter().any(|other| other.lead != own.lead && goes_before(other))
}

/// A conversation without a worked lead this long after its first contact may not be active at Conversica. Most first messages are
/// sent or planned within hours; and an inactive conversation that is activated works only the leads of the last 24 hours.
pub const SILENT_AFTER: TimeDelta = TimeDelta::hours(12);

/// How a conversation has gone so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConversationProgress {
    /// People contacted for the first time, requests in flight among them.
    pub contacted: i64,
    /// Conversica has worked one of them.
    pub is_worked: bool,
}

impl ConversationProgress {
    /// Whether one more person may be contacted.
    pub fn has_room(&self, canary_leads: u32) -> bool {
        canary_leads == 0 || self.is_worked || self.contacted < i64::from(canary_leads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(id: &str, days: Option<i64>, standing: HolderStanding) -> AddressHolder {
        let date = days.map(|days| DateTime::UNIX_EPOCH + chrono::TimeDelta::days(days));
        AddressHolder { lead: LeadId { id: id.to_owned(), client_id: String::new() }, date, standing }
    }

    #[test]
    fn ids_of_equal_dates_go_by_their_size() {
        let (nine, ten) = (holder("9", None, HolderStanding::Waiting), holder("10", None, HolderStanding::Waiting));
        let all = [nine.clone(), ten.clone()];
        assert!(!is_duplicate(DuplicateLeads::Hold, &nine, &all) && is_duplicate(DuplicateLeads::Hold, &ten, &all));
        assert!(is_duplicate(DuplicateLeads::Newest, &nine, &all) && !is_duplicate(DuplicateLeads::Newest, &ten, &all));
    }

    #[test]
    fn a_lead_is_stale_from_the_moment_at_which_it_is_older_than_the_setting() {
        let policy = FirstContactPolicy { new_lead_older_than: Duration::from_secs(3600), ..FirstContactPolicy::NONE };
        let content = FirstContent::read(r#"{"date":"2026-01-01T00:00:00+00:00"}"#);
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert!(!policy.is_stale(&content, at("2026-01-01T01:00:00Z")));
        assert!(policy.is_stale(&content, at("2026-01-01T01:00:01Z")));
        assert!(!policy.is_stale(&content, at("2025-01-01T00:00:00Z")), "a date in the future");
        assert!(!policy.is_stale(&FirstContent::default(), at("2026-01-01T01:00:01Z")), "no date");
        assert!(!FirstContactPolicy::NONE.is_stale(&content, at("2036-01-01T00:00:00Z")), "off");
    }

    #[test]
    fn so_many_go_first_until_one_is_worked() {
        let progress = |contacted, is_worked| ConversationProgress { contacted, is_worked };
        assert!(progress(2, false).has_room(3) && !progress(3, false).has_room(3));
        assert!(progress(3, true).has_room(3) && progress(9, false).has_room(0));
    }

    proptest! {
        #[test]
        fn of_one_address_exactly_one_waiting_lead_goes_unless_one_is_known(
            leads in proptest::collection::vec((prop::option::of(0i64..4), 0usize..3), 1..8), newest in any::<bool>()
        ) {
            let standing = [HolderStanding::Known, HolderStanding::Waiting, HolderStanding::Idle];
            let all: Vec<_> =
                leads.iter().enumerate().map(|(id, (days, of))| holder(&id.to_string(), *days, standing[*of])).collect();
            let duplicates = if newest { DuplicateLeads::Newest } else { DuplicateLeads::Hold };
            let waiting: Vec<_> = all.iter().filter(|lead| lead.standing == HolderStanding::Waiting).collect();
            let go = waiting.iter().filter(|lead| !is_duplicate(duplicates, lead, &all)).count();
            let is_known = all.iter().any(|lead| lead.standing == HolderStanding::Known);
            prop_assert_eq!(go, usize::from(!is_known && !waiting.is_empty()));
            prop_assert!(waiting.iter().all(|lead| !is_duplicate(DuplicateLeads::Send, lead, &all)));
        }
    }
}
