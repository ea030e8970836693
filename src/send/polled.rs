//! What one poll did.

use crate::config::Settings;
use crate::conversica::lead::{LeadId, RowHash};
use crate::rules::diff::{self, Difference, Kind};
use crate::rules::guard::{Admission, Found, Hold, Losses, Verdict};
use crate::rules::hold_reason::{FIRST_RUN, SOURCE_SHRANK, TOO_MANY_CHANGES};
use crate::rules::lead_change::{Change, Known};
use crate::rules::mapping::Mapped;
use crate::send::fence::Fence;
use crate::send::merge::Item;
use crate::send::step::Weight;
use crate::source::read::BATCH_ROWS;
use crate::store::control::{self, KeptBack};
use crate::store::state_db::StateDb;
use crate::store::{consent, gone, held, lead};
use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use std::time::Instant;

/// What a poll found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Polled {
    pub rows: u64,
    /// Leads written: new, changed, faulty, gone, returned.
    pub changed: u64,
    pub created: u64,
    pub updated: u64,
    pub invalid: u64,
    pub gone: u64,
    /// Of them: Conversica is told to stop messaging them.
    pub stopped: u64,
    /// Changes that wait for a person.
    pub held: u64,
    /// Rows whose key names no lead: none at all, not valid UTF-8, too long.
    pub unnamed: u64,
    /// Sends that went under `approve_above` unasked.
    #[serde(skip)]
    pub unasked: u64,
    /// Leads that were taken for gone unasked.
    #[serde(skip)]
    pub lost: u64,
    /// Leads that had been, and are there again.
    #[serde(skip)]
    pub back: u64,
}

impl Polled {
    pub(crate) fn add(&mut self, more: Polled) {
        let Polled { rows, changed, created, updated, invalid, gone, stopped, held, unnamed, unasked, lost, back } =
            more;
        self.rows += rows;
        self.changed += changed;
        self.created += created;
        self.updated += updated;
        self.invalid += invalid;
        self.gone += gone;
        self.stopped += stopped;
        self.held += held;
        self.unnamed = self.unnamed.max(unnamed);
        self.unasked += unasked;
        self.lost += lost;
        self.back += back;
    }
}
