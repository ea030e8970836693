//! One log line for each lead that Conversica has rejected: its id and the class of the reason, never a value.

use chrono::{DateTime, Utc};
use tracing::{info, warn};

use crate::conversica::lead::LeadId;
use crate::rules::line_budget::{LineBudget, LineVerdict};

/// Lines in a minute. Thousands of leads of one wrong mapping are counted, and listed by `leads`.
const MOST: u32 = 20;

/// Writes those lines, few enough.
#[derive(Debug)]
pub(crate) struct RefusalLog(LineBudget);

impl Default for RefusalLog {
    fn default() -> Self {
        Self(LineBudget::new(MOST))
    }
}

impl RefusalLog {
    pub(crate) fn rejected(&mut self, lead: &LeadId, http_status: Option<u16>, now: DateTime<Utc>) {
        let verdict = self.0.admit(now);
        if verdict == LineVerdict::Skip {
            return;
        }
        let client_id = Some(&lead.client_id).filter(|client_id| !client_id.is_empty());
        warn!(id = lead.id, client_id, http_status, reason = reason(http_status), "a lead was rejected by Conversica");
        if verdict == LineVerdict::WriteLast {
            info!(
                "further rejected leads of this minute have no line of their own; `leads --status rejected` lists them"
            );
        }
    }
}

/// The class of the reason. Conversica's own words may repeat the lead's values; `lead ID` shows them.
fn reason(http_status: Option<u16>) -> &'static str {
    match http_status {
        Some(200..300) => "the answer says that the lead was not taken",
        Some(413) => "too large",
        Some(415) => "content type",
        Some(422) => "a value is not accepted",
        _ => "the content is not accepted",
    }
}
