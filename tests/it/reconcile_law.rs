//! A lead that a reconciliation skips matches: whatever has happened to the leads, a lead that is skipped for its
//! unchanged row would have been judged to match.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::hearing::update;
use crate::support::lead_row::{at, claim, desired, finished, held, id, invalid, record, returned, write};
use conversica_sync::conversica::lead::{IdOrder, RowHash};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::rules::verdict::{LeadVerdict, RowState, VerdictRules, judge};
use conversica_sync::store::compare::{self, DoubtedLeads};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::{facts, lead};

on_both_engines!(what_is_passed_over_in_silence_matches);

#[derive(Debug, Clone, Copy)]
enum Event {
    Row(u8),
    Held(u8),
    Invalid,
    Send(OutcomeClass),
    Vanish,
    Return,
    Baseline,
    Heard(&'static str),
}

fn event() -> impl Strategy<Value = Event> {
    let class = prop::sample::select(vec![
        OutcomeClass::Accepted,
        OutcomeClass::Accepted,
        OutcomeClass::Rejected,
        OutcomeClass::Transient,
        OutcomeClass::Ambiguous,
    ]);
    prop_oneof![
        3 => (0..3_u8).prop_map(Event::Row),
        1 => (0..3_u8).prop_map(Event::Held),
        1 => Just(Event::Invalid),
        5 => class.prop_map(Event::Send),
        1 => Just(Event::Vanish),
        1 => Just(Event::Return),
        1 => Just(Event::Baseline),
        2 => prop::sample::select(vec!["Messaging", "Excluded", "Lead Stopped"]).prop_map(Event::Heard),
    ]
}

async fn what_is_passed_over_in_silence_matches(engine: Engine) {
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let lives = prop::collection::vec(prop::collection::vec(event(), 1..7), 12);
    // The runner supports no futures, so the test plays its values here.
    for _ in 0..12 {
        let lives = lives.new_tree(&mut runner).expect("lives").current();
        play(engine, &lives).await;
    }
}

async fn play(engine: Engine, lives: &[Vec<Event>]) {
    let place = engine.place();
    let db = place.state().await;
    let mut seconds = 0;
    for (number, life) in lives.iter().enumerate() {
        let id_ = format!("{number}");
        let row = |change: LeadChange| LeadChange { row_hash: Some(RowHash(7)), ..change };
        for event in life {
            seconds += 10;
            match event {
                Event::Row(k) => write(&db, &[row(desired(&id_, &content(*k)))], seconds).await,
                Event::Held(k) => write(&db, &[row(held(&id_, &content(*k)))], seconds).await,
                Event::Invalid => write(&db, &[invalid(&id_, "no address")], seconds).await,
                Event::Send(class) => {
                    let next = match class {
                        OutcomeClass::Accepted => NextStep::Done,
                        OutcomeClass::Rejected => NextStep::Rejected,
                        _ => NextStep::RetryAt(at(seconds + 1_000_000)),
                    };
                    let claimed = claim(&db, 100, seconds).await;
                    let finished: Vec<_> =
                        claimed.iter().map(|claim| finished(claim, *class, next, seconds + 1)).collect();
                    if !finished.is_empty() {
                        record(&db, &finished).await;
                    }
                }
                Event::Vanish => lead::mark_gone(&db, &[id(&id_)], at(seconds)).await.unwrap(),
                Event::Return => returned(&db, &[id(&id_)], seconds).await,
                Event::Baseline => {
                    held::release_all(&db, &HeldSelection::default(), ReleaseKind::Baseline, at(seconds))
                        .await
                        .unwrap();
                }
                Event::Heard(stage) => {
                    let date = at(seconds).to_rfc3339();
                    let body = json!({"apiVersion": "7.2", "id": id_, "clientId": "", "conversationStage": stage,
                        "conversationStageDate": date});
                    update(&db, body, at(seconds)).await;
                }
            }
        }
    }
    for silent_since in [None, Some(at(seconds / 2)), Some(at(seconds + 10))] {
        let doubted = DoubtedLeads { silent_since };
        let page = compare::page(&db, IdOrder::ByLength, None, 100, Some(doubted)).await.unwrap();
        let leads: Vec<_> = page.iter().map(|compared| compared.lead.clone()).collect();
        let facts = facts::of(&db, &leads).await.unwrap();
        let rules = VerdictRules { began_at: at(seconds + 100), silent_since };
        let plain = compare::page(&db, IdOrder::ByLength, None, 100, None).await.unwrap();
        for (compared, plain) in page.iter().zip(&plain) {
            let facts = &facts[&compared.lead];
            let judged = judge(RowState::Content(facts.desired_hash), Some(facts), rules);
            let matches = judged.as_ref().is_some_and(|judged| judged.verdict == LeadVerdict::Matched);
            // A row without a hash, or a missing row, cannot count as unchanged.
            let is_passed_over = compared.row_hash.is_some();
            assert_eq!(is_passed_over, matches && plain.row_hash.is_some(), "{judged:?} {facts:?}\n{lives:?}");
        }
    }
    db.close().await;
}

fn content(k: u8) -> String {
    format!(r#"{{"city":"{k}"}}"#)
}
