//! Leads that a baseline takes as delivered were never sent: no view calls them delivered, and their first request counts
//! as a first contact.

use serde_json::{Value, json};

use crate::support::engine::{Engine, blocking_on_both_engines};
use crate::support::reaction::Reaction;
use crate::support::scene::Scene;
use crate::support::stand_in::StandIn;

blocking_on_both_engines!(
    what_a_baseline_settles_is_assumed_in_every_view_until_conversica_accepts_it,
    the_first_request_to_an_assumed_lead_is_counted_apart_and_by_the_caps,
    a_withdrawal_and_a_stop_are_sent_for_an_assumed_lead,
    a_baseline_of_a_known_person_is_neither_assumed_nor_called_accepted,
    an_assumed_lead_that_is_refused_or_not_answered_is_told_apart,
    a_hold_says_how_many_people_would_be_contacted_for_the_first_time,
    approve_and_baseline_say_what_they_have_done_by_people,
);

/// Leads that a first run took as a baseline.
fn baselined(engine: Engine, endpoint: &StandIn, leads: u32) -> Scene {
    let mut scene = Scene::on(engine, &endpoint.url(), leads);
    scene.set_text("safety", "first_run", "baseline");
    scene.run(&["once"]).expect_code(0);
    scene
}

#[track_caller]
fn lead(scene: &Scene, id: &str) -> Value {
    scene.run(&["lead", id, "--json"]).expect_code(0).json()
}

#[track_caller]
fn totals(scene: &Scene) -> Value {
    let document = scene.run(&["reconcile", "--format", "json"]).json();
    let found = document["totals"].as_object().expect("totals").iter().filter(|(_, leads)| **leads != json!(0));
    Value::Object(found.map(|(verdict, leads)| (verdict.clone(), leads.clone())).collect())
}

fn what_a_baseline_settles_is_assumed_in_every_view_until_conversica_accepts_it(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 2);
    scene.run(&["once"]).expect_code(0);
    scene.set("safety", "approve_above", "2");
    scene.add(3, 7);
    scene.run(&["once"]).expect_code(4);
    scene.run(&["baseline", "--yes"]).expect_code(0);

    let status = scene.status();
    assert_eq!((&status["leads"]["in_sync"], &status["leads"]["assumed"]), (&json!(2), &json!(5)), "{status:#}");
    let text = scene.run(&["status"]).expect_code(0).stdout;
    let line =
        |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default().to_owned();
    assert!(
        line("assumed").contains('5') && line("assumed").contains("assumed known to Conversica, never sent"),
        "{text}"
    );
    assert!(line("in_sync").contains('2'), "{text}");

    let listed = scene.run(&["leads", "--status", "assumed", "--json"]).expect_code(0).json();
    let ids: Vec<&str> =
        listed["leads"].as_array().expect("leads").iter().filter_map(|lead| lead["id"].as_str()).collect();
    assert_eq!((ids.as_slice(), &listed["total"]), (&["3", "4", "5", "6", "7"][..], &json!(5)));
    assert!(listed["leads"][0]["since"].is_string());
    let settled = scene.run(&["leads", "--status", "in_sync", "--json"]).expect_code(0).json();
    assert_eq!(settled["total"], 2, "{settled:#}");
    assert_eq!(scene.run(&["leads", "--json"]).expect_code(0).json()["total"], 0, "nothing waits for a person");

    let story = lead(&scene, "5");
    assert_eq!((&story["status"], &story["delivered"]), (&json!("assumed"), &Value::Null), "{story:#}");
    assert!(story["delivered_at"].is_null() && story["first_contact_at"].is_null(), "{story:#}");
    assert!(story["assumed_at"].is_string() && story["taken_as_delivered"].is_object(), "{story:#}");
    let text = scene.run(&["lead", "5"]).expect_code(0).stdout;
    assert!(text.contains("Lead 5: assumed\n  assumed known to Conversica, never sent"), "{text}");
    for lie in ["first took it", "accepted", "and holds", "holds what the CRM says"] {
        assert!(!text.contains(lie), "{lie}: {text}");
    }

    assert_eq!(totals(&scene), json!({"matched": 2, "assumed": 5}));
    let table = scene.run(&["reconcile"]).expect_code(0).stdout;
    assert!(table.contains("5  assumed      assumed known to Conversica, never sent"), "{table}");
    assert!(!table.contains("All 7 leads agree"), "{table}");
    let csv = scene.run(&["reconcile", "--format", "csv"]).expect_code(0).stdout;
    assert_eq!(
        csv.lines().filter(|line| line.contains(",assumed,") && line.contains("never sent")).count(),
        5,
        "{csv}"
    );
    let page = scene.run(&["reconcile", "--format", "html"]).expect_code(0).stdout;
    assert!(page.contains("<strong>assumed</strong>") && page.contains("5 of them are only assumed known"), "{page}");
    let check = scene.run(&["check"]).stdout;
    assert!(check.contains("7 lead(s), 5 of them assumed known to Conversica, never sent"), "{check}");

    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!((&plan["unchanged"], &plan["assumed_known"]), (&json!(7), &json!(0)), "{plan:#}");
    assert_eq!(endpoint.answered(), 2, "a baseline sends nothing");

    scene.crm("update leads set first_name = 'Zoe' where id = 5");
    scene.run(&["once"]).expect_code(0);
    let status = scene.status();
    assert_eq!((&status["leads"]["in_sync"], &status["leads"]["assumed"]), (&json!(3), &json!(4)), "{status:#}");
    let story = lead(&scene, "5");
    assert!(story["first_contact_at"] == story["delivered_at"] && story["assumed_at"].is_null(), "{story:#}");
    assert_eq!((&story["delivered"], &story["outcomes"][0]["class"]), (&story["desired"], &json!("accepted")));
    assert!(scene.run(&["lead", "5"]).stdout.contains("attempt 1 (first contact"), "{story:#}");
    assert_eq!(totals(&scene), json!({"matched": 3, "assumed": 4}));
    // The content returns to the assumed one: nothing to send, and still nothing delivered.
    scene.crm("update leads set first_name = 'Una' where id = 6");
    scene.set("safety", "approve_above", "0");
    scene.crm("update leads set first_name = 'Ann6' where id = 6");
    scene.run(&["once", "--full"]).expect_code(0);
    assert_eq!((endpoint.bodies_of("6").len(), &lead(&scene, "6")["status"]), (0, &json!("assumed")));
}

fn the_first_request_to_an_assumed_lead_is_counted_apart_and_by_the_caps(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = baselined(engine, &endpoint, 6);
    scene.add(7, 7);
    scene.run(&["once"]).expect_code(0);
    scene.crm("update leads set first_name = 'Zoe' where id in (1, 2, 3, 7)");
    scene.add(8, 8);
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    let numbers = ["create", "new_people", "update", "assumed_known", "stop"].map(|key| plan[key].as_u64());
    assert_eq!(numbers, [1, 1, 1, 3, 0].map(Some), "{plan:#}");
    let first = &plan["leads"][0];
    assert_eq!((&first["id"], &first["action"]), (&json!("1"), &json!("assumed_known")), "{first:#}");
    assert_eq!(first["reasons"], json!(["assumed known to Conversica, never sent"]));
    let text = scene.run(&["plan", "--only", "assumed_known"]).expect_code(0).stdout;
    assert!(
        text.contains("A pass would send 5 requests") && text.contains("3  assumed known to Conversica, never sent"),
        "{text}"
    );
    assert!(!text.contains("not known to Conversica"), "{text}");
    let is_of_1 = |line: &str| line.split_whitespace().take(2).eq(["assumed_known", "1"]);
    assert!(text.lines().any(is_of_1), "the action and the id are two words: {text}");

    // The seventh was introduced within this hour, and counts too.
    scene.set("safety", "new_leads_per_hour", "3");
    let forecast = scene.run(&["plan", "--json"]).json()["forecast"].clone();
    assert!(forecast["last_new_person_at"].is_string(), "{forecast:#}");
    scene.run(&["once", "--max-wait", "0s"]);
    let introduced = ["1", "2", "3", "8"].map(|id| endpoint.bodies_of(id).len()).iter().sum::<usize>();
    assert_eq!((introduced, endpoint.bodies_of("7").len()), (2, 2), "a known person does not wait for the cap");
    let status = scene.status();
    assert_eq!(status["leads"]["pending"], 2, "{status:#}");
    assert!(status["pacing"]["new_people_wait_until"].is_string(), "{status:#}");
}

fn a_withdrawal_and_a_stop_are_sent_for_an_assumed_lead(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = baselined(engine, &endpoint, 8);
    scene.set_text("source", "on_delete", "stop_messaging").set("safety", "new_leads_per_hour", "1");
    scene.set("safety", "approve_above", "1");
    scene.crm("update leads set opt_out = 1 where id in (1, 2, 3); delete from leads where id = 8");
    let plan = scene.run(&["plan", "--json"]).json();
    assert_eq!(
        (&plan["stop"], &plan["assumed_known"], &plan["hold"]),
        (&json!(4), &json!(0), &Value::Null),
        "{plan:#}"
    );
    scene.run(&["once"]).expect_code(0);
    for id in ["1", "2", "3"] {
        assert_eq!(endpoint.bodies_of(id)[0]["optOut"], true, "{id}");
    }
    assert_eq!(endpoint.bodies_of("8")[0]["stopMessaging"], true);
    let status = scene.status();
    let leads = ["in_sync", "assumed", "gone"].map(|name| status["leads"][name].as_u64());
    assert_eq!(leads, [3, 4, 1].map(Some), "{status:#}");
    let text = scene.run(&["lead", "4"]).expect_code(0).stdout;
    assert!(text.contains("never sent"), "{text}");
}

fn a_baseline_of_a_known_person_is_neither_assumed_nor_called_accepted(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = Scene::on(engine, &endpoint.url(), 3);
    scene.run(&["once"]).expect_code(0);
    scene.set("safety", "approve_above", "2");
    scene.crm("update leads set first_name = 'Zoe'");
    scene.run(&["once"]).expect_code(4);
    let hold = scene.status()["hold"].clone();
    assert_eq!((&hold["leads"], &hold["new_people"]), (&json!(3), &json!(0)), "{hold:#}");
    let done = scene.run(&["baseline", "--yes"]).expect_code(0).stdout;
    assert!(done.contains("3 leads that Conversica had before count as up to date"), "{done}");
    assert!(!done.contains("assumed"), "{done}");
    let status = scene.status();
    assert_eq!((&status["leads"]["in_sync"], &status["leads"]["assumed"]), (&json!(3), &json!(0)), "{status:#}");
    let story = lead(&scene, "2");
    assert!(story["first_contact_at"].is_string() && story["delivered_at"].is_null(), "{story:#}");
    assert_eq!((&story["delivered"], &story["taken_as_delivered"]), (&Value::Null, &story["desired"]));
    let text = scene.run(&["lead", "2"]).expect_code(0).stdout;
    assert!(text.contains("taken as delivered by a baseline") && text.contains("first took it"), "{text}");
    assert!(text.contains("the operator took this content as delivered") && !text.contains("an earlier one"), "{text}");
    assert!(!text.contains("accepted last") && !text.contains("and holds\n"), "{text}");
    let sent = endpoint.answered();
    scene.crm("update leads set first_name = 'Una' where id = 2");
    let plan = scene.run(&["plan", "--json"]).expect_code(0).json();
    assert_eq!((&plan["update"], &plan["assumed_known"]), (&json!(1), &json!(0)), "{plan:#}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), lead(&scene, "2")["delivered_at"].is_string()), (sent + 1, true));
}

fn an_assumed_lead_that_is_refused_or_not_answered_is_told_apart(engine: Engine) {
    let endpoint = StandIn::start(|request| match request.id.as_deref() {
        Some("1") => Reaction::status(422).body("no"),
        Some("2") => Reaction::AcceptThenCut,
        _ => Reaction::accept(),
    });
    let mut scene = baselined(engine, &endpoint, 3);
    scene.set_text("delivery", "on_ambiguous", "hold");
    scene.crm("update leads set first_name = 'Zoe' where id in (1, 2)");
    scene.run(&["once"]).expect_code(4);
    let (refused, unknown) = (lead(&scene, "1"), lead(&scene, "2"));
    assert_eq!((&refused["status"], refused["assumed_at"].is_string()), (&json!("rejected"), true), "{refused:#}");
    assert!(refused["first_contact_at"].is_null(), "refused is not contacted: {refused:#}");
    assert_eq!((&unknown["status"], &unknown["assumed_at"]), (&json!("held"), &Value::Null), "{unknown:#}");
    assert!(unknown["first_contact_at"].is_string(), "it may have been sent: {unknown:#}");
    assert_eq!(scene.status()["hold"]["new_people"], 0, "Conversica may have it");
    scene.run(&["baseline", "--yes"]).expect_code(0);
    assert_eq!(lead(&scene, "2")["status"], "in_sync", "what may have been sent is not assumed");
    scene.crm("update leads set first_name = 'Ann1' where id = 1");
    scene.run(&["once"]).expect_code(0);
    assert_eq!(lead(&scene, "1")["status"], "assumed", "its content is the assumed one again");
}

fn a_hold_says_how_many_people_would_be_contacted_for_the_first_time(engine: Engine) {
    let endpoint = StandIn::accepting();
    let mut scene = baselined(engine, &endpoint, 12);
    scene.add(13, 14);
    scene.run(&["once"]).expect_code(0);
    assert_eq!(endpoint.answered(), 2);
    scene.set("safety", "approve_above", "5").set("lead", "city", "{ value = \"Bonn\" }");
    scene.add(15, 15);
    scene.run(&["once"]).expect_code(4);
    let status = scene.status();
    let hold = &status["hold"];
    let numbers = ["leads", "new_people", "assumed_known"].map(|key| hold[key].as_u64());
    assert_eq!((&hold["reason"], numbers), (&json!("mapping_changed"), [15, 13, 12].map(Some)), "{hold:#}");
    let text = scene.run(&["status"]).expect_code(4).stdout;
    assert!(text.contains("15 leads waiting for approval. 13 people would be contacted for the first time"), "{text}");
    assert!(text.contains("12 of them are assumed known to Conversica, never sent"), "{text}");
    assert!(!text.contains("everybody again"), "{text}");
    let plan = scene.run(&["plan"]).expect_code(4).stdout;
    assert!(plan.contains("HELD for a person: 15 leads (mapping_changed 15). 13 people would be contacted"), "{plan}");
    let held = scene.run(&["plan", "--json"]).expect_code(4).json()["held"].clone();
    assert_eq!((&held["new_people"], &held["assumed_known"]), (&json!(13), &json!(12)), "{held:#}");
    let check = scene.run(&["check"]).stdout;
    assert!(check.contains("13 people would be contacted for the first time"), "{check}");
    let done = scene.run(&["approve", "--yes"]).expect_code(0).stdout;
    assert!(done.contains("13 people will be contacted for the first time, 2 updates."), "{done}");
    assert!(done.contains("Of these, 12 people: assumed known to Conversica"), "{done}");
    scene.run(&["once"]).expect_code(0);
    assert_eq!((endpoint.answered(), &scene.status()["leads"]["in_sync"]), (17, &json!(15)));
}

fn approve_and_baseline_say_what_they_have_done_by_people(engine: Engine) {
    let endpoint = StandIn::accepting();
    for (word, said) in [
        ("approve", "1,189 leads will be sent.\n1,170 people will be contacted for the first time, 19 updates."),
        (
            "baseline",
            "1,170 leads are now assumed known, never sent.\n19 leads that Conversica had before count as up to date",
        ),
    ] {
        let mut scene = Scene::on(engine, &endpoint.url(), 19);
        scene.run(&["once"]).expect_code(0);
        scene.crm("update leads set first_name = 'Zoe'");
        scene.add(20, 1189);
        scene.set("safety", "approve_above", "1000");
        scene.run(&["once"]).expect_code(4);
        let hold = scene.status()["hold"].clone();
        assert_eq!((&hold["leads"], &hold["new_people"]), (&json!(1189), &json!(1170)), "{hold:#}");
        let text = scene.run(&["status"]).expect_code(4).stdout;
        assert!(text.contains("1,170 people would be contacted for the first time"), "{text}");
        let asked = scene.run(&[word]).expect_code(2).stderr;
        assert!(asked.contains("1,170 people"), "{asked}");
        let done = scene.run(&[word, "--yes"]).expect_code(0).stdout;
        assert!(done.contains(said), "{done}");
    }
}
