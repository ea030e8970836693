//! What the routes of the sandbox share.

use crate::sandbox::credentials::Credentials;
use crate::sandbox::faults::{Dice, Fault, Faults};
use crate::sandbox::line::{Line, Lines};
use crate::sandbox::play::{Played, Player};
use crate::sandbox::store::{Counts, Ending, Place, Store};
use anyhow::Context;
use axum::Router;
use axum::routing::any;
use axum::routing::get;
use axum::routing::post as post_method;
use chrono::Utc;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

/// What the handlers share.
pub(crate) struct App {
    credentials: Credentials,
    faults: Faults,
    dice: Mutex<Dice>,
    store: Mutex<Store>,
    player: Option<Player>,
    stopping: CancellationToken,
}

impl App {
    fn store(&self) -> MutexGuard<'_, Store> {
        // A handler that panicked leaves counts that are off by one at worst: no reason to stop a sandbox.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lead.
    fn accept(&self, place: Place, body: &[u8], ending: Ending) {
        self.store().accept(place, body, ending, Utc::now());
        self.follow(body);
    }

    /// What follows from a lead that was taken.
    fn follow(&self, body: &[u8]) {
        if let Some(player) = &self.player {
            player.accepted(body);
        }
    }

    fn roll(&self) -> (Duration, Option<Fault>) {
        if self.faults.never_strike() {
            return (Duration::ZERO, None);
        }
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).roll(&self.faults)
    }
}
