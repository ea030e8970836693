//! A decision about many leads outlives the program that was told of it. Through the real program, which is killed halfway.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(a_killed_approve_is_carried_out_by_the_next_pass);

const LEADS: u32 = 20_000;

fn a_killed_approve_is_carried_out_by_the_next_pass(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), LEADS);
    scene.set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(scene.status()["leads"]["held"], LEADS);
    scene.run(&["pause", "--reason", "nothing is sent in this test"]).expect_code(0);
    let approve = scene.cli().spawn(&["approve", "--yes"]);
    let begun = Instant::now();
    let is_begun = || {
        let released = scene.state("select cast(count(*) as text) from lead where status = 'pending'");
        released[0].parse::<u32>().expect("a number") > 0
    };
    while !is_begun() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the decision is carried out");
    }
    approve.kill();
    let status = scene.status();
    let held = status["leads"]["held"].as_u64().expect("a number");
    assert!(held > 0 && held < u64::from(LEADS), "it was killed halfway: {status:#}");
    scene.run(&["once"]).expect_code(4);
    let status = scene.status();
    assert_eq!((&status["leads"]["pending"], &status["leads"]["held"]), (&json!(LEADS), &json!(0)), "{status:#}");
    assert_eq!(endpoint.requests().len(), 0, "the pause holds");
}
