//! The turn to poll: a lease, and the fence that rejects writes of a poll whose lease has gone to another instance.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::error::TurnLost;
use crate::send::fence::NewestPoller;
use crate::send::poll::{self, PollOutcome};
use crate::send::poll_context::PollContext;
use crate::send::reach::PollReach;
use crate::store::fenced::{FenceMark, fenced_pool};
use crate::store::instance::InstanceId;
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::turn::{TurnLease, TurnName};

/// The poll lease of this process.
pub struct PollTurn {
    lease: TurnLease,
    fence: PollFence,
}

impl PollTurn {
    pub fn new(instance: InstanceId) -> Self {
        Self { lease: TurnLease::new(TurnName::Poll, instance), fence: PollFence::default() }
    }

    /// Takes the lease unless another instance has it. SQLite has no other instance.
    ///
    /// # Errors
    /// The database's, while it is unreachable.
    pub async fn try_take(&mut self, state: &StateDb) -> Result<bool, sqlx::Error> {
        self.lease.try_take(state).await
    }

    pub async fn give_back(&mut self, state: &StateDb) {
        self.lease.give_back(state).await;
    }

    /// Polls while this process holds the lease.
    ///
    /// # Errors
    /// As [`poll::poll`], and [`TurnLost`] when another instance takes the lease meanwhile.
    pub async fn poll(&mut self, context: PollContext<'_>, reach: PollReach) -> anyhow::Result<PollOutcome> {
        let PollContext { state, tally, now, .. } = context;
        let StateDb::Postgres(pool) = state else { return poll::poll(context, reach).await };
        let Self { lease, fence } = self;
        let polled = async {
            let fenced = fence.raise(pool, tally.instance, now).await?;
            poll::poll(PollContext { state: &fenced, ..context }, reach).await
        };
        let polled = tokio::select! {
            polled = polled => polled,
            () = lease.hold(state) => Err(TurnLost.into()),
        };
        let Err(error) = polled else { return polled };
        let is_lost = error.is::<TurnLost>() || self.fence.is_lost(pool).await;
        // A statement of that poll may still be on its way to the server: the next poll raises another fence.
        self.fence.raised = None;
        // The server's own error is only its way to reject a write behind another fence.
        Err(if is_lost { TurnLost.into() } else { error })
    }
}

/// The fence that this process raised last, and the state behind it.
#[derive(Default)]
struct PollFence {
    /// The row as it was written.
    raised: Option<String>,
    fenced: Option<(StateDb, FenceMark)>,
}

/// The polling instance and the time when it began; the time makes each fence unique.
const STANDING: &str = "select body || ' ' || at from control where name = 'polling'";
const RAISE: &str = "insert into control (name, body, at) values ('polling', $1, $2) \
     on conflict (name) do update set body = excluded.body, at = greatest(excluded.at, control.at + 1) \
     returning body || ' ' || at";

impl PollFence {
    /// Raises a new fence unless the current one is ours. From then on no other poll can write; this waits for writes that are
    /// running. Returns the state through which this poll may write.
    async fn raise(&mut self, pool: &PgPool, instance: InstanceId, now: DateTime<Utc>) -> anyhow::Result<StateDb> {
        let standing: Option<String> = sqlx::query_scalar(STANDING).fetch_optional(pool).await?;
        let raised = match self.raised.take().filter(|raised| standing.as_ref() == Some(raised)) {
            Some(raised) => raised,
            None => {
                let body = serde_json::to_string(&NewestPoller { instance })?;
                sqlx::query_scalar(RAISE).bind(body).bind(micros(now)).fetch_one(pool).await?
            }
        };
        let (fenced, mark) = self.fenced.get_or_insert_with(|| {
            let mark = FenceMark::default();
            (StateDb::Postgres(fenced_pool(pool, &mark)), mark)
        });
        mark.set(&raised);
        self.raised = Some(raised);
        Ok(fenced.clone())
    }

    /// Whether another instance has raised a fence since.
    async fn is_lost(&self, pool: &PgPool) -> bool {
        let standing: Result<Option<String>, _> = sqlx::query_scalar(STANDING).fetch_optional(pool).await;
        self.raised.is_some() && standing.is_ok_and(|standing| standing != self.raised)
    }
}
