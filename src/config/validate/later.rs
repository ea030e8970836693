//! Settings of the contract that this version knows and cannot honour yet. Those that keep people from being written to
//! are refused, for a guard that is set and does nothing is worse than none; the others get a warning.

use super::Report;
use crate::config::{OnAmbiguous, OnDelete, Settings};

pub fn check(settings: &Settings, report: &mut Report<'_>) {
    let source = &settings.source;
    let refused = [("source.on_delete", source.on_delete == OnDelete::StopMessaging, "write on_delete = \"ignore\"")];
    for (key, set, cure) in refused {
        if set {
            report.problem(
                key,
                format!("`{key}` asks for something that this version cannot do yet"),
                format!("For now, {cure}."),
            );
        }
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
