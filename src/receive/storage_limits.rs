//! What posts may take of the disk: a reserve stays free for delivery, and unreadable posts have a limit of their own, because a
//! sender in trouble may post them without end.

use std::fmt;

use crate::config::{ReceiveSettings, ServiceSettings};
use crate::conversica::any_withdrawal::list_withdrawn;
use crate::store::event::PostArrival;
use crate::store::free_disk::DiskReserve;
use crate::store::heard::reading;
use crate::store::state_db::StateDb;

/// The limits, checked before posts are stored.
#[derive(Debug)]
pub struct StorageLimits {
    disk: Option<DiskReserve>,
    /// Bytes of unreadable posts.
    most_unreadable: u64,
}

/// The unreadable posts that are kept already take all the room that they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyUnreadable {
    /// In bytes.
    limit: u64,
}

impl TooManyUnreadable {
    pub const CURE: &'static str = "look at `conversica-sync received --unreadable`: fix what can be, forget what is nothing; [receive] keep_unreadable is the limit";
}

impl fmt::Display for TooManyUnreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unreadable posts take {} MiB, which is [receive] keep_unreadable", self.limit / 1_048_576)
    }
}

impl std::error::Error for TooManyUnreadable {}

impl StorageLimits {
    pub fn of(settings: &ServiceSettings, receive: &ReceiveSettings) -> Self {
        Self { disk: DiskReserve::of(settings), most_unreadable: receive.keep_unreadable_bytes() }
    }

    /// # Errors
    /// [`crate::store::free_disk::DiskShortage`], [`TooManyUnreadable`], or the database's.
    pub async fn check(&self, db: &StateDb, arrivals: &[PostArrival]) -> anyhow::Result<()> {
        // What may be an opt-out is stored as long as anything can be.
        let others = || arrivals.iter().filter(|post| !may_withdraw(post));
        if let Some(shortage) = self.disk.as_ref().and_then(DiskReserve::shortage).filter(|_| others().next().is_some())
        {
            return Err(shortage.into());
        }
        let new: u64 = others().filter(|post| post.problem.is_some()).map(|post| post.body.len() as u64).sum();
        if new == 0 {
            return Ok(());
        }
        let kept = u64::try_from(reading::unreadable_bytes(db).await?).unwrap_or(0);
        if kept.saturating_add(new) > self.most_unreadable {
            return Err(TooManyUnreadable { limit: self.most_unreadable }.into());
        }
        Ok(())
    }
}

fn may_withdraw(post: &PostArrival) -> bool {
    post.withdraws || !list_withdrawn(post.kind, &post.body, post.problem.as_deref()).is_empty()
}
