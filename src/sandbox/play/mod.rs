//! Plays Conversica's part after a lead was accepted: posts a conversation to the receiver.
//!
//! Every lead has one conversation, from its first acceptance on; withdrawn consent ends it. Repeats and disorder come on
//! request; from Conversica they come unasked.

mod courier;
mod script;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::courier::PlayReceiver;
use self::courier::PostCourier;
use self::script::{ScriptPerson, ScriptStep, conversation, plot, stopped};

/// Conversations at the same time; further leads wait.
const AT_ONCE: usize = 1000;

/// Options for playing conversations.
#[derive(Debug, Clone)]
pub struct PlayOptions {
    pub receiver: PlayReceiver,
    /// Between two steps of a conversation.
    pub beat: Duration,
    /// Share of the posts that come twice, in percent.
    pub repeated: u8,
    /// Share of the posts that come after the one that follows them, in percent.
    pub disordered: u8,
}

/// Counts of the playback so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PlayedCounts {
    /// Posts to the receiver, repeats and further tries included.
    pub posts: u64,
    pub acknowledged: u64,
    /// Given up, because the receiver rejected them.
    pub refused: u64,
    /// Conversations that were finished or ended early.
    pub conversations: u64,
}

/// Plays in the background until it is dropped or stopped.
pub struct ConversationPlayer {
    leads: UnboundedSender<ScriptPerson>,
    courier: Arc<PostCourier>,
}

impl ConversationPlayer {
    /// # Errors
    /// When the receiver's certificate cannot be read.
    pub fn start(options: PlayOptions, seed: u64, stop: CancellationToken) -> anyhow::Result<Self> {
        let courier = Arc::new(PostCourier::new(options.receiver.clone())?);
        let (leads, accepted) = unbounded_channel();
        let stage = PlayStage { courier: courier.clone(), options, seed, parts: HashMap::new() };
        tokio::spawn(async move {
            tokio::select! {
                () = stage.run(accepted) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Self { leads, courier })
    }

    /// Handles an accepted Lead object.
    pub fn accepted(&self, body: &[u8]) {
        if let Some(person) = ScriptPerson::of(body) {
            // A stopped player accepts no more leads.
            let _ = self.leads.send(person);
        }
    }

    pub fn played(&self) -> PlayedCounts {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        PlayedCounts {
            posts: read(&self.courier.posts),
            acknowledged: read(&self.courier.acknowledged),
            refused: read(&self.courier.refused),
            conversations: read(&self.courier.conversations),
        }
    }
}

struct PlayStage {
    courier: Arc<PostCourier>,
    options: PlayOptions,
    seed: u64,
    /// Client and id of every lead so far; the token ends its conversation, and `None` means that its end was posted.
    parts: HashMap<(String, String), Option<CancellationToken>>,
}

impl PlayStage {
    async fn run(mut self, mut accepted: UnboundedReceiver<ScriptPerson>) {
        // Dropped with this task, and all conversations with it.
        let mut conversations = JoinSet::new();
        loop {
            tokio::select! {
                person = accepted.recv(), if conversations.len() < AT_ONCE => match person {
                    Some(person) => self.cast(&person, &mut conversations),
                    None => break,
                },
                Some(_) = conversations.join_next() => {}
            }
        }
        while conversations.join_next().await.is_some() {}
    }

    fn cast(&mut self, person: &ScriptPerson, conversations: &mut JoinSet<()>) {
        let part = self.parts.entry((person.client_id.clone(), person.id.clone()));
        let is_new = matches!(part, std::collections::hash_map::Entry::Vacant(_));
        let part = part.or_insert_with(|| Some(CancellationToken::new()));
        let (now, beat) = (Utc::now(), TimeDelta::from_std(self.options.beat).unwrap_or(TimeDelta::MAX));
        let (steps, ends) = match part {
            Some(token) if person.stopped => {
                token.cancel();
                *part = None;
                (stopped(person, now), CancellationToken::new())
            }
            Some(token) if is_new => (conversation(person, plot(person, self.seed), now, beat), token.clone()),
            // An update does not change the conversation.
            Some(_) | None => return,
        };
        let dice = StdRng::seed_from_u64(self.seed ^ self.parts.len() as u64);
        let (courier, options) = (self.courier.clone(), self.options.clone());
        conversations.spawn(async move {
            tokio::select! {
                () = play(&courier, &options, steps, dice) => {}
                () = ends.cancelled() => {}
            }
            courier.conversations.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// Posts the steps, each at its beat.
async fn play(courier: &PostCourier, options: &PlayOptions, mut steps: Vec<ScriptStep>, mut dice: StdRng) {
    let start = tokio::time::Instant::now();
    let beats: Vec<u32> = steps.iter().map(|step| step.beat).collect();
    for earlier in 0..steps.len().saturating_sub(1) {
        if dice.random_range(0..100) < options.disordered {
            steps.swap(earlier, earlier + 1);
        }
    }
    for (beat, step) in beats.into_iter().zip(steps) {
        tokio::time::sleep_until(start + options.beat * beat).await;
        courier.deliver(step.kind, &step.body).await;
        if dice.random_range(0..100) < options.repeated {
            courier.deliver(step.kind, &step.body).await;
        }
    }
}
