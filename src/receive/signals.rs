//! Signals between the loops of the receiver.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pulse::LoopPulse;

/// Signals that wake the loops. Each loop also checks regularly: a cause may come from another instance.
#[derive(Debug, Clone, Default)]
pub struct LoopSignals {
    /// A post was stored.
    pub stored: Arc<Notify>,
    /// A post was stored, for the search of unreadable posts.
    pub searched: Arc<Notify>,
    /// An event waits to be written to the CRM.
    pub writeback: Arc<Notify>,
    /// An alert waits to be sent.
    pub alert: Arc<Notify>,
    /// A lead became due.
    pub deliver: Arc<Notify>,
}

impl LoopSignals {
    /// Wakes the loops that apply posts.
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
