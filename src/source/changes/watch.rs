//! Waits for rows in the change log. On PostgreSQL the triggers notify listeners; on SQLite the program watches the file and its
//! write-ahead log from outside, without a connection. A notification only makes the poll earlier: if it is lost, the poll
//! interval still applies.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Executor, SqlitePool};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::db::file::FileId;
use crate::db::pooler::{self, SessionKind};
use crate::db::{self, discreet};
use crate::source::changes::log::ChangeLog;
use crate::source::guest::SourcePool;
use crate::source::source_db::SourceDb;
use crate::source::source_file::SourceStamp;

/// Signals that the log may have new rows. A signal that comes before the wait begins is kept.
#[derive(Debug)]
pub struct LogWaiter {
    changed: Arc<Notify>,
    /// Ends with this value.
    _watching: AbortOnDropHandle<()>,
}

/// Between two checks of an SQLite file: its size and the time of its last change. The file system's clock ticks every 10 ms or
/// more often.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A connection that the network has dropped stays silent: after this much silence the listener asks the server, which has the
/// second time to answer.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Wait before the next check whether a pooler still shares sessions.
const POOLER_RETRY: Duration = Duration::from_secs(600);

/// Why watching has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchEnd {
    /// The connection or the file has been replaced.
    Interrupted,
    /// A listener behind a pooler would leave its LISTEN in a session of the CRM, and hear nothing.
    SharedSession,
}

impl LogWaiter {
    pub fn start(log: &ChangeLog) -> Self {
        let changed = Arc::new(Notify::new());
        let (log, sink) = (log.clone(), changed.clone());
        let watching = tokio::spawn(async move {
            let mut has_warned = false;
            loop {
                let ended = match (log.reader(), log.writer()) {
                    (_, SourceDb::Postgres(pool)) => listen(pool, log.design.channel(), &sink).await,
                    (SourceDb::Sqlite(pool), _) => look(pool, &log, &sink).await,
                    (SourceDb::Postgres(_), SourceDb::Sqlite(_) | SourceDb::Mysql(_)) | (SourceDb::Mysql(_), _) => {
                        return;
                    }
                };
                let pause = match ended.map_err(discreet::of_source) {
                    Ok(WatchEnd::Interrupted) => RETRY,
                    Ok(WatchEnd::SharedSession) => {
                        if !std::mem::replace(&mut has_warned, true) {
                            warn!(cure = SHARED_SESSION_CURE, "{SHARED_SESSION}");
                        }
                        POOLER_RETRY
                    }
                    Err(error) => {
                        debug!(%error, "the change log could not be watched; retrying");
                        RETRY
                    }
                };
                tokio::time::sleep(pause).await;
            }
        });
        Self { changed, _watching: AbortOnDropHandle::new(watching) }
    }

    /// Returns when the log may have new rows since the last return.
    pub async fn changed(&mut self) {
        self.changed.notified().await;
    }
}

/// The warning about notifications behind such a pooler.
pub const SHARED_SESSION: &str = "[source] url leads to a connection pooler in transaction or statement mode, through which no notification \
                                  comes: changes are found at the next poll";
pub const SHARED_SESSION_CURE: &str = "nothing, if [source] poll_interval is soon enough; else name the PostgreSQL server itself in \
                                       [source] url, or give that database pool_mode = session in the pooler";

async fn listen(pool: &SourcePool, channel: &str, changed: &Notify) -> Result<WatchEnd, sqlx::Error> {
    let options = pool.connect_options();
    if pooler::session_kind(&options).await? == SessionKind::Shared {
        return Ok(WatchEnd::SharedSession);
    }
    // A pool of its own, which ends with the listener: a connection that the network has dropped never closes, and occupies its
    // place until then. In the pool that drains the log, a few silent listeners would leave no connection for the drain.
    let own = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER).connect_lazy_with((*options).clone());
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    // Changes before `listen` sent no notification.
    changed.notify_one();
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => changed.notify_one(),
            Ok(Ok(None)) => return Ok(WatchEnd::Interrupted),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let asked = tokio::time::timeout(ANSWER, (&mut listener).execute("select 1")).await;
                asked.map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
            }
        }
    }
}

async fn look(pool: &SqlitePool, log: &ChangeLog, changed: &Notify) -> Result<WatchEnd, sqlx::Error> {
    let path = pool.connect_options().get_filename().to_owned();
    let opened = FileId::at(&path);
    let mut before = None;
    let mut is_fresh = false;
    loop {
        let now = SourceStamp::at(&path);
        let id = now.file.map(|file| file.id());
        if id.is_some() && id != opened {
            // Another file has replaced it: the poll opens the new one.
            changed.notify_one();
            return Ok(WatchEnd::Interrupted);
        }
        let is_other = before.as_ref() != Some(&now);
        // A commit within the same clock tick as the one before may leave the same stamp: one more check finds it. Most commits
        // do not concern the log.
        if id.is_some() && (is_other || is_fresh) && has_rows(pool, log).await? {
            changed.notify_one();
        }
        is_fresh = is_other;
        before = Some(now);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn has_rows(pool: &SqlitePool, log: &ChangeLog) -> Result<bool, sqlx::Error> {
    let sql = format!("select exists (select 1 from {})", log.design.log.quoted());
    sqlx::query_scalar(db::trusted(sql)).fetch_one(pool).await
}
