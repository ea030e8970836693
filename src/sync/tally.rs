//! Running counts of what this process has done, for progress bars, the demo and the summary. Not stored: the journal is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::conversica::outcome::Class;

#[derive(Debug, Default)]
pub struct Tally {
    rows: AtomicU64,
    outcomes: [AtomicU64; Class::ALL.len()],
}

impl Tally {
    pub fn set_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
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
