//! The road back: what Conversica posts is stored before it is acknowledged, then taken into its lead's conversation, and
//! written to the CRM. People are told of it by [`crate::alert`].
//!
//! Each of the three goes on by itself, from what the state holds: a failure of one holds up none before it.

pub mod apply;
pub mod certificate;
pub mod credentials;
pub mod endpoint;
pub mod intake;
pub mod post_store;
pub mod server;
pub mod signals;
pub mod writeback;

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::ServiceSettings;
use crate::error::SetupError;
use crate::receive::certificate::ReceiverCertificate;
use crate::receive::post_store::PostStore;
use crate::receive::signals::ReceiveLoop;

/// What has to be in order before anything begins.
///
/// # Errors
/// [`SetupError`] for a certificate that cannot be shown.
pub fn prepare(settings: &ServiceSettings) -> Result<Option<ReceiverCertificate>, SetupError> {
    settings.receive.as_ref().map_or(Ok(None), ReceiverCertificate::open)
}

/// Runs all of it until `stop`. Without a `[receive]` section it takes in what another instance has stored, and no more: that
/// instance may have ended, and a post may be an opt-out.
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
