//! The Test Lead Token: which leads carry it, their limit, and the hold of the leads above the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};

blocking_on_both_engines!(
    no_more_test_leads_than_the_limit_are_ever_sent_and_each_with_the_token,
    what_the_limit_held_stays_held_without_the_token_and_goes_with_its_real_name_when_approved,
    a_token_set_while_real_leads_wait_in_the_queue_lets_none_of_them_out,
);

const TOKEN: &str = "Plugh-token-1977";

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 5);
    with_token(&mut scene);
    scene
}

fn with_token(scene: &mut Scene) {
    scene.set_text("conversica", "test_lead_token", TOKEN).set("conversica", "test_lead_limit", "2");
}

fn distinct(endpoint: &StandIn, last_name: &str) -> usize {
    let requests = endpoint.requests().into_iter().filter(|received| received.request.json()["lastName"] == last_name);
    let mut ids: Vec<_> = requests.filter_map(|received| received.request.id).collect();
    ids.sort();
    ids.dedup();
    ids.len()
}

/// Runs a command and checks that its output does not contain the token.
#[track_caller]
fn quiet(scene: &Scene, arguments: &[&str], code: i32) -> crate::support::binary::Output {
    let output = scene.run(arguments).expect_code(code);
    assert!(!format!("{output}").contains(TOKEN), "the token is shown: {output}");
    output
}

fn no_more_test_leads_than_the_limit_are_ever_sent_and_each_with_the_token(engine: Engine) {
    let endpoint = StandIn::start(|request| if request.n == 1 { Reaction::AcceptThenHang } else { Reaction::accept() });
    let mut scene = scene(engine, &endpoint);
    scene.set_text("log", "level", "debug");
    let killed = scene.killed_daemon("a request on its way", || !endpoint.requests().is_empty());
    assert!(!killed.stderr.contains(TOKEN), "{killed}");
    let status = quiet(&scene, &["once", "--json"], 4).json();
    assert_eq!((&status["hold"]["reason"], &status["leads"]["held"]), (&json!("test_lead_limit"), &json!(3)));
    scene.crm("update leads set first_name = 'Zoe'");
    quiet(&scene, &["once"], 4);
    let polled = scene.status()["last_poll"]["at"].clone();
    scene.killed_daemon("another poll", || scene.status()["last_poll"]["at"] != polled);
    quiet(&scene, &["once"], 4);
    assert_eq!((endpoint.answered(), distinct(&endpoint, TOKEN)), (4, 2), "test leads go on being updated");
    assert_eq!(endpoint.requests().len(), 5);
    let refused = quiet(&scene, &["approve", "--yes"], 2);
    assert!(refused.stderr.contains("test_lead_limit"), "{refused}");
    assert_eq!(scene.status()["leads"]["held"], 3);
    quiet(&scene, &["config", "show"], 0);
}

fn what_the_limit_held_stays_held_without_the_token_and_goes_with_its_real_name_when_approved(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    scene.run(&["once"]).expect_code(4);
    scene.set("conversica", "test_lead_token", "");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["leads"]["held"]), (&json!("test_lead_limit"), &json!(3)));
    assert_eq!((endpoint.answered(), distinct(&endpoint, "Bell")), (4, 2), "the test leads get their real names");
    scene.run(&["approve", "--yes"]).expect_code(0);
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["hold"], &status["leads"]["in_sync"]), (&Value::Null, &json!(5)));
    assert_eq!((endpoint.answered(), distinct(&endpoint, "Bell"), distinct(&endpoint, TOKEN)), (7, 5, 2));
}

fn a_token_set_while_real_leads_wait_in_the_queue_lets_none_of_them_out(engine: Engine) {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let endpoint = StandIn::start(move |_| Reaction::status(if is_down.load(Ordering::SeqCst) { 503 } else { 200 }));
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 5);
    scene.set("delivery.breaker", "failures", "2");
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    let before = endpoint.requests().len();
    assert_eq!(distinct(&endpoint, TOKEN), 0);
    down.store(false, Ordering::SeqCst);
    with_token(&mut scene);
    let daemon = scene.daemon();
    scene.wait_for_status("the surplus is held", std::time::Duration::from_secs(20), |status| {
        status["leads"]["held"] == 3 && status["leads"]["in_sync"] == 2
    });
    daemon.kill();
    let after = endpoint.requests().split_off(before);
    assert!(after.iter().all(|received| received.request.json()["lastName"] == TOKEN), "{after:#?}");
    assert_eq!(after.len(), 2);
}
