//! Which due leads may be claimed.

use std::time::Duration;

/// At most so many people contacted for the first time within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPeopleCap {
    pub people: u32,
    pub within: Duration,
}

/// What may be claimed besides withdrawals of consent, which always may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimFilter {
    Everybody,
    /// People contacted before, and others, assumed ones among them, as far as every cap allows.
    Capped(Vec<NewPeopleCap>),
    /// Test leads only: those that are, and others until there are so many.
    TestLeads(u32),
    /// Nobody else.
    Withdrawals,
}
