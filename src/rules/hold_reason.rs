//! Why leads wait for approval: the reasons, and what the operator can do about each.

/// Why a lead waits for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldReason {
    FirstRun,
    TooManyChanges,
    MappingChanged,
    ConversationChanged,
    Ambiguous,
    SourceShrank,
    TestLeadLimit,
    Restored,
}

impl HoldReason {
    pub const ALL: [HoldReason; 8] = [
        HoldReason::FirstRun,
        HoldReason::TooManyChanges,
        HoldReason::MappingChanged,
        HoldReason::ConversationChanged,
        HoldReason::Ambiguous,
        HoldReason::SourceShrank,
        HoldReason::TestLeadLimit,
        HoldReason::Restored,
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
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

pub const FIRST_RUN: &str = HoldReason::FirstRun.name();

pub const TOO_MANY_CHANGES: &str = HoldReason::TooManyChanges.name();

pub const MAPPING_CHANGED: &str = HoldReason::MappingChanged.name();

pub const CONVERSATION_CHANGED: &str = HoldReason::ConversationChanged.name();

pub const AMBIGUOUS: &str = HoldReason::Ambiguous.name();

pub const TEST_LEAD_LIMIT: &str = HoldReason::TestLeadLimit.name();

pub const SOURCE_SHRANK: &str = HoldReason::SourceShrank.name();

pub const RESTORED: &str = HoldReason::Restored.name();

/// What the operator can do about leads held for that reason.
pub fn advice(reason: &str) -> &'static str {
    match reason {
        FIRST_RUN => "`approve` contacts everybody who is there today, `baseline` assumes that Conversica knows them",
        CONVERSATION_CHANGED => {
            "another conversation may start a new series of messages: `approve` sends it, `baseline` leaves things as they are"
        }
        AMBIGUOUS => {
            "Conversica may or may not have them: ask it, then `approve` to send them again, or `baseline` if they arrived"
        }
        TEST_LEAD_LIMIT => {
            "the Test Lead Token is set: raise [conversica] test_lead_limit, or remove test_lead_token and `approve` to send to \
             the real assistants"
        }
        SOURCE_SHRANK => {
            "most of the leads that were known are missing from the source: fix it, and this ends by itself within minutes; if \
             they are really gone, `approve` (which stops their messages where on_delete says so) or `baseline` (which sends nothing)"
        }
        RESTORED => {
            "the state came out of a backup, and is older than what Conversica holds: look at `plan`, mind opt-outs heard since the \
             backup, then `approve` sends it, `baseline` takes it as delivered"
        }
        MAPPING_CHANGED => {
            "`approve` sends all of them as [lead] has it now: an update to a person whom Conversica knows, a first message to \
             anybody else; `baseline` sends only later changes"
        }
        _ => "`approve` sends them, `baseline` takes them as delivered",
    }
}
