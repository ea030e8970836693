//! The start of `run`: what is away is waited for. What no waiting cures ends the program.

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
use crate::store::state_db::StateDb;
use crate::store::state_failure::state_cure;
use crate::{clock, db};

/// Reads from the state what the deliverer has to know; a session that is cut meanwhile is waited for. `None` when told to
/// stop.
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

/// Opens the state, waiting for its server or its directory while that is away, and calling `meanwhile` once when it is; `None` when told to
/// stop before it came.
pub(super) async fn wait_for_state(
    settings: &ServiceSettings,
    stop: &CancellationToken,
    mut meanwhile: impl FnMut(),
) -> anyhow::Result<Option<OpenState>> {
    let mut said = false;
    loop {
        let error = tokio::select! {
            opened = open_state(settings, "run") => match opened {
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

/// What a person does about a state that fails.
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

/// Where the error itself says no more.
const SOURCE_CURE: &str =
    "check that the database of [source] url runs and can be reached; it is tried again by itself";

/// Connects to the source, waiting for it while it is away; `None` when told to stop meanwhile.
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
