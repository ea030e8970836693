//! Texts that the command line and the dashboard share: numbers, the meaning of a status, and the question before a decision.

mod operator_pause;

pub use operator_pause::{not_paused, pause_begun, pause_ended, paused};

use crate::config::OnDelete;
use crate::rules::lead_status::LeadStatus;
use crate::store::held::{HeldLeads, ReleaseKind, ReleasedLeads};
use crate::store::resend::ResendGroup;

/// `1 lead`, `2 leads`.
pub fn leads(number: impl Into<i64>) -> String {
    let number = number.into();
    if number == 1 {
        "1 lead".to_owned()
    } else {
        format!("{} leads", self::number(u64::try_from(number).unwrap_or(0)))
    }
}

/// `1 post`, `1,200 posts`.
pub fn counted(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    let number = number.try_into().unwrap_or(0);
    format!("{} {}", self::number(number), if number == 1 { one } else { many })
}

/// `1,234,567`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 person`, `1,370 people`.
pub fn people(number: impl Into<i64>) -> String {
    match number.into() {
        1 => "1 person".to_owned(),
        many => format!("{} people", self::number(u64::try_from(many).unwrap_or(0))),
    }
}

/// How many people an approval contacts for the first time, as far as this state knows. `verb` is "would be" or "will be". An
/// earlier baseline assumes that Conversica knows `assumed_known` of them, which may be wrong.
pub fn first_contacts(new_people: i64, assumed_known: i64, verb: &str) -> String {
    let contacted = format!("{} {verb} contacted for the first time", people(new_people));
    match (new_people, assumed_known) {
        (_, 0) => contacted,
        (1, _) => format!("{contacted}, unless Conversica knows them: they are assumed known, and were never sent"),
        (all, assumed) if all == assumed => {
            format!("{contacted}, unless Conversica knows them: all of them are assumed known, and were never sent")
        }
        (_, assumed) => format!(
            "{contacted}; {} of them {} assumed known to Conversica, never sent",
            number(u64::try_from(assumed).unwrap_or(0)),
            if assumed == 1 { "is" } else { "are" }
        ),
    }
}

/// `3 min`, `2 h`, `5 days`.
pub fn roughly(seconds: u64) -> String {
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5_400 => format!("{} min", (seconds + 30) / 60),
        5_400..172_800 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} days", number((seconds + 43_200) / 86_400)),
    }
}

/// The meaning of `pending` and `retrying` while no lead is sent.
pub const WAITS_TO_BE_SENT: &str = "waits until requests leave again";

/// The meaning of a status, and the remedy.
pub fn meaning(status: LeadStatus) -> &'static str {
    match status {
        LeadStatus::InSync => "Conversica holds what the CRM says",
        LeadStatus::Pending => "to be sent now",
        LeadStatus::InFlight => "on its way",
        LeadStatus::Retrying => "failed for a passing reason; tried again by itself",
        LeadStatus::Held => "waiting for approval: approve or baseline",
        LeadStatus::Invalid => "the row lacks something; fix it in the CRM (plan says what)",
        LeadStatus::Rejected => "refused by Conversica; fix the row, or retry",
        LeadStatus::Exhausted => "failed for too long; fix the cause, then retry",
        LeadStatus::Gone => "no longer in the source",
        LeadStatus::Assumed => "assumed known to Conversica, never sent",
        LeadStatus::Suppressed => "not introduced: the person has opted out elsewhere, or is on the suppression list",
    }
}

/// The effect on leads whose row is missing.
pub fn parting(release: ReleaseKind, on_delete: OnDelete) -> &'static str {
    match (release, on_delete) {
        (ReleaseKind::Send, OnDelete::StopMessaging) => {
            "are gone from the source: Conversica is told to stop messaging those that it knows"
        }
        (ReleaseKind::Send | ReleaseKind::Baseline, _) => "are gone from the source: nothing is sent for them",
    }
}

/// The reasons of these holds, with the number of leads.
pub fn held_for(held: &HeldLeads) -> String {
    let reasons: Vec<String> = held.reasons.iter().map(|(reason, leads)| format!("{reason} {leads}")).collect();
    reasons.join(", ")
}

/// The question before a decision.
pub fn question(held: &HeldLeads, release: ReleaseKind, on_delete: OnDelete) -> String {
    let reasons = held_for(held);
    let gone = match held.missing {
        0 => String::new(),
        missing => format!("{} {}. ", leads(missing), parting(release, on_delete)),
    };
    if held.missing > 0 && held.missing == held.leads {
        return format!("{gone}Is that right (held: {reasons})?");
    }
    let held_for = format!("{} (held: {reasons})", leads(held.leads - held.missing));
    match release {
        ReleaseKind::Send => {
            format!("{gone}Send {held_for}? {}.", first_contacts(held.new_people, held.assumed_known, "will be"))
        }
        ReleaseKind::Baseline => format!(
            "{gone}Treat {held_for} as already delivered, and send nothing? {} that Conversica may not know will not be \
             contacted.",
            people(held.new_people)
        ),
    }
}

/// The effect on the released leads, one sentence each.
pub fn released(released: &ReleasedLeads, release: ReleaseKind, on_delete: OnDelete) -> Vec<String> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let others = released.leads.saturating_sub(released.missing);
    let known = others.saturating_sub(released.new_people);
    let mut sentences = Vec::new();
    if released.missing > 0 {
        sentences.push(format!("{} {}.", leads(signed(released.missing)), parting(release, on_delete)));
    }
    if others == 0 && released.missing > 0 {
        return sentences;
    }
    match release {
        ReleaseKind::Send => {
            let updates = if known == 1 { "1 update".to_owned() } else { format!("{} updates", number(known)) };
            sentences.push(format!("{} will be sent.", leads(signed(others))));
            let new_people = people(signed(released.new_people));
            sentences.push(format!("{new_people} will be contacted for the first time, {updates}."));
            if released.assumed_known > 0 {
                let assumed = people(signed(released.assumed_known));
                sentences.push(format!("Of these, {assumed}: assumed known to Conversica, and never sent before."));
            }
        }
        ReleaseKind::Baseline => {
            if released.new_people > 0 || known == 0 {
                let are = if released.new_people == 1 { "is" } else { "are" };
                sentences.push(format!("{} {are} now assumed known, never sent.", leads(signed(released.new_people))));
            }
            if known > 0 {
                let are = if known == 1 { "counts" } else { "count" };
                sentences.push(format!(
                    "{} that Conversica had before {are} as up to date: nothing is sent.",
                    leads(signed(known))
                ));
            }
        }
    }
    sentences
}

/// The number of held leads when they were shown, and now.
pub fn outgrown(shown: i64, now: i64) -> String {
    format!("More is held than was shown: {} then, {now} now.", leads(shown))
}

/// The result of a retry.
pub fn requeued(number: u64) -> String {
    format!("{} back in the queue.", leads(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// Leads that leave after the next poll.
pub fn resend_queued(number: u64) -> String {
    format!(
        "{} back in the queue, to be sent when the next poll has found their rows.",
        leads(i64::try_from(number).unwrap_or(i64::MAX))
    )
}

/// The leads that are to be sent again: a line for each conversation.
pub fn resend_groups(groups: &[ResendGroup]) -> Vec<String> {
    let line = |group: &ResendGroup| {
        let name = if group.conversation.is_empty() { "(no conversationId)" } else { &group.conversation };
        let assumed = match group.assumed {
            0 => String::new(),
            assumed => format!(", {} of them assumed known, never sent", number(assumed.unsigned_abs())),
        };
        format!("{name}: {}{assumed}", leads(group.leads))
    };
    groups.iter().map(line).collect()
}

/// The people that a resend contacts.
pub fn resend_people(all: i64, assumed: i64) -> String {
    let known = people(all - assumed);
    match assumed {
        0 => format!("{known} that Conversica has accepted before."),
        assumed => format!(
            "{known} that Conversica has accepted before; {} will be contacted for the first time, as far as is known.",
            people(assumed)
        ),
    }
}

/// The result of a resend above the limit.
pub fn resend_held(number: u64, limit: i64) -> String {
    format!(
        "{} wait for approval (resend): more than [safety] approve_above = {limit}. `conversica-sync approve --reason resend` \
         sends them, `conversica-sync baseline --reason resend` leaves things as they are.",
        leads(i64::try_from(number).unwrap_or(i64::MAX))
    )
}

/// The result of lifting a halt.
pub fn resumed(was_halted: bool) -> &'static str {
    if was_halted {
        "The halt is lifted. The next request goes alone, until Conversica accepts it."
    } else {
        "There is no halt."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_said_as_people_say_it() {
        let said = [10, 89, 180, 5_399, 7_200, 172_800, 86_400_000].map(roughly);
        assert_eq!(said, ["10 s", "89 s", "3 min", "90 min", "2 h", "2 days", "1,000 days"]);
    }

    #[test]
    fn numbers_are_set_off_by_thousands() {
        let numbers = [0, 999, 1000, 12_345, 123_456, 10_000_000].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345", "123,456", "10,000,000"]);
    }
}
