//! `plan --compare`: whose content changes because of the configuration alone.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    it_counts_the_keys_and_names_the_leads,
    a_filter_and_a_mistake_are_shown_with_what_they_do_to_people,
);

/// The present configuration as a file of its own, for a later comparison.
fn keep(scene: &Scene) -> String {
    let old = scene.directory().join("old.toml");
    std::fs::write(&old, scene.config_text()).expect("a file is written");
    old.to_str().expect("a plain path").to_owned()
}

fn it_counts_the_keys_and_names_the_leads(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 12);
    let old = keep(&scene);
    let same = scene.run(&["plan", "--compare", &old]).expect_code(0).stdout;
    assert!(same.contains("No lead differs because of the configuration; 12 are the same"), "{same}");
    scene.set("lead", "leadSource", r#"{ value = "Web" }"#).set_text("lead", "city", "conversation");
    scene.crm("update leads set conversation = case when id = 3 then 'Ulm' else '' end");
    let compared = scene.run(&["plan", "--compare", &old, "--json"]).expect_code(3).json();
    assert_eq!((&compared["changed"], &compared["changed_keys"]["city"]), (&json!(12), &json!(1)), "{compared:#}");
    assert_eq!((&compared["changed_keys"]["leadSource"], &compared["added"]), (&json!(12), &json!(0)));
    let third = &compared["leads"][2];
    assert_eq!((&third["id"], &third["changes"]["city"]), (&json!("3"), &json!([null, "Ulm"])));
    let text = scene.run(&["plan", "--compare", &old, "--limit", "2"]).expect_code(3).stdout;
    assert!(text.contains("12  would be sent with other content") && text.contains("and 10 more"), "{text}");
    assert_eq!(scene.status()["last_poll"], Value::Null, "nothing is stored");
    assert_eq!(endpoint.answered(), 0);
}

fn a_filter_and_a_mistake_are_shown_with_what_they_do_to_people(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::with_state_on(engine, &endpoint.url(), 6);
    scene.crm("update leads set owner_name = '' where id = 5");
    scene.set_text("source", "where", "id < 6");
    let old = keep(&scene);
    scene.set_text("source", "where", "id > 1").set("lead", "optOut", "{ value = \"true\" }");
    scene.set("lead", "repName", r#"{ column = "owner_name", default = "Sales" }"#);
    let compared = scene.run(&["plan", "--compare", &old, "--json"]).expect_code(3).json();
    let counts = ["added", "removed", "changed", "now_valid", "now_invalid"].map(|key| compared[key].clone());
    assert_eq!(counts, [json!(1), json!(1), json!(3), json!(1), json!(0)], "{compared:#}");
    assert_eq!((&compared["withdrawals"], &compared["lost_withdrawals"]), (&json!(5), &json!(0)));
    let text = scene.run(&["plan", "--compare", &old]).expect_code(3).stdout;
    assert!(text.contains("OPT-OUTS AND STOPS that only the new one says"), "{text}");
    let refused = scene.run(&["plan", "--compare", "nowhere.toml"]).expect_code(2);
    assert!(refused.stderr.contains("nowhere.toml, named by --compare, does not exist"), "{refused}");
}
