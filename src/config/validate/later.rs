//! Settings of the contract that this version knows and cannot honour yet: they get a warning.

use super::Report;
use crate::config::{OnAmbiguous, Settings};

pub fn check(settings: &Settings, report: &mut Report<'_>) {
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
