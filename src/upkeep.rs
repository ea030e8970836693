//! Deletes rows from the state whose retention time has passed, at intervals, while leads are sent: the loop around
//! [`prune::step`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::config::{self, ServiceSettings};
use crate::db::discreet;
use crate::store::instance;
use crate::store::prune::{self, PrunedKind};
use crate::store::state_db::StateDb;
use crate::store::state_failure::state_cure;

/// Pause between two rounds.
const INTERVAL: Duration = Duration::from_secs(3600);
/// After each step, the round pauses for this many times the step's duration, and at least for `LEAST_YIELD`.
const YIELD: u32 = 9;
const LEAST_YIELD: Duration = Duration::from_millis(5);

/// One round over all data with a retention time. Returns how many rows it deleted.
///
/// # Errors
/// The state's; rows deleted so far stay deleted.
pub async fn round(state: &StateDb, settings: &config::StateSettings, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut gone = 0;
    for kept in PrunedKind::ALL {
        let until = prune::until(kept, settings, now);
        let mut after = Some(0);
        while let Some(seq) = after {
            let began = Instant::now();
            let step = prune::step(state, kept, seq, until).await?;
            (gone, after) = (gone + step.rows, step.next);
            if after.is_some() {
                tokio::time::sleep((began.elapsed() * YIELD).max(LEAST_YIELD)).await;
            }
        }
    }
    instance::delete_old(state, now).await?;
    Ok(gone)
}

/// Runs until `stop`.
pub async fn run(settings: Arc<ServiceSettings>, state: StateDb, stop: CancellationToken) {
    loop {
        let ended = tokio::select! {
            ended = round(&state, &settings.state, clock::now()) => ended,
            () = stop.cancelled() => return,
        };
        match ended {
            Ok(0) => {}
            Ok(rows) => info!(rows, "deleted what was older than [state] keep_outcomes and keep_received"),
            Err(error) => {
                let cure = state_cure(&error);
                let error = discreet::in_words(&error.into());
                warn!(error, cure, "old entries could not be deleted from the state; retrying in an hour");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}
