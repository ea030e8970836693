//! Warns of settings that have no effect in combination with the others.

use crate::config::validate::report::ValidationReport;
use crate::config::{OnAmbiguous, ServiceSettings};

pub fn check(settings: &ServiceSettings, report: &mut ValidationReport<'_>) {
    if settings.delivery.on_ambiguous == OnAmbiguous::Wait && settings.receive.is_none() {
        report.warning(
            "delivery.on_ambiguous",
            "`delivery.on_ambiguous` is `wait`, but there is no receiver ([receive] is not set), so no word from Conversica can end the \
             wait: the lead is sent again after `delivery.ambiguous_wait`",
        );
    }
}
