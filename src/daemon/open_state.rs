//! Opening the state when the daemon starts.

use std::time::Duration;

use secrecy::ExposeSecret;
use tracing::warn;

use crate::clock;
use crate::config::ServiceSettings;
use crate::rules::mapping::LeadMapping;
use crate::store::file_lock::{StateFile, StateLock};
use crate::store::instance::InstanceId;
use crate::store::orphan::{self, OrphanScope};
use crate::store::restored_state::{self, StateMemory};
use crate::store::state_db::StateDb;
use crate::store::state_failure::state_unusable;
use crate::store::writer::{self, OtherSenders, SendRight};

/// Pause between two attempts to reach the database.
pub(crate) const AWAY_PAUSE: Duration = Duration::from_secs(2);

/// The state, with the exclusive right to write it.
pub struct OpenState {
    pub db: StateDb,
    pub(crate) writer: SendRight,
    /// Whether other instances were sending when it was opened.
    pub company: OtherSenders,
    /// An SQLite state's file, which must stay the one that was opened.
    pub file: StateFile,
}

/// Takes the right to write, opens the state, and recovers leads that a crash left in flight. In this order, so that of several
/// processes that start together only one creates an SQLite state.
pub async fn open_state(settings: &ServiceSettings, command: &str, instance: InstanceId) -> anyhow::Result<OpenState> {
    let url = settings.state.url.expose_secret();
    let lock = StateLock::take(url, command, clock::now()).await?;
    let db = StateDb::open_state(url).await?;
    let file = StateFile::open(lock, &db).await.map_err(|error| state_unusable(url, &error))?;
    let recognised = restored_state::recognise_restored(&db, &StateMemory::default(), clock::now()).await;
    recognised.map_err(|error| error.downcast().map_or_else(|error| error, |error| state_unusable(url, &error)))?;
    let fingerprint = LeadMapping::new(settings).fingerprint().to_string();
    let (writer, company) = writer::acquire(&db, instance, &fingerprint).await?;
    // An SQLite state has one sender, this process. On PostgreSQL an instance that seems alone may not be: a server that has just
    // restarted knows no other instance yet. There, claims expire with their leases.
    let orphans = match &db {
        StateDb::Sqlite(_) => OrphanScope::All,
        StateDb::Postgres(_) => OrphanScope::Expired,
    };
    let recovered = orphan::recover(&db, orphans, &settings.delivery, clock::now())
        .await
        .map_err(|error| state_unusable(url, &error))?;
    if recovered > 0 {
        match orphans {
            OrphanScope::All => {
                warn!(leads = recovered, "recorded requests in flight when the program last ended as ambiguous");
            }
            OrphanScope::Expired => {
                warn!(leads = recovered, "recorded requests whose lease ended without an answer as ambiguous");
            }
        }
    }
    Ok(OpenState { db, writer, company, file })
}
