//! Holds that follow from the content of a single lead: conversations and reps that no list has, and first contacts that come late.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    leads_of_unknown_names_wait_until_the_row_or_the_list_is_right,
    an_approved_name_is_asked_about_once_and_a_withdrawal_never,
    a_first_contact_that_comes_late_waits_and_an_update_does_not,
    a_baseline_decides_about_all_of_them,
    a_first_run_that_is_held_throughout_is_still_undecided,
);

/// Ids 1 to 4: the conversations A, A, B and a, the reps Rae, Jo, Rae and Rae.
fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 4);
    scene.crm(
        "update leads set conversation = 'A', owner_name = 'Rae'; update leads set conversation = 'B' where id = 3; \
         update leads set conversation = 'a' where id = 4; update leads set owner_name = 'Jo' where id = 2",
    );
    scene.set_text("lead", "conversationId", "conversation");
    scene.set("conversica", "conversations", r#"["A"]"#).set("conversica", "reps", r#"["Rae"]"#);
    scene
}

fn held(scene: &Scene) -> Value {
    let leads = scene.run(&["leads", "--status", "held", "--json"]).json();
    let leads = leads["leads"].as_array().expect("a list").iter();
    leads.map(|lead| json!([lead["id"], lead["hold_reason"]])).collect()
}

fn leads_of_unknown_names_wait_until_the_row_or_the_list_is_right(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!((&plan["hold"], &plan["create"]), (&json!("unknown_rep"), &json!(4)), "{plan:#}");
    let reasons = plan["leads"][2]["reasons"].to_string();
    assert!(reasons.contains("held as soon as a pass sees it: unknown_conversation"), "{reasons}");
    let shown = scene.run(&["plan"]).expect_code(4).stdout;
    let held_of_four = "3 leads would be HELD for a person (unknown_conversation 2, unknown_rep 1): ";
    assert!(shown.contains(held_of_four) && !shown.contains("It would be HELD"), "{shown}");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["leads"]["held"], endpoint.answered()), (&json!(3), 1), "{status:#}");
    let expected = json!([["2", "unknown_rep"], ["3", "unknown_conversation"], ["4", "unknown_conversation"]]);
    assert_eq!(held(&scene), expected);
    let said = scene.run(&["status"]).expect_code(4).stdout;
    assert!(said.contains("unknown_") && said.contains("does not list their"), "{said}");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.answered(), 1, "nothing has changed");
    // The row is fixed.
    scene.crm("update leads set conversation = 'A' where id = 4");
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.answered(), endpoint.bodies_of("4").len()), (2, 1));
    // The list is fixed.
    scene.set("conversica", "reps", r#"["Rae", "Jo"]"#);
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    let of_jo = &plan["leads"][0];
    assert!(of_jo["id"] == "2" && !of_jo["reasons"].to_string().contains("held"), "{of_jo}");
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of("2").len(), held(&scene)), (1, json!([["3", "unknown_conversation"]])));
    scene.set("conversica", "conversations", "[]");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), held(&scene)), (4, json!([])));
}

fn an_approved_name_is_asked_about_once_and_a_withdrawal_never(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "3", "--yes"]).expect_code(0);
    scene.run(&["approve", "--reason", "unknown_rep", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of("2").len(), endpoint.bodies_of("3").len()), (1, 1));
    scene.crm("update leads set last_name = 'Bello' where id in (2, 3)");
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of("2").len(), endpoint.bodies_of("3").len()), (2, 2), "the names are approved");
    scene.crm("update leads set owner_name = 'Kim' where id = 2; update leads set conversation = 'C' where id = 3");
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.bodies_of("2").len(), endpoint.bodies_of("3").len()), (2, 2), "these names are not");
    scene.crm("update leads set opt_out = 1 where id in (2, 3)");
    scene.run(&["once"]).expect_code(4);
    let last = |id| endpoint.bodies_of(id)[2]["optOut"].clone();
    assert_eq!((last("2"), last("3")), (json!(true), json!(true)));
    assert_eq!(held(&scene), json!([["4", "unknown_conversation"]]));
}

fn a_first_contact_that_comes_late_waits_and_an_update_does_not(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 3);
    scene.crm("alter table leads add column created text");
    scene.crm("update leads set created = '2999-01-01 00:00:00' where id = 1");
    scene.crm("update leads set created = '2001-01-01 00:00:00' where id = 2");
    scene.set_text("safety", "new_lead_older_than", "30d");
    let refused = scene.run(&["plan"]).expect_code(2);
    assert!(refused.stderr.contains("`lead.date` is not mapped"), "{refused}");
    scene.set_text("lead", "date", "created");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], held(&scene)), (&json!("stale_lead"), json!([["2", "stale_lead"]])));
    assert_eq!(endpoint.answered(), 2, "one is new, and one has no date");
    scene.crm("update leads set created = '2001-01-01 00:00:00' where id = 1");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.bodies_of("1").len(), 2, "an update");
    scene.set_text("safety", "new_lead_older_than", "36500d");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.bodies_of("2").len(), held(&scene)), (1, json!([])));
}

fn a_baseline_decides_about_all_of_them(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    scene.set_text("safety", "first_run", "baseline");
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!(plan["hold"], Value::Null, "{plan:#}");
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["leads"]["assumed"], endpoint.answered()), (&json!(4), 0), "{status:#}");
}

fn a_first_run_that_is_held_throughout_is_still_undecided(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = scene(engine, &endpoint);
    scene.set("safety", "first_run", "").set("conversica", "conversations", r#"["Spring"]"#);
    scene.run(&["once"]).expect_code(4);
    scene.set("conversica", "conversations", "[]").set("conversica", "reps", "[]");
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["hold"]["leads"]), (&json!("first_run"), &json!(4)), "{status:#}");
    assert_eq!(endpoint.answered(), 0);
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 4);
}
