//! The one sentence at the top of the dashboard: is the service working? Pure.

use chrono::{DateTime, Utc};

use super::sending::SendingState;
use crate::admin::judgement::UnreadyReason;
use crate::rules::lead_status::LeadStatus;
use crate::status::StatusReport;
use crate::wording::{leads, meaning, number};

/// The urgency, from calm to urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictTone {
    Well,
    Busy,
    Look,
    Stopped,
}

impl VerdictTone {
    pub fn class(self) -> &'static str {
        match self {
            VerdictTone::Well => "well",
            VerdictTone::Busy => "busy",
            VerdictTone::Look => "look",
            VerdictTone::Stopped => "stopped",
        }
    }
}

/// `reasons` are why the daemon is not ready, and `sending` is whether requests leave.
pub fn verdict(
    report: &StatusReport,
    reasons: &[UnreadyReason],
    sending: SendingState,
    now: DateTime<Utc>,
) -> (VerdictTone, String) {
    match sending {
        SendingState::Halted => {
            return (VerdictTone::Stopped, "Halted: nothing is sent until an operator fixes the cause".to_owned());
        }
        SendingState::StateUnwritable => {
            return (VerdictTone::Stopped, "The state cannot be written: nothing is sent".to_owned());
        }
        SendingState::PausedByOperator | SendingState::Paused(_) | SendingState::Probing | SendingState::Flowing => {}
    }
    if reasons.iter().any(|reason| reason.reason == "source") {
        return (VerdictTone::Stopped, "The CRM cannot be read: changes are not found".to_owned());
    }
    if sending == SendingState::PausedByOperator {
        return (VerdictTone::Look, "Paused by an operator: no first contact and no update is sent".to_owned());
    }
    let stuck: i64 = [LeadStatus::Rejected, LeadStatus::Exhausted, LeadStatus::Invalid]
        .map(|status| report.leads(status))
        .iter()
        .sum();
    let (need, needs) =
        (number(u64::try_from(stuck).unwrap_or(0)), if stuck == 1 { "lead needs" } else { "leads need" });
    if let Some(hold) = &report.hold {
        let wait = if hold.leads == 1 { "waits" } else { "wait" };
        return (VerdictTone::Look, format!("{} {wait} for your decision", counted(hold.leads)));
    }
    match sending {
        SendingState::Paused(until) => {
            let until = until.format("%T UTC");
            return (VerdictTone::Look, format!("Conversica asked for a pause: nothing is sent before {until}"));
        }
        SendingState::Probing => {
            return (VerdictTone::Look, "Conversica does not answer well: one lead at a time is tried".to_owned());
        }
        SendingState::Halted
        | SendingState::StateUnwritable
        | SendingState::PausedByOperator
        | SendingState::Flowing => {}
    }
    if let Some(pause) = &report.pause {
        return (VerdictTone::Look, format!("Working, except for what an operator has paused: {}", pause.names()));
    }
    let possible = report.received.possible_opt_outs;
    if possible > 0 {
        let (may, wait) = if possible == 1 { ("an opt-out", "waits") } else { ("opt-outs", "wait") };
        let posts = damaged_posts(possible);
        return (VerdictTone::Look, format!("Working, and {posts} that may be {may} {wait} for your decision"));
    }
    if stuck > 0 {
        return (VerdictTone::Look, format!("Working, and {need} {needs} a person"));
    }
    if report.unnamed() > 0 {
        let (rows, have) = match report.unnamed() {
            1 => ("1 row".to_owned(), "has"),
            many => (format!("{} rows", number(many)), "have"),
        };
        return (VerdictTone::Look, format!("Working, and {rows} of the CRM {have} no usable key"));
    }
    if report.last_poll.is_none() {
        return (VerdictTone::Busy, "Starting: nothing has been read yet".to_owned());
    }
    let under_way: i64 = [LeadStatus::Pending, LeadStatus::InFlight, LeadStatus::Retrying]
        .map(|status| report.leads(status))
        .iter()
        .sum();
    if under_way > 0 {
        let are = if under_way == 1 { "is" } else { "are" };
        let capped = report.pacing.as_ref().is_some_and(|pacing| pacing.new_people_wait_until > Some(now));
        return if capped {
            let turn = "at the pace that the caps on new people allow";
            (VerdictTone::Busy, format!("All is well: {} {are} to be sent, {turn}", counted(under_way)))
        } else {
            (VerdictTone::Busy, format!("All is well: {} {are} on the way", counted(under_way)))
        };
    }
    let assumed = report.leads(LeadStatus::Assumed);
    if assumed > 0 {
        let known = format!("{} {}", counted(assumed), if assumed == 1 { "is" } else { "are" });
        return (
            VerdictTone::Well,
            format!("All is well: nothing waits to be sent; {known} {}", meaning(LeadStatus::Assumed)),
        );
    }
    (VerdictTone::Well, "All is well: Conversica holds what the CRM says".to_owned())
}

/// `1,234 leads`.
pub fn counted(number_of: i64) -> String {
    match number_of {
        1 => leads(1),
        many => format!("{} leads", number(u64::try_from(many).unwrap_or(0))),
    }
}

/// `2 damaged posts`.
pub fn damaged_posts(number_of: i64) -> String {
    match number_of {
        1 => "1 damaged post".to_owned(),
        many => format!("{} damaged posts", number(u64::try_from(many).unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::poll_record::LastPoll;
    use crate::status::{HaltShown, HoldShown};

    #[test]
    fn the_most_urgent_is_said() {
        let mut report = StatusReport::before_the_first_run();
        let at = DateTime::UNIX_EPOCH;
        let said = |report: &StatusReport, reasons: &[UnreadyReason]| {
            let (tone, said) = verdict(report, reasons, SendingState::of(report, reasons, at), at);
            (tone.class(), said.split(':').next().unwrap_or_default().to_owned())
        };
        assert_eq!(said(&report, &[]), ("busy", "Starting".to_owned()));
        let poll = LastPoll {
            at,
            kind: "full".to_owned(),
            rows: 1,
            changed: 0,
            duration_ms: 1,
            error: None,
            cure: None,
            unnamed: 0,
            failing_since: None,
            succeeded_at: Default::default(),
            instances: None,
        };
        report.last_poll = Some(poll);
        assert_eq!(said(&report, &[]), ("well", "All is well".to_owned()));
        report.leads.insert("assumed", 1370);
        let well = verdict(&report, &[], SendingState::Flowing, at).1;
        assert!(well.ends_with("1,370 leads are assumed known to Conversica, never sent"), "{well}");
        report.leads.insert("pending", 1);
        assert_eq!(verdict(&report, &[], SendingState::Flowing, at).1, "All is well: 1 lead is on the way");
        report.leads.insert("rejected", 1);
        assert_eq!(said(&report, &[]), ("look", "Working, and 1 lead needs a person".to_owned()));
        report.received.possible_opt_outs = 1;
        let said_of_one = "Working, and 1 damaged post that may be an opt-out waits for your decision";
        assert_eq!(said(&report, &[]), ("look", said_of_one.to_owned()));
        let reason = "first_run".to_owned();
        report.hold = Some(HoldShown { reason, since: at, leads: 1200, new_people: 1200, assumed_known: 0 });
        assert_eq!(said(&report, &[]), ("look", "1,200 leads wait for your decision".to_owned()));
        let source = UnreadyReason { reason: "source", detail: String::new(), cure: "" };
        assert_eq!(said(&report, &[source]).0, "stopped");
        report.halt = Some(HaltShown { reason: "forbidden", since: at, detail: None, cure: "" });
        assert_eq!(said(&report, &[]), ("stopped", "Halted".to_owned()));
    }
}
