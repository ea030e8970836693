//! The endpoint that Conversica posts to.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::db::Db;
use crate::receive::Signals;

/// Runs until `stop`.
pub async fn run(_settings: Arc<Settings>, _state: Db, _signals: Signals, stop: CancellationToken) {
    stop.cancelled().await;
}
