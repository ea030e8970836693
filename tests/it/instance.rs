//! Several instances on one PostgreSQL state: they share the work and the pace, poll in turn, and take over from an
//! instance that dies; a rejected password counts for all of them.

use std::time::Duration;

use base64::Engine;
use serde_json::json;

use crate::support::postgres::{Database, cluster};
use crate::support::scene::Scene;
use crate::support::signal::Signal;
use crate::support::stand_in::{Reaction, StandIn};
use crate::support::wait::wait_until;

const SOON: Duration = Duration::from_secs(60);

/// A second scene on the CRM and the state of the first.
fn beside(first: &Scene, state: &Database, endpoint: &StandIn) -> Scene {
    let mut second = Scene::without_source(&endpoint.url());
    let crm = format!("sqlite://{}", first.directory().join("crm.db").display());
    second.set_text("source", "url", &crm).set_text("state", "url", &state.url);
    second
}

/// Two scenes that share the CRM and the state.
pub fn pair(endpoint: &StandIn, leads: u32) -> (Scene, Scene, Database) {
    let state = cluster().database();
    let mut first = Scene::new(&endpoint.url(), leads);
    first.set_text("state", "url", &state.url);
    let second = beside(&first, &state, endpoint);
    (first, second, state)
}

#[test]
fn two_instances_share_the_work_and_no_lead_is_sent_twice() {
    let endpoint = StandIn::start(|_| Reaction::accept().after(Duration::from_millis(20)));
    let (mut first, mut second, _state) = pair(&endpoint, 0);
    first.set("delivery", "concurrency", "2");
    second.set("delivery", "concurrency", "2");
    let (mut one, mut two) = (first.daemon(), second.daemon());
    one.wait_for_line("instances share this state", SOON);
    two.wait_for_line("instances share this state", SOON);
    first.add(1, 400);
    first.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 400);
    assert_eq!((endpoint.requests().len(), endpoint.max_in_flight_per_lead()), (400, 1));
    assert!((3..=4).contains(&endpoint.max_in_flight()), "both have sent: {}", endpoint.max_in_flight());
    first.crm("update leads set first_name = 'Zoe' where id <= 100");
    first.wait_for_status("the changes", SOON, |status| status["outcomes"]["accepted"] == 500);
    assert_eq!((endpoint.requests().len(), endpoint.max_in_flight_per_lead()), (500, 1));
    for daemon in [one, two] {
        daemon.signal(Signal::Terminate);
        daemon.wait(SOON).expect_code(0);
    }
}

#[test]
fn a_wrong_password_costs_one_request_whatever_the_number_of_instances() {
    let endpoint = StandIn::start(|_| Reaction::status(401));
    let (first, second, _state) = pair(&endpoint, 50);
    let (one, two) = (first.daemon(), second.daemon());
    first.wait_for_status("the halt", SOON, |status| status["halt"]["reason"] == "credentials");
    first.run(&["once"]).expect_code(4);
    second.run(&["once"]).expect_code(4);
    // A change gives both instances a reason to send.
    let before = first.status()["last_poll"]["at"].clone();
    first.crm("update leads set first_name = 'Zoe'");
    first.wait_for_status("another poll", SOON, |status| status["last_poll"]["at"] != before);
    assert_eq!(endpoint.requests().len(), 1);
    assert_eq!(first.status()["leads"]["pending"], 50, "the others are untouched and due");
    drop(one.kill());
    drop(two.kill());
}

#[test]
fn an_instance_that_is_killed_is_replaced_by_the_other_as_reader_and_as_sender() {
    // Only the first request for lead 7 hangs: the killed instance leaves it in flight.
    let hung = std::sync::atomic::AtomicBool::new(false);
    let endpoint = StandIn::start(move |request| match request.id.as_deref() {
        Some("7") if !hung.swap(true, std::sync::atomic::Ordering::SeqCst) => Reaction::AcceptThenHang,
        _ => Reaction::accept(),
    });
    let (mut first, mut second, state) = pair(&endpoint, 3);
    for scene in [&mut first, &mut second] {
        scene.set_text("delivery", "timeout", "8s");
    }
    let one = first.daemon();
    first.wait_for_status("the first three", SOON, |status| status["leads"]["in_sync"] == 3);
    first.add(7, 7);
    wait_until("lead 7 to be on its way", SOON, || !endpoint.bodies_of("7").is_empty());
    // It starts while the first one lives, and leaves the requests in flight alone.
    let mut two = second.daemon();
    two.wait_for_line("instances share this state", SOON);
    drop(one.kill());
    first.add(10, 12);
    second.wait_for_status("the new rows", SOON, |status| status["leads"]["in_sync"] == 6);
    assert_eq!(endpoint.bodies_of("7").len(), 1, "until its lease is over");
    second.wait_for_status("everybody", SOON, |status| status["leads"]["in_sync"] == 7);
    assert_eq!(endpoint.bodies_of("7").len(), 2);
    assert_eq!(
        state.sql("select detail from conversica_sync.outcome where class = 'ambiguous'"),
        "the lease of this request ended without an answer: its instance ended, was paused, or was cut off from the state"
    );
    drop(two.kill());
}

#[test]
fn an_instance_with_the_old_password_stays_silent_while_one_with_the_new_one_sends() {
    let new = "another-password-that-is-right";
    let authorization =
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("acme-api:{new}")));
    let endpoint = StandIn::start(move |request| match request.header("authorization") {
        Some(given) if given == authorization => Reaction::accept(),
        _ => Reaction::status(401),
    });
    let (first, mut second, _state) = pair(&endpoint, 5);
    let old = first.daemon();
    first.wait_for_status("the halt", SOON, |status| status["halt"]["reason"] == "credentials");
    second.set_text("conversica", "password", new);
    let right = second.daemon();
    second.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 5);
    first.crm("update leads set first_name = 'Zoe'");
    second.wait_for_status("the changes", SOON, |status| status["outcomes"]["accepted"] == 10);
    let refused = endpoint.requests().iter().filter(|received| received.answered == Some(401)).count();
    assert_eq!(refused, 1, "the old password was tried once");
    assert_eq!(second.status()["halt"], json!(null));
    drop(old.kill());
    drop(right.kill());
}

#[test]
fn of_two_instances_with_different_mappings_the_newer_one_has_its_way_and_nobody_is_sent_to_and_fro() {
    let endpoint = StandIn::accepting();
    let (first, mut second, _state) = pair(&endpoint, 3);
    second.set("lead", "leadSource", "{ value = \"Trade fair\" }");
    let mut old = first.daemon();
    first.wait_for_status("the first mapping", SOON, |status| status["leads"]["in_sync"] == 3);
    let new = second.daemon();
    old.wait_for_line("[lead] of this instance is older than the one in use", SOON);
    second.wait_for_status("the second mapping", SOON, |status| status["outcomes"]["accepted"] == 6);
    for round in 0..5 {
        let before = second.status()["last_poll"]["at"].clone();
        second.wait_for_status(&format!("poll {round}"), SOON, |status| status["last_poll"]["at"] != before);
    }
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 6, "once with each mapping, and never back");
    assert!(requests[3..].iter().all(|received| received.request.json()["leadSource"] == "Trade fair"));
    drop(new.kill());
    drop(old.kill());
}
