//! The start of `run`: it waits for unreachable databases. An error that waiting cannot cure ends the program.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::ServiceSettings;
use crate::daemon::open_state::{AWAY_PAUSE, OpenState, open_state};
use crate::db::discreet::in_words;
use crate::error::SetupError;
use crate::send::deliver::LeadDeliverer;
use crate::send::tally::RunTally;
use crate::source::crm::ConnectedCrm;
use crate::store::file_lock::StateLoss;
use crate::store::instance::InstanceId;
use crate::store::state_db::StateDb;
use crate::store::state_failure::state_cure;
use crate::{clock, db};

/// Reads the deliverer's data from the state, and retries if the session breaks meanwhile. `None` when told to stop.
pub(super) async fn wait_for_deliverer(
    db: &StateDb,
    settings: &ServiceSettings,
    tally: &Arc<RunTally>,
    wake: &Arc<Notify>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<LeadDeliverer>> {
    loop {
        match LeadDeliverer::new(db.clone(), settings, tally.clone(), wake.clone(), clock::now()).await {
            Ok(deliverer) => return Ok(Some(deliverer)),
            Err(error) if db::is_away(&error) => {
                warn!(error = what_of(&error), cure = cure_of(&error), "the state is away; waiting for it");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(AWAY_PAUSE) => {}
        }
    }
}

/// Opens the state. While its server or directory is missing, it waits, and calls `meanwhile` once. `None` when told to stop
/// before the state came.
pub(super) async fn wait_for_state(
    settings: &ServiceSettings,
    instance: InstanceId,
    stop: &CancellationToken,
    mut meanwhile: impl FnMut(),
) -> anyhow::Result<Option<OpenState>> {
    let mut said = false;
    loop {
        let error = tokio::select! {
            opened = open_state(settings, "run", instance) => match opened {
                Ok(state) => return Ok(Some(state)),
                Err(error) if db::is_away(&error) => error,
                Err(error) => return Err(error),
            },
            () = stop.cancelled() => return Ok(None),
        };
        if !std::mem::replace(&mut said, true) {
            warn!(error = what_of(&error), cure = cure_of(&error), "the state is away; waiting for it");
            meanwhile();
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(AWAY_PAUSE) => {}
        }
    }
}

fn what_of(error: &anyhow::Error) -> String {
    error.downcast_ref::<SetupError>().map_or_else(|| in_words(error), |setup| setup.what.clone())
}

/// The operator's remedy for a failing state.
pub(super) fn cure_of(error: &anyhow::Error) -> String {
    if let Some(setup) = error.downcast_ref::<SetupError>() {
        return setup.cure.clone();
    }
    if let Some(loss) = error.downcast_ref::<StateLoss>() {
        return loss.cure().to_owned();
    }
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
    cause.map_or("look at [state] url and its database", state_cure).to_owned()
}

/// The cure where the error has none of its own.
const SOURCE_CURE: &str =
    "check that the database of [source] url runs and can be reached; it is tried again by itself";

/// Connects to the source, and waits while it is unreachable; `None` when told to stop meanwhile.
pub(super) async fn connect(
    mut opened: anyhow::Result<ConnectedCrm>,
    settings: &ServiceSettings,
    stop: &CancellationToken,
) -> anyhow::Result<Option<ConnectedCrm>> {
    let mut said = false;
    loop {
        let error = match opened {
            Ok(crm) => return Ok(Some(crm)),
            Err(error) if db::is_away(&error) => error,
            Err(error) => return Err(error),
        };
        if !said {
            let cure = error.downcast_ref::<SetupError>().map_or(SOURCE_CURE, |setup| setup.cure.as_str());
            warn!(error = what_of(&error), cure, "the source is away; waiting for it");
            said = true;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(AWAY_PAUSE) => {}
        }
        opened = tokio::select! {
            opened = ConnectedCrm::open(settings) => opened,
            () = stop.cancelled() => return Ok(None),
        };
    }
}
