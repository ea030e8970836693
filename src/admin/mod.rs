//! The admin server of `run`: whether the daemon is alive, whether it can do its work, and its numbers.
//!
//! It looks on and never interferes: it only reads the state, and when it cannot listen, delivery goes on without it.
//! What it says is open to whoever can reach its address, so it says ids and counts only.

mod answer;
pub mod judgement;
pub mod metrics;
mod window;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admin::answer::Desk;
use crate::admin::window::Window;
use crate::config::Settings;
use crate::http::{self, Limits};
use crate::pulse::Pulse;

/// Probes and scrapers ask in one packet and read at once. A dashboard or two on top, and that is all there should be.
const LIMITS: Limits = Limits { headers: Duration::from_secs(5), lifetime: Duration::from_secs(300), connections: 64 };
/// Between two tries for an address that somebody else has.
const RETRY: Duration = Duration::from_secs(5);

/// Serves on `[admin] listen` until `stop`, and tries for as long as it takes to get the address.
pub async fn run(settings: Arc<Settings>, pulse: Arc<Pulse>, stop: CancellationToken) {
    let Some(listener) = listen(settings.admin.listen, &stop).await else { return };
    match listener.local_addr() {
        Ok(address) => info!(%address, "admin listening"),
        Err(_) => info!(address = %settings.admin.listen, "admin listening"),
    }
    let desk = Arc::new(Desk {
        window: Window::new(settings.state.url.clone()),
        statement_timeout: settings.source.statement_timeout,
        pulse,
    });
    http::serve(listener, answer::router(desk.clone()), LIMITS, stop).await;
    desk.window.close().await;
}

/// `None` when told to stop meanwhile.
async fn listen(address: SocketAddr, stop: &CancellationToken) -> Option<TcpListener> {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(error) if !said => {
                error!(
                    %address,
                    %error,
                    cure = "end whatever listens there, or set [admin] listen to another address (port 0 picks a free one)",
                    "the admin server cannot listen; delivery goes on without it, and it tries again every 5 seconds"
                );
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}
