//! `safety.conversation_changes = "hold"`: a known person moves to another conversation only after approval.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::{Reaction, StandIn};

blocking_on_both_engines!(
    a_known_persons_changed_conversation_is_held_and_nothing_else_is,
    a_person_decides_about_a_changed_conversation,
    after_an_unknown_first_contact_only_another_conversation_is_held,
);

fn scene(engine: Engine, endpoint: &StandIn) -> Scene {
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 4);
    scene.set_text("safety", "conversation_changes", "hold").set_text("lead", "conversationId", "conversation");
    scene
}

fn a_known_persons_changed_conversation_is_held_and_nothing_else_is(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    scene.run(&["once"]).expect_code(0);
    scene.crm(
        "update leads set conversation = 'Winback' where id = 2; update leads set last_name = 'Bello' where id = 3",
    );
    scene.add(5, 5);
    let plan = scene.run(&["plan", "--json"]).expect_code(4).json();
    assert_eq!(
        (&plan["hold"], &plan["create"], &plan["update"]),
        (&json!("conversation_changed"), &json!(1), &json!(2))
    );
    let status = scene.run(&["once", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["leads"]["held"]), (&json!("conversation_changed"), &json!(1)));
    assert_eq!((endpoint.answered(), endpoint.bodies_of("2").len()), (6, 1), "the update and the new person went");
    scene.run(&["plan"]).expect_code(4);
    scene.crm("update leads set last_name = 'Bella' where id = 2");
    scene.run(&["once"]).expect_code(4);
    // The conversation returns, with a change to another value.
    scene.crm("update leads set conversation = 'Inbound Leads' where id = 2");
    let status = scene.run(&["once", "--json"]).expect_code(0).json();
    assert_eq!((&status["hold"], &endpoint.bodies_of("2")[1]["lastName"]), (&Value::Null, &json!("Bella")));
    scene.crm("update leads set conversation = 'Winback' where id = 2");
    scene.run(&["once"]).expect_code(4);
    scene.crm("update leads set conversation = 'Inbound Leads' where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("2").len(), 2, "nothing has changed");
    scene.crm("update leads set conversation = 'Winback' where id = 2");
    scene.run(&["once"]).expect_code(4);
    scene.crm("update leads set opt_out = 1 where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("2")[2]["optOut"], true);
}

fn a_person_decides_about_a_changed_conversation(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = scene(engine, &endpoint);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set conversation = 'Winback' where id <= 2");
    scene.run(&["once"]).expect_code(4);
    scene.run(&["approve", "1", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    assert_eq!((endpoint.answered(), &endpoint.bodies_of("1")[1]["conversationId"]), (5, &json!("Winback")));
    scene.run(&["baseline", "--reason", "conversation_changed", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set last_name = 'Bello' where id <= 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 7, "the conversation is what was decided");
}

fn after_an_unknown_first_contact_only_another_conversation_is_held(engine: Engine) {
    let endpoint = StandIn::start(|_| Reaction::AcceptThenCut);
    let mut scene = scene(engine, &endpoint);
    scene.crm("delete from leads where id > 2");
    scene.set_text("delivery", "on_ambiguous", "wait").set_text("delivery", "ambiguous_wait", "1h");
    scene.run(&["once", "--max-wait", "0s"]).expect_code(4);
    scene.crm(
        "update leads set last_name = 'Bello' where id = 1; update leads set conversation = 'Winback' where id = 2",
    );
    let status = scene.run(&["once", "--max-wait", "0s", "--json"]).expect_code(4).json();
    assert_eq!((&status["hold"]["reason"], &status["leads"]["held"]), (&json!("conversation_changed"), &json!(1)));
    assert_eq!(status["leads"]["retrying"], 1);
}
