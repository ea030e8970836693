//! The exit code of `once`: it tells a script that nothing could be delivered.

use std::time::Duration;

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn, refused_port};

blocking_on_both_engines!(a_pass_that_delivered_none_of_what_waits_exits_4, capped_people_are_no_failure);

fn a_pass_that_delivered_none_of_what_waits_exits_4(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.n {
        1..=3 => Reaction::status(503).body("busy"),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 3);
    scene.set("delivery", "concurrency", "1").set_text("delivery.retry", "initial_interval", "1h");
    scene.set_text("delivery.retry", "max_interval", "2h");
    let output = scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    for words in ["Nothing was delivered: 3 leads wait", "requests failed or could not leave", "The next try is due at"]
    {
        assert!(output.stdout.contains(words), "{words}: {output}");
    }
    // The next pass comes before the next retry.
    let output = scene.run(&["once", "--max-wait", "0s", "--json"]).expect_code(4).json();
    let pass = &output["pass"];
    assert_eq!((&pass["accepted"], &pass["nothing_delivered"]), (&json!(0), &json!(true)), "{pass:#}");
    assert!(pass["next_try_at"].is_string(), "{pass:#}");
}

#[test]
fn an_endpoint_that_is_away_or_never_answers_exits_4() {
    let away = Scene::new(&format!("http://127.0.0.1:{}/json/", refused_port()), 2);
    away.run(&["once", "--max-wait", "200ms"]).expect_code(4);
    let silent = StandIn::start(|_| Reaction::AcceptThenHang);
    let mut scene = Scene::new(&silent.url(), 2);
    scene.set_text("delivery", "timeout", "1s").set("delivery.breaker", "failures", "1");
    let output = scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    let says = ["1 request was not answered", "2 requests were not answered"];
    assert!(says.iter().any(|words| output.stdout.contains(words)), "{output}");
}

#[test]
fn a_pass_that_is_halted_promises_no_next_try() {
    let refusing = StandIn::start(|_| Reaction::status(401));
    let scene = Scene::new(&refusing.url(), 3);
    let first = scene.run(&["once"]).expect_code(4);
    assert!(first.stdout.contains("Conversica refused a request, which halts all sending"), "{first}");
    let second = scene.run(&["once"]).expect_code(4);
    assert!(second.stdout.contains("sending is halted, and no request was made"), "{second}");
    for output in [&first, &second] {
        assert!(output.stdout.contains("HALTED"), "{output}");
        assert!(!output.stdout.contains("next try") && !output.stdout.contains("tries them again"), "{output}");
    }
    let pass = scene.run(&["once", "--json"]).expect_code(4).json()["pass"].clone();
    assert_eq!((&pass["halted"], &pass["next_try_at"]), (&json!(true), &json!(null)), "{pass:#}");
}

#[test]
fn the_next_try_is_not_before_the_end_of_a_pause_that_conversica_asked_for() {
    let busy = StandIn::start(|_| Reaction::status(429).header("Retry-After", "900"));
    let mut scene = Scene::new(&busy.url(), 3);
    scene.set_text("delivery.retry", "initial_interval", "10ms");
    let before = chrono::Utc::now();
    let pass = scene.run(&["once", "--max-wait", "0s", "--json"]).expect_code(4).json()["pass"].clone();
    let next: chrono::DateTime<chrono::Utc> = pass["next_try_at"].as_str().expect("a time").parse().expect("RFC 3339");
    assert!(next >= before + chrono::TimeDelta::seconds(899), "{pass:#}");
}

#[test]
fn a_pass_that_delivered_something_or_had_nothing_to_deliver_is_done() {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("2") => Reaction::status(500).header("Retry-After", "3000"),
        _ => Reaction::accept().after(Duration::from_millis(5)),
    });
    let mut scene = Scene::new(&endpoint.url(), 0);
    scene.run(&["once"]).expect_code(0);
    scene.add(1, 3);
    scene.set_text("delivery.retry", "initial_interval", "1h").set_text("delivery.retry", "max_interval", "2h");
    let output = scene.run(&["once", "--max-wait", "0s"]).expect_code(0);
    assert!(output.stdout.contains("1 lead still to be sent"), "{output}");
    let output = scene.run(&["once", "--max-wait", "0s", "--json"]).expect_code(4).json();
    assert_eq!(output["pass"]["nothing_delivered"], true, "the one that is left was not delivered");
    scene.crm("delete from leads where id = 2");
    scene.run(&["once", "--full", "--max-wait", "0s"]);
    let output = scene.run(&["once", "--max-wait", "0s", "--json"]).expect_code(0).json();
    assert_eq!(output["pass"]["nothing_delivered"], false);
}

fn capped_people_are_no_failure(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.json()["lastName"].as_str() {
        Some("Odd") => Reaction::status(500),
        _ => Reaction::accept(),
    });
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 5);
    scene.set("safety", "new_leads_per_hour", "2");
    scene.set_text("delivery.retry", "initial_interval", "1h").set_text("delivery.retry", "max_interval", "2h");
    for _ in 0..2 {
        let pass = scene.run(&["once", "--max-wait", "0s", "--json"]).expect_code(0).json()["pass"].clone();
        assert_eq!((&pass["waiting"], &pass["nothing_delivered"]), (&json!(3), &json!(false)), "{pass:#}");
    }
    // No cap applies to an update.
    scene.crm("update leads set last_name = 'Odd' where id = (select min(id) from leads)");
    let known = endpoint.requests()[0].request.id.clone().expect("it names its lead");
    scene.crm(&format!("update leads set last_name = 'Odd' where id = {known}"));
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
}
