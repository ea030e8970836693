//! Requests with an unknown outcome (a time-out, a cut connection, a kill), and how `[delivery] on_ambiguous` decides
//! about them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};

blocking_on_both_engines!(
    with_resend_an_unknown_outcome_is_recorded_and_sent_again,
    with_wait_an_unknown_outcome_is_sent_again_when_the_wait_is_over,
    with_hold_an_unknown_outcome_waits_for_a_person_whose_word_sends_or_settles_it,
    a_lead_held_for_an_unknown_outcome_holds_nobody_else_and_its_own_changes_join_it,
    a_row_that_is_broken_and_mended_meanwhile_is_still_held_for_its_unknown_outcome,
);

const WAYS: [&str; 3] = ["time-out", "cut", "kill"];

/// The first request that contains `Unsure` ends with the fault `way`; everything else is accepted.
fn endpoint(way: &'static str) -> StandIn {
    let first = std::sync::Once::new();
    StandIn::start(move |request| {
        let mut reaction = Reaction::accept();
        if request.body.contains("Unsure") {
            first.call_once(|| {
                reaction = if way == "cut" { Reaction::AcceptThenCut } else { Reaction::AcceptThenHang };
            });
        }
        reaction
    })
}

fn unsure(endpoint: &StandIn) -> usize {
    endpoint.requests().iter().filter(|received| received.request.body.contains("Unsure")).count()
}

fn scene(engine: Engine, endpoint: &StandIn, on_ambiguous: &str, leads: u32) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), leads);
    scene.set_text("delivery", "on_ambiguous", on_ambiguous).set_text("delivery", "timeout", "1s");
    scene
}

/// Runs one pass in which the outcome becomes unknown; after a kill, also the next pass.
fn pass(scene: &mut Scene, endpoint: &StandIn, way: &str) -> Value {
    if way == "kill" {
        // The kill comes long before the time-out.
        scene.set_text("delivery", "timeout", "60s");
        scene.killed_daemon("the request on its way", || unsure(endpoint) == 1);
        scene.set_text("delivery", "timeout", "1s");
    }
    scene.run(&["once", "--json"]).json()
}

fn with_resend_an_unknown_outcome_is_recorded_and_sent_again(engine: Engine) {
    for way in WAYS {
        let endpoint = endpoint(way);
        let mut scene = scene(engine, &endpoint, "resend", 1);
        scene.crm("update leads set first_name = 'Unsure'");
        let status = pass(&mut scene, &endpoint, way);
        assert_eq!(
            (&status["outcomes"]["ambiguous"], &status["outcomes"]["accepted"]),
            (&json!(1), &json!(1)),
            "{way}"
        );
        assert_eq!((&status["outcomes"]["transient"], &status["leads"]["in_sync"]), (&json!(0), &json!(1)), "{way}");
        let bodies = endpoint.bodies_of("1");
        assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]), "{way}");
    }
}

fn with_wait_an_unknown_outcome_is_sent_again_when_the_wait_is_over(engine: Engine) {
    for way in WAYS {
        let endpoint = endpoint(way);
        let mut scene = scene(engine, &endpoint, "wait", 1);
        scene.set_text("delivery", "ambiguous_wait", "1s");
        scene.crm("update leads set first_name = 'Unsure'");
        let status = pass(&mut scene, &endpoint, way);
        assert_eq!((&status["outcomes"]["ambiguous"], &status["leads"]["in_sync"]), (&json!(1), &json!(1)), "{way}");
        let requests = endpoint.requests();
        let waited = requests[1].request.arrived_at - requests[0].over_at.expect("it is over");
        assert!(waited >= Duration::from_millis(950), "{way}: {waited:?}");
        assert_eq!(requests.len(), 2, "{way}");
    }
}

fn with_hold_an_unknown_outcome_waits_for_a_person_whose_word_sends_or_settles_it(engine: Engine) {
    for (way, word) in [("time-out", "approve"), ("cut", "baseline"), ("kill", "approve"), ("kill", "baseline")] {
        let endpoint = endpoint(way);
        let mut scene = scene(engine, &endpoint, "hold", 2);
        scene.crm("update leads set first_name = 'Unsure' where id = 1");
        pass(&mut scene, &endpoint, way);
        let status = scene.run(&["once", "--json"]).expect_code(4).json();
        assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("ambiguous"), &json!(1)), "{way}");
        assert_eq!((&status["outcomes"]["ambiguous"], &status["leads"]["in_sync"]), (&json!(1), &json!(1)), "{way}");
        scene.run(&["status"]).expect_code(4);
        assert_eq!(unsure(&endpoint), 1, "{way}");
        scene.run(&[word, "--yes"]).expect_code(0);
        let status = scene.run(&["once", "--json"]).expect_code(0).json();
        assert_eq!((&status["leads"]["in_sync"], &status["hold"]), (&json!(2), &Value::Null), "{way} {word}");
        assert_eq!(unsure(&endpoint), if word == "approve" { 2 } else { 1 }, "{way} {word}");
    }
}

fn a_lead_held_for_an_unknown_outcome_holds_nobody_else_and_its_own_changes_join_it(engine: Engine) {
    let endpoint = endpoint("cut");
    let scene = scene(engine, &endpoint, "hold", 5);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = 'Unsure' where id = 2");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.bodies_of("2").len(), 2);
    scene.crm("update leads set first_name = 'Zoe' where id <> 2; update leads set first_name = 'Newest' where id = 2");
    scene.add(6, 6);
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["leads"]["held"]), (&json!("ambiguous"), &json!(1)));
    assert_eq!((&status["leads"]["in_sync"], endpoint.bodies_of("2").len()), (&json!(5), 2));
    assert!(scene.state("select desired from lead where status = 'held'")[0].contains("Newest"));
    scene.crm("update leads set opt_out = 1 where id = 2");
    scene.run(&["once"]).expect_code(0);
    let bodies = endpoint.bodies_of("2");
    let last = bodies.last().expect("a body");
    assert_eq!((bodies.len(), &last["optOut"], &last["firstName"]), (3, &json!(true), &json!("Newest")));
}

fn a_row_that_is_broken_and_mended_meanwhile_is_still_held_for_its_unknown_outcome(engine: Engine) {
    let endpoint = endpoint("cut");
    let scene = scene(engine, &endpoint, "hold", 1);
    scene.crm("update leads set first_name = 'Unsure'");
    scene.run(&["once"]).expect_code(4);
    scene.crm("update leads set email = null");
    let status = scene.run(&["once", "--json"]).expect_code(3).json();
    assert_eq!((&status["leads"]["invalid"], &status["hold"]), (&json!(1), &Value::Null));
    assert!(scene.run(&["approve", "--yes"]).expect_code(0).stdout.contains("Nothing is held"));
    scene.crm("update leads set email = 'ann@example.com'");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], endpoint.answered()), (&json!("ambiguous"), 0));
}
