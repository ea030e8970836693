//! The result of one poll.

use serde::Serialize;

/// The numbers of one poll.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PollOutcome {
    pub rows: u64,
    /// Leads written: new, changed, faulty, gone, returned.
    pub changed: u64,
    pub created: u64,
    pub updated: u64,
    pub invalid: u64,
    /// Leads that are not introduced, because the person has opted out elsewhere.
    pub suppressed: u64,
    pub gone: u64,
    /// Leads among them that Conversica must stop messaging.
    pub stopped: u64,
    /// Changes waiting for approval.
    pub held: u64,
    /// Rows whose key names no lead: none at all, not valid UTF-8, too long.
    pub unnamed: u64,
    /// Sends below `approve_above`, without approval.
    #[serde(skip)]
    pub unasked: u64,
    /// Leads marked gone without approval.
    #[serde(skip)]
    pub lost: u64,
    /// Known leads that were missing and are in the source again.
    #[serde(skip)]
    pub back: u64,
}

impl PollOutcome {
    pub(crate) fn add(&mut self, more: PollOutcome) {
        let PollOutcome {
            rows,
            changed,
            created,
            updated,
            invalid,
            suppressed,
            gone,
            stopped,
            held,
            unnamed,
            unasked,
            lost,
            back,
        } = more;
        self.rows += rows;
        self.changed += changed;
        self.created += created;
        self.updated += updated;
        self.invalid += invalid;
        self.suppressed += suppressed;
        self.gone += gone;
        self.stopped += stopped;
        self.held += held;
        self.unnamed = self.unnamed.max(unnamed);
        self.unasked += unasked;
        self.lost += lost;
        self.back += back;
    }
}
