//! The daemon's pulse: when each of its loops last showed progress. The loops beat, the admin server reads.
//!
//! A beat is one atomic store. This file does not judge: the allowed silence depends on the loop (`admin::judgement`).

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::send::tally::RunTally;
use crate::store::file_lock::StateLoss;

/// The loops that must keep running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonLoop {
    Poll,
    Deliver,
    /// Applies received posts.
    Receive,
    Writeback,
    /// Sends alerts.
    Alert,
}

impl DaemonLoop {
    pub const ALL: [DaemonLoop; 5] =
        [DaemonLoop::Poll, DaemonLoop::Deliver, DaemonLoop::Receive, DaemonLoop::Writeback, DaemonLoop::Alert];
}

/// The last beat of each loop; `None` for one that has not begun.
pub type LoopBeats = [(DaemonLoop, Option<Instant>); DaemonLoop::ALL.len()];

#[derive(Debug)]
pub struct LoopPulse {
    start: Instant,
    /// Milliseconds from the start to the newest beat, plus one: 0 means no beat.
    beats: [AtomicU64; DaemonLoop::ALL.len()],
    /// The result of the last write to the state.
    state: Mutex<StateHealth>,
}

/// Whether the state can be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StateHealth {
    #[default]
    Writable,
    Unwritable,
    Lost(StateLoss),
}

impl StateHealth {
    /// The health after a failed write.
    pub fn after(error: &anyhow::Error) -> Self {
        error.downcast_ref::<StateLoss>().map_or(Self::Unwritable, |loss| Self::Lost(*loss))
    }
}

/// Facts of this process that need no database.
#[derive(Debug, Clone)]
pub struct ProcessVitals {
    pub pulse: Arc<LoopPulse>,
    pub tally: Arc<RunTally>,
    pub began_at: DateTime<Utc>,
}

/// Pause between two beats, or between two checks for progress.
const TICK: Duration = Duration::from_secs(1);

impl LoopPulse {
    pub fn new(now: Instant) -> Self {
        Self { start: now, beats: Default::default(), state: Mutex::default() }
    }

    /// Records the result of a write to the state.
    pub fn set_state(&self, health: StateHealth) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    pub fn state(&self) -> StateHealth {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn beat(&self, which: DaemonLoop, now: Instant) {
        let since = now.saturating_duration_since(self.start).as_millis();
        self.beats[which as usize].store(u64::try_from(since).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    pub fn beats(&self) -> LoopBeats {
        DaemonLoop::ALL.map(|which| {
            let beat = self.beats[which as usize].load(Ordering::Relaxed).checked_sub(1);
            (which, beat.and_then(|since| self.start.checked_add(Duration::from_millis(since))))
        })
    }

    /// Beats for a loop whose work takes long, as long as `progress` changes. Never ends: race it against the work.
    pub async fn follow(&self, which: DaemonLoop, progress: impl Fn() -> u64) -> Infallible {
        let mut last = None;
        loop {
            let now = Some(progress());
            if now != last {
                self.beat(which, Instant::now());
                last = now;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Beats for an idle loop. Never ends: race it against the pause.
    pub async fn rest(&self, which: DaemonLoop) -> Infallible {
        loop {
            self.beat(which, Instant::now());
            tokio::time::sleep(TICK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn each_loop_has_its_own_beat_and_none_before_the_first() {
        let start = Instant::now();
        let pulse = LoopPulse::new(start);
        assert_eq!(pulse.beats(), DaemonLoop::ALL.map(|which| (which, None)));
        pulse.beat(DaemonLoop::Deliver, start);
        pulse.beat(DaemonLoop::Poll, start + Duration::from_secs(7));
        let seven = start + Duration::from_secs(7);
        assert_eq!(
            pulse.beats()[..3],
            [(DaemonLoop::Poll, Some(seven)), (DaemonLoop::Deliver, Some(start)), (DaemonLoop::Receive, None)]
        );
    }

    #[tokio::test]
    async fn long_work_beats_while_it_moves_and_falls_silent_when_it_hangs() {
        let start = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let pulse = LoopPulse::new(start);
        let rows = AtomicU64::new(0);
        let beat = || pulse.beats()[DaemonLoop::Poll as usize].1;
        let moved = async {
            rows.store(512, Ordering::Relaxed);
            tokio::time::sleep(TICK * 2).await;
            let moved = beat();
            tokio::time::sleep(TICK * 2).await;
            (moved, beat())
        };
        let (moved, hung) = tokio::select! {
            beats = moved => beats,
            never = pulse.follow(DaemonLoop::Poll, || rows.load(Ordering::Relaxed)) => match never {},
        };
        assert!(moved.is_some_and(|at| at > start));
        assert_eq!(moved, hung, "nothing moved meanwhile");
    }
}
