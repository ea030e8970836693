//! Waits until something is in the change log: on PostgreSQL the triggers notify whoever listens, on SQLite the file's own
//! counter of commits is looked at. Only a hint, to be early: the poll interval stands behind it, whatever happens to it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{Executor, PgPool, SqliteConnection, SqlitePool};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::crm::changes::log::ChangeLog;
use crate::db::file::FileId;
use crate::db::{self, Db, discreet};

/// Tells when the log may hold something new. What happens before anybody waits is not forgotten.
#[derive(Debug)]
pub struct Watch {
    changed: Arc<Notify>,
    /// Ends with this value.
    _watching: AbortOnDropHandle<()>,
}

/// Between two looks at the counter of an SQLite file: a read of a few bytes.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A connection that the network has swallowed says nothing: asked after so long a silence, it has so long to answer.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);
/// After a failure, before the next try.
const RETRY: Duration = Duration::from_secs(1);

impl Watch {
    pub fn start(log: &ChangeLog) -> Self {
        let changed = Arc::new(Notify::new());
        let (log, sink) = (log.clone(), changed.clone());
        let watching = tokio::spawn(async move {
            loop {
                let ended = match (log.reader(), log.writer()) {
                    (_, Db::Postgres(pool)) => listen(pool, log.design.channel(), &sink).await,
                    (Db::Sqlite(pool), _) => look(pool, &log, &sink).await,
                    (Db::Postgres(_), Db::Sqlite(_)) => return,
                };
                if let Err(error) = ended.map_err(discreet::of_source) {
                    debug!(%error, "the change log is not watched for a moment");
                }
                tokio::time::sleep(RETRY).await;
            }
        });
        Self { changed, _watching: AbortOnDropHandle::new(watching) }
    }

    /// Returns when there may be something new since the last time it returned.
    pub async fn changed(&mut self) {
        self.changed.notified().await;
    }
}

async fn listen(pool: &PgPool, channel: &str, changed: &Notify) -> Result<(), sqlx::Error> {
    // A pool of its own, that ends with it: a connection that the network has swallowed never says good-bye, and until it does
    // its place is taken. Out of the pool that drains the log, some silent listeners would leave nobody to do that.
    let own = pool.options().clone().max_connections(1).connect_lazy_with((*pool.connect_options()).clone());
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    // What came before anybody listened told nobody.
    changed.notify_one();
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => changed.notify_one(),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let asked = tokio::time::timeout(ANSWER, (&mut listener).execute("select 1")).await;
                asked.map_err(|_| sqlx::Error::PoolTimedOut)??;
            }
        }
    }
}

async fn look(pool: &SqlitePool, log: &ChangeLog, changed: &Notify) -> Result<(), sqlx::Error> {
    // A connection of its own: the counter tells what other connections have committed since the same one last asked.
    let mut connection = pool.acquire().await?.detach();
    let path = pool.connect_options().get_filename().to_owned();
    let opened = FileId::at(&path);
    let mut before = None;
    loop {
        let found = FileId::at(&path);
        if found.is_some() && found != opened {
            // Another file has taken its place: whoever polls opens it.
            changed.notify_one();
            return Ok(());
        }
        let now = data_version(&mut connection).await?;
        // Most commits are none of ours.
        if before.replace(now) != Some(now) && has_rows(&mut connection, log).await? {
            changed.notify_one();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn data_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("pragma data_version").fetch_one(connection).await
}

async fn has_rows(connection: &mut SqliteConnection, log: &ChangeLog) -> Result<bool, sqlx::Error> {
    let sql = format!("select exists (select 1 from {})", log.design.log.quoted());
    sqlx::query_scalar(db::trusted(sql)).fetch_one(connection).await
}
