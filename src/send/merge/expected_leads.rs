//! The state's side of a merge: the leads that rows are compared with.

use std::collections::VecDeque;

use crate::conversica::lead::{IdOrder, LeadId};
use crate::send::merge::interest::MergeInterest;
use crate::store::compare::KnownLeads;
use crate::store::packed::ComparedLead;

/// The state's side.
pub(crate) enum ExpectedLeads {
    /// All leads of the state, in this order.
    InOrder(IdOrder, KnownLeads),
    /// Only the leads of the rows that are read: none can be missing.
    LookedUp,
    /// These leads, in byte order.
    Asked(VecDeque<LeadId>),
}

impl ExpectedLeads {
    /// The order of the rows: narrow scopes use byte order.
    pub fn order(&self) -> IdOrder {
        match self {
            ExpectedLeads::InOrder(order, _) => *order,
            ExpectedLeads::LookedUp | ExpectedLeads::Asked(_) => IdOrder::Bytes,
        }
    }

    /// The next lead that the source should have, and the order of the leads.
    pub async fn front(&mut self) -> Result<Option<(IdOrder, (&str, &str))>, sqlx::Error> {
        Ok(match self {
            ExpectedLeads::InOrder(order, known) => {
                known.fill().await?;
                known.peek().map(|known| (*order, known.lead.as_pair()))
            }
            ExpectedLeads::Asked(leads) => leads.front().map(|lead| (IdOrder::Bytes, lead.as_pair())),
            ExpectedLeads::LookedUp => None,
        })
    }

    /// The source has this lead. For leads of a narrow scope the earlier row hash is unknown.
    pub fn pop(&mut self) -> Option<ComparedLead> {
        match self {
            ExpectedLeads::InOrder(_, known) => known.pop(),
            ExpectedLeads::Asked(leads) => {
                leads.pop_front().map(|lead| ComparedLead { lead, row_hash: None, gone: false })
            }
            ExpectedLeads::LookedUp => None,
        }
    }

    /// The source has no row for this lead.
    pub fn is_missing(&mut self, interest: MergeInterest) -> Option<LeadId> {
        let known = self.pop()?;
        (interest.is_in_the_missing() || !known.gone).then_some(known.lead)
    }
}
