//! One read that serves everybody for a while, and is made anew in the background: a page waits for a slow count only while there is
//! no earlier one to show.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::debug;

use crate::db::discreet::in_words;

/// The shortest time that a read serves.
const SERVES: Duration = Duration::from_secs(1);
/// A read serves at least this many times its own duration: counting a long journal must not take a large share of the machine.
const REST: u32 = 10;
/// How long a page waits for newer numbers before it shows those of the last read.
const BRIEFLY: Duration = Duration::from_millis(200);
/// Older numbers are not shown, however long newer ones take.
const OLDEST: Duration = Duration::from_secs(120);

/// The newest read. A failed read is kept as well, so that waiting requests do not all wait for an unreachable database.
#[derive(Debug)]
pub struct KeptRead<T> {
    state: Mutex<KeptState<T>>,
    has_ended: Notify,
}

#[derive(Debug)]
struct KeptState<T> {
    kept: Option<KeptValue<T>>,
    is_reading: bool,
    /// Rises with each change that makes earlier reads worthless.
    change: u64,
}

#[derive(Debug)]
struct KeptValue<T> {
    /// `None` where the read failed.
    value: Option<Arc<T>>,
    read_at: Instant,
    serves_until: Instant,
}

impl<T> Default for KeptRead<T> {
    fn default() -> Self {
        Self { state: Mutex::new(KeptState { kept: None, is_reading: false, change: 0 }), has_ended: Notify::new() }
    }
}

/// Ends a reading, also one that panics.
struct ReadingTurn<T>(Arc<KeptRead<T>>);

impl<T> Drop for ReadingTurn<T> {
    fn drop(&mut self) {
        self.0.lock().is_reading = false;
        self.0.has_ended.notify_waiters();
    }
}

impl<T> KeptRead<T> {
    fn lock(&self) -> MutexGuard<'_, KeptState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync + 'static> KeptRead<T> {
    /// Drops what was read: something has changed.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.kept = None;
        state.change += 1;
    }

    /// The newest value; `None` where the last read failed. `read` is called if another read is due, and may go on after this
    /// function has returned.
    pub async fn newest<F>(self: &Arc<Self>, within: Duration, read: impl Fn() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        loop {
            let ended = self.has_ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            let earlier = match self.begin(within, &read) {
                KeptAnswer::Serves(value) => return value,
                KeptAnswer::Earlier(value) => value,
            };
            match earlier {
                None => ended.await,
                Some(earlier) => {
                    if tokio::time::timeout(BRIEFLY, ended).await.is_err() {
                        return Some(earlier);
                    }
                }
            }
        }
    }

    fn begin<F>(self: &Arc<Self>, within: Duration, read: impl Fn() -> F) -> KeptAnswer<T>
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let mut state = self.lock();
        let now = Instant::now();
        if let Some(kept) = state.kept.as_ref().filter(|kept| now < kept.serves_until) {
            return KeptAnswer::Serves(kept.value.clone());
        }
        if !state.is_reading {
            state.is_reading = true;
            let (turn, change, reading) = (ReadingTurn(self.clone()), state.change, read());
            tokio::spawn(async move {
                let begun = Instant::now();
                let value = outcome(within, reading).await;
                turn.0.keep(value, begun, change);
            });
        }
        let earlier = state.kept.as_ref().filter(|kept| now < kept.read_at + OLDEST);
        KeptAnswer::Earlier(earlier.and_then(|kept| kept.value.clone()))
    }

    fn keep(&self, value: Option<Arc<T>>, begun: Instant, change: u64) {
        let mut state = self.lock();
        if state.change != change {
            return;
        }
        let read_at = Instant::now();
        // A failed read is retried soon.
        let rest = if value.is_some() { (read_at - begun) * REST } else { SERVES };
        state.kept = Some(KeptValue { value, read_at, serves_until: read_at + rest.max(SERVES) });
    }
}

enum KeptAnswer<T> {
    Serves(Option<Arc<T>>),
    /// It is no longer new, and another read is under way.
    Earlier(Option<Arc<T>>),
}

async fn outcome<T>(within: Duration, reading: impl Future<Output = anyhow::Result<T>>) -> Option<Arc<T>> {
    match tokio::time::timeout(within, reading).await {
        Ok(Ok(value)) => Some(Arc::new(value)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Semaphore;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn an_earlier_read_is_shown_while_a_slow_one_is_under_way_and_none_after_a_change() {
        let kept = Arc::new(KeptRead::<u32>::default());
        let (reads, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(1)));
        // Ends once the gate lets it through.
        let read = || {
            let (reads, gate) = (reads.clone(), gate.clone());
            async move {
                gate.acquire().await?.forget();
                Ok(reads.fetch_add(1, Ordering::SeqCst) + 1)
            }
        };
        assert_eq!(kept.newest(LONG, read).await.as_deref(), Some(&1));
        assert_eq!(kept.newest(LONG, read).await.as_deref(), Some(&1), "it serves for a while");
        kept.lock().kept.as_mut().unwrap().serves_until = Instant::now();
        assert_eq!(kept.newest(LONG, read).await.as_deref(), Some(&1), "the next takes long");
        gate.add_permits(1);
        let has_come = async {
            while kept.newest(LONG, read).await.as_deref() != Some(&2) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, has_come).await.unwrap();
        kept.forget();
        gate.add_permits(1);
        assert_eq!(kept.newest(LONG, read).await.as_deref(), Some(&3), "it waits for what it has to show");
        kept.forget();
        assert_eq!(kept.newest(LONG, || async { anyhow::bail!("away") }).await, None);
        assert_eq!(kept.newest(LONG, read).await, None, "a failure serves for a moment too");
    }
}
