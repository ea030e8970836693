//! The way into the state: whoever posts waits here until what they posted is on the disk. One task writes, as many at a time
//! as have come meanwhile, so that a hundred posts cost one write to the disk.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info};

use crate::db::discreet::in_words;
use crate::receive::post_store::PostStore;
use crate::receive::signals::LoopSignals;
use crate::store::event::{self, PostArrival};
use crate::store::file_lock::StateLoss;
use crate::store::state_failure::state_cure;
use crate::{clock, db};

/// In one transaction.
const BATCH: usize = 500;
/// That wait to be written; more wait to be let in.
const QUEUE: usize = 1000;
/// For one transaction. A database that is silent for longer may still write what it was given; a repeat does no harm.
const STORE_WITHIN: Duration = Duration::from_secs(15);
/// How long a post waits to be stored.
const WAIT: Duration = Duration::from_secs(20);

/// A post, and who waits for it to be stored.
struct WaitingPost {
    arrival: PostArrival,
    stored: oneshot::Sender<()>,
}

/// It was not stored, or not in time: whoever posted it is to post it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStored;

/// The end that posts are handed in at.
#[derive(Clone)]
pub struct PostIntake(mpsc::Sender<WaitingPost>);

/// The end that they are written at.
pub struct PostWriter(mpsc::Receiver<WaitingPost>);

pub fn open() -> (PostIntake, PostWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (PostIntake(sender), PostWriter(receiver))
}

impl PostIntake {
    /// Returns well once the post is on the disk.
    pub async fn store(&self, arrival: PostArrival) -> Result<(), NotStored> {
        let (stored, waits) = oneshot::channel();
        let handed_in = async {
            self.0.send(WaitingPost { arrival, stored }).await.map_err(|_| NotStored)?;
            waits.await.map_err(|_| NotStored)
        };
        tokio::time::timeout(WAIT, handed_in).await.unwrap_or(Err(NotStored))
    }

    /// For somebody who has gone and waits for no answer; passed over where there is no room.
    pub fn leave(&self, arrival: PostArrival) {
        let _ = self.0.try_send(WaitingPost { arrival, stored: oneshot::channel().0 });
    }
}

impl PostWriter {
    /// Writes until nobody can hand in anything any more.
    pub async fn run(mut self, state: PostStore, signals: LoopSignals) {
        let mut failing = false;
        let mut batch = Vec::with_capacity(BATCH);
        while self.0.recv_many(&mut batch, BATCH).await > 0 {
            let (arrivals, waiting): (Vec<PostArrival>, Vec<_>) =
                batch.drain(..).map(|waiting| (waiting.arrival, waiting.stored)).unzip();
            match store(&state, &arrivals).await {
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
                        // One that the database does not take must not be the ruin of the others.
                        for (arrival, stored) in arrivals.into_iter().zip(waiting) {
                            if store(&state, std::slice::from_ref(&arrival)).await.is_ok() {
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

async fn store(state: &PostStore, arrivals: &[PostArrival]) -> anyhow::Result<()> {
    state.file.check()?;
    let stored = tokio::time::timeout(STORE_WITHIN, event::store(&state.db, arrivals, clock::now())).await;
    stored.map_err(|_| anyhow::Error::from(db::DatabaseAway)).context("the state does not answer")??;
    // What was written meanwhile to a file that is gone is not stored.
    state.file.check()?;
    Ok(())
}

/// Whoever has gone meanwhile is told nothing.
fn acknowledge(stored: oneshot::Sender<()>) {
    let _ = stored.send(());
}

fn cure_of(error: &anyhow::Error) -> &'static str {
    if let Some(loss) = error.downcast_ref::<StateLoss>() {
        return loss.cure();
    }
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
    cause.map_or("check that the database of [state] url runs and can be reached", state_cure)
}
