//! Log lines about what Conversica has posted of a lead: opt-outs and hot leads, by their ids, and not too many in a minute.

use chrono::{DateTime, Utc};
use tracing::info;

use crate::conversica::lead::LeadId;
use crate::rules::line_budget::{LineBudget, LineVerdict};
use crate::store::heard::AppliedEvents;

/// Lines of each kind in a minute.
const MOST: u32 = 20;

#[derive(Debug)]
pub(super) struct HeardLog {
    opt_outs: LineBudget,
    hot_leads: LineBudget,
}

impl HeardLog {
    pub(super) fn new() -> Self {
        Self { opt_outs: LineBudget::new(MOST), hot_leads: LineBudget::new(MOST) }
    }

    pub(super) fn write(&mut self, applied: &AppliedEvents, now: DateTime<Utc>) {
        for lead in &applied.opted_out {
            each(&mut self.opt_outs, lead, now, |id, client_id| {
                info!(id, client_id, "Conversica has reported an opt-out");
            });
        }
        for lead in &applied.hot {
            each(&mut self.hot_leads, lead, now, |id, client_id| {
                info!(id, client_id, "Conversica has reported a hot lead");
            });
        }
    }
}

fn each(budget: &mut LineBudget, lead: &LeadId, now: DateTime<Utc>, line: impl Fn(&str, Option<&str>)) {
    let verdict = budget.admit(now);
    if verdict == LineVerdict::Skip {
        return;
    }
    line(&lead.id, Some(lead.client_id.as_str()).filter(|client_id| !client_id.is_empty()));
    if verdict == LineVerdict::WriteLast {
        info!("further posts of this kind have no line of their own in this minute; `received` lists them");
    }
}
