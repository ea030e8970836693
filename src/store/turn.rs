//! Table `turn` (PostgreSQL): work that one instance does at a time, as a lease by the server's clock.
//!
//! A lock would last as long as the connection of an instance that is paused or whose network is cut. A lease ends by itself
//! after 10 seconds. Its holder may go on without noticing, so its writes must be refused, or be harmless, by other means (see
//! [`crate::send::fence`]).

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use crate::store::instance::InstanceId;
use crate::store::state_db::StateDb;

/// The kinds of work that need a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnName {
    Poll,
    Writeback,
}

impl TurnName {
    const fn name(self) -> &'static str {
        match self {
            TurnName::Poll => "poll",
            TurnName::Writeback => "writeback",
        }
    }
}

/// A turn that one process takes, holds and releases. On SQLite there is no other process.
pub struct TurnLease {
    name: TurnName,
    holder: String,
    /// Kept between turns. The turn ends with the session, so a killed process keeps no turn.
    session: Option<PgConnection>,
}

/// The time between two renewals of a lease of 10 seconds.
const RENEWAL_INTERVAL: Duration = Duration::from_millis(2500);
/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A lease that ends later than possible was written before the server's clock was set back.
const TAKE: &str = "insert into turn as t (name, holder, pid, expires_at) \
     values ($1, $2, pg_backend_pid(), clock_timestamp() + interval '10 seconds') \
     on conflict (name) do update set holder = excluded.holder, pid = excluded.pid, expires_at = excluded.expires_at \
     where t.holder = excluded.holder \
     or t.expires_at not between clock_timestamp() and clock_timestamp() + interval '10 seconds' \
     or not exists (select 1 from pg_stat_activity where pg_stat_activity.pid = t.pid)";
const RENEW: &str = "update turn set pid = pg_backend_pid(), expires_at = clock_timestamp() + interval '10 seconds' \
     where name = $1 and holder = $2";
const GIVE_BACK: &str = "update turn set expires_at = '-infinity' where name = $1 and holder = $2";

impl TurnLease {
    pub fn new(name: TurnName, holder: InstanceId) -> Self {
        Self { name, holder: holder.to_string(), session: None }
    }

    /// Takes the turn unless another process has it.
    ///
    /// # Errors
    /// An error of the database while it is unreachable.
    pub async fn try_take(&mut self, db: &StateDb) -> Result<bool, sqlx::Error> {
        let StateDb::Postgres(pool) = db else { return Ok(true) };
        let is_kept = self.session.is_some();
        match self.run(TAKE, pool).await {
            // The session may have ended since the last turn, as after a restart of the server.
            Err(_) if is_kept => self.run(TAKE, pool).await,
            taken => taken,
        }
    }

    /// Renews the lease while this process holds it. Returns when another process has the turn.
    pub async fn hold(&mut self, db: &StateDb) {
        let StateDb::Postgres(pool) = db else { return std::future::pending().await };
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            if let Ok(Ok(false)) = tokio::time::timeout(ANSWER_TIMEOUT, self.run(RENEW, pool)).await {
                return;
            }
        }
    }

    /// Releases the turn if this process still holds it. If the server does not answer, the lease ends by itself.
    pub async fn give_back(&mut self, db: &StateDb) {
        let StateDb::Postgres(pool) = db else { return };
        if self.session.is_some() {
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, self.run(GIVE_BACK, pool)).await;
        }
    }

    /// Whether the row was written. A session that fails, or does not answer in time, is closed.
    async fn run(&mut self, sql: &'static str, pool: &PgPool) -> Result<bool, sqlx::Error> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => pool.acquire().await?.detach(),
        };
        let statement = sqlx::query(sql).bind(self.name.name()).bind(&self.holder);
        let rows = statement.execute(&mut session).await?.rows_affected();
        self.session = Some(session);
        Ok(rows == 1)
    }
}
