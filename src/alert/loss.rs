//! Alerts people at once when the state's file is lost. Table `alert` is in that file, so this process retries in memory until
//! every channel has succeeded; a restart forgets the alert.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::alert::RETRY;
use crate::alert::channel::{AlertChannels, TOLD};
use crate::clock;
use crate::config::ServiceSettings;
use crate::rules::retry;
use crate::send::account;
use crate::store::alert::TakenAlert;
use crate::store::file_lock::{StateFile, StateLoss};
use crate::store::state_db::StateDb;

/// The `kind` of the alert.
pub const KIND: &str = "state_lost";

/// Pause between two checks of the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A file that is missing for a shorter time is being moved by an operator who knows the consequences.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs until `stop`.
pub async fn run(settings: Arc<ServiceSettings>, state: StateDb, file: StateFile, stop: CancellationToken) {
    if !settings.alerts.is_on() || !file.is_watched() {
        return;
    }
    // The deliverer has just read the state; without an answer, the alert goes out under a shorter name.
    let identity = account::installation(&state, clock::now()).await.unwrap_or_default();
    tokio::select! {
        () = watch(&settings, identity, &file) => {}
        () = stop.cancelled() => {}
    }
}

async fn watch(settings: &ServiceSettings, identity: String, file: &StateFile) {
    // The loop for the other alerts logs which channels cannot be used.
    let channels = AlertChannels::new(&settings.alerts, identity);
    loop {
        let (loss, since) = wait_for_loss(file).await;
        tell(&channels, document("begun", Some(loss), since)).await;
        while file.check().is_err() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        tell(&channels, document("ended", None, since)).await;
    }
}

async fn wait_for_loss(file: &StateFile) -> (StateLoss, DateTime<Utc>) {
    let mut began = None;
    loop {
        match file.check() {
            Ok(()) => began = None,
            Err(loss) => {
                let (at, since) = *began.get_or_insert_with(|| (Instant::now(), clock::now()));
                if at.elapsed() >= PATIENCE {
                    return (loss, since);
                }
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The same form as the documents of [`super::service`].
fn document(state: &str, loss: Option<StateLoss>, since: DateTime<Utc>) -> String {
    json!({
        "kind": KIND,
        "state": state,
        "at": clock::now(),
        "since": since,
        "reason": loss.map(|loss| loss.to_string()),
        "count": null,
        "new_people": null,
        "cure": loss.map(StateLoss::cure),
        "host": rustix::system::uname().nodename().to_string_lossy(),
        "version": env!("CARGO_PKG_VERSION"),
    })
    .to_string()
}

/// A channel that fails as often must not keep the end of the loss, or another loss, from the others.
const MOST_TRIES: i64 = 20;

/// Retries until every channel has succeeded, or one has failed too often.
async fn tell(channels: &AlertChannels, body: String) {
    let (kind, id) = (KIND.to_owned(), String::new());
    let mut alert = TakenAlert { seq: 0, kind, id, body, created_at: clock::now(), attempts: 0, detail: None };
    loop {
        alert.attempts += 1;
        let results = channels.tell(&alert).await;
        let detail = json!(results).to_string();
        if results.is_empty() {
            // No channel is told of this kind.
            return;
        }
        if results.values().all(|result| result == TOLD) {
            info!(kind = KIND, attempts = alert.attempts, "told");
            return;
        }
        if alert.attempts >= MOST_TRIES {
            error!(kind = KIND, attempts = alert.attempts, detail, "an alert could not be delivered; given up");
            return;
        }
        warn!(kind = KIND, attempts = alert.attempts, detail, "an alert could not be delivered; retrying");
        alert.detail = Some(detail);
        tokio::time::sleep(retry::delay(&RETRY, alert.attempts)).await;
    }
}
