//! Running counts of what this process has done, for progress bars, the demo and the summary, and the word that a poll has
//! written something. Not stored: the journal is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::conversica::outcome::Class;

#[derive(Debug, Default)]
pub struct Tally {
    rows: AtomicU64,
    outcomes: [AtomicU64; Class::ALL.len()],
    read: AtomicBool,
    written: Notify,
}

impl Tally {
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

    /// A poll has written down what differs; it may not be at its end.
    pub fn announce(&self) {
        self.written.notify_one();
    }

    /// Returns when that has been said since it last returned.
    pub async fn announced(&self) {
        self.written.notified().await;
    }

    pub fn add(&self, class: Class) {
        self.outcomes[class as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Source rows read by the present poll.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Outcomes of that class.
    pub fn outcomes(&self, class: Class) -> u64 {
        self.outcomes[class as usize].load(Ordering::Relaxed)
    }
}
