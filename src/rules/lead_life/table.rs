//! The table of docs/lead-states.md: what every event can do with a lead of every status. It is made by playing random events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::next;
use super::tests::{at, change, check, draft, event};
use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;
use crate::rules::retry::NextStep;

/// As the page lists them.
const EVENTS: [&str; 25] = [
    "the row changes",
    "the row becomes invalid",
    "the row is missing",
    "it is missing with most others",
    "the row is back",
    "claimed",
    "answer: accepted",
    "answer: rejected",
    "answer: transient",
    "answer: ambiguous",
    "answer: halting, or not sent",
    "an answer after the lease",
    "`approve`",
    "`baseline`",
    "the poll that staged it sends it",
    "the loss is accepted",
    "the last look before a first contact holds it",
    "the reason of that hold is over",
    "no test leads are left",
    "`retry`",
    "`reconcile --repair`",
    "`resend`",
    "the state is restored",
    "Conversica answers again, or posts",
    "the person has opted out elsewhere",
];

/// `None` for an answer without a claim, and for events that never change a status.
fn words(before: &LeadRecord, event: &LeadEvent) -> Option<&'static str> {
    Some(match event {
        LeadEvent::RowChanged { change, .. } if change.desired.is_err() => EVENTS[1],
        LeadEvent::RowChanged { .. } => EVENTS[0],
        LeadEvent::RowMissing | LeadEvent::RowMissingStop => EVENTS[2],
        LeadEvent::RowMissingWithMost { .. } => EVENTS[3],
        LeadEvent::RowBack { .. } => EVENTS[4],
        LeadEvent::Claimed(_) => EVENTS[5],
        LeadEvent::Answered { attempt, .. } => {
            if !before.has_claim(attempt) {
                return None;
            }
            match attempt.class {
                _ if matches!(attempt.next, NextStep::Unsent | NextStep::Untried) => EVENTS[10],
                OutcomeClass::Accepted => EVENTS[6],
                OutcomeClass::Rejected => EVENTS[7],
                OutcomeClass::Transient => EVENTS[8],
                OutcomeClass::Ambiguous => EVENTS[9],
                OutcomeClass::Halting => EVENTS[10],
            }
        }
        LeadEvent::AnsweredLate { .. } => EVENTS[11],
        LeadEvent::Approved => EVENTS[12],
        LeadEvent::Baselined => EVENTS[13],
        LeadEvent::HoldLifted => EVENTS[14],
        LeadEvent::LossAccepted => EVENTS[15],
        LeadEvent::HeldBeforeContact(_) => EVENTS[16],
        LeadEvent::HoldEnded(_) => EVENTS[17],
        LeadEvent::TestLeadsUsedUp => EVENTS[18],
        LeadEvent::RetryAsked => EVENTS[19],
        LeadEvent::ResendAsked => EVENTS[20],
        LeadEvent::ResendDecided { .. } => EVENTS[21],
        LeadEvent::Restored => EVENTS[22],
        LeadEvent::ConversicaBack | LeadEvent::Heard { .. } => EVENTS[23],
        LeadEvent::Suppressed(_) => EVENTS[24],
        LeadEvent::StopDropped | LeadEvent::HoldRenamed(_) => return None,
    })
}

fn shown(record: &LeadRecord) -> LeadStatus {
    if record.status == LeadStatus::InSync && record.assumed_at.is_some() { LeadStatus::Assumed } else { record.status }
}

type StatusTransitions = BTreeMap<(&'static str, LeadStatus), BTreeSet<LeadStatus>>;

fn play(lives: usize) -> StatusTransitions {
    let mut runner = TestRunner::deterministic();
    // Drawing from drafts that are made once is ten times as fast as making each of them.
    let drafts =
        proptest::collection::vec(draft(), 5000..5001).new_tree(&mut runner).expect("drafts can be made").current();
    let mut random = StdRng::seed_from_u64(20);
    let mut transitions = StatusTransitions::new();
    for _ in 0..lives {
        let mut record = LeadRecord::first_seen(&change(Some(0), None), at(0), at(0));
        for seconds in 1..=100 {
            let now = at(seconds);
            let event = event(&record, &drafts[random.random_range(0..drafts.len())], now);
            let after = next(record.clone(), &event, now);
            check(&record, &event, &after);
            match words(&record, &event) {
                Some(words) => _ = transitions.entry((words, shown(&record))).or_default().insert(shown(&after)),
                None => assert_eq!(record.status, after.status, "{event:?}"),
            }
            record = after;
        }
    }
    transitions
}

fn table(transitions: &StatusTransitions) -> String {
    let mut table = String::from("| |");
    for status in LeadStatus::ALL {
        let _ = write!(table, " {} |", status.name());
    }
    let _ = writeln!(table, "\n|---|{}", "---|".repeat(LeadStatus::ALL.len()));
    for words in EVENTS {
        let _ = write!(table, "| {words} |");
        for status in LeadStatus::ALL {
            let after = transitions.get(&(words, status)).cloned().unwrap_or_default();
            let changes = after.iter().filter(|after| **after != status).map(|after| after.name().to_owned());
            let stays = after.contains(&status) && after.len() > 1;
            let cell: Vec<String> = changes.chain(stays.then(|| "stays".to_owned())).collect();
            let _ = write!(table, " {} |", cell.join(", "));
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_page_about_states_shows_what_every_event_does() {
    let page = include_str!("../../../docs/lead-states.md");
    let (begin, end) = ("<!-- every event, every status -->\n", "<!-- end -->");
    let shown = page.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table);
    let right = table(&play(20_000));
    assert_eq!(shown, Some(right.as_str()), "docs/lead-states.md should show:\n{right}");
}
