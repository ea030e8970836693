//! What the routes of the sandbox share.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::sandbox::credentials::Credentials;
use crate::sandbox::faults::{Dice, Fault, Faults};
use crate::sandbox::play::Player;
use crate::sandbox::store::{Ending, Place, Store};

/// What the handlers share.
pub(crate) struct App {
    pub(crate) credentials: Credentials,
    pub(crate) faults: Faults,
    pub(crate) dice: Mutex<Dice>,
    pub(crate) store: Mutex<Store>,
    pub(crate) player: Option<Player>,
    pub(crate) stopping: CancellationToken,
}

impl App {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        // A handler that panicked leaves counts that are off by one at worst: no reason to stop a sandbox.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lead.
    pub(crate) fn accept(&self, place: Place, body: &[u8], ending: Ending) {
        self.store().accept(place, body, ending, Utc::now());
        self.follow(body);
    }

    /// What follows from a lead that was taken.
    pub(crate) fn follow(&self, body: &[u8]) {
        if let Some(player) = &self.player {
            player.accepted(body);
        }
    }

    pub(crate) fn roll(&self) -> (Duration, Option<Fault>) {
        if self.faults.never_strike() {
            return (Duration::ZERO, None);
        }
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).roll(&self.faults)
    }
}
