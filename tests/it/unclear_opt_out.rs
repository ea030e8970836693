//! An opt-out in the CRM reaches Conversica, whatever its column contains, and whatever else the row contains.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::reaction::Reaction;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    a_value_that_is_neither_yes_nor_no_withdraws_consent_of_a_lead_that_conversica_has,
    a_value_that_says_nothing_is_held_until_an_operator_has_looked,
    a_value_without_an_entry_in_its_map_is_read_by_its_words,
    an_opt_out_beside_a_value_that_conversica_rejects_is_sent_apart_and_once,
    an_opt_out_that_is_rejected_twice_is_said_not_to_have_arrived,
);

const SPELLINGS: [&str; 8] = ["-1", "X", "2026-11-20 10:00", "Opted out", "1.00", "2", "20/11/2026", "Unsubscribed"];

/// A table whose opt-out columns are texts, with that many leads.
fn scene(engine: Engine, endpoint: &StandIn, leads: usize) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), 0);
    scene.crm("drop table leads");
    scene.crm(
        "create table leads (id integer primary key, first_name text, last_name text, email text, owner_name text, \
         opt_out text, stop text, status text)",
    );
    scene.set_text("lead", "leadStatus", "status").set_text("lead", "stopMessaging", "stop");
    for id in 1..=leads {
        add(&scene, id, "0");
    }
    scene
}

fn add(scene: &Scene, id: usize, opt_out: &str) {
    scene.crm(&format!(
        "insert into leads values ({id}, 'Ann', 'Bell', 'ann{id}@example.com', 'Rae Rep', '{opt_out}', '0', 'New')"
    ));
}

fn last(endpoint: &StandIn, id: usize) -> Value {
    endpoint.bodies_of(&id.to_string()).last().cloned().unwrap_or_default()
}

fn a_value_that_is_neither_yes_nor_no_withdraws_consent_of_a_lead_that_conversica_has(engine: Engine) {
    let endpoint = StandIn::accepting();
    let leads = SPELLINGS.len();
    let scene = scene(engine, &endpoint, leads + 1);
    scene.run(&["once"]).expect_code(0);
    for (id, spelling) in (1..).zip(SPELLINGS) {
        scene.crm(&format!("update leads set opt_out = '{spelling}', status = 'Changed' where id = {id}"));
    }
    scene.crm(&format!("update leads set stop = '2' where id = {}", leads + 1));
    add(&scene, 99, "X");
    scene.run(&["once", "--full"]);
    for (id, spelling) in (1..).zip(SPELLINGS) {
        let body = last(&endpoint, id);
        assert_eq!((&body["optOut"], &body["leadStatus"]), (&json!(true), &json!("New")), "{spelling}: {body}");
    }
    assert_eq!(last(&endpoint, leads + 1)["stopMessaging"], json!(true));
    assert!(endpoint.bodies_of("99").is_empty(), "Conversica does not have it");
    // Each opt-out is sent once, whatever else the row contains.
    scene.crm("update leads set status = 'Changed again'");
    scene.run(&["once", "--full"]).expect_code(3);
    assert!((1..=leads).all(|id| endpoint.bodies_of(&id.to_string()).len() == 2));
    let lead = scene.run(&["lead", "2"]).stdout;
    assert!(lead.contains("optOut: is neither yes nor no, so it counts as an opt-out (column \"opt_out\")"), "{lead}");
    let status = scene.run(&["status"]).expect_code(3);
    assert!(status.stdout.contains("the opt-out values of 9 leads are neither yes nor no"), "{status}");
    assert_eq!(scene.status()["opt_out_values"], json!({"counted": 9, "unclear": 0}));
}

fn a_value_that_says_nothing_is_held_until_an_operator_has_looked(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint, 4);
    scene.run(&["once"]).expect_code(0);
    for (id, value) in [(1, "N/A"), (2, "0000-00-00"), (3, "Not opted out"), (4, "0.00")] {
        scene.crm(&format!("update leads set opt_out = '{value}', status = 'Changed' where id = {id}"));
    }
    scene.run(&["once", "--full"]);
    assert!((1..=3).all(|id| endpoint.bodies_of(&id.to_string()).len() == 1), "nothing is sent");
    assert_eq!((&last(&endpoint, 4)["optOut"], &last(&endpoint, 4)["leadStatus"]), (&json!(false), &json!("Changed")));
    let status = scene.run(&["status"]).expect_code(4);
    assert!(status.stdout.contains("POSSIBLE OPT-OUTS in the rows of 3 leads"), "{status}");
    let lead = scene.run(&["lead", "1"]).stdout;
    assert!(lead.contains("is neither yes nor no, and may be an opt-out (column \"opt_out\")"), "{lead}");
    scene.crm("update leads set opt_out = 'no'");
    scene.run(&["once", "--full"]).expect_code(0);
    scene.run(&["status"]).expect_code(0);
    assert_eq!(last(&endpoint, 1)["leadStatus"], json!("Changed"));
}

fn a_value_without_an_entry_in_its_map_is_read_by_its_words(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint, 3);
    scene.set("lead", "optOut", "{ column = \"opt_out\", map = { \"0\" = \"false\", \"Gone\" = \"true\" } }");
    scene.run(&["once"]).expect_code(0);
    for (id, value) in [(1, "GONE"), (2, "Opted out"), (3, "Hot")] {
        scene.crm(&format!("update leads set opt_out = '{value}' where id = {id}"));
    }
    scene.run(&["once", "--full"]);
    let said: Vec<Value> = (1..=3).map(|id| last(&endpoint, id)["optOut"].clone()).collect();
    assert_eq!(said, [json!(true), json!(true), json!(false)]);
    scene.run(&["once", "--full"]);
    assert_eq!(scene.status()["opt_out_values"], json!({"counted": 2, "unclear": 1}));
}

/// Rejects leads with the status "Bad", and with `also` the ones that withdraw consent.
fn rejecting(also: &'static str) -> StandIn {
    StandIn::start(move |request| {
        let is_rejected = request.body.contains("\"Bad\"") || !also.is_empty() && request.body.contains(also);
        if is_rejected { Reaction::status(400).body("leadStatus is unknown") } else { Reaction::accept() }
    })
}

fn an_opt_out_beside_a_value_that_conversica_rejects_is_sent_apart_and_once(engine: Engine) {
    let endpoint = rejecting("");
    let scene = scene(engine, &endpoint, 2);
    scene.run(&["once"]).expect_code(0);
    // Lead 1 opts out in the same change; Conversica rejects the status of lead 2 before its opt-out.
    scene.crm("update leads set status = 'Bad', opt_out = case when id = 1 then '1' else '0' end");
    scene.run(&["once", "--full"]).expect_code(3);
    scene.crm("update leads set opt_out = '1'");
    scene.run(&["once", "--full"]);
    for id in 1..=2 {
        let body = last(&endpoint, id);
        assert_eq!((&body["optOut"], &body["leadStatus"]), (&json!(true), &json!("New")), "{id}: {body}");
        let statuses: Vec<Value> =
            endpoint.bodies_of(&id.to_string()).iter().map(|body| body["leadStatus"].clone()).collect();
        let bad = statuses.iter().filter(|status| **status == json!("Bad")).count();
        assert_eq!((bad, statuses.len()), (id, id + 2), "{statuses:?}");
        let lead = scene.run(&["lead", &id.to_string()]).stdout;
        assert!(lead.contains("the opt-out was sent apart, with the content that Conversica accepted last"), "{lead}");
        assert!(lead.contains("leadStatus is unknown") && lead.contains(": rejected"), "{lead}");
    }
    // Nothing more is sent until the row is right; then all of it is.
    let sent = endpoint.answered();
    scene.run(&["once", "--full"]);
    assert_eq!(endpoint.answered(), sent);
    scene.crm("update leads set status = 'Good'");
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!((&last(&endpoint, 1)["optOut"], &last(&endpoint, 1)["leadStatus"]), (&json!(true), &json!("Good")));
}

fn an_opt_out_that_is_rejected_twice_is_said_not_to_have_arrived(engine: Engine) {
    let endpoint = rejecting("\"optOut\":true");
    let scene = scene(engine, &endpoint, 1);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set status = 'Bad', opt_out = '1'");
    scene.run(&["once", "--full"]).expect_code(3);
    assert_eq!(endpoint.bodies_of("1").len(), 3, "with the row's content, and apart");
    let lead = scene.run(&["lead", "1"]).stdout;
    assert!(lead.contains("THE OPT-OUT HAS NOT ARRIVED"), "{lead}");
}
