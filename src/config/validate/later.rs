//! What is set and cannot take effect as the other settings stand: it gets a warning.

use crate::config::validate::report::Report;
use crate::config::{OnAmbiguous, Settings};

pub fn check(settings: &Settings, report: &mut Report<'_>) {
    if settings.delivery.on_ambiguous == OnAmbiguous::Wait && settings.receive.is_none() {
        report.warning(
            "delivery.on_ambiguous",
            "`delivery.on_ambiguous` is `wait`, but there is no receiver ([receive] is not set), so no word from Conversica can end the \
             wait: the lead is sent again after `delivery.ambiguous_wait`",
        );
    }
}
