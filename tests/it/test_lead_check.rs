//! `check --send-test-lead`: sends one made-up lead, once and only on request, under the same rules as every other lead.

use serde_json::json;

use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};

const TOKEN: &str = "TOKEN12345";

fn scene(endpoint: &StandIn) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set_text("conversica", "test_lead_token", TOKEN);
    scene
}

#[test]
fn the_test_lead_goes_once_with_the_token_and_nobody_from_the_crm_goes_with_it() {
    let endpoint = StandIn::accepting();
    let scene = scene(&endpoint);
    scene.run(&["check"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 0, "not unless asked for");
    let output = scene.run(&["check", "--send-test-lead", "--test-email", "me@example.com"]).expect_code(0);
    assert!(output.stdout.contains("test lead accepted (status 200)"), "{output}");
    assert!(!format!("{output}").contains(TOKEN), "the token is a secret");
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 1);
    let body = requests[0].request.json();
    assert_eq!((&body["id"], &body["lastName"]), (&json!("conversica-sync-test-lead"), &json!(TOKEN)));
    assert_eq!((&body["email"], &body["conversationId"]), (&json!("me@example.com"), &json!("Inbound Leads")));
    let status = scene.status();
    assert_eq!((&status["outcomes"]["accepted"], &status["leads"]["in_sync"]), (&json!(1), &json!(0)));
}

#[test]
fn the_test_lead_is_one_of_the_few_and_stays_the_same_one() {
    let endpoint = StandIn::accepting();
    let mut scene = scene(&endpoint);
    scene.set("conversica", "test_lead_limit", "2");
    for _ in 0..3 {
        scene.run(&["check", "--send-test-lead"]).expect_code(0);
    }
    scene.run(&["once"]).expect_code(4);
    let status = scene.status();
    assert_eq!((&status["leads"]["in_sync"], &status["leads"]["held"]), (&json!(1), &json!(2)));
    assert_eq!(status["hold"]["reason"], "test_lead_limit");
    assert_eq!(endpoint.requests().len(), 4);
    scene.run(&["check", "--send-test-lead"]).expect_code(0);

    // The limit leaves no room for a test lead.
    let scene = self::scene(&endpoint);
    let mut used_up = scene;
    used_up.set("conversica", "test_lead_limit", "3");
    used_up.run(&["once"]).expect_code(0);
    let requests = endpoint.requests().len();
    let output = used_up.run(&["check", "--send-test-lead"]).expect_code(2);
    assert!(output.stderr.contains("all of the 3 test leads have been used"), "{output}");
    assert_eq!(endpoint.requests().len(), requests);
}

#[test]
fn a_refused_test_lead_halts_like_any_other_and_costs_one_request() {
    let endpoint = StandIn::start(|_| Reaction::status(401));
    let scene = scene(&endpoint);
    let output = scene.run(&["check", "--send-test-lead"]).expect_code(4);
    assert!(
        output.stdout.contains("halting (status 401)") && output.stdout.contains("cure: set the right"),
        "{output}"
    );
    let output = scene.run(&["check", "--send-test-lead"]).expect_code(4);
    assert!(output.stdout.contains("halted (credentials)"), "{output}");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.requests().len(), 1);
    assert_eq!(scene.status()["halt"]["reason"], "credentials");
}

#[test]
fn what_conversica_says_of_the_test_lead_is_shown_with_the_cure() {
    for (status, code, word) in [(400, 3, "rejected (status 400): who is this"), (503, 3, "transient (status 503)")] {
        let endpoint = StandIn::start(move |_| Reaction::status(status).body("who is this"));
        let output = scene(&endpoint).run(&["check", "--send-test-lead"]).expect_code(code);
        assert!(output.stdout.contains(word) && output.stdout.contains("cure:"), "{output}");
    }
}

#[test]
fn without_a_token_or_beside_a_sender_no_test_lead_is_sent() {
    let endpoint = StandIn::accepting();
    let scene = Scene::new(&endpoint.url(), 0);
    let output = scene.run(&["check", "--send-test-lead"]).expect_code(2);
    assert!(output.stderr.contains("test_lead_token is not set"), "{output}");
    assert!(!scene.state_file().exists(), "no state is made for it");
    let scene = self::scene(&endpoint);
    scene.crm("delete from leads");
    let daemon = scene.daemon();
    let output = scene.run(&["check", "--send-test-lead"]).expect_code(2);
    assert!(output.stderr.contains("is in use by process"), "{output}");
    assert_eq!(endpoint.requests().len(), 0);
    drop(daemon.kill());
}
