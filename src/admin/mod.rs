//! The admin server of `run`: whether the daemon is alive, whether it can do its work, its numbers, and the dashboard.
//!
//! It only reads the state, except for the operator's decisions on the dashboard. If it cannot listen, delivery continues without
//! it. Health and numbers are open to every client that can reach the address, so they contain ids and counts only; the dashboard
//! shows personal data, and has its own access rules.

mod answer;
mod dashboard;
pub mod exposition;
pub mod judgement;
pub mod kept_read;
pub mod metrics;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::answer::AdminContext;
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::window::StatusCache;
use crate::config::ServiceSettings;
use crate::http::absolute_form::refuse_foreign;
use crate::http::{self, PeerLimits};
use crate::pulse::ProcessVitals;
use crate::store::free_disk::DiskReserve;

/// Probes and scrapers send one packet and read the answer at once. Besides them, only a few dashboards connect.
const LIMITS: PeerLimits = PeerLimits {
    headers: Duration::from_secs(5),
    lifetime: Duration::from_secs(300),
    connections: 64,
    stop_within: Duration::from_secs(2),
};
const TAKEN: &str = "the admin server cannot listen; delivery goes on without it, and it tries again every 5 seconds";
const CURE: &str = "end whatever listens there, or set [admin] listen to another address (port 0 picks a free one)";

/// Serves on `[admin] listen` until `stop`, and retries until it gets the address.
pub async fn run(settings: Arc<ServiceSettings>, vitals: ProcessVitals, stop: CancellationToken) {
    let Some(listener) = http::listen(settings.admin.listen, TAKEN, CURE, &stop).await else { return };
    let address = listener.local_addr().unwrap_or(settings.admin.listen);
    info!(%address, "admin listening");
    let desk = Arc::new(AdminContext {
        window: StatusCache::new(settings.state.url.clone()),
        statement_timeout: settings.source.statement_timeout,
        disk: DiskReserve::of(&settings),
        vitals,
    });
    let board = Arc::new(DashboardContext::new(desk.clone(), settings, address));
    let router = answer::router(desk.clone()).merge(dashboard::router(board)).layer(from_fn(refuse_foreign));
    http::serve(listener, router, None, LIMITS, stop).await;
    desk.window.close().await;
}
