//! The reports about conversations, one for each span of time that can be asked for.

use std::sync::Arc;

use crate::admin::kept_read::KeptRead;
use crate::rules::conversation_report::ConversationReport;

/// The spans of time that a page may be about, in days.
pub const SPANS: [(i64, &str); 4] = [(1, "24 hours"), (7, "7 days"), (30, "30 days"), (90, "90 days")];
/// The place of the span that is shown unless another is asked for.
pub const USUAL: usize = 1;

/// The newest report of each span of time.
#[derive(Debug, Default)]
pub struct ConversationReports([Arc<KeptRead<ConversationReport>>; SPANS.len()]);

impl ConversationReports {
    /// The report of the span at that place.
    pub fn of_span(&self, place: usize) -> &Arc<KeptRead<ConversationReport>> {
        &self.0[place]
    }
}
