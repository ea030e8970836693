//! `status`: shows the counts and everything that needs the operator.

use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;

use crate::cli::context::{ExitCode, settings};
use crate::cli::table;
use crate::clock;
use crate::console::{printable, say};
use crate::db;
use crate::db::file::FileId;
use crate::rules::admission::BudgetUse;
use crate::rules::hold_reason::advice;
use crate::rules::lead_status::LeadStatus;
use crate::rules::listed_instance::ListedInstance;
use crate::rules::operator_pause::PauseShown;
use crate::status::{LostNumbers, ReceivedCounts, StateLostShown, StatusReport};
use crate::store::control::BreakerState;
use crate::store::conversation_progress::ConversationShown;
use crate::store::file_lock;
use crate::store::free_disk::{DiskReserve, DiskShortage};
use crate::store::state_db::StateDb;
use crate::store::unclear_opt_out::UnclearOptOuts;
use crate::wording::{WAITS_TO_BE_SENT, counted, meaning, number, paused};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let url = loaded.settings.state.url.expose_secret();
    let lost = file_lock::loss_of_holder(url);
    let read = read_report(url).await;
    let numbers = match &read {
        _ if FileId::of(url).is_none() => LostNumbers::NoFile,
        Ok(_) => LostNumbers::OfNewFile,
        Err(_) => LostNumbers::Unread,
    };
    let mut report = match read {
        Ok(report) => report,
        // The file in the state's place may be no state at all.
        Err(_) if lost.is_some() => StatusReport::before_the_first_run(),
        Err(error) => return Err(error),
    };
    report.state_lost =
        lost.map(|(loss, holder)| StateLostShown { detail: format!("{loss} by {holder}"), cure: loss.cure(), numbers });
    report.disk_short = DiskReserve::of(&loaded.settings).and_then(|disk| disk.shortage());
    let no_directory = missing_directory(url);
    if args.json {
        say(format_args!("{:#}", serde_json::json!(report)));
        if let Some(warning) = no_directory {
            tracing::warn!("{warning}");
        }
    } else {
        if let Some(warning) = no_directory {
            say(format_args!("Warning: {warning}.\n"));
        }
        say(text(&report).trim_end());
    }
    Ok(report.need().into())
}

/// Explains that the state's file cannot exist because its directory does not.
fn missing_directory(url: &str) -> Option<String> {
    let path = db::sqlite_path(url)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty() && !directory.exists())?;
    let directory = directory.display();
    Some(format!(
        "the directory of the state, {directory}, does not exist: see that [state] url names the right path, and that its file \
         system is mounted"
    ))
}

async fn read_report(url: &str) -> anyhow::Result<StatusReport> {
    Ok(match StateDb::open_state_read_only(url).await? {
        Some(state) => StatusReport::of(&state, clock::now()).await?,
        None => StatusReport::before_the_first_run(),
    })
}

/// The report for people.
pub fn text(report: &StatusReport) -> String {
    let mut text = String::new();
    if let Some(lost) = &report.state_lost {
        let _ = writeln!(text, "STATE LOST: {}; it sends nothing, and answers posts with 500.", lost.detail);
        let _ = writeln!(text, "  {}\n  cure: {}\n", lost.numbers.sentence(), lost.cure);
        if lost.numbers != LostNumbers::OfNewFile {
            return text;
        }
    }
    if let Some(shortage) = &report.disk_short {
        let _ = writeln!(text, "DISK: {shortage}. Posts are answered 500 until there is; leads are sent.");
        let _ = writeln!(text, "  cure: {}\n", DiskShortage::CURE);
    }
    if let Some(halt) = &report.halt {
        let _ = writeln!(text, "HALTED ({}) since {}: nothing is sent.", halt.reason, halt.since.format("%F %T UTC"));
        if let Some(detail) = &halt.detail {
            let _ = writeln!(text, "  Conversica said: {}", printable(detail));
        }
        let _ = writeln!(text, "  cure: {}\n", halt.cure);
    }
    if let Some(hold) = &report.hold {
        let leads = table::leads(hold.leads);
        let _ = writeln!(
            text,
            "HELD ({}) since {}: {leads} waiting for approval. {}.",
            hold.reason,
            hold.since.format("%F %T UTC"),
            hold.first_contacts()
        );
        let _ = writeln!(text, "  look: conversica-sync plan; then: {}", advice(&hold.reason));
        let others = report.hold_reasons.iter().filter(|(reason, _)| **reason != hold.reason);
        for (reason, leads) in others {
            let _ = writeln!(text, "  of these, {} held for {reason}: {}", table::leads(*leads), advice(reason));
        }
        text.push('\n');
    }
    if let Some(restored_at) = report.restored_at {
        let at = restored_at.format("%F %T UTC");
        let _ = writeln!(
            text,
            "RESTORED from a backup at {at}: until a poll has compared every row, what would be sent is held, except opt-outs.\n"
        );
    }
    if let Some(pause) = &report.pause {
        text.push_str(&paused(pause));
    }
    text.push_str(&pacing(report));
    text.push_str(&report.new_leads_budget.as_ref().map(budget).unwrap_or_default());
    text.push_str(&silent(&report.silent_conversations));
    match &report.last_poll {
        None => text.push_str("Nothing has been polled yet.\n"),
        Some(poll) => {
            let at = poll.at.format("%F %T UTC");
            match poll.plain_error() {
                Some(error) => {
                    let _ = writeln!(text, "Last poll ({}) at {at} FAILED: {}", poll.kind, printable(error));
                    if let Some(cure) = &poll.cure {
                        let _ = writeln!(text, "  cure: {}", printable(cure));
                    }
                }
                None => {
                    let (kind, changed, duration) = (&poll.kind, poll.changed, poll.duration_ms);
                    let rows = counted(poll.rows, "row", "rows");
                    let _ = writeln!(text, "Last poll ({kind}) at {at}: {rows}, {changed} changed, {duration} ms");
                }
            }
        }
    }
    text.push_str(&instances(report.instances_to_show()));
    if report.unnamed() > 0 {
        let (rows, have) = match report.unnamed() {
            1 => ("1 row".to_owned(), "has no key that names a lead and is left out"),
            many => (format!("{many} rows"), "have no key that names a lead and are left out"),
        };
        let _ = writeln!(
            text,
            "For a person: {rows} of the source {have}. While there are such rows, no lead is taken for gone. Look: conversica-sync \
             check"
        );
    }
    text.push_str(&opt_out_values(report.opt_out_values));
    let all_wait = report.halt.is_some() || report.pause.as_ref().is_some_and(PauseShown::is_of_everybody);
    let mut leads = table::plain(&[]);
    for status in LeadStatus::ALL {
        let says = match status {
            LeadStatus::Pending | LeadStatus::Retrying if all_wait => WAITS_TO_BE_SENT,
            status => meaning(status),
        };
        leads.add_row([status.name().to_owned(), report.leads(status).to_string(), says.to_owned()]);
    }
    let _ = writeln!(text, "\nLeads\n{}", leads.trim_fmt());
    let outcomes: Vec<String> = report.outcomes.iter().map(|(class, count)| format!("{class} {count}")).collect();
    let _ = writeln!(text, "\nOutcomes so far: {}", outcomes.join(", "));
    text.push_str(&received(&report.received));
    if report.alerts.waiting > 0 {
        let since = report.alerts.since.map(|at| format!(", the oldest since {}", at.format("%F %T UTC")));
        let (waiting, since) = (report.alerts.waiting, since.unwrap_or_default());
        let _ = writeln!(
            text,
            "People are still to be told of {} by [alerts]{since}.",
            counted(waiting, "thing", "things")
        );
    }
    text
}

/// One line for each instance; blank where only one can be.
fn instances(instances: &[ListedInstance]) -> String {
    let mut text = String::new();
    for ListedInstance { name, since, polls, last_seen } in instances {
        let (since, seen) = (since.format("%F %T UTC"), last_seen.format("%F %T UTC"));
        let polls = if *polls { "; it polls" } else { "" };
        let _ = writeln!(text, "Instance {name}: since {since}, last seen at {seen}{polls}");
    }
    text
}

/// Rows whose opt-out value is neither yes nor no; blank where there are none.
fn opt_out_values(values: UnclearOptOuts) -> String {
    let mut text = String::new();
    if values.unclear > 0 {
        let _ = writeln!(
            text,
            "POSSIBLE OPT-OUTS in the rows of {}: the value is neither yes nor no, and nothing is sent until it is.\n  \
             look: conversica-sync leads --status invalid; then: write yes or no in the CRM",
            table::leads(values.unclear)
        );
    }
    if values.counted > 0 {
        let _ = writeln!(
            text,
            "For a person: the opt-out values of {} are neither yes nor no and count as opt-outs; nothing but the opt-out is \
             sent. Look: conversica-sync leads --status invalid; then: write yes or no in the CRM",
            table::leads(values.counted)
        );
    }
    text
}

/// Counts of Conversica's posts, and those that need the operator; blank where none came.
fn received(received: &ReceivedCounts) -> String {
    if received.is_nothing() {
        return String::new();
    }
    let ReceivedCounts { lead_updates, messages, chat_leads, repeats, unknown_leads, outside_vocabulary, .. } =
        received;
    let ReceivedCounts { unreadable, possible_opt_outs, waiting_writeback, stopped_writeback, .. } = received;
    let mut text = format!(
        "Received: {}, {}, {}",
        counted(*lead_updates, "Lead Update", "Lead Updates"),
        counted(*messages, "Message", "Messages"),
        counted(*chat_leads, "Chat Lead", "Chat Leads")
    );
    let asides = [
        (*repeats, "repeat", "repeats"),
        (*unknown_leads, "about a lead that is not known here", "about leads that are not known here"),
        (*outside_vocabulary, "with a status outside the vocabulary", "with a status outside the vocabulary"),
        (*waiting_writeback, "waits to be written to the CRM", "wait to be written to the CRM"),
    ];
    let asides = asides.into_iter().filter(|(count, ..)| *count > 0);
    let asides: Vec<String> = asides.map(|(count, one, many)| counted(count, one, many)).collect();
    if !asides.is_empty() {
        let _ = write!(text, " ({})", asides.join(", "));
    }
    text.push('\n');
    if *possible_opt_outs > 0 {
        let _ = writeln!(
            text,
            "POSSIBLE OPT-OUTS in {}: nothing but an opt-out is sent to their leads until an operator has \
             looked.\n  look: conversica-sync received --possible-opt-outs; then: received confirm SEQ, or received dismiss SEQ",
            counted(*possible_opt_outs, "damaged post", "damaged posts"),
        );
    }
    if *unreadable > 0 {
        let _ = writeln!(
            text,
            "For a person: {} cannot be read. Look: conversica-sync received --unreadable; then: received replay, or received \
             dismiss",
            counted(*unreadable, "post", "posts")
        );
    }
    if *stopped_writeback > 0 {
        let _ = writeln!(
            text,
            "For a person: {} cannot be written to the CRM. Look: conversica-sync writeback stopped; then: writeback retry",
            counted(*stopped_writeback, "post", "posts")
        );
    }
    text
}

/// Conversations that take leads and seem to work none of them, at most three by name.
fn silent(conversations: &[ConversationShown]) -> String {
    let mut text = String::new();
    for conversation in conversations.iter().take(3) {
        let name = if conversation.name.is_empty() { "(leads without one)" } else { &conversation.name };
        let since = conversation.contacted_at.map(|at| at.format("%F %H:%M UTC").to_string()).unwrap_or_default();
        let people = number(u64::try_from(conversation.contacted).unwrap_or(0));
        let _ = writeln!(
            text,
            "SILENT conversation {}: {people} contacted since {since}, and Conversica has not been seen to work any of them.",
            printable(name)
        );
    }
    if conversations.len() > 3 {
        let _ = writeln!(text, "  and {} further ones", conversations.len() - 3);
    }
    if !conversations.is_empty() {
        text.push_str(
            "  cure: see at Conversica that each is active; one that is activated works the leads of the last 24 hours only, the others \
             need `resend`\n",
        );
    }
    text
}

fn budget(budget: &BudgetUse) -> String {
    format!(
        "New people this month: {} of {} ([safety] new_leads_per_month); the next month begins on {}.\n\n",
        number(u64::try_from(budget.used).unwrap_or(0)),
        number(u64::try_from(budget.people).unwrap_or(0)),
        budget.until.format("%F at %H:%M UTC")
    )
}

/// The reason why leads leave at less than full pace; blank where none does.
fn pacing(report: &StatusReport) -> String {
    let Some(pacing) = report.pacing.as_ref().filter(|_| report.halt.is_none()) else { return String::new() };
    let time = |at: DateTime<Utc>| at.format("%F %T UTC");
    let mut text = String::new();
    if pacing.breaker == BreakerState::Open {
        let next = pacing.next_probe_at.map(|at| format!("; the next try is at {}", time(at))).unwrap_or_default();
        let _ = writeln!(
            text,
            "Conversica does not answer well ({} in a row): one lead at a time is tried until one is answered{next}.",
            counted(pacing.failures, "failure", "failures")
        );
    }
    if let Some(until) = pacing.paused_until {
        let _ = writeln!(text, "Conversica asked for a pause: nothing is sent before {}.", time(until));
    }
    if pacing.requests_per_second < pacing.ceiling {
        let _ = writeln!(
            text,
            "Pace: {:.2} of {} requests a second, because Conversica asked for less or did not answer in time.",
            pacing.requests_per_second, pacing.ceiling
        );
    }
    if let Some(until) = pacing.new_people_wait_until {
        let _ = writeln!(
            text,
            "People contacted for the first time wait for their turn ([safety] new_leads_per_hour, new_leads_per_day, new_leads_per_month): the \
             next goes at {}.",
            time(until)
        );
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}
