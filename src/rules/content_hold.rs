//! Holds that follow from the content of a single lead: names that Conversica does not know, and first contacts that come late. Pure.
//!
//! Each content decides for itself: the hold ends when the row or the settings change so that the reason does not apply any more.
//! Withdrawals of consent are never held.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::config::{ConversationChanges, ServiceSettings};
use crate::rules::hold_reason::HoldReason;
use crate::rules::lead_change::ChangeKind;

/// What the settings say about the contents of single leads, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHoldPolicy {
    conversation_changes: ConversationChanges,
    names: ExpectedNames,
    /// A lead whose `date` is before this is too old for a first contact; `None`: no lead is.
    oldest: Option<DateTime<Utc>>,
}

/// The names that Conversica knows; an empty list means all names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedNames {
    conversations: BTreeSet<String>,
    reps: BTreeSet<String>,
}

impl ExpectedNames {
    pub fn new(settings: &ServiceSettings) -> Self {
        let trimmed = |names: &[String]| names.iter().map(|name| name.trim().to_owned()).collect();
        Self { conversations: trimmed(&settings.conversica.conversations), reps: trimmed(&settings.conversica.reps) }
    }

    fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.reps.is_empty()
    }

    /// The reason if a name of the content is not expected. A name that Conversica has accepted for this lead needs no further
    /// approval.
    fn unknown_name(&self, content: &JudgedContent, delivered: Option<&JudgedContent>) -> Option<HoldReason> {
        let is_unknown = |names: &BTreeSet<String>, name: Option<&String>, accepted: Option<&String>| {
            !names.is_empty() && name.is_some_and(|name| !names.contains(name)) && name != accepted
        };
        let accepted_conversation = delivered.and_then(|delivered| delivered.conversation.as_ref());
        let accepted_rep = delivered.and_then(|delivered| delivered.rep.as_ref());
        if is_unknown(&self.conversations, content.conversation.as_ref(), accepted_conversation) {
            Some(HoldReason::UnknownConversation)
        } else if is_unknown(&self.reps, content.rep.as_ref(), accepted_rep) {
            Some(HoldReason::UnknownRep)
        } else {
            None
        }
    }
}

/// The keys of a Lead object that these holds depend on.
#[derive(Debug, Default, Deserialize)]
struct JudgedContent {
    #[serde(rename = "conversationId")]
    conversation: Option<String>,
    #[serde(rename = "repName")]
    rep: Option<String>,
    date: Option<DateTime<Utc>>,
}

impl JudgedContent {
    fn read(content: &str) -> Self {
        serde_json::from_str(content).unwrap_or_default()
    }
}

impl ContentHoldPolicy {
    pub fn new(settings: &ServiceSettings, now: DateTime<Utc>) -> Self {
        let safety = &settings.safety;
        let oldest = Some(safety.new_lead_older_than).filter(|age| !age.is_zero());
        Self {
            conversation_changes: safety.conversation_changes,
            names: ExpectedNames::new(settings),
            oldest: oldest.and_then(|age| now.checked_sub_signed(chrono::Duration::from_std(age).ok()?)),
        }
    }

    /// No content is held: a baseline decides about all of them.
    pub fn none() -> Self {
        let names = ExpectedNames { conversations: BTreeSet::new(), reps: BTreeSet::new() };
        Self { conversation_changes: ConversationChanges::Send, names, oldest: None }
    }

    /// Whether the judgement of an update depends on the content that Conversica accepted last.
    pub fn needs_delivered(&self) -> bool {
        self.conversation_changes == ConversationChanges::Hold || !self.names.is_empty()
    }

    /// Why a lead with this content waits for approval. `delivered` is the content accepted last, if [`Self::needs_delivered`].
    pub fn reason(&self, content: &str, kind: ChangeKind, delivered: Option<&str>) -> Option<HoldReason> {
        let is_first = match kind {
            ChangeKind::Create => true,
            ChangeKind::Update => false,
            ChangeKind::Stop | ChangeKind::Reverted | ChangeKind::Invalid | ChangeKind::Suppressed => return None,
        };
        if !self.needs_delivered() && (self.oldest.is_none() || !is_first) {
            return None;
        }
        let content = JudgedContent::read(content);
        let delivered = delivered.filter(|_| !is_first).map(JudgedContent::read);
        let changes_conversation = !is_first
            && self.conversation_changes == ConversationChanges::Hold
            && content.conversation != delivered.as_ref().and_then(|delivered| delivered.conversation.clone());
        let is_stale = is_first && content.date.is_some_and(|date| self.oldest.is_some_and(|oldest| date < oldest));
        let of_names = self.names.unknown_name(&content, delivered.as_ref());
        of_names
            .or(changes_conversation.then_some(HoldReason::ConversationChanged))
            .or(is_stale.then_some(HoldReason::StaleLead))
    }
}

#[cfg(test)]
impl ContentHoldPolicy {
    pub fn of_conversations(conversation_changes: ConversationChanges) -> Self {
        Self { conversation_changes, ..Self::none() }
    }

    pub fn of_reps(reps: &[&str]) -> Self {
        let reps = reps.iter().map(|rep| (*rep).to_owned()).collect();
        Self { names: ExpectedNames { conversations: BTreeSet::new(), reps }, ..Self::none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "2026-01-01T00:00:00+00:00";
    const NEW: &str = "2026-03-01T00:00:00+00:00";

    fn policy(conversations: &[&str], reps: &[&str]) -> ContentHoldPolicy {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ContentHoldPolicy {
            conversation_changes: ConversationChanges::Send,
            names: ExpectedNames { conversations: set(conversations), reps: set(reps) },
            oldest: Some("2026-02-01T00:00:00Z".parse().unwrap()),
        }
    }

    fn content(conversation: &str, rep: &str, date: &str) -> String {
        serde_json::json!({ "conversationId": conversation, "repName": rep, "date": date }).to_string()
    }

    #[test]
    fn a_name_that_no_list_has_is_held_and_each_list_counts_only_if_it_has_entries() {
        let held = |policy: &ContentHoldPolicy, conversation, rep| {
            policy.reason(&content(conversation, rep, NEW), ChangeKind::Create, None)
        };
        let both = policy(&["Inbound"], &["Rae Roe"]);
        assert_eq!(held(&both, "Inbound", "Rae Roe"), None);
        assert_eq!(held(&both, "inbound", "Rae Roe"), Some(HoldReason::UnknownConversation), "case counts");
        assert_eq!(held(&both, "Inbound", "Rae  Roe"), Some(HoldReason::UnknownRep));
        assert_eq!(held(&both, "Winback", "Nobody"), Some(HoldReason::UnknownConversation));
        assert_eq!(held(&policy(&[], &["Rae Roe"]), "Winback", "Rae Roe"), None);
        let without = r#"{"repName":"Rae Roe"}"#;
        assert_eq!(both.reason(without, ChangeKind::Create, None), None, "no conversation is no other conversation");
    }

    #[test]
    fn an_approved_name_stays_approved_for_its_lead() {
        let policy = policy(&["Inbound"], &["Rae Roe"]);
        let delivered = content("Winback", "Jo", NEW);
        let update =
            |conversation, rep| policy.reason(&content(conversation, rep, NEW), ChangeKind::Update, Some(&delivered));
        assert_eq!(update("Winback", "Jo"), None);
        assert_eq!(update("Spring", "Jo"), Some(HoldReason::UnknownConversation));
        assert_eq!(update("Winback", "Ann"), Some(HoldReason::UnknownRep));
        assert_eq!(update("Inbound", "Rae Roe"), None);
        assert_eq!(
            policy.reason(&delivered, ChangeKind::Update, None),
            Some(HoldReason::UnknownConversation),
            "unknown what Conversica has"
        );
    }

    #[test]
    fn only_a_first_contact_can_come_too_late() {
        let policy = policy(&[], &[]);
        let reason = |date, kind| policy.reason(&content("A", "B", date), kind, None);
        assert_eq!(reason(OLD, ChangeKind::Create), Some(HoldReason::StaleLead));
        assert_eq!(reason("2026-02-01T00:00:00+00:00", ChangeKind::Create), None, "not older");
        assert_eq!((reason(NEW, ChangeKind::Create), reason(OLD, ChangeKind::Update)), (None, None));
        assert_eq!(policy.reason(r#"{"repName":"B"}"#, ChangeKind::Create, None), None, "no date");
        assert_eq!(ContentHoldPolicy::none().reason(&content("A", "B", OLD), ChangeKind::Create, None), None);
    }

    #[test]
    fn a_changed_conversation_is_held_where_the_setting_says_so() {
        let mut policy = policy(&["Inbound", "Winback"], &[]);
        let delivered = content("Inbound", "Rae", OLD);
        let changed = content("Winback", "Rae", OLD);
        assert_eq!(policy.reason(&changed, ChangeKind::Update, Some(&delivered)), None);
        policy.conversation_changes = ConversationChanges::Hold;
        let reason = policy.reason(&changed, ChangeKind::Update, Some(&delivered));
        assert_eq!(reason, Some(HoldReason::ConversationChanged));
        let unknown = policy.reason(&content("Spring", "Rae", OLD), ChangeKind::Update, Some(&delivered));
        assert_eq!(unknown, Some(HoldReason::UnknownConversation), "it can be fixed in the settings");
    }

    proptest! {
        #[test]
        fn a_withdrawal_is_never_held(
            conversation in "[A-C]", rep in "[A-C]", is_old in any::<bool>(), lists in (0usize..3, 0usize..3)
        ) {
            let lists = (&["A", "B"][..lists.0.min(2)], &["A", "B"][..lists.1.min(2)]);
            let policy = policy(lists.0, lists.1);
            let content = content(&conversation, &rep, if is_old { OLD } else { NEW });
            for kind in [ChangeKind::Stop, ChangeKind::Reverted, ChangeKind::Invalid, ChangeKind::Suppressed] {
                prop_assert_eq!(policy.reason(&content, kind, None), None);
            }
            let is_listed = |list: &[&str], name: &str| list.is_empty() || list.contains(&name);
            let may_go = is_listed(lists.0, &conversation) && is_listed(lists.1, &rep) && !is_old;
            prop_assert_eq!(policy.reason(&content, ChangeKind::Create, None).is_none(), may_go);
        }
    }
}
