//! Texts about pauses by an operator.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::console::printable;
use crate::error::SetupError;
use crate::rules::operator_pause::{OperatorPause, PauseScope, PauseShown};

const WHAT_STOPS: &str = "no first contact and no update is sent; withdrawals of consent are";

/// The pauses in force, with what ends each; for `status` and `plan`.
pub fn paused(shown: &PauseShown) -> String {
    let mut text = String::new();
    for pause in &shown.scopes {
        let since = pause.since.format("%F %T UTC");
        let (who, end) = (printable(&pause.who), end(pause.until));
        let _ = writeln!(text, "PAUSED ({}) since {since} by {who}, until {end}: {WHAT_STOPS}.", scope(pause));
        if let Some(reason) = &pause.reason {
            let _ = writeln!(text, "  reason: {}", printable(reason));
        }
        let _ = match &pause.conversation {
            None => writeln!(text, "  to end it: conversica-sync unpause\n"),
            Some(name) => writeln!(text, "  to end it: conversica-sync unpause --conversation {}\n", quoted(name)),
        };
    }
    text
}

/// The answer to `pause`.
pub fn pause_begun(pauses: &[OperatorPause]) -> String {
    let until = pauses.first().and_then(|pause| pause.until);
    format!(
        "Paused until {}: {}. From now on {WHAT_STOPS}, and posts are received. Requests on their way are not taken back.",
        end(until),
        list(pauses)
    )
}

/// The answer to `unpause`; `left` are the pauses that go on.
pub fn pause_ended(ended: &[OperatorPause], left: Option<&PauseShown>) -> String {
    let left = left.map(|left| format!(" Still paused: {}.", printable(&left.names())));
    format!("The pause is ended: {}. What waits is sent.{}", list(ended), left.unwrap_or_default())
}

/// The answer to `unpause` where one of the scopes is not paused.
pub fn not_paused(scopes: &[PauseScope], in_force: Option<&PauseShown>) -> SetupError {
    let names: Vec<String> = scopes
        .iter()
        .filter_map(|scope| match scope {
            PauseScope::Everybody => None,
            PauseScope::Conversation(name) => Some(quoted(name)),
        })
        .collect();
    let what = match names.as_slice() {
        [] => "nothing is paused".to_owned(),
        names => format!("no pause of its own has the conversation {}", names.join(", ")),
    };
    let cure = match in_force {
        None => "look at `conversica-sync status`: nothing is paused".to_owned(),
        Some(shown) if shown.is_of_everybody() => "everybody is paused: `conversica-sync unpause` ends that".to_owned(),
        Some(shown) => format!("paused are: {}; `conversica-sync status` shows them", printable(&shown.names())),
    };
    SetupError::new(format!("{what}, so nothing was changed"), cure)
}

fn end(until: Option<DateTime<Utc>>) -> String {
    until.map_or("a person ends it".to_owned(), |until| until.format("%F %T UTC").to_string())
}

fn scope(pause: &OperatorPause) -> String {
    match &pause.conversation {
        None => "everybody".to_owned(),
        Some(name) => format!("conversation {}", quoted(name)),
    }
}

fn list(pauses: &[OperatorPause]) -> String {
    pauses.iter().map(scope).collect::<Vec<_>>().join(", ")
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", printable(name))
}
