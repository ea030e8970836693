//! Alerts about the service itself: its work has stopped somewhere, or goes on again. One alert per change, not one per check.
//! Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::horizon;
use crate::rules::admission::BudgetUse;
use crate::rules::hold_reason::advice;
use crate::rules::operator_pause::PauseShown;
use crate::rules::poll_record::LastPoll;
use crate::rules::service_alert::{AlertAccount, AlertNews, ToldCondition};
use crate::status::{HaltShown, HoldShown};
use crate::store::conversation_progress::ConversationShown;
use crate::store::due::LongestWait;
use crate::wording::counted;

/// A failed poll may work the next time; people are alerted if polls fail for this long.
const POLL_PATIENCE: TimeDelta = TimeDelta::seconds(60);

/// The conditions that cause alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceCondition {
    Halted,
    Paused,
    Held,
    Rejected,
    Exhausted,
    PollFailing,
    BacklogOld,
    WritebackStopped,
    Unreadable,
    PossibleOptOut,
    /// Most of the people that may be contacted for the first time in this month have been.
    BudgetUsed,
    /// People of a conversation were contacted, and Conversica does not seem to work any of them.
    ConversationSilent,
}

impl ServiceCondition {
    pub const ALL: [ServiceCondition; 12] = [
        ServiceCondition::Halted,
        ServiceCondition::Paused,
        ServiceCondition::Held,
        ServiceCondition::Rejected,
        ServiceCondition::Exhausted,
        ServiceCondition::PollFailing,
        ServiceCondition::BacklogOld,
        ServiceCondition::WritebackStopped,
        ServiceCondition::Unreadable,
        ServiceCondition::PossibleOptOut,
        ServiceCondition::BudgetUsed,
        ServiceCondition::ConversationSilent,
    ];

    /// The `kind` of the alert.
    pub const fn name(self) -> &'static str {
        match self {
            ServiceCondition::Halted => "halted",
            ServiceCondition::Paused => "paused",
            ServiceCondition::Held => "held",
            ServiceCondition::Rejected => "rejected",
            ServiceCondition::Exhausted => "exhausted",
            ServiceCondition::PollFailing => "poll_failing",
            ServiceCondition::BacklogOld => "backlog_old",
            ServiceCondition::WritebackStopped => "writeback_stopped",
            ServiceCondition::Unreadable => "unreadable",
            ServiceCondition::PossibleOptOut => "possible_opt_out",
            ServiceCondition::BudgetUsed => "new_leads_budget",
            ServiceCondition::ConversationSilent => "conversation_silent",
        }
    }

    const fn cure(self) -> &'static str {
        match self {
            ServiceCondition::Halted => "look at `conversica-sync status`",
            ServiceCondition::Paused => "nothing, if that is right; `conversica-sync unpause` ends it",
            ServiceCondition::Held => "look at `conversica-sync plan`, then `approve` or `baseline`",
            ServiceCondition::Rejected => {
                "look at `conversica-sync leads --status rejected`; fix the rows, or `retry` after fixing the account"
            }
            ServiceCondition::Exhausted => {
                "look at `conversica-sync leads --status exhausted`; fix the cause, then `conversica-sync retry`"
            }
            ServiceCondition::PollFailing => {
                "see that the database of [source] url answers and still fits [source] and [lead]; `conversica-sync status` \
                 and `check` say what is wrong"
            }
            ServiceCondition::BacklogOld => {
                "look at `conversica-sync status` and `leads --status retrying`: Conversica fails or is slow, or more comes \
                 in than [delivery] requests_per_second lets out"
            }
            ServiceCondition::WritebackStopped => {
                "look at `conversica-sync writeback stopped`; fix it, then `conversica-sync writeback retry`"
            }
            ServiceCondition::Unreadable => {
                "look at `conversica-sync received --unreadable`; after an upgrade or a fix, `received replay`"
            }
            ServiceCondition::PossibleOptOut => {
                "look at `conversica-sync received --possible-opt-outs`, then `received confirm` or `received dismiss`"
            }
            ServiceCondition::BudgetUsed => {
                "nothing, if that is right: further new people wait for the next month; [safety] new_leads_per_month and your contract \
                 with Conversica say how many there may be, `conversica-sync status` how many there were"
            }
            ServiceCondition::ConversationSilent => {
                "see at Conversica that the conversation is active: one that is activated works the leads of the last 24 hours only, the \
                 others need `conversica-sync resend`"
            }
        }
    }

    /// Whether this is a new occurrence, although the condition has been there since the last alert.
    fn is_another(self, told: &ToldCondition, fact: &ConditionFact) -> bool {
        match self {
            // Each halt and each pause is an event of its own, however short the time between two.
            ServiceCondition::Halted | ServiceCondition::Paused => {
                told.since != fact.since || told.reason != fact.reason
            }
            ServiceCondition::Held => told.reason != fact.reason,
            // The reason names how many there are, so the first one counts.
            ServiceCondition::ConversationSilent => told.since != fact.since,
            _ => false,
        }
    }
}

/// A present condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionFact {
    pub since: DateTime<Utc>,
    pub reason: Option<String>,
    /// The number of leads, posts or events, where they are counted.
    pub count: Option<i64>,
    /// For held leads: people that an approval would contact for the first time.
    pub new_people: Option<i64>,
    pub cure: String,
}

/// A condition at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionView {
    Stands(ConditionFact),
    Absent,
    /// Uncertain: the last alert remains valid.
    Unclear,
}

/// The sender of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSender {
    /// The name of the machine.
    pub host: String,
    pub version: &'static str,
}

/// The changes since the last alerts, and the new account after those alerts.
pub fn step(
    before: &AlertAccount,
    seen: &[(ServiceCondition, ConditionView)],
    teller: &AlertSender,
    now: DateTime<Utc>,
) -> (AlertAccount, Vec<AlertNews>) {
    let mut account = before.clone();
    let mut news = Vec::new();
    for (condition, view) in seen {
        let kind = condition.name();
        let told = before.told.get(kind);
        let document = |state: &str, since: DateTime<Utc>, reason: &Option<String>, fact: Option<&ConditionFact>| {
            json!({
                "kind": kind,
                "state": state,
                "at": now,
                "since": since,
                "reason": reason,
                "count": fact.and_then(|fact| fact.count),
                "new_people": fact.and_then(|fact| fact.new_people),
                "cure": fact.map(|fact| &fact.cure),
                "host": teller.host,
                "version": teller.version,
            })
        };
        match (view, told) {
            (ConditionView::Stands(fact), told) if told.is_none_or(|told| condition.is_another(told, fact)) => {
                let ConditionFact { since, reason, .. } = fact;
                news.push(AlertNews { kind, document: document("begun", *since, reason, Some(fact)) });
                account.told.insert(kind.to_owned(), ToldCondition { since: *since, reason: reason.clone() });
            }
            (ConditionView::Absent, Some(told)) => {
                news.push(AlertNews { kind, document: document("ended", told.since, &told.reason, None) });
                account.told.remove(kind);
            }
            (ConditionView::Stands(_) | ConditionView::Absent | ConditionView::Unclear, _) => {}
        }
    }
    if !news.is_empty() {
        account.revision += 1;
    }
    (account, news)
}

/// The relevant facts from the state.
#[derive(Debug, Clone)]
pub struct ServiceReading {
    pub halt: Option<HaltShown>,
    pub hold: Option<HoldShown>,
    /// Held leads by the reasons of their holds.
    pub hold_reasons: BTreeMap<String, i64>,
    pub pause: Option<PauseShown>,
    pub rejected: i64,
    pub exhausted: i64,
    pub last_poll: Option<LastPoll>,
    pub longest: LongestWait,
    pub stopped: i64,
    pub unreadable: i64,
    pub possible_opt_outs: i64,
    pub budget: Option<BudgetUse>,
    /// Conversations that may not be active, the longest first.
    pub silent: Vec<ConversationShown>,
}

/// Further facts of this process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessCircumstances {
    pub began_at: DateTime<Utc>,
    /// The source has been reached since then.
    pub connected: bool,
    /// The longest acceptable wait of a lead; `None` for no limit.
    pub longest_wait: Option<TimeDelta>,
    /// First contacts wait because of a cap: that is no fault.
    pub capped: bool,
}

/// Evaluates each condition.
pub fn view(
    reading: &ServiceReading,
    circumstances: &ProcessCircumstances,
    now: DateTime<Utc>,
) -> Vec<(ServiceCondition, ConditionView)> {
    let of = |condition: ServiceCondition| (condition, one(condition, reading, circumstances, now));
    ServiceCondition::ALL.map(of).into()
}

fn one(
    condition: ServiceCondition,
    reading: &ServiceReading,
    circumstances: &ProcessCircumstances,
    now: DateTime<Utc>,
) -> ConditionView {
    let count = |count: i64| {
        let (reason, cure) = (None, condition.cure().to_owned());
        let fact = ConditionFact { since: now, reason, count: Some(count), new_people: None, cure };
        if count > 0 { ConditionView::Stands(fact) } else { ConditionView::Absent }
    };
    match condition {
        ServiceCondition::Halted => reading.halt.as_ref().map_or(ConditionView::Absent, |halt| {
            let reason = Some(halt.reason.to_owned());
            ConditionView::Stands(ConditionFact {
                since: halt.since,
                reason,
                count: None,
                new_people: None,
                cure: halt.cure.to_owned(),
            })
        }),
        ServiceCondition::Paused => reading.pause.as_ref().map_or(ConditionView::Absent, |pause| {
            let why = pause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let reason = Some(format!("{}, by {}{why}", pause.names(), pause.who));
            let cure = condition.cure().to_owned();
            ConditionView::Stands(ConditionFact { since: pause.since, reason, count: None, new_people: None, cure })
        }),
        ServiceCondition::Held => reading.hold.as_ref().map_or(ConditionView::Absent, |hold| {
            let (reason, count, new_people) = (Some(hold.reason.clone()), Some(hold.leads), Some(hold.new_people));
            let others = reading.hold_reasons.iter().filter(|(reason, _)| **reason != hold.reason);
            let others = others.map(|(reason, leads)| {
                format!(". Of these, {} held for {reason}: {}", counted(*leads, "lead", "leads"), advice(reason))
            });
            let others = others.collect::<String>();
            let cure = format!("{}; {}{others}", hold.first_contacts(), advice(&hold.reason));
            ConditionView::Stands(ConditionFact { since: hold.since, reason, count, new_people, cure })
        }),
        ServiceCondition::Rejected => count(reading.rejected),
        ServiceCondition::Exhausted => count(reading.exhausted),
        ServiceCondition::WritebackStopped => count(reading.stopped),
        ServiceCondition::Unreadable => count(reading.unreadable),
        ServiceCondition::PossibleOptOut => count(reading.possible_opt_outs),
        ServiceCondition::BudgetUsed => budget_used(reading.budget.as_ref()),
        ServiceCondition::ConversationSilent => silent(&reading.silent),
        ServiceCondition::PollFailing => polling(reading.last_poll.as_ref(), circumstances, now),
        ServiceCondition::BacklogOld => backlog(reading, circumstances, now),
    }
}

/// At four fifths of the budget; it ends with the month, or with a larger budget.
fn budget_used(budget: Option<&BudgetUse>) -> ConditionView {
    let Some(budget) = budget.filter(|budget| budget.is_nearly_used()) else { return ConditionView::Absent };
    let BudgetUse { people, used, since, until } = budget;
    let reason = format!("{used} of {people} new people; the next month begins on {}", until.format("%F at %H:%M UTC"));
    let cure = ServiceCondition::BudgetUsed.cure().to_owned();
    ConditionView::Stands(ConditionFact {
        since: *since,
        reason: Some(reason),
        count: Some(*used),
        new_people: None,
        cure,
    })
}

/// The alert names the conversation that has been silent for the longest time.
fn silent(conversations: &[ConversationShown]) -> ConditionView {
    let Some(first) = conversations.first() else { return ConditionView::Absent };
    let name = if first.name.is_empty() { "leads without a conversation" } else { &first.name };
    let more = conversations.len() - 1;
    let others = if more > 0 { format!(", and {more} further conversations") } else { String::new() };
    ConditionView::Stands(ConditionFact {
        since: first.contacted_at.unwrap_or_default(),
        reason: Some(format!("{name}{others}")),
        count: Some(first.contacted),
        new_people: None,
        cure: ServiceCondition::ConversationSilent.cure().to_owned(),
    })
}

/// Another instance may poll where this one cannot.
fn polling(last: Option<&LastPoll>, circumstances: &ProcessCircumstances, now: DateTime<Utc>) -> ConditionView {
    // A poll with a date in the future has it from a wrong clock, and does not show whether the source answers now.
    let polled = last.is_some_and(|last| last.at >= circumstances.began_at && last.at <= now + horizon::TOLERANCE);
    let failing_since = last.and_then(|last| last.failing_since);
    let (since, reason) = match failing_since.map(|since| if since > now { circumstances.began_at } else { since }) {
        Some(since) => (since, "the last poll failed"),
        None if polled => return ConditionView::Absent,
        None if circumstances.connected => return ConditionView::Unclear,
        None => (circumstances.began_at, "not connected yet"),
    };
    if now - since < POLL_PATIENCE {
        return ConditionView::Unclear;
    }
    let cure = ServiceCondition::PollFailing.cure().to_owned();
    ConditionView::Stands(ConditionFact { since, reason: Some(reason.to_owned()), count: None, new_people: None, cure })
}

fn backlog(reading: &ServiceReading, circumstances: &ProcessCircumstances, now: DateTime<Utc>) -> ConditionView {
    let Some(longest) = circumstances.longest_wait else { return ConditionView::Absent };
    if reading.halt.is_some() {
        // People have had an alert about why no lead is sent.
        return ConditionView::Unclear;
    }
    let since = if circumstances.capped { reading.longest.known } else { reading.longest.of_all() };
    match since {
        Some(since) if now - since >= longest => {
            let cure = ServiceCondition::BacklogOld.cure().to_owned();
            ConditionView::Stands(ConditionFact { since, reason: None, count: None, new_people: None, cure })
        }
        // Hysteresis: without it, a backlog near the limit would begin and end with every lead.
        Some(since) if now - since >= longest / 2 => ConditionView::Unclear,
        _ => ConditionView::Absent,
    }
}

#[cfg(test)]
mod tests;
