//! The loop around [`heard::apply`], which applies stored posts to the conversations of their leads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::ServiceSettings;
use crate::pulse::DaemonLoop;
use crate::receive::heard_log::HeardLog;
use crate::receive::signals::{LoopSignals, ReceiveLoop};
use crate::store::heard::{self, AppliedEvents, HeardPolicy};
use crate::store::state_db::StateDb;
use crate::store::state_failure::state_cure;
use crate::{clock, db};

/// How often the loop checks without a signal: posts of another instance give none here.
const LOOK: Duration = Duration::from_secs(3);

/// While posts keep coming, the loop pauses after each batch for this many times the batch's duration.
const YIELD: u32 = 4;

/// Runs until `stop`. Unreadable posts are searched in parallel to the readable ones: searching a large body takes longer.
pub async fn run(settings: Arc<ServiceSettings>, state: StateDb, run: ReceiveLoop) {
    let ReceiveLoop { signals, stop, .. } = run.clone();
    tokio::join!(
        apply_readable(settings.clone(), state.clone(), run),
        search_unreadable(settings, state, signals, stop),
    );
}

/// Applies the oldest waiting posts, at most as many as fit one transaction.
///
/// # Errors
/// The database's; then no post was applied.
pub async fn apply_waiting(settings: &ServiceSettings, state: &StateDb) -> Result<AppliedEvents, sqlx::Error> {
    heard::apply_readable(state, HeardPolicy::of(settings), clock::now()).await
}

/// [`apply_readable`] reports an outage; it needs the same database.
async fn search_unreadable(
    settings: Arc<ServiceSettings>,
    state: StateDb,
    signals: LoopSignals,
    stop: CancellationToken,
) {
    let mut failing = false;
    let mut log = HeardLog::new();
    while !stop.is_cancelled() {
        let searched = heard::search_unreadable(&state, HeardPolicy::of(&settings), clock::now()).await;
        let is_done = searched.is_ok();
        match searched {
            Ok(applied) => {
                failing = false;
                if applied.events > 0 {
                    pass_on(&applied, &signals);
                    log.write(&applied, clock::now());
                    continue;
                }
            }
            Err(error) if !db::is_outage(&error) && !std::mem::replace(&mut failing, true) => {
                let cure = state_cure(&error);
                warn!(%error, cure, "posts of Conversica wait: the state cannot apply them; retrying");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = signals.searched.notified(), if is_done => {}
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn apply_readable(
    settings: Arc<ServiceSettings>,
    state: StateDb,
    ReceiveLoop { signals, pulse, stop }: ReceiveLoop,
) {
    let mut failing = false;
    let mut log = HeardLog::new();
    while !stop.is_cancelled() {
        let began = Instant::now();
        pulse.beat(DaemonLoop::Receive, began);
        match apply_waiting(&settings, &state).await {
            Ok(applied) => {
                if std::mem::take(&mut failing) {
                    info!("posts of Conversica are applied again");
                }
                pass_on(&applied, &signals);
                log.write(&applied, clock::now());
                if applied.events > 0 {
                    // Senders of new posts wait for an acknowledgement from the same disk: new posts go first while they keep
                    // coming.
                    if signals.stored.notified().now_or_never().is_some() {
                        let theirs = (began.elapsed() * YIELD).min(LOOK);
                        let _ = tokio::time::timeout(theirs, stop.cancelled()).await;
                    }
                    continue;
                }
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                let cure = state_cure(&error);
                warn!(%error, cure, "posts of Conversica wait: the state cannot apply them; retrying");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = signals.stored.notified(), if !failing => {}
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn pass_on(applied: &AppliedEvents, signals: &LoopSignals) {
    if applied.unreadable > 0 {
        warn!(events = applied.unreadable, "posts can no longer be read: look with `received --unreadable`");
    }
    if applied.possible > 0 {
        warn!(
            posts = applied.possible,
            "damaged posts may be opt-outs, and count as such: look with `received --possible-opt-outs`"
        );
    }
    if applied.writeback {
        signals.writeback.notify_one();
    }
    if applied.alerts > 0 {
        signals.alert.notify_one();
    }
    if applied.due > 0 {
        signals.deliver.notify_one();
    }
}
