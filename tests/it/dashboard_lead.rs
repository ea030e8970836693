//! The dashboard's page of one lead beyond its fields, and its tasks for the operator: notes on a row, and damaged posts
//! that may be opt-outs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::browsing::Browsing;
use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::{Receiver, with_receiver};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;
use crate::support::wait::wait_until;
use crate::support::watched::Watched;

const SOON: Duration = Duration::from_secs(30);

blocking_on_both_engines!(
    a_value_that_was_cleaned_or_left_out_is_noted_on_the_page_of_its_lead,
    a_damaged_post_that_may_be_an_opt_out_is_shown_with_what_to_do_until_an_operator_has_looked,
    rows_without_a_key_are_shown_with_what_to_do,
);

fn a_value_that_was_cleaned_or_left_out_is_noted_on_the_page_of_its_lead(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.crm("alter table leads add street text");
    scene.crm("alter table leads add created text");
    scene.set_text("lead", "address", "street").set_text("lead", "date", "created");
    let broken = engine.pick("'1 Main St' || char(10) || 'Apt 4'", "E'1 Main St\\nApt 4'");
    scene.crm(&format!("update leads set street = {broken}, created = '0000-00-00' where id = 1"));
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    let notes = [
        "address: line breaks became commas (column \"street\")",
        "date: left out, because it is not a date and time that can be read (column \"created\")",
    ];
    let page = browsing.wait_for("/leads/1", "Notes on its row in the CRM");
    page.is_strict();
    for note in notes {
        assert!(page.text().contains(note), "{note}: {}", page.text());
    }
    let document: Value = browsing.get("/api/lead/1").json();
    assert_eq!(document["notes"].as_array().map(Vec::len), Some(2), "{document:#}");
    assert_eq!(document, scene.run(&["lead", "1", "--json"]).json(), "the page says what the command says");
    let other = browsing.get("/leads/2");
    assert!(!other.text().contains("Notes on its row"), "{}", other.text());
    assert_eq!(browsing.get("/api/lead/2").json()["notes"], Value::Null);
    // The page leaves no file of an SQLite source open.
    if engine == Engine::Sqlite {
        assert_eq!(scene.files().iter().filter(|file| file.starts_with("crm.db")).count(), 1, "{:?}", scene.files());
    }
    watched.end();
}

fn a_damaged_post_that_may_be_an_opt_out_is_shown_with_what_to_do_until_an_operator_has_looked(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    with_receiver(&mut scene);
    let mut receiver = Receiver::start(&scene);
    let line = receiver.daemon.wait_for_line("\"message\":\"admin listening\"", SOON);
    let line: Value = serde_json::from_str(&line).expect("a line of the log");
    let browsing = Browsing::signed_in(&scene, line["address"].as_str().expect("an address"));
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 3);
    assert_eq!(receiver.post("/conversica/lead", r#"{"id":"2","doNotEmail":true,"leadStatus":"cut"#).status, 400);
    assert_eq!(receiver.post("/conversica/lead", r#"{"id":"3","doNotEmail":true}"#).status, 200);
    let overview = browsing.wait_for("/", "Working, and 1 damaged post that may be an opt-out waits for your decision");
    for said in ["Possible opt-outs: 1 damaged post", "conversica-sync received --possible-opt-outs"] {
        assert!(overview.text().contains(said), "{said}: {}", overview.text());
    }
    for lie in ["All is well", "No lead is stuck"] {
        assert!(!overview.text().contains(lie), "{lie}: {}", overview.text());
    }
    assert!(overview.body.contains("<a href=\"/leads/2\">2</a>"), "{}", overview.body);
    let lead = browsing.wait_for("/leads/2", "may be an opt-out of e-mails, and counts as one until you have looked");
    for said in [
        "received show 1",
        "received confirm 1",
        "received dismiss 1",
        "a damaged post of",
        "To do: look at the damaged posts",
    ] {
        assert!(lead.text().contains(said), "{said}: {}", lead.text());
    }
    assert!(!lead.text().contains("holds what the CRM says"), "the CRM says otherwise: {}", lead.text());
    assert!(!lead.text().contains("Opted out of e-mails"), "that is not certain: {}", lead.text());
    let certain = browsing.wait_for("/leads/3", "Opted out of e-mails on");
    assert!(!certain.text().contains("damaged post"), "{}", certain.text());
    wait_until("both are told to Conversica", SOON, || {
        ["2", "3"].into_iter().all(|id| endpoint.bodies_of(id).last().is_some_and(|body| body["optOut"] == true))
    });
    scene.run(&["received", "confirm", "1"]).expect_code(0);
    let lead = browsing.wait_for("/leads/2", "Opted out of e-mails on");
    assert!(!lead.text().contains("until you have looked"), "{}", lead.text());
    browsing.wait_for("/", "All is well");
    receiver.end();
}

fn rows_without_a_key_are_shown_with_what_to_do(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.crm("alter table leads add code text");
    scene.crm("update leads set code = 'L' || id");
    scene.crm("insert into leads (id, first_name, last_name, email, owner_name) values (3, 'Ann', 'Bell', 'a@b.example', 'Rae')");
    scene.set_text("source", "key", "code");
    let watched = Watched::start(&scene);
    let browsing = Browsing::signed_in(&scene, &watched.address);
    scene.wait_for_status("the first pass", SOON, |status| status["leads"]["in_sync"] == 2);
    let page = browsing.wait_for("/", "Working, and 1 row of the CRM has no usable key");
    for said in ["Rows without a usable key: 1", "conversica-sync check"] {
        assert!(page.text().contains(said), "{said}: {}", page.text());
    }
    assert!(!page.text().contains("No lead is stuck"), "{}", page.text());
    assert_eq!(browsing.get("/api/status").json()["last_poll"]["unnamed"], json!(1));
    watched.end();
}
