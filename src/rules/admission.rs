//! Which due leads may be claimed.

use std::time::Duration;

/// At most `people` first contacts within this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPeopleCap {
    pub people: u32,
    pub within: Duration,
}

/// The leads that may be claimed besides withdrawals of consent, which always may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimFilter {
    Everybody,
    /// People contacted before, and new people (assumed ones among them) as far as every cap allows.
    Capped(Vec<NewPeopleCap>),
    /// Leads sent as test leads before, and others up to this number in total.
    TestLeads(u32),
    /// No other leads.
    Withdrawals,
}
