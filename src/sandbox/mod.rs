//! A Conversica to try against: for rehearsals, the demo, tests and the benchmark.
//!
//! It answers like Conversica's endpoint, stores the leads that it receives, and fails on request. It must never contact other
//! servers, and must not be more tolerant than Conversica: Conversica should accept everything that the sandbox accepts.

pub mod app;
pub mod check;
mod credentials;
pub mod faults;
mod inspect;
mod line;
pub mod play;
mod post;
pub mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::routing::{any, get, post as post_method};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::sandbox::app::SandboxContext;
use crate::sandbox::credentials::SandboxCredentials;
use crate::sandbox::faults::{FaultDice, FaultPlan};
use crate::sandbox::line::{ConnectionLine, CuttableListener};
use crate::sandbox::play::{ConversationPlayer, PlayedCounts};
use crate::sandbox::store::SandboxCounts;

/// How long stopping waits for requests under way.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The options of a sandbox.
pub struct SandboxOptions {
    /// Port 0 picks a free one; [`RunningSandbox::address`] says which.
    pub listen: SocketAddr,
    pub username: String,
    pub password: String,
    pub faults: FaultPlan,
    /// The same seed gives the same faults, as long as requests come in the same order.
    pub seed: u64,
    /// The receiver of the played conversations; with `None` the sandbox only accepts leads.
    pub play: Option<play::PlayOptions>,
}

/// A running sandbox. Dropping it stops it as well, without waiting.
pub struct RunningSandbox {
    pub address: SocketAddr,
    app: Arc<SandboxContext>,
    serving: JoinHandle<()>,
    _stop_on_drop: DropGuard,
}

/// Binds and serves in the background until stopped or dropped.
pub async fn start(options: SandboxOptions) -> anyhow::Result<RunningSandbox> {
    serve(options, with_pages).await
}

/// The same for real people's leads: without the pages that show what has arrived, because they ask for no password.
pub async fn start_without_pages(options: SandboxOptions) -> anyhow::Result<RunningSandbox> {
    serve(options, endpoint_alone).await
}

async fn serve(options: SandboxOptions, router: fn(Arc<SandboxContext>) -> Router) -> anyhow::Result<RunningSandbox> {
    let SandboxOptions { listen, username, password, faults, seed, play } = options;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("the sandbox cannot listen on {listen}: choose another address, or port 0"))?;
    let address = listener.local_addr().context("the sandbox's listening socket has no address")?;
    let stopping = CancellationToken::new();
    let player = play.map(|play| ConversationPlayer::start(play, seed, stopping.clone())).transpose()?;
    let app = Arc::new(SandboxContext {
        credentials: SandboxCredentials::new(&username, &password),
        faults,
        dice: Mutex::new(FaultDice::new(seed)),
        store: Mutex::default(),
        player,
        stopping: stopping.clone(),
    });
    let service = router(Arc::clone(&app)).into_make_service_with_connect_info::<ConnectionLine>();
    let server =
        axum::serve(CuttableListener(listener), service).with_graceful_shutdown(stopping.clone().cancelled_owned());
    // Only `stop` ends serving: it retries accepting for ever, and a broken connection affects no other.
    let serving = tokio::spawn(async move {
        let _ = server.await;
    });
    Ok(RunningSandbox { address, app, serving, _stop_on_drop: stopping.drop_guard() })
}

fn endpoint_alone(app: Arc<SandboxContext>) -> Router {
    Router::new().route("/json/", any(post::json)).route("/json", any(post::json)).with_state(app)
}

fn with_pages(app: Arc<SandboxContext>) -> Router {
    let pages = Router::new()
        .route("/", get(inspect::page))
        .route("/leads", get(inspect::leads).delete(inspect::forget))
        .route("/posts", get(inspect::posts))
        .route("/counts", get(inspect::counts))
        .route("/unlock", post_method(inspect::unlock))
        .fallback(inspect::nowhere)
        .method_not_allowed_fallback(inspect::wrong_method)
        .with_state(Arc::clone(&app));
    endpoint_alone(app).merge(pages)
}

impl RunningSandbox {
    /// The value for `[conversica] endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/json/", self.address)
    }

    pub fn counts(&self) -> SandboxCounts {
        self.app.store().counts()
    }

    /// Counts of posts to the receiver.
    pub fn played(&self) -> PlayedCounts {
        self.app.player.as_ref().map(ConversationPlayer::played).unwrap_or_default()
    }

    /// The newest Lead objects, byte for byte, in order of first arrival.
    pub fn leads(&self) -> Vec<String> {
        self.app.store().bodies(None, None).map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }

    /// The newest Lead object of the lead that arrived first.
    pub fn first_lead(&self) -> Option<String> {
        self.app.store().bodies(None, None).next().map(|body| String::from_utf8_lossy(body).into_owned())
    }

    /// Stops listening, finishes requests under way, and cuts those that a fault leaves unanswered.
    pub async fn stop(self) {
        self.app.stopping.cancel();
        let RunningSandbox { mut serving, .. } = self;
        if tokio::time::timeout(STOP_WITHIN, &mut serving).await.is_err() {
            // A client keeps a connection busy: the process, or the test, need not wait for it.
            serving.abort();
        }
    }
}
