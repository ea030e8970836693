//! What a poll may send without asking a person. Pure.
//!
//! Decided before the first row is read where that is possible; otherwise the poll keeps its changes to itself until it
//! knows how many there are, or that there are too many.

use std::time::Duration;

use crate::config::{FirstRun, Safety, Settings};
use crate::state::control::Hold;
use crate::state::due::{Admit, Cap};
use crate::state::held::{FIRST_RUN, MAPPING_CHANGED, TOO_MANY_CHANGES};

/// How a poll treats the sends it finds. Withdrawals of consent are never held, whatever this says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Send them all.
    Send,
    /// Hold them all, for this reason.
    Hold(&'static str),
    /// Hold them all, then take them as delivered.
    Baseline,
    /// Send up to `limit`; if there are more, hold them all for `reason`.
    UpTo { limit: usize, reason: &'static str },
}

/// Whether the first pass has been decided upon, and whether the mapping is the one it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    pub first_run_done: bool,
    pub mapping_changed: bool,
}

pub fn admission(safety: &Safety, history: History, standing: Option<&Hold>) -> Admission {
    if !history.first_run_done {
        // The setting is itself the approval of the first pass, whatever its size.
        return match safety.first_run {
            Some(FirstRun::Send) => Admission::Send,
            Some(FirstRun::Baseline) => Admission::Baseline,
            None => Admission::Hold(FIRST_RUN),
        };
    }
    if let Some(hold) = standing {
        return Admission::Hold(reason_named(&hold.reason));
    }
    match safety.approve_above {
        0 => Admission::Send,
        limit => Admission::UpTo {
            limit: limit as usize,
            reason: if history.mapping_changed { MAPPING_CHANGED } else { TOO_MANY_CHANGES },
        },
    }
}

/// Who may be claimed, as the settings have it; with the Test Lead Token, at most so many distinct leads.
pub fn admit(settings: &Settings, test_leads: u32) -> Admit {
    const HOUR: Duration = Duration::from_secs(3600);
    let safety = &settings.safety;
    if settings.conversica.test_lead_token.is_some() {
        return Admit::TestLeads(test_leads);
    }
    let caps = [(safety.new_leads_per_hour, HOUR), (safety.new_leads_per_day, 24 * HOUR)];
    let caps: Vec<Cap> =
        caps.into_iter().filter(|(people, _)| *people > 0).map(|(people, within)| Cap { people, within }).collect();
    if caps.is_empty() { Admit::Everybody } else { Admit::Capped(caps) }
}

fn reason_named(name: &str) -> &'static str {
    [FIRST_RUN, MAPPING_CHANGED].into_iter().find(|reason| *reason == name).unwrap_or(TOO_MANY_CHANGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConversationChanges;

    fn safety(first_run: Option<FirstRun>, approve_above: u32) -> Safety {
        Safety {
            first_run,
            approve_above,
            new_leads_per_hour: 0,
            new_leads_per_day: 0,
            conversation_changes: ConversationChanges::Send,
        }
    }

    const FIRST: History = History { first_run_done: false, mapping_changed: false };
    const LATER: History = History { first_run_done: true, mapping_changed: false };

    #[test]
    fn a_first_run_nobody_decided_upon_is_held() {
        assert_eq!(admission(&safety(None, 1000), FIRST, None), Admission::Hold(FIRST_RUN));
        assert_eq!(admission(&safety(None, 0), FIRST, None), Admission::Hold(FIRST_RUN));
    }

    #[test]
    fn a_first_run_set_to_send_is_approved_whatever_its_size() {
        assert_eq!(admission(&safety(Some(FirstRun::Send), 1), FIRST, None), Admission::Send);
    }

    #[test]
    fn later_polls_send_up_to_the_limit() {
        let up_to = |reason| Admission::UpTo { limit: 1000, reason };
        assert_eq!(admission(&safety(Some(FirstRun::Send), 1000), LATER, None), up_to(TOO_MANY_CHANGES));
        let remapped = History { mapping_changed: true, ..LATER };
        assert_eq!(admission(&safety(None, 1000), remapped, None), up_to(MAPPING_CHANGED));
        assert_eq!(admission(&safety(None, 0), LATER, None), Admission::Send);
    }

    #[test]
    fn changes_that_arrive_during_a_hold_join_it() {
        let hold = Hold { reason: MAPPING_CHANGED.into(), since: chrono::DateTime::UNIX_EPOCH };
        assert_eq!(admission(&safety(None, 0), LATER, Some(&hold)), Admission::Hold(MAPPING_CHANGED));
    }
}
