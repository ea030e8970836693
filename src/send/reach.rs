//! How far one poll reads.

use crate::config::{FirstRun, Settings, Source};
use crate::db::discreet::{in_words, split_cure};
use crate::histogram::Histogram;
use crate::rules::cursor::{Cursor, Newest, StampPolicy};
use crate::rules::guard::{self, Admission, History, Hold, Losses};
use crate::rules::hold_reason::{FIRST_RUN, MAPPING_CHANGED, RESTORED, SOURCE_SHRANK, TOO_MANY_CHANGES};
use crate::rules::poll_record::{self, LastPoll};
use crate::rules::read_scope::Scope;
use crate::rules::settled::Settled;
use crate::rules::window::{self, PollSight};
use crate::send::allowance::Allowance;
use crate::send::fence::{Fence, Instance};
use crate::send::merge::Merge;
use crate::send::merge::interest::Interest;
use crate::send::polled::Polled;
use crate::send::resume::{self, Progress};
use crate::send::step::{self, Behind, Touch};
use crate::send::tally::{PollKind, Tally};
use crate::send::writes::Writes;
use crate::send::{again, drain};
use crate::source::crm::{Crm, Fitting};
use crate::store::backup::Restored;
use crate::store::control::{self, CompareAsked, Comparing, Facts, FirstRunDone, KeptBack, MappingInUse};
use crate::store::held::{self, Release, Selection};
use crate::store::state_db::StateDb;
use crate::store::{ahead, consent};
use chrono::DateTime;
use chrono::Utc;
use std::time::Duration;
use std::time::Instant;
use tracing::warn;

/// What a step of a poll has compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Covered {
    Everything,
    /// The rows of the leads that were touched.
    Touched,
    /// Some rows, and not by name.
    Part,
    /// Everything has to be compared first: what it found is as if it had not been looked at.
    Nothing,
}

/// How much a poll reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// What has changed since the cursor, or everything when a full compare is due.
    #[default]
    AsDue,
    Everything,
}
