//! The consent of the person: an opt-out under one id holds for every lead of the same address or number. Through the real program,
//! on both engines.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::hearing::apply_all;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    a_new_id_of_a_person_who_opted_out_is_not_introduced,
    a_known_id_of_the_same_person_is_sent_the_opt_out,
    an_opt_out_of_a_row_holds_for_the_other_rows_of_its_poll_and_ends_with_it,
    a_row_ends_no_e_mail_opt_out_that_conversica_reported_but_one_from_text_messages,
    an_opt_out_survives_the_erasure_of_its_lead,
    an_opt_out_survives_a_backup_and_its_restore,
    with_scope_id_an_opt_out_holds_for_its_own_lead,
    a_state_of_an_earlier_version_gets_its_ledger_of_people,
    an_opt_out_heard_before_its_lead_is_read_holds_for_the_person,
    a_damaged_post_that_is_dismissed_holds_for_nobody,
    a_damaged_post_about_a_lead_that_is_gone_holds_for_the_other_leads_once_confirmed,
    an_invalid_row_of_a_person_who_opted_out_is_withdrawn_at_the_next_poll,
);

fn lead(scene: &Scene, id: &str) -> Value {
    scene.run(&["lead", id, "--json"]).json()
}

fn opt_outs(endpoint: &StandIn, id: &str, key: &str) -> Vec<Value> {
    endpoint.bodies_of(id).iter().map(|body| body[key].clone()).collect()
}

/// A row of the same address as lead 1, in other letters.
fn add_twin(scene: &Scene, id: u32) {
    scene.add(id, id);
    scene.crm(&format!("update leads set email = 'ANN1@Example.com' where id = {id}"));
}

fn a_new_id_of_a_person_who_opted_out_is_not_introduced(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 2);
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[json!({"id": "1", "doNotEmail": true})]);
    add_twin(&scene, 3);
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!((&plan["suppressed"], &plan["new_people"]), (&json!(1), &json!(0)), "{plan:#}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.bodies_of("3").len(), &scene.status()["leads"]["suppressed"]), (0, &json!(1)));
    let story = lead(&scene, "3");
    let ground = &story["suppressed_by"][0];
    assert_eq!((&ground["source"], &ground["from"]["id"]), (&json!("conversica"), &json!("1")), "{story:#}");
    let told = format!("{}", scene.run(&["lead", "3"]));
    assert!(
        told.contains("opted out as lead 1, heard from Conversica on") && told.contains("no row of the CRM ends"),
        "{told}"
    );
    let report = scene.run(&["reconcile", "--format", "json"]).json();
    assert_eq!(report["totals"]["suppressed"], 1, "{report:#}");
    // Conversica says that the person wants e-mails again.
    scene.hear(&[json!({"id": "1", "doNotEmail": false})]);
    scene.run(&["once", "--full"]);
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "3", "optOut"), [json!(false)]);
}

fn a_known_id_of_the_same_person_is_sent_the_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set_text("lead", "cellPhone", "phone").set("lead", "smsOptIn", "{ value = \"true\" }");
    scene.crm("alter table leads add column phone text");
    scene.crm("update leads set phone = '+1 555 867 5301'");
    scene.crm("update leads set phone = '+1 555 867 5309' where id = 3");
    add_twin(&scene, 4);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.requests().len(), 4);
    scene.hear(&[json!({"id": "1", "doNotEmail": true}), json!({"id": "2", "smsOptOut": true})]);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "4", "optOut"), [json!(false), json!(true)], "the same address as lead 1");
    assert_eq!(opt_outs(&endpoint, "1", "smsOptOut").last(), Some(&json!(true)), "the same number as lead 2");
    assert_eq!(opt_outs(&endpoint, "1", "smsOptIn").last(), Some(&json!(false)));
    assert_eq!(opt_outs(&endpoint, "3", "optOut"), [json!(false)], "another person");
    scene.crm("update leads set first_name = 'Bea' where id = 4");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "4", "optOut").last(), Some(&json!(true)));
}

fn an_opt_out_of_a_row_holds_for_the_other_rows_of_its_poll_and_ends_with_it(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    add_twin(&scene, 2);
    add_twin(&scene, 3);
    scene.crm("update leads set opt_out = 1 where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.bodies_of("1").len(), endpoint.bodies_of("3").len()), (0, 0));
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(true)], "the row itself is sent as it is");
    let ground = lead(&scene, "1")["suppressed_by"][0].clone();
    assert_eq!((&ground["source"], &ground["from"]["id"]), (&json!("crm"), &json!("2")));
    scene.crm("update leads set opt_out = 0 where id = 2");
    scene.run(&["once", "--full"]);
    scene.run(&["once", "--full"]).expect_code(0);
    for id in ["1", "2", "3"] {
        assert_eq!(opt_outs(&endpoint, id, "optOut").last(), Some(&json!(false)), "lead {id}");
    }
}

fn a_row_ends_no_e_mail_opt_out_that_conversica_reported_but_one_from_text_messages(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.set_text("lead", "cellPhone", "phone").set("lead", "smsOptOut", "{ value = \"false\" }");
    scene.set_text("consent", "given_at", "consent_at");
    scene.crm("alter table leads add column phone text");
    let time = engine.pick("text", "timestamptz");
    scene.crm(&format!("alter table leads add column consent_at {time}"));
    scene.crm("update leads set phone = '+1 555 867 5301'");
    scene.run(&["once"]).expect_code(0);
    let date = "2026-02-01T00:00:00Z";
    scene.hear(&[json!({"id": "1", "doNotEmail": true, "smsOptOut": true, "lastResponseDate": date})]);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set consent_at = '2026-03-01T00:00:00Z'");
    scene.run(&["once"]).expect_code(0);
    let last = endpoint.bodies_of("1").pop().unwrap();
    assert_eq!((&last["optOut"], &last["smsOptOut"]), (&json!(true), &json!(false)));
}

fn an_opt_out_survives_the_erasure_of_its_lead(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[json!({"id": "1", "doNotEmail": true})]);
    scene.run(&["once"]).expect_code(0);
    scene.run(&["lead", "1", "--erase", "--yes"]).expect_code(0);
    assert_eq!(scene.state("select cast(count(*) as text) from suppression where id <> ''"), ["0"]);
    add_twin(&scene, 2);
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("2").len(), 0);
    let told = format!("{}", scene.run(&["lead", "2"]));
    assert!(told.contains("under another id, which was erased"), "{told}");
}

fn an_opt_out_survives_a_backup_and_its_restore(engine: Engine) {
    if engine == Engine::Postgres {
        return;
    }
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[json!({"id": "1", "doNotEmail": true})]);
    scene.run(&["once"]).expect_code(0);
    let copy = scene.directory().join("copy.db");
    scene.run(&["backup", copy.to_str().unwrap()]).expect_code(0);
    for name in scene.files().iter().filter(|name| name.starts_with("state.db")) {
        std::fs::remove_file(scene.directory().join(name)).unwrap();
    }
    std::fs::rename(&copy, scene.state_file()).unwrap();
    add_twin(&scene, 2);
    scene.run(&["once", "--full"]);
    scene.run(&["approve", "--yes"]);
    scene.run(&["once", "--full"]);
    assert_eq!((endpoint.bodies_of("2").len(), lead(&scene, "2")["status"].clone()), (0, json!("suppressed")));
}

fn with_scope_id_an_opt_out_holds_for_its_own_lead(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 1);
    scene.set_text("consent", "scope", "id");
    add_twin(&scene, 2);
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[json!({"id": "1", "doNotEmail": true})]);
    add_twin(&scene, 3);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false)]);
    assert_eq!(opt_outs(&endpoint, "3", "optOut"), [json!(false)]);
    assert_eq!(opt_outs(&endpoint, "1", "optOut"), [json!(false), json!(true)]);
    // From the next pass on it holds for the person.
    scene.set_text("consent", "scope", "person");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false), json!(true)]);
    assert_eq!(opt_outs(&endpoint, "3", "optOut"), [json!(false), json!(true)]);
}

fn a_state_of_an_earlier_version_gets_its_ledger_of_people(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 2);
    scene.crm("update leads set opt_out = 1 where id = 2");
    scene.run(&["once"]).expect_code(0);
    scene.hear(&[json!({"id": "1", "doNotEmail": true})]);
    scene.run(&["once"]).expect_code(0);
    // As an earlier version has left it.
    scene.state("delete from suppression");
    scene.state("delete from control where name in ('people_ledger', 'people_changed', 'suppression_applied', 'suppression_key')");
    add_twin(&scene, 3);
    scene.add(4, 4);
    scene.crm("update leads set email = 'ann2@example.com' where id = 4");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.bodies_of("3").len(), endpoint.bodies_of("4").len()), (0, 0));
    let source = |id: &str| lead(&scene, id)["suppressed_by"][0]["source"].clone();
    assert_eq!((source("3"), source("4")), (json!("conversica"), json!("crm")));
}

fn an_opt_out_heard_before_its_lead_is_read_holds_for_the_person(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    scene.hear(&[json!({"id": "2", "doNotEmail": true})]);
    scene.add(2, 2);
    scene.crm("update leads set email = 'ann1@example.com' where id = 2");
    // A post about an unknown lead waits for the operator too.
    scene.run(&["once"]).expect_code(4);
    assert_eq!(endpoint.bodies_of("1").len(), 0, "lead 2 has the same address");
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(true)]);
}

/// A Lead Update, byte by byte.
fn hear_raw(scene: &Scene, body: &str) {
    scene.with_state(async |db| {
        let now = chrono::Utc::now();
        let arrival = conversica_sync::store::event::PostArrival::of(
            conversica_sync::conversica::post::PostKind::LeadUpdate,
            body.as_bytes().to_vec(),
            false,
        );
        conversica_sync::store::event::store(db, &[arrival], now).await.unwrap();
        apply_all(db, now).await;
    });
}

fn a_damaged_post_that_is_dismissed_holds_for_nobody(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    add_twin(&scene, 2);
    scene.run(&["once"]).expect_code(0);
    hear_raw(&scene, "{\"id\":\"1\",\"doNotEmail\":tru");
    scene.run(&["once"]);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false), json!(true)], "until an operator has looked");
    scene.run(&["received", "dismiss", "1"]).expect_code(0);
    scene.run(&["once", "--full"]);
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "2", "optOut").last(), Some(&json!(false)));
}

fn a_damaged_post_about_a_lead_that_is_gone_holds_for_the_other_leads_once_confirmed(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    add_twin(&scene, 2);
    scene.run(&["once"]).expect_code(0);
    scene.crm("delete from leads where id = 1");
    scene.run(&["once", "--full"]).expect_code(0);
    hear_raw(&scene, r#"{"id":"1","lastMessage":"Stop"}"#);
    assert!(scene.state("select settled_by from possible_opt_out where id = '1'").iter().all(|by| by == "hold"));
    scene.run(&["once", "--full"]);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false)], "nobody has decided");
    scene.run(&["received", "confirm", "1"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "2", "optOut").last(), Some(&json!(true)));
}

fn an_invalid_row_of_a_person_who_opted_out_is_withdrawn_at_the_next_poll(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 1);
    add_twin(&scene, 2);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = '' where id = 2");
    scene.run(&["once"]).expect_code(3);
    scene.hear(&[json!({"id": "1", "doNotEmail": true})]);
    scene.run(&["once"]);
    scene.run(&["once"]).expect_code(3);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false), json!(true)]);
}
