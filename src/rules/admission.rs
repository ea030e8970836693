//! Which due leads may be claimed. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::rules::billing_month::BillingMonth;

/// At most `people` first contacts within this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPeopleCap {
    pub people: u32,
    pub span: CapSpan,
}

/// The time within which a cap counts first contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapSpan {
    /// The last hour, or the last day, up to the present moment.
    Sliding(Duration),
    /// The month of the contract.
    Month(BillingMonth),
}

impl CapSpan {
    /// First contacts after this moment count.
    pub fn counts_after(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            CapSpan::Sliding(within) => now - within,
            CapSpan::Month(month) => month.begun_at(now) - TimeDelta::microseconds(1),
        }
    }

    /// When a first contact that counts now counts no longer.
    pub fn frees_at(self, introduced_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            CapSpan::Sliding(within) => introduced_at + within,
            CapSpan::Month(month) => month.ends_at(now),
        }
    }
}

/// How much of the month's budget of first contacts is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetUse {
    /// `[safety] new_leads_per_month`.
    pub people: i64,
    pub used: i64,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

impl BudgetUse {
    /// Whether at least four fifths are used.
    pub fn is_nearly_used(&self) -> bool {
        self.used.saturating_mul(5) >= self.people.saturating_mul(4)
    }
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
