//! Why leads wait for approval: the reasons, and what the operator can do about each.

use serde::{Deserialize, Serialize};

/// Why a lead waits for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    FirstRun,
    TooManyChanges,
    MappingChanged,
    ConversationChanged,
    Ambiguous,
    SourceShrank,
    TestLeadLimit,
    Restored,
    /// A person has many leads sent again.
    Resend,
    /// `conversica.conversations` does not list the lead's conversation.
    UnknownConversation,
    /// `conversica.reps` does not list the lead's rep.
    UnknownRep,
    /// A first contact of a lead whose `date` is older than `safety.new_lead_older_than`.
    StaleLead,
    /// Conversica has not worked any lead of the conversation, and `safety.canary_leads` have gone to it.
    Canary,
    /// Another lead has the same e-mail address, and `safety.duplicates` says that only one of them is contacted.
    DuplicatePerson,
    /// Found by a poll that has not judged its sends yet.
    Staged,
}

impl HoldReason {
    /// Holds of whole polls: while one is in force, the sends of later polls join it. The first one counts.
    pub const OF_POLLS: [HoldReason; 5] = [
        HoldReason::FirstRun,
        HoldReason::SourceShrank,
        HoldReason::TooManyChanges,
        HoldReason::MappingChanged,
        HoldReason::Restored,
    ];

    pub const ALL: [HoldReason; 15] = [
        HoldReason::FirstRun,
        HoldReason::TooManyChanges,
        HoldReason::MappingChanged,
        HoldReason::ConversationChanged,
        HoldReason::Ambiguous,
        HoldReason::SourceShrank,
        HoldReason::TestLeadLimit,
        HoldReason::Restored,
        HoldReason::Resend,
        HoldReason::UnknownConversation,
        HoldReason::UnknownRep,
        HoldReason::StaleLead,
        HoldReason::Canary,
        HoldReason::DuplicatePerson,
        HoldReason::Staged,
    ];

    /// The name in the state, in `status` and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            HoldReason::FirstRun => "first_run",
            HoldReason::TooManyChanges => "too_many_changes",
            HoldReason::MappingChanged => "mapping_changed",
            HoldReason::ConversationChanged => "conversation_changed",
            HoldReason::Ambiguous => "ambiguous",
            HoldReason::SourceShrank => "source_shrank",
            HoldReason::TestLeadLimit => "test_lead_limit",
            HoldReason::Restored => "restored",
            HoldReason::Resend => "resend",
            HoldReason::UnknownConversation => "unknown_conversation",
            HoldReason::UnknownRep => "unknown_rep",
            HoldReason::StaleLead => "stale_lead",
            HoldReason::Canary => "canary",
            HoldReason::DuplicatePerson => "duplicate_person",
            HoldReason::Staged => "staged",
        }
    }

    /// Whether the content of the lead alone decides about this hold, with the settings: it ends when they say otherwise.
    pub const fn is_of_content(self) -> bool {
        match self {
            HoldReason::UnknownConversation | HoldReason::UnknownRep | HoldReason::StaleLead => true,
            HoldReason::FirstRun
            | HoldReason::TooManyChanges
            | HoldReason::MappingChanged
            | HoldReason::ConversationChanged
            | HoldReason::Ambiguous
            | HoldReason::SourceShrank
            | HoldReason::TestLeadLimit
            | HoldReason::Restored
            | HoldReason::Resend
            | HoldReason::Canary
            | HoldReason::DuplicatePerson
            | HoldReason::Staged => false,
        }
    }

    /// The place of the reason among those of the last look before a first contact, which looks for them in this order; `None` for others.
    pub const fn place_in_last_look(self) -> Option<u8> {
        match self {
            HoldReason::StaleLead => Some(1),
            HoldReason::DuplicatePerson => Some(2),
            HoldReason::Canary => Some(3),
            HoldReason::FirstRun
            | HoldReason::TooManyChanges
            | HoldReason::MappingChanged
            | HoldReason::ConversationChanged
            | HoldReason::Ambiguous
            | HoldReason::SourceShrank
            | HoldReason::TestLeadLimit
            | HoldReason::Restored
            | HoldReason::Resend
            | HoldReason::UnknownConversation
            | HoldReason::UnknownRep
            | HoldReason::Staged => None,
        }
    }

    /// Whether a lead that a person let out of the hold `approved` is not held for this reason: the last look had come past it.
    pub fn is_approved_by(self, approved: Option<HoldReason>) -> bool {
        let approved = approved.and_then(HoldReason::place_in_last_look);
        self.place_in_last_look().is_some_and(|place| approved.is_some_and(|approved| place <= approved))
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// What the operator can do about leads held for this reason.
    pub const fn advice(self) -> &'static str {
        match self {
            HoldReason::FirstRun => {
                "`approve` contacts everybody who is there today, `baseline` assumes that Conversica knows them"
            }
            HoldReason::ConversationChanged => {
                "another conversation may start a new series of messages: `approve` sends it, `baseline` leaves things as they are"
            }
            HoldReason::Ambiguous => {
                "Conversica may or may not have them: ask it, then `approve` to send them again, or `baseline` if they arrived"
            }
            HoldReason::TestLeadLimit => {
                "the Test Lead Token is set: raise [conversica] test_lead_limit, or remove test_lead_token and `approve` to send to \
                 the real assistants"
            }
            HoldReason::SourceShrank => {
                "most of the leads that were known are missing from the source: fix it, and this ends by itself within minutes; if \
                 they are really gone, `approve` (which stops their messages where on_delete says so) or `baseline` (which sends nothing)"
            }
            HoldReason::Restored => {
                "the state came out of a backup, and is older than what Conversica holds: look at `plan`, mind opt-outs heard since the \
                 backup, then `approve` sends it, `baseline` takes it as delivered"
            }
            HoldReason::Resend => {
                "more leads than approve_above were to be sent again: `approve` sends those whose rows the next poll still finds, `baseline` \
                 leaves things as they are"
            }
            HoldReason::UnknownConversation => {
                "[conversica] conversations does not list their conversation: fix the row, or add the name if Conversica has it, and \
                 this ends by itself; `approve` sends them as they are"
            }
            HoldReason::UnknownRep => {
                "[conversica] reps does not list their rep: fix the row, or add the name if Conversica has such a user, and this ends \
                 by itself; `approve` sends them as they are"
            }
            HoldReason::StaleLead => {
                "their `date` is older than [safety] new_lead_older_than: `approve` contacts these people all the same, `baseline` \
                 leaves them alone"
            }
            HoldReason::Canary => {
                "Conversica has not worked any lead of their conversation yet: see that the conversation is active there; this ends by \
                 itself with the first sign of it, `approve` sends them now"
            }
            HoldReason::DuplicatePerson => {
                "another lead has their e-mail address: merge them in the CRM, `approve` contacts these people under this id too, \
                 `baseline` leaves them alone"
            }
            HoldReason::MappingChanged => {
                "`approve` sends all of them as [lead] has it now: an update to a person that Conversica knows, a first message to \
                 anybody else; `baseline` sends only later changes"
            }
            HoldReason::Staged => "the next pass decides about them: nothing has to be done",
            HoldReason::TooManyChanges => "`approve` sends them, `baseline` takes them as delivered",
        }
    }
}

/// As [`HoldReason::advice`], for a reason by its name.
pub fn advice(reason: &str) -> &'static str {
    HoldReason::from_name(reason)
        .map_or("another version of this program held them; it knows what they wait for", HoldReason::advice)
}
