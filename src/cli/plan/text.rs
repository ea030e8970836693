//! A plan in words: the numbers first, then lead by lead.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::table::{self, number};
use crate::console::printable;
use crate::conversica::lead::LeadId;
use crate::rules::hold_reason::HoldReason;
use crate::rules::plan_forecast::PlanForecast;
use crate::rules::plan_totals::{PlanTotals, RowReason};
use crate::send::planned_lead::PlannedLead;
use crate::wording::{counted, first_contacts, paused, roughly};

/// Conversations, and keys, that are listed one by one.
const NAMED: usize = 10;
/// Width of the column of old values; a longer value exceeds it.
const OLD_CHARS: usize = 30;
/// The longest name of an action, `assumed_known`, and two blanks.
const ACTION_CHARS: usize = 15;
/// A shorter time is not worth mentioning.
const SECONDS_WORTH_A_WORD: u64 = 10;

pub fn headline(totals: &PlanTotals) -> String {
    let mut text = warnings(totals);
    let _ = writeln!(text, "A pass would send {}:", requests(totals.requests()));
    count(&mut text, totals.new_people, "people contacted for the first time");
    text.push_str(&conversations(totals));
    if totals.assumed_known > 0 {
        count(
            &mut text,
            totals.assumed_known,
            "assumed known to Conversica, never sent: a first contact unless it knows them",
        );
    }
    count(&mut text, totals.update, "updates");
    count(&mut text, totals.stop, "opt-outs and stops");
    let _ = writeln!(text, "and leave alone:");
    count(&mut text, totals.unchanged, "unchanged");
    count(&mut text, totals.invalid, "invalid");
    if totals.suppressed > 0 {
        count(
            &mut text,
            totals.suppressed,
            "not introduced: they have opted out elsewhere, or are on the suppression list",
        );
    }
    count(&mut text, totals.gone, "gone from the source");
    if totals.erased > 0 {
        count(&mut text, totals.erased, "erased: never written to again");
    }
    if totals.unnamed > 0 {
        count(&mut text, totals.unnamed, "rows without a key that names a lead: `check` says why");
    }
    for held in &totals.before_first_contacts {
        let _ = writeln!(text, "But {held}.");
    }
    text.push_str(&invalid_reasons(totals));
    text.push_str(&notes(totals));
    text.push_str(&doubts(totals));
    text.push_str(&changed_keys(totals));
    if let Some(forecast) = &totals.forecast
        && !totals.baseline
    {
        text.push_str(&takes(forecast, totals.requests()));
    }
    if totals.kept_opt_outs > 0 {
        let (people, says) = (number(totals.kept_opt_outs), "which counts; the CRM says otherwise");
        let _ = writeln!(text, "Kept: {people} opted out, as Conversica has told us, {says}.");
    }
    text.push_str(&alike(totals));
    text.push_str(&same_email(totals));
    text.push_str(&held_for_a_person(totals));
    text
}

fn requests(count: u64) -> String {
    counted(count, "request", "requests")
}

fn count(text: &mut String, count: u64, what: &str) {
    let _ = writeln!(text, "  {:>10}  {what}", number(count));
}

/// Warnings that change the meaning of the rest.
fn warnings(totals: &PlanTotals) -> String {
    let mut text = String::new();
    if let Some(halt) = &totals.halt {
        let _ = writeln!(
            text,
            "HALTED ({}) since {}: nothing is sent.\n  cure: {}\n",
            halt.reason,
            halt.since.format("%F %T UTC"),
            halt.cure
        );
    }
    if let Some(pause) = &totals.pause {
        text.push_str(&paused(pause));
    }
    if let Some(tests) = &totals.test_leads {
        let _ = writeln!(
            text,
            "THE TEST LEAD TOKEN IS SET: it stands in place of every last name, and at most {} distinct leads are ever sent, {} \
             more from now on.\n  to go live: remove [conversica] test_lead_token\n",
            number(tests.limit.into()),
            number(u64::try_from(tests.left).unwrap_or(0))
        );
    }
    if totals.baseline {
        text.push_str(
            "FIRST RUN AS A BASELINE: with [safety] first_run = \"baseline\" a pass sends none of this. It assumes that Conversica \
             knows all of it.\n\n",
        );
    }
    text
}

/// The conversations with the most people; the others in sum.
fn conversations(totals: &PlanTotals) -> String {
    let mut all: Vec<(&String, u64)> =
        totals.new_people_by_conversation.iter().map(|(name, people)| (name, *people)).collect();
    all.sort_by_key(|(_, people)| std::cmp::Reverse(*people));
    let mut text = String::new();
    for (conversation, people) in all.iter().take(NAMED) {
        let name = if conversation.is_empty() { "(no conversationId)".into() } else { printable(conversation) };
        let _ = writeln!(text, "  {:>18}  in {name}", number(*people));
    }
    let others =
        totals.new_people_in_other_conversations + all.iter().skip(NAMED).map(|(_, people)| people).sum::<u64>();
    if others > 0 {
        let _ = writeln!(text, "  {:>18}  in other conversations", number(others));
    }
    text
}

/// Names that are usually one name and a slip.
fn alike(totals: &PlanTotals) -> String {
    let mut text = String::new();
    if totals.names_that_look_alike.is_empty() {
        return text;
    }
    text.push_str("Conversations or reps whose names look like one (Conversica matches them to the letter):\n");
    let shown = |name: &String| if name.is_empty() { "(none)".to_owned() } else { format!("\"{}\"", printable(name)) };
    for [a, b] in totals.names_that_look_alike.iter().take(NAMED) {
        let _ = writeln!(text, "              {} and {}", shown(a), shown(b));
    }
    text
}

fn invalid_reasons(totals: &PlanTotals) -> String {
    let mut text = String::new();
    if totals.invalid_reasons.is_empty() {
        return text;
    }
    text.push_str("Invalid, by reason (a row may have several):\n");
    text.push_str(&reasons(&totals.invalid_reasons));
    if totals.invalid_other_reasons > 0 {
        count(&mut text, totals.invalid_other_reasons, "for other reasons");
    }
    text
}

/// Values in valid leads that differ from the row.
fn notes(totals: &PlanTotals) -> String {
    let mut text = String::new();
    if totals.notes.is_empty() {
        return text;
    }
    text.push_str("Cleaned or left out, in leads that are valid all the same:\n");
    text.push_str(&reasons(&totals.notes));
    if totals.other_notes > 0 {
        count(&mut text, totals.other_notes, "for other reasons");
    }
    text
}

/// Contact details that are probably none.
fn doubts(totals: &PlanTotals) -> String {
    if totals.doubts.is_empty() {
        return String::new();
    }
    format!("Look at these, which are valid and probably wrong:\n{}", reasons(&totals.doubts))
}

fn reasons(reasons: &[RowReason]) -> String {
    let mut text = String::new();
    for reason in reasons {
        let first: Vec<String> = reason.first.iter().map(name).collect();
        let more = if reason.leads > reason.first.len() as u64 { ", …" } else { "" };
        let _ =
            writeln!(text, "  {:>10}  {}: {}{more}", number(reason.leads), printable(&reason.reason), first.join(", "));
    }
    text
}

/// A key that changes for nearly every lead was mapped to another column, or should be.
fn changed_keys(totals: &PlanTotals) -> String {
    let mut keys: Vec<(&String, u64)> = totals.changed_keys.iter().map(|(key, leads)| (key, *leads)).collect();
    if keys.is_empty() {
        return String::new();
    }
    keys.sort_by_key(|(_, leads)| std::cmp::Reverse(*leads));
    let mut text = "For people that Conversica knows, or is assumed to know, these keys change:\n".to_owned();
    for (key, leads) in keys.iter().take(NAMED) {
        let leads = if *leads == 1 { "1 lead".to_owned() } else { format!("{} leads", number(*leads)) };
        let _ = writeln!(text, "  {:>16}  {}", leads, printable(key));
    }
    if keys.len() > NAMED {
        let _ = writeln!(text, "  {:>16}  (--json has all)", format!("{} other keys", keys.len() - NAMED));
    }
    text
}

fn takes(forecast: &PlanForecast, count: u64) -> String {
    let mut text = String::new();
    if forecast.seconds >= SECONDS_WORTH_A_WORD {
        let _ = writeln!(
            text,
            "At {} a second ([delivery] requests_per_second) {} {} about {}.",
            forecast.requests_per_second,
            requests(count),
            if count == 1 { "takes" } else { "take" },
            roughly(forecast.seconds)
        );
    }
    let caps = [
        (forecast.new_leads_per_hour, "an hour"),
        (forecast.new_leads_per_day, "a day"),
        (forecast.new_leads_per_month, "a month"),
    ];
    let caps = caps.iter().filter(|(people, _)| *people > 0);
    let caps: Vec<String> =
        caps.map(|(people, within)| format!("{} new people {within}", number((*people).into()))).collect();
    if let Some(last) = forecast.last_new_person_at {
        let _ = writeln!(
            text,
            "At {} the last of them is written to on {} at the earliest.",
            caps.join(" and "),
            last.format("%F at %H:%M UTC")
        );
    }
    text
}

fn same_email(totals: &PlanTotals) -> String {
    let mut text = String::new();
    if totals.same_email > 0 {
        let _ =
            writeln!(text, "Look twice: {} e-mail address(es) belong to more than one id.", number(totals.same_email));
        for same in &totals.same_email_examples {
            let ids: Vec<String> = same.first.iter().map(name).collect();
            let others = same.leads.saturating_sub(same.first.len() as u64);
            let others = if others > 0 { format!(" and {} more", number(others)) } else { String::new() };
            let _ = writeln!(text, "  the same address: {}{others}", ids.join(", "));
        }
    }
    if totals.same_email_uncompared > 0 {
        let _ = writeln!(
            text,
            "Not compared: the e-mail addresses of {} leads, beyond the first two million.",
            number(totals.same_email_uncompared)
        );
    }
    text
}

fn held_for_a_person(totals: &PlanTotals) -> String {
    let mut text = String::new();
    let held = &totals.held;
    if held.leads > 0 {
        let reasons: Vec<String> = held.reasons.iter().map(|(reason, leads)| format!("{reason} {leads}")).collect();
        let _ = writeln!(
            text,
            "HELD for a person: {} ({}). {}.",
            table::leads(held.leads),
            reasons.join(", "),
            first_contacts(held.new_people, held.assumed_known, "would be")
        );
        if held.missing > 0 {
            let _ = writeln!(
                text,
                "  {} of them are missing from the source: `approve` takes them for gone, and tells Conversica where on_delete \
                 says so; `baseline` sends nothing.",
                held.missing
            );
        }
        let _ = writeln!(
            text,
            "  to send what is shown here and nothing that joins: conversica-sync approve --shown {}",
            held.shown
        );
        let _ = writeln!(
            text,
            "  to take it as delivered:                           conversica-sync baseline --shown {}",
            held.shown
        );
    } else if let Some(reason) = totals.hold.filter(|reason| *reason == HoldReason::SourceShrank) {
        let _ = writeln!(text, "It would be HELD for a person ({}): {}.", reason.name(), reason.advice());
    } else if !totals.held_singly.is_empty() {
        let leads = i64::try_from(totals.held_singly.values().sum::<u64>()).unwrap_or(i64::MAX);
        let reasons: Vec<String> =
            totals.held_singly.iter().map(|(reason, leads)| format!("{} {leads}", reason.name())).collect();
        let _ = writeln!(
            text,
            "{} would be HELD for a person ({}): then `approve` sends them, `baseline` takes them as delivered. The others would be \
             sent.",
            table::leads(leads),
            reasons.join(", ")
        );
    } else if let Some(reason) = totals.hold {
        let _ = writeln!(
            text,
            "It would be HELD for a person ({}): then `approve` sends it, `baseline` takes it as delivered.",
            reason.name()
        );
    }
    text
}

fn name(lead: &LeadId) -> String {
    let id = printable(&lead.id);
    if lead.client_id.is_empty() { id.into_owned() } else { format!("{id} (client {})", printable(&lead.client_id)) }
}

pub fn describe(lead: &PlannedLead) -> String {
    let mut text = format!("\n{:<ACTION_CHARS$}{}", lead.action.name(), printable(&lead.id));
    if !lead.client_id.is_empty() {
        let _ = write!(text, " (client {})", printable(&lead.client_id));
    }
    if !lead.reasons.is_empty() {
        let _ = write!(text, "  {}", printable(&lead.reasons.join("; ")));
    }
    text.push('\n');
    let width = lead.changes.keys().map(|key| key.chars().count()).max().unwrap_or(0) + 1;
    let nothing_before = lead.changes.values().all(|[old, _]| old.is_null());
    let old_width = lead.changes.values().map(|[old, _]| shown(old).chars().count()).max().unwrap_or(0).min(OLD_CHARS);
    for (key, [old, new]) in &lead.changes {
        let key = format!("{}:", printable(key));
        if nothing_before {
            let _ = writeln!(text, "        {key:width$} {}", shown(new));
        } else {
            let _ = writeln!(text, "        {key:width$} {:old_width$} → {}", shown(old), shown(new));
        }
    }
    text
}

/// A value of a Lead object, for people.
pub fn shown(value: &Value) -> String {
    if value.is_null() { "(none)".to_owned() } else { printable(&value.to_string()).into_owned() }
}
