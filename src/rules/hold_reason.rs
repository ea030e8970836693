//! Why leads wait for approval: the reasons, and what the operator can do about each.

/// Reasons for a hold, as `status` names them.
pub const FIRST_RUN: &str = "first_run";

pub const TOO_MANY_CHANGES: &str = "too_many_changes";

pub const MAPPING_CHANGED: &str = "mapping_changed";

pub const CONVERSATION_CHANGED: &str = "conversation_changed";

pub const AMBIGUOUS: &str = "ambiguous";

pub const TEST_LEAD_LIMIT: &str = "test_lead_limit";

pub const SOURCE_SHRANK: &str = "source_shrank";

pub const RESTORED: &str = "restored";

/// All of them.
pub const REASONS: [&str; 8] = [
    FIRST_RUN,
    TOO_MANY_CHANGES,
    MAPPING_CHANGED,
    CONVERSATION_CHANGED,
    AMBIGUOUS,
    SOURCE_SHRANK,
    TEST_LEAD_LIMIT,
    RESTORED,
];

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
