//! Running counts of this process, for progress bars, the demo, the summary and the metrics, and the signal that a poll has
//! written something. The counts are not stored; the journal is.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::conversica::outcome::OutcomeClass;
use crate::histogram::DurationHistogram;
use crate::store::instance::InstanceId;
use crate::store::restored_state::StateMemory;

/// The kind of a poll: charts keep the kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollKind {
    /// Rows that have changed since the cursor.
    Incremental,
    /// Every row.
    Full,
    /// Rows that the change log names.
    Drain,
}

impl PollKind {
    pub const ALL: [PollKind; 3] = [PollKind::Incremental, PollKind::Full, PollKind::Drain];

    pub const fn name(self) -> &'static str {
        match self {
            PollKind::Incremental => "incremental",
            PollKind::Full => "full",
            PollKind::Drain => "drain",
        }
    }
}

#[derive(Debug, Default)]
pub struct RunTally {
    /// This process.
    pub instance: InstanceId,
    /// What it has seen of the state.
    pub memory: StateMemory,
    rows: AtomicU64,
    read: AtomicBool,
    written: Notify,
    /// How long requests took, by outcome.
    pub deliveries: [DurationHistogram; OutcomeClass::ALL.len()],
    /// How long successful polls took, by kind.
    pub polls: [DurationHistogram; PollKind::ALL.len()],
    failed_polls: AtomicU64,
    rows_read: AtomicU64,
    changed: AtomicU64,
    /// Instances that share the state, this one included; 0 before the first count.
    instances: AtomicU32,
}

impl RunTally {
    pub fn set_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    /// The poll is at its end: from here on leads are sent.
    pub fn set_read(&self) {
        self.read.store(true, Ordering::Relaxed);
    }

    pub fn is_reading(&self) -> bool {
        !self.read.load(Ordering::Relaxed)
    }

    /// A poll has written differences; it may still be running.
    pub fn announce(&self) {
        self.written.notify_one();
    }

    /// Returns after the next `announce` since it last returned.
    pub async fn announced(&self) {
        self.written.notified().await;
    }

    pub fn add(&self, class: OutcomeClass, duration: Duration) {
        self.deliveries[class as usize].observe(duration);
    }

    /// Source rows read by the present poll.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Outcomes of that class.
    pub fn outcomes(&self, class: OutcomeClass) -> u64 {
        self.deliveries[class as usize].count()
    }

    /// Counts a successful poll.
    pub fn polled(&self, kind: PollKind, rows: u64, changed: u64, duration: Duration) {
        self.polls[kind as usize].observe(duration);
        self.rows_read.fetch_add(rows, Ordering::Relaxed);
        self.changed.fetch_add(changed, Ordering::Relaxed);
    }

    pub fn poll_failed(&self) {
        self.failed_polls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed_polls(&self) -> u64 {
        self.failed_polls.load(Ordering::Relaxed)
    }

    /// Source rows read by all successful polls.
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    /// Changed leads that they found.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// Sets how many instances share the state; returns the earlier number.
    pub fn set_instances(&self, instances: u32) -> u32 {
        self.instances.swap(instances, Ordering::Relaxed)
    }

    /// Instances that share the state; `None` before the first count.
    pub fn instances(&self) -> Option<u32> {
        Some(self.instances.load(Ordering::Relaxed)).filter(|instances| *instances > 0)
    }
}
