//! Which rows a merge returns.

use crate::conversica::lead::{IdOrder, LeadId};
use crate::rules::cursor::Newest;
use crate::rules::lead_change::Known;
use crate::rules::line::{Batch, Line};
use crate::rules::mapping::Mapped;
use crate::rules::read_scope::{Scope, WholeNames};
use crate::send::consent::{self, Ledger};
use crate::send::merge::copies::Copies;
use crate::send::merge::expected_leads::ExpectedLeads;
use crate::source::crm::{Crm, Fitting, SourceSchema};
use crate::source::read::{BATCH_ROWS, Batches, Reading};
use crate::store::compare::{self, Doubted, KnownLeads};
use crate::store::state_db::StateDb;
use crate::store::{lead, tombstone};
use chrono::DateTime;
use chrono::Utc;
use std::cmp::Ordering;
use std::collections::VecDeque;

/// What the merge passes over in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Rows that say what they said before, and leads that have been missing for long.
    Differences,
    /// Rows that say what they said before and whose leads are not in doubt.
    Doubts(Doubted),
    /// Nothing.
    Everything,
}

impl Interest {
    /// Whether leads that have been missing for long are told of.
    const fn is_in_the_missing(self) -> bool {
        !matches!(self, Interest::Differences)
    }
}
