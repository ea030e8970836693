//! Names that Conversica matches to the letter: conversations and reps, in `check`, `plan` and the letter to the account manager.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::receiver::with_receiver;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    conversations_and_reps_are_counted_and_names_that_look_like_one_are_said,
    contact_details_that_are_probably_none_are_counted_and_sent,
    the_letter_has_what_to_ask_and_no_lead,
);

/// Ids 1 to 4 in conversation A, id 5 in a; reps Jon Smith, and once John  Smith.
fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 5);
    scene.crm("update leads set conversation = 'A', owner_name = 'Jon Smith'");
    scene.crm(
        "update leads set conversation = 'a' where id = 5; update leads set owner_name = 'John  Smith' where id = 2",
    );
    scene.set_text("lead", "conversationId", "conversation");
    scene
}

fn conversations_and_reps_are_counted_and_names_that_look_like_one_are_said(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!(plan["conversations"], json!([{"name": "A", "leads": 4}, {"name": "a", "leads": 1}]));
    assert_eq!(plan["reps"][0], json!({"name": "Jon Smith", "leads": 4}));
    assert_eq!(plan["names_that_look_alike"], json!([["A", "a"], ["John  Smith", "Jon Smith"]]));
    let said = scene.run(&["plan"]).expect_code(0).stdout;
    assert!(said.contains("\"A\" and \"a\"") && said.contains("\"John  Smith\" and \"Jon Smith\""), "{said}");
    let items = scene.run(&["check", "--json"]).json()["items"].clone();
    let of = |name: &str, state: &str| -> Value {
        let items = items.as_array().expect("a list").iter();
        items.filter(|item| item["name"] == name && item["state"] == state).map(|item| item["detail"].clone()).collect()
    };
    assert_eq!(of("conversations", "ok"), json!(["conversations in the sample: \"A\" (4), \"a\" (1)"]));
    assert_eq!(of("reps", "warn"), json!(["reps that look like one: \"John  Smith\" and \"Jon Smith\""]));
    // All rows are as they should be.
    scene.crm("update leads set conversation = 'A', owner_name = 'Jon Smith'");
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!(plan["names_that_look_alike"], json!([]));
    scene.run(&["once"]).expect_code(0);
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!(plan["conversations"], json!([{"name": "A", "leads": 5}]), "leads in sync count too");
}

fn contact_details_that_are_probably_none_are_counted_and_sent(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::with_state_on(engine, &endpoint.url(), 6);
    scene.crm("update leads set email = 'a' || id || '@gmial.com' where id in (2, 3); update leads set first_name = 'NULL' where id = 3");
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    let doubt = &plan["doubts"][0];
    assert_eq!((&doubt["leads"], &doubt["first"][1]["id"], &plan["create"]), (&json!(2), &json!("3"), &json!(6)));
    let said = scene.run(&["plan"]).expect_code(0).stdout;
    assert!(said.contains("probably a slip for gmail.com: 2, 3"), "{said}");
    let said = scene.run(&["check"]).expect_code(0).stdout;
    assert!(said.contains("1 row(s): firstName: is what is written where there is no name; id: 3"), "{said}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 6);
}

fn the_letter_has_what_to_ask_and_no_lead(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    let letter = scene.run(&["check", "--for-conversica"]).expect_code(0).stdout;
    for part in
        ["At present 5 leads can be sent", "4  Jon Smith", "which is right?", "no [receive] is set", "Test Lead Token"]
    {
        assert!(letter.contains(part), "{part}: {letter}");
    }
    scene.set_text("conversica", "test_lead_token", "ACME-TEST-TOKEN").set("safety", "new_leads_per_month", "2000");
    with_receiver(&mut scene);
    let letter = scene.run(&["check", "--for-conversica"]).expect_code(0).stdout;
    for part in
        ["allows 2,000 new leads a month", "Lead Updates  https://<our server>:", "/conversica/lead", "smsOptOut"]
    {
        assert!(letter.contains(part), "{part}: {letter}");
    }
    assert!(!letter.contains("ACME-TEST-TOKEN") && !letter.contains('@') || letter.contains("apisupport@"), "{letter}");
    assert!(!letter.contains("example.com"), "no address of a lead: {letter}");
    assert_eq!(endpoint.answered(), 0);
}
