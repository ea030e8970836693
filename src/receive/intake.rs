//! Stores posts: each sender waits here until its post is on disk. One task writes all posts that arrived meanwhile in one
//! transaction, so that a hundred posts cost one write to the disk.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info};

use crate::db::discreet::in_words;
use crate::receive::post_store::PostStore;
use crate::receive::signals::LoopSignals;
use crate::receive::storage_limits::{StorageLimits, TooManyUnreadable};
use crate::store::event::{self, PostArrival};
use crate::store::file_lock::StateLoss;
use crate::store::free_disk::DiskShortage;
use crate::store::state_failure::state_cure;
use crate::{clock, db};

/// Posts per transaction.
const BATCH: usize = 500;
/// Posts that wait for the writer; further ones wait for a place.
const QUEUE: usize = 1000;
/// The time limit of a transaction. A database that is silent for longer may still store the posts; repeats do no harm.
const STORE_WITHIN: Duration = Duration::from_secs(15);
/// How long a post waits to be stored.
const WAIT: Duration = Duration::from_secs(20);

/// A post, and the channel that reports its storage.
struct WaitingPost {
    arrival: PostArrival,
    stored: oneshot::Sender<()>,
}

/// The post was not stored in time: the sender has to post it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStored;

/// The sending end of the queue.
#[derive(Clone)]
pub struct PostIntake(mpsc::Sender<WaitingPost>);

/// The writing end of the queue.
pub struct PostWriter(mpsc::Receiver<WaitingPost>);

pub fn open() -> (PostIntake, PostWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (PostIntake(sender), PostWriter(receiver))
}

impl PostIntake {
    /// Returns `Ok` once the post is on disk.
    pub async fn store(&self, arrival: PostArrival) -> Result<(), NotStored> {
        let (stored, waits) = oneshot::channel();
        let handed_in = async {
            self.0.send(WaitingPost { arrival, stored }).await.map_err(|_| NotStored)?;
            waits.await.map_err(|_| NotStored)
        };
        tokio::time::timeout(WAIT, handed_in).await.unwrap_or(Err(NotStored))
    }

    /// Queues a post of a client that has gone; drops it if the queue is full.
    pub fn leave(&self, arrival: PostArrival) {
        let _ = self.0.try_send(WaitingPost { arrival, stored: oneshot::channel().0 });
    }
}

impl PostWriter {
    /// Writes until all senders are dropped.
    pub async fn run(mut self, state: PostStore, limits: StorageLimits, signals: LoopSignals) {
        let mut failing = false;
        let mut batch = Vec::with_capacity(BATCH);
        while self.0.recv_many(&mut batch, BATCH).await > 0 {
            let (arrivals, waiting): (Vec<PostArrival>, Vec<_>) =
                batch.drain(..).map(|waiting| (waiting.arrival, waiting.stored)).unzip();
            match store(&state, &limits, &arrivals).await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        info!("posts are stored again");
                    }
                    debug!(posts = arrivals.len(), "stored");
                    waiting.into_iter().for_each(acknowledge);
                    signals.notify_stored();
                }
                Err(failure) => {
                    if !std::mem::replace(&mut failing, true) {
                        let (error, cure) = (in_words(&failure), cure_of(&failure));
                        error!(error, cure, "posts cannot be stored; they are answered 500 until they can");
                    }
                    if !db::is_away(&failure) && arrivals.len() > 1 {
                        // A post that the database rejects must not prevent the others from being stored.
                        for (arrival, stored) in arrivals.into_iter().zip(waiting) {
                            if store(&state, &limits, std::slice::from_ref(&arrival)).await.is_ok() {
                                acknowledge(stored);
                                signals.notify_stored();
                            }
                        }
                    }
                }
            }
        }
    }
}

async fn store(state: &PostStore, limits: &StorageLimits, arrivals: &[PostArrival]) -> anyhow::Result<()> {
    state.file.check()?;
    limits.check(&state.db, arrivals).await?;
    let stored = tokio::time::timeout(STORE_WITHIN, event::store(&state.db, arrivals, clock::now())).await;
    stored.map_err(|_| anyhow::Error::from(db::DatabaseAway)).context("the state does not answer")??;
    // A post that went into a lost file is not stored.
    state.file.check()?;
    Ok(())
}

/// A client that has gone meanwhile gets no answer.
fn acknowledge(stored: oneshot::Sender<()>) {
    let _ = stored.send(());
}

fn cure_of(error: &anyhow::Error) -> &'static str {
    if let Some(loss) = error.downcast_ref::<StateLoss>() {
        return loss.cure();
    }
    if error.downcast_ref::<DiskShortage>().is_some() {
        return DiskShortage::CURE;
    }
    if error.downcast_ref::<TooManyUnreadable>().is_some() {
        return TooManyUnreadable::CURE;
    }
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
    cause.map_or("check that the database of [state] url runs and can be reached", state_cure)
}
