//! Takes what was stored into the conversations of its leads: the loop around [`heard::apply`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::config::Settings;
use crate::db::{self, Db};
use crate::pulse::{Loop, Pulse};
use crate::receive::Signals;
use crate::state::heard::{self, Applied, Consequences};

/// How often it looks by itself: what another instance has stored gives no signal here.
const LOOK: Duration = Duration::from_secs(3);

/// While posts keep coming, a batch is followed by so many times of what it took, left to them.
const YIELD: u32 = 4;

/// One batch. Returns what there was; nothing where another instance is at it.
///
/// # Errors
/// The database's; nothing of the batch has happened then.
pub async fn step(db: &Db, settings: &Settings, now: DateTime<Utc>) -> Result<Applied, sqlx::Error> {
    heard::apply(db, Consequences::of(settings), now).await
}

/// Runs until `stop`.
pub async fn run(settings: Arc<Settings>, state: Db, signals: Signals, pulse: Arc<Pulse>, stop: CancellationToken) {
    let mut failing = false;
    while !stop.is_cancelled() {
        let began = Instant::now();
        pulse.beat(Loop::Receive, began);
        match step(&state, &settings, clock::now()).await {
            Ok(applied) => {
                if std::mem::take(&mut failing) {
                    info!("what Conversica posts is taken in again");
                }
                pass_on(applied, &signals);
                if applied.events > 0 {
                    // Who posts waits to be acknowledged, by the same disk: they go first while they keep coming.
                    if signals.stored.notified().now_or_never().is_some() {
                        let theirs = (began.elapsed() * YIELD).min(LOOK);
                        let _ = tokio::time::timeout(theirs, stop.cancelled()).await;
                    }
                    continue;
                }
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                let cure = db::state_cure(&error);
                warn!(%error, cure, "what Conversica has posted waits: the state does not take it in; tried again by itself");
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

fn pass_on(applied: Applied, signals: &Signals) {
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
