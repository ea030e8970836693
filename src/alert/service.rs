//! What people are told of the service itself: that it has come to a stop somewhere, and that it goes on again. Once a
//! change, not once a look. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::horizon;
use crate::rules::hold_reason::advice;
use crate::rules::poll_record::LastPoll;
use crate::rules::service_alert::{Account, News, Told};
use crate::status::{HaltShown, HoldShown};
use crate::store::due::Longest;

/// A poll that fails may work the next time; people are told when it has not for so long.
const POLL_PATIENCE: TimeDelta = TimeDelta::seconds(60);

/// What people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Halted,
    Held,
    Rejected,
    Exhausted,
    PollFailing,
    BacklogOld,
    WritebackStopped,
    Unreadable,
    PossibleOptOut,
}

impl Condition {
    pub const ALL: [Condition; 9] = [
        Condition::Halted,
        Condition::Held,
        Condition::Rejected,
        Condition::Exhausted,
        Condition::PollFailing,
        Condition::BacklogOld,
        Condition::WritebackStopped,
        Condition::Unreadable,
        Condition::PossibleOptOut,
    ];

    /// The `kind` of the alert.
    pub const fn name(self) -> &'static str {
        match self {
            Condition::Halted => "halted",
            Condition::Held => "held",
            Condition::Rejected => "rejected",
            Condition::Exhausted => "exhausted",
            Condition::PollFailing => "poll_failing",
            Condition::BacklogOld => "backlog_old",
            Condition::WritebackStopped => "writeback_stopped",
            Condition::Unreadable => "unreadable",
            Condition::PossibleOptOut => "possible_opt_out",
        }
    }

    const fn cure(self) -> &'static str {
        match self {
            Condition::Halted => "look at `conversica-sync status`",
            Condition::Held => "look at `conversica-sync plan`, then `approve` or `baseline`",
            Condition::Rejected => {
                "look at `conversica-sync leads --status rejected`; mend the rows, or `retry` after mending the account"
            }
            Condition::Exhausted => {
                "look at `conversica-sync leads --status exhausted`; mend the cause, then `conversica-sync retry`"
            }
            Condition::PollFailing => {
                "see that the database of [source] url answers and still fits [source] and [lead]; `conversica-sync status` \
                 and `check` say what is wrong"
            }
            Condition::BacklogOld => {
                "look at `conversica-sync status` and `leads --status retrying`: Conversica fails or is slow, or more comes \
                 in than [delivery] requests_per_second lets out"
            }
            Condition::WritebackStopped => {
                "look at `conversica-sync writeback stopped`; mend it, then `conversica-sync writeback retry`"
            }
            Condition::Unreadable => {
                "look at `conversica-sync received --unreadable`; after an upgrade or a fix, `received replay`"
            }
            Condition::PossibleOptOut => {
                "look at `conversica-sync received --possible-opt-outs`, then `received confirm` or `received dismiss`"
            }
        }
    }

    /// Whether it is another one than people were told of, although it has stood ever since they were.
    fn is_another(self, told: &Told, fact: &Stands) -> bool {
        match self {
            // Each halt is an event of its own, however short the time between two.
            Condition::Halted => told.since != fact.since || told.reason != fact.reason,
            Condition::Held => told.reason != fact.reason,
            _ => false,
        }
    }
}

/// A condition that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    pub since: DateTime<Utc>,
    pub reason: Option<String>,
    /// How many leads, posts or events it concerns, where they are counted.
    pub count: Option<i64>,
    /// Of held leads: people whom an approval contacts for the first time.
    pub new_people: Option<i64>,
    pub cure: String,
}

/// How a condition looks at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    Stands(Stands),
    Absent,
    /// Neither for certain: what was told last goes on to hold.
    Unclear,
}

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teller {
    /// The name of the machine.
    pub host: String,
    pub version: &'static str,
}

/// What has changed since it was told, and what people have been told once they are told of that.
pub fn step(before: &Account, seen: &[(Condition, View)], teller: &Teller, now: DateTime<Utc>) -> (Account, Vec<News>) {
    let mut account = before.clone();
    let mut news = Vec::new();
    for (condition, view) in seen {
        let kind = condition.name();
        let told = before.told.get(kind);
        let document = |state: &str, since: DateTime<Utc>, reason: &Option<String>, fact: Option<&Stands>| {
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
            (View::Stands(fact), told) if told.is_none_or(|told| condition.is_another(told, fact)) => {
                let Stands { since, reason, .. } = fact;
                news.push(News { kind, document: document("begun", *since, reason, Some(fact)) });
                account.told.insert(kind.to_owned(), Told { since: *since, reason: reason.clone() });
            }
            (View::Absent, Some(told)) => {
                news.push(News { kind, document: document("ended", told.since, &told.reason, None) });
                account.told.remove(kind);
            }
            (View::Stands(_) | View::Absent | View::Unclear, _) => {}
        }
    }
    if !news.is_empty() {
        account.revision += 1;
    }
    (account, news)
}

/// What the state says that matters here.
#[derive(Debug, Clone)]
pub struct Reading {
    pub halt: Option<HaltShown>,
    pub hold: Option<HoldShown>,
    pub rejected: i64,
    pub exhausted: i64,
    pub last_poll: Option<LastPoll>,
    pub longest: Longest,
    pub stopped: i64,
    pub unreadable: i64,
    pub possible_opt_outs: i64,
}

/// What this process knows besides.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    pub began_at: DateTime<Utc>,
    /// The source has been reached since then.
    pub connected: bool,
    /// How long a lead may wait; `None`: as long as it likes.
    pub longest_wait: Option<TimeDelta>,
    /// People who are contacted for the first time wait for their turn: that is no fault.
    pub capped: bool,
}

/// How each condition looks.
pub fn view(reading: &Reading, circumstances: &Circumstances, now: DateTime<Utc>) -> Vec<(Condition, View)> {
    let of = |condition: Condition| (condition, one(condition, reading, circumstances, now));
    Condition::ALL.map(of).into()
}

fn one(condition: Condition, reading: &Reading, circumstances: &Circumstances, now: DateTime<Utc>) -> View {
    let count = |count: i64| {
        let (reason, cure) = (None, condition.cure().to_owned());
        let fact = Stands { since: now, reason, count: Some(count), new_people: None, cure };
        if count > 0 { View::Stands(fact) } else { View::Absent }
    };
    match condition {
        Condition::Halted => reading.halt.as_ref().map_or(View::Absent, |halt| {
            let reason = Some(halt.reason.to_owned());
            View::Stands(Stands {
                since: halt.since,
                reason,
                count: None,
                new_people: None,
                cure: halt.cure.to_owned(),
            })
        }),
        Condition::Held => reading.hold.as_ref().map_or(View::Absent, |hold| {
            let (reason, count, new_people) = (Some(hold.reason.clone()), Some(hold.leads), Some(hold.new_people));
            let cure = format!("{}; {}", hold.first_contacts(), advice(&hold.reason));
            View::Stands(Stands { since: hold.since, reason, count, new_people, cure })
        }),
        Condition::Rejected => count(reading.rejected),
        Condition::Exhausted => count(reading.exhausted),
        Condition::WritebackStopped => count(reading.stopped),
        Condition::Unreadable => count(reading.unreadable),
        Condition::PossibleOptOut => count(reading.possible_opt_outs),
        Condition::PollFailing => polling(reading.last_poll.as_ref(), circumstances, now),
        Condition::BacklogOld => backlog(reading, circumstances, now),
    }
}

/// Another instance may poll where this one cannot.
fn polling(last: Option<&LastPoll>, circumstances: &Circumstances, now: DateTime<Utc>) -> View {
    // A poll that lies ahead was dated by a clock that was wrong: whether the source answers now, it does not say.
    let polled = last.is_some_and(|last| last.at >= circumstances.began_at && last.at <= now + horizon::TOLERANCE);
    let failing_since = last.and_then(|last| last.failing_since);
    let (since, reason) = match failing_since.map(|since| if since > now { circumstances.began_at } else { since }) {
        Some(since) => (since, "the last poll failed"),
        None if polled => return View::Absent,
        None if circumstances.connected => return View::Unclear,
        None => (circumstances.began_at, "not connected yet"),
    };
    if now - since < POLL_PATIENCE {
        return View::Unclear;
    }
    let cure = Condition::PollFailing.cure().to_owned();
    View::Stands(Stands { since, reason: Some(reason.to_owned()), count: None, new_people: None, cure })
}

fn backlog(reading: &Reading, circumstances: &Circumstances, now: DateTime<Utc>) -> View {
    let Some(longest) = circumstances.longest_wait else { return View::Absent };
    if reading.halt.is_some() {
        // People have been told why nothing is sent.
        return View::Unclear;
    }
    let since = if circumstances.capped { reading.longest.known } else { reading.longest.of_all() };
    match since {
        Some(since) if now - since >= longest => {
            let cure = Condition::BacklogOld.cure().to_owned();
            View::Stands(Stands { since, reason: None, count: None, new_people: None, cure })
        }
        // On its way back, and not yet there: a queue as long as it may be would begin and end with every lead.
        Some(since) if now - since >= longest / 2 => View::Unclear,
        _ => View::Absent,
    }
}

#[cfg(test)]
mod tests;
