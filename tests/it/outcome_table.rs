//! The state after each outcome, for each change of the row while its request is in flight: one table, checked on both
//! engines.

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{at, claim_one, deliver, desired, finished, id, invalid, record, row, write};
use conversica_sync::conversica::lead::ContentFingerprint;
use conversica_sync::conversica::outcome::{HaltReason, OutcomeClass, TransportFailure, of_status, of_transport};
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::lead;

/// The change of the row between claim and outcome. Before the claim, "old" was delivered and "new" is desired.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Nothing,
    Changed,
    Invalid,
    Gone,
    /// The content is "old" again.
    Reverted,
}
use Meanwhile::{Changed, Gone, Invalid, Nothing, Reverted};

/// The claim is at 20, the outcome at 40, and a retry at 90.
const RECORDED: i64 = 40;
const RETRY: i64 = 90;

/// Whether the state knows which content Conversica holds: it has the hash of the delivered content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivered {
    Old,
    New,
    /// It may be "old" or "new".
    Unknown,
}
use Delivered::{New, Old, Unknown};

type Line = (OutcomeClass, fn() -> NextStep, Meanwhile, &'static str, Delivered, Option<i64>, i64);

#[expect(clippy::too_many_arguments, reason = "one row of a table of seven columns")]
const fn line(
    class: OutcomeClass,
    next: fn() -> NextStep,
    meanwhile: Meanwhile,
    status: &'static str,
    delivered: Delivered,
    due: Option<i64>,
    attempts: i64,
) -> Line {
    (class, next, meanwhile, status, delivered, due, attempts)
}

fn done() -> NextStep {
    NextStep::Done
}
fn refused() -> NextStep {
    NextStep::Rejected
}
fn again() -> NextStep {
    NextStep::RetryAt(at(RETRY))
}
fn enough() -> NextStep {
    NextStep::Exhausted
}
fn untried() -> NextStep {
    NextStep::Untried
}

const NOW: Option<i64> = Some(RECORDED);
const LATER: Option<i64> = Some(RETRY);

/// Outcome, next step, change meanwhile → status, content at Conversica, due, attempts.
#[rustfmt::skip]
const TABLE: [Line; 35] = [
    line(OutcomeClass::Accepted,  done,    Nothing,  "in_sync",   New,     None,  0),
    line(OutcomeClass::Accepted,  done,    Changed,  "pending",   New,     NOW,   0),
    line(OutcomeClass::Accepted,  done,    Invalid,  "invalid",   New,     None,  0),
    line(OutcomeClass::Accepted,  done,    Gone,     "gone",      New,     None,  0),
    line(OutcomeClass::Accepted,  done,    Reverted, "pending",   New,     NOW,   0),

    line(OutcomeClass::Rejected,  refused, Nothing,  "rejected",  Old,     None,  0),
    line(OutcomeClass::Rejected,  refused, Changed,  "pending",   Old,     NOW,   0),
    line(OutcomeClass::Rejected,  refused, Invalid,  "invalid",   Old,     None,  0),
    line(OutcomeClass::Rejected,  refused, Gone,     "gone",      Old,     None,  0),
    line(OutcomeClass::Rejected,  refused, Reverted, "in_sync",   Old,     None,  0),

    line(OutcomeClass::Transient, again,   Nothing,  "retrying",  Old,     LATER, 1),
    line(OutcomeClass::Transient, again,   Changed,  "retrying",  Old,     LATER, 1),
    line(OutcomeClass::Transient, again,   Invalid,  "invalid",   Old,     None,  1),
    line(OutcomeClass::Transient, again,   Gone,     "gone",      Old,     None,  1),
    line(OutcomeClass::Transient, again,   Reverted, "in_sync",   Old,     None,  1),

    line(OutcomeClass::Transient, enough,  Nothing,  "exhausted", Old,     None,  1),
    line(OutcomeClass::Transient, enough,  Changed,  "pending",   Old,     NOW,   0),
    line(OutcomeClass::Transient, enough,  Invalid,  "invalid",   Old,     None,  0),
    line(OutcomeClass::Transient, enough,  Gone,     "gone",      Old,     None,  1),
    line(OutcomeClass::Transient, enough,  Reverted, "in_sync",   Old,     None,  0),

    line(OutcomeClass::Ambiguous, again,   Nothing,  "retrying",  Unknown, LATER, 1),
    line(OutcomeClass::Ambiguous, again,   Changed,  "retrying",  Unknown, LATER, 1),
    line(OutcomeClass::Ambiguous, again,   Invalid,  "invalid",   Unknown, None,  1),
    line(OutcomeClass::Ambiguous, again,   Gone,     "gone",      Unknown, None,  1),
    line(OutcomeClass::Ambiguous, again,   Reverted, "retrying",  Unknown, LATER, 1),

    line(OutcomeClass::Ambiguous, enough,  Nothing,  "exhausted", Unknown, None,  1),
    line(OutcomeClass::Ambiguous, enough,  Changed,  "pending",   Unknown, NOW,   0),
    line(OutcomeClass::Ambiguous, enough,  Invalid,  "invalid",   Unknown, None,  0),
    line(OutcomeClass::Ambiguous, enough,  Gone,     "gone",      Unknown, None,  1),
    line(OutcomeClass::Ambiguous, enough,  Reverted, "pending",   Unknown, NOW,   0),

    line(OutcomeClass::Halting,   untried, Nothing,  "pending",   Old,     NOW,   0),
    line(OutcomeClass::Halting,   untried, Changed,  "pending",   Old,     NOW,   0),
    line(OutcomeClass::Halting,   untried, Invalid,  "invalid",   Old,     None,  0),
    line(OutcomeClass::Halting,   untried, Gone,     "gone",      Old,     None,  0),
    line(OutcomeClass::Halting,   untried, Reverted, "in_sync",   Old,     None,  0),
];

on_both_engines!(every_outcome_leaves_what_the_table_says);

async fn every_outcome_leaves_what_the_table_says(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let mut wrong = Vec::new();
    for (n, (class, next, meanwhile, status, delivered, due, attempts)) in TABLE.into_iter().enumerate() {
        let lead_id = n.to_string();
        deliver(&db, desired(&lead_id, "old"), 0).await;
        write(&db, &[desired(&lead_id, "new")], 10).await;
        let claim = claim_one(&db, 20).await;
        assert_eq!((claim.body.as_str(), claim.attempt), ("new", 1));
        match meanwhile {
            Nothing => {}
            Changed => write(&db, &[desired(&lead_id, "newer")], 30).await,
            Invalid => write(&db, &[invalid(&lead_id, "no address")], 30).await,
            Gone => lead::mark_gone(&db, &[id(&lead_id)], at(30)).await.expect("it is written"),
            Reverted => write(&db, &[desired(&lead_id, "old")], 30).await,
        }
        assert_eq!(row(&db, &lead_id).await.status, "in_flight", "whatever happens to the row waits for the answer");
        let next = next();
        record(&db, &[finished(&claim, class, next, RECORDED)]).await;

        let row = row(&db, &lead_id).await;
        let hash = |body: &str| ContentFingerprint::of(body.as_bytes()).as_bytes().to_vec();
        let held = match (row.delivered.as_deref(), &row.delivered_hash) {
            (Some("old"), None) => Unknown,
            (Some("old"), Some(known)) if *known == hash("old") => Old,
            (Some("new"), Some(known)) if *known == hash("new") => New,
            other => panic!("{class:?} {meanwhile:?}: the hash is not of what was delivered: {other:?}"),
        };
        let waits = matches!(row.status.as_str(), "pending" | "retrying");
        let left = (row.status.as_str(), held, row.due_at.filter(|_| waits), row.attempts);
        if left != (status, delivered, due, attempts) {
            wrong.push(format!(
                "{class:?} {next:?} {meanwhile:?}: {left:?}, not {:?}",
                (status, delivered, due, attempts)
            ));
        }
        assert_eq!((row.sent_hash, row.claimed_at), (None, None), "no claim is left: {class:?} {meanwhile:?}");
        assert_eq!(row.last_outcome.as_deref(), Some(class.name()));
        // The next line needs an empty queue.
        lead::mark_gone(&db, &[id(&lead_id)], at(50)).await.expect("it is written");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The row of the table in docs/lead-states.md for a status: a row that names the status itself, a row that names its
/// class, or a row for all of a kind.
fn row_of(status: u16, rows: &[Vec<String>]) -> &Vec<String> {
    let class = format!("{}xx", status / 100);
    let names = |row: &&Vec<String>, name: &str| row[0].split([' ', ',', ';']).any(|word| word == name);
    let by_name = rows.iter().find(|row| names(row, &status.to_string()));
    let by_kind = rows.iter().find(|row| names(row, &class) && !row[0].contains("any 4xx"));
    let rest =
        |row: &&Vec<String>| if status / 100 == 4 { row[0].contains("any 4xx") } else { row[0].contains("any other") };
    by_name.or(by_kind).or_else(|| rows.iter().find(rest)).expect("every status has a row")
}

#[test]
fn the_book_shows_the_outcome_policy_as_it_is() {
    let page = include_str!("../../docs/lead-states.md");
    let section = page.split("## What an answer means").nth(1).expect("the section is there");
    let lines =
        section.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = lines.map(cells).collect();
    assert_eq!(rows.len(), 7, "{rows:#?}");
    for status in 0..=999 {
        let (class, halt) = of_status(status);
        let row = row_of(status, &rows);
        assert_eq!(row[1], format!("`{}`", class.name()), "{status}: {row:?}");
        let cure = halt.map_or(class.remedy(), HaltReason::cure);
        assert_eq!(row[3], cure, "{status}");
        if let Some(halt) = halt {
            assert!(row[2].contains(&format!("`{}`", halt.name())), "{status}: {row:?}");
        }
    }
    let transport = |text: &str| rows.iter().find(|row| row[0].contains(text)).map(|row| row[1].as_str());
    assert_eq!(transport("DNS, connect and TLS failures"), Some("`transient`"));
    assert_eq!(of_transport(TransportFailure::NotSent), OutcomeClass::Transient);
    assert_eq!(transport("time-out or cut"), Some("`ambiguous`"));
    assert_eq!(of_transport(TransportFailure::Unanswered), OutcomeClass::Ambiguous);
}
