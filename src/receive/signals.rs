//! How the loops of the receiver wake each other.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pulse::LoopPulse;

/// How the parts wake each other. Each also looks by itself now and then: a signal may come from another instance.
#[derive(Debug, Clone, Default)]
pub struct LoopSignals {
    /// Something was stored.
    pub stored: Arc<Notify>,
    /// Something was stored, for the search of what cannot be read.
    pub searched: Arc<Notify>,
    /// Something waits to be written to the CRM.
    pub writeback: Arc<Notify>,
    /// Somebody waits to be told.
    pub alert: Arc<Notify>,
    /// Something became due to be sent.
    pub deliver: Arc<Notify>,
}

impl LoopSignals {
    /// Wakes those who take in posts.
    pub fn notify_stored(&self) {
        self.stored.notify_one();
        self.searched.notify_one();
    }
}

/// What each loop of the receiver is given.
#[derive(Debug, Clone)]
pub struct ReceiveLoop {
    pub signals: LoopSignals,
    pub pulse: Arc<LoopPulse>,
    /// Ends the loop.
    pub stop: CancellationToken,
}
