//! `resend`: accepted and assumed leads are sent again after a person was asked, above `approve_above` only after an approval.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;

blocking_on_both_engines!(
    what_is_sent_again_is_chosen_by_id_conversation_and_time,
    more_than_approve_above_wait_for_an_approval,
    assumed_leads_are_sent_only_where_they_are_asked_for_and_count_as_new_people,
    what_was_heard_of_is_not_unconfirmed,
    a_selection_that_fits_nothing_changes_nothing,
    who_opted_out_of_one_channel_waits_for_the_approval_like_the_rest,
    who_opted_out_by_a_post_is_sent_again_with_the_opt_out,
    a_lead_whose_row_was_deleted_is_not_sent_again,
    what_was_to_be_sent_again_waits_after_a_restore,
    what_a_person_has_sent_again_does_not_count_as_changes_of_the_poll,
);

const SOON: Duration = Duration::from_secs(30);

/// Leads in two conversations; all were accepted.
fn delivered(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), leads);
    scene.crm("alter table leads add column talk text");
    scene.crm("update leads set talk = case when id = 1 then 'Spring' else 'Inbound Leads' end");
    scene.set_text("lead", "conversationId", "talk");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), leads as usize);
    scene
}

#[track_caller]
fn sent_since(endpoint: &StandIn, before: usize) -> Vec<String> {
    let mut ids: Vec<String> = endpoint.requests()[before..]
        .iter()
        .map(|request| request.request.json()["id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

fn what_is_sent_again_is_chosen_by_id_conversation_and_time(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = delivered(engine, &endpoint, 3);
    let asked = scene.run(&["resend", "2"]).expect_code(2);
    assert!(asked.stderr.contains("--yes"), "nobody is asked without a terminal: {asked}");
    let said = scene.run(&["resend", "2", "--yes"]).expect_code(0);
    assert!(
        said.stdout.contains("Inbound Leads: 1 lead") && said.stdout.contains("1 lead back in the queue"),
        "{said}"
    );
    let status = scene.status();
    assert_eq!((&status["leads"]["held"], &status["leads"]["in_sync"]), (&json!(1), &json!(2)), "{status:#}");
    assert_eq!(status["hold"], json!(null), "it waits for the next poll, not for a person");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, 3), ["2"]);
    assert_eq!(
        endpoint.requests()[3].request.json(),
        endpoint.requests().iter().find(|r| r.request.json()["id"] == "2").expect("it").request.json()
    );

    scene.run(&["resend", "--conversation", "Spring", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, 4), ["1"]);

    scene.run(&["resend", "--accepted-to", "2020-01-01", "--yes"]).expect_code(2);
    scene
        .run(&["resend", "--accepted-from", "2020-01-01", "--accepted-to", "2100-01-01T00:00:00Z", "--yes"])
        .expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, 5), ["1", "2", "3"]);
    let decided = scene.run(&["lead", "2", "--json"]).json();
    let resends =
        decided["decisions"].as_array().expect("decisions").iter().filter(|one| one["action"] == "resend").count();
    assert_eq!(resends, 2, "{decided:#}");
    assert_eq!(scene.status()["leads"]["in_sync"], 3);
}

fn more_than_approve_above_wait_for_an_approval(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = delivered(engine, &endpoint, 4);
    scene.set("safety", "approve_above", "2");
    let held = scene.run(&["resend", "--accepted-from", "2020-01-01", "--yes"]).expect_code(4);
    assert!(held.stdout.contains("4 leads wait for approval (resend)"), "{held}");
    let status = scene.status();
    assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("resend"), &json!(4)), "{status:#}");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(sent_since(&endpoint, 4), [""; 0]);
    scene.run(&["baseline", "3", "4", "--yes"]).expect_code(0);
    scene.run(&["approve", "--reason", "resend", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, 4), ["1", "2"]);
    let status = scene.status();
    assert_eq!((&status["leads"]["in_sync"], &status["leads"]["assumed"]), (&json!(4), &json!(0)), "{status:#}");
}

fn assumed_leads_are_sent_only_where_they_are_asked_for_and_count_as_new_people(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("safety", "first_run", "baseline");
    scene.run(&["once"]).expect_code(0);
    scene.run(&["resend", "--accepted-from", "2020-01-01", "--yes"]).expect_code(2);
    scene.set("safety", "new_leads_per_day", "2");
    let said = scene.run(&["resend", "--assumed", "--yes"]).expect_code(0);
    assert!(said.stdout.contains("3 leads, 3 of them assumed known, never sent"), "{said}");
    scene.run(&["once", "--max-wait", "0s"]);
    assert_eq!(sent_since(&endpoint, 0).len(), 2, "the cap on new people counts them");
    let status = scene.status();
    assert_eq!((&status["leads"]["in_sync"], &status["leads"]["pending"]), (&json!(2), &json!(1)), "{status:#}");
}

fn what_was_heard_of_is_not_unconfirmed(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    let refused = scene.run(&["resend", "--unconfirmed", "--yes"]).expect_code(2);
    assert!(refused.stderr.contains("without [receive]"), "{refused}");
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 3);
    assert_eq!(receiver.post("/conversica/lead", r#"{"id":"2","leadStatus":"Working"}"#).status, 200);
    scene.wait_for_status("the post", SOON, |status| status["received"]["lead_updates"] == 1);
    receiver.end();
    let before = endpoint.requests().len();
    scene.run(&["resend", "--unconfirmed", "--yes"]).expect_code(2);
    // Eight days later.
    scene.state("update lead set delivered_at = delivered_at - 691200000000");
    scene.run(&["resend", "--unconfirmed", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, before), ["1", "3"]);
}

fn a_selection_that_fits_nothing_changes_nothing(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = delivered(engine, &endpoint, 2);
    scene.run(&["resend"]).expect_code(2);
    for wrong in [&["999"][..], &["--conversation", "spring"], &["--accepted-from", "soon"]] {
        let refused = scene.run(&[&["resend", "--yes"][..], wrong].concat()).expect_code(2);
        assert!(!refused.stderr.is_empty(), "{refused}");
    }
    let partly = scene.run(&["resend", "1", "999", "--yes"]).expect_code(2);
    assert!(partly.stderr.contains("999") && partly.stderr.contains("the others are back in the queue"), "{partly}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, 2), ["1"]);
}

fn who_opted_out_of_one_channel_waits_for_the_approval_like_the_rest(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("lead", "smsOptOut", "opt_out");
    scene.crm("update leads set opt_out = 1");
    scene.run(&["once"]).expect_code(0);
    scene.set("safety", "approve_above", "2");
    scene.run(&["resend", "--accepted-from", "2020-01-01", "--yes"]).expect_code(4);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.requests().len(), 3);
    // What the row withdraws later goes at once.
    scene.set("safety", "approve_above", "0");
    scene.run(&["approve", "--reason", "resend", "--yes"]).expect_code(0);
    scene.run(&["pause"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.requests().len(), 3, "a pause holds for them too");
    scene.run(&["unpause"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 6);
}

fn who_opted_out_by_a_post_is_sent_again_with_the_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.crm("alter table leads add column said text");
    scene.set_text("lead", "optOut", "said");
    with_receiver(&mut scene);
    let receiver = Receiver::start(&scene);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    assert_eq!(receiver.post("/conversica/lead", r#"{"id":"2","doNotEmail":true}"#).status, 200);
    scene.wait_for_status("the post", SOON, |status| status["received"]["lead_updates"] == 1);
    receiver.end();
    scene.run(&["once"]).expect_code(0);
    let before = endpoint.bodies_of("2").len();
    assert!(endpoint.bodies_of("2").iter().all(|body| body.get("optOut").is_none()), "the row has no value");
    scene.run(&["resend", "2", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    let bodies = endpoint.bodies_of("2");
    assert_eq!((bodies.len(), &bodies[before]["optOut"]), (before + 1, &json!(true)), "{bodies:?}");
}

fn a_lead_whose_row_was_deleted_is_not_sent_again(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = delivered(engine, &endpoint, 3);
    scene.set_text("source", "poll_interval", "1h");
    let daemon = scene.daemon();
    scene.wait_for_status("the first poll", SOON, |status| status["last_poll"]["kind"] == "full");
    scene.crm("delete from leads where id = 2");
    scene.run(&["resend", "1", "2", "--yes"]).expect_code(0);
    // The deliverer would take a due lead within a second.
    let asked = Instant::now();
    wait_until("three seconds", SOON, || asked.elapsed() > Duration::from_secs(3));
    assert_eq!(sent_since(&endpoint, 3), [""; 0], "no poll has looked for their rows");
    drop(daemon);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, 3), ["1"]);
    assert_eq!(scene.run(&["lead", "2", "--json"]).json()["status"], "gone");
}

fn what_was_to_be_sent_again_waits_after_a_restore(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = delivered(engine, &endpoint, 2);
    scene.run(&["resend", "1", "--yes"]).expect_code(0);
    scene.run(&["restored"]).expect_code(0);
    let status = scene.status();
    assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("restored"), &json!(1)), "{status:#}");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.requests().len(), 2);
}

fn what_a_person_has_sent_again_does_not_count_as_changes_of_the_poll(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = delivered(engine, &endpoint, 4);
    scene.set("safety", "approve_above", "2");
    scene.run(&["resend", "1", "2", "--yes"]).expect_code(0);
    scene.crm("update leads set first_name = 'Bea' where id >= 3");
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!(plan["hold"], json!(null), "{plan:#}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(sent_since(&endpoint, 4), ["1", "2", "3", "4"]);
}
