//! The suppression list: people on it are not introduced, people whom Conversica knows are sent with the opt-out, and the state
//! holds nobody's address. Through the real program, on both engines.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    a_listed_person_is_not_introduced_and_every_view_says_why,
    a_known_person_is_sent_the_opt_out_and_taken_off_the_list_again,
    a_number_ends_text_messages_and_a_domain_ends_e_mails,
    an_import_names_bad_lines_by_their_number_and_keeps_no_entry_in_clear,
    the_answer_of_the_query_counts_and_an_empty_answer_lifts_nothing,
    who_is_taken_off_the_list_is_a_new_person_that_needs_approval,
    the_daemon_applies_a_change_of_the_list_while_it_runs,
    an_invalid_row_of_a_listed_person_is_withdrawn_all_the_same,
    a_held_lead_whose_person_is_listed_is_not_approved,
    a_lead_whose_row_is_gone_is_sent_the_opt_out,
    an_entry_for_the_address_that_conversica_still_has_concerns_the_lead,
);

const SOON: Duration = Duration::from_secs(30);

fn lead(scene: &Scene, id: &str) -> Value {
    scene.run(&["lead", id, "--json"]).json()
}

fn opt_outs(endpoint: &StandIn, id: &str, key: &str) -> Vec<Value> {
    endpoint.bodies_of(id).iter().map(|body| body[key].clone()).collect()
}

fn a_listed_person_is_not_introduced_and_every_view_says_why(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 3);
    let added = format!("{}", scene.run(&["suppress", "add", " ANN2@Example.COM"]).expect_code(0));
    assert!(added.contains("1 added"), "{added}");
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!(
        (&plan["create"], &plan["suppressed"], &plan["new_people"]),
        (&json!(2), &json!(1), &json!(2)),
        "{plan:#}"
    );
    let planned = plan["leads"].as_array().unwrap().iter().find(|lead| lead["id"] == "2").unwrap().clone();
    assert_eq!(planned["action"], "suppressed");
    assert!(planned["reasons"].to_string().contains("its e-mail address is on the suppression list"), "{planned:#}");
    let done = format!("{}", scene.run(&["once"]).expect_code(0));
    assert!(done.contains("1 suppressed"), "{done}");
    assert_eq!(
        (endpoint.bodies_of("1").len(), endpoint.bodies_of("2").len(), endpoint.bodies_of("3").len()),
        (1, 0, 1)
    );
    let status = scene.status();
    assert_eq!((&status["leads"]["suppressed"], &status["leads"]["in_sync"]), (&json!(1), &json!(2)), "{status:#}");
    let story = lead(&scene, "2");
    assert_eq!((&story["status"], &story["suppressed_by"][0]["source"]), (&json!("suppressed"), &json!("list")));
    let told = format!("{}", scene.run(&["lead", "2"]));
    assert!(told.contains("not introduced: its e-mail address is on the suppression list"), "{told}");
    let listed = scene.run(&["leads", "--status", "suppressed", "--json"]).expect_code(0).json();
    assert_eq!(listed["leads"][0]["id"], "2", "{listed:#}");
    let report = scene.run(&["reconcile", "--format", "json"]).expect_code(0).json();
    assert_eq!((&report["totals"]["suppressed"], &report["totals"]["matched"]), (&json!(1), &json!(2)), "{report:#}");
    // Nothing changes by itself, and a change of the row changes nothing.
    scene.crm("update leads set first_name = 'Bea' where id = 2");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.bodies_of("2").len(), lead(&scene, "2")["status"].clone()), (0, json!("suppressed")));
    scene.run(&["suppress", "remove", "ann2@example.com"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false)]);
    assert_eq!(endpoint.bodies_of("2")[0]["firstName"], "Bea");
    assert_eq!(scene.status()["leads"]["suppressed"], 0);
}

fn a_known_person_is_sent_the_opt_out_and_taken_off_the_list_again(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 3);
    scene.run(&["once"]).expect_code(0);
    scene.run(&["suppress", "add", "ann1@example.com"]).expect_code(0);
    let again = format!("{}", scene.run(&["suppress", "add", "ann1@example.com"]).expect_code(0));
    assert!(again.contains("0 added") && again.contains("1 on it before"), "{again}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "1", "optOut"), [json!(false), json!(true)]);
    assert_eq!((endpoint.bodies_of("2").len(), endpoint.bodies_of("3").len()), (1, 1), "the others are left alone");
    let told = format!("{}", scene.run(&["suppress", "list", "ann1@example.com", "ann2@example.com"]).expect_code(0));
    assert!(
        told.contains("on the suppression list since") && told.contains("ann2@example.com: not on the list"),
        "{told}"
    );
    scene.crm("update leads set first_name = 'Bea' where id = 1");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "1", "optOut").last(), Some(&json!(true)), "the row does not end it");
    let refused =
        format!("{}", scene.run(&["suppress", "remove", "ann1@example.com", "ann9@example.com"]).expect_code(2));
    assert!(refused.contains("ann9@example.com") && !refused.contains("\"ann1"), "{refused}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "1", "optOut").last(), Some(&json!(false)));
    assert_eq!(scene.state("select cast(count(*) as text) from suppression"), ["0"], "nothing is left of the entry");
}

fn a_number_ends_text_messages_and_a_domain_ends_e_mails(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 4);
    scene.set_text("lead", "cellPhone", "phone").set("lead", "smsOptIn", "{ value = \"true\" }");
    scene.crm("alter table leads add column phone text");
    scene.crm("update leads set phone = '(555) 867-530' || id");
    scene.crm("update leads set email = 'ann@mail.rival.example' where id = 2");
    scene.run(&["once"]).expect_code(0);
    scene.run(&["suppress", "add", "+15558675301", "rival.example", "+1 555 867 5305"]).expect_code(0);
    scene.add(5, 5);
    scene.crm("update leads set phone = '1-555-867-5305' where id = 5");
    scene.run(&["once"]).expect_code(0);
    let last = endpoint.bodies_of("1").pop().unwrap();
    assert_eq!((&last["smsOptOut"], &last["smsOptIn"], &last["optOut"]), (&json!(true), &json!(false), &json!(false)));
    let last = endpoint.bodies_of("2").pop().unwrap();
    assert_eq!((&last["optOut"], &last["smsOptIn"]), (&json!(true), &json!(true)));
    assert_eq!((endpoint.bodies_of("3").len(), endpoint.bodies_of("5").len()), (1, 0));
    assert_eq!(lead(&scene, "5")["status"], "suppressed");
    let counts = scene.run(&["suppress", "list", "--json"]).expect_code(0).json();
    assert_eq!(counts["sources"]["list"], json!({"addresses": 0, "numbers": 2, "domains": 1}));
}

fn an_import_names_bad_lines_by_their_number_and_keeps_no_entry_in_clear(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 2);
    let file = scene.directory().join("people.txt");
    let mut text = String::from("# never again\nann1@example.com\nnot-a-person\n\n+15558675309\n");
    for n in 0..5000 {
        text.push_str(&format!("someone{n}@elsewhere.example\n"));
    }
    text.push_str("12\n");
    std::fs::write(&file, text).unwrap();
    let imported = scene.run(&["suppress", "import", file.to_str().unwrap()]).expect_code(3);
    let said = format!("{imported}");
    assert!(said.contains("Line 3 is skipped") && said.contains("Line 5,006 is skipped"), "{said}");
    assert!(said.contains("5,002 entries read, 5,002 new") && said.contains("2 lines skipped"), "{said}");
    assert!(!said.contains("not-a-person") && !said.contains("someone"), "{said}");
    let again = format!("{}", scene.run(&["suppress", "import", file.to_str().unwrap()]));
    assert!(again.contains("0 new"), "{again}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.bodies_of("1").len(), endpoint.bodies_of("2").len()), (0, 1));
    for column in ["kind", "source", "id", "client_id"] {
        let found =
            scene.state(&format!("select cast(count(*) as text) from suppression where {column} like '%example%'"));
        assert_eq!(found, ["0"], "{column}");
    }
    if engine == Engine::Sqlite {
        let bytes = std::fs::read(scene.state_file()).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!holds(b"elsewhere.example") && !holds(b"8675309"), "the file holds an entry in clear");
    }
    let missing = scene.run(&["suppress", "import", "/nowhere/people.txt"]);
    missing.expect_code(2);
}

fn the_answer_of_the_query_counts_and_an_empty_answer_lifts_nothing(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.crm("create table blocked (who text)");
    scene.crm("insert into blocked (who) values ('Ann1@example.com'), (null), (''), ('nobody')");
    scene.set_text("consent", "suppression_query", "select who from blocked");
    let checked = format!("{}", scene.run(&["check"]));
    assert!(checked.contains("suppression_query returns usable values: 1, unusable: 1"), "{checked}");
    // Every poll of these passes is a full compare.
    scene.set_text("source", "full_compare_interval", "100ms");
    let done = scene.run(&["once"]);
    assert!(format!("{done}").contains("values that are no address, number or domain"), "{done}");
    assert_eq!((endpoint.bodies_of("1").len(), endpoint.bodies_of("2").len()), (0, 1));
    assert_eq!(lead(&scene, "1")["suppressed_by"][0]["source"], "query");
    scene.crm("insert into blocked (who) values ('ann2@example.com')");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false), json!(true)]);
    scene.crm("delete from blocked");
    let warned = scene.run(&["once"]);
    assert!(format!("{warned}").contains("returns less than half of the entries"), "{warned}");
    assert_eq!((endpoint.bodies_of("1").len(), lead(&scene, "1")["status"].clone()), (0, json!("suppressed")));
    scene.crm("insert into blocked (who) values ('ann2@example.com')");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("1").len(), 1, "only the first is lifted");
    scene.set_text("consent", "suppression_query", "select who from nowhere");
    let failed = scene.run(&["once"]);
    assert!(format!("{failed}").contains("suppression_query"), "{failed}");
    scene.set("consent", "suppression_query", "");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "2", "optOut").last(), Some(&json!(false)), "no query, no entries");
}

fn who_is_taken_off_the_list_is_a_new_person_that_needs_approval(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 5);
    scene.set("safety", "approve_above", "3");
    scene.run(&["suppress", "add", "example.com"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.requests().len(), &scene.status()["leads"]["suppressed"]), (0, &json!(5)));
    scene.run(&["suppress", "remove", "example.com"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    let status = scene.status();
    assert_eq!((endpoint.requests().len(), &status["leads"]["held"]), (0, &json!(5)), "{status:#}");
    // The list is asked again at the last moment.
    scene.run(&["suppress", "add", "ann3@example.com"]).expect_code(0);
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.requests().len(), endpoint.bodies_of("3").len()), (4, 0));
    assert_eq!(lead(&scene, "3")["status"], "suppressed");
}

fn the_daemon_applies_a_change_of_the_list_while_it_runs(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.crm("alter table leads add column updated_at text");
    scene.crm("update leads set updated_at = '2020-01-01T00:00:00Z'");
    scene.set_text("source", "changed_at", "updated_at");
    let daemon = scene.daemon();
    endpoint.wait_for_requests(2, SOON);
    scene.run(&["suppress", "add", "ann1@example.com"]).expect_code(0);
    endpoint.wait_for_requests(3, SOON);
    assert_eq!(opt_outs(&endpoint, "1", "optOut"), [json!(false), json!(true)]);
    scene.run(&["suppress", "remove", "ann1@example.com"]).expect_code(0);
    endpoint.wait_for_requests(4, SOON);
    assert_eq!(opt_outs(&endpoint, "1", "optOut").last(), Some(&json!(false)));
    drop(daemon);
}

fn an_invalid_row_of_a_listed_person_is_withdrawn_all_the_same(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 2);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = '' where id = 1");
    scene.run(&["once"]).expect_code(3);
    scene.run(&["suppress", "add", "ann1@example.com"]).expect_code(0);
    scene.run(&["once"]);
    assert_eq!(opt_outs(&endpoint, "1", "optOut"), [json!(false), json!(true)]);
}

fn a_held_lead_whose_person_is_listed_is_not_approved(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.set("safety", "first_run", "");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(scene.status()["leads"]["held"], 3);
    scene.run(&["suppress", "add", "ann2@example.com"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    let status = scene.status();
    assert_eq!((&status["leads"]["held"], &status["leads"]["suppressed"]), (&json!(2), &json!(1)), "{status:#}");
    scene.run(&["approve", "--yes"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.requests().len(), endpoint.bodies_of("2").len()), (2, 0));
}

fn a_lead_whose_row_is_gone_is_sent_the_opt_out(engine: Engine) {
    let endpoint = StandIn::accepting();
    let scene = Scene::on(engine, &endpoint.url(), 3);
    scene.run(&["once"]).expect_code(0);
    scene.crm("delete from leads where id = 1");
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!(lead(&scene, "1")["status"], "gone");
    scene.run(&["suppress", "add", "ann1@example.com"]).expect_code(0);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(opt_outs(&endpoint, "1", "optOut"), [json!(false), json!(true)]);
    assert_eq!(lead(&scene, "1")["status"], "gone");
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!(endpoint.bodies_of("1").len(), 2, "it is told once");
    assert_eq!(endpoint.requests().len(), 4, "the others are left alone");
}

fn an_entry_for_the_address_that_conversica_still_has_concerns_the_lead(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.run(&["once"]).expect_code(0);
    scene.set("safety", "approve_above", "1");
    scene.crm("update leads set email = 'new' || id || '@example.com'");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(scene.status()["leads"]["held"], 3);
    scene.run(&["suppress", "add", "ann1@example.com"]).expect_code(0);
    scene.run(&["once"]).expect_code(4);
    let bodies = endpoint.bodies_of("1");
    assert_eq!(
        (bodies.len(), &bodies[1]["email"], &bodies[1]["optOut"]),
        (2, &json!("new1@example.com"), &json!(true))
    );
    assert_eq!(endpoint.requests().len(), 4, "the others wait for approval");
    // The row is read again before Conversica has the new address of lead 2.
    scene.run(&["pause"]).expect_code(0);
    scene.run(&["suppress", "add", "ann2@example.com"]).expect_code(0);
    scene.crm("update leads set first_name = 'Bea' where id = 2");
    scene.run(&["once"]).expect_code(4);
    assert_eq!(opt_outs(&endpoint, "2", "optOut"), [json!(false), json!(true)]);
}
