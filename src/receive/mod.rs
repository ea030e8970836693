//! The way back: the receiver stores each of Conversica's posts before it acknowledges it, applies it to its lead's conversation,
//! and writes it to the CRM. [`crate::alert`] tells people.
//!
//! Each of the three works independently from the state: a failure of one delays none before it.

pub mod apply;
pub mod certificate;
pub mod credentials;
pub mod endpoint;
mod heard_log;
pub mod intake;
pub mod post_store;
pub mod server;
pub mod signals;
pub mod storage_limits;
pub mod writeback;

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::ServiceSettings;
use crate::error::SetupError;
use crate::receive::certificate::ReceiverCertificate;
use crate::receive::post_store::PostStore;
use crate::receive::signals::ReceiveLoop;

/// Checks the receiver's preconditions before any loop begins.
///
/// # Errors
/// [`SetupError`] for an unusable certificate.
pub fn prepare(settings: &ServiceSettings) -> Result<Option<ReceiverCertificate>, SetupError> {
    settings.receive.as_ref().map_or(Ok(None), ReceiverCertificate::open)
}

/// Runs all loops until `stop`. Without a `[receive]` section it only applies posts that another instance stored: that instance
/// may have ended, and a post may be an opt-out.
pub async fn run(
    mut changes: watch::Receiver<Arc<ServiceSettings>>,
    certificate: Option<ReceiverCertificate>,
    store: PostStore,
    run: ReceiveLoop,
) {
    let settings = changes.borrow_and_update().clone();
    if settings.receive.is_none() {
        return apply::run(settings, store.db, run).await;
    }
    tokio::join!(
        server::run(changes, certificate, store.clone(), run.signals.clone(), run.stop.clone()),
        apply::run(settings.clone(), store.db.clone(), run.clone()),
        writeback::run(settings, store.db, run),
    );
}
