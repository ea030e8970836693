//! Shared by the routes of the sandbox.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::sandbox::credentials::SandboxCredentials;
use crate::sandbox::faults::{FaultDice, FaultPlan, RequestFault};
use crate::sandbox::play::ConversationPlayer;
use crate::sandbox::store::{HeldPlace, PostEnding, SandboxStore};

/// Shared by the handlers.
pub(crate) struct SandboxContext {
    pub(crate) credentials: SandboxCredentials,
    pub(crate) faults: FaultPlan,
    pub(crate) dice: Mutex<FaultDice>,
    pub(crate) store: Mutex<SandboxStore>,
    pub(crate) player: Option<ConversationPlayer>,
    pub(crate) stopping: CancellationToken,
}

impl SandboxContext {
    pub(crate) fn store(&self) -> MutexGuard<'_, SandboxStore> {
        // A handler that panicked leaves counts that are off by one at worst: no reason to stop a sandbox.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the lead.
    pub(crate) fn accept(&self, place: HeldPlace, body: &[u8], ending: PostEnding) {
        self.store().accept(place, body, ending, Utc::now());
        self.follow(body);
    }

    /// Starts the conversation of an accepted lead.
    pub(crate) fn follow(&self, body: &[u8]) {
        if let Some(player) = &self.player {
            player.accepted(body);
        }
    }

    pub(crate) fn roll(&self) -> (Duration, Option<RequestFault>) {
        if self.faults.never_strike() {
            return (Duration::ZERO, None);
        }
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).roll(&self.faults)
    }
}
