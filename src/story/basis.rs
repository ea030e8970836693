//! The evidence for the content that Conversica is assumed to have: an acceptance, a baseline, or an unanswered request. Pure.
//!
//! The command line and the dashboard use the same words: only content that Conversica accepted is called accepted.

use crate::store::story::LeadStory;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveredBasis {
    /// It was never sent, and no baseline covered it.
    Nothing,
    /// Conversica accepted it.
    Accepted,
    /// A baseline assumes that Conversica knows the lead, which was never sent.
    Assumed,
    /// A baseline recorded it as delivered, for a lead that Conversica had, or may have had, with another content.
    Baseline,
    /// It was sent, and whether it arrived is unknown.
    Unanswered,
}

/// The headings of a lead's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeadings {
    pub title: &'static str,
    /// Above the fields of the content that Conversica is assumed to have.
    pub held: &'static str,
    /// Above the fields of the desired content.
    pub desired: &'static str,
}

impl DeliveredBasis {
    pub fn of(story: &LeadStory) -> Self {
        match (&story.delivered, story.assumed_at, story.delivered_at) {
            (None, _, _) => Self::Nothing,
            (Some(_), Some(_), _) => Self::Assumed,
            (Some(_), None, Some(_)) => Self::Accepted,
            (Some(_), None, None) if story.delivered_is_certain => Self::Baseline,
            (Some(_), None, None) => Self::Unanswered,
        }
    }

    pub fn headings(self, story: &LeadStory) -> ContentHeadings {
        let (invalid, same, other, held, holds) = match self {
            Self::Nothing => {
                let title = "What Conversica should hold; it has accepted nothing yet";
                (title, title, title, "", "Should hold")
            }
            Self::Accepted => (
                "What Conversica accepted last; the row makes no valid lead now",
                "What Conversica should hold, and holds",
                "What Conversica accepted last → what it should hold",
                "Accepted last",
                "Holds",
            ),
            Self::Assumed => (
                "What Conversica is assumed to hold, never sent; the row makes no valid lead now",
                "What Conversica is assumed to hold; it was never sent",
                "What Conversica is assumed to hold, never sent → what it should hold",
                "Assumed, never sent",
                "Assumed, never sent",
            ),
            Self::Baseline => (
                "What a baseline took as delivered; the row makes no valid lead now",
                "What Conversica should hold, taken as delivered by a baseline",
                "What a baseline took as delivered → what Conversica should hold",
                "Taken as delivered",
                "Taken as delivered",
            ),
            Self::Unanswered => (
                "What Conversica may hold: no answer came; the row makes no valid lead now",
                "What Conversica should hold, and may hold: no answer came",
                "What Conversica may hold, no answer came → what it should hold",
                "Sent, not answered",
                "Sent, not answered",
            ),
        };
        match &story.desired {
            None => ContentHeadings { title: invalid, held, desired: held },
            Some(desired) if story.delivered.as_ref() == Some(desired) => {
                ContentHeadings { title: same, held, desired: holds }
            }
            Some(_) => ContentHeadings { title: other, held, desired: "Should hold" },
        }
    }
}
