//! Where posts are stored.

use crate::config::Settings;
use crate::error::SetupError;
use crate::pulse::Pulse;
use crate::receive::certificate::Certificate;
use crate::receive::signals::Signals;
use crate::store::file_lock::StateFile;
use crate::store::state_db::StateDb;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where posts are stored.
#[derive(Debug, Clone)]
pub struct PostStore {
    pub db: StateDb,
    /// What is stored in a file that is gone must not be acknowledged.
    pub file: StateFile,
}
