//! A window onto the state, for looking through: what was seen serves for a moment, so that however many look, and however
//! often, the state is read once.
//!
//! It has connections of its own: the daemon's only one to an SQLite state is for delivery, which must never wait for
//! somebody who counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, OnceCell, Semaphore};
use tracing::debug;

use crate::db::discreet::in_words;
use crate::status::{ServiceStanding, StatusReport};
use crate::store::file_lock::{self, StateLoss};
use crate::store::state_db::StateDb;

/// A look that takes longer has failed: the state's database does not answer. Probes ask for a few rows and wait briefly;
/// counting a long journal takes a quarter of a second a million attempts.
const STANDING_WITHIN: Duration = Duration::from_secs(3);
const REPORT_WITHIN: Duration = Duration::from_secs(10);
/// How long what was seen serves, at least.
const SERVES: Duration = Duration::from_secs(1);
/// And so many times as long as the look took: counting a long journal shall never be a large share of the machine's work.
const REST: u32 = 10;
/// Looks at single leads and lists that go on at once.
const TURNS: usize = 2;
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

pub struct StatusCache {
    url: SecretString,
    db: OnceCell<StateDb>,
    standing: CachedStatus<ServiceStanding>,
    report: CachedStatus<StatusReport>,
    turns: Semaphore,
}

/// The newest look and until when it serves; `None` in it for one that failed, which serves as well: those who wait for
/// their turn meanwhile need not all wait for a database that is away.
pub type CachedStatus<T> = Mutex<Option<(Instant, Option<Arc<T>>)>>;

impl StatusCache {
    /// Whether the state's file is another one than this process has opened, and how.
    pub fn find_loss(&self) -> Option<StateLoss> {
        file_lock::loss_of_holder(self.url.expose_secret()).map(|(loss, _)| loss)
    }

    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            db: OnceCell::new(),
            standing: CachedStatus::default(),
            report: CachedStatus::default(),
            turns: Semaphore::new(TURNS),
        }
    }

    /// What may keep work from being done; `None` when the state cannot be read.
    pub async fn standing(&self) -> Option<Arc<ServiceStanding>> {
        look(&self.standing, STANDING_WITHIN, async || Ok(ServiceStanding::of(self.db().await?).await?)).await
    }

    /// All the numbers; `None` when the state cannot be read.
    pub async fn report(&self) -> Option<Arc<StatusReport>> {
        look(&self.report, REPORT_WITHIN, async || Ok(StatusReport::of(self.db().await?).await?)).await
    }

    /// Something else, of which whoever asks keeps what was seen.
    pub async fn see<T>(
        &self,
        seen: &CachedStatus<T>,
        read: impl AsyncFnOnce(&StateDb) -> anyhow::Result<T>,
    ) -> Option<Arc<T>> {
        look(seen, REPORT_WITHIN, async || read(self.db().await?).await).await
    }

    /// Something that is asked once. A few at a time: there are few connections.
    pub async fn read<T>(&self, read: impl AsyncFnOnce(&StateDb) -> anyhow::Result<T>) -> Option<T> {
        self.read_within(REPORT_WITHIN, read).await
    }

    /// What somebody is ready to wait for.
    pub async fn read_within<T>(
        &self,
        within: Duration,
        read: impl AsyncFnOnce(&StateDb) -> anyhow::Result<T>,
    ) -> Option<T> {
        let reading = async {
            let _turn = self.turns.acquire().await?;
            read(self.db().await?).await
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

    /// What was seen serves no longer: something has just been changed.
    pub async fn forget(&self) {
        *self.standing.lock().await = None;
        *self.report.lock().await = None;
    }

    /// Ends the connections; a database that does not answer is not waited for.
    pub async fn close(&self) {
        if let Some(db) = self.db.get() {
            let _ = tokio::time::timeout(CLOSE_WITHIN, db.close()).await;
        }
    }

    /// Opened at the first look, and again at the next one as long as that fails.
    async fn db(&self) -> anyhow::Result<&StateDb> {
        let open =
            async || StateDb::open_state_read_only(self.url.expose_secret()).await?.context("there is no state yet");
        self.db.get_or_try_init(open).await
    }
}

async fn look<T>(
    seen: &CachedStatus<T>,
    within: Duration,
    read: impl AsyncFnOnce() -> anyhow::Result<T>,
) -> Option<Arc<T>> {
    let mut seen = seen.lock().await;
    let begun = Instant::now();
    if let Some((until, value)) = &*seen
        && begun < *until
    {
        return value.clone();
    }
    let value = match tokio::time::timeout(within, read()).await {
        Ok(Ok(value)) => Some(Arc::new(value)),
        Ok(Err(error)) => {
            debug!(error = in_words(&error), "the admin server cannot read the state");
            None
        }
        Err(_) => {
            debug!("the admin server timed out waiting for the state");
            None
        }
    };
    let ended = Instant::now();
    // A failure is worth another look soon.
    let rest = if value.is_some() { (ended - begun) * REST } else { SERVES };
    *seen = Some((ended + rest.max(SERVES), value.clone()));
    value
}
