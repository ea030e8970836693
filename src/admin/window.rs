//! A cached, read-only view of the state: each read serves for a moment, so that any number of viewers cause one read.
//!
//! It has connections of its own: the daemon's only connection to an SQLite state is for delivery, which must never wait for a
//! count.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OnceCell, Semaphore};
use tracing::debug;

use crate::admin::kept_read::KeptRead;
use crate::clock;
use crate::db::discreet::in_words;
use crate::status::{ServiceStanding, StatusReport};
use crate::store::file_lock::{self, StateLoss};
use crate::store::state_db::StateDb;

/// A read that takes longer has failed: the state's database does not answer. Probes read a few rows and wait briefly; counting a
/// long journal takes a quarter of a second per million attempts.
const STANDING_WITHIN: Duration = Duration::from_secs(3);
pub const REPORT_WITHIN: Duration = Duration::from_secs(10);
/// Parallel reads of single leads and lists.
const TURNS: usize = 2;
/// Parallel reads that ask the CRM as well, which may be slow to answer.
const CRM_TURNS: usize = 1;
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// The state, opened at the first read; after a failure, again at the next one.
struct OpenedState {
    url: SecretString,
    db: OnceCell<StateDb>,
}

impl OpenedState {
    async fn db(&self) -> anyhow::Result<&StateDb> {
        let open =
            async || StateDb::open_state_read_only(self.url.expose_secret()).await?.context("there is no state yet");
        self.db.get_or_try_init(open).await
    }
}

pub struct StatusCache {
    state: Arc<OpenedState>,
    standing: Arc<KeptRead<ServiceStanding>>,
    report: Arc<KeptRead<StatusReport>>,
    turns: Semaphore,
    crm_turns: Semaphore,
}

impl StatusCache {
    /// Whether the state's file is no longer the one that this process opened, and why.
    pub fn find_loss(&self) -> Option<StateLoss> {
        file_lock::loss_of_holder(self.state.url.expose_secret()).map(|(loss, _)| loss)
    }

    pub fn new(url: SecretString) -> Self {
        Self {
            state: Arc::new(OpenedState { url, db: OnceCell::new() }),
            standing: Arc::default(),
            report: Arc::default(),
            turns: Semaphore::new(TURNS),
            crm_turns: Semaphore::new(CRM_TURNS),
        }
    }

    /// The conditions that may stop work; `None` when the state cannot be read.
    pub async fn standing(&self) -> Option<Arc<ServiceStanding>> {
        let read = |db: StateDb| async move { Ok(ServiceStanding::of(&db).await?) };
        self.see(&self.standing, STANDING_WITHIN, read).await
    }

    /// All counts; `None` when the state cannot be read.
    pub async fn report(&self) -> Option<Arc<StatusReport>> {
        let read = |db: StateDb| async move { Ok(StatusReport::of(&db, clock::now()).await?) };
        self.see(&self.report, REPORT_WITHIN, read).await
    }

    /// Reads other data, which the caller keeps. The read may go on after this function has returned.
    pub async fn see<T, F, R>(&self, kept: &Arc<KeptRead<T>>, within: Duration, read: R) -> Option<Arc<T>>
    where
        T: Send + Sync + 'static,
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
        R: Fn(StateDb) -> F + Clone + Send + Sync + 'static,
    {
        let opening = || {
            let (state, read) = (self.state.clone(), read.clone());
            async move {
                let db = state.db().await?.clone();
                read(db).await
            }
        };
        kept.newest(within, opening).await
    }

    /// Reads data for one request. A few at a time: there are few connections.
    pub async fn read<T>(&self, read: impl AsyncFnOnce(&StateDb) -> anyhow::Result<T>) -> Option<T> {
        self.read_in_turn(&self.turns, REPORT_WITHIN, read).await
    }

    /// The same for a request that asks the CRM as well: other pages do not wait for it.
    pub async fn read_with_crm<T>(&self, read: impl AsyncFnOnce(&StateDb) -> anyhow::Result<T>) -> Option<T> {
        self.read_in_turn(&self.crm_turns, REPORT_WITHIN, read).await
    }

    /// The same with the caller's own time limit.
    pub fn read_within<T>(
        &self,
        within: Duration,
        read: impl AsyncFnOnce(&StateDb) -> anyhow::Result<T>,
    ) -> impl Future<Output = Option<T>> {
        self.read_in_turn(&self.turns, within, read)
    }

    async fn read_in_turn<T>(
        &self,
        turns: &Semaphore,
        within: Duration,
        read: impl AsyncFnOnce(&StateDb) -> anyhow::Result<T>,
    ) -> Option<T> {
        let reading = async {
            let _turn = turns.acquire().await?;
            read(self.state.db().await?).await
        };
        match tokio::time::timeout(within, reading).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                debug!(error = in_words(&error), "the admin server cannot read the state");
                None
            }
            Err(_) => {
                debug!("the admin server timed out waiting for the state");
                None
            }
        }
    }

    /// Drops the cached reads after a change.
    pub fn forget(&self) {
        self.standing.forget();
        self.report.forget();
    }

    /// Closes the connections; does not wait for a database that does not answer.
    pub async fn close(&self) {
        if let Some(db) = self.state.db.get() {
            let _ = tokio::time::timeout(CLOSE_WITHIN, db.close()).await;
        }
    }
}
