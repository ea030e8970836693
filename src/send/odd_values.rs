//! Withdrawals by odd opt-out values, as one poll sees them. See [`crate::rules::odd_opt_out`].

use std::collections::BTreeMap;

use crate::conversica::lead::LeadKey;
use crate::rules::lead_change::KnownLead;
use crate::rules::mapping::MappedRow;
use crate::rules::odd_opt_out::OptOutColumns;

/// What this poll knows about odd opt-out values.
#[derive(Debug, Default)]
pub(crate) struct OddValues {
    pub(crate) columns: OptOutColumns,
    pub(crate) stored: Option<OptOutColumns>,
    /// Withdrawals that wait until the poll knows their number; never more than [`UNDECIDED`].
    pub(crate) waiting: Vec<OddWithdrawal>,
    /// Withdrawals per key, decided ones included.
    pub(crate) counts: BTreeMap<LeadKey, u64>,
}

impl OddValues {
    pub(crate) fn new(columns: OptOutColumns, stored: Option<OptOutColumns>) -> Self {
        Self { columns, stored, ..Self::default() }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn leads(&self) -> impl Iterator<Item = &crate::conversica::lead::LeadId> {
        self.waiting.iter().map(|odd| &odd.mapped.lead)
    }
}

/// A row that withdraws consent by an odd value, of a lead that Conversica has.
#[derive(Debug)]
pub(crate) struct OddWithdrawal {
    pub(crate) mapped: MappedRow,
    pub(crate) known: Option<KnownLead>,
    pub(crate) delivered: Option<String>,
}

/// How many sends, and how many missing leads, stay in memory until the poll decides about them.
pub(crate) const UNDECIDED: usize = 10_000;
