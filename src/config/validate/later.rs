//! Settings of the contract that this version knows and cannot honour yet. Those that keep people from being written to
//! are refused, for a guard that is set and does nothing is worse than none; the others get a warning.

use super::Report;
use crate::config::{Changes, OnAmbiguous, Settings};

pub fn check(settings: &Settings, report: &mut Report<'_>) {
    let source = &settings.source;
    if source.changes == Changes::Triggers {
        report.problem(
            "source.changes",
            "`source.changes` asks for something that this version cannot do yet",
            "For now, write changes = \"poll\".",
        );
    }
    if settings.delivery.on_ambiguous == OnAmbiguous::Wait {
        report.warning(
            "delivery.on_ambiguous",
            "`delivery.on_ambiguous` is `wait`, but this version has no receiver, so no word from Conversica can end the wait: the lead is sent again after \
             `delivery.ambiguous_wait`",
        );
    }
    if settings.receive.is_some() {
        report
            .warning("receive.listen", "this version has no receiver yet: nothing that Conversica sends back is taken");
    }
}
