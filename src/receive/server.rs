//! The endpoint that Conversica posts to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::ServiceSettings;
use crate::http::{self, PeerLimits};
use crate::receive::certificate::ReceiverCertificate;
use crate::receive::endpoint::{self, EndpointContext};
use crate::receive::intake;
use crate::receive::post_store::PostStore;
use crate::receive::signals::LoopSignals;
use crate::receive::storage_limits::StorageLimits;

/// A post arrives at once and is answered within a second; a slow state may take longer. Connections stay open for a while
/// between two posts, because TLS handshakes are expensive.
const LIMITS: PeerLimits = PeerLimits {
    headers: Duration::from_secs(10),
    lifetime: Duration::from_secs(300),
    connections: 256,
    stop_within: Duration::from_secs(5),
};
const TAKEN: &str =
    "the receiver cannot listen; nothing that Conversica posts is taken, and it tries again every 5 seconds";
const CURE: &str = "end whatever listens there, or set [receive] listen to another address";

/// Serves on `[receive] listen` until `stop`, then finishes the requests under way.
pub async fn run(
    mut changes: watch::Receiver<Arc<ServiceSettings>>,
    certificate: Option<ReceiverCertificate>,
    store: PostStore,
    signals: LoopSignals,
    stop: CancellationToken,
) {
    let settings = changes.borrow_and_update().clone();
    let Some(receive) = &settings.receive else { return };
    let Some(listener) = http::listen(receive.listen, TAKEN, CURE, &stop).await else { return };
    let address = listener.local_addr().unwrap_or(receive.listen);
    info!(%address, tls = certificate.is_some(), "receiving");
    let (intake, writer) = intake::open();
    let desk = Arc::new(EndpointContext::new(&settings, receive, intake));
    let router = endpoint::router(desk.clone());
    let tls = certificate.as_ref().map(ReceiverCertificate::tls);
    let follow = async {
        if let Some(certificate) = certificate {
            certificate.follow(stop.clone()).await;
        }
    };
    let serve = async {
        let listen = async {
            while changes.changed().await.is_ok() {
                if let Some(receive) = &changes.borrow_and_update().receive {
                    desk.let_in(receive);
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = http::serve(listener, router, tls, LIMITS, stop.clone()) => {}
            () = listen => {}
        }
        // The writer ends when the last sender is dropped.
        drop(desk);
    };
    tokio::join!(serve, writer.run(store, StorageLimits::of(&settings, receive), signals), follow);
}
