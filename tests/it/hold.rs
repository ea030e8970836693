//! Holds: which changes wait for approval, which do not, and how the operator decides.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

const SOON: Duration = Duration::from_secs(20);

/// A scene whose first pass is over, with that many leads in sync.
fn settled(endpoint: &StandIn, leads: u32, approve_above: &str) -> Scene {
    let mut scene = Scene::new(&endpoint.url(), leads);
    scene.set("safety", "approve_above", approve_above);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), leads as usize);
    scene
}

#[track_caller]
fn held(status: &Value, reason: &str, leads: u32) {
    let hold = &status["hold"];
    assert_eq!((&hold["reason"], &hold["leads"]), (&json!(reason), &json!(leads)), "{status:#}");
    assert!(hold["since"].is_string());
    assert_eq!(status["leads"]["held"], leads);
}

#[test]
fn a_first_run_that_nobody_decided_upon_is_held_until_approved() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set("safety", "first_run", "");
    assert_eq!(scene.run(&["plan", "--json"]).expect_code(4).json()["hold"], "first_run");
    let output = scene.run(&["once", "--json"]).expect_code(4);
    held(&output.json(), "first_run", 4);
    held(&scene.run(&["status", "--json"]).expect_code(4).json(), "first_run", 4);
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!((&plan["hold"], &plan["create"]), (&json!("first_run"), &json!(4)));
    assert!(plan["leads"][0]["reasons"].to_string().contains("held"), "{plan:#}");
    let text = scene.run(&["status"]).expect_code(4);
    assert!(text.stdout.contains("HELD (first_run)") && text.stdout.contains("approve"), "{text}");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.connections(), 0, "nothing may leave");

    let refused = scene.run(&["approve"]).expect_code(2);
    assert!(refused.stderr.contains("--yes"), "{refused}");
    let approved = scene.run(&["approve", "--yes"]).expect_code(0);
    assert!(approved.stdout.contains("4 leads will be sent"), "{approved}");
    assert_eq!(endpoint.connections(), 0, "approve itself sends nothing");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 4);
    scene.add(5, 6);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 6, "the decision was for good");
}

#[test]
fn what_is_approved_is_not_shown_as_held_by_a_plan() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set("safety", "first_run", "").set("safety", "approve_above", "2");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--yes"]).expect_code(0);
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!((&plan["hold"], &plan["create"]), (&Value::Null, &json!(4)));
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 4);
}

#[test]
fn a_baseline_sends_nothing_and_later_changes_are_sent() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    let output = scene.run(&["baseline", "--yes"]).expect_code(0);
    assert!(output.stdout.contains("4 leads are now assumed known, never sent"), "{output}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.connections(), &scene.status()["leads"]["assumed"]), (0, &json!(4)));
    scene.crm("update leads set first_name = 'Zoe' where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("2").len()), (1, 1));
}

#[test]
fn a_first_run_set_to_baseline_sends_nothing_and_later_changes_are_sent() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 4);
    scene.set_text("safety", "first_run", "baseline");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.connections(), 0);
    scene.crm("update leads set first_name = 'Zoe' where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("2").len()), (1, 1));
}

#[test]
fn a_held_first_run_may_be_decided_in_the_settings_too() {
    for (decision, sent) in [("baseline", 1), ("send", 5)] {
        let endpoint = StandIn::accepting();
        let mut scene = Scene::new(&endpoint.url(), 4);
        scene.set("safety", "first_run", "");
        scene.run(&["once"]).expect_code(4);
        scene.set_text("safety", "first_run", decision);
        scene.run(&["once"]).expect_code(0);
        scene.crm("update leads set first_name = 'Zoe' where id = 2");
        scene.run(&["once"]).expect_code(0);
        assert_eq!(endpoint.answered(), sent, "{decision}");
    }
}

#[test]
fn more_changes_than_approved_are_held_entirely_and_what_comes_later_joins_them() {
    let endpoint = StandIn::accepting();
    let scene = settled(&endpoint, 6, "2");
    scene.crm("update leads set first_name = 'Zoe' where id <= 3");
    assert_eq!(scene.run(&["plan", "--json"]).expect_code(4).json()["hold"], "too_many_changes");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), "too_many_changes", 3);
    scene.crm("update leads set first_name = 'Zoe' where id = 4");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), "too_many_changes", 4);
    assert_eq!(endpoint.answered(), 6, "not one of them leaves");
    assert!(scene.run(&["plan", "--json"]).expect_code(4).json()["hold"] == "too_many_changes");
    // A lead that changes again while it is held is sent once, with its newest content.
    scene.crm("update leads set first_name = 'Mia' where id = 1");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), &endpoint.bodies_of("1")[1]["firstName"]), (10, &json!("Mia")));
    scene.crm("update leads set first_name = 'Eve' where id <= 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 12, "as many as are approved go by themselves");
}

#[test]
fn a_withdrawn_consent_goes_out_ahead_of_a_hold_and_is_not_counted() {
    let endpoint = StandIn::accepting();
    let scene = settled(&endpoint, 6, "2");
    scene.crm("update leads set first_name = 'Zoe' where id <= 3");
    scene.crm("update leads set opt_out = 1 where id = 5");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), "too_many_changes", 3);
    assert_eq!(endpoint.answered(), 7);
    // This also applies to a held lead.
    scene.crm("update leads set opt_out = 1 where id = 2");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), "too_many_changes", 2);
    let last = endpoint.requests().last().expect("a request").request.json();
    assert_eq!((&last["id"], &last["optOut"], endpoint.answered()), (&json!("2"), &json!(true), 8));
    // Any number of withdrawals is sent without approval.
    scene.run(&["baseline", "--yes"]).expect_code(0);
    scene.crm("update leads set opt_out = 1");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 12);
}

#[test]
fn a_hold_that_the_crm_takes_back_by_itself_is_over() {
    let endpoint = StandIn::accepting();
    let scene = settled(&endpoint, 6, "2");
    scene.crm("update leads set last_name = 'Mistake' where id <= 4");
    scene.run(&["once"]).expect_code(4);
    scene.crm("update leads set last_name = 'Bell'");
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["hold"], &status["leads"]["in_sync"]), (&Value::Null, &json!(6)));
    scene.crm("update leads set last_name = 'Bellini' where id = 1");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 7, "one change is not too many");
}

#[test]
fn a_changed_mapping_is_held_when_it_would_send_too_much_and_only_then() {
    let endpoint = StandIn::accepting();
    let mut scene = settled(&endpoint, 4, "3");
    scene.set("lead", "leadSource", "{ value = \"Trade fair\" }");
    assert_eq!(scene.run(&["plan", "--json"]).expect_code(4).json()["hold"], "mapping_changed");
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), "mapping_changed", 4);
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), "mapping_changed", 4);
    assert_eq!(endpoint.answered(), 4);
    scene.set("lead", "leadSource", "{ value = \"Website\" }");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 4, "the mapping is what it was: nothing to send");

    scene.crm("delete from leads where id = 4");
    scene.run(&["once"]).expect_code(0);
    scene.set("lead", "leadSource", "{ value = \"Trade fair\" }");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 7, "three are not too many");
}

#[test]
fn an_opt_out_that_was_delivered_before_waits_with_the_others() {
    let endpoint = StandIn::accepting();
    let mut scene = settled(&endpoint, 4, "3");
    scene.crm("update leads set opt_out = 'Y' where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 5);
    scene.set("lead", "leadSource", "{ value = \"Trade fair\" }");
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!((&plan["update"], &plan["stop"]), (&json!(4), &json!(0)));
    held(&scene.run(&["once", "--json"]).expect_code(4).json(), "mapping_changed", 4);
    assert_eq!(endpoint.answered(), 5, "nothing is new about that consent");
}

#[test]
fn the_daemon_stays_up_while_held_and_sends_once_approved() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 3);
    scene.set("safety", "first_run", "");
    let mut daemon = scene.daemon();
    daemon.wait_for_line("waiting for approval", SOON);
    held(&scene.run(&["status", "--json"]).expect_code(4).json(), "first_run", 3);
    scene.run(&["approve", "--yes"]).expect_code(0);
    endpoint.wait_for_requests(3, SOON);
    scene.wait_for_status("all in step", SOON, |status| status["leads"]["in_sync"] == 3 && status["hold"].is_null());
    daemon.signal(crate::support::signal::Signal::Terminate);
    daemon.wait(SOON).expect_code(0);
}

#[test]
fn whose_row_has_gone_during_the_hold_is_not_contacted_by_the_next_pass() {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::new(&endpoint.url(), 4);
    // Stamps show changed rows; a deleted row leaves none.
    scene.crm("alter table leads add column updated_at text; update leads set updated_at = '2026-01-01T00:00:00Z'");
    scene.set_text("source", "changed_at", "updated_at").set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    scene.crm("delete from leads where id < 3");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 2);
    assert!(endpoint.bodies_of("1").is_empty() && endpoint.bodies_of("2").is_empty());
}
