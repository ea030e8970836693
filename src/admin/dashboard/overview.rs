//! The overview, from top to bottom: is it working, what is stuck, why, and what do I do?

use std::borrow::Cow;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};

use super::backlog::SendingProgress;
use super::counts_only::without_people;
use super::details::{COARSE, FINE, OverviewDetails, WaitingGroup, first_of_day, first_of_hour};
use super::frame::{PageFrame, ShownMoment, TextPiece, ago, away, lead_link, lead_name, moment, page, pieces, query};
use super::instance_line::InstanceLine;
use super::sending::SendingState;
use super::verdict::{VerdictTone, counted, damaged_posts, verdict};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::DashboardVisitor;
use crate::admin::judgement::UnreadyReason;
use crate::chart::{ChartSpan, OutcomeChart};
use crate::clock;
use crate::conversica::lead::LeadId;
use crate::reconcile::report::cure;
use crate::rules::lead_status::LeadStatus;
use crate::rules::operator_pause::{OperatorPause, PauseShown};
use crate::rules::verdict::LeadVerdict;
use crate::status::{ServiceStanding, StatusReport};
use crate::store::control::StoredPace;
use crate::wording::number;

pub async fn show(State(board): State<Arc<DashboardContext>>, visitor: DashboardVisitor) -> Response {
    let Some(seen) = board.overview().await else { return away(&board, &visitor) };
    let shown = if visitor.sees_people() { Cow::Borrowed(&*seen) } else { Cow::Owned(without_people(&seen)) };
    let (report, _) = &*shown;
    let standing = ServiceStanding {
        halt: None,
        hold: None,
        poll_failed: report.last_poll.as_ref().is_some_and(|poll| poll.error.is_some()),
    };
    let mut reasons = board.desk.readiness(Some(&standing));
    // If another instance reads the CRM, the service as a whole reads it.
    let began_at = board.desk.vitals.began_at;
    if report.last_poll.as_ref().is_some_and(|poll| poll.error.is_none() && poll.at >= began_at) {
        reasons.retain(|reason| reason.reason != "source");
    }
    let frame = PageFrame::of(&board, &visitor, "Overview");
    let now = clock::now();
    let progress = board.backlog.progress(report, SendingState::of(report, &reasons, now));
    let overview = OverviewPage::of(frame, visitor.may_act(), &shown, &reasons, now);
    page(StatusCode::OK, &OverviewPage { progress, ..overview })
}

#[derive(Template)]
#[template(path = "admin/dashboard/overview.html", config = ".askama.toml")]
struct OverviewPage {
    frame: PageFrame,
    may_act: bool,
    tone: &'static str,
    verdict: String,
    poll: String,
    at: ShownMoment,
    halt: Option<HaltPanel>,
    pauses: Vec<PausePanel>,
    everybody_is_paused: bool,
    state: Option<Vec<TextPiece>>,
    source: Option<Vec<TextPiece>>,
    /// The note on known leads, while the CRM cannot be read.
    of_known_leads: &'static str,
    poll_error: Option<String>,
    poll_cure: Option<String>,
    held: Option<HeldPanel>,
    others: Vec<OpenConcern>,
    groups: Vec<StuckPanel>,
    leads: Vec<OverviewLine>,
    instances: Vec<InstanceLine>,
    waiting: String,
    progress: Option<SendingProgress>,
    charts: Vec<ChartPicture>,
    pace: Vec<String>,
    received: Vec<(&'static str, String)>,
    trouble_received: Vec<Vec<TextPiece>>,
    events: Vec<RecentEvent>,
}

struct HaltPanel {
    reason: &'static str,
    since: ShownMoment,
    detail: Option<String>,
    cure: Vec<TextPiece>,
}

struct PausePanel {
    id: String,
    scope: String,
    since: ShownMoment,
    until: Option<ShownMoment>,
    who: String,
    reason: Option<String>,
    /// The address of the page that ends it.
    end: String,
}

struct HeldPanel {
    leads: String,
    since: ShownMoment,
    first_contacts: String,
    groups: Vec<StuckPanel>,
}

/// An issue that needs the operator and is no waiting lead.
struct OpenConcern {
    title: String,
    says: &'static str,
    /// Leads that it may concern.
    leads: Vec<(String, String)>,
    cure: Vec<TextPiece>,
}

/// Leads that wait for the operator for one reason.
struct StuckPanel {
    status: &'static str,
    reason: String,
    leads: String,
    examples: Vec<(String, String)>,
    more: String,
    cure: Vec<TextPiece>,
    /// Text and address of the possible actions.
    actions: Vec<(&'static str, String)>,
}

struct OverviewLine {
    status: &'static str,
    link: String,
    leads: String,
    meaning: &'static str,
    is_some: bool,
}

struct ChartPicture {
    title: &'static str,
    id: &'static str,
    each: &'static str,
    chart: OutcomeChart,
    says: String,
}

struct RecentEvent {
    at: ShownMoment,
    order: DateTime<Utc>,
    what: String,
    lead: Option<(String, String)>,
    tone: &'static str,
}

impl OverviewPage {
    fn of(
        frame: PageFrame,
        may_act: bool,
        seen: &(StatusReport, OverviewDetails),
        reasons: &[UnreadyReason],
        now: DateTime<Utc>,
    ) -> Self {
        let (report, details) = seen;
        let sending = SendingState::of(report, reasons, now);
        let (tone, sentence) = verdict(report, reasons, sending, now);
        let halt = report.halt.as_ref().map(|halt| HaltPanel {
            reason: halt.reason,
            since: moment(halt.since, now),
            detail: halt.detail.clone(),
            cure: pieces(halt.cure),
        });
        let cure_of =
            |name: &str| reasons.iter().find(|reason| reason.reason == name).map(|reason| pieces(reason.cure));
        let (held, stuck): (Vec<&WaitingGroup>, Vec<&WaitingGroup>) =
            details.groups.iter().partition(|group| group.status == LeadStatus::Held);
        let held = report.hold.as_ref().map(|hold| HeldPanel {
            leads: counted(hold.leads),
            since: moment(hold.since, now),
            first_contacts: hold.first_contacts(),
            groups: held.into_iter().map(of_group).collect(),
        });
        Self {
            frame,
            may_act,
            tone: tone.class(),
            verdict: sentence,
            poll: poll(report, now),
            at: moment(details.at, now),
            halt,
            pauses: report.pause.iter().flat_map(|pause| pauses(pause, now)).collect(),
            everybody_is_paused: report.pause.as_ref().is_some_and(PauseShown::is_of_everybody),
            state: cure_of("state"),
            source: cure_of("source"),
            of_known_leads: sending.of_known_leads(),
            poll_error: report.last_poll.as_ref().and_then(|poll| poll.plain_error().map(str::to_owned)),
            poll_cure: report.last_poll.as_ref().and_then(|poll| poll.cure.clone()),
            held,
            others: concerns(report, details),
            groups: stuck.into_iter().map(of_group).collect(),
            leads: LeadStatus::ALL.into_iter().map(|status| line(status, report.leads(status), sending)).collect(),
            instances: report.instances_to_show().iter().map(|one| InstanceLine::of(one, now)).collect(),
            waiting: waiting(report, details, sending, now),
            progress: None,
            charts: charts(details),
            pace: pace_and_budget(report, sending, now),
            received: received(report),
            trouble_received: trouble_received(report),
            events: events(report, details, now),
        }
    }
}

fn pauses(shown: &PauseShown, now: DateTime<Utc>) -> Vec<PausePanel> {
    let panel = |(number, pause): (usize, &OperatorPause)| {
        let name = pause.conversation.as_deref();
        let link = query(&[("conversation", name.unwrap_or_default())]);
        PausePanel {
            id: format!("paused-{number}"),
            scope: name.map_or("everybody".to_owned(), |name| format!("conversation {name}")),
            since: moment(pause.since, now),
            until: pause.until.map(|until| moment(until, now)),
            who: pause.who.clone(),
            reason: pause.reason.clone(),
            end: if link.is_empty() { "/act/unpause".to_owned() } else { format!("/act/unpause?{link}") },
        }
    };
    shown.scopes.iter().enumerate().map(panel).collect()
}

fn poll(report: &StatusReport, now: DateTime<Utc>) -> String {
    match &report.last_poll {
        None => "Nothing has been polled yet.".to_owned(),
        Some(poll) if poll.error.is_some() => format!("The last poll failed, {}.", ago(poll.at, now)),
        Some(poll) => {
            let (rows, changed) = (number(poll.rows), number(poll.changed));
            format!("Last poll {}: {rows} rows read, {changed} changed, in {} ms.", ago(poll.at, now), poll.duration_ms)
        }
    }
}

fn concerns(report: &StatusReport, details: &OverviewDetails) -> Vec<OpenConcern> {
    let mut concerns = Vec::new();
    if report.received.possible_opt_outs > 0 {
        concerns.push(OpenConcern {
            title: format!("Possible opt-outs: {}", damaged_posts(report.received.possible_opt_outs)),
            says: "Nothing but an opt-out is sent to their leads until you have looked.",
            leads: details.possible_opt_outs.iter().map(named).collect(),
            cure: pieces(
                "`conversica-sync received --possible-opt-outs` lists them; then `conversica-sync received confirm SEQ` or \
                 `conversica-sync received dismiss SEQ`.",
            ),
        });
    }
    if report.unnamed() > 0 {
        concerns.push(OpenConcern {
            title: format!("Rows without a usable key: {}", number(report.unnamed())),
            says: "They are left out, and while such rows exist no lead is treated as gone.",
            leads: Vec::new(),
            cure: pieces(
                "`conversica-sync check` names the first of them; give them a key, or leave them out with `where` under `[source]`.",
            ),
        });
    }
    concerns
}

fn of_group(group: &WaitingGroup) -> StuckPanel {
    let (status, verdict) = (group.status, of_status(group.status));
    let to_retry = |what: &'static str| vec![(what, format!("/act/retry?{}", query(&[("status", status.name())])))];
    let release = |what: &str| format!("/act/{what}?{}", query(&[("reason", &group.reason)]));
    let actions = match status {
        LeadStatus::Rejected => to_retry("Retry all rejected"),
        LeadStatus::Exhausted => to_retry("Retry all exhausted"),
        LeadStatus::Held => vec![("Approve", release("approve")), ("Baseline", release("baseline"))],
        _ => Vec::new(),
    };
    let reason = if group.reason.is_empty() { "other reasons" } else { &group.reason };
    let listed = [("status", status.name()), ("reason", group.reason.as_str())];
    // For rejected and exhausted leads, the reason's text alone finds the leads.
    let asked = match status {
        LeadStatus::Rejected | LeadStatus::Exhausted => query(&listed[..1]),
        _ => query(&listed),
    };
    StuckPanel {
        status: status.name(),
        reason: reason.to_owned(),
        leads: counted(group.leads),
        examples: group.examples.iter().map(named).collect(),
        more: format!("/leads?{asked}"),
        cure: pieces(&cure(verdict, &group.reason)),
        actions,
    }
}

fn of_status(status: LeadStatus) -> LeadVerdict {
    match status {
        LeadStatus::Held => LeadVerdict::Held,
        LeadStatus::Rejected => LeadVerdict::Rejected,
        LeadStatus::Exhausted => LeadVerdict::Exhausted,
        LeadStatus::Invalid => LeadVerdict::Invalid,
        LeadStatus::Gone => LeadVerdict::Gone,
        LeadStatus::InSync => LeadVerdict::Matched,
        LeadStatus::Assumed => LeadVerdict::Assumed,
        LeadStatus::Suppressed => LeadVerdict::Suppressed,
        LeadStatus::Pending | LeadStatus::InFlight | LeadStatus::Retrying => LeadVerdict::Pending,
    }
}

fn named(lead: &LeadId) -> (String, String) {
    (lead_name(lead), lead_link(lead))
}

fn line(status: LeadStatus, leads: i64, sending: SendingState) -> OverviewLine {
    OverviewLine {
        status: status.name(),
        link: format!("/leads?{}", query(&[("status", status.name())])),
        leads: number(u64::try_from(leads).unwrap_or(0)),
        meaning: sending.meaning(status),
        is_some: leads > 0,
    }
}

fn waiting(report: &StatusReport, details: &OverviewDetails, sending: SendingState, now: DateTime<Utc>) -> String {
    let waiting = report.leads(LeadStatus::Pending) + report.leads(LeadStatus::Retrying);
    if waiting == 0 {
        let nothing = if report.hold.is_some() { "Apart from what is held, nothing" } else { "Nothing" };
        return format!("{nothing} waits to be sent.");
    }
    let wait = if waiting == 1 { "waits" } else { "wait" };
    if let Some(why) = sending.why_leads_wait() {
        return format!("{} {wait} to be sent; {why}.", counted(waiting));
    }
    match details.oldest_due.filter(|due| now - *due > TimeDelta::seconds(1)) {
        Some(due) => {
            format!("{} {wait} to be sent; the oldest has been due since {}.", counted(waiting), ago(due, now))
        }
        None if waiting == 1 => "1 lead waits to be sent, and is not overdue.".to_owned(),
        None => format!("{} wait to be sent, none of them overdue.", counted(waiting)),
    }
}

fn charts(details: &OverviewDetails) -> Vec<ChartPicture> {
    let picture = |title, id, each, outcomes, first, minutes, stretches| {
        let span = ChartSpan { first, step: TimeDelta::minutes(minutes), stretches, format: "%H:%M" };
        let chart = OutcomeChart::of(outcomes, span);
        let says: Vec<String> = chart.classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
        ChartPicture { title, id, each, says: says.join(", "), chart }
    };
    vec![
        picture("The last hour", "chart-hour", "two minutes", &details.hour, first_of_hour(details.at), FINE, 30),
        picture("The last day", "chart-day", "an hour", &details.day, first_of_day(details.at), COARSE, 24),
    ]
}

fn pace_and_budget(report: &StatusReport, sending: SendingState, now: DateTime<Utc>) -> Vec<String> {
    let mut lines = report.pacing.as_ref().map(|pacing| pace(pacing, sending, now)).unwrap_or_default();
    lines.extend(report.new_leads_budget.as_ref().map(|budget| {
        let count = |people: i64| number(u64::try_from(people).unwrap_or(0));
        format!(
            "New people this month: {} of {}. The next month begins on {}.",
            count(budget.used),
            count(budget.people),
            budget.until.format("%F")
        )
    }));
    lines.extend(report.silent_conversations.iter().take(3).map(|conversation| {
        let name = if conversation.name.is_empty() { "(none)" } else { &conversation.name };
        let people = number(u64::try_from(conversation.contacted).unwrap_or(0));
        format!("Conversation {name}: {people} contacted, and Conversica has not been seen to work any of them. Is it active there?")
    }));
    lines
}

fn pace(pacing: &StoredPace, sending: SendingState, now: DateTime<Utc>) -> Vec<String> {
    let mut lines = Vec::new();
    let (rate, ceiling) = (pacing.requests_per_second, pacing.ceiling);
    let up_to = if rate < ceiling {
        format!("p to {rate:.2} of {ceiling} requests a second: Conversica asked for less, or did not answer in time.")
    } else {
        format!("p to {ceiling} requests a second, as set.")
    };
    match sending {
        SendingState::Halted | SendingState::StateUnwritable | SendingState::PausedByOperator => {
            return sending.why_leads_wait().map(|why| format!("At present {why}.")).into_iter().collect();
        }
        SendingState::Paused(until) => {
            lines.push(format!("Conversica asked for a pause: it goes on {}. After that, u{up_to}", ago(until, now)));
        }
        SendingState::Probing => {
            let next = pacing.next_probe_at.map(|at| format!(", next {}", ago(at, now))).unwrap_or_default();
            lines.push(format!("{} failures in a row: one lead at a time is tried{next}.", pacing.failures));
        }
        SendingState::Flowing => lines.push(format!("U{up_to}")),
    }
    if let Some(until) = pacing.new_people_wait_until.filter(|until| *until > now) {
        lines.push(format!(
            "People contacted for the first time wait for their turn: the next goes {}.",
            ago(until, now)
        ));
    }
    lines
}

fn received(report: &StatusReport) -> Vec<(&'static str, String)> {
    let received = &report.received;
    let numbers = [
        ("Lead Updates", received.lead_updates),
        ("Messages", received.messages),
        ("Chat Leads", received.chat_leads),
        ("about unknown leads", received.unknown_leads),
        ("wait to be written to the CRM", received.waiting_writeback),
        ("cannot be written to the CRM", received.stopped_writeback),
        ("cannot be read", received.unreadable),
        ("may be opt-outs", received.possible_opt_outs),
    ];
    if received.is_nothing() {
        return Vec::new();
    }
    let shown = numbers.into_iter().enumerate().filter(|(at, (_, count))| *at < 3 || *count > 0);
    shown.map(|(_, (what, count))| (what, number(u64::try_from(count).unwrap_or(0)))).collect()
}

fn trouble_received(report: &StatusReport) -> Vec<Vec<TextPiece>> {
    let received = &report.received;
    let mut trouble = Vec::new();
    if received.unreadable > 0 {
        trouble.push(pieces(
            "Some posts cannot be read: `conversica-sync received --unreadable` says which and why; after fixing, `conversica-sync \
             received replay`.",
        ));
    }
    if received.stopped_writeback > 0 {
        trouble.push(pieces(
            "Some cannot be written to the CRM: `conversica-sync writeback stopped` says why; after fixing, `conversica-sync \
             writeback retry`.",
        ));
    }
    trouble
}

/// Recent events, newest first: ids and counts.
fn events(report: &StatusReport, details: &OverviewDetails, now: DateTime<Utc>) -> Vec<RecentEvent> {
    let event = |at, what: String, lead: Option<&LeadId>, tone: VerdictTone| RecentEvent {
        at: moment(at, now),
        order: at,
        what,
        lead: lead.map(named),
        tone: tone.class(),
    };
    let mut events = Vec::new();
    events.extend(details.decisions.iter().map(|decided| {
        let reason = decided.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let leads = if decided.leads > 0 { format!(", {}", counted(decided.leads)) } else { String::new() };
        event(decided.at, format!("{}{reason}{leads}, by {}", decided.action, decided.who), None, VerdictTone::Well)
    }));
    events.extend(
        report
            .halt
            .iter()
            .map(|halt| event(halt.since, format!("halted: {}", halt.reason), None, VerdictTone::Stopped)),
    );
    events.extend(
        report.hold.iter().map(|hold| event(hold.since, format!("held: {}", hold.reason), None, VerdictTone::Look)),
    );
    events.extend(details.failed.iter().map(|failed| {
        let status = failed.http_status.map(|status| format!(", status {status}")).unwrap_or_default();
        let tone = if failed.class == "rejected" || failed.class == "halting" {
            VerdictTone::Stopped
        } else {
            VerdictTone::Look
        };
        event(failed.at, format!("{}{status}", failed.class), Some(&failed.lead), tone)
    }));
    events.extend(details.posts.iter().map(|post| {
        let lead = (!post.lead.id.is_empty()).then_some(&post.lead);
        let what = match (&post.problem, post.kind.name()) {
            (Some(_), _) => "received what cannot be read".to_owned(),
            (None, _) if post.may_be_opt_out => "received what may be an opt-out".to_owned(),
            (None, kind) => format!("received: {}", kind.replace('_', " ")),
        };
        event(
            post.received_at,
            what,
            lead,
            if post.problem.is_some() || post.may_be_opt_out { VerdictTone::Look } else { VerdictTone::Busy },
        )
    }));
    events.sort_by_key(|event| std::cmp::Reverse(event.order));
    events.truncate(SHOWN_EVENTS);
    events
}

const SHOWN_EVENTS: usize = 14;

#[cfg(test)]
mod tests;
