//! One lead of a plan, and what a pass would do with it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The planned action for a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedAction {
    Create,
    Update,
    /// The first request to a lead that a baseline assumes Conversica knows.
    AssumedKnown,
    /// An update that withdraws consent or says that the row is gone.
    Stop,
    /// Not sent, for the reasons given.
    Invalid,
    /// Not introduced, because the person has opted out elsewhere.
    Suppressed,
}

impl PlannedAction {
    pub const ALL: [PlannedAction; 6] = [
        PlannedAction::Create,
        PlannedAction::Update,
        PlannedAction::AssumedKnown,
        PlannedAction::Stop,
        PlannedAction::Invalid,
        PlannedAction::Suppressed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            PlannedAction::Create => "create",
            PlannedAction::Update => "update",
            PlannedAction::AssumedKnown => "assumed_known",
            PlannedAction::Stop => "stop",
            PlannedAction::Invalid => "invalid",
            PlannedAction::Suppressed => "suppressed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// One lead of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedLead {
    pub id: String,
    pub client_id: String,
    pub action: PlannedAction,
    /// Key → [value last accepted, or recorded as delivered by a baseline, or null; value to be sent or null].
    pub changes: BTreeMap<String, [Value; 2]>,
    pub reasons: Vec<String>,
}
