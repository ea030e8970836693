//! The learnt pace and the pauses that Conversica asked for survive a restart.

use std::time::Duration;

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};

blocking_on_both_engines!(
    nobody_sends_before_a_pause_that_was_asked_for_is_over_whoever_starts_what,
    an_open_breaker_is_shown_and_closes_with_the_first_answer,
);

fn nobody_sends_before_a_pause_that_was_asked_for_is_over_whoever_starts_what(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.n {
        1 => Reaction::status(429).header("Retry-After", "6"),
        _ => Reaction::accept(),
    });
    let scene = Scene::with_state_on(engine, &endpoint.url(), 5);
    for _ in 0..3 {
        scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    }
    let pacing = scene.status()["pacing"].clone();
    assert_eq!((&pacing["ceiling"], &pacing["breaker"]), (&json!(1000.0), &json!("closed")), "{pacing:#}");
    assert!(pacing["requests_per_second"].as_f64().is_some_and(|rate| rate <= 500.0), "{pacing:#}");
    assert!(pacing["paused_until"].is_string(), "{pacing:#}");
    let polled = scene.status()["last_poll"]["at"].clone();
    scene.killed_daemon("another poll", || scene.status()["last_poll"]["at"] != polled);
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["leads"]["in_sync"], &status["pacing"]["paused_until"]), (&json!(5), &json!(null)));
    let requests = endpoint.requests();
    let waited = requests[1].request.arrived_at - requests[0].over_at.expect("it was answered");
    assert!(waited >= Duration::from_millis(5900), "{waited:?}");
}

fn an_open_breaker_is_shown_and_closes_with_the_first_answer(engine: Engine) {
    let endpoint = StandIn::start(|request| Reaction::status(if request.n <= 2 { 500 } else { 200 }));
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 5);
    scene.set("delivery.breaker", "failures", "2").set_text("delivery.retry", "initial_interval", "1s");
    scene.set_text("delivery.retry", "max_interval", "1s");
    scene.run(&["once", "--max-wait", "0s"]);
    while endpoint.requests().len() < 2 {
        scene.run(&["once", "--max-wait", "2s"]);
    }
    if endpoint.requests().len() == 2 {
        assert_eq!(scene.status()["pacing"]["breaker"], "open");
        assert!(scene.status()["pacing"]["next_probe_at"].is_string());
    }
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["pacing"]["breaker"], &status["leads"]["in_sync"]), (&json!("closed"), &json!(5)));
}
